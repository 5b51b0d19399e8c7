//! Controls: how much of what a tokenized SAE gains is due to what.
//!
//! A TSAE reconstructs better than an SAE. Is that the table alone, or more parameters, or more latents
//! that live? Would a linear bypass of low rank do as well as a table? How much is due to what the
//! decoder or the encoder learn, and what is left on a model that has learned nothing? Each question
//! is a [`Control`], a run or several beside the SAE and the TSAE, with the same seeds, on the same
//! activations, measured on the same text.
//!
//! ```no_run
//! use tokenized_sae::experiments::controls::Controls;
//! use tokenized_sae::prelude::*;
//! let model = Model::load("tiny-gpt2")?;
//! let corpus = Corpus::sampled_in(&model, 400_000, 0, "cache")?;
//! let hook = HookPoint::resid_pre(2);
//! let acts = ActivationStore::harvest(&model, &[hook], &corpus.train, "cache/acts", HarvestConfig::default())?;
//! let sae = SaeConfig { k: 16, ..SaeConfig::for_model(&model) };
//! let controls = Controls::new(&model, &acts, hook, sae, TrainConfig { lr: 3e-3, ..Default::default() }, &corpus.valid)
//!     .seeds(&[0, 1])
//!     .shuffled(&Model::load("shuffled:tiny-gpt2")?);
//! if let Some(worth) = controls.run("runs/controls")? {
//!     println!("{}", worth.table().text());
//! }
//! # Ok::<(), Error>(())
//! ```

mod row;
mod show;

use std::path::Path;

pub use row::{Change, ControlRow};

use super::sweep::{Sweep, SweepResults};
use crate::activations::{ActivationStore, HarvestConfig};
use crate::base::error::Result;
use crate::eval::{self, Measure};
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};
use crate::sae::{Frozen, Lookup, Sae, SaeConfig};
use crate::train::TrainConfig;

/// The rank of a bypass, as in [arXiv 2606.14040](https://arxiv.org/abs/2606.14040).
const RANK: usize = 24;

/// Held-out tokens of an evaluation.
const EVALUATED: usize = 16_384;

const SAE: &str = "SAE";
const TSAE: &str = "TSAE";

/// A question that is asked beside an SAE and a TSAE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// An SAE whose `b_dec` starts at the mean of the activations ([`SaeConfig::centred`]), which is a
    /// table of one row for all tokens.
    Centred,
    /// The authors' table, `[BOS, t]`, added only, in the place of the recommended.
    Authors,
    /// The table, and no latents.
    TableAlone,
    /// A frozen linear map of this rank of the token's embedding in the place of the table
    /// ([`Lookup::bypass`]).
    Bypass(usize),
    /// An SAE with as many more latents as the table has parameters.
    EqualParameters,
    /// A TSAE with no more latents than the SAE has alive.
    EqualAlive,
    /// Both with a decoder that stays as it starts.
    FrozenDecoder,
    /// Both with an encoder that stays as it starts.
    FrozenEncoder,
}

impl Control {
    /// All of them.
    pub const ALL: [Control; 8] = [
        Control::Centred,
        Control::Authors,
        Control::TableAlone,
        Control::Bypass(RANK),
        Control::EqualParameters,
        Control::EqualAlive,
        Control::FrozenDecoder,
        Control::FrozenEncoder,
    ];
}

/// An SAE, a TSAE and controls, to be trained; see the [module](self).
#[derive(Clone)]
pub struct Controls {
    model: Model,
    acts: ActivationStore,
    hook: HookPoint,
    sae: SaeConfig,
    train: TrainConfig,
    held_out: Tokens,
    seeds: Vec<u64>,
    evaluated: usize,
    asked: Vec<Control>,
    shuffled: Option<Model>,
}

