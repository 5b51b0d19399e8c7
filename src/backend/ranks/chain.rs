//! Latents shared out among ranks: what all latents add up to goes from rank to rank.
//!
//! A sum over latents has an order, that of the latents, and floating-point numbers that are added in
//! another order give other bits. So each rank owns a range of latents, the first the lowest; a sum
//! begins on the first, is [handed on](Ranks::hand_on) from rank to rank, each of which adds what its
//! latents give, and comes back to all from the last. It goes in pieces, some rows at a time, so that
//! the first works on the second piece while the second has the first.
//!
//! Three things of a step go this way, for n rows:
//!
//! | what | bytes |
//! | --- | --- |
//! | the k largest so far: latent, value | 8·k·n |
//! | x̂, which comes back as the residuals | 4·d_model·n |
//! | what b_dec receives through the encoder | 4·d_model |
//!
//! Everything else, the codes' gradients, those of weights, and Adam, is made of what a rank then has,
//! for its own latents alone. Rows of the table are owned in the same way, and gathered where their
//! tokens occur in the batch.
//!
//! Against the exchange of rows, the step by latent is shared out as well, and a rank has moments,
//! two thirds of what training holds, for its own latents alone. (Parameters it holds whole, since
//! they are drawn, compared and measured whole; it moves and reads its own.) But each rank scores k
//! latents of every row exactly, of which all but k in R are in vain, and about twice the bytes
//! travel, one after the other.

use std::ops::Range;

use bytemuck::Pod;

use super::{BLOCK, Ranks, share_of};
use crate::base::error::Result;

/// Rows that are handed on at once: whole blocks, and few enough that all ranks soon have work.
pub const HANDED_ON: usize = 4 * BLOCK;

/// The most bytes that are sent at once: MPI takes less than 2 GB.
const AT_ONCE: usize = 1 << 28;

/// The bytes that reach a rank in the middle in a step of a TopK SAE, handed on and back, but for the
/// rows of a table.
pub fn bytes_of_chain(rows: usize, d_model: usize, k: usize) -> u64 {
    (2 * (8 * k * rows + 4 * d_model * (rows + 1)) + 4 * d_model + 24) as u64
}

impl Ranks {
    /// Which of `n` things, latents or rows of a table, this rank owns: whole units, in order.
    pub(in crate::backend) fn share(&self, n: usize, unit: usize) -> Range<usize> {
        share_of(self.rank(), self.size(), n, unit)
    }

    /// Whether what is handed on ends here.
    pub(in crate::backend) fn is_last(&self) -> bool {
        self.rank() + 1 == self.size()
    }

    /// Hands `running` from the first rank to the last, `at_once` numbers at a time, and back to all.
    /// `add` is told where a piece begins, and leaves in it what the next rank is to find.
    ///
    /// # Errors
    /// Those of [`Collective::receive`](super::Collective::receive).
    pub(in crate::backend) fn hand_on<T: Pod>(
        &self,
        running: &mut [T],
        at_once: usize,
        mut add: impl FnMut(usize, &mut [T]),
    ) -> Result<()> {
        let rank = self.rank();
        for (i, piece) in running.chunks_mut(at_once.max(1)).enumerate() {
            if let Some(group) = self.group.as_ref().filter(|_| rank > 0) {
                group.receive(rank - 1, bytemuck::cast_slice_mut(piece))?;
            }
            add(i * at_once, piece);
            if let Some(group) = self.group.as_ref().filter(|_| !self.is_last()) {
                group.send(rank + 1, bytemuck::cast_slice(piece))?;
            }
        }
        self.spread(self.size() - 1, running)
    }

    /// Gives all ranks what one has.
    ///
    /// # Errors
    /// Those of [`Collective::all_gather`](super::Collective::all_gather).
    pub(in crate::backend) fn spread<T: Pod>(&self, owner: usize, all: &mut [T]) -> Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        for piece in bytemuck::cast_slice_mut(all).chunks_mut(AT_ONCE) {
            let end = piece.len();
            let parts: Vec<Range<usize>> = (0..self.size())
                .map(|rank| match rank.cmp(&owner) {
                    std::cmp::Ordering::Less => 0..0,
                    std::cmp::Ordering::Equal => 0..end,
                    std::cmp::Ordering::Greater => end..end,
                })
                .collect();
            group.gather(piece, &parts)?;
        }
        Ok(())
    }

    /// Gives all ranks what each owns of `all`, `[n, wide]`.
    ///
    /// # Errors
    /// Those of [`Collective::all_gather`](super::Collective::all_gather).
    pub(in crate::backend) fn spread_owned<T: Pod>(
        &self,
        all: &mut [T],
        wide: usize,
        unit: usize,
    ) -> Result<()> {
        for owner in 0..self.size() {
            let part = self.part_of(owner, all.len(), wide, unit);
            self.spread(owner, &mut all[part])?;
        }
        Ok(())
    }

    /// Gives the first rank what each owns of `all`, `[n, wide]`.
    ///
    /// # Errors
    /// Those of [`Collective::receive`](super::Collective::receive).
    pub(in crate::backend) fn to_first<T: Pod>(
        &self,
        all: &mut [T],
        wide: usize,
        unit: usize,
    ) -> Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        for owner in 1..self.size() {
            let part = self.part_of(owner, all.len(), wide, unit);
            for piece in bytemuck::cast_slice_mut(&mut all[part]).chunks_mut(AT_ONCE) {
                if self.rank() == owner {
                    group.send(0, piece)?;
                } else if self.is_first() {
                    group.receive(owner, piece)?;
                }
            }
        }
        Ok(())
    }

    fn part_of(&self, owner: usize, len: usize, wide: usize, unit: usize) -> Range<usize> {
        let share = share_of(owner, self.size(), len / wide.max(1), unit);
        share.start * wide..share.end * wide
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::of_three;

    #[test]
    fn each_adds_in_turn_and_all_have_what_comes_of_it() {
        let all = of_three(|ranks| {
            let mut running = vec![0u32; 10];
            let rank = ranks.rank() as u32;
            ranks
                .hand_on(&mut running, 4, |at, piece| {
                    let places = (at as u32..).zip(piece);
                    places.for_each(|(place, sum)| *sum = 10 * *sum + rank + place);
                })
                .unwrap();
            running
        });
        let want: Vec<u32> = (0..10).map(|place| 12 + 111 * place).collect();
        assert_eq!(all, vec![want; 3]);
    }

    #[test]
    fn the_first_has_what_each_owns_and_then_all_have() {
        let all = of_three(|ranks| {
            let (n, wide, unit) = (11, 2, 4);
            let own = ranks.share(n, unit);
            let mut owned = vec![9u8; n * wide];
            owned[own.start * wide..own.end * wide].fill(ranks.rank() as u8);
            let mut first = owned.clone();
            ranks.to_first(&mut first, wide, unit).unwrap();
            ranks.spread_owned(&mut owned, wide, unit).unwrap();
            (first, owned)
        });
        let want: Vec<u8> = [[0; 8].to_vec(), [1; 8].to_vec(), [2; 6].to_vec()].concat();
        assert!(all[0].0 == want && all[2].0 != want);
        assert!(all.iter().all(|(_, owned)| *owned == want), "{all:?}");
    }
}
