//! Writing a stream: its schema, then batches, whose numbers whoever writes them puts in the places
//! that are said.

use std::ops::Range;

use super::flat::{self, Fields, Value};
use super::id::{batch, field, kind, message, pair, schema as schema_id};
use super::{ALIGNMENT, CONTINUATION, Column, List, Number};

/// Keys and values beside a schema or a column.
pub(crate) type Metadata = Vec<(&'static str, String)>;

/// The message of the schema, with which a stream begins.
pub(crate) fn schema(columns: &[(Column, Metadata)], metadata: &Metadata) -> Vec<u8> {
    let field = |(column, metadata): &(Column, Metadata)| {
        let mut field = field_of(&column.name, &column.lists, column.number);
        if !metadata.is_empty() {
            field.push((field::METADATA, pairs(metadata)));
        }
        field
    };
    let fields = columns.iter().map(field).collect();
    encapsulated(
        message::SCHEMA,
        vec![(schema_id::FIELDS, Value::Tables(fields)), (schema_id::METADATA, pairs(metadata))],
        0,
    )
}

/// One record batch as it lies in the file.
pub(crate) struct Batch {
    /// The head of its message.
    pub head: Vec<u8>,
    /// The offsets of its lists, and where they lie, counted from the end of the head.
    pub offsets: Vec<(u64, Vec<u8>)>,
    /// Where the numbers of each column lie, counted from the end of the head.
    pub numbers: Vec<Range<u64>>,
    /// Bytes after the head.
    pub body: u64,
}

impl Batch {
    /// The batch of `rows` entries of columns whose arrays have these shapes.
    ///
    /// `None` if there are more lists than offsets of 32 bits can count.
    pub(crate) fn new(columns: &[Column], shapes: &[&[usize]], rows: usize) -> Option<Batch> {
        let (mut nodes, mut buffers) = (Vec::new(), Vec::new());
        let mut batch =
            Batch { head: Vec::new(), offsets: Vec::new(), numbers: Vec::new(), body: 0 };
        let mut place = |bytes: u64, end: &mut u64| {
            let at = *end;
            buffers.push([at as i64, bytes as i64]);
            *end = (at + bytes).next_multiple_of(ALIGNMENT as u64);
            at
        };
        for (column, shape) in columns.iter().zip(shapes) {
            let mut n = rows;
            for (&list, &len) in column.lists.iter().zip(*shape) {
                nodes.push([n as i64, 0]);
                place(0, &mut batch.body); // nothing is null
                let all = n.checked_mul(len)?;
                let offsets: Option<Vec<u8>> = match list {
                    List::Fixed(_) => None,
                    List::Offsets if all > i32::MAX as usize => return None,
                    List::Offsets => {
                        Some((0..=n).flat_map(|i| ((i * len) as i32).to_le_bytes()).collect())
                    }
                    List::LargeOffsets => {
                        Some((0..=n).flat_map(|i| ((i * len) as i64).to_le_bytes()).collect())
                    }
                };
                if let Some(offsets) = offsets {
                    batch.offsets.push((place(offsets.len() as u64, &mut batch.body), offsets));
                }
                n = all;
            }
            nodes.push([n as i64, 0]);
            place(0, &mut batch.body);
            let bytes = n.checked_mul(column.number.bytes())? as u64;
            let at = place(bytes, &mut batch.body);
            batch.numbers.push(at..at + bytes);
        }
        let header = vec![
            (batch::ROWS, Value::I64(rows as i64)),
            (batch::NODES, Value::Pairs(nodes)),
            (batch::BUFFERS, Value::Pairs(buffers)),
        ];
        batch.head = encapsulated(message::RECORD_BATCH, header, batch.body);
        Some(batch)
    }
}

/// What ends a stream.
pub(crate) fn end() -> [u8; 8] {
    let mut end = [0; 8];
    end[..4].copy_from_slice(&CONTINUATION.to_le_bytes());
    end
}

/// A message's head, ready for its body.
fn encapsulated(header_type: u8, header: Fields, body: u64) -> Vec<u8> {
    let mut head = flat::write(&vec![
        (message::VERSION, Value::I16(message::V5)),
        (message::HEADER_TYPE, Value::U8(header_type)),
        (message::HEADER, Value::Table(header)),
        (message::BODY_LENGTH, Value::I64(body as i64)),
    ]);
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    let mut out = CONTINUATION.to_le_bytes().to_vec();
    out.extend((head.len() as u32).to_le_bytes());
    out.append(&mut head);
    out
}

fn pairs(pairs: &Metadata) -> Value {
    let text = |text: &str| Value::Text(text.to_owned());
    Value::Tables(
        pairs
            .iter()
            .map(|(key, value)| vec![(pair::KEY, text(key)), (pair::VALUE, text(value))])
            .collect(),
    )
}

/// A column, or what is in its outermost list.
fn field_of(name: &str, lists: &[List], number: Number) -> Fields {
    let int =
        |bits| (kind::INT, vec![(kind::BITS, Value::I32(bits)), (kind::SIGNED, Value::U8(1))]);
    let float = |precision| (kind::FLOAT, vec![(kind::PRECISION, Value::I16(precision))]);
    let (kind, of) = match (lists.first(), number) {
        (Some(List::Offsets), _) => (kind::LIST, Vec::new()),
        (Some(List::LargeOffsets), _) => (kind::LARGE_LIST, Vec::new()),
        (Some(List::Fixed(len)), _) => {
            (kind::FIXED_LIST, vec![(kind::LENGTH, Value::I32(*len as i32))])
        }
        (None, Number::F16) => float(0),
        (None, Number::F32) => float(1),
        (None, Number::I32) => int(32),
        (None, Number::I64) => int(64),
    };
    let children =
        if lists.is_empty() { Vec::new() } else { vec![field_of("item", &lists[1..], number)] };
    vec![
        (field::NAME, Value::Text(name.to_owned())),
        (field::NULLABLE, Value::U8(1)),
        (field::TYPE, Value::U8(kind)),
        (field::TYPE_TABLE, Value::Table(of)),
        (field::CHILDREN, Value::Tables(children)),
    ]
}
