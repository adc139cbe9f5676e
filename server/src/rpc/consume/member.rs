//! A member at its stream: what it says and what is said to it, one thing after the other.
//!
//! What must stay true: every cursor commit is answered once and in order; a sign of life when nothing else flows;
//! control is never stuck behind records, since records are only looked for when nothing else waits to be sent.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tillroll_engine::{
    commit::watch::Changed,
    engine::Engine,
    error::Refusal,
    group::{BelowHead, Joined, Leave, LostWhy, Release},
    id::{GroupId, Lane, Lsn},
    request::CursorCommit,
};
use tillroll_proto::v1::{self, consume_request::Action, consume_response::Event};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tonic::Streaming;

use super::{
    End, held,
    held::{Form, Holdings, Stop},
    seats::Taken,
    taken_in,
};
use crate::{
    connections::{Connection, Waits},
    refusal::{Facts, bad_field, membership_ended, of_answer, required, taken_over},
    rpc::{
        HEARTBEAT_MS,
        read::Waiting,
        responses::{Room, Said},
    },
    wire,
};

/// Responses that a member's task holds; past it no request is taken in.
const OUTBOX_MAX: usize = 256;
/// Cursor commits of one stream that may be unanswered; past it no request is taken in.
const COMMITS_MAX: usize = 256;
/// Bytes of records that a member takes before it gives credit, unless it says.
const CREDIT_BYTES: u64 = 8 << 20;

/// All that can happen on a stream.
enum Happened {
    /// A response went out.
    Sent,
    /// The member said something, or closed its half.
    Said(Option<v1::ConsumeRequest>),
    /// A cursor commit or a release is done.
    Answered(Done),
    /// The group is another one.
    Changed(Lsn),
    /// A partition may have records.
    Moved(Lane),
    /// Nothing was sent for a while.
    Quiet,
}

/// What became of a cursor commit or a release.
#[derive(Default)]
struct Done {
    /// What is said of it; nothing of a release that was taken.
    committed: Option<v1::Committed>,
    /// Partitions that were to be given back, under these epochs, and stay.
    kept: Vec<(Lane, u64)>,
}

/// Where a member is, and how it is served.
pub(super) struct Place {
    pub(super) engine: Engine,
    /// The group.
    pub(super) id: GroupId,
    pub(super) seat: Taken,
    pub(super) form: Form,
    /// None in a test that has no transport.
    pub(super) connection: Option<Arc<Connection>>,
}

/// A member and its stream.
pub(super) struct Member {
    pub(super) place: Place,
    pub(super) join: v1::Join,
    requests: Streaming<v1::ConsumeRequest>,
    sender: mpsc::Sender<Said<v1::ConsumeResponse>>,
    /// What is said next, in this order.
    outbox: VecDeque<(v1::ConsumeResponse, Room)>,
    pub(super) holdings: Holdings,
    pub(super) is_paused: bool,
    pub(super) below_head: BelowHead,
    changed: Changed,
    /// Partitions that may have records, each at its turn.
    pub(super) ready: VecDeque<Lane>,
    pub(super) waiting: Waiting<Lane>,
    /// Bytes of records that may be sent. The last message may exceed it.
    pub(super) credit: i64,
    /// Answers to cursor commits, in their order.
    commits: FuturesOrdered<BoxFuture<'static, Done>>,
    pub(super) is_caught_up: bool,
    heartbeat: Duration,
    heartbeat_at: Instant,
    /// The member promised to be heard by then.
    heard_by: Option<Instant>,
    /// So much is open that nothing it says is taken in.
    is_deaf: bool,
    /// It waits for room for a response that others hold.
    pub(super) waits: Option<Waits>,
    pub(super) drain_ms: u32,
}

impl Member {
    /// A member that has joined.
    pub(super) fn new(
        place: Place,
        join: v1::Join,
        joined: &Joined,
        requests: Streaming<v1::ConsumeRequest>,
        sender: mpsc::Sender<Said<v1::ConsumeResponse>>,
    ) -> Self {
        let heartbeat_ms = HEARTBEAT_MS.min(joined.session_ms / 3).max(1);
        let heartbeat = Duration::from_millis(heartbeat_ms.into());
        let credit = join.initial_credit_bytes.unwrap_or(CREDIT_BYTES);
        let credit = if join.auto_credit { i64::MAX } else { i64::try_from(credit).unwrap_or(i64::MAX) };
        let mut member = Self {
            changed: place.engine.group_changed(place.id, Lsn(0)),
            requests,
            sender,
            outbox: VecDeque::new(),
            holdings: Holdings::default(),
            is_paused: false,
            below_head: BelowHead::Fail,
            ready: VecDeque::new(),
            waiting: Waiting::default(),
            credit,
            commits: FuturesOrdered::new(),
            is_caught_up: false,
            heartbeat,
            heartbeat_at: Instant::now(),
            heard_by: join.client_heartbeats.then(|| Instant::now() + heartbeat * 2),
            is_deaf: false,
            waits: None,
            drain_ms: joined.drain_ms,
            place,
            join,
        };
        member.say(Event::Joined(v1::Joined {
            member_id: member.join.member_id.clone(),
            session_ms: joined.session_ms,
            heartbeat_ms,
            resumed: joined.resumed,
        }));
        member
    }

