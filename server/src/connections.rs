//! The connections that are open, and what they may hold: a slot each, windows by how many there are, and their share
//! of three budgets over all of them: bytes of requests that are not whole yet, of responses that are not read yet, and
//! of outcomes of appends that their streams have not given yet.
//!
//! A client that sends half a request, or does not read, costs what it was given and no more, and loses its connection
//! when others need the room.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::limited_log::LimitedLog;

mod connection;
mod holds;

use holds::Ages;
pub use {
    connection::{Connection, Full, NoRoom},
    holds::{LargeWaits, OpenStream, Outcomes, Turn, Undecoded, Unread, Waits},
};

/// Bytes of requests that are not whole yet, over all connections.
pub const UNDECODED_BYTES_MAX: u64 = 64 << 20;
/// So much of requests that are not whole yet each connection may hold whatever the others do: small ones always pass.
/// It counts in no budget but its own.
pub const UNDECODED_BYTES_OWN: u64 = 64 << 10;
/// Bytes of responses that are packed and not written to a socket yet, over all connections.
pub const UNREAD_BYTES_MAX: u64 = 64 << 20;
/// The same for one connection: some streams of it that are not read do not take the room of all others.
pub const UNREAD_BYTES_OWN: u64 = 16 << 20;
/// What each connection may hold of small responses whatever the others do: who follows the end is never stopped by who
/// does not read. It counts in no budget but its own.
pub const UNREAD_BYTES_SMALL: u64 = 64 << 10;
/// Bytes of outcomes that streams of appends owe their clients, over all connections: from an append's entry to its
/// outcome being taken, so also of those that nobody reads.
pub const OUTCOME_BYTES_MAX: u64 = 32 << 20;
/// What each connection may hold of these whatever the others do. It counts in no budget but its own.
pub const OUTCOME_BYTES_OWN: u64 = 64 << 10;
/// An answer to a call of so many bytes has room in the memory that each call takes.
pub const ANSWER_BYTES_SMALL: usize = 4 << 10;
/// So many long answers are put together at a time, over all connections and for one of them.
/// More would take the processor from those who append.
pub const TURNS_MAX: usize = 4;
const TURNS_OWN: usize = 2;
/// So many large requests may wait for a turn, over all connections and of one of them; one of each always may.
pub const LARGE_WAITS_MAX: usize = 1_024;
const LARGE_WAITS_OWN: usize = 64;
/// Calls that are not over, over all connections.
pub const STREAMS_MAX: usize = 8_192;
/// So many calls each connection may have open whatever the others do.
pub const STREAMS_OWN: usize = 4;
/// A connection that reads nothing for this long loses its room when others need it. Who reads less than
/// [`PROGRESS_BYTES`] meanwhile reads nothing.
const STALLED: Duration = Duration::from_secs(5);
const PROGRESS_BYTES: u64 = 64 << 10;
/// What a connection holds for this long, a response that is not read or a request that is not whole, it loses when
/// others need the room: whoever reads one stream may leave others unread, and a request may come byte by byte.
const OVERDUE: Duration = Duration::from_secs(30);
/// A connection without a call for this long makes room for a new one when there are as many as may be.
const UNUSED: Duration = Duration::from_secs(5);

/// Windows for a connection and for each of its streams, by how many connections are open: the first ones have large
/// windows, for throughput; many have small ones, so that all windows together stay bounded. A stream's window is a
/// small part of its connection's: streams that the broker cannot go on with, since their responses are not read, hold
/// what they were sent, and the others of their connection need the rest. Where there are many connections it is a
/// quarter: a smaller one would make each slow.
const WINDOWS: [(usize, u32, u32); 3] =
    [(8, 16 << 20, 1 << 20), (64, 4 << 20, 256 << 10), (usize::MAX, 256 << 10, 64 << 10)];

/// Bytes that the windows of so many connections come to: what a client may send that no call takes.
pub const fn window_bytes(connections: usize) -> u64 {
    let (mut sum, mut from, mut tier) = (0, 0, 0);
    while tier < WINDOWS.len() && from < connections {
        let (to, bytes, _) = WINDOWS[tier];
        let to = if to < connections { to } else { connections };
        sum += (to - from) as u64 * bytes as u64;
        (from, tier) = (to, tier + 1);
    }
    sum
}

