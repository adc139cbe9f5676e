//! The body of a frame: operations, each `{kind u16, flags u16, len u32}`, its bytes, and zeros up to a multiple of 8.
//!
//! An operation says what became so, not what was asked: offsets, ids and epochs are decided before. Applying it
//! needs no clock and no entropy. Numbers once used are never reused; an unknown kind refuses the whole frame.

use bytes::Bytes;

use crate::{
    batch::Batch,
    codec::Codec,
    disk::aligned::AlignedBuf,
    header::take,
    id::{Lane, Offset, Partition, ProducerId, TopicId},
    journal::group_op::GroupOp,
    request::TopicConfig,
};

/// Bytes in front of an operation's own.
pub const OP_HEADER_BYTES: usize = 8;

/// Where a batch's data begins in its operation.
pub const BATCH_DATA_AT: usize = OP_HEADER_BYTES + BATCH_FIXED_BYTES;

/// Operation kinds. 16 to 31 belong to groups.
mod kind {
    pub(super) const BATCH: u16 = 1;
    pub(super) const STAMP: u16 = 2;
    pub(super) const PRODUCER_OPEN: u16 = 3;
    pub(super) const PRODUCER_EXPIRE: u16 = 4;
    pub(super) const TOPIC_CREATE: u16 = 5;
    pub(super) const TOPIC_DELETE: u16 = 6;
    pub(super) const TOPIC_FORGET: u16 = 7;
    pub(super) const ALL: [u16; 15] = [
        BATCH,
        STAMP,
        PRODUCER_OPEN,
        PRODUCER_EXPIRE,
        TOPIC_CREATE,
        TOPIC_DELETE,
        TOPIC_FORGET,
        group::CREATE,
        group::DELETE,
        group::CHANGE,
        group::COMMIT,
        group::SET,
        group::MEMBER,
        group::MEMBER_GONE,
        group::ASSIGN,
    ];

    use crate::journal::group_op::kind as group;
}

const BATCH_FIXED_BYTES: usize = 40;
const STAMP_BYTES: usize = 40;
const PRODUCER_OPEN_FIXED_BYTES: usize = 24;
const TOPIC_CREATE_FIXED_BYTES: usize = 24;

/// One thing that became so.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Records at the end of a lane.
    Batch(BatchOp),
    /// This frame is a producer's append.
    Stamp(StampOp),
    /// A producer was registered, or taken over with a new epoch.
    ProducerOpen(ProducerOpenOp),
    /// A nameless producer was forgotten after its idle time.
    ProducerExpire(ProducerId),
    /// A topic was created.
    TopicCreate(TopicCreateOp),
    /// A topic was deleted.
    TopicDelete(TopicId),
    /// A deleted topic's files are gone, and nothing needs its tombstone any more.
    TopicForget(TopicId),
    /// Something became of a consumer group.
    Group(GroupOp),
}

/// Records at the end of a lane.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchOp {
    /// Where.
    pub lane: Lane,
    /// Which batch of the request it is, or is a part of.
    pub batch_index: u32,
    /// Offset of the first record.
    pub base: Offset,
    /// The records.
    pub batch: Batch,
}

/// Which append of which producer a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampOp {
    /// The producer.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: u64,
    /// Its sequence.
    pub sequence: u64,
    /// Answers below may be forgotten.
    pub answered_below: u64,
    /// XXH3-64 of what was asked, so that a reuse with other content is told from a retry.
    pub content_hash: u64,
}

/// A producer's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerOpenOp {
    /// The producer.
    pub producer: ProducerId,
    /// The epoch that counts from here.
    pub epoch: u64,
    /// Idle time after which it is forgotten, in microseconds; 0: never.
    pub idle_expiry_us: u64,
    /// Its name.
    pub name: String,
}

/// A topic's creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicCreateOp {
    /// The topic.
    pub topic: TopicId,
    /// How it is kept.
    pub config: TopicConfig,
    /// Its name.
    pub name: String,
}

/// Why a body could not be taken apart. Its checksum held, so this is a newer version or a bug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpFault {
    /// A kind or flag that this version does not know.
    #[error("unknown operation kind={kind} flags={flags}")]
    Unknown {
        /// The kind.
        kind: u16,
        /// The flags.
        flags: u16,
    },
    /// Lengths that do not add up.
    #[error("malformed operation kind={kind} at={at}")]
    Malformed {
        /// The kind.
        kind: u16,
        /// Byte position in the body.
        at: usize,
    },
}

impl Op {
    /// Length in the body, header and padding included.
    pub fn encoded_bytes(&self) -> usize {
        (OP_HEADER_BYTES + self.payload_bytes()).next_multiple_of(8)
    }

