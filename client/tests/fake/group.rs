//! The consumer groups of the fake: who holds what under which epoch, who may
//! move which cursor, and what each member is told and sent.
//!
//! Units are dealt out by turns, which moves more than a broker would; a unit
//! moves only when all of it was given back.

use std::collections::{BTreeMap, BTreeSet};

use tillroll_proto::{
    reason,
    v1::{self, consume_response::Event},
};
use tokio::sync::mpsc;
use tonic::Status;

use super::{Lane, State, Stored, refusal, refusal_of};

pub(crate) type Answers = mpsc::Sender<Result<v1::ConsumeResponse, Status>>;

#[derive(Default)]
pub(crate) struct Group {
    pub config: v1::GroupConfig,
    pub members: BTreeMap<String, Member>,
    pub cursors: BTreeMap<Lane, Cursor>,
}

#[derive(Default)]
pub(crate) struct Member {
    pub instance: String,
    /// The stream that it has, and what it is called.
    pub stream: Option<(u64, Answers)>,
    pub credit: i64,
    pub positions: BTreeMap<Lane, u64>,
    pub holds: BTreeSet<Lane>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub next: u64,
    pub epoch: u64,
    pub holder: Option<String>,
    pub is_draining: bool,
}

impl Member {
    pub(crate) fn tell(&mut self, event: Event) {
        let Some((_, answers)) = &self.stream else { return };
        if answers.try_send(Ok(v1::ConsumeResponse { event: Some(event) })).is_err() {
            self.stream = None;
        }
    }
}

impl Group {
    pub(crate) fn assignment(&self, (topic, partition): &Lane) -> v1::Assignment {
        let cursor = &self.cursors[&(topic.clone(), *partition)];
        v1::Assignment {
            topic: topic.clone(),
            partition: *partition,
            assignment_epoch: cursor.epoch,
            next_offset: cursor.next,
        }
    }

    pub(crate) fn held_by(&self, member: &str) -> Vec<Lane> {
        let held = self.cursors.iter().filter(|(_, cursor)| cursor.holder.as_deref() == Some(member));
        held.map(|(lane, _)| lane.clone()).collect()
    }

    /// Gives `lanes` to a member that has them from now on.
    pub(crate) fn give(&mut self, lanes: &[Lane], member: &str) {
        for lane in lanes {
            let cursor = self.cursors.get_mut(lane).expect("it reads it");
            cursor.epoch += 1;
            (cursor.holder, cursor.is_draining) = (Some(member.to_owned()), false);
        }
        self.tell_assigned(lanes, member);
    }

    pub(crate) fn tell_assigned(&mut self, lanes: &[Lane], member: &str) {
        let assignments: Vec<_> = lanes.iter().map(|lane| self.assignment(lane)).collect();
        let Some(told) = self.members.get_mut(member) else { return };
        for assignment in &assignments {
            told.positions.insert((assignment.topic.clone(), assignment.partition), assignment.next_offset);
        }
        if !assignments.is_empty() {
            told.tell(Event::Assigned(v1::Assigned { assignments }));
        }
    }

    /// Takes `lanes` from whoever has them, who is told why unless it knows.
    pub(crate) fn free(&mut self, lanes: &[Lane], why: Option<&str>) {
        for lane in lanes {
            let assignment = self.assignment(lane);
            let cursor = self.cursors.get_mut(lane).expect("it reads it");
            cursor.is_draining = false;
            let Some(member) = cursor.holder.take().and_then(|holder| self.members.get_mut(&holder)) else { continue };
            member.positions.remove(lane);
            member.holds.remove(lane);
            if let Some(why) = why {
                member.tell(Event::Lost(v1::Lost { assignments: vec![assignment], reason: why.to_owned() }));
            }
        }
    }

    fn units(&self) -> Vec<Vec<Lane>> {
        let lanes = || self.cursors.keys().cloned();
        match v1::AssignmentRule::try_from(self.config.rule) {
            Ok(v1::AssignmentRule::Single) => vec![lanes().collect()],
            Ok(v1::AssignmentRule::CoPartitioned) => {
                let mut units: BTreeMap<u32, Vec<Lane>> = BTreeMap::new();
                lanes().for_each(|lane| units.entry(lane.1).or_default().push(lane));
                units.into_values().collect()
            }
            _ => lanes().map(|lane| vec![lane]).collect(),
        }
    }

    /// Brings every unit nearer to the member whose turn it is.
    pub(crate) fn share(&mut self) {
        let members: Vec<String> = self.members.keys().cloned().collect();
        let is_single = self.config.rule == v1::AssignmentRule::Single as i32;
        for (index, unit) in self.units().into_iter().enumerate() {
            let Some(turn) = members.get(index % members.len().max(1)) else { return };
            let holders: BTreeSet<String> = unit.iter().filter_map(|lane| self.cursors[lane].holder.clone()).collect();
            match holders.first() {
                None => self.give(&unit, turn),
                Some(holder) if holder != turn && !is_single => self.ask_back(&unit),
                // Whatever of it was freed alone comes back to who has the rest.
                Some(holder) => {
                    let rest = unit.iter().filter(|lane| self.cursors[*lane].holder.is_none());
                    let rest: Vec<Lane> = rest.cloned().collect();
                    let holder = holder.clone();
                    if !self.cursors.values().any(|cursor| cursor.is_draining) {
                        self.give(&rest, &holder);
                    }
                }
            }
        }
    }

    fn ask_back(&mut self, unit: &[Lane]) {
        for lane in unit {
            let cursor = self.cursors.get_mut(lane).expect("it reads it");
            if cursor.holder.is_some() && !std::mem::replace(&mut cursor.is_draining, true) {
                self.tell_revoking(lane);
            }
        }
    }

