//! A synthetic model on disk, as SAELens writes one: `synthetic_model_config.json`,
//! `synthetic_model.safetensors` and `hierarchy.json`.
//!
//! Its own settings stand in the tensors' file; those of SAELens say the same in its words, as far as
//! it has words for it: for features of tokens it has none, and there they never fire.

use std::path::Path;

use serde_json::{Value, json};

use super::config::SyntheticConfig;
use super::model::SyntheticModel;
use crate::base::error::Result;
use crate::base::files;
use crate::formats::arrays::{self, Arrays};

const TENSORS: &str = "synthetic_model.safetensors";

impl SyntheticModel {
    /// The model that `dir` holds, if it is of these settings; otherwise makes it, and writes it
    /// there as SAELens' `SyntheticModel.load_from_disk` reads it.
    ///
    /// # Errors
    /// As [`new`](SyntheticModel::new); [`Error::Io`](crate::Error::Io).
    pub fn new_in(config: SyntheticConfig, dir: impl AsRef<Path>) -> Result<SyntheticModel> {
        let dir = dir.as_ref();
        config.check()?;
        if let Some(directions) = directions(dir, &config)? {
            return Ok(SyntheticModel::with(config, directions));
        }
        let model = SyntheticModel::new(config)?;
        save(&model, dir)?;
        Ok(model)
    }
}

/// Writes the model into the folder `dir`.
fn save(model: &SyntheticModel, dir: &Path) -> Result<()> {
    let (inner, config) = (&*model.inner, model.config());
    files::create_folder(dir)?;
    let (n, n_context) = (model.n_features(), config.n_features);
    // What fires by token hangs together with nothing.
    let mut variances: Vec<f32> = inner.own.iter().map(|own| own * own).collect();
    variances.resize(n, 1.0);
    let mut factors = inner.factors.clone();
    factors.resize(n * inner.factors.len() / n_context, 0.0);
    let mut tensors = vec![
        ("bias", vec![config.d_model], &inner.bias[..]),
        ("feature_vectors", vec![n, config.d_model], &inner.directions[..]),
        ("firing_probabilities", vec![n], &inner.tries[..]),
        ("mean_firing_magnitudes", vec![n], &inner.mean_magnitudes[..]),
        ("std_firing_magnitudes", vec![n], &inner.std_magnitudes[..]),
    ];
    if let Some(correlation) = config.correlation {
        tensors.push(("correlation_diag", vec![n], &variances[..]));
        tensors.push(("correlation_factor", vec![n, correlation.rank], &factors[..]));
    }
    files::write_json(&dir.join("synthetic_model_config.json"), &of_saelens(config))?;
    if let Some(trees) = config.trees {
        let roots: Vec<Value> =
            (0..trees.roots.min(n_context)).map(|root| node(model, root)).collect();
        files::write_json(&dir.join("hierarchy.json"), &json!({ "roots": roots }))?;
    }
    arrays::save(&dir.join(TENSORS), &tensors, &json!(config).to_string())
}

/// The directions that `dir` holds, if they are of a model of these settings.
fn directions(dir: &Path, config: &SyntheticConfig) -> Result<Option<Vec<f32>>> {
    let path = dir.join(TENSORS);
    if !path.exists() {
        return Ok(None);
    }
    let mut file = Arrays::load(&path)?;
    let stored = file.about.as_deref().and_then(|text| serde_json::from_str(text).ok());
    match stored.as_ref() == Some(config) {
        true => file.take("feature_vectors", &[config.all_features(), config.d_model]).map(Some),
        false => Ok(None),
    }
}

/// The settings as SAELens' `SyntheticModelConfig` says them.
fn of_saelens(config: &SyntheticConfig) -> Value {
    let [start, end] = config.mean_magnitude;
    let [mean, std] = config.std_magnitude;
    json!({
        "num_features": config.all_features(),
        "hidden_dim": config.d_model,
        "firing_probability": {
            "exponent": config.firing.exponent, "max_prob": config.firing.max,
            "min_prob": config.firing.min, "generator_name": "zipfian",
        },
        "hierarchy": config.trees.map(|trees| json!({
            "total_root_nodes": trees.roots, "branching_factor": trees.branching,
            "max_depth": trees.depth, "mutually_exclusive_portion": 1.0,
            "mutually_exclusive_min_depth": 0, "mutually_exclusive_max_depth": null,
            "compensate_probabilities": true, "scale_children_by_parent": true,
        })),
        "orthogonalization": config.orthogonalize.map(|it| json!({
            "num_steps": it.steps, "lr": it.lr, "chunk_size": 1024,
        })),
        "correlation": config.correlation.map(|it| json!({
            "rank": it.rank, "correlation_scale": it.scale, "seed": null,
        })),
        "std_firing_magnitudes": {
            "mean": mean, "std": std, "min_value": null, "max_value": null,
            "generator_name": "folded_normal",
        },
        "mean_firing_magnitudes": { "start": start, "end": end, "generator_name": "linear" },
        "bias": config.bias,
        "dtype": "float32",
        "seed": config.seed,
    })
}

/// A feature with all below it.
fn node(model: &SyntheticModel, feature: usize) -> Value {
    let children = model.inner.forest.children(feature);
    let (is_parent, has_rivals) = (!children.is_empty(), children.len() > 1);
    json!({
        "feature_index": feature,
        "mutually_exclusive_children": has_rivals,
        "scale_children_by_parent": is_parent,
        "feature_id": null,
        "children": children.map(|child| node(model, child)).collect::<Vec<_>>(),
    })
}
