//! `AppendStream`: requests in, exactly one outcome each out, in their order.
//!
//! One stream object without channels, and with a task only for an append that waits for room: polled for an outcome,
//! it first takes in what the window allows, so that appends follow each other into the engine while earlier ones are
//! on their way to the disk. Past the window it simply does not read; flow control does the rest.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use parking_lot::Mutex;
use tillroll_engine::{
    engine::Engine,
    request::{Append, Appended},
    ticket::Ticket,
};
use tillroll_proto::v1::{
    self, AppendOutcome, AppendStreamOpened, AppendStreamResponse, append_outcome::Result as Outcome,
    append_stream_response::Event,
};
use tillroll_proto::{raw::AppendStreamRequest, reason::key};
use tokio::time::{Instant, Sleep};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::AbortOnDropHandle,
};
use tonic::{Status, Streaming};

use super::{HEARTBEAT_MS, STREAM_APPENDS_MAX, STREAM_BYTES_MAX, deadline};
use crate::{
    connections::{self, Connection},
    refusal::{Facts, bad_field, of_answer, of_transport, stopping, table},
    wire,
};

/// An append that has no outcome yet.
struct Unanswered {
    append_id: u64,
    bytes: usize,
    /// What it has of the stream's room for outcomes.
    outcome_bytes: usize,
    answer: Answer,
}

enum Answer {
    /// It waits for room; nothing after it is taken in before.
    Entering(Entering),
    /// It is on its way.
    Entered(Ticket<Appended>),
    /// It was refused at the door.
    Refused(Facts),
}

/// An append that waits for room. A task of its own has its turn: a stream whose outcomes are not read is not polled,
/// and a turn that nobody takes holds up all that wait behind it.
struct Entering {
    entered: Arc<Mutex<Entered>>,
    task: AbortOnDropHandle<()>,
}

enum Entered {
    Not(Pin<Box<dyn Future<Output = Ticket<Appended>> + Send>>),
    As(Ticket<Appended>),
    /// The stream takes it back: it is not entered any more, whatever the task was doing.
    GivenUp,
}

impl Entering {
    fn new(entering: Pin<Box<dyn Future<Output = Ticket<Appended>> + Send>>) -> Self {
        let entered = Arc::new(Mutex::new(Entered::Not(entering)));
        let own = entered.clone();
        let task = tokio::spawn(poll_fn(move |context| {
            let mut entered = own.lock();
            if let Entered::Not(entering) = &mut *entered {
                match entering.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(ticket) => *entered = Entered::As(ticket),
                }
            }
            Poll::Ready(())
        }));
        Self { entered, task: AbortOnDropHandle::new(task) }
    }

    /// Its ticket; none when the runtime ends.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Ticket<Appended>>> {
        Pin::new(&mut self.task).poll(context).map(|_ended| self.take())
    }

    fn take(&self) -> Option<Ticket<Appended>> {
        match std::mem::replace(&mut *self.entered.lock(), Entered::GivenUp) {
            Entered::As(ticket) => Some(ticket),
            Entered::Not(_) | Entered::GivenUp => None,
        }
    }
}

impl Drop for Entering {
    /// When this returns, the append is taken back or the log has it: those before it in the stream come next.
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// The outcomes of one stream.
pub struct Outcomes {
    engine: Engine,
    requests: Streaming<AppendStreamRequest>,
    unanswered: VecDeque<Unanswered>,
    bytes: usize,
    /// For the outcomes of those, which lie here until the client takes them.
    room: Option<connections::Outcomes>,
    last_id: Option<u64>,
    is_opened: bool,
    /// No more requests: half-closed by the client, or the server stops.
    is_closed: bool,
    /// Ends the stream once everything before it is answered.
    failure: Option<Status>,
    heartbeat: Pin<Box<Sleep>>,
    deadline: Option<Pin<Box<Sleep>>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Outcomes {
    /// Serves one stream.
    pub fn new(
        engine: Engine,
        requests: Streaming<AppendStreamRequest>,
        deadline: Option<Instant>,
        connection: Option<Arc<Connection>>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            engine,
            requests,
            unanswered: VecDeque::new(),
            bytes: 0,
            room: connection.map(|connection| connection.outcomes()),
            last_id: None,
            is_opened: false,
            is_closed: false,
            failure: None,
            heartbeat: Box::pin(tokio::time::sleep(heartbeat())),
            deadline: deadline::timer(deadline),
            stop: Box::pin(stop.cancelled_owned()),
        }
    }

    /// Takes in what has come, as far as the window and the engine's room allow.
    fn take_in(&mut self, context: &mut Context<'_>) {
        loop {
            if let Some(last) = self.unanswered.back_mut()
                && let Answer::Entering(entering) = &mut last.answer
            {
                match entering.poll(context) {
                    Poll::Ready(Some(ticket)) => last.answer = Answer::Entered(ticket),
                    Poll::Ready(None) => last.answer = Answer::Refused(stopping()),
                    Poll::Pending => return,
                }
            }
            let full = self.unanswered.len() >= STREAM_APPENDS_MAX || self.bytes >= STREAM_BYTES_MAX;
            if self.is_closed || full {
                return;
            }
            match Pin::new(&mut self.requests).poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(None) => self.is_closed = true,
                // What came is no request: the stream cannot go on behind it.
                Poll::Ready(Some(Err(status))) => self.fail(of_transport(&status, "").map_or(status, Facts::into)),
                Poll::Ready(Some(Ok(request))) => self.enter(request, context),
            }
        }
    }

    fn fail(&mut self, status: Status) {
        self.is_closed = true;
        self.failure = Some(status);
    }

