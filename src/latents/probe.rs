//! k-sparse probing: does an SAE have latents for what a researcher asks about?
//!
//! A [`Task`] is a question about positions that tokens answer exactly. A linear probe on the
//! activations says how much of the answer is there; the same on the 1, 2, 5 or 16 latents that
//! tell most says whether the SAE has made latents of it ([Gurnee et al.
//! 2023](https://arxiv.org/abs/2305.01610), and SAEBench's `sparse_probing`, whose definitions
//! these are). Of a tokenized SAE, what the table says is probed, too: what only the token decides
//! may have gone there, what the context decides cannot.
//!
//! # Definitions
//!
//! Each class is told from the rest by a probe of its own, with as many positions of the class as of
//! the rest. Probes are [logistic regressions](Logistic) with an L2 penalty, C = 1, on activations
//! and codes as they are. The k latents are those with the largest `|mean where it is of the class −
//! mean where it is not|` over the training positions.
//!
//! For [`Task::FirstLetter`] a fifth of the tokens is for tests alone, so that a probe cannot
//! remember which token begins with which letter, and a token is seen at
//! [`per_word`](ProbeConfig::per_word) positions at most; the rest has equally many positions of
//! each other letter. For contextual tasks a fifth of the sequences is for tests, and examples come
//! in pairs with the same token and both answers, so that 50 % is all that the token can tell.
//!
//! # Memory
//!
//! Tokens are read first, positions chosen, and then the sequences that have any are read once, in
//! order: what is kept is `4 d_model + 8 L0` bytes for each chosen position (the latter for each
//! SAE), some 100,000 with the defaults and a long text.

mod logistic;
pub(super) mod rows;
pub(super) mod sample;
pub(super) mod score;
mod show;
pub(super) mod task;

use crate::base::error::{Error, Result};
use crate::display::interrupt;
use crate::latents::ActivationSource;
use crate::latents::tokenness::NamedSaes;
use crate::model::{HookPoint, Model};
use crate::sae::Sae;
use rows::{Rows, Text, in_parallel, largest};
use sample::{Labelled, Problem, Sampler};
use score::Confusion;

pub use logistic::{ClassWeight, Logistic};
pub use score::{Input, ProbeScore, Probes, SaeProbes};
pub use task::Task;

/// The inverse of the penalty: scikit-learn's default, and what is published.
pub(super) const C: f64 = 1.0;

/// How much [`probe_with`] reads and how it probes.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeConfig {
    /// Tokens among which positions are chosen, at most; if the source has more, sequences are
    /// chosen at random. Default 300,000.
    pub tokens: usize,
    /// Positions to learn from, for each class, at most: half of them are of the class. Default
    /// 2,000; 4,000 is published.
    pub train: usize,
    /// Positions to try on, for each class, at most. Default 500; 1,000 is published.
    pub test: usize,
    /// Positions of one token, at most, where the token decides. Default 2.
    pub per_word: usize,
    /// How many latents a probe reads. Default 1, 2, 5 and 16; 1, 2 and 5 are published.
    pub ks: Vec<usize>,
    /// Decides which positions are chosen.
    pub seed: u64,
}

impl Default for ProbeConfig {
    fn default() -> ProbeConfig {
        ProbeConfig {
            tokens: 300_000,
            train: 2_000,
            test: 500,
            per_word: 2,
            ks: vec![1, 2, 5, 16],
            seed: 0,
        }
    }
}

impl ProbeConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] with the one that cannot be used.
    pub fn check(&self) -> Result<()> {
        for (field, value) in [
            ("tokens", self.tokens),
            ("train", self.train),
            ("test", self.test),
            ("per_word", self.per_word),
            ("ks", self.ks.iter().copied().min().unwrap_or_default()),
        ] {
            Error::at_least_1(field, value as u64)?;
        }
        Ok(())
    }
}

/// Probes the activations of a hook and the latents of SAEs for every [`Task`].
///
/// `source` is a store of the hook's activations or held-out
/// [`Tokens`](crate::model::tokens::Tokens), on which the model then runs.
///
/// ```no_run
/// use tokenized_sae::latents::probe::{Input, Task, probe};
/// use tokenized_sae::prelude::*;
/// # let (model, hook) = (Model::load("tiny-gpt2")?, HookPoint::resid_pre(2));
/// # let corpus = Corpus::sampled(&model, 500_000, 0)?;
/// let (sae, tsae) = (Sae::load("results/SAE")?, Sae::load("results/TSAE")?);
/// let found = probe(&model, hook, &[("SAE", &sae), ("TSAE", &tsae)], &corpus.valid)?;
/// println!("{}", found.table(Task::FirstLetter).text());
/// println!("{:?}", found["TSAE"].accuracy(Task::InQuotes, Input::Latents(5)));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// As [`probe_with`].
pub fn probe(
    model: &Model,
    hook: HookPoint,
    saes: &(impl NamedSaes + ?Sized),
    source: impl Into<ActivationSource>,
) -> Result<Probes> {
    probe_with(model, hook, saes, source, &ProbeConfig::default())
}

