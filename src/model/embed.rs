//! From token ids to the first residual stream.

use candle_core::{Device, Tensor};

use crate::base::error::{Error, Result};
use crate::cpu::matmul::in_pieces;
use crate::model::tensor::with_f32;

/// The embedding `[d_vocab, d_model]`, and GPT-2's learned positions `[n_ctx, d_model]`.
pub(super) struct Embed {
    tokens: Tensor,
    positions: Option<Tensor>,
}

impl Embed {
    pub fn new(tokens: Tensor, positions: Option<Tensor>) -> Embed {
        Embed { tokens, positions }
    }

    /// The embedding `[d_vocab, d_model]`.
    pub fn tokens(&self) -> &Tensor {
        &self.tokens
    }

    /// The positions `[n_ctx, d_model]`, if they are learned.
    pub fn positions(&self) -> Option<&Tensor> {
        self.positions.as_ref()
    }

    /// Embeds `ids` `[n_seq, n_new]`, the first of which stand at position `from`: `[n_seq, n_new,
    /// d_model]`.
    ///
    /// # Errors
    /// [`Error::TokenId`] for a token outside the vocabulary.
    pub fn forward(&self, ids: &[u32], n_seq: usize, from: usize) -> Result<Tensor> {
        /// Rows that a thread takes at a time.
        const ROWS: usize = 64;
        let (d_vocab, d) = self.tokens.dims2()?;
        if let Some(position) = ids.iter().position(|id| *id as usize >= d_vocab) {
            return Err(Error::TokenId { id: ids[position], position, d_vocab });
        }
        let n_new = ids.len() / n_seq.max(1);
        let mut out = vec![0f32; ids.len() * d];
        let work = 2 * out.len();
        let positions = self
            .positions
            .as_ref()
            .map(|positions| with_f32(&positions.narrow(0, from, n_new)?, <[f32]>::to_vec))
            .transpose()?;
        with_f32(&self.tokens, |tokens| {
            in_pieces(&mut out, ROWS * d, work, |piece, rows| {
                for (i, row) in rows.chunks_exact_mut(d).enumerate() {
                    let at = piece * ROWS + i;
                    let token = &tokens[ids[at] as usize * d..][..d];
                    match &positions {
                        Some(positions) => {
                            let position = &positions[at % n_new * d..][..d];
                            row.iter_mut()
                                .zip(token)
                                .zip(position)
                                .for_each(|((x, token), position)| *x = token + position);
                        }
                        None => row.copy_from_slice(token),
                    }
                }
            });
        })?;
        Ok(Tensor::from_vec(out, (n_seq, n_new, d), &Device::Cpu)?)
    }
}
