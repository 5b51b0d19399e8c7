//! Where the tasks of a product write, each its own part.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use super::{Out, RowsMut, bf16};

/// The output of a product.
pub(super) struct Target<'a> {
    at: *mut u8,
    kind: Kind,
    /// The number of rows.
    pub n: usize,
    /// Numbers from one row to the next.
    pub stride: usize,
    /// What values are multiplied with before they are put, and the length of its rows.
    pub gate: Option<(&'a [f32], usize)>,
    _borrowed: PhantomData<&'a mut [u32]>,
}

#[derive(Clone, Copy)]
enum Kind {
    Write,
    Add,
    Bf16,
}

// SAFETY: tasks write to parts that do not overlap, and nobody else has the borrowed output
// meanwhile.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    /// Rows of this many numbers.
    pub fn of(out: Out<'a>, width: usize) -> Target<'a> {
        let (out, gate) = match out {
            Out::Gated(by, rows) => (Out::Write(rows), Some((by, width))),
            other => (other, None),
        };
        let (at, kind, len, stride): (*mut u8, _, _, _) = match out {
            Out::Write(RowsMut::F32(y)) => (y.as_mut_ptr().cast(), Kind::Write, y.len(), width),
            Out::Add(y) => (y.as_mut_ptr().cast(), Kind::Add, y.len(), width),
            Out::Write(RowsMut::Bf16(y)) => {
                (y.as_mut_ptr().cast(), Kind::Bf16, 2 * y.len(), width.next_multiple_of(2))
            }
            Out::Gated(..) => unreachable!("taken apart above"),
        };
        let n = len.checked_div(stride).unwrap_or(0);
        assert!(len == n * stride, "an output that is not whole rows");
        assert!(gate.is_none_or(|(by, width)| by.len() == n * width), "a gate that does not fit");
        Target { at, kind, n, stride, gate, _borrowed: PhantomData }
    }

    /// Puts values into a row, from a column on.
    ///
    /// # Safety
    /// The place must lie within the output, and nobody else may be at it.
    #[inline(always)]
    pub unsafe fn put(&self, row: usize, column: usize, values: &[f32]) {
        let at = row * self.stride + column;
        match self.kind {
            // SAFETY: the caller grants `values.len()` numbers from here.
            Kind::Write => unsafe {
                std::slice::from_raw_parts_mut(self.at.cast::<f32>().add(at), values.len())
            }
            .copy_from_slice(values),
            Kind::Add => {
                // SAFETY: as above.
                let y = unsafe {
                    std::slice::from_raw_parts_mut(self.at.cast::<f32>().add(at), values.len())
                };
                y.iter_mut().zip(values).for_each(|(y, x)| *y += x);
            }
            Kind::Bf16 => {
                // SAFETY: as above.
                let y = unsafe {
                    std::slice::from_raw_parts_mut(self.at.cast::<u16>().add(at), values.len())
                };
                y.iter_mut().zip(values).for_each(|(y, x)| *y = bf16::round(*x));
            }
        }
    }
}
