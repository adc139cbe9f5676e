//! Who gets in: well-formed? fits? is there room? "Who may" is the server's question.
//!
//! Runs on the caller's thread, off the road: batches are decompressed (bounded), taken apart record by record and
//! counted here, and plain records without a partition are divided over partitions. What comes out is a request that
//! `sequence` can decide without looking at a single record.

use std::sync::Arc;

use parking_lot::RwLock;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    batch::{Batch, BatchFault},
    budget::Permit,
    codec::Codec,
    error::{Refusal, Sized},
    group::{CursorMove, GroupChange, Join, Joined, Leave, NewGroup, Release, SetCursors},
    id::{GroupId, Lane, Offset, Partition, TopicId},
    limits,
    record::{self, RecordFault, RecordLimits},
    request::{
        Append, AppendBatch, Appended, AppendedBatch, Check, Content, CursorCommit, InitProducer, ProducerOpened,
        Stamp, TopicConfig, TopicCreated,
    },
    table::{Applied, row::TopicRow},
    ticket::Reply,
};

pub mod room;
pub mod similar;

/// A request on its way to `sequence`, with the room that it holds.
#[derive(Debug)]
pub struct Admitted {
    /// What is asked, and who waits for the answer.
    pub request: Request,
    /// Given back with the answer.
    pub permit: Option<Permit>,
}

/// What may be asked of `sequence`.
#[derive(Debug)]
pub enum Request {
    /// An append.
    Append(Box<AdmittedAppend>, Reply<Appended>),
    /// A producer's registration.
    InitProducer(InitProducer, Reply<ProducerOpened>),
    /// A topic's creation; the flag is "only say what would be".
    CreateTopic(String, TopicConfig, bool, Reply<TopicCreated>),
    /// A producer's deletion, at this epoch when one is given.
    DeleteProducer(String, Option<u64>, Reply<()>),
    /// A topic's deletion.
    DeleteTopic(String, TopicId, Reply<()>),
    /// A deleted topic's files are gone: nobody waits for this.
    ForgetTopic(TopicId),
    /// A consumer group's creation, with the cursors that its start is.
    CreateGroup(NewGroup, Vec<(Lane, Offset)>, Reply<(GroupId, bool)>),
    /// Cursors to be set.
    SetCursors(SetCursors, Reply<Vec<CursorMove>>),
    /// A member joins.
    Join(Join, Reply<Joined>),
    /// Anything else about a consumer group.
    Group(GroupRequest, Reply<()>),
}

/// What may be asked of a consumer group and is answered with done or not.
#[derive(Debug)]
pub enum GroupRequest {
    /// Its deletion.
    Delete {
        /// Its name.
        name: String,
        /// Also when it has members.
        with_members: bool,
    },
    /// Other settings.
    Change(GroupChange),
    /// Cursor commits, all or nothing.
    Commit(Vec<CursorCommit>),
    /// Partitions given back.
    Release(Release),
    /// A member's end.
    Leave(Leave),
}

impl Request {
    /// From here on it is done; false when it was withdrawn.
    pub fn take_up(&self) -> bool {
        match self {
            Self::Append(_, reply) => reply.take_up(),
            Self::InitProducer(_, reply) => reply.take_up(),
            Self::CreateTopic(_, _, _, reply) => reply.take_up(),
            Self::DeleteTopic(_, _, reply) | Self::DeleteProducer(_, _, reply) | Self::Group(_, reply) => {
                reply.take_up()
            }
            Self::ForgetTopic(_) => true,
            Self::CreateGroup(_, _, reply) => reply.take_up(),
            Self::SetCursors(_, reply) => reply.take_up(),
            Self::Join(_, reply) => reply.take_up(),
        }
    }

    /// Says no to it.
    pub fn refuse(self, refusal: Refusal) {
        match self {
            Self::Append(_, reply) => reply.send(Err(refusal)),
            Self::InitProducer(_, reply) => reply.send(Err(refusal)),
            Self::CreateTopic(_, _, _, reply) => reply.send(Err(refusal)),
            Self::DeleteTopic(_, _, reply) | Self::DeleteProducer(_, _, reply) | Self::Group(_, reply) => {
                reply.send(Err(refusal));
            }
            Self::ForgetTopic(_) => {}
            Self::CreateGroup(_, _, reply) => reply.send(Err(refusal)),
            Self::SetCursors(_, reply) => reply.send(Err(refusal)),
            Self::Join(_, reply) => reply.send(Err(refusal)),
        }
    }
}

