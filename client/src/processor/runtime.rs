//! The runtime of a processor: one task that hears of everything that happens, and makes the steps between.
//!
//! [`holding`] knows what the group gave and [`stalling`] what of it cannot go on, [`running`] is a unit that has a
//! state, [`stepping`] makes steps with [`hearing`] and [`deciding`], [`sending`] puts them into the log, [`loading`]
//! gives units their state, [`turning`] makes it again and gives units back, [`saving`] keeps snapshots. What may be
//! sent, and what becomes of it, is decided in the core.

mod begin;
mod holding;
mod stalling;
mod running;
mod stepping;
mod hearing;
mod deciding;
mod calling;
mod timing;
mod sending;
mod loading;
mod turning;
mod saving;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::{self, JoinSet},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    ProcessorError, Service,
    block::Said,
    core::{AppendLimits, Core, UnitId},
    fail_point::{FailPoint, reach},
    identity::Ids,
    line::Line,
    load::{Loaded, Unloaded},
    output::OutputTopic,
    settings::Settings,
    statistics::Counters,
};
use crate::{Client, Consumer, Error, ErrorKind, ProducerIdentity, retry::Backoff};
use holding::{Lane, LaneKey};
use running::{Phase, Run, Work};

/// Whoever was taken over waits so long for the answers to its last appends.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// A topic that the service hears.
#[derive(Clone, Debug)]
struct Input {
    name: Arc<str>,
    partitions: u32,
}

/// What an ended load says: of which unit, which try, and how it went.
type LoadEnd<T> = (u32, u64, Result<Loaded<T>, Unloaded>);

/// See the head of this file.
pub(super) struct Runtime<S: Service> {
    settings: Settings,
    client: Client,
    service: Arc<S>,
    /// How many partitions the inputs have each, when partition i of all goes together.
    co_partitions: Option<u32>,
    inputs: Vec<Input>,
    outputs: Arc<[OutputTopic]>,
    output_names: Vec<String>,
    limits: AppendLimits,
    consumer: Consumer,
    line: Line,
    producer: ProducerIdentity,
    /// The newest incarnation of the broker that was seen: what is in the log by now is of it, or of an older one.
    incarnation: u64,
    core: Core<Work<S>>,
    /// What the group gave.
    lanes: BTreeMap<LaneKey, Lane>,
    /// Units of which all lanes are there, by partition or 0.
    units: BTreeMap<u32, Run<S>>,
    unit_of: HashMap<UnitId, u32>,
    /// Units that may have something to do, each once.
    ready: VecDeque<u32>,
    calls: JoinSet<Vec<S::Answer>>,
    call_of: HashMap<task::Id, (u32, UnitId, u64)>,
    loads: JoinSet<LoadEnd<S::State>>,
    load_of: HashMap<task::Id, (u32, u64)>,
    last_load: u64,
    saves: JoinSet<(u32, io::Result<()>)>,
    /// Units of which a snapshot is being written.
    saving: BTreeSet<u32>,
    ids: Ids,
    said: Said,
    counters: Arc<Counters>,
    append_id: u64,
    /// Nothing is appended before this: the server said "not now".
    paused_until: Option<Instant>,
    pauses: Backoff,
    /// Cursors that nothing was said for go to the log then.
    cursors_due: Option<Instant>,
    stopping: Option<Stopping>,
}

/// The processor ends: what is in hand is finished.
struct Stopping {
    until: Instant,
    /// Why, when nobody asked for it.
    error: Option<ProcessorError>,
}

impl<S: Service> Runtime<S> {
    pub(super) async fn run(mut self, stop: impl Future<Output = ()> + Send) -> Result<(), ProcessorError> {
        match self.follow(stop).await {
            Ok(()) => self.leave().await,
            Err(error) => {
                tracing::error!(service = self.service.name(), %error, "processor ends");
                // Others need not wait for the session's end. Whoever was taken over has nothing to leave; what became
                // of its last appends is counted.
                if matches!(error, ProcessorError::TakenOver { .. }) {
                    let _ = timeout(LAST_ANSWERS_WITHIN, self.hear_out()).await;
                } else {
                    let _ = timeout(self.settings.stop_within, self.consumer.close()).await;
                }
                Err(error)
            }
        }
    }

    /// Takes the answers to what is in flight.
    async fn hear_out(&mut self) {
        while self.core.flight().in_flight() > 0 {
            let event = self.line.next().await;
            if self.on_line(event).is_err() {
                return;
            }
        }
    }

