//! Checking a shard against its checksums: whole, by the manifest's, or a range of rows, by those
//! beside it.

use std::ops::Range;
use std::sync::atomic::Ordering;

use sha2::{Digest, Sha256};

use super::{Mapped, REMEDY, Shard};
use crate::activations::layout::Layout;
use crate::activations::ranges::{self, Ranges};
use crate::base::error::{Error, Result};
use crate::base::files::hex;

impl Shard {
    /// The range that a row lies in.
    pub fn range_of(&self, row: usize) -> usize {
        row / self.rows_of_range
    }

    /// How many ranges it has.
    pub fn n_ranges(&self) -> usize {
        self.layout.rows().div_ceil(self.rows_of_range)
    }

    /// Whether its ranges can be checked one by one.
    pub fn has_ranges(&self) -> bool {
        self.ranges().is_some()
    }

    fn ranges(&self) -> Option<&Ranges> {
        let read = || {
            let want = self.want.iter().map(|(sum, _)| sum.as_str());
            (self.n_ranges() > 1)
                .then(|| Ranges::read(&ranges::path(&self.path), self.n_ranges(), want))
                .flatten()
        };
        self.ranges.get_or_init(read).as_ref()
    }

    /// Bytes of the ids and of the rows of the hooks at the places `hooks`.
    pub fn bytes_of(&self, hooks: &[usize]) -> u64 {
        let of = |at: &Range<u64>| at.end - at.start;
        of(&self.layout.tokens)
            + of(&self.layout.positions)
            + hooks.iter().map(|&hook| of(&self.layout.hooks[hook])).sum::<u64>()
    }

    /// Whether the ids and the rows of the hooks at the places `hooks` have been checked since the
    /// shard was opened.
    pub fn is_verified(&self, hooks: &[usize]) -> bool {
        sections(hooks).all(|section| self.want[section].1.load(Ordering::Acquire))
    }

    /// As [`is_verified`](Shard::is_verified), of the rows of a range.
    pub fn has_seen(&self, hooks: &[usize], range: usize) -> bool {
        sections(hooks).all(|section| self.has_seen_section(section, range))
    }

    fn has_seen_section(&self, section: usize, range: usize) -> bool {
        let ranges = || self.ranges.get().and_then(Option::as_ref);
        self.want[section].1.load(Ordering::Acquire)
            || ranges().is_some_and(|ranges| ranges.has_seen(section, range))
    }

    /// Checks the ids and the rows of the hooks at the places `hooks` against their checksums, each
    /// once; and that the ids are those of a vocabulary and of whole sequences, for rows of tables
    /// are looked up by them.
    pub fn verify(&self, hooks: &[usize]) -> Result<()> {
        let mapped = self.map()?;
        self.verify_section(&mapped, 0, self.layout.tokens.start..self.layout.positions.end)?;
        hooks.iter().try_for_each(|&hook| {
            self.verify_section(&mapped, 1 + hook, self.layout.hooks[hook].clone())
        })
    }

    /// As [`verify`](Shard::verify), of the rows of a range. What the file of ranges does not vouch
    /// for is checked with the whole shard.
    pub fn verify_range(&self, hooks: &[usize], range: usize) -> Result<()> {
        let Some(ranges) = self.ranges() else { return self.verify(hooks) };
        let mapped = self.map()?;
        let first = range * self.rows_of_range;
        let rows = first..(first + self.rows_of_range).min(self.layout.rows());
        for section in sections(hooks).filter(|&section| !self.has_seen_section(section, range)) {
            let Layout { tokens, positions, hooks: of_hooks, .. } = &self.layout;
            let tensors = match section {
                0 => vec![tokens, positions],
                hook => vec![&of_hooks[hook - 1]],
            };
            let mut hash = Sha256::new();
            for tensor in tensors {
                let at = self.layout.at(tensor, &rows);
                mapped.map.will_need(at.clone());
                hash.update(&mapped.map.bytes()[at]);
            }
            if hash.finalize().as_slice() != ranges.want(section, range) {
                return self.verify(hooks);
            }
            if section == 0 {
                self.check_ids(&mapped, rows.clone())?;
            }
            ranges.see(section, range);
        }
        Ok(())
    }

