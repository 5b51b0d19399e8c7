//! What each process does: the shards of one share.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use super::collect::{collected, is_collected, there};
use crate::activations::filling::{Task, Work, with_forward, write_shard};
use crate::activations::forecast::check_memory;
use crate::activations::manifest::{Manifest, ShardId};
use crate::activations::plan::{self, Plan};
use crate::activations::products::Products;
use crate::activations::shard::Shard;
use crate::activations::verify::{Part, Waiting, verify};
use crate::activations::{ActivationStore, HarvestConfig, Source, sidecar};
use crate::base::error::{Error, Result};
use crate::base::share::Share;
use crate::corpus::Chunk;
use crate::device::Device;
use crate::display::{Progress, interrupt};
use crate::model::Model;

impl ActivationStore {
    /// Makes the shards of one share of the [plan](ActivationStore::plan) in `dir`, but those that
    /// are there: shards `i`, `i + n`, `i + 2n`, … for the `i`th share of `n`.
    ///
    /// It needs no lock, and may be killed at any moment and called again, also while a process that
    /// is taken for dead still does the same. When it returns, the share is complete. There is
    /// nothing to do once all is collected.
    ///
    /// # Errors
    /// [`Error::Format`] if there is no plan; [`Error::Changed`] if the model is not the plan's, or
    /// this processor gives other last bits; and as [`harvest`](ActivationStore::harvest).
    pub fn harvest_share(model: &Model, dir: impl AsRef<Path>, share: Share) -> Result<()> {
        let dir = dir.as_ref();
        let Some(plan) = Plan::read(dir)? else { return collected(dir).map(|_| ()) };
        let now = Manifest { model: Source::of(model), ..plan.store.clone() };
        plan.store.same_as(&now, dir)?;
        if is_collected(dir)? {
            return Ok(());
        }
        interrupt::watch();
        interrupt::clear();
        let todo = left(dir, &plan, share)?;
        if todo.is_empty() {
            return Ok(());
        }
        let Manifest { hooks, compute, .. } = &plan.store;
        let config = HarvestConfig {
            batch: plan.batch,
            compute: *compute,
            dtype: plan.store.dtype,
            shard_tokens: plan.store.shard_rows,
            device: Device::Auto,
        };
        check_memory(model, hooks, plan.store.corpus.n_ctx, &config)?;
        let begun = || Ok(Some((plan::path(dir), plan.products.bits)));
        with_forward(model, &config, &begun, |forward| {
            Products::of(&plan.first_pass(dir)?, hooks, *compute, forward)?.same_as(
                &plan.products,
                &plan::path(dir),
                &plan.store.model,
            )?;
            let task = Task {
                dir,
                manifest: &plan.store,
                shards: &todo,
                batch: plan.batch,
                forward,
                done: 0,
            };
            let rows: usize = todo.iter().map(|&index| plan.store.rows_of(index)).sum();
            let mut progress = Progress::new(&format!("harvest {share}"), rows as u64, "tokens");
            let done = task.run(
                &mut progress,
                |chunks, stop| feed(dir, &plan, &todo, &chunks, stop),
                |work| write(dir, &plan, work),
            );
            match done {
                Err(Error::Interrupted { .. }) => {
                    interrupt::clear();
                    let remedy =
                        "its complete shards are kept, and the same call continues from there";
                    let remedy = remedy.to_owned();
                    Err(Error::Interrupted { what: "a share of the harvest", remedy })
                }
                Ok(()) => {
                    progress.finish();
                    Ok(())
                }
                Err(e) => Err(e),
            }
        })
    }
}

/// The shards of a share that are still to be made, once those that are there are found whole.
fn left(dir: &Path, plan: &Plan, share: Share) -> Result<Vec<usize>> {
    let mut left = Vec::new();
    let mut known = plan.store.clone();
    let mut kept = Vec::new();
    for index in 0..plan.parts.len() {
        let mine = index % share.of() == share.number() - 1;
        let shard = if mine { there(dir, plan, index)? } else { None };
        match (mine, &shard) {
            (true, None) => left.push(index),
            (true, Some(_)) => kept.push(index),
            _ => {}
        }
        known.shards.push(shard.unwrap_or_default());
    }
    let hooks: Vec<usize> = (0..plan.store.hooks.len()).collect();
    let maps = Arc::default();
    let open = |&index: &usize| Shard::open(dir, &known, index, &maps);
    let kept = kept.iter().map(open).collect::<Result<Vec<_>>>()?;
    verify(kept.iter().map(Part::Whole).collect(), &hooks, Waiting::Cell)?;
    Ok(left)
}

/// Brings what shards are made from, until nobody listens.
fn feed(
    dir: &Path,
    plan: &Plan,
    todo: &[usize],
    chunks: &SyncSender<Result<Chunk>>,
    stop: &dyn Fn() -> bool,
) {
    for &index in todo {
        let chunk = plan.tokens(dir, index).map(Chunk::of);
        let failed = chunk.is_err();
        if stop() || chunks.send(chunk).is_err() || failed {
            return;
        }
    }
}

/// Writes shards from the passes that come, and puts down each beside it.
fn write(dir: &Path, plan: &Plan, work: &Receiver<Work>) -> Result<()> {
    while let Ok(told) = work.recv() {
        let Work::Shard(index, chunk) = told else { continue };
        let Some(shard) = write_shard(dir, &plan.store, index, &chunk.tokens, work)? else {
            return Ok(());
        };
        let shard = ShardId { after: plan.parts[index].after.clone(), ..shard };
        sidecar::write(dir, &plan.store, index, &shard)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::HarvestConfig;
    use crate::cpu::matmul;
    use crate::model::{Compute, HookPoint};

    #[test]
    fn a_worker_whose_products_give_other_bits_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::load("tiny-gpt2").unwrap();
        let tokens = model.sample(2, 16, 0).unwrap();
        let hooks = [HookPoint::resid_pre(1)];
        ActivationStore::plan(&model, &hooks, &tokens, dir.path(), HarvestConfig::default())
            .unwrap();
        let mut plan = Plan::read(dir.path()).unwrap().unwrap();
        assert_eq!(plan.products.kernel, matmul::kernel(Compute::F32));
        let sha256 = "0123456789ab".repeat(6)[..64].to_owned();
        plan.products = Products { kernel: "another kernel".to_owned(), sha256, ..plan.products };
        plan.write(dir.path()).unwrap();
        let share = Share::new(1, 1).unwrap();
        let told = ActivationStore::harvest_share(&model, dir.path(), share).unwrap_err();
        assert!(matches!(told, Error::Changed { .. }));
        let told = told.to_string();
        for words in ["0123456789ab by another kernel", "same kind of processor", "plan.json"] {
            assert!(told.contains(words), "{told}");
        }
        assert!(plan::path(dir.path()).exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "a shard was made");
    }
}
