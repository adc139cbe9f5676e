//! One append as a value: batches, conditions, and the stamp that makes a retry
//! of it safe.

use std::{sync::Arc, time::Duration};

use tillroll_proto::v1;

use crate::{Client, CursorCommit, EncodedBatch, Error, Record, group::commit_context};

/// What an append with cursor commits relies on: a server that did not know them
/// would take the records and leave the cursors.
const COMMITS: &str = "append.commits";

/// One append: everything in it happens, or nothing.
///
/// ```
/// use tillroll_client::{Append, Record};
/// let append = Append::new()
///     .records_to("orders", 3, [Record::new("{}").key("42")])
///     .expect_next_offset("orders", 3, 17);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Append {
    pub(crate) request: v1::AppendRequest,
}

impl Append {
    /// An empty append, which the server would refuse.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds records; the server chooses each one's partition by its key, and one
    /// partition for all keyless ones together.
    #[must_use]
    pub fn records(self, topic: impl Into<String>, records: impl IntoIterator<Item = Record>) -> Self {
        self.plain(topic.into(), None, records)
    }

    /// Adds records to one partition, in this order.
    #[must_use]
    pub fn records_to(
        self,
        topic: impl Into<String>,
        partition: u32,
        records: impl IntoIterator<Item = Record>,
    ) -> Self {
        self.plain(topic.into(), Some(partition), records)
    }

    /// Adds a batch that is already encoded.
    #[must_use]
    pub fn encoded(mut self, topic: impl Into<String>, partition: u32, batch: EncodedBatch) -> Self {
        self.request.batches.push(v1::AppendBatch {
            topic: topic.into(),
            partition: Some(partition),
            content: Some(v1::append_batch::Content::Encoded(batch.into_wire())),
            topic_id: String::new(),
        });
        self
    }

    /// Pins the topic of the batch that was added last: refused as
    /// `TOPIC_RECREATED` when the name belongs to another topic.
    #[must_use]
    pub fn pin(mut self, topic_id: impl Into<String>) -> Self {
        if let Some(batch) = self.request.batches.last_mut() {
            batch.topic_id = topic_id.into();
        }
        self
    }

    /// Makes the append conditional: refused as `EXPECTED_OFFSET_MISMATCH`
    /// unless the partition's next offset is this one.
    #[must_use]
    pub fn expect_next_offset(mut self, topic: impl Into<String>, partition: u32, next_offset: u64) -> Self {
        let expected = v1::ExpectedNextOffset { topic: topic.into(), partition, next_offset };
        self.request.checks.push(v1::Check { kind: Some(v1::check::Kind::NextOffset(expected)) });
        self
    }

    /// Makes the append conditional: refused as `ASSIGNMENT_FENCED` unless a
    /// member of the group holds the partition under this epoch. For an append
    /// that moves no cursor there; a cursor commit carries its epoch itself.
    #[must_use]
    pub fn expect_assignment(
        mut self,
        group: impl Into<String>,
        topic: impl Into<String>,
        partition: u32,
        assignment_epoch: u64,
    ) -> Self {
        let held = v1::HeldAssignment { group: group.into(), topic: topic.into(), partition, assignment_epoch };
        self.request.checks.push(v1::Check { kind: Some(v1::check::Kind::Assignment(held)) });
        self
    }

    /// Moves a group's cursor in the same step: either the records are in the log
    /// and the cursor has moved, or neither. An append may also consist of cursor
    /// commits alone. Refused for the reasons of
    /// [`crate::Groups::commit_cursors`].
    #[must_use]
    pub fn commit_cursor(mut self, commit: CursorCommit) -> Self {
        self.request.commits.push(commit.into_wire());
        if self.request.needs.iter().any(|need| need == COMMITS) { self } else { self.needs(COMMITS) }
    }

    /// Stamps the append, so that sending it again cannot write it twice.
    #[must_use]
    pub fn stamp(mut self, stamp: Stamp) -> Self {
        self.request.producer = Some(stamp.into_wire());
        self
    }

    /// Says that the append relies on this feature of the server.
    #[must_use]
    pub fn needs(mut self, feature: impl Into<String>) -> Self {
        self.request.needs.push(feature.into());
        self
    }

    /// The size of the request as it goes over the wire.
    pub fn bytes(&self) -> usize {
        prost::Message::encoded_len(&self.request)
    }

    fn plain(mut self, topic: String, partition: Option<u32>, records: impl IntoIterator<Item = Record>) -> Self {
        let records = records.into_iter().map(Record::into_wire).collect();
        self.request.batches.push(v1::AppendBatch {
            topic,
            partition,
            content: Some(v1::append_batch::Content::Records(v1::RecordSet { records })),
            topic_id: String::new(),
        });
        self
    }
}

/// Names one append of one producer. The sequence counts the producer's appends
/// over all partitions, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer's id.
    pub producer_id: Arc<str>,
    /// Its epoch.
    pub epoch: u64,
    /// The number of this append.
    pub sequence: u64,
    /// Answers of appends below this number may be forgotten.
    pub answered_below: u64,
}

