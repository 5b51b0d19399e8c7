//! A JSON array of texts or of objects, element after element.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use super::field;
use super::unpack::{self, Unpacked};
use super::{LONGEST, Place, Record, Records};
use crate::base::error::{Error, Result};

/// A file that is one array. Elements that are null are passed over, and objects whose text is; a
/// byte-order mark may begin it.
pub struct Array {
    path: PathBuf,
    input: Unpacked,
    column: String,
    /// Where the next element begins.
    place: Place,
    /// What comes next.
    next: Next,
    element: Vec<u8>,
}

#[derive(PartialEq)]
enum Next {
    /// The bracket that begins the array.
    Begin,
    /// The first element of it, or its end.
    First,
    /// An element.
    Element,
    /// A comma, or the end.
    Comma,
}

impl Array {
    /// The elements of `input`, which begins at `place` of the file.
    pub fn new(path: &Path, input: Unpacked, column: &str, place: Place) -> Array {
        let next = if place == Place::default() { Next::Begin } else { Next::Element };
        let (path, column) = (path.to_owned(), column.to_owned());
        Array { path, input, column, place, next, element: Vec::new() }
    }

    fn wrong(&self, why: &str) -> Error {
        let element = self.place.record + 1;
        Error::format(&self.path, format!("element {element} of its array {why}"))
    }

    /// The next byte that is not white space, which stays where it is; `None` at the end.
    fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            let bytes = self.input.fill_buf().map_err(|e| unpack::failed(&self.path, "", e))?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let white = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let found = bytes.get(white).copied();
            self.pass(white);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn pass(&mut self, n: usize) {
        self.input.consume(n);
        self.place.byte += n as u64;
    }

    /// Passes the punctuation before an element; `false` at the end of the array.
    fn goes_on(&mut self) -> Result<bool> {
        const CUT: &str = "is not there: the file is cut short; fetch it again";
        if self.next == Next::Begin {
            if self.peek()? == Some(0xEF) {
                self.pass("\u{FEFF}".len());
            }
            if self.peek()? != Some(b'[') {
                return Err(self.wrong("is not there: the file does not begin with one"));
            }
            self.pass(1);
            self.next = Next::First;
        }
        match (self.peek()?, &self.next) {
            (None, _) => Err(self.wrong(CUT)),
            (Some(b']'), Next::First | Next::Comma) => {
                self.pass(1);
                match self.peek()? {
                    None => Ok(false),
                    Some(_) => Err(Error::format(
                        &self.path,
                        "goes on after the end of its array: is it several files in one?",
                    )),
                }
            }
            (Some(b','), Next::Comma) => {
                self.pass(1);
                self.next = Next::Element;
                match self.peek()? {
                    None => Err(self.wrong(CUT)),
                    Some(_) => Ok(true),
                }
            }
            (Some(_), Next::Comma) => Err(self.wrong("has no comma before it")),
            (Some(_), _) => Ok(true),
        }
    }

    /// Reads an element into `self.element`.
    fn read(&mut self) -> Result<()> {
        self.element.clear();
        let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
        loop {
            let bytes = self.input.fill_buf().map_err(|e| unpack::failed(&self.path, "", e))?;
            if bytes.is_empty() {
                return Err(self.wrong("is cut short: fetch the file again"));
            }
            let ends = bytes.iter().position(|&byte| {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_string => escaped = true,
                    b'"' => in_string = !in_string,
                    _ if in_string => {}
                    b',' | b']' | b'}' if depth == 0 => return true,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                false
            });
            let n = ends.unwrap_or(bytes.len());
            self.element.extend_from_slice(&bytes[..n]);
            self.pass(n);
            if self.element.len() > LONGEST {
                let most = LONGEST >> 20;
                return Err(
                    self.wrong(&format!("is longer than {most} MiB, the longest that can be read"))
                );
            }
            if ends.is_some() {
                return Ok(());
            }
        }
    }
}

impl Records for Array {
    fn next(&mut self) -> Result<Option<Record>> {
        while self.goes_on()? {
            let place = self.place;
            self.read()?;
            let text = field::of_element(&self.element, &self.column);
            let text = text.map_err(|why| self.wrong(&why))?;
            self.place.record += 1;
            self.next = Next::Comma;
            if let Some(text) = text {
                return Ok(Some(Record { text, place }));
            }
        }
        Ok(None)
    }

    fn unit(&self) -> &'static str {
        "element"
    }
}
