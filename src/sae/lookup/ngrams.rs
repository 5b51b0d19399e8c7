//! The n-grams that have rows of their own.
//!
//! A key is exact: the tokens of an n-gram as one number to the base of the vocabulary, `(t₁·V +
//! t₂)·V + t₃`, of 64 bits, which holds three tokens of any vocabulary up to 2.6 million. So no two
//! n-grams share a row, and finding one is a binary search among those of its length.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::base::error::{Error, Result};
use crate::model::tokens::Tokens;

/// The longest n-gram.
const LONGEST: usize = 3;

/// Keys that are counted at a time, which bounds the memory that it takes to 256 MB.
const AT_ONCE: usize = 1 << 25;

/// Spreads keys over the parts: 2⁶⁴ over the golden ratio, as in Fibonacci hashing.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The n-grams of two and more tokens that a table has rows for, behind those of the tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ngrams {
    d_vocab: usize,
    /// For each length from 2 on, the keys in ascending order.
    keys: Vec<Vec<u64>>,
}

impl Ngrams {
    /// The `rows` most common n-grams of two to `longest` tokens in a text, each seen at least
    /// twice; of equally common ones the shorter, then the lower tokens. None reaches over the
    /// beginning of a sequence.
    ///
    /// # Errors
    /// [`Error::Config`] unless `longest` is 2 or 3; [`Error::TokenId`] if a token is not below
    /// `d_vocab`.
    pub fn most_common(
        text: &Tokens,
        d_vocab: usize,
        longest: usize,
        rows: usize,
    ) -> Result<Ngrams> {
        if !(2..=LONGEST).contains(&longest) {
            return Err(Error::config(
                "longest",
                format!("longest = {longest}; n-grams of 2 or 3 tokens are counted"),
            ));
        }
        text.check(d_vocab)?;
        check_vocabulary(d_vocab, longest)?;
        /// Its count, its length and its key, so that the least of what is kept lies on top of a
        /// heap.
        type Counted = Reverse<(u64, Reverse<usize>, Reverse<u64>)>;
        let mut kept: BinaryHeap<Counted> = BinaryHeap::new();
        for n in 2..=longest {
            let parts = (text.len() / AT_ONCE + 1) as u64;
            for part in 0..parts {
                let mut keys: Vec<u64> = (0..text.n_seq())
                    .flat_map(|i| text.row(i).windows(n).map(|gram| key(gram, d_vocab)))
                    .filter(|key| (key.wrapping_mul(SPREAD) >> 32) % parts == part)
                    .collect();
                keys.sort_unstable();
                for same in keys.chunk_by(|a, b| a == b).filter(|same| same.len() > 1) {
                    kept.push(Reverse((same.len() as u64, Reverse(n), Reverse(same[0]))));
                    if kept.len() > rows {
                        kept.pop();
                    }
                }
            }
        }
        let mut keys = vec![Vec::new(); longest - 1];
        for Reverse((_, Reverse(n), Reverse(key))) in kept {
            keys[n - 2].push(key);
        }
        keys.iter_mut().for_each(|keys| keys.sort_unstable());
        Ok(Ngrams { d_vocab, keys })
    }

    /// These n-grams, each of two or three tokens; sorted, and each once.
    ///
    /// # Errors
    /// [`Error::Config`] for one of another length, [`Error::TokenId`] for a token not below
    /// `d_vocab`.
    pub fn new(grams: &[Vec<u32>], d_vocab: usize) -> Result<Ngrams> {
        let longest = grams.iter().map(Vec::len).max().unwrap_or(2);
        check_vocabulary(d_vocab, longest.clamp(2, LONGEST))?;
        let mut keys = vec![Vec::new(); longest.clamp(2, LONGEST) - 1];
        for gram in grams {
            if !(2..=LONGEST).contains(&gram.len()) {
                return Err(Error::config(
                    "grams",
                    format!("an n-gram of {} tokens; 2 or 3 are supported", gram.len()),
                ));
            }
            if let Some(position) = gram.iter().position(|&token| token as usize >= d_vocab) {
                return Err(Error::TokenId { id: gram[position], position, d_vocab });
            }
            keys[gram.len() - 2].push(key(gram, d_vocab));
        }
        keys.iter_mut().for_each(|keys: &mut Vec<u64>| {
            keys.sort_unstable();
            keys.dedup();
        });
        Ok(Ngrams { d_vocab, keys })
    }

