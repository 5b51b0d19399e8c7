//! Changes to an SAE's weights that leave what it computes as it is, or change it in one known way.

use super::lookup::wide_dot;
use super::{Index, Sae};
use crate::base::error::{Error, Result};

impl Sae {
    /// Without its table: a plain SAE, whose reconstruction lacks what the table added.
    ///
    /// # Errors
    /// [`Error::Config`] if the table is [subtracted](Sae::subtract): without it latents would read
    /// what they have never seen.
    pub fn without_table(&self) -> Result<Sae> {
        if self.subtract {
            let why = "the table is subtracted before the encoder, so without it the latents would read what they have never seen: keep it";
            return Err(Error::config("table", why));
        }
        let mut plain = self.clone();
        (plain.lookup, plain.index, plain.config.lookup) = (None, Index::Token, None);
        Ok(plain)
    }

    /// Without its table, the mean row `m` of which becomes part of `b_dec`: the best that an SAE
    /// without a table can do about it.
    ///
    /// Since `b_dec` is also subtracted before encoding, `W_enc·m` is added to the encoder's bias:
    /// codes stay as they are, and the reconstruction on a token differs by `m − W_lookup[token]`.
    /// `weights` `[rows]` are those of the mean, such as how often each token occurs; without them
    /// every row counts the same.
    ///
    /// # Errors
    /// That of [`without_table`](Sae::without_table); [`Error::Config`] if the rows do not stand
    /// for tokens, or if weights are negative or all 0; [`Error::Shape`] if there are not as many
    /// as rows.
    pub fn fold_table(&self, weights: Option<&[f32]>) -> Result<Sae> {
        let mut plain = self.without_table()?;
        let Some(table) = &self.lookup else { return Ok(plain) };
        if !matches!(self.index, Index::Token) {
            let why = format!(
                "a table {:?} has no mean row that stands for a token: keep it or drop it",
                self.index
            );
            return Err(Error::config("table", why));
        }
        let d = self.d_model();
        let rows = table.len() / d;
        if let Some(weights) = weights.filter(|weights| weights.len() != rows) {
            return Err(Error::Shape {
                what: "weights of the table's rows".to_owned(),
                want: vec![rows],
                got: vec![weights.len()],
            });
        }
        let weight = |row: usize| weights.map_or(1.0, |weights| f64::from(weights[row]));
        let total: f64 = (0..rows).map(weight).sum();
        if !((0..rows).all(|row| weight(row) >= 0.0) && total > 0.0 && total.is_finite()) {
            return Err(Error::config(
                "weights",
                "weights of the table's rows must be at least 0, and not all 0",
            ));
        }
        let mut mean = vec![0.0; d];
        for (row, of_row) in table.chunks_exact(d).enumerate() {
            mean.iter_mut()
                .zip(of_row)
                .for_each(|(mean, &w)| *mean += weight(row) / total * f64::from(w));
        }
        let mean: Vec<f32> = mean.into_iter().map(|mean| mean as f32).collect();
        plain.b_dec.iter_mut().zip(&mean).for_each(|(b, m)| *b += m);
        plain.read_further(&mean, 1.0);
        Ok(plain)
    }

    /// Lets the encoder read `x + sign·v` where it read `x`.
    pub(super) fn read_further(&mut self, v: &[f32], sign: f64) {
        let d = self.d_model();
        for (latent, row) in self.w_enc.chunks_exact(d).enumerate() {
            let moved = sign * wide_dot(row, v);
            self.b_enc[latent] = (f64::from(self.b_enc[latent]) + moved) as f32;
            if !self.r_mag.is_empty() {
                let scaled = f64::from(self.r_mag[latent]).exp() * moved;
                self.b_mag[latent] = (f64::from(self.b_mag[latent]) + scaled) as f32;
            }
        }
    }

    /// With `sign` 1, from an encoder that reads `x` to one that subtracts `b_dec` from it first;
    /// with −1, back.
    pub(super) fn read_without_b_dec(&mut self, sign: f64) {
        let b_dec = std::mem::take(&mut self.b_dec);
        self.read_further(&b_dec, sign);
        self.b_dec = b_dec;
    }

    /// The threshold of every latent, where latents have any.
    pub(super) fn thresholds(&self) -> Vec<f32> {
        match self.threshold[..] {
            [one] => vec![one; self.d_sae()],
            _ => self.threshold.clone(),
        }
    }

    /// From activations that were multiplied by `scale` to those that were not; codes stay as they
    /// are.
    pub(super) fn unscale_input(&mut self, scale: f32) {
        self.w_enc.iter_mut().for_each(|w| *w *= scale);
        self.w_dec.iter_mut().chain(&mut self.b_dec).for_each(|w| *w /= scale);
    }

    /// From activations that were divided by `scale` to those that were not; codes become larger by
    /// as much.
    pub(super) fn scale_biases(&mut self, scale: f32) {
        let all = [&mut self.b_enc, &mut self.b_dec, &mut self.threshold, &mut self.b_mag];
        all.into_iter().flatten().for_each(|b| *b *= scale);
    }

    /// Makes rows of the decoder as long as 1 and those of the encoder longer by as much, so that
    /// codes are in units of what they add.
    pub(super) fn fold_decoder_norms(&mut self) {
        let d = self.d_model();
        for latent in 0..self.d_sae() {
            let row = latent * d..(latent + 1) * d;
            let norm = decoder_norm(&self.w_dec[row.clone()]);
            self.w_dec[row.clone()].iter_mut().for_each(|w| *w /= norm);
            self.w_enc[row].iter_mut().for_each(|w| *w *= norm);
            self.b_enc[latent] *= norm;
            if !self.b_mag.is_empty() {
                self.b_mag[latent] *= norm;
            }
        }
    }
}

/// The length of a decoder row, and SAELens' least.
pub(super) fn decoder_norm(row: &[f32]) -> f32 {
    (wide_dot(row, row).sqrt() as f32).max(1e-8)
}