    /// Serves it until it leaves, or something ends it.
    pub(super) async fn run(&mut self) -> Result<(), End> {
        self.follow()?;
        loop {
            if self.outbox.is_empty() && self.turn().await? {
                continue;
            }
            match self.next().await? {
                // Half-closed: the member says no more, which is no leave. What is open is answered.
                Happened::Said(None) => return self.finish().await,
                Happened::Said(Some(request)) => {
                    if self.act(request)? {
                        return self.leave().await;
                    }
                }
                Happened::Answered(done) => self.done(done),
                Happened::Sent => {}
                Happened::Changed(lsn) => {
                    self.changed = self.place.engine.group_changed(self.place.id, lsn);
                    self.follow()?;
                }
                Happened::Moved(lane) => self.ready.push_back(lane),
                Happened::Quiet => self.beat(),
            }
        }
    }

    async fn next(&mut self) -> Result<Happened, End> {
        let was_deaf = self.is_deaf;
        self.is_deaf = self.outbox.len() >= OUTBOX_MAX || self.commits.len() >= COMMITS_MAX;
        if was_deaf {
            // What it said meanwhile was not heard.
            self.hear();
        }
        let (group, member) = (&self.join.group, &self.join.member_id);
        Ok(tokio::select! {
            place = self.sender.reserve(), if !self.outbox.is_empty() => {
                let place = place.map_err(|_| End::Gone)?;
                if let Some((response, room)) = self.outbox.pop_front() {
                    place.send(Said::response(response, room));
                }
                Happened::Sent
            }
            request = self.requests.message(), if !self.is_deaf => Happened::Said(taken_in(request)?),
            Some(done) = self.commits.next(), if !self.commits.is_empty() => Happened::Answered(done),
            lsn = &mut self.changed => Happened::Changed(lsn),
            lane = self.waiting.next() => Happened::Moved(lane),
            () = sleep_until(self.heartbeat_at) => Happened::Quiet,
            () = self.place.seat.replaced() => return Err(taken_over(group, member).into()),
            () = heard_by(self.heard_by), if !self.is_deaf => {
                return Err(membership_ended(group, member, "it sent no heartbeat, which it had promised").into());
            }
        })
    }

    pub(super) fn say(&mut self, event: Event) {
        self.say_in(event, None);
    }

    /// The same of what takes room.
    pub(super) fn say_in(&mut self, event: Event, room: Room) {
        self.heartbeat_at = Instant::now() + self.heartbeat;
        // This goes out first.
        self.waits = None;
        self.outbox.push_back((v1::ConsumeResponse { event: Some(event) }, room));
    }

    /// A sign of life, with the ends of what is held. To a member that does not take what waits for it, one more would
    /// say nothing.
    fn beat(&mut self) {
        if self.outbox.is_empty() {
            let ends = self.ends();
            self.say(Event::Heartbeat(v1::Heartbeat { ends }));
        } else {
            self.heartbeat_at = Instant::now() + self.heartbeat;
        }
    }

    /// It was heard, and has its time again.
    fn hear(&mut self) {
        if let Some(heard_by) = &mut self.heard_by {
            *heard_by = Instant::now() + self.heartbeat * 2;
        }
    }

    pub(super) fn ends(&self) -> Vec<v1::PartitionEnd> {
        let end = |(lane, held): (Lane, &held::Held)| {
            let extent = self.place.engine.extent(lane).unwrap_or_default();
            v1::PartitionEnd {
                topic: held.order.topic.clone(),
                partition: lane.partition.0,
                head_offset: extent.head.0,
                end_offset: extent.end.0,
            }
        };
        self.holdings.iter().map(end).collect()
    }

