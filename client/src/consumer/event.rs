//! What a consumer hands out: records and batches with the epoch under which they are held, and what else it meets.

use std::{fmt, sync::Arc, time::Duration};

use tillroll_proto::v1;

use super::{
    commit::{CommitTicket, Place},
    shared::Shared,
};
use crate::{Error, ReadBatch, Received};

/// A partition that a member holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeldPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// Rises only when this partition changes hands or its cursor is set. Commits and checks carry it.
    pub assignment_epoch: u64,
    /// The next offset that comes.
    pub next_offset: u64,
}

impl HeldPartition {
    pub(super) fn from_wire(wire: v1::Assignment) -> Self {
        let v1::Assignment { topic, partition, assignment_epoch, next_offset } = wire;
        Self { topic: topic.into(), partition, assignment_epoch, next_offset }
    }

    pub(super) fn to_wire(&self) -> v1::Assignment {
        v1::Assignment {
            topic: self.topic.to_string(),
            partition: self.partition,
            assignment_epoch: self.assignment_epoch,
            next_offset: self.next_offset,
        }
    }
}

/// Why a member does not hold a partition any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// Another process joined under this member's name.
    TakenOver,
    /// The member was away for longer than its session.
    SessionExpired,
    /// The member did not give it back in time.
    DrainExpired,
    /// Somebody set the cursor.
    CursorSet,
    /// The topic is gone.
    TopicDeleted,
    /// It was lost while the connection was broken, for one of these reasons.
    WhileAway,
    /// The server says where the partition stands, and it is before what it had acknowledged: its data is an older
    /// copy.
    MovedBack,
    /// A reason of a later server.
    Other(String),
}

impl LostReason {
    pub(super) fn from_wire(reason: String) -> Self {
        match reason.as_str() {
            "TAKEN_OVER" => Self::TakenOver,
            "SESSION_EXPIRED" => Self::SessionExpired,
            "DRAIN_EXPIRED" => Self::DrainExpired,
            "CURSOR_SET" => Self::CursorSet,
            "TOPIC_DELETED" => Self::TopicDeleted,
            _ => Self::Other(reason),
        }
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::TakenOver => "TAKEN_OVER",
            Self::SessionExpired => "SESSION_EXPIRED",
            Self::DrainExpired => "DRAIN_EXPIRED",
            Self::CursorSet => "CURSOR_SET",
            Self::TopicDeleted => "TOPIC_DELETED",
            Self::WhileAway => "WHILE_AWAY",
            Self::MovedBack => "MOVED_BACK",
            Self::Other(reason) => reason,
        })
    }
}

/// What a consumer meets.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConsumerEvent {
    /// Records of one partition.
    Batch(DeliveredBatch),
    /// Partitions came, in addition to those that are held.
    Assigned(Vec<HeldPartition>),
    /// The group wants partitions back. No more of their records come; what was handed out may be finished and
    /// committed until the time is over.
    Revoking {
        /// Which.
        partitions: Vec<HeldPartition>,
        /// How much time there is.
        drain: Duration,
    },
    /// Partitions are gone: whatever of them is not committed comes to somebody else.
    Lost {
        /// Which.
        partitions: Vec<HeldPartition>,
        /// Why.
        reason: LostReason,
    },
    /// Once: everything that was published when the member joined was handed out.
    CaughtUp,
    /// One partition cannot go on, such as for damaged data or a cursor below the head. The others do.
    Stalled {
        /// Which.
        partition: HeldPartition,
        /// Why.
        error: Error,
    },
    /// A commit was refused, and nobody holds its ticket.
    CommitRefused {
        /// The partition, and the offset that its cursor should have gone to.
        partition: HeldPartition,
        /// Why.
        error: Error,
    },
    /// The connection broke, and the consumer tries again. Once for each time that nobody answers.
    Interrupted(Error),
    /// It is connected again, as the same member. No record was left out.
    Resumed,
}