impl Admitted {
    /// Says no to it, after its room was given back.
    pub fn refuse(self, refusal: Refusal) {
        drop(self.permit);
        self.request.refuse(refusal);
    }
}

/// An append whose records are all well-formed.
#[derive(Debug, Default)]
pub struct AdmittedAppend {
    /// Batches with their partitions.
    pub parts: Vec<Part>,
    /// The topic of each batch of the request, as asked.
    pub names: Vec<String>,
    /// Who appends.
    pub stamp: Option<Stamp>,
    /// What must hold.
    pub checks: Vec<Check>,
    /// Cursors that move in the same frame.
    pub commits: Vec<CursorCommit>,
    /// XXH3-64 of what was asked: names, partitions as asked, the batches' checksums and counts.
    pub content_hash: u64,
    /// A topic was missing: refused with this, unless the stamp shows a retry of an append that was accepted.
    pub missing: Option<Refusal>,
}

/// A batch, or the part of one that goes to one partition.
#[derive(Clone, Debug)]
pub struct Part {
    /// The batch's place in the request.
    pub batch_index: u32,
    /// The topic's name.
    pub topic: String,
    /// The topic that had the name at admission.
    pub topic_id: TopicId,
    /// Where it goes.
    pub partition: Partition,
    /// The records.
    pub batch: Batch,
    /// Which records of the request's batch, when they were divided here.
    pub record_indexes: Vec<u32>,
}

/// A name that may be a topic's, group's or producer's: `[a-z0-9][a-z0-9._-]{0,127}`.
pub fn check_name(field: &'static str, name: &str) -> Result<(), Refusal> {
    let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest = |byte: &u8| first(byte) || matches!(byte, b'.' | b'_' | b'-');
    let bytes = name.as_bytes();
    let fits = bytes.len() <= limits::NAME_BYTES_MAX && bytes.first().is_some_and(first) && bytes.iter().all(rest);
    if fits { Ok(()) } else { Err(Refusal::NameInvalid { field, name: name.chars().take(256).collect() }) }
}

/// A name that is ours: made up for a nameless producer.
pub fn is_own_name(name: &str) -> bool {
    name.strip_prefix('_').is_some_and(|rest| check_name("producer", rest).is_ok())
}

/// Looks at every record of an append, and gives every batch its partition.
pub fn admit(append: Append, applied: &RwLock<Applied>) -> Result<AdmittedAppend, Refusal> {
    check_counts(&append)?;
    check_commits(&append.commits)?;
    if let Some(stamp) = &append.stamp {
        check_stamp(stamp)?;
    }
    let content_hash = content_hash(&append);
    let mut admitted = AdmittedAppend {
        stamp: append.stamp,
        checks: append.checks,
        commits: append.commits,
        content_hash,
        ..Default::default()
    };
    admitted.names = append.batches.iter().map(|batch| batch.topic.clone()).collect();
    let mut records = 0_usize;
    for (index, batch) in append.batches.into_iter().enumerate() {
        let topic = match topic_of(&batch, applied) {
            Ok(topic) => topic,
            // A stamp may show that this is a retry of an append that stands: only `sequence` can tell.
            Err(refusal) if admitted.stamp.is_some() => {
                admitted.missing.get_or_insert(refusal);
                continue;
            }
            Err(refusal) => return Err(refusal),
        };
        let parts = parts(index, batch, &topic)?;
        records += parts.iter().map(|part| part.batch.record_count as usize).sum::<usize>();
        admitted.parts.extend(parts);
        for (what, limit, actual) in [
            (Sized::Records, limits::APPEND_RECORDS_MAX, records),
            (Sized::Parts, limits::APPEND_PARTS_MAX, admitted.parts.len()),
        ] {
            if actual > limit {
                return Err(too_large(what, None, limit, actual));
            }
        }
    }
    Ok(admitted)
}

