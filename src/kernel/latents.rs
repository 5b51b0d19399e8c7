//! By latent: the gradient of a latent's two rows, formed in registers by one thread, and Adam on them at once.

use rayon::prelude::*;

use super::adam::{AdamStep, Moments, adam_row};
use super::step::Scratch;
use super::tiled::{STRIP, Tiled};
use super::{AdamState, Codes};
use crate::sae::Sae;
use crate::simd::{add_scaled, prefetch, vectorised};

/// Latents that one task takes; fixed, so that sums over latents are added in the same order on any number of threads.
const CHUNK: usize = 32;

/// A code as a latent sees it: its row, and what it gives to the gradient of the latent's weights.
#[derive(Clone, Copy, Default)]
pub(super) struct Share {
    row: u32,
    value: f32,
    gradient: f32,
}

/// Updates `W_enc`, `b_enc` and `W_dec`, and leaves `Σ_latent (gradient of its bias)·W_enc[latent]` in `scratch.through_encoder`:
/// what `b_dec` receives through the encoder, taken before the rows move.
pub(super) fn update(sae: &mut Sae, state: &mut AdamState, codes: &Codes, scratch: &mut Scratch, adam: AdamStep) {
    let d = sae.d_model();
    let k = codes.k();
    let by_latent = &scratch.by_latent;
    scratch.shares.resize(codes.latents().len(), Share::default());
    let share = |&code: &u32| {
        let code = code as usize;
        Share { row: (code / k) as u32, value: codes.values()[code], gradient: scratch.code_gradients[code] }
    };
    scratch.shares.par_iter_mut().zip(by_latent.all()).with_min_len(4096).for_each(|(to, code)| *to = share(code));
    let shares = |latent: usize| &scratch.shares[by_latent.range(latent)];

    let chunks = sae.d_sae().div_ceil(CHUNK);
    scratch.partial.clear();
    scratch.partial.resize(chunks * d, 0.0);
    for strip in 0..scratch.centred.strips() {
        let encoder = rows_of(&mut sae.w_enc, &mut state.w_enc, d);
        encoder.zip(scratch.partial.par_chunks_mut(d)).enumerate().for_each(|(chunk, (rows, through))| {
            for_each_piece(rows, d, strip, |i, [w, m, v]| {
                let shares = shares(chunk * CHUNK + i);
                let bias: f32 = shares.iter().map(|share| share.gradient).sum();
                if bias != 0.0 {
                    add_scaled(&mut through[strip * STRIP..][..w.len()], bias, w);
                }
                let mut gradient = [0.0; STRIP];
                gather(&mut gradient[..w.len()], shares, &scratch.centred, strip, Of::Gradient);
                adam_row(adam, w, m, v, &gradient[..w.len()]);
            });
        });
        rows_of(&mut sae.w_dec, &mut state.w_dec, d).enumerate().for_each(|(chunk, rows)| {
            for_each_piece(rows, d, strip, |i, [w, m, v]| {
                let mut gradient = [0.0; STRIP];
                gather(&mut gradient[..w.len()], shares(chunk * CHUNK + i), &scratch.residuals, strip, Of::Value);
                adam_row(adam, w, m, v, &gradient[..w.len()]);
            });
        });
    }
    let gradient: Vec<f32> = (0..sae.d_sae()).map(|latent| shares(latent).iter().map(|share| share.gradient).sum()).collect();
    adam_row(adam, &mut sae.b_enc, &mut state.b_enc.m, &mut state.b_enc.v, &gradient);

    scratch.through_encoder.clear();
    scratch.through_encoder.resize(d, 0.0);
    for partial in scratch.partial.chunks_exact(d) {
        add_scaled(&mut scratch.through_encoder, 1.0, partial);
    }
}

/// Chunks of latents: their weights and moments.
fn rows_of<'a>(w: &'a mut [f32], moments: &'a mut Moments, d: usize) -> impl IndexedParallelIterator<Item = [&'a mut [f32]; 3]> {
    let (m, v) = (moments.m.par_chunks_mut(CHUNK * d), moments.v.par_chunks_mut(CHUNK * d));
    w.par_chunks_mut(CHUNK * d).zip(m).zip(v).map(|((w, m), v)| [w, m, v])
}

/// Calls `f` with the columns of a strip of every row of a chunk, and its number. The next row's are asked for ahead.
#[inline(always)]
fn for_each_piece([w, m, v]: [&mut [f32]; 3], d: usize, strip: usize, mut f: impl FnMut(usize, [&mut [f32]; 3])) {
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
    /// `sum = Σ factor·row` over a strip of the rows that the shares name. A full strip's sums stay in registers.
    fn gather(sum: &mut [f32], shares: &[Share], rows: &Tiled, strip: usize, of: Of) {
        let factor = |share: &Share| if of == Of::Value { share.value } else { share.gradient };
        let ahead = |i: usize| {
            if let Some(next) = shares.get(i + 1) {
                prefetch(rows.piece(next.row as usize, strip));
            }
        };
        if let Ok(sum) = <&mut [f32; STRIP]>::try_from(&mut *sum) {
            let mut lanes = [0.0f32; STRIP];
            for (i, share) in shares.iter().enumerate() {
                ahead(i);
                let factor = factor(share);
                if let Ok(row) = <&[f32; STRIP]>::try_from(rows.piece(share.row as usize, strip)) {
                    for lane in 0..STRIP {
                        lanes[lane] += factor * row[lane];
                    }
                }
            }
            *sum = lanes;
        } else {
            sum.fill(0.0);
            for share in shares {
                add_scaled(sum, factor(share), rows.piece(share.row as usize, strip));
            }
        }
    }
}
