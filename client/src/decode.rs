//! A batch becomes records again: its CRC is checked, it is decompressed within
//! a bound, and it is taken apart without copying.

use std::io::Read as _;

use bytes::{Buf as _, Bytes};
use prost::Message as _;
use tillroll_proto::v1;

use crate::{Compression, Error, ErrorKind, Record};

/// The most that one batch may decode to: four times what a server takes, so
/// that a merged block fits, and far too little to hurt.
pub(crate) const DECODED_BYTES_MAX: u32 = 16 << 20;

/// The encoded `RecordSet` of a batch, with its CRC and size verified.
pub(crate) fn open(batch: &v1::EncodedBatch) -> Result<Bytes, Error> {
    let actual = crc32fast::hash(&batch.data);
    if actual != batch.crc32 {
        return Err(damaged(format!("crc expected={:08x} actual={actual:08x}", batch.crc32)));
    }
    if batch.decoded_bytes > DECODED_BYTES_MAX {
        return Err(damaged(format!("decoded size actual={} limit={DECODED_BYTES_MAX}", batch.decoded_bytes)));
    }
    let size = batch.decoded_bytes as usize;
    let decoded = match Compression::from_wire(batch.codec)? {
        Compression::None => batch.data.clone(),
        Compression::Lz4 => Bytes::from(lz4(&batch.data, size)?),
        Compression::Zstd => {
            Bytes::from(zstd::bulk::decompress(&batch.data, size).map_err(|cause| damaged(format!("zstd: {cause}")))?)
        }
    };
    if decoded.len() != size {
        return Err(damaged(format!("decoded size expected={size} actual={}", decoded.len())));
    }
    Ok(decoded)
}

fn lz4(data: &[u8], size: usize) -> Result<Vec<u8>, Error> {
    let mut decoded = Vec::with_capacity(size);
    // One byte more than promised is enough to see a batch that lies.
    lz4_flex::frame::FrameDecoder::new(data)
        .take(size as u64 + 1)
        .read_to_end(&mut decoded)
        .map_err(|cause| damaged(format!("lz4: {cause}")))?;
    Ok(decoded)
}

/// Cuts the next encoded record off a `RecordSet`.
pub(crate) fn next_record(set: &mut Bytes) -> Result<Option<Bytes>, Error> {
    if set.is_empty() {
        return Ok(None);
    }
    if set.get_u8() != 0x0a {
        return Err(damaged("a record set with another field"));
    }
    let length = prost::encoding::decode_varint(set).map_err(|cause| damaged(format!("a record's length: {cause}")))?;
    match usize::try_from(length) {
        Ok(length) if length <= set.len() => Ok(Some(set.split_to(length))),
        _ => Err(damaged(format!("a record's length actual={length} limit={}", set.len()))),
    }
}

/// One encoded record as a record. Its key and value share memory with `body`.
pub(crate) fn record(body: Bytes) -> Result<Record, Error> {
    let wire = v1::Record::decode(body).map_err(|cause| damaged(format!("a record: {cause}")))?;
    Ok(Record::from_wire(wire))
}

/// Bytes from the server that are not what they are said to be. They were
/// damaged on the way, since the server checks what it sends.
pub(crate) fn damaged(what: impl std::fmt::Display) -> Error {
    Error::local(ErrorKind::DataLoss, format!("the server sent a damaged batch: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EncodedBatch;

    fn wire(compression: Compression) -> v1::EncodedBatch {
        EncodedBatch::of(&[Record::new(vec![b'x'; 1_000]), Record::new("b")], compression).into_wire()
    }

    #[test]
    fn records_come_apart_without_copying() {
        let batch = wire(Compression::None);
        let mut set = open(&batch).expect("whole");
        let first = next_record(&mut set).expect("whole").expect("two records");
        let first = record(first).expect("whole");
        assert!(batch.data.as_ptr_range().contains(&first.value.as_ptr()));
        let second = next_record(&mut set).expect("whole").expect("two records");
        assert_eq!(record(second).expect("whole"), Record::new("b"));
        assert!(next_record(&mut set).expect("whole").is_none());
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let batch = wire(compression);
            for bit in 0..batch.data.len() * 8 {
                let mut data = batch.data.to_vec();
                data[bit / 8] ^= 1 << (bit % 8);
                let broken = v1::EncodedBatch { data: data.into(), ..batch.clone() };
                assert!(open(&broken).is_err(), "{compression:?} bit {bit}");
            }
        }
    }

    #[test]
    fn a_batch_that_decodes_to_another_size_is_refused() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let batch = wire(compression);
            for decoded_bytes in [0, batch.decoded_bytes - 1, batch.decoded_bytes + 1, u32::MAX] {
                let lying = v1::EncodedBatch { decoded_bytes, ..batch.clone() };
                assert!(open(&lying).is_err(), "{compression:?} {decoded_bytes}");
            }
        }
    }

    #[test]
    fn a_length_beyond_the_set_is_refused() {
        let mut set = Bytes::from_static(&[0x0a, 0x7f, 0]);
        assert!(next_record(&mut set).is_err());
    }
}
