//! An order in which rows that lie side by side are needed soon after each other.
//!
//! A disk that gives a hundred megabytes a second gives a hundred places a second. So the store is
//! read in blocks, and what a shuffle is for, that a batch has rows from everywhere, comes from
//! mixing the rows of many blocks:
//!
//! ```text
//! rows of the store, from a place that is another each epoch   [0 1 2 3][4 5 6 7][8 9 …]   blocks
//! the blocks in random order, `mixed` = 2 of them a window      [8 …][0 …] | [4 …][12 …] | …
//! the rows of a window in random order                          9 2 0 11 8 3 1 10 | 13 4 …
//! ```
//!
//! Both orders are [`Permutation`]s, so where a row comes is a formula of the seed and the position,
//! as in the order without blocks: nothing is kept, and a run that goes on goes on in it exactly.
//!
//! The last block has what is left over, and comes last in the epoch; since the blocks begin at
//! another place each epoch, that is not always the same rows.

use std::ops::Range;

use super::{Permutation, RowOrder, Shuffle, split_mix};

/// Rows in a block, and blocks in a window.
#[derive(Clone, Copy)]
pub struct Blocks {
    rows: u64,
    mixed: u64,
}

impl Blocks {
    pub fn of(order: RowOrder) -> Option<Blocks> {
        let RowOrder::Blocks { rows, mixed } = order else { return None };
        Some(Blocks { rows: rows.max(1) as u64, mixed: mixed.max(1) as u64 })
    }

    /// Rows in a window.
    fn window(&self) -> u64 {
        self.rows.saturating_mul(self.mixed)
    }
}

/// The order of one epoch.
pub struct InBlocks {
    n: u64,
    blocks: Blocks,
    /// Where the first block begins.
    first: u64,
    /// The order of the blocks that are whole.
    order: Permutation,
    /// What the orders within windows are made from.
    seed: u64,
    /// The number of the window that was looked at last, and its order.
    window: Option<(u64, Permutation)>,
}

impl InBlocks {
    /// The order of this epoch of `n` rows, at least 1.
    pub fn new(n: u64, seed: u64, epoch: u64, blocks: Blocks) -> InBlocks {
        // Three streams that have nothing in common, nor with the order of single rows.
        let mut state = split_mix(&mut { !seed }) ^ split_mix(&mut { epoch }).rotate_left(32);
        let mut next = || split_mix(&mut state);
        let (first, of_blocks, of_windows) = (next() % n, next(), next());
        let order = Permutation::new((n / blocks.rows).max(1), of_blocks, epoch);
        InBlocks { n, blocks, first, order, seed: of_windows, window: None }
    }

    /// The row at a position of the epoch.
    pub fn row(&mut self, position: u64) -> u64 {
        let length = self.blocks.window();
        let window = position / length;
        let start = window * length;
        let order = match self.window.take().filter(|(number, _)| *number == window) {
            Some((_, order)) => order,
            None => Permutation::new(length.min(self.n - start), self.seed, window),
        };
        let mixed = start + order.row(position - start);
        self.window = Some((window, order));
        let (place, within) = (mixed / self.blocks.rows, mixed % self.blocks.rows);
        self.placed(self.block(place) * self.blocks.rows + within)
    }

    /// The number, in the store, of the block at this place in the order of blocks.
    fn block(&self, place: u64) -> u64 {
        if place < self.n / self.blocks.rows { self.order.row(place) } else { place }
    }

    /// A row counted from where the first block begins.
    fn placed(&self, row: u64) -> u64 {
        let to_end = self.n - self.first;
        if row < to_end { row + self.first } else { row - to_end }
    }

    /// The rows of the block at this place in the order of blocks, in one piece, or in two if the
    /// end of the store lies in it.
    fn rows_of(&self, place: u64) -> Vec<Range<u64>> {
        let start = self.block(place) * self.blocks.rows;
        let end = self.n.min(start + self.blocks.rows);
        let to_end = self.n - self.first;
        let pieces = [start.min(to_end)..end.min(to_end), start.max(to_end)..end.max(to_end)];
        let placed = |rows: Range<u64>| {
            self.placed(rows.start)..self.placed(rows.start) + (rows.end - rows.start)
        };
        pieces.into_iter().filter(|rows| !rows.is_empty()).map(placed).collect()
    }
}

