//! A consumer's desk: the partitions that are held, what came of them and was not taken, the commits that are not
//! answered, and what has to be said to the server.
//!
//! Pure: no I/O, no clock. What must stay true:
//!
//! 1. A record is handed out once for each epoch, however often the server sends it: a partition remembers what came.
//! 2. Nothing of a partition is handed out after the group asked for it back.
//! 3. A partition is given back, and the group left, only when every commit of it is answered: a refusal would be lost
//!    otherwise.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tillroll_proto::v1::{self, consume_request::Action, consume_response};

use super::{
    ConsumerEvent, HeldPartition, LostReason,
    commit::{CommitTicket, Commits, Place, closed, not_held},
};
use crate::{Error, ReadBatch};

/// Credit is given back in parts of this many of the whole, so that it costs few messages.
const CREDIT_PARTS: u64 = 8;
/// Events besides records that wait for the program, at most.
const NEWS_MAX: usize = 1_000;
/// The number under which the server says that a release was refused.
const RELEASE_REFUSED: u64 = 0;

/// How far a consumer is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Answers are waited for, then the group is left.
    Closing,
    /// Nobody is there any more.
    Dropped,
    /// The member said that it leaves.
    Left,
    Ended,
}

/// Something that came and was not taken.
#[derive(Debug)]
pub(super) enum Queued {
    /// Records.
    Batch {
        batch: ReadBatch,
        assignment_epoch: u64,
        bytes: u64,
    },
    Event(ConsumerEvent),
}

/// A partition that is held.
#[derive(Debug)]
struct Lane {
    epoch: u64,
    /// The cursor, as far as it is known.
    committed: u64,
    /// How far the program has asked it to move.
    asked: u64,
    /// Behind the last record that was handed out.
    handed: u64,
    /// Behind the last record that came.
    came: u64,
    /// The group wants it back.
    draining: bool,
    /// It goes back as soon as its commits are answered.
    releasing: bool,
    /// No records are sent, as the program asked.
    held: bool,
}

type Lanes = BTreeMap<Arc<str>, BTreeMap<u32, Lane>>;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Desk {
    phase: Phase,
    /// Why it has ended, until that was told.
    end: Option<Error>,
    /// What the program must hear before the next record.
    news: VecDeque<ConsumerEvent>,
    /// What the program gets in the order of its coming.
    queue: VecDeque<Queued>,
    lanes: Lanes,
    commits: Commits,
    /// What else is to be said on the present stream.
    actions: VecDeque<Action>,
    auto_release: bool,
    session: Duration,
    /// The member came back, and what it still holds is what the server says next.
    resuming: bool,
    caught_up: bool,
    /// Losses with a topic since it was looked whether another one is left.
    lost_with_topic: u32,
    credit_bytes: u64,
    /// Bytes that came and are not done with.
    outstanding: u64,
    /// Bytes that are done with and not told.
    owed: u64,
}

