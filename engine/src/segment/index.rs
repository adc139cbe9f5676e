//! Where the blocks of a segment stand: by offset and by append time.
//!
//! Comes in: one entry per block, as flush writes them or as a scan finds them. Goes out: where to read. What must
//! stay true: an index is a cache and a hint. It is checked whole when it is opened, but what a lookup says is never
//! believed: the block found proves itself.
//!
//! The index of an active segment is memory ([`ActiveIndex`]), rebuilt from the headers of the blocks on first use;
//! that of a sealed one is a file, read through [`PreadIndex`] or its twin, [`super::map::MapIndex`].

use std::{io, sync::Arc};

use thiserror::Error;

use super::format::BlockHeader;
use crate::{
    disk::{DiskFile, read_full_at},
    header::{FILE_HEADER_BYTES, FileHeader, FileKind, HeaderFault, put, take},
    id::{Offset, SegmentId},
    limits,
};

/// Length of one entry, in bytes.
pub const ENTRY_BYTES: usize = 32;
/// Where the entries begin in an index file.
pub const ENTRIES_AT: usize = FILE_HEADER_BYTES + HEAD_BYTES;
/// The longest index file that is read: one of the largest segment, all of whose blocks are the smallest.
pub const INDEX_BYTES_MAX: u64 =
    (ENTRIES_AT + limits::SEGMENT_BYTES_MAX as usize / limits::ALIGN * ENTRY_BYTES) as u64 * 2;

// Behind the file header.
const HEAD_BYTES: usize = 32;
const COUNT: usize = 0;
const CRC: usize = 4;
const END: usize = 8;
const DATA_END: usize = 16;
const ZERO: usize = 24;

/// One block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Offset of its first record.
    pub base: Offset,
    /// Where it stands in the segment, in bytes; a multiple of 4096.
    pub position: u64,
    /// Append time of its first record, in microseconds.
    pub first_time_us: i64,
    /// Append time of its last record, in microseconds.
    pub last_time_us: i64,
}

impl Entry {
    /// The entry of a block that stands at `position`.
    pub fn of(header: &BlockHeader, position: u64) -> Self {
        let BlockHeader { base, first_time_us, last_time_us, .. } = *header;
        Self { base, position, first_time_us, last_time_us }
    }

    /// The entry as it stands in the file: base, position, first and last time.
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut out = [0; ENTRY_BYTES];
        put(&mut out, 0, self.base.get().to_le_bytes());
        put(&mut out, 8, self.position.to_le_bytes());
        put(&mut out, 16, self.first_time_us.to_le_bytes());
        put(&mut out, 24, self.last_time_us.to_le_bytes());
        out
    }

    /// Reads what [`Entry::encode`] wrote.
    pub fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        Self {
            base: Offset(u64::from_le_bytes(take(bytes, 0))),
            position: u64::from_le_bytes(take(bytes, 8)),
            first_time_us: i64::from_le_bytes(take(bytes, 16)),
            last_time_us: i64::from_le_bytes(take(bytes, 24)),
        }
    }
}

/// A block that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number in the segment, from 0.
    pub number: u32,
    /// Its entry.
    pub entry: Entry,
    /// Where the block behind it begins, or the data ends: so the block's length is known before it is read.
    pub next_position: u64,
}

/// Entries by rising offset, position and time. Errors are those of reading a file; memory has none.
pub trait Index: Send + Sync {
    /// How many entries.
    fn count(&self) -> u32;

    /// Entry `number`, from 0; an error of kind `InvalidInput` when there are not so many.
    fn entry(&self, number: u32) -> io::Result<Entry>;

    /// Where the data ends, in bytes.
    fn data_end(&self) -> u64;

    /// Entry `number` and how far its block reaches; none behind the last.
    fn get(&self, number: u32) -> io::Result<Option<Found>> {
        if number >= self.count() {
            return Ok(None);
        }
        let entry = self.entry(number)?;
        let next = number + 1;
        let next_position = if next < self.count() { self.entry(next)?.position } else { self.data_end() };
        Ok(Some(Found { number, entry, next_position }))
    }

    /// The block that holds `offset`, or the last one if `offset` lies behind it; none when it lies before the first.
    fn floor(&self, offset: Offset) -> io::Result<Option<Found>> {
        match partition(self, |entry| entry.base <= offset)? {
            0 => Ok(None),
            behind => self.get(behind - 1),
        }
    }

    /// The first block with a record appended at `time_us` or later; none when all are earlier.
    fn first_at(&self, time_us: i64) -> io::Result<Option<Found>> {
        self.get(partition(self, |entry| entry.last_time_us < time_us)?)
    }
}

