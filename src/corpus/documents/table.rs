//! A table as text: CSV or TSV, a record after the other.

use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::unpack::{self, Opened, Unpacked};
use super::{LONGEST, Place, Record, Records};
use crate::base::error::{Error, Result};
use crate::corpus::few;

/// A file of records whose first names the columns. Quotation marks may enclose a field, and line
/// feeds in it.
pub struct Table {
    path: PathBuf,
    reader: Reader<Strict>,
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
        let mut named = names.iter().enumerate().filter(|(_, name)| *name == column);
        let (Some((at, _)), None) = (named.next(), named.next()) else {
            let all = few(names.iter().map(|name| format!("\"{name}\"")), 20);
            let has = match names.iter().any(|name| name == column) {
                true => format!("has several columns \"{column}\": rename them"),
                false => format!("has no column \"{column}\": choose one with column(\"…\")"),
            };
            return Err(Error::format(path, format!("{has}; its columns are {all}")));
        };
        let input = Strict::new(input, delimiter);
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
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(e) => {
                let at = format!("row {} ", self.next + 1);
                let csv::ErrorKind::Io(e) = e.into_kind() else {
                    return Err(Error::format(&self.path, format!("{at}cannot be read")));
                };
                let Some(e) = e.get_ref().and_then(|e| e.downcast_ref::<NoTable>()) else {
                    return Err(unpack::failed(&self.path, &at, e));
                };
                // Of a file that was not read from its beginning, nobody knows the line.
                let line = match self.from.byte {
                    0 => format!("line {}", e.line),
                    _ => format!("a line behind row {}", self.from.record + 1),
                };
                return Err(Error::format(&self.path, format!("{line} {}", e.why)));
            }
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
            .map_err(|e| self.wrong(format!("is not UTF-8 text ({e}); convert it first, for example: iconv -f latin1 -t utf-8")))?
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

/// Why a file is no table.
#[derive(Debug, thiserror::Error)]
#[error("line {line} {why}")]
struct NoTable {
    line: u64,
    why: String,
}

/// A table's bytes, as long as its quotation marks are those of one: the reader behind takes any.
struct Strict {
    bytes: Unpacked,
    delimiter: u8,
    at: At,
    /// The line, and the one in which the last quotation began.
    line: u64,
    opened: u64,
    /// Bytes of the record.
    since: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    /// The beginning of a field.
    Begin,
    Plain,
    Quoted,
    /// Behind a mark in a quotation: it ends, or the mark is doubled.
    Mark,
}

impl Strict {
    fn new(bytes: Unpacked, delimiter: u8) -> Strict {
        Strict { bytes, delimiter, at: At::Begin, line: 1, opened: 1, since: 0 }
    }

    fn wrong<T>(&self, line: u64, why: String) -> io::Result<T> {
        Err(io::Error::new(ErrorKind::InvalidData, NoTable { line, why }))
    }

    fn pass(&mut self, byte: u8) -> io::Result<()> {
        let ends = byte == b'\n' || byte == b'\r';
        self.at = match (self.at, byte) {
            (At::Begin, b'"') => {
                self.opened = self.line;
                At::Quoted
            }
            (At::Quoted, b'"') => At::Mark,
            (At::Quoted, _) | (At::Mark, b'"') => At::Quoted,
            _ if byte == self.delimiter || ends => At::Begin,
            (At::Mark, _) => {
                let line = self.opened;
                return self.wrong(
                    line,
                    "has text behind a quotation: double the marks that belong to the text"
                        .to_owned(),
                );
            }
            _ => At::Plain,
        };
        self.line += u64::from(byte == b'\n');
        self.since = if ends && self.at == At::Begin { 0 } else { self.since + 1 };
        if self.since > LONGEST {
            let most = LONGEST >> 20;
            let why = format!(
                "has a row longer than {most} MiB, the longest that can be read: is a quotation mark missing?"
            );
            return self.wrong(self.opened, why);
        }
        Ok(())
    }
}

impl Read for Strict {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.bytes.read(to)?;
        if n == 0 && self.at == At::Quoted {
            return self.wrong(
                self.opened,
                "begins a quotation that is never closed: double the marks that belong to the text"
                    .to_owned(),
            );
        }
        to[..n].iter().try_for_each(|&byte| self.pass(byte))?;
        Ok(n)
    }
}
