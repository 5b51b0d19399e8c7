//! Which row of a table a decoder row resembles most.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::interrupted;
use super::meter::Meter;
use crate::base::error::Result;
use crate::display::interrupt;

/// Decoder rows that are compared at once: with a vocabulary of 50,000 their cosines take 13 MB.
const ROWS_AT_ONCE: usize = 64;

/// For each of the rows `[m, d]` the row of the table `[n, d]` with the greatest cosine, and that
/// cosine; a row of length 0 has cosine 0.
///
/// The mean row of the table is subtracted from each of its rows first. What all rows have in
/// common belongs to no token: in the built-in GPT-2 at block 2 it is longer than the rest, and
/// would make any latent that points along it, or against it, seem like every token or none.
pub(super) fn nearest(
    rows: &[f32],
    table: &[f32],
    d: usize,
    meter: &mut Meter,
) -> Result<Vec<(usize, f64)>> {
    let table = unit(&centred(table, d), d);
    let n = table.len() / d;
    let turned = Tensor::from_slice(&table, (n, d), &Device::Cpu)?.t()?;
    let mut found = Vec::with_capacity(rows.len() / d);
    for rows in rows.chunks(ROWS_AT_ONCE * d) {
        if interrupt::requested() {
            return Err(interrupted("the comparison with the table"));
        }
        let rows = unit(rows, d);
        let cosines =
            Tensor::from_slice(&rows, (rows.len() / d, d), &Device::Cpu)?.matmul(&turned)?; // [rows, n]
        let cosines = cosines.flatten_all()?.to_vec1::<f32>()?;
        let best: Vec<usize> = cosines.par_chunks(n).map(greatest).collect();
        let dot = |row: &[f32], token: usize| {
            row.iter()
                .zip(&table[token * d..][..d])
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        found.extend(best.iter().zip(rows.chunks(d)).map(|(&token, row)| (token, dot(row, token))));
        meter.advance((rows.len() / d) as u64);
    }
    Ok(found)
}

/// The first of the greatest.
fn greatest(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

fn unit(rows: &[f32], d: usize) -> Vec<f32> {
    let norm = |row: &[f32]| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let mut rows = rows.to_vec();
    rows.par_chunks_mut(d).for_each(|row| {
        let norm = norm(row);
        if norm > 0.0 {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        }
    });
    rows
}

fn centred(table: &[f32], d: usize) -> Vec<f32> {
    let mut mean = vec![0.0f64; d];
    table
        .chunks(d)
        .for_each(|row| mean.iter_mut().zip(row).for_each(|(mean, v)| *mean += f64::from(*v)));
    let n = (table.len() / d) as f64;
    table.iter().enumerate().map(|(i, v)| (f64::from(*v) - mean[i % d] / n) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_row_is_found_and_its_cosine_is_exact() {
        let d = 5;
        let table: Vec<f32> =
            (0..40 * d).map(|i| ((i * 7919 % 101) as f32 - 50.0) / 10.0).collect();
        let rows: Vec<f32> = (0..200 * d)
            .map(|i| ((i * 104_729 % 97) as f32 - 48.0) / 7.0)
            .chain([0.0; 5])
            .collect();
        let found = nearest(&rows, &table, d, &mut Meter::new("test", 201)).unwrap();
        assert_eq!(found.len(), 201);
        let mean = |j: usize| table.iter().skip(j).step_by(d).sum::<f32>() / 40.0;
        for (row, &(token, found)) in rows.chunks(d).zip(&found) {
            let cosine = |token: usize| {
                let other: Vec<f64> =
                    (0..d).map(|j| f64::from(table[token * d + j] - mean(j))).collect();
                let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
                let dot: f64 = row.iter().zip(&other).map(|(a, b)| f64::from(*a) * b).sum();
                dot / (norm(&mut row.iter().map(|v| f64::from(*v)))
                    * norm(&mut other.iter().copied()))
                .max(1e-30)
            };
            let best = (0..40).map(cosine).fold(f64::NEG_INFINITY, f64::max);
            assert!((found - best).abs() < 1e-6 && (cosine(token) - best).abs() < 1e-6);
        }
        assert_eq!(found[200].1, 0.0, "a row of zeros points nowhere");
    }
}