/// Numbers that mean something: the first sequence is 1, and no answer is confirmed before its append.
fn check_stamp(stamp: &Stamp) -> Result<(), Refusal> {
    if !is_own_name(&stamp.producer) {
        check_name("producer.producer_id", &stamp.producer)?;
    }
    let within = |field, min, max, actual| {
        let refusal = Refusal::SettingOutOfRange { field, min, max, actual };
        if (min..=max).contains(&actual) { Ok(()) } else { Err(refusal) }
    };
    within("producer.sequence", 1, limits::NUMBER_MAX, stamp.sequence)?;
    within("producer.answered_below", 0, stamp.sequence, stamp.answered_below)
}

fn too_large(what: Sized, batch: Option<usize>, limit: usize, actual: usize) -> Refusal {
    Refusal::TooLarge { what, batch, limit: limit as u64, actual: actual as u64 }
}

fn check_counts(append: &Append) -> Result<(), Refusal> {
    if append.batches.is_empty() && append.commits.is_empty() {
        return Err(Refusal::Empty { batch: None });
    }
    if append.batches.len() > limits::APPEND_BATCHES_MAX {
        return Err(too_large(Sized::Batches, None, limits::APPEND_BATCHES_MAX, append.batches.len()));
    }
    let bytes: usize = append.batches.iter().map(content_bytes).sum();
    if bytes > limits::APPEND_BYTES_MAX {
        return Err(too_large(Sized::AppendBytes, None, limits::APPEND_BYTES_MAX, bytes));
    }
    Ok(())
}

/// What an entry of an append takes in memory beside its texts and bytes, at most.
const ENTRY_BYTES: usize = 256;

/// What an append takes in memory once it is admitted: what it takes of the budget. **Cost**: a walk over the records
/// of plain batches that the broker divides over partitions.
pub fn append_bytes(append: &Append) -> u64 {
    let batch = |batch: &AppendBatch| {
        let parts = match (&batch.content, batch.partition) {
            // Each record may go to a partition of its own.
            (Content::Plain(set), None) => {
                record::RecordSet::new(set).entries().take(limits::PARTITIONS_MAX as usize).count()
            }
            _ => 1,
        };
        content_bytes(batch) + parts * (ENTRY_BYTES + batch.topic.len())
    };
    let check = |check: &Check| match check {
        Check::NextOffset { topic, .. } => ENTRY_BYTES + topic.len(),
        Check::HeldAssignment(held) => ENTRY_BYTES + held.group.len() + held.topic.len(),
    };
    let batches: usize = append.batches.iter().map(batch).sum();
    let checks: usize = append.checks.iter().map(check).sum();
    let commits = commit_bytes(&append.commits);
    if cfg!(bug = "budget_uncounted") {
        return append.batches.iter().map(content_bytes).sum::<usize>() as u64;
    }
    (batches + checks + commits) as u64
}

/// What the answer to an append takes in memory, at most. **Cost**: as that of [`append_bytes`].
pub fn answer_bytes(append: &Append) -> u64 {
    const PART_BYTES: usize = size_of::<AppendedBatch>() + 16;
    let batch = |batch: &AppendBatch| {
        let (parts, indexes) = match (&batch.content, batch.partition) {
            (Content::Plain(set), None) => {
                let records = record::RecordSet::new(set).entries().take(limits::APPEND_RECORDS_MAX).count();
                (records.min(limits::PARTITIONS_MAX as usize), records)
            }
            _ => (1, 0),
        };
        parts * (PART_BYTES + batch.topic.len()) + indexes * size_of::<u32>()
    };
    (ENTRY_BYTES + append.batches.iter().map(batch).sum::<usize>()) as u64
}

fn commit_bytes(commits: &[CursorCommit]) -> usize {
    let one = |commit: &CursorCommit| ENTRY_BYTES + commit.group.len() + commit.topic.len() + commit.metadata.len();
    commits.iter().map(one).sum()
}

