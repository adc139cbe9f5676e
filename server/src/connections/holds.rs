//! What connections hold, each until it is dropped: room, calls, and a place among those that wait.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::Mutex;

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Connection, Connections, OUTCOME_BYTES_MAX, OUTCOME_BYTES_OWN, OVERDUE, UNDECODED_BYTES_MAX, UNDECODED_BYTES_OWN,
    UNREAD_BYTES_SMALL,
    connection::{add, take_back},
    is_over,
};

/// The age of what a stream is owed begins anew with each outcome that it takes, at most this often.
const TAKEN_EVERY_MS: u64 = 1_000;

/// When each of the things began that a connection holds.
#[derive(Default)]
pub(super) struct Ages(Mutex<(u64, BTreeMap<u64, u64>)>);

impl Ages {
    pub(super) fn begin(&self, now_ms: u64) -> u64 {
        let (next, since) = &mut *self.0.lock();
        *next += 1;
        since.insert(*next, now_ms);
        *next
    }

    pub(super) fn end(&self, number: u64) {
        self.0.lock().1.remove(&number);
    }

    /// Whether the oldest one is overdue.
    pub(super) fn are_overdue(&self, now_ms: u64) -> bool {
        let oldest = self.0.lock().1.first_key_value().map(|(_, since)| *since);
        oldest.is_some_and(|since| is_over(OVERDUE, since, now_ms))
    }
}

/// Somebody waits for room that others hold, until this is dropped: whoever reads nothing meanwhile loses its own.
pub struct Waits(pub(super) Arc<Connections>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A call that is not over.
pub struct OpenStream(pub(super) Arc<Connection>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        let (connection, all) = (&self.0, &self.0.all);
        all.streams.fetch_sub(1, Ordering::Relaxed);
        connection.unused_since.store(all.now_ms(), Ordering::Relaxed);
        connection.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A turn for a long answer, until it is encoded and counted.
pub struct Turn {
    pub(super) _own: Option<OwnedSemaphorePermit>,
    pub(super) _all: Option<OwnedSemaphorePermit>,
}

/// A call whose request is large waits for a turn, until this is dropped.
pub struct LargeWaits {
    connection: Arc<Connection>,
    /// So many wait with it, of the connection and of all.
    pub(super) own: usize,
    pub(super) all: usize,
}

impl LargeWaits {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        let own = connection.large_waits.fetch_add(1, Ordering::SeqCst) + 1;
        let all = connection.all.large_waits.fetch_add(1, Ordering::SeqCst) + 1;
        Self { connection, own, all }
    }
}

impl Drop for LargeWaits {
    fn drop(&mut self) {
        self.connection.large_waits.fetch_sub(1, Ordering::SeqCst);
        self.connection.all.large_waits.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Bytes of outcomes that a stream of appends owes its client.
pub struct Outcomes {
    pub(super) bytes: u64,
    /// The number of its age, and when that began.
    pub(super) since: Option<(u64, u64)>,
    pub(super) connection: Arc<Connection>,
}

impl Outcomes {
    /// Takes room for one more; false when there is none.
    pub fn take(&mut self, bytes: usize) -> bool {
        let (bytes, own, all) = (bytes as u64, &self.connection.outcomes, &self.connection.all.outcomes);
        let has_room = own.load(Ordering::Relaxed) + bytes <= OUTCOME_BYTES_OWN
            || all.load(Ordering::Relaxed) + bytes <= OUTCOME_BYTES_MAX;
        if has_room {
            add(own, all, OUTCOME_BYTES_OWN, bytes);
            self.bytes += bytes;
            if self.since.is_none() {
                self.begin();
            }
        } else {
            let message = || format!("{OUTCOME_BYTES_MAX} bytes of outcomes are owed to clients");
            self.connection.all.log.warn("appends refused", message);
        }
        has_room
    }

    /// Gives back the room of one that was taken.
    pub fn give_back(&mut self, bytes: usize) {
        let (bytes, own, all) = (bytes as u64, &self.connection.outcomes, &self.connection.all.outcomes);
        take_back(own, all, OUTCOME_BYTES_OWN, bytes);
        self.bytes -= bytes;
        let is_old =
            |(_, since)| self.bytes == 0 || self.connection.all.now_ms().saturating_sub(since) >= TAKEN_EVERY_MS;
        if self.since.is_some_and(is_old) {
            self.end();
            if self.bytes > 0 {
                self.begin();
            }
        }
    }

    fn begin(&mut self) {
        let now_ms = self.connection.all.now_ms();
        self.since = Some((self.connection.outcomes_since.begin(now_ms), now_ms));
    }

    fn end(&mut self) {
        if let Some((number, _)) = self.since.take() {
            self.connection.outcomes_since.end(number);
        }
    }
}

impl Drop for Outcomes {
    fn drop(&mut self) {
        take_back(&self.connection.outcomes, &self.connection.all.outcomes, OUTCOME_BYTES_OWN, self.bytes);
        self.end();
    }
}

/// Bytes of a request that is not whole yet.
pub struct Undecoded {
    pub(super) bytes: u64,
    pub(super) number: u64,
    pub(super) connection: Arc<Connection>,
}

impl Undecoded {
    /// Takes more; false when there is no room for it.
    pub fn take(&mut self, bytes: usize) -> bool {
        let (bytes, own, all) = (bytes as u64, &self.connection.undecoded, &self.connection.all.undecoded);
        let has_room = own.load(Ordering::Relaxed) + bytes <= UNDECODED_BYTES_OWN
            || all.load(Ordering::Relaxed) + bytes <= UNDECODED_BYTES_MAX;
        if has_room {
            add(own, all, UNDECODED_BYTES_OWN, bytes);
            if self.bytes == 0 {
                self.number = self.connection.undecoded_since.begin(self.connection.all.now_ms());
            }
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
        if bytes > 0 {
            self.connection.undecoded_since.end(self.number);
        }
        let (own, all) = (&self.connection.undecoded, &self.connection.all.undecoded);
        take_back(own, all, UNDECODED_BYTES_OWN, bytes);
    }
}

impl Drop for Undecoded {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Bytes of a response that is not read yet.
pub struct Unread {
    pub(super) bytes: u64,
    pub(super) number: u64,
    pub(super) connection: Arc<Connection>,
}

impl Unread {
    /// As much as it became.
    pub fn resize(&mut self, bytes: usize) {
        let (before, bytes) = (self.bytes, bytes as u64);
        self.bytes = bytes;
        if bytes > before {
            self.connection.add_unread(bytes - before, self.connection.all.now_ms());
        } else {
            self.give_back(before - bytes);
        }
    }

    fn give_back(&self, bytes: u64) {
        let (own, all) = (&self.connection.unread, &self.connection.all);
        take_back(own, &all.unread, UNREAD_BYTES_SMALL, bytes);
        all.room.notify_waiters();
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.connection.unread_since.end(self.number);
        self.give_back(self.bytes);
    }
}
