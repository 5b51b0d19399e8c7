//! Processes that a launcher has started together, of which this is one.

use std::env;

use tokenized_sae::backend::Ranks;
#[cfg(feature = "mpi")]
use tokenized_sae::{
    backend::World,
    display::{Progress, interrupt},
};
use tsae::{Error, Result};

/// Where launchers say how many processes they have started, and which one this is: MPICH's and
/// Intel's mpiexec, and Slurm with `--mpi=pmi2`; Open MPI's; srun.
const LAUNCHERS: [(&str, &str); 3] = [
    ("PMI_SIZE", "PMI_RANK"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
];

/// How many processes were started together, and this one's number among them; none if it is alone.
fn launched() -> Option<(usize, usize)> {
    let number = |name: &str| env::var(name).ok()?.parse::<usize>().ok();
    LAUNCHERS
        .iter()
        .filter_map(|(size, rank)| Some((number(size)?, number(rank)?)))
        .find(|(size, _)| *size > 1)
}

/// The verbs that many processes do together, or not at all.
const TOGETHER: [&str; 3] = ["train", "compare", "ranks"];

/// Whether another process speaks for this one, which does a verb's work.
pub fn is_spoken_for(verb: &str) -> bool {
    TOGETHER.contains(&verb) && launched().is_some_and(|(_, rank)| rank > 0)
}

/// Refuses to do a verb's work in many processes at once.
pub fn refuse(verb: &str) -> Result<()> {
    match launched() {
        None => Ok(()),
        Some((size, _)) => {
            let why = format!(
                "{size} processes were started together, and `tsae {verb}` is the work of one: start it once, or share an SAE's training with `tsae train`"
            );
            Err(Error::config("mpi", why))
        }
    }
}

/// The processes that work together, from the start to the end of MPI; one alone has none.
pub struct Together {
    ranks: Ranks,
    #[cfg(feature = "mpi")]
    _world: Option<World>,
}

impl Together {
    /// Begins to work together with the processes that were started with this one.
    ///
    /// # Errors
    /// [`Config`](tokenized_sae::Error::Config) if there are some, and this program or its MPI
    /// cannot reach them: they would all do the same.
    #[cfg(feature = "mpi")]
    pub fn begin() -> Result<Together> {
        let Some((size, _)) = launched() else {
            return Ok(Together { ranks: Ranks::alone(), _world: None });
        };
        let world = World::start()?;
        let ranks = world.ranks();
        if ranks.size() != size {
            // Each is alone, and none would be told by another.
            let why = format!(
                "{size} processes were started together, and MPI finds {}: use the launcher of the MPI that this program was built with, or `srun --mpi=pmi2`",
                ranks.size()
            );
            return Err(Error::config("mpi", why));
        }
        if !ranks.is_first() {
            Progress::silence();
        }
        interrupt::watch_termination();
        Ok(Together { ranks, _world: Some(world) })
    }

    /// The same, where there is no MPI.
    #[cfg(not(feature = "mpi"))]
    pub fn begin() -> Result<Together> {
        match launched() {
            None => Ok(Together { ranks: Ranks::alone() }),
            Some((size, _)) => {
                let why = format!(
                    "{size} processes were started together, and this program was built without the feature \"mpi\", so that all would do the same: build it with that, or start it once"
                );
                Err(Error::config("mpi", why))
            }
        }
    }

    /// The ranks.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Ends: what went wrong on any rank is the first one's error, which tells it.
    pub fn end(self, done: Result<()>) -> Result<()> {
        let done = done.map_err(|error| match error {
            Error::Library(error) => error,
            other => tokenized_sae::Error::Rank { rank: self.ranks.rank(), why: other.to_string() },
        });
        let done = self.ranks.agree(done);
        if self.ranks.is_first() { Ok(done?) } else { Ok(()) }
    }
}

#[cfg(all(test, not(feature = "mpi")))]
mod tests {
    use super::*;

    #[test]
    fn alone_is_alone() {
        // The tests may have been started by an engine.
        if launched().is_none() {
            let together = Together::begin().unwrap();
            assert_eq!(together.ranks().size(), 1);
            assert!(together.end(Err(Error::config("k", "is odd"))).is_err());
            assert!(refuse("compare").is_ok() && !is_spoken_for("train"));
        }
    }
}
