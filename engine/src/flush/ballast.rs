//! A file that holds nothing: given up when space runs out where it is needed. Its size follows that of the tables.
//!
//! Flush, checkpoint and deletes go on with what it gave; it is made again when there is room for it several times
//! over.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use crate::{
    admit::room::Room,
    disk::{self, Disk, DiskFile, Mode},
    flush::Wishes,
    journal::poison,
    poison::Poison,
    stage::{Bell, Now, Stage, Step},
    tail::Tail,
};

/// Its path.
pub const BALLAST_PATH: &str = "ballast";
/// It is looked after this often.
const EVERY_US: u64 = 1_000_000;
/// It is made again when so many times its size is free.
const COMFORT: u64 = 8;
/// It is made again when more files than this may be made: what it gave up is not taken back at once.
const FILES_COMFORT: u64 = 1_024;

/// The stage that keeps the ballast.
pub struct Ballast {
    disk: Arc<dyn Disk>,
    wishes: Arc<Wishes>,
    poison: Arc<Poison>,
    bytes: u64,
    room: Arc<Room>,
    tail: Arc<Tail>,
    state: State,
    look_at: u64,
    bell: Bell,
}

enum State {
    Unknown,
    /// With so many bytes.
    Held(u64),
    Empty(Arc<dyn DiskFile>),
    Gone,
}

impl Ballast {
    /// Keeps `bytes` aside, and looks how much room there is when nobody appends.
    pub fn new(
        disk: Arc<dyn Disk>,
        wishes: Arc<Wishes>,
        poison: Arc<Poison>,
        bytes: u64,
        (room, tail): (Arc<Room>, Arc<Tail>),
        bell: &Bell,
    ) -> Self {
        Self { disk, wishes, poison, bytes, room, tail, state: State::Unknown, look_at: 0, bell: bell.clone() }
    }

    /// One call; `None` when there is nothing to do.
    fn advance(&mut self) -> io::Result<Option<State>> {
        let wanted = self.wishes.space.load(Ordering::Acquire);
        match &self.state {
            _ if self.bytes == 0 => Ok(None),
            State::Unknown => match self.disk.open(BALLAST_PATH, Mode::Write, false) {
                Ok(file) if file.bytes()? >= self.wanted() => Ok(Some(State::Held(file.bytes()?))),
                Ok(file) => Ok(Some(State::Empty(file))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(State::Gone)),
                Err(error) if disk::is_lack(&error) => Ok(None),
                Err(error) => Err(error),
            },
            State::Held(_) | State::Empty(_) if wanted => {
                self.disk.remove(BALLAST_PATH)?;
                self.wishes.space.store(false, Ordering::Release);
                Ok(Some(State::Gone))
            }
            State::Gone if wanted => {
                self.wishes.space.store(false, Ordering::Release);
                Ok(None)
            }
            // The tables have grown, and so must what is kept aside for them.
            State::Held(bytes) if *bytes < self.wanted() && self.is_comfortable() => Ok(Some(State::Unknown)),
            State::Held(_) => Ok(None),
            State::Gone | State::Empty(_) if !self.is_comfortable() => Ok(None),
            State::Gone => match self.disk.open(BALLAST_PATH, Mode::Create, false) {
                Ok(file) => Ok(Some(State::Empty(file))),
                Err(error) if disk::is_lack(&error) => Ok(None),
                Err(error) => Err(error),
            },
            State::Empty(file) => match file.allocate(0, self.wanted()) {
                Ok(()) => Ok(Some(State::Held(self.wanted()))),
                Err(error) if disk::is_lack(&error) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// What is to be kept aside: the floor, and twice the tables, in steps of a quarter of the floor.
    fn wanted(&self) -> u64 {
        (self.bytes + 2 * self.room.tables_bytes()).next_multiple_of((self.bytes / 4).max(1))
    }

    fn is_comfortable(&self) -> bool {
        let has_files = |files: Option<u64>| files.is_none_or(|files| files > FILES_COMFORT);
        self.disk.space().is_ok_and(|space| space.free > self.wanted() * COMFORT && has_files(space.files))
    }
}

impl Stage for Ballast {
    fn name(&self) -> &'static str {
        "ballast"
    }

    fn bell(&self) -> &Bell {
        &self.bell
    }

    fn step(&mut self, now: Now) -> Step {
        if self.poison.is_set() {
            return Step::Poisoned;
        }
        let wanted = self.wishes.space.load(Ordering::Acquire);
        if now.mono_us < self.look_at && !wanted {
            return Step::Until(self.look_at);
        }
        // The answer is for the operator alone: a disk that fills while nobody appends is reported too.
        let _refusal = self.room.check(now.mono_us, self.tail.pinned_bytes());
        match self.advance() {
            Ok(Some(next)) => {
                self.state = next;
                Step::Did
            }
            Ok(None) => {
                self.look_at = now.mono_us + EVERY_US;
                Step::Until(self.look_at)
            }
            Err(error) => {
                poison(&self.poison, "ballast", BALLAST_PATH, &error);
                Step::Poisoned
            }
        }
    }
}
