//! A batch of rows, packed for screening: once for all SAEs that train on it.

use rayon::prelude::*;

use super::{BF16_NOISE, BYTE, Exactness, Screen, TO_INTEGER, TOO_LARGE, UNIFORM};
use crate::backend::cpu::encoder::BLOCK;
use crate::cpu::matmul::bf16;
use crate::cpu::simd::tile::ROWS;
use crate::cpu::simd::{add_scaled, dot, total, vectorised};

/// Coordinates that leave the 8-bit product at most.
const MAX_OUTLIERS: usize = 32;

/// A coordinate is an outlier if its standard deviation is more than this many times the median
/// coordinate's. Gaussian rows have a largest coordinate of 3 to 3.5 standard deviations, so that
/// up to here an outlier hardly stretches the scale.
const OUTLIER: f32 = 3.0;

/// What a screen needs to know about a tile's rows besides their numbers; sixteen places, of which
/// [`ROWS`] are taken.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct TileScale {
    /// Of a byte.
    pub step: [f32; 16],
    /// 128 times the sum of the row's bytes, which the unsigned bytes of the panel bring in.
    pub shift: [i32; 16],
    /// The margin is `√(a²·p² + b²·q²)`.
    pub a: [f32; 16],
    /// See `a`.
    pub b: [f32; 16],
    /// `‖x − μ‖`.
    pub norm: [f32; 16],
}

/// The same of one row.
#[derive(Clone, Copy, Default)]
struct RowScale {
    step: f32,
    shift: i32,
    a: f32,
    b: f32,
    norm: f32,
}

impl TileScale {
    fn set(&mut self, i: usize, row: RowScale) {
        (self.step[i], self.shift[i], self.a[i], self.b[i], self.norm[i]) =
            (row.step, row.shift, row.a, row.b, row.norm);
    }
}

/// Rows `[n, d]` less their mean, in the numbers of a screen.
pub(crate) struct PackedRows {
    pub screen: Screen,
    pub exactness: Exactness,
    /// Words a row.
    pub words: usize,
    /// `[n rounded up to whole tiles, words]`; with [`Screen::Portable`], the numbers themselves.
    pub data: Vec<u32>,
    /// `[tiles]`
    pub scales: Vec<TileScale>,
    pub mean: Vec<f32>,
    /// Coordinates in ascending order.
    pub outliers: Vec<usize>,
    /// The rows' outliers, `[n rounded up, outliers]`.
    pub outlier_values: Vec<f32>,
}

impl PackedRows {
    /// Whether row `i` can be screened: its bounds are numbers.
    pub(crate) fn is_finite(&self, i: usize) -> bool {
        let (tile, i) = (&self.scales[i / ROWS], i % ROWS);
        [tile.norm[i], tile.a[i], tile.b[i]].iter().all(|v| v.abs() < TOO_LARGE)
    }

    pub(crate) fn new(x: &[f32], d: usize, screen: Screen, exactness: Exactness) -> PackedRows {
        let n = x.len() / d;
        let padded = n.next_multiple_of(ROWS);
        let words = screen.words(d);
        let (mean, deviation) = moments(x, d);
        let outliers = if screen == Screen::Int8 { find_outliers(&deviation) } else { Vec::new() };
        let n_out = outliers.len();
        let mut packed = PackedRows {
            screen,
            exactness,
            words,
            data: vec![0; padded * words],
            scales: vec![TileScale::default(); padded / ROWS],
            outlier_values: vec![0.0; padded * n_out],
            mean,
            outliers,
        };
        let (mean, outliers) = (&packed.mean, &packed.outliers);
        packed.data[..n * words]
            .par_chunks_mut(BLOCK * words)
            .zip(packed.scales.par_chunks_mut(BLOCK / ROWS))
            .enumerate()
            .for_each_init(
                || vec![0.0; words * screen.per_word()],
                |row, (block, (data, scales))| {
                    let x = x[block * BLOCK * d..].chunks_exact(d);
                    for (i, (x, data)) in x.zip(data.chunks_exact_mut(words)).enumerate() {
                        row.iter_mut()
                            .zip(x)
                            .zip(mean)
                            .for_each(|((row, x), mean)| *row = x - mean);
                        scales[i / ROWS]
                            .set(i % ROWS, pack_row(row, outliers, data, screen, exactness));
                    }
                },
            );
        if n_out > 0 {
            for (values, x) in packed.outlier_values.chunks_exact_mut(n_out).zip(x.chunks_exact(d))
            {
                values.iter_mut().zip(outliers).for_each(|(value, &i)| *value = x[i] - mean[i]);
            }
        }
        packed
    }
}

/// Rounds a row (padded with zeros to a multiple of 16) into `data`. Outliers count for the norm
/// and are set to 0 before the rest is rounded.
fn pack_row(
    row: &mut [f32],
    outliers: &[usize],
    data: &mut [u32],
    screen: Screen,
    exactness: Exactness,
) -> RowScale {
    let norm = norm(row);
    outliers.iter().for_each(|&i| row[i] = 0.0);
    let c = exactness.factor();
    match screen {
        Screen::Int8 => {
            let step = largest(row) / BYTE;
            let rounded = to_bytes(row, step, bytemuck::cast_slice_mut(data));
            let noise = match exactness {
                Exactness::Proven => rounded.error,
                Exactness::Statistical => step * UNIFORM,
            };
            RowScale { step, shift: 128 * rounded.sum, a: c * noise, b: c * rounded.norm, norm }
        }
        Screen::Bf16 => {
            let rounded = to_bf16(row, bytemuck::cast_slice_mut(data));
            let (a, b) = match exactness {
                Exactness::Proven => (c * rounded.error, c * rounded.norm),
                Exactness::Statistical => {
                    (c * std::f32::consts::SQRT_2 * BF16_NOISE * rounded.four_norm.sqrt(), 0.0)
                }
            };
            RowScale { a, b, norm, ..RowScale::default() }
        }
        Screen::F32 | Screen::Portable => {
            data.copy_from_slice(bytemuck::cast_slice(row));
            RowScale { norm, ..RowScale::default() }
        }
    }
}

