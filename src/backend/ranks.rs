//! One SAE over several ranks, which are processes of one program on any number of machines: the
//! rows of a batch are shared out, and what they leave is gathered by all. [`chain`] has the other
//! [`Exchange`], which shares out the latents instead.
//!
//! # The exchange of rows
//!
//! Every rank holds the whole SAE and its optimiser, and reads the whole batch. Of its rows, rank r
//! of R encodes and decodes whole [blocks](BLOCK), about one in R. Then all gather from all what the
//! rest of the step is made of:
//!
//! | what | bytes a row |
//! | --- | --- |
//! | codes: latent, value, gradient | 12 for each |
//! | the residual | 4·d_model |
//! | sums of the block: two errors, the residuals | (24 + 4·d_model) / [`BLOCK`] |
//!
//! and each takes the step by latent, and Adam, on everything. No gradient of a weight ever
//! travels: for GPT-2's shape these are 14 MB a step, the gradients would be 75.
//!
//! What a row leaves depends on no other row; what rows leave is added up where it was added up
//! before, block by block in order. So **the bits are those of one process**, whatever R is, and no
//! reduction of an MPI library, which adds in an order of its own, is ever asked for a number that
//! counts. What it buys is bounded by what each rank does for itself: packing the encoder, gradients,
//! Adam, the table (`tsae bench ranks`).
//!
//! # One fails, all end
//!
//! Whoever waits for others waits for ever if one of them has left because its disk is full. So
//! whatever can fail on one rank alone is followed, before the next exchange, by an
//! [agreement](Ranks::agree): all learn whether all are well, and if one is not, all return an error,
//! and none agrees or exchanges any more. Between an agreement and the exchanges after it stands only what
//! fails on all alike. What cannot agree, as it was killed, is the launcher's to notice.

mod chain;
mod collective;
#[cfg(feature = "mpi")]
mod mpi;
mod threads;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytemuck::Pod;

use super::cpu::encoder::BLOCK;
use crate::base::error::{Error, Result};

pub use chain::{HANDED_ON, bytes_of_chain};
pub use collective::Collective;
#[cfg(feature = "mpi")]
pub use mpi::World;
pub use threads::in_threads;

/// The ranks that train together; by default one, alone.
#[derive(Clone, Debug, Default)]
pub struct Ranks {
    group: Option<Arc<Group>>,
    exchange: Exchange,
}

/// How ranks share a step. What comes of it is the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Exchange {
    /// Each takes some rows of the batch, and all move the whole SAE.
    #[default]
    Rows,
    /// Each takes all rows, and moves some latents and some rows of the table; what an SAE asks for
    /// that cannot be shared so is shared by rows.
    Latents,
}

#[derive(Debug)]
struct Group {
    collective: Box<dyn Collective>,
    /// Whether one has failed, and all know.
    is_over: AtomicBool,
    /// Bytes that were gathered, and nanoseconds that it took.
    gathered: [AtomicU64; 2],
}

/// The bytes that are gathered in a step of a TopK SAE: codes, residuals in whole blocks, and the
/// sums of the blocks.
pub fn bytes_of_step(rows: usize, d_model: usize, k: usize) -> u64 {
    let blocks = rows.div_ceil(BLOCK);
    (12 * k * rows + 4 * d_model * blocks * BLOCK + (24 + 4 * d_model) * blocks) as u64
}

/// The share of `rows` rows that the busiest of some ranks has.
pub fn largest_share(rows: usize, ranks: usize) -> f64 {
    let most = (0..ranks).map(|rank| rows_of(rank, ranks, rows).len()).max().unwrap_or(0);
    most as f64 / rows.max(1) as f64
}

/// What a rank says where all agree.
#[derive(Clone, Copy, PartialEq)]
enum Word {
    No = 0,
    Yes = 1,
    Failed = 2,
}

impl Ranks {
    /// One rank, which does everything and waits for nobody.
    pub fn alone() -> Ranks {
        Ranks::default()
    }

