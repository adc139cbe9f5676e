//! Times: when a timer is due, and when something has to be looked at again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::{
    Runtime,
    running::{Phase, Run, Work},
};
use crate::processor::{
    Service,
    fail_point::{FailPoint, reach},
};

/// Nothing waits for longer without being looked at.
const WAKE_MAX: Duration = Duration::from_mins(1);

/// Microseconds since 1970.
pub(super) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

impl<S: Service> Runtime<S> {
    /// Begins the step of a timer that is due.
    pub(super) fn begin_timer(&mut self, run: &mut Run<S>) -> bool {
        let Phase::Running(running) = &mut run.phase else { return false };
        if running.timers.is_empty() {
            return false;
        }
        let Some(order) = self.core.unit(running.id) else { return false };
        let Some((key, timer)) = running.timers.take_due(now_us(), |key| !order.is_busy(key)) else { return false };
        reach(FailPoint::TimerDue);
        self.counters.timers_fired.add(1);
        self.open(run, None, Work::Timer { key, timer }, true);
        true
    }

    /// When something has to be looked at that nobody tells.
    pub(super) fn wake_at(&mut self) -> Instant {
        let now = Instant::now();
        let mut wake = now + WAKE_MAX;
        let stopping = self.stopping.as_ref().map(|stopping| stopping.until);
        // Without room for an append the next answer is waited for.
        let cursors_due = self.cursors_due.filter(|_| self.free_window().is_some());
        for time in [self.paused_until, cursors_due, stopping, self.stalled_until()].into_iter().flatten() {
            wake = wake.min(time);
        }
        let is_ending = self.stopping.is_some();
        for run in self.units.values_mut() {
            if let Some(due) = run.due(now, is_ending) {
                wake = wake.min(due);
            }
        }
        wake
    }

    /// A time has come: every unit that waited for it has something to do.
    pub(super) fn on_time(&mut self) {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| now >= until) {
            self.paused_until = None;
        }
        self.stop_if_stalled();
        let is_ending = self.stopping.is_some();
        let is_due = |run: &mut Run<S>| run.due(now, is_ending).is_some_and(|due| due <= now);
        let due: Vec<u32> = self.units.values_mut().filter_map(|run| is_due(run).then_some(run.key)).collect();
        for key in due {
            self.wake(key);
        }
    }
}

impl<S: Service> Run<S> {
    /// When it has to be looked at again.
    fn due(&mut self, now: Instant, is_ending: bool) -> Option<Instant> {
        let mut due = self.drain_until;
        let mut add = |time: Option<Instant>| due = [due, time].into_iter().flatten().min();
        match &mut self.phase {
            Phase::Loading(_) | Phase::Settling { .. } => {}
            // What ends is not loaded any more.
            Phase::Waiting { until, .. } => add(Some(*until).filter(|_| !is_ending)),
            Phase::Running(running) => {
                add(running.blocked_until);
                add(running.calls_again.iter().map(|(at, _)| *at).min());
                // A timer that has to wait for something else is looked at when that is there.
                if running.calls.is_empty()
                    && !running.waits_for_room
                    && running.blocked_until.is_none()
                    && let Some(due_us) = running.timers.next_due_us()
                {
                    let left = u64::try_from(due_us.saturating_sub(now_us())).unwrap_or(0);
                    add(Some(now + Duration::from_micros(left).min(WAKE_MAX)));
                }
            }
        }
        due
    }
}
