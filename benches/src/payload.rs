//! What is sent: records of a stated size, the same at every run.
//!
//! Values of [`filler`] do not compress, so that a byte sent is a byte written; those of [`order`] are text that
//! compresses as orders do.

use std::fmt::Write as _;

use tillroll_client::{BatchWriter, Compression, EncodedBatch, Record};
use tillroll_engine::{batch::Batch, codec::Codec};

/// The size of a value, in bytes.
pub const RECORD_BYTES: usize = 1_024;

/// Bytes that do not compress (xorshift); different for every `seed`.
pub fn filler(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed.wrapping_add(1) << 17);
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// The front of an order as JSON, of exactly `bytes`: as many lines as it takes, the last one cut.
///
/// # Panics
///
/// Never: text is written to memory.
pub fn order(number: u64, bytes: usize) -> Vec<u8> {
    let mut text = format!("{{\"order\":{number},\"customer\":{},\"lines\":[", number * 7_919 % 100_003);
    for line in 0.. {
        if text.len() >= bytes {
            break;
        }
        let (sku, quantity, cents) =
            ((number * 31 + line * 17) % 4_070, line % 12 + 1, (number * 13 + line * 101) % 9_973);
        write!(text, "{{\"sku\":\"{sku:05}\",\"quantity\":{quantity},\"cents\":{cents}}},")
            .expect("a string takes everything");
    }
    let mut value = text.into_bytes();
    value.truncate(bytes);
    value
}

/// A plain batch of `records` values of [`filler`], each of `record_bytes`, as a client sends it.
pub fn encoded(seed: u64, records: u32, record_bytes: usize) -> EncodedBatch {
    let values = (0..u64::from(records)).map(|number| filler(seed << 20 | number, record_bytes));
    batch_of(values, Compression::None)
}

/// How many records of `record_bytes` fit into a batch of `batch_bytes`; at least one.
pub fn records_in(batch_bytes: usize, record_bytes: usize) -> u32 {
    let stride = encoded(0, 1, record_bytes).data.len();
    u32::try_from(batch_bytes / stride).unwrap_or(u32::MAX).max(1)
}

/// A batch of `records` orders of 1 KiB, from number `first` on, as the engine takes it from the wire.
pub fn orders(first: u64, records: u32, codec: Codec) -> Batch {
    let compression = match codec {
        Codec::None => Compression::None,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    };
    let values = (first..first + u64::from(records)).map(|number| order(number, RECORD_BYTES));
    let EncodedBatch { data, crc32, record_count, decoded_bytes, .. } = batch_of(values, compression);
    Batch { codec, record_count, decoded_bytes, crc32, data }
}

fn batch_of(values: impl Iterator<Item = Vec<u8>>, compression: Compression) -> EncodedBatch {
    let mut writer = BatchWriter::new();
    values.for_each(|value| writer.push(&Record::new(value)));
    writer.finish(compression).0
}

#[cfg(test)]
mod tests {
    use tillroll_engine::record::RecordLimits;

    use super::*;

    #[test]
    fn values_have_the_stated_size_and_differ() {
        assert_eq!(filler(1, 1_021).len(), 1_021);
        assert_ne!(filler(1, 64), filler(2, 64));
        assert_eq!(order(42, RECORD_BYTES).len(), RECORD_BYTES);
        assert_ne!(order(1, RECORD_BYTES), order(2, RECORD_BYTES));
    }

    #[test]
    fn a_message_is_filled_but_not_beyond_its_size() {
        let records = records_in(1 << 20, RECORD_BYTES);
        let stride = encoded(0, 1, RECORD_BYTES).data.len();
        let batch = encoded(3, records, RECORD_BYTES);
        assert_eq!(batch.record_count, records);
        assert!(batch.data.len() <= 1 << 20 && batch.data.len() + stride > 1 << 20);
        assert_eq!(records_in(1, RECORD_BYTES), 1);
    }

    #[test]
    fn the_engine_accepts_every_batch() {
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            let batch = orders(7, 20, codec);
            assert_eq!(batch.clone().check(&RecordLimits::default()), Ok(batch));
        }
    }
}
