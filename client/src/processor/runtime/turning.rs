//! Units are made again, given back, and go.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Runtime,
    running::{Phase, Run},
};
use crate::processor::{
    Cause, ProcessorError, Service,
    core::UnitId,
    fail_point::{FailPoint, reach},
    settings::Settings,
};

/// Longer than anything waits.
const NEVER: Duration = Duration::from_hours(1);
/// The first pause after a step that failed; each next one is twice as long.
const TRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const TRY_PAUSE_MAX: Duration = Duration::from_secs(10);

impl<S: Service> Runtime<S> {
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

    pub(super) fn count_units(&self) {
        let running = self.units.values().filter(|run| matches!(run.phase, Phase::Running(_)));
        self.counters.units.set(running.count() as u64);
    }

    /// The unit of this piece, when it is still there.
    pub(super) fn unit_by_id(&self, id: UnitId) -> Option<u32> {
        self.unit_of.get(&id).copied()
    }
}

impl<S: Service> Run<S> {
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