    /// Those that this reaches.
    pub fn over(collective: Box<dyn Collective>) -> Ranks {
        let group =
            Group { collective, is_over: AtomicBool::new(false), gathered: Default::default() };
        Ranks { group: Some(Arc::new(group)), exchange: Exchange::Rows }
    }

    /// The same ranks with another way to share a step.
    pub fn exchanging(self, exchange: Exchange) -> Ranks {
        Ranks { exchange, ..self }
    }

    /// How they share a step.
    pub(crate) fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// This one's number, from 0.
    pub fn rank(&self) -> usize {
        self.group.as_ref().map_or(0, |group| group.collective.rank())
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.group.as_ref().map_or(1, |group| group.collective.size())
    }

    /// Whether it is this one that writes files and shows how far all have come.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The bytes that all ranks together have gathered on this one so far, and the time that this and
    /// waiting for the others took.
    pub fn gathered(&self) -> (u64, Duration) {
        self.group.as_ref().map_or((0, Duration::ZERO), |group| {
            let [bytes, nanos] = group.gathered.each_ref().map(|sum| sum.load(Ordering::Relaxed));
            (bytes, Duration::from_nanos(nanos))
        })
    }

    /// What this rank gives, or the error that another has: fails on all if it failed on one.
    ///
    /// # Errors
    /// This rank's own; or else [`Error::Rank`] with that of the first rank that failed.
    pub fn agree<T>(&self, mine: Result<T>) -> Result<T> {
        let heard = self.hear(mine.as_ref().map(|_| false));
        let given = mine?;
        heard.map(|_| given)
    }

    /// Whether one says yes; the same on all ranks.
    ///
    /// # Errors
    /// As [`agree`](Ranks::agree).
    pub fn any(&self, mine: Result<bool>) -> Result<bool> {
        let heard = self.hear(mine.as_ref().copied());
        mine?;
        heard
    }

    /// Whether one says yes, or the error of the first that failed.
    fn hear(&self, said: Result<bool, &Error>) -> Result<bool> {
        let Some(group) = &self.group else { return Ok(said.unwrap_or(false)) };
        if group.is_over.load(Ordering::Relaxed) {
            let why = "one of them has failed, and all have been told".to_owned();
            return Err(Error::Rank { rank: self.rank(), why });
        }
        let told = said.err().map(Error::to_string).unwrap_or_default();
        let word = match said {
            Ok(false) => Word::No,
            Ok(true) => Word::Yes,
            Err(_) => Word::Failed,
        };
        let all = self.each([word as u64, told.len() as u64])?;
        let Some(failed) = all.iter().position(|[word, _]| *word == Word::Failed as u64) else {
            return Ok(all.iter().any(|[word, _]| *word == Word::Yes as u64));
        };
        group.is_over.store(true, Ordering::Relaxed);
        let mut ends = vec![0];
        all.iter().for_each(|[_, len]| ends.push(ends[ends.len() - 1] + *len as usize));
        let parts: Vec<Range<usize>> = ends.windows(2).map(|ends| ends[0]..ends[1]).collect();
        let mut texts = vec![0; ends[all.len()]];
        texts[parts[self.rank()].clone()].copy_from_slice(told.as_bytes());
        group.gather(&mut texts, &parts)?;
        let why = String::from_utf8_lossy(&texts[parts[failed].clone()]).into_owned();
        Err(Error::Rank { rank: failed, why })
    }

