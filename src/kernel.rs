//! The training step of a TopK SAE on a CPU: sparse forward, sparse backward and Adam, on all cores, with the same bits for
//! any number of threads.
//!
//! # The algorithm
//!
//! Written with dense matrices a step costs six products of `[n, d_model]` by `[d_model, d_sae]`. Only the first is needed,
//! because after it every row has `k` codes that are not zero, and `k` is a few dozen of many thousands:
//!
//! 1. **Encode** ([`mod@encode`]): for a block of rows and a tile of latents, `pre = (x − b_dec) W_encᵀ + b_enc` lands in a buffer that
//!    stays in cache; a scan keeps, per row, what exceeds the k-th best so far. `[n, d_sae]` is never stored.
//! 2. **Decode** ([`rows`]): `x̂ = b_dec + Σ code·W_dec[latent] + W_lookup[token]`, `k + 1` rows gathered per token; the residual `r = x̂ − x`;
//!    and, while those rows of `W_dec` are still in cache, the gradient of each code, `(2/n)·r·W_dec[latent]`.
//! 3. **Transpose** ([`transpose`]): the codes, listed by latent instead of by row, by a counting sort.
//! 4. **By latent** ([`latents`]): one thread forms the whole gradient of a latent's two rows, `Σ code·(2/n)·r` and `Σ gradient·(x − b_dec)`,
//!    in its first-level cache, and applies Adam to the two rows at once. No gradient matrix exists, and no two threads write the
//!    same row, so there is nothing to lock and nothing whose order could vary.
//! 5. **The table** ([`table`]): rows grouped by token; Adam moves every row of the table, as PyTorch's does, since momentum moves a
//!    row whose token does not occur.
//!
//! Reductions over rows (the loss, the gradient of `b_dec`) are summed in blocks of fixed size and then in order.
//!
//! Per token, with d = `d_model`, L = `d_sae`: 2·d·L flops for the encoder and 8·k·d for everything else, against 12·d·L.
//!
//! The oracle is in `tests/step.rs`: candle's autograd and AdamW(weight_decay 0) on the dense form.

pub mod adam;
pub mod codes;
pub mod encode;
pub mod latents;
pub mod rows;
pub mod step;
pub mod table;
pub(crate) mod tile;
pub mod topk;
pub mod transpose;

pub use adam::{AdamState, Rates};
pub use codes::Codes;
pub use encode::encode;
pub use rows::decode;
pub use step::{Scratch, StepReport, train_step};
