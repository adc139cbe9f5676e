//! A member as a generic client writes one: a stream of generated messages.

use std::time::Duration;

use tillroll_proto::v1::{self, consume_request::Action, consume_response::Event, start_position::At};
use tillroll_tests::road::{Road, TOPIC, plain, record};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// No test needs as long for one message.
const PATIENCE: Duration = Duration::from_mins(1);

/// The group of every test.
pub(crate) const GROUP: &str = "mailer";

/// A member's two halves.
pub(crate) struct Member {
    requests: Option<mpsc::Sender<v1::ConsumeRequest>>,
    responses: Streaming<v1::ConsumeResponse>,
    /// How many signs of life it was given.
    pub(crate) heartbeats: usize,
}

/// Who joins, with nothing else said.
pub(crate) fn join(member: &str, instance: &str) -> v1::Join {
    v1::Join { group: GROUP.into(), member_id: member.into(), instance_id: instance.into(), ..v1::Join::default() }
}

impl Member {
    /// Opens a stream with this first message.
    pub(crate) async fn open(road: &Road, first: Action) -> Self {
        let (requests, queue) = mpsc::channel(16);
        let mut groups = road.groups.clone();
        requests.send(v1::ConsumeRequest { action: Some(first) }).await.expect("there is room");
        let responses = groups.consume(ReceiverStream::new(queue)).await.expect("it is served").into_inner();
        Self { requests: Some(requests), responses, heartbeats: 0 }
    }

    /// Joins, and is told so.
    pub(crate) async fn join(road: &Road, join: v1::Join) -> (Self, v1::Joined) {
        let mut member = Self::open(road, Action::Join(join)).await;
        match member.next().await {
            Event::Joined(joined) => (member, joined),
            other => panic!("not joined: {other:?}"),
        }
    }

    pub(crate) async fn say(&self, action: Action) {
        let requests = self.requests.as_ref().expect("not half-closed");
        requests.send(v1::ConsumeRequest { action: Some(action) }).await.expect("the stream is open");
    }

    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next message, whatever it is; heartbeats are left out.
    pub(crate) async fn next(&mut self) -> Event {
        let told = async {
            loop {
                let message = self.responses.message().await;
                match message.expect("the stream is open").expect("it goes on").event.expect("something") {
                    Event::Heartbeat(_) => self.heartbeats += 1,
                    event => return event,
                }
            }
        };
        timeout(PATIENCE, told).await.expect("it is told")
    }

    /// Waits for as many heartbeats.
    pub(crate) async fn beats(&mut self, count: usize) {
        for _ in 0..count {
            let message = timeout(PATIENCE, self.responses.message()).await.expect("it is told");
            let event = message.expect("the stream is open").expect("it goes on").event;
            assert!(matches!(event, Some(Event::Heartbeat(_))), "no heartbeat: {event:?}");
        }
    }

    /// The stream's end: well, or why not.
    pub(crate) async fn end(&mut self) -> Result<(), Status> {
        loop {
            match timeout(PATIENCE, self.responses.message()).await.expect("it ends") {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(status) => return Err(status),
            }
        }
    }

    pub(crate) async fn assigned(&mut self) -> Vec<v1::Assignment> {
        match self.next().await {
            Event::Assigned(v1::Assigned { assignments }) => assignments,
            other => panic!("not assigned: {other:?}"),
        }
    }

    pub(crate) async fn revoking(&mut self) -> Vec<v1::Assignment> {
        match self.next().await {
            Event::Revoking(v1::Revoking { assignments, .. }) => assignments,
            other => panic!("not asked back: {other:?}"),
        }
    }

    pub(crate) async fn lost(&mut self, reason: &str) -> Vec<v1::Assignment> {
        match self.next().await {
            Event::Lost(lost) if lost.reason == reason => lost.assignments,
            other => panic!("not lost for {reason}: {other:?}"),
        }
    }

