//! Goal: the three indexes answer alike, and no byte of an index file can change unseen. Method: random indexes,
//! written to a real directory and asked the same questions; a small one flipped byte by byte.

use std::path::Path;

use proptest::prelude::*;

use super::{super::map::MapIndex, *};
use crate::{
    disk::{Disk, Mode, real::RealDisk},
    header::golden,
    id::{Incarnation, Lsn, Uid},
};

pub(in super::super) fn file_header() -> FileHeader {
    FileHeader {
        kind: FileKind::Segment,
        compatible_flags: 0,
        cluster: Uid([1; 16]),
        node: Uid([2; 16]),
        shard: 0,
        number: 77,
        first_lsn: Lsn(5),
        prev_crc: 0,
        incarnation: Incarnation(3),
    }
}

/// An index of blocks with these (records, pages, time to the first record, time to the last).
fn index(blocks: &[(u64, u64, u8, u8)]) -> ActiveIndex {
    let mut index = ActiveIndex::default();
    let (mut base, mut position, mut time_us) = (Offset(100), 4_096, -3);
    for (records, pages, before, within) in blocks {
        let first_time_us = time_us + i64::from(*before);
        time_us = first_time_us + i64::from(*within);
        let entry = Entry { base, position, first_time_us, last_time_us: time_us };
        base = base.plus(*records);
        position += pages * 4_096;
        index.push(entry, base, position);
    }
    index
}

fn small() -> ActiveIndex {
    index(&[(3, 1, 3, 2), (1, 2, 0, 0), (5, 1, 9, 0)])
}

fn write(dir: &Path, bytes: &[u8]) -> (RealDisk, Arc<dyn DiskFile>) {
    std::fs::write(dir.join("x.index"), bytes).expect("file is written");
    let disk = RealDisk::open(dir).expect("directory is there");
    let file = disk.open("x.index", Mode::Read, false).expect("file is there");
    (disk, file)
}

#[test]
fn lookups_find_the_block_that_holds_the_record() {
    let index = small();
    let number = |found: io::Result<Option<Found>>| found.expect("memory").map(|found| found.number);
    for (offset, expected) in
        [(99, None), (100, Some(0)), (102, Some(0)), (103, Some(1)), (104, Some(2)), (999, Some(2))]
    {
        assert_eq!(number(index.floor(Offset(offset))), expected, "offset {offset}");
    }
    for (time_us, expected) in [(i64::MIN, Some(0)), (2, Some(0)), (3, Some(2)), (11, Some(2)), (12, None)] {
        assert_eq!(number(index.first_at(time_us)), expected, "time {time_us}");
    }
    let found = index.get(1).expect("memory").expect("there is one");
    assert_eq!((found.entry.position, found.next_position), (8_192, 16_384));
    assert_eq!(index.get(2).expect("memory").map(|found| found.next_position), Some(20_480));
    assert_eq!(index.get(3).expect("memory"), None);
}

#[test]
fn the_format_is_the_golden_one() {
    golden::check("index", &small().encode(&file_header()));
}

#[test]
fn every_flipped_byte_of_an_index_is_found() {
    let good = small().encode(&file_header());
    let dir = tempfile::tempdir().expect("a directory");
    let (_, file) = write(dir.path(), &good);
    let (head, entries) = verify(&*file, SegmentId(77)).expect("a good index");
    assert_eq!((head.count, head.end, head.data_end), (3, Offset(109), 20_480));
    assert_eq!(entries, small().entries());
    let path = dir.path().join("x.index");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bad).expect("file is written");
        verify(&*file, SegmentId(77)).expect_err("a flipped byte must not pass");
    }
    for length in [0, 100, 4_096, 4_100, 8_191, 8_193] {
        let mut bad = good.clone();
        bad.resize(length, 0);
        std::fs::write(&path, &bad).expect("file is written");
        verify(&*file, SegmentId(77)).expect_err("another length must not pass");
    }
}

#[test]
fn an_index_of_something_else_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let (disk, file) = write(dir.path(), &small().encode(&file_header()));
    let fault = PreadIndex::open(file.clone(), SegmentId(78)).map(|_| ()).expect_err("refused");
    assert!(matches!(fault, IndexFault::WrongSegment { found: SegmentId(77), .. }), "{fault}");
    let fault = MapIndex::open(&disk, &*file, SegmentId(78)).map(|_| ()).expect_err("refused");
    assert!(matches!(fault, IndexFault::WrongSegment { .. }), "{fault}");
    let (_, file) = write(dir.path(), &file_header().encode());
    let fault = verify(&*file, SegmentId(77)).expect_err("refused");
    let wrong = HeaderFault::WrongKind { expected: 3, found: 2 };
    assert!(matches!(fault, IndexFault::Header { fault, .. } if fault == wrong));
}

#[test]
fn entries_in_disorder_are_refused_though_the_crc_holds() {
    let good = small();
    for change in [
        |entry: &mut Entry| entry.base = Offset(100),
        |entry: &mut Entry| entry.position = 4_096,
        |entry: &mut Entry| entry.position += 1,
        |entry: &mut Entry| entry.first_time_us = 1,
        |entry: &mut Entry| entry.last_time_us = 100,
    ] {
        let mut bad = good.clone();
        change(&mut bad.entries[1]);
        let dir = tempfile::tempdir().expect("a directory");
        let (_, file) = write(dir.path(), &bad.encode(&file_header()));
        let fault = verify(&*file, SegmentId(77)).expect_err("refused");
        assert!(matches!(fault, IndexFault::Contradiction { at, .. } if at >= ENTRIES_AT), "{fault}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_map_answers_as_reads_and_memory_do(
        blocks in proptest::collection::vec((1..9_u64, 1..5_u64, 0..4_u8, 0..4_u8), 0..300),
        offsets in proptest::collection::vec(90..1_500_u64, 20),
        times in proptest::collection::vec(-10..900_i64, 20),
    ) {
        let memory = index(&blocks);
        let dir = tempfile::tempdir().expect("a directory");
        let (disk, file) = write(dir.path(), &memory.encode(&file_header()));
        let pread = PreadIndex::open(file.clone(), SegmentId(77)).expect("a good index");
        let mapped = MapIndex::open(&disk, &*file, SegmentId(77)).expect("a good index").expect("a real file");
        prop_assert_eq!(pread.head(), mapped.head());
        let twins: [&dyn Index; 2] = [&pread, &mapped];
        for twin in twins {
            prop_assert_eq!((twin.count(), twin.data_end()), (memory.count(), memory.data_end()));
            for offset in &offsets {
                let offset = Offset(*offset);
                prop_assert_eq!(twin.floor(offset).expect("a lookup"), memory.floor(offset).expect("a lookup"));
            }
            for time_us in &times {
                let (at, found) = (*time_us, memory.first_at(*time_us).expect("a lookup"));
                prop_assert_eq!(twin.first_at(at).expect("a lookup"), found);
            }
            for number in 0..=memory.count() {
                prop_assert_eq!(twin.get(number).expect("a lookup"), memory.get(number).expect("a lookup"));
            }
            prop_assert!(twin.entry(memory.count()).is_err());
        }
    }
}
