//! Sweeps: a grid of runs over hooks, arms, sparsity, expansion, learning rates and seeds, each run
//! a folder, and their results.
//!
//! ```no_run
//! # use tokenized_sae::prelude::*;
//! # let model = Model::load("tiny-gpt2")?;
//! # let corpus = Corpus::sampled_in(&model, 500_000, 0, "cache")?;
//! let hooks = [HookPoint::resid_pre(1), HookPoint::resid_pre(2)];
//! let acts = ActivationStore::harvest(&model, &hooks, &corpus.train, "cache/tiny-gpt2", HarvestConfig::default())?; // one for all hooks
//! let sae = SaeConfig::for_model(&model);
//! let sweep: Sweep = Sweep::new(&acts, TrainConfig { tokens: 1_000_000, lr: 3e-3, ..Default::default() })?
//!     .held_out(&model, &corpus.valid)
//!     .arm("SAE", sae.clone())
//!     .arm_with("TSAE", sae.clone(), Lookup::unigram) // a table for each hook
//!     .arm("ReLU", sae.with_architecture(Architecture::Relu { l1: 1.0 }))
//!     .ks(&[5, 10, 20, 30, 50]) // on the two that have a k,
//!     .penalties(&[0.5, 1.0, 2.0, 4.0]) // and on the one that has a penalty
//!     .seeds(&[0, 1, 2])
//!     .baseline("SAE");
//! let results: SweepResults = sweep.run("runs/pareto")?;
//! println!("{}", results.table().text());
//! results.pareto()?.save("pareto.svg")?;
//! # Ok::<(), Error>(())
//! ```
//!
//! **Folders.** `dir/HOOK/NAME/` is the folder of a run, as
//! [`Trainer::fit`](crate::train::Trainer::fit) writes it, with the evaluation on held-out text as
//! `evaluation.json`; the name says every value: `TSAE k=16 expansion=16 lr=3e-3 seed=0`.
//! `dir/sweep.json` lists the grid. The same sweep again trains and evaluates only what is not
//! there, from where it was stopped or killed, and a larger grid adds to a smaller one.
//!
//! **Streams.** Runs of one hook and one seed are trained on the same batches at once, as many as
//! fit into memory, and each ends with the bytes that it would have if it were trained alone.
//!
//! **Seeds.** A seed decides the first directions of the decoder ([`SaeConfig::seed`]) and the
//! order of the activations ([`TrainConfig::seed`]); arms of one seed have both in common. It does
//! not change the text, nor what is held out.
//!
//! **Several processes** may run the same sweep in the same folder. On one machine it is enough to
//! start them: each run is trained by one of them, and whoever has nothing left to begin stays until
//! all is done, and takes over what another was killed with. On many machines, give each a share of
//! its own by [`Sweep::only`]: shares have no run in common, so that nothing rests on a lock, which
//! not every file system keeps for all machines. [`Sweep::prepare`] does before what each would
//! else do for itself.

mod arm;
mod check;
mod choose;
mod description;
mod figures;
mod grid;
pub(crate) mod least;
mod memory;
mod page;
mod plan;
mod results;
mod run;
mod shares;
mod show;
mod spread;
mod table;
mod work;
mod write;

use std::path::Path;

pub use arm::Arm;
pub use description::SweepFile;
pub use grid::Setting;
pub use page::results_page;
pub use results::{FailedRun, SweepResults, SweepRow, SweepRun};
pub use spread::Spread;
pub(crate) use table::{relative, signed};

use super::EVALUATED;
use crate::activations::ActivationStore;
use crate::base::error::{Error, Result};
use crate::base::share::Share;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};
use crate::sae::{Lookup, SaeConfig};
use crate::train::{self, TrainConfig};
use arm::Axis;
use grid::Point;
use shares::Costed;

/// A grid of runs; see the [module](self).
#[derive(Clone)]
pub struct Sweep {
    acts: ActivationStore,
    train: TrainConfig,
    hooks: Vec<HookPoint>,
    held_out: Option<(Model, Tokens)>,
    arms: Vec<Arm>,
    axes: Vec<Axis>,
    seeds: Vec<u64>,
    baseline: Option<String>,
    evaluated: usize,
    memory: Option<u64>,
    /// Which share to run; without one, all of it, and to the end.
    share: Option<Share>,
}

impl Sweep {
    /// A sweep over SAEs that are trained on `acts` with these settings: at first over all its
    /// hooks, with the one seed of `train`, and without any arm.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting cannot be used.
    pub fn new(acts: &ActivationStore, train: TrainConfig) -> Result<Sweep> {
        train.check()?;
        Ok(Sweep {
            acts: acts.clone(),
            hooks: acts.hooks().to_vec(),
            held_out: None,
            arms: Vec::new(),
            axes: Vec::new(),
            seeds: vec![train.seed],
            baseline: None,
            evaluated: EVALUATED,
            memory: None,
            share: None,
            train,
        })
    }

    /// Trains at these hooks only.
    pub fn hooks(mut self, hooks: &[HookPoint]) -> Sweep {
        self.hooks = hooks.to_vec();
        self
    }

    /// The text on which every run is measured: on its first
    /// [`held_out_tokens`](TrainConfig::held_out_tokens) tokens while it trains, and on 65,536 of
    /// them, or on all if there are fewer, when it has ended. A sweep needs one.
    pub fn held_out(mut self, model: &Model, tokens: &Tokens) -> Sweep {
        self.held_out = Some((model.clone(), tokens.clone()));
        self
    }

