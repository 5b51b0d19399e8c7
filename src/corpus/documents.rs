//! One file's documents, one by one, in memory that does not grow with the file.

mod array;
mod field;
mod lines;
mod looks;
#[cfg(feature = "parquet")]
mod pages;
#[cfg(feature = "parquet")]
mod rows;
mod table;
mod text;
mod unpack;
mod utf16;

use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::few;
use super::form::{Form, Packing, TextFormat};
use super::stop::Stop;
use crate::base::error::{Error, Result};
use crate::display::{Show, Shown, settings, shows};
use array::Array;
use lines::Lines;
use looks::Looks;
use table::Table;
use text::Whole;
use unpack::Opened;

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
    /// How many bytes of the file, unpacked, come before it; 0 in a parquet file.
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

    /// What a record is called: a line, a row; nothing where the file is one document.
    fn unit(&self) -> &'static str;
}

/// The documents of one file, as an iterator: a `.txt` or `.md` file is one; a line of a `.jsonl`,
/// `.ndjson` or `.json` file (or an element, if that is one array) and a row of a `.csv`, `.tsv` or
/// `.parquet` file is one each; all but `.parquet` may be packed, as `.gz` or `.zst`.
///
/// The memory taken does not grow with the file. Lines that are blank and texts that are null are
/// left out; what comes after an error is nothing. Text is UTF-8, or UTF-16 with a byte-order mark.
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
        let path = path.as_ref();
        let form = Form::of(path).ok_or_else(|| Error::format(path, super::form::NOT_READ))?;
        Documents::open_at(path, form, column, Place::default(), &|| false)
    }

    /// As [`open`](Documents::open), for a file whose name does not say its format: `"text"`,
    /// `"json"`, `"csv"`, `"tsv"` or `"parquet"`.
    ///
    /// # Errors
    /// [`Error::Config`] for another format; as [`open`](Documents::open).
    pub fn open_as(path: impl AsRef<Path>, format: &str, column: &str) -> Result<Documents> {
        let form = Form::said(path.as_ref(), format.parse()?);
        Documents::open_at(path.as_ref(), form, column, Place::default(), &|| false)
    }

    /// As [`open`](Documents::open), from the document at `place` on, which one of the file's had.
    pub(super) fn open_at(
        path: &Path,
        form: Form,
        column: &str,
        place: Place,
        stop: Stop<'_>,
    ) -> Result<Documents> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let records: Box<dyn Records> = match form.kind {
            TextFormat::Parquet => guarded(path, || table(path, file, column, place))?,
            kind => {
                let opened = unpack::open(path, form.packing, file, place.byte, stop)?;
                match kind {
                    TextFormat::Csv => Box::new(Table::open(path, opened, b',', column, place)?),
                    TextFormat::Tsv => Box::new(Table::open(path, opened, b'\t', column, place)?),
                    TextFormat::Json if looks::is_array(&opened.head) => {
                        Box::new(Array::new(path, opened.input, column, place))
                    }
                    TextFormat::Json => Box::new(Lines::new(path, opened.input, column, place)),
                    _ => Box::new(whole(path, form, opened)?),
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

    /// What a document is called: a line, a row; nothing where the file is one.
    pub(super) fn unit(&self) -> &'static str {
        self.records.as_ref().map_or("", |records| records.unit())
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

/// A file that is one document, if it looks like one or somebody insists.
fn whole(path: &Path, form: Form, opened: Opened) -> Result<Whole> {
    let looks = || looks::look(&opened.head, opened.whole).or_else(|| looks::named(path));
    if !form.said
        && let Some(looks) = looks()
    {
        return Err(Error::format(path, advice(looks, &opened.head)));
    }
    // The size of a plain file is honest.
    let plain = form.packing == Packing::Plain;
    Ok(Whole::new(path, opened.input, if plain { usize::MAX } else { LONGEST }))
}

/// What a file looks like, and how to have it read.
fn advice(looks: Looks, head: &[u8]) -> String {
    // Where the first line is no names but data, they say nothing.
    let columns = |delimiter| {
        let names = table::columns(head, table::delimiter_of(head, delimiter));
        match names.iter().all(|name| name.len() <= 40) {
            true => {
                let named = few(names.iter().map(|name| format!("\"{name}\"")), 8);
                format!(", with the columns {named}")
            }
            false => String::new(),
        }
    };
    let (what, how) = match looks {
        Looks::JsonLines => {
            ("JSON lines, an object in each".to_owned(), as_format(TextFormat::Json))
        }
        Looks::JsonArray => ("a JSON array".to_owned(), as_format(TextFormat::Json)),
        Looks::Csv => (format!("CSV{}", columns(b',')), as_format(TextFormat::Csv)),
        Looks::Tsv => {
            (format!("a table with tabs (TSV){}", columns(b'\t')), as_format(TextFormat::Tsv))
        }
        Looks::Html => {
            ("HTML".to_owned(), "make text of it first, as by pandoc -t plain".to_owned())
        }
        Looks::Xml => ("XML".to_owned(), "take the text out of it first".to_owned()),
        Looks::Encoded(encoding) => {
            let how = format!("convert it first, as by iconv -f {encoding} -t utf-8");
            (format!("text in another encoding ({encoding})"), how)
        }
        Looks::Other(ending @ (".gz" | ".zst" | ".parquet")) => {
            (format!("a {ending} file"), "give it that ending".to_owned())
        }
        Looks::Other(ending) => {
            (format!("a {ending} file"), "take the text out of it first".to_owned())
        }
    };
    format!(
        "looks like {what}, and not like plain text: {how}; format(\"text\") reads it as plain text all the same"
    )
}

/// The setting by which a file is read as a format.
fn as_format(format: TextFormat) -> String {
    format!("format(\"{format}\") reads it as that")
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
