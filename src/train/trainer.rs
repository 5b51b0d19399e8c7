//! Several SAEs on one stream of batches.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::folder::Folder;
use super::job::Job;
use super::penalty::Penalty;
use super::runs::{Made, standing};
use super::watch::{Foreground, Watch};
use super::{Run, Runs, TrainConfig};
use crate::activations::{ActivationStore, Batch, Waiting};
use crate::backend::{self, Backend, PreparedBatch};
use crate::base::error::{Error, Result};
use crate::base::files::{self, FolderLock};
use crate::base::format;
use crate::display::interrupt;
use crate::eval::HeldOut;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};
use crate::sae::{Index, Lookup, ModelCard, Origin, Sae, SaeConfig};

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
    pub(super) acts: ActivationStore,
    pub(super) hook: HookPoint,
    pub(super) config: TrainConfig,
    pub(super) held_out: Option<Arc<HeldOut>>,
    pub(super) saes: Vec<(String, SaeConfig)>,
    pub(super) backend: Arc<dyn Backend>,
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
        Ok(Trainer {
            acts: acts.clone(),
            hook,
            config,
            held_out: None,
            saes: Vec::new(),
            backend: backend::fastest(),
        })
    }

    /// Computes with the backend of this name (see [`backend::by_name`]) instead of the fastest one.
    /// The result is the same.
    ///
    /// # Errors
    /// [`Error::Config`] if there is none of that name, or this processor cannot run it.
    pub fn backend(mut self, name: &str) -> Result<Trainer> {
        self.backend = backend::by_name(name)?;
        Ok(self)
    }

    /// Measures NMSE and CE added on this text while training: on its first
    /// [`held_out_tokens`](TrainConfig::held_out_tokens) tokens.
    ///
    /// # Errors
    /// [`Error::Changed`] if the store holds another model's activations, and what the model itself
    /// reports.
    pub fn held_out(mut self, model: &Model, tokens: &Tokens) -> Result<Trainer> {
        if model.fingerprint() != self.acts.model_fingerprint() {
            return Err(Error::Changed {
                path: self.acts.dir().to_owned(),
                what: "the model of the activations",
                stored: self.acts.model_fingerprint().to_owned(),
                now: format!("{} ({})", model.fingerprint(), model.name()),
                remedy: "measure with the model and processing that the activations came from"
                    .to_owned(),
            });
        }
        self.held_out =
            Some(Arc::new(HeldOut::new(model, self.hook, &self.config.measured(tokens))?));
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
        let (want, got) = ([self.acts.d_vocab(), self.acts.d_model()], [sae.d_vocab, sae.d_model]);
        if want != got {
            return Err(Error::Shape {
                what: format!("the SAE \"{name}\" (d_vocab, d_model)"),
                want: want.to_vec(),
                got: got.to_vec(),
            });
        }
        if let Some(Index::Latents(preceding)) = sae.lookup.as_ref().map(Lookup::index) {
            self.acts.check_hook(preceding.own_hook()?)?;
        }
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
        self.open(dir.as_ref())?.run(&mut Foreground::default())
    }

    /// What is trained on, and the settings that all SAEs share.
    pub(crate) fn settings(&self) -> (&ActivationStore, HookPoint, &TrainConfig) {
        (&self.acts, self.hook, &self.config)
    }

    /// The SAEs, by name.
    pub(crate) fn saes(&self) -> &[(String, SaeConfig)] {
        &self.saes
    }

    /// Locks `dir` and makes every run ready in it.
    pub(super) fn open(self, dir: &Path) -> Result<Session> {
        if self.saes.is_empty() {
            return Err(Error::config("add", "there is nothing to train: add an SAE first"));
        }
        files::create_folder(dir)?;
        let lock = FolderLock::acquire(dir)?;
        self.open_locked(dir, lock)
    }

    /// Makes every run ready in `dir`, which `lock` is for.
    pub(super) fn open_locked(self, dir: &Path, lock: FolderLock) -> Result<Session> {
        self.check_memory()?;
        let slots = self
            .saes
            .iter()
            .map(|(name, sae)| self.prepare(dir, name, sae))
            .collect::<Result<Vec<_>>>()?;
        Ok(Session { trainer: self, slots, _lock: lock })
    }

    fn prepare(&self, dir: &Path, name: &str, config: &SaeConfig) -> Result<Slot> {
        let held_out = self.held_out.as_ref().map(|text| text.fingerprint());
        let Settings { key, settings } =
            Settings::new(&self.acts, self.hook, &self.config, held_out, name, config);
        let folder = Folder::open(dir, name, &key, settings)?;
        let mut sae = Sae::new(config.clone())?;
        sae.origin = Origin {
            model: Some(self.acts.model_name().to_owned()),
            revision: self.acts.model_revision().map(str::to_owned),
            hook: Some(self.hook),
            processing: Some(self.acts.processing().to_string()),
            n_ctx: Some(self.acts.n_ctx()),
            place: None,
        };
        let penalty = Penalty::of(config, || self.acts.scale(self.hook))?;
        penalty.start(&mut sae);
        let mut job =
            Job::new(name.to_owned(), key, config.lr.unwrap_or(self.config.lr), sae, penalty);
        if folder.is_finished() {
            let (trained, history) = folder.load()?;
            job.sae = Sae { config: config.clone(), ..trained };
            job.history = history;
            job.state.steps = self.config.steps();
        } else {
            folder.resume(&mut job, self.config.steps())?;
        }
        folder.tidy()?;
        Ok(Slot { folder, job })
    }
}