/// As [`probe`], with other settings. The same bits on any number of threads.
///
/// # Errors
/// [`Error::Config`] for a setting that cannot be used, for a store of another model, or if there is
/// no SAE; [`Error::Shape`] if an SAE does not fit the model; [`Error::NoTokenizer`];
/// [`Error::UnknownHook`]; [`Error::EmptyCorpus`] if no task has enough examples;
/// [`Error::Interrupted`]; and what the model or the store report.
pub fn probe_with(
    model: &Model,
    hook: HookPoint,
    saes: &(impl NamedSaes + ?Sized),
    source: impl Into<ActivationSource>,
    config: &ProbeConfig,
) -> Result<Probes> {
    config.check()?;
    let (saes, source) = (saes.named(), source.into());
    let reader = source.reader(model, hook)?;
    let text = Text::of(&reader, &saes, config.tokens, config.seed)?;
    let problems = problems(&text, model.config().d_vocab, config)?;
    let chosen = problems.iter().flat_map(|(.., problem)| [&problem.train, &problem.test]);
    let positions = chosen.flat_map(|side| &side.positions).copied().collect();
    let rows = text.rows(&saes, positions)?;
    let found = in_parallel("probe", &problems, |(task, class, problem)| {
        Probing::new(*task, task.class(*class), problem, &rows).all(&saes, &config.ks)
    })?;
    let mut probes = Probes {
        model: model.name().to_owned(),
        processing: model.processing().to_string(),
        hook,
        tokens: text.tokens.len(),
        activations: Vec::new(),
        saes: saes.iter().map(|(name, _)| SaeProbes::named(name)).collect(),
    };
    for (activation, of_saes) in found {
        probes.activations.push(activation);
        probes.saes.iter_mut().zip(of_saes).for_each(|(sae, scores)| sae.scores.extend(scores));
    }
    Ok(probes)
}

/// Every class of every task that the text has enough examples of.
fn problems(
    text: &Text<'_>,
    d_vocab: usize,
    config: &ProbeConfig,
) -> Result<Vec<(Task, u8, Problem)>> {
    let sampler = Sampler::new(&text.tokens, d_vocab, config.seed);
    let mut problems = Vec::new();
    for task in Task::ALL {
        let sizes = [config.train, config.test];
        let found = sampler.problems(task, &text.vocabulary, sizes, config.per_word);
        problems.extend(found.into_iter().map(|(class, problem)| (task, class, problem)));
    }
    if problems.is_empty() {
        return Err(sample::too_few(&text.tokens));
    }
    Ok(problems)
}

/// One class against the rest, on rows.
struct Probing<'a> {
    task: Task,
    class: String,
    rows: &'a Rows,
    train: (Vec<usize>, &'a [bool]),
    test: (Vec<usize>, &'a [bool]),
}

impl Probing<'_> {
    fn new<'a>(task: Task, class: String, problem: &'a Problem, rows: &'a Rows) -> Probing<'a> {
        let side = |side: &'a Labelled| (rows.at(&side.positions), &side.labels[..]);
        Probing { task, class, rows, train: side(&problem.train), test: side(&problem.test) }
    }

    /// The probe on the activation, and those on each SAE.
    fn all(
        &self,
        saes: &[(&str, &Sae)],
        ks: &[usize],
    ) -> Result<(ProbeScore, Vec<Vec<ProbeScore>>)> {
        let activation = self.score(Input::Activation, &[], |rows| self.rows.gather(rows))?;
        let of_saes = saes.iter().enumerate().map(|(at, (_, sae))| self.on(at, sae, ks));
        Ok((activation, of_saes.collect::<Result<_>>()?))
    }

    fn on(&self, at: usize, sae: &Sae, ks: &[usize]) -> Result<Vec<ProbeScore>> {
        let encoded = &self.rows.saes[at];
        let mut differences = encoded.differences(&self.train.0, self.train.1, sae.d_sae());
        differences.iter_mut().for_each(|it| *it = it.abs());
        let most = ks.iter().copied().max().unwrap_or_default();
        let latents = largest(&differences, most);
        let mut scores = Vec::new();
        for &k in ks {
            let some = &latents[..k.min(latents.len())];
            scores.push(self.score(Input::Latents(k), some, |rows| encoded.gather(rows, some))?);
        }
        if sae.lookup.is_some() {
            let table = |&row: &usize| encoded.of_table(sae, row).unwrap_or_default();
            let of_table = |rows: &[usize]| rows.iter().flat_map(table).collect();
            scores.push(self.score(Input::Table, &[], of_table)?);
            let both = |rows: &[usize]| {
                let latents_of = |row: &usize| encoded.gather(&[*row], &latents);
                rows.iter().flat_map(|row| [latents_of(row), table(row)].concat()).collect()
            };
            scores.push(self.score(Input::LatentsAndTable(most), &latents, both)?);
        }
        Ok(scores)
    }

    fn score(
        &self,
        input: Input,
        latents: &[usize],
        gather: impl Fn(&[usize]) -> Vec<f32>,
    ) -> Result<ProbeScore> {
        let ((train, labels), (test, expected)) = (&self.train, &self.test);
        let x = gather(train);
        let d = x.len() / train.len();
        let probe = Logistic::fit(&x, d, labels, C, ClassWeight::Even)?;
        let x = gather(test);
        let said = x.chunks_exact(d).map(|x| probe.score(x) > 0.0);
        let found = Confusion::of(said.zip(expected.iter().copied()));
        Ok(ProbeScore {
            task: self.task,
            class: self.class.clone(),
            input,
            train: train.len(),
            test: test.len(),
            accuracy: found.accuracy(),
            f1: found.f1(),
            latents: latents.to_vec(),
        })
    }
}

impl SaeProbes {
    fn named(name: &str) -> SaeProbes {
        SaeProbes { name: name.to_owned(), scores: Vec::new() }
    }
}

/// The error of a call that was stopped by hand.
pub(super) fn interrupted(what: &'static str) -> Error {
    interrupt::clear();
    Error::Interrupted {
        what,
        remedy: "nothing is kept; the same call starts again, and fewer tokens take less time"
            .to_owned(),
    }
}
