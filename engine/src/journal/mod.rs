//! The journal: what makes a frame durable.
//!
//! Frames come from `sequence` and are put together into a *group* in one aligned buffer ([`writer`]), which one
//! write and one sync cover ([`sync`]). Files are fixed, filled with zeros ahead and used again ([`pool`]). Groups are
//! read only by recovery ([`scan`], [`replay`]), which keeps a group whole or drops it whole.

use std::sync::Arc;

use crate::{
    answer::Pending,
    disk::DiskFile,
    id::{Incarnation, Lsn, Uid},
    poison::{Poison, Poisoned},
};

pub mod control;
pub mod frame;
pub mod group_op;
pub mod op;
pub mod pool;
pub mod replay;
pub mod scan;
pub mod sync;
mod window;
pub mod writer;

pub use frame::Frame;

/// Whose files these are: stands in every file header, and its checksum in every frame's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Drawn when the directory was made. Never told to clients.
    pub cluster: Uid,
    /// Drawn when the directory was made.
    pub node: Uid,
    /// This run.
    pub incarnation: Incarnation,
}

impl Identity {
    /// What header checksums start from.
    pub fn seed(&self) -> u32 {
        crc32fast::hash(&self.cluster.0)
    }
}

/// The last frame that counts, and what the next one continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tip {
    /// Its number; 0 before the first frame ever.
    pub lsn: Lsn,
    /// Its `header_crc`; 0 before the first frame ever.
    pub crc: u32,
    /// Its time.
    pub time_us: i64,
    /// Records up to and including it.
    pub position: u64,
    /// The run that wrote it.
    pub incarnation: Incarnation,
    /// Number of the file that it ends in, or that the next frame will begin.
    pub file_no: u64,
    /// Byte position behind its group.
    pub at: u64,
}

/// A decided frame on its way to the disk, with the answer that waits for it. Without a frame: an answer that waits
/// for earlier ones.
#[derive(Debug)]
pub struct Sequenced {
    /// The frame.
    pub frame: Option<Frame>,
    /// The answer.
    pub pending: Pending,
}

/// What one write and one sync cover. The frames' batches share the buffer that was written.
#[derive(Debug, Default)]
pub struct Group {
    /// In LSN order.
    pub frames: Vec<Frame>,
    /// Answers to these frames, and those that rest on them.
    pub answers: Vec<Pending>,
    /// The file that it was written to; none when it holds answers only.
    pub file: Option<GroupFile>,
    /// Its last frame, or the last one before it when it has none.
    pub tip: Tip,
    /// Capacity of the buffer that its batches pin.
    pub pinned_bytes: usize,
}

/// The file of a group.
#[derive(Clone)]
pub struct GroupFile {
    /// The handle that it was written through.
    pub file: Arc<dyn DiskFile>,
    /// Its number.
    pub file_no: u64,
}

impl std::fmt::Debug for GroupFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupFile({} {})", self.file_no, self.file.path())
    }
}

/// Sets the poison after a failed call on a file.
pub(crate) fn poison(poison: &Poison, action: &'static str, file: &str, error: &std::io::Error) {
    poison.set(Poisoned { action, file: file.to_owned(), cause: error.to_string() });
}
