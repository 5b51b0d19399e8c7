//! Reading rows: they are checked if they were not before, with those beside them; their shards are
//! mapped, and read.

use std::ops::Range;

use rayon::prelude::*;

use super::shard::{Mapped, all_finite, widen};
use super::verify::{Part, Waiting, verify};
use super::{ActivationStore, Batch};
use crate::base::error::{Error, Result};
use crate::model::HookPoint;

/// Shards whose rows can be read now.
pub(super) struct Open<'a> {
    /// Their places in the store, ascending.
    places: &'a [usize],
    maps: Vec<Mapped<'a>>,
    shard_rows: usize,
}

impl Open<'_> {
    /// The shard that a row lies in, and where; none if it is not one of these.
    pub(super) fn place_of(&self, row: u64) -> Option<(&Mapped<'_>, usize)> {
        let (shard, within) = (row as usize / self.shard_rows, row as usize % self.shard_rows);
        Some((&self.maps[self.places.binary_search(&shard).ok()?], within))
    }
}

impl ActivationStore {
    /// Reads `rows` of `hook`, in the order given, into `batch`, each with its token and position.
    ///
    /// # Errors
    /// [`Error::UnknownHook`]; [`Error::Config`] if a row is not in the store; [`Error::Checksum`]
    /// if a shard was damaged since it was written; [`Error::Format`] if its file was replaced since
    /// the store was opened; [`Error::NotFinite`]. What `batch` holds after an error means nothing.
    pub fn gather(&self, hook: HookPoint, rows: &[u64], batch: &mut Batch) -> Result<()> {
        self.gather_for(Waiting::Cell, hook, rows, batch)
    }

    /// As [`gather`](ActivationStore::gather), for a cell or for a thread in the background.
    pub(crate) fn gather_for(
        &self,
        waiting: Waiting<'_>,
        hook: HookPoint,
        rows: &[u64],
        batch: &mut Batch,
    ) -> Result<()> {
        let place = self.place(hook)?;
        batch.x.resize(rows.len() * self.d_model(), 0.0);
        batch.tokens.resize(rows.len(), 0);
        batch.positions.resize(rows.len(), 0);
        self.with_shards(rows, &[place], waiting, |open| self.copy(hook, place, rows, open, batch))
    }

    /// Copies those of `rows` that lie in `open` shards to their places in `batch`.
    fn copy(
        &self,
        hook: HookPoint,
        place: usize,
        rows: &[u64],
        open: &Open<'_>,
        batch: &mut Batch,
    ) -> Result<()> {
        /// Rows that a thread takes at a time.
        const PIECE: usize = 64;
        let (d_model, dtype) = (self.d_model(), self.dtype());
        let row_bytes = dtype.row_bytes(d_model);
        let ids = batch.tokens.par_chunks_mut(PIECE).zip(batch.positions.par_chunks_mut(PIECE));
        let pieces = rows.par_chunks(PIECE).zip(batch.x.par_chunks_mut(PIECE * d_model)).zip(ids);
        pieces.try_for_each(|((rows, x), (tokens, positions))| {
            for (i, (&row, x)) in rows.iter().zip(x.chunks_exact_mut(d_model)).enumerate() {
                let Some((shard, within)) = open.place_of(row) else { continue };
                widen(dtype, &shard.hook(place)[within * row_bytes..][..row_bytes], x);
                if !all_finite(x) {
                    let value = x.iter().copied().find(|x| !x.is_finite()).unwrap_or(f32::NAN);
                    return Err(Error::NotFinite {
                        what: hook.to_string(),
                        value,
                        at: format!("row {row} of {}", self.dir().display()),
                    });
                }
                tokens[i] = shard.tokens()[within];
                positions[i] = shard.positions()[within];
            }
            Ok(())
        })
    }

    /// Asks the system to read `rows` of `hook` ahead, which lie side by side. It decides nothing but
    /// how soon they are there.
    ///
    /// # Errors
    /// [`Error::UnknownHook`]; [`Error::Format`] or [`Error::Io`] if a shard cannot be mapped.
    pub(crate) fn will_need(&self, hook: HookPoint, rows: Range<u64>) -> Result<()> {
        let place = self.place(hook)?;
        let shard_rows = self.inner.manifest.shard_rows;
        let rows = rows.start as usize..(rows.end as usize).min(self.n_rows());
        let mut from = rows.start;
        while from < rows.end {
            let (shard, within) = (from / shard_rows, from % shard_rows);
            let n = (rows.end - from).min(shard_rows - within);
            self.inner.shards[shard].map()?.will_need(place, within..within + n);
            from += n;
        }
        Ok(())
    }

