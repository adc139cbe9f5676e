//! Is there room on the disk for one more append? Asked at admission, from a reading that is at most 100 ms old.
//!
//! An append is refused while what is free is less than what is not flushed yet plus a floor: then flush, checkpoint
//! and deletes still have room to work in, and the disk comes free again without anybody's hand.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{disk::Disk, error::Refusal};

const READING_MAX_AGE_US: u64 = 100_000;

/// The room on the disk, as last read.
pub struct Room {
    disk: Arc<dyn Disk>,
    floor_bytes: u64,
    tables_bytes: AtomicU64,
    free_bytes: AtomicU64,
    read_at: AtomicU64,
}

impl Room {
    /// Read at `now`. Room above a floor of `floor_bytes` and twice the tables.
    pub fn new(disk: Arc<dyn Disk>, now: u64, floor_bytes: u64) -> Self {
        let room = Self {
            disk,
            floor_bytes,
            tables_bytes: AtomicU64::new(0),
            free_bytes: AtomicU64::new(u64::MAX),
            read_at: AtomicU64::new(0),
        };
        room.read(now);
        room
    }

    /// Tells how large the tables are.
    pub fn set_tables_bytes(&self, bytes: u64) {
        self.tables_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Refuses when, at `now` (microseconds of the monotonic clock), `unflushed` bytes and the floor do not fit what
    /// is free.
    pub fn check(&self, now: u64, unflushed: u64) -> Result<(), Refusal> {
        if now.saturating_sub(self.read_at.load(Ordering::Relaxed)) >= READING_MAX_AGE_US {
            self.read(now);
        }
        let free = self.free_bytes.load(Ordering::Relaxed);
        let needed = unflushed + self.floor_bytes + 2 * self.tables_bytes.load(Ordering::Relaxed);
        if free < needed { Err(Refusal::DiskFull { free, needed }) } else { Ok(()) }
    }

    fn read(&self, now: u64) {
        self.read_at.store(now, Ordering::Relaxed);
        // A file system that cannot say how full it is does not stop appends; a real lack of space still does.
        let free = self.disk.space().map_or(u64::MAX, |space| space.free);
        self.free_bytes.store(free, Ordering::Relaxed);
    }
}
