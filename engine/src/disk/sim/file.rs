//! One simulated file: what the page cache shows, what the disk holds, and per sector why the two differ.
//!
//! A sector differs because it is *pending* (written, not yet synced: a sync makes it durable, a power cut tosses for
//! it) or because it is *lost* (a sync of it failed: the cache calls it clean and shows the new bytes, no later sync
//! writes it, and once the cache forgets it the old bytes are back). All other sectors are equal in both pictures.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    rng::Rng,
    view::{BLOCK, SECTOR, Sector, View},
};

/// Pending lengths that are remembered as outcomes of a power cut.
const LENGTHS_MAX: usize = 64;

/// Why a sector is not durable.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// Bytes were written into it. Otherwise it only changed because the file was cut.
    written: bool,
    /// A pending cut zeroed the sector from here on: that part goes with the length, not with the sector.
    zero_from: usize,
}

const UNTOUCHED: Pending = Pending { written: false, zero_from: SECTOR };

/// A file's content in both pictures.
#[derive(Clone, Debug, Default)]
pub(super) struct FileImage {
    cached: View,
    durable: View,
    pending: BTreeMap<u64, Pending>,
    lost: BTreeSet<u64>,
    /// The lengths that the file had since its length was last durable.
    lengths: Vec<u64>,
    allocation_pending: bool,
    sealed: Vec<Range<u64>>,
    /// The generation that wrote it past the page cache.
    direct_in: Option<u64>,
}

fn sectors_of(at: u64, end: u64) -> Range<u64> {
    at / SECTOR as u64..end.div_ceil(SECTOR as u64)
}

impl FileImage {
    /// A file whose content is durable.
    pub(super) fn durable(bytes: &[u8]) -> Self {
        let mut view = View::default();
        view.put(bytes, 0);
        view.bytes = bytes.len() as u64;
        Self { cached: view.clone(), durable: view, ..Self::default() }
    }

    pub(super) fn cached(&self) -> &View {
        &self.cached
    }

