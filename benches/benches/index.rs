//! Index lookup: the block of an offset among 10,000, in memory, by reads of a file in the page cache, and through a
//! map of it.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use tillroll_engine::{
    disk::{Disk, Mode, real::RealDisk, write_all_at},
    header::{FileHeader, FileKind},
    id::{Incarnation, Lsn, Offset, SegmentId, Uid},
    segment::{ActiveIndex, Entry, FIRST_BLOCK, Index, index::PreadIndex, map::MapIndex},
};

const ENTRIES: u32 = 10_000;
const BLOCK_RECORDS: u64 = 250;
const BLOCK_BYTES: u64 = 256 << 10;
const SEGMENT: SegmentId = SegmentId(77);
const PATH: &str = "index";

fn entries() -> ActiveIndex {
    let mut index = ActiveIndex::default();
    for number in 0..u64::from(ENTRIES) {
        let (base, position) = (Offset(number * BLOCK_RECORDS), FIRST_BLOCK + number * BLOCK_BYTES);
        let first_time_us = i64::try_from(number).expect("few") * 1_000;
        let entry = Entry { base, position, first_time_us, last_time_us: first_time_us + 999 };
        index.push(entry, base.plus(BLOCK_RECORDS), position + BLOCK_BYTES);
    }
    index
}

fn header() -> FileHeader {
    FileHeader {
        kind: FileKind::Segment,
        compatible_flags: 0,
        cluster: Uid([1; 16]),
        node: Uid([2; 16]),
        shard: 0,
        number: SEGMENT.get(),
        first_lsn: Lsn(1),
        prev_crc: 0,
        incarnation: Incarnation(1),
    }
}

fn lookup(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build's directory is ours");
    let disk = RealDisk::open(dir.path()).expect("the directory was just made");
    let active = entries();
    let file = disk.open(PATH, Mode::Create, false).expect("the directory is empty");
    write_all_at(&*file, &active.encode(&header()), 0).expect("there is room for an index");
    let mapped = MapIndex::open(&disk, &*file, SEGMENT).expect("a good index").expect("a real disk has real files");
    let read = PreadIndex::open(file, SEGMENT).expect("a good index");

    let mut group = criterion.benchmark_group("index_lookup");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let indexes: [(&str, &dyn Index); 3] = [("active", &active), ("pread", &read), ("map", &mapped)];
    for (name, index) in indexes {
        // A stride that is prime to the number of records visits them all, far from each other.
        let (records, mut offset) = (u64::from(ENTRIES) * BLOCK_RECORDS, 0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                offset = (offset + 1_000_003) % records;
                let found = index.floor(black_box(Offset(offset))).expect("a good index").expect("it is in there");
                assert_eq!(u64::from(found.number), offset / BLOCK_RECORDS, "the block that holds it");
                black_box(found)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
