//! A synthetic model: directions, and when and how strongly each is there.

use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::json;

use super::config::SyntheticConfig;
use super::directions;
use super::draws::{Draws, Key, Purpose};
use super::forest::{self, Forest};
use super::free::Free;
use super::normal::{Tail, upper_point};
use super::ties::{Kind, Ties};
use crate::base::error::Result;
use crate::base::files;
use crate::base::forecast;

/// The version of the laws by which rows are drawn: rows of another are others.
const LAWS: u32 = 1;

/// A model without a network: features with known directions that fire by known laws, so that one
/// can tell how much of it an SAE has found. Cheap to clone.
///
/// ```no_run
/// use tokenized_sae::prelude::*;
/// use tokenized_sae::synthetic::{SyntheticBatch, SyntheticConfig, SyntheticModel};
/// let model = SyntheticModel::new(SyntheticConfig::small())?;
/// let mut batch = SyntheticBatch::default();
/// model.fill(0, 0..1_024, &mut batch);
/// println!("{} features are active", batch.features.l0());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct SyntheticModel {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub config: SyntheticConfig,
    /// `[n, d]`
    pub directions: Vec<f32>,
    /// `[d]`
    pub bias: Vec<f32>,
    /// How often features try to fire, `[n]`; 0 of those that fire by token alone.
    pub tries: Vec<f32>,
    /// What a feature's normal number must exceed, `[n]`.
    pub thresholds: Vec<f32>,
    pub mean_magnitudes: Vec<f32>,
    pub std_magnitudes: Vec<f32>,
    /// How features' normal numbers hang together: `[n_context, rank]`,
    pub factors: Vec<f32>,
    /// and the size of what is a feature's own, `[n_context]`.
    pub own: Vec<f32>,
    pub forest: Forest,
    pub ties: Option<Ties>,
    pub tail: Tail,
    /// The features without a parent, and what they need to be drawn.
    pub free: Free,
}

