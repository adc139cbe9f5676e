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
    /// When each is looked at: one entry a producer. Its time may have begun again since.
    due: BTreeSet<(u64, ProducerId)>,
    is_started: bool,
}

#[derive(Clone, Copy, Debug)]
struct Idle {
    limit_us: u64,
    since_us: u64,
    /// When it is looked at, in microseconds.
    due: u64,
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
            self.look_at(row.id, Idle { limit_us, since_us, due: now_us + left_us });
        }
    }

    /// A producer was registered, or appends: its time begins again. One that states no idle time never expires.
    pub(super) fn begin(&mut self, producer: ProducerId, limit_us: u64, now_us: u64) {
        if limit_us == 0 {
            self.forget(producer);
            return;
        }
        // One that is looked at earlier anyway is put off then.
        let until_us = now_us + limit_us;
        let due = self.producers.get(&producer).map_or(until_us, |idle| idle.due.min(until_us));
        self.look_at(producer, Idle { limit_us, since_us: now_us, due });
    }

    /// Notes a producer, in place of what was noted of it.
    fn look_at(&mut self, producer: ProducerId, idle: Idle) {
        if let Some(before) = self.producers.insert(producer, idle) {
            self.due.remove(&(before.due, producer));
        }
        self.due.insert((idle.due, producer));
    }

    /// A producer appends.
    pub(super) fn touch(&mut self, producer: ProducerId, now_us: u64) {
        if let Some(idle) = self.producers.get_mut(&producer) {
            idle.since_us = now_us;
        }
    }

    /// A producer is forgotten.
    pub(super) fn forget(&mut self, producer: ProducerId) {
        if let Some(idle) = self.producers.remove(&producer) {
            self.due.remove(&(idle.due, producer));
        }
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
            let Some(idle) = self.producers.get(&producer).copied() else { continue };
            let until_us = idle.since_us + idle.limit_us;
            if until_us <= now_us {
                self.producers.remove(&producer);
                over.push(producer);
            } else {
                self.look_at(producer, Idle { due: until_us, ..idle });
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

    /// Registered again and again, with another idle time each time, a producer takes no more room.
    #[test]
    fn a_producer_is_looked_at_in_one_place() {
        let (mut expiry, one) = (Expiry::default(), ProducerId(1));
        for now_us in 0..1_000 {
            expiry.begin(one, if now_us % 2 == 0 { 5_000 } else { 7_000 }, now_us);
        }
        assert_eq!(expiry.due.len(), 1);
        assert_eq!(expiry.over(7_998, 10), [], "its time began again at 999");
        assert_eq!((expiry.due.len(), expiry.due_us()), (1, 7_999));
        // A shorter time counts from when it is stated.
        expiry.begin(one, 100, 2_000);
        assert_eq!((expiry.due.len(), expiry.due_us()), (1, 2_100));
        assert_eq!(expiry.over(2_100, 10), [one]);
        expiry.begin(one, 100, 3_000);
        expiry.begin(one, 0, 3_001);
        assert_eq!(expiry.due_us(), u64::MAX, "it never expires now");
        expiry.begin(one, 100, 4_000);
        expiry.forget(one);
        assert_eq!(expiry.due_us(), u64::MAX, "it is gone");
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
