//! Products by tiles are what products are: held to sums in f64, for shapes that fit nothing.

use proptest::prelude::*;

use super::pack::{SHORT_STRETCH, STRETCH};
use super::*;

/// Numbers between −1 and 1.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32) / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// A product to be formed: rows, a matrix `[depth, width]`, and its bias.
struct Case {
    n: usize,
    depth: usize,
    width: usize,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn new(n: usize, depth: usize, width: usize) -> Case {
        Case {
            n,
            depth,
            width,
            x: noise(n * depth, 1),
            w: noise(depth * width, 2),
            bias: noise(width, 3),
        }
    }

    fn packed(&self) -> Packed {
        self.packed_for(STRETCH)
    }

    fn packed_for(&self, stretch: usize) -> Packed {
        let view = View {
            data: &self.w,
            depth: self.depth,
            width: self.width,
            row_stride: self.width,
            col_stride: 1,
        };
        Packed::new(view, Some(&self.bias), Precision::Single, RowWise::Nothing, stretch)
    }

    /// The sums in f64 of operands rounded as `compute` says, bias added.
    fn naive(&self, compute: Compute) -> Vec<f64> {
        let operand = |x: f32| {
            f64::from(if compute == Compute::Bf16 { bf16::widen(bf16::round(x)) } else { x })
        };
        let sum = |row: usize, column: usize| -> f64 {
            let products = (0..self.depth).map(|i| {
                operand(self.x[row * self.depth + i]) * operand(self.w[i * self.width + column])
            });
            products.sum::<f64>() + f64::from(self.bias[column])
        };
        (0..self.n)
            .flat_map(|row| (0..self.width).map(move |column| (row, column)))
            .map(|(row, column)| sum(row, column))
            .collect()
    }

    fn product(&self, packed: &Packed, compute: Compute) -> Vec<f32> {
        let mut y = vec![f32::NAN; self.n * self.width];
        packed.multiply(
            Rows::F32(&self.x),
            Out::Write(RowsMut::F32(&mut y)),
            Activation::None,
            compute,
        );
        y
    }
}

/// Each within what rounding of f32 sums allows.
fn close(got: &[f32], want: &[f64], depth: usize) -> bool {
    let allowed = 1e-6 * (depth as f64 + 4.0);
    got.len() == want.len()
        && got.iter().zip(want).all(|(got, want)| (f64::from(*got) - want).abs() <= allowed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_product_is_that_of_f64(n in 1usize..260, depth in 1usize..90, width in 1usize..120, stretch in 1usize..99) {
        if !has_tiles() {
            return Ok(());
        }
        let case = Case::new(n, depth, width);
        let packed = case.packed_for(stretch);
        for compute in [Compute::F32, Compute::Bf16] {
            prop_assert!(close(&case.product(&packed, compute), &case.naive(compute), depth), "{compute}");
        }
    }
}

#[test]
fn depths_of_several_stretches_and_rows_that_lie_badly_are_summed_whole() {
    if !has_tiles() {
        return;
    }
    for (n, depth, width) in
        [(3, 769, 40), (130, 2048, 33), (17, 3072, 65), (1, 1536, 7), (40, 512, 500), (2, 3001, 31)]
    {
        let case = Case::new(n, depth, width);
        let packed = case.packed();
        for compute in [Compute::F32, Compute::Bf16] {
            assert!(
                close(&case.product(&packed, compute), &case.naive(compute), depth),
                "{n} {depth} {width} {compute}"
            );
        }
    }
}

#[test]
fn shorter_stretches_are_closer() {
    if !has_tiles() {
        return;
    }
    let case = Case::new(64, 1536, 64);
    let want = case.naive(Compute::F32);
    let far = |stretch| {
        let got = case.product(&case.packed_for(stretch), Compute::F32);
        got.iter().zip(&want).map(|(got, want)| (f64::from(*got) - want).abs()).sum::<f64>()
    };
    let [short, long] = [SHORT_STRETCH, STRETCH].map(far);
    assert!(short < 0.7 * long, "{short} against {long}");
}

#[test]
fn neither_threads_nor_neighbours_change_a_bit() {
    if !has_tiles() {
        return;
    }
    for (n, depth, width) in [(300, 768, 200), (150, 1600, 100), (64, 96, 3000)] {
        let case = Case::new(n, depth, width);
        let packed = case.packed();
        for compute in [Compute::F32, Compute::Bf16] {
            let whole = case.product(&packed, compute);
            for threads in [1, 2, 3, 8] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(
                    pool.install(|| case.product(&packed, compute)),
                    whole,
                    "{threads} threads"
                );
            }
            for row in [0, 13, n - 1] {
                let mut alone = vec![0f32; width];
                let x = &case.x[row * depth..][..depth];
                packed.multiply(
                    Rows::F32(x),
                    Out::Write(RowsMut::F32(&mut alone)),
                    Activation::None,
                    compute,
                );
                assert_eq!(alone, whole[row * width..][..width], "row {row} alone");
            }
        }
    }
}

