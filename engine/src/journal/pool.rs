//! Journal files: fixed in size, filled with zeros once, used again without being zeroed or renamed.
//!
//! A file's number stands in its header; its name says only which slot of the pool it is. Files are in use in the
//! order of their numbers; the checkpoint gives back those whose frames it stands for. [`Grow`] makes more in the
//! background when load asks for it, so that a first start is quick and a quiet broker needs little disk.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    disk::{self, Advice, Disk, DiskFile, Mode, aligned::AlignedBuf},
    id::Lsn,
    journal::poison,
    notice::{Lack, Notice, Notices},
    poison::Poison,
    stage::{Bell, Now, Stage, Step},
};

/// The directory of the journal.
pub const JOURNAL_DIR: &str = "journal";
/// Zeros are written in pieces of this many bytes.
const ZERO_PIECE_BYTES: usize = 4 << 20;
/// Greater numbers are no slots: there are as many as files may be in use at most.
const SLOT_MAX: u32 = 999_999;
/// After a lack of space, growing is tried again after this long.
const RETRY_US: u64 = 250_000;
/// After so many tries in a row appends are refused: what is taken in might never be written.
const STARVED_LACKS: u32 = 2;

/// Which file of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// Its name in the journal's directory.
    pub fn name(self) -> String {
        format!("slot-{:03}", self.0)
    }

    /// Its path.
    pub fn path(self) -> String {
        format!("{JOURNAL_DIR}/{}", self.name())
    }

    /// The slot of a name in the journal's directory.
    pub fn from_name(name: &str) -> Option<Self> {
        let digits = name.strip_prefix("slot-")?;
        let slot = Self(digits.parse().ok()?);
        (slot.0 <= SLOT_MAX && slot.name() == name).then_some(slot)
    }
}

/// A file in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Where.
    pub slot: Slot,
    /// Its number.
    pub file_no: u64,
    /// Its first frame.
    pub first_lsn: Lsn,
}

#[derive(Default)]
struct State {
    /// Files that were opened stay open: where no descriptor is left, the journal goes on all the same.
    handles: BTreeMap<Slot, Arc<dyn DiskFile>>,
    free: Vec<Slot>,
    used: VecDeque<Used>,
    next_file_no: u64,
    next_slot: u32,
    /// Tries in a row to make a file that lacked something.
    lacks: u32,
    /// Slots that exist with unknown contents and must be filled before use.
    unfilled: Vec<Slot>,
    /// The operator knows that it is full.
    is_full: bool,
}

/// The files that recovery found.
#[derive(Debug, Default)]
pub struct Files {
    /// In use, in the order of their numbers.
    pub used: Vec<Used>,
    /// Filled before, and not needed.
    pub free: Vec<Slot>,
    /// Of unknown contents: filled before they are used.
    pub unfilled: Vec<Slot>,
    /// The number that the next file gets.
    pub next_file_no: u64,
}

/// The journal's files, shared by the writer, the checkpoint and [`Grow`].
pub struct Pool {
    state: Mutex<State>,
    files_max: u32,
    grower: Bell,
    waiting: [Bell; 2],
    checkpointer: Bell,
    notices: Arc<Notices>,
}

/// How full the journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fullness {
    /// Files in use.
    pub used: u32,
    /// As many as there may be.
    pub files_max: u32,
    /// No file is free, and none can be made: what it takes is lacking.
    pub is_starved: bool,
}

impl Fullness {
    /// Half full, or it cannot grow: a checkpoint should give files back.
    pub fn wants_checkpoint(self) -> bool {
        self.used * 2 > self.files_max || (self.is_starved && self.used > 1)
    }

    /// Three quarters: appends wait.
    pub fn holds_appends(self) -> bool {
        self.used * 4 > self.files_max * 3
    }

    /// Seven eighths: appends are refused. The last files are for topics, producers and deletes.
    pub fn refuses_appends(self) -> bool {
        self.used * 8 > self.files_max * 7
    }
}

