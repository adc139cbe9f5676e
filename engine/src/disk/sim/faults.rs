//! What goes wrong, when, and the record of the calls that could have.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    sync::Arc,
};

use super::rng::mix;

/// How everything ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies. What it wrote stays visible through the page cache, as little durable as it was.
    Kill,
    /// The power fails. Every pending sector is kept, dropped or garbled, every pending length, allocation and name
    /// kept or dropped, by the seed; what comes out is durable.
    Power,
}

/// Which of the pending names survive when the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// A prefix of all changes, in the order they were made, as a journalling file system keeps them.
    Ordered,
    /// Any of them: all that POSIX promises.
    Any,
}

/// What happens to one call instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An input-output error. A failed write leaves each of its sectors written or not; a failed sync loses what was
    /// pending for good, though the cache may show it for a while; all other calls have no effect.
    Error,
    /// `StorageFull`. A failed sync loses what was pending; all other calls have no effect.
    NoSpace,
    /// A write that stops early and says so. Calls of other kinds are not touched.
    ShortWrite,
    /// A disk that lies: a write or a sync that says it was done, and was not. Calls of other kinds are not touched.
    Lost,
    /// A disk that errs: a write that goes to another place of its file. Calls of other kinds are not touched.
    Misplaced,
}

impl Fault {
    /// Whether it can happen to calls of a kind.
    fn touches(self, kind: CallKind) -> bool {
        match self {
            Self::Error | Self::NoSpace => true,
            Self::ShortWrite | Self::Misplaced => kind == CallKind::Write,
            Self::Lost => matches!(kind, CallKind::Write | CallKind::Sync),
        }
    }
}

/// The changing calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallKind {
    /// `DiskFile::write_at`.
    Write,
    /// `DiskFile::allocate`.
    Allocate,
    /// `DiskFile::set_bytes`.
    SetBytes,
    /// `DiskFile::sync`.
    Sync,
    /// `Disk::open` with `Mode::Create`.
    Create,
    /// `Disk::rename`.
    Rename,
    /// `Disk::remove`.
    Remove,
    /// `Disk::create_dir`.
    CreateDir,
    /// `Disk::remove_dir`.
    RemoveDir,
    /// `Disk::sync_dir`.
    SyncDir,
}

impl CallKind {
    /// All kinds, for tests that must have met each.
    pub const ALL: [Self; 10] = [
        Self::Write,
        Self::Allocate,
        Self::SetBytes,
        Self::Sync,
        Self::Create,
        Self::Rename,
        Self::Remove,
        Self::CreateDir,
        Self::RemoveDir,
        Self::SyncDir,
    ];
}

impl fmt::Display for CallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Write => "write",
            Self::Allocate => "allocate",
            Self::SetBytes => "set_bytes",
            Self::Sync => "sync",
            Self::Create => "create",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::CreateDir => "create_dir",
            Self::RemoveDir => "remove_dir",
            Self::SyncDir => "sync_dir",
        })
    }
}

/// One changing call, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was called.
    pub kind: CallKind,
    /// On which path; a rename has `from -> to`.
    pub path: Arc<str>,
    /// Position in bytes; the new length of `set_bytes`; else 0.
    pub at: u64,
    /// Length in bytes; else 0.
    pub bytes: u64,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} path={:?} at={} bytes={}", self.kind, self.path, self.at, self.bytes)
    }
}

/// What the plan has for a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    Go,
    Fail(Fault),
    Die(Crash),
}

#[derive(Clone, Copy, Debug)]
struct PlannedFault {
    kind: Option<CallKind>,
    /// Calls until it strikes, itself included.
    left: u64,
    fault: Fault,
}

/// What is to go wrong.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    crash: Option<(u64, Crash)>,
    faults: Vec<PlannedFault>,
    /// Reads until one fails, itself included.
    read_error: Option<u64>,
}

impl Plan {
    pub(super) fn crash_at(&mut self, nth: u64, crash: Crash) {
        assert!(nth > 0, "calls are counted from 1");
        self.crash = Some((nth, crash));
    }

    pub(super) fn fail_at(&mut self, kind: Option<CallKind>, nth: u64, fault: Fault) {
        assert!(nth > 0, "calls are counted from 1");
        self.faults.push(PlannedFault { kind, left: nth, fault });
    }

    pub(super) fn fail_read_at(&mut self, nth: u64) {
        assert!(nth > 0, "calls are counted from 1");
        self.read_error = Some(nth);
    }

    /// Counts one read; whether it fails.
    pub(super) fn read_fails(&mut self) -> bool {
        let Some(left) = &mut self.read_error else { return false };
        *left -= 1;
        let fails = *left == 0;
        if fails {
            self.read_error = None;
        }
        fails
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Counts one call. A crash goes before a fault, an earlier planned fault before a later one.
    pub(super) fn turn(&mut self, kind: CallKind) -> Turn {
        let mut turn = Turn::Go;
        self.faults.retain_mut(|planned| {
            if planned.kind.is_some_and(|only| only != kind) {
                return true;
            }
            planned.left -= 1;
            let strikes = planned.left == 0;
            if strikes && planned.fault.touches(kind) && matches!(turn, Turn::Go) {
                turn = Turn::Fail(planned.fault);
            }
            !strikes
        });
        if let Some((left, crash)) = &mut self.crash {
            *left -= 1;
            if *left == 0 {
                return Turn::Die(*crash);
            }
        }
        turn
    }
}

/// Calls that are remembered one by one.
const LOG_MAX: usize = 65_536;

/// The record of the changing calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    pub(super) total: u64,
    pub(super) by_kind: BTreeMap<CallKind, u64>,
    pub(super) log: VecDeque<Call>,
    pub(super) hash: u64,
    pub(super) faults: u64,
    /// Reads.
    pub(super) reads: u64,
}

impl Calls {
    pub(super) fn note(&mut self, call: Call) {
        self.total += 1;
        *self.by_kind.entry(call.kind).or_default() += 1;
        let mut fold = |number: u64| self.hash = mix(self.hash.rotate_left(5) ^ number);
        fold(call.kind as u64 + 1);
        call.path.bytes().for_each(|byte| fold(u64::from(byte)));
        fold(call.at);
        fold(call.bytes);
        if self.log.len() == LOG_MAX {
            self.log.pop_front();
        }
        self.log.push_back(call);
    }
}

/// What every call on a dead handle gets.
pub(super) fn dead() -> io::Error {
    io::Error::other("the disk handle is dead")
}

/// The error that a fault shows, with the numbers that the system uses.
pub(super) fn shown(fault: Fault) -> io::Error {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    io::Error::from_raw_os_error(if fault == Fault::NoSpace { ENOSPC } else { EIO })
}
