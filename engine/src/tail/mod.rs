//! The tail: published batches that are in no segment yet, and beside them what each lane has in segments.
//!
//! Batches come from publish, which puts all of a group in place and then moves one mark; so all parts of an append
//! become visible together. Flush takes them out again once they are in a block. What must stay true:
//! `head ≤ flushed ≤ visible end`, batches continue one another, and a batch is readable from the tail until the
//! segment that holds it is.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

use parking_lot::{Mutex, RwLock};

use crate::{
    batch::Batch,
    id::{Lane, Lsn, Offset, TopicId},
    marks::Marks,
    stage::Bell,
    table::{
        Applied,
        row::{LaneRow, SegmentRow},
    },
};

/// Waiters per lane; one more is woken at once and asks again.
const WAITERS_MAX: usize = 65_536;

/// A published (or just about to be published) batch.
#[derive(Clone, Debug)]
pub struct TailBatch {
    /// Offset of its first record.
    pub base: Offset,
    /// Its frame.
    pub lsn: Lsn,
    /// Records before it on the shard.
    pub position: u64,
    /// Append time in microseconds.
    pub time_us: i64,
    /// The records.
    pub batch: Batch,
    /// The buffer that it pins.
    pub pin: Arc<Pin>,
}

impl TailBatch {
    /// Offset behind its last record.
    pub fn end(&self) -> Offset {
        self.base.plus(u64::from(self.batch.record_count))
    }
}

/// A buffer that batches of the tail share, counted whole until the last of them is flushed.
#[derive(Debug)]
pub struct Pin {
    bytes: u64,
    pinned: Arc<Pinned>,
}

/// Bytes of all pinned buffers, and who waits for them to be less.
#[derive(Debug)]
struct Pinned {
    bytes: AtomicU64,
    limit: AtomicU64,
    relieved: Bell,
}

impl Pin {
    /// Bytes of the buffer.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let before = self.pinned.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if before >= self.pinned.limit.load(Ordering::Relaxed) {
            self.pinned.relieved.ring();
        }
    }
}

/// One lane's part of the tail, and its segments.
#[derive(Debug, Default)]
pub struct LaneState {
    /// First kept offset.
    pub head: Offset,
    /// Records below are in segments.
    pub flushed: Offset,
    /// Records below are in segments that the newest checkpoint stands for: the journal may not have them any more.
    pub checkpointed: Offset,
    /// Segments, oldest first; only the last can be active.
    pub segments: Vec<SegmentRow>,
    /// Batches from `flushed` on.
    pub batches: VecDeque<TailBatch>,
    /// Raw bytes of these batches.
    pub raw_bytes: usize,
    /// Its topic was deleted: nothing more comes.
    pub gone: bool,
    waiters: Vec<Waiter>,
    last_turn: u64,
}

/// Somebody who waits for records past `end`.
#[derive(Debug)]
struct Waiter {
    turn: u64,
    end: Offset,
    waker: Waker,
}

impl LaneState {
    /// The end that a reader may see when `published` is the mark.
    pub fn visible_end(&self, published: Lsn) -> Offset {
        let newest = self.batches.iter().rev().find(|batch| batch.lsn <= published);
        newest.map_or(self.flushed, TailBatch::end)
    }

    /// Offset behind the last batch, visible or not.
    pub fn end(&self) -> Offset {
        self.batches.back().map_or(self.flushed, TailBatch::end)
    }

    /// The batches that hold records from `from` on.
    pub fn batches_from(&self, from: Offset) -> impl Iterator<Item = &TailBatch> {
        let first = self.batches.partition_point(|batch| batch.end() <= from);
        self.batches.range(first..)
    }

    /// Registers a waiter for records past `end`, or renews it; none when they are there already or never come.
    pub fn wait(&mut self, published: Lsn, end: Offset, turn: Option<u64>, waker: &Waker) -> Option<u64> {
        if self.gone || self.visible_end(published) > end {
            return None;
        }
        if let Some(waiter) = self.waiters.iter_mut().find(|waiter| Some(waiter.turn) == turn) {
            waiter.waker.clone_from(waker);
            return turn;
        }
        if self.waiters.len() >= WAITERS_MAX {
            return None;
        }
        self.last_turn += 1;
        self.waiters.push(Waiter { turn: self.last_turn, end, waker: waker.clone() });
        Some(self.last_turn)
    }

