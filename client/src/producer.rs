//! The producer: takes records in, sends them in order on one stream, and finds
//! out what became of each, whatever breaks on the way.
//!
//! `set` and `buffer` hold what waits, `prepared` is what is sent, `task` drives
//! the stream, `ticket` is what a caller waits for; `inflight` beside this room
//! keeps the numbers.

mod set;
mod buffer;
mod prepared;
mod task;
mod ticket;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tillroll_proto::reason;
use tokio::task::JoinHandle;

pub use ticket::{BatchTicket, Placed, PlacedBatch, Ticket};

use crate::{
    BatchWriter, Client, Compression, Error, ErrorKind, ProducerIdentity, Record, append, inflight::Inflight, retry,
};
use buffer::{Bounds, Buffer};
use task::Task;

/// A nameless producer is forgotten by the server after so long without an
/// append; it then registers anew by itself.
const IDLE_EXPIRY: Duration = Duration::from_hours(1);

/// Settings of a [`Producer`].
#[derive(Clone, Debug)]
pub struct ProducerBuilder {
    client: Client,
    topic: String,
    name: Option<String>,
    partition: Option<u32>,
    linger: Duration,
    batch_bytes: usize,
    in_flight_bytes: usize,
    compression: Compression,
    retry_for: Duration,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        Self {
            client,
            topic,
            name: None,
            partition: None,
            linger: Duration::from_millis(5),
            batch_bytes: 256 << 10,
            in_flight_bytes: 2 << 20,
            compression: Compression::None,
            retry_for: retry::BUDGET,
        }
    }

    /// A name under which the producer is known again after a restart of its
    /// process. One process at a time: a second one takes the name over and
    /// fences the first. Unless set, the server makes up an id for this run.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sends everything to this partition, whatever the keys.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// How long a record waits for others, at most, while earlier appends are
    /// unanswered; 5 ms unless set. A producer with nothing unanswered sends at
    /// once.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// The size of encoded records at which an append is sent; 256 KiB unless
    /// set. At most what the server takes as one batch.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// The most bytes that wait or are unanswered; 2 MiB unless set. Past it
    /// [`Producer::send`] waits.
    #[must_use]
    pub fn in_flight_bytes(mut self, bytes: usize) -> Self {
        self.in_flight_bytes = bytes;
        self
    }

    /// How batches are compressed on the wire; not at all unless set. What is
    /// stored is compressed as the topic says in either case.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How long the producer tries without any success before it gives up; two
    /// minutes unless set.
    #[must_use]
    pub fn retry_for(mut self, budget: Duration) -> Self {
        self.retry_for = budget;
        self
    }

    /// Looks the topic up, registers the producer and starts it.
    ///
    /// **Errors**: `NotFound` without such a topic or partition, `InvalidInput`
    /// for a bad name, `Exhausted` (`PRODUCERS_FULL`) at once when the server
    /// keeps as many producers as it can, `Unavailable` when it does not answer
    /// for [`ProducerBuilder::retry_for`].
    pub async fn build(self) -> Result<Producer, Error> {
        let mut backoff = retry::Backoff::new(self.retry_for);
        let topic = loop {
            match self.client.admin().get_topic(&self.topic).await {
                Err(error) if error.is_retryable() => match backoff.after(&error) {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => return Err(error),
                },
                answer => break answer?,
            }
        };
        if let Some(partition) = self.partition {
            check_partition(&self.topic, partition, topic.partition_count)?;
        }
        let expiry = if self.name.is_some() { Duration::ZERO } else { IDLE_EXPIRY };
        let identity = loop {
            match append::init_producer(&self.client, self.name.as_deref(), expiry, None).await {
                // Room comes with days, or by somebody who deletes: no program waits for that.
                Err(error) if error.reason() == Some(reason::PRODUCERS_FULL) => return Err(error),
                Err(error) if error.is_retryable() => match backoff.after(&error) {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => return Err(error),
                },
                answer => break answer?,
            }
        };
        Ok(self.start(&topic, identity))
    }

    fn start(self, topic: &crate::TopicInfo, identity: ProducerIdentity) -> Producer {
        let limits = self.client.server().limits;
        let batch_bytes_max = limits.max_batch_bytes.min(limits.max_append_bytes / 2) as usize;
        let batch_bytes = self.batch_bytes.clamp(1, batch_bytes_max);
        let bounds = Bounds {
            batch_bytes,
            in_flight_bytes: self.in_flight_bytes.max(batch_bytes),
            record_bytes_max: topic.max_record_bytes.min(limits.max_record_bytes),
            key_bytes_max: limits.max_key_bytes,
            append_records_max: limits.max_append_records,
            batch_bytes_max,
        };
        // Producers of one topic should not all begin with the same partition.
        let sticky = crate::partition_for_key(identity.producer_id.as_bytes(), topic.partition_count);
        let buffer =
            Arc::new(Buffer::new(self.topic.as_str().into(), topic.partition_count, self.partition, sticky, bounds));
        let task = Task {
            buffer: Arc::clone(&buffer),
            inflight: Inflight::new(identity.next_sequence),
            backoff: retry::Backoff::new(self.retry_for),
            topic_id: topic.topic_id.clone(),
            compression: self.compression,
            linger: self.linger,
            named: self.name.is_some(),
            stamp: identity.stamp(0, 0),
            paused_until: None,
            end: buffer::closed(),
            client: self.client,
        };
        Producer {
            partitions: topic.partition_count,
            identity,
            task: Mutex::new(Some(tokio::spawn(task.run()))),
            buffer,
        }
    }
}

