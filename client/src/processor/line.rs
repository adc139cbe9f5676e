//! The line to the log: one append stream, opened again whenever it breaks, and the producer under whose stamps the
//! appends go, registered or taken over when the core asks for it.
//!
//! It does what it is told and says what happened; what that means for appends is decided in the core.

use std::{future::Future, pin::Pin, time::Duration};

use tillroll_proto::v1::{self, append_stream_response::Event};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    Client, Error, ErrorKind, ProducerIdentity, append,
    retry::Backoff,
    session::{AppendStream, Window, broken, ended, silent},
};

/// A producer is forgotten by the server after so long without an append: a service may have nothing to say over a
/// weekend, and being forgotten costs it a rebuild.
pub(super) const IDLE_EXPIRY: Duration = Duration::from_hours(6 * 24);

/// How long a server may take to say who it is.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// What happens on the line.
pub(super) enum LineEvent {
    /// A stream is open: what is not answered can be sent again. The broker was opened so many times by then: whatever
    /// it accepts on this stream, it accepts in this incarnation or an older one.
    Up { incarnation: u64 },
    /// An answer.
    Answer(v1::AppendOutcome),
    /// The stream broke; another one is on its way.
    Broke(Error),
    /// The producer is taken over, or is a new one.
    Claimed(ProducerIdentity),
    /// The producer that was to be taken over is not known any more.
    Unknown,
    /// It is not tried any longer.
    GaveUp(Error),
}

enum State {
    /// Nothing is open, and nothing is tried before this.
    Down(Instant),
    Opening(Boxed<(AppendStream, u64)>),
    Up {
        stream: Box<AppendStream>,
        heard: Instant,
    },
}

/// See the head of this file.
pub(super) struct Line {
    client: Client,
    state: State,
    claiming: Option<Claim>,
    backoff: Backoff,
}

enum Claim {
    /// Tried again at this time.
    At(Instant, Option<String>),
    Asked(Boxed<ProducerIdentity>, Option<String>),
}

impl Line {
    /// A line that is about to be opened.
    pub(super) fn new(client: Client, retry_for: Duration) -> Self {
        let (state, backoff) = (State::Down(Instant::now()), Backoff::new(retry_for));
        Self { client, state, claiming: None, backoff }
    }

    /// How much may be unanswered; none while no stream is open, or while the producer is being claimed.
    pub(super) fn window(&self) -> Option<Window> {
        match &self.state {
            State::Up { stream, .. } if self.claiming.is_none() => Some(stream.window),
            _ => None,
        }
    }

    /// Hands an append to the stream. It is lost when the stream is broken, which is told.
    pub(super) fn send(&mut self, request: v1::AppendStreamRequest) {
        if let State::Up { stream, .. } = &self.state {
            // The queue has room for the whole window: only a dead stream does not take it.
            let _ = stream.requests.try_send(request);
        }
    }

    /// Takes the producer of this id over, or registers a new one.
    pub(super) fn claim(&mut self, producer_id: Option<String>) {
        self.claiming = Some(Claim::At(Instant::now(), producer_id));
    }

    /// The producer is being claimed.
    pub(super) fn is_claiming(&self) -> bool {
        self.claiming.is_some()
    }

