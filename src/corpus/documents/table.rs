//! A table as text: CSV or TSV, a record after the other.

use std::io::{self, Chain, ErrorKind, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::unpack::{self, Opened, Unpacked};
use super::{LONGEST, Place, Record, Records};
use crate::base::error::{Error, Result};
use crate::corpus::few;

/// What is read after the end of the file. If it comes as a record of its own, every quotation was
/// closed; no UTF-8 has such bytes.
const END: &[u8] = b"\n\xFF\xFE\xFF";

/// A file of records whose first names the columns. Quotation marks may enclose a field, and line
/// feeds in it.
pub struct Table {
    path: PathBuf,
    reader: Reader<Limited>,
    /// The place of the column.
    column: usize,
    /// How many fields a record has.
    n: usize,
    record: ByteRecord,
    /// Where the reader began.
    from: Place,
    /// The number of the next record.
    next: u64,
}

impl Table {
    /// Reads the names of the columns, and goes to the record at `place`, where `opened` is.
    pub fn open(
        path: &Path,
        opened: Opened,
        delimiter: u8,
        column: &str,
        place: Place,
    ) -> Result<Table> {
        let Opened { head, input, .. } = opened;
        let delimiter = delimiter_of(&head, delimiter);
        let names = columns(&head, delimiter);
        let Some(at) = names.iter().position(|name| name == column) else {
            let named = few(names.iter().map(|name| format!("\"{name}\"")), 20);
            let why = format!(
                "has no column \"{column}\"; its columns are {named}: choose one with column(\"…\")"
            );
            return Err(Error::format(path, why));
        };
        let input = Limited { bytes: input.chain(END), left: 0 };
        let reader = build(delimiter).from_reader(input);
        let (path, record, n) = (path.to_owned(), ByteRecord::new(), names.len());
        let next = place.record;
        let mut table = Table { path, reader, column: at, n, record, from: place, next };
        if place == Place::default() {
            table.read()?;
        }
        Ok(table)
    }

    fn wrong(&self, why: String) -> Error {
        let line = match (self.from.byte, self.record.position()) {
            (0, Some(position)) => format!(" (line {})", position.line()),
            _ => String::new(),
        };
        Error::format(&self.path, format!("row {}{line} {why}", self.next + 1))
    }

    /// Reads a record; `false` at the end.
    fn read(&mut self) -> Result<bool> {
        self.reader.get_mut().left = LONGEST as u64;
        if let Err(e) = self.reader.read_byte_record(&mut self.record) {
            let at = format!("row {} ", self.next + 1);
            return Err(match e.into_kind() {
                csv::ErrorKind::Io(e) if e.kind() == ErrorKind::FileTooLarge => {
                    Error::format(&self.path, format!("{at}{e}"))
                }
                csv::ErrorKind::Io(e) => unpack::failed(&self.path, &at, e),
                kind => Error::format(&self.path, format!("{at}cannot be read: {kind:?}")),
            });
        }
        let last = self.record.iter().next_back().unwrap_or_default();
        if self.record.len() == 1 && last == &END[1..] {
            return Ok(false);
        }
        if last.ends_with(END) {
            return Err(self.wrong(
                "begins a quotation that is never closed: double the marks that belong to the text"
                    .to_owned(),
            ));
        }
        if self.record.len() != self.n {
            let (got, want) = (self.record.len(), self.n);
            return Err(self.wrong(format!("has {got} fields, and the first line names {want} columns: is a quotation mark missing?")));
        }
        Ok(true)
    }
}

impl Records for Table {
    fn next(&mut self) -> Result<Option<Record>> {
        if !self.read()? {
            return Ok(None);
        }
        let byte = self.record.position().map_or(0, |position| position.byte());
        let place = Place { record: self.next, byte: self.from.byte + byte };
        let text = std::str::from_utf8(&self.record[self.column])
            .map_err(|e| self.wrong(format!("is not UTF-8 text ({e})")))?
            .to_owned();
        self.next += 1;
        Ok(Some(Record { text, place }))
    }

    fn unit(&self) -> &'static str {
        "row"
    }
}

/// The columns that the first line of a file names.
pub fn columns(head: &[u8], delimiter: u8) -> Vec<String> {
    let mut record = ByteRecord::new();
    // What cannot be read has no names, and is refused for that.
    let _ = build(delimiter).from_reader(head).read_byte_record(&mut record);
    record.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect()
}

/// Where a comma is wanted and the first line has none, a semicolon stands for it: so programs
/// write where numbers have a comma.
pub fn delimiter_of(head: &[u8], delimiter: u8) -> u8 {
    let first = head.split(|&b| b == b'\n').next().unwrap_or_default();
    if delimiter == b',' && !first.contains(&b',') && first.contains(&b';') {
        b';'
    } else {
        delimiter
    }
}

fn build(delimiter: u8) -> ReaderBuilder {
    let mut builder = ReaderBuilder::new();
    builder.delimiter(delimiter).has_headers(false).flexible(true);
    builder
}

/// A file that is not read on if a record does not end.
struct Limited {
    bytes: Chain<Unpacked, &'static [u8]>,
    left: u64,
}

impl Read for Limited {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let why = format!(
                "is longer than {} MiB, the longest that can be read: is a quotation mark missing?",
                LONGEST >> 20
            );
            return Err(io::Error::new(ErrorKind::FileTooLarge, why));
        }
        let n = self.bytes.read(to)?;
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}
