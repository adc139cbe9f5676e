//! The index of a sealed segment through a memory map: the one module with `unsafe`.
//!
//! What must stay true: only sealed files are mapped, nobody writes through a map, and no slice of one leaves this
//! module; entries are copied out by value. Bytes that rot under the map after [`MapIndex::open`] checked the file
//! give a wrong hint, which the block found by it refutes.
//!
//! One risk is left: a page that was dropped and cannot be read again raises a signal, not an error. So no more than
//! index files, which are small and populated at once, are mapped, and [`super::index::PreadIndex`] can always stand
//! in.

use std::{fs::File, io};

use memmap2::{Mmap, MmapOptions};

use super::index::{ENTRIES_AT, ENTRY_BYTES, Entry, Index, IndexFault, IndexHead, verify};
use crate::{
    disk::{Disk, DiskFile},
    id::SegmentId,
};

/// The index of a sealed segment, in the page cache.
#[derive(Debug)]
pub struct MapIndex {
    map: Mmap,
    head: IndexHead,
}

impl MapIndex {
    /// Checks the whole file through `file`, then maps it; none where the disk has no real files.
    ///
    /// # Errors
    ///
    /// [`IndexFault`], also for a file that another one has replaced since `file` was opened.
    pub fn open(disk: &dyn Disk, file: &dyn DiskFile, segment: SegmentId) -> Result<Option<Self>, IndexFault> {
        let path = || file.path().to_owned();
        let (head, _) = verify(file, segment)?;
        let Some(place) = disk.real_path(file.path()) else {
            return Ok(None);
        };
        let map = map_sealed(&place).map_err(|source| IndexFault::Read { path: path(), source })?;
        if map.len() as u64 != head.bytes {
            return Err(IndexFault::WrongLength { path: path(), expected: head.bytes, found: map.len() as u64 });
        }
        Ok(Some(Self { map, head }))
    }

    /// What the file says about itself.
    pub fn head(&self) -> IndexHead {
        self.head
    }
}

#[expect(unsafe_code, reason = "a memory map cannot be made without it")]
fn map_sealed(place: &std::path::Path) -> io::Result<Mmap> {
    let file = File::open(place)?;
    // SAFETY: the bytes under the map must not change and the file must not shrink while it lives. An index file is
    // written once, by flush from `ActiveIndex::encode` when the segment is sealed, synced before the tables name it
    // as sealed, and afterwards only ever unlinked, which leaves the map whole. `super::name` gives a replacement a
    // name of its own (a new generation), and `Disk::lock` keeps a second broker out of the directory.
    unsafe { MmapOptions::new().populate().map(&file) }
}

impl Index for MapIndex {
    fn count(&self) -> u32 {
        self.head.count
    }

    fn entry(&self, number: u32) -> io::Result<Entry> {
        if number >= self.head.count {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (_, rows) = self.map.split_at_checked(ENTRIES_AT).ok_or(io::ErrorKind::UnexpectedEof)?;
        let row = rows.as_chunks::<ENTRY_BYTES>().0.get(number as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Entry::decode(row))
    }

    fn data_end(&self) -> u64 {
        self.head.data_end
    }
}