    /// How many n-grams there are, those of one token not counted.
    pub fn len(&self) -> usize {
        self.keys.iter().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of a table with a row for every token and every n-gram.
    pub fn rows(&self) -> usize {
        self.d_vocab + self.len()
    }

    /// The longest n-gram there may be.
    pub fn longest(&self) -> usize {
        self.keys.len() + 1
    }

    /// The row of the longest n-gram that the last of these tokens ends, which may be its own.
    ///
    /// # Panics
    /// Without tokens.
    pub fn row(&self, tokens: &[u32]) -> u32 {
        for n in (2..=self.longest().min(tokens.len())).rev() {
            let keys = &self.keys[n - 2];
            if let Ok(at) = keys.binary_search(&key(&tokens[tokens.len() - n..], self.d_vocab)) {
                let before: usize = self.keys[..n - 2].iter().map(Vec::len).sum();
                return (self.d_vocab + before + at) as u32;
            }
        }
        tokens[tokens.len() - 1]
    }

    /// The rows of all positions of a text.
    pub fn rows_of(&self, text: &Tokens) -> Vec<u32> {
        let ends = |sequence: usize| (1..=text.n_ctx()).map(move |end| (sequence, end));
        let row = |(sequence, end): (usize, usize)| {
            self.row(&text.row(sequence)[end.saturating_sub(self.longest())..end])
        };
        (0..text.n_seq()).flat_map(ends).map(row).collect()
    }

    /// The tokens of every n-gram, in the order of the rows.
    pub fn grams(&self) -> Vec<Vec<u32>> {
        let base = self.d_vocab as u64;
        let tokens = |key: u64, n: usize| {
            (0..n as u32).rev().map(|power| (key / base.pow(power) % base) as u32).collect()
        };
        let of_length = |(i, keys): (usize, &Vec<u64>)| {
            keys.iter().map(|&key| tokens(key, i + 2)).collect::<Vec<Vec<u32>>>()
        };
        self.keys.iter().enumerate().flat_map(of_length).collect()
    }
}

/// Checks that every n-gram has a key of its own.
fn check_vocabulary(d_vocab: usize, longest: usize) -> Result<()> {
    match (d_vocab as u64).checked_pow(longest as u32) {
        Some(_) => Ok(()),
        None => Err(Error::config(
            "d_vocab",
            format!(
                "d_vocab = {d_vocab}; n-grams of {longest} tokens cannot be told apart in a vocabulary that large"
            ),
        )),
    }
}

fn key(gram: &[u32], d_vocab: usize) -> u64 {
    gram.iter().fold(0, |key, &token| key * d_vocab as u64 + u64::from(token))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_most_common_are_kept_and_found(ids in prop::collection::vec(0u32..5, 12..=12), more in prop::collection::vec(0u32..5, 12..=12), rows in 0usize..12) {
            let text = Tokens::new([ids, more].concat(), 6).unwrap();
            let grams = Ngrams::most_common(&text, 5, 3, rows).unwrap();
            // Counted naively.
            let mut counts = std::collections::BTreeMap::new();
            for n in [2, 3] {
                for i in 0..text.n_seq() {
                    text.row(i).windows(n).for_each(|gram| *counts.entry((n, gram.to_vec())).or_insert(0) += 1);
                }
            }
            let mut order: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 1).map(|(gram, count)| (Reverse(count), gram)).collect();
            order.sort();
            order.truncate(rows);
            let mut want: Vec<(usize, Vec<u32>)> = order.into_iter().map(|(_, gram)| gram).collect();
            want.sort();
            let want: Vec<Vec<u32>> = want.into_iter().map(|(_, gram)| gram).collect();
            prop_assert_eq!(&grams.grams(), &want);
            prop_assert_eq!(&Ngrams::new(&want, 5).unwrap().grams(), &want);
            // The longest that ends at a position.
            let rows = grams.rows_of(&text);
            for (at, &row) in rows.iter().enumerate() {
                let (sequence, end) = (text.row(at / 6), at % 6 + 1);
                let longest = (2..=3usize).rev().filter(|n| *n <= end).find_map(|n| want.iter().position(|gram| gram[..] == sequence[end - n..end]));
                prop_assert_eq!(row as usize, longest.map_or(sequence[end - 1] as usize, |i| 5 + i));
            }
        }
    }

    #[test]
    fn a_vocabulary_whose_n_grams_no_number_holds_is_refused() {
        for d_vocab in [usize::MAX, 1 << 33, 3_000_000] {
            assert!(
                matches!(
                    Ngrams::new(&[vec![0, 1, 2]], d_vocab),
                    Err(Error::Config { field: "d_vocab", .. })
                ),
                "{d_vocab}"
            );
        }
        let pair = vec![(1 << 31) - 1, 3];
        assert_eq!(Ngrams::new(std::slice::from_ref(&pair), 1 << 31).unwrap().grams(), [pair]);
        assert_eq!(
            Ngrams::new(&[vec![2_599_999; 3]], 2_600_000).unwrap().grams(),
            [[2_599_999; 3]]
        );
    }

    #[test]
    fn what_cannot_be_an_n_gram_is_refused() {
        let text = Tokens::new(vec![0, 1, 2, 3], 2).unwrap();
        assert!(
            Ngrams::most_common(&text, 4, 4, 10).is_err()
                && Ngrams::most_common(&text, 3, 2, 10).is_err()
        );
        assert!(Ngrams::new(&[vec![1]], 4).is_err() && Ngrams::new(&[vec![1, 4]], 4).is_err());
        assert!(Ngrams::most_common(&text, 4, 2, 10).unwrap().is_empty());
    }
}
