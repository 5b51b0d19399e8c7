//! Several SAEs on one stream of batches.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::folder::Folder;
use super::job::Job;
use super::live::LiveCurves;
use super::{History, Run, Runs, TrainConfig};
use crate::activations::{ActivationStore, Batch};
use crate::display::{Progress, format, interrupt};
use crate::error::{Error, Result};
use crate::eval::HeldOut;
use crate::files::{self, FolderLock};
use crate::kernel::{self, Kernel};
use crate::model::{HookPoint, Model};
use crate::sae::{Origin, Sae, SaeConfig};
use crate::tokens::Tokens;

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
    acts: ActivationStore,
    hook: HookPoint,
    config: TrainConfig,
    held_out: Option<HeldOut>,
    saes: Vec<(String, SaeConfig)>,
    kernel: Arc<dyn Kernel>,
}

impl Trainer {
    /// Prepares training on a hook of a store.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting cannot be used, [`Error::UnknownHook`] if the store lacks the hook.
    pub fn new(acts: &ActivationStore, hook: HookPoint, config: TrainConfig) -> Result<Trainer> {
        config.check()?;
        acts.check_hook(hook)?;
        if acts.n_rows() == 0 {
            return Err(Error::EmptyCorpus { why: "the store holds no activations: harvest some first".to_owned() });
        }
        Ok(Trainer { acts: acts.clone(), hook, config, held_out: None, saes: Vec::new(), kernel: kernel::fastest() })
    }

    /// Computes with the kernel of this name (see [`kernel::by_name`]) instead of the fastest one. The result is the same.
    ///
    /// # Errors
    /// [`Error::Config`] if there is none of that name, or this processor cannot run it.
    pub fn kernel(mut self, name: &str) -> Result<Trainer> {
        self.kernel = kernel::by_name(name)?;
        Ok(self)
    }

    /// Measures NMSE and CE added on this text while training: on its first [`held_out_tokens`](TrainConfig::held_out_tokens) tokens.
    ///
    /// # Errors
    /// [`Error::Changed`] if the store holds another model's activations, and what the model itself reports.
    pub fn held_out(mut self, model: &Model, tokens: &Tokens) -> Result<Trainer> {
        if model.fingerprint() != self.acts.model_fingerprint() {
            return Err(Error::Changed {
                path: self.acts.dir().to_owned(),
                what: "the model of the activations",
                stored: self.acts.model_fingerprint().to_owned(),
                now: format!("{} ({})", model.fingerprint(), model.name()),
                remedy: "measure with the model and processing that the activations came from".to_owned(),
            });
        }
        let n_seq = self.config.held_out_tokens.div_ceil(tokens.n_ctx()).max(1);
        self.held_out = Some(HeldOut::new(model, self.hook, &tokens.rows(0, n_seq))?);
        Ok(self)
    }