    /// Does `work` on the first rank, and then on all others, which find the files that it made.
    ///
    /// # Errors
    /// As [`agree`](Ranks::agree).
    pub fn first_then_others<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.is_first() {
            let made = self.agree(work())?;
            self.agree(Ok(made))
        } else {
            self.agree(Ok(()))?;
            self.agree(work())
        }
    }

    /// Fills in the others' parts of bytes of no meaning, of which each rank has as many: to measure
    /// how long that takes.
    ///
    /// # Errors
    /// Those of [`Collective::all_gather`].
    pub fn gather_bytes(&self, all: &mut [u8]) -> Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        let from = |rank: usize| all.len() * rank / self.size();
        let parts: Vec<_> = (0..self.size()).map(|rank| from(rank)..from(rank + 1)).collect();
        group.gather(all, &parts)
    }

    /// The first rank whose `mine` is not the first's, if there is one; the same on all ranks.
    ///
    /// # Errors
    /// Those of [`Collective::all_gather`].
    pub fn first_that_differs(&self, mine: [u64; 4]) -> Result<Option<usize>> {
        let all = self.each(mine)?;
        Ok(all.iter().position(|other| *other != all[0]))
    }

    /// Some numbers of every rank, in order.
    ///
    /// # Errors
    /// Those of [`Collective::all_gather`].
    pub(super) fn each<const N: usize>(&self, mine: [u64; N]) -> Result<Vec<[u64; N]>> {
        let mut all = vec![[0; N]; self.size()];
        all[self.rank()] = mine;
        if let Some(group) = &self.group {
            let part = |rank: usize| rank * 8 * N..(rank + 1) * 8 * N;
            let parts: Vec<Range<usize>> = (0..self.size()).map(part).collect();
            group.gather(bytemuck::cast_slice_mut(all.as_flattened_mut()), &parts)?;
        }
        Ok(all)
    }

    /// Which of `n` rows are this rank's: whole blocks, but for the batch's last.
    pub(super) fn rows(&self, n: usize) -> Range<usize> {
        rows_of(self.rank(), self.size(), n)
    }

    /// Fills in what the other ranks have made of their rows. `part` says where in `all` is what
    /// is made of some rows; of equally many batches of rows, all parts together are all of it.
    ///
    /// # Errors
    /// Those of [`Collective::all_gather`].
    pub(super) fn gather<T: Pod>(
        &self,
        all: &mut [T],
        n: usize,
        part: impl Fn(Range<usize>) -> Range<usize>,
    ) -> Result<()> {
        self.gather_shares(all, n, BLOCK, part)
    }

    /// The same of any `n` things that are shared out in whole units.
    ///
    /// # Errors
    /// Those of [`Collective::all_gather`].
    pub(super) fn gather_shares<T: Pod>(
        &self,
        all: &mut [T],
        n: usize,
        unit: usize,
        part: impl Fn(Range<usize>) -> Range<usize>,
    ) -> Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        let (size, wide) = (self.size(), size_of::<T>());
        let parts: Vec<Range<usize>> = (0..size)
            .map(|rank| part(share_of(rank, size, n, unit)))
            .map(|part| part.start * wide..part.end * wide)
            .collect();
        group.gather(bytemuck::cast_slice_mut(all), &parts)
    }
}

impl Group {
    fn send(&self, to: usize, bytes: &[u8]) -> Result<()> {
        self.timed(0, || self.collective.send(to, bytes))
    }

    fn receive(&self, from: usize, bytes: &mut [u8]) -> Result<()> {
        self.timed(bytes.len(), || self.collective.receive(from, bytes))
    }

    fn gather(&self, all: &mut [u8], parts: &[Range<usize>]) -> Result<()> {
        self.timed(all.len(), || self.collective.all_gather(all, parts))
    }

