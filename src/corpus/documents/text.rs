//! A file that is one document.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::unpack::{self, Unpacked};
use super::{Place, Record, Records};
use crate::base::error::{Error, Result};

/// A text file. Its text is UTF-8, without a byte-order mark, its lines ended by `\n` alone.
pub struct Whole {
    path: PathBuf,
    /// `None` once it is read.
    input: Option<Unpacked>,
    longest: usize,
}

impl Whole {
    pub fn new(path: &Path, input: Unpacked, longest: usize) -> Whole {
        Whole { path: path.to_owned(), input: Some(input), longest }
    }
}

impl Records for Whole {
    fn unit(&self) -> &'static str {
        ""
    }

    fn next(&mut self) -> Result<Option<Record>> {
        let Some(input) = self.input.take() else { return Ok(None) };
        let mut bytes = Vec::new();
        let most = (self.longest as u64).saturating_add(1);
        input.take(most).read_to_end(&mut bytes).map_err(|e| unpack::failed(&self.path, "", e))?;
        if bytes.len() > self.longest {
            let why = format!(
                "unpacks to more than {} MiB, the longest document that can be read: split it",
                self.longest >> 20
            );
            return Err(Error::format(&self.path, why));
        }
        Ok(Some(Record { text: normal(&self.path, bytes)?, place: Place::default() }))
    }
}

/// The text that a file's bytes are.
///
/// # Errors
/// [`Error::Format`] with the offset of the first byte that is not UTF-8.
fn normal(path: &Path, bytes: Vec<u8>) -> Result<String> {
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let byte = e.as_bytes()[at];
        let why = format!("is not UTF-8 text: byte 0x{byte:02X} at offset {at}; convert it first, for example: iconv -f latin1 -t utf-8");
        Error::format(path, why)
    })?;
    let text = text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text);
    Ok(if text.contains('\r') { text.replace("\r\n", "\n") } else { text })
}

#[cfg(test)]
mod tests {
    use super::super::Documents;

    fn read(bytes: &[u8]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latin.txt");
        std::fs::write(&path, bytes).unwrap();
        Documents::open(path, "text").unwrap().next().unwrap().map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_not_utf_8_is_an_error_with_file_and_offset() {
        let told = read(b"caf\xE9 au lait").unwrap_err();
        assert!(told.contains("latin.txt") && told.contains("0xE9 at offset 3"), "{told}");
        let cut = "cut in the middle of é".as_bytes().split_last().unwrap().1;
        assert!(read(cut).unwrap_err().contains("offset 21"));
    }

    #[test]
    fn byte_order_marks_and_carriage_returns_are_taken_off() {
        assert_eq!(read("\u{FEFF}one\r\ntwo\rthree\n".as_bytes()).unwrap(), "one\ntwo\rthree\n");
    }
}