    /// Gives `read` the shards that `rows` lie in: all at once, or, if they are more than may be
    /// mapped, one part after the other. `rows` of the hooks at the places `hooks` have been checked by
    /// then, and their ids.
    ///
    /// # Errors
    /// As [`gather`](ActivationStore::gather); those of `read`.
    pub(super) fn with_shards(
        &self,
        rows: &[u64],
        hooks: &[usize],
        waiting: Waiting<'_>,
        mut read: impl FnMut(&Open<'_>) -> Result<()>,
    ) -> Result<()> {
        /// Shards that a thread maps at a time: those that are mapped already are found at once.
        const PIECE: usize = 64;
        let (shards, shard_rows) = (&self.inner.shards, self.inner.manifest.shard_rows);
        let places = self.shards_of(rows)?;
        verify(self.unseen(rows, hooks), hooks, waiting)?;
        for places in places.chunks(self.inner.maps.most()) {
            let maps = places.par_iter().with_min_len(PIECE).map(|&place| shards[place].map());
            read(&Open { places, maps: maps.collect::<Result<_>>()?, shard_rows })?;
        }
        Ok(())
    }

    /// The ranges that `rows` lie in, or their shards where those have no ranges, if they have not
    /// been checked.
    fn unseen(&self, rows: &[u64], hooks: &[usize]) -> Vec<Part<'_>> {
        let (shards, shard_rows) = (&self.inner.shards, self.inner.manifest.shard_rows);
        let range = |&row: &u64| {
            let (shard, within) = (row as usize / shard_rows, row as usize % shard_rows);
            let range = shards[shard].range_of(within);
            (!shards[shard].has_seen(hooks, range)).then_some((shard, range))
        };
        let mut ranges: Vec<(usize, usize)> = rows.iter().filter_map(range).collect();
        ranges.sort_unstable();
        ranges.dedup();
        let by_shard: Vec<_> = ranges.chunk_by(|(a, _), (b, _)| a == b).collect();
        let parts = by_shard.into_par_iter().flat_map_iter(|ranges| {
            let shard = &shards[ranges[0].0];
            let n = if shard.has_ranges() { ranges.len() } else { 1 };
            ranges[..n].iter().map(move |&(_, range)| match shard.has_ranges() {
                true => Part::Range(shard, range),
                false => Part::Whole(shard),
            })
        });
        parts.collect()
    }

    /// The places of the shards that `rows` lie in, ascending.
    fn shards_of(&self, rows: &[u64]) -> Result<Vec<usize>> {
        if let Some(row) = rows.iter().find(|&&row| row >= self.n_rows() as u64) {
            let why = format!("row {row} was requested from a store of {} rows", self.n_rows());
            return Err(Error::config("rows", why));
        }
        let mut has_rows = vec![false; self.inner.shards.len()];
        rows.iter().for_each(|&row| {
            has_rows[row as usize / self.inner.manifest.shard_rows] = true;
        });
        Ok((0..has_rows.len()).filter(|&place| has_rows[place]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::HarvestConfig;
    use crate::activations::maps::Maps;
    use crate::model::Model;

    fn harvested(dir: &std::path::Path, n_seq: usize) -> ActivationStore {
        let model = Model::load("tiny-gpt2").unwrap();
        let tokens = model.sample(n_seq, 4, 0).unwrap();
        let config = HarvestConfig { shard_tokens: 4, ..HarvestConfig::default() };
        ActivationStore::harvest(&model, &[HookPoint::resid_pre(1)], &tokens, dir, config).unwrap()
    }

    /// How many shards of the store in `dir` this process has mapped.
    #[cfg(target_os = "linux")]
    fn mapped(dir: &std::path::Path) -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let dir = dir.canonicalize().unwrap().display().to_string();
        maps.lines().filter(|line| line.contains(&dir) && line.ends_with(".safetensors")).count()
    }

    #[test]
    fn a_store_of_many_shards_is_read_through_a_few_maps() {
        let dir = tempfile::tempdir().unwrap();
        let hook = HookPoint::resid_pre(1);
        // A batch from few shards, one from many, and every row.
        let read = |store: &ActivationStore| {
            let batches = [3, 100, 600].map(|n| {
                let mut batch = Batch::default();
                store.gather(hook, &store.shuffled(1, 0..n), &mut batch).unwrap();
                batch
            });
            store.verify().unwrap();
            (batches, store.tokens().unwrap(), store.mean(hook).unwrap())
        };
        let all = harvested(dir.path(), 150);
        assert_eq!(all.inner.shards.len(), 150);
        let want = read(&all);
        #[cfg(target_os = "linux")]
        assert_eq!(mapped(dir.path()), 150);
        drop(all);
        for most in [1, 7, 149] {
            let few = ActivationStore::open_with(dir.path(), Maps::of(most)).unwrap();
            #[cfg(target_os = "linux")]
            assert_eq!(mapped(dir.path()), 0);
            assert!(read(&few) == want);
            #[cfg(target_os = "linux")]
            assert_eq!(mapped(dir.path()), most);
        }
    }

    #[test]
    fn a_file_that_was_replaced_before_it_was_mapped_again_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let hook = HookPoint::resid_pre(1);
        harvested(dir.path(), 3);
        let store = ActivationStore::open_with(dir.path(), Maps::of(1)).unwrap();
        let mut batch = Batch::default();
        store.gather(hook, &[0, 4, 8], &mut batch).unwrap();
        // The same length, checked before, and other numbers.
        let path = dir.path().join("shard-00000.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(dir.path().join("new"), bytes).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
        let new = std::fs::File::options().write(true).open(dir.path().join("new")).unwrap();
        new.set_modified(later).unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        let told = store.gather(hook, &[1], &mut batch).unwrap_err().to_string();
        assert!(told.contains("shard-00000") && told.contains("open the store again"), "{told}");
        store.gather(hook, &[5], &mut batch).unwrap();
    }
}
