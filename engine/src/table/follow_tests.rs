use bytes::Bytes;

use super::*;
use crate::{
    batch::Batch,
    codec::Codec,
    group::{BelowHead, GroupConfig, Mode},
    id::Partition,
    request::{Start, TopicConfig},
};

const TOPIC: TopicId = TopicId(1);
const PRODUCER: ProducerId = ProducerId(1);
const GROUP: GroupId = GroupId(1);
const LANE: Lane = Lane { topic: TOPIC, partition: Partition(1) };

fn create(topic: TopicId, name: &str) -> Op {
    let config = TopicConfig { partitions: 2, ..TopicConfig::default() };
    Op::TopicCreate(TopicCreateOp { topic, config, name: name.into() })
}

fn batch_at(lane: Lane, base: u64, record_count: u32) -> Op {
    let batch = Batch { codec: Codec::None, record_count, decoded_bytes: 0, crc32: 0, data: Bytes::new() };
    Op::Batch(BatchOp { lane, batch_index: 0, base: Offset(base), batch })
}

fn open(producer: ProducerId, epoch: u64, name: &str) -> Op {
    Op::ProducerOpen(ProducerOpenOp { producer, epoch, idle_expiry_us: 0, name: name.into() })
}

fn stamped(producer: ProducerId, epoch: u64, sequence: u64) -> Op {
    Op::Stamp(StampOp { producer, epoch, sequence, answered_below: 0, content_hash: 0 })
}

fn group_of(group: GroupId, name: &str) -> Op {
    let config = GroupConfig {
        mode: Mode::Manual,
        rule: None,
        start: Start::Earliest,
        below_head: BelowHead::Fail,
        session_ms: 10_000,
        drain_ms: 30_000,
    };
    let (topics, cursors) = (vec![(TOPIC, "orders".into())], vec![(LANE, Offset(0))]);
    Op::Group(GroupOp::Create(GroupCreate { group, name: name.into(), config, topics, cursors }))
}

fn set(group: GroupId, lane: Lane) -> Op {
    Op::Group(GroupOp::Set { group, lane, next: Offset(1), epoch: 9, reason: String::new() })
}

fn next(applied: &Applied, ops: Vec<Op>) -> Frame {
    Frame { lsn: applied.lsn.next(), time_us: 100, position: applied.position, ops }
}

/// A topic of two partitions with seven records in the second, a producer with one append, and a group.
fn tables() -> Applied {
    let mut applied = Applied::default();
    let frames = [
        vec![create(TOPIC, "orders")],
        vec![open(PRODUCER, 2, "loader")],
        vec![batch_at(LANE, 0, 3), batch_at(LANE, 3, 4), stamped(PRODUCER, 2, 1)],
        vec![group_of(GROUP, "mailer"), set(GROUP, LANE)],
    ];
    for ops in frames {
        let frame = next(&applied, ops);
        assert_eq!(applied.replay(&frame), Ok(()));
    }
    applied
}

