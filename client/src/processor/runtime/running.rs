//! A unit that is held as a whole: on its way to a state, or with one.

use std::collections::{BTreeMap, HashMap};

use tokio::{task::AbortHandle, time::Instant};

use super::holding::LaneKey;
use crate::processor::{
    Cause, Service, Timer, Told,
    core::{Core, UnitId},
    load::OwnEnds,
    snapshot::Snapshot,
    timers::Timers,
};

/// A step that was begun and is not decided.
pub(super) enum Work<S: Service> {
    Input {
        told: Told<S::Fact>,
        /// Which of the unit's lanes.
        lane: usize,
        offset: u64,
        /// The input's own, when it is another than the key.
        correlation_id: Option<String>,
        answers: Vec<S::Answer>,
    },
    Timer {
        key: String,
        timer: Timer,
    },
}

/// A unit that is held as a whole.
pub(super) struct Run<S: Service> {
    pub(super) key: u32,
    pub(super) lanes: Vec<LaneKey>,
    pub(super) phase: Phase<S>,
    /// It has to be given back, and what is not decided by then is dropped.
    pub(super) drain_until: Option<Instant>,
    /// How often steps failed that are not decided. No more than were begun: what is made again begins with them.
    pub(super) failed: BTreeMap<Cause, u32>,
    /// Its state could not be made, since then.
    pub(super) unloaded: Option<Unloadable>,
}

/// Loads that failed since the last one that did not.
pub(super) struct Unloadable {
    pub(super) since: Instant,
    pub(super) tries: u32,
}

/// How far it is.
pub(super) enum Phase<S: Service> {
    /// Its state is being made, by this load.
    Loading(u64),
    /// It has one.
    Running(Box<Running<S>>),
    /// Its state is not to be trusted: when what is in flight is answered, it is made again.
    Settling {
        id: UnitId,
        /// The cursors are elsewhere than was thought.
        asks_cursors: bool,
        not_before: Instant,
    },
    /// It is loaded then.
    Waiting { until: Instant, asks_cursors: bool },
}

/// A unit with a state.
pub(super) struct Running<S: Service> {
    pub(super) id: UnitId,
    pub(super) state: S::State,
    pub(super) timers: Timers,
    /// The lane that is looked at first, so that none waits for ever.
    pub(super) turn: usize,
    /// Calls that are unanswered, by the number of their step.
    pub(super) calls: HashMap<u64, AbortHandle>,
    /// Steps whose calls panicked, and when they are made again.
    pub(super) calls_again: Vec<(Instant, u64)>,
    /// Steps are not begun for now: there is no room for them, or it ends.
    pub(super) waits_for_room: bool,
    /// The next step failed, and is tried again then.
    pub(super) blocked_until: Option<Instant>,
    /// How many of its blocks are in the log, and how far own outputs are with them.
    pub(super) blocks_in_log: u64,
    pub(super) own: OwnEnds,
    /// By lane: the append time of the last record that was begun or passed.
    pub(super) times: Vec<Option<i64>>,
    pub(super) newest_id: Option<String>,
    pub(super) node_id: String,
    /// Steps since the last snapshot; none when no snapshot can be taken any more.
    pub(super) steps_unsaved: Option<u64>,
    pub(super) saving: Option<Saving>,
}

/// A snapshot on its way.
pub(super) enum Saving {
    /// It is taken as soon as every step that was begun is decided.
    Wanted,
    /// It stands for everything up to this block, and is written when that is in the log.
    Taken { mark: u64, state: Vec<u8>, inputs: Vec<(u64, Option<i64>)>, newest_id: Option<String> },
    /// It is written next.
    Finished(Box<Snapshot>),
}

impl<S: Service> Run<S> {
    pub(super) fn new(key: u32, lanes: Vec<LaneKey>) -> Self {
        Self { key, lanes, phase: Phase::Loading(0), drain_until: None, failed: BTreeMap::new(), unloaded: None }
    }

    pub(super) fn id(&self) -> Option<UnitId> {
        match &self.phase {
            Phase::Running(running) => Some(running.id),
            Phase::Settling { id, .. } => Some(*id),
            Phase::Loading(_) | Phase::Waiting { .. } => None,
        }
    }

    /// Nothing of it is on its way to the log.
    pub(super) fn is_idle(&self, core: &Core<Work<S>>) -> bool {
        match (&self.phase, self.id().and_then(|id| core.unit(id))) {
            (Phase::Running(_), Some(unit)) => unit.is_idle(),
            (Phase::Settling { .. }, Some(unit)) => unit.in_flight() == 0,
            _ => true,
        }
    }

    /// Steps that are not decided are dropped.
    pub(super) fn drop_open(&mut self, core: &mut Core<Work<S>>) {
        self.abort_calls();
        if let Some(order) = self.id().and_then(|id| core.unit_mut(id)) {
            order.drop_open();
        }
        if let Phase::Running(running) = &mut self.phase {
            // The state has observed what is not decided now: it stands for nothing that a snapshot could name.
            running.steps_unsaved = None;
            if matches!(running.saving, Some(Saving::Wanted)) {
                running.saving = None;
            }
        }
    }

    /// Its calls are not waited for any more.
    pub(super) fn abort_calls(&mut self) {
        if let Phase::Running(running) = &mut self.phase {
            running.calls.drain().for_each(|(_, call)| call.abort());
            running.calls_again.clear();
        }
    }
}

impl<S: Service> Work<S> {
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Input { told, .. } => &told.key,
            Self::Timer { key, .. } => key,
        }
    }
}
