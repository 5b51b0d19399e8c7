//! By latent: the gradient of a latent's two rows, formed in registers by one thread, and Adam on
//! them at once.

mod aligned;

use std::ops::Range;

use rayon::prelude::*;

use super::csr::Csr;
use super::reconstruct::prefix_of;
use super::tiled::{STRIP, Tiled};
use crate::backend::adam::{AdamStep, Moments, adam_row};
use crate::backend::ranks::Ranks;
use crate::backend::state::AdamState;
use crate::base::error::Result;
use crate::cpu::simd::{add_scaled, dot, prefetch, vectorised};
use crate::sae::Codes;
use crate::sae::{Frozen, Sae};

/// Latents that one task takes; fixed, so that sums over latents are added in the same order on any
/// number of threads.
pub(in crate::backend) const CHUNK: usize = 32;

/// A code as a latent sees it: its row, and what it gives to the gradient of the latent's weights.
#[derive(Clone, Copy, Default)]
struct CodeGrad {
    row: u32,
    value: f32,
    gradient: f32,
}

/// The codes of a batch by latent; the buffers serve again.
#[derive(Default)]
pub(super) struct CodeGrads {
    by_latent: Csr,
    code_grads: Vec<CodeGrad>,
}

impl CodeGrads {
    /// Sorts codes, with the gradients of their pre-activations.
    pub(super) fn fill(&mut self, codes: &Codes, gradients: &[f32], d_sae: usize) {
        self.by_latent.fill(codes.latents(), d_sae);
        self.code_grads.resize(codes.latents().len(), CodeGrad::default());
        let rows = codes.rows();
        let code_grad = |&code: &u32| {
            let code = code as usize;
            CodeGrad { row: rows[code], value: codes.values()[code], gradient: gradients[code] }
        };
        self.code_grads
            .par_iter_mut()
            .zip(self.by_latent.all())
            .with_min_len(4096)
            .for_each(|(to, code)| *to = code_grad(code));
    }

    fn of(&self, latent: usize) -> &[CodeGrad] {
        &self.code_grads[self.by_latent.range(latent)]
    }
}

/// Codes and what their decoding left, from which gradients are formed.
#[derive(Clone, Copy)]
pub(super) struct Stream<'a> {
    pub code_grads: &'a CodeGrads,
    /// Of every prefix; see [`reconstruct`](super::reconstruct).
    pub residuals: &'a [Tiled],
}

impl Stream<'_> {
    fn residuals_of(&self, prefixes: &[usize], latent: usize) -> &Tiled {
        if self.residuals.len() == 1 {
            &self.residuals[0]
        } else {
            &self.residuals[prefix_of(prefixes, latent)]
        }
    }
}