impl Shuffle {
    /// What to read ahead while the rows at the positions `start..start + n` are used: the blocks
    /// that come a window later, so that all of a window is there when it begins; and all of the
    /// window in hand if they are the `first` that are used. Nothing of an order without blocks.
    pub fn ahead(&self, start: u64, n: usize, first: bool) -> Vec<Range<u64>> {
        let Some(blocks) = self.blocks else { return Vec::new() };
        let (rows, length) = (self.n.max(1), blocks.window().min(self.n.max(1)));
        let from = if first { start - (start % rows) % length } else { start + length };
        let mut pieces = Vec::new();
        let mut epoch: Option<(u64, InBlocks)> = None;
        let (mut position, end) = (from, start + n as u64 + length);
        while position < end {
            let (number, within) = (position / rows, position % rows);
            // To where a block begins, or the next epoch.
            let begins = within.div_ceil(blocks.rows).saturating_mul(blocks.rows).min(rows);
            if begins > within {
                position += begins - within;
                continue;
            }
            let order = match epoch.take().filter(|(of, _)| *of == number) {
                Some((_, order)) => order,
                None => InBlocks::new(rows, self.seed, number, blocks),
            };
            pieces.extend(order.rows_of(within / blocks.rows));
            epoch = Some((number, order));
            position += 1;
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shuffle(n: u64, seed: u64, rows: usize, mixed: usize) -> Shuffle {
        Shuffle::ordered(n, seed, RowOrder::Blocks { rows, mixed })
    }

    proptest! {
        #[test]
        fn every_epoch_visits_every_row_once(n in 1u64..3000, seed: u64, epoch in 0u64..1 << 20, rows in 1usize..400, mixed in 1usize..20) {
            let mut all = shuffle(n, seed, rows, mixed).fill(epoch * n, n as usize);
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..n));
        }

        #[test]
        fn rows_are_the_same_one_by_one_and_together(n in 1u64..300, seed: u64, start in 0u64..10_000, len in 0usize..400, rows in 1usize..40, mixed in 1usize..5) {
            let shuffle = shuffle(n, seed, rows, mixed);
            let together = shuffle.fill(start, len);
            prop_assert_eq!(together, (start..start + len as u64).map(|p| shuffle.fill(p, 1)[0]).collect::<Vec<_>>());
        }

        #[test]
        fn a_window_has_the_rows_of_few_blocks(n in 500u64..3000, seed: u64, epoch in 0u64..100, rows in 20usize..60, mixed in 1usize..5) {
            let window = rows * mixed;
            for part in shuffle(n, seed, rows, mixed).fill(epoch * n, n as usize).chunks(window) {
                let mut part = part.to_vec();
                part.sort_unstable();
                // A stretch for each block; one more if the end of the store lies in one.
                let stretches = 1 + part.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
                prop_assert!(stretches <= mixed + 1, "{stretches} stretches of {mixed} blocks");
            }
        }

        #[test]
        fn what_is_used_was_read_ahead(n in 1u64..2000, seed: u64, from in 0u64..5000, batch in 1usize..100, rows in 1usize..60, mixed in 1usize..5) {
            let shuffle = shuffle(n, seed, rows, mixed);
            let mut ahead = std::collections::HashSet::new();
            for step in 0..40 {
                let start = from + step * batch as u64;
                ahead.extend(shuffle.ahead(start, batch, step == 0).into_iter().flatten());
                prop_assert!(shuffle.fill(start, batch).iter().all(|row| ahead.contains(row)), "step {step}");
            }
        }

        #[test]
        fn numbers_without_bound_do_no_harm(n in 1u64..1 << 60, seed: u64, position in 0u64..1 << 60, rows in 1usize..usize::MAX, mixed in 1usize..usize::MAX) {
            prop_assert!(shuffle(n, seed, rows, mixed).fill(position, 1)[0] < n);
        }
    }

    #[test]
    fn no_block_is_larger_than_a_store_without_rows() {
        assert_eq!(shuffle(0, 1, 5, 2).fill(3, 2), [0, 0]);
    }

    #[test]
    fn blocks_begin_elsewhere_and_come_in_another_order_each_epoch() {
        let shuffle = shuffle(1000, 3, 100, 1);
        let firsts = |epoch: u64| -> Vec<u64> {
            let rows = shuffle.fill(epoch * 1000, 1000);
            rows.chunks(100).map(|block| *block.iter().min().unwrap()).collect()
        };
        let (a, b) = (firsts(0), firsts(1));
        assert_ne!(a[0] % 100, b[0] % 100);
        assert!(a.windows(2).any(|pair| pair[0] > pair[1]) && a != b);
    }

    /// Resumed runs depend on it. The numbers come from the same definition in Python's integers.
    #[test]
    fn the_order_of_a_seed_never_changes() {
        let golden = [0, 5, 7, 8, 6, 9, 1, 2, 4, 3, 0, 9, 3, 2, 8, 4, 5, 7, 6, 1];
        assert_eq!(shuffle(10, 0, 3, 2).fill(0, 20), golden);
        let n = 300_000_007;
        let rows = [0, 1, 2, n - 1, n, 5 * n + 12_345]
            .map(|position| shuffle(n, 42, 4096, 64).fill(position, 1)[0]);
        assert_eq!(
            rows,
            [141_768_518, 103_426_863, 77_127_964, 125_503_075, 177_854_232, 55_888_932]
        );
    }

    #[test]
    fn without_blocks_nothing_is_read_ahead() {
        assert!(Shuffle::new(100, 0).ahead(0, 10, true).is_empty());
    }
}