/// What the controls show.
pub struct ControlResults {
    /// One for the SAE, the TSAE and each control.
    pub rows: Vec<ControlRow>,
    /// The runs on the model.
    pub runs: SweepResults,
    /// The runs on the model whose weights are in random order, if there is one.
    pub shuffled: Option<SweepResults>,
}

/// A configuration, and what it is called.
type Named = (String, SaeConfig);

impl Controls {
    /// An SAE of these settings, the TSAE with the [recommended](SaeConfig::recommended) table, and
    /// all controls, on activations of `hook`, with the seed of `train`.
    ///
    /// A table that the settings have is left out.
    pub fn new(
        model: &Model,
        acts: &ActivationStore,
        hook: HookPoint,
        sae: SaeConfig,
        train: TrainConfig,
        held_out: &Tokens,
    ) -> Controls {
        Controls {
            model: model.clone(),
            acts: acts.clone(),
            hook,
            sae: SaeConfig { lookup: None, ..sae },
            seeds: vec![train.seed],
            train,
            held_out: held_out.clone(),
            evaluated: EVALUATED,
            asked: Control::ALL.to_vec(),
            shuffled: None,
        }
    }

    /// Asks only these questions.
    pub fn only(self, asked: &[Control]) -> Controls {
        Controls { asked: asked.to_vec(), ..self }
    }

    /// Trains everything once with each of these seeds.
    pub fn seeds(self, seeds: &[u64]) -> Controls {
        Controls { seeds: seeds.to_vec(), ..self }
    }

    /// Evaluates on this many held-out tokens, in whole sequences, instead of 16,384.
    pub fn evaluated_on(self, tokens: usize) -> Controls {
        Controls { evaluated: tokens, ..self }
    }

    /// Trains an SAE and a TSAE on a control of the model, too, on the same text:
    /// `Model::load("shuffled:gpt2")` has its weights in random order.
    pub fn shuffled(self, model: &Model) -> Controls {
        Controls { shuffled: Some(model.clone()), ..self }
    }

    /// Trains and evaluates what is not finished yet, in folders below `dir`; `None` if it was
    /// interrupted, and the same call continues.
    ///
    /// # Errors
    /// As [`Sweep::run`], and what harvesting and the tables report.
    pub fn run(&self, dir: impl AsRef<Path>) -> Result<Option<ControlResults>> {
        let dir = dir.as_ref();
        let tables = dir.join("tables");
        let recommended = Lookup::shrunk_means(&self.model, &self.acts, self.hook)?;
        let mut arms = self.arms(recommended.clone(), &tables)?;
        let runs = dir.join("runs");
        let mut results = self.sweep(&self.acts, &self.model, &arms)?.run(&runs)?;
        if !results.is_complete() {
            return Ok(None);
        }
        if self.asked.contains(&Control::EqualAlive) {
            arms.push(self.no_more_than_alive(&results, recommended.clone()));
            results = self.sweep(&self.acts, &self.model, &arms)?.run(&runs)?;
            if !results.is_complete() {
                return Ok(None);
            }
        }
        let mut rows = row::of_runs(&results, &arms);
        if self.asked.contains(&Control::TableAlone) {
            let alone = Sae::of_table(recommended)?;
            let text = self.held_out.rows(0, self.evaluated.div_ceil(self.held_out.n_ctx()).max(1));
            let found = eval::evaluate(&self.model, self.hook, &[("alone", &alone)], &text)?;
            rows.push(row::of_table_alone(&found.rows[0], &alone, &results));
        }
        row::compare(&mut rows);
        let shuffled = match &self.shuffled {
            None => None,
            Some(model) => match self.on_shuffled(model, dir)? {
                None => return Ok(None),
                Some((runs, arms)) => {
                    rows.extend(row::of_runs(&runs, &arms).into_iter().map(|row| ControlRow {
                        name: format!("{}, weights shuffled", row.name),
                        ..row
                    }));
                    Some(runs)
                }
            },
        };
        Ok(Some(ControlResults { rows, runs: results, shuffled }))
    }

