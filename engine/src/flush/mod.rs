//! From the tail into segments, in the background; and the checkpoint, which gives the journal back.
//!
//! [`flusher`] merges published batches into blocks and writes them; [`checkpoint`] makes segments and tables durable
//! together and names the LSN that they stand for; [`ballast`] keeps a reserve for both on a full disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    disk::DiskFile,
    id::{Lane, TopicId},
};

pub mod ballast;
pub mod checkpoint;
pub mod flusher;

/// What flush has written and no checkpoint has synced. A file is noted after a block was written to it, and before the
/// lane says so.
#[derive(Default)]
pub struct Written {
    state: Mutex<WrittenState>,
}

#[derive(Default)]
struct WrittenState {
    files: BTreeMap<String, (Lane, Arc<dyn DiskFile>)>,
    dirs: BTreeSet<String>,
}

impl Written {
    fn note_file(&self, lane: Lane, file: &Arc<dyn DiskFile>) {
        self.state.lock().files.insert(file.path().to_owned(), (lane, file.clone()));
    }

    fn note_dir(&self, dir: &str) {
        self.state.lock().dirs.insert(dir.to_owned());
    }

    fn file_count(&self) -> usize {
        self.state.lock().files.len()
    }

    fn one_file(&self) -> Option<(Lane, Arc<dyn DiskFile>)> {
        self.state.lock().files.first_key_value().map(|(_, noted)| noted.clone())
    }

    fn forget_file(&self, file: &Arc<dyn DiskFile>) {
        self.state.lock().files.remove(file.path());
    }

    /// Everything, files first: nothing that is written from now on is in it.
    fn take(&self) -> (Vec<Arc<dyn DiskFile>>, Vec<String>) {
        let state = std::mem::take(&mut *self.state.lock());
        (state.files.into_values().map(|(_, file)| file).collect(), state.dirs.into_iter().collect())
    }
}

/// A word between the checkpoint and the flush, and from those who ask for a checkpoint.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Flush everything up to this frame, small or not.
    flush_to: AtomicU64,
    /// Somebody wants a checkpoint now.
    checkpoint: AtomicBool,
    /// A topic was deleted: the checkpoint that unlinks its files need not wait for its time.
    deleted: Arc<AtomicBool>,
    /// Topics whose files are unlinked. An open file keeps its space, so flush closes them.
    unlinked: Mutex<Vec<TopicId>>,
    /// Space ran out where it was needed: the ballast should go.
    space: AtomicBool,
}

impl Wishes {
    /// Asks for a checkpoint of what is published now.
    pub fn ask_checkpoint(&self) {
        self.checkpoint.store(true, Ordering::Release);
    }

    /// What publish sets when a topic was deleted.
    pub(crate) fn deleted(&self) -> Arc<AtomicBool> {
        self.deleted.clone()
    }

    /// Has flush close the files of a topic.
    fn close(&self, topic: TopicId) {
        self.unlinked.lock().push(topic);
    }

    fn to_close(&self) -> Vec<TopicId> {
        std::mem::take(&mut self.unlinked.lock())
    }

    /// Says that space ran out: the ballast gives up its own. A checkpoint would give nothing back that a delete, which
    /// starts one by itself, does not.
    pub(crate) fn ask_space(&self) {
        self.space.store(true, Ordering::Release);
    }
}