    /// Forgets a waiter that waits no more.
    pub fn leave(&mut self, turn: u64) {
        self.waiters.retain(|waiter| waiter.turn != turn);
    }

    /// Takes the waiters that have something to see now.
    fn woken(&mut self, published: Lsn) -> Vec<Waker> {
        if self.waiters.is_empty() {
            return Vec::new();
        }
        let (end, gone) = (self.visible_end(published), self.gone);
        let woken = self.waiters.extract_if(.., |waiter| gone || waiter.end < end);
        woken.map(|waiter| waiter.waker).collect()
    }
}

/// What is not flushed yet, by lane.
#[derive(Debug, Default)]
struct Unflushed {
    oldest: BTreeMap<Lane, Lsn>,
    by_age: BTreeSet<(Lsn, Lane)>,
    full: BTreeSet<Lane>,
}

/// A lane, shared by those who work on it.
pub type SharedLane = Arc<Mutex<LaneState>>;

/// All lanes.
#[derive(Debug)]
pub struct Tail {
    lanes: RwLock<BTreeMap<Lane, SharedLane>>,
    unflushed: Mutex<Unflushed>,
    pinned: Arc<Pinned>,
    block_bytes: usize,
    marks: Arc<Marks>,
    flusher: Bell,
}

impl Tail {
    /// An empty tail. A lane with `block_bytes` unflushed is full; `flusher` is rung when one is, or when half of
    /// `limit_bytes` is pinned; `relieved` when less than all of it is.
    pub fn new(block_bytes: usize, limit_bytes: u64, marks: Arc<Marks>, flusher: &Bell, relieved: &Bell) -> Self {
        Self {
            lanes: RwLock::default(),
            unflushed: Mutex::default(),
            pinned: Arc::new(Pinned {
                bytes: AtomicU64::new(0),
                limit: AtomicU64::new(limit_bytes),
                relieved: relieved.clone(),
            }),
            block_bytes,
            marks,
            flusher: flusher.clone(),
        }
    }

    /// Takes over what a checkpoint says of the lanes. Segments that are damaged or missing stay listed: whoever reads
    /// them finds out.
    pub fn restore(&self, rows: &[LaneRow], applied: &Applied) {
        let mut lanes = self.lanes.write();
        for row in rows {
            let gone = applied.live_topic(row.lane.topic).is_none();
            let (head, flushed, segments) = (row.head, row.flushed, row.segments.clone());
            let state = LaneState { head, flushed, checkpointed: flushed, segments, gone, ..LaneState::default() };
            lanes.insert(row.lane, Arc::new(Mutex::new(state)));
        }
    }

    /// A lane that holds or held records.
    pub fn lane(&self, lane: Lane) -> Option<SharedLane> {
        self.lanes.read().get(&lane).cloned()
    }

    /// A lane, made when there is none.
    pub fn lane_or_new(&self, lane: Lane) -> SharedLane {
        if let Some(found) = self.lane(lane) {
            return found;
        }
        self.lanes.write().entry(lane).or_default().clone()
    }

    /// All lanes, sorted.
    pub fn lanes(&self) -> Vec<(Lane, SharedLane)> {
        self.lanes.read().iter().map(|(lane, state)| (*lane, state.clone())).collect()
    }

    /// Lanes of one topic, sorted.
    pub fn lanes_of(&self, topic: TopicId) -> Vec<(Lane, SharedLane)> {
        let lanes = self.lanes.read();
        lanes.iter().filter(|(lane, _)| lane.topic == topic).map(|(lane, state)| (*lane, state.clone())).collect()
    }

    /// Forgets a lane whose files are gone.
    pub fn forget(&self, lane: Lane) {
        self.lanes.write().remove(&lane);
    }

    /// A checkpoint stands for what these rows say.
    pub fn checkpointed(&self, rows: &[LaneRow]) {
        for row in rows {
            if let Some(shared) = self.lane(row.lane) {
                shared.lock().checkpointed = row.flushed;
            }
        }
    }

    /// Counts a group's buffer until the last batch that shares it is flushed.
    pub fn pin(&self, bytes: usize) -> Arc<Pin> {
        let bytes = bytes as u64;
        self.pinned.bytes.fetch_add(bytes, Ordering::Relaxed);
        Arc::new(Pin { bytes, pinned: self.pinned.clone() })
    }

    /// Bytes of the buffers that are pinned.
    pub fn pinned_bytes(&self) -> u64 {
        self.pinned.bytes.load(Ordering::Relaxed)
    }

