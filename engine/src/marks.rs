//! The marks that grow: how far frames are written, durable, published. Each has one writer.
//!
//! `published ≤ durable ≤ written`. A reader looks only at `published`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::Lsn;

/// One mark: grows, has one writer, is read by anyone.
#[derive(Debug, Default)]
pub struct Mark(AtomicU64);

impl Mark {
    /// A mark that stands at `lsn`.
    pub const fn at(lsn: Lsn) -> Self {
        Self(AtomicU64::new(lsn.0))
    }

    /// Where the mark stands. Everything stored before it moved here is seen by the caller.
    pub fn get(&self) -> Lsn {
        Lsn(self.0.load(Ordering::Acquire))
    }

    /// Moves the mark up to `lsn`.
    ///
    /// # Panics
    ///
    /// When it would move down: a mark that falls has shown something that was not so.
    pub fn raise(&self, lsn: Lsn) {
        let before = self.0.swap(lsn.0, Ordering::AcqRel);
        assert!(before <= lsn.0, "a mark fell from {before} to {lsn}");
    }
}

/// The marks of one shard.
#[derive(Debug, Default)]
pub struct Marks {
    /// Last frame that is on the disk for good. Moved by the group sync.
    pub durable: Mark,
    /// Last frame whose effects are visible. Moved by publish, after the tail entries are in place.
    pub published: Mark,
    /// Last frame that the newest checkpoint stands for. Moved by the checkpoint.
    pub checkpointed: Mark,
}
