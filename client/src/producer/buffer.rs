//! Where records wait until they are sent: one open set, and the closed sets
//! behind it. Every byte counts against one bound until it is answered.
//!
//! A set becomes one append, with one batch for each partition. The sequence
//! counts appends of the whole producer, so sets leave in the order in which
//! they were closed, and each partition keeps its order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::{sync::Notify, time::Instant};

use super::{
    ProducerStatistics,
    set::{ClosedSet, State},
    ticket::{BatchTicket, Cell, Ticket},
};
use crate::{
    BatchWriter, Error, ErrorKind, Record,
    batch::{framed_bytes, record_bytes},
    partition_for_key,
};

/// What bounds a producer. All in bytes or counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) batch_bytes: usize,
    pub(crate) in_flight_bytes: usize,
    pub(crate) record_bytes_max: u32,
    pub(crate) key_bytes_max: u32,
    pub(crate) append_records_max: u32,
    /// Of one batch that is sent as a whole.
    pub(crate) batch_bytes_max: usize,
}

/// Shared by a producer's handles and its task.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) topic: Arc<str>,
    partitions: u32,
    fixed: Option<u32>,
    bounds: Bounds,
    state: Mutex<State>,
    /// Something for the task to look at.
    pub(crate) work: Notify,
    /// Some bytes were answered.
    space: Notify,
    /// Some appends were answered.
    progress: Notify,
}

/// Why a record was not taken in.
enum Push {
    Full,
    Gone(Error),
}

impl Buffer {
    pub(crate) fn new(topic: Arc<str>, partitions: u32, fixed: Option<u32>, sticky: u32, bounds: Bounds) -> Self {
        Self {
            state: Mutex::new(State::new(&topic, partitions, sticky)),
            topic,
            partitions,
            fixed,
            bounds,
            work: Notify::new(),
            space: Notify::new(),
            progress: Notify::new(),
        }
    }

    /// Takes one record in, waiting for room. Dropping the future before it is
    /// ready takes nothing in.
    pub(crate) async fn push(&self, record: Record) -> Result<Ticket, Error> {
        let body_bytes = record_bytes(&record);
        record.check(body_bytes, self.bounds.record_bytes_max, self.bounds.key_bytes_max)?;
        loop {
            match self.try_push(&record, body_bytes) {
                Ok(ticket) => return Ok(ticket),
                Err(Push::Gone(error)) => return Err(error),
                Err(Push::Full) => {}
            }
            let space = self.space.notified();
            let mut space = std::pin::pin!(space);
            space.as_mut().enable();
            // Room may have come between the first look and the registration.
            match self.try_push(&record, body_bytes) {
                Ok(ticket) => return Ok(ticket),
                Err(Push::Gone(error)) => return Err(error),
                Err(Push::Full) => space.await,
            }
        }
    }

