//! The figures of an evaluation, each with its definition.

use serde::{Deserialize, Serialize};

use crate::base::error::by_name;
use crate::base::number;
use crate::model::HookPoint;

use super::BySequence;

/// One SAE on one text. CE is the mean next-token cross-entropy in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metrics {
    /// Mean over tokens of ‖x̂ − x‖² / (‖x‖² + 1e-4): the paper's NMSE, not centred.
    #[serde(with = "number")]
    pub nmse: f64,
    /// Fraction of variance unexplained: Σ‖x̂ − x‖² / Σ‖x − x̄‖², x̄ the mean over all tokens
    /// counted.
    #[serde(with = "number")]
    pub fvu: f64,
    /// 1 − FVU, which is what SAELens computes since 6.45.1.
    #[serde(with = "number")]
    pub explained_variance: f64,
    /// FVU with every coordinate scaled to variance 1: the mean over coordinates j of Σ(x̂ⱼ − xⱼ)² /
    /// Σ(xⱼ − x̄ⱼ)², of those that vary. In language models a few coordinates can hold most of the
    /// variance, and then FVU says how well these few are met. NaN in files from before it was
    /// measured.
    #[serde(with = "number", default = "unmeasured")]
    pub fvu_standardised: f64,
    /// Mean over tokens of the cosine of x and x̂.
    #[serde(with = "number")]
    pub cosine: f64,
    /// Mean number of codes per token that are not 0.
    #[serde(with = "number")]
    pub l0: f64,
    /// Share of latents that fire on none of the tokens counted.
    #[serde(with = "number")]
    pub dead: f64,
    /// CE of the model as it is.
    #[serde(with = "number")]
    pub ce_clean: f64,
    /// CE with the activation replaced by its reconstruction.
    #[serde(with = "number")]
    pub ce_patched: f64,
    /// CE with the activation replaced by 0.
    #[serde(with = "number")]
    pub ce_zero: f64,
    /// CE with the activation replaced by its mean over the text.
    #[serde(with = "number")]
    pub ce_mean: f64,
    /// (CE patched − CE clean) / (CE clean + 0.001): the paper's, relative.
    #[serde(with = "number")]
    pub ce_added: f64,
    /// CE patched − CE clean, in nats.
    #[serde(with = "number")]
    pub ce_added_nats: f64,
    /// 1 − (CE patched − CE clean) / (CE zero − CE clean).
    #[serde(with = "number")]
    pub loss_recovered: f64,
    /// Mean over positions of KL(clean ‖ patched), in nats.
    #[serde(with = "number")]
    pub kl: f64,
    /// Tokens whose reconstruction was counted.
    pub tokens: usize,
    /// Tokens beside the first of each sequence that were left out as outliers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub outliers: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// What stands for a figure that a file does not have.
fn unmeasured() -> f64 {
    f64::NAN
}

/// One SAE's metrics, without and with position 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The SAE's name.
    pub name: String,
    /// Position 0, and in the Llama family activations over ten medians long, keep the model's own
    /// activation and are not counted.
    pub without_bos: Metrics,
    /// Every position is reconstructed and counted, as in the paper.
    pub with_bos: Metrics,
    /// What each sequence adds to the figures without position 0; in no file but a sweep's.
    #[serde(skip)]
    pub by_sequence: BySequence,
}

/// The evaluations of several SAEs on the same text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluations {
    /// One for each SAE.
    pub rows: Vec<Evaluation>,
    /// The model's name.
    pub model: String,
    /// How its weights were processed.
    pub processing: String,
    /// The hook.
    pub hook: HookPoint,
    /// Held-out tokens, position 0 included.
    pub tokens: usize,
}

by_name!(Evaluations, rows: Evaluation, "SAE");

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::Metrics;
    use crate::eval::Measure;

    #[test]
    fn figures_that_are_not_finite_survive_json() {
        for word in ["NaN", "inf", "-inf"] {
            let name = |measure: Measure| json!(measure).as_str().unwrap().to_owned();
            let mut map: Map<String, Value> =
                Measure::ALL.map(|measure| (name(measure), json!(word))).into_iter().collect();
            map.insert("tokens".to_owned(), json!(1));
            let read: Metrics = serde_json::from_value(Value::Object(map.clone())).unwrap();
            assert!(Measure::ALL.iter().all(|&measure| !read.get(measure).is_finite()));
            assert_eq!(serde_json::to_value(read).unwrap(), Value::Object(map));
        }
    }
}
