//! One picture of a file's content: a length and shared pages, of which a copy costs a count per page.
//!
//! A file has two of them, what the page cache shows and what the disk holds. Unwritten bytes read as zero.

use std::sync::Arc;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;
/// What space is given out in.
pub(super) const BLOCK: usize = 4_096;
/// One sector's bytes.
pub(super) type Sector = [u8; SECTOR];

#[derive(Clone, Debug, Default)]
struct Block {
    /// None reads as zeros.
    page: Option<Arc<[u8; BLOCK]>>,
    allocated: bool,
}

/// Length, content and allocation of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) bytes: u64,
    blocks: Vec<Block>,
}

/// The blocks that `at..end` touches.
fn blocks_of(at: u64, end: u64) -> std::ops::Range<usize> {
    if at >= end { 0..0 } else { at as usize / BLOCK..(end as usize).div_ceil(BLOCK) }
}

impl View {
    fn block(&mut self, index: usize) -> &mut Block {
        if self.blocks.len() <= index {
            self.blocks.resize_with(index + 1, Block::default);
        }
        &mut self.blocks[index]
    }

    /// Copies out what lies below the length, and returns how much that was.
    pub(super) fn read(&self, buffer: &mut [u8], at: u64) -> usize {
        let count = (self.bytes.saturating_sub(at) as usize).min(buffer.len());
        self.read_raw(&mut buffer[..count], at);
        count
    }

    fn read_raw(&self, buffer: &mut [u8], at: u64) {
        let mut done = 0;
        while done < buffer.len() {
            let place = at as usize + done;
            let (index, inside) = (place / BLOCK, place % BLOCK);
            let count = (BLOCK - inside).min(buffer.len() - done);
            let target = &mut buffer[done..done + count];
            match self.blocks.get(index).and_then(|block| block.page.as_ref()) {
                Some(page) => target.copy_from_slice(&page[inside..inside + count]),
                None => target.fill(0),
            }
            done += count;
        }
    }

    /// Puts bytes where they belong; the length stays.
    pub(super) fn put(&mut self, bytes: &[u8], at: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let place = at as usize + done;
            let (index, inside) = (place / BLOCK, place % BLOCK);
            let count = (BLOCK - inside).min(bytes.len() - done);
            let block = self.block(index);
            block.allocated = true;
            let page = block.page.get_or_insert_with(|| Arc::new([0; BLOCK]));
            Arc::make_mut(page)[inside..inside + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
    }

    pub(super) fn sector(&self, index: u64) -> Sector {
        let mut sector = [0; SECTOR];
        self.read_raw(&mut sector, index * SECTOR as u64);
        sector
    }

    pub(super) fn put_sector(&mut self, index: u64, sector: &Sector) {
        self.put(sector, index * SECTOR as u64);
    }

    /// Shares one page with `other`.
    pub(super) fn share_page(&mut self, other: &Self, index: usize) {
        let page = other.blocks.get(index).and_then(|block| block.page.clone());
        self.block(index).page = page;
    }

    /// Takes over which blocks `other` has allocated, in addition to its own.
    pub(super) fn add_allocation(&mut self, other: &Self) {
        for (index, block) in other.blocks.iter().enumerate() {
            if block.allocated {
                self.block(index).allocated = true;
            }
        }
    }

    /// Sets the length, gives back the blocks behind it and makes sure that nothing reappears when it grows again.
    pub(super) fn cut(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.blocks.truncate((bytes as usize).div_ceil(BLOCK));
        let inside = bytes as usize % BLOCK;
        let last = self.blocks.get_mut(bytes as usize / BLOCK);
        if let Some(page) = last.and_then(|block| block.page.as_mut())
            && page[inside..].iter().any(|byte| *byte != 0)
        {
            Arc::make_mut(page)[inside..].fill(0);
        }
    }

    pub(super) fn allocate(&mut self, at: u64, end: u64) {
        for index in blocks_of(at, end) {
            self.block(index).allocated = true;
        }
    }

    fn is_allocated(&self, index: usize) -> bool {
        self.blocks.get(index).is_some_and(|block| block.allocated)
    }

    /// Bytes that `at..end` would newly take.
    pub(super) fn missing(&self, at: u64, end: u64) -> u64 {
        let blocks = blocks_of(at, end).filter(|index| !self.is_allocated(*index)).count();
        (blocks * BLOCK) as u64
    }

    /// How much of `at..end` can be written when only `free` bytes are left.
    pub(super) fn fitting(&self, at: u64, end: u64, free: u64) -> usize {
        let mut left = free / BLOCK as u64;
        for index in blocks_of(at, end) {
            if !self.is_allocated(index) {
                if left == 0 {
                    return ((index * BLOCK) as u64).saturating_sub(at) as usize;
                }
                left -= 1;
            }
        }
        (end - at) as usize
    }

    /// Bytes taken from the disk.
    pub(super) fn allocated(&self) -> u64 {
        (self.blocks.iter().filter(|block| block.allocated).count() * BLOCK) as u64
    }

    /// All that lies below the length.
    pub(super) fn content(&self) -> Vec<u8> {
        let mut content = vec![0; self.bytes as usize];
        self.read_raw(&mut content, 0);
        content
    }
}