    pub(crate) fn tell_revoking(&mut self, lane: &Lane) {
        let assignments = vec![self.assignment(lane)];
        let holder = self.cursors[lane].holder.clone().and_then(|holder| self.members.get_mut(&holder));
        if let Some(holder) = holder {
            holder.tell(Event::Revoking(v1::Revoking { assignments, drain_ms: 30_000 }));
        }
    }
}

/// Why a commit or a check is refused, with its facts.
type Fault = (&'static str, Vec<(&'static str, String)>);

impl State {
    pub(crate) fn end(&self, lane: &Lane) -> u64 {
        self.log.get(lane).and_then(|stored| stored.last()).map_or(0, Stored::end)
    }

    fn cursor(&self, group: &str, topic: &str, partition: u32) -> Result<&Cursor, Fault> {
        let group = self.groups.get(group).ok_or((reason::GROUP_NOT_FOUND, vec![]))?;
        group.cursors.get(&(topic.to_owned(), partition)).ok_or((reason::START_REQUIRED, vec![]))
    }

    fn held(&self, held: &v1::HeldAssignment) -> Result<(), Fault> {
        let cursor = self.cursor(&held.group, &held.topic, held.partition)?;
        if cursor.holder.is_some() && cursor.epoch == held.assignment_epoch {
            return Ok(());
        }
        Err((reason::ASSIGNMENT_FENCED, vec![(reason::key::CURRENT, cursor.epoch.to_string())]))
    }

    fn may_move(&self, commit: &v1::CursorCommit) -> Result<(), Fault> {
        let v1::CursorCommit { group, topic, partition, next_offset, assignment_epoch, expected_offset, .. } = commit;
        let cursor = self.cursor(group, topic, *partition)?;
        let manual = self.groups[group].config.mode == v1::GroupMode::Manual as i32;
        if !manual {
            let assignment_epoch = assignment_epoch.ok_or((reason::FIELD_REQUIRED, vec![]))?;
            let (group, topic, partition) = (group.clone(), topic.clone(), *partition);
            self.held(&v1::HeldAssignment { group, topic, partition, assignment_epoch })?;
        }
        let current = || vec![(reason::key::CURRENT, cursor.next.to_string())];
        if expected_offset.is_some_and(|expected| expected != cursor.next) {
            return Err((reason::EXPECTED_OFFSET_MISMATCH, vec![(reason::key::ACTUAL, cursor.next.to_string())]));
        }
        if *next_offset < cursor.next {
            return Err((reason::CURSOR_BACKWARDS, current()));
        }
        if *next_offset > self.end(&(topic.clone(), *partition)) {
            return Err((reason::CURSOR_BEYOND_END, vec![]));
        }
        Ok(())
    }

    /// Judges all commits and checks; the reason is the first one's.
    pub(crate) fn judge_commits(&self, commits: &[v1::CursorCommit], checks: &[v1::Check]) -> Result<(), Status> {
        let commits = commits.iter().enumerate().map(|(at, one)| (format!("commits[{at}]"), self.may_move(one)));
        let checks = checks.iter().enumerate().filter_map(|(at, check)| match &check.kind {
            Some(v1::check::Kind::Assignment(held)) => Some((format!("checks[{at}]"), self.held(held))),
            _ => None,
        });
        let faults = commits.chain(checks).filter_map(|(field, judged)| Some((field, judged.err()?)));
        let faults: Vec<(String, Fault)> = faults.collect();
        let Some((_, (name, facts))) = faults.first() else { return Ok(()) };
        let fields: Vec<String> = faults.iter().map(|(field, _)| field.clone()).collect();
        Err(refusal_of(name, facts, &fields))
    }

    pub(crate) fn move_cursors(&mut self, commits: &[v1::CursorCommit]) {
        for commit in commits {
            let group = self.groups.get_mut(&commit.group).expect("it was judged");
            let cursor = group.cursors.get_mut(&(commit.topic.clone(), commit.partition));
            cursor.expect("it was judged").next = commit.next_offset;
        }
    }

    pub(crate) fn group(&mut self, name: &str) -> Result<&mut Group, Status> {
        self.groups.get_mut(name).ok_or_else(|| refusal(reason::GROUP_NOT_FOUND, &[]))
    }

    /// Sends every member what it holds, as far as its credit goes.
    pub(crate) fn pump(&mut self) {
        self.changed.notify_waiters();
        for group in self.groups.values_mut() {
            for (lane, cursor) in &group.cursors {
                let Some(member) = cursor.holder.as_ref().and_then(|holder| group.members.get_mut(holder)) else {
                    continue;
                };
                if cursor.is_draining || member.holds.contains(lane) {
                    continue;
                }
                let Some(from) = member.positions.get(lane).copied() else { continue };
                let stored = self.log.get(lane).into_iter().flatten().filter(|stored| stored.end() > from);
                for stored in stored {
                    if member.credit <= 0 || member.stream.is_none() {
                        break;
                    }
                    let batch = v1::Batch {
                        topic: lane.0.clone(),
                        partition: lane.1,
                        next_offset: stored.end(),
                        encoded: Some(stored.range()),
                        assignment_epoch: cursor.epoch,
                        ..Default::default()
                    };
                    member.credit -= i64::try_from(prost::Message::encoded_len(&batch)).expect("small");
                    member.positions.insert(lane.clone(), stored.end());
                    member.tell(Event::Batch(batch));
                }
            }
        }
    }
}