/// The number of the first entry for which `before` does not hold. Ends after 32 steps whatever the entries say.
fn partition<I: Index + ?Sized>(index: &I, before: impl Fn(&Entry) -> bool) -> io::Result<u32> {
    let (mut low, mut high) = (0, index.count());
    while low < high {
        let middle = low + (high - low) / 2;
        if before(&index.entry(middle)?) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn no_entry() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

/// The index of a segment that grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActiveIndex {
    entries: Vec<Entry>,
    end: Offset,
    data_end: u64,
}

impl ActiveIndex {
    /// Adds the block behind the last one: its entry, the offset behind its records, the position behind its bytes.
    ///
    /// # Panics
    ///
    /// When it does not follow the last block: flush and scan both go in order.
    pub fn push(&mut self, entry: Entry, end: Offset, data_end: u64) {
        let follows = self.entries.last().is_none_or(|last| {
            entry.base == self.end && entry.position == self.data_end && last.last_time_us <= entry.first_time_us
        });
        assert!(follows && entry.base < end && entry.position < data_end, "blocks follow each other: {entry:?}");
        self.entries.push(entry);
        (self.end, self.data_end) = (end, data_end);
    }

    /// All entries in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Offset behind the last record; 0 while there is none.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The bytes of the index file of the segment whose file header is `segment`; a multiple of 4096 long.
    pub fn encode(&self, segment: &FileHeader) -> Vec<u8> {
        let header = FileHeader { kind: FileKind::Index, ..*segment };
        let length = (ENTRIES_AT + self.entries.len() * ENTRY_BYTES).next_multiple_of(limits::ALIGN);
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&header.encode());
        let mut head = [0; HEAD_BYTES];
        put(&mut head, COUNT, (self.entries.len() as u32).to_le_bytes());
        put(&mut head, END, self.end.get().to_le_bytes());
        put(&mut head, DATA_END, self.data_end.to_le_bytes());
        out.extend_from_slice(&head);
        self.entries.iter().for_each(|entry| out.extend_from_slice(&entry.encode()));
        out.resize(length, 0);
        let crc = crc32fast::hash(&out[FILE_HEADER_BYTES..]);
        put(&mut out, FILE_HEADER_BYTES + CRC, crc.to_le_bytes());
        out
    }
}

impl Index for ActiveIndex {
    fn count(&self) -> u32 {
        self.entries.len() as u32
    }

    fn entry(&self, number: u32) -> io::Result<Entry> {
        self.entries.get(number as usize).copied().ok_or_else(no_entry)
    }

    fn data_end(&self) -> u64 {
        self.data_end
    }
}

