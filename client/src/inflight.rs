//! The unanswered appends of one producer, and the numbers that they carry.
//!
//! Pure: no I/O, no clock. Appends come in through [`Inflight::push`], go out in
//! order through [`Inflight::send`], and leave when they are answered. What must
//! stay true:
//!
//! 1. **An append keeps its number until it is certain that it was not accepted
//!    under it, and can never be.** The log recognises a retry by its number
//!    alone, so the same records under a second number are written twice.
//! 2. Numbers follow the order of [`Inflight::push`] without holes, but for
//!    numbers that the server has consumed.
//!
//! A refused append consumes no number, so everything behind it must move up by
//! one; the server answers what is in flight behind it with `SEQUENCE_GAP`.
//! When is it certain that such an append was not accepted? On one stream the
//! server decides in order, so its answer on that stream is certain *for the
//! copy that was sent there*. Hence nothing is sent while answers are missing
//! behind a refusal (a *drain*), and only then are numbers given anew.
//!
//! An append that was sent on an earlier, broken stream has another copy, which
//! may still lie in some buffer. A worked example: 5, 6, 7 are sent; the stream
//! breaks; all are sent again on a new one; the new 5 is refused for its
//! contents, 6 and 7 get gaps. Moving 6 up to 5 would be accepted. If now the
//! old copy of 6 arrives, it is the next number and accepted as well: written
//! twice. Such entries are `carried`, and before numbers move past one, the
//! producer takes itself over: a new epoch fences every old copy, durably, and
//! the answer says which number is next ([`Settled::Fence`]). What was accepted
//! by then keeps its number and gets its first answer.

use std::collections::VecDeque;

/// What the server said of the oldest append in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer<E> {
    /// It is in the log.
    Accepted,
    /// It is in the log, but nobody knows where any more.
    Forgotten,
    /// Not now; the same under the same number later.
    Later,
    /// It may have been written; only a retry under the same number tells.
    Unknown,
    /// Its number is beyond the next one.
    Gap {
        /// The next one.
        next: u64,
    },
    /// Never, for this reason. It consumed no number.
    Refused(E),
    /// The server does not know the producer.
    NoProducer(E),
}

/// One unanswered append.
#[derive(Debug)]
pub(crate) struct Entry<T, E> {
    /// Its number.
    pub(crate) sequence: u64,
    /// Its number on the stream, 0 before it was sent.
    pub(crate) append_id: u64,
    /// What it counts for in the window.
    pub(crate) bytes: usize,
    /// What it is.
    pub(crate) payload: T,
    /// A copy may still be on its way somewhere.
    carried: bool,
    held: Option<Held<E>>,
}

/// Why an entry was not accepted on the present stream.
#[derive(Debug)]
enum Held<E> {
    Later,
    Gap { next: u64 },
    Refused(E),
    NoProducer(E),
}

/// An append that is given up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed<T, E> {
    pub(crate) payload: T,
    pub(crate) error: E,
    /// A copy of it may have been accepted before it was refused.
    pub(crate) maybe_written: bool,
}

/// What comes after a drain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled<T, E> {
    /// Send again under the same numbers.
    Resend,
    /// These have failed; the others have new numbers. Send them.
    Renumbered(Vec<Failed<T, E>>),
    /// Numbers have to move, but old copies may be on their way: take a new
    /// epoch, then call [`Inflight::fenced`].
    Fence,
    /// The producer is not known any more and nothing of it can be on its way:
    /// register a new one, then call [`Inflight::renewed`].
    Renew,
    /// The producer is not known any more, and what it sent is unknown.
    Lost(E),
}

/// The unanswered appends, oldest first: those that were answered without being
/// accepted (`held`), those in flight, and those that wait to be sent.
#[derive(Debug)]
pub(crate) struct Inflight<T, E> {
    entries: VecDeque<Entry<T, E>>,
    /// The number of the next new append.
    next: u64,
    /// Entries below this index are held.
    held: usize,
    /// Entries below this index were sent on the present stream.
    sent: usize,
    /// Bytes of the entries in flight.
    bytes: usize,
}

impl<T, E> Inflight<T, E> {
    /// Nothing is unanswered; the next append gets this number.
    pub(crate) fn new(next: u64) -> Self {
        Self { entries: VecDeque::new(), next, held: 0, sent: 0, bytes: 0 }
    }

    /// Takes in an append, behind all others.
    pub(crate) fn push(&mut self, payload: T, bytes: usize) {
        self.entries.push_back(Entry { sequence: self.next, append_id: 0, bytes, payload, carried: false, held: None });
        self.next += 1;
    }

    /// The next append to send, which counts as sent from now on. None while all
    /// were sent, and during a drain.
    pub(crate) fn send(&mut self, append_id: u64) -> Option<&Entry<T, E>> {
        if self.held > 0 {
            return None;
        }
        let entry = self.entries.get_mut(self.sent)?;
        entry.append_id = append_id;
        self.sent += 1;
        self.bytes += entry.bytes;
        Some(entry)
    }

    /// The size of the append that [`Inflight::send`] would give.
    pub(crate) fn unsent_bytes(&self) -> Option<usize> {
        if self.held > 0 { None } else { self.entries.get(self.sent).map(|entry| entry.bytes) }
    }

    /// The append that the next answer is about.
    pub(crate) fn oldest_in_flight(&self) -> Option<&Entry<T, E>> {
        (self.held < self.sent).then(|| &self.entries[self.held])
    }

