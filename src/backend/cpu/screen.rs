//! Screening: which latents of a row can be among its k largest, found with cheap arithmetic and an
//! honest margin.
//!
//! The encoder's product `(x − b_dec) W_encᵀ` is nearly all of a step's work, and nearly all of its
//! `[n, d_sae]` results are thrown away: of 12,288 only 30 are kept. So it is computed in 8-bit or
//! 16-bit numbers, four or two to an f32's multiplication, and only to rule latents out. What
//! remains, a few more than k, is scored again in f32 (see [`rescore`](super::rescore)): the
//! selected latents **and their values are those of f32**, the same bits whatever the screen.
//!
//! # What a score is made of
//!
//! With `μ` the mean of the batch, so that directions common to all rows cost no precision,
//!
//! ```text
//! score = (x − μ)·w  +  [(μ − b_dec)·w + b]
//!          screened      once a latent, in f32
//! ```
//!
//! A few coordinates of a residual stream are often many times larger than the rest and would
//! stretch an 8-bit scale until nothing else is resolved. Those **outliers** leave the 8-bit
//! product and are multiplied in f32 beside it. One set serves the whole batch.
//!
//! # The margin
//!
//! Let `x̃ = x' + δx` and `w̃ = w + δw` be the rounded vectors. The screened product errs by `x̃·w̃
//! − x'·w = δx·w + x̃·δw`. Then
//!
//! - [`Exactness::Proven`]: by Cauchy-Schwarz it errs by at most `‖δx‖‖w‖ + ‖x̃‖‖δw‖`, with the
//!   norms measured.
//! - [`Exactness::Statistical`]: rounding errors are uniform and independent, with standard
//!   deviation `step/√12` a coordinate, so that the sum has standard deviation `σ = √(σx²‖w‖² +
//!   ‖x̃‖²σw²)`, and the margin is 6 σ. For bf16, whose step follows the number, `σ² ≤
//!   2ρ²‖x'‖₄²‖w‖₄²`, `ρ = 2⁻⁷/√12`. One of the k largest is missed only if its upper bound falls
//!   below the lower bound of the k-th, that is, if the errors of two latents differ by the margins
//!   of both, 12 σ. A weighted sum of uniform variables has Gaussian tails (`P(error > tσ) ≤
//!   e^(−t²/2)`). For two latents whose weights stand at right angles the difference has √2·σ, and
//!   odds below e⁻³⁶ = 2e-16; at worst, for opposite weights, 2σ, and odds below e⁻¹⁸ = 2e-8; and
//!   then both would have to lie at the edge of the top k.
//!
//! Both have the form `√(A·P + B·Q)`, A and B of the row, P and Q of the latent (for the first, `p +
//! q ≤ √2·√(p² + q²)`). To it comes a bound on the rounding of every f32 sum involved, the exact
//! scores' own included.
//!
//! So each score has a lower and an upper bound. The k-th largest lower bound seen so far is a
//! **threshold**; a latent whose upper bound lies under it cannot be among the k largest. A row
//! that keeps too many candidates for its list (its scores are all but equal, or not numbers)
//! **falls back** to f32 for all latents, and is counted.
//!
//! `tests/exact.rs` holds every screen to the plain f32 top k, with and without outliers, on as
//! many rows as `TSAE_EXACT_ROWS` says.

pub(super) mod candidates;
pub(super) mod latents;
pub(super) mod portable;
pub(super) mod rows;
#[cfg(target_arch = "x86_64")]
pub(super) mod scan;

pub(in crate::backend) use candidates::Candidates;
pub(in crate::backend) use latents::PackedLatents;
pub(in crate::backend) use rows::PackedRows;

/// The numbers in which scores are screened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Screen {
    /// Bytes, by `vpdpbusd`: AVX-512 with VNNI.
    Int8,
    /// bf16, by `vdpbf16ps`: AVX-512 with bf16.
    Bf16,
    /// f32 on AVX-512.
    F32,
    /// f32 on any processor.
    Portable,
}

impl Screen {
    /// All of them, the fastest first.
    pub const ALL: [Screen; 4] = [Screen::Int8, Screen::Bf16, Screen::F32, Screen::Portable];

