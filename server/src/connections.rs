//! The connections that are open, and what they may hold: a slot each, windows by how many there are, and their share
//! of two budgets over all of them: bytes of requests that are not whole yet, and bytes of responses that are not read
//! yet.
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
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::limited_log::LimitedLog;

mod holds;

use holds::Ages;
pub use holds::{OpenStream, Undecoded, Unread, Waits};

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
    streams: AtomicUsize,
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

/// One connection.
pub struct Connection {
    id: u64,
    tier: usize,
    /// Its handshake is over.
    is_greeted: AtomicBool,
    undecoded: AtomicU64,
    unread: AtomicU64,
    /// Since when it has what it has not read, and what is not whole of its requests.
    unread_since: Ages,
    undecoded_since: Ages,
    /// When it last read something worth the name, in milliseconds since the start.
    read_at: AtomicU64,
    /// Bytes that were written to its socket, and how many of them were seen as progress.
    written: AtomicU64,
    written_seen: AtomicU64,
    /// Its calls that are not over, and when the last one was.
    streams: AtomicUsize,
    unused_since: AtomicU64,
    cut: CancellationToken,
    all: Arc<Connections>,
}

fn is_over(limit: Duration, since_ms: u64, now_ms: u64) -> bool {
    u128::from(now_ms.saturating_sub(since_ms)) >= limit.as_millis()
}

/// Why no more calls may begin on a connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// There are as many as may be.
    Calls,
    /// As much as may be is not read, in all connections.
    Responses,
    /// The same in this one.
    OwnResponses,
}

/// Why there is no room for a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The connection itself holds as much as one may.
    Own,
    /// All connections together do.
    All,
}

/// Adds to what a connection holds, and to what all hold beyond their shares.
fn add(own: &AtomicU64, all: &AtomicU64, share: u64, bytes: u64) -> u64 {
    let before = own.fetch_add(bytes, Ordering::SeqCst);
    all.fetch_add((before + bytes).saturating_sub(share) - before.saturating_sub(share), Ordering::SeqCst);
    before
}

/// Takes it back.
fn take_back(own: &AtomicU64, all: &AtomicU64, share: u64, bytes: u64) {
    let before = own.fetch_sub(bytes, Ordering::SeqCst);
    all.fetch_sub(before.saturating_sub(share) - (before - bytes).saturating_sub(share), Ordering::SeqCst);
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
}

