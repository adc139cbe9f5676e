//! What connections hold, each until it is dropped: room, calls, and a place among those that wait.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::Mutex;

use super::{
    Connection, Connections, OVERDUE, UNDECODED_BYTES_MAX, UNDECODED_BYTES_OWN, UNREAD_BYTES_SMALL, add, is_over,
    take_back,
};

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
