//! Buffers that threads lend each other.

use std::sync::{Mutex, PoisonError};

/// Things that are dear to make and serve again, such as a thread's buffers.
pub(super) struct Pool<T>(Mutex<Vec<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool(Mutex::new(Vec::new()))
    }
}

impl<T> Pool<T> {
    /// One that lies there, or a new one.
    pub(super) fn take(&self, new: impl FnOnce() -> T) -> T {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        found.unwrap_or_else(new)
    }

    /// Lays it back.
    pub(super) fn give_back(&self, thing: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(thing);
    }
}