/// What rounding a vector did to it.
#[derive(Clone, Copy, Default)]
pub(super) struct Rounded {
    /// The norm of the rounded vector.
    pub norm: f32,
    /// The norm of the difference.
    pub error: f32,
    /// `√Σ x⁴`, of the vector as it was.
    pub four_norm: f32,
    /// The sum of the bytes.
    pub sum: i32,
}

vectorised! {
    /// Rounds to whole multiples of `step`, at most 127 of them. Lengths are multiples of 16.
    pub(super) fn to_bytes(x: &[f32], step: f32, bytes: &mut [u8]) -> Rounded {
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        let mut sums = [0i32; 16];
        let (mut squares, mut errors) = ([0.0f32; 16], [0.0f32; 16]);
        for (x, bytes) in x.as_chunks::<16>().0.iter().zip(bytes.as_chunks_mut::<16>().0) {
            for i in 0..16 {
                let shifted = x[i] * inverse + TO_INTEGER;
                let rounded = (shifted - TO_INTEGER) * step;
                bytes[i] = shifted.to_bits() as u8;
                sums[i] += shifted.to_bits() as u8 as i8 as i32;
                squares[i] += rounded * rounded;
                errors[i] += (rounded - x[i]) * (rounded - x[i]);
            }
        }
        let root = |lanes| total(lanes).sqrt();
        Rounded { norm: root(squares), error: root(errors), four_norm: 0.0, sum: std::hint::black_box(sums).iter().sum() }
    }
}

vectorised! {
    /// Rounds to the nearest bf16. Lengths are multiples of 16.
    pub(super) fn to_bf16(x: &[f32], out: &mut [u16]) -> Rounded {
        let (mut squares, mut errors, mut fourths) = ([0.0f32; 16], [0.0f32; 16], [0.0f32; 16]);
        for (x, out) in x.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<16>().0) {
            for i in 0..16 {
                out[i] = bf16::round(x[i]);
                let rounded = bf16::widen(out[i]);
                squares[i] += rounded * rounded;
                errors[i] += (rounded - x[i]) * (rounded - x[i]);
                fourths[i] += (x[i] * x[i]) * (x[i] * x[i]);
            }
        }
        let root = |lanes| total(lanes).sqrt();
        Rounded { norm: root(squares), error: root(errors), four_norm: root(fourths), sum: 0 }
    }
}

vectorised! {
    /// `‖x‖`.
    pub(super) fn norm(x: &[f32]) -> f32 {
        dot(x, x).sqrt()
    }
}

vectorised! {
    /// The largest `|x|` of a multiple of 16.
    pub(super) fn largest(x: &[f32]) -> f32 {
        let mut most = [0.0f32; 16];
        for x in x.as_chunks::<16>().0 {
            for i in 0..16 {
                let size = x[i].abs();
                most[i] = if size > most[i] { size } else { most[i] };
            }
        }
        std::hint::black_box(most).iter().fold(0.0, |a, &b| a.max(b))
    }
}

vectorised! {
    /// `sum += x`, `squares += x²`.
    fn add_moments(sum: &mut [f32], squares: &mut [f32], x: &[f32]) {
        for ((sum, square), x) in sum.iter_mut().zip(squares).zip(x) {
            *sum += x;
            *square += x * x;
        }
    }
}

/// The mean and the standard deviation of every coordinate over the finite rows, about: they decide
/// what is fast, not what is right.
fn moments(x: &[f32], d: usize) -> (Vec<f32>, Vec<f32>) {
    let parts: Vec<(Vec<f32>, Vec<f32>, usize)> = x
        .par_chunks(BLOCK * d)
        .map(|block| {
            let (mut sum, mut squares, mut n) = (vec![0.0; d], vec![0.0; d], 0);
            for row in block.chunks_exact(d).filter(|row| norm(row).is_finite()) {
                add_moments(&mut sum, &mut squares, row);
                n += 1;
            }
            (sum, squares, n)
        })
        .collect();
    let (mut mean, mut deviation, mut n) = (vec![0.0; d], vec![0.0; d], 0);
    for (sum, squares, rows) in &parts {
        add_scaled(&mut mean, 1.0, sum);
        add_scaled(&mut deviation, 1.0, squares);
        n += rows;
    }
    let n = n.max(1) as f32;
    for (mean, square) in mean.iter_mut().zip(&mut deviation) {
        *mean /= n;
        *square = (*square / n - *mean * *mean).max(0.0).sqrt();
    }
    (mean, deviation)
}

fn find_outliers(deviation: &[f32]) -> Vec<usize> {
    let mut sorted = deviation.to_vec();
    let (_, &mut median, _) = sorted.select_nth_unstable_by(deviation.len() / 2, f32::total_cmp);
    let mut outliers: Vec<usize> =
        (0..deviation.len()).filter(|&i| deviation[i] > OUTLIER * median).collect();
    outliers.sort_by(|&a, &b| deviation[b].total_cmp(&deviation[a]));
    outliers.truncate(MAX_OUTLIERS);
    outliers.sort_unstable();
    outliers
}
