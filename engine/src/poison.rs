//! Fail-stop for writes: the first failed write or sync is remembered, and nothing is written after it.
//!
//! A sync that failed may have lost its pages while the next sync reports success, so a retry proves nothing
//! ("fsyncgate", PostgreSQL 2018). Only a new process, which believes nothing but the disk, goes on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use crate::{
    notice::{Notice, Notices},
    stage::Bell,
};

/// What went wrong first. Later failures are consequences and are not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action} failed on {file}: {cause}")]
pub struct Poisoned {
    /// What was being done, for example `sync`.
    pub action: &'static str,
    /// The file, relative to the data directory.
    pub file: String,
    /// The operating system's words.
    pub cause: String,
}

/// Shared by all stages. Once set it stays set for the life of the process.
#[derive(Debug, Default)]
pub struct Poison {
    set: AtomicBool,
    first: Mutex<Option<Poisoned>>,
    rung: Mutex<Vec<Bell>>,
    notices: Arc<Notices>,
}

impl Poison {
    /// Reports the first failure to the operator.
    pub fn new(notices: Arc<Notices>) -> Self {
        Self { notices, ..Self::default() }
    }

    /// Also rings these when it is set: every stage has somebody to answer.
    pub fn rings(&self, bells: impl IntoIterator<Item = Bell>) {
        self.rung.lock().extend(bells);
    }

    /// Remembers the first failure and returns whether this was it.
    pub fn set(&self, failure: Poisoned) -> bool {
        let mut first = self.first.lock();
        let is_first = first.is_none();
        if is_first {
            let Poisoned { action, file, cause } = failure.clone();
            self.notices.push(Notice::WritesOff { action, file, cause });
            *first = Some(failure);
        }
        drop(first);
        self.set.store(true, Ordering::Release);
        self.rung.lock().iter().for_each(Bell::ring);
        is_first
    }

    /// Whether writes are refused from now on. Cheap: every step asks.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// The first failure, when there was one.
    pub fn first(&self) -> Option<Poisoned> {
        self.first.lock().clone()
    }
}
