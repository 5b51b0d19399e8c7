//! Where a table starts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Index, Lookup, Ngrams, Start};
use crate::base::error::{Error, Result};
use crate::device::Device;
use crate::display::{self, Progress, interrupt};
use crate::model::gpu::{Bits, Computes, Wanted, choose};
use crate::model::outliers::{OUTLIER, median, norms};
use crate::model::{Compute, HookPoint, Model};
use crate::sae::Sae;

/// How many `[BOS, t]` go through the model at once: the authors' 1,024.
const AT_ONCE: usize = 1024;

impl Lookup {
    /// The authors' table: row `t` is what the hook holds at position 1 of the two tokens `[BOS,
    /// t]`.
    ///
    /// One that is still in memory is used again, and one of an earlier residual stream continued,
    /// so that tables for all layers take no longer than that of the last. Of a large model
    /// it takes minutes: [`Lookup::unigram_in`] does it once.
    ///
    /// # Errors
    /// [`Error::UnknownHook`] if the model lacks the hook, [`Error::Interrupted`], and what the
    /// model itself reports.
    pub fn unigram(model: &Model, hook: HookPoint) -> Result<Lookup> {
        let mut rows = Unigrams::of(model, hook)?;
        if let Some(lookup) = rows.at_hand() {
            return Ok(lookup);
        }
        rows.make(&mut |_| Ok(()))?;
        rows.lookup()
    }

    /// The table with the mean of the other rows in the place of those that are over ten times as
    /// long as the median row.
    ///
    /// In the Llama family a full stop, a line break and a few tokens more become attention sinks
    /// where they follow BOS: their rows of [`unigram`](Lookup::unigram) are a hundred times as long
    /// as the tokens' activations anywhere else, and no learning rate brings them back.
    pub fn without_outliers(self) -> Lookup {
        let d = self.d_model;
        let norms = norms(&self.table, d);
        let longest = OUTLIER * f64::from(median(norms.clone()));
        let is_outlier = |row: usize| f64::from(norms[row]) > longest;
        let kept: Vec<usize> = (0..norms.len()).filter(|&row| !is_outlier(row)).collect();
        if kept.len() == norms.len() {
            return self;
        }
        let mut sums = vec![0.0f64; d];
        for row in &kept {
            let row = &self.table[row * d..][..d];
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        let mean: Vec<f32> = sums.into_iter().map(|sum| (sum / kept.len() as f64) as f32).collect();
        let mut table = self.table.to_vec();
        for row in (0..norms.len()).filter(|&row| is_outlier(row)) {
            table[row * d..][..d].copy_from_slice(&mean);
        }
        Lookup { table: Arc::new(table), start: Start::Other, ..self }
    }

    /// A table of zeros, so that everything in it is learned; its balance is 0, since there is
    /// nothing to balance.
    ///
    /// # Errors
    /// [`Error::Shape`] if one of them is 0.
    pub fn zeros(d_vocab: usize, d_model: usize) -> Result<Lookup> {
        Lookup::from_table(vec![0.0; d_vocab * d_model], d_model)?
            .started(Start::Zeros)
            .with_balance(0.0)
    }

    /// A table with a row for every token and for every n-gram of [`Ngrams`]: a position takes the
    /// row of the longest n-gram that ends there, and that of its token if there is none. A row
    /// starts at what the hook holds at the end of `[BOS, t₁, …, tₙ]`.
    ///
    /// In training it takes `3 · 4 · rows · d_model` bytes.
    ///
    /// # Errors
    /// [`Error::UnknownHook`] if the model lacks the hook, [`Error::Shape`] if the n-grams are of
    /// another vocabulary, and what the model itself reports.
    pub fn ngrams(model: &Model, hook: HookPoint, grams: Ngrams) -> Result<Lookup> {
        let config = model.config();
        let (want, got) = (vec![config.d_vocab + grams.len()], vec![grams.rows()]);
        if want != got {
            return Err(Error::Shape { what: "rows of tokens and n-grams".to_owned(), want, got });
        }
        let Lookup { table, start, .. } = Lookup::unigram(model, hook)?;
        let all = grams.grams();
        let mut table = table.to_vec();
        for n in 2..=grams.longest() {
            let of_length: Vec<Vec<u32>> =
                all.iter().filter(|gram| gram.len() == n).cloned().collect();
            if of_length.is_empty() {
                continue;
            }
            let mut rows = Vec::new();
            let computes = chosen(model, hook, &of_length)?;
            after_bos(&computes, model, hook, &of_length, None, &mut rows, &mut |_| Ok(()))?;
            table.extend(rows);
        }
        Lookup::from_table(table, config.d_model)?
            .started(start)
            .indexed_by(Index::Ngrams(Arc::new(grams)))
    }

    /// A table with a row for every latent of an SAE of an earlier hook, which stays as it is: each
    /// of its active latents adds its row, times its code. Rows start as that SAE's decoder, which
    /// is where a residual stream would carry them.
    ///
    /// The store that is trained on needs the earlier hook too.
    ///
    /// # Errors
    /// [`Error::Config`] if the SAE does not say which hook it reads.
    pub fn preceding(sae: &Sae) -> Result<Lookup> {
        if sae.origin.hook.is_none() {
            let why = "the preceding SAE does not say which hook it reads: set its origin.hook";
            return Err(Error::config("preceding", why.to_owned()));
        }
        Lookup::from_table(sae.w_dec.clone(), sae.d_model())?
            .indexed_by(Index::Latents(Arc::new(sae.clone())))
    }
}

/// Tables that somebody still holds: a sweep asks for the same one for every arm, and a notebook
/// whenever its cell runs again.
static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

fn held() -> MutexGuard<'static, Vec<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a table is made of: a model, a hook, and a number format of products.
type Made = (String, HookPoint, Compute);

/// A table, and whose bits it has.
type Held = (Made, Bits, Weak<Vec<f32>>);

/// The rows of the authors' table, as far as they are made.
pub(super) struct Unigrams<'a> {
    model: &'a Model,
    hook: HookPoint,
    pub rows: Vec<f32>,
    /// Whose bits they have.
    pub bits: Bits,
    /// What makes them, once that is chosen.
    computes: Option<Computes>,
    /// The table of an earlier residual stream, that before so many blocks: what is between is all
    /// to compute.
    before: Option<(usize, Arc<Vec<f32>>)>,
}

