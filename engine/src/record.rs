//! A `RecordSet` and its records, walked by tag and length: no generated code, no allocation, nothing copied.
//!
//! Comes in: the bytes of `RecordSet { repeated Record records = 1 }`, from anybody. Goes out: views into them, or
//! what is wrong and where. What must stay true: whatever passes [`validate`] is decoded by every protobuf library,
//! and a set cut between records, or joined with another, is a set again. So the set itself may hold nothing but
//! records, while a record may hold fields that this version does not know: those pass through.

use std::ops::Range;

use crate::limits;

mod fault;
mod route;

pub use fault::{Broken, Malformed, RecordFault};
pub use route::{Routed, route};

/// Tag of `records`: field 1, length-delimited.
const RECORDS_TAG: u8 = 0x0a;

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const FIXED32: u8 = 5;

/// The text fields of a record; the order is that of their numbers, from 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// CloudEvents id.
    Id,
    /// CloudEvents type.
    Type,
    /// CloudEvents source.
    Source,
    /// Media type of the value.
    ContentType,
    /// What this belongs to.
    CorrelationId,
    /// What this follows from.
    CausationId,
    /// W3C trace context.
    Traceparent,
}

const TEXTS: usize = 7;
const TEXT_FIRST: u32 = 6;
const TEXT_NAMES: [&str; TEXTS] =
    ["id", "type", "source", "content_type", "correlation_id", "causation_id", "traceparent"];

/// What a record set may hold at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// A record as an encoded `Record` message, in bytes. Topics differ in this one.
    pub record_bytes: u32,
    /// A key, in bytes.
    pub key_bytes: usize,
    /// Headers of one record.
    pub headers: usize,
    /// Names and values of one record's headers together, in bytes.
    pub header_bytes: usize,
    /// Records in the set.
    pub records: u32,
}

impl RecordLimits {
    /// The limits of a topic with this record limit, in bytes.
    pub const fn of_topic(record_bytes: u32) -> Self {
        Self {
            record_bytes,
            key_bytes: limits::KEY_BYTES_MAX,
            headers: limits::HEADERS_MAX,
            header_bytes: limits::HEADER_BYTES_MAX,
            records: limits::APPEND_RECORDS_MAX as u32,
        }
    }
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self::of_topic(limits::RECORD_BYTES_DEFAULT)
    }
}

/// What [`validate`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Records in the set.
    pub records: u32,
}

/// One record, as slices of the set that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The encoded `Record` message, without tag and length.
    pub raw: &'a [u8],
    /// None is keyless; an empty key is a key.
    pub key: Option<&'a [u8]>,
    /// Empty is data, unless `tombstone` is set.
    pub value: &'a [u8],
    /// Deletes the key under compaction.
    pub tombstone: bool,
    /// How many headers.
    pub header_count: usize,
    /// Bytes of their names and values together.
    pub header_bytes: usize,
    /// The producer's claim, in microseconds.
    pub event_time_us: Option<i64>,
    texts: [&'a str; TEXTS],
}

impl<'a> RecordView<'a> {
    /// Reads one encoded `Record`.
    ///
    /// # Errors
    ///
    /// [`Malformed`], with the position in `raw`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let mut view = Self {
            raw,
            key: None,
            value: &[],
            tombstone: false,
            header_count: 0,
            header_bytes: 0,
            event_time_us: None,
            texts: [""; TEXTS],
        };
        let mut walk = Walk { bytes: raw, at: 0 };
        while let Some((number, wire)) = walk.tag()? {
            match (number, wire) {
                (1, LEN) => view.key = Some(walk.delimited()?),
                (2, LEN) => view.value = walk.delimited()?,
                (3, VARINT) => view.tombstone = walk.varint()? != 0,
                (4, LEN) => {
                    let (name, value) = header(walk.delimited()?).map_err(|cause| walk.broken(cause))?;
                    view.header_count += 1;
                    view.header_bytes += name.len() + value.len();
                }
                (5, VARINT) => view.event_time_us = Some(walk.varint()?.cast_signed()),
                (6..=12, LEN) => {
                    let field = (number - TEXT_FIRST) as usize;
                    let text = walk.delimited()?;
                    view.texts[field] =
                        str::from_utf8(text).map_err(|_| walk.broken(Broken::BadUtf8(TEXT_NAMES[field])))?;
                }
                (1..=12, _) => return Err(walk.broken(Broken::BadWireType)),
                _ => walk.skip(wire)?,
            }
        }
        Ok(view)
    }

    /// A text field; empty when it is not set.
    pub fn text(&self, field: Text) -> &'a str {
        self.texts[field as usize]
    }

    /// The headers in their order, with repeats, as (name, value).
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let mut walk = Walk { bytes: self.raw, at: 0 };
        // Every step was taken once already in `parse`, so none fails.
        std::iter::from_fn(move || {
            while let Some((number, wire)) = walk.tag().ok()? {
                if (number, wire) == (4, LEN) {
                    return header(walk.delimited().ok()?).ok();
                }
                walk.skip(wire).ok()?;
            }
            None
        })
    }
}

