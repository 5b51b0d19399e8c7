//! What is asked of a device: to keep memory, and to run kernels on it.
//!
//! What runs on a device is written against this alone. `cuda` is the driver of an NVIDIA card; the
//! tests have another that runs the same kernels on the CPU, thread by thread.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::Pod;

use crate::base::error::Result;

/// Memory, and kernels that run on it in the order in which they are launched. Copies and zeros take
/// their place in that order; only what is read, the host waits for.
pub trait Driver: Debug + Send + Sync {
    /// What a person calls it.
    fn name(&self) -> String;

    /// How many bytes are free.
    ///
    /// # Errors
    /// What the device says.
    fn free_bytes(&self) -> Result<u64>;

    /// An address of `bytes` bytes, more than none, that hold anything.
    ///
    /// # Errors
    /// What the device says; [`Error::Memory`](crate::base::error::Error::Memory) if it has not as
    /// many.
    fn allocate(&self, bytes: usize) -> Result<u64>;

    /// Gives back what [`allocate`](Driver::allocate) gave.
    fn free(&self, address: u64);

    /// Copies to the device; `data` is no longer needed when this returns.
    ///
    /// # Errors
    /// What the device says.
    fn write(&self, address: u64, data: &[u8]) -> Result<()>;

    /// Copies to the device beside the kernels that run, which must be none that use the array: its
    /// last user has been waited for, and its next is launched after [`join`](Driver::join). A device
    /// that does one thing at a time copies at once.
    ///
    /// # Errors
    /// What the device says.
    fn write_beside(&self, address: u64, data: &[u8]) -> Result<()> {
        self.write(address, data)
    }

    /// Has what is launched from now on wait, on the device, for all that was written beside kernels.
    ///
    /// # Errors
    /// What the device says.
    fn join(&self) -> Result<()> {
        Ok(())
    }

    /// Copies from the device, when all kernels that were launched are done.
    ///
    /// # Errors
    /// What the device says of the copy, or of a kernel before it.
    fn read(&self, address: u64, data: &mut [u8]) -> Result<()>;

    /// The same of several arrays, which waits once for all of them.
    ///
    /// # Errors
    /// Those of [`read`](Driver::read).
    fn read_many(&self, parts: &mut [(u64, &mut [u8])]) -> Result<()> {
        parts.iter_mut().try_for_each(|(address, data)| self.read(*address, data))
    }

    /// Fills with zeros.
    ///
    /// # Errors
    /// What the device says.
    fn zero(&self, address: u64, bytes: usize) -> Result<()>;

    /// Starts a kernel.
    ///
    /// # Errors
    /// What the device says.
    fn launch(&self, kernel: &str, shape: Shape, arguments: &[Argument]) -> Result<()>;
}

/// How many threads a kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Blocks, in two dimensions.
    pub grid: [u32; 2],
    /// Threads of a block: a multiple of 32.
    pub block: u32,
    /// Bytes of shared memory of a block, besides what the kernel declares.
    pub shared: u32,
}

impl Shape {
    /// Blocks in a row.
    pub(crate) fn blocks(grid: usize, block: u32) -> Shape {
        Shape { grid: [grid as u32, 1], block, shared: 0 }
    }

    /// Blocks of 128 columns, and so many rows of them.
    pub(crate) fn columns(columns: usize, rows: usize) -> Shape {
        Shape { grid: [columns.div_ceil(128) as u32, rows as u32], block: 128, shared: 0 }
    }

    /// With so many numbers of 32 bits of shared memory for each block.
    pub(crate) fn with_shared(self, words: usize) -> Shape {
        Shape { shared: (words * 4).next_multiple_of(16) as u32, ..self }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// The address of a buffer, or 0 for none.
    Address(u64),
    /// A whole number.
    U32(u32),
    /// A number.
    F32(f32),
    /// The numbers of a step of Adam.
    Adam([f32; 7]),
}

impl Argument {
    /// As a kernel reads it.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Argument::Address(x) => bytemuck::bytes_of(x),
            Argument::U32(x) => bytemuck::bytes_of(x),
            Argument::F32(x) => bytemuck::bytes_of(x),
            Argument::Adam(x) => bytemuck::bytes_of(x),
        }
    }
}

impl From<u32> for Argument {
    fn from(x: u32) -> Argument {
        Argument::U32(x)
    }
}