impl Trainer {
    /// What the model card of a finished run says.
    /// One step of a run on the rows of a batch.
    pub(super) fn step(
        &self,
        job: &mut Job,
        batch: &PreparedBatch<'_>,
        waiting: Waiting<'_>,
        rows: &[u64],
    ) -> Result<()> {
        if job.sae.index.is_token() {
            return job.step(self.backend.as_ref(), batch, &self.config);
        }
        let keys = self.acts.keys_for(waiting, &job.sae, rows)?;
        job.step(self.backend.as_ref(), &batch.with_keys(&keys)?, &self.config)
    }

    fn about(&self, job: &Job) -> ModelCard {
        let fact = |name: &str, value: String| (name.to_owned(), value);
        let config = &self.config;
        let store = format!(
            "{} rows, sequences of {} tokens, stored as {}",
            format::count(self.acts.n_rows() as u64),
            self.acts.n_ctx(),
            self.acts.dtype()
        );
        let data = vec![
            fact(
                "training tokens",
                format!(
                    "{} in batches of {}",
                    format::count(config.tokens),
                    format::count(config.batch as u64)
                ),
            ),
            fact("activations", store),
            fact("SHA-256 of the tokens", self.acts.corpus_fingerprint().to_owned()),
            fact("learning rate at the start", format!("{:e}", job.lr)),
            fact("seed of the order", config.seed.to_string()),
        ];
        let metrics = vec![standing(
            "At the end of training",
            &job.name,
            job.lr,
            job.tokens(config),
            &job.history,
        )];
        ModelCard { data, metrics, ..ModelCard::default() }
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

/// Everything that determines the result of a run, and its checksum, which is the key of the run's
/// folder.
pub(super) struct Settings {
    pub key: String,
    pub settings: serde_json::Value,
}

impl Settings {
    /// `held_out` is the fingerprint of the text on which the run is measured.
    pub(super) fn new(
        acts: &ActivationStore,
        hook: HookPoint,
        config: &TrainConfig,
        held_out: Option<&str>,
        name: &str,
        sae: &SaeConfig,
    ) -> Settings {
        // What decides only when files are written does not belong here.
        let mut train = json!(config);
        if let Some(map) = train.as_object_mut() {
            map.remove("checkpoint_seconds");
        }
        let settings = json!({
            "name": name,
            "train": train,
            "sae": sae,
            "lookup": sae.lookup.as_ref().map(|lookup| lookup.fingerprint()),
            "activations": acts.fingerprint(),
            "hook": hook,
            "held_out": held_out,
        });
        Settings { key: files::sha256(settings.to_string().as_bytes()), settings }
    }
}

/// Runs that are ready to be trained, in a folder where nobody else trains them until this is
/// dropped.
pub(super) struct Session {
    trainer: Trainer,
    slots: Vec<Slot>,
    _lock: FolderLock,
}

impl Session {
    /// The runs as they stand.
    pub(super) fn jobs(&self) -> Vec<&Job> {
        jobs_of(&self.slots)
    }

    /// The settings that the runs share.
    pub(super) fn config(&self) -> &TrainConfig {
        &self.trainer.config
    }

    /// Trains every run to its end, or until `watch` stops it.
    pub(super) fn run(mut self, watch: &mut dyn Watch) -> Result<Runs> {
        self.train(watch)?;
        let Trainer { acts, hook, config: train, .. } = self.trainer;
        let made = Made { acts, hook, train };
        Ok(Runs { runs: self.slots.into_iter().map(|slot| slot.into_run(&made)).collect() })
    }

    fn train(&mut self, watch: &mut dyn Watch) -> Result<()> {
        let (trainer, slots) = (&self.trainer, &mut self.slots);
        let config = &trainer.config;
        let steps = config.steps();
        let total = slots.len() as u64 * config.tokens;
        let done = |slots: &[Slot]| {
            slots.iter().map(|slot| slot.job.tokens(config)).sum::<u64>().min(total)
        };
        if slots.iter().all(|slot| slot.folder.is_finished()) {
            return Ok(());
        }
        watch.begin(done(slots), total);
        let shuffle = trainer.acts.shuffle(config.seed);
        let mut batch = Batch::default();
        let mut checkpoints = Checkpoints::new(config.checkpoint_seconds);
        let mut stop = false;
        // Runs that are behind catch up first; from there on all read the same batch.
        let next = |slots: &[Slot]| {
            slots
                .iter()
                .filter(|slot| !slot.folder.is_finished())
                .map(|slot| slot.job.state.steps)
                .min()
        };
        while let Some(step) = next(slots).filter(|_| !stop) {
            let now = |slot: &&mut Slot| !slot.folder.is_finished() && slot.job.state.steps == step;
            if config.evaluates_at(step)
                && let Some(held_out) = &trainer.held_out
            {
                for slot in slots.iter_mut().filter(now) {
                    slot.job.measure(held_out, config)?;
                }
                watch.measured(&jobs_of(slots));
            }
            if step == steps {
                for slot in slots.iter_mut().filter(now) {
                    slot.job.settle();
                    slot.folder.finish(&slot.job, &trainer.about(&slot.job))?;
                }
                continue;
            }
            let first = step * config.batch as u64;
            let rows: Vec<u64> = (first..first + config.batch as u64)
                .map(|position| shuffle.row(position))
                .collect();
            match trainer.acts.gather_for(watch.waiting(), trainer.hook, &rows, &mut batch) {
                // Stopped while it checked the activations: there is no batch, and the rest is
                // written below.
                Err(Error::Interrupted { .. }) if watch.stops() => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    let prepared =
                        trainer.backend.prepare(&batch.x, &batch.tokens, trainer.acts.d_model())?;
                    for slot in slots.iter_mut().filter(now) {
                        if watch.stops() {
                            break;
                        }
                        match trainer.step(&mut slot.job, &prepared, watch.waiting(), &rows) {
                            Err(Error::Interrupted { .. }) if watch.stops() => break,
                            stepped => stepped?,
                        }
                    }
                    watch.stepped(&jobs_of(slots), done(slots));
                }
            }
            stop = watch.stops();
            if stop || checkpoints.due() {
                checkpoints.time(|| {
                    slots.iter_mut().filter(|slot| !slot.folder.is_finished()).try_for_each(
                        |slot| {
                            slot.job.settle();
                            slot.folder.checkpoint(&mut slot.job)
                        },
                    )
                })?;
            }
        }
        watch.end(&jobs_of(slots), stop);
        Ok(())
    }
}

/// A run and its folder.
struct Slot {
    folder: Folder,
    job: Job,
}

impl Slot {
    fn into_run(self, made: &Made) -> Run {
        let tokens = self.job.tokens(&made.train);
        Run {
            finished: self.folder.is_finished(),
            tokens,
            lr: self.job.lr,
            name: self.job.name,
            sae: self.job.sae,
            history: self.job.history,
            made: Some(made.clone()),
        }
    }
}

fn jobs_of(slots: &[Slot]) -> Vec<&Job> {
    slots.iter().map(|slot| &slot.job).collect()
}

/// The share of the time that writing checkpoints may take.
pub(super) const CHECKPOINTS: f64 = 0.05;

/// When to write checkpoints: no more often than asked, and never for more of the time than they
/// may take.
struct Checkpoints {
    every: f64,
    last: Instant,
    cost: f64,
}

impl Checkpoints {
    fn new(every: f64) -> Checkpoints {
        Checkpoints { every, last: Instant::now(), cost: 0.0 }
    }

    fn due(&self) -> bool {
        self.last.elapsed().as_secs_f64() >= self.every.max(self.cost / CHECKPOINTS)
    }

    fn time(&mut self, write: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        write()?;
        self.cost = start.elapsed().as_secs_f64();
        self.last = Instant::now();
        Ok(())
    }
}