/// Why a file is not the index of a segment. It is a cache: make it anew from the segment.
#[derive(Debug, Error)]
pub enum IndexFault {
    /// It could not be read.
    #[error("index could not be read path={path}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its file header is not one.
    #[error("index has a bad header path={path}: {fault}")]
    Header {
        /// The file.
        path: String,
        /// Why.
        fault: HeaderFault,
    },
    /// The index of another segment.
    #[error("index is of another segment path={path} segment={found} expected={expected}")]
    WrongSegment {
        /// The file.
        path: String,
        /// The segment that was asked for.
        expected: SegmentId,
        /// The segment that the header names.
        found: SegmentId,
    },
    /// Longer or shorter than its count says, or than any index is.
    #[error("index has the wrong length path={path} bytes={found} expected={expected}")]
    WrongLength {
        /// The file.
        path: String,
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// Some byte behind the file header is not what was written.
    #[error("index is damaged path={path} crc={found:#010x} expected={expected:#010x}")]
    BadCrc {
        /// The file.
        path: String,
        /// What the file says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// Whole, but its entries do not rise, or zeros are not zero.
    #[error("index contradicts itself path={path} at={at}")]
    Contradiction {
        /// The file.
        path: String,
        /// Position of the first thing that is wrong.
        at: usize,
    },
}

/// What an index file says about itself, once all of it was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexHead {
    /// How many entries.
    pub count: u32,
    /// Offset behind the last record of the segment.
    pub end: Offset,
    /// Where the data of the segment ends, in bytes.
    pub data_end: u64,
    /// Length of the index file.
    pub bytes: u64,
}

/// Reads the whole file once and checks every byte of it.
///
/// # Errors
///
/// [`IndexFault`]. Whatever it is, the segment's blocks can still be scanned.
pub fn verify(file: &dyn DiskFile, segment: SegmentId) -> Result<(IndexHead, Vec<Entry>), IndexFault> {
    let path = || file.path().to_owned();
    let read = |source| IndexFault::Read { path: path(), source };
    let found = file.bytes().map_err(read)?;
    if found > INDEX_BYTES_MAX {
        return Err(IndexFault::WrongLength { path: path(), expected: INDEX_BYTES_MAX, found });
    }
    let mut bytes = vec![0; found as usize];
    let got = read_full_at(file, &mut bytes, 0).map_err(read)?;
    bytes.truncate(got);
    let header = FileHeader::decode_kind(&bytes, FileKind::Index);
    let header = header.map_err(|fault| IndexFault::Header { path: path(), fault })?;
    if header.number != segment.get() {
        return Err(IndexFault::WrongSegment { path: path(), expected: segment, found: SegmentId(header.number) });
    }
    let length = |expected: usize| IndexFault::WrongLength { path: path(), expected: expected as u64, found };
    let body = &bytes[FILE_HEADER_BYTES..];
    let head = body.first_chunk::<HEAD_BYTES>().ok_or_else(|| length(ENTRIES_AT))?;
    let expected = u32::from_le_bytes(take(head, CRC));
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&body[..CRC]);
    hasher.update(&[0; 4]);
    hasher.update(&body[CRC + 4..]);
    let found = hasher.finalize();
    if expected != found {
        return Err(IndexFault::BadCrc { path: path(), expected, found });
    }
    let head = IndexHead {
        count: u32::from_le_bytes(take(head, COUNT)),
        end: Offset(u64::from_le_bytes(take(head, END))),
        data_end: u64::from_le_bytes(take(head, DATA_END)),
        bytes: bytes.len() as u64,
    };
    let used = ENTRIES_AT + head.count as usize * ENTRY_BYTES;
    if used.next_multiple_of(limits::ALIGN) != bytes.len() {
        return Err(length(used.next_multiple_of(limits::ALIGN)));
    }
    let zeros = (FILE_HEADER_BYTES + ZERO..ENTRIES_AT).chain(used..bytes.len());
    if let Some(at) = zeros.into_iter().find(|at| bytes[*at] != 0) {
        return Err(IndexFault::Contradiction { path: path(), at });
    }
    let (rows, _) = bytes[ENTRIES_AT..used].as_chunks::<ENTRY_BYTES>();
    let entries: Vec<Entry> = rows.iter().map(Entry::decode).collect();
    match first_disorder(&entries, &head) {
        Some(number) => Err(IndexFault::Contradiction { path: path(), at: ENTRIES_AT + number * ENTRY_BYTES }),
        None => Ok((head, entries)),
    }
}

/// The first entry that does not lie between its neighbours.
fn first_disorder(entries: &[Entry], head: &IndexHead) -> Option<usize> {
    (0..entries.len()).find(|number| {
        let entry = entries[*number];
        let next = entries.get(number + 1);
        let (end, data_end) = next.map_or((head.end, head.data_end), |next| (next.base, next.position));
        let aligned = entry.position.is_multiple_of(limits::ALIGN as u64);
        let timely = entry.first_time_us <= entry.last_time_us
            && next.is_none_or(|next| entry.last_time_us <= next.first_time_us);
        !(aligned && timely && entry.base < end && entry.position < data_end)
    })
}

/// The index of a sealed segment, read entry by entry.
pub struct PreadIndex {
    file: Arc<dyn DiskFile>,
    head: IndexHead,
}

impl PreadIndex {
    /// Checks the whole file once; lookups read single entries of it.
    ///
    /// # Errors
    ///
    /// [`IndexFault`].
    pub fn open(file: Arc<dyn DiskFile>, segment: SegmentId) -> Result<Self, IndexFault> {
        let (head, _) = verify(&*file, segment)?;
        Ok(Self { file, head })
    }

    /// What the file says about itself.
    pub fn head(&self) -> IndexHead {
        self.head
    }
}

impl Index for PreadIndex {
    fn count(&self) -> u32 {
        self.head.count
    }

    fn entry(&self, number: u32) -> io::Result<Entry> {
        if number >= self.head.count {
            return Err(no_entry());
        }
        let mut bytes = [0; ENTRY_BYTES];
        let at = ENTRIES_AT as u64 + u64::from(number) * ENTRY_BYTES as u64;
        if read_full_at(&*self.file, &mut bytes, at)? < ENTRY_BYTES {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Entry::decode(&bytes))
    }

    fn data_end(&self) -> u64 {
        self.head.data_end
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
pub(super) mod tests;
