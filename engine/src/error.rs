//! Every way to say no, as facts.
//!
//! A [`Refusal`] means *nothing was written*, with one exception that says so itself: [`Refusal::OutcomeUnknown`].
//! The words here are for logs; the server turns the facts into reasons and metadata by one table.

use std::borrow::Cow;

use thiserror::Error;

use crate::{
    codec::CodecFault,
    id::{Offset, Partition, TopicId},
    poison::Poisoned,
    record::RecordFault,
};

/// What was too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sized {
    /// A batch as sent, in bytes.
    BatchBytes,
    /// A batch decoded, in bytes.
    DecodedBytes,
    /// All batches of one append, in bytes.
    AppendBytes,
    /// The frame that the append would become, in bytes.
    FrameBytes,
    /// The frame that a request other than an append would become, in bytes.
    RequestBytes,
    /// Partitions that the batches of one append go to.
    Parts,
    /// Batches in one append.
    Batches,
    /// Records in one append.
    Records,
    /// Cursor commits in one append.
    Commits,
    /// What is kept beside a cursor, in bytes.
    CursorMetadata,
}

/// One check of an append that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCheck {
    /// Its place in the request.
    pub index: usize,
    /// The topic that was looked at.
    pub topic: String,
    /// The partition that was looked at.
    pub partition: Partition,
    /// What the client expected to be the next offset.
    pub expected: Offset,
    /// What it is.
    pub actual: Offset,
}

/// A cursor or an assignment of an append that is not what the append says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorFault {
    /// Its place in the request.
    pub place: CursorPlace,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: Partition,
    /// What is wrong.
    pub why: CursorWhy,
}

/// Where in a request a cursor or an assignment is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorPlace {
    /// A cursor commit.
    Commit(usize),
    /// A held-assignment check.
    Check(usize),
}

/// Why a cursor may not move so, or an assignment does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorWhy {
    /// The assignment has ended: the partition is another's, nobody's, or was set.
    Fenced {
        /// As sent.
        epoch: u64,
        /// The one that counts.
        current: u64,
        /// Who holds it now.
        holder: Option<String>,
    },
    /// A member must say under which epoch it holds the partition.
    EpochRequired,
    /// Of a manual group, where the cursor is expected must be said.
    ExpectedRequired,
    /// The cursor is not where it was expected.
    Elsewhere {
        /// As sent.
        expected: Offset,
        /// Where it is.
        actual: Offset,
    },
    /// Only a set moves a cursor back.
    Backwards {
        /// As sent.
        asked: Offset,
        /// Where it is.
        current: Offset,
    },
    /// Behind the last published record.
    BeyondEnd {
        /// As sent.
        asked: Offset,
        /// The published end.
        end: Offset,
    },
}

/// One field of a topic's configuration that differs from what stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field, as named on the wire.
    pub field: &'static str,
    /// What the topic has.
    pub has: String,
    /// What was asked.
    pub asked: String,
}