    /// Takes the answer to the oldest append in flight. Gives its payload back
    /// when it is done.
    ///
    /// # Panics
    ///
    /// When nothing is in flight: the caller has checked the append's number.
    pub(crate) fn answer(&mut self, answer: Answer<E>) -> Option<T> {
        assert!(self.held < self.sent, "an answer needs an append in flight");
        let index = self.held;
        self.bytes -= self.entries[index].bytes;
        let held = match answer {
            Answer::Accepted | Answer::Forgotten => {
                self.sent -= 1;
                return self.entries.remove(index).map(|entry| entry.payload);
            }
            Answer::Later => Held::Later,
            Answer::Unknown => {
                self.entries[index].carried = true;
                Held::Later
            }
            Answer::Gap { next } => Held::Gap { next },
            Answer::Refused(error) => Held::Refused(error),
            Answer::NoProducer(error) => Held::NoProducer(error),
        };
        self.entries[index].held = Some(held);
        self.held += 1;
        None
    }

    /// The stream broke: every append in flight is unknown from now on. Sending
    /// goes on after [`Inflight::settle`].
    pub(crate) fn broke(&mut self) {
        for entry in self.entries.range_mut(self.held..self.sent) {
            entry.carried = true;
        }
        self.held = self.sent;
        self.bytes = 0;
    }

    /// Something was held: nothing is sent until it is settled.
    pub(crate) fn is_draining(&self) -> bool {
        self.held > 0
    }

    /// Nothing is in flight, and something was held or broke.
    pub(crate) fn is_drained(&self) -> bool {
        self.held > 0 && self.held == self.sent
    }

    /// Decides how to go on after a drain.
    ///
    /// # Panics
    ///
    /// When answers are still missing.
    pub(crate) fn settle(&mut self, renewable: bool) -> Settled<T, E> {
        assert_eq!(self.held, self.sent, "numbers move only when nothing is in flight");
        let carried = self.entries.iter().any(|entry| entry.carried);
        if let Some(lost) = self.entries.iter().position(|entry| matches!(entry.held, Some(Held::NoProducer(_)))) {
            if renewable && !carried {
                return Settled::Renew;
            }
            match self.entries[lost].held.take() {
                Some(Held::NoProducer(error)) => return Settled::Lost(error),
                _ => unreachable!("it was just found"),
            }
        }
        let refused = self.entries.iter().any(|entry| matches!(entry.held, Some(Held::Refused(_))));
        // A gap behind a refused append or one that is to be sent again goes
        // away by itself. A gap at the very front means that the server counts
        // otherwise than we do.
        let gap = match self.entries.front().and_then(|entry| entry.held.as_ref()) {
            Some(Held::Gap { next }) => Some(*next),
            _ => None,
        };
        if !refused && gap.is_none() {
            self.resume();
            return Settled::Resend;
        }
        if carried {
            return Settled::Fence;
        }
        let base = gap.or_else(|| self.entries.front().map(|entry| entry.sequence));
        let failed = self.renumber(base.unwrap_or(self.next));
        Settled::Renumbered(failed)
    }

    /// A new epoch fences every old copy; the server's next number is this one.
    /// What it has accepted keeps its number, the rest is numbered from there.
    pub(crate) fn fenced(&mut self, next: u64) -> Vec<Failed<T, E>> {
        self.renumber(next)
    }

    /// A new producer is registered; its next number is this one.
    pub(crate) fn renewed(&mut self, next: u64) {
        for entry in &mut self.entries {
            // No number of the old producer means anything to the new one.
            entry.sequence = u64::MAX;
            entry.held = None;
        }
        let failed = self.renumber(next);
        assert!(failed.is_empty(), "nothing was refused");
    }

    /// Numbers below it need not be remembered by the server.
    pub(crate) fn answered_below(&self) -> u64 {
        self.entries.front().map_or(self.next, |entry| entry.sequence)
    }

    /// How many appends are unanswered on the present stream.
    pub(crate) fn in_flight(&self) -> usize {
        self.sent - self.held
    }

    /// How many bytes are.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.bytes
    }

    /// Every append was answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Gives up everything, oldest first, with whether it was ever sent.
    pub(crate) fn give_up(&mut self) -> impl Iterator<Item = (T, bool)> + '_ {
        (self.held, self.bytes) = (0, 0);
        let sent = std::mem::take(&mut self.sent);
        self.entries.drain(..).enumerate().map(move |(index, entry)| (entry.payload, entry.carried || index < sent))
    }

    /// Takes out what was refused. What has a number below `next` keeps it; the
    /// rest is numbered from `next` on.
    fn renumber(&mut self, next: u64) -> Vec<Failed<T, E>> {
        let mut failed = Vec::new();
        self.next = next;
        for mut entry in std::mem::take(&mut self.entries) {
            let below = entry.sequence < next;
            if let Some(Held::Refused(error)) = entry.held {
                let maybe_written = below && entry.carried;
                failed.push(Failed { payload: entry.payload, error, maybe_written });
                continue;
            }
            if !below {
                entry.sequence = self.next;
                self.next += 1;
            }
            entry.held = None;
            self.entries.push_back(entry);
        }
        self.resume();
        // Every number below `next` is settled, so no old copy can be accepted.
        for entry in &mut self.entries {
            entry.carried &= entry.sequence < next;
        }
        failed
    }

    fn resume(&mut self) {
        for entry in &mut self.entries {
            entry.held = None;
        }
        (self.held, self.sent, self.bytes) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests;