impl Stamp {
    pub(crate) fn into_wire(self) -> v1::ProducerStamp {
        v1::ProducerStamp {
            producer_id: (*self.producer_id).to_owned(),
            epoch: self.epoch,
            sequence: self.sequence,
            answered_below: self.answered_below,
        }
    }
}

/// A registered producer, as it was when it was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerIdentity {
    /// Its id, given or made up.
    pub producer_id: Arc<str>,
    /// The epoch under which it appends; every lower one is fenced.
    pub epoch: u64,
    /// The sequence of its next append.
    pub next_sequence: u64,
    /// How many records were ever accepted under this id.
    pub accepted_records: u64,
    /// Its newest accepted appends, oldest first.
    pub recent: Vec<PastAppend>,
}

impl ProducerIdentity {
    /// The stamp of this producer's append with this sequence.
    pub fn stamp(&self, sequence: u64, answered_below: u64) -> Stamp {
        Stamp { producer_id: Arc::clone(&self.producer_id), epoch: self.epoch, sequence, answered_below }
    }
}

/// An append that was accepted earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PastAppend {
    /// Its sequence.
    pub sequence: u64,
    /// How many records it had.
    pub record_count: u32,
    /// Where they are.
    pub batches: Vec<AppendedBatch>,
}

/// What is true of an append when it is answered, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// On the server's disk, and synced.
    Fsync,
}

/// Where an append is. It is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// Its batches; several entries for one batch when the server chose the
    /// partitions.
    pub batches: Vec<AppendedBatch>,
    /// It was accepted earlier; this is its first answer again.
    pub duplicate: bool,
    /// The lowest level that a part of it reached.
    pub durability: Durability,
    /// The append time of all its records, in microseconds since 1970 UTC.
    pub append_time_us: i64,
    /// The sequence of the producer's next append; 0 without a stamp.
    pub next_sequence: u64,
}

/// Records of an append that went to one partition, at consecutive offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppendedBatch {
    /// The batch of the append, from 0.
    pub batch_index: u32,
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: String,
    /// The partition.
    pub partition: u32,
    /// The offset of the first record.
    pub base_offset: u64,
    /// How many records.
    pub record_count: u32,
    /// Which records of the batch, when the server chose the partitions.
    pub record_indexes: Vec<u32>,
}

impl Appended {
    pub(crate) fn from_wire(wire: v1::AppendResponse) -> Result<Self, Error> {
        let durability = match v1::Durability::try_from(wire.durability) {
            Ok(v1::Durability::Fsync) => Durability::Fsync,
            Ok(v1::Durability::Unspecified) | Err(_) => {
                // An ack below fsync is none: better an error than a promise
                // that the server does not make.
                return Err(Error::protocol(format!(
                    "the server acked at an unknown level durability={}",
                    wire.durability
                )));
            }
        };
        Ok(Self {
            batches: wire.batches.into_iter().map(AppendedBatch::from_wire).collect(),
            duplicate: wire.duplicate,
            durability,
            append_time_us: wire.append_time_us,
            next_sequence: wire.next_sequence,
        })
    }
}

impl AppendedBatch {
    fn from_wire(wire: v1::AppendedBatch) -> Self {
        Self {
            batch_index: wire.batch_index,
            topic: wire.topic,
            topic_id: wire.topic_id,
            partition: wire.partition,
            base_offset: wire.base_offset,
            record_count: wire.record_count,
            record_indexes: wire.record_indexes,
        }
    }
}

pub(crate) async fn send(client: &Client, append: Append) -> Result<Appended, Error> {
    let context = match append.request.batches.first() {
        None if !append.request.commits.is_empty() => commit_context(append.request.commits.first()),
        first => format!("append to {}", first.map_or("", |batch| &batch.topic)),
    };
    let answer =
        client.appends().append(append.request).await.map_err(|status| Error::from_status(&context, &status))?;
    Appended::from_wire(answer.into_inner())
}

pub(crate) async fn init_producer(
    client: &Client,
    name: Option<&str>,
    idle_expiry: Duration,
    expected_epoch: Option<u64>,
) -> Result<ProducerIdentity, Error> {
    let request = v1::InitProducerRequest {
        producer_id: name.unwrap_or_default().to_owned(),
        idle_expiry_ms: u64::try_from(idle_expiry.as_millis()).unwrap_or(u64::MAX),
        expected_epoch,
    };
    let answer = client
        .control()
        .init_producer(request)
        .await
        .map_err(|status| Error::from_status("register the producer", &status))?
        .into_inner();
    Ok(ProducerIdentity {
        producer_id: answer.producer_id.into(),
        epoch: answer.epoch,
        next_sequence: answer.next_sequence.max(1),
        accepted_records: answer.accepted_records,
        recent: answer
            .recent
            .into_iter()
            .map(|past| PastAppend {
                sequence: past.sequence,
                record_count: past.record_count,
                batches: past.batches.into_iter().map(AppendedBatch::from_wire).collect(),
            })
            .collect(),
    })
}
