//! The task behind a consumer: keeps one `Consume` call open, says what the desk has to say, and takes in what comes.
//!
//! It goes on while the program is busy, so that heartbeats are sent, commits are answered and a partition that the
//! group wants back is known at once.

use std::{sync::Arc, time::Duration};

use tillroll_proto::{
    reason,
    v1::{self, consume_request::Action, consume_response::Event},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Settings,
    desk::{Desk, Phase},
    shared::Shared,
};
use crate::{Error, ErrorKind, retry::Backoff};

/// How long a server may take to let a member in: it waits until the fence of an older one is on disk.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long leaving may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest silence of a server that does not say.
const HEARTBEAT_MS_DEFAULT: u32 = 10_000;
/// Requests that wait for the connection.
const REQUESTS_MAX: usize = 256;
/// How often a member that holds nothing looks whether its group still has a topic.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// How long it waits for the answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long commits pause when the server says "not now".
const COMMIT_PAUSE: Duration = Duration::from_millis(200);

/// Joins, and starts the task that goes on from there.
pub(super) async fn start(settings: Settings, shared: Arc<Shared>) -> Result<(), Error> {
    let mut backoff = Backoff::new(settings.retry_for);
    loop {
        match Call::open(&settings, &shared, false).await {
            Ok(call) => {
                let task = Task { settings, shared, backoff, checked: Instant::now() };
                tokio::spawn(task.run(call));
                return Ok(());
            }
            Err(error) => pause(&mut backoff, &error).await?,
        }
    }
}

/// Whether another stream may do better.
fn may_pass(error: &Error) -> bool {
    // A connection that dies in the middle of a message shows as an error of the protocol below.
    error.is_retryable() || (error.kind() == ErrorKind::Protocol && error.reason().is_none())
}

/// Waits before the next try, or says that there is none.
async fn pause(backoff: &mut Backoff, error: &Error) -> Result<(), Error> {
    if !may_pass(error) {
        return Err(error.clone());
    }
    tracing::debug!(%error, "consume broke");
    let delay = backoff.after(error).ok_or_else(|| {
        let seconds = backoff.elapsed().as_secs();
        error.clone().given_up(&format!("gave up after {seconds} s"))
    })?;
    tokio::time::sleep(delay).await;
    Ok(())
}

/// One `Consume` call.
struct Call {
    requests: mpsc::Sender<v1::ConsumeRequest>,
    responses: tonic::Streaming<v1::ConsumeResponse>,
    heartbeat: Duration,
}