impl SyntheticModel {
    /// Makes the model. Pushing the 16,384 directions of SynthSAEBench apart takes a minute or two:
    /// [`new_in`](SyntheticModel::new_in) does it once.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for settings that cannot be used,
    /// [`Error::Memory`](crate::Error::Memory), [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn new(config: SyntheticConfig) -> Result<SyntheticModel> {
        let directions = SyntheticModel::directions_of(&config)?;
        Ok(SyntheticModel::with(config, directions))
    }

    fn directions_of(config: &SyntheticConfig) -> Result<Vec<f32>> {
        config.check()?;
        let (n, d) = (config.all_features(), config.d_model);
        // Directions, and Adam's two moments of each.
        let needs = 3 * 4 * (n * d) as u64;
        forecast::check("a synthetic model", needs, |_| {
            "take fewer features or a smaller d_model".to_owned()
        })?;
        let mut directions =
            directions::random(n, d, &Key::new(Purpose::Directions, [config.seed, 0]));
        if let Some(how) = config.orthogonalize {
            directions::orthogonalize(&mut directions, d, how)?;
        }
        Ok(directions)
    }

    /// The model with these directions `[n, d]`, from settings that can be used.
    pub(super) fn with(config: SyntheticConfig, directions: Vec<f32>) -> SyntheticModel {
        let (n, n_context, d) = (config.all_features(), config.n_features, config.d_model);
        let draws = |purpose| Key::new(purpose, [config.seed, 0]).stream(0);
        let forest = Forest::new(config.trees, n_context);
        let mut tries = forest.tries(&forest::rates(config.firing, n_context));
        tries.resize(n, 0.0);
        let thresholds: Vec<f32> = tries.par_iter().map(|&p| upper_point(p) as f32).collect();
        let bias = bias(&mut draws(Purpose::Bias), d, config.bias);
        let [first, last] = config.mean_magnitude;
        let along = |i: usize| first + (last - first) * i as f64 / (n - 1).max(1) as f64;
        let [mean, std] = config.std_magnitude;
        let mut deviations = draws(Purpose::Deviations);
        let (factors, own) = factors(&mut draws(Purpose::Factors), &config);
        let ties = config.tokens.as_ref().map(|tokens| Ties::new(&config, tokens));
        let free = Free::new(&forest, &factors, &own, &thresholds[..n_context]);
        let inner = Inner {
            bias,
            tries: tries.iter().map(|&p| p as f32).collect(),
            thresholds,
            mean_magnitudes: (0..n).map(|i| along(i) as f32).collect(),
            std_magnitudes: (0..n)
                .map(|_| (mean + std * deviations.normal()).abs() as f32)
                .collect(),
            factors,
            own,
            forest,
            ties,
            tail: Tail::new(),
            free,
            directions,
            config,
        };
        SyntheticModel { inner: Arc::new(inner) }
    }

    /// Its settings.
    pub fn config(&self) -> &SyntheticConfig {
        &self.inner.config
    }

    /// The width of its activations.
    pub fn d_model(&self) -> usize {
        self.inner.config.d_model
    }

    /// How many tokens there are: 1 if rows have none.
    pub fn d_vocab(&self) -> usize {
        self.inner.config.d_vocab()
    }

    /// How many features it has.
    pub fn n_features(&self) -> usize {
        self.inner.mean_magnitudes.len()
    }

    /// The directions of its features, of length 1: `[n_features, d_model]`.
    pub fn directions(&self) -> &[f32] {
        &self.inner.directions
    }

    /// What is added to every row: `[d_model]`.
    pub fn bias(&self) -> &[f32] {
        &self.inner.bias
    }

    /// What makes a feature fire.
    ///
    /// # Panics
    /// If there is no such feature, as indexing a slice does.
    pub fn kind(&self, feature: usize) -> Kind {
        assert!(feature < self.n_features(), "feature {feature} of {}", self.n_features());
        self.inner.ties.as_ref().map_or(Kind::Context, |ties| ties.kind(feature))
    }

    /// The token that a feature fires on, if it is one of a token.
    pub fn token_of(&self, feature: usize) -> Option<u32> {
        self.inner.ties.as_ref()?.token_of(feature)
    }

    /// What tells its rows from those of any other: a checksum of its settings and laws.
    pub fn fingerprint(&self) -> String {
        files::sha256(json!({ "laws": LAWS, "config": self.config() }).to_string().as_bytes())
    }

    /// One line: `16,384 features in 768 dimensions, seed 42`.
    pub fn describe(&self) -> String {
        let config = self.config();
        let tokens = config.tokens.map_or(String::new(), |it| format!(", {} tokens", it.d_vocab));
        let (n, d) = (self.n_features(), self.d_model());
        format!("{n} features in {d} dimensions{tokens}, seed {}", config.seed)
    }
}

impl fmt::Debug for SyntheticModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SyntheticModel({})", self.describe())
    }
}

fn bias(draws: &mut Draws, d: usize, length: f64) -> Vec<f32> {
    let mut bias = draws.normals(d);
    directions::to_unit(&mut bias);
    bias.iter_mut().for_each(|x| *x *= length as f32);
    bias
}

/// The matrix of low rank by which the normal numbers of the context's features hang together, and
/// the size of what remains of each to make its variance 1: at least a hundredth of it.
fn factors(draws: &mut Draws, config: &SyntheticConfig) -> (Vec<f32>, Vec<f32>) {
    const LEAST_OWN: f32 = 0.01;
    let n = config.n_features;
    let Some(correlation) = config.correlation else { return (Vec::new(), vec![1.0; n]) };
    let rank = correlation.rank;
    let mut factors = draws.normals(n * rank);
    let own = factors.chunks_exact_mut(rank).map(|row| {
        row.iter_mut().for_each(|x| *x *= correlation.scale as f32);
        let square: f32 = row.iter().map(|x| x * x).sum();
        if 1.0 - square >= LEAST_OWN {
            return (1.0 - square).sqrt();
        }
        let shrink = ((1.0 - LEAST_OWN) / square).sqrt();
        row.iter_mut().for_each(|x| *x *= shrink);
        LEAST_OWN.sqrt()
    });
    let own = own.collect();
    (factors, own)
}