impl Pool {
    /// The pool as recovery found it. Those who wait are rung when a file comes free, the checkpointer when one more is
    /// in use.
    pub fn new(
        files_max: u32,
        found: Files,
        waiting: [Bell; 2],
        checkpointer: &Bell,
        notices: Arc<Notices>,
    ) -> Arc<Self> {
        let Files { used, free, unfilled, next_file_no } = found;
        let slots = used.iter().map(|file| file.slot).chain(unfilled.iter().chain(&free).copied());
        let next_slot = slots.map(|slot| slot.0 + 1).max().unwrap_or(0);
        let state = State {
            handles: BTreeMap::new(),
            free,
            used: used.into(),
            next_file_no,
            next_slot,
            unfilled,
            lacks: 0,
            is_full: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            files_max,
            grower: Bell::default(),
            waiting,
            checkpointer: checkpointer.clone(),
            notices,
        })
    }

    /// Takes a free file for frames from `first_lsn` on.
    pub fn begin(&self, first_lsn: Lsn) -> Option<Used> {
        let mut state = self.state.lock();
        let slot = state.free.pop()?;
        let used = Used { slot, file_no: state.next_file_no, first_lsn };
        state.next_file_no += 1;
        state.used.push_back(used);
        self.report(&mut state);
        drop(state);
        self.grower.ring();
        self.checkpointer.ring();
        Some(used)
    }

    /// Gives back the files whose frames are all ≤ `lsn`. The newest file stays.
    pub fn release(&self, lsn: Lsn) -> usize {
        let mut state = self.state.lock();
        let mut released = 0;
        while state.used.get(1).is_some_and(|next| next.first_lsn <= lsn.next()) {
            let first = state.used.pop_front().map(|used| used.slot);
            state.free.extend(first);
            released += 1;
        }
        self.report(&mut state);
        drop(state);
        if released > 0 {
            self.waiting.iter().for_each(Bell::ring);
        }
        released
    }

    /// Reports that appends are refused, once, and that they are taken again.
    fn report(&self, state: &mut State) {
        let fullness = Fullness { used: state.used.len() as u32, files_max: self.files_max, is_starved: false };
        let (files, files_max) = (fullness.used, fullness.files_max);
        if !state.is_full && fullness.refuses_appends() {
            state.is_full = true;
            self.notices.push(Notice::JournalFull { files, files_max });
        } else if state.is_full && !fullness.holds_appends() {
            state.is_full = false;
            self.notices.push(Notice::JournalRelieved { files });
        }
    }

    /// Where states are reported.
    pub(crate) fn notices(&self) -> &Arc<Notices> {
        &self.notices
    }

    /// How full it is.
    pub fn fullness(&self) -> Fullness {
        let state = self.state.lock();
        let is_starved = state.lacks >= STARVED_LACKS && state.free.is_empty();
        Fullness { used: state.used.len() as u32, files_max: self.files_max, is_starved }
    }

    /// Files in use, oldest first.
    pub fn used(&self) -> Vec<Used> {
        self.state.lock().used.iter().copied().collect()
    }

    /// Whether a file could be begun at once.
    pub fn has_free(&self) -> bool {
        !self.state.lock().free.is_empty()
    }

    /// Keeps a file open.
    pub(crate) fn keep(&self, slot: Slot, file: Arc<dyn DiskFile>) {
        self.state.lock().handles.insert(slot, file);
    }

    /// A file that is open already.
    pub(crate) fn kept(&self, slot: Slot) -> Option<Arc<dyn DiskFile>> {
        self.state.lock().handles.get(&slot).cloned()
    }

    /// Adds a file that was filled.
    fn add(&self, slot: Slot) {
        let mut state = self.state.lock();
        state.free.push(slot);
        state.lacks = 0;
        drop(state);
        self.waiting.iter().for_each(Bell::ring);
    }

    /// No file could be made for now.
    fn lacked(&self) {
        self.state.lock().lacks += 1;
        self.waiting.iter().chain([&self.checkpointer]).for_each(Bell::ring);
    }

    /// The next file to fill, when one is wanted: an existing one of unknown contents first.
    fn wanted(&self) -> Option<(Slot, Mode)> {
        let mut state = self.state.lock();
        if !state.free.is_empty() {
            return None;
        }
        if let Some(slot) = state.unfilled.pop() {
            return Some((slot, Mode::Write));
        }
        if state.used.len() as u32 >= self.files_max {
            return None;
        }
        let slot = Slot(state.next_slot);
        state.next_slot += 1;
        Some((slot, Mode::Create))
    }
}

/// What is being done to the file that is filled now.
enum Filling {
    Open(Mode),
    Allocate(Arc<dyn DiskFile>),
    Zero { file: Arc<dyn DiskFile>, at: u64 },
    Sync(Arc<dyn DiskFile>),
    SyncDir(Arc<dyn DiskFile>),
}

/// Fills files for the pool, one call a step.
pub struct Grow {
    disk: Arc<dyn Disk>,
    pool: Arc<Pool>,
    poison: Arc<Poison>,
    file_bytes: u64,
    zeros: AlignedBuf,
    current: Option<(Slot, Filling)>,
    retry_at: u64,
    lack: Lack,
    bell: Bell,
}

impl Grow {
    /// Fills files of `file_bytes` for `pool`.
    pub fn new(disk: Arc<dyn Disk>, pool: Arc<Pool>, poison: Arc<Poison>, file_bytes: u64) -> Self {
        let piece = ZERO_PIECE_BYTES.min(usize::try_from(file_bytes).unwrap_or(ZERO_PIECE_BYTES));
        let mut zeros = AlignedBuf::with_capacity(piece);
        zeros.grow_zeroed(piece);
        let (bell, lack) = (pool.grower.clone(), Lack::new(pool.notices.clone(), "growing the journal"));
        Self { disk, pool, poison, file_bytes, zeros, current: None, retry_at: 0, lack, bell }
    }

