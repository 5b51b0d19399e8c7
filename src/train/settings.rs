//! What determines the result of a run.

use serde_json::json;

use super::TrainConfig;
use super::material::Material;
use crate::base::files;
use crate::sae::SaeConfig;

/// Everything that determines the result of a run, and its checksum, which is the key of the run's
/// folder.
pub(super) struct Settings {
    pub key: String,
    pub settings: serde_json::Value,
}

impl Settings {
    /// `held_out` is the fingerprint of the text on which the run is measured.
    pub(super) fn new(
        material: &Material,
        config: &TrainConfig,
        held_out: Option<&str>,
        name: &str,
        sae: &SaeConfig,
    ) -> Settings {
        // What decides only when files are written does not belong here.
        let mut train = json!(config);
        if let Some(map) = train.as_object_mut() {
            map.remove("checkpoint_seconds");
            // By default it follows from the model's family, which the store tells.
            let multiple = material.max_norm_multiple(config);
            if multiple.is_finite() {
                map.insert("max_norm_multiple".to_owned(), json!(multiple));
            }
        }
        let mut settings = json!({
            "name": name,
            "train": train,
            "sae": sae,
            "lookup": sae.lookup.as_ref().map(|lookup| lookup.fingerprint()),
            "held_out": held_out,
        });
        if let Some(settings) = settings.as_object_mut() {
            material.settings(settings);
        }
        Settings { key: files::sha256(settings.to_string().as_bytes()), settings }
    }
}
