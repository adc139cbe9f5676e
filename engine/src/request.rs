//! What may be asked of the engine, and what it answers. Plain data; no wire types.

use std::fmt;

use bytes::Bytes;

use crate::{
    batch::Batch,
    codec::Codec,
    id::{Lane, Lsn, Offset, Partition, TopicId},
    limits,
};

/// One append: all of it or none of it.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// Batches, on any partitions of any topics.
    pub batches: Vec<AppendBatch>,
    /// Makes a retry find the first answer.
    pub stamp: Option<Stamp>,
    /// Conditions on the log, judged before the effects of this append. All must hold.
    pub checks: Vec<Check>,
    /// Cursor commits in the same frame.
    pub commits: Vec<CursorCommit>,
}

/// One batch of an append.
#[derive(Clone, Debug)]
pub struct AppendBatch {
    /// The topic's name.
    pub topic: String,
    /// The topic's id in hex, to pin it.
    pub topic_id: Option<String>,
    /// None: each keyed record goes by the hash of its key, keyless ones together (plain content only).
    pub partition: Option<Partition>,
    /// The records.
    pub content: Content,
}

/// Records as they came.
#[derive(Clone, Debug)]
pub enum Content {
    /// A `RecordSet` message.
    Plain(Bytes),
    /// A `RecordSet`, perhaps compressed, with the sender's checksum and counts, none of them believed yet.
    Encoded(Batch),
}

/// Who appends, and which append of theirs this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer's name.
    pub producer: String,
    /// As answered by `InitProducer`.
    pub epoch: u64,
    /// One higher than the last accepted, over all partitions; the first is 1.
    pub sequence: u64,
    /// Answers below this may be forgotten; 0 says nothing.
    pub answered_below: u64,
}

/// A condition of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The partition's next offset is this.
    NextOffset {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: Partition,
        /// What the next offset must be.
        next_offset: Offset,
    },
    /// A member still holds this partition: fences an append that moves no cursor.
    HeldAssignment(HeldAssignment),
}

/// Moves a cursor: in an append, or alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CursorCommit {
    /// The group's name.
    pub group: String,
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: Partition,
    /// The next offset to read. Equal to the cursor: nothing happens.
    pub next: Offset,
    /// The epoch under which the partition is held; required of members.
    pub epoch: Option<u64>,
    /// Where the cursor is expected to be; required of manual groups.
    pub expected: Option<Offset>,
    /// Kept beside the cursor, at most 1 KiB.
    pub metadata: Bytes,
}

/// That a member still holds a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAssignment {
    /// The group's name.
    pub group: String,
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: Partition,
    /// The epoch under which it is held.
    pub epoch: u64,
}

/// An append that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where the batches went, in the order of the request.
    pub batches: Vec<AppendedBatch>,
    /// The append was accepted before; this is the first answer.
    pub duplicate: bool,
    /// The broker's time of it, in microseconds.
    pub append_time_us: i64,
    /// The producer's next sequence; 0 without a stamp.
    pub next_sequence: u64,
    /// The frame that holds it.
    pub lsn: Lsn,
}

/// Where a batch, or a part of one, went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendedBatch {
    /// Its place in the request.
    pub batch_index: u32,
    /// The topic's name.
    pub topic: String,
    /// Topic and partition.
    pub lane: Lane,
    /// Offset of the first record.
    pub base: Offset,
    /// How many records.
    pub record_count: u32,
    /// Which records of the batch, when the broker chose partitions.
    pub record_indexes: Vec<u32>,
}

/// Registers a producer, or takes one over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitProducer {
    /// None: the broker makes one up, and `idle_expiry_ms` is required.
    pub name: Option<String>,
    /// Forgotten after this long without an append; 0: kept until deleted.
    pub idle_expiry_ms: u64,
    /// The epoch that the caller had: with another one the producer is somebody else's by now, and nothing changes.
    pub expected_epoch: Option<u64>,
}

/// A producer as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerView {
    /// Its name.
    pub name: String,
    /// The epoch that counts.
    pub epoch: u64,
    /// The sequence that its next append must carry.
    pub next_sequence: u64,
    /// Records ever accepted under this name.
    pub accepted_records: u64,
    /// Forgotten after this long without an append; 0: kept until deleted.
    pub idle_expiry_ms: u64,
    /// When it was registered or appended last, in microseconds.
    pub last_us: i64,
    /// Answers that are remembered for its retries.
    pub answers: u64,
}

/// A producer, ready to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerOpened {
    /// Its name.
    pub name: String,
    /// Rises at every take-over; older ones are fenced.
    pub epoch: u64,
    /// The sequence that its next append must carry.
    pub next_sequence: u64,
    /// Records ever accepted under this name.
    pub accepted_records: u64,
}

/// One remembered answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentAppend {
    /// Its sequence.
    pub sequence: u64,
    /// What it was answered.
    pub appended: Appended,
}

