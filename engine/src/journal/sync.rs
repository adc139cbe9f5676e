//! Makes groups durable: one sync for all that were written meanwhile.
//!
//! The order is sync → watermark → publish → ack. The watermark is written, not synced: it lets recovery tell, after
//! a killed process, an acked group that rotted from one that was never acked.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    disk::{self, DiskFile},
    id::{Incarnation, Lsn},
    journal::{
        Group,
        control::{WATERMARK_PATH, Watermark},
        poison,
    },
    marks::Marks,
    poison::Poison,
    stage::{Bell, Now, Queue, Stage, Step},
};

/// As many groups as one sync may cover.
const GROUPS_MAX: usize = 16;

/// The group sync stage.
pub struct Sync {
    watermark: Arc<dyn DiskFile>,
    incarnation: Incarnation,
    marks: Arc<Marks>,
    poison: Arc<Poison>,
    syncs: Arc<AtomicU64>,
    inbox: Arc<Queue<Group>>,
    outbox: Arc<Queue<Group>>,
    state: State,
    bell: Bell,
}

/// Where a sync stands: each arm is one step's work.
enum State {
    /// Groups written, not synced.
    Written(Vec<Group>),
    /// Groups synced; the watermark does not say so yet.
    Synced(Vec<Group>),
    /// Groups to hand on.
    Durable(std::vec::IntoIter<Group>),
}

/// What a sync stage is made of.
pub struct Parts {
    /// Opened for writing in place.
    pub watermark: Arc<dyn DiskFile>,
    /// This run.
    pub incarnation: Incarnation,
    /// Moves `durable`.
    pub marks: Arc<Marks>,
    /// Set when a sync fails.
    pub poison: Arc<Poison>,
    /// Counts syncs.
    pub syncs: Arc<AtomicU64>,
    /// From the group write.
    pub inbox: Arc<Queue<Group>>,
    /// To publish.
    pub outbox: Arc<Queue<Group>>,
    /// What wakes it.
    pub bell: Bell,
}

impl Sync {
    /// A stage with nothing on its way.
    pub fn new(parts: Parts) -> Self {
        let Parts { watermark, incarnation, marks, poison, syncs, inbox, outbox, bell } = parts;
        let state = State::Durable(Vec::new().into_iter());
        Self { watermark, incarnation, marks, poison, syncs, inbox, outbox, state, bell }
    }

    /// Groups that one sync covers: those of one file.
    fn gather(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut file_no = None;
        while groups.len() < GROUPS_MAX {
            let same = |group: &Group| match (&group.file, file_no) {
                (Some(file), Some(gathered)) => file.file_no == gathered,
                _ => true,
            };
            let Some(group) = self.inbox.pop_if(same) else { break };
            file_no = file_no.or(group.file.as_ref().map(|file| file.file_no));
            groups.push(group);
        }
        groups
    }

    fn sync(&mut self, groups: Vec<Group>) -> Result<(), (Vec<Group>, String, std::io::Error)> {
        let Some(file) = groups.iter().find_map(|group| group.file.clone()) else {
            // Answers only: what they rest on was synced before, since groups come in order.
            self.state = State::Durable(groups.into_iter());
            return Ok(());
        };
        if let Err(error) = file.file.sync() {
            return Err((groups, file.file.path().to_owned(), error));
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.marks.durable.raise(last(&groups));
        self.state = State::Synced(groups);
        Ok(())
    }

    fn mark(&mut self, groups: Vec<Group>) -> Result<(), (Vec<Group>, String, std::io::Error)> {
        let mark = Watermark { durable_lsn: last(&groups), incarnation: self.incarnation };
        if let Err(error) = disk::write_all_at(&*self.watermark, &mark.encode(), 0) {
            return Err((groups, WATERMARK_PATH.to_owned(), error));
        }
        self.state = State::Durable(groups.into_iter());
        Ok(())
    }

    /// Hands durable groups to publish, one a step, then gathers what the next sync covers.
    fn hand_on(&mut self, mut groups: std::vec::IntoIter<Group>) -> Step {
        if !self.outbox.has_room() {
            self.state = State::Durable(groups);
            return Step::Idle;
        }
        if let Some(group) = groups.next() {
            let pushed = self.outbox.push(group);
            assert!(pushed.is_ok(), "the room was asked for before");
            self.state = State::Durable(groups);
            return Step::Did;
        }
        let gathered = self.gather();
        if gathered.is_empty() {
            self.state = State::Durable(groups);
            return Step::Idle;
        }
        self.state = State::Written(gathered);
        Step::Did
    }

    /// Nothing more becomes durable: whoever waits learns that nobody knows.
    fn drain(&mut self) -> Step {
        let Some(poisoned) = self.poison.first() else { return Step::Poisoned };
        let held = match std::mem::replace(&mut self.state, State::Written(Vec::new())) {
            State::Written(groups) | State::Synced(groups) => groups,
            State::Durable(groups) => groups.collect(),
        };
        for group in held.into_iter().chain(std::iter::from_fn(|| self.inbox.pop())) {
            group.answers.into_iter().for_each(|pending| pending.give_unknown(&poisoned));
        }
        Step::Poisoned
    }
}

fn last(groups: &[Group]) -> Lsn {
    groups.last().map_or(Lsn(0), |group| group.tip.lsn)
}

impl Stage for Sync {
    fn name(&self) -> &'static str {
        "sync"
    }

    fn bell(&self) -> &Bell {
        &self.bell
    }

    fn step(&mut self, _now: Now) -> Step {
        if self.poison.is_set() {
            return self.drain();
        }
        let state = std::mem::replace(&mut self.state, State::Written(Vec::new()));
        let failed = match state {
            State::Durable(groups) => return self.hand_on(groups),
            State::Written(groups) => self.sync(groups),
            State::Synced(groups) => self.mark(groups),
        };
        match failed {
            Ok(()) => Step::Did,
            Err((groups, path, error)) => {
                self.state = State::Synced(groups);
                poison(&self.poison, "sync", &path, &error);
                self.drain()
            }
        }
    }
}
