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

/// Bytes of requests that are not whole yet, over all connections.
pub const UNDECODED_BYTES_MAX: u64 = 64 << 20;
/// So much of requests that are not whole yet each connection may hold whatever the others do: small ones always pass.
pub const UNDECODED_BYTES_OWN: u64 = 64 << 10;
/// Bytes of responses that are packed and not written to a socket yet, over all connections.
pub const UNREAD_BYTES_MAX: u64 = 64 << 20;
/// The same for one connection: some streams of it that are not read do not take the room of all others.
pub const UNREAD_BYTES_OWN: u64 = 16 << 20;
/// What each connection may hold of small responses whatever the others do: who follows the end is never stopped by who
/// does not read.
pub const UNREAD_BYTES_SMALL: u64 = 64 << 10;
/// Calls that are not over, over all connections.
pub const STREAMS_MAX: usize = 8_192;
/// A connection that reads nothing for this long loses its room when others wait for it.
const STALLED: Duration = Duration::from_secs(5);

/// Windows for a connection and its streams, by how many connections are open: the first ones have large windows, for
/// throughput; many have small ones, so that all windows together stay bounded. A stream's window is a quarter of its
/// connection's: streams that stall do not stop the others.
const WINDOWS: [(usize, u32); 3] = [(32, 4 << 20), (128, 1 << 20), (usize::MAX, 256 << 10)];

