//! Numbers of 8 bits: 32 at a time share a scale, so that one large coordinate costs its neighbours
//! their last bits, and not the whole row.
//!
//! A row is groups of 34 bytes: a scale in f16, and 32 whole numbers from −127 to 127; the last group
//! is filled up with zeros. This is `Q8_0` of GGUF, which has 8.5 bits a number. The scale is the
//! group's largest value over 127, so that a number is off by at most 1/254 of that.

use half::f16;

/// Numbers that share a scale.
const GROUP: usize = 32;

/// Bytes of a group.
const BYTES: usize = 2 + GROUP;

/// Bytes of a row of `d` numbers.
pub fn row_bytes(d: usize) -> usize {
    d.div_ceil(GROUP).saturating_mul(BYTES)
}

/// Appends rows `[n, d]` to `out`, and says whether all of them could be held: finite, and not
/// beyond what 127 times a number of 16 bits is.
pub fn narrow(rows: &[f32], d: usize, out: &mut Vec<u8>) -> bool {
    let mut fine = true;
    for group in rows.chunks_exact(d).flat_map(|row| row.chunks(GROUP)) {
        // A NaN is no maximum: it is looked for by itself.
        let largest = group.iter().fold(0f32, |most, x| most.max(x.abs()));
        fine &= group.iter().all(|x| x.is_finite());
        let scale = f16::from_f32(largest / 127.0);
        fine &= scale.is_finite();
        let times = if scale > f16::ZERO { 1.0 / scale.to_f32() } else { 0.0 };
        let mut bytes = [0; GROUP];
        for (byte, x) in bytes.iter_mut().zip(group) {
            *byte = (x * times).round_ties_even().clamp(-127.0, 127.0) as i8 as u8;
        }
        out.extend_from_slice(&scale.to_le_bytes());
        out.extend_from_slice(&bytes);
    }
    fine
}

/// The numbers of one row.
pub fn widen(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.chunks_exact(BYTES).zip(out.chunks_mut(GROUP)) {
        let scale = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        out.iter_mut().zip(&bytes[2..]).for_each(|(x, &byte)| *x = f32::from(byte as i8) * scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(rows: &[f32], d: usize) -> Option<Vec<f32>> {
        let mut bytes = Vec::new();
        let fine = narrow(rows, d, &mut bytes);
        assert_eq!(bytes.len(), rows.len() / d * row_bytes(d));
        let mut out = vec![f32::NAN; rows.len()];
        bytes
            .chunks_exact(row_bytes(d))
            .zip(out.chunks_exact_mut(d))
            .for_each(|(bytes, row)| widen(bytes, row));
        fine.then_some(out)
    }

    proptest! {
        #[test]
        fn each_number_is_off_by_a_part_of_its_groups_largest(
            d in 1usize..100,
            size in -3i32..4,
            seed in prop::collection::vec(-1.0f32..1.0, 300),
        ) {
            let rows: Vec<f32> = seed[..300 / d * d].iter().map(|x| x * 10f32.powi(size)).collect();
            let back = there_and_back(&rows, d).unwrap();
            for (row, back) in rows.chunks(d).zip(back.chunks(d)) {
                for (group, back) in row.chunks(GROUP).zip(back.chunks(GROUP)) {
                    let largest = group.iter().fold(0f32, |most, x| most.max(x.abs()));
                    // Half a step, the rounding of the scale itself, and what is too small for it.
                    let most = largest * (0.5 / 127.0 + 1.0 / 2048.0) + 127.0 * 2f32.powi(-25);
                    for (x, y) in group.iter().zip(back) {
                        prop_assert!((x - y).abs() <= most, "{x} became {y} beside {largest}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_outlier_costs_its_own_group_alone() {
        let mut row: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
        row[3] = 3000.0;
        let back = there_and_back(&row, 64).unwrap();
        assert!((back[3] - 3000.0).abs() < 3.0);
        assert_eq!(back[4], 0.0);
        assert!(row[32..].iter().zip(&back[32..]).all(|(x, y)| (x - y).abs() < 0.005));
    }

    #[test]
    fn what_cannot_be_held_is_told() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 9e6] {
            let mut row = vec![1.0; 40];
            row[35] = wrong;
            assert!(there_and_back(&row, 40).is_none(), "{wrong}");
        }
        assert!(there_and_back(&[8e6, 0.0], 2).is_some());
        assert_eq!(there_and_back(&[0.0; 5], 5).unwrap(), [0.0; 5]);
    }
}
