//! Whether a file is the one that its name in the cache says.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Digest, Sha256};

use super::failure::Failure;
use crate::base::error::Error;
use crate::base::files::hex;
use crate::display::interrupt;

/// What an etag is the checksum of, by its name. One of another form is only a name.
fn checksum(etag: &str, size: u64) -> Option<(&'static str, Box<dyn DynDigest>)> {
    let is_hex = etag.bytes().all(|b| b.is_ascii_hexdigit());
    match etag.len() {
        // Of the bytes: a large file's.
        64 if is_hex => Some(("SHA-256", Box::new(Sha256::new()))),
        // Of the word "blob", the size and the bytes: a small file's, as git has it.
        40 if is_hex => {
            let begun = Sha1::new_with_prefix(format!("blob {size}\0"));
            Some(("git SHA-1", Box::new(begun)))
        }
        _ => None,
    }
}

/// Reads a file, and says how it is not the one of `etag` and `size`; `None` if it is.
pub(super) fn difference(path: &Path, etag: &str, size: u64) -> Result<Option<String>, Failure> {
    let io = |e| Failure::Local(Error::io("read", path)(e));
    let mut file = File::open(path).map_err(io)?;
    let mut checksum = checksum(etag, size);
    let (mut buffer, mut n) = (vec![0; 1 << 20], 0);
    loop {
        if interrupt::requested() {
            return Err(Failure::Interrupted);
        }
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(io(e)),
        };
        n += read as u64;
        if let Some((_, hash)) = &mut checksum {
            hash.update(&buffer[..read]);
        }
    }
    if n != size {
        return Ok(Some(format!("has {n} bytes instead of {size}")));
    }
    let Some((name, hash)) = checksum else { return Ok(None) };
    let got = hex(hash.finalize());
    Ok((!got.eq_ignore_ascii_case(etag)).then(|| format!("has the {name} {got} instead of {etag}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_of_the_hub_s_checksums_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "hello\n").unwrap();
        let told = |etag: &str, size: u64| match difference(&path, etag, size) {
            Ok(told) => told,
            Err(_) => panic!("could not read"),
        };
        // `printf 'hello\n' | sha256sum`, and `printf 'hello\n' | git hash-object --stdin`.
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        assert_eq!((told(sha256, 6), told(git, 6), told("5f3-abc", 6)), (None, None, None));
        assert!(told(sha256, 7).unwrap().contains("6 bytes instead of 7"));
        for etag in [sha256, git] {
            let wrong = etag.replace('5', "6");
            assert!(told(&wrong, 6).unwrap().contains(&format!("{etag} instead of {wrong}")));
        }
    }
}
