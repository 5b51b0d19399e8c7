//! Arrow streams of numbers in lists of one length: the small part of Apache Arrow's IPC format in
//! which Hugging Face `datasets` keeps columns of arrays.
//!
//! A stream is a row of messages, each a head (a [flatbuffer](flat)) and a body (the numbers):
//! first one with the schema, then one for each record batch. A column of arrays `[a, b]` is a list
//! of lists of numbers, whose lengths stand in the body as offsets; for an array they only repeat
//! its shape, so reading comes down to checking them once, after which the numbers lie in one
//! piece. They are left in the file until they are asked for.

mod flat;
mod read;
mod write;

pub(crate) use read::Stream;
pub(crate) use write::{Batch, end, schema};

/// A column whose every entry is an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    /// The lists that each entry is made of, outermost first.
    pub lists: Vec<List>,
    pub number: Number,
}

/// How a list says how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// By offsets of 32 bits.
    Offsets,
    /// By offsets of 64 bits.
    LargeOffsets,
    /// By its type.
    Fixed(usize),
}

/// The type of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F16,
    F32,
    I32,
    I64,
}

impl Number {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Number::F16 => 2,
            Number::F32 | Number::I32 => 4,
            Number::I64 => 8,
        }
    }
}

/// What a message begins with.
const CONTINUATION: u32 = u32::MAX;

/// Where the parts of a message begin: at multiples of this.
const ALIGNMENT: usize = 8;

/// The fields and codes of Arrow's schemas `Message.fbs` and `Schema.fbs` that are used here.
mod id {
    pub mod message {
        pub const VERSION: usize = 0;
        pub const HEADER_TYPE: usize = 1;
        pub const HEADER: usize = 2;
        pub const BODY_LENGTH: usize = 3;
        /// The only version since Arrow 1.0.
        pub const V5: i16 = 4;
        /// That of Arrow before 1.0, whose messages are the same but for unions.
        pub const V4: i16 = 3;
        pub const SCHEMA: u8 = 1;
        pub const RECORD_BATCH: u8 = 3;
    }
    pub mod schema {
        pub const ENDIANNESS: usize = 0;
        pub const FIELDS: usize = 1;
        pub const METADATA: usize = 2;
    }
    pub mod field {
        pub const NAME: usize = 0;
        pub const NULLABLE: usize = 1;
        pub const TYPE: usize = 2;
        pub const TYPE_TABLE: usize = 3;
        pub const DICTIONARY: usize = 4;
        pub const CHILDREN: usize = 5;
        pub const METADATA: usize = 6;
    }
    pub mod kind {
        pub const INT: u8 = 2;
        pub const FLOAT: u8 = 3;
        pub const LIST: u8 = 12;
        pub const FIXED_LIST: u8 = 16;
        pub const LARGE_LIST: u8 = 21;
        /// Of a table for `INT`: bits, and whether it has a sign.
        pub const BITS: usize = 0;
        pub const SIGNED: usize = 1;
        /// Of a table for `FLOAT`: 0 is half, 1 is single precision.
        pub const PRECISION: usize = 0;
        /// Of a table for `FIXED_LIST`.
        pub const LENGTH: usize = 0;
    }
    pub mod batch {
        pub const ROWS: usize = 0;
        pub const NODES: usize = 1;
        pub const BUFFERS: usize = 2;
        pub const COMPRESSION: usize = 3;
    }
    pub mod pair {
        pub const KEY: usize = 0;
        pub const VALUE: usize = 1;
    }
}
