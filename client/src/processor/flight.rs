//! The unanswered appends of one processor, and the numbers that they carry.
//!
//! Pure: no I/O, no clock. On a broken stream everything that is not answered is sent again under the same numbers, and
//! the log recognises what it has. What must stay true: **an append that was sent is given up only when it is certain
//! that it is not in the log and never comes there.**
//!
//! When one is refused, those behind it get gaps, and copies of all of them may still lie in some buffer of a stream
//! that broke. So nothing is sent until every answer is there (a *drain*); then the processor takes its own producer
//! over, which fences every copy, durably, and the answer to that says exactly what the log has. A processor with a
//! refusal has time for that: it is rare, and costs one call.

use std::collections::VecDeque;

use super::{block::Block, core::UnitId};

/// What the server said of the oldest append in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is in the log.
    Accepted,
    /// Not now, or nobody knows; the same under the same number later tells.
    Later,
    /// Its number is beyond the next one.
    Gap {
        /// The next one.
        next: u64,
    },
    /// Never under this number, or not by this producer.
    Refused,
}

/// What comes after a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Send all again under the same numbers.
    Resend,
    /// Take the producer over, and say what the log has.
    TakeOver,
}

/// One append: blocks of units.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    /// Its number on the stream.
    pub(super) append_id: u64,
    pub(super) blocks: Vec<(UnitId, Block)>,
    /// What it counts for in the window.
    pub(super) bytes: usize,
    held: Option<Answer>,
}

/// The unanswered appends, oldest first: those that were answered without being accepted (`held`), those in flight, and
/// those that are to be sent again.
#[derive(Debug)]
pub(super) struct Flight {
    entries: VecDeque<Entry>,
    /// The number of the next new append.
    next: u64,
    held: usize,
    /// Entries below this index were sent on the present stream.
    sent: usize,
    /// Bytes of the entries in flight.
    bytes: usize,
}

impl Flight {
    /// Nothing is unanswered; the next append gets this number.
    pub(super) fn new(next: u64) -> Self {
        Self { entries: VecDeque::new(), next, held: 0, sent: 0, bytes: 0 }
    }

    /// Takes in an append behind all others.
    pub(super) fn push(&mut self, blocks: Vec<(UnitId, Block)>, bytes: usize) {
        let (sequence, append_id) = (self.next, 0);
        self.entries.push_back(Entry { sequence, append_id, blocks, bytes, held: None });
        self.next += 1;
    }

    /// Every append was sent: a new one may be made.
    pub(super) fn is_all_sent(&self) -> bool {
        self.sent == self.entries.len() && self.held == 0
    }

    /// The size of the append that [`Flight::send`] would give.
    pub(super) fn unsent_bytes(&self) -> Option<usize> {
        if self.held > 0 { None } else { self.entries.get(self.sent).map(|entry| entry.bytes) }
    }

    /// The next append to send, which counts as sent from now on; none while all were sent, and during a drain.
    pub(super) fn send(&mut self, append_id: u64) -> Option<&Entry> {
        if self.held > 0 {
            return None;
        }
        let entry = self.entries.get_mut(self.sent)?;
        entry.append_id = append_id;
        self.sent += 1;
        self.bytes += entry.bytes;
        Some(entry)
    }

    /// The append that the next answer is about.
    pub(super) fn oldest(&self) -> Option<&Entry> {
        (self.held < self.sent).then(|| &self.entries[self.held])
    }

    /// Takes the answer to the oldest append in flight, which is done when it is accepted.
    ///
    /// One that is accepted behind one that is not was in the log before this stream, and so was the other: it was only
    /// not looked at now. Both are asked for again, so that answers come in order.
    ///
    /// # Panics
    ///
    /// When nothing is in flight.
    pub(super) fn answer(&mut self, answer: Answer) -> Option<Entry> {
        assert!(self.held < self.sent, "an answer needs an append in flight");
        let index = self.held;
        self.bytes -= self.entries[index].bytes;
        if answer == Answer::Accepted && index == 0 {
            self.sent -= 1;
            return self.entries.pop_front();
        }
        self.entries[index].held = Some(if answer == Answer::Accepted { Answer::Later } else { answer });
        self.held += 1;
        None
    }

    /// The stream broke.
    pub(super) fn broke(&mut self) {
        self.bytes = 0;
        self.held = self.sent;
    }

    /// Nothing is in flight, and something was not accepted.
    pub(super) fn is_drained(&self) -> bool {
        self.held > 0 && self.held == self.sent
    }

    /// Decides how to go on after a drain.
    pub(super) fn settle(&mut self) -> Settled {
        assert_eq!(self.held, self.sent, "it is decided when every answer is there");
        let refused = self.entries.iter().any(|entry| entry.held == Some(Answer::Refused));
        // A gap behind another append goes away with that one. At the very front the server counts otherwise than we
        // do.
        let is_lost = self
            .entries
            .front()
            .is_some_and(|front| matches!(front.held, Some(Answer::Gap { next }) if next != front.sequence));
        if refused || is_lost {
            return Settled::TakeOver;
        }
        self.entries.iter_mut().for_each(|entry| entry.held = None);
        (self.held, self.sent) = (0, 0);
        Settled::Resend
    }

    /// The producer was taken over: every copy of an append is fenced, and the log has exactly those below `next`.
    /// Gives both, oldest first. The next append gets this number.
    pub(super) fn taken_over(&mut self, next: u64) -> (Vec<Entry>, Vec<Entry>) {
        let (held, sent) = (&mut self.held, &mut self.sent);
        (*held, *sent, self.bytes, self.next) = (0, 0, 0, next);
        std::mem::take(&mut self.entries).into_iter().partition(|entry| entry.sequence < next)
    }

    /// Appends below it are answered.
    pub(super) fn answered_below(&self) -> u64 {
        self.entries.front().map_or(self.next, |entry| entry.sequence)
    }

    /// How many appends are unanswered on the present stream.
    pub(super) fn in_flight(&self) -> usize {
        self.sent - self.held
    }

    /// How many bytes are.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.bytes
    }

    /// Every append is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