    /// The fastest one that this processor can run.
    pub fn fastest() -> Screen {
        Screen::ALL.into_iter().find(|screen| screen.is_supported()).unwrap_or(Screen::Portable)
    }

    /// Whether this processor has the instructions.
    pub fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let wide = crate::cpu::simd::level() == crate::cpu::simd::Level::Avx512;
            match self {
                Screen::Int8 => wide && is_x86_feature_detected!("avx512vnni"),
                Screen::Bf16 => wide && is_x86_feature_detected!("avx512bf16"),
                Screen::F32 => wide,
                Screen::Portable => true,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Screen::Portable
        }
    }

    /// `int8`, `bf16`, `f32` or `portable`.
    pub fn name(self) -> &'static str {
        match self {
            Screen::Int8 => "int8",
            Screen::Bf16 => "bf16",
            Screen::F32 => "f32",
            Screen::Portable => "portable",
        }
    }

    /// Numbers that a word of 32 bits holds.
    fn per_word(self) -> usize {
        match self {
            Screen::Int8 => 4,
            Screen::Bf16 => 2,
            Screen::F32 | Screen::Portable => 1,
        }
    }

    /// Words that a vector of `d` numbers takes: whole vectors of the numbers as they were, but
    /// with f32 no more than there are.
    fn words(self, d: usize) -> usize {
        match self {
            Screen::Int8 | Screen::Bf16 => {
                d.next_multiple_of(crate::cpu::simd::LANES) / self.per_word()
            }
            Screen::F32 | Screen::Portable => d,
        }
    }

    /// An upper bound, relative to the product of the norms, on the rounding of every f32 sum that
    /// makes an estimate or an exact score.
    ///
    /// A sum of m terms errs by less than m·2⁻²⁴ of the sum of their sizes. The exact score adds `d
    /// / 16` terms a lane; so does a latent's part `(μ − b_dec)·w`; a tile of floats adds all d in
    /// turn, one of bytes is exact. The rest of the arithmetic counts as 32 terms.
    fn rounding(self, d: usize) -> f32 {
        let in_turn = if self == Screen::Int8 { 0 } else { d };
        (in_turn + 2 * d.div_ceil(crate::cpu::simd::LANES) + 32) as f32 * UNIT_ROUNDOFF
    }
}

/// How sure a screen must be before it rules a latent out. What it lets pass is scored in f32
/// either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Exactness {
    /// Only what arithmetic proves. Keeps more candidates.
    Proven,
    /// Six standard deviations of the rounding noise on either side: odds below 2e-8 that a latent
    /// within rounding of the k-th is missed, below 2e-16 unless the two latents' weights are
    /// opposite. Of 8 million rows none was.
    #[default]
    Statistical,
}

impl Exactness {
    /// How many times k candidates a row may have before it falls back.
    pub(in crate::backend) fn room(self) -> usize {
        match self {
            Exactness::Proven => 24,
            Exactness::Statistical => 4,
        }
    }

    /// By how much the standard deviation (or, if proven, the root of the sum of squares of both
    /// bounds) is multiplied.
    fn factor(self) -> f32 {
        match self {
            Exactness::Proven => std::f32::consts::SQRT_2,
            Exactness::Statistical => 6.0,
        }
    }
}

/// Half the distance from 1 to the next f32.
const UNIT_ROUNDOFF: f32 = 1.0 / (1 << 24) as f32;

/// The standard deviation of a number between −½ and ½: 1/√12.
const UNIFORM: f32 = 0.288_675_13;

/// Half the steps of a signed byte.
const BYTE: f32 = 127.0;

/// Adding it to a number of less than 2²² leaves the nearest whole number in the lowest bits of the
/// sum.
const TO_INTEGER: f32 = 12_582_912.0;

/// The standard deviation of a bf16's rounding relative to the number, at most: its step is 2⁻⁷ of
/// the power of two below the number.
const BF16_NOISE: f32 = UNIFORM / 128.0;

/// Norms and biases from here on are not screened: their products could overflow.
const TOO_LARGE: f32 = 1e15;