/// Bytes that the windows of so many connections come to: what a client may send that no call takes.
pub const fn window_bytes(connections: usize) -> u64 {
    let (mut sum, mut from, mut tier) = (0, 0, 0);
    while tier < WINDOWS.len() && from < connections {
        let (to, bytes) = WINDOWS[tier];
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
    undecoded: AtomicU64,
    unread: AtomicU64,
    streams: AtomicUsize,
    /// Somebody waits for room for a response.
    waiting: AtomicUsize,
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
    /// When it read something last, in milliseconds since the start.
    read_at: AtomicU64,
    cut: CancellationToken,
    all: Arc<Connections>,
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

    /// Opens one. When there are as many as may be, the oldest one whose handshake is not over makes room; when there
    /// is none, the new one is refused.
    pub fn open(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let mut state = self.state.lock();
        if state.open.len() >= self.max {
            let half_open = state.open.values().find(|one| !one.is_greeted.load(Ordering::Relaxed)).cloned();
            let Some(oldest) = half_open else {
                drop(state);
                self.log.warn("connections refused", || format!("{} connections are open, no more may be", self.max));
                return None;
            };
            state.remove(&oldest);
            oldest.cut.cancel();
            self.log.warn("handshakes cut", || "a connection without a handshake made room for a new one".to_owned());
        }
        let taken = state.tiers;
        let room = |(tier, (to, _)): (usize, &(usize, u32))| {
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
            read_at: AtomicU64::new(self.now_ms()),
            cut: CancellationToken::new(),
            all: self.clone(),
        });
        state.open.insert(id, connection.clone());
        Some(connection)
    }

    /// How much of it is used.
    pub fn used(&self) -> Use {
        Use {
            connections: self.state.lock().open.len(),
            connections_max: self.max,
            streams: self.streams.load(Ordering::Relaxed),
            undecoded_bytes: self.undecoded.load(Ordering::Relaxed),
            unread_bytes: self.unread.load(Ordering::Relaxed),
        }
    }

    /// Ends all of them.
    pub fn cut(&self) {
        self.state.lock().open.values().for_each(|one| one.cut.cancel());
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Ends connections that do not read while others wait for room; runs until the server ends.
    pub async fn watch(self: Arc<Self>) {
        let mut looks = tokio::time::interval(Duration::from_secs(1));
        loop {
            looks.tick().await;
            if self.waiting.load(Ordering::Relaxed) > 0 {
                self.end_stalled();
            }
        }
    }

    /// Those that hold much of what is unread, and have read nothing for a while.
    fn end_stalled(&self) {
        let now_ms = self.now_ms();
        let stalled_ms = u64::try_from(STALLED.as_millis()).unwrap_or(u64::MAX);
        let state = self.state.lock();
        let is_stalled =
            |one: &&Arc<Connection>| now_ms.saturating_sub(one.read_at.load(Ordering::Relaxed)) >= stalled_ms;
        let unread = |one: &Connection| one.unread.load(Ordering::Relaxed);
        let holders = state.open.values().filter(|one| unread(one) > UNREAD_BYTES_SMALL && !one.cut.is_cancelled());
        for stalled in holders.filter(is_stalled) {
            self.log.warn("readers cut", || {
                let held = unread(stalled);
                format!("a connection has read nothing for {} s and holds {held} bytes", STALLED.as_secs())
            });
            stalled.cut.cancel();
        }
    }
}

impl State {
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
        let bytes = WINDOWS[self.tier].1;
        (bytes, bytes / 4)
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
        OpenStream(self.clone())
    }

    /// Whether one more call may begin.
    pub fn has_room_for_calls(&self) -> bool {
        self.all.streams.load(Ordering::Relaxed) <= STREAMS_MAX
    }

    /// Room for bytes of a request that is not whole yet; none when there is none.
    pub fn undecoded(self: &Arc<Self>) -> Undecoded {
        Undecoded { bytes: 0, connection: self.clone() }
    }

    /// Counts bytes that were handed to the transport until they are written.
    pub fn unread(self: &Arc<Self>, bytes: usize) -> Unread {
        let bytes = bytes as u64;
        if self.unread.fetch_add(bytes, Ordering::Relaxed) == 0 {
            // Its time to read begins with the first of what it has to read.
            self.read_at.store(self.all.now_ms(), Ordering::Relaxed);
        }
        self.all.unread.fetch_add(bytes, Ordering::Relaxed);
        Unread { bytes, connection: self.clone() }
    }

    fn fits(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let fits = |used: &AtomicU64, max: u64| {
            let used = used.load(Ordering::Relaxed);
            used == 0 || used + bytes <= max
        };
        fits(&self.unread, UNREAD_BYTES_OWN) && fits(&self.all.unread, UNREAD_BYTES_MAX)
    }

    /// Room for a response of about so many bytes, when there is some now. A small one has it as long as the connection
    /// holds little.
    pub fn try_room(self: &Arc<Self>, bytes: usize) -> Option<Unread> {
        let is_small = self.unread.load(Ordering::Relaxed) + bytes as u64 <= UNREAD_BYTES_SMALL;
        (is_small || self.fits(bytes)).then(|| self.unread(bytes))
    }

    /// Counts one more that waits for room.
    pub fn waits(&self) -> Waits {
        self.all.waiting.fetch_add(1, Ordering::Relaxed);
        Waits(self.all.clone())
    }

    /// Waits for room for a response of about so many bytes: in all connections, and in this one.
    pub async fn room(self: &Arc<Self>, bytes: usize) -> Unread {
        if !self.fits(bytes) {
            let _waits = self.waits();
            loop {
                let room = self.all.room.notified();
                tokio::pin!(room);
                // Before it is asked again: what comes free between the two wakes it.
                room.as_mut().enable();
                if self.fits(bytes) {
                    break;
                }
                room.await;
            }
        }
        self.unread(bytes)
    }
}

