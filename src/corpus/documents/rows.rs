//! The rows of a parquet file: one string column, row group by row group.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;

use super::pages::{Codec, Pages};
use super::{LONGEST, Place, Record, Records};
use crate::base::error::{Error, Result};
use crate::corpus::few;

/// Rows that are decoded at a time: few, for each may be long.
const ABREAST: usize = 16;

/// A parquet file.
pub struct Rows {
    path: PathBuf,
    file: Arc<File>,
    metadata: ParquetMetaData,
    /// The place of the column.
    column: usize,
    /// The next row group.
    group: usize,
    /// The row group being read, with the number of rows that are left in it.
    reader: Option<(ColumnReaderImpl<ByteArrayType>, u64)>,
    /// Rows that are decoded and not given out, the next one last: texts and nulls.
    decoded: Vec<Option<ByteArray>>,
    /// The number of the next row.
    row: u64,
}

impl Rows {
    /// Reads what the file says of itself at its end, and goes to the row at `place`.
    pub fn open(path: &Path, file: File, column: &str, place: Place) -> Result<Rows> {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file);
        let metadata = metadata.map_err(|e| failed(path, "", &e))?;
        let column = column_of(&metadata, path, column)?;
        if let Some(group) = metadata
            .row_groups()
            .iter()
            .position(|group| group.num_rows() < 0 || group.num_columns() <= column)
        {
            let why = format!("is damaged: row group {group} is impossible; fetch it again");
            return Err(Error::format(path, why));
        }
        let mut rows = Rows {
            path: path.to_owned(),
            file: Arc::new(file),
            metadata,
            column,
            group: 0,
            reader: None,
            decoded: Vec::new(),
            row: place.record,
        };
        rows.skip(place.record)?;
        Ok(rows)
    }

    /// Passes over the first rows.
    fn skip(&mut self, mut rows: u64) -> Result<()> {
        let rows_of = |group: usize| self.metadata.row_group(group).num_rows() as u64;
        while self.group < self.metadata.num_row_groups() && rows_of(self.group) <= rows {
            rows -= rows_of(self.group);
            self.group += 1;
        }
        if rows > 0 && self.group < self.metadata.num_row_groups() {
            self.open_group()?;
            if let Some((reader, left)) = &mut self.reader {
                let skipped = reader.skip_records(usize::try_from(rows).unwrap_or(usize::MAX));
                *left -= skipped
                    .map_err(|e| failed(&self.path, &format!("row {}: ", self.row + 1), &e))?
                    as u64;
            }
        }
        Ok(())
    }

    /// Opens the next row group.
    fn open_group(&mut self) -> Result<()> {
        let (index, group) = (self.group, self.metadata.row_group(self.group));
        let reader = reader(&self.path, &self.file, group, self.column, index)?;
        self.group += 1;
        self.reader = Some((reader, group.num_rows() as u64));
        Ok(())
    }

    /// Decodes some rows; `false` at the end of the file.
    fn decode(&mut self) -> Result<bool> {
        loop {
            let Some((reader, left)) = self.reader.as_mut().filter(|(_, left)| *left > 0) else {
                if self.group == self.metadata.num_row_groups() {
                    return Ok(false);
                }
                self.open_group()?;
                continue;
            };
            let nullable =
                self.metadata.file_metadata().schema_descr().column(self.column).max_def_level();
            let (mut levels, mut texts) = (Vec::new(), Vec::new());
            let wanted = ABREAST.min(usize::try_from(*left).unwrap_or(ABREAST));
            let read = reader.read_records(wanted, Some(&mut levels), None, &mut texts);
            let (rows, ..) =
                read.map_err(|e| failed(&self.path, &format!("row {}: ", self.row + 1), &e))?;
            if rows == 0 {
                let why = format!(
                    "is damaged: row group {} ends {left} rows too early; fetch it again",
                    self.group - 1
                );
                return Err(Error::format(&self.path, why));
            }
            *left -= rows as u64;
            let mut texts = texts.into_iter();
            self.decoded = match nullable {
                0 => texts.map(Some).collect(),
                _ => levels
                    .iter()
                    .map(|&level| if level == nullable { texts.next() } else { None })
                    .collect(),
            };
            self.decoded.reverse();
            return Ok(true);
        }
    }

    fn text(&self, text: &ByteArray) -> Result<String> {
        let wrong = |why: String| Error::format(&self.path, format!("row {} {why}", self.row + 1));
        if text.len() > LONGEST {
            return Err(wrong(format!(
                "is {} long, and the longest that can be read is {} MiB",
                crate::base::format::bytes(text.len() as u64),
                LONGEST >> 20
            )));
        }
        let text = std::str::from_utf8(text.data())
            .map_err(|e| wrong(format!("is not UTF-8 text ({e}): is it the right column?")))?;
        Ok(text.to_owned())
    }
}