/// The sum of the gradients of a latent's pre-activations.
fn bias_gradient(streams: &[Stream<'_>], latent: usize) -> f32 {
    streams
        .iter()
        .flat_map(|stream| stream.code_grads.of(latent))
        .map(|code_grad| code_grad.gradient)
        .sum()
}

/// Updates `W_enc` and `W_dec`, but for one that is frozen, and `b_enc`, the last by `of_b_enc` if that is given, and leaves
/// `Σ_latent (gradient of its pre-activations)·W_enc[latent]` in `through_encoder`: what `b_dec`
/// receives through the encoder, taken before the rows move. Of several owners, each updates its own
/// latents.
#[allow(clippy::too_many_arguments)]
pub(super) fn update(
    sae: &mut Sae,
    state: &mut AdamState,
    streams: &[Stream<'_>],
    centred: &Tiled,
    of_b_enc: Option<&[f32]>,
    through_encoder: &mut Vec<f32>,
    [adam, of_biases]: [AdamStep; 2],
    owners: &Ranks,
) -> Result<()> {
    let d = sae.d_model();
    let own = owners.share(sae.d_sae(), CHUNK);
    let weights = own.start * d..own.end * d;
    let mut partial = vec![0.0; own.len().div_ceil(CHUNK) * d];
    let learns = |matrix| sae.config.frozen != Some(matrix);
    let is_aligned = sae.config.aligned;
    // Aligned rows move together, afterwards.
    let (encoder_learns, decoder_learns) =
        (learns(Frozen::Encoder) && !is_aligned, learns(Frozen::Decoder));
    let keeps_unit_norm = sae.config.keeps_unit_norm();
    for strip in 0..centred.strips() {
        let encoder = rows_of(&mut sae.w_enc, &mut state.w_enc, d, &weights);
        encoder.zip(partial.par_chunks_mut(d)).enumerate().for_each(|(chunk, (rows, through))| {
            for_each_piece(rows, d, strip, |i, [w, m, v]| {
                let latent = own.start + chunk * CHUNK + i;
                let bias = bias_gradient(streams, latent);
                if bias != 0.0 {
                    add_scaled(&mut through[strip * STRIP..][..w.len()], bias, w);
                }
                if encoder_learns {
                    let gradient = &mut [0.0; STRIP][..w.len()];
                    gather(gradient, streams, latent, strip, |_| centred, Of::Gradient);
                    adam_row(adam, w, m, v, gradient);
                }
            });
        });
        if decoder_learns && !keeps_unit_norm {
            let prefixes = &sae.config.prefixes;
            let decoder = rows_of(&mut sae.w_dec, &mut state.w_dec, d, &weights);
            decoder.enumerate().for_each(|(chunk, rows)| {
                for_each_piece(rows, d, strip, |i, [w, m, v]| {
                    let latent = own.start + chunk * CHUNK + i;
                    let mut gradient = [0.0; STRIP];
                    gather(
                        &mut gradient[..w.len()],
                        streams,
                        latent,
                        strip,
                        |stream| stream.residuals_of(prefixes, latent),
                        Of::Value,
                    );
                    adam_row(adam, w, m, v, &gradient[..w.len()]);
                });
            });
        }
    }
    if is_aligned {
        aligned::update(sae, state, streams, centred, adam, own.clone());
    } else if decoder_learns && keeps_unit_norm {
        update_unit_rows(sae, state, streams, adam, own.clone());
    }
    let gradient: Vec<f32> = match of_b_enc {
        Some(gradient) => gradient[own.clone()].to_vec(),
        None => own.clone().map(|latent| bias_gradient(streams, latent)).collect(),
    };
    let Moments { m, v } = &mut state.b_enc;
    let biases = &mut sae.b_enc[own.clone()];
    adam_row(of_biases, biases, &mut m[own.clone()], &mut v[own], &gradient);

    through_encoder.clear();
    through_encoder.resize(d, 0.0);
    owners.hand_on(through_encoder, d, |_, through_encoder| {
        for partial in partial.chunks_exact(d) {
            add_scaled(through_encoder, 1.0, partial);
        }
    })
}

/// Updates `W_dec` on the sphere: without the part of the gradient along a row, which Adam would
/// only spoil its moments with, and back to length 1.
fn update_unit_rows(
    sae: &mut Sae,
    state: &mut AdamState,
    streams: &[Stream<'_>],
    adam: AdamStep,
    own: Range<usize>,
) {
    let d = sae.d_model();
    let prefixes = &sae.config.prefixes;
    let weights = own.start * d..own.end * d;
    rows_of(&mut sae.w_dec, &mut state.w_dec, d, &weights).enumerate().for_each_init(
        || vec![0.0; d],
        |gradient, (chunk, [w, m, v])| {
            let rows = w.chunks_exact_mut(d).zip(m.chunks_exact_mut(d)).zip(v.chunks_exact_mut(d));
            for (i, ((w, m), v)) in rows.enumerate() {
                let latent = own.start + chunk * CHUNK + i;
                gather_of_decoder(gradient, streams, prefixes, latent);
                take_out(gradient, w);
                adam_row(adam, w, m, v, gradient);
                to_unit(w);
            }
        },
    );
}

vectorised! {
    /// Takes out of `gradient` what lies along `w`, whose length is about 1.
    fn take_out(gradient: &mut [f32], w: &[f32]) {
        let square = dot(w, w);
        if square > 0.0 {
            let along = dot(gradient, w) / square;
            add_scaled(gradient, -along, w);
        }
    }
}

vectorised! {
    /// Brings `w` to length 1; nothing can be done for zeros.
    fn to_unit(w: &mut [f32]) {
        let norm = dot(w, w).sqrt();
        if norm > 0.0 {
            w.iter_mut().for_each(|w| *w /= norm);
        }
    }
}

/// The gradient of a whole row of `W_dec`.
fn gather_of_decoder(
    gradient: &mut [f32],
    streams: &[Stream<'_>],
    prefixes: &[usize],
    latent: usize,
) {
    for (strip, gradient) in gradient.chunks_mut(STRIP).enumerate() {
        let residuals = |stream| Stream::residuals_of(stream, prefixes, latent);
        gather(gradient, streams, latent, strip, residuals, Of::Value);
    }
}

/// `sum = Σ factor·row` over a strip of the rows that a latent's shares in all streams name.
#[inline(always)]
fn gather<'a>(
    sum: &mut [f32],
    streams: &'a [Stream<'a>],
    latent: usize,
    strip: usize,
    rows: impl Fn(&'a Stream<'a>) -> &'a Tiled,
    of: Of,
) {
    for (i, stream) in streams.iter().enumerate() {
        let code_grads = stream.code_grads.of(latent);
        if i == 0 {
            gather_one(sum, code_grads, rows(stream), strip, of);
        } else if !code_grads.is_empty() {
            let mut more = [0.0; STRIP];
            let more = &mut more[..sum.len()];
            gather_one(more, code_grads, rows(stream), strip, of);
            add_scaled(sum, 1.0, more);
        }
    }
}

/// Chunks of the latents that lie `at` some place in the arrays: their weights and moments.
fn rows_of<'a>(
    w: &'a mut [f32],
    moments: &'a mut Moments,
    d: usize,
    at: &Range<usize>,
) -> impl IndexedParallelIterator<Item = [&'a mut [f32]; 3]> + use<'a> {
    let [w, m, v] = [w, &mut moments.m, &mut moments.v].map(|array| &mut array[at.clone()]);
    let (m, v) = (m.par_chunks_mut(CHUNK * d), v.par_chunks_mut(CHUNK * d));
    w.par_chunks_mut(CHUNK * d).zip(m).zip(v).map(|((w, m), v)| [w, m, v])
}

/// Calls `f` with the columns of a strip of every row of a chunk, and its number. The next row's
/// are asked for ahead.
#[inline(always)]
fn for_each_piece(
    [w, m, v]: [&mut [f32]; 3],
    d: usize,
    strip: usize,
    mut f: impl FnMut(usize, [&mut [f32]; 3]),
) {
    let width = STRIP.min(d - strip * STRIP);
    for i in 0..w.len() / d {
        let at = i * d + strip * STRIP;
        if at + d < w.len() {
            [&w, &m, &v].into_iter().for_each(|rows| prefetch(&rows[at + d..][..width]));
        }
        f(i, [&mut w[at..][..width], &mut m[at..][..width], &mut v[at..][..width]]);
    }
}

/// Which factor a row is added with.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    Value,
    Gradient,
}

vectorised! {
    /// `sum = Σ factor·row` over a strip of the rows that the shares name. A full strip's sums stay
    /// in registers.
    fn gather_one(sum: &mut [f32], code_grads: &[CodeGrad], rows: &Tiled, strip: usize, of: Of) {
        let factor = |code_grad: &CodeGrad| if of == Of::Value { code_grad.value } else { code_grad.gradient };
        let ahead = |i: usize| {
            if let Some(next) = code_grads.get(i + 1) {
                prefetch(rows.piece(next.row as usize, strip));
            }
        };
        if let Ok(sum) = <&mut [f32; STRIP]>::try_from(&mut *sum) {
            let mut lanes = [0.0f32; STRIP];
            for (i, code_grad) in code_grads.iter().enumerate() {
                ahead(i);
                let factor = factor(code_grad);
                if let Ok(row) = <&[f32; STRIP]>::try_from(rows.piece(code_grad.row as usize, strip)) {
                    for lane in 0..STRIP {
                        lanes[lane] += factor * row[lane];
                    }
                }
            }
            *sum = lanes;
        } else {
            sum.fill(0.0);
            for code_grad in code_grads {
                add_scaled(sum, factor(code_grad), rows.piece(code_grad.row as usize, strip));
            }
        }
    }
}
