//! How ranks reach each other.

use std::fmt::Debug;
use std::ops::Range;

use crate::base::error::Result;

/// A number of ranks that can exchange bytes: threads, MPI, or whatever else moves them.
///
/// It says nothing of numbers, and never adds any.
pub trait Collective: Debug + Send + Sync {
    /// This rank's number, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// Fills `all` with the parts of all ranks, of which this one has its own in place. `parts` says
    /// where they are, rank by rank, one after another without a gap; the same on all ranks. Returns
    /// when `all` is complete here.
    ///
    /// # Errors
    /// [`Error::Rank`](crate::Error::Rank) if a rank has left, as far as that can be known;
    /// [`Error::Config`](crate::Error::Config) if it is more than can be sent at once.
    fn all_gather(&self, all: &mut [u8], parts: &[Range<usize>]) -> Result<()>;

    /// Sends bytes to the rank `to`, which [receives](Collective::receive) as many. What one rank
    /// sends to another arrives in order. May wait until it is received.
    ///
    /// # Errors
    /// As [`all_gather`](Collective::all_gather).
    fn send(&self, to: usize, bytes: &[u8]) -> Result<()>;

    /// Waits for what the rank `from` sends.
    ///
    /// # Errors
    /// As [`all_gather`](Collective::all_gather).
    fn receive(&self, from: usize, bytes: &mut [u8]) -> Result<()>;
}