/// What a command takes in memory until it is answered: what it takes of the budget.
pub fn command_bytes(command: &Request) -> u64 {
    let names = |names: &[String]| names.iter().map(|name| ENTRY_BYTES + name.len()).sum::<usize>();
    let bytes = match command {
        Request::Append(..) | Request::ForgetTopic(_) => 0,
        Request::InitProducer(init, _) => init.name.as_ref().map_or(0, String::len),
        Request::CreateTopic(name, ..) | Request::DeleteProducer(name, ..) | Request::DeleteTopic(name, ..) => {
            name.len()
        }
        Request::CreateGroup(new, starts, _) => new.name.len() + names(&new.topics) + size_of_val(starts.as_slice()),
        Request::SetCursors(set, _) => {
            set.group.len() + set.topic.len() + set.reason.len() + set.to.len() * (size_of::<CursorMove>() * 2)
        }
        Request::Join(join, _) => join.group.len() + join.member.len() + join.instance.len() + join.client.len(),
        Request::Group(GroupRequest::Delete { name, .. }, _) => name.len(),
        Request::Group(GroupRequest::Change(change), _) => {
            change.group.len() + change.pause_reason.len() + names(&change.add_topics)
        }
        Request::Group(GroupRequest::Commit(commits), _) => commit_bytes(commits),
        Request::Group(GroupRequest::Release(release), _) => {
            release.group.len() + size_of_val(release.held.as_slice()) + commit_bytes(&release.commits)
        }
        Request::Group(GroupRequest::Leave(leave), _) => leave.group.len() + leave.member.len() + leave.instance.len(),
    };
    (ENTRY_BYTES + bytes) as u64
}

fn content_bytes(batch: &AppendBatch) -> usize {
    match &batch.content {
        Content::Plain(set) => set.len(),
        Content::Encoded(encoded) => encoded.data.len(),
    }
}

/// Looks at cursor commits, in an append or alone, as far as that goes without the groups.
pub fn check_commits(commits: &[CursorCommit]) -> Result<(), Refusal> {
    let (count, max) = (commits.len(), limits::APPEND_COMMITS_MAX);
    if count > max {
        return Err(too_large(Sized::Commits, None, max, count));
    }
    let metadata = commits.iter().map(|commit| commit.metadata.len()).max().unwrap_or(0);
    let max = limits::CURSOR_METADATA_BYTES_MAX;
    if metadata > max { Err(too_large(Sized::CursorMetadata, None, max, metadata)) } else { Ok(()) }
}

/// The topic of a batch, with the pin and the partition looked at.
fn topic_of(batch: &AppendBatch, applied: &RwLock<Applied>) -> Result<TopicRow, Refusal> {
    let applied = applied.read();
    let found = applied.topic(&batch.topic);
    if let Some(pinned) = &batch.topic_id
        && found.is_none_or(|topic| topic.id.hex() != *pinned)
    {
        let known = TopicId::from_hex(pinned).is_some_and(|id| applied.has_been(id)) || found.is_some();
        if known {
            let (topic, pinned, current) = (batch.topic.clone(), pinned.clone(), found.map(|topic| topic.id));
            return Err(Refusal::TopicRecreated { topic, pinned, current });
        }
    }
    let Some(topic) = found else { return Err(not_found(&batch.topic)) };
    match batch.partition {
        Some(partition) if partition.0 >= topic.config.partitions => {
            Err(Refusal::PartitionNotFound { topic: batch.topic.clone(), partition, count: topic.config.partitions })
        }
        _ => Ok(topic.clone()),
    }
}

/// The refusal for a name that no topic has. One that is close to it is looked for by whoever asked, off the road: see
/// [`similar`].
pub fn not_found(name: &str) -> Refusal {
    Refusal::TopicNotFound { topic: name.chars().take(256).collect(), similar: None }
}

/// The refusal for a name that no group has.
pub fn no_group(name: &str) -> Refusal {
    Refusal::GroupNotFound { group: name.chars().take(256).collect(), similar: None }
}

