//! A stream of documents to sequences of equal length.

/// Packs documents: every sequence is BOS and then the next `n_ctx - 1` tokens of the stream, in
/// which EOS stands between two documents.
pub struct Packer {
    ids: Vec<u32>,
    n_ctx: usize,
    bos: u32,
    eos: u32,
    limit: usize,
    eos_due: bool,
}

impl Packer {
    /// Packs at most `limit` sequences of `n_ctx >= 2` tokens.
    pub fn new(n_ctx: usize, bos: u32, eos: u32, limit: Option<usize>) -> Packer {
        Packer {
            ids: Vec::new(),
            n_ctx,
            bos,
            eos,
            limit: limit.unwrap_or(usize::MAX),
            eos_due: false,
        }
    }

    /// Begins a document: the next token follows an EOS, unless it is the first of all.
    pub fn begin(&mut self) {
        self.eos_due = !self.ids.is_empty();
    }

    /// Appends a part of the document that was begun last; tokens beyond the limit are left out.
    pub fn push(&mut self, part: &[u32]) {
        if !part.is_empty() && std::mem::take(&mut self.eos_due) {
            self.push_id(self.eos);
        }
        for &id in part {
            self.push_id(id);
        }
    }

    fn push_id(&mut self, id: u32) {
        if self.is_full() {
            return;
        }
        if self.ids.len().is_multiple_of(self.n_ctx) {
            self.ids.push(self.bos);
        }
        self.ids.push(id);
    }

    /// Whether there are as many sequences as there may be.
    pub fn is_full(&self) -> bool {
        self.ids.len() / self.n_ctx >= self.limit
    }

    /// How many tokens of text are still wanted, or `None` without a limit.
    pub fn wanted(&self) -> Option<usize> {
        let ids = (self.limit != usize::MAX)
            .then(|| (self.limit * self.n_ctx).saturating_sub(self.ids.len()))?;
        Some(ids - ids.div_ceil(self.n_ctx).min(ids))
    }

    /// How many tokens there are, an incomplete last sequence included.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The ids of all complete sequences.
    pub fn finish(mut self) -> Vec<u32> {
        self.ids.truncate(self.ids.len() / self.n_ctx * self.n_ctx);
        self.ids.shrink_to_fit();
        self.ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(documents: &[Vec<u32>], n_ctx: usize, limit: Option<usize>) -> Vec<u32> {
        let mut packer = Packer::new(n_ctx, 100, 101, limit);
        for document in documents {
            packer.begin();
            // In two parts, as a long document comes.
            let (head, tail) = document.split_at(document.len() / 2);
            packer.push(head);
            packer.push(tail);
        }
        packer.finish()
    }

    #[test]
    fn by_hand() {
        assert_eq!(
            packed(&[vec![1, 2, 3], vec![4, 5, 6]], 4, None),
            [100, 1, 2, 3, 100, 101, 4, 5]
        );
        assert_eq!(packed(&[vec![1, 2], vec![], vec![3]], 3, None), [100, 1, 2, 100, 101, 3]);
        assert_eq!(packed(&[vec![1]], 3, None), [0; 0]);
    }

    proptest! {
        #[test]
        fn without_bos_it_is_the_stream(documents in prop::collection::vec(prop::collection::vec(0u32..50, 0..20), 0..10), n_ctx in 2usize..9, limit in prop::option::of(0usize..6)) {
            let full: Vec<Vec<u32>> = documents.iter().filter(|d| !d.is_empty()).cloned().collect();
            let stream: Vec<u32> = full.join(&101);
            let packed = packed(&documents, n_ctx, limit);
            let n_seq = (stream.len() / (n_ctx - 1)).min(limit.unwrap_or(usize::MAX));
            prop_assert_eq!(packed.len(), n_seq * n_ctx);
            prop_assert!(packed.chunks(n_ctx).all(|sequence| sequence[0] == 100));
            let back: Vec<u32> = packed.chunks(n_ctx).flat_map(|sequence| sequence[1..].iter().copied()).collect();
            prop_assert_eq!(&back[..], &stream[..back.len()]);
        }
    }
}
