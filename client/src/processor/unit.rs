//! The order of one unit: the partitions that go together, and the steps that answer to their records.
//!
//! Pure: no I/O, no clock, no service. What must stay true:
//!
//! 1. Steps are **begun** in the order of each partition, and never two of one key at once.
//! 2. They are **decided** in the order in which they were begun, so what one decides on is what all before it said.
//! 3. What goes to the log is always a prefix of what was decided. A crash leaves the log as if the steps behind it had
//!    never been made, also where they share more than a key.
//!
//! Why the second? Two steps change one stock. The first waits for a call, the second is decided meanwhile, on a stock
//! from which the first has taken nothing; the first is decided on what the second left; an append takes the first
//! alone, since it comes first in the partition; the crash. What the first took was decided on an order that was never
//! placed.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use super::block::{Block, Held, Said};

/// How far a unit has come in one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    /// The cursor, as far as it is acknowledged.
    pub(super) acked: u64,
    /// The cursor behind the last step that is decided.
    decided: u64,
    /// Behind the last record that a step was begun for, or that was passed over.
    pub(super) begun: u64,
}

impl Lane {
    fn new(cursor: u64) -> Self {
        Self { acked: cursor, decided: cursor, begun: cursor }
    }
}

/// A step that was begun and is not decided.
#[derive(Debug)]
struct Open<T> {
    /// What the step is about, and what it needs to be decided; not here while it is being decided.
    payload: Option<T>,
    key: String,
    /// All its calls are answered.
    is_ready: bool,
    is_timer: bool,
    /// Cursors that move with it.
    moves: Vec<(usize, u64)>,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Unit<T> {
    held: Arc<[Held]>,
    lanes: Vec<Lane>,
    /// Begun and not decided.
    open: VecDeque<Open<T>>,
    /// The number of the first of them.
    first: u64,
    /// Their keys.
    busy: HashSet<String>,
    /// Decided and not sent.
    unsent: VecDeque<Block>,
    /// Blocks that are in an append that is not answered.
    in_flight: usize,
    /// Blocks that are in the log.
    acked: u64,
    /// What is begun or not sent is dropped, and nothing is begun any more.
    stopped: bool,
}

impl<T> Unit<T> {
    /// A unit that stands at these cursors.
    pub(super) fn new(lanes: impl IntoIterator<Item = (Held, u64)>) -> Self {
        let (held, lanes): (Vec<Held>, Vec<Lane>) =
            lanes.into_iter().map(|(held, cursor)| (held, Lane::new(cursor))).unzip();
        Self {
            held: held.into(),
            lanes,
            open: VecDeque::new(),
            first: 0,
            busy: HashSet::new(),
            unsent: VecDeque::new(),
            in_flight: 0,
            acked: 0,
            stopped: false,
        }
    }

    pub(super) fn held(&self) -> &[Held] {
        &self.held
    }

    pub(super) fn lane(&self, index: usize) -> &Lane {
        &self.lanes[index]
    }

    /// Whether a step of this key is begun and not decided.
    pub(super) fn is_busy(&self, key: &str) -> bool {
        !self.busy.is_empty() && self.busy.contains(key)
    }

    /// Nothing is begun that is not decided: a step that needs no call may be decided at once.
    pub(super) fn is_current(&self) -> bool {
        self.open.is_empty()
    }

    /// How many steps are begun and not decided.
    pub(super) fn open_steps(&self) -> usize {
        self.open.len()
    }

    /// Begins the step of the record before `next`, or of a timer. It gets a number; it can be decided at once when it
    /// is `ready`, and all before it are.
    pub(super) fn begin(&mut self, input: Option<(usize, u64)>, key: String, payload: T, is_ready: bool) -> u64 {
        assert!(!self.stopped && !self.busy.contains(&key), "steps of one key never overlap");
        if let Some((lane, next)) = input {
            self.lanes[lane].begun = next;
        }
        self.busy.insert(key.clone());
        self.open.push_back(Open {
            payload: Some(payload),
            key,
            is_ready,
            is_timer: input.is_none(),
            moves: input.into_iter().collect(),
        });
        self.first + self.open.len() as u64 - 1
    }

    /// A step that was begun and decided at once.
    pub(super) fn settle(&mut self, input: Option<(usize, u64)>, said: &Said) {
        assert!(self.open.is_empty() && !self.stopped, "steps are decided in the order of their beginning");
        if let Some((lane, next)) = input {
            self.lanes[lane].begun = next;
        }
        self.decide(input.as_slice(), said, input.is_none());
    }

    /// Passes over records that mean nothing, up to `next`.
    pub(super) fn pass(&mut self, lane: usize, next: u64) {
        self.lanes[lane].begun = next;
        match self.open.back_mut() {
            Some(last) => match last.moves.iter_mut().find(|(known, _)| *known == lane) {
                Some((_, known)) => *known = next,
                None => last.moves.push((lane, next)),
            },
            None => self.advance(&[(lane, next)]),
        }
    }

