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
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::form::{Form, Kind, Packing};
use super::stop::Stop;
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
}

/// The documents of one file, as an iterator: a `.txt` or `.md` file is one; a line of a `.jsonl`,
/// `.ndjson` or `.json` file and a row of a `.parquet` file is one each; all but `.parquet` may be
/// packed, as `.gz` or `.zst`.
///
/// The memory taken does not grow with the file. Lines that are blank and texts that are null are
/// left out; what comes after an error is nothing.
///
/// ```no_run
/// use tokenized_sae::corpus::Documents;
/// for text in Documents::open("pile/00.jsonl.zst", "text")?.take(3) {
///     println!("{}", text?);
/// }
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
        Documents::open_at(path.as_ref(), column, Place::default(), &|| false)
    }

    /// As [`open`](Documents::open), from the document at `place` on, which one of the file's had.
    pub(super) fn open_at(
        path: &Path,
        column: &str,
        place: Place,
        stop: Stop<'_>,
    ) -> Result<Documents> {
        let form = Form::of(path).ok_or_else(|| {
            Error::format(path, "is not a kind of file that can be read: .txt, .md, .jsonl (each also .gz or .zst) or .parquet")
        })?;
        let file = File::open(path).map_err(Error::io("read", path))?;
        let records: Box<dyn Records> = match form.kind {
            Kind::Parquet => guarded(path, || table(path, file, column, place))?,
            kind => {
                let input = unpack::unpacked(path, form.packing, file, place.byte, stop)?;
                match kind {
                    Kind::Lines => Box::new(Lines::new(path, input, column, place)),
                    // The size of a plain file is honest.
                    _ if form.packing == Packing::Plain => {
                        Box::new(Whole::new(path, input, usize::MAX))
                    }
                    _ => Box::new(Whole::new(path, input, LONGEST)),
                }
            }
        };
        Ok(Documents {
            path: path.to_owned(),
            column: column.to_owned(),
            form,
            records: Some(records),
            read: 0,
        })
    }

    pub(super) fn next_record(&mut self) -> Result<Option<Record>> {
        let Some(mut records) = self.records.take() else { return Ok(None) };
        let record = guarded(&self.path, || records.next())?;
        if record.is_some() {
            self.read += 1;
            self.records = Some(records);
        }
        Ok(record)
    }
}

impl Iterator for Documents {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        self.next_record().map(|record| record.map(|record| record.text)).transpose()
    }
}

/// Whatever a file holds, a reader that gives up is an error.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    let why = "is damaged: it could not be parsed; fetch it again, or leave it out";
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(Error::format(path, why)))
}

#[cfg(feature = "parquet")]
fn table(path: &Path, file: File, column: &str, place: Place) -> Result<Box<dyn Records>> {
    Ok(Box::new(rows::Rows::open(path, file, column, place)?))
}

#[cfg(not(feature = "parquet"))]
fn table(path: &Path, _: File, _: &str, _: Place) -> Result<Box<dyn Records>> {
    Err(Error::format(
        path,
        "is a parquet file, and this was built without the feature \"parquet\"",
    ))
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
