//! Inputs that cannot go on: a service that cannot read must not look as if it had nothing to do.
//!
//! What came before is done with first. Then the processor ends and names the place: at once when nobody expects it to
//! go on, as with damaged data, and otherwise when it has not gone on for as long as a broker is waited for.

use tokio::time::Instant;

use super::{Runtime, holding::LaneKey, running::Run};
use crate::{
    Error, HeldPartition,
    processor::{Place, ProcessorError, Service},
};

/// Why nothing more comes of a partition.
pub(super) struct Stall {
    error: Error,
    /// It is not waited for any longer.
    until: Instant,
}

impl<S: Service> Runtime<S> {
    /// The server says that a partition cannot go on.
    pub(super) fn on_stalled(&mut self, given: &HeldPartition, error: Error) {
        let HeldPartition { topic, partition, .. } = given;
        let Some(key) = self.lane_key(topic, *partition) else { return };
        let until = Instant::now() + self.settings.retry_for;
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.epoch == given.assignment_epoch) else { return };
        tracing::warn!(service = self.service.name(), %topic, partition, %error, "an input cannot go on");
        // Said again, it has not begun again.
        let until = lane.stalled.take().map_or(until, |known| known.until);
        lane.stalled = Some(Stall { error, until });
        self.wake(self.unit_key(key));
    }

    /// Everything of a lane is taken in.
    ///
    /// **Errors**: nothing more will come, and everything before is decided.
    pub(super) fn check_stalled(&self, run: &Run<S>, lane: usize) -> Result<(), ProcessorError> {
        let key = run.lanes[lane];
        let Some(stall) = self.lanes.get(&key).and_then(|lane| lane.stalled.as_ref()) else { return Ok(()) };
        let is_final = !stall.error.is_retryable();
        let order = run.id().and_then(|id| self.core.unit(id));
        if order.is_some_and(|order| is_final && order.is_current()) {
            return Err(self.unreadable(key, stall));
        }
        Ok(())
    }

    /// When the first stalled lane is not waited for any longer.
    pub(super) fn stalled_until(&self) -> Option<Instant> {
        let stalls = self.lanes.values().filter_map(|lane| lane.stalled.as_ref());
        stalls.map(|stall| stall.until).min().filter(|_| self.stopping.is_none())
    }

    /// Ends the processor when a lane was waited for in vain.
    pub(super) fn stop_if_stalled(&mut self) {
        let now = Instant::now();
        if self.stalled_until().is_none_or(|until| now < until) {
            return;
        }
        let mut stalls = self.lanes.iter().filter_map(|(key, lane)| Some((*key, lane.stalled.as_ref()?)));
        let late = stalls.find(|(_, stall)| now >= stall.until);
        if let Some(error) = late.map(|(key, stall)| self.unreadable(key, stall)) {
            self.begin_stop(Some(error));
        }
    }

    fn unreadable(&self, key: LaneKey, stall: &Stall) -> ProcessorError {
        let offset = self.lanes.get(&key).map_or(0, |lane| lane.came);
        let place = Place { topic: self.inputs[key.0].name.clone(), partition: key.1, offset };
        ProcessorError::Unreadable { place, error: stall.error.clone() }
    }
}
