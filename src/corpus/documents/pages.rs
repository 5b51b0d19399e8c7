//! A column's pages, unpacked within limits.
//!
//! The parquet crate is built without its codecs and told that nothing is packed; it then hands a
//! page's bytes on as they lie in the file, and they are unpacked here. So there is one gzip and
//! one Zstandard in the program, and what a page says of its own size is not believed: memory is
//! taken as bytes come.

use std::io::Read;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};

use super::unpack::Frames;

/// The most that a page may unpack to, in bytes. Writers make pages of about a megabyte, or of
/// their longest row.
const LARGEST: usize = 256 << 20;

/// What packs a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Snappy,
    Gzip,
    Zstd,
}

impl Codec {
    /// The codec of a column chunk.
    ///
    /// # Errors
    /// Its name, if it is one that is not read.
    pub fn of(compression: Compression) -> std::result::Result<Codec, String> {
        match compression {
            Compression::UNCOMPRESSED => Ok(Codec::None),
            Compression::SNAPPY => Ok(Codec::Snappy),
            Compression::GZIP(_) => Ok(Codec::Gzip),
            Compression::ZSTD(_) => Ok(Codec::Zstd),
            other => Err(other.to_string()),
        }
    }

    /// What `packed` unpacks to, after the first `plain` bytes, which are not packed.
    fn unpack(self, packed: &Bytes, plain: usize) -> Result<Bytes> {
        if self == Codec::None || packed.len() == plain {
            return Ok(packed.clone());
        }
        let damaged = |why: &dyn std::fmt::Display| {
            ParquetError::General(format!("a page cannot be unpacked: {why}"))
        };
        let (before, packed) = packed
            .split_at_checked(plain)
            .ok_or_else(|| damaged(&"it is shorter than its levels"))?;
        let mut out = before.to_vec();
        let stream = |stream: &mut dyn Read, out: &mut Vec<u8>| match stream
            .take(LARGEST as u64 + 1)
            .read_to_end(out)
        {
            Ok(n) if n > LARGEST => {
                Err(damaged(&format!("it is larger than {} MiB", LARGEST >> 20)))
            }
            read => read.map(|_| ()).map_err(|e| damaged(&e)),
        };
        match self {
            Codec::None => {}
            Codec::Gzip => stream(&mut flate2::bufread::MultiGzDecoder::new(packed), &mut out)?,
            Codec::Zstd => stream(&mut Frames::new(packed), &mut out)?,
            Codec::Snappy => {
                /// Three bytes copy at most 64.
                const BEST: usize = 22;
                let size = snap::raw::decompress_len(packed).map_err(|e| damaged(&e))?;
                if size > LARGEST || size > BEST * packed.len() {
                    return Err(damaged(&format!(
                        "{} bytes claim to unpack to {size}",
                        packed.len()
                    )));
                }
                let start = out.len();
                out.resize(start + size, 0);
                snap::raw::Decoder::new()
                    .decompress(packed, &mut out[start..])
                    .map_err(|e| damaged(&e))?;
            }
        }
        Ok(out.into())
    }
}

/// Pages as they lie in the file, unpacked.
pub struct Pages<P> {
    pub packed: P,
    pub codec: Codec,
}

impl<P: PageReader> PageReader for Pages<P> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(mut page) = self.packed.get_next_page()? else { return Ok(None) };
        match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => {
                *buf = self.codec.unpack(buf, 0)?
            }
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                ..
            } => {
                // They lie before the values, and are not packed.
                let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
                if *is_compressed {
                    *buf = self.codec.unpack(buf, levels)?;
                }
            }
        }
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.packed.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.packed.skip_next_page()
    }
}

impl<P: PageReader> Iterator for Pages<P> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Result<Page>> {
        self.get_next_page().transpose()
    }
}
