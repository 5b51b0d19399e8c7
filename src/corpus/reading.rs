//! The documents of one side, file after file.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::documents::{Documents, Place};
use super::source_file::SourceFile;
use super::split;
use super::stop::{Stop, stopped};
use crate::base::error::Result;

/// Which of the files' documents are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentFilter {
    /// The field or column that holds the text.
    pub column: String,
    /// The fewest characters of a document.
    pub min_chars: usize,
    /// The most characters of a document.
    pub max_chars: usize,
}

impl DocumentFilter {
    fn takes(&self, text: &str) -> bool {
        // Nothing is counted where nothing is asked, and a document has no more characters than
        // bytes.
        let all =
            self.min_chars == 0 && (self.max_chars == usize::MAX || text.len() <= self.max_chars);
        !text.trim_ascii_start().is_empty()
            && !text.trim().is_empty()
            && (all || (self.min_chars..=self.max_chars).contains(&text.chars().count()))
    }
}

/// Which side a document is on.
#[derive(Clone, Debug)]
pub enum HeldOut {
    /// Whole files are held out: each is a document.
    Files(Vec<bool>),
    /// The only document is cut, and its tail held out: `share` of it, and at least so many bytes.
    Tail { share: f64, wanted: usize },
    /// A document is held out if a hash of its text and the seed, as a number from 0 to 1, lies
    /// below `share`. So its side depends on nothing but itself: it is known as it is read, and
    /// every copy of it is on the same side.
    Contents { share: f64, seed: u64 },
}

/// A document in hand.
pub struct Text {
    pub name: String,
    pub text: String,
    /// The place of its file among all.
    pub file: usize,
    pub place: Place,
    /// What tells its text from others: the beginning of its SHA-256.
    pub text_hash: u64,
}

/// The documents of one side; [`Error::Interrupted`](crate::Error::Interrupted) as soon as it is to
/// stop.
pub struct Reading<'a> {
    files: &'a [SourceFile],
    wanted: &'a DocumentFilter,
    held: &'a HeldOut,
    held_out: bool,
    stop: Stop<'a>,
    /// The next file.
    file: usize,
    open: Option<Documents>,
    seen: Seen,
    /// A document that counts though it has been seen.
    begun: Option<(usize, Place)>,
}

impl<'a> Reading<'a> {
    /// The documents of the held-out side or the other that have not been seen.
    pub fn new(
        files: &'a [SourceFile],
        wanted: &'a DocumentFilter,
        held: &'a HeldOut,
        held_out: bool,
        seen: Seen,
        stop: Stop<'a>,
    ) -> Reading<'a> {
        let (file, open, begun) = (0, None, None);
        Reading { files, wanted, held, held_out, stop, file, open, seen, begun }
    }

    /// What the other side must not have: of files that are held out whole, one may be a copy of
    /// one that is not.
    pub fn seen(self) -> Seen {
        match self.held {
            HeldOut::Contents { .. } => Seen::default(),
            _ => self.seen,
        }
    }

    /// Begins with the document at `place` of the file `file`. `begun`: it has been seen, and is
    /// not new for all that.
    pub fn from(mut self, file: usize, place: Place, begun: bool) -> Result<Reading<'a>> {
        self.begun = begun.then_some((file, place));
        self.file = file;
        if file < self.files.len() && place != Place::default() {
            self.open_next(place)?;
        }
        Ok(self)
    }

    fn open_next(&mut self, place: Place) -> Result<()> {
        let file = &self.files[self.file];
        self.file += 1;
        self.open = Some(file.open(&self.wanted.column, place, self.stop)?);
        Ok(())
    }

    fn next_text(&mut self) -> Result<Option<Text>> {
        loop {
            if (self.stop)() {
                return Err(stopped());
            }
            let Some(documents) = &mut self.open else {
                let Some(file) = self.files.get(self.file) else { return Ok(None) };
                if matches!(self.held, HeldOut::Files(held) if held[self.file] != self.held_out)
                    || (file.bytes == 0 && file.remote.is_none())
                {
                    self.file += 1;
                    continue;
                }
                self.open_next(Place::default())?;
                continue;
            };
            let unit = documents.unit();
            let Some(record) = documents.next_record()? else {
                self.open = None;
                continue;
            };
            let file = self.file - 1;
            let (name, text) = self.part(file, unit, record.place, record.text);
            if !self.wanted.takes(&text) {
                continue;
            }
            let text_hash = text_hash(&text);
            if matches!(*self.held, HeldOut::Contents { share, seed } if is_held(text_hash, share, seed) != self.held_out)
            {
                continue;
            }
            if self.begun.take_if(|begun| *begun == (file, record.place)).is_some()
                || self.seen.is_new(text_hash)
            {
                return Ok(Some(Text { name, text, file, place: record.place, text_hash }));
            }
        }
    }

    /// What a document is called, and what of it is on this side.
    fn part(&self, file: usize, unit: &str, place: Place, mut text: String) -> (String, String) {
        let part = match (self.held, unit) {
            (&HeldOut::Tail { share, wanted }, _) => {
                let tail = text.split_off(split::cut(&text, share, wanted));
                if self.held_out {
                    text = tail;
                }
                match (self.held_out, share) {
                    (true, _) => " (tail)".to_owned(),
                    (false, 0.0) => " (whole)".to_owned(),
                    _ => " (all but its tail)".to_owned(),
                }
            }
            (_, "") => String::new(),
            (_, unit) => format!(", {unit} {}", place.record + 1),
        };
        (self.files[file].name.clone() + &part, text)
    }
}

