//! The promise: several ranks that train an SAE together end with the bits of one process, however
//! many they are, and if one fails all do. Here they are threads; `crates/tsae/tests/cluster/mpi.sh`
//! has processes.

mod step;
mod training;

use tokenized_sae::backend::{Ranks, in_threads};

/// What each of some ranks makes of the same work.
fn of_ranks<T: Send>(size: usize, work: impl Fn(&Ranks) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let started: Vec<_> = in_threads(size)
            .into_iter()
            .map(|thread| scope.spawn(|| work(&Ranks::over(Box::new(thread)))))
            .collect();
        started.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}
