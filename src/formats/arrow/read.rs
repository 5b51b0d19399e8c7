//! Reading a stream: its messages are checked when it is opened, its numbers are read when they are
//! asked for.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::flat::Table;
use super::id::{batch, field, kind, message, schema};
use super::{CONTINUATION, Column, List, Number};
use crate::base::error::{Error, Result};

/// Arrow's other form, a file with an index at its end.
const FILE_MAGIC: &[u8] = b"ARROW1";

/// No head of a message is longer: those of a few columns have some hundred bytes.
const LONGEST_HEAD: u32 = 1 << 24;

/// How deep lists may be nested.
const DEEPEST: usize = 4;

/// A stream, open for reading.
pub(crate) struct Stream {
    path: PathBuf,
    file: File,
    columns: Vec<Column>,
    batches: Vec<RecordBatch>,
}

/// Where the parts of a record batch lie in the file.
struct RecordBatch {
    rows: usize,
    /// For each column and each list within it: how many entries, and how many of them are null.
    nodes: Vec<[i64; 2]>,
    buffers: Vec<Range<u64>>,
}

impl Stream {
    /// Opens the file of a stream, and reads the heads of all messages.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] if it is not such a stream, damaged, or has columns of
    /// other kinds than numbers in lists.
    pub(crate) fn open(path: &Path) -> Result<Stream> {
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let bytes = file.metadata().map_err(Error::io("read", path))?.len();
        let damaged = |why: &str| {
            Error::format(
                path,
                format!(
                    "is not a readable Arrow stream ({why}); it may have been cut short: write it again"
                ),
            )
        };
        let mut start = [0; FILE_MAGIC.len()];
        if bytes >= start.len() as u64 {
            file.read_exact(&mut start).map_err(Error::io("read", path))?;
        }
        if start == FILE_MAGIC {
            return Err(Error::format(
                path,
                "is an Arrow file, not a stream: save the data set with datasets' save_to_disk, which writes streams",
            ));
        }
        let mut columns: Option<Vec<Column>> = None;
        let mut batches = Vec::new();
        let mut at = 0u64;
        // A stream ends with a message of no length, or with the file.
        while at < bytes {
            let prefix = read(&mut file, path, at..at + 8)?;
            let [continuation, len] = [0, 4].map(|i| {
                u32::from_le_bytes([prefix[i], prefix[i + 1], prefix[i + 2], prefix[i + 3]])
            });
            if continuation != CONTINUATION {
                return Err(damaged("a message does not begin where it should"));
            }
            if len == 0 {
                break;
            }
            let body = at + 8 + u64::from(len);
            if len > LONGEST_HEAD || body > bytes {
                return Err(damaged("a message is longer than the file"));
            }
            let head = read(&mut file, path, at + 8..body)?;
            let table = Table::root(&head).ok_or_else(|| damaged("a message has no head"))?;
            if !matches!(table.i16(message::VERSION), message::V4 | message::V5) {
                return Err(damaged("a message is of an unknown version"));
            }
            let end = u64::try_from(table.i64(message::BODY_LENGTH))
                .ok()
                .and_then(|len| body.checked_add(len));
            let end = end
                .filter(|&end| end <= bytes)
                .ok_or_else(|| damaged("a message is longer than the file"))?;
            let header =
                table.table(message::HEADER).ok_or_else(|| damaged("a message has no header"))?;
            match (table.u8(message::HEADER_TYPE), &columns) {
                (message::SCHEMA, None) => columns = Some(columns_of(path, header)?),
                (message::RECORD_BATCH, Some(_)) => {
                    batches.push(RecordBatch::read(path, header, body..end)?)
                }
                _ => {
                    return Err(damaged(
                        "it has a message that is neither its schema nor a record batch",
                    ));
                }
            }
            at = end;
        }
        let columns = columns.ok_or_else(|| damaged("it has no schema"))?;
        Ok(Stream { path: path.to_owned(), file, columns, batches })
    }