/// Checks a batch, and divides it when the broker chooses partitions.
fn parts(index: usize, batch: AppendBatch, topic: &TopicRow) -> Result<Vec<Part>, Refusal> {
    let limits = RecordLimits::of_topic(topic.config.max_record_bytes);
    let refuse = |fault| refusal(index, fault);
    let part = |partition, batch, record_indexes| Part {
        batch_index: u32::try_from(index).expect("an append has at most 1,024 batches"),
        topic: topic.name.clone(),
        topic_id: topic.id,
        partition,
        batch,
        record_indexes,
    };
    match (batch.content, batch.partition) {
        (Content::Encoded(_), None) => Err(Refusal::PartitionRequired { batch: index }),
        (Content::Encoded(encoded), Some(partition)) => {
            let checked = encoded.check(&limits).map_err(refuse)?;
            Ok(vec![part(partition, checked, Vec::new())])
        }
        (Content::Plain(set), Some(partition)) => {
            let checked = Batch::from_plain(set, &limits).map_err(refuse)?;
            Ok(vec![part(partition, checked, Vec::new())])
        }
        (Content::Plain(set), None) => {
            let whole = Batch::from_plain(set, &limits).map_err(refuse)?;
            let routed = record::route(&whole.data, topic.config.partitions);
            let routed = routed.map_err(|fault| refuse(BatchFault::BadRecord(RecordFault::from(fault))))?;
            let one = |routed: record::Routed| {
                let record_count = u32::try_from(routed.indexes.len()).expect("an append has at most 65,536 records");
                let batch = Batch {
                    codec: Codec::None,
                    record_count,
                    decoded_bytes: u32::try_from(routed.set.len()).expect("a batch has at most 4 MiB"),
                    crc32: crc32fast::hash(&routed.set),
                    data: routed.set,
                };
                part(Partition(routed.partition), batch, routed.indexes)
            };
            Ok(routed.into_iter().map(one).collect())
        }
    }
}

fn refusal(batch: usize, fault: BatchFault) -> Refusal {
    match fault {
        BatchFault::Empty => Refusal::Empty { batch: Some(batch) },
        BatchFault::TooLarge { limit, actual } => too_large(Sized::BatchBytes, Some(batch), limit, actual),
        BatchFault::DecodedTooLarge { limit, actual } => too_large(Sized::DecodedBytes, Some(batch), limit, actual),
        BatchFault::BadCrc { expected, actual } => Refusal::BadCrc { batch, expected, actual },
        BatchFault::WrongCount { field, expected, actual } => {
            Refusal::WrongCount { batch, field, expected: expected.into(), actual: actual.into() }
        }
        BatchFault::Undecodable(fault) => Refusal::Undecodable { batch, fault },
        BatchFault::BadRecord(fault) => Refusal::BadRecord { batch, fault },
    }
}

/// What was asked, as one number. The stamp, the checks and what the sender needs are not part of it.
fn content_hash(append: &Append) -> u64 {
    let mut hash = Xxh3::new();
    for batch in &append.batches {
        hash.update(&(batch.topic.len() as u64).to_le_bytes());
        hash.update(batch.topic.as_bytes());
        hash.update(&batch.partition.map_or(u64::MAX, |partition| u64::from(partition.0)).to_le_bytes());
        match &batch.content {
            Content::Plain(set) => {
                hash.update(&[0]);
                hash.update(&(set.len() as u64).to_le_bytes());
                hash.update(&crc32fast::hash(set).to_le_bytes());
            }
            Content::Encoded(encoded) => {
                hash.update(&[encoded.codec as u8]);
                hash.update(&(encoded.data.len() as u64).to_le_bytes());
                hash.update(&encoded.crc32.to_le_bytes());
                hash.update(&encoded.record_count.to_le_bytes());
            }
        }
    }
    for commit in &append.commits {
        for text in [&commit.group, &commit.topic] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.update(&commit.partition.0.to_le_bytes());
        hash.update(&commit.next.0.to_le_bytes());
        hash.update(&(commit.metadata.len() as u64).to_le_bytes());
        hash.update(&commit.metadata);
    }
    hash.digest()
}

/// The state that admission looks at.
pub type SharedApplied = Arc<RwLock<Applied>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_ours_begin_with_an_underscore() {
        for good in ["orders", "0", "a.b_c-d", &"x".repeat(128)] {
            assert!(check_name("name", good).is_ok(), "{good}");
        }
        for bad in ["", "Orders", "_orders", ".a", "a b", "ä", "a/b", &"x".repeat(129)] {
            assert!(check_name("name", bad).is_err(), "{bad}");
        }
        assert!(is_own_name("_p-00ff") && !is_own_name("p") && !is_own_name("__p"));
    }
}
