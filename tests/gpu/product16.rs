//! The product on the matrix units against naive ones, and what other kernels write for it to read.

use half::bf16;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokenized_sae::backend::gpu::{Argument, Shape};

use crate::emulated::{Emulator, kernels};
use crate::model::{address, random, without_barrier};

/// How the kernel's result is taken.
const WRITE: u32 = 0;
const ADD: u32 = 1;
const ROUND: u32 = 2;

fn whole(x: usize) -> Argument {
    Argument::U32(x as u32)
}

fn rounded(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    random(rng, n).into_iter().map(|x| bf16::from_f32(x).to_f32()).collect()
}

/// Rows of bf16 that begin at multiples of so many numbers, with `behind` in what is left; where 16
/// bytes begin.
fn rows_of(x: &[f32], width: usize, multiple: usize, behind: u16) -> Vec<u128> {
    let stride = width.next_multiple_of(multiple);
    let mut room = vec![0u128; x.len() / width * stride / 8];
    let rows = bytemuck::cast_slice_mut::<_, u16>(&mut room);
    rows.fill(behind);
    for (row, x) in rows.chunks_exact_mut(stride).zip(x.chunks_exact(width)) {
        row.iter_mut().zip(x).for_each(|(to, x)| *to = bf16::from_f32(*x).to_bits());
    }
    room
}

fn at<T>(room: &[T]) -> Argument {
    Argument::Address(room.as_ptr() as u64)
}

/// A product of numbers that bf16 has: `[n, depth]` times `[depth, width]`.
struct Product {
    shape: [usize; 3],
    x: Vec<f32>,
    /// `[width, depth]`
    w: Vec<f32>,
    bias: Vec<f32>,
    gate: Vec<f32>,
    /// What is there before.
    y: Vec<f32>,
}

impl Product {
    fn new(shape @ [n, depth, width]: [usize; 3]) -> Product {
        let mut rng = ChaCha8Rng::seed_from_u64((n * depth + width) as u64);
        Product {
            shape,
            x: rounded(&mut rng, n * depth),
            w: rounded(&mut rng, width * depth),
            bias: random(&mut rng, width.next_multiple_of(32)),
            gate: random(&mut rng, n * width),
            y: random(&mut rng, n * width),
        }
    }

    fn ends(&self, gated: bool, activation: u32, into: u32) -> [Argument; 6] {
        let [n, depth, width] = self.shape.map(whole);
        let gate = if gated { address(&self.gate) } else { Argument::Address(0) };
        [gate, n, depth, width, Argument::U32(activation), Argument::U32(into)]
    }

    fn grid(&self) -> Shape {
        let [n, _, width] = self.shape.map(|n| n.div_ceil(128) as u32);
        Shape { grid: [n, width], block: 256, shared: 0 }
    }

    /// By the kernel.
    fn launch(
        &self,
        emulator: &Emulator,
        [activation, into]: [u32; 2],
        gated: bool,
        seed: u64,
    ) -> Result<Vec<f32>, String> {
        const GUARD: f32 = 12345.0;
        let [_, depth, width] = self.shape;
        // Whatever lies behind a row counts for nothing.
        let x = rows_of(&self.x, depth, 8, bf16::NAN.to_bits());
        let w = rows_of(&self.w, depth, 32, 0);
        let mut y = match into {
            ROUND => rows_of(&self.y, width, 8, 0),
            _ => {
                let mut room = vec![0u128; self.y.len().div_ceil(4)];
                let numbers = bytemuck::cast_slice_mut::<_, f32>(&mut room);
                numbers.fill(GUARD);
                numbers[..self.y.len()].copy_from_slice(&self.y);
                room
            }
        };
        y.extend([0; 4]);
        let end = y.len() - 4;
        bytemuck::cast_slice_mut::<_, f32>(&mut y[end..]).fill(GUARD);
        let ends = self.ends(gated, activation, into);
        let arguments = [&[at(&x), at(&w), address(&self.bias)][..], &ends, &[at(&y)]].concat();
        emulator.launch("product16", self.grid(), &arguments, seed)?;
        let y = std::hint::black_box(y);
        assert!(bytemuck::cast_slice::<_, f32>(&y[end..]).iter().all(|x| *x == GUARD));
        if into == ROUND {
            let rows = bytemuck::cast_slice::<_, bf16>(&y[..end]);
            let rows = rows.chunks_exact(width.next_multiple_of(8));
            return Ok(rows.flat_map(|row| row[..width].iter().map(|x| x.to_f32())).collect());
        }
        let numbers = bytemuck::cast_slice::<_, f32>(&y[..end]);
        assert!(numbers[self.y.len()..].iter().all(|x| *x == GUARD));
        Ok(numbers[..self.y.len()].to_vec())
    }

    /// By the kernel in f32, from the same numbers.
    fn in_f32(&self, emulator: &Emulator, activation: u32, gated: bool) -> Vec<f32> {
        let [_, depth, width] = self.shape;
        let mut panels = vec![0f32; width.next_multiple_of(32) * depth];
        for (column, numbers) in self.w.chunks_exact(depth).enumerate() {
            for (k, x) in numbers.iter().enumerate() {
                panels[(column / 32 * depth + k) * 32 + column % 32] = *x;
            }
        }
        let y = self.y.clone();
        let ends = self.ends(gated, activation, WRITE);
        let (sizes, how) = ends.split_at(4);
        let begins = [address(&self.x), address(&panels), address(&self.bias)];
        let stretches = [whole(depth.div_ceil(768))];
        let arguments = [&begins[..], sizes, &stretches, how, &[address(&y)]].concat();
        emulator.launch("product", self.grid(), &arguments, 0).unwrap();
        std::hint::black_box(y)
    }

