//! Finding files with text.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::form::{Form, NOT_READ};
use super::source_file::{SourceFile, order};
use crate::base::error::{Error, Result};

/// The files that `pattern` means: a file, every file with text below a folder, or what a glob
/// matches.
///
/// They come in the order of a hash of their names, which depends on nothing else, and is unrelated
/// to author, title or date: the first few are a fair sample of all.
///
/// # Errors
/// [`Error::EmptyCorpus`] if there is none, [`Error::Io`], [`Error::Format`] for a file of a kind
/// that is not read.
pub fn find(pattern: &str) -> Result<Vec<SourceFile>> {
    let root = Path::new(pattern);
    let mut paths = if root.is_dir() {
        one_kind(root, files_below(root, &|path| Form::in_folder(path).is_some())?)?
    } else if root.exists() {
        vec![root.to_owned()]
    } else {
        matches(pattern)?
    };
    if paths.is_empty() {
        let why = match root.is_dir() {
            true => format!(
                "there is no .txt, .md, .jsonl or .parquet file in {pattern} or below; .csv, .tsv and .json files are read if they are named, as by \"{}\"",
                root.join("*.csv").display()
            ),
            false => format!("no file matches \"{pattern}\" (as seen from {})", here()),
        };
        return Err(Error::EmptyCorpus { why });
    }
    paths.sort();
    paths.dedup();
    let common = common_folder(&paths);
    let mut found = paths
        .into_iter()
        .map(|path| {
            let narrower = || Error::format(&path, format!("{NOT_READ}: give a narrower pattern"));
            let form = Form::of(&path).ok_or_else(narrower)?;
            let bytes = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
            Ok(SourceFile { name: name_below(&path, common), path, bytes, form, remote: None })
        })
        .collect::<Result<Vec<_>>>()?;
    order(&mut found, 0);
    Ok(found)
}

/// A folder's files with text, if they are plain text or data sets and not both: of a data set's
/// folder the read-me and the licence are not part of its text.
fn one_kind(folder: &Path, mut paths: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let is_data = |path: &PathBuf| Form::known(path).is_some_and(Form::holds_many);
    let Some(data) = paths.iter().find(|path| is_data(path)).cloned() else { return Ok(paths) };
    let about = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        name.starts_with("readme") || name.starts_with("license")
    };
    paths.retain(|path| is_data(path) || !about(path));
    let Some(text) = paths.iter().find(|path| !is_data(path)) else { return Ok(paths) };
    let why = format!(
        "has both plain text ({}) and a data set ({}): choose one with a pattern such as \"{}\"",
        text.display(),
        data.display(),
        folder.join("**/*.jsonl").display()
    );
    Err(Error::format(folder, why))
}

fn here() -> String {
    std::env::current_dir().map_or_else(|_| ".".into(), |dir| dir.display().to_string())
}

/// How many leading parts the folders of all paths have in common.
fn common_folder(paths: &[PathBuf]) -> usize {
    let folder = |path: &PathBuf| path.parent().map(Path::to_owned).unwrap_or_default();
    let Some(first) = paths.first().map(folder) else { return 0 };
    let first: Vec<Component> = first.components().collect();
    let shared =
        |path: &PathBuf| folder(path).components().zip(&first).take_while(|(a, b)| a == *b).count();
    paths.iter().map(shared).min().unwrap_or(0)
}

/// Every file below `dir` that is `wanted`, hidden ones and linked folders (which might lead back
/// here) left out.
pub fn files_below(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(Error::io("read", &path))?;
        if kind.is_dir() {
            found.extend(files_below(&path, wanted)?);
        } else if wanted(&path) && (kind.is_file() || path.is_file()) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The path of a file below its `parts` first folders, with `/` between folders.
pub fn name_below(path: &Path, parts: usize) -> String {
    let below = path.components().skip(parts);
    below.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let found = glob::glob(pattern)
        .map_err(|e| Error::config("text", format!("\"{pattern}\" is not a pattern: {e}")))?;
    let mut paths = Vec::new();
    for path in found {
        let path = path.map_err(|e| Error::io("read", e.path().to_owned())(e.into()))?;
        if path.is_file() {
            paths.push(path);
        }
    }
    Ok(paths)
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
        find(pattern.as_ref().to_str().unwrap())
            .unwrap()
            .into_iter()
            .map(|document| document.name)
            .collect()
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
        let files: Vec<String> =
            (0..20).map(|i| format!("books/author {}/book {i}.txt", i % 3)).collect();
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
        for (pattern, wanted) in [("", ".txt, .md"), ("*.txt", "*.txt"), ("none.txt", "none.txt")] {
            let told = find(dir.path().join(pattern).to_str().unwrap()).unwrap_err();
            assert!(
                matches!(told, Error::EmptyCorpus { .. }) && told.to_string().contains(wanted),
                "{told}"
            );
        }
        assert!(matches!(find("[").unwrap_err(), Error::Config { .. }));
    }

    #[test]
    fn a_kind_that_is_not_read_is_refused() {
        let dir = folder(&["a.txt", "b.pdf"]);
        let told = find(dir.path().join("*").to_str().unwrap()).unwrap_err().to_string();
        assert!(told.contains("b.pdf") && told.contains("narrower pattern"), "{told}");
    }

    #[test]
    fn a_folder_holds_text_or_a_data_set_and_not_both() {
        let dir = folder(&[
            "README.md",
            "data/LICENSE.txt",
            "data/train.jsonl.zst",
            "data/more.parquet",
            "settings.json",
        ]);
        let mut found = names(dir.path());
        found.sort();
        assert_eq!(found, ["more.parquet", "train.jsonl.zst"]);
        fs::write(dir.path().join("book.txt"), "text").unwrap();
        let told = find(dir.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(told.contains("book.txt") && told.contains("pattern"), "{told}");
        assert_eq!(names(dir.path().join("data/*.parquet")), ["more.parquet"]);
    }
}