    /// One call on the file; the next state, or none when the file is ready.
    fn advance(&self, slot: Slot, filling: Filling) -> io::Result<Option<Filling>> {
        match filling {
            Filling::Open(mode) => {
                let opened = match self.disk.open(&slot.path(), mode, true) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        self.disk.open(&slot.path(), Mode::Write, true)
                    }
                    other => other,
                };
                Ok(Some(Filling::Allocate(opened?)))
            }
            Filling::Allocate(file) => {
                file.allocate(0, self.file_bytes)?;
                Ok(Some(Filling::Zero { file, at: 0 }))
            }
            Filling::Zero { file, at } => {
                let left = usize::try_from(self.file_bytes - at).unwrap_or(usize::MAX);
                let piece = &self.zeros.as_slice()[..left.min(self.zeros.len())];
                disk::write_all_at(&*file, piece, at)?;
                let at = at + piece.len() as u64;
                Ok(Some(if at == self.file_bytes { Filling::Sync(file) } else { Filling::Zero { file, at } }))
            }
            Filling::Sync(file) => {
                file.sync()?;
                Ok(Some(Filling::SyncDir(file)))
            }
            Filling::SyncDir(file) => {
                self.disk.sync_dir(JOURNAL_DIR)?;
                file.advise(Advice::DontNeed)?;
                self.pool.keep(slot, file);
                Ok(None)
            }
        }
    }
}

impl Stage for Grow {
    fn name(&self) -> &'static str {
        "grow"
    }

    fn bell(&self) -> &Bell {
        &self.bell
    }

    fn step(&mut self, now: Now) -> Step {
        if self.poison.is_set() {
            return Step::Poisoned;
        }
        if now.mono_us < self.retry_at {
            return Step::Until(self.retry_at);
        }
        let Some((slot, filling)) = self.current.take() else {
            let Some((slot, mode)) = self.pool.wanted() else { return Step::Idle };
            self.current = Some((slot, Filling::Open(mode)));
            return Step::Did;
        };
        let is_lack = match filling {
            Filling::Open(_) | Filling::Allocate(_) => disk::is_lack,
            Filling::SyncDir(_) => disk::lacks_descriptor,
            Filling::Zero { .. } | Filling::Sync(_) => |_: &io::Error| false,
        };
        match self.advance(slot, filling) {
            Ok(Some(next)) => {
                if matches!(next, Filling::Zero { at: 0, .. }) {
                    self.lack.ends();
                }
                self.current = Some((slot, next));
            }
            Ok(None) => self.pool.add(slot),
            Err(error) if is_lack(&error) => {
                // Nothing is lost: the journal just does not grow.
                self.lack.begins(&slot.path(), &error);
                self.pool.lacked();
                // Whether the file is there by now decides itself when it is opened again.
                self.current = Some((slot, Filling::Open(Mode::Create)));
                self.retry_at = now.mono_us + RETRY_US;
                return Step::Until(self.retry_at);
            }
            Err(error) => {
                poison(&self.poison, "filling", &slot.path(), &error);
                return Step::Poisoned;
            }
        }
        Step::Did
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_and_its_name_are_one() {
        assert_eq!(Slot::from_name("slot-007"), Some(Slot(7)));
        assert_eq!(Slot(7).path(), "journal/slot-007");
        for other in ["slot-7", "slot-", "slot-0007", "file-007", "slot--07", "slot-4294967295"] {
            assert_eq!(Slot::from_name(other), None, "{other}");
        }
    }

    #[test]
    fn appends_wait_past_twelve_files_of_sixteen_and_are_refused_past_fourteen() {
        let full = |used| Fullness { used, files_max: 16, is_starved: false };
        assert!(!full(8).wants_checkpoint() && full(9).wants_checkpoint());
        assert!(!full(12).holds_appends() && full(13).holds_appends());
        assert!(!full(14).refuses_appends() && full(15).refuses_appends());
    }

    #[test]
    fn only_files_whose_frames_are_all_covered_are_given_back() {
        let used = |slot, first| Used { slot: Slot(slot), file_no: u64::from(slot) + 1, first_lsn: Lsn(first) };
        let files = vec![used(0, 1), used(1, 10), used(2, 20)];
        let found = Files { used: files, next_file_no: 4, ..Files::default() };
        let pool = Pool::new(16, found, [Bell::default(), Bell::default()], &Bell::default(), Arc::default());
        assert_eq!(pool.release(Lsn(8)), 0, "frame 9 is in the first file");
        assert_eq!(pool.release(Lsn(9)), 1);
        assert_eq!(pool.release(Lsn(100)), 1, "the newest file stays");
        assert_eq!(pool.begin(Lsn(30)).map(|file| file.file_no), Some(4));
    }
}