    /// The columns.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Where the numbers of a column lie, for each record batch: how many entries, and their bytes
    /// in the file.
    ///
    /// # Errors
    /// [`Error::Format`] if an entry is null or no array of this shape; [`Error::Io`].
    pub(crate) fn numbers(
        &mut self,
        column: usize,
        shape: &[usize],
    ) -> Result<Vec<(usize, Range<u64>)>> {
        let (path, of) = (&self.path, &self.columns[column]);
        let wrong = |why: String| Error::format(path, format!("column \"{}\" {why}", of.name));
        if of.lists.len() != shape.len() {
            return Err(wrong(format!(
                "has lists {} deep; {} are needed for {shape:?}",
                of.lists.len(),
                shape.len()
            )));
        }
        // Parts of a batch are in the order of columns, each with its lists and then its numbers.
        let before = &self.columns[..column];
        let node = before.iter().map(|column| column.lists.len() + 1).sum::<usize>();
        let buffer = before
            .iter()
            .flat_map(|column| &column.lists)
            .map(|&list| buffers_of(list))
            .sum::<usize>()
            + 2 * before.len();
        let mut numbers = Vec::with_capacity(self.batches.len());
        for batch in &self.batches {
            let damaged =
                || wrong("does not fit into its record batch: the file is damaged".to_owned());
            let mut nodes = batch.nodes.iter().skip(node);
            let mut buffers = batch.buffers.iter().skip(buffer);
            // The entries of a list, counted in all batches from the first of the list above.
            let (mut first, mut n) = (0u64, batch.rows as u64);
            for (&list, &want) in of.lists.iter().zip(shape) {
                if nodes.next().ok_or_else(damaged)?[1] != 0 {
                    return Err(wrong("has entries that are null".to_owned()));
                }
                let _validity = buffers.next().ok_or_else(damaged)?;
                let other = |got: u64| {
                    wrong(format!("has a list of {got}; all of its arrays must be {shape:?}"))
                };
                let width = match list {
                    List::Fixed(len) if len == want => {
                        first = first.checked_mul(want as u64).ok_or_else(damaged)?;
                        n = n.checked_mul(want as u64).ok_or_else(damaged)?;
                        continue;
                    }
                    List::Fixed(len) => return Err(other(len as u64)),
                    List::Offsets => 4,
                    List::LargeOffsets => 8,
                };
                let all = buffers.next().ok_or_else(damaged)?;
                if n == 0 {
                    continue;
                }
                let part = part(all, first, n.checked_add(1).ok_or_else(damaged)?, width)
                    .ok_or_else(damaged)?;
                let bytes = read(&mut self.file, path, part)?;
                let offset = |bytes: &[u8]| match bytes.try_into() {
                    Ok(four) => i64::from(i32::from_le_bytes(four)),
                    Err(_) => bytes.try_into().map_or(-1, i64::from_le_bytes),
                };
                let offsets: Vec<i64> = bytes.chunks_exact(width as usize).map(offset).collect();
                if let Some(pair) = offsets
                    .windows(2)
                    .find(|pair| pair[1].checked_sub(pair[0]) != Some(want as i64))
                {
                    return Err(other(pair[1].saturating_sub(pair[0]).max(0) as u64));
                }
                first = u64::try_from(offsets[0]).map_err(|_| damaged())?;
                n = n.checked_mul(want as u64).ok_or_else(damaged)?;
            }
            if nodes.next().ok_or_else(damaged)?[1] != 0 {
                return Err(wrong("has numbers that are null".to_owned()));
            }
            let (_validity, all) =
                (buffers.next().ok_or_else(damaged)?, buffers.next().ok_or_else(damaged)?);
            let at = if n == 0 {
                all.start..all.start
            } else {
                part(all, first, n, of.number.bytes() as u64).ok_or_else(damaged)?
            };
            numbers.push((batch.rows, at));
        }
        Ok(numbers)
    }

    /// The bytes of a part of the file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] if the file has become shorter.
    pub(crate) fn read(&mut self, at: Range<u64>) -> Result<Vec<u8>> {
        read(&mut self.file, &self.path, at)
    }
}

/// The elements `first..first + n`, of `width` bytes each, of a buffer.
fn part(buffer: &Range<u64>, first: u64, n: u64, width: u64) -> Option<Range<u64>> {
    let start = buffer.start.checked_add(first.checked_mul(width)?)?;
    let end = start.checked_add(n.checked_mul(width)?)?;
    (end <= buffer.end).then_some(start..end)
}