/// Why a write was not done. Nothing was written and no number was consumed, but for [`Refusal::OutcomeUnknown`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No topic of that name. Fix the name or create it.
    #[error("topic not found topic={topic}")]
    TopicNotFound {
        /// The name as asked.
        topic: String,
        /// An existing name close to it.
        similar: Option<String>,
    },
    /// The topic has no such partition.
    #[error("partition not found topic={topic} partition={partition} count={count}")]
    PartitionNotFound {
        /// The topic.
        topic: String,
        /// As asked.
        partition: Partition,
        /// The topic has `0..count`.
        count: u32,
    },
    /// The name is another topic's by now than the one that was pinned.
    #[error("topic was re-created topic={topic} pinned={pinned} current={current:?}")]
    TopicRecreated {
        /// The name.
        topic: String,
        /// The id that the request pinned.
        pinned: String,
        /// The id that the name has, when it has one.
        current: Option<TopicId>,
    },
    /// A topic of that name exists with another configuration.
    #[error("topic exists with another configuration topic={topic} differences={differences:?}")]
    TopicExists {
        /// The name.
        topic: String,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// No group of that name.
    #[error("group not found group={group}")]
    GroupNotFound {
        /// The name as asked.
        group: String,
        /// An existing name close to it.
        similar: Option<String>,
    },
    /// A group of that name exists with another configuration.
    #[error("group exists with another configuration group={group} differences={differences:?}")]
    GroupExists {
        /// The name.
        group: String,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// The group has members, and it was not said that this does not matter.
    #[error("group has members group={group} members={members:?}")]
    GroupHasMembers {
        /// The name.
        group: String,
        /// Who they are.
        members: Vec<String>,
    },
    /// The group has changed since it was looked at.
    #[error("group has changed group={group} expected={expected} actual={actual}")]
    GroupChanged {
        /// The name.
        group: String,
        /// The version as sent.
        expected: u64,
        /// The version that stands.
        actual: u64,
    },
    /// A group's settings that do not go together.
    #[error("group configuration invalid field={field}: {wrong}")]
    GroupConfigInvalid {
        /// The field.
        field: &'static str,
        /// What it should be, and what it is.
        wrong: Cow<'static, str>,
    },
    /// The group does not read the topic that has this name now: it was made anew, or never belonged to the group.
    #[error("start required group={group} topic={topic}")]
    StartRequired {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
    },
    /// A group cannot start where it was told to.
    #[error("start out of range topic={topic} partition={partition} asked={asked} least={least} most={most:?}")]
    StartOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// As sent.
        asked: Offset,
        /// The first kept offset.
        least: Offset,
        /// The published end, when it was asked for more.
        most: Option<Offset>,
    },
    /// Where a group is to start could not be looked up.
    #[error("start unreadable topic={topic} partition={partition}: {cause}")]
    StartUnreadable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// Why.
        cause: String,
    },
    /// Cursors that may not move so, assignments that do not hold, and what else does not hold beside them.
    #[error("cursors refused faults={faults:?} checks={checks:?}")]
    CursorRefused {
        /// Every one, the heaviest first: what is not held, then what may not move.
        faults: Vec<CursorFault>,
        /// Every expected offset of the same append that does not hold.
        checks: Vec<FailedCheck>,
    },
    /// As many groups as there may be.
    #[error("too many groups limit={limit}")]
    GroupsFull {
        /// The limit.
        limit: u64,
    },
    /// Another process has the member's name.
    #[error("taken over group={group} member={member}")]
    TakenOver {
        /// The group.
        group: String,
        /// The member.
        member: String,
    },
    /// As many members as a group may have.
    #[error("too many members group={group} limit={limit}")]
    GroupFull {
        /// The group.
        group: String,
        /// The limit.
        limit: u64,
    },
    /// A name that is not `[a-z0-9][a-z0-9._-]{0,127}`.
    #[error("invalid name field={field} name={name}")]
    NameInvalid {
        /// Where it stood.
        field: &'static str,
        /// What stood there.
        name: String,
    },
    /// A setting outside its range.
    #[error("setting out of range field={field} min={min} max={max} actual={actual}")]
    SettingOutOfRange {
        /// The setting.
        field: &'static str,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
        /// As asked.
        actual: u64,
    },
    /// Something has more than its limit.
    #[error("too large what={what:?} batch={batch:?} limit={limit} actual={actual}")]
    TooLarge {
        /// What.
        what: Sized,
        /// Which batch of the append, when it is about one.
        batch: Option<usize>,
        /// The limit.
        limit: u64,
        /// As sent.
        actual: u64,
    },
    /// A batch without records, or an append without batches and commits.
    #[error("nothing to append batch={batch:?}")]
    Empty {
        /// Which batch; none when the append itself is empty.
        batch: Option<usize>,
    },
    /// The checksum sent does not fit the bytes sent.
    #[error("wrong crc batch={batch} expected={expected:08x} actual={actual:08x}")]
    BadCrc {
        /// Which batch.
        batch: usize,
        /// As sent.
        expected: u32,
        /// Of the bytes.
        actual: u32,
    },
    /// A count sent does not fit the bytes sent.
    #[error("wrong count batch={batch} field={field} expected={expected} actual={actual}")]
    WrongCount {
        /// Which batch.
        batch: usize,
        /// `record_count` or `decoded_bytes`.
        field: &'static str,
        /// As sent.
        expected: u64,
        /// Of the bytes.
        actual: u64,
    },
    /// A batch that does not decompress within its limits.
    #[error("batch does not decode batch={batch}: {fault}")]
    Undecodable {
        /// Which batch.
        batch: usize,
        /// Why.
        fault: CodecFault,
    },
    /// A record that breaks a rule.
    #[error("bad record batch={batch}: {fault}")]
    BadRecord {
        /// Which batch.
        batch: usize,
        /// Which record, and why.
        fault: RecordFault,
    },
    /// A batch that is already encoded must say its partition: the broker does not take it apart.
    #[error("an encoded batch needs a partition batch={batch}")]
    PartitionRequired {
        /// Which batch.
        batch: usize,
    },
    /// Expected offsets that do not hold; all of them.
    #[error("expected offset does not hold checks={checks:?}")]
    ExpectedOffsetMismatch {
        /// Every failing check.
        checks: Vec<FailedCheck>,
    },
    /// The producer is not registered (any more).
    #[error("producer unknown producer={producer}")]
    ProducerUnknown {
        /// As asked.
        producer: String,
    },
    /// A newer process has this producer's name.
    #[error("producer fenced producer={producer} epoch={epoch} current={current}")]
    ProducerFenced {
        /// The name.
        producer: String,
        /// As sent.
        epoch: u64,
        /// The one that counts.
        current: u64,
    },
    /// The sequence leaves out numbers.
    #[error("sequence gap producer={producer} sequence={sequence} next={next}")]
    SequenceGap {
        /// The name.
        producer: String,
        /// As sent.
        sequence: u64,
        /// What must come next.
        next: u64,
    },
    /// The sequence was accepted long ago; its answer is no longer remembered, and it is not executed again.
    #[error("sequence forgotten producer={producer} sequence={sequence} oldest={oldest}")]
    SequenceForgotten {
        /// The name.
        producer: String,
        /// As sent.
        sequence: u64,
        /// The oldest answer still remembered.
        oldest: u64,
    },
    /// The sequence was accepted with other content.
    #[error("sequence reused with other content producer={producer} sequence={sequence}")]
    SequenceReused {
        /// The name.
        producer: String,
        /// As sent.
        sequence: u64,
    },
    /// As many producers as there may be.
    #[error("too many producers limit={limit}")]
    ProducersFull {
        /// The limit.
        limit: u64,
    },
    /// As many topics as there may be.
    #[error("too many topics limit={limit}")]
    TopicsFull {
        /// The limit.
        limit: u64,
    },
    /// More partitions, over all topics, than there may be.
    #[error("too many partitions limit={limit} actual={actual}")]
    PartitionsFull {
        /// The limit.
        limit: u64,
        /// As many as there would be.
        actual: u64,
    },
    /// More cursors or members, over all groups, than there may be.
    #[error("too many {what} limit={limit} actual={actual}")]
    GroupRowsFull {
        /// `cursors` or `members`.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// As many as there would be.
        actual: u64,
    },
    /// The answers that are remembered for this producer's retries, and for those of all others, take as much as they
    /// may. An append that confirms answers, or that goes to fewer partitions, is accepted.
    #[error("too many unconfirmed answers producer={producer} limit={limit} actual={actual}")]
    AnswersFull {
        /// The name.
        producer: String,
        /// Bytes that this producer may have remembered now.
        limit: u64,
        /// Bytes that it would have.
        actual: u64,
    },
    /// This producer has as many unanswered appends as it may have.
    #[error("too many appends in flight producer={producer} limit={limit}")]
    TooManyInFlight {
        /// The name.
        producer: String,
        /// The limit.
        limit: u64,
    },
    /// The engine has as many unanswered bytes or appends as it may have.
    #[error("overloaded limit_bytes={limit_bytes}")]
    Overloaded {
        /// The limit, in bytes.
        limit_bytes: u64,
    },
    /// Too little room on the disk. Reads and deletes go on; retry once there is room.
    #[error("disk full unit={unit} free={free} needed={needed}")]
    DiskFull {
        /// `bytes`, or `files`: inodes.
        unit: &'static str,
        /// Free ones.
        free: u64,
        /// As many as must be free for an append.
        needed: u64,
    },
    /// A file cannot be opened or made for want of descriptors, memory, a quota or space, and nothing that waits for it
    /// gets on. It is tried again; retry later.
    #[error("the system lacks what a file takes")]
    Lacking,
    /// The journal is full because its frames cannot be flushed.
    #[error("journal full files={files} limit={limit}")]
    JournalFull {
        /// Files in use.
        files: u64,
        /// Files that appends may use.
        limit: u64,
    },
    /// Writes are off since a write or a sync failed. Nothing of this request was written.
    #[error("log poisoned: {0}")]
    Poisoned(Poisoned),
    /// The one answer that is not a refusal: a write or sync failed while this was on its way. It may have been
    /// written. A retry with the same stamp after a restart gets the truth.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(Poisoned),
    /// The engine is shutting down. Nothing of this request was written.
    #[error("shutting down")]
    Stopping,
}