impl Connections {
    /// None yet; `max` may be open.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            state: Mutex::default(),
            undecoded: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
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
            unread_since: Ages::default(),
            undecoded_since: Ages::default(),
            read_at: AtomicU64::new(self.now_ms()),
            written: AtomicU64::new(0),
            written_seen: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            unused_since: AtomicU64::new(self.now_ms()),
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
            for one in state.open.values().filter(|one| !one.cut.is_cancelled()) {
                one.look_at_progress(now_ms);
                if read {
                    self.end_when_unread(one, now_ms);
                }
                if sent {
                    self.end_when_not_whole(one, now_ms);
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

impl Connection {
    /// Its handshake is over.
    pub fn greet(&self) {
        self.is_greeted.store(true, Ordering::Relaxed);
    }

    /// Whether its handshake is over.
    pub fn is_greeted(&self) -> bool {
        self.is_greeted.load(Ordering::Relaxed)
    }

    /// Its window, and that of each of its streams.
    pub fn windows(&self) -> (u32, u32) {
        let (_, connection, stream) = WINDOWS[self.tier];
        (connection, stream)
    }

    /// It ends when this is cancelled.
    pub fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// It is closed: its slot is free.
    pub fn close(&self) {
        self.all.state.lock().remove(self);
    }

    /// A call begins; it is over when the answer is dropped.
    pub fn stream(self: &Arc<Self>) -> OpenStream {
        self.all.streams.fetch_add(1, Ordering::Relaxed);
        self.streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }

    /// Whether the call that began last may go on.
    ///
    /// # Errors
    ///
    /// Of what there is too much already.
    pub fn check_call(&self) -> Result<(), Full> {
        let [own, all, unread, unread_all] = [
            self.streams.load(Ordering::Relaxed) as u64,
            self.all.streams.load(Ordering::Relaxed) as u64,
            self.unread.load(Ordering::Relaxed),
            self.all.unread.load(Ordering::Relaxed),
        ];
        if own > STREAMS_OWN as u64 && all > STREAMS_MAX as u64 {
            return Err(Full::Calls);
        }
        // The answer to a call does not wait for room, so no call begins while there is none. Streams do wait, within
        // what one connection may hold; calls have as much again.
        if unread > UNREAD_BYTES_SMALL && unread_all > UNREAD_BYTES_MAX {
            return Err(Full::Responses);
        }
        if unread > 2 * UNREAD_BYTES_OWN { Err(Full::OwnResponses) } else { Ok(()) }
    }

    /// So many bytes were written to its socket.
    pub fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn look_at_progress(&self, now_ms: u64) {
        let written = self.written.load(Ordering::Relaxed);
        if written - self.written_seen.load(Ordering::Relaxed) >= PROGRESS_BYTES {
            self.written_seen.store(written, Ordering::Relaxed);
            self.read_at.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Room for bytes of a request that is not whole yet; none when there is none.
    pub fn undecoded(self: &Arc<Self>) -> Undecoded {
        Undecoded { bytes: 0, number: 0, connection: self.clone() }
    }

    /// Counts bytes that were handed to the transport until they are written.
    pub fn unread(self: &Arc<Self>, bytes: usize) -> Unread {
        let (bytes, now_ms) = (bytes as u64, self.all.now_ms());
        self.add_unread(bytes, now_ms);
        Unread { bytes, number: self.unread_since.begin(now_ms), connection: self.clone() }
    }

    fn add_unread(&self, bytes: u64, now_ms: u64) {
        let before = add(&self.unread, &self.all.unread, UNREAD_BYTES_SMALL, bytes);
        if before <= UNREAD_BYTES_SMALL && before + bytes > UNREAD_BYTES_SMALL {
            // Its time to read begins with the first of what others could need.
            self.read_at.store(now_ms, Ordering::Relaxed);
        }
    }

    fn check_room(&self, bytes: usize) -> Result<(), NoRoom> {
        let bytes = bytes as u64;
        let (own, all) = (self.unread.load(Ordering::SeqCst), self.all.unread.load(Ordering::SeqCst));
        if own + bytes <= UNREAD_BYTES_SMALL {
            return Ok(());
        }
        if own > 0 && own + bytes > UNREAD_BYTES_OWN {
            return Err(NoRoom::Own);
        }
        if all > 0 && all + bytes > UNREAD_BYTES_MAX { Err(NoRoom::All) } else { Ok(()) }
    }

    /// Room for a response of about so many bytes, when there is some now. A small one has it as long as the connection
    /// holds little.
    ///
    /// # Errors
    ///
    /// Whether the connection itself holds too much, or all together.
    pub fn try_room(self: &Arc<Self>, bytes: usize) -> Result<Unread, NoRoom> {
        self.check_room(bytes).map(|()| self.unread(bytes))
    }

    /// Counts one more that waits for room that others hold.
    pub fn waits(&self) -> Waits {
        self.all.waiting.fetch_add(1, Ordering::SeqCst);
        Waits(self.all.clone())
    }

    /// Waits for room for a response of about so many bytes: in all connections, and in this one.
    pub async fn room(self: &Arc<Self>, bytes: usize) -> Unread {
        // Who waits for what it holds itself needs nobody else's.
        let mut waits = None;
        loop {
            let room = self.all.room.notified();
            tokio::pin!(room);
            // Before it is asked: what comes free between the two wakes it.
            room.as_mut().enable();
            match self.try_room(bytes) {
                Ok(room) => return room,
                Err(NoRoom::Own) => waits = None,
                Err(NoRoom::All) => waits = waits.or_else(|| Some(self.waits())),
            }
            room.await;
        }
    }
}

#[cfg(test)]
mod tests;