impl From<usize> for Argument {
    /// Sizes are checked where work begins: none is beyond 32 bits.
    fn from(x: usize) -> Argument {
        Argument::U32(x as u32)
    }
}

impl From<bool> for Argument {
    fn from(x: bool) -> Argument {
        Argument::U32(x.into())
    }
}

impl From<f32> for Argument {
    fn from(x: f32) -> Argument {
        Argument::F32(x)
    }
}

impl<T> From<&Buffer<T>> for Argument {
    fn from(buffer: &Buffer<T>) -> Argument {
        Argument::Address(buffer.address)
    }
}

impl<T> From<Option<&Buffer<T>>> for Argument {
    fn from(buffer: Option<&Buffer<T>>) -> Argument {
        Argument::Address(buffer.map_or(0, |buffer| buffer.address))
    }
}

/// Launches a kernel: `launch!(device, "name", shape, [a, b, c])?`.
macro_rules! launch {
    ($device:expr, $kernel:literal, $shape:expr, [$($argument:expr),* $(,)?]) => {
        $device.launch($kernel, $shape, &[$($crate::device::Argument::from($argument)),*])
    };
}
pub(crate) use launch;

/// An array on a device; given back when dropped.
#[derive(Debug)]
pub(crate) struct Buffer<T> {
    device: Arc<dyn Driver>,
    address: u64,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// Room for `len` numbers that hold anything.
    pub(crate) fn new(device: &Arc<dyn Driver>, len: usize) -> Result<Buffer<T>> {
        // One more than none, so that an address is never 0.
        let address = device.allocate((len * size_of::<T>()).max(size_of::<T>()))?;
        Ok(Buffer { device: device.clone(), address, len, of: PhantomData })
    }

    /// So many zeros.
    pub(crate) fn zeros(device: &Arc<dyn Driver>, len: usize) -> Result<Buffer<T>> {
        let buffer = Buffer::new(device, len)?;
        buffer.clear()?;
        Ok(buffer)
    }

    /// A copy of an array.
    pub(crate) fn of(device: &Arc<dyn Driver>, data: &[T]) -> Result<Buffer<T>> {
        let buffer = Buffer::new(device, data.len())?;
        buffer.write(data)?;
        Ok(buffer)
    }

    /// How many numbers it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Overwrites its first numbers.
    pub(crate) fn write(&self, data: &[T]) -> Result<()> {
        self.write_at(0, data)
    }

    /// Overwrites its numbers from one on.
    pub(crate) fn write_at(&self, from: usize, data: &[T]) -> Result<()> {
        debug_assert!(from + data.len() <= self.len);
        if data.is_empty() {
            Ok(())
        } else {
            let address = self.address + (from * size_of::<T>()) as u64;
            self.device.write(address, bytemuck::cast_slice(data))
        }
    }

    /// Overwrites its first numbers beside the kernels that run: see [`Driver::write_beside`].
    pub(crate) fn write_beside(&self, data: &[T]) -> Result<()> {
        debug_assert!(data.len() <= self.len);
        if data.is_empty() {
            Ok(())
        } else {
            self.device.write_beside(self.address, bytemuck::cast_slice(data))
        }
    }

    /// Holds these numbers from now on, in the same place if there is room.
    pub(crate) fn take(&mut self, data: &[T]) -> Result<()> {
        if self.len < data.len() {
            *self = Buffer::new(&self.device, data.len().next_power_of_two())?;
        }
        self.write(data)
    }

    /// Copies its first numbers out.
    pub(crate) fn read(&self, data: &mut [T]) -> Result<()> {
        debug_assert!(data.len() <= self.len);
        if data.is_empty() {
            Ok(())
        } else {
            self.device.read(self.address, bytemuck::cast_slice_mut(data))
        }
    }

    /// Its first numbers, and where they go, for [`Driver::read_many`].
    pub(crate) fn onto<'a>(&self, data: &'a mut [T]) -> (u64, &'a mut [u8]) {
        debug_assert!(data.len() <= self.len);
        (self.address, bytemuck::cast_slice_mut(data))
    }

    /// Fills it with zeros.
    pub(crate) fn clear(&self) -> Result<()> {
        if self.len == 0 {
            Ok(())
        } else {
            self.device.zero(self.address, self.len * size_of::<T>())
        }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        self.device.free(self.address);
    }
}
