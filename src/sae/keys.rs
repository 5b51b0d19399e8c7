//! Which rows of the table a row of activations has.

use std::borrow::Cow;

use super::Codes;

/// For every row of activations, the rows of the table that are added to its reconstruction, and
/// how much of each.
///
/// With a table indexed by token they are the tokens, one a row: a slice of token ids becomes keys
/// wherever keys are asked for. For tables of other kinds [`Sae::keys`](crate::sae::Sae::keys) and
/// [`ActivationStore::keys`](crate::activations::ActivationStore::keys) find them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys<'a> {
    rows: Cow<'a, [u32]>,
    several: Option<Cow<'a, Several>>,
}

/// What it takes where a row of activations may have any number of keys.
#[derive(Clone, Debug, PartialEq)]
struct Several {
    /// Where each row's keys begin, and the end of the last.
    starts: Vec<usize>,
    weights: Vec<f32>,
}

impl Keys<'_> {
    /// How many rows of activations they are for.
    pub fn n(&self) -> usize {
        self.several.as_ref().map_or(self.rows.len(), |several| several.starts.len() - 1)
    }

    /// The rows of the table that row `i` of the activations has, and their weights.
    ///
    /// # Panics
    /// If `i >= n`, as indexing a slice does.
    pub fn row(&self, i: usize) -> (&[u32], &[f32]) {
        match &self.several {
            None => (&self.rows[i..=i], &[1.0]),
            Some(several) => {
                let at = several.starts[i]..several.starts[i + 1];
                (&self.rows[at.clone()], &several.weights[at])
            }
        }
    }

    /// All of them, row by row.
    pub(crate) fn all(&self) -> &[u32] {
        &self.rows
    }

    /// Of every key the row of activations and the weight, unless there is one key a row, of weight 1.
    pub(crate) fn places(&self) -> Option<Vec<(u32, f32)>> {
        let several = self.several.as_ref()?;
        let mut places = Vec::with_capacity(self.rows.len());
        for (row, ends) in several.starts.windows(2).enumerate() {
            places.extend(
                several.weights[ends[0]..ends[1]].iter().map(|&weight| (row as u32, weight)),
            );
        }
        Some(places)
    }
}

impl<'a> From<&'a [u32]> for Keys<'a> {
    fn from(tokens: &'a [u32]) -> Keys<'a> {
        Keys { rows: Cow::Borrowed(tokens), several: None }
    }
}

impl<'a> From<&'a Vec<u32>> for Keys<'a> {
    fn from(tokens: &'a Vec<u32>) -> Keys<'a> {
        Keys::from(&tokens[..])
    }
}

impl<'a, const N: usize> From<&'a [u32; N]> for Keys<'a> {
    fn from(tokens: &'a [u32; N]) -> Keys<'a> {
        Keys::from(&tokens[..])
    }
}

impl From<Vec<u32>> for Keys<'_> {
    fn from(rows: Vec<u32>) -> Self {
        Keys { rows: Cow::Owned(rows), several: None }
    }
}

impl<'a> From<&'a Keys<'_>> for Keys<'a> {
    fn from(keys: &'a Keys<'_>) -> Keys<'a> {
        Keys {
            rows: Cow::Borrowed(&keys.rows),
            several: keys.several.as_deref().map(Cow::Borrowed),
        }
    }
}

impl From<Codes> for Keys<'_> {
    fn from(codes: Codes) -> Self {
        let (starts, rows, weights) = codes.into_parts();
        Keys { rows: Cow::Owned(rows), several: Some(Cow::Owned(Several { starts, weights })) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_one_key_a_row_and_codes_are_weighted_ones() {
        let tokens = Keys::from(&[4, 2, 4]);
        assert_eq!((tokens.n(), tokens.row(1), tokens.places()), (3, (&[2][..], &[1.0][..]), None));
        let mut codes = Codes::default();
        codes.push_some(&[1, 5], &[0.5, 2.0], |_, _| true);
        codes.push_some(&[], &[], |_, _| true);
        let keys = Keys::from(codes);
        assert_eq!(
            (keys.n(), keys.row(0), keys.row(1)),
            (2, (&[1, 5][..], &[0.5, 2.0][..]), (&[][..], &[][..]))
        );
        assert_eq!(keys.places(), Some(vec![(0, 0.5), (0, 2.0)]));
        assert_eq!(Keys::from(&keys), keys);
    }
}