    /// Evaluates every run on this many held-out tokens, in whole sequences, instead of 65,536.
    pub fn evaluated_on(mut self, tokens: usize) -> Sweep {
        self.evaluated = tokens;
        self
    }

    /// Adds an arm: a named configuration, the same at every hook.
    pub fn arm(self, name: &str, config: SaeConfig) -> Sweep {
        self.with_arm(Arm::new(name, config))
    }

    /// Adds an arm with a table, which is made for each hook: `.arm_with("TSAE", config,
    /// Lookup::unigram)`.
    pub fn arm_with(
        self,
        name: &str,
        config: SaeConfig,
        lookup: impl Fn(&Model, HookPoint) -> Result<Lookup> + Send + Sync + 'static,
    ) -> Sweep {
        self.with_arm(Arm::with_lookup(name, config, lookup))
    }

    /// Adds an arm with axes of its own, or one that is made in another way.
    pub fn with_arm(mut self, arm: Arm) -> Sweep {
        self.arms.push(arm);
        self
    }

    /// Trains everything once with each of these seeds, for the directions of the decoder and for
    /// the order of the activations.
    pub fn seeds(mut self, seeds: &[u64]) -> Sweep {
        self.seeds = seeds.to_vec();
        self
    }

    /// Says which arm the others are compared with: their results then say how many times sooner
    /// they reach its final value.
    pub fn baseline(mut self, arm: &str) -> Sweep {
        self.baseline = Some(arm.to_owned());
        self
    }

    /// Lets runs that train together take this many bytes, not three quarters of what is free.
    /// The results are the same.
    pub fn memory(mut self, bytes: u64) -> Sweep {
        self.memory = Some(bytes);
        self
    }

    /// Runs only the `i`th of `n` shares of the grid, counted from 1, for a process that others
    /// run beside.
    ///
    /// Shares are of single runs, which follow each other in the grid, and are equal in the work
    /// that they are expected to take, by the shapes of the SAEs: every machine cuts them alike.
    ///
    /// # Errors
    /// [`Error::Config`] unless `1 ≤ i ≤ n`.
    pub fn only(mut self, i: usize, n: usize) -> Result<Sweep> {
        self.share = Some(Share::new(i, n)?);
        Ok(self)
    }

    /// Trains and evaluates what is not finished yet, in folders below `dir`, and returns all
    /// finished results.
    ///
    /// It is resumable: interrupted, it returns what it has; the same call continues from there. A
    /// run whose numbers overflow, as at a learning rate that is too high, is put down as failed
    /// and the others continue. Runs that another process has in hand are waited for, and taken
    /// over if that process ends without having finished them; but not those of a
    /// [share](Sweep::only).
    ///
    /// # Errors
    /// [`Error::Incomplete`] if another process has runs of this one's share in hand;
    /// [`Error::Config`] if there is nothing to run, no held-out text, or a setting that cannot be
    /// used; [`Error::UnknownHook`]; [`Error::Changed`] if the model is not the activations';
    /// [`Error::Checksum`] if a finished run is damaged; [`Error::Io`].
    pub fn run(&self, dir: impl AsRef<Path>) -> Result<SweepResults> {
        run::run(self, dir.as_ref())?;
        SweepResults::open(dir)
    }

    /// Does what every process of the sweep in `dir` would else do for itself, and trains nothing:
    /// lists the grid in `sweep.json`, and makes each hook's tables, of which those of
    /// [`SweepFile`]s and [`Lookup::unigram_in`] are kept.
    ///
    /// # Errors
    /// As [`run`](Sweep::run), and what making a table reports.
    pub fn prepare(&self, dir: impl AsRef<Path>) -> Result<()> {
        run::prepare(self, dir.as_ref())
    }

    /// How many streams of batches there are: one for each hook and seed.
    pub fn n_streams(&self) -> usize {
        self.hooks.len() * self.seeds.len()
    }

    /// The hook and the name of every run, in the order in which they are trained.
    ///
    /// # Errors
    /// As [`run`](Sweep::run).
    pub fn names(&self) -> Result<Vec<(HookPoint, String)>> {
        Ok(self.points()?.into_iter().map(|point| (point.setting.hook, point.name)).collect())
    }

    /// Every run of the grid, hook by hook, seed by seed, arm by arm.
    fn points(&self) -> Result<Vec<Point>> {
        Ok(self.costed()?.into_iter().map(|run| run.point).collect())
    }

    /// The runs of this process' share.
    fn mine(&self) -> Result<Vec<Point>> {
        match self.share {
            Some(share) => Ok(shares::share(self.costed()?, share)),
            None => self.points(),
        }
    }

    /// Every run of the grid with its work.
    fn costed(&self) -> Result<Vec<Costed>> {
        self.check()?;
        let mut runs = Vec::new();
        for &hook in &self.hooks {
            for &seed in &self.seeds {
                for arm in &self.arms {
                    for values in grid::combinations(arm, &self.axes) {
                        let sae = grid::config(&arm.base, &values, seed, self.train.lr)?;
                        sae.check()?;
                        let work = train::work_of(&sae, &self.train);
                        let point = grid::point(hook, &arm.name, &values, &sae);
                        runs.push(Costed { point, work });
                    }
                }
            }
        }
        grid::check_names(runs.iter().map(|run| &run.point))?;
        Ok(runs)
    }

    /// The model and its held-out text.
    fn text(&self) -> Result<&(Model, Tokens)> {
        let why = "a sweep measures its runs on held-out text: give it some with .held_out(&model, &corpus.valid)";
        self.held_out.as_ref().ok_or_else(|| Error::config("held_out", why))
    }
}