impl ConsumerEvent {
    /// The error of an event that a program must not miss.
    pub(super) fn into_error(self) -> Option<Error> {
        match self {
            Self::Stalled { error, .. } | Self::CommitRefused { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// A record that the group gave to this member.
#[derive(Clone)]
#[non_exhaustive]
pub struct Delivery {
    /// The record with its place.
    pub received: Received,
    /// The epoch under which its partition is held.
    pub assignment_epoch: u64,
    shared: Arc<Shared>,
}

impl Delivery {
    pub(super) fn new(received: Received, assignment_epoch: u64, shared: &Arc<Shared>) -> Self {
        Self { received, assignment_epoch, shared: Arc::clone(shared) }
    }

    /// See [`crate::Consumer::commit`].
    pub fn commit(&self) -> CommitTicket {
        self.shared.commit(&self.place())
    }

    pub(super) fn place(&self) -> Place {
        Place {
            topic: Arc::clone(&self.received.topic),
            partition: self.received.partition,
            assignment_epoch: self.assignment_epoch,
            next_offset: self.received.offset + 1,
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Delivery")
            .field("received", &self.received)
            .field("assignment_epoch", &self.assignment_epoch)
            .finish_non_exhaustive()
    }
}

/// Records of one partition, in order. Its credit is given back when it is dropped.
pub struct DeliveredBatch {
    batch: ReadBatch,
    assignment_epoch: u64,
    /// What it counts for in the credit.
    bytes: u64,
    shared: Arc<Shared>,
}

impl DeliveredBatch {
    pub(super) fn new(batch: ReadBatch, assignment_epoch: u64, bytes: u64, shared: &Arc<Shared>) -> Self {
        Self { batch, assignment_epoch, bytes, shared: Arc::clone(shared) }
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        self.batch.topic()
    }

    /// The partition.
    pub fn partition(&self) -> u32 {
        ReadBatch::partition(&self.batch)
    }

    /// The epoch under which the partition is held.
    pub fn assignment_epoch(&self) -> u64 {
        self.assignment_epoch
    }

    /// The offset behind this batch.
    pub fn next_offset(&self) -> u64 {
        self.batch.next_offset()
    }

    /// How many records are left in it.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Nothing is left in it.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Says that everything up to the end of this batch is done with; see [`crate::Consumer::commit`].
    pub fn commit(&self) -> CommitTicket {
        self.shared.commit(&self.place(self.batch.next_offset()))
    }

    pub(super) fn place(&self, next_offset: u64) -> Place {
        Place {
            topic: Arc::clone(self.batch.topic()),
            partition: ReadBatch::partition(&self.batch),
            assignment_epoch: self.assignment_epoch,
            next_offset,
        }
    }

    /// What it counts for in the credit.
    pub(crate) fn credit_bytes(&self) -> u64 {
        self.bytes
    }

    /// The records as they came, for whoever takes them apart.
    pub(crate) fn encoded(&mut self) -> &mut ReadBatch {
        &mut self.batch
    }

    /// The records that are left, in order. Each is decoded when it is asked for.
    pub fn records(&mut self) -> impl Iterator<Item = Result<Delivery, Error>> + '_ {
        std::iter::from_fn(|| self.take())
    }

    fn take(&mut self) -> Option<Result<Delivery, Error>> {
        let received = self.batch.next()?;
        Some(received.map(|received| Delivery::new(received, self.assignment_epoch, &self.shared)))
    }

    /// The next record for a program that takes them one by one: none when the partition is to be given back meanwhile.
    pub(super) fn next_of(&mut self, shared: &Shared) -> Option<Result<Delivery, Error>> {
        match self.take()? {
            Ok(delivery) => shared.hand_out(&delivery.place()).then_some(Ok(delivery)),
            Err(error) => Some(Err(error)),
        }
    }
}

impl Drop for DeliveredBatch {
    fn drop(&mut self) {
        self.shared.done_with(self.bytes);
    }
}

impl fmt::Debug for DeliveredBatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DeliveredBatch")
            .field("batch", &self.batch)
            .field("assignment_epoch", &self.assignment_epoch)
            .finish_non_exhaustive()
    }
}
