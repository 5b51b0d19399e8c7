//! The one pass over the activations that counts.

use rayon::prelude::*;
use serde::Serialize;

use super::counts::{Counts, gram};
use super::{TokennessConfig, interrupted};
use crate::activations::{Batch, Shuffle};
use crate::base::error::{Error, Result};
use crate::display::{Progress, interrupt};
use crate::latents::source::{Reader, each_firing};
use crate::model::tokens::Tokens;
use crate::sae::Sae;

/// Rows that are read and encoded at once: some 30 ms of a large SAE.
const ROWS_AT_ONCE: usize = 4096;

/// Latents that a thread looks through at least.
const LATENTS_AT_ONCE: usize = 256;

/// Which part of the source was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// All of it.
    Everything,
    /// Sequences chosen at random, as many as [`TokennessConfig::tokens`] allows.
    Tokens,
    /// Sequences chosen at random, as many as fitted into [`TokennessConfig::memory`].
    Memory,
    /// Sequences chosen at random, as many as were read when the call was stopped by hand.
    Stopped,
}

/// What the pass found.
pub(super) struct Counted {
    /// For each SAE, one list a latent.
    pub latents: Vec<Vec<Counts>>,
    /// The n-grams of the text itself.
    pub text: Counts,
    /// How many tokens were counted.
    pub tokens: usize,
    pub coverage: Coverage,
}

/// Encodes the sequences in random order and counts where each latent fires.
pub(super) fn count(
    reader: &Reader<'_>,
    saes: &[(&str, &Sae)],
    config: &TokennessConfig,
) -> Result<Counted> {
    let n_ctx = reader.n_ctx;
    // Counts are u32.
    let most = config.tokens.min(u32::MAX as usize);
    let n_seq = reader.n_seq.min(most.div_ceil(n_ctx - 1));
    let order = Shuffle::new(reader.n_seq as u64, config.seed).fill(0, n_seq);
    let latents =
        saes.iter().map(|(_, sae)| (0..sae.d_sae()).map(|_| Counts::default()).collect()).collect();
    let coverage = if n_seq == reader.n_seq { Coverage::Everything } else { Coverage::Tokens };
    let mut counted = Counted { latents, text: Counts::default(), tokens: 0, coverage };
    let mut progress = Progress::new("count firings", (n_seq * (n_ctx - 1)) as u64, "tokens");
    let mut batch = Batch::default();
    for chunk in order.chunks((ROWS_AT_ONCE / n_ctx).max(1)) {
        if interrupt::requested() {
            counted.coverage = Coverage::Stopped;
            break;
        }
        if counted.bytes() > config.memory {
            counted.coverage = Coverage::Memory;
            break;
        }
        // In the order of the source, which is read faster.
        let mut chunk: Vec<usize> = chunk.iter().map(|&i| i as usize).collect();
        chunk.sort_unstable();
        match reader.read(&chunk, &mut batch) {
            Err(Error::Interrupted { .. }) if interrupt::requested() => {
                counted.coverage = Coverage::Stopped;
                break;
            }
            read => read?,
        }
        counted.add(&batch, reader, saes, config.order)?;
        progress.set(counted.tokens as u64);
    }
    match counted.coverage {
        Coverage::Stopped if counted.tokens == 0 => {
            return Err(interrupted("the count of firings"));
        }
        Coverage::Stopped => {
            interrupt::clear();
            progress.note("stopped by hand: the sequences read so far are what is measured");
        }
        Coverage::Memory => progress.note(
            "the memory for counts is used up: the sequences read so far are what is measured",
        ),
        Coverage::Everything | Coverage::Tokens => {}
    }
    progress.finish();
    counted.text.merge();
    counted.latents.iter_mut().for_each(|latents| latents.par_iter_mut().for_each(Counts::merge));
    Ok(counted)
}

impl Counted {
    fn add(
        &mut self,
        batch: &Batch,
        reader: &Reader<'_>,
        saes: &[(&str, &Sae)],
        order: usize,
    ) -> Result<()> {
        let n_ctx = reader.n_ctx;
        let text = Tokens::new(batch.tokens.clone(), n_ctx)?;
        let sequences = batch.tokens.chunks_exact(n_ctx);
        let grams: Vec<_> =
            sequences.flat_map(|sequence| (0..n_ctx).map(|at| gram(sequence, at, order))).collect();
        let counted_rows = || (0..batch.len()).filter(|i| i % n_ctx != 0);
        counted_rows().for_each(|i| self.text.add(grams[i], 1.0));
        if self.text.is_due() {
            self.text.merge();
        }
        for ((_, sae), counts) in saes.iter().zip(&mut self.latents) {
            let codes = sae.encode_text(reader.model, &batch.x, &text)?;
            each_firing(&codes, n_ctx, |latent, row, value| counts[latent].add(grams[row], value));
            counts
                .par_iter_mut()
                .with_min_len(LATENTS_AT_ONCE)
                .filter(|counts| counts.is_due())
                .for_each(Counts::merge);
        }
        self.tokens += counted_rows().count();
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.text.bytes() + self.latents.iter().flatten().map(Counts::bytes).sum::<u64>()
    }
}
