//! Byte-level BPE, each distinct word encoded once.
//!
//! GPT-2's and NeoX's tokenizers split text by
//!
//! ```text
//! 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```
//!
//! and merge nothing across that split. Two places can be recognised as a split by the characters
//! around them alone, and the text on either side is split the same whether the other is there or
//! not:
//!
//! - before a space that stands between two characters which are not white space: what comes before
//!   cannot hold a space, and what follows takes the space along;
//! - before a line feed that is followed by a character which is not white space: a run of white
//!   space gives up its last character to what follows, and of those only a space joins it. Not if
//!   that character begins a token which is taken out of the text before the split, such as
//!   `<|endoftext|>`: before it white space ends, and gives up nothing.
//!
//! So text is cut there, and the ids of each stretch (" the", " don't", " end.") are looked up;
//! English prose has about 5 % as many distinct stretches as stretches. A tokenizer of any other
//! kind gets the whole text.

use std::collections::HashMap;
use std::sync::RwLock;

use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::Tokenizer;

use crate::base::error::{Error, Result};
use crate::model::vocabulary;

/// A longer stretch is not worth keeping: it hardly comes again.
const LONGEST: usize = 48;
/// So many locks that threads seldom meet at one.
const LOCKS: usize = 64;
/// Stretches kept behind each lock: 2 million in all, some 200 MB.
const MOST: usize = 32_768;

/// A tokenizer, and the ids of the stretches that it has seen.
pub struct Words {
    tokenizer: Tokenizer,
    cuts: bool,
    /// The characters that tokens begin with which are taken out of the text before it is split.
    added: Vec<char>,
    seen: Vec<RwLock<Seen>>,
}

/// Ids by stretch of text.
type Seen = HashMap<Box<str>, Box<[u32]>>;

impl Words {
    /// Takes a tokenizer as it was read. Truncation and padding, which some files ask for, are
    /// switched off: a corpus wants every token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if it refuses that.
    pub fn new(tokenizer: &Tokenizer) -> Result<Words> {
        let mut tokenizer = tokenizer.clone();
        tokenizer.with_truncation(None).map_err(|e| Error::Tokenizer(e.to_string()))?;
        tokenizer.with_padding(None);
        let cuts = splits_by_the_pattern(&tokenizer);
        let mut added: Vec<char> = tokenizer
            .get_added_tokens_decoder()
            .values()
            .filter_map(|token| token.content.chars().next())
            .collect();
        added.sort_unstable();
        added.dedup();
        Ok(Words { tokenizer, cuts, added, seen: (0..LOCKS).map(|_| RwLock::default()).collect() })
    }

    /// Whether a text may be cut before any line feed that a letter or a digit follows.
    pub fn is_piecewise(&self) -> bool {
        self.cuts && !self.added.iter().any(|first| first.is_alphanumeric())
    }

    /// The ids of `text`, with no token added at either end.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer refuses.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if !self.cuts {
            return self.encode_whole(text);
        }
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut start = 0;
        while start < text.len() {
            let end = next_cut(text, start + 1, &self.added);
            self.append(&text[start..end], &mut ids)?;
            start = end;
        }
        Ok(ids)
    }

    fn append(&self, stretch: &str, ids: &mut Vec<u32>) -> Result<()> {
        if stretch.len() > LONGEST {
            ids.extend(self.encode_whole(stretch)?);
            return Ok(());
        }
        let lock = &self.seen[lock_of(stretch)];
        // A thread that panicked while it held the lock can at worst have left out an entry, so
        // what is there is still right.
        if let Some(known) = lock.read().unwrap_or_else(|e| e.into_inner()).get(stretch) {
            ids.extend_from_slice(known);
            return Ok(());
        }
        let found = self.encode_whole(stretch)?;
        ids.extend_from_slice(&found);
        let mut seen = lock.write().unwrap_or_else(|e| e.into_inner());
        if seen.len() < MOST {
            seen.insert(stretch.into(), found.into());
        }
        Ok(())
    }

    fn encode_whole(&self, text: &str) -> Result<Vec<u32>> {
        vocabulary::encode(&self.tokenizer, text)
    }
}

fn lock_of(stretch: &str) -> usize {
    let mix = |hash: usize, &byte: &u8| hash.wrapping_mul(31).wrapping_add(usize::from(byte));
    stretch.as_bytes().iter().take(8).fold(stretch.len(), mix) % LOCKS
}

/// Whether the tokenizer is known to split as this module says.
fn splits_by_the_pattern(tokenizer: &Tokenizer) -> bool {
    let pattern = match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::ByteLevel(level)) => level.use_regex && !level.add_prefix_space,
        _ => false,
    };
    // Canonical composition never joins a character to a space or a line feed before it.
    let normalizer = matches!(tokenizer.get_normalizer(), None | Some(NormalizerWrapper::NFC(_)));
    let bpe = matches!(tokenizer.get_model(), ModelWrapper::BPE(bpe) if bpe.dropout.is_none());
    let added = tokenizer.get_added_tokens_decoder().into_values().all(|token| {
        let content = &token.content;
        !token.lstrip
            && !token.rstrip
            && !token.single_word
            && next_cut(content, 1, &[]) == content.len()
    });
    pattern && normalizer && bpe && added
}

