//! Checking shards, or ranges of their rows: all cores, and a word to whoever waits if it takes long.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::shard::Shard;
use crate::base::error::{Error, Result};
use crate::display::{Progress, interrupt};

/// Fewer bytes are checked in a few seconds, and nothing is said of it.
const SPOKEN_OF: u64 = 4 << 30;

/// Who waits for a check.
#[derive(Clone, Copy)]
pub enum Waiting<'a> {
    /// A cell: it is shown progress, and its stop button ends the check.
    Cell,
    /// A thread in the background: nothing is shown, and the check ends when this is set.
    Background(&'a AtomicBool),
}

/// What is checked at a time.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    /// A shard, against the manifest.
    Whole(&'a Shard),
    /// Some of its rows, where its own file has a checksum of them.
    Range(&'a Shard, usize),
}

impl Part<'_> {
    fn bytes(&self, hooks: &[usize]) -> u64 {
        match self {
            Part::Whole(shard) => shard.bytes_of(hooks),
            Part::Range(shard, _) => shard.bytes_of(hooks) / shard.n_ranges() as u64,
        }
    }

    fn verify(&self, hooks: &[usize]) -> Result<()> {
        match self {
            Part::Whole(shard) => shard.verify(hooks),
            Part::Range(shard, range) => shard.verify_range(hooks, *range),
        }
    }
}

/// Checks the ids, and the rows of the hooks at the places `hooks`, of those `parts` that have not
/// been checked since their shards were opened.
///
/// # Errors
/// [`Error::Checksum`] with the first damaged shard; [`Error::Interrupted`] if it takes long and is
/// stopped by hand.
pub fn verify(mut parts: Vec<Part<'_>>, hooks: &[usize], waiting: Waiting<'_>) -> Result<()> {
    parts.retain(|part| match part {
        Part::Whole(shard) => !shard.is_verified(hooks),
        Part::Range(shard, range) => !shard.has_seen(hooks, *range),
    });
    let bytes: u64 = parts.iter().map(|part| part.bytes(hooks)).sum();
    if matches!(waiting, Waiting::Cell) && bytes < SPOKEN_OF {
        return parts.into_par_iter().try_for_each(|part| part.verify(hooks));
    }
    let mut progress = matches!(waiting, Waiting::Cell).then(|| {
        interrupt::watch();
        Progress::new("check the activations", bytes, "B")
    });
    let mut done = 0;
    for some in parts.chunks(4 * rayon::current_num_threads()) {
        let stopped = match waiting {
            Waiting::Cell => interrupt::requested(),
            Waiting::Background(stop) => stop.load(Ordering::Relaxed),
        };
        if stopped {
            if matches!(waiting, Waiting::Cell) {
                interrupt::clear();
            }
            let remedy = "the activations are as they were; the same call checks them again".into();
            return Err(Error::Interrupted { what: "checking the activations", remedy });
        }
        some.into_par_iter().try_for_each(|part| part.verify(hooks))?;
        if let Some(progress) = &mut progress {
            done += some.iter().map(|part| part.bytes(hooks)).sum::<u64>();
            progress.set(done);
        }
    }
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::{ActivationStore, Batch, HarvestConfig};
    use crate::model::{HookPoint, Model};

    #[test]
    fn a_check_in_the_background_ends_when_it_is_told_and_not_by_the_button() {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::load("tiny-gpt2").unwrap();
        let hook = HookPoint::resid_pre(1);
        let acts = ActivationStore::harvest(
            &model,
            &[hook],
            &model.sample(2, 8, 0).unwrap(),
            dir.path(),
            HarvestConfig::default(),
        )
        .unwrap();
        let acts = ActivationStore::open(acts.dir()).unwrap();
        let (stop, mut batch) = (AtomicBool::new(true), Batch::default());
        let told = acts.gather_for(Waiting::Background(&stop), hook, &[3], &mut batch);
        assert!(matches!(told, Err(Error::Interrupted { .. })));
        stop.store(false, Ordering::Relaxed);
        acts.gather_for(Waiting::Background(&stop), hook, &[3], &mut batch).unwrap();
        assert_eq!(batch.len(), 1);
        // What was checked once is not checked again.
        stop.store(true, Ordering::Relaxed);
        acts.gather_for(Waiting::Background(&stop), hook, &[4], &mut batch).unwrap();
    }
}