    /// The calls of a step are answered; false when it is not there any more.
    pub(super) fn answer(&mut self, number: u64, fill: impl FnOnce(&mut T)) -> bool {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(open) = index.and_then(|index| self.open.get_mut(index)) else { return false };
        open.is_ready = true;
        open.payload.as_mut().is_some_and(|payload| {
            fill(payload);
            true
        })
    }

    /// A step that is begun and not decided.
    pub(super) fn open(&self, number: u64) -> Option<&T> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.open.get(index)?.payload.as_ref()
    }

    /// The step that is to be decided next, when it is ready.
    pub(super) fn next_to_decide(&self) -> Option<&T> {
        self.open.front().filter(|open| open.is_ready)?.payload.as_ref()
    }

    /// Takes that step out, to decide it: then comes either [`Unit::decided`] or [`Unit::put_back`].
    pub(super) fn take_next(&mut self) -> Option<T> {
        self.open.front_mut().filter(|open| open.is_ready)?.payload.take()
    }

    /// That step is decided.
    ///
    /// # Panics
    ///
    /// When no step is open.
    pub(super) fn decided(&mut self, said: &Said) {
        let open = self.open.pop_front().expect("a step is open");
        self.first += 1;
        self.busy.remove(&open.key);
        self.decide(&open.moves, said, open.is_timer);
    }

    /// That step could not be decided now.
    pub(super) fn put_back(&mut self, payload: T) {
        if let Some(open) = self.open.front_mut() {
            open.payload = Some(payload);
        }
    }

    fn decide(&mut self, moves: &[(usize, u64)], said: &Said, is_timer: bool) {
        // A timer that had nothing to say leaves nothing behind.
        if !said.outputs.is_empty() || !moves.is_empty() {
            self.block_for(said).push(said, is_timer);
        }
        self.advance(moves);
    }

    fn advance(&mut self, moves: &[(usize, u64)]) {
        for (lane, next) in moves {
            let from = std::mem::replace(&mut self.lanes[*lane].decided, *next);
            assert!(from < *next, "a cursor only goes on");
            self.block_for(&Said::default()).advance(*lane, from, *next);
        }
    }

    fn block_for(&mut self, said: &Said) -> &mut Block {
        if self.unsent.back().is_none_or(|last| !last.takes(said)) {
            self.unsent.push_back(Block::new(Arc::clone(&self.held)));
        }
        self.unsent.back_mut().expect("it was just made sure of")
    }

    /// The next block to send.
    pub(super) fn unsent(&self) -> Option<&Block> {
        self.unsent.front()
    }

    /// Every block that is not sent.
    pub(super) fn all_unsent(&self) -> impl Iterator<Item = &Block> {
        self.unsent.iter()
    }

    /// Something was said that is not sent: it does not wait.
    pub(super) fn has_said(&self) -> bool {
        self.unsent.iter().any(|block| !block.is_silent())
    }

    /// Hands the next block to an append.
    pub(super) fn send(&mut self) -> Option<Block> {
        let mut block = self.unsent.pop_front()?;
        block.close();
        self.in_flight += 1;
        Some(block)
    }

    /// A block is in the log.
    pub(super) fn acked(&mut self, block: &Block) {
        self.in_flight -= 1;
        self.acked += 1;
        for one in block.moves() {
            let lane = &mut self.lanes[one.lane];
            assert_eq!(lane.acked, one.from, "blocks are acknowledged in their order");
            lane.acked = one.to;
        }
    }

    /// How many blocks of the unit are in the log when everything that is decided now is, and nothing else.
    pub(super) fn mark(&mut self) -> u64 {
        if let Some(last) = self.unsent.back_mut() {
            last.close();
        }
        self.acked + self.in_flight as u64 + self.unsent.len() as u64
    }

    /// A block is not in the log, and never comes there as it was sent: it is to be sent again. The newest comes first.
    pub(super) fn unsend(&mut self, block: Block) {
        self.in_flight -= 1;
        if !self.stopped {
            self.unsent.push_front(block);
        }
    }

    /// Blocks that are in an append that is not answered.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Everything that was begun is in the log.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.unsent.is_empty() && self.in_flight == 0
    }

    /// Drops what is begun and not decided. What is decided still goes to the log.
    pub(super) fn drop_open(&mut self) {
        self.first += self.open.len() as u64;
        self.open.clear();
        self.busy.clear();
        for lane in &mut self.lanes {
            lane.begun = lane.decided;
        }
    }

    /// Drops everything that is not in an append. When that is answered, the cursors are known.
    pub(super) fn stop(&mut self) {
        self.drop_open();
        self.unsent.clear();
        self.stopped = true;
    }
}
