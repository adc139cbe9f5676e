//! Batches that prove themselves. A value ends in its producer, its number there, and a CRC over all before it; the
//! rest is filler. A batch is encoded once; for each append only the ends of its values are written anew.

use bytes::{Bytes, BytesMut};
use crc32fast::Hasher;
use tillroll_client::{Compression, EncodedBatch, Record};

/// Producer (4), number (8), CRC (4).
const END_BYTES: usize = 16;

/// What all batches of one producer have in common.
pub(super) struct Payload {
    producer: u32,
    batch_records: u32,
    /// Encoded bytes of one record.
    stride: usize,
    /// CRC over the filler, from which each value's goes on.
    filler_crc: u32,
    template: Bytes,
    /// Buffers of answered batches.
    spare: Vec<BytesMut>,
}

impl Payload {
    /// Values of so many bytes, at least 16.
    pub(super) fn new(producer: u32, record_bytes: u32, batch_records: u32) -> Self {
        let filler = filler(record_bytes as usize - END_BYTES);
        let mut value = filler.clone();
        value.resize(record_bytes as usize, 0);
        let record = Record::new(value);
        let template = EncodedBatch::of(std::iter::repeat_n(&record, batch_records as usize), Compression::None).data;
        let stride = template.len() / batch_records as usize;
        Self { producer, batch_records, stride, filler_crc: crc32fast::hash(&filler), template, spare: Vec::new() }
    }

    /// Encoded bytes of a batch.
    pub(super) fn batch_bytes(&self) -> usize {
        self.template.len()
    }

    /// Records of a batch.
    pub(super) fn batch_records(&self) -> u32 {
        self.batch_records
    }

    /// The batch whose first record has this number. The bytes go back by [`Payload::reclaim`].
    pub(super) fn batch(&mut self, first_number: u64) -> EncodedBatch {
        let mut data = self.spare.pop().unwrap_or_else(|| BytesMut::from(&self.template[..]));
        for (record, number) in data.chunks_exact_mut(self.stride).zip(first_number..) {
            let mut end = [0; END_BYTES - 4];
            end[..4].copy_from_slice(&self.producer.to_le_bytes());
            end[4..].copy_from_slice(&number.to_le_bytes());
            let mut crc = Hasher::new_with_initial(self.filler_crc);
            crc.update(&end);
            let at = record.len() - END_BYTES;
            record[at..at + end.len()].copy_from_slice(&end);
            record[at + end.len()..].copy_from_slice(&crc.finalize().to_le_bytes());
        }
        let data = data.freeze();
        EncodedBatch {
            compression: Compression::None,
            crc32: crc32fast::hash(&data),
            record_count: self.batch_records,
            decoded_bytes: u32::try_from(data.len()).expect("a batch is checked to be below a server's limit"),
            data,
        }
    }

    /// Takes the buffer of an answered batch back, when nobody else holds it.
    pub(super) fn reclaim(&mut self, data: Bytes) {
        if let Ok(data) = data.try_into_mut() {
            self.spare.push(data);
        }
    }
}

/// Producer and number of a value that proves itself.
pub(super) fn prove(value: &[u8]) -> Option<(u32, u64)> {
    let (proven, crc) = value.split_last_chunk::<4>()?;
    let (rest, number) = proven.split_last_chunk::<8>()?;
    let (_, producer) = rest.split_last_chunk::<4>()?;
    let whole = crc32fast::hash(proven) == u32::from_le_bytes(*crc);
    whole.then_some((u32::from_le_bytes(*producer), u64::from_le_bytes(*number)))
}

/// Bytes that do not compress, the same for everybody (xorshift).
fn filler(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_batch_proves_its_producer_and_number() {
        for record_bytes in [16, 17, 1_024] {
            let mut payload = Payload::new(7, record_bytes, 3);
            for first in [0, u64::from(u32::MAX)] {
                let batch = payload.batch(first);
                assert_eq!(batch.crc32, crc32fast::hash(&batch.data));
                for (record, number) in batch.data.chunks_exact(payload.stride).zip(first..) {
                    let value = &record[record.len() - record_bytes as usize..];
                    assert_eq!(prove(value), Some((7, number)));
                    let mut damaged = value.to_vec();
                    damaged[0] ^= 1;
                    assert_eq!(prove(&damaged), None);
                }
                payload.reclaim(batch.data);
                assert_eq!(payload.spare.len(), 1, "the buffer is used again");
            }
        }
    }
}
