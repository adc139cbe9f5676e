//! Units come, are made again, and go.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    task::{Id, JoinError},
    time::Instant,
};

use super::{
    LoadEnd, Runtime,
    running::{Phase, Run, Running},
};
use crate::{
    ErrorKind,
    processor::{
        Cause, ProcessorError, Service, Timer,
        block::Held,
        core::UnitId,
        fail_point::{FailPoint, reach},
        load::{LaneLoad, Load, Loaded, Unloaded},
        settings::{OnMalformed, Settings},
        snapshot,
        timers::Timers,
    },
};

/// How long to wait before a state is made that could not be made.
const LOAD_PAUSE: Duration = Duration::from_millis(500);
/// Longer than anything waits.
const NEVER: Duration = Duration::from_hours(1);
/// The first pause after a step that failed; each next one is twice as long.
const TRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const TRY_PAUSE_MAX: Duration = Duration::from_secs(10);

impl<S: Service> Runtime<S> {
    /// Begins to make a unit's state. Its lanes stand at their cursors, unless these are to be asked for.
    pub(super) fn load(&mut self, unit: u32, asks_cursors: bool) {
        let Some(run) = self.units.get_mut(&unit) else { return };
        self.last_load += 1;
        run.phase = Phase::Loading(self.last_load);
        let lanes = run.lanes.iter().map(|key| {
            let lane = &self.lanes[key];
            let (topic, partition) = (Arc::clone(&self.inputs[key.0].name), key.1);
            let held = Held { topic, partition, epoch: lane.epoch };
            // What is in the queue came behind the cursor, and need not be read again.
            let came = lane.queue_from();
            LaneLoad { held, cursor: lane.cursor, came }
        });
        let load = Load {
            client: self.client.clone(),
            service: Arc::clone(&self.service),
            unit,
            co_partitions: self.co_partitions,
            lanes: lanes.collect(),
            asks_cursors,
            member: self.consumer.member_id().to_owned(),
            outputs: Arc::clone(&self.outputs),
            snapshot: self.snapshot_path(unit),
            skips_malformed: self.settings.on_malformed == OnMalformed::Skip,
            counters: Arc::clone(&self.counters),
        };
        let try_ = self.last_load;
        let task = self.loads.spawn(async move { (unit, try_, load.run().await) });
        self.load_of.insert(task.id(), (unit, try_));
    }

    pub(super) fn snapshot_path(&self, unit: u32) -> Option<std::path::PathBuf> {
        Some(snapshot::path(self.settings.snapshots.as_ref()?, self.service.name(), unit))
    }

