//! UTF-16, as Windows writes it, as a stream of UTF-8.

use std::io::{self, ErrorKind, Read};

/// What a byte-order mark says of a file that begins with `head`: whether the high byte comes first.
pub fn marked(head: &[u8]) -> Option<bool> {
    match head {
        // UTF-32 begins so too, and a text has no zero after its mark.
        [0xFF, 0xFE, 0, 0, ..] => None,
        [0xFF, 0xFE, ..] => Some(false),
        [0xFE, 0xFF, ..] => Some(true),
        _ => None,
    }
}

/// Why bytes that are marked as UTF-16 are not.
#[derive(Debug, thiserror::Error)]
#[error("begins with the mark of UTF-16, but {why} at byte {at}: write it again as UTF-8")]
pub struct NotUtf16 {
    why: &'static str,
    at: u64,
}

/// Bytes of UTF-16, with their mark, as UTF-8, with its mark.
pub struct Utf16<R> {
    from: R,
    big_endian: bool,
    /// Bytes read.
    at: u64,
    /// The first half of a surrogate pair.
    half: Option<u16>,
    out: Vec<u8>,
    /// How many of them have been taken.
    taken: usize,
}

impl<R: Read> Utf16<R> {
    pub fn new(from: R, big_endian: bool) -> Utf16<R> {
        Utf16 { from, big_endian, at: 0, half: None, out: Vec::new(), taken: 0 }
    }

    fn wrong<T>(&self, why: &'static str, at: u64) -> io::Result<T> {
        Err(io::Error::new(ErrorKind::InvalidData, NotUtf16 { why, at }))
    }

    /// Decodes some more; nothing at the end.
    fn decode(&mut self) -> io::Result<()> {
        const STRETCH: u64 = 16 << 10;
        self.out.clear();
        self.taken = 0;
        let mut bytes = Vec::new();
        (&mut self.from).take(STRETCH).read_to_end(&mut bytes)?;
        let (units, rest) = bytes.as_chunks::<2>();
        for unit in units {
            let unit = match self.big_endian {
                true => u16::from_be_bytes(*unit),
                false => u16::from_le_bytes(*unit),
            };
            self.at += 2;
            let point = match (self.half.take(), unit) {
                (None, 0xD800..=0xDBFF) => {
                    self.half = Some(unit);
                    continue;
                }
                (Some(half), 0xDC00..=0xDFFF) => {
                    0x10000 + (u32::from(half - 0xD800) << 10) + u32::from(unit - 0xDC00)
                }
                (Some(_), _) => return self.wrong("has half a surrogate pair", self.at - 4),
                (None, _) => unit.into(),
            };
            let Some(c) = char::from_u32(point) else {
                return self.wrong("has half a surrogate pair", self.at - 2);
            };
            self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        if !rest.is_empty() {
            return self.wrong("ends in the middle of a character", self.at);
        }
        match self.half {
            Some(_) if units.is_empty() => {
                self.wrong("ends in the middle of a surrogate pair", self.at - 2)
            }
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.out.len() && !to.is_empty() {
            self.decode()?;
            // A stretch may have been no more than half a pair.
            if self.out.is_empty() && self.half.is_some() {
                return self.read(to);
            }
        }
        let n = to.len().min(self.out.len() - self.taken);
        to[..n].copy_from_slice(&self.out[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        let big_endian = marked(bytes).expect("a mark");
        Utf16::new(bytes, big_endian).read_to_string(&mut text).map(|_| text)
    }

    fn encoded(text: &str, big_endian: bool) -> Vec<u8> {
        let bytes = |unit: u16| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() };
        [0xFEFF].into_iter().chain(text.encode_utf16()).flat_map(bytes).collect()
    }

    proptest! {
        #[test]
        fn both_orders_are_read_back(text in "([a-z \n]|\\PC|\u{1F600}){0,40}", times in 1usize..900, big_endian: bool) {
            let text = text.repeat(times);
            prop_assert_eq!(decoded(&encoded(&text, big_endian)).unwrap(), format!("\u{FEFF}{text}"));
        }
    }

    #[test]
    fn half_a_pair_and_half_a_character_are_errors_with_their_place() {
        let told = |bytes: &[u8]| decoded(bytes).unwrap_err().to_string();
        let text = |units: &[u16]| -> Vec<u8> {
            [&[0xFEFF, 0x61], units].concat().iter().flat_map(|unit| unit.to_be_bytes()).collect()
        };
        assert!(told(&text(&[0xD800, 0x62])).contains("surrogate pair at byte 4"));
        assert!(told(&text(&[0xDC00])).contains("surrogate pair at byte 4"));
        assert!(told(&text(&[0x62, 0xD800])).contains("surrogate pair at byte 6"));
        let whole = text(&[0x62]);
        assert!(told(&whole[..whole.len() - 1]).contains("middle of a character at byte 4"));
    }
}
