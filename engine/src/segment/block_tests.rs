//! Goal: R5's rules for blocks, and that no byte of a block can change unseen. Method: blocks built from a few
//! batches, read back, and flipped byte by byte.

use super::*;
use crate::{
    batch::tests::batch,
    header::golden,
    id::{Partition, TopicId},
};

pub(in super::super) const LANE: Lane = Lane { topic: TopicId(0xabc), partition: Partition(3) };

pub(in super::super) fn place(prev_crc: u32) -> Place {
    Place { lane: LANE, segment: SegmentId(77), prev_crc, incarnation: Incarnation(5) }
}

pub(in super::super) fn origin(lsn: u64) -> Origin {
    Origin { lsn: Lsn(lsn), position: lsn * 1_000, time_us: 1_700_000_000_000_000 + lsn.cast_signed() }
}

fn pool() -> AlignedPool {
    AlignedPool::new(1 << 20)
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(bytes)
    .collect()
}

/// Pushes batches into one block and reads it back.
fn build(codec: Codec, batches: &[Batch]) -> (Built, Block) {
    let mut builder = Builder::new(codec, 256 << 10);
    let mut base = Offset(40);
    for (lsn, batch) in (1..).zip(batches) {
        assert_ne!(builder.push(origin(lsn), base, batch), Ok(Pushed::Not), "one block");
        base = base.plus(u64::from(batch.record_count));
    }
    let built = builder.finish(&place(9), &pool());
    assert!(builder.is_empty());
    let block = Block::parse(&Bytes::copy_from_slice(built.bytes.as_slice())).expect("a good block");
    assert_eq!((block.header(), block.crc()), (&built.header, built.crc));
    assert!(built.bytes.len().is_multiple_of(4_096) && built.bytes.as_slice().as_ptr().align_offset(4_096) == 0);
    (built, block)
}

fn joined(batches: &[Batch]) -> Vec<u8> {
    batches.iter().flat_map(|batch| batch.decode().expect("a good batch")).collect()
}

#[test]
fn small_batches_of_any_codec_are_merged_into_one_set() {
    let batches = [
        batch(Codec::None, 3, &[1; 5_000]),
        batch(Codec::Lz4, 2, &[2; 900]),
        batch(Codec::Zstd, 1, b""),
        batch(Codec::None, 4, b"x"),
    ];
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let (built, block) = build(codec, &batches);
        assert_eq!(block.records().expect("decodes"), joined(&batches));
        assert_eq!((block.base(), block.end(), block.header().count), (Offset(40), Offset(50), 10));
        assert_eq!(block.header().codec, codec);
        let counts: Vec<_> = block.runs().iter().map(|run| (run.lsn.get(), run.count)).collect();
        assert_eq!(counts, [(1, 3), (2, 2), (3, 1), (4, 4)]);
        assert_eq!(block.batch().check(&crate::record::RecordLimits::default()).as_ref(), Ok(&block.batch()));
        let Entry { base, position, first_time_us, last_time_us } = built.entry(8_192);
        assert_eq!((base, position), (Offset(40), 8_192));
        assert_eq!((first_time_us, last_time_us), (origin(1).time_us, origin(4).time_us));
    }
}

#[test]
fn what_does_not_shrink_is_stored_raw() {
    let batches = [batch(Codec::None, 1, &noise(9_000)), batch(Codec::None, 1, &noise(9_000))];
    for codec in [Codec::Lz4, Codec::Zstd] {
        // One of the two is the other again, so a pair shrinks and one alone does not.
        assert_eq!(build(codec, &batches[..1]).1.header().codec, Codec::None);
    }
    assert_eq!(build(Codec::Zstd, &batches).1.header().codec, Codec::Zstd);
}

#[test]
fn a_large_compressed_batch_becomes_a_block_as_it_is() {
    let large = batch(Codec::Zstd, 2, &noise(20_000).repeat(2)[..39_000]);
    let large = if large.data.len() >= WHOLE_BYTES_MIN { large } else { batch(Codec::Zstd, 2, &noise(39_000)) };
    assert!(large.data.len() >= WHOLE_BYTES_MIN);
    let small = batch(Codec::Lz4, 1, b"small");
    let mut builder = Builder::new(Codec::Lz4, 256 << 10);
    assert_eq!(builder.push(origin(1), Offset(0), &small), Ok(Pushed::Open));
    assert_eq!(builder.push(origin(2), Offset(1), &large), Ok(Pushed::Not));
    builder.finish(&place(0), &pool());
    assert_eq!(builder.push(origin(2), Offset(1), &large), Ok(Pushed::Full));
    assert_eq!(builder.push(origin(3), Offset(3), &small), Ok(Pushed::Not));
    let built = builder.finish(&place(0), &pool());
    let block = Block::parse(&Bytes::copy_from_slice(built.bytes.as_slice())).expect("a good block");
    assert_eq!(block.batch(), large, "the same bytes under the same crc");
}

#[test]
fn a_block_closes_at_its_size_and_never_splits_a_batch() {
    let mut builder = Builder::new(Codec::None, 100_000);
    let batch_of = |bytes| batch(Codec::None, 1, &vec![7; bytes]);
    assert_eq!(builder.push(origin(1), Offset(0), &batch_of(60_000)), Ok(Pushed::Open));
    assert_eq!(builder.push(origin(2), Offset(1), &batch_of(60_000)), Ok(Pushed::Not));
    assert_eq!(builder.push(origin(2), Offset(1), &batch_of(39_974)), Ok(Pushed::Full));
    assert_eq!(builder.raw_bytes(), 100_000);
    assert_eq!(builder.push(origin(3), Offset(2), &batch_of(0)), Ok(Pushed::Not));
    builder.finish(&place(0), &pool());
    assert_eq!(builder.push(origin(3), Offset(2), &batch_of(900_000)), Ok(Pushed::Full), "one batch, however large");
    assert_eq!(builder.finish(&place(0), &pool()).header.count, 1);
}