/// Reads a `Header` message.
fn header(raw: &[u8]) -> Result<(&str, &[u8]), Broken> {
    let (mut name, mut value) = ("", &[][..]);
    let mut walk = Walk { bytes: raw, at: 0 };
    let cause = |fault: Malformed| fault.cause;
    while let Some((number, wire)) = walk.tag().map_err(cause)? {
        match (number, wire) {
            (1, LEN) => {
                let text = walk.delimited().map_err(cause)?;
                name = str::from_utf8(text).map_err(|_| Broken::BadUtf8("headers.name"))?;
            }
            (2, LEN) => value = walk.delimited().map_err(cause)?,
            (1 | 2, _) => return Err(Broken::BadWireType),
            _ => walk.skip(wire).map_err(cause)?,
        }
    }
    Ok((name, value))
}

/// A place in protobuf bytes.
#[derive(Clone, Copy, Debug)]
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    const fn broken(&self, cause: Broken) -> Malformed {
        Malformed { at: self.at, cause }
    }

    /// Most numbers are short: one byte is the fast road.
    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (place, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (place * 7);
            if *byte < 0x80 {
                // The tenth byte has room for one bit.
                if place == 9 && *byte > 1 {
                    return Err(self.broken(Broken::BadVarint));
                }
                self.at += place + 1;
                return Ok(value);
            }
        }
        let cause = if self.bytes.len() - self.at < 10 { Broken::Truncated } else { Broken::BadVarint };
        Err(self.broken(cause))
    }

    /// The next field's number and wire type; none at the end.
    #[inline]
    fn tag(&mut self) -> Result<Option<(u32, u8)>, Malformed> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number >= 1 << 29 {
            return Err(self.broken(Broken::BadFieldNumber));
        }
        Ok(Some((number as u32, (tag & 7) as u8)))
    }

    fn fixed(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        if self.bytes.len() - self.at < count {
            return Err(self.broken(Broken::Truncated));
        }
        let start = self.at;
        self.at += count;
        Ok(&self.bytes[start..self.at])
    }

    #[inline]
    fn delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let count = usize::try_from(self.varint()?).map_err(|_| self.broken(Broken::Truncated))?;
        self.fixed(count)
    }

    fn skip(&mut self, wire: u8) -> Result<(), Malformed> {
        match wire {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed(8).map(drop),
            LEN => self.delimited().map(drop),
            FIXED32 => self.fixed(4).map(drop),
            _ => Err(self.broken(Broken::BadWireType)),
        }
    }

    /// The next record of a set: where its message stands.
    #[inline]
    fn record(&mut self) -> Result<Option<Range<usize>>, Malformed> {
        match self.bytes.get(self.at) {
            None => Ok(None),
            Some(&RECORDS_TAG) => {
                self.at += 1;
                let message = self.delimited()?;
                Ok(Some(self.at - message.len()..self.at))
            }
            Some(_) => Err(self.broken(Broken::NotARecordSet)),
        }
    }
}

/// The bytes of a `RecordSet`, to be walked.
#[derive(Clone, Copy, Debug)]
pub struct RecordSet<'a> {
    bytes: &'a [u8],
}

