//! One append stream: requests out, outcomes in, in the same order, within the
//! window that the server announced.
//!
//! [`AppendSession`] gives it as it is, without retries: when the stream
//! breaks, what was not answered is unknown. The producer stands on the same
//! stream and adds the rest.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tillroll_proto::v1::{self, append_outcome, append_stream_response::Event};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{Append, Appended, Client, Error, ErrorKind};

/// The most unanswered appends, whatever the server announces.
const IN_FLIGHT_APPENDS_MAX: u32 = 256;
/// How long a server may take to open a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest silence of a server that does not say.
const HEARTBEAT_MS_DEFAULT: u32 = 10_000;

/// The two ends of a stream, without any bookkeeping.
#[derive(Debug)]
pub(crate) struct AppendStream {
    /// Never full while the window is kept: it has room for all of it.
    pub(crate) requests: mpsc::Sender<v1::AppendStreamRequest>,
    pub(crate) responses: tonic::Streaming<v1::AppendStreamResponse>,
    pub(crate) window: Window,
}

/// How much may be unanswered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) appends: u32,
    pub(crate) bytes: u32,
    /// After so long without a message the server is taken for dead.
    pub(crate) silence: Duration,
}

impl AppendStream {
    pub(crate) async fn open(client: &Client) -> Result<Self, Error> {
        let opening = Self::handshake(client);
        timeout(OPEN_TIMEOUT, opening)
            .await
            .unwrap_or_else(|_| Err(Error::local(ErrorKind::Unavailable, "open an append stream: no answer in 10 s")))
    }

    async fn handshake(client: &Client) -> Result<Self, Error> {
        let (requests, queue) = mpsc::channel(IN_FLIGHT_APPENDS_MAX as usize);
        let mut responses = client
            .appends()
            .append_stream(ReceiverStream::new(queue))
            .await
            .map_err(|status| broken(&status))?
            .into_inner();
        let first = responses.message().await.map_err(|status| broken(&status))?;
        let Some(Event::Opened(opened)) = first.and_then(|message| message.event) else {
            return Err(Error::protocol("the append stream does not begin with its window"));
        };
        let heartbeat_ms = match opened.heartbeat_ms {
            0 => HEARTBEAT_MS_DEFAULT,
            stated => stated,
        };
        let window = Window {
            appends: opened.max_in_flight_appends.clamp(1, IN_FLIGHT_APPENDS_MAX),
            bytes: opened.max_in_flight_bytes.max(1),
            silence: Duration::from_millis(3 * u64::from(heartbeat_ms)).max(Duration::from_secs(1)),
        };
        Ok(Self { requests, responses, window })
    }
}

/// The error of a stream that ended with this status.
pub(crate) fn broken(status: &tonic::Status) -> Error {
    Error::from_status("append stream", status)
}

/// The error of a stream that ended without one.
pub(crate) fn ended() -> Error {
    Error::local(ErrorKind::Unavailable, "the server closed the append stream").with_unknown_outcome()
}

/// A stream of prepared appends.
///
/// ```no_run
/// # async fn run(client: tillroll_client::Client) -> Result<(), tillroll_client::Error> {
/// use tillroll_client::{Append, Compression, EncodedBatch, Record};
/// let producer = client.init_producer(None, std::time::Duration::from_secs(60)).await?;
/// let (mut sender, mut outcomes) = client.append_session().await?.split();
/// let batch = EncodedBatch::of(&[Record::new("{}")], Compression::None);
/// let append = Append::new().encoded("orders", 0, batch).stamp(producer.stamp(1, 1));
/// let append_id = sender.send(append).await?;
/// let outcome = outcomes.next().await?.expect("one outcome per append");
/// assert_eq!(outcome.append_id, append_id);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct AppendSession {
    sender: SessionSender,
    outcomes: SessionOutcomes,
}

/// The sending half of an [`AppendSession`]. Dropping it half-closes the
/// stream: the server answers what it has and ends.
#[derive(Debug)]
pub struct SessionSender {
    requests: mpsc::Sender<v1::AppendStreamRequest>,
    flight: Arc<Flight>,
    append_id: u64,
    bytes_max: u32,
}

/// The receiving half of an [`AppendSession`].
#[derive(Debug)]
pub struct SessionOutcomes {
    responses: tonic::Streaming<v1::AppendStreamResponse>,
    flight: Arc<Flight>,
    silence: Duration,
}

/// What is unanswered, oldest first, and the room that is left.
#[derive(Debug)]
struct Flight {
    appends: Semaphore,
    bytes: Semaphore,
    unanswered: Mutex<VecDeque<(u64, u32)>>,
}

/// How one append of a session went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionOutcome {
    /// The number that [`SessionSender::send`] gave it.
    pub append_id: u64,
    /// Where it is, or why it was refused. A refusal does not end the session.
    pub result: Result<Appended, Error>,
}

