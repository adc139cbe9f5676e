//! Whether a frame that recovery reads again follows from the tables before it.
//!
//! Frames and tables each have checksums, and each may be whole while the two are of different moments: then a frame
//! names an offset, an id or a sequence that the tables do not lead to. Comes in: the tables and one frame, or one
//! operation of it. Goes out: yes, or what does not fit. Live frames are not asked: they were decided on these tables.

use thiserror::Error;

use crate::{
    id::{GroupId, Lane, Lsn, Offset, ProducerId, TopicId},
    journal::{
        Frame,
        group_op::{GroupCreate, GroupOp},
        op::{BatchOp, Op, ProducerOpenOp, StampOp, TopicCreateOp},
    },
    table::Applied,
};

/// What of a frame does not follow from the tables.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misfit {
    /// Its number is not the next one.
    #[error("the frame before it is {before}")]
    Lsn {
        /// The last frame of the tables.
        before: Lsn,
    },
    /// It counts other records before it.
    #[error("it counts {found} records before it, and there are {expected}")]
    Position {
        /// What the tables count.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// It is older than the frame before it.
    #[error("its time {found} us is before that of the frame before it, {before} us")]
    Time {
        /// The time of the tables.
        before: i64,
        /// Its time.
        found: i64,
    },
    /// A batch does not begin where its partition ends.
    #[error("its batch of partition {lane} begins at offset {found}, and the partition ends at {expected}")]
    Base {
        /// Topic and partition.
        lane: Lane,
        /// Where the partition ends in the tables.
        expected: Offset,
        /// Where the batch begins.
        found: Offset,
    },
    /// A batch does not begin where the segments and earlier frames end.
    #[error(
        "its batch of partition {lane} begins at offset {found}, and segments and earlier frames end at {expected}"
    )]
    Flushed {
        /// Topic and partition.
        lane: Lane,
        /// Where segments and earlier frames end.
        expected: Offset,
        /// Where the batch begins.
        found: Offset,
    },
    /// A batch is for a partition that its topic does not have.
    #[error("its batch is for partition {lane}, and the topic has {count} partitions")]
    Partition {
        /// Topic and partition.
        lane: Lane,
        /// How many there are.
        count: u32,
    },
    /// It names something that is not there.
    #[error("it names {what} {id}, which is not there")]
    Unknown {
        /// A topic, a producer or a group.
        what: &'static str,
        /// Its number.
        id: u64,
    },
    /// It names a cursor that is not there.
    #[error("it names the cursor of group {group} in partition {lane}, which is not there")]
    Cursor {
        /// The group.
        group: GroupId,
        /// Topic and partition.
        lane: Lane,
    },
    /// It makes something with a number that is not the next one.
    #[error("it makes {what} {found}, and the next number is {expected}")]
    Number {
        /// A topic, a producer or a group.
        what: &'static str,
        /// The next number.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// It makes something whose name is taken, or takes over what has another name.
    #[error("it gives {what} {id} the name of another one, or another name")]
    Name {
        /// A topic, a producer or a group.
        what: &'static str,
        /// Its number.
        id: u64,
    },
    /// A producer's epoch is not the one that counts, or does not rise.
    #[error("it is of epoch {found} of producer {producer}, whose epoch is {current}")]
    Epoch {
        /// The producer.
        producer: ProducerId,
        /// The epoch of the tables.
        current: u64,
        /// What it says.
        found: u64,
    },
    /// A producer's sequence is not the next one.
    #[error("it is sequence {found} of producer {producer}, whose last one is {last}")]
    Sequence {
        /// The producer.
        producer: ProducerId,
        /// The last accepted one.
        last: u64,
        /// What it says.
        found: u64,
    },
    /// A number of the tables is so large that nothing comes behind it.
    #[error("{what} cannot be counted on")]
    Uncountable {
        /// What is counted.
        what: &'static str,
    },
}

/// Whether a frame is the next one.
pub(super) fn frame(applied: &Applied, frame: &Frame) -> Result<(), Misfit> {
    if applied.lsn.0.checked_add(1) != Some(frame.lsn.0) {
        return Err(Misfit::Lsn { before: applied.lsn });
    }
    if frame.position != applied.position {
        return Err(Misfit::Position { expected: applied.position, found: frame.position });
    }
    if frame.time_us < applied.time_us {
        return Err(Misfit::Time { before: applied.time_us, found: frame.time_us });
    }
    countable("the records of the shard", frame.position, frame.record_count())
}

