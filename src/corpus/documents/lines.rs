//! A JSON object a line.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use super::field::{self, Wrong};
use super::unpack::{self, Unpacked};
use super::{LONGEST, Place, Record, Records};
use crate::base::error::{Error, Result};

/// A file of JSON lines. White lines are passed over, and lines whose text is null; a byte-order
/// mark may begin it.
pub struct Lines {
    path: PathBuf,
    input: Unpacked,
    column: String,
    /// Where the next line begins.
    place: Place,
    line: Vec<u8>,
}

impl Lines {
    /// The lines of `input`, which begins at `place` of the file.
    pub fn new(path: &Path, input: Unpacked, column: &str, place: Place) -> Lines {
        let (path, column) = (path.to_owned(), column.to_owned());
        Lines { path, input, column, place, line: Vec::new() }
    }

    /// Reads a line into `self.line`, and says where it began; `None` at the end.
    fn read_line(&mut self) -> Result<Option<Place>> {
        self.line.clear();
        let most = LONGEST as u64 + 1;
        let n = (&mut self.input).take(most).read_until(b'\n', &mut self.line).map_err(|e| {
            unpack::failed(&self.path, &format!("line {} ", self.place.record + 1), e)
        })?;
        let place = self.place;
        self.place = Place { record: place.record + 1, byte: place.byte + n as u64 };
        if n > LONGEST {
            let why = format!(
                "is longer than {} MiB, the longest that can be read: is it a JSON Lines file?",
                LONGEST >> 20
            );
            return Err(self.wrong(place, why));
        }
        Ok((n > 0).then_some(place))
    }

    fn wrong(&self, place: Place, why: String) -> Error {
        Error::format(&self.path, format!("line {} {why}", place.record + 1))
    }
}

impl Records for Lines {
    fn next(&mut self) -> Result<Option<Record>> {
        while let Some(place) = self.read_line()? {
            let line = match place.byte {
                0 => self.line.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(&self.line),
                _ => &self.line,
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let why = match field::text_of(line, &self.column) {
                Ok(Some(text)) => return Ok(Some(Record { text, place })),
                Ok(None) => continue,
                Err(Wrong::NoText(why)) => why,
                Err(Wrong::NoJson(why)) => {
                    let more = !self.input.fill_buf().unwrap_or_default().is_empty();
                    let advice = match (why.contains("EOF"), more) {
                        (true, true) => "; an object has to stand in one line: jq -c . makes it so",
                        (true, false) => "; it is the last line, and the file may be cut short",
                        _ => "",
                    };
                    format!("is not a JSON object: {why}{advice}")
                }
            };
            return Err(self.wrong(place, why));
        }
        Ok(None)
    }

    fn unit(&self) -> &'static str {
        "line"
    }
}
