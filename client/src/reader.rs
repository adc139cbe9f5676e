//! The reader: a stream of records from one topic, which goes on by itself
//! where it was when its connection breaks.
//!
//! [`call`] keeps one `Read` call going and knows where each partition stands;
//! [`batch`] takes apart what came; here is what a program sees.

mod batch;
mod call;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use tillroll_proto::v1::{self, start_position::At};

pub use batch::ReadBatch;

use crate::{Client, Error, Record, retry};
use call::Call;

/// Names a place in every partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Position {
    /// The first record that is still kept.
    Earliest,
    /// The end: only records that come later.
    Latest,
    /// This offset, in each partition.
    Offset(u64),
    /// The first record with this append time or a later one, in microseconds
    /// since 1970 UTC.
    AppendTime(i64),
    /// So many records before the end, in each partition.
    Last(u64),
}

impl Position {
    pub(crate) fn into_wire(self) -> v1::StartPosition {
        v1::StartPosition {
            at: Some(match self {
                Self::Earliest => At::Earliest(true),
                Self::Latest => At::Latest(true),
                Self::Offset(offset) => At::Offset(offset),
                Self::AppendTime(time) => At::AppendTimeUs(time),
                Self::Last(count) => At::LastRecords(count),
            }),
        }
    }

    pub(crate) fn from_wire(wire: Option<v1::StartPosition>) -> Result<Self, Error> {
        match wire.and_then(|start| start.at) {
            Some(At::Earliest(_)) => Ok(Self::Earliest),
            Some(At::Latest(_)) => Ok(Self::Latest),
            Some(At::Offset(offset)) => Ok(Self::Offset(offset)),
            Some(At::AppendTimeUs(time)) => Ok(Self::AppendTime(time)),
            Some(At::LastRecords(count)) => Ok(Self::Last(count)),
            Some(At::Group(_)) | None => Err(Error::protocol("a start of an unknown kind")),
        }
    }

    /// Whether the same position is another place later. A reader fixes such
    /// places once, or it would leave out records when it connects again.
    fn moves(self) -> bool {
        matches!(self, Self::Latest | Self::Last(_) | Self::AppendTime(_))
    }
}

/// Settings of a [`Reader`].
#[derive(Clone, Debug)]
pub struct ReaderBuilder {
    client: Client,
    topic: String,
    partitions: Vec<u32>,
    from: Position,
    group: Option<String>,
    resume: Vec<(u32, u64)>,
    follow: bool,
    limit: Option<u64>,
    key: Option<Bytes>,
    retry_for: Duration,
}

impl ReaderBuilder {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        Self {
            client,
            topic,
            partitions: Vec::new(),
            from: Position::Earliest,
            group: None,
            resume: Vec::new(),
            follow: false,
            limit: None,
            key: None,
            retry_for: retry::BUDGET,
        }
    }

    /// Reads these partitions; all of them unless set.
    #[must_use]
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = u32>) -> Self {
        self.partitions = partitions.into_iter().collect();
        self
    }

    /// Starts here; at the earliest record unless set.
    #[must_use]
    pub fn from(mut self, position: Position) -> Self {
        self.from = position;
        self.group = None;
        self
    }

    /// Starts where the cursors of this group are when the reader is opened. They
    /// move when somebody commits: see [`crate::Groups::commit_cursors`].
    #[must_use]
    pub fn from_group(mut self, name: impl Into<String>) -> Self {
        self.group = Some(name.into());
        self
    }

    /// Starts one partition at this offset instead.
    #[must_use]
    pub fn resume(mut self, partition: u32, next_offset: u64) -> Self {
        self.resume.push((partition, next_offset));
        self
    }

    /// Goes on with records as they come, instead of stopping at the end that
    /// there is when the call begins.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// Stops after so many records, over all partitions.
    #[must_use]
    pub fn limit(mut self, records: u64) -> Self {
        self.limit = Some(records);
        self
    }

    /// Only records with exactly this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// How long the reader tries without any success before it gives up; two
    /// minutes unless set.
    #[must_use]
    pub fn retry_for(mut self, budget: Duration) -> Self {
        self.retry_for = budget;
        self
    }

    /// Opens the reader.
    ///
    /// **Errors**: `NotFound` without such a topic, partition or group;
    /// `OutOfRange` when the start is below the head or beyond the end;
    /// `InvalidInput` (`START_REQUIRED`) when the group does not read the topic.
    pub async fn open(self) -> Result<Reader, Error> {
        let call = Call::open(self).await?;
        Ok(Reader { call: Some(Box::new(call)), waiting: None, current: None, caught_up: false })
    }
}