impl<'a> RecordSet<'a> {
    /// Over any bytes; what is wrong with them shows in the walk.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The records in order, each with the range that it takes in the set, tag and length included: such ranges
    /// joined are a set. Ends after the first fault.
    pub fn iter(&self) -> impl Iterator<Item = Result<(Range<usize>, RecordView<'a>), Malformed>> + use<'a> {
        let bytes = self.bytes;
        self.entries().map(move |entry| {
            let entry = entry?;
            let view = RecordView::parse(&bytes[entry.message.clone()])
                .map_err(|fault| Malformed { at: fault.at + entry.message.start, ..fault })?;
            Ok((entry.whole, view))
        })
    }

    /// As [`RecordSet::iter`] without looking into the records. Cost: a few nanoseconds a record.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, Malformed>> + use<'a> {
        let mut walk = Walk { bytes: self.bytes, at: 0 };
        let mut over = false;
        std::iter::from_fn(move || {
            if over {
                return None;
            }
            let start = walk.at;
            let next = walk.record();
            over = !matches!(next, Ok(Some(_)));
            next.transpose().map(|found| found.map(|message| Entry { whole: start..message.end, message }))
        })
    }
}

/// Where a record stands in its set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// With tag and length: joined, such ranges are a set.
    pub whole: Range<usize>,
    /// The `Record` message alone.
    pub message: Range<usize>,
}

/// Counts the records without looking into them.
pub fn count(set: &[u8]) -> Result<u32, Malformed> {
    let mut walk = Walk { bytes: set, at: 0 };
    let mut records = 0;
    while walk.record()?.is_some() {
        records += 1;
    }
    Ok(records)
}

/// The range of every record in its set, tag and length included, without looking into the records.
pub fn split(set: &[u8]) -> Result<Vec<Range<usize>>, Malformed> {
    RecordSet::new(set).entries().map(|entry| entry.map(|entry| entry.whole)).collect()
}

/// The position at which record `index` begins, so that `&set[position..]` starts with it; the end of the set when
/// it has no more than `index` records.
pub fn position_of(set: &[u8], index: u32) -> Result<usize, Malformed> {
    let mut walk = Walk { bytes: set, at: 0 };
    for _ in 0..index {
        if walk.record()?.is_none() {
            break;
        }
    }
    Ok(walk.at)
}

/// Walks a set and every record in it, and holds them against the rules. An empty set passes.
///
/// # Errors
///
/// The first [`RecordFault`] in the order of the bytes.
pub fn validate(set: &[u8], limits: &RecordLimits) -> Result<Counted, RecordFault> {
    let mut walk = Walk { bytes: set, at: 0 };
    let mut index = 0;
    while let Some(message) = walk.record()? {
        if index == limits.records {
            return Err(RecordFault::TooManyRecords { limit: limits.records, actual: count(set)? });
        }
        let raw = &set[message.clone()];
        let limit = limits.record_bytes as usize;
        if raw.len() > limit {
            return Err(RecordFault::RecordTooLarge { index, limit, actual: raw.len() });
        }
        let view = RecordView::parse(raw).map_err(|fault| match fault.cause {
            Broken::BadUtf8(field) => RecordFault::BadUtf8 { index, field },
            cause => RecordFault::BadEncoding { at: message.start + fault.at, cause },
        })?;
        hold(&view, index, limits)?;
        index += 1;
    }
    Ok(Counted { records: index })
}

/// The rules of one record that is well-formed.
fn hold(view: &RecordView<'_>, index: u32, limits: &RecordLimits) -> Result<(), RecordFault> {
    let key_bytes = view.key.map_or(0, <[u8]>::len);
    if key_bytes > limits.key_bytes {
        return Err(RecordFault::KeyTooLarge { index, limit: limits.key_bytes, actual: key_bytes });
    }
    if view.header_count > limits.headers {
        return Err(RecordFault::TooManyHeaders { index, limit: limits.headers, actual: view.header_count });
    }
    if view.header_bytes > limits.header_bytes {
        return Err(RecordFault::HeadersTooLarge { index, limit: limits.header_bytes, actual: view.header_bytes });
    }
    match (view.tombstone, view.key, view.value) {
        (true, None, _) => Err(RecordFault::TombstoneWithoutKey { index }),
        (true, _, [_, ..]) => Err(RecordFault::TombstoneWithValue { index }),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