/// Somebody waits for room, until this is dropped: whoever reads nothing meanwhile loses its own.
pub struct Waits(Arc<Connections>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that is not over.
pub struct OpenStream(Arc<Connection>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.all.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes of a request that is not whole yet.
pub struct Undecoded {
    bytes: u64,
    connection: Arc<Connection>,
}

impl Undecoded {
    /// Takes more; false when there is no room for it.
    pub fn take(&mut self, bytes: usize) -> bool {
        let (bytes, own, all) = (bytes as u64, &self.connection.undecoded, &self.connection.all.undecoded);
        let has_room = own.load(Ordering::Relaxed) + bytes <= UNDECODED_BYTES_OWN
            || all.load(Ordering::Relaxed) + bytes <= UNDECODED_BYTES_MAX;
        if has_room {
            own.fetch_add(bytes, Ordering::Relaxed);
            all.fetch_add(bytes, Ordering::Relaxed);
            self.bytes += bytes;
        } else {
            let message = || format!("{UNDECODED_BYTES_MAX} bytes of requests wait to be whole");
            self.connection.all.log.warn("requests refused", message);
        }
        has_room
    }

    /// Gives all of it back: the request is whole, and counted elsewhere.
    pub fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.connection.undecoded.fetch_sub(bytes, Ordering::Relaxed);
        self.connection.all.undecoded.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Undecoded {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Bytes of a response that is not read yet.
pub struct Unread {
    bytes: u64,
    connection: Arc<Connection>,
}

impl Unread {
    /// As much as it became.
    pub fn resize(&mut self, bytes: usize) {
        let (before, bytes) = (self.bytes, bytes as u64);
        self.bytes = bytes;
        for used in [&self.connection.unread, &self.connection.all.unread] {
            if bytes > before {
                used.fetch_add(bytes - before, Ordering::Relaxed);
            } else {
                used.fetch_sub(before - bytes, Ordering::Relaxed);
            }
        }
        if bytes < before && self.connection.all.waiting.load(Ordering::Relaxed) > 0 {
            self.connection.all.room.notify_waiters();
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let (connection, all) = (&self.connection, &self.connection.all);
        connection.unread.fetch_sub(self.bytes, Ordering::Relaxed);
        all.unread.fetch_sub(self.bytes, Ordering::Relaxed);
        connection.read_at.store(all.now_ms(), Ordering::Relaxed);
        if all.waiting.load(Ordering::Relaxed) > 0 {
            all.room.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_shrink_as_connections_become_many_and_their_sum_is_bounded() {
        let all = Connections::new(2_048);
        let open: Vec<_> = (0..200).map(|_| all.open().expect("there is room")).collect();
        let sum: u64 = open.iter().map(|one| u64::from(one.windows().0)).sum();
        assert_eq!(sum, window_bytes(200));
        assert_eq!((open[0].windows(), open[199].windows()), ((4 << 20, 1 << 20), (256 << 10, 64 << 10)));
        open[0].close();
        assert_eq!(all.open().expect("there is room").windows().0, 4 << 20, "the large window is free again");
    }

    #[test]
    fn a_new_connection_takes_the_place_of_the_oldest_that_says_nothing() {
        let all = Connections::new(2);
        let (first, second) = (all.open().expect("room"), all.open().expect("room"));
        first.greet();
        let third = all.open().expect("the silent one makes room");
        assert!(second.cut().is_cancelled() && !first.cut().is_cancelled());
        third.greet();
        assert!(all.open().is_none(), "both are at work");
        first.close();
        assert!(all.open().is_some());
    }

    #[test]
    fn a_small_request_passes_when_large_ones_have_taken_all_room() {
        let all = Connections::new(8);
        let (hostile, good) = (all.open().expect("room"), all.open().expect("room"));
        let mut large = hostile.undecoded();
        while large.take(1 << 20) {}
        assert_eq!(all.used().undecoded_bytes, UNDECODED_BYTES_MAX);
        let mut small = good.undecoded();
        assert!(small.take(60 << 10) && !small.take(60 << 10));
        drop((large, small));
        assert_eq!(all.used().undecoded_bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_loses_its_room_to_those_who_wait() {
        let all = Connections::new(8);
        tokio::spawn(all.clone().watch());
        let hostile: Vec<_> = (0..4).map(|_| all.open().expect("room")).collect();
        let mut held = Vec::new();
        for one in &hostile {
            held.extend((0..16).map(|_| one.unread(1 << 20)));
        }
        let good = all.open().expect("room");
        let waiting = tokio::spawn(async move { good.room(1 << 20).await });
        hostile[0].cut().cancelled().await;
        assert!(!waiting.is_finished());
        held.clear();
        waiting.await.expect("there is room");
    }

    /// A member of a group asks again and again instead of waiting in place.
    #[tokio::test(start_paused = true)]
    async fn who_asks_again_for_room_counts_as_one_who_waits() {
        let all = Connections::new(8);
        tokio::spawn(all.clone().watch());
        let (hostile, good) = (all.open().expect("room"), all.open().expect("room"));
        let _held: Vec<_> = (0..64).map(|_| hostile.unread(1 << 20)).collect();
        assert!(good.try_room(1 << 20).is_none());
        let cut = hostile.cut().cancelled();
        assert!(tokio::time::timeout(STALLED * 4, cut).await.is_err(), "nobody waits");
        let _waits = good.waits();
        hostile.cut().cancelled().await;
    }
}
