//! A disk in memory that can lose everything a real one can, on command and by seed.
//!
//! Every file and directory has two pictures: what processes see (the page cache) and what the disk holds. A sync
//! carries a file's content, length and allocation over, a directory sync its names; whatever is in between when the
//! power fails is tossed for, sector by sector. Calls fail on plan, and a crash can be put at any changing call.
//!
//! What must stay true: one seed and one sequence of calls give one outcome, so nothing here reads a clock, draws
//! entropy or walks an unordered map; and a crash kills every handle first, so that whatever is dropped or called
//! after it does nothing.
//!
//! ```
//! use tillroll_engine::disk::{Mode, sim::{Crash, SimDisk}};
//!
//! let sim = SimDisk::new(7);
//! let disk = sim.handle();
//! let file = disk.open("a", Mode::Create, false)?;
//! file.write_at(b"kept", 0)?;
//! file.sync()?;
//! disk.sync_dir("")?;
//! sim.crash(Crash::Power);
//! assert!(file.sync().is_err(), "the old handle is dead");
//! assert_eq!(sim.read_file("a"), b"kept");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use parking_lot::Mutex;

use super::Disk;

mod faults;
mod file;
mod handle;
mod image;
mod names;
mod rng;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub use faults::{Call, CallKind, Crash, Fault, Names};

use handle::SimHandle;
use state::State;

/// A simulated disk. Clones are the same disk; [`SimDisk::snapshot`] makes another one.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk of 1 TiB whose tosses follow `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// The disk as an engine sees it, alive until the next crash. After a crash this is how the next process opens
    /// what survived.
    pub fn handle(&self) -> Arc<dyn Disk> {
        let generation = self.state.lock().attach();
        Arc::new(SimHandle { state: self.state.clone(), generation })
    }

    /// A disk with the same content in both pictures and the same dice, and nothing else: no handles, no lock, no
    /// plan, counters at 0. Pages are shared until one side writes.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state.lock().fork())) }
    }

    /// Starts the dice anew.
    pub fn reseed(&self, seed: u64) {
        self.state.lock().reseed(seed);
    }

    /// Ends every handle, lock and plan, now and between two calls.
    pub fn crash(&self, crash: Crash) {
        self.state.lock().crash(crash);
    }

    /// Puts a crash at the `nth` changing call from now, the next one being 1. By the seed the call has not happened,
    /// has happened, or (a write) has happened in part; its caller gets the dead error in each case.
    pub fn crash_at(&self, nth: u64, crash: Crash) {
        self.state.lock().plan.crash_at(nth, crash);
    }

    /// Makes the `nth` changing call from now fail, the next one being 1. A crash forgets the plan.
    pub fn fail_at(&self, nth: u64, fault: Fault) {
        self.state.lock().plan.fail_at(None, nth, fault);
    }

    /// Makes the `nth` call of one kind from now fail, the next one being 1.
    pub fn fail_at_kind(&self, kind: CallKind, nth: u64, fault: Fault) {
        self.state.lock().plan.fail_at(Some(kind), nth, fault);
    }

    /// Makes the `nth` read from now fail, the next one being 1. A crash forgets the plan.
    pub fn fail_read_at(&self, nth: u64) {
        self.state.lock().plan.fail_read_at(nth);
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.state.lock().calls.reads
    }

    /// Forgets planned crashes and faults that have not struck.
    pub fn clear_plan(&self) {
        self.state.lock().plan.clear();
    }

    /// How pending names survive a power cut; with `None`, the default, the seed chooses at each cut.
    pub fn set_names(&self, names: Option<Names>) {
        self.state.lock().names = names;
    }

    /// The size of the disk in bytes. It may be less than what is used already: then nothing more is given out.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().capacity = bytes;
    }

    /// How many files and directories may still be made, of all that are removed none comes back; none without a limit.
    pub fn set_files_left(&self, left: Option<u64>) {
        self.state.lock().files_left = left;
    }

    /// From now on every open fails for want of descriptors, or none does.
    pub fn set_lacks_descriptors(&self, lacks: bool) {
        self.state.lock().lacks_descriptors = lacks;
    }

    /// Whether files opened from now on can bypass the page cache when asked to. True at first.
    pub fn set_direct(&self, possible: bool) {
        self.state.lock().direct_possible = possible;
    }

    /// Makes about one read in `one_in` return less than it could; 0 makes all of them whole, as at first.
    pub fn set_short_reads(&self, one_in: u32) {
        self.state.lock().short_reads = one_in;
    }

    /// Promises that nobody writes into a range again: a write or cut that touches it panics from now on.
    pub fn seal_range(&self, path: &str, range: Range<u64>) {
        self.state.lock().file_mut(path).seal(range);
    }

    /// Whether the disk has crashed and nobody has taken a new handle yet.
    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// Changing calls so far on living handles, over all crashes, failed ones included.
    pub fn changes(&self) -> u64 {
        self.state.lock().calls.total
    }

    /// The same by kind; kinds that were never called are absent.
    pub fn changes_by_kind(&self) -> BTreeMap<CallKind, u64> {
        self.state.lock().calls.by_kind.clone()
    }

    /// Planned faults that struck.
    pub fn faults(&self) -> u64 {
        self.state.lock().calls.faults
    }

    /// The latest changing call: after a crash at a call, the one it struck.
    pub fn last_call(&self) -> Option<Call> {
        self.state.lock().calls.log.back().cloned()
    }

    /// The changing calls so far, the newest 65,536 of them.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().calls.log.iter().cloned().collect()
    }

    /// A hash over kind, path, position and length of every changing call so far.
    pub fn trace_hash(&self) -> u64 {
        self.state.lock().calls.hash
    }

    /// The paths of all files as processes see them, sorted.
    pub fn files(&self) -> Vec<String> {
        self.state.lock().image.files().into_iter().map(|(path, _)| path).collect()
    }

    /// A file's content as processes see it.
    ///
    /// # Panics
    ///
    /// When there is no such file, as all inspection does.
    pub fn read_file(&self, path: &str) -> Vec<u8> {
        self.state.lock().file(path).cached().content()
    }

    /// A file's content on the disk itself, with only the durable names leading to it. None when they lead nowhere.
    pub fn read_durable(&self, path: &str) -> Option<Vec<u8>> {
        self.state.lock().image.durable_file(path).map(|file| file.on_disk().content())
    }

    /// Puts a file with this content, durably, with the directories above it. Open handles keep what was there.
    ///
    /// # Panics
    ///
    /// When the path is refused.
    pub fn write_file(&self, path: &str, bytes: &[u8]) {
        self.state.lock().image.set_durably(path, Some(bytes)).expect("the test's path is a proper one");
    }

    /// Flips the bits `xor` of the byte at `at`, on the disk and in the cache.
    pub fn flip(&self, path: &str, at: u64, xor: u8) {
        self.state.lock().file_mut(path).flip(at, xor);
    }

    /// Removes a file durably, if there is one.
    ///
    /// # Panics
    ///
    /// When the path is refused.
    pub fn remove_file(&self, path: &str) {
        self.state.lock().image.set_durably(path, None).expect("the test's path is a proper one");
    }

    /// Bytes that a file takes from the disk, in blocks of 4096.
    pub fn allocated(&self, path: &str) -> u64 {
        self.state.lock().file(path).cached().allocated()
    }
}