    /// Checks a section against its checksum, and of the ids what else must hold.
    fn verify_section(&self, mapped: &Mapped<'_>, section: usize, at: Range<u64>) -> Result<()> {
        /// Read ahead and hashed at a time.
        const STRETCH: usize = 8 << 20;
        let (want, seen) = &self.want[section];
        if seen.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut hash = Sha256::new();
        for start in (at.start as usize..at.end as usize).step_by(STRETCH) {
            let end = (start + STRETCH).min(at.end as usize);
            mapped.map.will_need(start..end);
            hash.update(&mapped.map.bytes()[start..end]);
        }
        let got = hex(hash.finalize());
        if got != *want {
            let (path, want, remedy) = (self.path.clone(), want.clone(), REMEDY.to_owned());
            return Err(Error::Checksum { path, want, got, remedy });
        }
        if section == 0 {
            self.check_ids(mapped, 0..self.layout.rows())?;
        }
        seen.store(true, Ordering::Release);
        Ok(())
    }

    fn check_ids(&self, mapped: &Mapped<'_>, mut rows: Range<usize>) -> Result<()> {
        let (tokens, positions) = (mapped.tokens(), mapped.positions());
        let strange = |&row: &usize| {
            tokens[row] as usize >= self.d_vocab || positions[row] as usize != row % self.n_ctx
        };
        let Some(row) = rows.find(strange) else { return Ok(()) };
        let (token, position) = (tokens[row], positions[row]);
        let why = format!(
            "has token {token} at position {position} in row {row}, but sequences have {} tokens from a vocabulary of {}; {REMEDY}",
            self.n_ctx, self.d_vocab
        );
        Err(Error::format(&self.path, why))
    }
}

/// The places of the ids and of hooks among the checksums.
fn sections(hooks: &[usize]) -> impl Iterator<Item = usize> {
    std::iter::once(0).chain(hooks.iter().map(|hook| 1 + hook))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations::manifest::{IDS, Manifest};
    use crate::activations::{ActivationStore, Batch, HarvestConfig};
    use crate::base::files::sha256;
    use crate::model::{HookPoint, Model};
    use crate::sae::Lookup;

    #[test]
    fn tokens_and_positions_that_cannot_be_are_noticed_though_their_checksum_is_right() {
        let (dir, model) = (tempfile::tempdir().unwrap(), Model::load("tiny-gpt2").unwrap());
        let hook = HookPoint::resid_pre(1);
        let tokens = model.sample(2, 8, 0).unwrap();
        ActivationStore::harvest(&model, &[hook], &tokens, dir.path(), HarvestConfig::default())
            .unwrap();
        let (shard, whole) =
            (dir.path().join(Manifest::shard_name(0)), Manifest::read(dir.path()).unwrap());
        let (bytes, layout) = (std::fs::read(&shard).unwrap(), Layout::new(&whole, 0).unwrap());
        // The second row: a token beyond the vocabulary, a position before the first.
        for (at, value) in [
            (layout.tokens.start as usize + 4, 1 << 20),
            (layout.positions.start as usize + 4, 2u32),
        ] {
            let mut spoilt = bytes.clone();
            spoilt[at..at + 4].copy_from_slice(&value.to_le_bytes());
            std::fs::write(&shard, &spoilt).unwrap();
            let mut signed = whole.clone();
            signed.shards[0].sha256.insert(
                IDS.to_owned(),
                sha256(&spoilt[layout.tokens.start as usize..layout.positions.end as usize]),
            );
            signed.write(dir.path()).unwrap();
            let store = ActivationStore::open(dir.path()).unwrap();
            for told in [
                store.gather(hook, &[0], &mut Batch::default()).err(),
                store.tokens().err(),
                Lookup::means(&store, hook).err(),
            ] {
                let told = told.expect("it is noticed, each time").to_string();
                assert!(told.contains("shard-00000") && told.contains("in row 1"), "{told}");
            }
        }
    }
}
