//! What the rows of a table stand for.

use std::sync::Arc;

use super::ngrams::Ngrams;
use crate::sae::Sae;

/// What the rows of a table stand for.
#[derive(Clone, Default)]
pub enum Index {
    /// Tokens: row `t` is for token `t`. The authors'.
    #[default]
    Token,
    /// Tokens, and behind them the n-grams that are common in a corpus: a position takes the row of
    /// the longest one that ends there.
    Ngrams(Arc<Ngrams>),
    /// The latents of a frozen SAE of an earlier hook: a position adds the rows of those that are
    /// active, each times its code.
    Latents(Arc<Sae>),
}

impl Index {
    /// Whether rows are tokens.
    pub fn is_token(&self) -> bool {
        matches!(self, Index::Token)
    }
}
