//! How much of an activation the last few tokens tell: the variance explained by the mean
//! activation of the token, bigram, trigram.
//!
//! Sequences are dealt out at random into two halves. From the first come the mean activation of
//! every n-gram that occurs often enough there, drawn towards that of the shorter n-gram the more,
//! the less it was seen ([`means`]). On the second the means are scored: a row is predicted by the
//! mean of the longest n-gram, of at most n tokens, that ends at it and has one, or else by the
//! mean of all rows. So no n-gram explains itself.
//!
//! The columns of the activations are cut into strips; a thread sums one strip over all rows in
//! order, in f64, so that no two threads write the same number and the sums are the same on any
//! number of threads.

mod means;
mod show;

use rayon::prelude::*;
use serde::Serialize;

use super::{check_order, interrupted};
use crate::activations::{ActivationStore, Batch, Shuffle};
use crate::base::error::{Error, Result};
use crate::base::number;
use crate::display::{Progress, interrupt};
use crate::model::HookPoint;
use means::{Found, Means, STRIP, Strip, Text};

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 4096;

/// What [`ngram_r2_with`] counts, and how much of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NgramR2Config {
    /// The longest n-gram: 1 to 3. Default 3.
    pub n: usize,
    /// Tokens that are read, at most, half of them to form the means; sequences are chosen at
    /// random. Default 2,000,000.
    pub tokens: usize,
    /// An n-gram has a mean if it occurs at least this often in the first half. Default 2.
    pub min_count: u32,
    /// Bytes that the means may take, 8 a number; if there are too many n-grams, the rarest longest
    /// ones go without. Default 1 GiB.
    pub memory: u64,
    /// Decides the halves.
    pub seed: u64,
}

impl Default for NgramR2Config {
    fn default() -> NgramR2Config {
        NgramR2Config { n: 3, tokens: 2_000_000, min_count: 2, memory: 1 << 30, seed: 0 }
    }
}

/// What n-grams of one length tell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NgramScore {
    /// The length.
    pub n: usize,
    /// 1 − Σ‖x − prediction‖² / Σ‖x − x̄‖² over the second half, x̄ its mean; shorter n-grams stand
    /// in where there is none of this length.
    #[serde(serialize_with = "number::serialize")]
    pub r2: f64,
    /// How many n-grams of this length have a mean.
    pub grams: usize,
    /// How many rows the mean of the next shorter n-gram counts as beside the n-gram's own: σ²/τ²,
    /// the variance of rows about the mean of their n-gram over that of n-grams about the shorter;
    /// infinite if such n-grams tell nothing more.
    #[serde(serialize_with = "number::serialize")]
    pub prior: f64,
    /// The share of rows of the second half that end such an n-gram.
    pub covered: f64,
}

/// How much of a hook's activations the last few tokens tell.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NgramR2 {
    /// The hook.
    pub hook: HookPoint,
    /// n = 1, 2, …
    pub scores: Vec<NgramScore>,
    /// Tokens from which the means were formed; position 0 is left out.
    pub fitted: usize,
    /// Tokens on which they were scored.
    pub scored: usize,
    /// Tokens besides that were left out since their activations are over ten medians long, as they
    /// are for the Llama family.
    pub outliers: usize,
    /// An n-gram has a mean if it occurred at least this often.
    pub min_count: u32,
    /// Whether n-grams went without a mean for lack of memory.
    pub cut: bool,
    /// The model's name.
    pub model: String,
}

/// [`NgramR2`] of several hooks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NgramR2s {
    /// In the order of the model.
    pub hooks: Vec<NgramR2>,
}

impl NgramR2 {
    /// R² of n-grams of at most `n` tokens.
    ///
    /// # Errors
    /// [`Error::Config`] if that n was not computed.
    pub fn r2(&self, n: usize) -> Result<f64> {
        let missing =
            || Error::config("n", format!("n = {n}; 1 to {} were computed", self.scores.len()));
        self.scores.iter().find(|score| score.n == n).map(|score| score.r2).ok_or_else(missing)
    }
}

/// How much of the activations of `hook` their token (1), bigram (2) … n-gram tell: R² of mean
/// activations on a held-out half of the store.
///
/// ```no_run
/// use tokenized_sae::prelude::*;
/// let acts = ActivationStore::open("cache/tiny-gpt2")?;
/// let found = ngram_r2(&acts, HookPoint::resid_pre(2), 3)?;
/// println!("the token alone explains {:.1} % of the variance", 100.0 * found.r2(1)?);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// As [`ngram_r2_with`].
pub fn ngram_r2(acts: &ActivationStore, hook: HookPoint, n: usize) -> Result<NgramR2> {
    ngram_r2_with(acts, hook, &NgramR2Config { n, ..NgramR2Config::default() })
}

/// [`ngram_r2`] of every hook in the store, which says at which layer a table can help.
///
/// # Errors
/// As [`ngram_r2_with`].
pub fn ngram_r2_of_all(acts: &ActivationStore, n: usize) -> Result<NgramR2s> {
    let hooks =
        acts.hooks().iter().map(|&hook| ngram_r2(acts, hook, n)).collect::<Result<Vec<_>>>()?;
    Ok(NgramR2s { hooks })
}

