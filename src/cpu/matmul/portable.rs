//! The product of any two matrices, by the `gemm` crate: for processors without tiles, and for
//! matrices that are not packed.
#![allow(unsafe_code)]

use gemm::Parallelism;

/// A matrix within a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl Matrix<'_> {
    /// Its columns as rows.
    pub fn transposed(self) -> Self {
        Matrix {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    fn is_within(&self) -> bool {
        self.rows == 0
            || self.cols == 0
            || (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride
                < self.data.len()
    }
}

/// `dst = scale · a b`, where row `i` of the product begins at `dst[i * dst_stride]`.
pub(crate) fn matmul(
    dst: &mut [f32],
    dst_stride: usize,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    threads: Parallelism,
) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    if m == 0 || n == 0 {
        return;
    }
    assert!(k == b.rows && a.is_within() && b.is_within(), "matrices that do not fit");
    assert!(
        n <= dst_stride.max(n * usize::from(m == 1)) && (m - 1) * dst_stride + n <= dst.len(),
        "a product that does not fit"
    );
    // SAFETY: every element of `a`, `b` and the product lies within its slice, as asserted; `dst`
    // is borrowed mutably, so it overlaps neither; the product's rows do not overlap each other.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            dst_stride as isize,
            false,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            0.0,
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}