    /// Takes back what the log has not taken up, the last one first: what is written of a stream has no gap.
    fn withdraw(&mut self) {
        while let Some(last) = self.unanswered.pop_back() {
            self.forget(last.bytes, last.outcome_bytes);
        }
    }

    fn forget(&mut self, bytes: usize, outcome_bytes: usize) {
        self.bytes -= bytes;
        if let Some(room) = &mut self.room {
            room.give_back(outcome_bytes);
        }
    }

    /// The deadline has passed: what the log has taken up stands, the client hears no more of it.
    fn give_up(&mut self) -> Status {
        self.deadline = None;
        self.withdraw();
        self.is_closed = true;
        self.failure = None;
        deadline::exceeded()
    }

    fn enter(&mut self, request: AppendStreamRequest, context: &mut Context<'_>) {
        let AppendStreamRequest { append_id, append } = request;
        if self.last_id.is_some_and(|last| append_id <= last) {
            let message = format!("append_id {append_id} does not rise above {}", self.last_id.unwrap_or_default());
            self.fail(bad_field("append_id", message).status());
            return;
        }
        self.last_id = Some(append_id);
        // It is decoded here, so that a bad one is an outcome and does not end the stream.
        let append = wire::received(append);
        let bytes = append.as_ref().map_or(0, append_bytes);
        let mut outcome_bytes = append.as_ref().map_or(0, outcome_bytes);
        let has_room = self.room.as_mut().is_none_or(|room| room.take(outcome_bytes));
        let answer = match append {
            Ok(_) if !has_room => {
                outcome_bytes = 0;
                Answer::Refused(no_room())
            }
            Ok(append) => {
                let mut entering = Box::pin(enter(self.engine.clone(), append));
                match entering.as_mut().poll(context) {
                    Poll::Ready(ticket) => Answer::Entered(ticket),
                    Poll::Pending => Answer::Entering(Entering::new(entering)),
                }
            }
            Err(facts) => Answer::Refused(facts),
        };
        self.bytes += bytes;
        self.unanswered.push_back(Unanswered { append_id, bytes, outcome_bytes, answer });
    }

    /// The next outcome in order, when it is there.
    fn outcome(&mut self, context: &mut Context<'_>) -> Option<AppendStreamResponse> {
        let first = self.unanswered.front_mut()?;
        let result = match &mut first.answer {
            Answer::Entering(_) => return None,
            Answer::Refused(facts) => Outcome::Refused(facts.message_status()),
            Answer::Entered(ticket) => match Pin::new(ticket).poll(context) {
                Poll::Pending => return None,
                Poll::Ready(Ok(appended)) => Outcome::Ok(wire::appended(appended)),
                Poll::Ready(Err(refusal)) => Outcome::Refused(of_answer(&self.engine, refusal).message_status()),
            },
        };
        let outcome = AppendOutcome { append_id: first.append_id, result: Some(result) };
        let (bytes, outcome_bytes) = (first.bytes, first.outcome_bytes);
        self.unanswered.pop_front();
        self.forget(bytes, outcome_bytes);
        Some(response(Event::Outcome(outcome)))
    }
}

impl Drop for Outcomes {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Owns the handle, so that the future outlives the poll that made it.
async fn enter(engine: Engine, append: Append) -> Ticket<Appended> {
    engine.append(append).await
}

fn append_bytes(append: &Append) -> usize {
    usize::try_from(tillroll_engine::admit::append_bytes(append)).unwrap_or(usize::MAX)
}

fn outcome_bytes(append: &Append) -> usize {
    usize::try_from(tillroll_engine::admit::answer_bytes(append)).unwrap_or(usize::MAX)
}

fn no_room() -> Facts {
    let limit = connections::OUTCOME_BYTES_MAX;
    let message = format!("outcomes that are not taken yet may come to {limit} bytes; read those that are there");
    Facts::new(&table::TOO_MANY_IN_FLIGHT, message).with(key::LIMIT, limit)
}

fn heartbeat() -> Duration {
    Duration::from_millis(HEARTBEAT_MS.into())
}

fn response(event: Event) -> AppendStreamResponse {
    AppendStreamResponse { event: Some(event) }
}

impl Stream for Outcomes {
    type Item = Result<AppendStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if !this.is_opened {
            this.is_opened = true;
            return Poll::Ready(Some(Ok(response(Event::Opened(AppendStreamOpened {
                max_in_flight_appends: STREAM_APPENDS_MAX as u32,
                max_in_flight_bytes: STREAM_BYTES_MAX as u32,
                heartbeat_ms: HEARTBEAT_MS,
            })))));
        }
        // Told to stop: what has come is answered, nothing more is taken in.
        if !this.is_closed && this.stop.as_mut().poll(context).is_ready() {
            this.fail(stopping().status());
        }
        if this.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Some(Err(this.give_up())));
        }
        this.take_in(context);
        if let Some(outcome) = this.outcome(context) {
            // An outcome may have made room in the window: the next poll takes in again.
            this.heartbeat.as_mut().reset(Instant::now() + heartbeat());
            return Poll::Ready(Some(Ok(outcome)));
        }
        if this.is_closed && this.unanswered.is_empty() {
            return Poll::Ready(this.failure.take().map(Err));
        }
        if this.heartbeat.as_mut().poll(context).is_ready() {
            this.heartbeat.as_mut().reset(Instant::now() + heartbeat());
            return Poll::Ready(Some(Ok(response(Event::Heartbeat(v1::Heartbeat::default())))));
        }
        Poll::Pending
    }
}
