//! Sparse codes: for every row the latents that are active on it, and their values.

use crate::sae::RowScale;

/// The active latents of `n` rows, in ascending order of latent within a row. A TopK SAE gives
/// every row the same number of them; others do not.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    /// Where each row's codes begin, and the end of the last: `[n + 1]`.
    starts: Vec<usize>,
    latents: Vec<u32>,
    values: Vec<f32>,
    /// How each row comes back to the scale of activations, `[n]`; empty if it never left it.
    scales: Vec<RowScale>,
}

impl Default for Codes {
    fn default() -> Codes {
        Codes { starts: vec![0], latents: Vec::new(), values: Vec::new(), scales: Vec::new() }
    }
}

impl Codes {
    /// Room for `n` rows of `k` codes, all zero on latent 0.
    pub(crate) fn zeros(n: usize, k: usize) -> Codes {
        Codes {
            starts: (0..=n).map(|row| row * k).collect(),
            latents: vec![0; n * k],
            values: vec![0.0; n * k],
            scales: Vec::new(),
        }
    }

    /// How many rows there are.
    pub fn n(&self) -> usize {
        self.starts.len() - 1
    }

    /// The latents of all rows, one after another, ascending within a row.
    pub fn latents(&self) -> &[u32] {
        &self.latents
    }

    /// The values that stand at [`latents`](Codes::latents).
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The latents and values of row `i`.
    ///
    /// # Panics
    /// If `i >= n`, as indexing a slice does.
    pub fn row(&self, i: usize) -> (&[u32], &[f32]) {
        let at = self.range(i..i + 1);
        (&self.latents[at.clone()], &self.values[at])
    }

    /// What a value of 1 adds to row `i`, in `W_dec[latent]`: 1 unless its SAE [scales
    /// rows](crate::sae::Sae::row_norm).
    ///
    /// # Panics
    /// If `i >= n`.
    pub fn scale(&self, i: usize) -> f32 {
        assert!(i < self.n(), "row {i} of {}", self.n());
        self.scales.get(i).map_or(1.0, |row| row.scale)
    }

    /// Mean number of values per row that are not 0.
    pub fn l0(&self) -> f64 {
        self.values.iter().filter(|v| **v != 0.0).count() as f64 / self.n().max(1) as f64
    }

    /// Those of all rows, or none.
    pub(crate) fn scales(&self) -> &[RowScale] {
        &self.scales
    }

    /// With how each row comes back.
    pub(crate) fn with_scales(self, scales: Vec<RowScale>) -> Codes {
        Codes { scales, ..self }
    }

    /// Where the codes of some rows lie among all.
    pub(crate) fn range(&self, rows: std::ops::Range<usize>) -> std::ops::Range<usize> {
        self.starts[rows.start]..self.starts[rows.end]
    }

    /// The row of every code.
    pub(crate) fn rows(&self) -> Vec<u32> {
        let mut rows = Vec::with_capacity(self.latents.len());
        for (row, ends) in self.starts.windows(2).enumerate() {
            rows.resize(rows.len() + ends[1] - ends[0], row as u32);
        }
        rows
    }

    /// Whether every row has `k` codes.
    pub(crate) fn is_even(&self, n: usize, k: usize) -> bool {
        self.n() == n
            && self.latents.len() == n * k
            && self.starts.windows(2).all(|ends| ends[1] - ends[0] == k)
    }

    /// From where each row begins, and the end of the last, and latents and values.
    pub(crate) fn from_parts(starts: Vec<usize>, latents: Vec<u32>, values: Vec<f32>) -> Codes {
        Codes { starts, latents, values, scales: Vec::new() }
    }

    /// Where each row begins, latents, values.
    pub(crate) fn into_parts(self) -> (Vec<usize>, Vec<u32>, Vec<f32>) {
        (self.starts, self.latents, self.values)
    }

    /// Latents and values, for a backend to fill.
    pub(crate) fn arrays_mut(&mut self) -> (&mut [u32], &mut [f32]) {
        (&mut self.latents, &mut self.values)
    }

    /// Adds a row of those latents that are wanted, with their values.
    pub(crate) fn push_some(
        &mut self,
        latents: &[u32],
        values: &[f32],
        wanted: impl Fn(u32, f32) -> bool,
    ) {
        for (&latent, &value) in
            latents.iter().zip(values).filter(|&(&latent, &value)| wanted(latent, value))
        {
            self.latents.push(latent);
            self.values.push(value);
        }
        self.starts.push(self.latents.len());
    }

    /// Adds the rows of another.
    pub(crate) fn append(&mut self, other: &Codes) {
        let base = self.latents.len();
        self.latents.extend_from_slice(&other.latents);
        self.values.extend_from_slice(&other.values);
        self.scales.extend_from_slice(&other.scales);
        self.starts.extend(other.starts[1..].iter().map(|start| base + start));
    }

    /// Keeps the codes that are wanted, named by their place.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(usize) -> bool) {
        let mut kept = 0;
        let mut from = 0;
        for row in 1..self.starts.len() {
            let to = self.starts[row];
            for code in from..to {
                if wanted(code) {
                    (self.latents[kept], self.values[kept]) =
                        (self.latents[code], self.values[code]);
                    kept += 1;
                }
            }
            from = to;
            self.starts[row] = kept;
        }
        self.latents.truncate(kept);
        self.values.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_length_are_found_again() {
        let mut codes = Codes::default();
        codes.push_some(&[3, 7], &[1.0, 0.0], |_, _| true);
        codes.push_some(&[4], &[9.0], |latent, value| latent > 4 || value < 9.0);
        let mut more = Codes::default();
        more.push_some(&[1, 2, 9], &[0.5, 0.25, -1.0], |_, _| true);
        codes.append(&more);
        assert_eq!(
            (codes.n(), codes.row(0), codes.row(1), codes.row(2).0),
            (3, (&[3, 7][..], &[1.0, 0.0][..]), (&[][..], &[][..]), &[1, 2, 9][..])
        );
        assert_eq!((codes.rows(), codes.range(1..3)), (vec![0, 0, 2, 2, 2], 2..5));
        assert!((codes.l0() - 4.0 / 3.0).abs() < 1e-12);
        let values = codes.values().to_vec();
        codes.retain(|code| values[code] > 0.3);
        assert_eq!(
            (codes.row(0).0, codes.row(1).0, codes.row(2)),
            (&[3][..], &[][..], (&[1][..], &[0.5][..]))
        );
        assert!(!codes.is_even(3, 1) && Codes::zeros(4, 2).is_even(4, 2));
    }
}
