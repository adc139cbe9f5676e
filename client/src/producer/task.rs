//! The task behind a producer: keeps one stream open while there is something
//! to send, sends, takes answers, and goes on after whatever broke.
//!
//! What an answer means for the numbers is decided in `inflight`; here stands
//! what is done about it, and how long it is tried.

use std::{sync::Arc, time::Duration};

use tillroll_proto::{
    reason,
    v1::{self, append_stream_response::Event},
};
use tokio::time::{Instant, sleep_until};

use super::{buffer::Buffer, prepared::Prepared};
use crate::{
    Appended, AppendedBatch, Client, Compression, Error, ErrorKind, ProducerIdentity, Stamp, append,
    inflight::{Answer, Failed, Inflight, Settled},
    retry::Backoff,
    session::{AppendStream, broken, ended, out_of_order, result, silent},
};

/// Everything that the task owns.
pub(crate) struct Task {
    pub(crate) client: Client,
    pub(crate) buffer: Arc<Buffer>,
    pub(crate) inflight: Inflight<Prepared, Error>,
    pub(crate) backoff: Backoff,
    pub(crate) topic_id: String,
    pub(crate) compression: Compression,
    pub(crate) linger: Duration,
    pub(crate) named: bool,
    /// Id and epoch; the numbers are filled in for each append.
    pub(crate) stamp: Stamp,
    pub(crate) paused_until: Option<Instant>,
    /// What callers are told when the task has ended.
    pub(crate) end: Error,
}

/// Why a stream is left.
enum Stop {
    /// Everything is answered and no more comes.
    Done,
    /// Try again on another stream.
    Broke(Error),
    /// Give up.
    Final(Error),
}

impl Task {
    pub(crate) async fn run(mut self) {
        if let Err(error) = self.work().await {
            tracing::warn!(topic = %self.buffer.topic, %error, "producer gave up");
            self.end = error;
        }
    }

