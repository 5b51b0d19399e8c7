//! Which shards are mapped: those of which a row was read, and no more at a time than a system
//! allows.
//!
//! Linux gives a process 65,530 memory maps, and a store of 10¹⁰ tokens has 150,000 shards. Beyond a
//! bound the oldest map goes when a new one comes. That is as good as any choice: rows are read in
//! random order, where no shard is likelier to be next than another, or in the store's own, where
//! an old one is not needed again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::map::Map;
use crate::base::error::Result;

/// Shards of a store that are mapped at once: a quarter of what Linux gives a process.
const MOST: usize = 16_384;

/// The maps of the shards of one store.
pub struct Maps {
    most: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// By the shard's place in the store.
    maps: HashMap<usize, Arc<Map>>,
    /// The places, the oldest map first.
    order: VecDeque<usize>,
}

impl Default for Maps {
    fn default() -> Maps {
        Maps::of(MOST)
    }
}

impl Maps {
    /// Room for `most` maps, at least one.
    pub fn of(most: usize) -> Maps {
        Maps { most: most.max(1), held: Mutex::default() }
    }

    /// How many shards may be mapped at once. (A map that somebody still reads stays until he has.)
    pub fn most(&self) -> usize {
        self.most
    }

    /// The map of the shard at place `index`, by `make` if there is none.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get(&self, index: usize, make: impl FnOnce() -> Result<Map>) -> Result<Arc<Map>> {
        if let Some(map) = self.held(|held| held.maps.get(&index).cloned()) {
            return Ok(map);
        }
        // Without the lock: threads that need other shards need not wait for this file.
        let made = Arc::new(make()?);
        let gone = self.held(|held| {
            if held.maps.insert(index, made.clone()).is_none() {
                held.order.push_back(index);
            }
            let too_many = held.order.len() > self.most;
            let oldest = if too_many { held.order.pop_front() } else { None };
            oldest.and_then(|index| held.maps.remove(&index))
        });
        drop(gone);
        Ok(made)
    }

    fn held<T>(&self, with: impl FnOnce(&mut Held) -> T) -> T {
        with(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
