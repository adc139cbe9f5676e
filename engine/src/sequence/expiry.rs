//! When producers that stated an idle time are forgotten.
//!
//! Idle time is counted by this process's own monotonic clock: a wall clock that jumps forgets no producer early, and
//! one that stands still keeps none. After a restart a producer has what was left of its time, and at least an hour of
//! it (or all of it, when it is shorter), since the clock at the start may be wrong. Nothing here is durable: that a
//! producer was forgotten is a frame.

use std::collections::{BTreeMap, BTreeSet};

use crate::{id::ProducerId, table::Applied};

/// What is left at least after a restart, in microseconds.
const GRACE_US: u64 = 60 * 60 * 1_000_000;

/// Producers looked at in one step at most.
const LOOKS_MAX: usize = 1_024;

/// The producers that can expire.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// Their idle time and their last append, by the monotonic clock.
    producers: BTreeMap<ProducerId, Idle>,
    /// When each is looked at; its time may have begun again since.
    due: BTreeSet<(u64, ProducerId)>,
    is_started: bool,
}

#[derive(Clone, Copy, Debug)]
struct Idle {
    limit_us: u64,
    since_us: u64,
}

impl Expiry {
    /// Takes over what is registered at the start, once. `time_us` is the time of the log.
    pub(super) fn start(&mut self, applied: &Applied, now_us: u64, time_us: i64) {
        if std::mem::replace(&mut self.is_started, true) {
            return;
        }
        for row in applied.producers.values().filter(|row| row.idle_expiry_us > 0) {
            let limit_us = row.idle_expiry_us;
            let idle_us = u64::try_from(time_us.saturating_sub(row.last_us)).unwrap_or(0);
            let left_us = limit_us.saturating_sub(idle_us).max(GRACE_US.min(limit_us));
            // Its time began that long ago; where the clock does not reach back so far, it is looked at again.
            let since_us = (now_us + left_us).saturating_sub(limit_us);
            self.producers.insert(row.id, Idle { limit_us, since_us });
            self.due.insert((now_us + left_us, row.id));
        }
    }

    /// A producer was registered, or appends: its time begins again. One that states no idle time never expires.
    pub(super) fn begin(&mut self, producer: ProducerId, limit_us: u64, now_us: u64) {
        if limit_us == 0 {
            self.producers.remove(&producer);
            return;
        }
        let known = self.producers.insert(producer, Idle { limit_us, since_us: now_us });
        if known.is_none_or(|idle| idle.limit_us != limit_us) {
            self.due.insert((now_us + limit_us, producer));
        }
    }

    /// A producer appends.
    pub(super) fn touch(&mut self, producer: ProducerId, now_us: u64) {
        if let Some(idle) = self.producers.get_mut(&producer) {
            idle.since_us = now_us;
        }
    }

    /// A producer is forgotten.
    pub(super) fn forget(&mut self, producer: ProducerId) {
        self.producers.remove(&producer);
    }

    /// When the next one is looked at; never while there is none.
    pub(super) fn due_us(&self) -> u64 {
        self.due.first().map_or(u64::MAX, |(due_us, _)| *due_us)
    }

    /// Producers whose time is over, at most `count`.
    pub(super) fn over(&mut self, now_us: u64, count: usize) -> Vec<ProducerId> {
        let mut over = Vec::new();
        for _ in 0..LOOKS_MAX {
            if over.len() >= count {
                break;
            }
            let Some(&(due_us, producer)) = self.due.first().filter(|(due_us, _)| *due_us <= now_us) else { break };
            self.due.remove(&(due_us, producer));
            let Some(idle) = self.producers.get(&producer) else { continue };
            let until_us = idle.since_us + idle.limit_us;
            if until_us <= now_us {
                self.producers.remove(&producer);
                over.push(producer);
            } else {
                self.due.insert((until_us, producer));
            }
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_expires_when_it_was_idle_for_its_time_and_not_before() {
        let mut expiry = Expiry::default();
        let (one, other) = (ProducerId(1), ProducerId(2));
        expiry.begin(one, 100, 0);
        expiry.begin(other, 1_000, 0);
        assert_eq!(expiry.due_us(), 100);
        expiry.touch(one, 90);
        assert_eq!(expiry.over(189, 10), [], "it appended");
        assert_eq!(expiry.due_us(), 190);
        assert_eq!(expiry.over(190, 10), [one]);
        expiry.begin(other, 0, 200);
        assert_eq!(expiry.over(10_000, 10), [], "it is kept until it is deleted");
    }

    /// Fifty thousand registrations a minute are forgotten as fast as they come.
    #[test]
    fn as_many_expire_as_are_due() {
        let mut expiry = Expiry::default();
        (0..50_000).for_each(|id| expiry.begin(ProducerId(id), 60, id));
        let mut gone = 0;
        while expiry.due_us() <= 100_000 {
            gone += expiry.over(100_000, 500).len();
        }
        assert_eq!(gone, 50_000);
        assert!(expiry.producers.is_empty() && expiry.due.is_empty());
    }
}
