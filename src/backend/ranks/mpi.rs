//! Ranks that are processes, on any machines, by MPI.
//!
//! An MPI library ends the whole program when a call fails, so that what goes wrong on the way is
//! told by it and by the launcher, and never comes back as an error.

use std::ops::Range;

use ::mpi::Threading;
use ::mpi::datatype::PartitionMut;
use ::mpi::environment::Universe;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, CommunicatorCollectives, Destination, Source};

use super::{Collective, Ranks};
use crate::base::error::{Error, Result};

/// MPI, from its start to its end, which comes when this is dropped: on all ranks, or else by
/// [`abort`](Communicator::abort) of all if this one panics.
pub struct World {
    _universe: Universe,
}

impl World {
    /// Starts MPI, which a process can do once.
    ///
    /// # Errors
    /// [`Error::Config`] if it was started before.
    pub fn start() -> Result<World> {
        // One thread calls at a time; which one is the trainer's business.
        match ::mpi::initialize_with_threading(Threading::Serialized) {
            Some((universe, _)) => Ok(World { _universe: universe }),
            None => Err(Error::config("mpi", "MPI was started before in this process")),
        }
    }

    /// The processes that were started together.
    pub fn ranks(&self) -> Ranks {
        let world = SimpleCommunicator::world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        Ranks::over(Box::new(Mpi { rank, size }))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The end of MPI waits for all, and the others wait for this one's part in an exchange.
        if std::thread::panicking() {
            SimpleCommunicator::world().abort(101);
        }
    }
}

#[derive(Debug)]
struct Mpi {
    rank: usize,
    size: usize,
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_gather(&self, all: &mut [u8], parts: &[Range<usize>]) -> Result<()> {
        check_size(all.len())?;
        let counts: Vec<i32> = parts.iter().map(|part| part.len() as i32).collect();
        let starts: Vec<i32> = parts.iter().map(|part| part.start as i32).collect();
        let own = all[parts[self.rank].clone()].to_vec();
        let mut all = PartitionMut::new(all, counts, starts);
        SimpleCommunicator::world().all_gather_varcount_into(&own[..], &mut all);
        Ok(())
    }

    fn send(&self, to: usize, bytes: &[u8]) -> Result<()> {
        check_size(bytes.len())?;
        SimpleCommunicator::world().process_at_rank(to as i32).send(bytes);
        Ok(())
    }

    fn receive(&self, from: usize, bytes: &mut [u8]) -> Result<()> {
        check_size(bytes.len())?;
        SimpleCommunicator::world().process_at_rank(from as i32).receive_into(bytes);
        Ok(())
    }
}

/// Counts are 32-bit numbers.
fn check_size(bytes: usize) -> Result<()> {
    match i32::try_from(bytes) {
        Ok(_) => Ok(()),
        Err(_) => {
            let why = format!(
                "an exchange of {bytes} bytes is more than MPI takes at once, 2 GB: take a smaller batch"
            );
            Err(Error::config("batch", why))
        }
    }
}