    /// How much may be pinned from now on.
    pub fn set_limit(&self, bytes: u64) {
        self.pinned.limit.store(bytes, Ordering::Relaxed);
    }

    /// As much is pinned as may be: appends wait.
    pub fn is_full(&self) -> bool {
        self.pinned_bytes() >= self.pinned.limit.load(Ordering::Relaxed)
    }

    /// Half of what may be is pinned: the oldest batches are flushed, small or not.
    pub fn is_pressed(&self) -> bool {
        self.pinned_bytes() * 2 > self.pinned.limit.load(Ordering::Relaxed)
    }

    /// Puts a batch at the end of its lane. It is not visible before the published mark passes its frame.
    ///
    /// # Errors
    ///
    /// Where the lane ends, when the batch does not continue it.
    pub fn push(&self, lane: Lane, batch: TailBatch) -> Result<(), Offset> {
        let shared = self.lane_or_new(lane);
        let mut state = shared.lock();
        // After a restart the segments may hold more than the tables' LSN says; replay brings it again.
        if batch.end() <= state.flushed || state.gone {
            return Ok(());
        }
        if batch.base != state.end() {
            return Err(state.end());
        }
        state.raw_bytes += batch.batch.decoded_bytes as usize;
        state.batches.push_back(batch);
        self.settle(lane, &state);
        Ok(())
    }

    /// Wakes those who wait for records of these lanes, and the flush when a block can be made.
    pub fn wake(&self, lanes: impl IntoIterator<Item = Lane>) {
        let published = self.marks.published.get();
        for lane in lanes {
            let Some(shared) = self.lane(lane) else { continue };
            let woken = shared.lock().woken(published);
            woken.into_iter().for_each(Waker::wake);
        }
        if self.is_pressed() || !self.unflushed.lock().full.is_empty() {
            self.flusher.ring();
        }
    }

    /// Nothing more comes on the lanes of a topic.
    pub fn end_topic(&self, topic: TopicId) {
        for (lane, shared) in self.lanes_of(topic) {
            let mut state = shared.lock();
            state.gone = true;
            state.batches.clear();
            state.raw_bytes = 0;
            self.settle(lane, &state);
            let woken = state.woken(self.marks.published.get());
            drop(state);
            woken.into_iter().for_each(Waker::wake);
        }
    }

    /// A lane that has a whole block unflushed, and is none of these.
    pub fn full_lane_but(&self, these: &BTreeSet<Lane>) -> Option<Lane> {
        self.unflushed.lock().full.iter().find(|lane| !these.contains(lane)).copied()
    }

    /// The lane with the oldest unflushed batch, and that batch's frame, that is none of these.
    pub fn oldest_but(&self, these: &BTreeSet<Lane>) -> Option<(Lsn, Lane)> {
        self.unflushed.lock().by_age.iter().find(|(_, lane)| !these.contains(lane)).copied()
    }

    /// The lane with the oldest unflushed batch, and that batch's frame.
    pub fn oldest(&self) -> Option<(Lsn, Lane)> {
        self.unflushed.lock().by_age.first().copied()
    }

    /// Notes what is unflushed of a lane. The lane's lock is held: it comes before this one.
    fn settle(&self, lane: Lane, state: &LaneState) {
        let mut unflushed = self.unflushed.lock();
        let before = unflushed.oldest.get(&lane).copied();
        let oldest = state.batches.front().map(|batch| batch.lsn);
        if before != oldest {
            if let Some(before) = before {
                unflushed.oldest.remove(&lane);
                unflushed.by_age.remove(&(before, lane));
            }
            if let Some(oldest) = oldest {
                unflushed.oldest.insert(lane, oldest);
                unflushed.by_age.insert((oldest, lane));
            }
        }
        if state.raw_bytes >= self.block_bytes {
            unflushed.full.insert(lane);
        } else {
            unflushed.full.remove(&lane);
        }
    }

    /// Drops the batches of a lane below `flushed`: they can be read from a segment now. Called with the lane's lock
    /// held, so that no reader looks between.
    pub fn flushed(&self, lane: Lane, state: &mut LaneState, flushed: Offset) {
        state.flushed = flushed;
        while let Some(batch) = state.batches.pop_front_if(|batch| batch.end() <= flushed) {
            state.raw_bytes -= batch.batch.decoded_bytes as usize;
        }
        self.settle(lane, state);
    }
}
