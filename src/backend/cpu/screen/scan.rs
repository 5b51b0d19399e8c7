//! The scan on AVX-512: tiles of scores, and of those what reaches its row's threshold.
//!
//! For a panel of 32 latents and 14 rows at a time, the tile leaves its sums in registers. There
//! they become estimates, get their margins, and are compared with the rows' thresholds, sixteen at a
//! time; nothing is stored unless a comparison succeeds, which after the first few panels is rare
//! (some `k ln(d_sae / k)` times a row in all).
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::candidates::BURST;
use super::latents::PanelScale;
use super::rows::TileScale;
use super::{Candidates, PackedLatents, PackedRows, Screen};
use crate::cpu::simd::tile::{PANEL, ROWS, bf16_tile, f32_tile, int8_tile};

/// Offers every latent's score for the rows `from..from + lists.len()` to their lists. `from` is a
/// multiple of 14.
///
/// # Panics
/// If the processor lacks the instructions of the rows' screen.
pub(crate) fn scan(
    rows: &PackedRows,
    from: usize,
    latents: &PackedLatents,
    lists: &mut [Candidates],
) {
    assert!(rows.screen.is_supported() && from.is_multiple_of(ROWS));
    let (words, n_out) = (rows.words, rows.outliers.len());
    assert!(lists.len().next_multiple_of(ROWS) * words + from * words <= rows.data.len());
    assert!(
        latents.data.len() == latents.scales.len() * PANEL * words
            && latents.outlier_values.len() == latents.scales.len() * PANEL * n_out
    );
    // SAFETY: the processor has the features (asserted), and the packed arrays hold whole tiles and
    // panels (asserted).
    unsafe {
        match rows.screen {
            Screen::Int8 => scan_int8(rows, from, latents, lists),
            Screen::Bf16 => scan_bf16(rows, from, latents, lists),
            Screen::F32 => scan_f32(rows, from, latents, lists),
            Screen::Portable => unreachable!("the portable screen has a scan of its own"),
        }
    }
}

macro_rules! scan {
    ($name:ident, $features:literal, $tile:ident, |$sums:ident, $step:ident, $shift:ident, $columns:ident| $estimate:expr) => {
        /// # Safety
        /// Those of the tile.
        #[target_feature(enable = $features)]
        unsafe fn $name(
            rows: &PackedRows,
            from: usize,
            latents: &PackedLatents,
            lists: &mut [Candidates],
        ) {
            let (words, n_out) = (rows.words, rows.outliers.len());
            for (panel, scale) in latents.scales.iter().enumerate() {
                let data = latents.data[panel * PANEL * words..][..PANEL * words].as_ptr();
                let next = data.wrapping_add(PANEL * words);
                let panel_outliers =
                    &latents.outlier_values[panel * PANEL * n_out..][..PANEL * n_out];
                for (group, lists) in lists.chunks_mut(ROWS).enumerate() {
                    let first = from + group * ROWS;
                    let tile_scale = &rows.scales[first / ROWS];
                    // SAFETY: whole tiles lie in `rows.data`, whole panels in `latents.data`.
                    let tile = unsafe {
                        $tile::<ROWS>(
                            rows.data[first * words..].as_ptr(),
                            words,
                            data,
                            words,
                            next.wrapping_add(4 * words * group),
                        )
                    };
                    let slack = slack(tile_scale, scale, latents.offset_norm);
                    for (r, list) in lists.iter_mut().enumerate() {
                        let threshold = _mm512_set1_ps(list.threshold() - slack[r]);
                        let $step = _mm512_set1_ps(tile_scale.step[r]);
                        let $shift = _mm512_set1_epi32(tile_scale.shift[r]);
                        let outliers = &rows.outlier_values[(first + r) * n_out..][..n_out];
                        for (side, &$sums) in tile[r].iter().enumerate() {
                            let left = side * PANEL / 2;
                            let $columns = Columns { scale, left };
                            let mut estimate: __m512 = $estimate;
                            for (&x, w) in outliers.iter().zip(panel_outliers.chunks_exact(PANEL)) {
                                // SAFETY: `left + 16` is at most the length of a chunk.
                                let w = unsafe { _mm512_loadu_ps(w.as_ptr().add(left)) };
                                estimate = _mm512_fmadd_ps(_mm512_set1_ps(x), w, estimate);
                            }
                            if _mm512_cmp_ps_mask::<_CMP_GE_OQ>(estimate, threshold) != 0 {
                                offer(
                                    list,
                                    tile_scale,
                                    r,
                                    &$columns,
                                    estimate,
                                    latents.offset_norm,
                                    (panel * PANEL + left) as u32,
                                );
                            }
                        }
                    }
                }
            }
        }
    };
}

