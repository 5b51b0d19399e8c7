//! Whether there is room for what is about to be kept in memory.

use crate::base::error::Result;
use crate::base::forecast;
use crate::base::format;

/// Looks at the memory that is left while tokens pile up.
pub struct MemoryBudget {
    /// The number of tokens at which to look again.
    look_at: usize,
}

impl MemoryBudget {
    /// Fewer tokens, of 64 MiB, are not worth a look.
    const FIRST: usize = 16 << 20;

    pub fn new() -> MemoryBudget {
        MemoryBudget { look_at: MemoryBudget::FIRST }
    }

    /// Checks that the array of `n_tokens` tokens can grow: to twice its size, beside itself.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory) with what to do instead.
    pub fn check(&mut self, n_tokens: usize) -> Result<()> {
        if n_tokens < self.look_at {
            return Ok(());
        }
        self.look_at = n_tokens + n_tokens / 4;
        forecast::check("keeping the corpus in memory", 8 * n_tokens as u64, |_| {
            let read = format::count(n_tokens as u64);
            format!(
                "{read} tokens have been read, and there is more text: ask for fewer with max_tokens, or use stream(…), which keeps none, instead of split(…)"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Error;

    #[test]
    fn too_little_memory_says_what_to_do() {
        let mut room = MemoryBudget::new();
        room.check(MemoryBudget::FIRST - 1).unwrap();
        let told = room.check(1 << 60).unwrap_err();
        assert!(
            matches!(told, Error::Memory { .. }) && told.to_string().contains("stream("),
            "{told}"
        );
        room.check(1 << 60).unwrap();
    }
}