impl<'a> Unigrams<'a> {
    pub(super) fn of(model: &'a Model, hook: HookPoint) -> Result<Unigrams<'a>> {
        model.check_hook(hook)?;
        let (rows, bits) = (Vec::new(), Bits::default());
        Ok(Unigrams { model, hook, rows, bits, computes: None, before: None })
    }

    /// Chooses what makes the rows, of which none is there yet, and so whose bits they will have.
    pub(super) fn choose(&mut self) -> Result<()> {
        self.computes = Some(self.chosen()?);
        Ok(())
    }

    fn chosen(&mut self) -> Result<Computes> {
        let computes = chosen(self.model, self.hook, &self.tokens(0, AT_ONCE))?;
        self.bits = computes.bits();
        Ok(computes)
    }

    /// Some tokens, each by itself.
    fn tokens(&self, from: usize, n: usize) -> Vec<Vec<u32>> {
        (from..self.model.config().d_vocab).take(n).map(|token| vec![token as u32]).collect()
    }

    /// Whether the table of that hook is nearer than the one at hand.
    pub(super) fn is_nearer(&self, hook: HookPoint) -> bool {
        let nearest = self.before.as_ref().map_or(0, |(depth, _)| *depth);
        let reach = self.hook.blocks_before().map_or(0..=0, |depth| nearest + 1..=depth);
        hook.blocks_before().is_some_and(|depth| reach.contains(&depth))
    }

    /// Begins with the table of an earlier residual stream.
    pub(super) fn begin_with(&mut self, hook: HookPoint, table: Arc<Vec<f32>>) {
        self.before = hook.blocks_before().map(|depth| (depth, table));
    }

    /// How many numbers all rows have.
    pub(super) fn len(&self) -> usize {
        self.model.config().d_vocab * self.model.config().d_model
    }

    pub(super) fn is_whole(&self) -> bool {
        self.rows.len() == self.len()
    }

    /// Makes the missing ones, and shows `each` of every few those made so far.
    pub(super) fn make(&mut self, each: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let computes = match self.computes.take() {
            Some(computes) => computes,
            None => self.chosen()?,
        };
        let tokens = self.tokens(self.rows.len() / self.model.config().d_model, usize::MAX);
        for ((model, hook, compute), bits, table) in held().iter() {
            let of_this = *model == self.model.fingerprint()
                && *compute == self.model.compute()
                && *bits == self.bits;
            if let Some(table) = table.upgrade().filter(|_| of_this && self.is_nearer(*hook)) {
                self.begin_with(*hook, table);
            }
        }
        let before = self.before.as_ref().map(|(depth, table)| (*depth, &table[self.rows.len()..]));
        after_bos(&computes, self.model, self.hook, &tokens, before, &mut self.rows, each)
    }

    /// The table that somebody still holds, if anybody does.
    pub(super) fn at_hand(&self) -> Option<Lookup> {
        let mut held = held();
        held.retain(|(_, _, table)| table.strong_count() > 0);
        let (made, _, table) = held.iter().find(|(made, ..)| *made == self.made())?;
        let (hook, model) = (made.1, made.0.clone());
        Some(
            Lookup::from_shared(table.upgrade()?, self.model.config().d_model)
                .started(Start::AfterBos(hook, model)),
        )
    }

    fn made(&self) -> Made {
        (self.model.fingerprint().to_owned(), self.hook, self.model.compute())
    }

    pub(super) fn lookup(self) -> Result<Lookup> {
        let made = self.made();
        let lookup = Lookup::from_table(self.rows, self.model.config().d_model)?;
        held().push((made, self.bits, Arc::downgrade(&lookup.table)));
        Ok(lookup.started(Start::AfterBos(self.hook, self.model.fingerprint().to_owned())))
    }
}

/// What runs the model for these and more of their length.
fn chosen(model: &Model, hook: HookPoint, grams: &[Vec<u32>]) -> Result<Computes> {
    let first = model.with_bos(&grams[..grams.len().min(AT_ONCE)])?;
    let (computes, remark) =
        choose(Device::Auto, model, Wanted::Table(hook), first.n_seq(), &first)?;
    remark.iter().for_each(|remark| display::remark(remark));
    Ok(computes)
}

/// Adds what the hook holds at the last position of BOS followed by each of these, all of one
/// length: `[n, d_model]`. `before`: as of [`Model::after_bos`], for all of them.
fn after_bos(
    computes: &Computes,
    model: &Model,
    hook: HookPoint,
    grams: &[Vec<u32>],
    before: Option<(usize, &[f32])>,
    out: &mut Vec<f32>,
    each: &mut dyn FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    if grams.is_empty() {
        return Ok(());
    }
    interrupt::watch();
    interrupt::clear();
    let d = model.config().d_model;
    let there = out.len() / d;
    let mut progress =
        Progress::new("token table", (there + grams.len()) as u64, "rows").resumed_at(there as u64);
    out.reserve_exact(grams.len() * d);
    for (i, grams) in grams.chunks(AT_ONCE).enumerate() {
        let before =
            before.map(|(depth, rows)| (depth, &rows[i * AT_ONCE * d..][..grams.len() * d]));
        let rows = computes.after_bos(hook, grams, before, &interrupt::requested).inspect_err(
            |error| {
                if matches!(error, Error::Interrupted { .. }) {
                    interrupt::clear();
                }
            },
        )?;
        out.extend(rows);
        progress.set((out.len() / d) as u64);
        each(out)?;
    }
    progress.finish_if_long();
    Ok(())
}
