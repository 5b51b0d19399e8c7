//! What a file's name says of how documents lie in it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::base::error::Error;

/// How documents lie in a file, where its name does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextFormat {
    /// The file is one document: `.txt`, `.md`.
    Text,
    /// A JSON object a line, with the text in one of its fields, or one array of texts or such
    /// objects: `.jsonl`, `.ndjson`, `.json`.
    Json,
    /// A table with commas, or semicolons where its first line has no comma, and the text in one of
    /// its columns: `.csv`.
    Csv,
    /// A table with tabs: `.tsv`.
    Tsv,
    /// A table of Parquet's: `.parquet`.
    Parquet,
}

impl fmt::Display for TextFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

impl FromStr for TextFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<TextFormat, Error> {
        use TextFormat::{Csv, Json, Parquet, Text, Tsv};
        let known = [Text, Json, Csv, Tsv, Parquet];
        known.into_iter().find(|format| format.to_string() == name).ok_or_else(|| {
            let known = known.map(|format| format.to_string()).join(", ");
            Error::config("format", format!("format = \"{name}\"; it must be one of {known}"))
        })
    }
}

/// In what a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// Nothing: `.txt`.
    Plain,
    /// gzip: `.txt.gz`.
    Gzip,
    /// Zstandard: `.txt.zst`.
    Zstd,
}

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    pub kind: TextFormat,
    pub packing: Packing,
    /// Whether somebody said so, and not the name: then it is not asked what the file looks like.
    pub said: bool,
}

/// What is said of a file that is not read.
pub const NOT_READ: &str = "is not a kind of file that can be read: .txt, .md, .jsonl, .csv, .tsv (each also .gz or .zst) or .parquet";

/// Endings of files that are certainly not text, even where a pattern names them. (`.gz` and
/// `.zst`: with no ending before it that says what is packed there.)
const NOT_TEXT: [&str; 8] = ["arrow", "zip", "pdf", "epub", "tar", "tgz", "gz", "zst"];

impl Form {
    /// What the endings of a name say, if they are known ones.
    pub fn known(path: &Path) -> Option<Form> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let (stem, packing) = unpacked(&name);
        let kind = match stem.rsplit_once('.')?.1 {
            "txt" | "md" => TextFormat::Text,
            "jsonl" | "ndjson" | "json" => TextFormat::Json,
            "csv" => TextFormat::Csv,
            "tsv" | "tab" => TextFormat::Tsv,
            // A parquet file's pages are packed each for itself.
            "parquet" if packing == Packing::Plain => TextFormat::Parquet,
            _ => return None,
        };
        Some(Form { kind, packing, said: false })
    }

    /// A file of a format that somebody has said, packed as its ending says.
    pub fn said(path: &Path, kind: TextFormat) -> Form {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        Form { kind, packing: unpacked(&name).1, said: true }
    }

    /// How a file that was asked for by its name is read: any that is not known to be something
    /// else is plain text, if it looks like that.
    pub fn of(path: &Path) -> Option<Form> {
        let ending = path
            .extension()
            .map(|ending| ending.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        let text = Form { kind: TextFormat::Text, packing: Packing::Plain, said: false };
        Form::known(path).or_else(|| {
            (!NOT_TEXT.contains(&ending.as_str()) && !ending.contains("parquet")).then_some(text)
        })
    }

    /// Whether a file of a folder that is taken as a whole is meant: `.json`, `.csv` and `.tsv` are
    /// not, for settings and lists of what else there is are kept in them.
    pub fn in_folder(path: &Path) -> Option<Form> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let beside = [".json", ".csv", ".tsv", ".tab"];
        let beside = beside.iter().any(|ending| unpacked(&name).0.ends_with(ending));
        Form::known(path).filter(|_| !beside)
    }

    /// Whether the file's bytes are one document's.
    pub fn is_plain_text(self) -> bool {
        (self.kind, self.packing) == (TextFormat::Text, Packing::Plain)
    }

    /// Whether many documents lie in such a file.
    pub fn holds_many(self) -> bool {
        self.kind != TextFormat::Text
    }
}

/// A name without the ending of what it is packed by.
fn unpacked(name: &str) -> (&str, Packing) {
    match name.rsplit_once('.') {
        Some((stem, "gz")) => (stem, Packing::Gzip),
        Some((stem, "zst")) => (stem, Packing::Zstd),
        _ => (name, Packing::Plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_a_file_is_read() {
        let of = |name: &str| Form::of(Path::new(name)).map(|form| (form.kind, form.packing));
        for (name, kind, packing) in [
            ("a.txt", TextFormat::Text, Packing::Plain),
            ("a.MD.GZ", TextFormat::Text, Packing::Gzip),
            ("b.log", TextFormat::Text, Packing::Plain),
            ("README", TextFormat::Text, Packing::Plain),
            ("x/00.jsonl.zst", TextFormat::Json, Packing::Zstd),
            ("a.ndjson", TextFormat::Json, Packing::Plain),
            ("a.b.json.gz", TextFormat::Json, Packing::Gzip),
            ("a.csv", TextFormat::Csv, Packing::Plain),
            ("a.TSV.gz", TextFormat::Tsv, Packing::Gzip),
            ("train-00000-of-00001.parquet", TextFormat::Parquet, Packing::Plain),
        ] {
            assert_eq!(of(name), Some((kind, packing)), "{name}");
        }
        for name in ["a.tar.gz", "a.zst", "a.parquet.gz", "a.arrow", "a.pdf", "b.tar"] {
            assert_eq!(of(name), None, "{name}");
        }
        assert!(
            Form::in_folder(Path::new("config.json")).is_none()
                && Form::in_folder(Path::new("b.log")).is_none()
                && Form::in_folder(Path::new("list.csv.gz")).is_none()
        );
        assert!(Form::in_folder(Path::new("a.jsonl.gz")).is_some());
    }
}
