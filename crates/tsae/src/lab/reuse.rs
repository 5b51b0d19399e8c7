//! What the build of this command has compiled already, offered to the build of the cells.
//!
//! Cells are compiled as the command is (cargo-config.toml, cargo.sh), so that cargo names a crate
//! that both need alike in both. Its files are put where cargo looks for them, and cargo decides by
//! its own fingerprints whether they are what it would have made; what they are not, it compiles.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::project::{LIBRARY, PACKAGE};

/// The folder of cargo's release profile, which it names in its fingerprints.
const RELEASE: &str = "release";
/// The folder of compiled crates, in there.
const DEPS: &str = "deps";
/// The folder of the fingerprints, in there.
const FINGERPRINTS: &str = ".fingerprint";

/// Where cells are compiled, in a build folder.
pub(super) fn release_folder(building: &Path) -> PathBuf {
    building.join("target").join(RELEASE)
}

/// Where cargo has compiled this program, if it was not installed elsewhere.
pub(super) fn source() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?.canonicalize().ok()?;
    // A test lies one folder deeper than the command.
    let mut folders = program.ancestors().skip(1).take(2);
    let folder = folders.find(|folder| folder.ends_with(RELEASE))?;
    folder.join(FINGERPRINTS).is_dir().then(|| folder.to_owned())
}

/// Offers what the library needs.
///
/// # Errors
/// If a file cannot be linked or copied. What is there then is whole.
pub(super) fn offer(building: &Path) -> io::Result<()> {
    source().map_or(Ok(()), |from| offer_from(&from, &release_folder(building)))
}

/// Links what cargo writes anew, and copies what is written in place.
///
/// A crate that was compiled twice has one name and, to those that were compiled with it, may be two:
/// rustc then finds neither. So where an earlier set-up compiled one itself, all goes that is there.
fn offer_from(from: &Path, to: &Path) -> io::Result<()> {
    let units = units(from)?;
    let hashes: HashSet<&str> = units.iter().filter_map(|unit| hash_of(unit)).collect();
    let mut compiled = list(&from.join(DEPS))?;
    compiled.retain(|file| {
        let stem = file.split_once('.').map_or(file.as_str(), |(stem, _)| stem);
        hash_of(stem).is_some_and(|hash| hashes.contains(hash))
    });
    let is_list = |file: &str| file.ends_with(".d");
    let is_another = |file: &String| {
        let of = |folder: &Path| {
            let data = folder.join(DEPS).join(file).metadata().ok()?;
            Some((data.len(), data.modified().ok()?))
        };
        !is_list(file) && of(to).is_some() && of(to) != of(from)
    };
    if compiled.iter().any(is_another) {
        std::fs::remove_dir_all(to)?;
    }
    for file in &compiled {
        let path = Path::new(DEPS).join(file);
        put(&from.join(&path), &to.join(&path), !is_list(file))?;
    }
    for unit in &units {
        for folder in ["build", FINGERPRINTS] {
            put_all(&from.join(folder).join(unit), &to.join(folder).join(unit))?;
        }
    }
    Ok(())
}

/// What ends the names of a unit's files.
fn hash_of(unit: &str) -> Option<&str> {
    unit.rsplit_once('-').map(|(_, hash)| hash)
}

/// The folders, in cargo's folder of fingerprints, of all that the library was compiled with last.
fn units(from: &Path) -> io::Result<Vec<String>> {
    let fingerprints = from.join(FINGERPRINTS);
    let mut by_hash = HashMap::new();
    let mut library = None;
    for folder in list(&fingerprints)? {
        for file in list(&fingerprints.join(&folder))? {
            // One of the files holds the fingerprint itself; what that is made of lies beside it.
            let path = fingerprints.join(&folder).join(&file);
            let Some(hash) = std::fs::read_to_string(&path).ok().and_then(|text| hash(&text))
            else {
                continue;
            };
            let Ok(parts) = std::fs::read(path.with_extension("json")) else { continue };
            let parts: Value = serde_json::from_slice(&parts).unwrap_or_default();
            let needs: Vec<u64> = parts["deps"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|dep| dep[3].as_u64())
                .collect();
            if file == format!("lib-{LIBRARY}") {
                // `cargo check` has fingerprints of its own, and no library.
                let id = folder.trim_start_matches(PACKAGE);
                if from.join("deps").join(format!("lib{LIBRARY}{id}.rlib")).is_file() {
                    let written = path.metadata()?.modified()?;
                    library = library.max(Some((written, needs)));
                }
            } else {
                by_hash.insert(hash, (folder.clone(), needs));
            }
        }
    }
    let mut todo = library.map(|(_, needs)| needs).unwrap_or_default();
    let mut found = Vec::new();
    while let Some(hash) = todo.pop() {
        // Taken out, so that it is found once.
        if let Some((folder, needs)) = by_hash.remove(&hash) {
            found.push(folder);
            todo.extend(needs);
        }
    }
    Ok(found)
}

