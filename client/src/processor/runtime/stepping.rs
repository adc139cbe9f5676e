//! Steps: an input is observed, its calls are made, it is decided, and what was said is applied and put where the next
//! append finds it.
//!
//! Here is whose turn it is; [`hearing`](super::hearing) begins steps, [`deciding`](super::deciding) makes them.
//! Whatever a service does, it is caught: a step that fails or panics is tried again with growing pauses. When it may
//! have left the state half changed, the state is made again first.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Runtime,
    running::{Phase, Run, Running, Work},
};
use crate::processor::{Cause, ProcessorError, Service};

/// Steps of one unit before the others have their turn.
const SLICE: usize = 256;
/// Steps of one unit that are begun and not decided, at most.
const OPEN_STEPS_MAX: usize = 8_192;
/// No step is begun while so many bytes of outputs are not sent.
const UNSENT_BYTES_MAX: usize = 8 << 20;

/// How a unit goes on.
pub(super) enum Flow {
    /// It has more to do.
    More,
    /// Something has to happen first.
    Rest,
    /// Its state is made again, after a pause.
    Reload(Duration),
}

impl<S: Service> Runtime<S> {
    /// Goes on with a unit, a slice.
    pub(super) fn advance(&mut self, key: u32) -> Result<(), ProcessorError> {
        self.load_if_due(key);
        if let Some(mut run) = self.units.remove(&key) {
            let flow = match &mut run.phase {
                Phase::Running(_) => self.slice(&mut run),
                _ => Ok(Flow::Rest),
            };
            self.units.insert(key, run);
            // A snapshot that was just taken may stand for nothing that is on its way.
            self.save_if_marked(key);
            match flow? {
                Flow::More => self.wake(key),
                Flow::Rest => {}
                Flow::Reload(pause) => self.reload(key, false, pause),
            }
        }
        self.settled(key);
        self.give_back_if_done(key);
        Ok(())
    }

    fn slice(&mut self, run: &mut Run<S>) -> Result<Flow, ProcessorError> {
        let is_full = self.core.unsent_bytes() >= UNSENT_BYTES_MAX;
        if let Phase::Running(running) = &mut run.phase {
            running.turn = (running.turn + 1) % run.lanes.len();
        }
        for _ in 0..SLICE {
            let flow = self.step(run, is_full)?;
            if !matches!(flow, Flow::More) {
                // Whatever waited for the snapshot goes on.
                let is_taken = matches!(flow, Flow::Rest) && self.take_snapshot(run);
                return Ok(if is_taken { Flow::More } else { flow });
            }
        }
        Ok(Flow::More)
    }

    /// Decides what is next, or begins what can be begun.
    fn step(&mut self, run: &mut Run<S>, is_full: bool) -> Result<Flow, ProcessorError> {
        let Phase::Running(running) = &mut run.phase else { return Ok(Flow::Rest) };
        let id = running.id;
        self.make_calls_again(run)?;
        let Phase::Running(running) = &mut run.phase else { return Ok(Flow::Rest) };
        if running.blocked_until.is_some_and(|until| Instant::now() < until) {
            return Ok(Flow::Rest);
        }
        running.blocked_until = None;
        let Some(order) = self.core.unit_mut(id) else { return Ok(Flow::Rest) };
        if order.next_to_decide().is_some() {
            return self.decide_next(run);
        }
        let open_steps = order.open_steps();
        let is_full = is_full || open_steps >= OPEN_STEPS_MAX || self.call_of.len() >= self.settings.calls_in_flight;
        let is_ending = self.stopping.is_some() || run.drain_until.is_some();
        running.waits_for_room = is_full || is_ending || running.saving_waits();
        if running.waits_for_room {
            return Ok(Flow::Rest);
        }
        if self.begin_timer(run) {
            return Ok(Flow::More);
        }
        self.take_in(run)
    }

    pub(super) fn count_failure(
        &self,
        run: &mut Run<S>,
        key: String,
        cause: Cause,
        wrong: String,
    ) -> Result<Duration, ProcessorError> {
        self.counters.failed_tries.add(1);
        run.count_failure(&self.settings, self.service.name(), key, cause, wrong)
    }

    pub(super) fn cause(&self, run: &Run<S>, work: &Work<S>) -> Cause {
        match work {
            Work::Input { lane, offset, .. } => self.cause_of(run, *lane, *offset),
            Work::Timer { key, timer } => Cause::Timer { name: format!("{}:{key}", timer.name) },
        }
    }

    pub(super) fn cause_of(&self, run: &Run<S>, lane: usize, offset: u64) -> Cause {
        let (input, partition) = run.lanes[lane];
        Cause::Input { topic: self.inputs[input].name.to_string(), partition, offset }
    }
}

impl<S: Service> Running<S> {
    /// A snapshot waits until every step that was begun is decided.
    fn saving_waits(&self) -> bool {
        matches!(self.saving, Some(super::running::Saving::Wanted))
    }
}

/// The next step of a unit failed: it waits.
pub(super) fn block<S: Service>(run: &mut Run<S>, pause: Duration) {
    if let Phase::Running(running) = &mut run.phase {
        running.blocked_until = Some(Instant::now() + pause);
    }
}