/// A record with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The offset in the partition.
    pub offset: u64,
    /// When the server took it in, in microseconds since 1970 UTC.
    pub append_time_us: i64,
    /// The record. Its key, value and header values share memory with the batch
    /// that they came in: copy small ones that are kept for long.
    pub record: Record,
}

/// What a reader meets.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Records of one partition.
    Batch(ReadBatch),
    /// The connection broke, and the reader tries again. Once for each time that
    /// nobody answers.
    Interrupted(Error),
    /// It is connected again. No record was left out.
    Resumed,
    /// Once: every record that was published when the reader was opened has
    /// been given out. A reader that does not follow ends here.
    CaughtUp,
}

type Waiting = Pin<Box<dyn Future<Output = (Box<Call>, Result<Option<Event>, Error>)> + Send>>;

/// A stream of records. Order holds within a partition. After an error it ends.
///
/// Every batch is checked against its CRC. When the connection breaks, the
/// reader goes on behind the last record that it gave out: none is left out and
/// none comes twice.
pub struct Reader {
    /// Here, or inside of `waiting`; in neither place when the reader has ended.
    call: Option<Box<Call>>,
    waiting: Option<Waiting>,
    current: Option<ReadBatch>,
    caught_up: bool,
}

impl Reader {
    /// The next record, or `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Received, Error>> {
        std::future::poll_fn(|context| self.poll_record(context)).await
    }

    /// The next batch: faster than one record at a time, and records that are
    /// not asked for are not decoded. `None` at the end.
    pub async fn next_batch(&mut self) -> Option<Result<ReadBatch, Error>> {
        loop {
            match self.next_event().await? {
                Ok(Event::Batch(batch)) => return Some(Ok(batch)),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The next batch, or what else the reader meets. `None` at the end.
    pub async fn next_event(&mut self) -> Option<Result<Event, Error>> {
        if let Some(rest) = self.current.take().filter(|batch| !batch.is_empty()) {
            return Some(Ok(Event::Batch(rest)));
        }
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Whether every record that was published when the reader was opened has
    /// been given out.
    pub fn caught_up(&self) -> bool {
        self.caught_up && self.current.as_ref().is_none_or(ReadBatch::is_empty)
    }

    fn poll_record(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Received, Error>>> {
        loop {
            if let Some(batch) = &mut self.current {
                match batch.next() {
                    Some(Ok(received)) => return Poll::Ready(Some(Ok(received))),
                    Some(Err(error)) => {
                        (self.call, self.waiting, self.current) = (None, None, None);
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => self.current = None,
                }
            }
            match ready!(self.poll_event(context)) {
                Some(Ok(Event::Batch(batch))) => self.current = Some(batch),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        let waiting = match (&mut self.waiting, self.call.take()) {
            (Some(waiting), _) => waiting,
            (none, Some(mut call)) => none.insert(Box::pin(async move {
                let event = call.next().await;
                (call, event)
            })),
            (None, None) => return Poll::Ready(None),
        };
        let (call, event) = ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        match event {
            Ok(Some(event)) => {
                self.caught_up |= matches!(event, Event::CaughtUp);
                self.call = Some(call);
                Poll::Ready(Some(Ok(event)))
            }
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

impl Stream for Reader {
    type Item = Result<Received, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_record(context)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reader")
            .field("ended", &(self.call.is_none() && self.waiting.is_none()))
            .field("caught_up", &self.caught_up)
            .finish_non_exhaustive()
    }
}
