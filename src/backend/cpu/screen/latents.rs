//! The encoder, packed for screening: once a step, since every step moves it.

use rayon::prelude::*;

use super::rows::{Rounded, largest, norm, to_bf16, to_bytes};
use super::{BYTE, Exactness, PackedRows, Screen, TOO_LARGE, UNIFORM, UNIT_ROUNDOFF};
use crate::backend::cpu::encoder::Encoder;
use crate::cpu::simd::tile::PANEL;
use crate::cpu::simd::{dot, vectorised};

/// What a screen needs to know about the 32 latents of a panel besides their numbers.
#[derive(Clone)]
#[repr(C, align(64))]
pub(crate) struct PanelScale {
    /// Of a byte.
    pub step: [f32; PANEL],
    /// `(μ − b_dec)·w + b`, less the latent's threshold; −∞ for columns beyond the last latent, so
    /// that they are never taken.
    pub bias: [f32; PANEL],
    /// The margin is `√(a²·p² + b²·q²)`.
    pub p: [f32; PANEL],
    /// See `p`.
    pub q: [f32; PANEL],
    /// `‖w‖`, outliers included, times the bound on the rounding of sums.
    pub norm: [f32; PANEL],
    /// What the rounding of the bias may add.
    pub slack: [f32; PANEL],
    /// The largest of p, q, norm and slack: what bounds the margin of any latent of the panel.
    pub most: [f32; 4],
}

impl PanelScale {
    const EMPTY: PanelScale = PanelScale {
        step: [0.0; PANEL],
        bias: [f32::NEG_INFINITY; PANEL],
        p: [0.0; PANEL],
        q: [0.0; PANEL],
        norm: [0.0; PANEL],
        slack: [0.0; PANEL],
        most: [0.0; 4],
    };
}

/// The rows of `W_enc` in panels of 32, in the numbers of a screen. The buffers serve again.
pub(crate) struct PackedLatents {
    /// `[panels, words, 32]`.
    pub data: Vec<u32>,
    pub scales: Vec<PanelScale>,
    /// The outlier coordinates, in f32: `[panels, outliers, 32]`.
    pub outlier_values: Vec<f32>,
    /// `μ − b_dec`, and its norm.
    offset: Vec<f32>,
    pub offset_norm: f32,
    /// Whether every latent can be screened: none has a weight or bias that is not finite, or too
    /// large to be squared.
    pub is_finite: bool,
}

impl Default for PackedLatents {
    fn default() -> Self {
        let (data, scales, outlier_values, offset) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        PackedLatents { data, scales, outlier_values, offset, offset_norm: 0.0, is_finite: false }
    }
}

impl PackedLatents {
    /// Packs the encoder for these rows, whose mean and outliers it shares.
    pub(crate) fn fill(&mut self, encoder: Encoder<'_>, rows: &PackedRows) {
        let (d, words, n_out) = (encoder.d(), rows.words, rows.outliers.len());
        let panels = encoder.d_sae().div_ceil(PANEL);
        self.offset.clear();
        self.offset.extend(rows.mean.iter().zip(encoder.b_dec).map(|(mean, b)| mean - b));
        self.offset_norm = norm(&self.offset);
        self.data.resize(panels * words * PANEL, 0);
        self.scales.resize(panels, PanelScale::EMPTY);
        self.outlier_values.resize(panels * n_out * PANEL, 0.0);

        let offset = &self.offset;
        let rounding = rows.screen.rounding(d);
        let weights = encoder.w.par_chunks(PANEL * d).zip(encoder.b.par_chunks(PANEL)).enumerate();
        let data = self.data.par_chunks_mut(PANEL * words).zip(&mut self.scales);
        self.is_finite = weights
            .zip(data)
            .map_init(
                || (vec![0.0; words * rows.screen.per_word()], vec![0u32; PANEL * words]),
                |(row, packed), ((panel, (w_enc, b_enc)), (data, scale))| {
                    *scale = PanelScale::EMPTY;
                    let mut is_finite = true;
                    for (j, (w, &b)) in w_enc.chunks_exact(d).zip(b_enc).enumerate() {
                        let (moved, threshold) =
                            (offset_dot(offset, w), encoder.threshold(panel * PANEL + j));
                        scale.bias[j] = moved + b - threshold;
                        scale.norm[j] = norm(w) * rounding;
                        scale.slack[j] =
                            8.0 * UNIT_ROUNDOFF * (moved.abs() + b.abs() + threshold.abs());
                        row[..d].copy_from_slice(w);
                        rows.outliers.iter().for_each(|&i| row[i] = 0.0);
                        (scale.step[j], scale.p[j], scale.q[j]) = pack_latent(
                            row,
                            &mut packed[j * words..][..words],
                            rows.screen,
                            rows.exactness,
                        );
                        is_finite &= [scale.bias[j], scale.norm[j], scale.p[j], scale.q[j]]
                            .iter()
                            .all(|v| v.abs() < TOO_LARGE);
                    }
                    transpose(packed, words, data);
                    scale.most = [&scale.p, &scale.q, &scale.norm, &scale.slack]
                        .map(|values| values.iter().copied().fold(0.0, f32::max));
                    is_finite
                },
            )
            .reduce(|| true, |a, b| a & b)
            && self.offset_norm < TOO_LARGE;

        if n_out > 0 {
            self.outlier_values
                .par_chunks_mut(n_out * PANEL)
                .zip(encoder.w.par_chunks(PANEL * d))
                .for_each(|(values, w_enc)| {
                    for (values, &i) in values.chunks_exact_mut(PANEL).zip(&rows.outliers) {
                        values
                            .iter_mut()
                            .zip(w_enc.chunks_exact(d))
                            .for_each(|(value, w)| *value = w[i]);
                    }
                });
        }
    }
}

/// Rounds a latent's weights, outliers set to 0, into `words`. Returns step, p and q.
///
/// Bytes of a panel are unsigned: 128 is added to each, and what that brings into a product is 128
/// times the sum of the row's bytes.
fn pack_latent(
    w: &[f32],
    words: &mut [u32],
    screen: Screen,
    exactness: Exactness,
) -> (f32, f32, f32) {
    match (screen, exactness) {
        (Screen::Int8, _) => {
            let step = largest(w) / BYTE;
            let Rounded { error, .. } = to_bytes(w, step, bytemuck::cast_slice_mut(words));
            words.iter_mut().for_each(|word| *word ^= 0x8080_8080);
            let noise = if exactness == Exactness::Proven { error } else { step * UNIFORM };
            (step, norm(w), noise)
        }
        (Screen::Bf16, _) => {
            let rounded = to_bf16(w, bytemuck::cast_slice_mut(words));
            match exactness {
                Exactness::Proven => (0.0, norm(w), rounded.error),
                Exactness::Statistical => (0.0, rounded.four_norm.sqrt(), 0.0),
            }
        }
        (Screen::F32 | Screen::Portable, _) => {
            words.copy_from_slice(bytemuck::cast_slice(w));
            (0.0, 0.0, 0.0)
        }
    }
}

vectorised! {
    /// `[32, words]` to `[words, 32]`.
    fn transpose(from: &[u32], words: usize, to: &mut [u32]) {
        let (to, _) = to.as_chunks_mut::<PANEL>();
        for (word, to) in to.iter_mut().enumerate() {
            for j in 0..PANEL {
                to[j] = from[j * words + word];
            }
        }
    }
}

vectorised! {
    fn offset_dot(offset: &[f32], w: &[f32]) -> f32 {
        dot(offset, w)
    }
}