scan!(
    scan_int8,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2",
    int8_tile,
    |sums, step, shift, columns| {
        let whole = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, shift));
        _mm512_fmadd_ps(
            _mm512_mul_ps(whole, step),
            columns.load(|scale| &scale.step),
            columns.load(|scale| &scale.bias),
        )
    }
);
scan!(
    scan_bf16,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2",
    bf16_tile,
    |sums, _step, _shift, columns| { _mm512_add_ps(sums, columns.load(|scale| &scale.bias)) }
);
scan!(
    scan_f32,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2",
    f32_tile,
    |sums, _step, _shift, columns| { _mm512_add_ps(sums, columns.load(|scale| &scale.bias)) }
);

/// A margin that none of a row's latents in a panel exceeds: linear in what the margin takes the
/// root of, so that it costs four multiplications for all rows of a tile.
#[inline]
#[target_feature(enable = "avx512f")]
fn slack(rows: &TileScale, panel: &PanelScale, offset_norm: f32) -> [f32; 16] {
    let [p, q, norm, slack] = panel.most.map(|v| _mm512_set1_ps(v));
    // SAFETY: each array holds sixteen numbers.
    let [a, b, norms] =
        [&rows.a, &rows.b, &rows.norm].map(|values| unsafe { _mm512_loadu_ps(values.as_ptr()) });
    let noise = _mm512_fmadd_ps(a, p, _mm512_mul_ps(b, q));
    let most =
        _mm512_add_ps(noise, _mm512_fmadd_ps(rounded_norms(norms, offset_norm), norm, slack));
    let mut out = [0.0; 16];
    // A little more, for the rounding of these sums themselves.
    // SAFETY: sixteen numbers.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_mul_ps(most, _mm512_set1_ps(1.0 + 1e-5))) };
    out
}

/// The norms of x − μ and of μ − b_dec bound that of x − b_dec, whose product with w the exact
/// score is: this bounds all three.
#[inline]
#[target_feature(enable = "avx512f")]
fn rounded_norms(norms: __m512, offset_norm: f32) -> __m512 {
    _mm512_mul_ps(_mm512_set1_ps(2.0), _mm512_add_ps(norms, _mm512_set1_ps(offset_norm)))
}

/// Half a panel's scales.
struct Columns<'a> {
    scale: &'a PanelScale,
    left: usize,
}

impl Columns<'_> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(&self, which: impl Fn(&PanelScale) -> &[f32; PANEL]) -> __m512 {
        // SAFETY: `left` is 0 or 16, and the arrays hold 32.
        unsafe { _mm512_loadu_ps(which(self.scale)[self.left..self.left + 16].as_ptr()) }
    }
}

/// Takes into the list what of sixteen estimates reaches the threshold with a margin of its own.
#[inline(never)]
#[target_feature(enable = "avx512f")]
fn offer(
    list: &mut Candidates,
    rows: &TileScale,
    r: usize,
    columns: &Columns<'_>,
    estimate: __m512,
    offset_norm: f32,
    first: u32,
) {
    /// `rsqrt14` errs by up to 2⁻¹⁴: so much and more is added to the root made of it.
    const ROOT: f32 = 1.0 + 1.0 / 8192.0;
    let a = _mm512_mul_ps(_mm512_set1_ps(rows.a[r]), columns.load(|scale| &scale.p));
    let b = _mm512_mul_ps(_mm512_set1_ps(rows.b[r]), columns.load(|scale| &scale.q));
    // A square of 0 would give 0·∞.
    let square = _mm512_max_ps(
        _mm512_fmadd_ps(a, a, _mm512_mul_ps(b, b)),
        _mm512_set1_ps(f32::MIN_POSITIVE),
    );
    let noise =
        _mm512_mul_ps(_mm512_mul_ps(square, _mm512_rsqrt14_ps(square)), _mm512_set1_ps(ROOT));
    let norms = rounded_norms(_mm512_set1_ps(rows.norm[r]), offset_norm);
    let rounding = _mm512_fmadd_ps(
        norms,
        columns.load(|scale| &scale.norm),
        columns.load(|scale| &scale.slack),
    );
    let margin = _mm512_add_ps(noise, rounding);
    let (upper, lower) = (_mm512_add_ps(estimate, margin), _mm512_sub_ps(estimate, margin));
    let reaches = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(upper, _mm512_set1_ps(list.threshold()));
    let latents = _mm512_add_epi32(
        _mm512_set1_epi32(first as i32),
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    );
    let (to_upper, to_lower, to_latents) = list.next();
    const { assert!(BURST == 16) };
    // SAFETY: each place holds sixteen numbers.
    unsafe {
        _mm512_storeu_ps(to_upper.as_mut_ptr(), _mm512_maskz_compress_ps(reaches, upper));
        _mm512_storeu_ps(to_lower.as_mut_ptr(), _mm512_maskz_compress_ps(reaches, lower));
        _mm512_storeu_si512(
            to_latents.as_mut_ptr().cast(),
            _mm512_maskz_compress_epi32(reaches, latents),
        );
    }
    list.pushed(reaches.count_ones() as usize);
}
