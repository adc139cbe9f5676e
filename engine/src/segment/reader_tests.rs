//! Goal: blocks are found where they are, nothing that does not belong is served, and damage is told from a bad page
//! in the cache. Method: a segment of a few blocks in a file of memory whose cache can lie.

use parking_lot::Mutex;

use super::{
    super::{
        block::{Builder, Place, Pushed, tests},
        index::{Index, tests::file_header},
    },
    *,
};
use crate::{batch::tests::batch, codec::Codec};

/// A file of memory. `lie` is a byte that reads wrong until the cache is dropped.
#[derive(Default)]
struct MemFile {
    bytes: Mutex<Vec<u8>>,
    lie: Mutex<Option<usize>>,
    far: Mutex<u64>,
}

impl DiskFile for MemFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock();
        let at = (at as usize).min(bytes.len());
        let count = buffer.len().min(bytes.len() - at).min(60_000);
        buffer[..count].copy_from_slice(&bytes[at..at + count]);
        if let Some(lie) = self.lie.lock().filter(|lie| (at..at + count).contains(lie)) {
            buffer[lie - at] ^= 0x10;
        }
        let mut far = self.far.lock();
        *far = far.max((at + count) as u64);
        Ok(count)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn set_bytes(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        if advice == Advice::DontNeed {
            *self.lie.lock() = None;
        }
        Ok(())
    }

    fn is_direct(&self) -> bool {
        false
    }

    fn path(&self) -> &'static str {
        "data/x.log"
    }
}

/// A segment of three blocks (10 records each, from offset 40; the second one large), with garbage behind.
fn segment() -> (Arc<MemFile>, Reader, ActiveIndex) {
    let pool = AlignedPool::new(1 << 20);
    let header = file_header();
    let (mut bytes, mut index) = (header.encode().to_vec(), ActiveIndex::default());
    let (mut prev_crc, mut base) = (header.crc(), Offset(40));
    for (lsn, value_bytes) in [(1, 20), (2, 2_000), (3, 5)] {
        let mut builder = Builder::new(Codec::None, 256 << 10);
        let pushed = builder.push(tests::origin(lsn), base, &batch(Codec::None, 10, &vec![3; value_bytes]));
        assert_eq!(pushed, Ok(Pushed::Open));
        let built = builder.finish(&Place { prev_crc, ..tests::place(0) }, &pool);
        let position = bytes.len() as u64;
        bytes.extend_from_slice(built.bytes.as_slice());
        base = built.header.end;
        index.push(built.entry(position), base, bytes.len() as u64);
        prev_crc = built.crc;
    }
    let extent = Extent { lane: tests::LANE, segment: SegmentId(77), base: Offset(40), data_end: bytes.len() as u64 };
    bytes.extend(std::iter::repeat_n(0xaa, 9_000));
    let file = Arc::new(MemFile { bytes: Mutex::new(bytes), ..MemFile::default() });
    let reader = Reader::open(file.clone(), extent, true, pool).expect("a good segment");
    (file, reader, index)
}

/// What the tables say of the segment's last record.
fn reach(index: &ActiveIndex) -> Reach {
    Reach { end: Offset(70), last_time_us: index.entries()[2].last_time_us }
}

#[test]
fn blocks_are_read_in_a_row_up_to_the_data_end_and_no_further() {
    let (file, reader, index) = segment();
    let data_end = reader.extent().data_end;
    let (mut position, mut offset) = (FIRST_BLOCK, Offset(40));
    while position < data_end {
        let (block, next) = reader.read_block_at(position).expect("a good block");
        assert_eq!(block.base(), offset);
        let found = index.floor(offset).expect("memory").expect("there is one");
        assert_eq!((found.entry.position, found.next_position), (position, next));
        let (again, _) = reader.read_found(&found).expect("a good block");
        assert_eq!(again.bytes(), block.bytes());
        (position, offset) = (next, block.end());
    }
    assert_eq!((position, offset), (data_end, Offset(70)));
    assert_eq!(reader.index(reach(&index)).expect("good headers"), index);
    assert_eq!(*file.far.lock(), data_end, "what lies behind is never asked for");
    for position in [0, 4_097, data_end, data_end + 4_096] {
        let fault = reader.read_block_at(position).map(|_| ()).expect_err("no block");
        assert!(matches!(fault, SegmentFault::NoBlock { .. }), "{fault}");
    }
    let less = reader.with_data_end(data_end - 4_096);
    assert_eq!(less.index(reach(&index)).expect("good headers").count(), 2);
    let cut = reader.with_data_end(index.entries()[1].position + 4_096);
    let fault = cut.read_block_at(index.entries()[1].position).map(|_| ()).expect_err("reaches behind the end");
    assert!(matches!(fault, SegmentFault::Damaged { fault: BlockFault::Short { .. }, .. }), "{fault}");
}

