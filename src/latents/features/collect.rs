//! The pass over activations.

use rayon::prelude::*;

use super::cofiring::Together;
use super::firings::Firings;
use super::tally::Tally;
use super::{Features, FeaturesConfig};
use crate::activations::Batch;
use crate::base::error::{Error, Result};
use crate::display::{Progress, interrupt};
use crate::eval::check_width;
use crate::latents::ActivationSource;
use crate::model::tokens::Tokens;
use crate::model::{HookPoint, Model};
use crate::sae::{Codes, Sae};

/// Multiplications of the encoder that are done between two looks at the stop button: well below
/// 100 ms.
const PRODUCTS_AT_ONCE: usize = 4 << 30;

/// Rows that are read at once, at most; their activations stay in memory.
const ROWS_AT_ONCE: usize = 8192;

/// Latents that a thread takes at a time.
const LATENTS_AT_ONCE: usize = 64;

impl Features {
    /// Reads activations, of a store or of a text that is run through the model, and notes where each
    /// latent of `sae` (an [`Sae`], or a [`Run`](crate::train::Run)) fires.
    ///
    /// When it is stopped, it returns what it has.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting cannot be used; [`Error::UnknownHook`] if model or store lack
    /// the hook; [`Error::Changed`] if the store holds another model's activations;
    /// [`Error::Shape`] if the SAE does not fit; what the store or the model reports;
    /// [`Error::Interrupted`] if it is stopped before anything was read.
    pub fn collect(
        model: &Model,
        hook: HookPoint,
        sae: &impl AsRef<Sae>,
        source: impl Into<ActivationSource>,
        config: FeaturesConfig,
    ) -> Result<Features> {
        collect(model, hook, sae.as_ref(), &source.into(), config)
    }
}

fn collect(
    model: &Model,
    hook: HookPoint,
    sae: &Sae,
    source: &ActivationSource,
    config: FeaturesConfig,
) -> Result<Features> {
    config.check()?;
    let reader = source.reader(model, hook)?;
    check_width(model, "the SAE", sae.d_model())?;
    interrupt::watch();
    let n_ctx = reader.n_ctx;
    let sequences = spread(reader.n_seq, (config.tokens / n_ctx as u64).max(1) as usize);
    let mut progress =
        Progress::new("collect features", (sequences.len() * n_ctx) as u64, "tokens");
    let rows_at_once = (PRODUCTS_AT_ONCE / (sae.d_model() * sae.d_sae())).min(ROWS_AT_ONCE);
    let mut pass = Pass::new(sae, n_ctx, config);
    let mut batch = Batch::default();
    for some in sequences.chunks((rows_at_once / n_ctx).max(1)) {
        if interrupt::requested() {
            break;
        }
        match reader.read(some, &mut batch) {
            Err(Error::Interrupted { .. }) => break,
            read => read?,
        }
        let text = Tokens::new(batch.tokens.clone(), n_ctx)?;
        pass.add(&sae.encode_text(model, &batch.x, &text)?, &batch.tokens);
        progress.set(pass.ids.len() as u64);
    }
    progress.finish();
    let read = pass.ids.len() / n_ctx;
    if read == 0 {
        interrupt::clear();
        let remedy = "nothing was read yet; the same call starts again".to_owned();
        return Err(Error::Interrupted { what: "collecting features", remedy });
    }
    let features = pass.finish(model, hook, &sequences[..read], read == sequences.len());
    interrupt::clear();
    Ok(features)
}

/// `most` of `n` numbers, evenly spread, or all of them.
fn spread(n: usize, most: usize) -> Vec<usize> {
    let most = most.min(n);
    (0..most).map(|i| (i as u128 * n as u128 / most as u128) as usize).collect()
}

/// What has been found so far.
struct Pass {
    n_ctx: usize,
    config: FeaturesConfig,
    ids: Vec<u32>,
    firings: Firings,
    tallies: Vec<Tally>,
    together: Together,
}

impl Pass {
    fn new(sae: &Sae, n_ctx: usize, config: FeaturesConfig) -> Pass {
        Pass {
            n_ctx,
            ids: Vec::new(),
            firings: Firings::default(),
            tallies: vec![Tally::default(); sae.d_sae()],
            together: Together::new(config.seed),
            config,
        }
    }

    /// Adds some whole sequences. Each latent belongs to one thread, which sees its firings in the
    /// order of reading.
    fn add(&mut self, codes: &Codes, ids: &[u32]) {
        let first = self.ids.len() as u32;
        self.ids.extend(ids);
        self.firings.fill(codes, self.tallies.len(), self.n_ctx, first);
        self.together.add(codes, self.n_ctx, first);
        let Pass { firings, tallies, config, n_ctx, .. } = self;
        let (firings, config, n_ctx) = (&*firings, &*config, *n_ctx as u32);
        tallies.par_chunks_mut(LATENTS_AT_ONCE).enumerate().for_each(|(chunk, tallies)| {
            let latents = chunk * LATENTS_AT_ONCE..;
            latents
                .zip(tallies)
                .for_each(|(latent, tally)| tally.add(firings.of(latent), n_ctx, config));
        });
    }

    fn finish(self, model: &Model, hook: HookPoint, sequences: &[usize], all: bool) -> Features {
        let rows = 0..self.ids.len() as u32;
        let cofiring_tokens = rows
            .filter(|&row| !(row as usize).is_multiple_of(self.n_ctx) && self.together.keeps(row))
            .count() as u64;
        // A second stop, while pairs are counted, leaves the rest of them out.
        interrupt::clear();
        let together = self.together.most_alike(
            self.tallies.len(),
            self.config.cofiring,
            &interrupt::requested,
        );
        Features {
            model: model.name().to_owned(),
            hook,
            tokens: (self.ids.len() - sequences.len()) as u64,
            cofiring_tokens,
            finished: all && !interrupt::requested(),
            n_ctx: self.n_ctx,
            sequences: sequences.to_vec(),
            ids: self.ids,
            tallies: self.tallies,
            together,
            config: self.config,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_spread_evenly_over_all() {
        assert_eq!(spread(5, 9), [0, 1, 2, 3, 4]);
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(1, 1), [0]);
    }
}