    /// A load ended.
    pub(super) fn on_load(&mut self, ended: Result<(Id, LoadEnd<S::State>), JoinError>) -> Result<(), ProcessorError> {
        let (id, result) = match ended {
            Ok((id, (_, _, result))) => (id, Ok(result)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some((unit, try_)) = self.load_of.remove(&id) else { return Ok(()) };
        let is_current = |run: &Run<S>| matches!(run.phase, Phase::Loading(current) if current == try_);
        if !self.units.get(&unit).is_some_and(is_current) {
            return Ok(());
        }
        match result {
            Ok(Ok(loaded)) => {
                self.begin_unit(unit, loaded);
                Ok(())
            }
            Ok(Err(Unloaded::Malformed { place, malformed })) => Err(ProcessorError::Malformed { place, malformed }),
            Ok(Err(Unloaded::NotHeld)) => {
                // It is lost, which the group is about to say.
                self.fence(unit);
                Ok(())
            }
            Ok(Err(Unloaded::Broker(error))) => self.load_failed(unit, error),
            Err(panic) => self.load_panicked(unit, &panic),
        }
    }

    fn load_failed(&mut self, unit: u32, error: crate::Error) -> Result<(), ProcessorError> {
        use ErrorKind::{Exhausted, OutOfRange, OutcomeUnknown, Protocol, Unavailable};
        if !matches!(error.kind(), Unavailable | Exhausted | OutcomeUnknown | Protocol | OutOfRange) {
            return Err(ProcessorError::broker("make a state from the log")(error));
        }
        tracing::warn!(service = self.service.name(), unit, %error, "a state could not be made yet");
        if let Some(run) = self.units.get_mut(&unit) {
            run.phase = Phase::Waiting { until: Instant::now() + LOAD_PAUSE, asks_cursors: true };
        }
        Ok(())
    }

    fn load_panicked(&mut self, unit: u32, panic: &JoinError) -> Result<(), ProcessorError> {
        let Some(run) = self.units.get_mut(&unit) else { return Ok(()) };
        let first = run.lanes[0];
        let cause = Cause::Input {
            topic: self.inputs[first.0].name.to_string(),
            partition: first.1,
            offset: self.lanes.get(&first).map_or(0, |lane| lane.cursor),
        };
        let wrong = format!("making the state of unit {unit} from the log: {panic}");
        let pause = self.failed(unit, String::new(), cause, wrong)?;
        if let Some(run) = self.units.get_mut(&unit) {
            run.phase = Phase::Waiting { until: Instant::now() + pause, asks_cursors: false };
        }
        Ok(())
    }

    /// Counts a failure of a step. Gives how long to wait before it is tried again.
    ///
    /// **Errors**: it has failed too often.
    pub(super) fn failed(
        &mut self,
        unit: u32,
        key: String,
        cause: Cause,
        wrong: String,
    ) -> Result<Duration, ProcessorError> {
        self.counters.failed_tries.add(1);
        let Some(run) = self.units.get_mut(&unit) else { return Ok(TRY_PAUSE) };
        run.count_failure(&self.settings, self.service.name(), key, cause, wrong)
    }

    fn begin_unit(&mut self, unit: u32, loaded: Loaded<S::State>) {
        let Some(run) = self.units.get_mut(&unit) else { return };
        let (mut lanes, mut last_times) = (Vec::new(), Vec::new());
        for (key, lane_loaded) in run.lanes.iter().zip(loaded.lanes) {
            let Some(lane) = self.lanes.get_mut(key) else { return };
            lane.begin(lane_loaded.cursor, lane_loaded.refill);
            let held = Held { topic: Arc::clone(&self.inputs[key.0].name), partition: key.1, epoch: lane.epoch };
            lanes.push((held, lane_loaded.cursor));
            last_times.push(lane_loaded.time);
        }
        run.forget_failures(&lanes, &loaded.timers);
        let id = self.core.add(lanes);
        self.unit_of.insert(id, unit);
        if let Some(newest) = &loaded.newest_id {
            self.ids.above(newest);
        }
        let mut timers = Timers::default();
        for (key, timer) in loaded.timers {
            timers.set(&key, Some(timer));
        }
        run.phase = Phase::Running(Box::new(Running {
            id,
            state: loaded.state,
            timers,
            turn: 0,
            calls: HashMap::new(),
            calls_again: Vec::new(),
            waits_for_room: false,
            blocked_until: None,
            blocks_in_log: 0,
            own: loaded.own,
            times: last_times,
            newest_id: loaded.newest_id,
            node_id: loaded.node_id,
            incarnation: loaded.incarnation,
            steps_unsaved: Some(0),
            saving: None,
        }));
        self.counters.rebuilds.add(1);
        self.count_units();
        self.wake(unit);
    }

    /// Drops the steps of a unit that are not decided.
    pub(super) fn drop_open(&mut self, unit: u32) {
        if let Some(run) = self.units.get_mut(&unit) {
            run.drop_open(&mut self.core);
        }
    }

    /// A unit's state is not to be trusted: it is made again from the log, not before a time.
    pub(super) fn reload(&mut self, unit: u32, asks_cursors: bool, pause: Duration) {
        let Some(run) = self.units.get_mut(&unit) else { return };
        run.abort_calls();
        let Some(id) = run.id() else { return };
        if let Some(order) = self.core.unit_mut(id) {
            order.stop();
        }
        run.phase = Phase::Settling { id, asks_cursors, not_before: Instant::now() + pause };
        self.count_units();
        self.settled(unit);
    }

    /// Whether everything of a unit that settles is answered: then its cursors are known. It is loaded, or ends when a
    /// lane of it is gone.
    pub(super) fn settled(&mut self, unit: u32) {
        let Some(run) = self.units.get(&unit) else { return };
        let Phase::Settling { id, asks_cursors, not_before } = run.phase else { return };
        let Some(order) = self.core.unit(id).filter(|order| order.in_flight() == 0) else { return };
        let lanes = run.lanes.clone();
        for (index, key) in lanes.iter().enumerate() {
            // One that came anew meanwhile stands where the group says.
            if let Some(lane) = self.lanes.get_mut(key).filter(|lane| lane.epoch == order.held()[index].epoch) {
                lane.cursor = order.lane(index).acked;
                lane.forget();
            }
        }
        self.core.remove(id);
        self.unit_of.remove(&id);
        for key in &lanes {
            self.let_go(*key);
        }
        let is_whole = lanes.iter().all(|key| self.lanes.get(key).is_some_and(|lane| !lane.is_fenced));
        match self.units.get_mut(&unit) {
            Some(run) if is_whole => run.phase = Phase::Waiting { until: not_before, asks_cursors },
            _ => self.drop_unit(unit),
        }
        self.wake(unit);
    }

    /// A unit that waits is loaded when its time has come.
    pub(super) fn load_if_due(&mut self, unit: u32) {
        let Some(run) = self.units.get(&unit) else { return };
        let Phase::Waiting { until, asks_cursors } = run.phase else { return };
        if Instant::now() >= until && run.drain_until.is_none() && self.stopping.is_none() {
            self.load(unit, asks_cursors);
        }
    }

    /// A unit that is asked back is given back when nothing of it is open.
    pub(super) fn give_back_if_done(&mut self, unit: u32) {
        let Some(run) = self.units.get_mut(&unit) else { return };
        let Some(until) = run.drain_until else { return };
        if Instant::now() >= until {
            // What is decided comes to the log all the same.
            run.drop_open(&mut self.core);
            run.drain_until = Some(Instant::now() + NEVER);
        }
        let Some(run) = self.units.get(&unit).filter(|run| run.is_idle(&self.core)) else { return };
        let lanes = run.lanes.clone();
        reach(FailPoint::BeforeRelease);
        self.drop_unit(unit);
        self.give_back(&lanes);
    }

    /// The server refused what a unit did: a lane of it is held no longer, which the group says sooner or later.
    pub(super) fn fence(&mut self, unit: u32) {
        let Some(run) = self.units.get_mut(&unit) else { return };
        if !matches!(run.phase, Phase::Settling { .. }) {
            for key in &run.lanes {
                if let Some(lane) = self.lanes.get_mut(key) {
                    lane.is_fenced = true;
                }
            }
        }
        match run.phase {
            Phase::Running(_) => self.reload(unit, false, Duration::ZERO),
            Phase::Settling { .. } => self.settled(unit),
            Phase::Loading(_) | Phase::Waiting { .. } => self.drop_unit(unit),
        }
    }

    /// A lane of a unit is lost: what is left of it ends, when it is known where it stands.
    pub(super) fn lane_lost(&mut self, unit: u32) {
        let lanes = self.lanes_of(unit);
        for key in &lanes {
            if let Some(lane) = self.lanes.get_mut(key) {
                // The group has said what there was to say.
                lane.is_fenced = false;
            }
        }
        let Some(run) = self.units.get(&unit) else { return };
        let is_any_left = lanes.iter().any(|key| self.lanes.contains_key(key));
        match run.phase {
            // Without a lane nothing of it comes to the log any more, and who has it next sees what has.
            _ if !is_any_left => self.drop_unit(unit),
            Phase::Running(_) => self.reload(unit, false, Duration::ZERO),
            Phase::Settling { .. } => self.settled(unit),
            Phase::Loading(_) | Phase::Waiting { .. } => self.drop_unit(unit),
        }
    }

    /// Forgets a unit with everything that is not in the log.
    pub(super) fn drop_unit(&mut self, unit: u32) {
        let Some(mut run) = self.units.remove(&unit) else { return };
        run.abort_calls();
        if let Some(id) = run.id() {
            self.core.remove(id);
            self.unit_of.remove(&id);
        }
        self.counters.rebalances.add(1);
        self.count_units();
    }

    fn count_units(&self) {
        let running = self.units.values().filter(|run| matches!(run.phase, Phase::Running(_)));
        self.counters.units.set(running.count() as u64);
    }

    /// The unit of this piece, when it is still there.
    pub(super) fn unit_by_id(&self, id: UnitId) -> Option<u32> {
        self.unit_of.get(&id).copied()
    }
}

impl<S: Service> Run<S> {
    /// Its state was made again: steps that are not begun again have failed for the last time. These are before the
    /// cursors, or of timers that are gone.
    fn forget_failures(&mut self, lanes: &[(Held, u64)], timers: &[(String, Timer)]) {
        self.failed.retain(|cause, _| match cause {
            Cause::Input { topic, partition, offset } => lanes.iter().any(|(held, cursor)| {
                (&*held.topic, held.partition) == (topic.as_str(), *partition) && offset >= cursor
            }),
            Cause::Timer { name } => timers.iter().any(|(key, timer)| *name == format!("{}:{key}", timer.name)),
        });
    }

    /// See [`Runtime::failed`].
    pub(super) fn count_failure(
        &mut self,
        settings: &Settings,
        service: &str,
        key: String,
        cause: Cause,
        wrong: String,
    ) -> Result<Duration, ProcessorError> {
        // Each step's own: many fail at the same time when something fails that all of them call.
        let tries = self.failed.get(&cause).copied().unwrap_or(0) + 1;
        if tries >= settings.tries {
            return Err(ProcessorError::Failed { service: service.to_owned(), key, cause, tries, wrong });
        }
        tracing::warn!(service, key, tries, wrong, "a step failed, and is tried again");
        self.failed.insert(cause, tries);
        Ok((TRY_PAUSE * 2_u32.saturating_pow(tries - 1)).min(TRY_PAUSE_MAX))
    }
}
