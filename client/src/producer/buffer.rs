//! Where records wait until they are sent: one open set, and the closed sets
//! behind it. Every byte counts against one bound until it is answered.
//!
//! A set becomes one append, with one batch for each partition. The sequence
//! counts appends of the whole producer, so sets leave in the order in which
//! they were closed, and each partition keeps its order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::BytesMut;
use tokio::{sync::Notify, time::Instant};

use super::{
    ProducerStatistics,
    ticket::{BatchTicket, Cell, Ticket},
};
use crate::{
    BatchWriter, Error, ErrorKind, Record,
    batch::{framed_bytes, record_bytes},
    partition_for_key,
};

/// Buffers kept for the next batches.
const SPARE_BUFFERS: usize = 16;

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

#[derive(Debug)]
struct State {
    open: OpenSet,
    closed: VecDeque<ClosedSet>,
    /// Bytes in the open set, the closed ones, and those in flight.
    held_bytes: usize,
    closed_count: u64,
    answered_count: u64,
    /// Somebody waits for everything before it.
    flush_below: u64,
    failure: Option<Error>,
    gone: Option<Error>,
    closing: bool,
    sticky: u32,
    spare: Vec<BytesMut>,
    statistics: ProducerStatistics,
}

#[derive(Debug)]
struct OpenSet {
    cell: Arc<Cell>,
    batches: Vec<(u32, BatchWriter)>,
    /// By partition: 1 + its index in `batches`, 0 without one.
    places: Vec<u32>,
    bytes: usize,
    records: u32,
    since: Option<Instant>,
}

/// Records that become one append.
#[derive(Debug)]
pub(crate) struct ClosedSet {
    pub(crate) cell: Arc<Cell>,
    pub(crate) batches: Vec<(u32, BatchWriter)>,
    pub(crate) bytes: usize,
    pub(crate) records: u32,
}

/// Why a record was not taken in.
enum Push {
    Full,
    Gone(Error),
}

impl Buffer {
    pub(crate) fn new(topic: Arc<str>, partitions: u32, fixed: Option<u32>, sticky: u32, bounds: Bounds) -> Self {
        let open = OpenSet {
            cell: Cell::new(&topic),
            batches: Vec::new(),
            places: vec![0; partitions as usize],
            bytes: 0,
            records: 0,
            since: None,
        };
        Self {
            topic,
            partitions,
            fixed,
            bounds,
            state: Mutex::new(State {
                open,
                closed: VecDeque::new(),
                held_bytes: 0,
                closed_count: 0,
                answered_count: 0,
                flush_below: 0,
                failure: None,
                gone: None,
                closing: false,
                sticky: sticky % partitions,
                spare: Vec::new(),
                statistics: ProducerStatistics::default(),
            }),
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
            self.close_open(&mut state);
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
            self.close_open(&mut state);
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
                        self.close_open(&mut state);
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
                self.close_open(state);
                self.work.notify_one();
            }
            return Err(Push::Full);
        }
        Ok(())
    }

    fn close_open(&self, state: &mut State) {
        if state.open.records == 0 {
            return;
        }
        for (partition, _) in &state.open.batches {
            state.open.places[*partition as usize] = 0;
        }
        let set = ClosedSet {
            cell: std::mem::replace(&mut state.open.cell, Cell::new(&self.topic)),
            batches: std::mem::take(&mut state.open.batches),
            bytes: std::mem::take(&mut state.open.bytes),
            records: std::mem::take(&mut state.open.records),
        };
        state.open.since = None;
        // One batch goes to one partition, the next one to the next.
        state.sticky = (state.sticky + 1) % self.partitions;
        state.close(set);
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
            self.close_open(&mut state);
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
            self.close_open(&mut state);
            state.closed.drain(..).collect()
        };
        for set in left {
            set.cell.resolve(Err(error.clone()));
            self.answered(set.bytes, Some(error), Vec::new());
        }
        self.space.notify_waiters();
        self.progress.notify_waiters();
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

impl State {
    fn keep(&mut self, buffers: Vec<BytesMut>) {
        let room = SPARE_BUFFERS - self.spare.len().min(SPARE_BUFFERS);
        self.spare.extend(buffers.into_iter().take(room));
    }

    fn close(&mut self, set: ClosedSet) {
        self.closed_count += 1;
        self.closed.push_back(set);
    }

    /// The index of the partition's batch in the open set.
    fn writer(&mut self, partition: u32, share_bytes: usize) -> u32 {
        let place = self.open.places[partition as usize];
        if place > 0 {
            return place - 1;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        if self.open.batches.is_empty() {
            buffer.reserve(share_bytes);
        }
        self.open.batches.push((partition, BatchWriter::with_buffer(buffer)));
        let place = self.open.batches.len() as u32;
        self.open.places[partition as usize] = place;
        place - 1
    }
}

pub(crate) fn closed() -> Error {
    Error::local(ErrorKind::Closed, "the producer is closed")
}