#[test]
fn a_block_closes_at_its_runs_and_runs_of_one_frame_are_one() {
    let mut builder = Builder::new(Codec::None, 256 << 10);
    let tiny = batch(Codec::None, 1, b"");
    for number in 0..RUNS_MAX as u64 {
        let pushed = builder.push(origin(number + 1), Offset(number), &tiny);
        let expected = if number + 1 == RUNS_MAX as u64 { Pushed::Full } else { Pushed::Open };
        assert_eq!(pushed, Ok(expected), "run {number}");
    }
    assert_eq!(builder.push(origin(9_000), Offset(RUNS_MAX as u64), &tiny), Ok(Pushed::Not));
    assert_eq!(builder.finish(&place(0), &pool()).header.count, RUNS_MAX as u32);
    for (number, position) in [(0, 100), (1, 101), (2, 200)] {
        let origin = Origin { position, ..origin(1) };
        assert_eq!(builder.push(origin, Offset(number), &tiny), Ok(Pushed::Open));
    }
    let built = builder.finish(&place(0), &pool());
    let block = Block::parse(&built.bytes.freeze()).expect("a good block");
    let runs: Vec<_> = block.runs().iter().map(|run| (run.position, run.count)).collect();
    assert_eq!(runs, [(100, 2), (200, 1)]);
}

#[test]
fn a_damaged_batch_never_enters_a_block() {
    let good = batch(Codec::None, 1, b"good");
    let mut bytes = good.data.to_vec();
    bytes[8] ^= 1;
    let bad = Batch { data: bytes.into(), ..good.clone() };
    let mut builder = Builder::new(Codec::None, 256 << 10);
    let fault = BuildFault::BatchCrc { base: Offset(0), expected: good.crc32, actual: crc32fast::hash(&bad.data) };
    assert_eq!(builder.push(origin(1), Offset(0), &bad), Err(fault));
    assert!(builder.is_empty());
    assert_eq!(builder.push(origin(1), Offset(0), &good), Ok(Pushed::Open));
    assert!(matches!(builder.push(origin(2), Offset(1), &bad), Err(BuildFault::BatchCrc { .. })));
    let built = builder.finish(&place(0), &pool());
    assert_eq!(Block::parse(&built.bytes.freeze()).expect("a good block").batch(), good);
}

#[test]
fn the_format_is_the_golden_one() {
    let (built, _) = build(Codec::None, &[batch(Codec::None, 2, b"value"), batch(Codec::Lz4, 1, b"")]);
    golden::check("block", built.bytes.as_slice());
}

#[test]
fn every_flipped_byte_of_a_block_is_found() {
    let batches = [batch(Codec::None, 2, &[3; 700]), batch(Codec::None, 1, &noise(4_000))];
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let (built, _) = build(codec, &batches);
        let good = built.bytes.as_slice();
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << (at % 8);
            Block::parse(&bad.into()).expect_err("a flipped byte must not pass");
        }
        let short = Block::parse(&Bytes::copy_from_slice(&good[..good.len() - 1]));
        let expected = BlockFault::Short { expected: good.len(), found: good.len() - 1 };
        assert_eq!(short.map(|block| block.base()), Err(expected));
    }
}

#[test]
fn a_block_that_contradicts_itself_is_refused_though_its_crcs_hold() {
    let (built, _) = build(Codec::None, &[batch(Codec::None, 2, b"value")]);
    let forge = |at: usize, byte: u8, rehash: bool, change: &dyn Fn(&mut BlockHeader)| {
        let mut bytes = built.bytes.as_slice().to_vec();
        let mut header = built.header;
        bytes[at] = byte;
        if rehash {
            let (range, _) = header.section(section::RUNS).expect("has runs");
            header.sections[1].crc = crc32fast::hash(&bytes[range]);
        }
        header.body_crc = crc32fast::hash(&bytes[BLOCK_HEADER_BYTES..]);
        change(&mut header);
        bytes[..BLOCK_HEADER_BYTES].copy_from_slice(&header.encode().0);
        Block::parse(&bytes.into()).map(|block| block.base()).expect_err("refused")
    };
    let (runs, _) = built.header.section(section::RUNS).expect("has runs");
    let found = runs.start as u64;
    let wrong = |field| BlockFault::Contradiction { field, found };
    assert_eq!(forge(4_095, 1, false, &|_| ()), BlockFault::NonZeroPadding { at: 4_095 });
    assert!(matches!(forge(400, 99, false, &|_| ()), BlockFault::BadSectionCrc { kind: section::RECORDS, .. }));
    assert!(matches!(forge(runs.start, 9, false, &|_| ()), BlockFault::BadSectionCrc { kind: section::RUNS, .. }));
    assert_eq!(forge(runs.start, 9, true, &|_| ()), wrong("run_lsn"));
    assert_eq!(forge(runs.start + 16, 9, true, &|_| ()), wrong("run_time"));
    assert_eq!(forge(runs.start + 24, 9, true, &|_| ()), wrong("run_count"));
    assert_eq!(forge(runs.start + 28, 9, true, &|_| ()), wrong("run_padding"));
    let flags = BlockFault::Contradiction { field: "section_flags", found: 1 };
    assert_eq!(forge(0, 0, false, &|header| header.sections[0].flags = 1), flags);
    let raw = BlockFault::Contradiction { field: "records_raw", found: 9 };
    assert_eq!(forge(0, 0, false, &|header| header.sections[0].raw = 9), raw);
}