/// All connections of a server.
pub struct Connections {
    max: usize,
    state: Mutex<State>,
    /// What connections hold beyond what each may whatever the others do.
    undecoded: AtomicU64,
    unread: AtomicU64,
    outcomes: AtomicU64,
    streams: AtomicUsize,
    turns: Arc<Semaphore>,
    large_waits: AtomicUsize,
    /// So many wait for room for a response that others hold.
    waiting: AtomicUsize,
    /// Room for responses came free.
    room: Notify,
    /// For the times of progress.
    start: Instant,
    log: LimitedLog,
}

#[derive(Default)]
struct State {
    open: BTreeMap<u64, Arc<Connection>>,
    /// Connections in each tier of windows.
    tiers: [usize; WINDOWS.len()],
    next: u64,
}

fn is_over(limit: Duration, since_ms: u64, now_ms: u64) -> bool {
    u128::from(now_ms.saturating_sub(since_ms)) >= limit.as_millis()
}

/// Use of the budgets, for an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Connections that are open.
    pub connections: usize,
    /// As many as there may be.
    pub connections_max: usize,
    /// Calls that are not over.
    pub streams: usize,
    /// Bytes of requests that are not whole yet.
    pub undecoded_bytes: u64,
    /// Bytes of responses that are not read yet.
    pub unread_bytes: u64,
    /// Bytes of outcomes that streams of appends owe their clients.
    pub outcome_bytes: u64,
    /// Long answers that are being put together.
    pub turns: usize,
    /// Large requests that wait for a turn.
    pub large_waits: usize,
}

