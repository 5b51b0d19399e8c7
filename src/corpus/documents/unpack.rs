//! A file's bytes as a stream of text: gzip and Zstandard, every member and every frame of a file
//! checked by the checksums that it has, and UTF-16.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::looks::LOOKED_AT;
use super::utf16::{self, NotUtf16, Utf16};
use crate::base::error::{Error, Result};
use crate::corpus::form::Packing;
use crate::corpus::stop::{Stop, stopped};

/// Bytes that are read of a file at a time.
const BUFFER: usize = 256 << 10;

/// A file's bytes, unpacked, and UTF-8 where they are marked as UTF-16.
pub type Unpacked = BufReader<Box<dyn Read + Send>>;

/// A file that has been opened.
pub struct Opened {
    /// How it begins.
    pub head: Vec<u8>,
    /// Whether that is all of it.
    pub whole: bool,
    /// Its bytes, from the one on that was asked for.
    pub input: Unpacked,
}

/// Opens a file at its byte `from`.
///
/// # Errors
/// [`Error::Io`], [`Error::Format`] if it cannot be unpacked, [`Error::Interrupted`].
pub fn open(
    path: &Path,
    packing: Packing,
    file: File,
    from: u64,
    stop: Stop<'_>,
) -> Result<Opened> {
    /// Bytes between two looks at the stop button.
    const STEP: u64 = 16 << 20;
    let again = file.try_clone().map_err(Error::io("read", path))?;
    let packed = BufReader::with_capacity(BUFFER, file);
    let mut bytes: Box<dyn Read + Send> = match packing {
        Packing::Plain => Box::new(packed),
        Packing::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Packing::Zstd => Box::new(Frames::new(packed)),
    };
    let mut head = begins(path, &mut bytes)?;
    let marked = utf16::marked(&head);
    if let Some(big_endian) = marked {
        let all = Cursor::new(std::mem::take(&mut head)).chain(bytes);
        bytes = Box::new(BufReader::with_capacity(BUFFER, Utf16::new(all, big_endian)));
        head = begins(path, &mut bytes)?;
    }
    let whole = head.len() < LOOKED_AT;
    if packing == Packing::Plain && marked.is_none() {
        let mut file = again;
        file.seek(SeekFrom::Start(from)).map_err(Error::io("read", path))?;
        let input: Unpacked = BufReader::with_capacity(BUFFER, Box::new(file));
        return Ok(Opened { head, whole, input });
    }
    let all = Cursor::new(head.clone()).chain(bytes);
    let mut input: Unpacked = BufReader::with_capacity(BUFFER, Box::new(all));
    // Nothing but unpacking tells where a byte is.
    for at in (0..from).step_by(STEP as usize) {
        if stop() {
            return Err(stopped());
        }
        read_past(&mut input, STEP.min(from - at)).map_err(|e| failed(path, "", e))?;
    }
    Ok(Opened { head, whole, input })
}

/// The first bytes, as many as are looked at.
fn begins(path: &Path, bytes: &mut impl Read) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let read = bytes.take(LOOKED_AT as u64).read_to_end(&mut head);
    read.map(|_| head).map_err(|e| failed(path, "", e))
}

/// What to tell of a file that could not be read on: `at` is a place in it, such as "line 3: ".
pub fn failed(path: &Path, at: &str, e: io::Error) -> Error {
    if let Some(e) = e.get_ref().and_then(|e| e.downcast_ref::<NotUtf16>()) {
        return Error::format(path, format!("{at}{e}"));
    }
    match e.kind() {
        ErrorKind::UnexpectedEof => {
            let why = format!("{at}is cut short: its packed data end too early; fetch it again");
            Error::format(path, why)
        }
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other => {
            Error::format(path, format!("{at}is damaged ({e}): fetch it again"))
        }
        _ => Error::io("read", path)(e),
    }
}

fn read_past(from: &mut impl Read, n: u64) -> io::Result<()> {
    let passed = io::copy(&mut from.take(n), &mut io::sink())?;
    if passed < n { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// The frames of a Zstandard file, one after the other. A frame that asks for a window of more than
/// 128 MiB is refused, as the `zstd` command does it.
pub struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Frames<R> {
    pub fn new(source: R) -> Frames<R> {
        Frames { source, decoder: FrameDecoder::new(), in_frame: false }
    }

    /// Begins the next frame that holds something; `false` at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    read_past(&mut self.source, length.into())?;
                }
                Err(e) => return Err(cut_or_damaged(e)),
            }
        }
        Ok(false)
    }
}

/// The i/o error that a decoder's error comes from, if it is one.
fn cut_or_damaged(e: FrameDecoderError) -> io::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&e);
    while let Some(error) = cause {
        if let Some(io) =
            error.downcast_ref::<io::Error>().filter(|io| io.kind() != ErrorKind::Other)
        {
            return io::Error::new(io.kind(), io.to_string());
        }
        cause = error.source();
    }
    io::Error::new(ErrorKind::InvalidData, e)
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if !self.begin()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let more = self
                    .decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                more.map_err(cut_or_damaged)?;
            }
            let n = self.decoder.read(to)?;
            if n > 0 {
                return Ok(n);
            }
            if let Some(written) = self.decoder.get_checksum_from_data()
                && self.decoder.get_calculated_checksum() != Some(written)
            {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "a frame's checksum is not the one that was written",
                ));
            }
            self.in_frame = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "one\n" by `zstd --no-check FILE` and "two\n" by `zstd` (with a checksum), a skippable frame
    /// between them.
    fn frames() -> Vec<u8> {
        let one = [0x28, 0xB5, 0x2F, 0xFD, 0x20, 0x04, 0x21, 0x00, 0x00, b'o', b'n', b'e', b'\n'];
        let skipped = [0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let two = [
            0x28, 0xB5, 0x2F, 0xFD, 0x04, 0x58, 0x21, 0x00, 0x00, b't', b'w', b'o', b'\n', 0x0F,
            0x2D, 0x04, 0xF9,
        ];
        [&one[..], &skipped, &two].concat()
    }

    fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Frames::new(bytes).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn frames_follow_each_other_and_their_checksums_count() {
        let whole = frames();
        assert_eq!(unpack(&whole).unwrap(), b"one\ntwo\n");
        assert_eq!(unpack(&[]).unwrap(), b"");
        let mut damaged = whole.clone();
        let at = damaged.len() - 6;
        damaged[at] ^= 1;
        assert!(unpack(&damaged).unwrap_err().to_string().contains("checksum"));
        // Cut anywhere but between frames.
        for end in (1..whole.len()).filter(|end| ![13, 24].contains(end)) {
            assert_eq!(
                unpack(&whole[..end]).unwrap_err().kind(),
                ErrorKind::UnexpectedEof,
                "cut at {end}"
            );
        }
    }

    #[test]
    fn a_window_larger_than_any_is_refused_before_memory_is_taken() {
        // A window of 2 GiB: exponent 21 above 1 KiB.
        let told = unpack(&[0x28, 0xB5, 0x2F, 0xFD, 0x00, 21 << 3, 0x01, 0x00, 0x00]).unwrap_err();
        assert_eq!(told.kind(), ErrorKind::InvalidData, "{told}");
    }
}
