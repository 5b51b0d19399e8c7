//! [Flatbuffers](https://flatbuffers.dev/internals/), as far as Arrow's messages need them: tables,
//! whose fields are numbers, texts, tables, and vectors of tables or of pairs of i64.
//!
//! A table begins with how far before it its vtable stands, which has for each field the place in
//! the table, or 0 if the field is not there. What does not fit in a table's own field stands after
//! the table, as far on as the field says.

/// A value to be written.
pub enum Value {
    U8(u8),
    I16(i16),
    I32(i32),
    I64(i64),
    Text(String),
    Table(Fields),
    Tables(Vec<Fields>),
    /// A vector of structs of two i64.
    Pairs(Vec<[i64; 2]>),
}

/// The fields of a table to be written, by their ids.
pub type Fields = Vec<(usize, Value)>;

impl Value {
    /// Bytes within the table, and what their place is a multiple of.
    fn size(&self) -> usize {
        match self {
            Value::U8(_) => 1,
            Value::I16(_) => 2,
            Value::I64(_) => 8,
            _ => 4,
        }
    }
}

/// A flatbuffer with this table at its root.
pub fn write(root: &Fields) -> Vec<u8> {
    let mut out = vec![0; 4];
    let at = write_table(&mut out, root);
    put(&mut out, 0, &(at as u32).to_le_bytes());
    out
}

