//! The ladder of `ladder.cu`, rung by rung, on the same bytes: three rungs form the scores of a
//! plain product, and so one another's; the fourth, the crate's own `screen`, lists what they define.

use bytemuck::Pod;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokenized_sae::backend::gpu::{
    Argument::{self, Address},
    Driver, Shape,
};

use crate::emulated::Emulated;

/// `d`, `n`, `d_sae` and `k`: one that fits every tile, and others that fit none.
const SIZES: [[usize; 4]; 6] = [
    [1, 1, 3, 1],
    [64, 128, 256, 8],
    [7, 67, 129, 2],
    [33, 130, 1331, 5],
    [200, 5, 70, 70],
    [129, 65, 700, 11],
];

/// What leaves the 8-bit product has so many places for every row and latent.
const OUTLIERS: usize = 32;

/// Rows and latents in bytes.
struct Packed {
    n: usize,
    d_sae: usize,
    width: usize,
    rows: Vec<i8>,    // [n, width]
    latents: Vec<i8>, // [d_sae, width]
}

impl Packed {
    /// Any bytes, and zeros from `d` on.
    fn random([d, n, d_sae, _]: [usize; 4], rng: &mut ChaCha8Rng) -> Packed {
        let width = d.next_multiple_of(64);
        let mut bytes = |rows: usize| {
            (0..rows * width)
                .map(|i| if i % width < d { rng.random_range(-127..=127) } else { 0 })
                .collect()
        };
        Packed { n, d_sae, width, rows: bytes(n), latents: bytes(d_sae) }
    }

    /// All scores `[n, d_sae]`, by Rust.
    fn product(&self) -> Vec<i32> {
        let dot = |a: &[i8], b: &[i8]| a.iter().zip(b).map(|(&a, &b)| a as i32 * b as i32).sum();
        let latents = || self.latents.chunks(self.width);
        let of_row = |row| latents().map(move |latent| dot(row, latent));
        self.rows.chunks(self.width).flat_map(of_row).collect()
    }

    /// The same, by a rung with tiles of so many latents by so many rows.
    fn scores(&self, device: &Emulated, rung: &str, tile: [usize; 2]) -> Vec<i32> {
        let &Packed { n, d_sae, width, .. } = self;
        let scores = device.allocate(4 * n * d_sae).unwrap();
        let arguments = [
            Address(upload(device, &self.rows)),
            Address(upload(device, &self.latents)),
            n.into(),
            d_sae.into(),
            width.into(),
            Address(scores),
        ];
        launch(device, rung, [d_sae.div_ceil(tile[0]), n.div_ceil(tile[1])], &arguments);
        download(device, scores, n * d_sae)
    }
}

fn upload<T: Pod>(device: &Emulated, data: &[T]) -> u64 {
    let address = device.allocate(size_of_val(data)).unwrap();
    device.write(address, bytemuck::cast_slice(data)).unwrap();
    address
}

fn download<T: Pod>(device: &Emulated, address: u64, len: usize) -> Vec<T> {
    let mut data = vec![T::zeroed(); len];
    device.read(address, bytemuck::cast_slice_mut(&mut data)).unwrap();
    data
}

/// All kernels of the ladder have blocks of 256 threads.
fn launch(device: &Emulated, kernel: &str, grid: [usize; 2], arguments: &[Argument]) {
    let grid = grid.map(|blocks| blocks as u32);
    device.launch(kernel, Shape { grid, block: 256, shared: 0 }, arguments).unwrap();
}

/// Holds a rung's scores to the plain product's.
fn hold(rung: &str, tile: [usize; 2]) {
    for (seed, sizes) in (0..).zip(SIZES) {
        let Some(device) = Emulated::new(seed) else { return };
        let packed = Packed::random(sizes, &mut ChaCha8Rng::seed_from_u64(seed));
        let (there, here) = (packed.scores(&device, rung, tile), packed.product());
        let first = there.iter().zip(&here).position(|(there, here)| there != here);
        assert_eq!(first, None, "{rung}, {sizes:?}: the first score that differs");
    }
}

#[test]
fn the_naive_rung_has_the_scores_of_a_plain_product() {
    hold("scores_naive", [32, 8]);
}

#[test]
fn the_tiled_rung_has_the_scores_of_a_plain_product() {
    hold("scores_tiled", [64, 64]);
}

#[test]
fn the_rung_on_the_matrix_instruction_has_the_scores_of_a_plain_product() {
    hold("scores_by_mma", [64, 64]);
}

