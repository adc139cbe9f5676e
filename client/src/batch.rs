//! Records become a batch: the bytes of a `RecordSet`, written field by field
//! without building messages, then compressed and checked.
//!
//! The encoding is the one of the generated code, byte for byte, so that the
//! same records always have the same content CRC.

use std::io::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use tillroll_proto::v1;

use crate::{Error, ErrorKind, Record};

/// zstd's own default; the server recompresses blocks as the topic says.
const ZSTD_LEVEL: i32 = 3;

/// How a batch is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One LZ4 frame: cheap.
    Lz4,
    /// One zstd frame: smaller.
    Zstd,
}

impl Compression {
    pub(crate) fn to_wire(self) -> v1::Codec {
        match self {
            Self::None => v1::Codec::None,
            Self::Lz4 => v1::Codec::Lz4,
            Self::Zstd => v1::Codec::Zstd,
        }
    }

    pub(crate) fn from_wire(number: i32) -> Result<Self, Error> {
        match v1::Codec::try_from(number) {
            Ok(v1::Codec::None) => Ok(Self::None),
            Ok(v1::Codec::Lz4) => Ok(Self::Lz4),
            Ok(v1::Codec::Zstd) => Ok(Self::Zstd),
            Ok(v1::Codec::Unspecified) | Err(_) => {
                Err(Error::protocol(format!("the server sent an unknown codec codec={number}")))
            }
        }
    }
}

/// A finished batch: what goes over the wire and into the log as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedBatch {
    /// How `data` is compressed.
    pub compression: Compression,
    /// The encoded records after compression.
    pub data: Bytes,
    /// CRC-32 (IEEE) over `data`.
    pub crc32: u32,
    /// How many records there are.
    pub record_count: u32,
    /// The size before compression.
    pub decoded_bytes: u32,
}

impl EncodedBatch {
    /// Encodes these records as one batch.
    ///
    /// ```
    /// use tillroll_client::{Compression, EncodedBatch, Record};
    /// let batch = EncodedBatch::of(&[Record::new("a"), Record::new("b")], Compression::None);
    /// assert_eq!(batch.record_count, 2);
    /// ```
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>, compression: Compression) -> Self {
        let mut writer = BatchWriter::new();
        for record in records {
            writer.push(record);
        }
        writer.finish(compression).0
    }

    pub(crate) fn into_wire(self) -> v1::EncodedBatch {
        v1::EncodedBatch {
            codec: self.compression.to_wire().into(),
            data: self.data,
            crc32: self.crc32,
            record_count: self.record_count,
            decoded_bytes: self.decoded_bytes,
        }
    }
}

/// Gathers records into one batch.
#[derive(Debug, Default)]
pub struct BatchWriter {
    encoded: BytesMut,
    record_count: u32,
}

impl BatchWriter {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch that writes into this buffer, which is cleared first.
    pub fn with_buffer(mut buffer: BytesMut) -> Self {
        buffer.clear();
        Self { encoded: buffer, record_count: 0 }
    }

    /// Appends one record.
    pub fn push(&mut self, record: &Record) {
        self.push_sized(record, record_bytes(record));
    }

    /// The same when the size is known already.
    pub(crate) fn push_sized(&mut self, record: &Record, body_bytes: usize) {
        self.encoded.reserve(framed_bytes(body_bytes));
        let before = self.encoded.len();
        put_tag(&mut self.encoded, 1, LENGTH);
        put_varint(&mut self.encoded, body_bytes as u64);
        put_record(&mut self.encoded, record);
        assert_eq!(self.encoded.len() - before, framed_bytes(body_bytes), "a record is as long as it was measured");
        self.record_count += 1;
    }

    /// The size of the encoded records so far, before compression.
    pub fn bytes(&self) -> usize {
        self.encoded.len()
    }

    /// How many records there are so far.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Closes the batch. Gives back the buffer when compression left it free for
    /// the next batch.
    ///
    /// # Panics
    ///
    /// When the records together have 4 GiB or more, far above what a server
    /// takes.
    pub fn finish(self, compression: Compression) -> (EncodedBatch, Option<BytesMut>) {
        let decoded_bytes = u32::try_from(self.encoded.len()).expect("batches are bounded far below 4 GiB");
        let (data, free) = match compression {
            Compression::None => (self.encoded.freeze(), None),
            Compression::Lz4 => (lz4(&self.encoded), Some(self.encoded)),
            Compression::Zstd => (zstd(&self.encoded), Some(self.encoded)),
        };
        let batch = EncodedBatch {
            compression,
            crc32: crc32fast::hash(&data),
            data,
            record_count: self.record_count,
            decoded_bytes,
        };
        (batch, free)
    }
}

fn lz4(decoded: &[u8]) -> Bytes {
    let room = Vec::with_capacity(decoded.len() / 2 + 64);
    let mut encoder = lz4_flex::frame::FrameEncoder::new(room);
    encoder.write_all(decoded).expect("writing to memory does not fail");
    Bytes::from(encoder.finish().expect("writing to memory does not fail"))
}

fn zstd(decoded: &[u8]) -> Bytes {
    let data = ::zstd::bulk::compress(decoded, ZSTD_LEVEL);
    Bytes::from(data.expect("a valid level and enough room cannot fail"))
}

/// The most that a record of this size takes inside a set.
pub(crate) fn framed_bytes(body_bytes: usize) -> usize {
    1 + varint_bytes(body_bytes as u64) + body_bytes
}