impl Connections {
    /// None yet; `max` may be open.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            state: Mutex::default(),
            undecoded: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            outcomes: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            turns: Arc::new(Semaphore::new(TURNS_MAX)),
            large_waits: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            room: Notify::new(),
            start: Instant::now(),
            log: LimitedLog::default(),
        })
    }

    /// Opens one. When there are as many as may be, the oldest one whose handshake is not over makes room, or the one
    /// that was without a call for longest; when there is neither, the new one is refused.
    pub fn open(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let mut state = self.state.lock();
        if state.open.len() >= self.max {
            let Some(spare) = state.spare(self.now_ms()) else {
                drop(state);
                self.log.warn("connections refused", || format!("{} connections are open, no more may be", self.max));
                return None;
            };
            state.remove(&spare);
            spare.cut.cancel();
            let why = if spare.is_greeted() { "a call" } else { "a handshake" };
            self.log.warn("connections cut", || format!("one without {why} made room for a new one"));
        }
        let taken = state.tiers;
        let room = |(tier, (to, ..)): (usize, &(usize, u32, u32))| {
            let from = if tier == 0 { 0 } else { WINDOWS[tier - 1].0 };
            taken[tier] < to.saturating_sub(from)
        };
        let tier = WINDOWS.iter().enumerate().position(room).unwrap_or(WINDOWS.len() - 1);
        let id = state.next;
        state.next += 1;
        state.tiers[tier] += 1;
        let connection = Arc::new(Connection {
            id,
            tier,
            is_greeted: AtomicBool::new(false),
            undecoded: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            outcomes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            undecoded_since: Ages::default(),
            unread_since: Ages::default(),
            outcomes_since: Ages::default(),
            read_at: AtomicU64::new(self.now_ms()),
            written: AtomicU64::new(0),
            written_seen: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            unused_since: AtomicU64::new(self.now_ms()),
            turns: Arc::new(Semaphore::new(TURNS_OWN)),
            large_waits: AtomicUsize::new(0),
            cut: CancellationToken::new(),
            all: self.clone(),
        });
        state.open.insert(id, connection.clone());
        Some(connection)
    }

    /// How much of it is used.
    pub fn used(&self) -> Use {
        let state = self.state.lock();
        let sum = |held: fn(&Connection) -> &AtomicU64| {
            state.open.values().map(|one| held(one).load(Ordering::Relaxed)).sum()
        };
        Use {
            connections: state.open.len(),
            connections_max: self.max,
            streams: self.streams.load(Ordering::Relaxed),
            undecoded_bytes: sum(|one| &one.undecoded),
            unread_bytes: sum(|one| &one.unread),
            outcome_bytes: sum(|one| &one.outcomes),
            turns: TURNS_MAX - self.turns.available_permits(),
            large_waits: self.large_waits.load(Ordering::Relaxed),
        }
    }

    /// Ends all of them.
    pub fn cut(&self) {
        self.state.lock().open.values().for_each(|one| one.cut.cancel());
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Ends connections that hold what others need; runs until the server ends.
    pub async fn watch(self: Arc<Self>) {
        let mut looks = tokio::time::interval(Duration::from_secs(1));
        loop {
            looks.tick().await;
            let (now_ms, state) = (self.now_ms(), self.state.lock());
            let read =
                self.waiting.load(Ordering::Relaxed) > 0 || self.unread.load(Ordering::Relaxed) > UNREAD_BYTES_MAX;
            let sent = self.undecoded.load(Ordering::Relaxed) > UNDECODED_BYTES_MAX / 2;
            let owed = self.outcomes.load(Ordering::Relaxed) > OUTCOME_BYTES_MAX / 2;
            for one in state.open.values().filter(|one| !one.cut.is_cancelled()) {
                one.look_at_progress(now_ms);
                if read {
                    self.end_when_unread(one, now_ms);
                }
                if sent {
                    self.end_when_not_whole(one, now_ms);
                }
                if owed {
                    self.end_when_not_taken(one, now_ms);
                }
            }
        }
    }

    /// Ends a connection with much unread data that has read nothing for [`STALLED`], or has left something unread for
    /// [`OVERDUE`].
    fn end_when_unread(&self, one: &Connection, now_ms: u64) {
        let held = one.unread.load(Ordering::Relaxed);
        let is_stalled = is_over(STALLED, one.read_at.load(Ordering::Relaxed), now_ms);
        if held > UNREAD_BYTES_SMALL && (is_stalled || one.unread_since.are_overdue(now_ms)) {
            let for_secs = if is_stalled { STALLED } else { OVERDUE }.as_secs();
            self.log
                .warn("readers cut", || format!("one left {held} bytes unread for {for_secs} s, others need the room"));
            one.cut.cancel();
        }
    }

    /// Ends a connection with much of requests that are not whole, one of them for [`OVERDUE`].
    fn end_when_not_whole(&self, one: &Connection, now_ms: u64) {
        let held = one.undecoded.load(Ordering::Relaxed);
        if held > UNDECODED_BYTES_OWN && one.undecoded_since.are_overdue(now_ms) {
            let for_secs = OVERDUE.as_secs();
            let message =
                || format!("one had {held} bytes of requests not whole for {for_secs} s, others need the room");
            self.log.warn("senders cut", message);
            one.cut.cancel();
        }
    }

    /// Ends a connection that is owed many outcomes, a stream of which has taken none for [`OVERDUE`].
    fn end_when_not_taken(&self, one: &Connection, now_ms: u64) {
        let held = one.outcomes.load(Ordering::Relaxed);
        if held > OUTCOME_BYTES_OWN && one.outcomes_since.are_overdue(now_ms) {
            let for_secs = OVERDUE.as_secs();
            let message = || format!("one left {held} bytes of outcomes for {for_secs} s, others need the room");
            self.log.warn("appenders cut", message);
            one.cut.cancel();
        }
    }
}

impl State {
    /// The connection that costs least to close: without a handshake, or without a call.
    fn spare(&self, now_ms: u64) -> Option<Arc<Connection>> {
        let half_open = self.open.values().find(|one| !one.is_greeted());
        let unused_since = |one: &&Arc<Connection>| one.unused_since.load(Ordering::Relaxed);
        let unused = || {
            let unused = self.open.values().filter(|one| one.streams.load(Ordering::Relaxed) == 0);
            unused.filter(|one| is_over(UNUSED, unused_since(one), now_ms)).min_by_key(unused_since)
        };
        half_open.or_else(unused).cloned()
    }

    fn remove(&mut self, connection: &Connection) {
        if self.open.remove(&connection.id).is_some() {
            self.tiers[connection.tier] -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