    /// What each sum may be off by: the unit cuts off every eight products, and what is larger than
    /// the sum of their sizes is none of them.
    fn slack(&self, row: usize, column: usize) -> f64 {
        let [_, depth, _] = self.shape;
        let pairs = self.x[row * depth..][..depth].iter().zip(&self.w[column * depth..][..depth]);
        let sizes: f64 = pairs.map(|(a, b)| f64::from((a * b).abs())).sum();
        (depth / 8 + 8) as f64 * 2f64.powi(-22) * (sizes + f64::from(self.bias[column].abs()))
    }

    fn assert_near(&self, what: &str, there: &[f32], want: impl Fn(usize, usize) -> f64) {
        let [_, _, width] = self.shape;
        for (i, there) in there.iter().enumerate() {
            let (row, column) = (i / width, i % width);
            let (want, slack) = (want(row, column), 2.0 * self.slack(row, column));
            let off = (f64::from(*there) - want).abs();
            assert!(
                off <= slack,
                "{what} {:?}, [{row}, {column}]: {there}, not {want}",
                self.shape
            );
        }
    }
}

const SHAPES: [[usize; 3]; 7] = [
    [1, 1, 1],
    [3, 7, 33],
    [129, 16, 130],
    [2, 768, 5],
    [5, 1601, 40],
    [130, 33, 129],
    [64, 72, 203],
];

#[test]
fn a_product_in_bf16_is_that_of_its_naive_twin() {
    let Some(emulator) = kernels() else { return };
    for shape in SHAPES {
        let product = Product::new(shape);
        let there = product.launch(emulator, [0, WRITE], false, 1).unwrap();
        product.assert_near("alone", &there, |row, column| {
            let (x, w) = (&product.x[row * shape[1]..], &product.w[column * shape[1]..]);
            let pairs = x.iter().zip(w).take(shape[1]);
            let sum: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            sum + f64::from(product.bias[column])
        });
    }
}

#[test]
fn a_product_in_bf16_ends_as_the_one_in_f32() {
    let Some(emulator) = kernels() else { return };
    for (seed, shape) in (0..).zip([[5, 24, 70], [130, 40, 33]]) {
        let product = Product::new(shape);
        for activation in 0..5 {
            for gated in [false, true] {
                let launch =
                    |into| product.launch(emulator, [activation, into], gated, seed).unwrap();
                let (written, want) = (launch(WRITE), product.in_f32(emulator, activation, gated));
                let what = format!("activation {activation}, gated {gated}");
                product.assert_near(&what, &written, |row, column| {
                    f64::from(want[row * shape[2] + column])
                });
                let sums: Vec<f32> = product.y.iter().zip(&written).map(|(y, x)| y + x).collect();
                assert_eq!(launch(ADD), sums, "{what}");
                let in_bf16: Vec<f32> =
                    written.iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
                assert_eq!(launch(ROUND), in_bf16, "{what}");
            }
        }
    }
}

#[test]
fn a_barrier_missing_from_a_product_in_bf16_is_found() {
    let product = Product::new([64, 170, 40]);
    let Some(emulator) = kernels() else { return };
    let want = product.launch(emulator, [0, WRITE], false, 0);
    assert!(want.is_ok());
    for nth in 0.. {
        let Some((name, sources)) = without_barrier("product16.cu", nth) else {
            assert_eq!(nth, 1);
            return;
        };
        let Some(emulator) = Emulator::load(&name, &sources) else { return };
        let outcome = |seed| product.launch(&emulator, [0, WRITE], false, seed);
        assert!((0..8).any(|seed| outcome(seed) != want), "barrier {nth}");
    }
}

#[test]
fn what_a_product_reads_is_rounded_as_it_is_written() {
    let Some(emulator) = kernels() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (n_ctx, n_heads, d_head, d) = (70, 2, 36, 72);
    let x = random(&mut rng, n_ctx * 3 * d);
    let [gain, bias] = [(); 2].map(|()| random(&mut rng, d));
    let both = |kernel, grid, arguments: &[Argument]| {
        let [single, halves] = [0, 1].map(|rounded| {
            let out = vec![0u128; n_ctx * d / 4];
            let arguments = [arguments, &[Argument::U32(rounded), at(&out)]].concat();
            let shape = Shape { grid, block: 256, shared: 0 };
            emulator.launch(kernel, shape, &arguments, 1).unwrap();
            std::hint::black_box(out)
        });
        let single: Vec<bf16> =
            bytemuck::cast_slice(&single).iter().map(|x| bf16::from_f32(*x)).collect();
        assert_eq!(&bytemuck::cast_slice::<_, bf16>(&halves)[..n_ctx * d], single, "{kernel}");
    };
    let [n, width] = [n_ctx, d].map(whole);
    let norm =
        [address(&x), address(&gain), address(&bias), n, width, whole(1), Argument::F32(1e-5)];
    both("normalise", [n_ctx.div_ceil(16) as u32, 1], &norm);
    let heads = [n_ctx, n_heads, 1, d_head].map(whole);
    let attention = [&[address(&x)][..], &heads, &[Argument::F32(0.3)]].concat();
    both("attend", [n_heads as u32, 2], &attention);
}