    async fn work(&mut self) -> Result<(), Error> {
        loop {
            // Without anything to send a broken stream is nobody's trouble.
            while self.inflight.is_empty() && !self.buffer.has_work() {
                self.works();
                if self.buffer.is_closing() {
                    return Ok(());
                }
                self.buffer.work.notified().await;
            }
            match self.stream().await {
                Stop::Done => return Ok(()),
                Stop::Final(error) => return Err(error),
                Stop::Broke(error) => {
                    self.inflight.broke();
                    self.buffer.count(|statistics| statistics.broken_streams += 1);
                    tracing::debug!(topic = %self.buffer.topic, %error, "append stream broke");
                    let delay = self.delay_after(error)?;
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    /// Nothing is in the way any more.
    fn works(&mut self) {
        if self.backoff.reset() {
            self.buffer.set_trouble(None);
        }
    }

    /// How long to wait before the next try, or that there is none.
    fn delay_after(&mut self, error: Error) -> Result<Duration, Error> {
        self.buffer.set_trouble(Some(error.clone()));
        self.backoff.after(&error).ok_or_else(|| {
            let seconds = self.backoff.elapsed().as_secs();
            error.given_up(&format!("gave up after {seconds} s"))
        })
    }

    /// Opens a stream and works on it until it ends.
    async fn stream(&mut self) -> Stop {
        if let Err(stop) = self.settle_if_drained().await {
            return stop;
        }
        let mut stream = match AppendStream::open(&self.client).await {
            Ok(stream) => stream,
            Err(error) => return give_up_or_retry(error),
        };
        let mut append_id = 0;
        let mut heard = Instant::now();
        loop {
            self.fill(&stream, &mut append_id);
            if self.inflight.is_empty() && self.buffer.is_closing() && !self.buffer.has_work() {
                return Stop::Done;
            }
            let silence = heard + stream.window.silence;
            let wake = self.wake_at().map_or(silence, |due| due.min(silence));
            tokio::select! {
                message = stream.responses.message() => {
                    heard = Instant::now();
                    if let Err(stop) = self.receive(message) {
                        return stop;
                    }
                    if let Err(stop) = self.settle_if_drained().await {
                        return stop;
                    }
                }
                () = self.buffer.work.notified() => {}
                () = sleep_until(wake) => {
                    if Instant::now() >= silence {
                        return Stop::Broke(silent(stream.window.silence));
                    }
                }
            }
        }
    }

    /// When to look again without being woken: the open set is due, or a pause
    /// is over.
    fn wake_at(&self) -> Option<Instant> {
        match self.paused_until {
            Some(until) => Some(until),
            // With something in flight and not yet due, the answer or the time
            // lets it go; when the window is full, only an answer does.
            None if self.inflight.unsent_bytes().is_some() || self.inflight.is_drained() => None,
            None => {
                let due = self.buffer.due(self.linger)?;
                (due > Instant::now()).then_some(due)
            }
        }
    }

    /// Sends as much as the window takes.
    fn fill(&mut self, stream: &AppendStream, append_id: &mut u64) {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.paused_until = None;
        let window = stream.window;
        while self.inflight.in_flight() < window.appends as usize {
            let Some(bytes) = self.next_bytes() else { return };
            // One append may be larger than the window; it then goes alone.
            let in_flight = self.inflight.in_flight_bytes();
            if in_flight > 0 && in_flight + bytes > window.bytes as usize {
                return;
            }
            *append_id += 1;
            let answered_below = self.inflight.answered_below();
            let Some(entry) = self.inflight.send(*append_id) else { return };
            let stamp = Stamp { sequence: entry.sequence, answered_below, ..self.stamp.clone() };
            let request = entry.payload.request(*append_id, stamp);
            // The queue has room for the whole window: only a dead stream does
            // not take it, and then the responses say why.
            if stream.requests.try_send(request).is_err() {
                return;
            }
        }
    }

    /// The size of the next append to send, which is taken from the buffer when
    /// there is none yet.
    fn next_bytes(&mut self) -> Option<usize> {
        if let Some(bytes) = self.inflight.unsent_bytes() {
            return Some(bytes);
        }
        if self.inflight.is_draining() {
            return None;
        }
        let eager = self.inflight.in_flight() == 0;
        let set = self.buffer.take(eager, self.linger)?;
        let (append, spare) = Prepared::new(set, &self.buffer.topic, &self.topic_id, self.compression);
        self.buffer.spare(spare);
        let bytes = append.wire_bytes();
        self.inflight.push(append, bytes);
        Some(bytes)
    }

    /// Takes one message of the server.
    fn receive(&mut self, message: Result<Option<v1::AppendStreamResponse>, tonic::Status>) -> Result<(), Stop> {
        let event = match message {
            Ok(Some(message)) => message.event,
            Ok(None) => return Err(Stop::Broke(ended())),
            Err(status) => return Err(give_up_or_retry(broken(&status))),
        };
        match event {
            Some(Event::Outcome(outcome)) => self.answered(outcome),
            Some(Event::Heartbeat(_)) => Ok(()),
            Some(Event::Opened(_)) | None => {
                Err(Stop::Final(Error::protocol("the append stream sent something unknown")))
            }
        }
    }

    fn answered(&mut self, outcome: v1::AppendOutcome) -> Result<(), Stop> {
        let expected = self.inflight.oldest_in_flight().map(|entry| entry.append_id);
        if expected != Some(outcome.append_id) {
            return Err(Stop::Broke(out_of_order(outcome.append_id, expected)));
        }
        match result(outcome.result).map_err(Stop::Final)? {
            Ok(appended) => {
                self.works();
                if let Some(append) = self.inflight.answer(Answer::Accepted) {
                    self.accept(append, appended);
                }
                Ok(())
            }
            Err(error) => self.refused(error),
        }
    }

    fn refused(&mut self, error: Error) -> Result<(), Stop> {
        let answer = match error.reason() {
            Some(reason::PRODUCER_FENCED | reason::SEQUENCE_REUSED) => {
                return Err(Stop::Final(error));
            }
            Some(reason::SEQUENCE_GAP) => match error.number(reason::key::NEXT) {
                Some(next) => Answer::Gap { next },
                None => return Err(Stop::Final(Error::protocol("a gap without its next"))),
            },
            Some(reason::SEQUENCE_FORGOTTEN) => {
                // It is in the log; only its offsets are gone.
                if let Some(append) = self.inflight.answer(Answer::Forgotten) {
                    self.fail(append, error);
                }
                return Ok(());
            }
            Some(reason::PRODUCER_UNKNOWN) => Answer::NoProducer(error),
            Some(reason::OUTCOME_UNKNOWN) => {
                self.pause(error)?;
                Answer::Unknown
            }
            _ if error.is_retryable() => {
                self.pause(error)?;
                Answer::Later
            }
            _ => Answer::Refused(error),
        };
        self.inflight.answer(answer);
        Ok(())
    }

    /// Waits before the next append is sent: the server said "not now".
    fn pause(&mut self, error: Error) -> Result<(), Stop> {
        // One pause for all that were refused together.
        if self.paused_until.is_none() {
            let delay = self.delay_after(error).map_err(Stop::Final)?;
            self.paused_until = Some(Instant::now() + delay);
        }
        Ok(())
    }

    async fn settle_if_drained(&mut self) -> Result<(), Stop> {
        if !self.inflight.is_drained() {
            return Ok(());
        }
        match self.inflight.settle(!self.named) {
            Settled::Resend => {}
            Settled::Renumbered(failed) => self.fail_all(failed),
            Settled::Fence => {
                // When another process has taken the producer over, this one is the older one and has to stop: the
                // server refuses it then, and the newer one goes on.
                let taken = self.register(Some(Arc::clone(&self.stamp.producer_id)), Some(self.stamp.epoch)).await?;
                let failed = self.inflight.fenced(taken.next_sequence);
                self.stamp = taken.stamp(0, 0);
                self.buffer.count(|statistics| statistics.fences += 1);
                self.fail_all(failed);
            }
            Settled::Renew => {
                let made = self.register(None, None).await?;
                self.inflight.renewed(made.next_sequence);
                self.stamp = made.stamp(0, 0);
            }
            Settled::Lost(error) => return Err(Stop::Final(error)),
        }
        Ok(())
    }

    async fn register(
        &self,
        producer_id: Option<Arc<str>>,
        expected_epoch: Option<u64>,
    ) -> Result<ProducerIdentity, Stop> {
        let expiry = if self.named { Duration::ZERO } else { super::IDLE_EXPIRY };
        let registered = append::init_producer(&self.client, producer_id.as_deref(), expiry, expected_epoch);
        registered.await.map_err(give_up_or_retry)
    }

    fn accept(&self, append: Prepared, appended: Appended) {
        let records = u64::from(append.records);
        let duplicate = u64::from(appended.duplicate);
        let placed: u64 = appended.batches.iter().map(count_of).sum();
        let outcome = if placed == records {
            Ok(appended)
        } else {
            Err(Error::protocol(format!("an ack of {placed} records for {records}")))
        };
        self.buffer.count(|statistics| {
            statistics.accepted_appends += 1;
            statistics.accepted_records += records;
            statistics.duplicate_appends += duplicate;
        });
        self.resolve(append, outcome);
    }

    fn fail_all(&self, failed: Vec<Failed<Prepared, Error>>) {
        for Failed { payload, error, maybe_written } in failed {
            let error = if maybe_written { error.with_unknown_outcome() } else { error };
            self.fail(payload, error);
        }
    }

    fn fail(&self, append: Prepared, error: Error) {
        self.buffer.count(|statistics| statistics.failed_appends += 1);
        self.resolve(append, Err(error));
    }

    fn resolve(&self, append: Prepared, outcome: Result<Appended, Error>) {
        let failure = outcome.as_ref().err().cloned();
        append.cell.resolve(outcome);
        let held_bytes = append.held_bytes;
        self.buffer.answered(held_bytes, failure.as_ref(), append.reclaim());
    }
}

/// However the task ends, by itself, with its runtime or by a panic, nobody may
/// wait for ever.
impl Drop for Task {
    fn drop(&mut self) {
        let left: Vec<_> = self.inflight.give_up().collect();
        for (append, sent) in left {
            let error = self.end.clone();
            self.fail(append, if sent { error.with_unknown_outcome() } else { error });
        }
        self.buffer.end(&self.end);
    }
}

fn count_of(batch: &AppendedBatch) -> u64 {
    u64::from(batch.record_count)
}

/// A call that failed: worth another try, or not.
fn give_up_or_retry(error: Error) -> Stop {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Exhausted | ErrorKind::OutcomeUnknown => Stop::Broke(error),
        // A connection that dies in the middle of a message shows as an error
        // of the protocol below. The budget bounds how often that is believed.
        ErrorKind::Protocol if error.reason().is_none() => Stop::Broke(error),
        _ => Stop::Final(error),
    }
}
