//! Whether a segment's file that no table lists may be removed.
//!
//! Comes in: the file, and which frames replay brings again. Goes out: yes, or why not. What must stay true: the answer
//! is yes only when every block in the file holds records of replayed frames and of nothing else, or when the file
//! holds nothing that was ever a block. In doubt the answer is no, and the file is kept under another name.

use std::io;

use crate::{
    disk::{self, DiskFile},
    header::{FILE_HEADER_BYTES, FileHeader, FileKind},
    id::{Lane, Lsn, SegmentId, Uid},
    limits::ALIGN,
    segment::format::BlockHeader,
};

/// Where no block begins, a file is read in pieces of this many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// What the tables and the journal know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Whose files these are.
    pub(super) cluster: Uid,
    /// The LSN of the tables: frames above it are replayed.
    pub(super) tables: Lsn,
    /// The last frame that is replayed.
    pub(super) last: Lsn,
    /// Segments from this id on were begun after the tables were written.
    pub(super) next_segment: SegmentId,
}

/// Why a file is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// A block of frames that replay does not bring.
    Block { at: u64, first: Lsn, last: Lsn },
    /// A block of another partition.
    Elsewhere { at: u64, lane: Lane },
    /// A segment of another cluster: its frames may have the numbers of ours.
    Foreign,
    /// Bytes that are no whole block, in a file that no flush after the checkpoint can have made.
    Unknown { at: u64 },
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Block { at, first, last } => {
                write!(f, "its block at {at} is of frames {first} to {last}, which are not replayed")
            }
            Self::Elsewhere { at, lane } => write!(f, "its block at {at} is of partition {lane}"),
            Self::Foreign => f.write_str("it is a segment of another cluster"),
            Self::Unknown { at } => write!(f, "it holds no whole block, and other bytes at {at}"),
        }
    }
}

/// Reads a file; none when it may be removed. **Cost**: one read of 4096 bytes per block, and all bytes between blocks.
pub(super) fn kept(file: &dyn DiskFile, lane: Lane, known: &Known) -> io::Result<Option<Kept>> {
    let end = file.bytes()?;
    let mut piece = vec![0; PIECE_BYTES];
    let front = &mut piece[..FILE_HEADER_BYTES];
    let count = disk::read_full_at(file, front, 0)?;
    let header = FileHeader::decode_kind(&front[..count], FileKind::Segment).ok();
    if header.is_some_and(|header| header.cluster != known.cluster) {
        return Ok(Some(Kept::Foreign));
    }
    let is_newer = header.is_some_and(|header| header.number >= known.next_segment.get());
    let mut other = (header.is_none() && front[..count].iter().any(|&byte| byte != 0)).then_some(0);
    let (mut at, mut has_blocks) = (FILE_HEADER_BYTES as u64, false);
    while at < end {
        let count = disk::read_full_at(file, &mut piece[..ALIGN], at)?;
        if let Ok((header, _)) = BlockHeader::decode(&piece[..count]) {
            let (first, last) = (header.first_lsn, header.last_lsn);
            if header.lane != lane {
                return Ok(Some(Kept::Elsewhere { at, lane: header.lane }));
            }
            if first <= known.tables || last > known.last {
                return Ok(Some(Kept::Block { at, first, last }));
            }
            has_blocks = true;
            at += u64::from(header.block_len);
            continue;
        }
        // Up to the next block: room that was taken ahead, or what a crash left of an unsynced write.
        let count = disk::read_full_at(file, &mut piece, at)?;
        let blocks = piece[..count].chunks(ALIGN);
        let ahead = blocks.enumerate().skip(1).find(|(_, block)| BlockHeader::decode(block).is_ok());
        let step = ahead.map_or(count, |(number, _)| number * ALIGN).max(1);
        if let Some(place) = piece[..step].iter().position(|&byte| byte != 0) {
            other = other.or(Some(at + place as u64));
        }
        at += step as u64;
    }
    // A power cut may leave anything of blocks that were never synced; only a file of after the checkpoint has such.
    Ok(other.filter(|_| !has_blocks && !is_newer).map(|at| Kept::Unknown { at }))
}