impl Call {
    async fn open(settings: &Settings, shared: &Shared, again: bool) -> Result<Self, Error> {
        let late = || Error::local(ErrorKind::Unavailable, "join the group: no answer in 10 s");
        timeout(OPEN_TIMEOUT, Self::join(settings, shared, again)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn join(settings: &Settings, shared: &Shared, again: bool) -> Result<Self, Error> {
        let context = format!("join group {}", settings.group);
        let failed = |status: tonic::Status| Error::from_status(&context, &status);
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let join = v1::Join {
            group: settings.group.to_string(),
            member_id: settings.member_id.to_string(),
            instance_id: settings.instance_id.to_string(),
            max_response_bytes: 0,
            format: v1::ReadFormat::Encoded.into(),
            initial_credit_bytes: Some(shared.heard(Desk::initial_credit)),
            auto_credit: false,
            client_heartbeats: settings.client_heartbeats,
            comes_back: again,
        };
        let first = v1::ConsumeRequest { action: Some(Action::Join(join)) };
        // The channel is new and empty.
        let _ = requests.try_send(first);
        let answer = settings.client.consumes().consume(ReceiverStream::new(queue)).await;
        let mut responses = answer.map_err(failed)?.into_inner();
        let first = responses.message().await.map_err(failed)?;
        let Some(Event::Joined(joined)) = first.and_then(|message| message.event) else {
            return Err(Error::protocol("the stream does not begin with having joined"));
        };
        let heartbeat_ms = match joined.heartbeat_ms {
            0 => HEARTBEAT_MS_DEFAULT,
            stated => stated,
        };
        shared.heard(|desk| desk.joined(&joined, again));
        Ok(Self { requests, responses, heartbeat: Duration::from_millis(heartbeat_ms.into()) })
    }
}

/// Why a call is left.
enum Stop {
    /// The group was left, or nobody is there any more.
    Done,
    /// Try again on another stream.
    Broke(Error),
    /// Give up.
    Final(Error),
}

struct Task {
    settings: Settings,
    shared: Arc<Shared>,
    backoff: Backoff,
    /// When it was last looked whether the group has a topic.
    checked: Instant,
}

impl Task {
    async fn run(mut self, call: Call) {
        let end = self.work(call).await;
        if let Err(error) = &end {
            tracing::warn!(group = %self.settings.group, member = %self.settings.member_id, %error, "consumer ended");
        }
        self.shared.end(end.err());
    }

    async fn work(&mut self, mut call: Call) -> Result<(), Error> {
        let mut leaves_until = None;
        loop {
            let error = match self.follow(call, &mut leaves_until).await {
                Stop::Done => return Ok(()),
                Stop::Final(error) => return Err(error),
                Stop::Broke(error) => error,
            };
            self.shared.heard(|desk| {
                desk.broke();
                desk.interrupted(error.clone());
            });
            let mut error = error;
            call = loop {
                if self.shared.heard(|desk| desk.phase() == Phase::Dropped) {
                    return Ok(());
                }
                if leaves_until.is_some_and(|until| Instant::now() >= until) {
                    return Err(error);
                }
                self.wait(&error).await?;
                match Call::open(&self.settings, &self.shared, true).await {
                    Ok(call) => break call,
                    Err(again) => error = again,
                }
            };
        }
    }

    /// Waits before the next try. Whoever closes the consumer meanwhile does not wait for it.
    async fn wait(&mut self, error: &Error) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let dropped = async {
            while shared.heard(|desk| desk.phase() != Phase::Dropped) {
                shared.work.notified().await;
            }
        };
        tokio::select! {
            paused = pause(&mut self.backoff, error) => paused,
            () = dropped => Ok(()),
        }
    }

    /// Works on one call until it ends.
    async fn follow(&mut self, mut call: Call, leaves_until: &mut Option<Instant>) -> Stop {
        let silence = (3 * call.heartbeat).max(Duration::from_secs(1));
        let mut heard = Instant::now();
        let mut next_beat = Instant::now() + call.heartbeat / 2;
        let mut commits_again = None;
        loop {
            let phase = self.shared.heard(|desk| desk.phase());
            match phase {
                Phase::Open => {}
                Phase::Ended => return Stop::Done,
                Phase::Dropped if !self.settings.leaves_when_dropped => return Stop::Done,
                Phase::Closing | Phase::Dropped | Phase::Left => {
                    leaves_until.get_or_insert(Instant::now() + LEAVE_TIMEOUT);
                }
            }
            self.speak(&call);
            let (is_full, is_paused) = self.shared.heard(|desk| (desk.is_full(), desk.commits().is_paused()));
            if is_paused && commits_again.is_none() {
                commits_again = Some(Instant::now() + COMMIT_PAUSE);
            }
            let beat = self.settings.client_heartbeats.then_some(next_beat);
            let wake = [Some(heard + silence), beat, commits_again, *leaves_until].into_iter().flatten().min();
            tokio::select! {
                message = call.responses.message(), if !is_full => {
                    heard = Instant::now();
                    if let Err(stop) = self.take(message) {
                        return stop;
                    }
                    self.check_topics().await;
                }
                () = self.shared.work.notified() => {}
                () = sleep_until(wake.unwrap_or(heard + silence)) => {
                    let now = Instant::now();
                    if leaves_until.is_some_and(|until| now >= until) {
                        return Stop::Final(Error::local(ErrorKind::Unavailable, "leave the group: no answer in 10 s"));
                    }
                    if is_full {
                        heard = now;
                    } else if now >= heard + silence {
                        let message = format!("the server sent nothing for {} ms", silence.as_millis());
                        return Stop::Broke(Error::local(ErrorKind::Unavailable, message));
                    }
                    if commits_again.is_some_and(|again| now >= again) {
                        commits_again = None;
                        self.shared.heard(|desk| desk.commits().resume());
                    }
                    if beat.is_some_and(|beat| now >= beat) {
                        next_beat = now + call.heartbeat / 2;
                        let action = Some(Action::Heartbeat(v1::Heartbeat::default()));
                        // A full queue is a sign of life as well.
                        let _ = call.requests.try_send(v1::ConsumeRequest { action });
                    }
                }
            }
        }
    }

    /// A member of a group whose topics are all deleted would wait for ever, since nothing can come to it any more: it
    /// leaves, and says why.
    async fn check_topics(&mut self) {
        if !self.shared.heard(|desk| desk.may_have_no_topic(self.checked.elapsed() >= CHECK_EVERY)) {
            return;
        }
        self.checked = Instant::now();
        // One call, whatever the group's size: the first cursors tell whether there are any. Whether the broker answers
        // is told by the stream.
        let mut groups = self.settings.client.group_calls();
        let call = groups.get_group(v1::GetGroupRequest { name: self.settings.group.to_string() });
        let Ok(Ok(answer)) = timeout(CHECK_TIMEOUT, call).await else { return };
        let Some(group) = answer.into_inner().group.filter(|group| group.cursors.is_empty()) else { return };
        let topics = group.config.map_or_else(String::new, |config| config.topics.join(" "));
        let name = &self.settings.group;
        let message = format!("consume as {name}: every topic that the group reads is deleted topics={topics}");
        let facts = [(reason::key::GROUP, name.to_string()), (reason::key::TOPIC, topics)];
        let error = Error::refused(ErrorKind::NotFound, reason::TOPIC_NOT_FOUND, message, &facts);
        self.shared.heard(|desk| desk.leave_for(error));
    }

    /// Says what there is to say, as far as the connection takes it.
    fn speak(&self, call: &Call) {
        while let Ok(room) = call.requests.try_reserve() {
            let Some(action) = self.shared.heard(Desk::next_action) else { return };
            room.send(v1::ConsumeRequest { action: Some(action) });
        }
    }

    fn take(&mut self, message: Result<Option<v1::ConsumeResponse>, tonic::Status>) -> Result<(), Stop> {
        let event = match message {
            Ok(Some(message)) => message.event,
            Ok(None) if self.shared.heard(|desk| desk.phase() == Phase::Left) => return Err(Stop::Done),
            Ok(None) => return Err(Stop::Broke(Error::local(ErrorKind::Unavailable, "the server ended the stream"))),
            Err(status) => {
                let error = Error::from_status(&format!("consume as {}", self.settings.group), &status);
                return Err(if may_pass(&error) { Stop::Broke(error) } else { Stop::Final(error) });
            }
        };
        // Also a quiet server is one that works.
        self.backoff.reset();
        let event = event.ok_or_else(|| Stop::Final(Error::protocol("the stream sent something unknown")))?;
        self.shared.heard(|desk| desk.hear(event)).map_err(Stop::Final)
    }
}
