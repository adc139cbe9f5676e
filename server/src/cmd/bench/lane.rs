//! One producer of a bench on its append stream: sends while there is room, takes answers, and sends again in order
//! what the server refused for now (a full journal that is being checkpointed), as any producer would.
//!
//! After a refusal everything behind it is answered with a gap, so nothing new is sent until all is answered; then the
//! refused appends go again under their own numbers. Their latency counts from the first time.

use std::{
    cell::RefCell,
    collections::VecDeque,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tillroll_client::{
    Append, Appended, EncodedBatch, Error, ProducerIdentity, SessionOutcomes, SessionSender, TopicInfo,
};
use tillroll_proto::reason::SEQUENCE_GAP;
use tokio::sync::{Notify, Semaphore};

use crate::cmd::{
    bench::{
        append::{Acked, Pace, histogram},
        payload::Payload,
    },
    fail::Failure,
};

/// The pause before refused appends are sent again, when the server names none.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest pause that a server may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// After so long without an ack a bench gives up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// One producer on its stream.
pub(super) struct Lane {
    topic: String,
    partitions: u32,
    producer: u32,
    identity: ProducerIdentity,
    /// In bytes.
    room: Semaphore,
    /// Everything that was sent is answered, or the stream broke.
    drained: Notify,
    state: RefCell<State>,
}

struct State {
    payload: Payload,
    unanswered: VecDeque<Sent>,
    /// Refused for now, in order.
    refused: VecDeque<Sent>,
    pause: Duration,
    accepted: u64,
    accepted_last: Instant,
}

struct Sent {
    since: Instant,
    batch: EncodedBatch,
    partition: u32,
    sequence: u64,
    first_number: u64,
}

/// What became of a lane.
pub(super) struct Ended {
    pub(super) acked: Vec<Acked>,
    pub(super) latency_us: Histogram<u64>,
    pub(super) refused: u64,
}

impl Lane {
    /// A producer that may have so many bytes unanswered.
    pub(super) fn new(
        topic: &TopicInfo,
        partitions: u32,
        producer: u32,
        identity: ProducerIdentity,
        payload: Payload,
        window: usize,
    ) -> Self {
        let state = State {
            payload,
            unanswered: VecDeque::new(),
            refused: VecDeque::new(),
            pause: PAUSE,
            accepted: 0,
            accepted_last: Instant::now(),
        };
        Self {
            topic: topic.name.clone(),
            partitions,
            producer,
            identity,
            room: Semaphore::new(window),
            drained: Notify::new(),
            state: RefCell::new(state),
        }
    }

    /// Sends until the pace says that it is over, and everything is accepted.
    pub(super) async fn send(&self, mut sender: SessionSender, pace: Pace) -> Result<(), Failure> {
        let batch_bytes = self.state.borrow().payload.batch_bytes();
        let room_bytes = u32::try_from(batch_bytes).expect("a batch is checked to be below a server's limit");
        let mut append = 0;
        while let Some(due) = pace.next(append).await {
            loop {
                tokio::select! {
                    biased;
                    () = self.drained.notified() => {}
                    room = self.room.acquire_many(room_bytes) => {
                        room.map_err(|_| broke())?.forget();
                        break;
                    }
                }
                // Refused appends hold their room: without sending them again there would never be any.
                self.settle(&mut sender).await?;
            }
            self.settle(&mut sender).await?;
            let sent = self.next(append, due);
            self.hand_over(&mut sender, sent).await?;
            append += 1;
        }
        while !self.is_settled() {
            self.settle(&mut sender).await?;
            if !self.is_settled() {
                self.drained.notified().await;
            }
            self.check_open()?;
        }
        Ok(())
    }

    fn next(&self, append: u64, due: Option<Instant>) -> Sent {
        // Producers begin with different partitions.
        let partition = (append + u64::from(self.producer)) % u64::from(self.partitions);
        let mut state = self.state.borrow_mut();
        let first_number = append * u64::from(state.payload.batch_records());
        let batch = state.payload.batch(first_number);
        Sent {
            since: due.unwrap_or_else(Instant::now),
            batch,
            partition: u32::try_from(partition).expect("the rest is below a u32"),
            sequence: self.identity.next_sequence + append,
            first_number,
        }
    }

    async fn hand_over(&self, sender: &mut SessionSender, sent: Sent) -> Result<(), Failure> {
        let request = {
            let mut state = self.state.borrow_mut();
            let answered_below = self.identity.next_sequence + state.accepted;
            let request = Append::new()
                .encoded(self.topic.as_str(), sent.partition, sent.batch.clone())
                .stamp(self.identity.stamp(sent.sequence, answered_below));
            state.unanswered.push_back(sent);
            request
        };
        sender.send(request).await?;
        Ok(())
    }

    fn is_settled(&self) -> bool {
        let state = self.state.borrow();
        state.unanswered.is_empty() && state.refused.is_empty()
    }

    fn check_open(&self) -> Result<(), Failure> {
        if self.room.is_closed() { Err(broke()) } else { Ok(()) }
    }

    /// When something was refused: waits until all is answered, then sends it again.
    async fn settle(&self, sender: &mut SessionSender) -> Result<(), Failure> {
        while !self.state.borrow().refused.is_empty() {
            while !self.state.borrow().unanswered.is_empty() {
                self.drained.notified().await;
                self.check_open()?;
            }
            let pause = self.state.borrow().pause;
            tokio::time::sleep(pause).await;
            let refused = std::mem::take(&mut self.state.borrow_mut().refused);
            for sent in refused {
                self.hand_over(sender, sent).await?;
            }
        }
        Ok(())
    }

    /// Takes the answers until there are no more.
    pub(super) async fn receive(&self, mut outcomes: SessionOutcomes) -> Result<Ended, Failure> {
        let mut ended = Ended { acked: Vec::new(), latency_us: histogram(), refused: 0 };
        let failure = loop {
            match outcomes.next().await {
                Ok(None) => return Ok(ended),
                Err(error) => break error.into(),
                Ok(Some(outcome)) => {
                    let taken = match outcome.result {
                        Ok(answer) => self.accepted(&mut ended, &answer),
                        Err(error) => self.refused(&mut ended, error),
                    };
                    if let Err(failure) = taken {
                        break failure;
                    }
                }
            }
            if self.state.borrow().unanswered.is_empty() {
                self.drained.notify_one();
            }
        };
        self.room.close();
        self.drained.notify_one();
        Err(failure)
    }

    fn oldest(&self) -> Result<Sent, Failure> {
        let oldest = self.state.borrow_mut().unanswered.pop_front();
        oldest.ok_or_else(|| Failure::plain("an append was answered twice"))
    }

    fn accepted(&self, ended: &mut Ended, answer: &Appended) -> Result<(), Failure> {
        let sent = self.oldest()?;
        ended.latency_us.saturating_record(u64::try_from(sent.since.elapsed().as_micros()).unwrap_or(u64::MAX));
        ended.acked.extend(answer.batches.iter().map(|batch| Acked {
            partition: sent.partition,
            base_offset: batch.base_offset,
            producer: self.producer,
            first_number: sent.first_number,
            record_count: batch.record_count,
        }));
        let mut state = self.state.borrow_mut();
        state.accepted += 1;
        state.accepted_last = Instant::now();
        state.payload.reclaim(sent.batch.data);
        self.room.add_permits(state.payload.batch_bytes());
        Ok(())
    }

    fn refused(&self, ended: &mut Ended, error: Error) -> Result<(), Failure> {
        let sent = self.oldest()?;
        let mut state = self.state.borrow_mut();
        // Behind a refusal there is a gap, which says nothing of its own.
        let behind = error.reason() == Some(SEQUENCE_GAP) && !state.refused.is_empty();
        if !behind && (!error.is_retryable() || state.accepted_last.elapsed() > GIVE_UP_AFTER) {
            return Err(error.into());
        }
        if !behind {
            ended.refused += 1;
            state.pause = error.retry_after().unwrap_or(PAUSE).min(PAUSE_MAX);
        }
        state.refused.push_back(sent);
        Ok(())
    }
}

/// The outcomes know why.
fn broke() -> Failure {
    Failure::plain("the append stream broke")
}