impl Records for Rows {
    fn unit(&self) -> &'static str {
        "row"
    }

    fn next(&mut self) -> Result<Option<Record>> {
        loop {
            let Some(row) = self.decoded.pop() else {
                if self.decode()? {
                    continue;
                }
                return Ok(None);
            };
            let text = row.map(|row| self.text(&row)).transpose()?;
            let place = Place { record: self.row, byte: 0 };
            self.row += 1;
            if let Some(text) = text {
                return Ok(Some(Record { text, place }));
            }
        }
    }
}

/// Reads the column of one row group.
fn reader(
    path: &Path,
    file: &Arc<File>,
    group: &RowGroupMetaData,
    column: usize,
    index: usize,
) -> Result<ColumnReaderImpl<ByteArrayType>> {
    let damaged = || {
        let what = format!("the column of row group {index} lies outside it");
        Error::format(path, format!("is damaged: {what}; fetch it again"))
    };
    let chunk = group.column(column);
    let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
    let end = start.checked_add(chunk.compressed_size()).ok_or_else(damaged)?;
    let size = file.metadata().map_err(Error::io("read", path))?.len();
    if start < 0 || chunk.compressed_size() < 0 || end as u64 > size {
        return Err(damaged());
    }
    let codec = Codec::of(chunk.compression()).map_err(|codec| {
        let why = format!("is packed by {codec}, and only snappy, gzip, zstd and none can be read: rewrite it with one of these");
        Error::format(path, why)
    })?;
    let chunk_as_it_lies =
        chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build();
    let in_group = |e: ParquetError| failed(path, &format!("row group {index}: "), &e);
    let chunk_as_it_lies = chunk_as_it_lies.map_err(in_group)?;
    let packed =
        SerializedPageReader::new(file.clone(), &chunk_as_it_lies, group.num_rows() as usize, None)
            .map_err(in_group)?;
    match get_column_reader(chunk.column_descr_ptr(), Box::new(Pages { packed, codec })) {
        ColumnReader::ByteArrayColumnReader(reader) => Ok(reader),
        _ => Err(damaged()),
    }
}

/// The place of the string column of that name; one within a struct has a name with a point in it.
fn column_of(metadata: &ParquetMetaData, path: &Path, name: &str) -> Result<usize> {
    let columns = metadata.file_metadata().schema_descr().columns();
    let has = match columns.iter().position(|column| column.path().string() == name) {
        Some(at) if kind(&columns[at]) == TEXT => return Ok(at),
        Some(at) => format!("has {} in its column \"{name}\", not text", kind(&columns[at])),
        None => format!("has no column \"{name}\""),
    };
    let named =
        columns.iter().map(|column| format!("{} ({})", column.path().string(), kind(column)));
    let why = format!(
        "{has}; its columns are {}: choose a string column with column(\"…\")",
        few(named, 20)
    );
    Err(Error::format(path, why))
}

const TEXT: &str = "strings";

/// What a column holds, for people.
fn kind(column: &ColumnDescriptor) -> &'static str {
    let string = match column.logical_type_ref() {
        Some(LogicalType::String) => true,
        None => matches!(column.converted_type(), ConvertedType::UTF8 | ConvertedType::NONE),
        Some(_) => false,
    };
    match column.physical_type() {
        _ if column.max_rep_level() > 0 => "lists",
        Type::BYTE_ARRAY if string => TEXT,
        Type::BOOLEAN => "booleans",
        Type::INT32 | Type::INT64 | Type::INT96 | Type::FLOAT | Type::DOUBLE => "numbers",
        _ => "other bytes",
    }
}

fn failed(path: &Path, at: &str, e: &ParquetError) -> Error {
    Error::format(path, format!("{at}is not a valid parquet file ({e}): fetch it again"))
}
