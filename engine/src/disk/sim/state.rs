//! The simulated machine behind the disk: which generation of handles lives, what is planned, and what each call does.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{
    Call, CallKind, Crash, Fault, Names,
    faults::{Calls, Plan, Turn, dead, shown},
    file::FileImage,
    image::Image,
    names::NodeId,
    rng::Rng,
    view::{BLOCK, SECTOR},
};
use crate::{disk::Space, limits::ALIGN};

/// The size of a disk that nobody has limited.
const CAPACITY_BYTES: u64 = 1 << 40;

/// Everything that a disk is.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) image: Image,
    pub(super) plan: Plan,
    pub(super) calls: Calls,
    pub(super) names: Option<Names>,
    pub(super) capacity: u64,
    /// Files and directories that may still be made; none without a limit.
    pub(super) files_left: Option<u64>,
    /// Every open fails for want of descriptors.
    pub(super) lacks_descriptors: bool,
    pub(super) direct_possible: bool,
    pub(super) short_reads: u32,
    pub(super) dead: bool,
    generation: u64,
    /// The number of the lock that is held.
    lock: Option<u64>,
    next_lock: u64,
    /// Open handles of this generation.
    open: BTreeMap<NodeId, u32>,
    rng: Rng,
    /// Short reads have dice of their own: a read more must not change what a crash keeps.
    read_rng: Rng,
}

