//! Units get their state: it is loaded beside the work, and what hinders that is tried again or ends the processor.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    task::{Id, JoinError},
    time::Instant,
};

use super::{
    LoadEnd, Runtime,
    running::{Phase, Run, Running, Unloadable},
};
use crate::{
    Error, ErrorKind,
    processor::{
        Cause, Place, ProcessorError, Service, Timer,
        block::Held,
        load::{LaneLoad, Load, Loaded, Unloaded},
        settings::OnMalformed,
        snapshot,
        timers::Timers,
    },
};

/// How long to wait before a state is made that could not be made.
const LOAD_PAUSE: Duration = Duration::from_millis(500);

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

    pub(super) fn snapshot_path(&self, unit: u32) -> Option<PathBuf> {
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
            Ok(Err(Unloaded::Broker(error))) => self.load_failed(unit, None, error),
            Ok(Err(Unloaded::Unreadable { place, error })) => self.load_failed(unit, Some(place), error),
            Ok(Err(Unloaded::Panicked { place, key, wrong })) => self.load_panicked(unit, &place, key, &wrong),
            Err(panic) => {
                // No record was in hand: a default, or the timers of the whole state.
                let Some(first) = self.units.get(&unit).map(|run| run.lanes[0]) else { return Ok(()) };
                let offset = self.lanes.get(&first).map_or(0, |lane| lane.cursor);
                let place = Place { topic: Arc::clone(&self.inputs[first.0].name), partition: first.1, offset };
                self.load_panicked(unit, &place, String::new(), &panic.to_string())
            }
        }
    }

    /// The log could not be read, at a place when that is known. It is tried again: for as long as a broker is waited
    /// for when that may help by itself, and a few times when the cursors may be elsewhere by now, or what came was cut
    /// short.
    fn load_failed(&mut self, unit: u32, place: Option<Place>, error: Error) -> Result<(), ProcessorError> {
        use ErrorKind::{Exhausted, OutOfRange, OutcomeUnknown, Protocol, Unavailable};
        let Some(run) = self.units.get_mut(&unit) else { return Ok(()) };
        let now = Instant::now();
        let unloaded = run.unloaded.get_or_insert(Unloadable { since: now, tries: 0 });
        unloaded.tries += 1;
        let (is_left, place) = match error.kind() {
            Unavailable | Exhausted | OutcomeUnknown => (now - unloaded.since < self.settings.retry_for, None),
            Protocol | OutOfRange => (unloaded.tries < self.settings.tries, place),
            _ => (false, place),
        };
        if !is_left {
            return Err(match place {
                Some(place) => ProcessorError::Unreadable { place, error },
                None => ProcessorError::broker("make a state from the log")(error),
            });
        }
        tracing::warn!(service = self.service.name(), unit, %error, "a state could not be made yet");
        run.phase = Phase::Waiting { until: now + LOAD_PAUSE, asks_cursors: true };
        Ok(())
    }

    fn load_panicked(&mut self, unit: u32, place: &Place, key: String, wrong: &str) -> Result<(), ProcessorError> {
        let Place { topic, partition, offset } = place;
        let cause = Cause::Input { topic: topic.to_string(), partition: *partition, offset: *offset };
        let wrong = format!("making the state of unit {unit} from the log: {wrong}");
        let pause = self.failed(unit, key, cause, wrong)?;
        if let Some(run) = self.units.get_mut(&unit) {
            run.phase = Phase::Waiting { until: Instant::now() + pause, asks_cursors: false };
        }
        Ok(())
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
        self.incarnation = self.incarnation.max(loaded.incarnation);
        run.unloaded = None;
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
            steps_unsaved: Some(0),
            saving: None,
        }));
        self.counters.rebuilds.add(1);
        self.count_units();
        self.wake(unit);
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
}