/// How many buffers a list has: which entries are null, and its offsets.
fn buffers_of(list: List) -> usize {
    if matches!(list, List::Fixed(_)) { 1 } else { 2 }
}

fn read(file: &mut File, path: &Path, at: Range<u64>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; (at.end - at.start) as usize];
    let done = file.seek(SeekFrom::Start(at.start)).and_then(|_| file.read_exact(&mut bytes));
    match done {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
            Err(Error::format(path, "was cut short: write it again"))
        }
        done => done.map(|()| bytes).map_err(Error::io("read", path)),
    }
}

impl RecordBatch {
    fn read(path: &Path, table: Table<'_>, body: Range<u64>) -> Result<RecordBatch> {
        if table.has(batch::COMPRESSION) {
            return Err(Error::format(
                path,
                "is compressed, which datasets' save_to_disk does not do: save it again without",
            ));
        }
        let within = |[at, len]: [i64; 2]| {
            let start = body.start.checked_add(u64::try_from(at).ok()?)?;
            let end = start.checked_add(u64::try_from(len).ok()?)?;
            (end <= body.end).then_some(start..end)
        };
        let parts = || {
            let rows = usize::try_from(table.i64(batch::ROWS)).ok()?;
            let buffers =
                table.pairs(batch::BUFFERS)?.into_iter().map(within).collect::<Option<Vec<_>>>()?;
            Some(RecordBatch { rows, nodes: table.pairs(batch::NODES)?, buffers })
        };
        parts().ok_or_else(|| {
            Error::format(
                path,
                "has a record batch that does not fit into the file: it is damaged, write it again",
            )
        })
    }
}

/// The columns of a schema.
fn columns_of(path: &Path, table: Table<'_>) -> Result<Vec<Column>> {
    if table.i16(schema::ENDIANNESS) != 0 {
        return Err(Error::format(
            path,
            "was written by a machine of the other byte order, which is not read",
        ));
    }
    let fields = table
        .tables(schema::FIELDS)
        .ok_or_else(|| Error::format(path, "has a schema without columns"))?;
    fields.into_iter().map(|field| column_of(path, field)).collect()
}

fn column_of(path: &Path, mut table: Table<'_>) -> Result<Column> {
    let name = table.text(field::NAME).unwrap_or_default().to_owned();
    let refuse = |what: &str| {
        Err(Error::format(
            path,
            format!(
                "column \"{name}\" is {what}: remove it (remove_columns) and save the data set again"
            ),
        ))
    };
    let mut lists = Vec::new();
    loop {
        if table.has(field::DICTIONARY) {
            return refuse("encoded by a dictionary, which is not read");
        }
        let of = |id: usize| table.table(field::TYPE_TABLE).map_or(0, |of| of.i32(id));
        let list = match table.u8(field::TYPE) {
            kind::LIST => List::Offsets,
            kind::LARGE_LIST => List::LargeOffsets,
            kind::FIXED_LIST => match usize::try_from(of(kind::LENGTH)) {
                Ok(length) => List::Fixed(length),
                Err(_) => return refuse("damaged"),
            },
            of_numbers => {
                let signed = table.table(field::TYPE_TABLE).map_or(0, |of| of.u8(kind::SIGNED));
                let precision =
                    table.table(field::TYPE_TABLE).map_or(0, |of| of.i16(kind::PRECISION));
                let number = match (of_numbers, of(kind::BITS), signed, precision) {
                    (kind::FLOAT, _, _, 0) => Number::F16,
                    (kind::FLOAT, _, _, 1) => Number::F32,
                    (kind::INT, 32, 1, _) => Number::I32,
                    (kind::INT, 64, 1, _) => Number::I64,
                    _ => {
                        return refuse(
                            "neither of floating-point numbers of 16 or 32 bits nor of integers of 32 or 64",
                        );
                    }
                };
                return Ok(Column { name, lists, number });
            }
        };
        lists.push(list);
        let child = table.tables(field::CHILDREN).and_then(|children| children.first().copied());
        match child {
            Some(child) if lists.len() <= DEEPEST => table = child,
            _ => return refuse("a list of lists without end"),
        }
    }
}