/// A write on its way: where, what, and through which kind of handle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write<'a> {
    pub(super) node: NodeId,
    pub(super) bytes: &'a [u8],
    pub(super) at: u64,
    pub(super) direct: bool,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            image: Image::new(),
            plan: Plan::default(),
            calls: Calls::default(),
            names: None,
            capacity: CAPACITY_BYTES,
            files_left: None,
            lacks_descriptors: false,
            direct_possible: true,
            short_reads: 0,
            dead: false,
            generation: 0,
            lock: None,
            next_lock: 0,
            open: BTreeMap::new(),
            rng: Rng::new(seed),
            read_rng: Rng::new(!seed),
        }
    }

    pub(super) fn fork(&self) -> Self {
        Self {
            plan: Plan::default(),
            calls: Calls::default(),
            dead: false,
            generation: 0,
            lock: None,
            open: BTreeMap::new(),
            ..self.clone()
        }
    }

    pub(super) fn reseed(&mut self, seed: u64) {
        self.rng = Rng::new(seed);
        self.read_rng = Rng::new(!seed);
    }

    /// Begins or joins the life of the present generation.
    pub(super) fn attach(&mut self) -> u64 {
        self.dead = false;
        self.generation
    }

    pub(super) fn check_alive(&self, generation: u64) -> io::Result<()> {
        if generation == self.generation { Ok(()) } else { Err(dead()) }
    }

    pub(super) fn crash(&mut self, crash: Crash) {
        self.generation += 1;
        self.dead = true;
        self.lock = None;
        self.open.clear();
        self.plan.clear();
        match crash {
            Crash::Kill => self.image.collect(&self.open),
            Crash::Power => {
                let tossed = if self.rng.coin() { Names::Ordered } else { Names::Any };
                self.image.power(self.names.unwrap_or(tossed), &mut self.rng);
            }
        }
    }

    /// A file by its path, for inspection.
    pub(super) fn file(&self, path: &str) -> &FileImage {
        let node = self.image.file_id(path).expect("the test names a file that exists");
        self.image.file(node)
    }

    /// As [`State::file`], to be changed behind everyone's back.
    pub(super) fn file_mut(&mut self, path: &str) -> &mut FileImage {
        let node = self.image.file_id(path).expect("the test names a file that exists");
        self.image.file_mut(node)
    }

    /// Counts a changing call and asks the plan about it.
    pub(super) fn arrive(
        &mut self,
        generation: u64,
        kind: CallKind,
        path: &str,
        at: u64,
        bytes: u64,
    ) -> io::Result<Turn> {
        self.check_alive(generation)?;
        self.calls.note(Call { kind, path: Arc::from(path), at, bytes });
        let turn = self.plan.turn(kind);
        if matches!(turn, Turn::Fail(_)) {
            self.calls.faults += 1;
        }
        Ok(turn)
    }

    fn die<T>(&mut self, crash: Crash) -> io::Result<T> {
        self.crash(crash);
        Err(dead())
    }

    /// Does a call that happens whole or not at all.
    pub(super) fn perform<T>(&mut self, turn: Turn, act: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        match turn {
            Turn::Go => act(self),
            Turn::Fail(fault) => Err(shown(fault)),
            Turn::Die(crash) => {
                if self.rng.coin() {
                    // Whether it would have worked is of no interest: nobody is left to be told.
                    drop(act(self));
                }
                self.die(crash)
            }
        }
    }

    pub(super) fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.image.used(&self.open))
    }

    pub(super) fn space(&self) -> Space {
        Space { free: self.free(), total: self.capacity, files: self.files_left }
    }

    /// A new name takes room in its directory.
    pub(super) fn check_room_for_name(&mut self) -> io::Result<()> {
        if self.free() < BLOCK as u64 || self.files_left == Some(0) {
            return Err(shown(Fault::NoSpace));
        }
        self.files_left = self.files_left.map(|left| left - 1);
        Ok(())
    }

    /// A descriptor for a file that is opened.
    pub(super) fn check_descriptor(&self) -> io::Result<()> {
        const EMFILE: i32 = 24;
        if self.lacks_descriptors { Err(io::Error::from_raw_os_error(EMFILE)) } else { Ok(()) }
    }

    pub(super) fn open_file(&mut self, node: NodeId) {
        *self.open.entry(node).or_default() += 1;
    }

    pub(super) fn close_file(&mut self, generation: u64, node: NodeId) {
        if generation != self.generation {
            return;
        }
        if let Some(count) = self.open.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&node);
            }
        }
    }

    pub(super) fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        self.image.sync_dir(dir)?;
        self.image.collect(&self.open);
        Ok(())
    }

    pub(super) fn take_lock(&mut self) -> io::Result<u64> {
        if self.lock.is_some() {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "the data directory is in use"));
        }
        self.next_lock += 1;
        self.lock = Some(self.next_lock);
        Ok(self.next_lock)
    }

    pub(super) fn release_lock(&mut self, number: u64) {
        if self.lock == Some(number) {
            self.lock = None;
        }
    }

    pub(super) fn read(&mut self, node: NodeId, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.calls.reads += 1;
        if self.plan.read_fails() {
            return Err(shown(Fault::Error));
        }
        let count = self.image.file(node).cached().read(buffer, at);
        if self.short_reads > 0 && count > 1 && self.read_rng.one_in(self.short_reads as usize) {
            return Ok(1 + self.read_rng.below(count - 1));
        }
        Ok(count)
    }

    /// Panics on what no disk would survive: the engine broke its own rules.
    pub(super) fn check_write(&mut self, write: Write<'_>, path: &str) {
        let Write { node, bytes, at, direct } = write;
        let count = bytes.len();
        if direct {
            let whole = count.is_multiple_of(ALIGN) && at.is_multiple_of(ALIGN as u64);
            assert!(whole, "a direct write is not aligned: path={path} at={at} bytes={count}");
            assert!(bytes.as_ptr().align_offset(ALIGN) == 0, "a direct write's address is not aligned: path={path}");
        }
        let generation = self.generation;
        let mixed = self.image.file_mut(node).mixes_handles(direct, generation);
        assert!(!mixed, "a file written past the page cache is written through it: path={path} at={at} bytes={count}");
        self.check_seal(node, at, at + count as u64, path);
    }

    /// Panics when a change of `at..end` touches a sealed range.
    pub(super) fn check_seal(&self, node: NodeId, at: u64, end: u64, path: &str) {
        let broken = self.image.file(node).broken_seal(at, end);
        assert!(broken.is_none(), "a sealed range is changed: path={path} at={at} end={end} sealed={broken:?}");
    }

    pub(super) fn write(&mut self, turn: Turn, write: Write<'_>) -> io::Result<usize> {
        let Write { node, bytes, at, direct } = write;
        match turn {
            Turn::Go => self.put(write),
            Turn::Fail(Fault::NoSpace) => Err(shown(Fault::NoSpace)),
            Turn::Fail(Fault::Error) => {
                if self.fitting(node, at, bytes.len()) == bytes.len() {
                    self.image.file_mut(node).write_some(bytes, at, &mut self.rng);
                }
                Err(shown(Fault::Error))
            }
            Turn::Fail(Fault::Lost) => Ok(bytes.len()),
            Turn::Fail(Fault::Misplaced) => {
                let blocks = self.image.file(node).cached().bytes.div_ceil(ALIGN as u64).max(2);
                let other = (at / ALIGN as u64 + 1 + self.rng.below((blocks - 1) as usize) as u64) % blocks;
                let shifted = other * ALIGN as u64 + at % ALIGN as u64;
                self.put(Write { at: shifted, ..write }).map(|_| bytes.len())
            }
            Turn::Fail(Fault::ShortWrite) => {
                let count = self.short(bytes.len(), direct);
                self.put(Write { bytes: &bytes[..count], ..write })
            }
            Turn::Die(crash) => {
                let count = match self.rng.below(3) {
                    0 => 0,
                    1 => bytes.len(),
                    _ => self.short(bytes.len(), direct),
                };
                drop(self.put(Write { bytes: &bytes[..count], ..write }));
                self.die(crash)
            }
        }
    }

    /// A part of `count`, at least one byte; past the cache it ends with a sector.
    fn short(&mut self, count: usize, direct: bool) -> usize {
        let unit = if direct { SECTOR } else { 1 };
        let units = count / unit;
        if units < 2 { count } else { (1 + self.rng.below(units - 1)) * unit }
    }

    fn fitting(&self, node: NodeId, at: u64, count: usize) -> usize {
        let end = at + count as u64;
        let view = self.image.file(node).cached();
        // Within allocated blocks a write never needs to know what is free.
        if view.missing(at, end) == 0 { count } else { view.fitting(at, end, self.free()) }
    }

    fn put(&mut self, write: Write<'_>) -> io::Result<usize> {
        let Write { node, bytes, at, .. } = write;
        let count = self.fitting(node, at, bytes.len());
        if count == 0 && !bytes.is_empty() {
            return Err(shown(Fault::NoSpace));
        }
        if count > 0 {
            self.image.file_mut(node).write(&bytes[..count], at);
        }
        Ok(count)
    }

    pub(super) fn sync(&mut self, turn: Turn, node: NodeId) -> io::Result<()> {
        match turn {
            Turn::Fail(Fault::Lost) => Ok(()),
            Turn::Fail(fault) => {
                let forgetful = self.rng.coin();
                self.image.file_mut(node).fail_sync(forgetful, &mut self.rng);
                Err(shown(fault))
            }
            Turn::Go | Turn::Die(_) => self.perform(turn, |state| {
                if !state.image.file(node).is_settled() {
                    state.image.file_mut(node).sync();
                }
                Ok(())
            }),
        }
    }

    pub(super) fn allocate(&mut self, node: NodeId, at: u64, end: u64) -> io::Result<()> {
        let missing = self.image.file(node).cached().missing(at, end);
        if missing > 0 && missing > self.free() {
            return Err(shown(Fault::NoSpace));
        }
        self.image.file_mut(node).allocate(at, end);
        Ok(())
    }
}
