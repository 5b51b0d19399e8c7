//! What a file's name says of how documents lie in it.

use std::path::Path;

/// How documents lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The file is one document: `.txt`, `.md`.
    Text,
    /// A JSON object a line, with the text in one of its fields: `.jsonl`, `.ndjson`, `.json`.
    Lines,
    /// A table with the text in one of its columns: `.parquet`.
    Parquet,
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
    pub kind: Kind,
    pub packing: Packing,
}

/// Endings of files that are certainly not text, even where a pattern names them. (`.gz` and
/// `.zst`: with no ending before it that says what is packed there.)
const NOT_TEXT: [&str; 8] = ["arrow", "zip", "pdf", "epub", "tar", "tgz", "gz", "zst"];

impl Form {
    /// What the endings of a name say, if they are known ones.
    pub fn known(path: &Path) -> Option<Form> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let (stem, packing) = match name.rsplit_once('.')? {
            (stem, "gz") => (stem, Packing::Gzip),
            (stem, "zst") => (stem, Packing::Zstd),
            _ => (name.as_str(), Packing::Plain),
        };
        let kind = match stem.rsplit_once('.')?.1 {
            "txt" | "md" => Kind::Text,
            "jsonl" | "ndjson" | "json" => Kind::Lines,
            // A parquet file's pages are packed each for itself.
            "parquet" if packing == Packing::Plain => Kind::Parquet,
            _ => return None,
        };
        Some(Form { kind, packing })
    }

    /// How a file that was asked for by its name is read: any that is not known to be something
    /// else is plain text.
    pub fn of(path: &Path) -> Option<Form> {
        let ending = path
            .extension()
            .map(|ending| ending.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        let text = Form { kind: Kind::Text, packing: Packing::Plain };
        Form::known(path).or_else(|| {
            (!NOT_TEXT.contains(&ending.as_str()) && !ending.contains("parquet")).then_some(text)
        })
    }

    /// Whether a file of a folder that is taken as a whole is meant: `.json` is not, for settings
    /// and the like are kept in it.
    pub fn in_folder(path: &Path) -> Option<Form> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let json = name.trim_end_matches(".gz").trim_end_matches(".zst").ends_with(".json");
        Form::known(path).filter(|_| !json)
    }

    /// Whether the file's bytes are one document's.
    pub fn is_plain_text(self) -> bool {
        self == Form { kind: Kind::Text, packing: Packing::Plain }
    }

    /// Whether many documents lie in such a file.
    pub fn holds_many(self) -> bool {
        self.kind != Kind::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_a_file_is_read() {
        let of = |name: &str| Form::of(Path::new(name)).map(|form| (form.kind, form.packing));
        for (name, kind, packing) in [
            ("a.txt", Kind::Text, Packing::Plain),
            ("a.MD.GZ", Kind::Text, Packing::Gzip),
            ("b.log", Kind::Text, Packing::Plain),
            ("README", Kind::Text, Packing::Plain),
            ("x/00.jsonl.zst", Kind::Lines, Packing::Zstd),
            ("a.ndjson", Kind::Lines, Packing::Plain),
            ("a.b.json.gz", Kind::Lines, Packing::Gzip),
            ("train-00000-of-00001.parquet", Kind::Parquet, Packing::Plain),
        ] {
            assert_eq!(of(name), Some((kind, packing)), "{name}");
        }
        for name in ["a.tar.gz", "a.zst", "a.parquet.gz", "a.arrow", "a.pdf", "b.tar"] {
            assert_eq!(of(name), None, "{name}");
        }
        assert!(
            Form::in_folder(Path::new("config.json")).is_none()
                && Form::in_folder(Path::new("b.log")).is_none()
        );
        assert!(Form::in_folder(Path::new("a.jsonl.gz")).is_some());
    }
}