    fn payload_bytes(&self) -> usize {
        match self {
            Self::Batch(op) => BATCH_FIXED_BYTES + op.batch.data.len(),
            Self::Stamp(_) => STAMP_BYTES,
            Self::ProducerOpen(op) => PRODUCER_OPEN_FIXED_BYTES + op.name.len(),
            Self::ProducerExpire(_) | Self::TopicDelete(_) | Self::TopicForget(_) => 8,
            Self::TopicCreate(op) => TOPIC_CREATE_FIXED_BYTES + op.name.len(),
            Self::Group(op) => op.encode().len(),
        }
    }

    fn kind(&self) -> u16 {
        match self {
            Self::Batch(_) => kind::BATCH,
            Self::Stamp(_) => kind::STAMP,
            Self::ProducerOpen(_) => kind::PRODUCER_OPEN,
            Self::ProducerExpire(_) => kind::PRODUCER_EXPIRE,
            Self::TopicCreate(_) => kind::TOPIC_CREATE,
            Self::TopicDelete(_) => kind::TOPIC_DELETE,
            Self::TopicForget(_) => kind::TOPIC_FORGET,
            Self::Group(op) => op.kind(),
        }
    }

    /// Writes it at the end of `out`, and returns where in `out` a batch's data came to lie.
    ///
    /// # Panics
    ///
    /// When `out` is too small: its size is the sum of [`Op::encoded_bytes`].
    pub fn encode(&self, out: &mut AlignedBuf) -> Option<std::ops::Range<usize>> {
        let len = u32::try_from(self.payload_bytes()).expect("operations are bounded by the frame limit");
        out.push(&self.kind().to_le_bytes());
        out.push(&0_u16.to_le_bytes());
        out.push(&len.to_le_bytes());
        let mut data = None;
        match self {
            Self::Batch(op) => data = Some(encode_batch(op, out)),
            Self::Stamp(op) => {
                for field in [op.producer.0, op.epoch, op.sequence, op.answered_below, op.content_hash] {
                    out.push(&field.to_le_bytes());
                }
            }
            Self::ProducerOpen(op) => {
                for field in [op.producer.0, op.epoch, op.idle_expiry_us] {
                    out.push(&field.to_le_bytes());
                }
                out.push(op.name.as_bytes());
            }
            Self::ProducerExpire(producer) => out.push(&producer.0.to_le_bytes()),
            Self::TopicDelete(topic) | Self::TopicForget(topic) => out.push(&topic.0.to_le_bytes()),
            Self::TopicCreate(op) => encode_topic(op, out),
            Self::Group(op) => out.push(&op.encode()),
        }
        out.pad(8);
        data
    }
}

fn encode_batch(op: &BatchOp, out: &mut AlignedBuf) -> std::ops::Range<usize> {
    let mut fixed = [0; BATCH_FIXED_BYTES];
    fixed[0..8].copy_from_slice(&op.lane.topic.0.to_le_bytes());
    fixed[8..12].copy_from_slice(&op.lane.partition.0.to_le_bytes());
    fixed[12..16].copy_from_slice(&op.batch_index.to_le_bytes());
    fixed[16..24].copy_from_slice(&op.base.0.to_le_bytes());
    fixed[24..28].copy_from_slice(&op.batch.record_count.to_le_bytes());
    fixed[28..32].copy_from_slice(&op.batch.decoded_bytes.to_le_bytes());
    fixed[32..36].copy_from_slice(&op.batch.crc32.to_le_bytes());
    fixed[36] = op.batch.codec as u8;
    out.push(&fixed);
    let start = out.len();
    out.push(&op.batch.data);
    start..out.len()
}

fn encode_topic(op: &TopicCreateOp, out: &mut AlignedBuf) {
    let mut fixed = [0; TOPIC_CREATE_FIXED_BYTES];
    fixed[0..8].copy_from_slice(&op.topic.0.to_le_bytes());
    fixed[8..12].copy_from_slice(&op.config.partitions.to_le_bytes());
    fixed[12..16].copy_from_slice(&op.config.max_record_bytes.to_le_bytes());
    fixed[16..20].copy_from_slice(&op.config.segment_bytes.to_le_bytes());
    fixed[20] = op.config.codec as u8;
    out.push(&fixed);
    out.push(op.name.as_bytes());
}

/// Takes a body apart. Batches share `body`.
pub fn decode(body: &Bytes, op_count: u32) -> Result<Vec<Op>, OpFault> {
    let mut ops = Vec::with_capacity((op_count as usize).min(body.len() / OP_HEADER_BYTES));
    walk(body, op_count, |kind, range| {
        ops.push(decode_one(kind, &body.slice(range))?);
        Ok(())
    })?;
    Ok(ops)
}