#[test]
fn what_is_written_added_or_rounded_is_the_same_product() {
    if !has_tiles() {
        return;
    }
    for (n, depth, width) in [(30, 70, 45), (15, 1600, 64), (20, 0, 5), (0, 8, 8)] {
        let case = Case::new(n, depth, width);
        let packed = case.packed();
        for activation in Activation::ALL {
            let mut written = case.product(&packed, Compute::F32);
            activation::bias_and_activate(&mut written, &[], activation);

            let before = noise(n * width, 9);
            let mut added = before.clone();
            packed.multiply(Rows::F32(&case.x), Out::Add(&mut added), activation, Compute::F32);
            assert!(
                added
                    .iter()
                    .zip(&before)
                    .zip(&written)
                    .all(|((sum, before), x)| *sum == before + x)
            );

            let mut pairs = vec![u32::MAX; n * width.div_ceil(2)];
            packed.multiply(
                Rows::F32(&case.x),
                Out::Write(RowsMut::Bf16(&mut pairs)),
                activation,
                Compute::F32,
            );
            let assert_rounded = |pairs: &[u32], rows: &[f32]| {
                for (row, pairs) in rows.chunks(width).zip(pairs.chunks(width.div_ceil(2))) {
                    let mut want = vec![0; pairs.len()];
                    bf16::pair_up(row, &mut want);
                    assert_eq!(pairs, want);
                }
            };
            assert_rounded(&pairs, &written);

            // What multiplies a number beyond the last column, if anything does, is no number.
            let mut gate = noise(n * width, 10);
            let first = gate.iter_mut().zip(&written).step_by(width);
            first.filter(|(_, x)| **x != 0.0).for_each(|(by, _)| *by = f32::INFINITY);
            let want: Vec<f32> = written.iter().zip(&gate).map(|(x, by)| x * by).collect();
            let mut gated = vec![0f32; n * width];
            let out = Out::Gated(&gate, RowsMut::F32(&mut gated));
            packed.multiply(Rows::F32(&case.x), out, activation, Compute::F32);
            assert_eq!(gated, want);
            let out = Out::Gated(&gate, RowsMut::Bf16(&mut pairs));
            packed.multiply(Rows::F32(&case.x), out, activation, Compute::F32);
            assert_rounded(&pairs, &want);
        }
        // Rows that are bf16 already.
        if has_bf16_tiles() {
            let words = depth.div_ceil(2);
            let mut pairs = vec![0u32; n * words];
            if words > 0 {
                pairs
                    .chunks_mut(words)
                    .zip(case.x.chunks(depth))
                    .for_each(|(pairs, x)| bf16::pair_up(x, pairs));
            }
            let mut y = vec![0f32; n * width];
            packed.multiply(
                Rows::Bf16(&pairs),
                Out::Write(RowsMut::F32(&mut y)),
                Activation::None,
                Compute::Bf16,
            );
            assert_eq!(y, case.product(&packed, Compute::Bf16));
        }
    }
}

/// A matrix that is kept in sixteen bits gives the bits of one that was widened and processed when
/// it was packed.
#[test]
fn sixteen_bits_give_the_products_of_the_f32_that_they_are() {
    if !has_tiles() {
        return;
    }
    for (n, depth, width) in [(1, 8, 5), (33, 769, 40), (130, 2048, 33), (5, 1537, 70), (20, 0, 5)]
    {
        let mut case = Case::new(n, depth, width);
        for precision in [Precision::F16, Precision::Bf16] {
            for w in &mut case.w {
                // Some are too small for a normal f16.
                let small = if w.to_bits() % 7 == 0 { *w * 1e-6 } else { *w };
                *w = match precision {
                    Precision::Bf16 => bf16::widen(bf16::round(small)),
                    _ => ::half::f16::from_f32(small).to_f32(),
                };
            }
            let by = noise(depth, 5);
            for row_wise in [RowWise::Nothing, RowWise::Times(by.clone()), RowWise::Minus(by)] {
                let view = |data| View { data, depth, width, row_stride: width, col_stride: 1 };
                let half = Packed::new(
                    view(&case.w),
                    Some(&case.bias),
                    precision,
                    row_wise.clone(),
                    SHORT_STRETCH,
                );
                let mut processed = case.w.clone();
                row_wise.apply(width, &mut processed);
                let whole = Packed::new(
                    view(&processed),
                    Some(&case.bias),
                    Precision::Single,
                    RowWise::Nothing,
                    SHORT_STRETCH,
                );
                for compute in [Compute::F32, Compute::Bf16] {
                    assert_eq!(
                        case.product(&half, compute),
                        case.product(&whole, compute),
                        "{n} {depth} {width} {precision:?} {compute}"
                    );
                }
            }
        }
    }
}

/// So what the one has made is not mixed with what the other has: see `activations/products.rs`.
#[test]
fn the_gemm_crate_gives_other_last_bits() {
    use super::portable::{Matrix, matmul};
    if !has_tiles() {
        return;
    }
    let (n, depth, width) = (32, 768, 64);
    let case = Case { bias: vec![0.0; width], ..Case::new(n, depth, width) };
    let (mut tiles, mut gemm) = (vec![0.0f32; n * width], vec![0.0f32; n * width]);
    let out = Out::Write(RowsMut::F32(&mut tiles));
    case.packed().multiply(Rows::F32(&case.x), out, Activation::None, Compute::F32);
    let matrix = |data, rows, cols| Matrix { data, rows, cols, row_stride: cols, col_stride: 1 };
    let (x, w) = (matrix(&case.x, n, depth), matrix(&case.w, depth, width));
    matmul(&mut gemm, width, x, w, 1.0, ::gemm::Parallelism::None);
    let far = tiles.iter().zip(&gemm).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far > 0.0 && far < 1e-4, "{far}");
}
