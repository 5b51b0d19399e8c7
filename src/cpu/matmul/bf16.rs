//! Rounding to bf16: the upper half of an f32, to the nearest, ties to even.

use crate::cpu::simd::vectorised;

/// The bf16 nearest to `x`; a NaN stays one.
#[inline(always)]
pub(crate) fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    (if bits & 0x7FFF_FFFF > 0x7F80_0000 { quiet } else { nearest }) as u16
}

/// The f32 that a bf16 is.
#[inline(always)]
pub(crate) fn widen(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

vectorised! {
    /// Writes each of `x` as the f32 that is the bf16 nearest to it.
    pub(crate) fn round_all(x: &[f32], out: &mut [f32]) {
        for (x, out) in x.iter().zip(out) {
            *out = widen(round(*x));
        }
    }
}

vectorised! {
    /// Writes a row as pairs of bf16; of an odd number, the last word's upper half is 0.
    pub(crate) fn pair_up(row: &[f32], out: &mut [u32]) {
        let (pairs, rest) = row.as_chunks::<2>();
        for (pair, out) in pairs.iter().zip(out.iter_mut()) {
            *out = u32::from(round(pair[0])) | u32::from(round(pair[1])) << 16;
        }
        if let ([last], Some(out)) = (rest, out.last_mut()) {
            *out = u32::from(round(*last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_as_the_half_crate_does() {
        let mut bits = 1u32;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let x = f32::from_bits(bits);
            let want = half::bf16::from_f32(x);
            assert!(round(x) == want.to_bits() || x.is_nan() && widen(round(x)).is_nan(), "{x:?}");
        }
        for x in [
            0.0,
            -0.0,
            f32::INFINITY,
            f32::MAX,
            f32::from_bits(0x7FFF_FFFF),
            f32::from_bits(0x7F80_0001),
            1.0 + 1.0 / 256.0,
            1.0 + 3.0 / 256.0,
        ] {
            assert!(
                round(x) == half::bf16::from_f32(x).to_bits()
                    || x.is_nan() && widen(round(x)).is_nan(),
                "{x:?}"
            );
        }
        let mut words = [u32::MAX; 2];
        pair_up(&[1.0, -2.0, 0.5], &mut words);
        assert_eq!(words, [0xC000_3F80, 0x0000_3F00]);
    }
}