impl Desk {
    pub(super) fn new(credit_bytes: u64, auto_release: bool) -> Self {
        Self {
            phase: Phase::Open,
            end: None,
            news: VecDeque::new(),
            queue: VecDeque::new(),
            lanes: Lanes::new(),
            commits: Commits::default(),
            actions: VecDeque::new(),
            auto_release,
            session: Duration::ZERO,
            resuming: false,
            caught_up: false,
            lost_with_topic: 0,
            credit_bytes,
            outstanding: 0,
            owed: 0,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn commits(&mut self) -> &mut Commits {
        &mut self.commits
    }

    /// The program has to hear more than it takes: no more is taken in.
    pub(super) fn is_full(&self) -> bool {
        self.news.len() >= NEWS_MAX
    }

    /// The program has something to take.
    pub(super) fn has_news(&self) -> bool {
        self.phase == Phase::Ended || !self.news.is_empty() || !self.queue.is_empty()
    }

    /// The task has something to say.
    pub(super) fn has_work(&self) -> bool {
        self.phase != Phase::Open || !self.commits.is_empty() || !self.actions.is_empty() || self.owes()
    }

    fn owes(&self) -> bool {
        self.owed > 0 && (self.owed >= self.credit_bytes / CREDIT_PARTS || self.outstanding == 0)
    }

    /// It holds nothing, since a topic was deleted just now or for whatever reason for long.
    pub(super) fn may_have_no_topic(&mut self, for_long: bool) -> bool {
        let was_deleted = std::mem::take(&mut self.lost_with_topic) > 0;
        let holds_nothing = self.lanes.values().all(BTreeMap::is_empty);
        self.phase == Phase::Open && holds_nothing && (was_deleted || for_long)
    }

    // The program's side.

    pub(super) fn take(&mut self, whole: bool) -> Option<Queued> {
        let next = self.queue.pop_front()?;
        if let (true, Queued::Batch { batch, .. }) = (whole, &next) {
            let handed = batch.next_offset();
            if let Some(lane) = lane_mut(&mut self.lanes, batch.topic(), batch.partition()) {
                lane.handed = lane.handed.max(handed);
            }
        }
        Some(next)
    }

    fn lane(&mut self, place: &Place) -> Option<&mut Lane> {
        lane_mut(&mut self.lanes, &place.topic, place.partition).filter(|lane| lane.epoch == place.assignment_epoch)
    }

    pub(super) fn hand_out(&mut self, place: &Place) -> bool {
        let lane = self.lane(place).filter(|lane| !lane.draining);
        lane.is_some_and(|lane| {
            lane.handed = lane.handed.max(place.next_offset);
            true
        })
    }

    pub(super) fn commit(&mut self, place: &Place) -> CommitTicket {
        if matches!(self.phase, Phase::Dropped | Phase::Left | Phase::Ended) {
            return Commits::refused(closed());
        }
        let Some(lane) = self.lane(place) else { return Commits::refused(not_held(place)) };
        lane.asked = lane.asked.max(place.next_offset);
        self.commits.push(place)
    }

    pub(super) fn release(&mut self, partition: &HeldPartition) {
        let place = place_of(partition);
        if let Some(lane) = self.lane(&place) {
            (lane.draining, lane.releasing) = (true, true);
            self.release_if_done(&place);
        }
    }

    pub(super) fn hold(&mut self, partition: &HeldPartition, held: bool) {
        let place = place_of(partition);
        let Some(lane) = self.lane(&place).filter(|lane| lane.held != held) else { return };
        lane.held = held;
        let assignments = vec![partition.to_wire()];
        self.actions.push_back(Action::Hold(v1::Hold { assignments, held }));
    }

    pub(super) fn done_with(&mut self, bytes: u64) {
        self.outstanding -= bytes;
        self.owed += bytes;
    }

    pub(super) fn held(&self) -> Vec<HeldPartition> {
        let lanes = self.lanes.iter().flat_map(|(topic, lanes)| lanes.iter().map(move |(at, lane)| (topic, at, lane)));
        lanes.map(|(topic, partition, lane)| held(topic, *partition, lane.epoch, lane.handed)).collect()
    }

    pub(super) fn session(&self) -> Duration {
        self.session
    }

    /// What the program must hear before the next record.
    pub(super) fn take_news(&mut self) -> Option<ConsumerEvent> {
        self.news.pop_front()
    }

    /// Why it has ended, once.
    pub(super) fn take_end(&mut self) -> Option<Error> {
        self.end.take()
    }

    pub(super) fn close(&mut self, phase: Phase) {
        if self.phase == Phase::Open || (self.phase == Phase::Closing && phase == Phase::Dropped) {
            self.phase = phase;
        }
        self.drop_queue();
    }

    /// Leaves the group, and says this when it is left.
    pub(super) fn leave_for(&mut self, error: Error) {
        self.close(Phase::Closing);
        self.end = Some(error);
    }

    pub(super) fn end(&mut self, error: Option<Error>) {
        if self.phase == Phase::Ended {
            return;
        }
        self.commits.give_up(&error.clone().unwrap_or_else(closed));
        self.drop_queue();
        self.phase = Phase::Ended;
        // What ended it first is why.
        self.end = self.end.take().or(error);
    }

    fn drop_queue(&mut self) {
        for queued in std::mem::take(&mut self.queue) {
            if let Queued::Batch { bytes, .. } = queued {
                self.done_with(bytes);
            }
        }
    }

    // The task's side.

    /// How much a new stream begins with.
    pub(super) fn initial_credit(&mut self) -> u64 {
        self.owed = 0;
        self.credit_bytes.saturating_sub(self.outstanding)
    }

    /// The stream is open, and the member is in the group.
    pub(super) fn joined(&mut self, joined: &v1::Joined, again: bool) {
        self.session = Duration::from_millis(joined.session_ms.into());
        self.resuming = joined.resumed;
        if !joined.resumed {
            let gone = self.held();
            self.lose(gone, LostReason::SessionExpired);
        }
        if again {
            let holds = self.lanes.iter().flat_map(|(topic, lanes)| {
                let held = lanes.iter().filter(|(_, lane)| lane.held);
                held.map(move |(partition, lane)| held_wire(topic, *partition, lane.epoch))
            });
            let assignments: Vec<_> = holds.collect();
            if !assignments.is_empty() {
                self.actions.push_back(Action::Hold(v1::Hold { assignments, held: true }));
            }
            self.news.push_back(ConsumerEvent::Resumed);
        }
    }

    /// The stream broke.
    pub(super) fn broke(&mut self) {
        self.commits.broke();
        // What was asked for there is asked for again: holds by `joined`, releases when the server wants them.
        self.actions.clear();
        if self.phase == Phase::Left {
            self.phase = Phase::Closing;
        }
    }

    pub(super) fn interrupted(&mut self, error: Error) {
        self.news.push_back(ConsumerEvent::Interrupted(error));
    }

    /// The next thing to say to the server.
    pub(super) fn next_action(&mut self) -> Option<Action> {
        if let Some(commit) = self.commits.send() {
            return Some(Action::Commit(commit));
        }
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        // What is not answered could still be refused, or said to have been lost.
        if matches!(self.phase, Phase::Closing | Phase::Dropped) && self.commits.is_empty() {
            self.phase = Phase::Left;
            return Some(Action::Leave(v1::Leave {}));
        }
        (self.phase == Phase::Open && self.owes())
            .then(|| Action::Credit(v1::Credit { bytes: std::mem::take(&mut self.owed) }))
    }

    /// Takes one message in.
    pub(super) fn hear(&mut self, event: consume_response::Event) -> Result<(), Error> {
        use consume_response::Event;
        if std::mem::take(&mut self.resuming) {
            self.confirm(&event);
        }
        match event {
            Event::Heartbeat(_) => {}
            Event::Batch(batch) => self.batch(batch)?,
            Event::Assigned(assigned) => self.assigned(assigned.assignments),
            Event::Committed(committed) => self.committed(committed)?,
            Event::Revoking(revoking) => self.revoking(revoking),
            Event::Lost(lost) => {
                let gone = lost.assignments.into_iter().map(HeldPartition::from_wire).collect();
                let reason = LostReason::from_wire(lost.reason);
                self.lost_with_topic += u32::from(reason == LostReason::TopicDeleted);
                self.lose(gone, reason);
            }
            Event::CaughtUp(_) => {
                if !std::mem::replace(&mut self.caught_up, true) {
                    self.queue.push_back(Queued::Event(ConsumerEvent::CaughtUp));
                }
            }
            Event::Stalled(stalled) => self.stalled(stalled),
            Event::Joined(_) => return Err(Error::protocol("the member joined twice")),
        }
        Ok(())
    }

    /// A member that came back is told at once what it holds, or nothing when it holds nothing: all else was lost while
    /// it was away.
    fn confirm(&mut self, first: &consume_response::Event) {
        let listed = match first {
            consume_response::Event::Assigned(assigned) => assigned.assignments.as_slice(),
            _ => &[],
        };
        let is_listed = |one: &HeldPartition| {
            listed.iter().any(|listed| {
                (listed.partition, listed.assignment_epoch) == (one.partition, one.assignment_epoch)
                    && *listed.topic == *one.topic
            })
        };
        let gone = self.held().into_iter().filter(|one| !is_listed(one)).collect();
        self.lose(gone, LostReason::WhileAway);
    }

    fn batch(&mut self, batch: v1::Batch) -> Result<(), Error> {
        let bytes = prost::Message::encoded_len(&batch) as u64;
        let known = self.lanes.get_key_value(batch.topic.as_str());
        let topic = known.map(|(topic, _)| Arc::clone(topic));
        let is_open = self.phase == Phase::Open;
        let lane = topic.as_ref().and_then(|topic| lane_mut(&mut self.lanes, topic, batch.partition));
        let lane = lane.filter(|lane| {
            is_open && lane.epoch == batch.assignment_epoch && !lane.draining && lane.came < batch.next_offset
        });
        self.outstanding += bytes;
        // What came on an earlier stream, or belongs to somebody else by now, is done with.
        let (Some(topic), Some(lane)) = (topic, lane) else {
            self.done_with(bytes);
            return Ok(());
        };
        let assignment_epoch = batch.assignment_epoch;
        let batch = ReadBatch::from_wire(&topic, batch, lane.came, None)?;
        lane.came = batch.next_offset();
        self.queue.push_back(Queued::Batch { batch, assignment_epoch, bytes });
        Ok(())
    }

    fn assigned(&mut self, assignments: Vec<v1::Assignment>) {
        let mut new = Vec::new();
        for wire in assignments {
            let mut given = HeldPartition::from_wire(wire);
            if let Some((topic, _)) = self.lanes.get_key_value(&given.topic) {
                given.topic = Arc::clone(topic);
            }
            if let Some(lane) = lane_mut(&mut self.lanes, &given.topic, given.partition) {
                if lane.epoch == given.assignment_epoch && lane.committed <= given.next_offset {
                    // It came back with the stream, where it was.
                    continue;
                }
                let same = lane.epoch == given.assignment_epoch;
                let gone = vec![held(&given.topic, given.partition, lane.epoch, lane.handed)];
                self.lose(gone, if same { LostReason::MovedBack } else { LostReason::WhileAway });
            }
            let next = given.next_offset;
            let lane = Lane {
                epoch: given.assignment_epoch,
                committed: next,
                asked: next,
                handed: next,
                came: next,
                draining: false,
                releasing: false,
                held: false,
            };
            self.lanes.entry(Arc::clone(&given.topic)).or_default().insert(given.partition, lane);
            new.push(given);
        }
        if !new.is_empty() {
            self.news.push_back(ConsumerEvent::Assigned(new));
        }
    }

    fn committed(&mut self, committed: v1::Committed) -> Result<(), Error> {
        let id = committed.commit_id;
        if id == RELEASE_REFUSED {
            // It is not given back, and the server takes it when the time is over.
            tracing::warn!("the server refused to take a partition back");
            return Ok(());
        }
        let settled = self.commits.answered(committed);
        let settled = settled.ok_or_else(|| Error::protocol(format!("a commit that was not asked commit_id={id}")))?;
        for place in settled.refused {
            if let Some(lane) = self.lane(&place) {
                // It is not done with, and has to be committed again.
                lane.asked = lane.committed;
            }
            self.release_if_done(&place);
        }
        for place in settled.moved {
            if let Some(lane) = self.lane(&place) {
                lane.committed = lane.committed.max(place.next_offset);
            }
            self.release_if_done(&place);
        }
        self.untold(settled.untold);
        Ok(())
    }

    fn untold(&mut self, untold: impl IntoIterator<Item = (Place, Error)>) {
        for (place, error) in untold {
            let partition = held(&place.topic, place.partition, place.assignment_epoch, place.next_offset);
            self.news.push_back(ConsumerEvent::CommitRefused { partition, error });
        }
    }

    fn revoking(&mut self, revoking: v1::Revoking) {
        let drain = Duration::from_millis(revoking.drain_ms.into());
        let (mut partitions, mut unknown) = (Vec::new(), Vec::new());
        for wire in revoking.assignments {
            let place = place_of(&HeldPartition::from_wire(wire.clone()));
            let Some(lane) = self.lane(&place) else {
                // It was given back already, on a stream that broke.
                unknown.push(wire);
                continue;
            };
            let handed = lane.handed;
            if !std::mem::replace(&mut lane.draining, true) {
                partitions.push(held(&place.topic, place.partition, place.assignment_epoch, handed));
            }
            self.drop_batches(&place);
        }
        if !unknown.is_empty() {
            self.actions.push_back(Action::Release(v1::Release { assignments: unknown, commits: Vec::new() }));
        }
        if !partitions.is_empty() {
            let places: Vec<Place> = partitions.iter().map(place_of).collect();
            self.news.push_back(ConsumerEvent::Revoking { partitions, drain });
            for place in &places {
                self.release_if_done(place);
            }
        }
    }

    /// Gives a partition back when nothing of it is open any more.
    fn release_if_done(&mut self, place: &Place) {
        let auto_release = self.auto_release;
        let Some(lane) = self.lane(place).filter(|lane| lane.draining) else { return };
        let is_done = lane.releasing || (auto_release && lane.asked >= lane.handed);
        if !is_done || lane.committed < lane.asked {
            return;
        }
        let assignments = vec![held_wire(&place.topic, place.partition, place.assignment_epoch)];
        self.actions.push_back(Action::Release(v1::Release { assignments, commits: Vec::new() }));
        self.drop_batches(place);
        self.remove(place);
    }

    fn lose(&mut self, gone: Vec<HeldPartition>, reason: LostReason) {
        let mut partitions = Vec::new();
        for one in gone {
            let place = place_of(&one);
            let Some(next_offset) = self.lane(&place).map(|lane| lane.handed) else { continue };
            partitions.push(HeldPartition { next_offset, ..one });
            self.drop_batches(&place);
            self.remove(&place);
        }
        if !partitions.is_empty() {
            self.news.push_back(ConsumerEvent::Lost { partitions, reason });
        }
    }

    fn remove(&mut self, place: &Place) {
        if let Some(lanes) = self.lanes.get_mut(&place.topic) {
            lanes.remove(&place.partition);
        }
        let untold = self.commits.lost(&place.topic, place.partition);
        self.untold(untold);
    }

    fn drop_batches(&mut self, place: &Place) {
        let mut bytes_dropped = 0;
        self.queue.retain(|queued| match queued {
            Queued::Batch { batch, bytes, .. } => {
                let other = batch.partition() != place.partition || *batch.topic() != place.topic;
                bytes_dropped += if other { 0 } else { *bytes };
                other
            }
            Queued::Event(_) => true,
        });
        self.done_with(bytes_dropped);
    }

    fn stalled(&mut self, stalled: v1::Stalled) {
        let Some(assignment) = stalled.assignment else { return };
        let partition = HeldPartition::from_wire(assignment);
        let context = format!("consume {} partition {}", partition.topic, partition.partition);
        let error = match stalled.error {
            Some(status) => Error::from_outcome(&context, &status),
            None => Error::protocol(format!("{context}: stalled for no reason")),
        };
        // Behind the records that came before it.
        self.queue.push_back(Queued::Event(ConsumerEvent::Stalled { partition, error }));
    }
}

fn lane_mut<'a>(lanes: &'a mut Lanes, topic: &str, partition: u32) -> Option<&'a mut Lane> {
    lanes.get_mut(topic)?.get_mut(&partition)
}

fn place_of(partition: &HeldPartition) -> Place {
    Place {
        topic: Arc::clone(&partition.topic),
        partition: partition.partition,
        assignment_epoch: partition.assignment_epoch,
        next_offset: partition.next_offset,
    }
}

fn held(topic: &Arc<str>, partition: u32, assignment_epoch: u64, next_offset: u64) -> HeldPartition {
    HeldPartition { topic: Arc::clone(topic), partition, assignment_epoch, next_offset }
}

fn held_wire(topic: &Arc<str>, partition: u32, assignment_epoch: u64) -> v1::Assignment {
    held(topic, partition, assignment_epoch, 0).to_wire()
}

#[cfg(test)]
mod tests;
