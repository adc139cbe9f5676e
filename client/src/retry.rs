//! How long to wait between tries, and when to give up: exponential with
//! jitter, and bounded by a budget of time.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::Error;

/// The budget of everything that retries, unless it is told otherwise.
pub(crate) const BUDGET: Duration = Duration::from_mins(2);

const DELAY_MIN: Duration = Duration::from_millis(20);
const DELAY_MAX: Duration = Duration::from_secs(2);
/// What a server may ask for at most.
const ASKED_MAX: Duration = Duration::from_secs(10);

/// The tries since the last success.
#[derive(Debug)]
pub(crate) struct Backoff {
    budget: Duration,
    since: Option<Instant>,
    delays: ExponentialBackoff,
}

impl Backoff {
    pub(crate) fn new(budget: Duration) -> Self {
        Self { budget, since: None, delays: delays() }
    }

    /// Something worked: the next failure is a first one. Whether there was one before.
    pub(crate) fn reset(&mut self) -> bool {
        let has_failed = self.since.take().is_some();
        if has_failed {
            self.delays = delays();
        }
        has_failed
    }

    /// How long to wait after this failure. `None` when the budget is used up.
    pub(crate) fn after(&mut self, error: &Error) -> Option<Duration> {
        self.after_at(error, Instant::now())
    }

    fn after_at(&mut self, error: &Error, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let left = self.budget.checked_sub(now - since)?;
        let delay = self.delays.next().unwrap_or(DELAY_MAX);
        let asked = error.retry_after().unwrap_or_default().min(ASKED_MAX);
        (left > Duration::ZERO).then(|| delay.max(asked).min(left))
    }

    /// How long tries have gone on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(DELAY_MIN)
        .with_max_delay(DELAY_MAX)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn tries_end_with_the_budget_and_start_again_after_a_success() {
        let error = Error::local(ErrorKind::Unavailable, "gone");
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let start = Instant::now();
        let (mut now, mut tries) = (start, 0);
        while let Some(delay) = backoff.after_at(&error, now) {
            assert!(delay <= DELAY_MAX * 2, "{delay:?}");
            now += delay;
            tries += 1;
        }
        assert!((5..40).contains(&tries), "{tries}");
        assert_eq!(now - start, Duration::from_secs(10));
        backoff.reset();
        assert!(backoff.after_at(&error, now).is_some());
    }
}
