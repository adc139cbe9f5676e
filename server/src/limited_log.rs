//! Log lines that may come often: one a minute of each kind, with how many there were meanwhile.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::notices::TARGET;

const EVERY: Duration = Duration::from_mins(1);

/// When each kind was logged last, and how often it came since.
#[derive(Debug, Default)]
pub(crate) struct LimitedLog {
    kinds: Mutex<BTreeMap<&'static str, (Instant, u64)>>,
}

impl LimitedLog {
    /// Logs a warning, unless one of its kind was logged within the last minute. The text is made only when it is
    /// logged.
    pub(crate) fn warn(&self, kind: &'static str, text: impl FnOnce() -> String) {
        if let Some(suppressed) = self.is_due(kind, Instant::now()) {
            tracing::warn!(target: TARGET, suppressed, "{kind}: {}", text());
        }
    }

    /// How many were not logged since the last one, when this one is to be.
    fn is_due(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock();
        match kinds.get_mut(kind) {
            Some((last, suppressed)) if now.duration_since(*last) < EVERY => {
                *suppressed += 1;
                None
            }
            Some(entry) => Some(std::mem::replace(entry, (now, 0)).1),
            None => {
                kinds.insert(kind, (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_minute_of_each_kind_is_logged_and_the_others_are_counted() {
        let (log, now) = (LimitedLog::default(), Instant::now());
        assert_eq!(log.is_due("a", now), Some(0));
        assert_eq!((log.is_due("a", now), log.is_due("b", now), log.is_due("a", now)), (None, Some(0), None));
        assert_eq!(log.is_due("a", now + EVERY), Some(2));
    }
}