/// What makes scores bounds, as `pack.cu` lays it out, with margins of many sizes.
struct Scales {
    of_rows: Vec<f32>,         // [5, n]: step, a, b, norm, 1
    of_latents: Vec<f32>,      // [6, d_sae]: step, bias, p, q, norm, slack
    row_outliers: Vec<f32>,    // [n, OUTLIERS]
    latent_outliers: Vec<f32>, // [d_sae, OUTLIERS]
    outliers: Vec<u32>,        // their number, then the coordinates, which nobody asks for here
    offset_norm: f32,
}

impl Scales {
    /// Steps and norms are the bytes'; outliers that there are not are no numbers.
    fn random(packed: &Packed, n_outliers: usize, rng: &mut ChaCha8Rng) -> Scales {
        let &Packed { n, d_sae, width, .. } = packed;
        let norm = |bytes: &[i8]| bytes.iter().map(|&b| f32::from(b).powi(2)).sum::<f32>().sqrt();
        let mut of_rows = vec![1.0; 5 * n];
        for (i, row) in packed.rows.chunks(width).enumerate() {
            let step = rng.random_range(0.01..0.02);
            let size = step * norm(row);
            let wide = rng.random_range(1.0..60.0);
            for (j, of) in [step, wide * step, wide * size, 1.1 * size].into_iter().enumerate() {
                of_rows[j * n + i] = of;
            }
        }
        let mut of_latents = vec![0.0; 6 * d_sae];
        for (i, latent) in packed.latents.chunks(width).enumerate() {
            let step = rng.random_range(0.001..0.002);
            let size = step * norm(latent);
            let bias: f32 = rng.random_range(-0.1..0.1);
            let all = [step, bias, size, 0.3 * step, 1e-5 * size, 1e-6 * bias.abs()];
            for (j, of) in all.into_iter().enumerate() {
                of_latents[j * d_sae + i] = of;
            }
        }
        let mut values = |rows: usize, size: f32| {
            let places = (0..rows * OUTLIERS).map(|i| i % OUTLIERS < n_outliers);
            places
                .map(|is| if is { rng.random_range(-size..size) } else { f32::NAN })
                .collect::<Vec<_>>()
        };
        Scales {
            of_rows,
            of_latents,
            row_outliers: values(n, 1.0),
            latent_outliers: values(d_sae, 0.2),
            outliers: [vec![n_outliers as u32], vec![u32::MAX; OUTLIERS]].concat(),
            offset_norm: 0.7,
        }
    }

    /// The upper and the lower bound of every score `[n, d_sae]`: the estimate, which is score times
    /// steps, plus the bias, plus what outliers give; and the margin to both sides.
    fn bounds(&self, packed: &Packed, scores: &[i32]) -> Vec<[f32; 2]> {
        let &Packed { n, d_sae, .. } = packed;
        let bounds = |(at, &score): (usize, &i32)| {
            let (row, latent) = (at / d_sae, at % d_sae);
            let [row_step, a, b, row_norm] = [0, 1, 2, 3].map(|i| self.of_rows[i * n + row]);
            let [step, bias, p, q, norm, slack] =
                [0, 1, 2, 3, 4, 5].map(|i| self.of_latents[i * d_sae + latent]);
            let mut estimate = score as f32 * row_step * step + bias;
            for o in 0..self.outliers[0] as usize {
                estimate += self.row_outliers[row * OUTLIERS + o]
                    * self.latent_outliers[latent * OUTLIERS + o];
            }
            let (a, b) = (a * p, b * q);
            let noise = (a * a + b * b).sqrt() * (1.0 + 1.0 / 8192.0);
            let margin = noise + (2.0 * (row_norm + self.offset_norm) * norm + slack);
            [estimate + margin, estimate - margin]
        };
        scores.iter().enumerate().map(bounds).collect()
    }

