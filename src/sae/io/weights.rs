//! The four weights that every library has, by its own names and the way its matrices lie.

use std::borrow::Cow;

use crate::base::error::{Error, Result};
use crate::formats::arrays::{Array, Arrays};
use crate::sae::Sae;

/// A matrix by its name.
#[derive(Clone, Copy)]
pub(super) enum Matrix {
    /// Latents are its rows `[d_sae, d_model]`, as here.
    Rows(&'static str),
    /// Latents are its columns `[d_model, d_sae]`.
    Columns(&'static str),
}

/// What a library calls the weights of an SAE.
#[derive(Clone, Copy)]
pub(super) struct Names {
    pub w_enc: Matrix,
    pub b_enc: &'static str,
    pub w_dec: Matrix,
    pub b_dec: &'static str,
}

impl Matrix {
    fn name(self) -> &'static str {
        let (Matrix::Rows(name) | Matrix::Columns(name)) = self;
        name
    }

    /// From `[d_sae, d_model]` to the order of the axes in the file, and back.
    fn lie<T>(self, [d_sae, d]: [T; 2]) -> [T; 2] {
        match self {
            Matrix::Rows(_) => [d_sae, d],
            Matrix::Columns(_) => [d, d_sae],
        }
    }

    /// Takes it, latents as rows.
    pub(super) fn take(self, tensors: &mut Arrays, [d_sae, d]: [usize; 2]) -> Result<Vec<f32>> {
        let numbers = tensors.take(self.name(), &self.lie([d_sae, d]))?;
        Ok(match self {
            Matrix::Rows(_) => numbers,
            Matrix::Columns(_) => transpose(&numbers, d, d_sae),
        })
    }
}

impl Names {
    /// How many latents there are, and how wide activations are: both at least 1.
    pub(super) fn sizes(&self, tensors: &Arrays) -> Result<[usize; 2]> {
        let name = self.w_enc.name();
        match tensors.shape(name)?[..] {
            [rows, columns] if rows > 0 && columns > 0 => Ok(self.w_enc.lie([rows, columns])),
            ref shape => Err(Error::format(
                tensors.path(),
                format!("\"{name}\" has shape {shape:?}; a matrix is needed"),
            )),
        }
    }

    /// Takes the weights of an SAE that has none yet.
    pub(super) fn take(&self, tensors: &mut Arrays, sae: Sae) -> Result<Sae> {
        let sae = self.take_without_b_dec(tensors, sae)?;
        Ok(Sae { b_dec: tensors.take(self.b_dec, &[sae.d_model()])?, ..sae })
    }

    /// Takes all weights but the decoder's bias, which is 0.
    pub(super) fn take_without_b_dec(&self, tensors: &mut Arrays, sae: Sae) -> Result<Sae> {
        let sizes @ [d_sae, d] = [sae.d_sae(), sae.d_model()];
        Ok(Sae {
            w_enc: self.w_enc.take(tensors, sizes)?,
            b_enc: tensors.take(self.b_enc, &[d_sae])?,
            w_dec: self.w_dec.take(tensors, sizes)?,
            b_dec: vec![0.0; d],
            ..sae
        })
    }

    /// Encoder and decoder as they lie in the library's files.
    pub(super) fn laid_out<'a>(&self, sae: &'a Sae) -> [Cow<'a, [f32]>; 2] {
        let lay = |matrix: Matrix, w: &'a [f32]| match matrix {
            Matrix::Rows(_) => Cow::Borrowed(w),
            Matrix::Columns(_) => Cow::Owned(transpose(w, sae.d_sae(), sae.d_model())),
        };
        [lay(self.w_enc, &sae.w_enc), lay(self.w_dec, &sae.w_dec)]
    }

    /// The weights of an SAE, its matrices [laid out](Names::laid_out).
    pub(super) fn arrays<'a>(
        &self,
        sae: &'a Sae,
        [w_enc, w_dec]: &'a [Cow<'a, [f32]>; 2],
    ) -> Vec<Array<'a>> {
        let matrix = |it: Matrix, w: &'a [f32]| {
            (it.name(), it.lie([sae.d_sae(), sae.d_model()]).to_vec(), w)
        };
        vec![
            matrix(self.w_enc, w_enc),
            (self.b_enc, vec![sae.d_sae()], &sae.b_enc[..]),
            matrix(self.w_dec, w_dec),
            (self.b_dec, vec![sae.d_model()], &sae.b_dec[..]),
        ]
    }
}

/// `[rows, columns]` to `[columns, rows]`, in tiles that stay in cache.
fn transpose(a: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut out = vec![0.0; a.len()];
    for row in (0..rows).step_by(TILE) {
        for column in (0..columns).step_by(TILE) {
            for i in row..(row + TILE).min(rows) {
                for j in column..(column + TILE).min(columns) {
                    out[j * rows + i] = a[i * columns + j];
                }
            }
        }
    }
    out
}