    /// Adds an SAE under a name, which becomes its folder's.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that cannot be used or a name that is taken or no folder's; [`Error::Shape`] if it does not fit the store.
    pub fn add(mut self, name: &str, sae: SaeConfig) -> Result<Trainer> {
        sae.check()?;
        let allowed = |c: char| c.is_alphanumeric() || " _-+.,=".contains(c);
        if name.trim().is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
            return Err(Error::config("name", format!("\"{name}\" cannot name a run: use letters, digits, space, and _ - + . , =")));
        }
        if self.saes.iter().any(|(taken, _)| taken == name) {
            return Err(Error::config("name", format!("\"{name}\" is taken: every run needs a name of its own")));
        }
        let (want, got) = ([self.acts.d_vocab(), self.acts.d_model()], [sae.d_vocab, sae.d_model]);
        if want != got {
            return Err(Error::Shape { what: format!("the SAE \"{name}\" (d_vocab, d_model)"), want: want.to_vec(), got: got.to_vec() });
        }
        self.saes.push((name.to_owned(), sae));
        Ok(self)
    }

    /// Trains every SAE to its end, in `dir/NAME/`.
    ///
    /// Finished runs with the same settings are read, not trained again; one that was interrupted or killed goes on from its last
    /// checkpoint and ends with the same bytes. At an interrupt the runs are returned as they stand.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process trains in `dir`; [`Error::NotFinite`] if a loss overflows; [`Error::Checksum`] if a finished
    /// run's files are damaged; [`Error::Io`].
    pub fn fit(self, dir: impl AsRef<Path>) -> Result<Runs> {
        let dir = dir.as_ref();
        if self.saes.is_empty() {
            return Err(Error::config("add", "there is nothing to train: add an SAE first"));
        }
        interrupt::watch();
        files::create_folder(dir)?;
        let _lock = FolderLock::acquire(dir)?;
        let mut slots = self.saes.iter().map(|(name, sae)| self.prepare(dir, name, sae)).collect::<Result<Vec<_>>>()?;
        self.train(&mut slots)?;
        Ok(Runs { runs: slots.into_iter().map(|slot| slot.into_run(&self.config)).collect() })
    }

    /// Everything that determines the result of a run.
    fn settings(&self, name: &str, sae: &SaeConfig) -> serde_json::Value {
        // What decides only when files are written does not belong here.
        let mut train = json!(self.config);
        if let Some(map) = train.as_object_mut() {
            map.remove("checkpoint_seconds");
        }
        json!({
            "name": name,
            "train": train,
            "sae": sae,
            "lookup": sae.lookup.as_ref().map(|lookup| lookup.fingerprint()),
            "activations": self.acts.fingerprint(),
            "hook": self.hook,
            "held_out": self.held_out.as_ref().map(|text| text.fingerprint().to_owned()),
        })
    }

    fn prepare(&self, dir: &Path, name: &str, config: &SaeConfig) -> Result<Slot> {
        let settings = self.settings(name, config);
        let key = files::sha256(settings.to_string().as_bytes());
        let folder = Folder::open(dir, name, &key, settings)?;
        let mut sae = Sae::new(config.clone())?;
        sae.origin = Origin {
            model: Some(self.acts.model_name().to_owned()),
            hook: Some(self.hook),
            processing: Some(self.acts.processing().to_string()),
            n_ctx: Some(self.acts.n_ctx()),
        };
        let mut job = Job::new(name.to_owned(), key, config.lr.unwrap_or(self.config.lr), sae);
        if folder.is_finished() {
            let (trained, history) = folder.load()?;
            job.sae = Sae { config: config.clone(), ..trained };
            job.history = history;
            job.state.steps = self.config.steps();
        } else {
            folder.resume(&mut job)?;
        }
        folder.tidy()?;
        Ok(Slot { folder, job })
    }

    fn train(&self, slots: &mut [Slot]) -> Result<()> {
        let steps = self.config.steps();
        let total = slots.len() as u64 * self.config.tokens;
        let done = |slots: &[Slot]| slots.iter().map(|slot| slot.job.tokens(&self.config)).sum::<u64>().min(total);
        if slots.iter().all(|slot| slot.folder.is_finished()) {
            return Ok(());
        }
        let mut progress = Progress::new("train", total, "tokens").resumed_at(done(slots));
        let mut curves = LiveCurves::new();
        let shuffle = self.acts.shuffle(self.config.seed);
        let mut batch = Batch::default();
        let mut checkpoints = Checkpoints::new(self.config.checkpoint_seconds);
        // Runs that are behind catch up first; from there on all read the same batch.
        let next = |slots: &[Slot]| slots.iter().filter(|slot| !slot.folder.is_finished()).map(|slot| slot.job.state.steps).min();
        while let Some(step) = next(slots) {
            let now = |slot: &&mut Slot| !slot.folder.is_finished() && slot.job.state.steps == step;
            if self.config.evaluates_at(step)
                && let Some(held_out) = &self.held_out
            {
                for slot in slots.iter_mut().filter(now) {
                    slot.job.measure(held_out, &self.config)?;
                }
                progress.note(&notes(slots));
            }
            if step == steps {
                for slot in slots.iter_mut().filter(now) {
                    slot.job.settle();
                    slot.folder.finish(&slot.job)?;
                }
                continue;
            }
            let first = step * self.config.batch as u64;
            let rows: Vec<u64> = (first..first + self.config.batch as u64).map(|position| shuffle.row(position)).collect();
            self.acts.gather(self.hook, &rows, &mut batch)?;
            let prepared = self.kernel.prepare(&batch.x, &batch.tokens, self.acts.d_model())?;
            for slot in slots.iter_mut().filter(now) {
                if !interrupt::requested() {
                    slot.job.step(self.kernel.as_ref(), &prepared, &self.config)?;
                }
            }
            progress.set(done(slots));
            curves.grow(histories(slots));
            let stop = interrupt::requested();
            if stop || checkpoints.due() {
                checkpoints.time(|| {
                    slots.iter_mut().filter(|slot| !slot.folder.is_finished()).try_for_each(|slot| {
                        slot.job.settle();
                        slot.folder.checkpoint(&slot.job)
                    })
                })?;
            }
            if stop {
                interrupt::clear();
                progress.note("interrupted; the same call goes on from here");
                break;
            }
        }
        progress.finish();
        curves.finish(histories(slots));
        Ok(())
    }
}

/// A run and its folder.
struct Slot {
    folder: Folder,
    job: Job,
}

impl Slot {
    fn into_run(self, config: &TrainConfig) -> Run {
        let tokens = self.job.tokens(config);
        Run {
            finished: self.folder.is_finished(),
            tokens,
            lr: self.job.lr,
            name: self.job.name,
            sae: self.job.sae,
            history: self.job.history,
        }
    }
}

fn histories(slots: &[Slot]) -> impl Iterator<Item = (&str, &History)> {
    slots.iter().map(|slot| (slot.job.name.as_str(), &slot.job.history))
}

/// The latest held-out NMSE of every run, for the progress line.
fn notes(slots: &[Slot]) -> String {
    let last =
        |slot: &Slot| slot.job.history.held_out.last().map(|point| format!("{} {}", slot.job.name, format::significant(point.nmse, 3)));
    let all: Vec<String> = slots.iter().filter_map(last).collect();
    format!("NMSE {}", all.join(", "))
}

/// When to write checkpoints: no more often than asked, and never for more than a twentieth of the time.
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
        self.last.elapsed().as_secs_f64() >= self.every.max(20.0 * self.cost)
    }

    fn time(&mut self, write: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        write()?;
        self.cost = start.elapsed().as_secs_f64();
        self.last = Instant::now();
        Ok(())
    }
}
