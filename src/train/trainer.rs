//! Several SAEs on one stream of batches.

use std::path::Path;
use std::sync::Arc;

use super::job::Job;
use super::material::Material;
use super::runs::standing;
use super::watch::{Foreground, Unseen};
use super::{Runs, TrainConfig};
use crate::activations::{ActivationStore, Batch, Waiting};
use crate::backend::{self, Backend, Chosen, Exchange, PreparedBatch, Ranks, cpu};
use crate::base::error::{Error, Result};
use crate::base::format;
use crate::display::interrupt;
use crate::eval::HeldOut;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};
use crate::sae::{Keys, ModelCard, Sae, SaeConfig};
use crate::synthetic::SyntheticModel;

/// Trains SAEs on the activations of one hook, all on the same batches in the same order.
///
/// ```no_run
/// # use tokenized_sae::prelude::*;
/// # let model = Model::load("tiny-gpt2")?;
/// # let hook = HookPoint::resid_pre(2);
/// # let corpus = Corpus::sampled(&model, 100_000, 0)?;
/// # let acts = ActivationStore::harvest(&model, &[hook], &corpus.train, "cache", HarvestConfig::default())?;
/// let sae = SaeConfig { k: 16, ..SaeConfig::for_model(&model) };
/// let runs = Trainer::new(&acts, hook, TrainConfig { tokens: 1_000_000, ..Default::default() })?
///     .held_out(&model, &corpus.valid)?
///     .add("SAE", sae.clone())?
///     .add("TSAE", sae.with_lookup(Lookup::unigram(&model, hook)?))?
///     .fit("runs/quickstart")?;
/// # Ok::<(), Error>(())
/// ```
pub struct Trainer {
    pub(super) material: Material,
    pub(super) config: TrainConfig,
    pub(super) held_out: Option<Arc<HeldOut>>,
    pub(super) saes: Vec<(String, SaeConfig)>,
    /// What was asked for by name, instead of what the device takes.
    pub(super) backend: Option<Arc<dyn Backend>>,
    /// Who trains together.
    pub(super) ranks: Ranks,
}

impl Trainer {
    /// Prepares training on a hook of a store.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting cannot be used, [`Error::UnknownHook`] if the store lacks the
    /// hook.
    pub fn new(acts: &ActivationStore, hook: HookPoint, config: TrainConfig) -> Result<Trainer> {
        config.check()?;
        acts.check_hook(hook)?;
        if acts.n_rows() == 0 {
            return Err(Error::EmptyCorpus {
                why: "the store holds no activations: harvest some first".to_owned(),
            });
        }
        let trainer = Trainer::of(Material::Stored(acts.clone(), hook), config);
        let (skipped, n_ctx) = (trainer.material.skipped(&trainer.config), acts.n_ctx());
        if skipped >= n_ctx {
            let why = format!(
                "the first {skipped} positions are left out, and sequences have {n_ctx}: leave fewer out"
            );
            return Err(Error::config("skip_first", why));
        }
        Ok(trainer)
    }

    /// Prepares training on synthetic rows, whose true features are known: on those of the stream of
    /// [`seed`](TrainConfig::seed), in order and each once, made as they are needed.
    ///
    /// ```no_run
    /// use tokenized_sae::prelude::*;
    /// use tokenized_sae::synthetic::{SyntheticConfig, SyntheticModel};
    /// let model = SyntheticModel::new(SyntheticConfig::small())?;
    /// let sae = SaeConfig { k: 10, ..SaeConfig::new(model.d_model(), model.d_vocab()).with_latents(256) };
    /// let train = TrainConfig { lr: 1e-3, batch: 1_024, ..Default::default() };
    /// let runs = Trainer::on_synthetic(&model, train)?.add("SAE", sae)?.fit("runs/synthetic")?;
    /// println!("F1 {:.3}", model.score(&runs["SAE"].sae, 100_000)?.f1);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if a setting cannot be used.
    pub fn on_synthetic(model: &SyntheticModel, config: TrainConfig) -> Result<Trainer> {
        config.check()?;
        if config.seed >= SyntheticModel::MEANS {
            let why = format!("seed = {}: those rows are for scores and means", config.seed);
            return Err(Error::config("seed", why));
        }
        if config.skip_first.is_some_and(|skipped| skipped > 0) {
            let why = "synthetic rows are no sequences, and have no first positions to leave out";
            return Err(Error::config("skip_first", why));
        }
        if config.max_norm_multiple.is_some_and(f64::is_finite) {
            let why = "no synthetic row is left out for its length: leave it unset";
            return Err(Error::config("max_norm_multiple", why));
        }
        Ok(Trainer::of(Material::Synthetic(model.clone()), config))
    }

