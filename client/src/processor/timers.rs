//! The timers of one unit: one for each key that has to be looked at again.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use super::Timer;

/// A timer that was due and left everything as it was is due again after this long: it would be due for ever otherwise.
const AGAIN_US: i64 = 1_000_000;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Timers {
    set: HashMap<String, Timer>,
    /// Times of timers that are set, and of some that are not any more.
    due: BinaryHeap<Reverse<(i64, String)>>,
}

impl Timers {
    /// No timer is set.
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// How many are set.
    pub(super) fn len(&self) -> usize {
        self.set.len()
    }

    /// A key's timer is this one from now on, or none.
    pub(super) fn set(&mut self, key: &str, timer: Option<Timer>) {
        match timer {
            None if self.set.is_empty() => {}
            None => {
                self.set.remove(key);
            }
            Some(timer) if self.set.get(key) == Some(&timer) => {}
            Some(timer) => {
                self.due.push(Reverse((timer.due_us, key.to_owned())));
                self.set.insert(key.to_owned(), timer);
            }
        }
    }

    /// A key whose timer is due, which is then not set any more.
    pub(super) fn take_due(&mut self, now_us: i64, is_free: impl Fn(&str) -> bool) -> Option<(String, Timer)> {
        loop {
            let Reverse((due_us, key)) = self.due.peek()?;
            if self.set.get(key).is_none_or(|timer| timer.due_us != *due_us) {
                self.due.pop();
                continue;
            }
            if *due_us > now_us || !is_free(key) {
                return None;
            }
            let Reverse((_, key)) = self.due.pop()?;
            let timer = self.set.remove(&key)?;
            return Some((key, timer));
        }
    }

    /// A timer that fired left everything as it was: it is set again, for later.
    pub(super) fn set_again(&mut self, key: &str, timer: Timer, now_us: i64) {
        let due_us = timer.due_us.max(now_us.saturating_add(AGAIN_US));
        self.set(key, Some(Timer { due_us, ..timer }));
    }

    /// When the next one is due, or was.
    pub(super) fn next_due_us(&mut self) -> Option<i64> {
        while let Some(Reverse((due_us, key))) = self.due.peek() {
            if self.set.get(key).is_some_and(|timer| timer.due_us == *due_us) {
                return Some(*due_us);
            }
            self.due.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(due_us: i64) -> Timer {
        Timer { name: "deadline", due_us, since: "e".into() }
    }

    #[test]
    fn timers_are_taken_in_the_order_in_which_they_are_due() {
        let mut timers = Timers::default();
        for (key, due) in [("b", 20), ("a", 10), ("c", 30)] {
            timers.set(key, Some(timer(due)));
        }
        timers.set("b", None);
        timers.set("a", Some(timer(25)));
        assert_eq!(timers.next_due_us(), Some(25));
        assert_eq!(timers.take_due(24, |_| true), None);
        assert_eq!(timers.take_due(30, |_| true).map(|(key, _)| key).as_deref(), Some("a"));
        assert_eq!(timers.take_due(30, |_| true).map(|(key, _)| key).as_deref(), Some("c"));
        assert_eq!((timers.take_due(99, |_| true), timers.next_due_us()), (None, None));
    }

    #[test]
    fn a_timer_waits_while_a_step_of_its_key_is_open() {
        let mut timers = Timers::default();
        timers.set("a", Some(timer(10)));
        assert_eq!(timers.take_due(20, |key| key != "a"), None);
        assert!(timers.take_due(20, |_| true).is_some());
    }

    #[test]
    fn a_timer_that_changes_nothing_does_not_fire_without_end() {
        let mut timers = Timers::default();
        timers.set("a", Some(timer(10)));
        let (key, fired) = timers.take_due(20, |_| true).expect("due");
        timers.set_again(&key, fired, 20);
        assert_eq!(timers.next_due_us(), Some(20 + AGAIN_US));
    }
}
