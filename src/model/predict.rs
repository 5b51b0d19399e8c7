//! The next token: the first thing one asks of a checkpoint.

use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::model::Model;
use crate::model::tensor::with_f32;
use crate::model::tokens::Tokens;

/// A token that may come next.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Candidate {
    /// Its id.
    pub id: u32,
    /// Its text, or `#123` if the checkpoint has no tokenizer.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f64,
}

/// What a model expects after some tokens, and how well it expected those.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Prediction {
    /// The most probable next tokens, the best first; of equals, the lower id first.
    pub top: Vec<Candidate>,
    /// The mean cross-entropy, in nats, of each given token after those before it; `None` for a
    /// single token.
    pub loss: Option<f64>,
}

impl Model {
    /// The `top` most probable tokens after `ids`, which are taken as they are: put [`Model::bos`]
    /// first to read a text as the model was trained to.
    ///
    /// ```
    /// use tokenized_sae::prelude::*;
    /// let model = Model::load("tiny-gpt2")?;
    /// let mut ids = vec![model.bos()];
    /// ids.extend(model.encode("It was the best of")?);
    /// let prediction = model.predict(&ids, 5)?;
    /// assert_eq!(prediction.top.len(), 5);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if there are no ids, or more than the model can read; [`Error::TokenId`]
    /// for one outside the vocabulary.
    pub fn predict(&self, ids: &[u32], top: usize) -> Result<Prediction> {
        if ids.is_empty() {
            return Err(Error::config(
                "tokens",
                "the list is empty: a prediction needs at least one token before it",
            ));
        }
        let tokens = Tokens::new(ids.to_vec(), ids.len())?;
        self.check_tokens(&tokens)?;
        let resid = self.last_resid(&tokens)?; // [1, n_ctx, d_model]
        let losses = self.losses_from(&resid, &tokens)?;
        let last = resid.narrow(1, ids.len() - 1, 1)?.contiguous()?;
        let logits = with_f32(&self.inner.transformer.unembed(&last)?, <[f32]>::to_vec)?;

        let max = logits.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b as f64));
        let total = max + logits.iter().map(|&x| (x as f64 - max).exp()).sum::<f64>().ln();
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        let candidate = |id: u32| Candidate {
            id,
            token: self.token_str(id),
            logprob: logits[id as usize] as f64 - total,
        };
        Ok(Prediction {
            top: order.into_iter().take(top).map(candidate).collect(),
            loss: (!losses.is_empty())
                .then(|| losses.iter().map(|&loss| loss as f64).sum::<f64>() / losses.len() as f64),
        })
    }
}
