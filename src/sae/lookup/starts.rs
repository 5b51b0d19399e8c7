//! Where a table starts.

use std::sync::Arc;

use super::{Grams, Index, Lookup, Start};
use crate::display::{Progress, interrupt};
use crate::error::{Error, Result};
use crate::model::{HookPoint, Model};
use crate::sae::Sae;

/// How many `[BOS, t]` go through the model at once: the authors' 1,024.
const AT_ONCE: usize = 1024;

impl Lookup {
    /// The authors' table: row `t` is what the hook holds at position 1 of the two tokens `[BOS, t]`.
    ///
    /// # Errors
    /// [`Error::UnknownHook`] if the model lacks the hook, [`Error::Interrupted`], and what the model itself reports.
    pub fn unigram(model: &Model, hook: HookPoint) -> Result<Lookup> {
        let tokens: Vec<Vec<u32>> = (0..model.config().d_vocab as u32).map(|token| vec![token]).collect();
        let lookup = Lookup::from_table(after_bos(model, hook, &tokens)?, model.config().d_model)?;
        Ok(lookup.started(Start::AfterBos(hook, model.fingerprint().to_owned())))
    }

    /// A table of zeros, so that everything in it is learned; its balance is 0, since there is nothing to balance.
    ///
    /// # Errors
    /// [`Error::Shape`] if one of them is 0.
    pub fn zeros(d_vocab: usize, d_model: usize) -> Result<Lookup> {
        Lookup::from_table(vec![0.0; d_vocab * d_model], d_model)?.started(Start::Zeros).with_balance(0.0)
    }

    /// A table with a row for every token and for every n-gram of [`Grams`]: a position takes the row of the longest n-gram that ends there, and that of
    /// its token if there is none. A row starts at what the hook holds at the end of `[BOS, t₁, …, tₙ]`.
    ///
    /// In training it takes `3 · 4 · rows · d_model` bytes.
    ///
    /// # Errors
    /// [`Error::UnknownHook`] if the model lacks the hook, [`Error::Shape`] if the n-grams are of another vocabulary, and what the model itself reports.
    pub fn ngrams(model: &Model, hook: HookPoint, grams: Grams) -> Result<Lookup> {
        let config = model.config();
        let (want, got) = (vec![config.d_vocab + grams.len()], vec![grams.rows()]);
        if want != got {
            return Err(Error::Shape { what: "rows of tokens and n-grams".to_owned(), want, got });
        }
        let Lookup { table, start, .. } = Lookup::unigram(model, hook)?;
        let all = grams.grams();
        let mut table = table.to_vec();
        for n in 2..=grams.longest() {
            let of_length: Vec<Vec<u32>> = all.iter().filter(|gram| gram.len() == n).cloned().collect();
            table.extend(after_bos(model, hook, &of_length)?);
        }
        Lookup::from_table(table, config.d_model)?.started(start).indexed_by(Index::Grams(Arc::new(grams)))
    }

    /// A table with a row for every latent of an SAE of an earlier hook, which stays as it is: each of its active latents adds its row, times its code. Rows
    /// start as that SAE's decoder, which is where a residual stream would carry them.
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
        Lookup::from_table(sae.w_dec.clone(), sae.d_model())?.indexed_by(Index::Latents(Arc::new(sae.clone())))
    }
}

/// What the hook holds at the last position of BOS followed by each of these, all of one length: `[n, d_model]`.
fn after_bos(model: &Model, hook: HookPoint, grams: &[Vec<u32>]) -> Result<Vec<f32>> {
    model.check_hook(hook)?;
    interrupt::watch();
    interrupt::clear();
    let mut progress = Progress::new("token table", grams.len() as u64, "rows");
    let mut out = Vec::with_capacity(grams.len() * model.config().d_model);
    for grams in grams.chunks(AT_ONCE) {
        let rows = model.after_bos(hook, grams, &interrupt::requested).inspect_err(|error| {
            if matches!(error, Error::Interrupted { .. }) {
                interrupt::clear();
            }
        })?;
        out.extend(rows);
        progress.set((out.len() / model.config().d_model) as u64);
    }
    progress.finish_if_long();
    Ok(out)
}
