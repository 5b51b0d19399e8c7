//! The two rows of a latent of an [aligned](crate::sae::SaeConfig::aligned) SAE.
//!
//! `W_dec` moves on the sphere, and `W_enc` where its inner product with `W_dec` is 1: as if a row of it
//! were `v + (1 − v·w)·w`, with `w` that of `W_dec`, and `v` what learns. Of a gradient `g` of that row,
//! `v` then receives what is not along `w`, and `w` receives `−(g·w)·v` besides its own. So both
//! gradients have to be there before either row moves.

use std::ops::Range;

use rayon::prelude::*;

use super::{CHUNK, Of, Stream, gather, gather_of_decoder, rows_of, take_out, to_unit};
use crate::backend::adam::{AdamStep, adam_row};
use crate::backend::cpu::tiled::{STRIP, Tiled};
use crate::backend::state::AdamState;
use crate::cpu::simd::{add_scaled, dot, vectorised};
use crate::sae::{Frozen, Sae};

/// Updates both matrices.
pub(super) fn update(
    sae: &mut Sae,
    state: &mut AdamState,
    streams: &[Stream<'_>],
    centred: &Tiled,
    adam: AdamStep,
    own: Range<usize>,
) {
    let d = sae.d_model();
    let (prefixes, decoder_learns) =
        (&sae.config.prefixes, sae.config.frozen != Some(Frozen::Decoder));
    let weights = own.start * d..own.end * d;
    let encoder = rows_of(&mut sae.w_enc, &mut state.w_enc, d, &weights);
    let decoder = rows_of(&mut sae.w_dec, &mut state.w_dec, d, &weights);
    encoder.zip(decoder).enumerate().for_each_init(
        || [vec![0.0; d], vec![0.0; d]],
        |[of_encoder, of_decoder], (chunk, (mut encoder, mut decoder))| {
            for i in 0..encoder[0].len() / d {
                let latent = own.start + chunk * CHUNK + i;
                for (strip, gradient) in of_encoder.chunks_mut(STRIP).enumerate() {
                    gather(gradient, streams, latent, strip, |_| centred, Of::Gradient);
                }
                gather_of_decoder(of_decoder, streams, prefixes, latent);
                let at = i * d..(i + 1) * d;
                let [w_enc, m_enc, v_enc] = encoder.each_mut().map(|rows| &mut rows[at.clone()]);
                let [w_dec, m_dec, v_dec] = decoder.each_mut().map(|rows| &mut rows[at.clone()]);
                hand_over(of_encoder, of_decoder, w_enc, w_dec);
                adam_row(adam, w_enc, m_enc, v_enc, of_encoder);
                if decoder_learns {
                    take_out(of_decoder, w_dec);
                    adam_row(adam, w_dec, m_dec, v_dec, of_decoder);
                    to_unit(w_dec);
                }
                to_plane(w_enc, w_dec);
            }
        },
    );
}

vectorised! {
    /// Takes out of the gradient of an aligned row of the encoder what lies along that of the decoder,
    /// which receives it.
    fn hand_over(of_encoder: &mut [f32], of_decoder: &mut [f32], w_enc: &[f32], w_dec: &[f32]) {
        let along = dot(of_encoder, w_dec);
        add_scaled(of_encoder, -along, w_dec);
        add_scaled(of_decoder, -along, w_enc);
    }
}

vectorised! {
    /// Brings `w` to the nearest place where its inner product with `of` is 1; there is none for zeros.
    fn to_plane(w: &mut [f32], of: &[f32]) {
        let square = dot(of, of);
        if square > 0.0 {
            let lacking = (1.0 - dot(w, of)) / square;
            add_scaled(w, lacking, of);
        }
    }
}