    async fn follow(&mut self, stop: impl Future<Output = ()> + Send) -> Result<(), ProcessorError> {
        let mut stop = std::pin::pin!(stop);
        loop {
            self.work();
            if self.stopping.is_some() && (self.is_finished() || self.is_late()) {
                return Ok(());
            }
            let wake = self.wake_at();
            let has_work = !self.ready.is_empty();
            let is_stopping = self.stopping.is_some();
            tokio::select! {
                event = self.line.next() => self.on_line(event)?,
                event = self.consumer.next_event() => self.on_event(event)?,
                Some(ended) = self.calls.join_next_with_id(), if !self.calls.is_empty() => self.on_call(ended)?,
                Some(ended) = self.loads.join_next_with_id(), if !self.loads.is_empty() => self.on_load(ended)?,
                Some(ended) = self.saves.join_next(), if !self.saves.is_empty() => self.on_saved(ended),
                () = sleep_until(wake) => self.on_time(),
                () = &mut stop, if !is_stopping => self.begin_stop(None),
                () = std::future::ready(()), if has_work => {}
            }
        }
    }

    /// Goes on with every unit that has something to do, and sends what came of it.
    fn work(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { break };
            if let Err(error) = self.advance(key) {
                // What is decided still goes to the log, and then it ends.
                self.drop_open(key);
                self.begin_stop(Some(error));
            }
        }
        self.send();
        self.gauge();
    }

    /// What is going on now, for whoever watches.
    fn gauge(&self) {
        let (mut steps, mut timers) = (0, 0);
        for run in self.units.values() {
            if let Phase::Running(running) = &run.phase {
                steps += self.core.unit(running.id).map_or(0, |unit| unit.open_steps() + unit.in_flight());
                timers += running.timers.len();
            }
        }
        self.counters.steps_in_flight.set(steps as u64);
        self.counters.appends_in_flight.set(self.core.flight().in_flight() as u64);
        self.counters.timers.set(timers as u64);
        self.counters.stalled.set(self.lanes.values().filter(|lane| lane.stalled.is_some()).count() as u64);
    }

    /// A unit may have something to do.
    fn wake(&mut self, key: u32) {
        if !self.ready.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// There is room again: units that waited for it have something to do.
    fn wake_waiting(&mut self) {
        let waits = |run: &Run<S>| matches!(&run.phase, Phase::Running(running) if running.waits_for_room);
        let waiting: Vec<u32> = self.units.values().filter(|run| waits(run)).map(|run| run.key).collect();
        for key in waiting {
            self.wake(key);
        }
    }

    fn wake_all(&mut self) {
        for key in self.units.keys().copied().collect::<Vec<_>>() {
            self.wake(key);
        }
    }

    /// Finishes what is in hand, and then ends.
    fn begin_stop(&mut self, error: Option<ProcessorError>) {
        if let Some(error) = &error {
            tracing::error!(service = self.service.name(), %error, "processor stops");
        }
        let until = Instant::now() + self.settings.stop_within;
        match &mut self.stopping {
            Some(stopping) => stopping.error = stopping.error.take().or(error),
            None => self.stopping = Some(Stopping { until, error }),
        }
        self.wake_all();
    }

    fn is_late(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| Instant::now() >= stopping.until)
    }

    /// Everything that was begun is in the log.
    fn is_finished(&self) -> bool {
        self.core.flight().is_empty() && self.units.values().all(|run| run.is_idle(&self.core))
    }

    /// The last steps: snapshots, and the group is left.
    async fn leave(mut self) -> Result<(), ProcessorError> {
        let stopping = self.stopping.take();
        if self.is_finished() {
            self.save_all();
        }
        let until = stopping.as_ref().map_or_else(Instant::now, |stopping| stopping.until);
        while let Ok(Some(ended)) = timeout_at(until, self.saves.join_next()).await {
            self.on_saved(ended);
        }
        if !self.saves.is_empty() {
            // The older ones stay until these are whole: nothing depends on them.
            self.counters.snapshots_failed.add(self.saves.len() as u64);
            tracing::warn!(service = self.service.name(), left = self.saves.len(), "snapshots are not waited for");
        }
        reach(FailPoint::BeforeLeave);
        let late = || Err(Error::local(ErrorKind::Unavailable, "leave the group: no answer in time"));
        let left = timeout(self.settings.stop_within, self.consumer.close()).await.unwrap_or_else(|_| late());
        match stopping.and_then(|stopping| stopping.error) {
            Some(error) => Err(error),
            None => left.map_err(ProcessorError::broker("leave the group")),
        }
    }
}