/// Why a read was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadFault {
    /// No topic of that id (any more).
    #[error("topic not found topic={topic}")]
    TopicNotFound {
        /// Its id.
        topic: TopicId,
    },
    /// The topic has no such partition.
    #[error("partition not found partition={partition} count={count}")]
    PartitionNotFound {
        /// As asked.
        partition: Partition,
        /// The topic has `0..count`.
        count: u32,
    },
    /// Records before `head` are gone.
    #[error("offset below head offset={offset} head={head}")]
    BelowHead {
        /// As asked.
        offset: Offset,
        /// First kept offset.
        head: Offset,
    },
    /// There is nothing published at or past `end`, and the offset is past it.
    #[error("offset beyond end offset={offset} end={end}")]
    BeyondEnd {
        /// As asked.
        offset: Offset,
        /// The visible end.
        end: Offset,
    },
    /// The bytes on the disk are not what was written. Never skipped: the caller names `to` to go on.
    #[error("data damaged from={from} to={to} file={file} position={position}: {fault}")]
    Damaged {
        /// First offset that cannot be read.
        from: Offset,
        /// First offset after the damage that can be read.
        to: Offset,
        /// The file, relative to the data directory.
        file: String,
        /// Byte position in it.
        position: u64,
        /// What was expected and found.
        fault: String,
    },
    /// Damage above the last checkpoint of a poisoned log: reopening may repair it from the journal.
    #[error("log poisoned, reopen: {0}")]
    Poisoned(Poisoned),
    /// The system failed to read.
    #[error("read failed file={file}: {cause}")]
    Io {
        /// The file.
        file: String,
        /// The system's words.
        cause: String,
    },
}
