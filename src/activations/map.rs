//! A file as memory. What else is unsafe stands in ARCHITECTURE.md.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;

/// A read-only memory map.
pub struct Map(memmap2::Mmap);

impl Map {
    /// Maps the whole of `file`. Rows are read in random order, so the system is asked not to read
    /// ahead.
    pub fn new(file: &File) -> std::io::Result<Map> {
        // SAFETY: the map is read-only, and the bytes under it do not change while it lives: this
        // crate never writes into a shard, it only ever puts a whole new file in the place of an
        // old one by a rename, which leaves the old bytes in place for whoever mapped them. Another
        // program that cuts the file short under our feet can end the process by a bus error, as
        // with any map.
        let map = unsafe { memmap2::Mmap::map(file)? };
        #[cfg(unix)]
        map.advise(memmap2::Advice::Random)?;
        Ok(Map(map))
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Asks the system to read a stretch ahead, because all of it is about to be read.
    pub fn will_need(&self, at: Range<usize>) {
        // Advice only: whether it is taken changes the speed and nothing else.
        #[cfg(unix)]
        let _ = self.0.advise_range(memmap2::Advice::WillNeed, at.start, at.len());
        #[cfg(not(unix))]
        let _ = at;
    }
}
