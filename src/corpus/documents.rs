//! Finding and reading text files.

use std::fs;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Endings of the files taken from a folder.
const TEXT: [&str; 2] = ["txt", "md"];
/// Endings of files that are certainly not plain text, even where a pattern names them.
const NOT_TEXT: [&str; 9] = ["jsonl", "json", "parquet", "arrow", "zst", "gz", "zip", "pdf", "epub"];

/// A text file that has been found but not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The file.
    pub path: PathBuf,
    /// Its path below the folder that all documents have in common, with `/` between folders: the same wherever that folder lies.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// The documents that `pattern` means: a file, every `.txt` and `.md` file below a folder, or what a glob matches.
///
/// They come in the order of a hash of their names, which depends on nothing else, and is unrelated to author, title or date: the first few
/// are a fair sample of all.
///
/// # Errors
/// [`Error::EmptyCorpus`] if there is none, [`Error::Io`], [`Error::Format`] for a file of a kind that is not plain text.
pub fn find(pattern: &str) -> Result<Vec<Document>> {
    let root = Path::new(pattern);
    let mut paths = if root.is_dir() {
        let mut below = Vec::new();
        walk(root, &mut below)?;
        below
    } else if root.exists() {
        vec![root.to_owned()]
    } else {
        matches(pattern)?
    };
    if paths.is_empty() {
        let why = match root.is_dir() {
            true => format!("there is no .txt or .md file in {pattern} or below"),
            false => format!("no file matches \"{pattern}\" (as seen from {})", here()),
        };
        return Err(Error::EmptyCorpus { why });
    }
    paths.sort();
    paths.dedup();
    if let Some(path) = paths.iter().find(|path| has_ending(path, &NOT_TEXT)) {
        return Err(Error::format(path, "is not plain text: give .txt or .md files, or a narrower pattern"));
    }
    let common = common_folder(&paths);
    let mut documents = paths
        .into_iter()
        .map(|path| {
            let bytes = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
            let below = path.components().skip(common).map(|part| part.as_os_str().to_string_lossy().into_owned());
            let name = below.collect::<Vec<_>>().join("/");
            Ok(Document { path, name, bytes })
        })
        .collect::<Result<Vec<_>>>()?;
    documents.sort_by_cached_key(|document| (Sha256::digest(&document.name), document.path.clone()));
    Ok(documents)
}

fn here() -> String {
    std::env::current_dir().map_or_else(|_| ".".into(), |dir| dir.display().to_string())
}

/// How many leading parts the folders of all paths have in common.
fn common_folder(paths: &[PathBuf]) -> usize {
    let folder = |path: &PathBuf| path.parent().map(Path::to_owned).unwrap_or_default();
    let Some(first) = paths.first().map(folder) else { return 0 };
    let first: Vec<Component> = first.components().collect();
    let shared = |path: &PathBuf| folder(path).components().zip(&first).take_while(|(a, b)| a == *b).count();
    paths.iter().map(shared).min().unwrap_or(0)
}

/// Every text file below `dir`, hidden ones and linked folders (which might lead back here) left out.
fn walk(dir: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(Error::io("read", &path))?;
        if kind.is_dir() {
            walk(&path, out)?;
        } else if has_ending(&path, &TEXT) && (kind.is_file() || path.is_file()) {
            out.push(path);
        }
    }
    Ok(())
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let found = glob::glob(pattern).map_err(|e| Error::config("text", format!("\"{pattern}\" is not a pattern: {e}")))?;
    let mut paths = Vec::new();
    for path in found {
        let path = path.map_err(|e| {
            let at = e.path().to_owned();
            Error::io("read", at)(e.into())
        })?;
        if path.is_file() {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|ending| endings.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// The text of a file: UTF-8, without a byte-order mark, its lines ended by `\n` alone.
///
/// # Errors
/// [`Error::Format`] with the offset of the first byte that is not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let byte = e.as_bytes()[at];
        let why = format!("is not UTF-8 text: byte 0x{byte:02X} at offset {at}; convert it first, for example: iconv -f latin1 -t utf-8");
        Error::format(path, why)
    })?;
    let text = match text.strip_prefix('\u{FEFF}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    Ok(if text.contains('\r') { text.replace("\r\n", "\n") } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        }
        dir
    }

    fn names(pattern: impl AsRef<Path>) -> Vec<String> {
        find(pattern.as_ref().to_str().unwrap()).unwrap().into_iter().map(|document| document.name).collect()
    }

    #[test]
    fn a_folder_means_its_text_files_at_any_depth() {
        let dir = folder(&["a.txt", "b/c.MD", "b/d/e.md", "f.rs", ".git/g.md", "b/.hidden.txt"]);
        let mut found = names(dir.path());
        found.sort();
        assert_eq!(found, ["a.txt", "b/c.MD", "b/d/e.md"]);
    }

    #[test]
    fn a_folder_and_a_glob_of_the_same_files_give_the_same_order_wherever_it_lies() {
        let files: Vec<String> = (0..20).map(|i| format!("books/author {}/book {i}.txt", i % 3)).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let (one, other) = (folder(&files), folder(&files));
        let order = names(one.path().join("books"));
        assert_eq!(order, names(other.path()));
        assert_eq!(order, names(one.path().join("books/*/*.txt")));
        assert_eq!(order, names(other.path().join("**/*.txt")));
        let mut sorted = order.clone();
        sorted.sort();
        assert_ne!(order, sorted);
    }

    #[test]
    fn one_file_and_a_name_with_glob_characters_are_found() {
        let dir = folder(&["a [1].txt", "b.log"]);
        assert_eq!(names(dir.path().join("a [1].txt")), ["a [1].txt"]);
        assert_eq!(names(dir.path().join("b.log")), ["b.log"]);
    }

    #[test]
    fn nothing_found_says_what_was_looked_for() {
        let dir = folder(&["a.rs"]);
        for (pattern, wanted) in [("", ".txt or .md"), ("*.txt", "*.txt"), ("none.txt", "none.txt")] {
            let told = find(dir.path().join(pattern).to_str().unwrap()).unwrap_err();
            assert!(matches!(told, Error::EmptyCorpus { .. }) && told.to_string().contains(wanted), "{told}");
        }
        assert!(matches!(find("[").unwrap_err(), Error::Config { .. }));
    }

    #[test]
    fn a_kind_that_is_not_plain_text_is_refused() {
        let dir = folder(&["a.txt", "b.jsonl"]);
        let told = find(dir.path().join("*").to_str().unwrap()).unwrap_err().to_string();
        assert!(told.contains("b.jsonl") && told.contains("not plain text"), "{told}");
    }

    #[test]
    fn what_is_not_utf_8_is_an_error_with_file_and_offset() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latin.txt");
        fs::write(&path, b"caf\xE9 au lait").unwrap();
        let told = read(&path).unwrap_err().to_string();
        assert!(told.contains("latin.txt") && told.contains("0xE9 at offset 3"), "{told}");
        fs::write(&path, "cut in the middle of é".as_bytes().split_last().unwrap().1).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("offset 21"));
    }

    #[test]
    fn byte_order_marks_and_carriage_returns_are_taken_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dos.txt");
        fs::write(&path, "\u{FEFF}one\r\ntwo\rthree\n").unwrap();
        assert_eq!(read(&path).unwrap(), "one\ntwo\rthree\n");
    }
}
