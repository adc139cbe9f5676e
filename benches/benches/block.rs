//! Block read: a block of 256 KiB of orders, found by the index, read from a file in the page cache and proven whole.
//! `decoded` also unpacks the records, as a reader of records needs them; throughput counts unpacked bytes.

use std::{hint::black_box, path::Path, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tillroll_benches::payload;
use tillroll_engine::{
    codec::Codec,
    disk::{Disk, Mode, aligned::AlignedPool, real::RealDisk, write_all_at},
    header::{FileHeader, FileKind},
    id::{Incarnation, Lane, Lsn, Offset, Partition, SegmentId, TopicId, Uid},
    segment::{ActiveIndex, Builder, Extent, Index, Origin, Place, Pushed, Reader},
};

const BLOCKS: u32 = 16;
/// With their framing just below 256 KiB.
const BLOCK_RECORDS: u32 = 254;
const BLOCK_BYTES: usize = 256 << 10;
const LANE: Lane = Lane { topic: TopicId(1), partition: Partition(0) };
const SEGMENT: SegmentId = SegmentId(77);
const INCARNATION: Incarnation = Incarnation(1);

/// A segment of full blocks, and the raw bytes of one.
fn segment(dir: &Path, codec: Codec) -> (Reader, ActiveIndex, u64) {
    let header = FileHeader {
        kind: FileKind::Segment,
        compatible_flags: 0,
        cluster: Uid([1; 16]),
        node: Uid([2; 16]),
        shard: 0,
        number: SEGMENT.get(),
        first_lsn: Lsn(1),
        prev_crc: 0,
        incarnation: INCARNATION,
    };
    let pool = AlignedPool::new(8 << 20);
    let (mut bytes, mut index, mut prev_crc) = (header.encode().to_vec(), ActiveIndex::default(), header.crc());
    let mut raw_bytes = 0;
    for number in 0..u64::from(BLOCKS) {
        let mut builder = Builder::new(codec, BLOCK_BYTES);
        let base = Offset(number * u64::from(BLOCK_RECORDS));
        let origin = Origin { lsn: Lsn(number + 1), position: base.get(), time_us: 0 };
        let pushed = builder.push(origin, base, &payload::orders(base.get(), BLOCK_RECORDS, Codec::None));
        assert_eq!(pushed, Ok(Pushed::Open), "the records of one block");
        raw_bytes = builder.raw_bytes() as u64;
        let place = Place { lane: LANE, segment: SEGMENT, prev_crc, incarnation: INCARNATION };
        let built = builder.finish(&place, &pool);
        assert_eq!(built.header.codec, codec, "orders compress");
        let position = bytes.len() as u64;
        bytes.extend_from_slice(built.bytes.as_slice());
        index.push(built.entry(position), built.header.end, bytes.len() as u64);
        prev_crc = built.crc;
    }
    let disk = RealDisk::open(dir).expect("the directory was just made");
    let file = disk.open(&format!("{codec:?}"), Mode::Create, false).expect("one file a codec");
    write_all_at(&*file, &bytes, 0).expect("there is room for a segment");
    let extent = Extent { lane: LANE, segment: SEGMENT, base: Offset(0), data_end: bytes.len() as u64 };
    (Reader::open(file, extent, false, pool).expect("a good segment"), index, raw_bytes)
}

fn block_read(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build's directory is ours");
    let mut group = criterion.benchmark_group("block_read");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for (name, codec) in [("none", Codec::None), ("lz4", Codec::Lz4), ("zstd", Codec::Zstd)] {
        let (reader, index, raw_bytes) = segment(dir.path(), codec);
        group.throughput(Throughput::Bytes(raw_bytes));
        let mut numbers = (0..BLOCKS).cycle();
        let mut next = || {
            let number = numbers.next().expect("a cycle has no end");
            let found = index.get(number).expect("memory").expect("there are so many");
            reader.read_found(black_box(&found)).expect("a good block").0
        };
        group.bench_function(BenchmarkId::new("found", name), |bencher| bencher.iter(|| black_box(next())));
        group.bench_function(BenchmarkId::new("decoded", name), |bencher| {
            bencher.iter(|| black_box(next().batch().decode().expect("a good batch")));
        });
    }
    group.finish();
}

criterion_group!(benches, block_read);
criterion_main!(benches);