impl AppendSession {
    pub(crate) async fn open(client: &Client) -> Result<Self, Error> {
        let AppendStream { requests, responses, window } = AppendStream::open(client).await?;
        let flight = Arc::new(Flight {
            appends: Semaphore::new(window.appends as usize),
            bytes: Semaphore::new(window.bytes as usize),
            unanswered: Mutex::default(),
        });
        Ok(Self {
            sender: SessionSender { requests, flight: Arc::clone(&flight), append_id: 0, bytes_max: window.bytes },
            outcomes: SessionOutcomes { responses, flight, silence: window.silence },
        })
    }

    /// The two halves, for one task each. Somebody has to take outcomes, or
    /// sending stops when the window is full.
    pub fn split(self) -> (SessionSender, SessionOutcomes) {
        (self.sender, self.outcomes)
    }
}

impl SessionSender {
    /// Hands one append to the stream and gives its number, from 1. Waits while
    /// the window is full. When this future is dropped before it is ready,
    /// nothing was sent.
    ///
    /// **Errors**: `Closed` when the stream is broken; the outcomes say why.
    pub async fn send(&mut self, append: Append) -> Result<u64, Error> {
        // One append may be larger than the window; it then goes alone.
        let bytes = u32::try_from(append.bytes()).unwrap_or(u32::MAX).min(self.bytes_max);
        let closed = || Error::local(ErrorKind::Closed, "the append stream is closed");
        let room = self.flight.bytes.acquire_many(bytes).await.map_err(|_| closed())?;
        let slot = self.flight.appends.acquire().await.map_err(|_| closed())?;
        let queue = self.requests.reserve().await.map_err(|_| closed())?;
        self.append_id += 1;
        self.flight.lock().push_back((self.append_id, bytes));
        room.forget();
        slot.forget();
        queue.send(v1::AppendStreamRequest { append_id: self.append_id, append: Some(append.request) });
        Ok(self.append_id)
    }
}

impl SessionOutcomes {
    /// The next outcome, in the order of sending. `None` when the sender was
    /// dropped and everything is answered.
    ///
    /// **Errors**: when the stream breaks; what was not answered is unknown.
    pub async fn next(&mut self) -> Result<Option<SessionOutcome>, Error> {
        let outcome = self.receive().await;
        if !matches!(outcome, Ok(Some(_))) {
            self.flight.appends.close();
            self.flight.bytes.close();
        }
        outcome
    }

    async fn receive(&mut self) -> Result<Option<SessionOutcome>, Error> {
        loop {
            let Ok(message) = timeout(self.silence, self.responses.message()).await else {
                return Err(silent(self.silence));
            };
            match message.map_err(|status| broken(&status))? {
                None if self.flight.lock().is_empty() => return Ok(None),
                None => return Err(ended()),
                Some(message) => match message.event {
                    Some(Event::Outcome(outcome)) => return self.answered(outcome).map(Some),
                    Some(Event::Heartbeat(_)) => {}
                    Some(Event::Opened(_)) | None => {
                        return Err(Error::protocol("the append stream sent something unknown"));
                    }
                },
            }
        }
    }

    fn answered(&self, outcome: v1::AppendOutcome) -> Result<SessionOutcome, Error> {
        let oldest = self.flight.lock().pop_front();
        let Some((append_id, bytes)) = oldest.filter(|(id, _)| *id == outcome.append_id) else {
            return Err(out_of_order(outcome.append_id, oldest.map(|(id, _)| id)));
        };
        self.flight.appends.add_permits(1);
        self.flight.bytes.add_permits(bytes as usize);
        Ok(SessionOutcome { append_id, result: result(outcome.result)? })
    }
}

impl Flight {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(u64, u32)>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of an outcome. An outcome with an arm that this client does not
/// know is an error of the whole stream: it cannot be told what it means.
pub(crate) fn result(wire: Option<append_outcome::Result>) -> Result<Result<Appended, Error>, Error> {
    match wire {
        Some(append_outcome::Result::Ok(answer)) => Appended::from_wire(answer).map(Ok),
        Some(append_outcome::Result::Refused(status)) => Ok(Err(Error::from_outcome("append", &status))),
        None => Err(Error::protocol("an append has an unknown outcome")),
    }
}

pub(crate) fn silent(silence: Duration) -> Error {
    Error::local(ErrorKind::Unavailable, format!("the server sent nothing for {} ms", silence.as_millis()))
        .with_unknown_outcome()
}

pub(crate) fn out_of_order(actual: u64, expected: Option<u64>) -> Error {
    Error::protocol(format!("an outcome out of order expected={expected:?} actual={actual}"))
}