#[test]
fn a_bad_page_in_the_cache_is_read_again_and_bad_bytes_on_disk_are_damage() {
    let (file, reader, index) = segment();
    let position = index.entries()[1].position;
    for at in [position as usize + 20, position as usize + 15_000] {
        *file.lie.lock() = Some(at);
        reader.read_block_at(position).expect("the second read is right");
        *file.lie.lock() = Some(at);
        assert_eq!(reader.index(reach(&index)).expect("the second read is right"), index);
        file.bytes.lock()[at] ^= 1;
        let fault = reader.read_block_at(position).map(|_| ()).expect_err("damage");
        let SegmentFault::Damaged { path, position: found, .. } = fault else { panic!("{fault}") };
        assert_eq!((path.as_str(), found), ("data/x.log", position));
        file.bytes.lock()[at] ^= 1;
    }
    *file.lie.lock() = Some(100);
    let open = || Reader::open(file.clone(), *reader.extent(), false, AlignedPool::new(0)).map(|_| ());
    open().expect("the second read is right");
    file.bytes.lock()[100] ^= 1;
    assert!(matches!(open(), Err(SegmentFault::Header { .. })));
}

#[test]
fn every_flipped_byte_of_a_segment_is_found() {
    let (file, reader, _) = segment();
    let data_end = reader.extent().data_end as usize;
    let walk = || -> Result<(), SegmentFault> {
        let reader = Reader::open(file.clone(), *reader.extent(), false, AlignedPool::new(1 << 20))?;
        for found in reader.headers(FIRST_BLOCK, u64::MAX) {
            reader.read_block_at(found?.0)?;
        }
        Ok(())
    };
    walk().expect("a good segment");
    for at in 0..data_end {
        file.bytes.lock()[at] ^= 0x40;
        walk().expect_err("a flipped byte must not pass");
        file.bytes.lock()[at] ^= 0x40;
    }
}

#[test]
fn blocks_of_elsewhere_and_of_before_are_refused() {
    let (file, reader, index) = segment();
    let extent = *reader.extent();
    let refused = |extent| {
        let reader = Reader::open(file.clone(), extent, false, AlignedPool::new(0)).expect("its file header holds");
        match reader.read_block_at(FIRST_BLOCK).map(|_| ()) {
            Err(SegmentFault::Damaged { fault: BlockFault::Misplaced { field, .. }, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    let lane = |topic, partition| Lane { topic: crate::id::TopicId(topic), partition: crate::id::Partition(partition) };
    assert_eq!(refused(Extent { lane: lane(0xabd, 3), ..extent }), "topic");
    assert_eq!(refused(Extent { lane: lane(0xabc, 4), ..extent }), "partition");
    assert_eq!(refused(Extent { base: Offset(41), ..extent }), "base");
    let other = Extent { segment: SegmentId(78), ..extent };
    let fault = Reader::open(file.clone(), other, false, AlignedPool::new(0)).map(|_| ()).expect_err("refused");
    assert!(matches!(fault, SegmentFault::WrongSegment { .. }), "{fault}");
    // A hint that points at another block of the same segment.
    let found = index.get(0).expect("memory").expect("there is one");
    let wrong = Found { entry: Entry { base: Offset(50), ..found.entry }, ..found };
    assert!(matches!(reader.read_found(&wrong), Err(SegmentFault::Damaged { .. })));
    // The third block in the place of the second: whole, ours, but not what follows.
    let (second, third) = (index.entries()[1].position as usize, index.entries()[2].position as usize);
    file.bytes.lock().copy_within(third..third + 4_096, second);
    let around = reader.index(reach(&index)).expect("the others stand");
    assert_eq!(around.entries()[2], index.entries()[2]);
    let hole = around.floor(Offset(55)).expect("memory").expect("there is one");
    let fault = reader.read_found(&hole).map(|_| ()).expect_err("not what follows");
    let SegmentFault::Damaged { fault: BlockFault::Misplaced { field, .. }, .. } = fault else { panic!("{fault}") };
    assert_eq!(field, "base");
}

#[test]
fn a_damaged_header_costs_its_own_block_and_no_other() {
    let (file, reader, index) = segment();
    let reach = reach(&index);
    for damaged in 0..3 {
        let entry = index.entries()[damaged];
        file.bytes.lock()[entry.position as usize + 20] ^= 1;
        let around = reader.index(reach).expect("the others stand");
        assert_eq!((around.end(), around.count()), (Offset(70), 3));
        for (number, expected) in index.entries().iter().enumerate() {
            let found = around.floor(expected.base.plus(9)).expect("memory").expect("there is one");
            assert_eq!((found.number as usize, found.entry.position), (number, expected.position));
            let read = reader.read_found(&found).map(|(block, _)| block.base());
            match read {
                Ok(base) => assert!(number != damaged && base == expected.base),
                Err(fault) => assert!(number == damaged && matches!(fault, SegmentFault::Damaged { .. }), "{fault}"),
            }
        }
        // A time inside the hole leads to the hole, never past it.
        let at = around.first_at(entry.last_time_us).expect("memory").expect("there is one");
        assert!(at.number as usize <= damaged);
        file.bytes.lock()[entry.position as usize + 20] ^= 1;
    }
    // Two of three: one hole, from the first damage to the end of what cannot be reached.
    for damaged in [0, 2] {
        file.bytes.lock()[index.entries()[damaged].position as usize + 20] ^= 1;
    }
    let around = reader.index(reach).expect("a hole");
    assert_eq!((around.entries().len(), around.end()), (1, Offset(70)));
}