impl Iterator for Reading<'_> {
    type Item = Result<Text>;

    fn next(&mut self) -> Option<Result<Text>> {
        self.next_text().transpose()
    }
}

fn text_hash(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |text_hash, &byte| text_hash << 8 | u64::from(byte))
}

fn is_held(text_hash: u64, share: f64, seed: u64) -> bool {
    // The mark is a hash, and a product by an odd number keeps it one; the seed chooses which.
    let mixed =
        (text_hash ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed >> 11) as f64) < share * (1u64 << 53) as f64
}

/// The marks of documents, to leave out those that have been seen: of the last few million, in at
/// most 40 MB.
#[derive(Clone, Default)]
pub struct Seen(HashSet<u64>);

impl Seen {
    /// What a table of 2²² places takes before it grows.
    const MOST: usize = (1 << 22) / 8 * 7;

    /// Takes a mark; whether it is new.
    pub fn is_new(&mut self, text_hash: u64) -> bool {
        if self.0.len() == Seen::MOST {
            self.0.clear();
        }
        self.0.insert(text_hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_documents_is_held_out_another_for_each_seed() {
        let marks: Vec<u64> = (0..20_000).map(|i| text_hash(&format!("document {i}"))).collect();
        let held = |share: f64, seed| {
            marks.iter().filter(|&&text_hash| is_held(text_hash, share, seed)).count() as f64
        };
        for (share, seed) in [(0.02f64, 0), (0.5, 1), (0.9, 77), (0.02, u64::MAX)] {
            let sigma = (20_000.0 * share * (1.0 - share)).sqrt();
            assert!(
                (held(share, seed) - 20_000.0 * share).abs() < 4.0 * sigma,
                "{share} {seed}: {}",
                held(share, seed)
            );
        }
        assert_eq!(held(0.0, 3), 0.0);
        let both = marks
            .iter()
            .filter(|&&text_hash| is_held(text_hash, 0.5, 0) && is_held(text_hash, 0.5, 1))
            .count();
        assert!((4_700..5_300).contains(&both), "{both} of two seeds");
    }

    #[test]
    fn lengths_are_in_characters() {
        let wanted = DocumentFilter { column: "text".into(), min_chars: 2, max_chars: 3 };
        for (text, takes) in [
            ("é", false),
            ("éé", true),
            ("ééé", true),
            ("éééé", false),
            ("   ", false),
            ("", false),
        ] {
            assert_eq!(wanted.takes(text), takes, "{text:?}");
        }
        let any = DocumentFilter { min_chars: 0, max_chars: usize::MAX, ..wanted };
        assert!(any.takes("x") && !any.takes(" \n\u{2003}"));
    }
}
