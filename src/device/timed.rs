//! What each kernel takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::driver::{Argument, Buffer, Driver, Shape};
use crate::base::error::Result;

/// A device that waits for each kernel and each copy and adds up what it took, by name. Steps take
/// longer on it than on the device itself, where the next kernel is ready when one ends.
#[derive(Debug)]
pub struct Timed {
    device: Arc<dyn Driver>,
    /// Reading it waits for all that was launched.
    last: Buffer<u32>,
    times: Mutex<BTreeMap<String, Duration>>,
}

impl Timed {
    /// On a device.
    ///
    /// # Errors
    /// What the device says.
    pub fn new(device: &Arc<dyn Driver>) -> Result<Timed> {
        let (device, last) = (device.clone(), Buffer::zeros(device, 1)?);
        Ok(Timed { device, last, times: Mutex::default() })
    }

    /// What all kernels of a name have taken since this was last asked; copies under `"to the
    /// device"` and `"from the device"`.
    pub fn take(&self) -> BTreeMap<String, Duration> {
        std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn time(&self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        work()?;
        self.last.read(&mut [0])?;
        let took = start.elapsed();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        *times.entry(name.to_owned()).or_default() += took;
        Ok(())
    }
}

impl Driver for Timed {
    fn name(&self) -> String {
        self.device.name()
    }

    fn free_bytes(&self) -> Result<u64> {
        self.device.free_bytes()
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.device.allocate(bytes)
    }

    fn free(&self, address: u64) {
        self.device.free(address);
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<()> {
        self.time("to the device", || self.device.write(address, data))
    }

    fn write_beside(&self, address: u64, data: &[u8]) -> Result<()> {
        self.time("to the device", || {
            self.device.write_beside(address, data)?;
            self.device.join()
        })
    }

    fn read(&self, address: u64, data: &mut [u8]) -> Result<()> {
        self.time("from the device", || self.device.read(address, data))
    }

    fn read_many(&self, parts: &mut [(u64, &mut [u8])]) -> Result<()> {
        self.time("from the device", || self.device.read_many(parts))
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        self.time("zeros", || self.device.zero(address, bytes))
    }

    fn launch(&self, kernel: &str, shape: Shape, arguments: &[Argument]) -> Result<()> {
        self.time(kernel, || self.device.launch(kernel, shape, arguments))
    }
}
