//! Where segments are found for reading: indexes of those that grow, and a bounded number of opened sealed ones.
//!
//! Flush adds a block to a growing index after the block is written and before the lane says so. Readers look blocks
//! up here; an index is a hint, and the block that is found proves itself.

use std::{collections::BTreeMap, io, sync::Arc};

use parking_lot::Mutex;

use super::{
    index::{ActiveIndex, Entry, Found, Index},
    reader::Reader,
};
use crate::id::{Offset, SegmentId};

/// Sealed segments kept open: two descriptors each.
const OPEN_MAX: usize = 128;

/// A segment ready to be read.
#[derive(Clone)]
pub struct OpenSegment {
    /// Reads its blocks.
    pub reader: Reader,
    /// Where its blocks stand.
    pub index: Arc<dyn Index>,
}

/// All that is known of segments in memory.
#[derive(Default)]
pub struct Shelf {
    growing: Mutex<BTreeMap<SegmentId, Arc<GrowingIndex>>>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    segments: BTreeMap<SegmentId, (u64, OpenSegment)>,
    uses: u64,
}

/// The index of a segment that grows, shared between flush and readers.
#[derive(Debug, Default)]
pub struct GrowingIndex(Mutex<ActiveIndex>);

impl GrowingIndex {
    /// An index with these entries.
    pub fn new(index: ActiveIndex) -> Arc<Self> {
        Arc::new(Self(Mutex::new(index)))
    }

    /// Adds a block that was written.
    pub fn push(&self, entry: Entry, end: Offset, data_end: u64) {
        self.0.lock().push(entry, end, data_end);
    }

    /// A copy of it as it stands.
    pub fn copy(&self) -> ActiveIndex {
        self.0.lock().clone()
    }
}

impl Index for GrowingIndex {
    fn count(&self) -> u32 {
        self.0.lock().count()
    }

    fn entry(&self, number: u32) -> io::Result<Entry> {
        self.0.lock().entry(number)
    }

    fn data_end(&self) -> u64 {
        self.0.lock().data_end()
    }

    fn get(&self, number: u32) -> io::Result<Option<Found>> {
        self.0.lock().get(number)
    }

    fn floor(&self, offset: Offset) -> io::Result<Option<Found>> {
        self.0.lock().floor(offset)
    }

    fn first_at(&self, time_us: i64) -> io::Result<Option<Found>> {
        self.0.lock().first_at(time_us)
    }
}

impl Shelf {
    /// The index of a segment that grows, when it is in memory.
    pub fn growing(&self, segment: SegmentId) -> Option<Arc<GrowingIndex>> {
        self.growing.lock().get(&segment).cloned()
    }

    /// Keeps the index of a segment that grows; the first one kept wins.
    pub fn keep_growing(&self, segment: SegmentId, index: Arc<GrowingIndex>) -> Arc<GrowingIndex> {
        self.growing.lock().entry(segment).or_insert(index).clone()
    }

    /// A segment that will not be read any more, or not as one that grows.
    pub fn drop_growing(&self, segment: SegmentId) {
        self.growing.lock().remove(&segment);
    }

    /// Closes a segment, so that its file can go away.
    pub fn close(&self, segment: SegmentId) {
        self.open.lock().segments.remove(&segment);
        self.drop_growing(segment);
    }

    /// A segment that is open, or the one that `open` opens. The longest unused one is closed for it.
    pub fn open<E>(&self, segment: SegmentId, open: impl FnOnce() -> Result<OpenSegment, E>) -> Result<OpenSegment, E> {
        let mut kept = self.open.lock();
        kept.uses += 1;
        let now = kept.uses;
        if let Some((used, found)) = kept.segments.get_mut(&segment) {
            *used = now;
            return Ok(found.clone());
        }
        drop(kept);
        let opened = open()?;
        let mut kept = self.open.lock();
        if kept.segments.len() >= OPEN_MAX {
            let oldest = kept.segments.iter().min_by_key(|(_, (used, _))| *used).map(|(segment, _)| *segment);
            oldest.and_then(|oldest| kept.segments.remove(&oldest));
        }
        kept.segments.insert(segment, (now, opened.clone()));
        Ok(opened)
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("growing", &self.growing.lock().len()).finish_non_exhaustive()
    }
}
