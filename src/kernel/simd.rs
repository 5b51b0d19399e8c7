//! Loops over a row, compiled once for every vector width there is and chosen at run time.
//!
//! The bodies are plain Rust that the compiler vectorises; none fuses a multiplication with an addition and sums run in sixteen
//! fixed lanes, so that all versions give the same bits.
#![allow(unsafe_code)]

/// Defines a function whose body is compiled for AVX-512, for AVX2 and for any processor.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn anywhere($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { anywhere($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { anywhere($($arg),*) }
                match $crate::kernel::simd::level() {
                    // SAFETY: `level` says Avx512 or Avx2 only where the processor has every feature named above.
                    $crate::kernel::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernel::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernel::simd::Level::Any => {}
                }
            }
            anywhere($($arg),*)
        }
    };
}
pub(crate) use vectorised;

/// The widest vectors this processor has.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// 512 bits.
    Avx512,
    /// 256 bits.
    Avx2,
    /// Whatever the compiler may assume everywhere.
    Any,
}

/// Asks the processor (the answer is cached by the standard library).
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn level() -> Level {
    let has_512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (has_512, is_x86_feature_detected!("avx2")) {
        (true, true) => Level::Avx512,
        (_, true) => Level::Avx2,
        _ => Level::Any,
    }
}

const LANES: usize = 16;

/// `a · b`, in sixteen lanes that are added pairwise at the end.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0] + rest
}

/// `y += a·x`.
#[inline(always)]
pub(crate) fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}