/// Whether an operation may come now. `records` are those of its frame.
pub(super) fn op(applied: &Applied, op: &Op, records: u64) -> Result<(), Misfit> {
    match op {
        Op::Batch(op) => batch(applied, op),
        Op::Stamp(op) => stamp(applied, op, records),
        Op::ProducerOpen(op) => producer_open(applied, op),
        Op::ProducerExpire(id) => {
            applied.producers.contains_key(id).then_some(()).ok_or(Misfit::Unknown { what: "producer", id: id.0 })
        }
        Op::TopicCreate(op) => topic_create(applied, op),
        Op::TopicDelete(id) => live_topic(applied, *id).map(drop),
        // It is asked for more than once, and then there is nothing left to forget.
        Op::TopicForget(_) => Ok(()),
        Op::Group(op) => group(applied, op),
    }
}

fn countable(what: &'static str, number: u64, more: u64) -> Result<(), Misfit> {
    number.checked_add(more).map(drop).ok_or(Misfit::Uncountable { what })
}

fn live_topic(applied: &Applied, id: TopicId) -> Result<&crate::table::row::TopicRow, Misfit> {
    applied.live_topic(id).ok_or(Misfit::Unknown { what: "topic", id: id.0 })
}

fn batch(applied: &Applied, op: &BatchOp) -> Result<(), Misfit> {
    let lane = op.lane;
    let count = live_topic(applied, lane.topic)?.config.partitions;
    if lane.partition.0 >= count {
        return Err(Misfit::Partition { lane, count });
    }
    let end = applied.lanes.get(&lane).map(|known| known.end).unwrap_or_default();
    if op.base != end {
        return Err(Misfit::Base { lane, expected: end, found: op.base });
    }
    countable("the offsets of a partition", op.base.0, u64::from(op.batch.record_count))
}

fn stamp(applied: &Applied, op: &StampOp, records: u64) -> Result<(), Misfit> {
    let producer = op.producer;
    let unknown = Misfit::Unknown { what: "producer", id: producer.0 };
    let row = applied.producers.get(&producer).ok_or(unknown)?;
    if op.epoch != row.epoch {
        return Err(Misfit::Epoch { producer, current: row.epoch, found: op.epoch });
    }
    if row.last_sequence.checked_add(1) != Some(op.sequence) {
        return Err(Misfit::Sequence { producer, last: row.last_sequence, found: op.sequence });
    }
    countable("the records of a producer", row.accepted_records, records)
}

fn producer_open(applied: &Applied, op: &ProducerOpenOp) -> Result<(), Misfit> {
    let (what, id) = ("producer", op.producer.0);
    let Some(row) = applied.producers.get(&op.producer) else {
        new(what, id, applied.counters.next_producer)?;
        return free(what, id, !applied.producer_names.contains_key(&op.name));
    };
    if op.epoch <= row.epoch {
        return Err(Misfit::Epoch { producer: op.producer, current: row.epoch, found: op.epoch });
    }
    free(what, id, row.name == op.name)
}

fn topic_create(applied: &Applied, op: &TopicCreateOp) -> Result<(), Misfit> {
    let (what, id) = ("topic", op.topic.0);
    new(what, id, applied.counters.next_topic)?;
    let is_taken = applied.topic_names.contains_key(&op.name) || applied.topics.contains_key(&op.topic);
    free(what, id, !is_taken)
}

/// Whether a number is the next one.
fn new(what: &'static str, found: u64, expected: u64) -> Result<(), Misfit> {
    if found != expected {
        return Err(Misfit::Number { what, expected, found });
    }
    countable(what, found, 1)
}

fn free(what: &'static str, id: u64, is_free: bool) -> Result<(), Misfit> {
    if is_free { Ok(()) } else { Err(Misfit::Name { what, id }) }
}

fn group(applied: &Applied, op: &GroupOp) -> Result<(), Misfit> {
    let group = op.group();
    if let GroupOp::Create(create) = op {
        return group_create(applied, create);
    }
    let row = applied.groups.get(&group).ok_or(Misfit::Unknown { what: "group", id: group.0 })?;
    match op {
        GroupOp::Commit { lane, .. } | GroupOp::Set { lane, .. } | GroupOp::Assign { lane, .. } => {
            row.cursors.contains_key(lane).then_some(()).ok_or(Misfit::Cursor { group, lane: *lane })
        }
        GroupOp::Create(_)
        | GroupOp::Delete(_)
        | GroupOp::Change(_)
        | GroupOp::Member { .. }
        | GroupOp::MemberGone { .. } => Ok(()),
    }
}

fn group_create(applied: &Applied, op: &GroupCreate) -> Result<(), Misfit> {
    let (what, id) = ("group", op.group.0);
    new(what, id, applied.counters.next_group)?;
    let is_taken = applied.group_names.contains_key(&op.name) || applied.groups.contains_key(&op.group);
    free(what, id, !is_taken)
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
