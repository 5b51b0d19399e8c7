//! A stream of documents to sequences of equal length.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::documents::Place;
use super::encode_batches::{EncodeBatches, Encoded};
use super::reading::Text;
use crate::base::error::Result;
use crate::model::tokens::Tokens;

/// How far a stream has been read: so many ids of a document have been taken, the end-of-text token
/// before it counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The place of the document's file among all.
    pub file: usize,
    /// Where it begins in the file.
    pub place: Place,
    /// How many ids have been taken; 0 at the beginning of the stream, and nowhere else.
    pub used: u64,
}

/// Some sequences of a stream.
pub struct Chunk {
    pub tokens: Tokens,
    /// How far the stream has been read after them.
    pub after: Cursor,
    /// The documents that begin in them.
    pub begun: Vec<Begun>,
}

impl Chunk {
    /// Sequences of no stream.
    pub fn of(tokens: Tokens) -> Chunk {
        Chunk { tokens, after: Cursor::default(), begun: Vec::new() }
    }
}

/// A document that has begun.
pub struct Begun {
    pub name: String,
    /// What tells its text from others.
    pub mark: u64,
}

/// Packs documents: every sequence is BOS and then the next `n_ctx - 1` tokens of the stream, in
/// which EOS stands between two documents.
pub struct Chunks<'a, T> {
    batches: EncodeBatches<'a, T>,
    n_ctx: usize,
    /// Ids in a chunk.
    size: usize,
    /// Ids that are still wanted.
    left: usize,
    ids: Vec<u32>,
    n_tokens: usize,
    after: Cursor,
    /// Ids of the first document that were taken before.
    skip: u64,
    /// Whether the next document is the first of all.
    first: bool,
    eos_due: bool,
    begun: Vec<Begun>,
    ready: VecDeque<Chunk>,
    ended: bool,
}

impl<'a, T: Iterator<Item = Result<Text>>> Chunks<'a, T> {
    /// Packs `texts` into sequences of `n_ctx >= 2` tokens, `n_seq` of them to a chunk and at most
    /// `most` in all. The first text is the one that `after` is in.
    /// It is the `first` if no other began before it.
    pub fn new(
        batches: EncodeBatches<'a, T>,
        n_ctx: usize,
        (n_seq, most): (usize, usize),
        (after, first): (Cursor, bool),
    ) -> Chunks<'a, T> {
        Chunks {
            batches,
            n_ctx,
            size: n_seq.saturating_mul(n_ctx),
            left: most.saturating_mul(n_ctx),
            ids: Vec::new(),
            n_tokens: 0,
            after,
            skip: after.used,
            first,
            eos_due: false,
            begun: Vec::new(),
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// How many tokens have been packed, those of an incomplete last sequence included.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// What the texts come from.
    pub fn end(self) -> T {
        self.batches.end()
    }

    /// The next sequences; fewer than were asked for at the end of the text, and then none.
    ///
    /// # Errors
    /// What reading and encoding say; [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn next(&mut self) -> Result<Option<Chunk>> {
        while self.ready.is_empty() && self.wave()?.is_some() {}
        Ok(self.ready.pop_front())
    }

    /// Packs some more text, and says of how many bytes; `None` once there is no more, or enough.
    ///
    /// # Errors
    /// As [`next`](Chunks::next).
    pub fn wave(&mut self) -> Result<Option<usize>> {
        if self.ended {
            return Ok(None);
        }
        // One token of each sequence is BOS.
        let wanted = (self.left != usize::MAX).then(|| {
            let ids = self.left - self.ids.len();
            ids - ids.div_ceil(self.n_ctx).min(ids)
        });
        let wave = self.batches.next(wanted)?;
        if wave.is_empty() {
            self.ids.truncate(self.ids.len() / self.n_ctx * self.n_ctx);
            self.emit()?;
            self.ended = true;
        }
        for piece in &wave {
            self.pack(piece)?;
        }
        Ok(Some(wave.iter().map(|piece| piece.bytes).sum()))
    }

    fn pack(&mut self, piece: &Encoded) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        if piece.begins {
            let text = self.batches.text(piece.text);
            self.eos_due = !std::mem::take(&mut self.first);
            self.after = Cursor { file: text.file, place: text.place, used: 0 };
            // One that continues began before.
            if self.skip == 0 {
                self.begun.push(Begun { name: text.name.clone(), mark: text.text_hash });
            }
        }
        let eos = (!piece.ids.is_empty() && std::mem::take(&mut self.eos_due))
            .then_some(self.batches.encoder.eos);
        for &id in eos.iter().chain(&piece.ids) {
            self.after.used += 1;
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            if self.ids.len().is_multiple_of(self.n_ctx) {
                self.ids.push(self.batches.encoder.bos);
                self.n_tokens += 1;
            }
            self.ids.push(id);
            self.n_tokens += 1;
            if self.ids.len() == self.size.min(self.left) {
                self.emit()?;
                if self.left == 0 {
                    self.ended = true;
                    break;
                }
            }
        }
        Ok(())
    }

    fn emit(&mut self) -> Result<()> {
        if !self.ids.is_empty() {
            self.left -= self.ids.len();
            let mut ids = std::mem::take(&mut self.ids);
            ids.shrink_to_fit();
            let tokens = Tokens::new(ids, self.n_ctx)?;
            let begun = std::mem::take(&mut self.begun);
            self.ready.push_back(Chunk { tokens, after: self.after, begun });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Encoder;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A character is a token.
    fn packed(documents: &[Vec<u32>], n_ctx: usize, limit: Option<usize>) -> Vec<u32> {
        let encode = Arc::new(|text: &str| Ok(text.chars().map(u32::from).collect()));
        let encoder = Encoder {
            name: "toy".into(),
            bos: 100,
            eos: 101,
            n_ctx,
            d_vocab: 102,
            piecewise: true,
            encode,
        };
        let texts = documents.iter().map(|ids| {
            let text = ids.iter().map(|&id| char::from_u32(id).unwrap()).collect();
            Ok(Text { name: String::new(), text, file: 0, place: Place::default(), text_hash: 0 })
        });
        let batches = EncodeBatches::new(&encoder, texts);
        let most = limit.unwrap_or(usize::MAX);
        let mut chunks = Chunks::new(batches, n_ctx, (3, most), (Cursor::default(), true));
        let mut ids = Vec::new();
        while let Some(chunk) = chunks.next().unwrap() {
            assert!(chunk.tokens.n_seq() <= 3);
            ids.extend_from_slice(chunk.tokens.ids());
        }
        ids
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
        fn without_bos_it_is_the_stream(documents in prop::collection::vec(prop::collection::vec(0u32..50, 0..20), 0..10), n_ctx in 2usize..9, limit in prop::option::of(1usize..6)) {
            // Whether anything comes before a document is known by the documents before it.
            let documents: Vec<Vec<u32>> = documents.into_iter().skip_while(Vec::is_empty).collect();
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
