//! Latents to look at: one in a cell, or all of them in a file.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::directions::Scorer;
use super::{Directions, Effect, Feature, Features, FeaturesConfig, Intervention, page};
use crate::base::error::{Error, Result};
use crate::latents::ActivationSource;
use crate::model::{HookPoint, Model};
use crate::sae::Sae;

/// Tokens in each list of a view.
const LISTED: usize = 10;

/// All latents of an SAE, ready to be looked at.
///
/// ```no_run
/// # use tokenized_sae::prelude::*;
/// # let model = Model::load("tiny-gpt2")?;
/// # let hook = HookPoint::resid_pre(2);
/// # let acts = ActivationStore::open("cache/tiny-gpt2")?;
/// # let sae = Sae::load("runs/quickstart/TSAE")?;
/// let dashboard = FeatureDashboard::new(&model, hook, &sae, &acts)?; // or &runs["TSAE"]
/// dashboard.latent(123)?.evcxr_display(); // in a notebook a cell that ends in `dashboard.latent(123)?` does this
/// dashboard.steer(123, 8.0, "Once upon a time")?.evcxr_display();
/// dashboard.save("features.html")?; // all latents, to search and sort in a browser
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct FeatureDashboard {
    /// Where each latent fires.
    pub features: Arc<Features>,
    name: String,
    pub(super) model: Model,
    pub(super) sae: Arc<Sae>,
    pub(super) scorer: Arc<Scorer>,
}

/// One latent, as a page that a cell shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureView {
    /// Where it fires.
    pub feature: Feature,
    /// Which tokens it points at.
    pub directions: Directions,
    pub(super) title: String,
    pub(super) tokens: u64,
    pub(super) cofiring_tokens: u64,
    /// The texts of the tokens of each context, in the order of the contexts.
    pub(super) texts: Vec<Vec<String>>,
}

impl FeatureDashboard {
    /// Reads a million tokens of a store or a text, or all of it, and notes where the latents of `sae`
    /// (an [`Sae`], or a [`Run`](crate::train::Run)) fire.
    ///
    /// # Errors
    /// As [`Features::collect`].
    pub fn new(
        model: &Model,
        hook: HookPoint,
        sae: &impl AsRef<Sae>,
        source: impl Into<ActivationSource>,
    ) -> Result<FeatureDashboard> {
        FeatureDashboard::with(model, hook, sae, source, FeaturesConfig::default())
    }

    /// As [`new`](FeatureDashboard::new), with your own settings.
    ///
    /// # Errors
    /// As [`Features::collect`].
    pub fn with(
        model: &Model,
        hook: HookPoint,
        sae: &impl AsRef<Sae>,
        source: impl Into<ActivationSource>,
        config: FeaturesConfig,
    ) -> Result<FeatureDashboard> {
        FeatureDashboard::of(model, sae, Features::collect(model, hook, sae, source, config)?)
    }

    /// Of features that were collected before, from this model and SAE.
    ///
    /// # Errors
    /// [`Error::Shape`] if the SAE has another number of latents, or another width than the model.
    pub fn of(
        model: &Model,
        sae: &impl AsRef<Sae>,
        features: Features,
    ) -> Result<FeatureDashboard> {
        let sae = sae.as_ref();
        let (want, got) =
            (vec![features.d_sae(), model.config().d_model], vec![sae.d_sae(), sae.d_model()]);
        if want != got {
            return Err(Error::Shape { what: "the SAE (d_sae, d_model)".to_owned(), want, got });
        }
        // Where the table started is nothing to look at, and need not stay in memory.
        let mut sae = sae.clone();
        sae.config.lookup = None;
        let name = if sae.lookup.is_some() { "Tokenized SAE" } else { "SAE" };
        let scorer = Arc::new(Scorer::new(model, &sae)?);
        Ok(FeatureDashboard {
            features: features.into(),
            name: name.to_owned(),
            model: model.clone(),
            sae: sae.into(),
            scorer,
        })
    }

    /// The same under your own name, which appears in every title.
    pub fn named(self, name: &str) -> FeatureDashboard {
        FeatureDashboard { name: name.to_owned(), ..self }
    }

    /// What it is of: name, hook, model.
    pub(super) fn title(&self) -> String {
        format!("{} · {} · {}", self.name, self.features.hook, self.model.name())
    }

    /// One latent: contexts, histogram, what it points at, and which latents fire with it.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such latent.
    pub fn latent(&self, latent: usize) -> Result<FeatureView> {
        let feature = self.features.latent(latent)?;
        let contexts =
            feature.top.iter().chain(feature.bands.iter().flat_map(|band| &band.contexts));
        let texts = contexts
            .map(|context| context.ids.iter().map(|&id| self.model.token_str(id)).collect())
            .collect();
        Ok(FeatureView {
            directions: self.directions(latent)?,
            title: format!("Latent {latent} · {}", self.title()),
            tokens: self.features.tokens,
            cofiring_tokens: self.features.cofiring_tokens,
            texts,
            feature,
        })
    }

    /// The tokens that a latent's row of `W_dec` points at.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such latent.
    pub fn directions(&self, latent: usize) -> Result<Directions> {
        self.scorer.directions(&self.model, &self.sae, latent, LISTED)
    }

    /// What the model expects after a text without the latent: its code is set to 0 at every
    /// position but 0, and the SAE's error is kept.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such latent or nothing after BOS, or the scale is not
    /// finite; [`Error::NoTokenizer`] or [`Error::Tokenizer`] if the text cannot be read; what the
    /// model reports.
    pub fn ablate(&self, latent: usize, text: &str) -> Result<Effect> {
        self.effect(latent, Intervention::Ablate, text)
    }

    /// What the model expects after a text with `scale` times the latent's row of `W_dec` added at
    /// every position but 0. The scale is in the units of the latent's activations: its
    /// [greatest](Feature::max) is a strong push.
    ///
    /// # Errors
    /// As [`ablate`](FeatureDashboard::ablate).
    pub fn steer(&self, latent: usize, scale: f32, text: &str) -> Result<Effect> {
        self.effect(latent, Intervention::Steer { scale }, text)
    }

    /// As [`steer`](FeatureDashboard::steer), at the last position only.
    ///
    /// # Errors
    /// As [`ablate`](FeatureDashboard::ablate).
    pub fn steer_last(&self, latent: usize, scale: f32, text: &str) -> Result<Effect> {
        self.effect(latent, Intervention::SteerLast { scale }, text)
    }

    fn effect(&self, latent: usize, intervention: Intervention, text: &str) -> Result<Effect> {
        let (hook, ids) = (self.features.hook, self.ids(text)?);
        Effect::of(&self.model, hook, &self.sae, latent, intervention, &ids)
    }

    /// A text's tokens, BOS first.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<u32>> {
        Ok([vec![self.model.bos()], self.model.encode(text)?].concat())
    }

    /// Writes all latents into one HTML file that needs nothing else: to search by the text of
    /// contexts and by tokens, to sort, and to look at one by one. The file is replaced at once or
    /// not at all.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written, [`Error::Interrupted`] if it is stopped; then nothing
    /// is written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        page::save(self, path.as_ref())
    }
}