    /// What happens next. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> LineEvent {
        loop {
            let Self { client, state, claiming, .. } = self;
            let event = tokio::select! {
                event = step(client, state) => event,
                event = claim(client, claiming) => event,
            };
            match event {
                None => {}
                Some(Step::Failed(error)) => {
                    self.state = State::Down(Instant::now());
                    match self.try_again(&error) {
                        Ok(at) => self.state = State::Down(at),
                        Err(error) => return LineEvent::GaveUp(error),
                    }
                    return LineEvent::Broke(error);
                }
                Some(Step::Happened(event)) => {
                    self.backoff.reset();
                    return event;
                }
                Some(Step::NotClaimed(producer_id, error)) => {
                    let unknown = error.reason() == Some(tillroll_proto::reason::PRODUCER_UNKNOWN);
                    if unknown && producer_id.is_some() {
                        self.claiming = None;
                        return LineEvent::Unknown;
                    }
                    match self.try_again(&error) {
                        Ok(at) => self.claiming = Some(Claim::At(at, producer_id)),
                        Err(error) => return LineEvent::GaveUp(error),
                    }
                }
            }
        }
    }

    fn try_again(&mut self, error: &Error) -> Result<Instant, Error> {
        // A connection that dies in the middle of a message shows as an error of the protocol below.
        let broke = error.kind() == ErrorKind::Protocol && error.reason().is_none();
        if !error.is_retryable() && !broke {
            return Err(error.clone());
        }
        tracing::debug!(%error, "append stream broke");
        let delay = self.backoff.after(error).ok_or_else(|| {
            let seconds = self.backoff.elapsed().as_secs();
            error.clone().given_up(&format!("gave up after {seconds} s"))
        })?;
        Ok(Instant::now() + delay)
    }
}

enum Step {
    Happened(LineEvent),
    Failed(Error),
    NotClaimed(Option<String>, Error),
}

/// The next thing on the stream; none when only the state is another one.
async fn step(client: &Client, state: &mut State) -> Option<Step> {
    match state {
        State::Down(until) => {
            sleep_until(*until).await;
            let client = client.clone();
            *state = State::Opening(Box::pin(open(client)));
            None
        }
        State::Opening(opening) => match opening.await {
            Ok((stream, incarnation)) => {
                *state = State::Up { stream: Box::new(stream), heard: Instant::now() };
                Some(Step::Happened(LineEvent::Up { incarnation }))
            }
            Err(error) => Some(Step::Failed(error)),
        },
        State::Up { stream, heard } => {
            let silence = stream.window.silence;
            let message = tokio::select! {
                message = stream.responses.message() => message,
                () = sleep_until(*heard + silence) => return Some(Step::Failed(silent(silence))),
            };
            *heard = Instant::now();
            match message {
                Ok(Some(message)) => match message.event {
                    Some(Event::Outcome(outcome)) => Some(Step::Happened(LineEvent::Answer(outcome))),
                    Some(Event::Heartbeat(_)) => None,
                    Some(Event::Opened(_)) | None => {
                        let error = Error::protocol("the append stream sent something unknown");
                        Some(Step::Happened(LineEvent::GaveUp(error)))
                    }
                },
                Ok(None) => Some(Step::Failed(ended())),
                Err(status) => Some(Step::Failed(broken(&status))),
            }
        }
    }
}

/// Opens a stream, and then asks for the incarnation. A broker that was started again between the two is a newer one,
/// which is named too high rather than too low, and the stream to the older one breaks.
async fn open(client: Client) -> Result<(AppendStream, u64), Error> {
    let stream = AppendStream::open(&client).await?;
    let asked = timeout(ASK_TIMEOUT, client.admin().server_info()).await;
    let late = |_| Err(Error::local(ErrorKind::Unavailable, "ask the server: no answer in 10 s"));
    Ok((stream, asked.unwrap_or_else(late)?.incarnation))
}

/// The next thing about the producer; waits for ever while nothing is asked.
async fn claim(client: &Client, claiming: &mut Option<Claim>) -> Option<Step> {
    match claiming {
        None => std::future::pending().await,
        Some(Claim::At(at, producer_id)) => {
            sleep_until(*at).await;
            let (client, producer_id) = (client.clone(), producer_id.take());
            let asked = producer_id.clone();
            let call = async move { append::init_producer(&client, asked.as_deref(), IDLE_EXPIRY, None).await };
            *claiming = Some(Claim::Asked(Box::pin(call), producer_id));
            None
        }
        Some(Claim::Asked(call, producer_id)) => {
            let answer = call.await;
            let producer_id = producer_id.take();
            *claiming = None;
            Some(match answer {
                Ok(identity) => Step::Happened(LineEvent::Claimed(identity)),
                Err(error) => Step::NotClaimed(producer_id, error),
            })
        }
    }
}