/// As [`ngram_r2`], with other settings.
///
/// # Errors
/// [`Error::Config`] for a setting that cannot be used; [`Error::UnknownHook`];
/// [`Error::EmptyCorpus`] with fewer than two sequences, or sequences of one token;
/// [`Error::Interrupted`]; and what the store reports.
pub fn ngram_r2_with(
    acts: &ActivationStore,
    hook: HookPoint,
    config: &NgramR2Config,
) -> Result<NgramR2> {
    check_order("n", config.n)?;
    if config.min_count == 0 {
        return Err(Error::config("min_count", "is 0; an n-gram that never occurs has no mean"));
    }
    acts.check_hook(hook)?;
    let (n_ctx, n_seq) = (acts.n_ctx(), acts.n_rows() / acts.n_ctx());
    let wanted = n_seq.min(config.tokens.div_ceil(n_ctx.max(2) - 1));
    if wanted < 2 || n_ctx < 2 {
        let why = format!(
            "{wanted} sequences of {n_ctx} tokens; two sequences of two tokens are needed, one to form means and one to score them"
        );
        return Err(Error::EmptyCorpus { why });
    }
    interrupt::watch();
    interrupt::clear();
    let mut fit = Shuffle::new(n_seq as u64, config.seed).fill(0, wanted);
    let mut score = fit.split_off(wanted / 2);
    fit.sort_unstable();
    score.sort_unstable();
    let sequences = || fit.iter().chain(&score);
    let rows = sequences().flat_map(|&i| i * n_ctx as u64..(i + 1) * n_ctx as u64);
    let text = Text { tokens: acts.tokens()?, left_out: acts.outliers(hook, rows)? };
    let (fitted, scored) = (text.n_counted(&fit), text.n_counted(&score));
    let means = Means::of(&text, &fit, config, acts.d_model());
    let mut pass = Pass::new(acts, hook, (&text, &means), wanted);
    let mut strips: Vec<Strip> = (0..acts.d_model())
        .step_by(STRIP)
        .map(|from| Strip::new(from, acts.d_model(), &means))
        .collect();
    pass.run(&fit, &mut strips, Strip::fit)?;
    strips.iter_mut().for_each(|strip| strip.divide(&means));
    let priors = means.priors(&strips);
    strips.iter_mut().for_each(|strip| strip.shrink(&means, &priors));
    pass.run(&score, &mut strips, Strip::score)?;
    pass.finish();
    let variance: f64 = strips.iter().map(|strip| strip.variance(scored)).sum();
    let covered = means.covered(&text, &score);
    let scores = (1..=config.n).map(|n| NgramScore {
        n,
        r2: 1.0 - strips.iter().map(|strip| strip.error(n)).sum::<f64>() / variance,
        grams: means.grams(n),
        prior: priors[n - 1],
        covered: covered[n - 1] as f64 / scored as f64,
    });
    Ok(NgramR2 {
        hook,
        scores: scores.collect(),
        fitted,
        scored,
        outliers: wanted * (n_ctx - 1) - fitted - scored,
        min_count: config.min_count,
        cut: means.cut,
        model: acts.model_name().to_owned(),
    })
}

/// The reading of whole sequences, a few at a time, for all strips.
struct Pass<'a> {
    acts: &'a ActivationStore,
    hook: HookPoint,
    text: &'a Text,
    means: &'a Means,
    batch: Batch,
    progress: Progress,
    done: u64,
}

impl<'a> Pass<'a> {
    fn new(
        acts: &'a ActivationStore,
        hook: HookPoint,
        (text, means): (&'a Text, &'a Means),
        n_seq: usize,
    ) -> Pass<'a> {
        let progress = Progress::new(
            &format!("R² of n-grams, {hook}"),
            (n_seq * acts.n_ctx()) as u64,
            "tokens",
        );
        Pass { acts, hook, text, means, batch: Batch::default(), progress, done: 0 }
    }

    fn run(
        &mut self,
        sequences: &[u64],
        strips: &mut [Strip],
        each: fn(&mut Strip, &[f32], &[Found]),
    ) -> Result<()> {
        let n_ctx = self.acts.n_ctx() as u64;
        for some in sequences.chunks((ROWS_AT_ONCE / n_ctx as usize).max(1)) {
            if interrupt::requested() {
                return Err(interrupted("the R² of n-grams"));
            }
            let rows: Vec<u64> = some.iter().flat_map(|&i| i * n_ctx..(i + 1) * n_ctx).collect();
            self.acts.gather(self.hook, &rows, &mut self.batch)?;
            let found: Vec<Found> = some
                .par_iter()
                .enumerate()
                .flat_map_iter(|(place, &i)| self.means.found(self.text, i, place))
                .collect();
            strips.par_iter_mut().for_each(|strip| each(strip, &self.batch.x, &found));
            self.done += rows.len() as u64;
            self.progress.set(self.done);
        }
        Ok(())
    }

    fn finish(self) {
        self.progress.finish();
    }
}
