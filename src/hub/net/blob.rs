//! One file: from the part in the cache to all of it, checked, under its checksum's name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::check;
use super::client::{Client, Reply};
use super::failure::{Attempts, Failure};
use super::head::{LOOK, Method, Remote};
use crate::base::error::{Error, Result};
use crate::base::files;
use crate::base::format;
use crate::display::{Progress, interrupt};

/// The folder of a repository's blobs, and that of their locks.
pub(super) struct Blobs {
    folder: PathBuf,
    locks: PathBuf,
}

impl Blobs {
    pub fn open(repo: &Path, locks: &Path) -> Result<Blobs> {
        let folder = repo.join("blobs");
        files::create_folder(&folder)?;
        files::create_folder(locks)?;
        Ok(Blobs { folder, locks: locks.to_owned() })
    }

    pub fn path(&self, remote: &Remote) -> PathBuf {
        self.folder.join(&remote.etag)
    }

    fn part(&self, remote: &Remote) -> PathBuf {
        self.folder.join(format!("{}.incomplete", remote.etag))
    }

    /// How many bytes of a file are there.
    pub fn has(&self, remote: &Remote) -> u64 {
        match self.path(remote).exists() {
            true => remote.size,
            false => len(&self.part(remote)).min(remote.size),
        }
    }

    /// Fetches what is missing. `before` bytes of other files count as done in `progress`.
    pub fn fetch(
        &self,
        client: &Client<'_>,
        remote: &Remote,
        progress: &mut Progress,
        before: u64,
    ) -> Result<(), Failure> {
        let path = self.path(remote);
        if path.exists() {
            return Ok(());
        }
        let _lock = self.lock(remote, progress, before)?;
        if path.exists() {
            return Ok(());
        }
        let part = self.part(remote);
        let mut from_before = len(&part) > 0;
        let mut attempts = Attempts::new(client.hub, true);
        loop {
            progress.note(&remote.file);
            while len(&part) < remote.size || !part.exists() {
                let had = len(&part);
                if let Err(failure) =
                    self.append(client, remote, &part, |done| progress.set(before + done))
                {
                    if len(&part) > had {
                        attempts.arrived();
                    }
                    attempts.again(failure, |note| {
                        progress.note(note);
                        progress.set(before + len(&part));
                    })?;
                    progress.note(&remote.file);
                }
            }
            progress.note(&format!("checking {}", remote.file));
            progress.set(before + remote.size);
            let Some(difference) = check::difference(&part, &remote.etag, remote.size)? else {
                break;
            };
            fs::remove_file(&part).map_err(|e| files::failed("remove", &part, e))?;
            // What an earlier process left may be damaged: once more, from the beginning.
            if !std::mem::take(&mut from_before) {
                return Err(Failure::Refused(format!(
                    "{} arrived damaged: it {difference}; it was removed. Try again; if it happens again, a proxy or a mirror is changing what it passes on",
                    remote.file
                )));
            }
        }
        File::open(&part)
            .and_then(|file| file.sync_all())
            .map_err(|e| files::failed("write", &part, e))?;
        fs::rename(&part, &path).map_err(|e| files::failed("rename", &part, e))?;
        files::sync_folder(&self.folder)?;
        Ok(())
    }

    /// Asks for the rest of a file, and writes it as it comes.
    fn append(
        &self,
        client: &Client<'_>,
        remote: &Remote,
        part: &Path,
        mut tick: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let failed = |e| Failure::Local(files::failed("write", part, e));
        let had = len(part);
        let mut file = open(part).map_err(failed)?;
        if remote.size == 0 {
            return Ok(());
        }
        let reply = client.ask(Method::Get, &remote.url, had)?;
        let mut at = begins_at(&reply, remote, had)?;
        if at < had {
            file.set_len(at).map_err(failed)?;
        }
        // At a place of its own and not "at the end": should a file system's locks not work, two
        // processes write the same bytes there.
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        while let Some(chunk) = reply.next()? {
            if at + chunk.len() as u64 > remote.size {
                return Err(Failure::Refused(format!(
                    "sent more of {} than the {} bytes that it said",
                    remote.file, remote.size
                )));
            }
            file.write_all(&chunk).map_err(failed)?;
            at += chunk.len() as u64;
            tick(at);
        }
        if at < remote.size {
            return Err(Failure::passing(&format!(
                "the connection was cut at {} of {}",
                format::bytes(at),
                format::bytes(remote.size)
            )));
        }
        Ok(())
    }

    /// Sole right to fetch a file, for which another process may have to be waited for. It is the
    /// lock that `huggingface_hub` takes.
    fn lock(
        &self,
        remote: &Remote,
        progress: &mut Progress,
        before: u64,
    ) -> Result<Option<File>, Failure> {
        let path = self.locks.join(format!("{}.lock", remote.etag));
        let file = open(&path).map_err(|e| files::failed("create", &path, e))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) if interrupt::requested() => {
                    return Err(Failure::Interrupted);
                }
                Err(TryLockError::WouldBlock) => {
                    let note = format!("another process fetches {}: waiting for it", remote.file);
                    progress.note(&note);
                    progress.set(before + self.has(remote));
                    std::thread::sleep(LOOK);
                }
                // Some network file systems have no locks.
                Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {
                    return Ok(None);
                }
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e).into()),
            }
        }
    }
}

/// Where the bytes of an answer begin: at the byte that was asked for, or at 0 if the server does
/// not know ranges.
fn begins_at(reply: &Reply, remote: &Remote, asked: u64) -> Result<u64, Failure> {
    let head = &reply.head;
    let other_size = |size: u64| {
        Failure::Refused(format!(
            "{} has {size} bytes where {} were announced: try again later",
            remote.file, remote.size
        ))
    };
    if head.status == 200 {
        return match head.number("content-length") {
            Some(size) if size != remote.size => Err(other_size(size)),
            _ => Ok(0),
        };
    }
    // "bytes 100-199/200".
    let range = head
        .text("content-range")
        .and_then(|range| range.trim().strip_prefix("bytes ")?.split_once('/'));
    let Some((range, size)) = range else {
        return Err(Failure::passing("the server sent a part of a file without saying which"));
    };
    match (range.split('-').next().and_then(|first| first.parse::<u64>().ok()), size.parse::<u64>())
    {
        (_, Ok(size)) if size != remote.size => Err(other_size(size)),
        (Some(first), _) if first == asked => Ok(asked),
        _ => Err(Failure::passing(&format!(
            "the server sent bytes {range} when asked for those from {asked}"
        ))),
    }
}

/// Opens a file as it is, or a new one, for writing.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

fn len(path: &Path) -> u64 {
    path.metadata().map_or(0, |data| data.len())
}