    pub(crate) async fn batch(&mut self) -> v1::Batch {
        match self.next().await {
            Event::Batch(batch) => batch,
            other => panic!("no records: {other:?}"),
        }
    }

    pub(crate) async fn caught_up(&mut self) {
        match self.next().await {
            Event::CaughtUp(_) => {}
            other => panic!("not caught up: {other:?}"),
        }
    }

    /// Moves one cursor, and tells how that went.
    pub(crate) async fn commit(&mut self, partition: u32, epoch: u64, next: u64) -> Result<(), String> {
        let commit = v1::Commit { commit_id: 7, commits: vec![cursor_commit(partition, epoch, next)] };
        self.say(Action::Commit(commit)).await;
        self.committed(7).await
    }

    /// The answer to a cursor commit.
    pub(crate) async fn committed(&mut self, commit_id: u64) -> Result<(), String> {
        use v1::committed::Result as Outcome;
        match self.next().await {
            Event::Committed(committed) => {
                assert_eq!(committed.commit_id, commit_id);
                match committed.result.expect("it says how it went") {
                    Outcome::Ok(_) => Ok(()),
                    Outcome::Refused(status) => Err(reason(&status)),
                }
            }
            other => panic!("no answer: {other:?}"),
        }
    }
}

pub(crate) fn reason(status: &tonic_types::Status) -> String {
    use tonic_types::RpcStatusExt as _;
    status.get_details_error_info().map_or_else(|| status.message.clone(), |info| info.reason)
}

pub(crate) fn cursor_commit(partition: u32, epoch: u64, next_offset: u64) -> v1::CursorCommit {
    let (topic, assignment_epoch) = (TOPIC.into(), Some(epoch));
    v1::CursorCommit { topic, partition, next_offset, assignment_epoch, ..v1::CursorCommit::default() }
}

/// A road with the group, which reads the topic's two partitions.
pub(crate) async fn road() -> Road {
    let mut road = Road::new().await;
    make(&mut road, GROUP).await;
    road
}

/// Makes a group over both partitions, from the first record on.
pub(crate) async fn make(road: &mut Road, name: &str) {
    let config = v1::GroupConfig {
        topics: vec![TOPIC.into()],
        mode: v1::GroupMode::Members.into(),
        rule: v1::AssignmentRule::Spread.into(),
        start: Some(v1::StartPosition { at: Some(At::Earliest(true)) }),
        session_ms: 1_000,
        ..v1::GroupConfig::default()
    };
    let create = v1::CreateGroupRequest { name: name.into(), config: Some(config) };
    road.groups.create_group(create).await.expect("created");
}

/// Appends records to a partition, one value each.
pub(crate) async fn append(road: &mut Road, partition: u32, values: &[&str]) {
    let records = values.iter().map(|value| record(value.as_bytes())).collect();
    road.log.append(plain(TOPIC, partition, records)).await.expect("appended");
}

pub(crate) async fn group(road: &mut Road) -> v1::Group {
    let asked = v1::GetGroupRequest { name: GROUP.into() };
    road.groups.get_group(asked).await.expect("it is there").into_inner().group.expect("it says which")
}

/// The partitions and epochs of assignments.
pub(crate) fn places(assignments: &[v1::Assignment]) -> Vec<(u32, u64)> {
    assignments.iter().map(|one| (one.partition, one.assignment_epoch)).collect()
}

/// The epoch of partitions that were given in one frame.
pub(crate) fn epoch_of(assignments: &[v1::Assignment]) -> u64 {
    let epoch = assignments.first().expect("one at least").assignment_epoch;
    assert!(assignments.iter().all(|one| one.assignment_epoch == epoch), "{assignments:?}");
    epoch
}

pub(crate) fn values(batch: &v1::Batch) -> Vec<String> {
    let value = |record: &v1::ReadRecord| record.record.clone().expect("whole").value;
    batch.records.iter().map(|record| String::from_utf8(value(record).to_vec()).expect("text")).collect()
}