    fn of(material: Material, config: TrainConfig) -> Trainer {
        Trainer {
            material,
            config,
            held_out: None,
            saes: Vec::new(),
            backend: None,
            ranks: Ranks::alone(),
        }
    }

    /// Computes with the backend of this name (see [`backend::by_name`]) instead of
    /// what the [device](TrainConfig::device) takes. The result is the same.
    ///
    /// # Errors
    /// [`Error::Config`] if there is none of that name, or this processor cannot run it.
    pub fn backend(mut self, name: &str) -> Result<Trainer> {
        self.backend = Some(backend::by_name(name)?);
        Ok(self)
    }

    /// Trains together with other ranks, each of which makes the same calls: they share
    /// every step, and the first writes the files and measures held-out text. The files are the same.
    #[doc(hidden)]
    pub fn over(mut self, ranks: &Ranks) -> Trainer {
        self.ranks = ranks.clone();
        self
    }

    /// Measures NMSE and CE added on this text while training: on its first
    /// [`held_out_tokens`](TrainConfig::held_out_tokens) tokens.
    ///
    /// # Errors
    /// [`Error::Changed`] if the store holds another model's activations, [`Error::Config`] of
    /// synthetic rows, which are no model's, and what the model itself reports.
    pub fn held_out(mut self, model: &Model, tokens: &Tokens) -> Result<Trainer> {
        let (acts, hook) = self.material.stored()?;
        acts.check_model(
            model,
            "measure with the model and processing that the activations came from",
        )?;
        self.held_out = Some(Arc::new(HeldOut::new(model, hook, &self.config.measured(tokens))?));
        Ok(self)
    }

    /// Adds an SAE under a name, which becomes its folder's.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that cannot be used, or a name that is taken or invalid;
    /// [`Error::Shape`] if it does not fit the store.
    pub fn add(mut self, name: &str, sae: SaeConfig) -> Result<Trainer> {
        sae.check()?;
        check_name(name)?;
        if self.saes.iter().any(|(taken, _)| taken == name) {
            return Err(Error::config(
                "name",
                format!("\"{name}\" is taken: every run needs a name of its own"),
            ));
        }
        let want = [self.material.d_vocab(), self.material.d_model()];
        let got = [sae.d_vocab, sae.d_model];
        if want != got {
            return Err(Error::Shape {
                what: format!("the SAE \"{name}\" (d_vocab, d_model)"),
                want: want.to_vec(),
                got: got.to_vec(),
            });
        }
        self.material.check_lookup(&sae)?;
        self.saes.push((name.to_owned(), sae));
        Ok(self)
    }

    /// Trains every SAE to its end, in `dir/NAME/`.
    ///
    /// Finished runs with the same settings are read, not trained again; one that was interrupted
    /// or killed resumes at its last checkpoint and ends with the same bytes. At an interrupt the
    /// runs are returned as they stand. To keep working meanwhile, use
    /// [`fit_in_background`](Trainer::fit_in_background).
    ///
    /// # Errors
    /// [`Error::Locked`] if another process trains in `dir`; [`Error::Memory`] if the SAEs do not
    /// fit; [`Error::NotFinite`] if a loss overflows; [`Error::Checksum`] if a finished run's files
    /// are damaged; [`Error::Io`].
    pub fn fit(self, dir: impl AsRef<Path>) -> Result<Runs> {
        interrupt::watch();
        interrupt::clear();
        let is_first = self.ranks.is_first();
        let session = self.open(dir.as_ref())?;
        if is_first { session.run(&mut Foreground::default()) } else { session.run(&mut Unseen) }
    }

    /// The store that is trained on, and the settings that all SAEs share.
    ///
    /// # Errors
    /// [`Error::Config`] of synthetic rows.
    pub(crate) fn settings(&self) -> Result<(&ActivationStore, HookPoint, &TrainConfig)> {
        self.material.stored().map(|(acts, hook)| (acts, hook, &self.config))
    }

    /// The SAEs, by name.
    pub(crate) fn saes(&self) -> &[(String, SaeConfig)] {
        &self.saes
    }