/// The size of an encoded `Record` message.
pub(crate) fn record_bytes(record: &Record) -> usize {
    let Record {
        key,
        value,
        tombstone,
        headers,
        event_time_us,
        id,
        type_,
        source,
        content_type,
        correlation_id,
        causation_id,
        traceparent,
    } = record;
    let mut bytes = 0;
    if let Some(key) = key {
        bytes += framed_bytes(key.len());
    }
    if !value.is_empty() {
        bytes += framed_bytes(value.len());
    }
    if *tombstone {
        bytes += 2;
    }
    for (name, value) in headers {
        bytes += framed_bytes(header_bytes(name, value));
    }
    if let Some(time) = event_time_us {
        bytes += 1 + varint_bytes(time.cast_unsigned());
    }
    for text in [id, type_, source, content_type, correlation_id, causation_id, traceparent] {
        if !text.is_empty() {
            bytes += framed_bytes(text.len());
        }
    }
    bytes
}

fn header_bytes(name: &str, value: &[u8]) -> usize {
    let field = |length: usize| if length == 0 { 0 } else { framed_bytes(length) };
    field(name.len()) + field(value.len())
}

/// Wire types of protobuf.
const VARINT: u8 = 0;
pub(crate) const LENGTH: u8 = 2;

fn put_record(out: &mut BytesMut, record: &Record) {
    if let Some(key) = &record.key {
        put_field(out, 1, key);
    }
    if !record.value.is_empty() {
        put_field(out, 2, &record.value);
    }
    if record.tombstone {
        put_tag(out, 3, VARINT);
        out.put_u8(1);
    }
    for (name, value) in &record.headers {
        put_tag(out, 4, LENGTH);
        put_varint(out, header_bytes(name, value) as u64);
        if !name.is_empty() {
            put_field(out, 1, name.as_bytes());
        }
        if !value.is_empty() {
            put_field(out, 2, value);
        }
    }
    if let Some(time) = record.event_time_us {
        put_tag(out, 5, VARINT);
        put_varint(out, time.cast_unsigned());
    }
    for (number, text) in [
        (6, &record.id),
        (7, &record.type_),
        (8, &record.source),
        (9, &record.content_type),
        (10, &record.correlation_id),
        (11, &record.causation_id),
        (12, &record.traceparent),
    ] {
        if !text.is_empty() {
            put_field(out, number, text.as_bytes());
        }
    }
}

/// One field of bytes or text.
pub(crate) fn put_field(out: &mut BytesMut, number: u8, content: &[u8]) {
    put_tag(out, number, LENGTH);
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Field numbers of this contract are below 16: a tag is one byte.
pub(crate) fn put_tag(out: &mut BytesMut, number: u8, wire_type: u8) {
    out.put_u8(number << 3 | wire_type);
}

/// A number in as few bytes as it takes.
pub(crate) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// A batch that the server refuses is larger than this.
pub(crate) fn too_large(what: &str, actual: usize, limit: usize) -> Error {
    Error::refused(
        ErrorKind::InvalidInput,
        tillroll_proto::reason::BATCH_TOO_LARGE,
        format!("the batch has too many {what} actual={actual} limit={limit}"),
        &[
            (tillroll_proto::reason::key::FIELD, what.into()),
            (tillroll_proto::reason::key::ACTUAL, actual.to_string()),
            (tillroll_proto::reason::key::LIMIT, limit.to_string()),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    fn samples() -> Vec<Record> {
        vec![
            Record::default(),
            Record::new("value"),
            Record::new("").key(""),
            Record::tombstone("42"),
            Record::new(vec![7_u8; 300]).key("k").event_time_us(-1),
            Record::new("v").event_time_us(0).header("", "").header("a", "").header("", "b"),
            Record::new(vec![1_u8; 20_000])
                .key(vec![2_u8; 1_024])
                .header("name", vec![3_u8; 200])
                .event_time_us(i64::MAX)
                .id("orders.csv#1")
                .type_("OrderPlaced")
                .source("shop")
                .content_type("application/json")
                .correlation_id("c")
                .causation_id("d")
                .traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ]
    }

    #[test]
    fn the_encoding_is_that_of_the_generated_code() {
        for record in samples() {
            let set = v1::RecordSet { records: vec![record.clone().into_wire()] };
            let mut writer = BatchWriter::new();
            writer.push(&record);
            assert_eq!(&writer.encoded[..], &set.encode_to_vec()[..], "{record:?}");
            assert_eq!(record_bytes(&record), record.into_wire().encoded_len());
        }
    }

    #[test]
    fn a_batch_of_all_samples_decodes_to_them_under_every_compression() {
        let records = samples();
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let batch = EncodedBatch::of(&records, compression);
            assert_eq!(batch.record_count as usize, records.len());
            assert_eq!(batch.crc32, crc32fast::hash(&batch.data));
            let wire = batch.into_wire();
            let decoded = crate::decode::open(&wire).expect("it was just encoded");
            let set = v1::RecordSet::decode(decoded).expect("it was just encoded");
            let back: Vec<Record> = set.records.into_iter().map(Record::from_wire).collect();
            assert_eq!(back, records);
        }
    }

    #[test]
    fn varints_are_as_long_as_measured() {
        for value in (0..64).flat_map(|bit| [1_u64 << bit, (1_u64 << bit) - 1]).chain([u64::MAX]) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_bytes(value), "{value}");
        }
    }

    #[test]
    fn the_buffer_comes_back_when_compression_copied_it() {
        let mut writer = BatchWriter::with_buffer(BytesMut::from(&b"old"[..]));
        writer.push(&Record::new("x"));
        assert!(writer.finish(Compression::Lz4).1.is_some());
    }
}