#[test]
fn each_operation_that_does_not_follow_is_named() {
    let (elsewhere, beyond) = (Lane { topic: TopicId(2), ..LANE }, Lane { partition: Partition(2), ..LANE });
    let unknown = |what, id| Misfit::Unknown { what, id };
    let number = |what, found| Misfit::Number { what, expected: 2, found };
    let name = |what, id| Misfit::Name { what, id };
    let base = |expected, found| Misfit::Base { lane: LANE, expected: Offset(expected), found: Offset(found) };
    let epoch = |found| Misfit::Epoch { producer: PRODUCER, current: 2, found };
    let sequence = |found| Misfit::Sequence { producer: PRODUCER, last: 1, found };
    let rows = [
        (vec![batch_at(LANE, 0, 1)], base(7, 0)),
        (vec![batch_at(LANE, 8, 1)], base(7, 8)),
        (vec![batch_at(LANE, 7, 1), batch_at(LANE, 7, 1)], base(8, 7)),
        (vec![batch_at(elsewhere, 0, 1)], unknown("topic", 2)),
        (vec![Op::TopicDelete(TOPIC), batch_at(LANE, 7, 1)], unknown("topic", 1)),
        (vec![batch_at(beyond, 0, 1)], Misfit::Partition { lane: beyond, count: 2 }),
        (vec![create(TopicId(3), "returns")], number("topic", 3)),
        (vec![create(TOPIC, "returns")], number("topic", 1)),
        (vec![create(TopicId(2), "orders")], name("topic", 2)),
        (vec![Op::TopicDelete(TopicId(2))], unknown("topic", 2)),
        (vec![open(ProducerId(3), 5, "other")], number("producer", 3)),
        (vec![open(ProducerId(2), 5, "loader")], name("producer", 2)),
        (vec![open(PRODUCER, 5, "other")], name("producer", 1)),
        (vec![open(PRODUCER, 2, "loader")], epoch(2)),
        (vec![Op::ProducerExpire(ProducerId(2))], unknown("producer", 2)),
        (vec![stamped(ProducerId(2), 2, 2)], unknown("producer", 2)),
        (vec![stamped(PRODUCER, 3, 2)], epoch(3)),
        (vec![stamped(PRODUCER, 2, 1)], sequence(1)),
        (vec![stamped(PRODUCER, 2, 3)], sequence(3)),
        (vec![group_of(GroupId(3), "other")], number("group", 3)),
        (vec![group_of(GroupId(2), "mailer")], name("group", 2)),
        (vec![set(GroupId(2), LANE)], unknown("group", 2)),
        (vec![set(GROUP, beyond)], Misfit::Cursor { group: GROUP, lane: beyond }),
        (vec![Op::Group(GroupOp::Delete(GROUP)), set(GROUP, LANE)], unknown("group", 1)),
    ];
    for (ops, misfit) in rows {
        let mut applied = tables();
        let frame = next(&applied, ops);
        assert_eq!(applied.replay(&frame), Err(misfit), "{:?}", frame.ops);
    }
}

#[test]
fn a_frame_that_is_not_the_next_one_is_named() {
    let whole = next(&tables(), Vec::new());
    let rows = [
        (Frame { lsn: Lsn(6), ..whole.clone() }, Misfit::Lsn { before: Lsn(4) }),
        (Frame { lsn: Lsn(4), ..whole.clone() }, Misfit::Lsn { before: Lsn(4) }),
        (Frame { position: 8, ..whole.clone() }, Misfit::Position { expected: 7, found: 8 }),
        (Frame { time_us: 99, ..whole.clone() }, Misfit::Time { before: 100, found: 99 }),
    ];
    for (frame, misfit) in rows {
        assert_eq!(tables().replay(&frame), Err(misfit));
    }
    assert_eq!(tables().replay(&whole), Ok(()));
}

#[test]
fn numbers_that_cannot_be_counted_on_are_named() {
    type Spoil = fn(&mut Applied);
    let rows: [(Spoil, Vec<Op>); 6] = [
        (|applied| applied.lanes.entry(LANE).or_default().end = Offset(u64::MAX), vec![batch_at(LANE, u64::MAX, 1)]),
        (|applied| applied.position = u64::MAX, vec![batch_at(LANE, 7, 1)]),
        (|applied| applied.counters.next_topic = u64::MAX, vec![create(TopicId(u64::MAX), "returns")]),
        (|applied| applied.counters.next_producer = u64::MAX, vec![open(ProducerId(u64::MAX), 5, "other")]),
        (|applied| applied.counters.next_group = u64::MAX, vec![group_of(GroupId(u64::MAX), "other")]),
        (
            |applied| applied.producers.get_mut(&PRODUCER).expect("it is there").accepted_records = u64::MAX,
            vec![batch_at(LANE, 7, 1), stamped(PRODUCER, 2, 2)],
        ),
    ];
    for (spoil, ops) in rows {
        let mut applied = tables();
        spoil(&mut applied);
        let frame = next(&applied, ops);
        let replayed = applied.replay(&frame);
        assert!(matches!(replayed, Err(Misfit::Uncountable { .. })), "{replayed:?} {:?}", frame.ops);
    }
    let mut applied = tables();
    applied.producers.get_mut(&PRODUCER).expect("it is there").last_sequence = u64::MAX;
    let frame = next(&applied, vec![stamped(PRODUCER, 2, 2)]);
    assert!(applied.replay(&frame).is_err());
}