    /// What is trained on the model, but for what depends on how many latents of the SAE live.
    fn arms(&self, recommended: Lookup, tables: &Path) -> Result<Vec<Named>> {
        let sae = || self.sae.clone();
        let tsae = || sae().with_lookup(recommended.clone().subtracted_in_full());
        let named = |name: &str, config: SaeConfig| (name.to_owned(), config);
        let mut arms = vec![named(SAE, sae()), named(TSAE, tsae())];
        for control in &self.asked {
            match *control {
                Control::TableAlone | Control::EqualAlive => {}
                Control::Centred => arms.push(named("SAE, centred", sae().centred())),
                Control::Authors => {
                    let table = Lookup::unigram_in(&self.model, self.hook, tables)?;
                    arms.push(named("TSAE of the authors", sae().with_lookup(table)));
                }
                Control::Bypass(rank) => {
                    let table = Lookup::bypass(&self.model, &self.acts, self.hook, rank)?;
                    let config = sae().with_lookup(table.subtracted_in_full());
                    arms.push((format!("bypass of rank {rank}"), config));
                }
                Control::EqualParameters => {
                    let more =
                        recommended.table().len().div_ceil(self.sae.parameters_of_a_latent());
                    let wide = sae().with_latents(self.sae.d_sae() + more);
                    arms.push(named("SAE, as many parameters", wide));
                }
                Control::FrozenDecoder | Control::FrozenEncoder => {
                    let frozen = match control {
                        Control::FrozenDecoder => Frozen::Decoder,
                        _ => Frozen::Encoder,
                    };
                    for (name, config) in [(SAE, sae()), (TSAE, tsae())] {
                        let name = format!("{name}, frozen {}", frozen.name());
                        arms.push((name, config.with_frozen(frozen)));
                    }
                }
            }
        }
        Ok(arms)
    }

    /// The TSAE with as many latents as the SAE has alive, on average over the seeds.
    fn no_more_than_alive(&self, results: &SweepResults, recommended: Lookup) -> Named {
        let rows = results.rows();
        let sae = rows.iter().find(|row| row.setting.arm == SAE);
        let dead = sae.map_or(0.0, |row| row.spread(Measure::Dead).mean);
        let alive = ((1.0 - dead) * self.sae.d_sae() as f64).round() as usize;
        let config = self.sae.clone().with_latents(alive.max(self.sae.k));
        let config = config.with_lookup(recommended.subtracted_in_full());
        ("TSAE, only as many latents as the SAE has alive".to_owned(), config)
    }

    /// An SAE and a TSAE on the model whose weights are in random order.
    fn on_shuffled(&self, model: &Model, dir: &Path) -> Result<Option<(SweepResults, Vec<Named>)>> {
        let acts = ActivationStore::harvest(
            model,
            &[self.hook],
            &self.acts.tokens()?,
            dir.join("shuffled activations"),
            HarvestConfig::default(),
        )?;
        if !acts.is_complete() {
            return Ok(None);
        }
        let table = Lookup::shrunk_means(model, &acts, self.hook)?.subtracted_in_full();
        let tsae = self.sae.clone().with_lookup(table);
        let arms = vec![(SAE.to_owned(), self.sae.clone()), (TSAE.to_owned(), tsae)];
        let runs = self.sweep(&acts, model, &arms)?.run(dir.join("shuffled runs"))?;
        Ok(runs.is_complete().then_some((runs, arms)))
    }

    fn sweep(&self, acts: &ActivationStore, model: &Model, arms: &[Named]) -> Result<Sweep> {
        let sweep = Sweep::new(acts, self.train.clone())?
            .hooks(&[self.hook])
            .held_out(model, &self.held_out)
            .evaluated_on(self.evaluated)
            .seeds(&self.seeds)
            .baseline(SAE);
        Ok(arms.iter().fold(sweep, |sweep, (name, config)| sweep.arm(name, config.clone())))
    }
}