    /// Takes down an exchange that leaves `len` bytes here, and how long it took.
    fn timed(&self, len: usize, exchange: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        exchange()?;
        let [bytes, nanos] = &self.gathered;
        bytes.fetch_add(len as u64, Ordering::Relaxed);
        nanos.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// Which of `n` rows are a rank's.
fn rows_of(rank: usize, size: usize, n: usize) -> Range<usize> {
    share_of(rank, size, n, BLOCK)
}

/// Which of `n` things are a rank's: whole units, but for the last.
fn share_of(rank: usize, size: usize, n: usize, unit: usize) -> Range<usize> {
    let units = n.div_ceil(unit);
    let from = |rank: usize| (units * rank / size * unit).min(n);
    from(rank)..from(rank + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shared_out_in_whole_blocks_and_none_is_left_out() {
        for (n, size) in [(0, 3), (1, 4), (BLOCK, 2), (5 * BLOCK + 7, 4), (32 * BLOCK, 5)] {
            let mut end = 0;
            for rank in 0..size {
                let rows = rows_of(rank, size, n);
                assert_eq!(rows.start, end, "{rank} of {size}, {n} rows");
                assert!(rows.start.is_multiple_of(BLOCK) || rows.is_empty());
                assert!(rows.len() <= n.div_ceil(BLOCK).div_ceil(size) * BLOCK);
                end = rows.end;
            }
            assert_eq!(end, n);
        }
    }

    /// What every one of three ranks makes of its own.
    pub(super) fn of_three<T: Send>(work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let ranks = in_threads(3).into_iter().map(|it| Ranks::over(Box::new(it)));
            let started: Vec<_> = ranks.map(|ranks| scope.spawn(|| work(ranks))).collect();
            started.into_iter().map(|it| it.join().unwrap()).collect()
        })
    }

    #[test]
    fn all_have_what_each_has_made() {
        let n = 4 * BLOCK + 3;
        let all = of_three(|ranks| {
            let mut made = vec![0u32; 2 * n];
            for row in ranks.rows(n) {
                made[2 * row..2 * row + 2].fill(row as u32);
            }
            ranks.gather(&mut made, n, |rows| 2 * rows.start..2 * rows.end).unwrap();
            (made, ranks.each([ranks.rank() as u64]).unwrap(), ranks.gathered().0)
        });
        let want: Vec<u32> = (0..n as u32).flat_map(|row| [row; 2]).collect();
        for (made, each, bytes) in all {
            assert_eq!((made, each), (want.clone(), vec![[0], [1], [2]]));
            assert_eq!(bytes, 8 * n as u64 + 24);
        }
    }

    #[test]
    fn all_end_when_one_fails_and_each_knows_why() {
        let told = of_three(|ranks| {
            assert!(!ranks.any(Ok(false)).unwrap());
            assert!(ranks.any(Ok(ranks.rank() == 2)).unwrap());
            assert_eq!(ranks.agree(Ok(7)).unwrap(), 7);
            let own = Error::config("k", "is odd");
            let mine = if ranks.rank() == 1 { Err(own) } else { Ok(()) };
            let error = ranks.agree(mine).unwrap_err();
            // It was told to all, and nobody waits for anybody any more.
            let again = ranks.agree::<()>(Err(error)).unwrap_err();
            again.to_string()
        });
        assert_eq!(told, ["rank 1: k: is odd", "k: is odd", "rank 1: k: is odd"]);
    }

    #[test]
    fn the_first_goes_first_and_a_rank_that_left_is_missed() {
        let order = std::sync::Mutex::new(Vec::new());
        let differs = of_three(|ranks| {
            let work = || {
                order.lock().unwrap().push(ranks.rank());
                Ok(())
            };
            ranks.first_then_others(work).unwrap();
            ranks.first_that_differs([ranks.rank() as u64 / 2, 0, 0, 0]).unwrap()
        });
        assert_eq!((order.into_inner().unwrap()[0], differs), (0, vec![Some(2); 3]));
        let told = of_three(|ranks| match ranks.rank() {
            1 => String::new(),
            _ => ranks.agree(Ok(())).unwrap_err().to_string(),
        });
        assert_eq!(told, ["rank 1: it has left", "", "rank 1: it has left"]);
    }

    #[test]
    fn alone_everything_is_its_own() {
        let ranks = Ranks::alone();
        assert_eq!((ranks.rank(), ranks.size(), ranks.rows(1000)), (0, 1, 0..1000));
        assert!(ranks.any(Ok(true)).unwrap() && ranks.is_first());
        assert_eq!(ranks.each([5]).unwrap(), [[5]]);
        assert!(ranks.agree::<()>(Err(Error::config("k", "is odd"))).is_err());
    }
}