/// Appends records to one topic, in order, each once.
///
/// Records are gathered into appends and sent on one stream. When the stream
/// breaks, what is unanswered is sent again under the same stamps, which the
/// server recognises: a retry never writes a record twice. A record that the
/// server refuses fails alone with the others of its append; what comes behind
/// it goes on.
///
/// Order: records of one partition are in the log in the order in which
/// [`Producer::send`] took them in.
///
/// Dropping a producer sends what it holds, as long as the runtime lives, and
/// tells nobody how that went; [`Producer::close`] does.
#[derive(Debug)]
pub struct Producer {
    buffer: Arc<Buffer>,
    identity: ProducerIdentity,
    partitions: u32,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Producer {
    /// Takes a record in and gives a ticket for it. Waits while
    /// [`ProducerBuilder::in_flight_bytes`] are held; dropping the future before
    /// it is ready takes nothing in.
    ///
    /// **Durability**: none yet. The ticket resolves when the record is on disk.
    ///
    /// **Errors**: `InvalidInput` for a record above a limit, `Closed` after
    /// [`Producer::close`]; or why the producer gave up.
    pub async fn send(&self, record: Record) -> Result<Ticket, Error> {
        // A loop that never has to wait for room would never let the task run
        // on a runtime with one thread.
        tokio::task::coop::consume_budget().await;
        self.buffer.push(record).await
    }

    /// Sends records to one partition as one append: all of them are written, or
    /// none. What was taken in before goes first.
    ///
    /// **Errors**: `InvalidInput` when a record or the batch is above a limit,
    /// `NotFound` without such a partition.
    pub async fn send_batch(
        &self,
        partition: u32,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<BatchTicket, Error> {
        check_partition(&self.buffer.topic, partition, self.partitions)?;
        let mut writer = BatchWriter::new();
        for record in records {
            self.buffer.check(&record)?;
            writer.push(&record);
        }
        if writer.record_count() == 0 {
            return Err(Error::local(ErrorKind::InvalidInput, "a batch needs a record"));
        }
        tokio::task::coop::consume_budget().await;
        self.buffer.push_batch(partition, writer).await
    }

    /// Sends what is held at once and waits until all of it is answered.
    ///
    /// **Durability**: when this returns `Ok`, every record taken in before is
    /// on disk.
    ///
    /// **Errors**: the first failure since the last flush, once.
    pub async fn flush(&self) -> Result<(), Error> {
        self.buffer.flush().await
    }

    /// Flushes, then ends the producer. Later records are refused as `Closed`.
    pub async fn close(&self) -> Result<(), Error> {
        self.buffer.close();
        let flushed = self.buffer.flush().await;
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // Should it have panicked, it has failed its tickets all the same.
            let _ = task.await;
        }
        flushed
    }

    /// The producer's id: its name, or the one that the server made up.
    pub fn producer_id(&self) -> &str {
        &self.identity.producer_id
    }

    /// How many records were in the log under this name when the producer was
    /// built. A loader that is started again skips as many.
    pub fn accepted_records(&self) -> u64 {
        self.identity.accepted_records
    }

    /// How many partitions the topic has.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Why the producer is trying again right now; `None` while all goes well.
    pub fn trouble(&self) -> Option<Error> {
        self.buffer.trouble()
    }

    /// What the producer has done so far.
    pub fn statistics(&self) -> ProducerStatistics {
        self.buffer.statistics()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.buffer.close();
    }
}

/// What a producer has done since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerStatistics {
    /// Records that are on disk.
    pub accepted_records: u64,
    /// Appends that are.
    pub accepted_appends: u64,
    /// Appends that a retry found in the log already.
    pub duplicate_appends: u64,
    /// Appends that failed.
    pub failed_appends: u64,
    /// Times that the stream broke.
    pub broken_streams: u64,
    /// Times that the producer took a new epoch to be sure of its numbers.
    pub fences: u64,
    /// Bytes that wait or are unanswered now.
    pub buffered_bytes: u64,
    /// Appends that wait or are unanswered now.
    pub unanswered_appends: u64,
}

fn check_partition(topic: &str, partition: u32, count: u32) -> Result<(), Error> {
    if partition < count {
        return Ok(());
    }
    Err(Error::refused(
        ErrorKind::NotFound,
        tillroll_proto::reason::PARTITION_NOT_FOUND,
        format!("partition not found topic={topic} partition={partition} count={count}"),
        &[
            (tillroll_proto::reason::key::TOPIC, topic.to_owned()),
            (tillroll_proto::reason::key::PARTITION, partition.to_string()),
            (tillroll_proto::reason::key::COUNT, count.to_string()),
        ],
    ))
}
