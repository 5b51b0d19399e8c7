//! A JSON object a line.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use super::field::{self, Field};
use super::unpack::{self, Unpacked};
use super::{LONGEST, Place, Record, Records};
use crate::base::error::{Error, Result};
use crate::corpus::reading::{Stop, stopped};

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
    pub fn new(path: &Path, input: Unpacked, column: &str) -> Lines {
        Lines {
            path: path.to_owned(),
            input,
            column: column.to_owned(),
            place: Place::default(),
            line: Vec::new(),
        }
    }

    /// Reads a line into `self.line`, and says where it began; `None` at the end.
    fn read_line(&mut self) -> Result<Option<Place>> {
        self.line.clear();
        let most = LONGEST as u64 + 1;
        let read = (&mut self.input).take(most).read_until(b'\n', &mut self.line);
        let n = read.map_err(|e| {
            unpack::failed(&self.path, &format!("line {} ", self.place.record + 1), e)
        })?;
        let place = self.place;
        self.place = Place { record: place.record + 1, byte: place.byte + n as u64 };
        if n > LONGEST {
            return Err(self.wrong(
                place,
                format!(
                    "is longer than {} MiB, the longest that can be read: is it a JSON Lines file?",
                    LONGEST >> 20
                ),
            ));
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
            match field::of_line(line, &self.column) {
                Ok(Field::Text(text)) => return Ok(Some(Record { text, place })),
                Ok(Field::Null) => {}
                Ok(Field::Other(what)) => {
                    return Err(self.wrong(
                        place,
                        format!(
                            "has {what} where its text should be, in the field \"{}\"",
                            self.column
                        ),
                    ));
                }
                Ok(Field::Missing) => {
                    let there = field::names(line);
                    let why = format!(
                        "has no field \"{}\"; it has {there}: choose one with column(\"…\")",
                        self.column
                    );
                    return Err(self.wrong(place, why));
                }
                Err(why) => {
                    let cut = if line.ends_with(b"\n") {
                        ""
                    } else {
                        "; it is the last line, and the file may be cut short"
                    };
                    return Err(self.wrong(place, format!("is not a JSON object: {why}{cut}")));
                }
            }
        }
        Ok(None)
    }

    fn go_to(&mut self, place: Place, stop: Stop<'_>) -> Result<()> {
        /// Bytes between two looks at the stop button.
        const STEP: u64 = 16 << 20;
        let mut left = place.byte;
        while left > 0 {
            if stop() {
                return Err(stopped());
            }
            let step = left.min(STEP);
            self.input.get_mut().pass(step).map_err(|e| unpack::failed(&self.path, "", e))?;
            left -= step;
        }
        self.place = place;
        Ok(())
    }
}
