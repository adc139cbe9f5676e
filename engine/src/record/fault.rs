//! What can be wrong with a record set: facts, with the record or the position that they are about.

use thiserror::Error;

/// What is wrong with the bytes, apart from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Broken {
    /// Something other than field 1 stands where a record should begin.
    #[error("not a record set")]
    NotARecordSet,
    /// A length reaches behind the end.
    #[error("cut short")]
    Truncated,
    /// A number of more than 64 bits, or without an end.
    #[error("bad varint")]
    BadVarint,
    /// Field number 0, or one of more than 29 bits.
    #[error("bad field number")]
    BadFieldNumber,
    /// A deprecated group, an unknown wire type, or a known field with the wire type of another.
    #[error("bad wire type")]
    BadWireType,
    /// A text field that is not UTF-8.
    #[error("not utf-8 field={0}")]
    BadUtf8(&'static str),
}

/// Bytes that are not a `RecordSet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed record set cause={cause} at={at}")]
pub struct Malformed {
    /// Position in the set near which it shows.
    pub at: usize,
    /// What shows.
    pub cause: Broken,
}

/// A record that breaks a rule; `index` counts in the set, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordFault {
    /// Not protobuf, or not this message.
    #[error("malformed record set cause={cause} at={at}")]
    BadEncoding {
        /// Position in the set.
        at: usize,
        /// What is wrong there.
        cause: Broken,
    },
    /// A text field that is not UTF-8.
    #[error("text is not utf-8 index={index} field={field}")]
    BadUtf8 {
        /// Which record.
        index: u32,
        /// Which field; `headers.name` for a header's.
        field: &'static str,
    },
    /// A record beyond its topic's limit.
    #[error("record too large index={index} limit={limit} actual={actual}")]
    RecordTooLarge {
        /// Which record.
        index: u32,
        /// Bytes allowed.
        limit: usize,
        /// Bytes it has.
        actual: usize,
    },
    /// A key that is too long.
    #[error("key too large index={index} limit={limit} actual={actual}")]
    KeyTooLarge {
        /// Which record.
        index: u32,
        /// Bytes allowed.
        limit: usize,
        /// Bytes it has.
        actual: usize,
    },
    /// More headers than allowed.
    #[error("too many headers index={index} limit={limit} actual={actual}")]
    TooManyHeaders {
        /// Which record.
        index: u32,
        /// Headers allowed.
        limit: usize,
        /// Headers it has.
        actual: usize,
    },
    /// Headers whose names and values are too long together.
    #[error("headers too large index={index} limit={limit} actual={actual}")]
    HeadersTooLarge {
        /// Which record.
        index: u32,
        /// Bytes allowed.
        limit: usize,
        /// Bytes they have.
        actual: usize,
    },
    /// A tombstone deletes a key, so it needs one.
    #[error("tombstone without a key index={index}")]
    TombstoneWithoutKey {
        /// Which record.
        index: u32,
    },
    /// A tombstone has no value.
    #[error("tombstone with a value index={index}")]
    TombstoneWithValue {
        /// Which record.
        index: u32,
    },
    /// More records than allowed.
    #[error("too many records limit={limit} actual={actual}")]
    TooManyRecords {
        /// Records allowed.
        limit: u32,
        /// Records there are.
        actual: u32,
    },
}

impl From<Malformed> for RecordFault {
    fn from(fault: Malformed) -> Self {
        Self::BadEncoding { at: fault.at, cause: fault.cause }
    }
}
