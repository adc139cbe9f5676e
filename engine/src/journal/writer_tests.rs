use bytes::Bytes;

use super::*;
use crate::{
    answer::Answer,
    batch::Batch,
    codec::Codec,
    disk::sim::SimDisk,
    header::golden,
    id::{Incarnation, Lane, Lsn, Offset, Partition, ProducerId, TopicId, Uid},
    journal::{
        op::{BatchOp, ProducerOpenOp, StampOp, TopicCreateOp},
        pool::{Files, Slot},
    },
    request::TopicConfig,
};

const FILE_BYTES: u64 = 32 << 10;

/// A writer over one free file that still holds what an earlier use left in it.
fn writer(disk: &SimDisk, inbox: &Arc<Queue<Sequenced>>, outbox: &Arc<Queue<Group>>) -> Writer {
    disk.write_file("journal/slot-000", &vec![0xee; FILE_BYTES as usize]);
    let files = Files { free: vec![Slot(0)], next_file_no: 1, ..Files::default() };
    let marks = Arc::new(Marks::default());
    let identity =
        Identity { cluster: Uid(*b"cluster-identity"), node: Uid(*b"identity-of-node"), incarnation: Incarnation(3) };
    let parts = Parts {
        disk: disk.handle(),
        pool: Pool::new(2, files, [Bell::default(), Bell::default()], &Bell::default(), Arc::default()),
        buffers: AlignedPool::new(0),
        identity,
        marks,
        poison: Arc::default(),
        file_bytes: FILE_BYTES,
        group_bytes: 8 << 10,
        inbox: inbox.clone(),
        outbox: outbox.clone(),
        bell: Bell::default(),
    };
    Writer::resume(parts, Resume { tip: Tip::default(), file: None })
}

fn sequenced(lsn: u64, position: u64, ops: Vec<Op>) -> Sequenced {
    let frame = Frame { lsn: Lsn(lsn), time_us: 1_700_000_000_000_000, position, ops };
    let pending = Pending { answer: Answer::nobody(), permit: None, rests_on: Lsn(lsn) };
    Sequenced { frame: Some(frame), pending }
}

fn append(sequence: u64) -> Vec<Op> {
    let data = Bytes::from(format!("\x0a\x0a\x0a\x01k\x12\x05val-{sequence}"));
    let lane = Lane { topic: TopicId(1), partition: Partition(0) };
    let (record_count, decoded_bytes) = (1, u32::try_from(data.len()).expect("small"));
    let batch = Batch { codec: Codec::None, record_count, decoded_bytes, crc32: crc32fast::hash(&data), data };
    let stamp = StampOp { producer: ProducerId(1), epoch: 1, sequence, answered_below: 0, content_hash: 0xaabb };
    vec![Op::Stamp(stamp), Op::Batch(BatchOp { lane, batch_index: 0, base: Offset(sequence - 1), batch })]
}

/// File header, a group of three frames and its padding, a group of one, the block of zeros, and what was there
/// before: all bytes come from the stage itself.
#[test]
fn two_groups_in_a_recycled_file_match_their_golden_bytes() {
    let disk = SimDisk::new(1);
    let bell = Bell::default();
    let (inbox, outbox) = (Queue::new(8, &bell, &bell), Queue::new(8, &bell, &bell));
    let mut writer = writer(&disk, &inbox, &outbox);
    let opened = ProducerOpenOp { producer: ProducerId(1), epoch: 1, idle_expiry_us: 0, name: "loader".into() };
    let config = TopicConfig { partitions: 1, codec: Codec::Lz4, max_record_bytes: 1 << 20, segment_bytes: 1 << 20 };
    let created = TopicCreateOp { topic: TopicId(1), config, name: "orders".into() };
    let first = vec![Op::ProducerOpen(opened), Op::TopicCreate(created)];
    let frames = [sequenced(1, 0, first), sequenced(2, 0, append(1)), sequenced(3, 1, append(2))];
    assert!(frames.into_iter().all(|frame| inbox.push(frame).is_ok()));
    assert_eq!(
        [writer.step(Now::default()), writer.step(Now::default())],
        [Step::Did; 2],
        "the header, then the group"
    );
    // What is durable by then stands in the frames of the next group.
    writer.marks.durable.raise(Lsn(3));
    assert!(inbox.push(sequenced(4, 2, append(3))).is_ok());
    assert_eq!([writer.step(Now::default()), writer.step(Now::default())], [Step::Did, Step::Idle]);
    let groups: Vec<Group> = std::iter::from_fn(|| outbox.pop()).collect();
    let ends: Vec<u64> = groups.iter().map(|group| group.tip.at).collect();
    assert_eq!(ends, [8_192, 12_288], "groups end at multiples of 4096");
    let file = disk.read_file("journal/slot-000");
    assert!(file[16_384..].iter().all(|byte| *byte == 0xee), "nothing is written behind the zeros");
    golden::check("group", &file[..16_384]);
}