/// How a topic is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Partitions, from 1 to 1,024.
    pub partitions: u32,
    /// How blocks are compressed.
    pub codec: Codec,
    /// Largest record, in bytes.
    pub max_record_bytes: u32,
    /// Size at which a segment is sealed, in bytes.
    pub segment_bytes: u32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            partitions: limits::PARTITIONS_DEFAULT,
            codec: Codec::Lz4,
            max_record_bytes: limits::RECORD_BYTES_DEFAULT,
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
        }
    }
}

/// A topic as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its id, never reused.
    pub id: TopicId,
    /// How it is kept.
    pub config: TopicConfig,
    /// When it was created, in microseconds.
    pub created_us: i64,
}

/// The answer to a create: the topic, and whether it is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicCreated {
    /// The topic.
    pub topic: TopicView,
    /// False: it was there with the same configuration.
    pub created: bool,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// First kept offset.
    pub head: Offset,
    /// The visible end, exclusive.
    pub end: Offset,
    /// Bytes in segments.
    pub stored_bytes: u64,
    /// Append time of the first kept record, when there is one.
    pub first_time_us: Option<i64>,
    /// Append time of the last visible record, when there is one.
    pub last_time_us: Option<i64>,
}

/// Where a read starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first kept record.
    Earliest,
    /// Behind the last visible record.
    Latest,
    /// This offset.
    Offset(Offset),
    /// The first record appended at or after this time, in microseconds. Exact.
    AppendTime(i64),
    /// The last so many records.
    Last(u64),
}

/// As it is written on a command line; a time is in microseconds.
impl fmt::Display for Start {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => formatter.write_str("earliest"),
            Self::Latest => formatter.write_str("latest"),
            Self::Offset(offset) => write!(formatter, "offset:{offset}"),
            Self::AppendTime(time_us) => write!(formatter, "append-time:{time_us}us"),
            Self::Last(count) => write!(formatter, "last:{count}"),
        }
    }
}

/// Records of one partition, next to each other.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Offset of the first record; may lie before the offset that was asked.
    pub base: Offset,
    /// Offset behind the last record.
    pub end: Offset,
    /// The records; `end - base` of them.
    pub batch: Batch,
    /// Append times: runs of records that were appended together, in order.
    pub times: Vec<TimeRun>,
    /// Bytes of memory that stay as long as the records do.
    pub kept_bytes: usize,
}

/// Records that share an append time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRun {
    /// How many.
    pub record_count: u32,
    /// When, in microseconds.
    pub append_time_us: i64,
}

/// The answer to a read.
#[derive(Clone, Debug, Default)]
pub struct ReadAnswer {
    /// In offset order; empty at the end.
    pub chunks: Vec<Chunk>,
    /// Where to go on.
    pub next: Offset,
    /// The visible end when it was read.
    pub end: Offset,
}

/// A segment as listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentView {
    /// Offset of its first record.
    pub base: Offset,
    /// Offset behind its last record.
    pub end: Offset,
    /// Its data, in bytes.
    pub bytes: u64,
    /// It never changes again.
    pub sealed: bool,
    /// Append time of its first record.
    pub first_time_us: i64,
    /// Append time of its last record.
    pub last_time_us: i64,
}

/// The engine at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Rises at every open for writing.
    pub incarnation: u64,
    /// Identity of this node, in hex.
    pub node_id: String,
    /// Last durable frame.
    pub durable: Lsn,
    /// Last published frame.
    pub published: Lsn,
    /// Last frame that the newest checkpoint stands for.
    pub checkpointed: Lsn,
    /// Topics that are alive.
    pub topics: u64,
    /// Partitions of all topics, those being deleted included.
    pub partitions: u64,
    /// Registered producers.
    pub producers: u64,
    /// Consumer groups.
    pub groups: u64,
    /// Bytes pinned by published batches in memory, of `tail_bytes_max`.
    pub tail_bytes: u64,
    /// See `tail_bytes`.
    pub tail_bytes_max: u64,
    /// Bytes of appends that are admitted and not answered, of `in_flight_bytes_max`.
    pub in_flight_bytes: u64,
    /// See `in_flight_bytes`.
    pub in_flight_bytes_max: u64,
    /// Bytes of appends that wait to be admitted, also of `in_flight_bytes_max`.
    pub waiting_bytes: u64,
    /// Bytes of commands (all that are no appends) that are admitted and not answered, of `command_bytes_max`.
    pub command_bytes: u64,
    /// See `command_bytes`.
    pub command_bytes_max: u64,
    /// Bytes of answers that are remembered for retries, of `answer_bytes_max`.
    pub answer_bytes: u64,
    /// See `answer_bytes`.
    pub answer_bytes_max: u64,
    /// Journal files in use, of `journal_files_max`.
    pub journal_files: u64,
    /// See `journal_files`.
    pub journal_files_max: u64,
    /// Bytes in segments.
    pub stored_bytes: u64,
    /// Free bytes on the file system, when it could be asked.
    pub free_bytes: Option<u64>,
    /// Free bytes below which appends are refused.
    pub needed_bytes: u64,
    /// Syncs of the journal since the start.
    pub syncs: u64,
    /// Why writes are off, when they are.
    pub poisoned: Option<String>,
}
