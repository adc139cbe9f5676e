//! Is there room on the disk for one more append? Asked at admission, from a reading that is at most 100 ms old.
//!
//! An append is refused while what is free is less than what is not flushed yet plus a floor: then flush, checkpoint
//! and deletes still have room to work in, and the disk comes free again without anybody's hand.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use crate::{
    disk::Disk,
    error::Refusal,
    notice::{Notice, Notices},
};

const READING_MAX_AGE_US: u64 = 100_000;
/// Files that flush, checkpoint and deletes may still make when appends are refused.
const FILES_MIN: u64 = 64;

/// What the operator was told last.
const ENOUGH: u8 = 0;
const LOW: u8 = 1;
const FULL: u8 = 2;

/// The room on the disk, as last read.
pub struct Room {
    disk: Arc<dyn Disk>,
    floor_bytes: u64,
    tables_bytes: AtomicU64,
    free_bytes: AtomicU64,
    free_files: AtomicU64,
    read_at: AtomicU64,
    lacking: AtomicBool,
    told: AtomicU8,
    notices: Arc<Notices>,
}

impl Room {
    /// Read at `now`. Room above a floor of `floor_bytes` and twice the tables.
    pub fn new(disk: Arc<dyn Disk>, now: u64, floor_bytes: u64, notices: Arc<Notices>) -> Self {
        let room = Self {
            disk,
            floor_bytes,
            tables_bytes: AtomicU64::new(0),
            free_bytes: AtomicU64::new(u64::MAX),
            free_files: AtomicU64::new(u64::MAX),
            read_at: AtomicU64::new(0),
            lacking: AtomicBool::new(false),
            told: AtomicU8::new(ENOUGH),
            notices,
        };
        room.read(now);
        room
    }

    /// Tells how large the tables are.
    pub fn set_tables_bytes(&self, bytes: u64) {
        self.tables_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Says whether flush or checkpoint lack something that comes back: appends that wait for them are refused.
    pub fn set_lacking(&self, is_lacking: bool) {
        self.lacking.store(is_lacking, Ordering::Release);
    }

    /// Whether flush or checkpoint lack something.
    pub fn is_lacking(&self) -> bool {
        self.lacking.load(Ordering::Acquire)
    }

    /// Refuses when, at `now` (microseconds of the monotonic clock), `unflushed` bytes and the floor do not fit what
    /// is free.
    pub fn check(&self, now: u64, unflushed: u64) -> Result<(), Refusal> {
        if now.saturating_sub(self.read_at.load(Ordering::Relaxed)) >= READING_MAX_AGE_US {
            self.read(now);
        }
        let free = self.free_bytes.load(Ordering::Relaxed);
        let needed = self.needed_bytes(unflushed);
        self.report(free, needed);
        if free < needed {
            return Err(Refusal::DiskFull { unit: "bytes", free, needed });
        }
        let (free, needed) = (self.free_files.load(Ordering::Relaxed), FILES_MIN);
        if free < needed { Err(Refusal::DiskFull { unit: "files", free, needed }) } else { Ok(()) }
    }

    /// Reports a change once. Leaving a state takes a margin, so that a reading that swings around a line is quiet.
    fn report(&self, free: u64, needed: u64) {
        let told = self.told.load(Ordering::Relaxed);
        let now = match told {
            _ if free < needed => FULL,
            _ if free < needed.saturating_mul(2) => LOW,
            ENOUGH => ENOUGH,
            _ if free >= needed.saturating_mul(2).saturating_add(needed / 4) => ENOUGH,
            _ => LOW,
        };
        if now == told || self.told.swap(now, Ordering::Relaxed) == now {
            return;
        }
        self.notices.push(match (told, now) {
            (_, FULL) => Notice::DiskFull { free, needed },
            (FULL, _) => Notice::DiskRelieved { free },
            (_, LOW) => Notice::DiskLow { free, needed },
            _ => Notice::DiskRelieved { free },
        });
    }

    /// How large the tables are.
    pub fn tables_bytes(&self) -> u64 {
        self.tables_bytes.load(Ordering::Relaxed)
    }

    /// What must be free for appends while `unflushed` bytes are not flushed.
    pub fn needed_bytes(&self, unflushed: u64) -> u64 {
        unflushed + self.floor_bytes + 2 * self.tables_bytes.load(Ordering::Relaxed)
    }

    fn read(&self, now: u64) {
        self.read_at.store(now, Ordering::Relaxed);
        // A file system that cannot say how full it is does not stop appends; a real lack of space still does.
        let space = self.disk.space().ok();
        self.free_bytes.store(space.map_or(u64::MAX, |space| space.free), Ordering::Relaxed);
        let files = space.and_then(|space| space.files).unwrap_or(u64::MAX);
        self.free_files.store(files, Ordering::Relaxed);
    }
}
