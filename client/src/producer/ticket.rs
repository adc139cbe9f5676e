//! A ticket stands for a record, or a batch, that was handed to a producer. All
//! tickets of one append share one cell, which is filled once.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{Appended, Error};

/// Where a record is. It is on disk, visible, and stays there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placed {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The offset in the partition.
    pub offset: u64,
    /// When the server took it in, in microseconds since 1970 UTC.
    pub append_time_us: i64,
    /// A retry found it in the log already.
    pub duplicate: bool,
}

/// Where a batch is: offsets from `base_offset` on, one for each record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlacedBatch {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The offset of the first record.
    pub base_offset: u64,
    /// How many records.
    pub record_count: u32,
    /// When the server took them in, in microseconds since 1970 UTC.
    pub append_time_us: i64,
    /// A retry found them in the log already.
    pub duplicate: bool,
}

/// Resolves to where the record is, once it is on disk. Dropping it changes
/// nothing: the record is sent all the same.
#[derive(Debug)]
#[must_use = "only the ticket, or a flush, tells whether the record was accepted"]
pub struct Ticket {
    wait: Wait,
    batch: u32,
    record: u32,
}

/// Resolves to where the batch is, once it is on disk.
#[derive(Debug)]
#[must_use = "only the ticket, or a flush, tells whether the batch was accepted"]
pub struct BatchTicket {
    wait: Wait,
}

impl Ticket {
    pub(crate) fn new(cell: &Arc<Cell>, batch: u32, record: u32) -> Self {
        Self { wait: Wait::new(cell), batch, record }
    }
}

impl BatchTicket {
    pub(crate) fn new(cell: &Arc<Cell>) -> Self {
        Self { wait: Wait::new(cell) }
    }
}

impl Future for Ticket {
    type Output = Result<Placed, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (batch, record) = (self.batch, self.record);
        self.wait.poll(context).map(|outcome| {
            let (topic, appended) = outcome?;
            let placed = batch_of(appended, batch)?;
            Ok(Placed {
                topic: Arc::clone(topic),
                partition: placed.partition,
                offset: placed.base_offset + u64::from(record),
                append_time_us: appended.append_time_us,
                duplicate: appended.duplicate,
            })
        })
    }
}

impl Future for BatchTicket {
    type Output = Result<PlacedBatch, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.wait.poll(context).map(|outcome| {
            let (topic, appended) = outcome?;
            let placed = batch_of(appended, 0)?;
            Ok(PlacedBatch {
                topic: Arc::clone(topic),
                partition: placed.partition,
                base_offset: placed.base_offset,
                record_count: placed.record_count,
                append_time_us: appended.append_time_us,
                duplicate: appended.duplicate,
            })
        })
    }
}

fn batch_of(appended: &Appended, batch: u32) -> Result<&crate::AppendedBatch, Error> {
    appended
        .batches
        .iter()
        .find(|placed| placed.batch_index == batch)
        .ok_or_else(|| Error::protocol(format!("an answer leaves out a batch batch={batch}")))
}

/// The outcome of one append, awaited by all its tickets.
#[derive(Debug)]
pub(crate) struct Cell {
    topic: Arc<str>,
    outcome: OnceLock<Result<Appended, Error>>,
    waiting: Mutex<Waiting>,
}

/// Wakers by ticket, so that polling one again does not add another.
#[derive(Debug, Default)]
struct Waiting {
    wakers: Vec<Option<Waker>>,
}

impl Cell {
    pub(crate) fn new(topic: &Arc<str>) -> Arc<Self> {
        Arc::new(Self { topic: Arc::clone(topic), outcome: OnceLock::new(), waiting: Mutex::default() })
    }

    /// An empty cell for the next append to the same topic.
    pub(crate) fn another(&self) -> Arc<Self> {
        Self::new(&self.topic)
    }

    /// Fills the cell and wakes everybody. Only the first outcome counts.
    pub(crate) fn resolve(&self, outcome: Result<Appended, Error>) {
        // The lock closes the gap between a ticket's look and its waker.
        let wakers = {
            let mut waiting = self.lock();
            let _ = self.outcome.set(outcome);
            std::mem::take(&mut waiting.wakers)
        };
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One ticket's place among those that wait.
#[derive(Debug)]
struct Wait {
    cell: Arc<Cell>,
    place: Option<usize>,
}

impl Wait {
    fn new(cell: &Arc<Cell>) -> Self {
        Self { cell: Arc::clone(cell), place: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(&Arc<str>, &Appended), Error>> {
        if self.cell.outcome.get().is_none() {
            let mut waiting = self.cell.lock();
            if self.cell.outcome.get().is_none() {
                let waker = Some(context.waker().clone());
                if let Some(place) = self.place {
                    waiting.wakers[place] = waker;
                } else {
                    self.place = Some(waiting.wakers.len());
                    waiting.wakers.push(waker);
                }
                return Poll::Pending;
            }
        }
        match self.cell.outcome.get() {
            Some(Ok(appended)) => Poll::Ready(Ok((&self.cell.topic, appended))),
            Some(Err(error)) => Poll::Ready(Err(error.clone())),
            None => unreachable!("a filled cell stays filled"),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(place) = self.place
            && let Some(waker) = self.cell.lock().wakers.get_mut(place)
        {
            *waker = None;
        }
    }
}
