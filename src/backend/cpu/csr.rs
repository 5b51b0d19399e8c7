//! A list of keys, one an entry, turned into a list of entries by key: a counting sort that keeps
//! the order of equal keys.

/// For every key, the entries that have it, in ascending order.
#[derive(Default)]
pub struct Csr {
    starts: Vec<u32>,
    /// The keys that have entries.
    present: Vec<u32>,
    entries: Vec<u32>,
}

impl Csr {
    /// Sorts `keys`, all below `n_keys`; the i-th key belongs to entry i.
    pub fn fill(&mut self, keys: &[u32], n_keys: usize) {
        self.starts.clear();
        self.starts.resize(n_keys + 1, 0);
        for &key in keys {
            self.starts[key as usize + 1] += 1;
        }
        self.present.clear();
        let mut sum = 0;
        for (key, start) in self.starts[1..].iter_mut().enumerate() {
            if *start > 0 {
                self.present.push(key as u32);
            }
            sum += *start;
            *start = sum;
        }
        self.entries.resize(keys.len(), 0);
        // `starts[key]` walks to the end of its key's entries, which is where the next key's began:
        // shifted back below.
        for (entry, &key) in keys.iter().enumerate() {
            let at = &mut self.starts[key as usize];
            self.entries[*at as usize] = entry as u32;
            *at += 1;
        }
        self.starts.copy_within(..n_keys, 1);
        self.starts[0] = 0;
    }

    /// The entries whose key is `key`.
    #[inline]
    pub fn entries(&self, key: usize) -> &[u32] {
        &self.entries[self.range(key)]
    }

    /// Where they lie among all entries.
    #[inline]
    pub fn range(&self, key: usize) -> std::ops::Range<usize> {
        self.starts[key] as usize..self.starts[key + 1] as usize
    }

    /// All entries, in order of their keys.
    pub fn all(&self) -> &[u32] {
        &self.entries
    }

    /// Every key that has entries, and they.
    pub fn keys(&self) -> impl Iterator<Item = (usize, &[u32])> {
        self.present.iter().map(|&key| (key as usize, self.entries(key as usize)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_every_entry_under_its_key_in_order(keys in prop::collection::vec(0u32..20, 0..300), again in prop::collection::vec(0u32..7, 0..50)) {
            let mut by_key = Csr::default();
            for (keys, n_keys) in [(&keys, 20usize), (&again, 7)] {
                by_key.fill(keys, n_keys);
                for key in 0..n_keys {
                    let want: Vec<u32> = (0..keys.len() as u32).filter(|&i| keys[i as usize] as usize == key).collect();
                    prop_assert_eq!(by_key.entries(key), &want[..]);
                }
            }
        }
    }
}
