//! Sparse codes: `k` latents and their values for every row.

/// The active latents of `n` rows, `k` each, in ascending order of latent within a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Codes {
    k: usize,
    latents: Vec<u32>,
    values: Vec<f32>,
}

impl Codes {
    /// Room for `n` rows of `k` codes, all zero on latent 0.
    pub(crate) fn zeros(n: usize, k: usize) -> Codes {
        Codes { k, latents: vec![0; n * k], values: vec![0.0; n * k] }
    }

    /// How many rows there are.
    pub fn n(&self) -> usize {
        self.latents.len() / self.k.max(1)
    }

    /// How many latents a row has.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The latents `[n, k]`, row by row, ascending within a row.
    pub fn latents(&self) -> &[u32] {
        &self.latents
    }

    /// The values `[n, k]` that stand at [`latents`](Codes::latents).
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The latents and values of row `i`.
    ///
    /// # Panics
    /// If `i >= n`, as indexing a slice does.
    pub fn row(&self, i: usize) -> (&[u32], &[f32]) {
        let at = i * self.k..(i + 1) * self.k;
        (&self.latents[at.clone()], &self.values[at])
    }

    /// Mean number of values per row that are not 0.
    pub fn l0(&self) -> f64 {
        self.values.iter().filter(|v| **v != 0.0).count() as f64 / self.n().max(1) as f64
    }

    /// Both arrays, for a kernel to fill.
    pub(crate) fn arrays_mut(&mut self) -> (&mut [u32], &mut [f32]) {
        (&mut self.latents, &mut self.values)
    }
}