    /// What the model card of a finished run says.
    pub(super) fn about(&self, job: &Job) -> ModelCard {
        let fact = |name: &str, value: String| (name.to_owned(), value);
        let config = &self.config;
        let mut data = vec![fact(
            "training tokens",
            format!(
                "{} in batches of {}",
                format::count(config.tokens),
                format::count(config.batch as u64)
            ),
        )];
        data.extend(self.material.facts());
        data.extend([
            fact("learning rate at the start", format!("{:e}", job.lr)),
            fact("seed of the order", config.seed.to_string()),
        ]);
        let skipped = self.material.skipped(config);
        if skipped > 0 {
            data.push(fact("first positions left out of training", skipped.to_string()));
        }
        let multiple = self.material.max_norm_multiple(config);
        if multiple.is_finite() {
            data.push(fact(
                "left out of training",
                format!("activations over {multiple} medians long"),
            ));
        }
        let metrics = vec![standing(
            "At the end of training",
            &job.name,
            job.lr,
            job.tokens(config),
            &job.history,
        )];
        ModelCard { data, metrics, ..ModelCard::default() }
    }

    /// What rates of biases and of the table are multiplied by.
    pub(super) fn unit(&self) -> Result<f64> {
        if self.config.normalize { self.scale().map(f64::from) } else { Ok(1.0) }
    }

    /// The scale of the activations.
    pub(super) fn scale(&self) -> Result<f32> {
        self.material.scale(&self.config)
    }

    /// How long an activation may be that is trained on.
    pub(super) fn longest(&self) -> Result<f32> {
        self.material.longest(&self.config)
    }

    /// Reads the rows of a step, less those that are longer than `longest`.
    pub(super) fn gather(
        &self,
        waiting: Waiting<'_>,
        longest: f32,
        rows: &mut Vec<u64>,
        batch: &mut Batch,
    ) -> Result<()> {
        self.material.gather(&self.config, waiting, rows, batch)?;
        batch.retain_up_to(longest, rows);
        if batch.is_empty() {
            let why = format!(
                "every activation of a batch of {} is longer than {longest}, and so left out: take a larger batch, or max_norm_multiple = inf",
                self.config.batch
            );
            return Err(Error::config("batch", why));
        }
        Ok(())
    }

    /// The rows of a step, in the order that the seed decides.
    pub(super) fn rows(&self, step: u64) -> Vec<u64> {
        self.material.rows(&self.config, step)
    }

    /// Has what comes later read ahead.
    pub(super) fn read_ahead(&self, step: u64, first: bool) -> Result<()> {
        self.material.read_ahead(&self.config, step, first)
    }

    /// What computes the steps.
    pub(super) fn choose_backend(&self) -> Result<Chosen> {
        if self.ranks.size() > 1 {
            let backend = match &self.backend {
                Some(backend) => backend.over(&self.ranks),
                None => backend::processor(self.config.device)?.over(&self.ranks),
            };
            let why = || "this backend has no step that several ranks share: leave it out";
            let backend = backend.ok_or_else(|| Error::config("backend", why()))?;
            return Ok(Chosen { backend, card: 0, remark: self.shared_by_rows() });
        }
        if let Some(backend) = &self.backend {
            return Ok(Chosen { backend: backend.clone(), card: 0, remark: None });
        }
        let saes: Vec<&SaeConfig> = self.saes.iter().map(|(_, sae)| sae).collect();
        backend::choose(self.config.device, &saes, self.config.batch)
    }

    /// Which SAEs cannot be shared out by latents, if that was asked for.
    fn shared_by_rows(&self) -> Option<String> {
        if self.ranks.exchange() == Exchange::Rows {
            return None;
        }
        let lacks = |(name, sae): &(String, SaeConfig)| {
            Some(format!("\"{name}\" ({})", cpu::chain::lacks(sae)?))
        };
        let names: Vec<String> = self.saes.iter().filter_map(lacks).collect();
        (!names.is_empty()).then(|| format!("shared by rows, not by latents: {}", names.join(", ")))
    }

    /// The keys of a run's table on the rows of a batch, unless they are the tokens.
    pub(super) fn keys(
        &self,
        sae: &Sae,
        waiting: Waiting<'_>,
        rows: &[u64],
    ) -> Result<Option<Keys<'static>>> {
        match sae.index.is_token() {
            true => Ok(None),
            false => self.material.keys(&self.config, waiting, sae, rows).map(Some),
        }
    }

    /// One step of a run on a batch.
    pub(super) fn step(
        &self,
        backend: &dyn Backend,
        job: &mut Job,
        batch: &PreparedBatch<'_>,
        keys: Option<&Keys<'_>>,
    ) -> Result<()> {
        match keys {
            None => job.step(backend, batch, &self.config),
            Some(keys) => job.step(backend, &batch.with_keys(keys)?, &self.config),
        }
    }
}

/// Checks that `name` can be a run's, and hence a folder's.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_alphanumeric() || " _-+.,=".contains(c);
    if name.trim().is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
        return Err(Error::config(
            "name",
            format!("\"{name}\" cannot name a run: use letters, digits, space, and _ - + . , ="),
        ));
    }
    Ok(())
}
