//! Folders with the same files.

use std::fs;
use std::path::{Path, PathBuf};

/// Every file below `dir` with its bytes, by its path; locks are not results.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.file_name().unwrap() == ".lock" => {}
                false => {
                    all.push((path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap()))
                }
            }
        }
    }
    all.sort();
    assert!(!all.is_empty(), "{} is empty", dir.display());
    all
}

/// That two folders hold the same files with the same bytes.
pub fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (files(a), files(b));
    let names =
        |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for (a, b) in a.iter().zip(&b) {
        assert!(a == b, "{} differs", a.0.display());
    }
}
