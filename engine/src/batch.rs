//! The batch: what a producer sends, the journal holds, the tail keeps and a reader gets, in the same bytes.
//!
//! Comes in: a `RecordSet`, plain or compressed, from anybody. Goes out of [`Batch::check`] and [`Batch::from_plain`]:
//! a batch that every later room may take at its word. What must stay true: the CRC covers the bytes as they are
//! stored, and is never computed anew over bytes that came with one.

use bytes::Bytes;
use thiserror::Error;

use crate::{
    codec::{Codec, CodecFault, decompress},
    limits,
    record::{RecordFault, RecordLimits, validate},
};

/// Records of one partition that were appended together.
///
/// The fields are open so that a batch can be carried over from the wire or out of a verified frame as it stands; it
/// is *checked* only when it came out of [`Batch::check`] or [`Batch::from_plain`], or out of a journal or a segment
/// that it entered so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How `data` is compressed.
    pub codec: Codec,
    /// Records in it.
    pub record_count: u32,
    /// Bytes of the plain `RecordSet`.
    pub decoded_bytes: u32,
    /// CRC-32 (IEEE) over `data`.
    pub crc32: u32,
    /// The `RecordSet`, compressed by `codec`.
    pub data: Bytes,
}

/// Why something is not a batch. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchFault {
    /// No record in it.
    #[error("batch has no records")]
    Empty,
    /// Too many bytes as sent.
    #[error("batch too large as sent limit={limit} actual={actual}")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
        /// Bytes sent.
        actual: usize,
    },
    /// Too many bytes when decoded, as stated by the sender.
    #[error("batch too large decoded limit={limit} actual={actual}")]
    DecodedTooLarge {
        /// Bytes allowed.
        limit: usize,
        /// Bytes stated.
        actual: usize,
    },
    /// The bytes are not those that the CRC was made over.
    #[error("wrong crc expected={expected:08x} actual={actual:08x}")]
    BadCrc {
        /// As it came with the batch.
        expected: u32,
        /// Of the bytes.
        actual: u32,
    },
    /// A count that does not fit the bytes.
    #[error("wrong count field={field} expected={expected} actual={actual}")]
    WrongCount {
        /// `record_count` or `decoded_bytes`.
        field: &'static str,
        /// As it came with the batch.
        expected: u32,
        /// Of the bytes.
        actual: u32,
    },
    /// It does not decompress within the limit.
    #[error("batch does not decode: {0}")]
    Undecodable(CodecFault),
    /// One of its records breaks a rule.
    #[error("bad record: {0}")]
    BadRecord(RecordFault),
}

impl Batch {
    /// Takes a batch that somebody sent, and believes none of its fields: sizes, CRC, both counts, every record.
    /// Gives it back unchanged. **Cost**: two passes over the bytes, and for compressed ones a decoded copy of at
    /// most [`limits::BATCH_BYTES_MAX`] that is dropped again.
    ///
    /// # Errors
    ///
    /// The first [`BatchFault`], in the order: sizes, CRC, decoding, records, counts, emptiness.
    pub fn check(self, limits: &RecordLimits) -> Result<Self, BatchFault> {
        check_size(self.data.len())?;
        let stated = self.decoded_bytes as usize;
        if stated > limits::BATCH_BYTES_MAX {
            return Err(BatchFault::DecodedTooLarge { limit: limits::BATCH_BYTES_MAX, actual: stated });
        }
        self.verify()?;
        let decoded = match self.codec {
            Codec::None => self.data.clone(),
            codec => decompress(codec, &self.data, limits::BATCH_BYTES_MAX).map_err(BatchFault::Undecodable)?.into(),
        };
        let counted = validate(&decoded, limits).map_err(BatchFault::BadRecord)?;
        check_count("decoded_bytes", self.decoded_bytes, decoded.len() as u32)?;
        check_count("record_count", self.record_count, counted.records)?;
        if counted.records == 0 { Err(BatchFault::Empty) } else { Ok(self) }
    }

    /// Makes a batch of a plain `RecordSet` that came without a CRC. **Cost**: two passes, no copy.
    ///
    /// # Errors
    ///
    /// `TooLarge`, `BadRecord` or `Empty`.
    pub fn from_plain(set: Bytes, limits: &RecordLimits) -> Result<Self, BatchFault> {
        check_size(set.len())?;
        let record_count = validate(&set, limits).map_err(BatchFault::BadRecord)?.records;
        if record_count == 0 {
            return Err(BatchFault::Empty);
        }
        let crc32 = crc32fast::hash(&set);
        Ok(Self { codec: Codec::None, record_count, decoded_bytes: set.len() as u32, crc32, data: set })
    }

    /// Holds the bytes against the CRC.
    ///
    /// # Errors
    ///
    /// `BadCrc`.
    pub fn verify(&self) -> Result<(), BatchFault> {
        let actual = crc32fast::hash(&self.data);
        if actual == self.crc32 { Ok(()) } else { Err(BatchFault::BadCrc { expected: self.crc32, actual }) }
    }