    /// Screens one part of the latents after the other, as a step does; where rows stand before and
    /// after their bars are raised.
    fn screen(&self, device: &Emulated, packed: &Packed, k: usize) -> Vec<Stage> {
        let &Packed { n, d_sae, width, .. } = packed;
        let [bars, counts, listed, bounds] =
            [4, 4, 4 * d_sae, 8 * d_sae].map(|bytes| device.allocate(n * bytes).unwrap());
        let row_scales = Address(upload(device, &self.of_rows));
        let operands = [
            Address(upload(device, &packed.rows)),
            Address(upload(device, &packed.latents)),
            row_scales,
            Address(upload(device, &self.of_latents)),
            Address(upload(device, &self.row_outliers)),
            Address(upload(device, &self.latent_outliers)),
            Address(upload(device, &self.outliers)),
            Address(upload(device, &[self.offset_norm])),
        ];
        let report = Address(upload(device, &[0u32; 8]));
        let lists = [bars, counts, listed, bounds].map(Address);
        let look = |seen, is_raised| {
            let bars_of: Vec<f32> = download(device, bars, n);
            let counts_of: Vec<u32> = download(device, counts, n);
            let latents: Vec<u32> = download(device, listed, n * d_sae);
            let bounds: Vec<[f32; 2]> = download(device, bounds, n * d_sae);
            let list = |row| {
                let places = row * d_sae..row * d_sae + counts_of[row] as usize;
                let mut list: Listed = places.map(|i| (latents[i], bounds[i])).collect();
                list.sort_by_key(|(latent, _)| *latent); // threads join a list in any order
                (bars_of[row], list)
            };
            Stage { seen, is_raised, rows: (0..n).map(list).collect() }
        };
        let first = (8 * k).min(d_sae);
        let (mut from, mut to, mut stages) = (0, first, vec![]);
        while from < d_sae {
            let sizes = [n, d_sae, width, from, to, d_sae].map(Argument::from);
            let grid = [(to - from).div_ceil(128), n.div_ceil(128)];
            launch(device, "screen", grid, &[&operands[..], &sizes, &lists].concat());
            if from > 0 {
                stages.push(look(to, false)); // before that there are no bars
            }
            let sizes = [n, k, d_sae, if from == 0 { first } else { 0 }].map(Argument::from);
            let arguments = [&sizes[..], &[row_scales, report], &lists].concat();
            launch(device, "raise_bars", [n.div_ceil(8), 1], &arguments);
            stages.push(look(to, true));
            (from, to) = (to, (4 * to).min(d_sae));
        }
        stages
    }
}

/// How far a screen is: how many latents it has seen, whether bars are raised to what they gave, and
/// every row's bar and list.
struct Stage {
    seen: usize,
    is_raised: bool,
    rows: Vec<(f32, Listed)>,
}

/// Latents with their upper and lower bounds.
type Listed = Vec<(u32, [f32; 2])>;

impl Stage {
    /// Holds every row to the definition: its bar is the k-th largest lower bound, but for what
    /// twelve halvings leave below it, and on its list is what reaches the bar.
    fn hold(&self, what: &str, bounds: &[[f32; 2]], d_sae: usize, k: usize) {
        for (row, (bounds, (bar, list))) in bounds.chunks(d_sae).zip(&self.rows).enumerate() {
            let (what, bounds) = (format!("{what}, row {row}"), &bounds[..self.seen]);
            if self.is_raised {
                let mut lower: Vec<f32> = bounds.iter().map(|[_, lower]| *lower).collect();
                lower.sort_by(|a, b| b.total_cmp(a));
                let (kth, range) = (lower[k - 1], lower[0] - lower[self.seen - 1]);
                assert!(*bar <= kth && *bar >= kth - range / 4000.0, "{what}: {bar} for {kth}");
            }
            let reaches = |(_, [upper, _]): &(u32, [f32; 2])| upper >= bar;
            let define: Listed = (0..).zip(bounds.iter().copied()).filter(reaches).collect();
            assert_eq!(*list, define, "{what}");
        }
    }
}

#[test]
fn the_fused_rung_lists_what_the_naive_scores_define() {
    let (mut listed, mut seen) = (0, 0);
    for (seed, sizes) in (0..).zip(SIZES) {
        let Some(device) = Emulated::new(seed) else { return };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (packed, k) = (Packed::random(sizes, &mut rng), sizes[3]);
        let scales = Scales::random(&packed, seed as usize % 4, &mut rng);
        let scores = packed.scores(&device, "scores_naive", [32, 8]);
        let bounds = scales.bounds(&packed, &scores);
        for stage in scales.screen(&device, &packed, k) {
            stage.hold(&format!("{sizes:?}, {} latents", stage.seen), &bounds, packed.d_sae, k);
            listed += stage.rows.iter().map(|(_, list)| list.len()).sum::<usize>();
            seen += stage.seen * packed.n;
        }
    }
    assert!(listed * 5 < seen, "hardly anything was ruled out: {listed} of {seen} are listed");
}