/// The first place at or after `from > 0` where `text` may be cut, or its end. Tokens that begin
/// with one of `added` may be taken out of it.
fn next_cut(text: &str, from: usize, added: &[char]) -> usize {
    let bytes = text.as_bytes();
    (from..bytes.len()).find(|&at| is_cut(text, bytes, at, added)).unwrap_or(bytes.len())
}

fn is_cut(text: &str, bytes: &[u8], at: usize, added: &[char]) -> bool {
    match bytes[at] {
        b' ' => followed(text, bytes, at).is_some() && preceded(text, bytes, at),
        b'\n' => followed(text, bytes, at).is_some_and(|next| !added.contains(&next)),
        _ => false,
    }
}

/// The character that follows the one-byte character at `at`, if it is not white space.
fn followed(text: &str, bytes: &[u8], at: usize) -> Option<char> {
    let next = match bytes.get(at + 1)? {
        byte if byte.is_ascii() => char::from(*byte),
        _ => text[at + 1..].chars().next()?,
    };
    (!next.is_whitespace()).then_some(next)
}

/// Whether a character other than white space precedes the one-byte character at `at > 0`.
fn preceded(text: &str, bytes: &[u8], at: usize) -> bool {
    match bytes[at - 1] {
        byte if byte.is_ascii() => !char::from(byte).is_whitespace(),
        _ => text[..at].chars().next_back().is_some_and(|last| !last.is_whitespace()),
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;
    use proptest::prelude::*;

    /// A byte-level tokenizer like GPT-2's, with a few merges that reach over every kind of
    /// character; `extra` goes into its JSON.
    fn tokenizer(normalizer: &str, added: &str) -> Tokenizer {
        // The alphabet of GPT-2: printable bytes stand for themselves, the others for characters
        // from U+0100 on.
        let printable = |b: u32| {
            (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b)
        };
        let mut next = 256;
        let mut letters = Vec::new();
        for byte in 0..256u32 {
            letters.push(if printable(byte) {
                char::from_u32(byte).unwrap()
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap()
            });
        }
        let (space, feed) = (letters[32], letters[10]);
        let pairs = [
            (space.to_string(), "a".to_string()),
            ("a".into(), "b".into()),
            (feed.to_string(), feed.to_string()),
            (space.to_string(), space.to_string()),
            ("'".into(), "t".into()),
            (".".into(), ".".into()),
            (format!("{space}a"), "b".into()),
            ("1".into(), "2".into()),
            (feed.to_string(), space.to_string()),
        ];
        let mut vocab: Vec<String> = letters.iter().map(char::to_string).collect();
        vocab.extend(pairs.iter().map(|(a, b)| format!("{a}{b}")));
        let vocab: serde_json::Map<_, _> =
            vocab.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
        let merges: Vec<String> = pairs.iter().map(|(a, b)| format!("{a} {b}")).collect();
        let json = format!(
            r#"{{"version":"1.0","truncation":{{"direction":"Right","max_length":4,"strategy":"LongestFirst","stride":0}},"padding":null,
            "added_tokens":[{added}],"normalizer":{normalizer},
            "pre_tokenizer":{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true}},"post_processor":null,"decoder":null,
            "model":{{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,
            "fuse_unk":false,"vocab":{},"merges":{}}}}}"#,
            serde_json::Value::Object(vocab),
            serde_json::to_string(&merges).unwrap()
        );
        Tokenizer::from_str(&json).unwrap()
    }

    fn added(content: &str, lstrip: bool) -> String {
        format!(
            r#"{{"id":300,"content":"{content}","single_word":false,"lstrip":{lstrip},"rstrip":false,"normalized":true,"special":false}}"#
        )
    }

    const NFC: &str = r#"{"type":"NFC"}"#;

    proptest! {
        /// With every kind of character that the pattern tells apart, in every order.
        #[test]
        fn ids_are_those_of_the_whole_text(text in "([ab'stre1²\\. \n\t\r\u{a0}\u{2028}\u{e9}\u{301}\u{85}<|>]{1,4}|<\\|a\\|>){0,20}") {
            for (normalizer, added) in [("null", String::new()), (NFC, added("  ", false)), ("null", added("<|a|>", false))] {
                let words = Words::new(&tokenizer(normalizer, &added)).unwrap();
                prop_assert!(words.cuts && words.is_piecewise());
                prop_assert_eq!(words.encode(&text).unwrap(), words.encode_whole(&text).unwrap());
                // And again, now from memory.
                prop_assert_eq!(words.encode(&text).unwrap(), words.encode_whole(&text).unwrap());
            }
        }
    }

    #[test]
    fn other_kinds_of_tokenizers_get_the_whole_text() {
        let prefix = tokenizer("null", "");
        let mut prefixed = prefix.clone();
        prefixed.with_pre_tokenizer(Some(tokenizers::pre_tokenizers::byte_level::ByteLevel::new(
            true, true, true,
        )));
        for other in [
            prefixed,
            tokenizer("null", &added("<mask>", true)),
            tokenizer("null", &added("im start", false)),
            tokenizer(r#"{"type":"Lowercase"}"#, ""),
        ] {
            let words = Words::new(&other).unwrap();
            assert!(!words.cuts && !words.is_piecewise());
            assert_eq!(words.encode("a a").unwrap(), words.encode_whole("a a").unwrap());
        }
    }

    #[test]
    fn a_truncating_tokenizer_is_made_to_give_all() {
        assert_eq!(
            Words::new(&tokenizer("null", "")).unwrap().encode("1 1 1 1 1 1 1 1").unwrap().len(),
            15
        );
    }
}