    /// The plain `RecordSet`: the same bytes for [`Codec::None`], a decoded copy otherwise. Does not look at the CRC.
    ///
    /// # Errors
    ///
    /// [`CodecFault`] when the bytes do not decode to exactly `decoded_bytes`; never for a checked batch.
    pub fn decode(&self) -> Result<Bytes, CodecFault> {
        let plain = match self.codec {
            Codec::None => self.data.clone(),
            codec => decompress(codec, &self.data, self.decoded_bytes as usize)?.into(),
        };
        if plain.len() == self.decoded_bytes as usize {
            Ok(plain)
        } else {
            Err(CodecFault::Malformed { codec: self.codec, what: "decoded bytes" })
        }
    }
}

fn check_size(actual: usize) -> Result<(), BatchFault> {
    let limit = limits::BATCH_BYTES_MAX;
    if actual > limit { Err(BatchFault::TooLarge { limit, actual }) } else { Ok(()) }
}

fn check_count(field: &'static str, expected: u32, actual: u32) -> Result<(), BatchFault> {
    if expected == actual { Ok(()) } else { Err(BatchFault::WrongCount { field, expected, actual }) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        codec::compress,
        record::tests::{message, set},
    };

    const ALL: [Codec; 3] = [Codec::None, Codec::Lz4, Codec::Zstd];

    /// A checked batch of `records` records with `bytes` bytes of value each.
    pub(crate) fn batch(codec: Codec, records: usize, value: &[u8]) -> Batch {
        let plain = set(&vec![message(Some(b"key"), value); records]);
        let data = Bytes::from(compress(codec, &plain));
        let (record_count, decoded_bytes) = (records as u32, plain.len() as u32);
        let batch = Batch { codec, record_count, decoded_bytes, crc32: crc32fast::hash(&data), data };
        batch.check(&RecordLimits::default()).expect("a good batch")
    }

    fn check(batch: Batch, expected: BatchFault) {
        assert_eq!(batch.check(&RecordLimits::default()), Err(expected));
    }

    #[test]
    fn a_good_batch_passes_unchanged_and_decodes() {
        for codec in ALL {
            let good = batch(codec, 7, &[5; 900]);
            assert_eq!(good.decode(), Ok(set(&vec![message(Some(b"key"), &[5; 900]); 7]).into()));
        }
        let plain = Bytes::from(set(&[message(None, b"")]));
        let made = Batch::from_plain(plain.clone(), &RecordLimits::default()).expect("a good set");
        assert_eq!(made.decode().expect("plain").as_ptr(), plain.as_ptr(), "plain bytes are not copied");
        assert_eq!(made.clone().check(&RecordLimits::default()), Ok(made));
    }

    #[test]
    fn every_lie_has_its_own_fault() {
        for codec in ALL {
            let good = batch(codec, 3, b"value");
            let actual = good.crc32;
            check(Batch { crc32: !actual, ..good.clone() }, BatchFault::BadCrc { expected: !actual, actual });
            let (expected, actual) = (4, 3);
            let fault = BatchFault::WrongCount { field: "record_count", expected, actual };
            check(Batch { record_count: 4, ..good.clone() }, fault);
            let actual = good.decoded_bytes;
            let fault = BatchFault::WrongCount { field: "decoded_bytes", expected: actual + 1, actual };
            check(Batch { decoded_bytes: actual + 1, ..good.clone() }, fault);
            let (limit, actual) = (4 << 20, (4 << 20) + 1);
            let fault = BatchFault::DecodedTooLarge { limit, actual };
            check(Batch { decoded_bytes: actual as u32, ..good.clone() }, fault);
            let data = Bytes::from(compress(codec, b""));
            let empty = Batch { record_count: 0, decoded_bytes: 0, crc32: crc32fast::hash(&data), data, ..good };
            check(empty, BatchFault::Empty);
        }
    }

    #[test]
    fn what_is_too_large_as_sent_or_empty_is_refused() {
        let data = Bytes::from(vec![0; (4 << 20) + 1]);
        let large = Batch { codec: Codec::None, record_count: 1, decoded_bytes: 1, crc32: 0, data: data.clone() };
        let fault = BatchFault::TooLarge { limit: 4 << 20, actual: data.len() };
        check(large, fault);
        assert_eq!(Batch::from_plain(data, &RecordLimits::default()), Err(fault));
        assert_eq!(Batch::from_plain(Bytes::new(), &RecordLimits::default()), Err(BatchFault::Empty));
    }

    #[test]
    fn a_bomb_and_a_broken_record_inside_are_found() {
        for codec in [Codec::Lz4, Codec::Zstd] {
            let wrap = |plain: &[u8], decoded_bytes| {
                let data = Bytes::from(compress(codec, plain));
                Batch { codec, record_count: 1, decoded_bytes, crc32: crc32fast::hash(&data), data }
            };
            let fault = BatchFault::Undecodable(CodecFault::TooLarge { limit: 4 << 20 });
            check(wrap(&vec![0; (4 << 20) + 1], 9), fault);
            let broken = validate(b"\x0a\x05", &RecordLimits::default()).expect_err("cut short");
            check(wrap(b"\x0a\x05", 2), BatchFault::BadRecord(broken));
        }
    }
}