/// Appends a table and all below it, and returns where it begins.
fn write_table(out: &mut Vec<u8>, fields: &Fields) -> usize {
    // The widest first, so that every field is aligned if the table is.
    let mut order: Vec<&(usize, Value)> = fields.iter().collect();
    order.sort_by_key(|(_, value)| std::cmp::Reverse(value.size()));
    let n = fields.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
    let mut end = 4;
    let mut places = vec![0u16; n];
    for (id, value) in &order {
        end = usize::next_multiple_of(end, value.size());
        places[*id] = end as u16;
        end += value.size();
    }
    pad(out, 2);
    let vtable = out.len();
    for number in [(4 + 2 * n) as u16, end as u16].into_iter().chain(places.iter().copied()) {
        out.extend(number.to_le_bytes());
    }
    pad(out, 8);
    let table = out.len();
    out.resize(table + end, 0);
    put(out, table, &((table - vtable) as i32).to_le_bytes());
    for (id, value) in fields {
        let at = table + usize::from(places[*id]);
        match value {
            Value::U8(number) => put(out, at, &number.to_le_bytes()),
            Value::I16(number) => put(out, at, &number.to_le_bytes()),
            Value::I32(number) => put(out, at, &number.to_le_bytes()),
            Value::I64(number) => put(out, at, &number.to_le_bytes()),
            Value::Text(text) => {
                pad(out, 4);
                refer(out, at);
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.as_bytes());
                out.push(0);
            }
            Value::Table(fields) => {
                let child = write_table(out, fields);
                put(out, at, &((child - at) as u32).to_le_bytes());
            }
            Value::Tables(tables) => {
                pad(out, 4);
                refer(out, at);
                out.extend((tables.len() as u32).to_le_bytes());
                let first = out.len();
                out.resize(first + 4 * tables.len(), 0);
                for (i, fields) in tables.iter().enumerate() {
                    let child = write_table(out, fields);
                    let at = first + 4 * i;
                    put(out, at, &((child - at) as u32).to_le_bytes());
                }
            }
            Value::Pairs(pairs) => {
                // What is aligned are the numbers, after the vector's length.
                pad(out, 8);
                out.extend([0; 4]);
                refer(out, at);
                out.extend((pairs.len() as u32).to_le_bytes());
                out.extend(pairs.iter().flatten().flat_map(|number| number.to_le_bytes()));
            }
        }
    }
    table
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Points the field at `at` to what is appended next.
fn refer(out: &mut [u8], at: usize) {
    let offset = (out.len() - at) as u32;
    put(out, at, &offset.to_le_bytes());
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

/// A table that is read. Whatever its bytes are, reading a field gives a value or `None`.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Table<'a> {
    /// The table at the root of a flatbuffer.
    pub fn root(bytes: &'a [u8]) -> Option<Table<'a>> {
        Some(Table { bytes, at: u32::from_le_bytes(get(bytes, 0)?) as usize })
    }

    /// Where a field stands, if it is there.
    fn field(&self, id: usize) -> Option<usize> {
        let back = i32::from_le_bytes(get(self.bytes, self.at)?) as i64;
        let vtable = usize::try_from(self.at as i64 - back).ok()?;
        let size = usize::from(u16::from_le_bytes(get(self.bytes, vtable)?));
        let place = 4 + 2 * id;
        if place + 2 > size {
            return None;
        }
        match u16::from_le_bytes(get(self.bytes, vtable.checked_add(place)?)?) {
            0 => None,
            place => self.at.checked_add(usize::from(place)),
        }
    }

    fn number<const N: usize>(&self, id: usize) -> Option<[u8; N]> {
        get(self.bytes, self.field(id)?)
    }

    // A field that is not there has its default, which is 0 in all of Arrow's that are read here.
    pub fn u8(&self, id: usize) -> u8 {
        self.number(id).map_or(0, u8::from_le_bytes)
    }

    pub fn i16(&self, id: usize) -> i16 {
        self.number(id).map_or(0, i16::from_le_bytes)
    }

    pub fn i32(&self, id: usize) -> i32 {
        self.number(id).map_or(0, i32::from_le_bytes)
    }

    pub fn i64(&self, id: usize) -> i64 {
        self.number(id).map_or(0, i64::from_le_bytes)
    }

    /// Whether a field is there.
    pub fn has(&self, id: usize) -> bool {
        self.field(id).is_some()
    }

    /// Where the thing stands that a field points to.
    fn target(&self, id: usize) -> Option<usize> {
        follow(self.bytes, self.field(id)?)
    }

    pub fn table(&self, id: usize) -> Option<Table<'a>> {
        Some(Table { bytes: self.bytes, at: self.target(id)? })
    }

    pub fn text(&self, id: usize) -> Option<&'a str> {
        std::str::from_utf8(self.vector(id, 1)?).ok()
    }

    pub fn tables(&self, id: usize) -> Option<Vec<Table<'a>>> {
        let start = self.target(id)?.checked_add(4)?;
        let n = self.vector(id, 4)?.len() / 4;
        (0..n)
            .map(|i| Some(Table { bytes: self.bytes, at: follow(self.bytes, start + 4 * i)? }))
            .collect()
    }

    pub fn pairs(&self, id: usize) -> Option<Vec<[i64; 2]>> {
        let number = |bytes: &[u8]| bytes.try_into().map(i64::from_le_bytes).ok();
        self.vector(id, 16)?
            .chunks_exact(16)
            .map(|pair| Some([number(&pair[..8])?, number(&pair[8..])?]))
            .collect()
    }

    /// The bytes of a vector of elements of `size` bytes.
    fn vector(&self, id: usize, size: usize) -> Option<&'a [u8]> {
        let at = self.target(id)?;
        let n = u32::from_le_bytes(get(self.bytes, at)?) as usize;
        let start = at.checked_add(4)?;
        self.bytes.get(start..start.checked_add(n.checked_mul(size)?)?)
    }
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn follow(bytes: &[u8], at: usize) -> Option<usize> {
    at.checked_add(u32::from_le_bytes(get(bytes, at)?) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let child =
            |n: i32, name: &str| vec![(0, Value::I32(n)), (3, Value::Text(name.to_owned()))];
        write(&vec![
            (0, Value::U8(7)),
            (1, Value::I64(-5)),
            (2, Value::I16(-3)),
            (4, Value::Table(child(1, "one"))),
            (5, Value::Tables(vec![child(2, "two"), child(3, "")])),
            (6, Value::Pairs(vec![[1, 2], [-3, 4]])),
        ])
    }

    /// All fields, in their order.
    fn all_of(root: Table<'_>) -> String {
        let child = |table: Table<'_>| (table.i32(0), table.text(3).map(str::to_owned));
        let tables = root.tables(5).map(|tables| tables.into_iter().map(child).collect::<Vec<_>>());
        let numbers = (root.u8(0), root.i64(1), root.i16(2), root.has(3));
        format!("{numbers:?} {:?} {tables:?} {:?}", root.table(4).map(child), root.pairs(6))
    }

    #[test]
    fn what_is_written_is_read() {
        let want = r#"(7, -5, -3, false) Some((1, Some("one"))) Some([(2, Some("two")), (3, Some(""))]) Some([[1, 2], [-3, 4]])"#;
        assert_eq!(all_of(Table::root(&sample()).unwrap()), want);
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_reading_ends(at in 0usize..400, flip in 1u8.., cut in 0usize..400) {
            let mut bytes = sample();
            let len = bytes.len();
            bytes[at % len] ^= flip;
            bytes.truncate(len - cut % len);
            let _ = Table::root(&bytes).map(all_of);
        }
    }
}
