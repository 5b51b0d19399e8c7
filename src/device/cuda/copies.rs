//! What travels to a card and back.
//!
//! Copies take their turn among the kernels, in the default stream. What is written goes by way of
//! pinned memory, from which the card fetches it by itself when its turn has come, so that the host
//! need not wait. What is read comes the same way; for that the host waits, and then this memory is
//! empty again.
//!
//! What is written beside the kernels has a stream and pinned memory of its own. For the event
//! after each copy the host waits before it fills that memory anew, and the card before the kernels
//! that follow a join.

use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::{result, sys};
use rayon::prelude::*;
use result::DriverError;

use super::KERNELS;

/// Pinned bytes that small copies go through, a million a step at GPT-2's shape. What is larger,
/// such as weights, the driver copies at once.
const SMALL: usize = 16 << 20;

/// Bytes that a thread copies at a time.
const PIECE: usize = 1 << 20;

/// The copies of a context, which has to be the thread's in every call, and when this is dropped.
pub(super) struct Copies {
    small: Mutex<Small>,
    beside: sys::CUstream,
    uploads: Mutex<Vec<Upload>>,
}

impl Copies {
    pub(super) fn new() -> Result<Copies, DriverError> {
        let small = Mutex::new(Small { pinned: Pinned::new(SMALL)?, used: 0 });
        // Neither this nor the default stream waits for the other. It goes with the context.
        let beside = result::stream::create(result::stream::StreamKind::NonBlocking)?;
        Ok(Copies { small, beside, uploads: Mutex::default() })
    }

    pub(super) fn write(&self, address: u64, data: &[u8]) -> Result<(), DriverError> {
        if data.len() > SMALL {
            // SAFETY: buffers copy no more than they hold; the call returns when `data` is no
            // longer needed.
            return unsafe { result::memcpy_htod_sync(address, data) };
        }
        let mut small = self.room(data.len())?;
        let pinned = small.next(data.len());
        pinned.copy_from_slice(data);
        // SAFETY: as above; nobody touches `pinned` before the next wait, which takes the lock.
        unsafe { result::memcpy_htod_async(address, pinned, KERNELS) }
    }

    pub(super) fn write_beside(&self, address: u64, data: &[u8]) -> Result<(), DriverError> {
        // Not in the list while it is filled: whoever writes there meanwhile takes another.
        let free = locked(&self.uploads).pop().filter(|free| free.pinned.bytes >= data.len());
        let mut upload = match free {
            Some(free) => free,
            None => Upload::new(data.len().next_power_of_two())?,
        };
        upload.start(address, data, self.beside)?;
        locked(&self.uploads).push(upload);
        Ok(())
    }

    pub(super) fn join(&self) -> Result<(), DriverError> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        locked(&self.uploads).iter().try_for_each(|upload| {
            // SAFETY: the event is there for as long as the upload.
            unsafe { result::stream::wait_event(KERNELS, upload.arrived, flags) }
        })
    }

    pub(super) fn read(&self, parts: &mut [(u64, &mut [u8])]) -> Result<(), DriverError> {
        let bytes = parts.iter().map(|(_, data)| data.len()).sum();
        if bytes > SMALL {
            return parts.iter_mut().try_for_each(|(address, data)| {
                // SAFETY: buffers copy no more than they hold; the call returns when all is there.
                unsafe { result::memcpy_dtoh_sync(data, *address) }
            });
        }
        let mut small = self.room(bytes)?;
        let mut from = small.used;
        for (address, data) in &mut *parts {
            // SAFETY: as above; nobody touches it before the wait.
            unsafe { result::memcpy_dtoh_async(small.next(data.len()), *address, KERNELS) }?;
        }
        small.wait()?;
        for (_, data) in parts {
            data.copy_from_slice(small.pinned.part(from, data.len()));
            from += data.len();
        }
        Ok(())
    }

    /// The memory of small copies, with room for so many bytes more.
    fn room(&self, bytes: usize) -> Result<MutexGuard<'_, Small>, DriverError> {
        let mut small = locked(&self.small);
        if small.used + bytes > SMALL {
            small.wait()?;
        }
        Ok(small)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory of the host that the card reads and writes by itself.
struct Pinned {
    start: *mut u8,
    bytes: usize,
}

impl Pinned {
    fn new(bytes: usize) -> Result<Pinned, DriverError> {
        // SAFETY: it is filled at once.
        let start: *mut u8 = unsafe { result::malloc_host(bytes, 0) }?.cast();
        // SAFETY: so many bytes begin there, and nobody else has them yet.
        unsafe { start.write_bytes(0, bytes) };
        Ok(Pinned { start, bytes })
    }

    /// A part of it, which the card may not be copying.
    fn part(&mut self, from: usize, len: usize) -> &mut [u8] {
        assert!(from + len <= self.bytes);
        // SAFETY: it lies within, and was filled when it was made.
        unsafe { slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: `new` got it from the driver. An error can help nobody here.
        let _ = unsafe { result::free_host(self.start.cast()) };
    }
}

/// The memory of small copies, which lie one behind the other until the host waits for the card.
struct Small {
    pinned: Pinned,
    used: usize,
}

impl Small {
    /// The next bytes, for which there is room.
    fn next(&mut self, len: usize) -> &mut [u8] {
        self.used += len;
        self.pinned.part(self.used - len, len)
    }

    /// Waits for all kernels and small copies that were asked for.
    fn wait(&mut self) -> Result<(), DriverError> {
        // SAFETY: the default stream is always there.
        unsafe { result::stream::synchronize(KERNELS) }?;
        self.used = 0;
        Ok(())
    }
}

/// What a copy beside the kernels leaves from, and the event of its arrival.
struct Upload {
    pinned: Pinned,
    arrived: sys::CUevent,
}

impl Upload {
    fn new(bytes: usize) -> Result<Upload, DriverError> {
        let pinned = Pinned::new(bytes)?;
        let arrived = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
        Ok(Upload { pinned, arrived })
    }

    /// Waits until the last copy has arrived, if there was one.
    fn wait(&self) -> Result<(), DriverError> {
        // SAFETY: the event is there for as long as this.
        unsafe { result::event::synchronize(self.arrived) }
    }

    /// Has a copy made when its turn comes in a stream.
    fn start(
        &mut self,
        address: u64,
        data: &[u8],
        stream: sys::CUstream,
    ) -> Result<(), DriverError> {
        self.wait()?;
        let pinned = self.pinned.part(0, data.len());
        let pieces = pinned.par_chunks_mut(PIECE).zip(data.par_chunks(PIECE));
        pieces.for_each(|(to, from)| to.copy_from_slice(from));
        // SAFETY: buffers copy no more than they hold; nobody touches `pinned` before the event.
        unsafe {
            result::memcpy_htod_async(address, pinned, stream)?;
            result::event::record(self.arrived, stream)
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let _ = self.wait();
        // SAFETY: it was made with this. An error can help nobody here.
        let _ = unsafe { result::event::destroy(self.arrived) };
    }
}