    fn try_push(&self, record: &Record, body_bytes: usize) -> Result<Ticket, Push> {
        let bytes = framed_bytes(body_bytes);
        let mut state = self.lock();
        self.admit(&mut state, bytes)?;
        if state.open.records > 0
            && (state.open.bytes + bytes > self.bounds.batch_bytes
                || state.open.records >= self.bounds.append_records_max)
        {
            state.close_open();
        }
        let partition = match (self.fixed, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, self.partitions),
            (None, None) => state.sticky,
        };
        let first = state.open.records == 0;
        let alone = self.fixed.is_some() || record.key.is_none();
        let share = self.bounds.batch_bytes / if alone { 1 } else { self.partitions as usize };
        let batch = state.writer(partition, share);
        let writer = &mut state.open.batches[batch as usize].1;
        let index = writer.record_count();
        writer.push_sized(record, body_bytes);
        state.open.bytes += bytes;
        state.open.records += 1;
        state.held_bytes += bytes;
        let ticket = Ticket::new(&state.open.cell, batch, index);
        if first {
            state.open.since = Some(Instant::now());
        }
        let full = state.open.bytes >= self.bounds.batch_bytes;
        if full {
            state.close_open();
        }
        drop(state);
        if first || full {
            self.work.notify_one();
        }
        Ok(ticket)
    }

    /// Takes a batch in as an append of its own.
    pub(crate) async fn push_batch(&self, partition: u32, writer: BatchWriter) -> Result<BatchTicket, Error> {
        let (bytes, records) = (writer.bytes(), writer.record_count());
        if bytes > self.bounds.batch_bytes_max {
            return Err(crate::batch::too_large("bytes", bytes, self.bounds.batch_bytes_max));
        }
        if records > self.bounds.append_records_max {
            let limit = self.bounds.append_records_max as usize;
            return Err(crate::batch::too_large("records", records as usize, limit));
        }
        loop {
            let space = self.space.notified();
            let mut space = std::pin::pin!(space);
            space.as_mut().enable();
            {
                let mut state = self.lock();
                match self.admit(&mut state, bytes) {
                    Ok(()) => {
                        // Records that came first go first.
                        state.close_open();
                        let cell = Cell::new(&self.topic);
                        let ticket = BatchTicket::new(&cell);
                        let batches = vec![(partition, writer)];
                        state.held_bytes += bytes;
                        state.close(ClosedSet { cell, batches, bytes, records });
                        drop(state);
                        self.work.notify_one();
                        return Ok(ticket);
                    }
                    Err(Push::Gone(error)) => return Err(error),
                    Err(Push::Full) => {}
                }
            }
            space.await;
        }
    }

    /// Whether there is room. A record that is larger than all the room goes in
    /// when nothing else is there.
    fn admit(&self, state: &mut State, bytes: usize) -> Result<(), Push> {
        if let Some(error) = &state.gone {
            return Err(Push::Gone(error.clone()));
        }
        if state.closing {
            return Err(Push::Gone(closed()));
        }
        if state.held_bytes > 0 && state.held_bytes + bytes > self.bounds.in_flight_bytes {
            // Somebody waits for room: what is here has no reason to linger.
            if state.open.records > 0 {
                state.close_open();
                self.work.notify_one();
            }
            return Err(Push::Full);
        }
        Ok(())
    }

    /// The next set to send. The open one only when nobody gains by waiting:
    /// `eager`, or somebody flushes, or it has waited for `linger`.
    pub(crate) fn take(&self, eager: bool, linger: std::time::Duration) -> Option<ClosedSet> {
        let mut state = self.lock();
        if state.closed.is_empty() {
            let since = state.open.since?;
            let flushed = state.closed_count < state.flush_below || state.closing;
            if !(eager || flushed || since.elapsed() >= linger) {
                return None;
            }
            state.close_open();
        }
        state.closed.pop_front()
    }

    /// When the open set has waited long enough.
    pub(crate) fn due(&self, linger: std::time::Duration) -> Option<Instant> {
        self.lock().open.since.map(|since| since + linger)
    }

    /// Whether there is anything to send.
    pub(crate) fn has_work(&self) -> bool {
        let state = self.lock();
        !state.closed.is_empty() || state.open.records > 0
    }

    /// Refuses a record above a limit.
    pub(crate) fn check(&self, record: &Record) -> Result<(), Error> {
        let bytes = record_bytes(record);
        record.check(bytes, self.bounds.record_bytes_max, self.bounds.key_bytes_max)
    }

    /// Keeps buffers for the next batches.
    pub(crate) fn spare(&self, buffers: Vec<BytesMut>) {
        if !buffers.is_empty() {
            self.lock().keep(buffers);
        }
    }

    /// Counts an append as answered and gives its room back.
    pub(crate) fn answered(&self, bytes: usize, failure: Option<&Error>, spare: Vec<BytesMut>) {
        {
            let mut state = self.lock();
            state.held_bytes -= bytes;
            state.answered_count += 1;
            if let Some(error) = failure {
                state.failure.get_or_insert_with(|| error.clone());
            }
            state.keep(spare);
        }
        self.space.notify_waiters();
        self.progress.notify_waiters();
    }

    /// Lets the open set go and waits until everything before now is answered.
    pub(crate) async fn flush(&self) -> Result<(), Error> {
        let target = {
            let mut state = self.lock();
            let target = state.closed_count + u64::from(state.open.records > 0);
            state.flush_below = state.flush_below.max(target);
            target
        };
        self.work.notify_one();
        loop {
            let progress = self.progress.notified();
            let mut progress = std::pin::pin!(progress);
            progress.as_mut().enable();
            {
                let mut state = self.lock();
                if state.answered_count >= target {
                    return state.failure.take().map_or(Ok(()), Err);
                }
            }
            progress.await;
        }
    }

    /// No more records come.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
        self.space.notify_waiters();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// The task has ended: what is still here fails.
    pub(crate) fn end(&self, error: &Error) {
        let left: Vec<ClosedSet> = {
            let mut state = self.lock();
            state.gone = Some(error.clone());
            state.close_open();
            state.closed.drain(..).collect()
        };
        for set in left {
            set.cell.resolve(Err(error.clone()));
            self.answered(set.bytes, Some(error), Vec::new());
        }
        self.space.notify_waiters();
        self.progress.notify_waiters();
    }

    /// Remembers why it is tried again, or that something worked.
    pub(crate) fn set_trouble(&self, trouble: Option<Error>) {
        self.lock().trouble = trouble;
    }

    pub(crate) fn trouble(&self) -> Option<Error> {
        self.lock().trouble.clone()
    }

    /// Counts something.
    pub(crate) fn count(&self, change: impl FnOnce(&mut ProducerStatistics)) {
        change(&mut self.lock().statistics);
    }

    pub(crate) fn statistics(&self) -> ProducerStatistics {
        let state = self.lock();
        ProducerStatistics {
            buffered_bytes: state.held_bytes as u64,
            unanswered_appends: state.closed_count - state.answered_count,
            ..state.statistics
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn closed() -> Error {
    Error::local(ErrorKind::Closed, "the producer is closed")
}