    /// Does what the member says; true when it leaves.
    fn act(&mut self, request: v1::ConsumeRequest) -> Result<bool, End> {
        self.hear();
        match request.action {
            None => {
                return Err(required("action", "action is not set, or of a kind that this broker does not know").into());
            }
            Some(Action::Join(_)) => return Err(bad_field("join", "join comes first, and once").into()),
            Some(Action::Credit(v1::Credit { bytes })) => {
                self.credit = self.credit.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
                self.place.seat.view().has_no_credit = self.credit <= 0;
            }
            Some(Action::Commit(commit)) => {
                let commits = self.commits_of(commit.commits)?;
                let engine = self.place.engine.clone();
                let answer = engine.commit_cursors(commits.clone());
                let commit_id = commit.commit_id;
                self.commits.push_back(Box::pin(async move {
                    Done { committed: Some(committed(&engine, commit_id, &commits, answer.await)), kept: Vec::new() }
                }));
            }
            Some(Action::Release(release)) => self.release(release)?,
            Some(Action::Hold(v1::Hold { assignments, held })) => self.hold(&assignments, held),
            Some(Action::Heartbeat(_)) => {}
            Some(Action::Leave(_)) => return Ok(true),
        }
        Ok(false)
    }

    /// Cursor commits of this group, which need not be named.
    fn commits_of(&self, commits: Vec<v1::CursorCommit>) -> Result<Vec<CursorCommit>, Facts> {
        let group = &self.join.group;
        if let Some(index) = commits.iter().position(|commit| !commit.group.is_empty() && commit.group != *group) {
            let field = format!("commits[{index}].group");
            let message = format!("{field} is another group than the stream's; leave it empty");
            return Err(bad_field(&field, message));
        }
        let named =
            commits.into_iter().map(|commit| wire::cursor_commit(v1::CursorCommit { group: group.clone(), ..commit }));
        Ok(named.collect())
    }

    /// Gives partitions back. That it is done shows as `Lost`; that it is refused, as a refused cursor commit of number
    /// 0.
    fn release(&mut self, release: v1::Release) -> Result<(), Facts> {
        let commits = self.commits_of(release.commits)?;
        let held =
            release.assignments.iter().filter_map(|given| Some((self.holdings.find(given)?, given.assignment_epoch)));
        let held: Vec<(Lane, u64)> = held.collect();
        for (lane, _) in &held {
            if let Some(held) = self.holdings.get_mut(*lane) {
                held.stops.insert(Stop::GivenBack);
            }
        }
        let (group, kept) = (self.join.group.clone(), held.clone());
        let asked = Release { group, held, commits: commits.clone(), why: LostWhy::Released };
        let engine = self.place.engine.clone();
        let answer = engine.release(asked);
        self.commits.push_back(Box::pin(async move {
            match answer.await {
                Ok(()) => Done::default(),
                refused => Done { committed: Some(committed(&engine, 0, &commits, refused)), kept },
            }
        }));
        Ok(())
    }

    /// Says what became of a cursor commit. A partition whose release was refused flows on.
    fn done(&mut self, done: Done) {
        for (lane, epoch) in done.kept {
            if let Some(held) = self.holdings.get_mut(lane).filter(|held| held.epoch == epoch) {
                held.stops.remove(&Stop::GivenBack);
                self.look_at(lane);
            }
        }
        if let Some(committed) = done.committed {
            self.say(Event::Committed(committed));
        }
    }

    /// Answers the cursor commits that are open, and says what is left to say.
    async fn finish(&mut self) -> Result<(), End> {
        while let Some(done) = self.commits.next().await {
            self.done(done);
        }
        while let Some((response, room)) = self.outbox.pop_front() {
            self.sender.send(Said::response(response, room)).await.map_err(|_| End::Gone)?;
        }
        Ok(())
    }

    async fn leave(&mut self) -> Result<(), End> {
        self.outbox.retain(|(response, _)| !matches!(response.event, Some(Event::Batch(_))));
        self.finish().await?;
        let leave = Leave {
            group: self.join.group.clone(),
            member: self.join.member_id.clone(),
            instance: self.join.instance_id.clone(),
            why: LostWhy::Left,
        };
        self.place.engine.leave(leave).await.map_err(|refusal| of_answer(&self.place.engine, refusal))?;
        self.holdings.lose_all();
        Ok(())
    }
}

async fn heard_by(by: Option<Instant>) {
    match by {
        Some(by) => sleep_until(by).await,
        None => std::future::pending().await,
    }
}

/// The answer to a cursor commit.
fn committed(engine: &Engine, commit_id: u64, commits: &[CursorCommit], answer: Result<(), Refusal>) -> v1::Committed {
    use v1::committed::Result as Outcome;
    let cursor = |commit: &CursorCommit| v1::Cursor {
        topic: commit.topic.clone(),
        partition: commit.partition.0,
        next_offset: commit.next.0,
        metadata: commit.metadata.clone(),
        ..v1::Cursor::default()
    };
    let result = match answer {
        Ok(()) => Outcome::Ok(v1::CommitCursorsResponse { cursors: commits.iter().map(cursor).collect() }),
        Err(refusal) => Outcome::Refused(of_answer(engine, refusal).message_status()),
    };
    v1::Committed { commit_id, result: Some(result) }
}
