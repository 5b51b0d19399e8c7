//! The next-token cross-entropy, of a model and of logits.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::base::error::{Error, Result};
use crate::cpu::simd::log_sum_exp;
use crate::model::Model;
use crate::model::run::expect_shape;
use crate::model::tensor::with_f32;
use crate::model::tokens::Tokens;

/// How many logits are held at once while a loss is computed: 32 MB.
const LOGITS_AT_ONCE: usize = 8 * 1024 * 1024;

impl Model {
    /// The mean next-token cross-entropy over all positions but each sequence's last, in nats.
    /// Works in batches of its own, so that memory stays bounded.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let ids = model.encode("The quick brown fox")?;
    /// let tokens = Tokens::new(ids.clone(), ids.len())?;
    /// assert!(model.loss(&tokens)? < (model.config().d_vocab as f64).ln() * 2.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Model::logits`]; [`Error::Config`] if there is no token to predict.
    pub fn loss(&self, tokens: &Tokens) -> Result<f64> {
        self.check_tokens(tokens)?;
        if tokens.is_empty() || tokens.n_ctx() < 2 {
            return Err(Error::config(
                "tokens",
                "there is no next token to predict: need at least one sequence of two",
            ));
        }
        let mut total = 0.0;
        for batch in self.batches(tokens) {
            let losses = self.losses_from(&self.last_resid(&batch)?, &batch)?;
            total += losses.iter().map(|&loss| loss as f64).sum::<f64>();
        }
        Ok(total / (tokens.n_seq() * (tokens.n_ctx() - 1)) as f64)
    }

    /// The cross-entropy of each next token, in nats, sequence after sequence: `[n_seq · (n_ctx −
    /// 1)]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `logits` are not those of `tokens`; [`Error::TokenId`] for a token
    /// outside the vocabulary.
    pub fn loss_per_token(&self, logits: &Tensor, tokens: &Tokens) -> Result<Vec<f32>> {
        let (n_seq, n_ctx, d_vocab) = (tokens.n_seq(), tokens.n_ctx(), self.config().d_vocab);
        expect_shape("logits", logits, &[n_seq, n_ctx, d_vocab])?;
        tokens.check(d_vocab)?;
        let places: Vec<(usize, u32)> = (0..n_seq)
            .flat_map(|seq| (1..n_ctx).map(move |at| (seq * n_ctx + at - 1, tokens.row(seq)[at])))
            .collect();
        with_f32(logits, |logits| {
            places
                .par_iter()
                .map(|&(row, target)| cross_entropy(&logits[row * d_vocab..][..d_vocab], target))
                .collect()
        })
    }

    /// The cross-entropy of each next token, from the residual stream after the last block.
    pub(super) fn losses_from(&self, resid: &Tensor, tokens: &Tokens) -> Result<Vec<f32>> {
        let (n_seq, n_ctx) = (tokens.n_seq(), tokens.n_ctx());
        let (d_model, d_vocab) = (self.config().d_model, self.config().d_vocab);
        let n = n_seq * (n_ctx - 1);
        if n == 0 {
            return Ok(Vec::new());
        }
        let resid = resid.narrow(1, 0, n_ctx - 1)?.contiguous()?.reshape((n, d_model))?;
        let targets: Vec<u32> =
            (0..n_seq).flat_map(|seq| tokens.row(seq)[1..].iter().copied()).collect();
        let rows = (LOGITS_AT_ONCE / d_vocab).max(1);
        let mut losses = Vec::with_capacity(n);
        for from in (0..n).step_by(rows) {
            let rows = rows.min(n - from);
            let logits = self.inner.transformer.unembed(&resid.narrow(0, from, rows)?)?;
            let targets = &targets[from..from + rows];
            let some: Vec<f32> = with_f32(&logits, |logits| {
                logits
                    .par_chunks(d_vocab)
                    .zip(targets)
                    .map(|(row, &target)| cross_entropy(row, target))
                    .collect()
            })?;
            losses.extend(some);
        }
        Ok(losses)
    }
}

/// `ln Σ exp(logits) − logits[target]`.
fn cross_entropy(logits: &[f32], target: u32) -> f32 {
    log_sum_exp(logits) - logits[target as usize]
}
