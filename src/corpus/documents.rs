//! One file's documents, one by one, in memory that does not grow with the file.

mod field;
mod lines;
#[cfg(feature = "parquet")]
mod pages;
#[cfg(feature = "parquet")]
mod rows;
mod text;
mod unpack;

use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::form::{Form, Kind, Packing};
use super::reading::Stop;
use crate::base::error::{Error, Result};
use crate::display::{Show, Shown, settings, shows};
use lines::Lines;
use text::Whole;

/// The field of a line, or the column of a table, that holds the text unless another is named: what
/// most data sets call it.
pub const COLUMN: &str = "text";

/// The longest document of a packed file, a line or a row, in bytes: 64 MiB, a dozen times the
/// Bible. Others make these files, and a few bytes of a packed one may stand for more than any
/// memory holds.
pub const LONGEST: usize = 64 << 20;

/// Where a document begins in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// How many lines or rows come before it.
    pub record: u64,
    /// How many bytes of the file, unpacked, come before it; 0 in a table.
    pub byte: u64,
}

/// A document, and where it begins.
pub struct Record {
    pub text: String,
    pub place: Place,
}

/// What reads a file.
pub trait Records: Send {
    /// The next document; blank lines and nulls are skipped.
    fn next(&mut self) -> Result<Option<Record>>;

    /// Continues from a place that a record had; for a file that has not been read yet.
    fn go_to(&mut self, place: Place, stop: Stop<'_>) -> Result<()>;
}

/// The documents of one file, as an iterator: a `.txt` or `.md` file is one; a line of a `.jsonl`,
/// `.ndjson` or `.json` file and a row of a `.parquet` file is one each; all but `.parquet` may be
/// packed, as `.gz` or `.zst`.
///
/// The memory taken does not grow with the file. Lines that are blank and texts that are null are
/// left out; what comes after an error is nothing.
///
/// ```
/// use tokenized_sae::corpus::Documents;
/// let lines = br#"{"text": "one", "url": "a"}
/// {"text": "two", "url": "b"}"#;
/// let texts = Documents::of_bytes("some.jsonl", lines.to_vec(), "text")?;
/// assert_eq!(texts.collect::<Result<Vec<String>, _>>()?, ["one", "two"]);
/// # Ok::<(), tokenized_sae::Error>(())
/// ```
pub struct Documents {
    path: PathBuf,
    column: String,
    form: Form,
    /// `None` after the end, or an error.
    records: Option<Box<dyn Records>>,
    read: u64,
}

impl Documents {
    /// Opens a file; its texts are in the field or column `column`, usually `"text"`, unless the
    /// file is one text.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] if it is of no kind that has documents, or is a parquet
    /// file with no such column, or damaged.
    pub fn open(path: impl AsRef<Path>, column: &str) -> Result<Documents> {
        let path = path.as_ref();
        let form = form_of(path)?;
        let file = File::open(path).map_err(Error::io("read", path))?;
        let records: Box<dyn Records> = match form.kind {
            Kind::Parquet => table(path, file, column)?,
            _ => text_or_lines(path, form, file, column)?,
        };
        Ok(Documents {
            path: path.to_owned(),
            column: column.to_owned(),
            form,
            records: Some(records),
            read: 0,
        })
    }

    /// As [`open`](Documents::open), for bytes in hand; `name` says of what kind they are.
    ///
    /// # Errors
    /// As [`open`](Documents::open).
    pub fn of_bytes(name: &str, bytes: Vec<u8>, column: &str) -> Result<Documents> {
        let path = Path::new(name);
        let form = form_of(path)?;
        let records: Box<dyn Records> = match form.kind {
            Kind::Parquet => table_of_bytes(path, bytes, column)?,
            _ => text_or_lines(path, form, Cursor::new(bytes), column)?,
        };
        Ok(Documents {
            path: path.to_owned(),
            column: column.to_owned(),
            form,
            records: Some(records),
            read: 0,
        })
    }

