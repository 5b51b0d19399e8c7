//! Whether there is room for what is about to be kept in memory.

use crate::display::format;
use crate::error::{Error, Result};

/// Looks at the memory that is left while tokens pile up.
pub struct Room {
    /// The number of tokens at which to look again.
    look_at: usize,
}

impl Room {
    pub fn new() -> Room {
        /// Fewer than 64 MiB are not worth a look.
        const FIRST: usize = 16 << 20;
        Room { look_at: FIRST }
    }

    /// Checks that the array of `n_tokens` tokens can grow: to twice its size, beside itself.
    ///
    /// # Errors
    /// [`Error::Config`] with what to do instead.
    pub fn check(&mut self, n_tokens: usize) -> Result<()> {
        if n_tokens < self.look_at {
            return Ok(());
        }
        self.look_at = n_tokens + n_tokens / 4;
        match available() {
            Some(left) => Room::fits(n_tokens, left),
            None => Ok(()),
        }
    }

    fn fits(n_tokens: usize, left: u64) -> Result<()> {
        let need = 8 * n_tokens as u64;
        if need <= left {
            return Ok(());
        }
        let why = format!(
            "{} tokens have been read, {} of memory are left, and there is more text: ask for fewer tokens, or take stream(…) in place of split(…), which keeps none in memory",
            format::count(n_tokens as u64),
            format::bytes(left)
        );
        Err(Error::config("max_tokens", why))
    }
}

/// Bytes that this machine can still give, where it says so.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_says_what_to_do() {
        assert!(Room::fits(1 << 30, 9 << 30).is_ok());
        let told = Room::fits(1 << 30, 7 << 30).unwrap_err().to_string();
        assert!(told.contains("stream") && told.contains("7.5 GB"), "{told}");
        assert!(Room::new().check(1 << 24).is_ok());
        #[cfg(target_os = "linux")]
        assert!(available().unwrap() > 1 << 20);
    }
}
