//! How a product is cut up: into blocks of rows, groups of panels and stretches of the depth.

use std::ops::Range;

use super::pack::STRETCH;
use crate::cpu::simd::tile::ROWS;

/// Rows of a block, at most: with a stretch of each, a third of a megabyte.
const BLOCK: usize = 8 * ROWS;

/// How a product is shared out: this many blocks of rows, and groups of panels for each.
pub(super) struct Cut {
    pub blocks: usize,
    pub groups: usize,
    /// Whether one thread does it all.
    pub alone: bool,
}

impl Cut {
    /// For `n` rows of `words` in so many stretches, and about `work` operations.
    pub fn of(n: usize, words: usize, stretches: usize, n_panels: usize, work: usize) -> Cut {
        /// What is worth waking a thread for, and what a thread should at least be given then.
        const WORTH_WAKING: usize = 1 << 20;
        const WORTH_TAKING: usize = 1 << 24;
        /// Tasks a thread, so that the last to end is not long behind.
        const TASKS: usize = 24;
        /// Panels in a group whose sums are kept between stretches: 12 of a block take 172 KiB.
        const KEPT: usize = 12;
        let threads = rayon::current_num_threads();
        let blocks = n.div_ceil(BLOCK);
        let least = if stretches > 1 { n_panels.div_ceil(KEPT) } else { 1 };
        let alone = work < WORTH_WAKING || threads == 1;
        let tasks = if alone { 1 } else { (work / WORTH_TAKING).clamp(threads, threads * TASKS) };
        // Rows that have to be copied are copied once for each group.
        let tasks = if spread(words).is_some() { tasks.min(4 * threads) } else { tasks };
        Cut { blocks, groups: tasks.div_ceil(blocks).max(least).min(n_panels), alone }
    }
}

/// Part `i` of `n` in `parts` parts as even as can be.
pub(super) fn share(n: usize, parts: usize, i: usize) -> Range<usize> {
    n * i / parts..n * (i + 1) / parts
}

/// Words from a row to the next, if rows of so many words lie so that their cache lines drive each
/// other out: a first-level cache has one place for every 4 KiB, a dozen deep, and a tile reads
/// fourteen rows at once.
pub(super) fn spread(words: usize) -> Option<usize> {
    (words > 0 && (4 * words).is_multiple_of(4096))
        .then(|| words.min(STRETCH).next_multiple_of(16) + 16)
}