/// Whether this version understands every operation of a body. Recovery asks before it writes anything.
pub fn check(body: &[u8], op_count: u32) -> Result<(), OpFault> {
    walk(body, op_count, |kind, _| if kind::ALL.contains(&kind) { Ok(()) } else { Err(Unread::Kind) })
}

fn walk(
    body: &[u8],
    op_count: u32,
    mut each: impl FnMut(u16, std::ops::Range<usize>) -> Result<(), Unread>,
) -> Result<(), OpFault> {
    let mut at = 0;
    for _ in 0..op_count {
        if body.len() < at + OP_HEADER_BYTES {
            return Err(OpFault::Malformed { kind: 0, at });
        }
        let kind = u16::from_le_bytes(take(body, at));
        let flags = u16::from_le_bytes(take(body, at + 2));
        let len = u32::from_le_bytes(take(body, at + 4)) as usize;
        let start = at + OP_HEADER_BYTES;
        let end = start + len;
        let padded = end.next_multiple_of(8);
        if padded > body.len() || body[end..padded].iter().any(|&byte| byte != 0) {
            return Err(OpFault::Malformed { kind, at });
        }
        if flags != 0 {
            return Err(OpFault::Unknown { kind, flags });
        }
        each(kind, start..end).map_err(|unread| match unread {
            Unread::Kind => OpFault::Unknown { kind, flags },
            Unread::Shape => OpFault::Malformed { kind, at },
        })?;
        at = padded;
    }
    if at == body.len() { Ok(()) } else { Err(OpFault::Malformed { kind: 0, at }) }
}

enum Unread {
    Kind,
    Shape,
}

fn decode_one(kind: u16, bytes: &Bytes) -> Result<Op, Unread> {
    let needs = |count: usize| if bytes.len() < count { Err(Unread::Shape) } else { Ok(()) };
    let number = |at: usize| u64::from_le_bytes(take(bytes, at));
    let text = |from: usize| String::from_utf8(bytes[from..].to_vec()).map_err(|_| Unread::Shape);
    match kind {
        kind::BATCH => decode_batch(bytes).map(Op::Batch).ok_or(Unread::Shape),
        kind::STAMP => {
            needs(STAMP_BYTES)?;
            Ok(Op::Stamp(StampOp {
                producer: ProducerId(number(0)),
                epoch: number(8),
                sequence: number(16),
                answered_below: number(24),
                content_hash: number(32),
            }))
        }
        kind::PRODUCER_OPEN => {
            needs(PRODUCER_OPEN_FIXED_BYTES)?;
            Ok(Op::ProducerOpen(ProducerOpenOp {
                producer: ProducerId(number(0)),
                epoch: number(8),
                idle_expiry_us: number(16),
                name: text(PRODUCER_OPEN_FIXED_BYTES)?,
            }))
        }
        kind::PRODUCER_EXPIRE => needs(8).map(|()| Op::ProducerExpire(ProducerId(number(0)))),
        kind::TOPIC_DELETE => needs(8).map(|()| Op::TopicDelete(TopicId(number(0)))),
        kind::TOPIC_FORGET => needs(8).map(|()| Op::TopicForget(TopicId(number(0)))),
        kind::TOPIC_CREATE => {
            needs(TOPIC_CREATE_FIXED_BYTES)?;
            let word = |at: usize| u32::from_le_bytes(take(bytes, at));
            Ok(Op::TopicCreate(TopicCreateOp {
                topic: TopicId(number(0)),
                config: TopicConfig {
                    partitions: word(8),
                    max_record_bytes: word(12),
                    segment_bytes: word(16),
                    codec: Codec::from_number(bytes[20]).ok_or(Unread::Shape)?,
                },
                name: text(TOPIC_CREATE_FIXED_BYTES)?,
            }))
        }
        kind if kind::ALL.contains(&kind) => GroupOp::decode(kind, bytes).map(Op::Group).ok_or(Unread::Shape),
        _ => Err(Unread::Kind),
    }
}

fn decode_batch(bytes: &Bytes) -> Option<BatchOp> {
    if bytes.len() < BATCH_FIXED_BYTES {
        return None;
    }
    let word = |at: usize| u32::from_le_bytes(take(bytes, at));
    let number = |at: usize| u64::from_le_bytes(take(bytes, at));
    if bytes[37..BATCH_FIXED_BYTES].iter().any(|&byte| byte != 0) {
        return None;
    }
    Some(BatchOp {
        lane: Lane { topic: TopicId(number(0)), partition: Partition(word(8)) },
        batch_index: word(12),
        base: Offset(number(16)),
        batch: Batch {
            codec: Codec::from_number(bytes[36])?,
            record_count: word(24),
            decoded_bytes: word(28),
            crc32: word(32),
            data: bytes.slice(BATCH_FIXED_BYTES..),
        },
    })
}

#[cfg(test)]
#[path = "op_tests.rs"]
mod tests;
