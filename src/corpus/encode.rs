//! Text to token ids, in parallel within a document.
//!
//! A document is encoded in pieces, so that a long one keeps all cores busy. That must not change
//! its ids, so a piece begins only with a line feed that is followed by a letter or a digit, where
//! byte-level tokenizers begin a token in any case (`words` says why, and of which that is known;
//! tokens that are taken out of the text first, such as `<|endoftext|>`, begin with neither). With
//! any other tokenizer every document is encoded whole.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use tokenizers::Tokenizer;

use super::words::Words;
use crate::base::error::{Error, Result};

/// A piece is at least so long: small enough to share out, large enough to make the calls' cost
/// unnoticeable.
const PIECE: usize = 16 << 10;

type Encode = Arc<dyn Fn(&str) -> Result<Vec<u32>> + Send + Sync>;

/// What a corpus needs to know about a model and its tokenizer; for
/// [`Corpus::text_files_with`](super::Corpus::text_files_with).
#[derive(Clone)]
pub struct Encoder {
    /// The model's name, for people.
    pub name: String,
    /// The token that every sequence begins with.
    pub bos: u32,
    /// The token between two documents. May be the same as `bos`, and may be 0.
    pub eos: u32,
    /// The longest sequence that the model reads.
    pub n_ctx: usize,
    /// Number of token ids.
    pub d_vocab: usize,
    /// Whether a text may be cut before any line feed that a letter or a digit follows, and its ids
    /// are those of its pieces. Long documents are then encoded on all cores; `false` is always
    /// right.
    pub piecewise: bool,
    /// Text to ids, with no token added at either end.
    pub encode: Encode,
}

impl Encoder {
    /// The encoder of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer refuses to have its truncation switched off.
    pub fn of_tokenizer(
        name: &str,
        tokenizer: &Tokenizer,
        bos: u32,
        eos: u32,
        n_ctx: usize,
        d_vocab: usize,
    ) -> Result<Encoder> {
        let words = Words::new(tokenizer)?;
        Ok(Encoder {
            name: name.to_owned(),
            bos,
            eos,
            n_ctx,
            d_vocab,
            piecewise: words.is_piecewise(),
            encode: Arc::new(move |text| words.encode(text)),
        })
    }

    /// The ids of `texts`, text by text, the same for any number of threads.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer refuses, or gives ids outside the vocabulary.
    pub fn encode_all(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        texts.par_iter().map(|text| self.encode_one(text)).collect()
    }

    fn encode_one(&self, text: &str) -> Result<Vec<u32>> {
        let ids = (self.encode)(text)?;
        match ids.iter().find(|&&id| id as usize >= self.d_vocab) {
            Some(id) => Err(Error::Tokenizer(format!(
                "it gives token id {id}, but {} has a vocabulary of {}: its tokenizer.json belongs to another model",
                self.name, self.d_vocab
            ))),
            None => Ok(ids),
        }
    }

    /// Cuts `text` into pieces that can be encoded apart.
    pub fn pieces(&self, text: &str) -> Vec<Range<usize>> {
        pieces_of(text, if self.piecewise { PIECE } else { text.len() })
    }
}

/// Cuts `text` into pieces of at least `at_least` bytes, each but the first beginning with a line
/// feed that a letter or a digit follows.
fn pieces_of(text: &str, at_least: usize) -> Vec<Range<usize>> {
    let mut pieces = Vec::with_capacity(text.len() / at_least.max(64) + 1);
    let mut start = 0;
    while let Some(end) = border(text, start + at_least.max(1)) {
        pieces.push(start..end);
        start = end;
    }
    pieces.push(start..text.len());
    pieces
}

/// The first border at or after `from`.
fn border(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = from;
    while let Some(found) = bytes.get(at..)?.iter().position(|&byte| byte == b'\n') {
        at += found;
        // A line feed is one byte, so the next character begins right after it.
        if text[at + 1..].chars().next().is_some_and(char::is_alphanumeric) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_the_text_and_begin_at_borders(text in "[a-z \n\u{e9}\u{2003}<]{0,300}", at_least in 0usize..40) {
            let pieces = pieces_of(&text, at_least);
            prop_assert_eq!(pieces.iter().map(|piece| &text[piece.clone()]).collect::<String>(), text.clone());
            for piece in pieces.iter().skip(1) {
                let mut chars = text[piece.clone()].chars();
                prop_assert_eq!(chars.next(), Some('\n'));
                prop_assert!(chars.next().unwrap().is_alphanumeric());
            }
            prop_assert!(pieces.iter().rev().skip(1).all(|piece| piece.len() >= at_least));
        }
    }

    fn encoder(encode: impl Fn(&str) -> Vec<u32> + Send + Sync + 'static) -> Encoder {
        Encoder {
            name: "toy".into(),
            bos: 0,
            eos: 0,
            n_ctx: 64,
            d_vocab: 256,
            piecewise: false,
            encode: Arc::new(move |text| Ok(encode(text))),
        }
    }

    #[test]
    fn a_text_is_cut_only_if_its_tokenizer_is_known_to_allow_it() {
        let text = "a line of a dozen bytes or two\n".repeat(3_000);
        let whole = encoder(|_| Vec::new());
        let whole_text = 0..text.len();
        assert!(whole.pieces(&text).into_iter().eq([whole_text]));
        assert!(Encoder { piecewise: true, ..whole }.pieces(&text).len() > 4);
    }

    #[test]
    fn ids_outside_the_vocabulary_name_the_tokenizer() {
        let wrong = encoder(|_| vec![3, 256]);
        let told = wrong.encode_all(&["x"]).unwrap_err().to_string();
        assert!(told.contains("256") && told.contains("tokenizer.json"), "{told}");
    }
}