    /// Continues with the document at `place`, which one of the same file's had.
    pub(super) fn go_to(&mut self, place: Place, stop: Stop<'_>) -> Result<()> {
        self.guarded(|records| records.go_to(place, stop).map(Some)).map(|_| ())
    }

    pub(super) fn next_record(&mut self) -> Result<Option<Record>> {
        let record = self.guarded(|records| records.next())?;
        match &record {
            Some(_) => self.read += 1,
            None => self.records = None,
        }
        Ok(record)
    }

    /// Whatever a file holds, a reader that gives up is an error, and is not asked again.
    fn guarded<T>(
        &mut self,
        ask: impl FnOnce(&mut dyn Records) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let Some(records) = self.records.as_mut() else { return Ok(None) };
        let answer = catch_unwind(AssertUnwindSafe(|| ask(records.as_mut())));
        let answer = answer.unwrap_or_else(|_| Err(gave_up(&self.path)));
        if answer.is_err() {
            self.records = None;
        }
        answer
    }
}

impl Iterator for Documents {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        self.next_record().map(|record| record.map(|record| record.text)).transpose()
    }
}

fn gave_up(path: &Path) -> Error {
    Error::format(path, "is damaged: it could not be parsed; fetch it again, or leave it out")
}

fn form_of(path: &Path) -> Result<Form> {
    Form::of(path)
        .ok_or_else(|| Error::format(path, "is not a kind of file that can be read: .txt, .md, .jsonl (each also .gz or .zst) or .parquet"))
}

fn text_or_lines(
    path: &Path,
    form: Form,
    file: impl Read + Seek + Send + 'static,
    column: &str,
) -> Result<Box<dyn Records>> {
    let input = unpack::unpacked(form.packing, file);
    Ok(match form.kind {
        // The size of a plain file is honest.
        Kind::Text if form.packing == Packing::Plain => {
            Box::new(Whole::new(path, input, usize::MAX))
        }
        Kind::Text => Box::new(Whole::new(path, input, LONGEST)),
        _ => Box::new(Lines::new(path, input, column)),
    })
}

#[cfg(feature = "parquet")]
fn table(path: &Path, file: File, column: &str) -> Result<Box<dyn Records>> {
    guarded_rows(path, || rows::Rows::open(path, file, column))
}

#[cfg(feature = "parquet")]
fn table_of_bytes(path: &Path, bytes: Vec<u8>, column: &str) -> Result<Box<dyn Records>> {
    guarded_rows(path, || rows::Rows::open(path, bytes::Bytes::from(bytes), column))
}

#[cfg(feature = "parquet")]
fn guarded_rows<R: Records + 'static>(
    path: &Path,
    open: impl FnOnce() -> Result<R>,
) -> Result<Box<dyn Records>> {
    catch_unwind(AssertUnwindSafe(open))
        .unwrap_or_else(|_| Err(gave_up(path)))
        .map(|rows| Box::new(rows) as Box<dyn Records>)
}

#[cfg(not(feature = "parquet"))]
fn table(path: &Path, _: File, _: &str) -> Result<Box<dyn Records>> {
    Err(no_parquet(path))
}

#[cfg(not(feature = "parquet"))]
fn table_of_bytes(path: &Path, _: Vec<u8>, _: &str) -> Result<Box<dyn Records>> {
    Err(no_parquet(path))
}

#[cfg(not(feature = "parquet"))]
fn no_parquet(path: &Path) -> Error {
    Error::format(path, "is a parquet file, and this was built without the feature \"parquet\"")
}

shows!(Documents);

impl Show for Documents {
    fn shown(&self) -> Shown {
        let mut rows = vec![("read", self.read.to_string(), "documents so far")];
        if self.form.holds_many() {
            rows.push(("column", self.column.clone(), "the field or column that holds the text"));
        }
        settings(&format!("documents of {}", self.path.display()), rows).into()
    }
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Documents of {} ({} read)", self.path.display(), self.read)
    }
}