/// A fingerprint, as cargo writes it: the bytes of a number, the lowest first.
fn hash(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok().map(u64::swap_bytes)).flatten()
}

fn put_all(from: &Path, to: &Path) -> io::Result<()> {
    for name in list(from).unwrap_or_default() {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            put_all(&from, &to)?;
        } else {
            // A build script's program is linked; what it writes is not.
            put(
                &from,
                &to,
                name.starts_with("build-script-") || name.starts_with("build_script_"),
            )?;
        }
    }
    Ok(())
}

/// Links or copies a file that is not there yet, whole and with its time, by which cargo goes.
fn put(from: &Path, to: &Path, link: bool) -> io::Result<()> {
    if to.exists() {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if link && std::fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let part = to.with_extension("part");
    std::fs::copy(from, &part)?;
    File::options().write(true).open(&part)?.set_modified(from.metadata()?.modified()?)?;
    std::fs::rename(&part, to)
}

/// The names of what lies in a folder.
fn list(folder: &Path) -> io::Result<Vec<String>> {
    let names = folder.read_dir()?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    names.filter_map(io::Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_needs_is_offered_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        let write = |path: &str, text: &str| {
            let path = from.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let unit = |id: &str, file: &str, hash: u64, needs: &[u64]| {
            let deps: Vec<_> = needs.iter().map(|hash| (0, "name", false, hash)).collect();
            write(&format!("{FINGERPRINTS}/{id}/{file}"), &format!("{:016x}", hash.swap_bytes()));
            let parts = serde_json::json!({ "deps": deps }).to_string();
            write(&format!("{FINGERPRINTS}/{id}/{file}.json"), &parts);
        };
        let library = format!("lib-{LIBRARY}");
        unit(&format!("{PACKAGE}-1a"), &library, 1, &[2]);
        write(&format!("deps/lib{LIBRARY}-1a.rlib"), "");
        // Of `cargo check`.
        unit(&format!("{PACKAGE}-1b"), &library, 5, &[4]);
        unit("serde-2a", "lib-serde", 2, &[3]);
        unit("serde-3a", "run-build-script-build-script-build", 3, &[]);
        unit("serde-4a", "lib-serde", 4, &[]);
        for file in ["deps/libserde-2a.rlib", "deps/libserde-4a.rlib", "build/serde-3a/out/made"] {
            write(file, "made");
        }
        offer_from(&from, &to).unwrap();
        assert!(to.join("deps/libserde-2a.rlib").is_file());
        assert!(to.join("build/serde-3a/out/made").is_file());
        let mut offered = list(&to.join(FINGERPRINTS)).unwrap();
        offered.sort();
        assert_eq!(offered, ["serde-2a", "serde-3a"]);
        assert_eq!(list(&to.join("deps")).unwrap(), ["libserde-2a.rlib"]);
        // The same again changes nothing; one that was compiled elsewhere is not mixed with these.
        let mine = to.join("deps/libmine-9a.rlib");
        std::fs::write(&mine, "").unwrap();
        offer_from(&from, &to).unwrap();
        assert!(mine.is_file());
        let serde = to.join("deps/libserde-2a.rlib");
        std::fs::remove_file(&serde).unwrap();
        std::fs::write(&serde, "made elsewhere").unwrap();
        offer_from(&from, &to).unwrap();
        assert!(!mine.exists());
        assert_eq!(std::fs::read_to_string(&serde).unwrap(), "made");
        // What a build script writes is a file of its own, with the time of the other.
        let made = |folder: &Path| folder.join("build/serde-3a/out/made");
        let time = |path: PathBuf| path.metadata().unwrap().modified().unwrap();
        assert_eq!(time(made(&from)), time(made(&to)));
        std::fs::write(made(&to), "other").unwrap();
        assert_eq!(std::fs::read_to_string(made(&from)).unwrap(), "made");
    }
}
