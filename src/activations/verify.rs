//! Checking many shards: all cores, and a word to whoever waits if it takes long.

use rayon::prelude::*;

use super::shard::Shard;
use crate::display::{Progress, interrupt};
use crate::error::{Error, Result};

/// Fewer bytes are checked in a few seconds, and nothing is said of it.
const SPOKEN_OF: u64 = 4 << 30;

/// Checks the ids, and the rows of the hooks at the places `hooks`, of those `shards` that have not been checked since they were opened.
///
/// # Errors
/// [`Error::Checksum`] with the first damaged shard; [`Error::Interrupted`] if it takes long and is stopped by hand.
pub fn verify(shards: &[&Shard], hooks: &[usize]) -> Result<()> {
    let unseen = |shard: &&&Shard| hooks.is_empty() || hooks.iter().any(|&hook| !shard.is_verified(hook));
    let shards: Vec<&Shard> = shards.iter().filter(unseen).copied().collect();
    let all_of = |shard: &Shard| hooks.iter().try_for_each(|&hook| shard.verify(hook)).and_then(|()| shard.verify_ids());
    let bytes: u64 = shards.iter().map(|shard| shard.bytes_of(hooks)).sum();
    if bytes < SPOKEN_OF {
        return shards.into_par_iter().try_for_each(all_of);
    }
    interrupt::watch();
    let mut progress = Progress::new("check the activations", bytes, "B");
    let mut done = 0;
    for some in shards.chunks(4 * rayon::current_num_threads()) {
        if interrupt::requested() {
            interrupt::clear();
            let remedy = "the activations are as they were; the same call checks them again".into();
            return Err(Error::Interrupted { what: "checking the activations", remedy });
        }
        some.into_par_iter().try_for_each(|shard| all_of(shard))?;
        done += some.iter().map(|shard| shard.bytes_of(hooks)).sum::<u64>();
        progress.set(done);
    }
    progress.finish();
    Ok(())
}
