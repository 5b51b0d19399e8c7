//! On which n-grams something fired, how often, and how strongly: a sorted list, and what waits to
//! be merged into it.

use super::LONGEST;

/// A token and those before it, the current one first.
pub(super) type Gram = [u32; LONGEST];

/// What stands in a [`Gram`] before the beginning of a sequence, or beyond the order that is
/// counted.
pub(super) const NOTHING: u32 = u32::MAX;

/// Fewer firings are not worth a merge.
const FEWEST: usize = 64;

/// The n-gram that ends at position `at` of a sequence, of at most `order` tokens.
pub(super) fn gram(sequence: &[u32], at: usize, order: usize) -> Gram {
    std::array::from_fn(
        |back| if back < order && back <= at { sequence[at - back] } else { NOTHING },
    )
}

/// One n-gram of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub gram: Gram,
    pub count: u32,
    /// The sum of the values.
    pub mass: f64,
}

/// What one latent did; its list ascends by n-gram.
#[derive(Default)]
pub(super) struct Counts {
    sorted: Vec<Entry>,
    pending: Vec<(Gram, f32)>,
}

impl Counts {
    /// Notes a firing.
    pub(super) fn add(&mut self, gram: Gram, value: f32) {
        self.pending.push((gram, value));
    }

    /// Whether it is time to merge what waits: seldom enough that a firing is moved a few times in
    /// all.
    pub(super) fn is_due(&self) -> bool {
        self.pending.len() >= FEWEST.max(self.sorted.len() / 2)
    }

    /// Merges what waits into the list. Values of one n-gram are summed in the order in which they
    /// came.
    pub(super) fn merge(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_by_key(|(gram, _)| *gram);
        let mut merged = Vec::with_capacity(self.sorted.len() + pending.len());
        let mut old = std::mem::take(&mut self.sorted).into_iter().peekable();
        for same in pending.chunk_by(|a, b| a.0 == b.0) {
            let gram = same[0].0;
            while let Some(entry) = old.next_if(|entry| entry.gram < gram) {
                merged.push(entry);
            }
            let mut entry = old.next_if(|entry| entry.gram == gram).unwrap_or(Entry {
                gram,
                count: 0,
                mass: 0.0,
            });
            entry.count += same.len() as u32;
            same.iter().for_each(|(_, value)| entry.mass += f64::from(*value));
            merged.push(entry);
        }
        merged.extend(old);
        merged.shrink_to_fit();
        self.sorted = merged;
    }

    /// The list; what still waits is not in it.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.sorted
    }

    /// Bytes that list and waiting firings take.
    pub(super) fn bytes(&self) -> u64 {
        (size_of_val(&self.sorted[..]) + size_of_val(&self.pending[..])) as u64
    }
}

/// The list grouped by the first `n` tokens of its n-grams: each group's n-gram, count and mass.
pub(super) fn grouped(entries: &[Entry], n: usize) -> impl Iterator<Item = Entry> {
    entries.chunk_by(move |a, b| a.gram[..n] == b.gram[..n]).map(move |group| {
        let mut gram = [NOTHING; LONGEST];
        gram[..n].copy_from_slice(&group[0].gram[..n]);
        let count = group.iter().map(|entry| entry.count).sum();
        Entry { gram, count, mass: group.iter().map(|entry| entry.mass).sum() }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_list_is_what_a_map_holds(firings in prop::collection::vec((0u32..6, 0u32..3, 0u8..50), 0..600)) {
            let (mut counts, mut map) = (Counts::default(), BTreeMap::<Gram, (u32, f64)>::new());
            for (token, before, value) in firings {
                let (gram, value) = ([token, before, NOTHING], f32::from(value) * 0.25);
                counts.add(gram, value);
                let entry = map.entry(gram).or_default();
                *entry = (entry.0 + 1, entry.1 + f64::from(value));
                if counts.is_due() {
                    counts.merge();
                }
            }
            counts.merge();
            let found: Vec<_> = counts.entries().iter().map(|e| (e.gram, (e.count, e.mass))).collect();
            prop_assert_eq!(&found, &map.iter().map(|(gram, sums)| (*gram, *sums)).collect::<Vec<_>>());
            for token in 0..6 {
                let want: u32 = map.iter().filter(|(gram, _)| gram[0] == token).map(|(_, (count, _))| count).sum();
                let got = grouped(counts.entries(), 1).find(|e| e.gram[0] == token).map_or(0, |e| e.count);
                prop_assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn an_n_gram_ends_at_its_position_and_stops_at_the_beginning() {
        let sequence = [7, 8, 9];
        assert_eq!(gram(&sequence, 2, 3), [9, 8, 7]);
        assert_eq!(gram(&sequence, 2, 2), [9, 8, NOTHING]);
        assert_eq!(gram(&sequence, 1, 3), [8, 7, NOTHING]);
        assert_eq!(gram(&sequence, 0, 1), [7, NOTHING, NOTHING]);
    }
}
