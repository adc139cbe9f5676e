//! The heart of a processor: which steps go into which append, and what becomes of them.
//!
//! Pure: no I/O, no clock, no service. In come steps that are begun and decided ([`Unit`]) and what the server says of
//! appends ([`Flight`]); out come appends. What must stay true, whatever is refused, resent, fenced or reordered:
//!
//! 1. The outputs of a step are in the log if and only if its cursor has moved over it.
//! 2. The log has a prefix of each unit's steps, in their order.

use std::collections::BTreeMap;

use super::{
    block::{Block, Held},
    flight::{Answer, Entry, Flight, Settled},
    unit::Unit,
};

/// Names a unit for as long as it is held and made of one piece. Never used again, so that what comes late finds
/// nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct UnitId(u64);

/// What one append may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppendLimits {
    /// A further block goes into the next append beyond this.
    pub(super) bytes: usize,
    pub(super) records: u32,
    pub(super) batches: usize,
    /// Cursor commits, and checks.
    pub(super) commits: usize,
}

/// What is wrong with a unit's part of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not held under this epoch any more.
    Fenced,
    /// A cursor is elsewhere than it should be.
    Misplaced,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Core<T> {
    units: BTreeMap<UnitId, Unit<T>>,
    flight: Flight,
    last_unit: u64,
    /// The unit that comes first in the next append, so that none waits for ever.
    turn: UnitId,
    faults: BTreeMap<UnitId, Fault>,
}

impl<T> Core<T> {
    /// No unit; the next append gets this number.
    pub(super) fn new(next_sequence: u64) -> Self {
        let (flight, turn) = (Flight::new(next_sequence), UnitId(0));
        Self { units: BTreeMap::new(), flight, last_unit: 0, turn, faults: BTreeMap::new() }
    }

    /// Takes in a unit that stands at these cursors.
    pub(super) fn add(&mut self, lanes: impl IntoIterator<Item = (Held, u64)>) -> UnitId {
        self.last_unit += 1;
        let id = UnitId(self.last_unit);
        self.units.insert(id, Unit::new(lanes));
        id
    }

    pub(super) fn unit(&self, id: UnitId) -> Option<&Unit<T>> {
        self.units.get(&id)
    }

    pub(super) fn unit_mut(&mut self, id: UnitId) -> Option<&mut Unit<T>> {
        self.units.get_mut(&id)
    }

    /// Forgets a unit. What is in flight of it is decided by the server alone.
    pub(super) fn remove(&mut self, id: UnitId) {
        self.units.remove(&id);
        self.faults.remove(&id);
    }

    pub(super) fn flight(&self) -> &Flight {
        &self.flight
    }

    /// How much is decided and not sent, in bytes of outputs.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.units.values().flat_map(Unit::all_unsent).map(Block::bytes).sum()
    }

    /// Something was said that is in no append yet.
    pub(super) fn has_said(&self) -> bool {
        self.units.values().any(Unit::has_said)
    }

    /// Something is decided that is in no append yet.
    pub(super) fn has_unsent(&self) -> bool {
        self.units.values().any(|unit| unit.unsent().is_some())
    }

    /// Gathers one append from what is decided; false when there is nothing.
    pub(super) fn gather(&mut self, limits: &AppendLimits) -> bool {
        assert!(self.flight.is_all_sent(), "a new append comes behind all others");
        let order: Vec<UnitId> =
            self.units.range(self.turn..).chain(self.units.range(..self.turn)).map(|(id, _)| *id).collect();
        let (mut blocks, mut bytes, mut records, mut batches, mut commits) = (Vec::new(), 0, 0, 0, 0);
        'units: for id in order {
            let unit = self.units.get_mut(&id).expect("it was just listed");
            while let Some(next) = unit.unsent() {
                let fits = bytes + next.bytes() <= limits.bytes
                    && records + next.records() <= limits.records
                    && batches + next.parts().len() <= limits.batches
                    && commits + next.moves().len() < limits.commits;
                if !fits && !blocks.is_empty() {
                    self.turn = id;
                    break 'units;
                }
                bytes += next.bytes();
                records += next.records();
                batches += next.parts().len();
                // One more for the check of a block that moves nothing.
                commits += next.moves().len() + 1;
                blocks.extend(unit.send().map(|block| (id, block)));
            }
        }
        let has_some = !blocks.is_empty();
        if has_some {
            self.flight.push(blocks, bytes);
        }
        has_some
    }

    /// The next append to send, which counts as sent from now on.
    pub(super) fn send(&mut self, append_id: u64) -> Option<&Entry> {
        self.flight.send(append_id)
    }

    /// The oldest append in flight is in the log. None when it has to be asked for again: see [`Flight::answer`].
    pub(super) fn accepted(&mut self) -> Option<Entry> {
        let entry = self.flight.answer(Answer::Accepted)?;
        self.acked(&entry);
        Some(entry)
    }

    fn acked(&mut self, entry: &Entry) {
        for (id, block) in &entry.blocks {
            if let Some(unit) = self.units.get_mut(id) {
                unit.acked(block);
            }
        }
    }

    /// The oldest append in flight is not accepted, or nobody knows. `faults` are the units at fault.
    pub(super) fn not_accepted(&mut self, answer: Answer, faults: impl IntoIterator<Item = (UnitId, Fault)>) {
        assert_ne!(answer, Answer::Accepted, "that is another answer");
        self.flight.answer(answer);
        self.faults.extend(faults);
    }

    /// The stream broke: everything that is not answered is sent again after [`Core::settle`].
    pub(super) fn broke(&mut self) {
        self.flight.broke();
    }

    /// Decides how to go on when every answer is there and something was not accepted.
    pub(super) fn settle(&mut self) -> Option<Settled> {
        self.flight.is_drained().then(|| self.flight.settle())
    }

    /// The producer was taken over, and the log has what is below `next`. Everything else goes back to its unit, to be
    /// sent again, but for units at fault: these are stopped. Gives what the log has, and the units at fault.
    pub(super) fn taken_over(&mut self, next: u64) -> (Vec<Entry>, Vec<(UnitId, Fault)>) {
        let faults = std::mem::take(&mut self.faults);
        for id in faults.keys() {
            if let Some(unit) = self.units.get_mut(id) {
                unit.stop();
            }
        }
        let (accepted, others) = self.flight.taken_over(next);
        for entry in &accepted {
            self.acked(entry);
        }
        self.unsend(others);
        (accepted, faults.into_iter().filter(|(id, _)| self.units.contains_key(id)).collect())
    }

    /// The producer is not known any more: nothing of it can come to the log, but what has, nobody knows. Gives the
    /// units of which something was in flight; these are stopped, and their cursors have to be asked for.
    pub(super) fn renewed(&mut self, next: u64) -> Vec<UnitId> {
        self.faults.clear();
        let (older, newer) = self.flight.taken_over(0);
        let unknown: Vec<Entry> = older.into_iter().chain(newer).collect();
        let mut concerned: Vec<UnitId> = unknown.iter().flat_map(|entry| &entry.blocks).map(|(id, _)| *id).collect();
        concerned.sort_unstable();
        concerned.dedup();
        concerned.retain(|id| self.units.contains_key(id));
        for id in &concerned {
            self.units.get_mut(id).expect("it was just looked for").stop();
        }
        self.unsend(unknown);
        self.flight = Flight::new(next);
        concerned
    }

    fn unsend(&mut self, entries: Vec<Entry>) {
        for entry in entries.into_iter().rev() {
            for (id, block) in entry.blocks.into_iter().rev() {
                if let Some(unit) = self.units.get_mut(&id) {
                    unit.unsend(block);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