    pub(super) fn on_disk(&self) -> &View {
        &self.durable
    }

    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.lost.is_empty() && self.lengths.is_empty() && !self.allocation_pending
    }

    fn grow(&mut self, bytes: u64) {
        self.cached.bytes = bytes;
        if self.lengths.len() == LENGTHS_MAX {
            self.lengths.remove(0);
        }
        self.lengths.push(bytes);
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: u64) {
        let end = at + bytes.len() as u64;
        self.allocation_pending |= self.cached.missing(at, end) > 0;
        self.cached.put(bytes, at);
        for sector in sectors_of(at, end) {
            self.pending.entry(sector).or_insert(UNTOUCHED).written = true;
            self.lost.remove(&sector);
        }
        if end > self.cached.bytes {
            self.grow(end);
        }
    }

    /// A write that failed: each sector of it was written or not.
    pub(super) fn write_some(&mut self, bytes: &[u8], at: u64, rng: &mut Rng) {
        for sector in sectors_of(at, at + bytes.len() as u64) {
            if rng.coin() {
                let start = (sector * SECTOR as u64).max(at);
                let end = ((sector + 1) * SECTOR as u64).min(at + bytes.len() as u64);
                self.write(&bytes[(start - at) as usize..(end - at) as usize], start);
            }
        }
    }

    pub(super) fn allocate(&mut self, at: u64, end: u64) {
        self.cached.allocate(at, end);
        self.allocation_pending = true;
        if end > self.cached.bytes {
            self.grow(end);
        }
    }

    pub(super) fn set_bytes(&mut self, bytes: u64) {
        if bytes >= self.cached.bytes {
            if bytes > self.cached.bytes {
                self.grow(bytes);
            }
            return;
        }
        let inside = bytes as usize % SECTOR;
        let first = bytes / SECTOR as u64;
        let end = self.cached.bytes.max(self.durable.bytes);
        self.cached.cut(bytes);
        self.allocation_pending = true;
        for sector in first..end.div_ceil(SECTOR as u64) {
            let from = if sector == first { inside } else { 0 };
            let pending = self.pending.entry(sector).or_insert(UNTOUCHED);
            pending.zero_from = pending.zero_from.min(from);
            if from == 0 {
                pending.written = false;
            }
            // The cut dirties the page again, and a dirty page is written.
            self.lost.remove(&sector);
        }
        // A cut is one change of the file's metadata: what was longer before it cannot come back alone.
        self.lengths.clear();
        self.grow(bytes);
    }

    /// Makes content, length and allocation durable, lost sectors excepted.
    pub(super) fn sync(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let per_block = (BLOCK / SECTOR) as u64;
        let mut shared = None;
        for sector in pending.into_keys() {
            let block = sector / per_block;
            if shared == Some(block) {
                continue;
            }
            if self.lost.range(block * per_block..(block + 1) * per_block).next().is_none() {
                self.durable.share_page(&self.cached, block as usize);
                shared = Some(block);
            } else {
                self.durable.put_sector(sector, &self.cached.sector(sector));
            }
        }
        self.lengths.clear();
        self.allocation_pending = false;
        self.durable.cut(self.cached.bytes);
        self.durable.add_allocation(&self.cached);
    }

    /// A sync that failed. What was written is clean and lost (`forgetful` shows the old bytes at once); some of it
    /// may have reached the disk, never all. The length stays pending: file systems journal it apart.
    pub(super) fn fail_sync(&mut self, forgetful: bool, rng: &mut Rng) {
        let written: Vec<u64> =
            self.pending.iter().filter(|(_, pending)| pending.written).map(|(sector, _)| *sector).collect();
        if written.is_empty() {
            return;
        }
        let none_reached = rng.coin();
        let doomed = rng.below(written.len());
        for (place, sector) in written.into_iter().enumerate() {
            self.pending.remove(&sector);
            if !none_reached && place != doomed && rng.one_in(4) {
                self.durable.put_sector(sector, &self.cached.sector(sector));
            } else {
                self.lost.insert(sector);
            }
        }
        if forgetful {
            self.forget_lost();
        }
    }

    /// The cache forgets its clean pages: what a failed sync lost shows the old bytes from now on.
    pub(super) fn forget_lost(&mut self) {
        for sector in std::mem::take(&mut self.lost) {
            self.cached.put_sector(sector, &self.durable.sector(sector));
        }
        self.cached.cut(self.cached.bytes);
    }

    /// The power fails: everything pending is tossed for, and what comes out is durable.
    pub(super) fn power(&mut self, rng: &mut Rng) {
        if self.is_settled() {
            return;
        }
        let length = self.toss_length(rng);
        let keep = rng.below(5);
        let garble = [0, 0, 1, 4][rng.below(4)];
        for (sector, pending) in std::mem::take(&mut self.pending) {
            let mut old = self.durable.sector(sector);
            if length.is_some() {
                old[pending.zero_from..].fill(0);
            }
            let new = self.cached.sector(sector);
            let outcome = if !pending.written {
                old
            } else if rng.below(16) < garble {
                garbled(&old, &new, rng)
            } else if rng.below(4) < keep {
                new
            } else {
                old
            };
            if outcome != self.durable.sector(sector) {
                self.durable.put_sector(sector, &outcome);
            }
        }
        if self.allocation_pending && rng.coin() {
            self.durable.add_allocation(&self.cached);
        }
        self.durable.cut(length.unwrap_or(self.durable.bytes));
        let (durable, sealed) = (std::mem::take(&mut self.durable), std::mem::take(&mut self.sealed));
        *self = Self { cached: durable.clone(), durable, sealed, ..Self::default() };
    }

    /// The length that survives, unless it is the old one.
    fn toss_length(&self, rng: &mut Rng) -> Option<u64> {
        let last = self.lengths.last()?;
        match rng.below(3) {
            0 => None,
            1 => Some(self.lengths[rng.below(self.lengths.len())]),
            _ => Some(*last),
        }
    }

    /// Flips bits of one byte in both pictures, as rot does.
    pub(super) fn flip(&mut self, at: u64, xor: u8) {
        for view in [&mut self.cached, &mut self.durable] {
            let mut byte = [0];
            if view.read(&mut byte, at) == 1 {
                view.put(&[byte[0] ^ xor], at);
            }
        }
    }

    pub(super) fn seal(&mut self, range: Range<u64>) {
        self.sealed.push(range);
    }

    /// The sealed range that a change of `at..end` would touch.
    pub(super) fn broken_seal(&self, at: u64, end: u64) -> Option<&Range<u64>> {
        self.sealed.iter().find(|range| range.start < end && at < range.end)
    }

    /// Notes a write of `generation`, and says whether it goes through the cache after one went past it.
    pub(super) fn mixes_handles(&mut self, direct: bool, generation: u64) -> bool {
        if direct {
            self.direct_in = Some(generation);
        }
        !direct && self.direct_in == Some(generation)
    }
}

/// What a sector looks like when the power failed while it was written.
fn garbled(old: &Sector, new: &Sector, rng: &mut Rng) -> Sector {
    let mut sector = *new;
    let at = rng.below(SECTOR);
    match rng.below(4) {
        0 => rng.fill(&mut sector),
        1 => sector[at..].copy_from_slice(&old[at..]),
        2 => sector[at..].fill(0),
        _ => sector[at] ^= 1 << rng.below(8),
    }
    sector
}
