//! Reads the blocks of one segment, by position.
//!
//! Comes in: an open file, what it should hold, and where its data ends. Goes out: blocks that are proven whole and
//! proven to belong here, or damage with its place. What must stay true: nothing behind the data end is ever looked
//! at, whatever the file's length says; and nothing is called damaged that is right on the disk: a fault through the
//! page cache is read once more past it.

use std::{io, sync::Arc};

use thiserror::Error;

use super::{
    block::Block,
    format::{BlockFault, BlockHeader},
    index::{ActiveIndex, Entry, Found},
};
use crate::{
    disk::{
        Advice, DiskFile,
        aligned::{AlignedBuf, AlignedPool},
        read_full_at,
    },
    header::{FILE_HEADER_BYTES, FileHeader, FileKind, HeaderFault},
    id::{Incarnation, Lane, Offset, SegmentId},
    limits::ALIGN,
};

/// Position of the first block in a segment, in bytes.
pub const FIRST_BLOCK: u64 = FILE_HEADER_BYTES as u64;

/// What a segment file should hold, as the tables have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Topic and partition.
    pub lane: Lane,
    /// The segment.
    pub segment: SegmentId,
    /// Offset of its first record.
    pub base: Offset,
    /// Where its data ends, in bytes; a multiple of 4096.
    pub data_end: u64,
}

/// The last record of a segment, as the tables have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Offset behind it.
    pub end: Offset,
    /// Its append time, in microseconds.
    pub last_time_us: i64,
}

/// Why a segment, or a place in it, cannot be read.
#[derive(Debug, Error)]
pub enum SegmentFault {
    /// The system refused the read.
    #[error("segment could not be read path={path} position={position}")]
    Read {
        /// The file.
        path: String,
        /// Where, in bytes.
        position: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Its file header is not one.
    #[error("segment has a bad file header path={path}: {fault}")]
    Header {
        /// The file.
        path: String,
        /// Why.
        fault: HeaderFault,
    },
    /// The file of another segment.
    #[error("file is of another segment path={path} segment={found} expected={expected}")]
    WrongSegment {
        /// The file.
        path: String,
        /// The segment that was asked for.
        expected: SegmentId,
        /// The segment that the header names.
        found: SegmentId,
    },
    /// No block of the data can begin there: not aligned, in the header, or behind the end. The asker is wrong.
    #[error("no block begins there path={path} position={position} data_end={data_end}")]
    NoBlock {
        /// The file.
        path: String,
        /// What was asked for, in bytes.
        position: u64,
        /// Where the data ends, in bytes.
        data_end: u64,
    },
    /// The bytes on the disk are not the block that belongs there, also when read past the page cache.
    #[error("segment is damaged path={path} position={position}: {fault}")]
    Damaged {
        /// The file.
        path: String,
        /// Where the block begins, in bytes.
        position: u64,
        /// What was expected and what was found.
        fault: BlockFault,
    },
}

/// Reads one segment. Cheap to clone; takes its buffers from a pool.
#[derive(Clone)]
pub struct Reader {
    file: Arc<dyn DiskFile>,
    extent: Extent,
    header: FileHeader,
    pool: AlignedPool,
}

impl Reader {
    /// Checks the file's header against `extent`. `active`: the file is still written, so the kernel must not read
    /// ahead of what was asked for.
    ///
    /// # Errors
    ///
    /// `Read`, `Header` or `WrongSegment`.
    pub fn open(
        file: Arc<dyn DiskFile>,
        extent: Extent,
        active: bool,
        pool: AlignedPool,
    ) -> Result<Self, SegmentFault> {
        let path = || file.path().to_owned();
        let read = |source| SegmentFault::Read { path: path(), position: 0, source };
        if active {
            file.advise(Advice::Random).map_err(read)?;
        }
        let mut header = read_header(&*file, &pool).map_err(read)?;
        if header.is_err() {
            file.advise(Advice::DontNeed).map_err(read)?;
            header = read_header(&*file, &pool).map_err(read)?;
        }
        let header = header.map_err(|fault| SegmentFault::Header { path: path(), fault })?;
        if header.number != extent.segment.get() {
            let found = SegmentId(header.number);
            return Err(SegmentFault::WrongSegment { path: path(), expected: extent.segment, found });
        }
        Ok(Self { file, extent, header, pool })
    }

    /// The same segment, with more data published since.
    #[must_use]
    pub fn with_data_end(&self, data_end: u64) -> Self {
        Self { extent: Extent { data_end, ..self.extent }, ..self.clone() }
    }

    /// What it was opened for.
    pub fn extent(&self) -> &Extent {
        &self.extent
    }

    /// The header of the file.
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Reads the block that begins at `position`, and says where the next one does; that is the data end behind the
    /// last. **Cost**: two reads, the first of 4096 bytes.
    ///
    /// # Errors
    ///
    /// `NoBlock`, `Read`, or `Damaged` after a second try past the page cache.
    pub fn read_block_at(&self, position: u64) -> Result<(Block, u64), SegmentFault> {
        self.block(position, ALIGN as u64)
    }

    /// As [`Reader::read_block_at`] for a block that an index found. **Cost**: one read.
    ///
    /// # Errors
    ///
    /// As there; and `NoBlock` or `Damaged` may be the index's fault, since it is only a hint: make it anew with
    /// [`Reader::index`] before the segment is blamed.
    pub fn read_found(&self, found: &Found) -> Result<(Block, u64), SegmentFault> {
        let position = found.entry.position;
        let (block, next) = self.block(position, found.next_position.saturating_sub(position))?;
        if block.base() == found.entry.base {
            return Ok((block, next));
        }
        let (expected, found) = (found.entry.base.get(), block.base().get());
        Err(self.damaged(position, BlockFault::Misplaced { field: "base", expected, found }))
    }

    /// The headers of the blocks from the one at `from` up to `until` (at most the data end), in order; ends after
    /// the first fault. Proves headers and their chain, not bodies. **Cost**: one read of 4096 bytes per block.
    pub fn headers(&self, from: u64, until: u64) -> Headers<'_> {
        let link = (from == FIRST_BLOCK).then(|| Link {
            crc: self.header.crc(),
            end: self.extent.base,
            incarnation: self.header.incarnation,
            time_us: i64::MIN,
        });
        Headers { reader: self, position: from, until: until.min(self.extent.data_end), link }
    }

    /// The index, made anew from the headers. Where one is damaged, one entry stands for the hole up to the next block
    /// from which the chain is whole to the end: who reads there meets the damage, and everything around it reads.
    /// **Cost**: one read of 4096 bytes per block, and per 4096 bytes of a hole.
    ///
    /// # Errors
    ///
    /// `Read`; and `Damaged` when `reach` says less than the blocks do.
    pub fn index(&self, reach: Reach) -> Result<ActiveIndex, SegmentFault> {
        let mut index = ActiveIndex::default();
        let mut hole =
            Entry { base: self.extent.base, position: FIRST_BLOCK, first_time_us: i64::MIN, last_time_us: i64::MIN };
        let mut push = |(position, header): (u64, BlockHeader)| {
            let next = position + u64::from(header.block_len);
            index.push(Entry::of(&header, position), header.end, next);
            let time_us = header.last_time_us;
            hole = Entry { base: header.end, position: next, first_time_us: time_us, last_time_us: time_us };
        };
        let damage = self.headers(FIRST_BLOCK, self.extent.data_end).find_map(|found| match found {
            Ok((position, header, _)) => {
                push((position, header));
                None
            }
            Err(fault) => Some(fault),
        });
        let Some(damage) = damage else { return Ok(index) };
        let behind = self.behind_hole(&hole, reach)?;
        let (end, next, time_us) = match behind.first() {
            Some((position, header)) => (header.base, *position, header.first_time_us),
            None => (reach.end, self.extent.data_end, reach.last_time_us),
        };
        if !matches!(damage, SegmentFault::Damaged { .. }) || end <= hole.base || time_us < hole.first_time_us {
            return Err(damage);
        }
        index.push(Entry { last_time_us: time_us, ..hole }, end, next);
        for (position, header) in behind {
            index.push(Entry::of(&header, position), header.end, position + u64::from(header.block_len));
        }
        Ok(index)
    }

    /// The blocks behind a hole: from the first place where a header of this segment stands and the chain goes on whole
    /// to the data end and to the last record. None when there is no such place.
    fn behind_hole(&self, hole: &Entry, reach: Reach) -> Result<Vec<(u64, BlockHeader)>, SegmentFault> {
        let data_end = self.extent.data_end;
        for position in (hole.position + ALIGN as u64..data_end).step_by(ALIGN) {
            let read = |source| SegmentFault::Read { path: self.file.path().to_owned(), position, source };
            let front = self.read(&[], position, ALIGN as u64).map_err(read)?;
            // The tables may say that there is more than the file has.
            if front.is_empty() {
                break;
            }
            let header = BlockHeader::decode(front.as_slice()).and_then(|(header, _)| self.check_here(&header));
            if !header.is_ok_and(|header| header.base > hole.base && header.first_time_us >= hole.first_time_us) {
                continue;
            }
            let chain: Result<Vec<_>, _> =
                self.headers(position, data_end).map(|found| found.map(|(at, header, _)| (at, header))).collect();
            match chain {
                Ok(chain) if chain.last().is_some_and(|(_, last)| last.end == reach.end) => return Ok(chain),
                // What looked like a block stands inside another, or there is one more hole.
                Ok(_) | Err(SegmentFault::Damaged { .. } | SegmentFault::NoBlock { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(Vec::new())
    }

    fn block(&self, position: u64, guess: u64) -> Result<(Block, u64), SegmentFault> {
        self.check_position(position)?;
        let block = self.twice(position, |reader| reader.try_block(position, guess))?;
        let next = position + u64::from(block.header().block_len);
        Ok((block, next))
    }

    fn check_position(&self, position: u64) -> Result<(), SegmentFault> {
        let data_end = self.extent.data_end;
        if (FIRST_BLOCK..data_end).contains(&position) && position.is_multiple_of(ALIGN as u64) {
            return Ok(());
        }
        Err(SegmentFault::NoBlock { path: self.file.path().to_owned(), position, data_end })
    }

    /// Tries once through the page cache and, if the bytes are wrong, once past it.
    fn twice<T>(
        &self,
        position: u64,
        attempt: impl Fn(&Self) -> io::Result<Result<T, BlockFault>>,
    ) -> Result<T, SegmentFault> {
        let read = |source| SegmentFault::Read { path: self.file.path().to_owned(), position, source };
        if let Ok(found) = attempt(self).map_err(read)? {
            return Ok(found);
        }
        self.file.advise(Advice::DontNeed).map_err(read)?;
        attempt(self).map_err(read)?.map_err(|fault| self.damaged(position, fault))
    }

    fn damaged(&self, position: u64, fault: BlockFault) -> SegmentFault {
        SegmentFault::Damaged { path: self.file.path().to_owned(), position, fault }
    }

    fn try_block(&self, position: u64, guess: u64) -> io::Result<Result<Block, BlockFault>> {
        let front = self.read(&[], position, guess)?;
        let header = match BlockHeader::decode(front.as_slice()).and_then(|(header, _)| self.check_here(&header)) {
            Ok(header) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        let length = u64::from(header.block_len);
        if length > self.extent.data_end - position {
            let found = (self.extent.data_end - position) as usize;
            return Ok(Err(BlockFault::Short { expected: length as usize, found }));
        }
        let whole = if front.len() as u64 >= length { front } else { self.read(front.as_slice(), position, length)? };
        Ok(Block::parse(&whole.freeze()))
    }

    /// Reads `bytes` at `position`, as far as the data goes; what `front` already holds of them is not read again.
    fn read(&self, front: &[u8], position: u64, bytes: u64) -> io::Result<AlignedBuf> {
        let bytes = bytes.max(ALIGN as u64).min(self.extent.data_end - position);
        // A wrong hint must not make us take a huge buffer.
        let bytes = (bytes as usize).min(super::format::BLOCK_BYTES_MAX);
        let mut out = self.pool.take(bytes);
        out.push(front);
        let had = out.len();
        out.fill_to(bytes);
        let got = read_full_at(&*self.file, &mut out.as_mut_slice()[had..], position + had as u64)?;
        out.fill_to(had + got);
        Ok(out)
    }

    /// A whole header, but is it one of this segment?
    fn check_here(&self, header: &BlockHeader) -> Result<BlockHeader, BlockFault> {
        let Extent { lane, segment, base, .. } = self.extent;
        let facts = [
            ("topic", lane.topic.get(), header.lane.topic.get(), header.lane.topic == lane.topic),
            ("partition", lane.partition.get().into(), header.lane.partition.get().into(), header.lane == lane),
            ("segment", segment.get(), header.segment.get(), header.segment == segment),
            ("base", base.get(), header.base.get(), header.base >= base),
        ];
        match facts.into_iter().find(|(_, _, _, holds)| !holds) {
            Some((field, expected, found, _)) => Err(BlockFault::Misplaced { field, expected, found }),
            None => Ok(*header),
        }
    }
}

fn read_header(file: &dyn DiskFile, pool: &AlignedPool) -> io::Result<Result<FileHeader, HeaderFault>> {
    let mut bytes = pool.take(FILE_HEADER_BYTES);
    bytes.fill_to(FILE_HEADER_BYTES);
    let got = read_full_at(file, bytes.as_mut_slice(), 0)?;
    bytes.fill_to(got);
    Ok(FileHeader::decode_kind(bytes.as_slice(), FileKind::Segment))
}

/// What the block behind must continue.
#[derive(Clone, Copy, Debug)]
struct Link {
    crc: u32,
    end: Offset,
    incarnation: Incarnation,
    time_us: i64,
}

impl Link {
    fn check(&self, header: &BlockHeader) -> Result<(), BlockFault> {
        let (incarnation, found) = (self.incarnation.get(), header.incarnation.get());
        let (time_us, first) = (self.time_us, header.first_time_us);
        let facts = [
            ("base", self.end.get(), header.base.get(), self.end == header.base),
            ("prev_crc", self.crc.into(), header.prev_crc.into(), self.crc == header.prev_crc),
            ("incarnation", incarnation, found, incarnation <= found),
            ("first_time_us", time_us.cast_unsigned(), first.cast_unsigned(), time_us <= first),
        ];
        match facts.into_iter().find(|(_, _, _, holds)| !holds) {
            Some((field, expected, found, _)) => Err(BlockFault::Misplaced { field, expected, found }),
            None => Ok(()),
        }
    }
}

/// Goes from header to header; see [`Reader::headers`].
pub struct Headers<'a> {
    reader: &'a Reader,
    position: u64,
    until: u64,
    link: Option<Link>,
}

impl Iterator for Headers<'_> {
    /// Where the block begins, its header, and the CRC that the next one chains to.
    type Item = Result<(u64, BlockHeader, u32), SegmentFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.until {
            return None;
        }
        let position = self.position;
        let link = self.link;
        let found = self.reader.check_position(position).and_then(|()| {
            self.reader.twice(position, |reader| {
                let front = reader.read(&[], position, ALIGN as u64)?;
                Ok(BlockHeader::decode(front.as_slice()).and_then(|(header, crc)| {
                    reader.check_here(&header)?;
                    link.map_or(Ok(()), |link| link.check(&header))?;
                    Ok((header, crc))
                }))
            })
        });
        let data_end = self.reader.extent.data_end;
        let found = found.and_then(|(header, crc)| {
            let (expected, found) = (header.block_len as usize, (data_end - position) as usize);
            if expected > found {
                return Err(self.reader.damaged(position, BlockFault::Short { expected, found }));
            }
            self.position += u64::from(header.block_len);
            let BlockHeader { end, incarnation, last_time_us: time_us, .. } = header;
            self.link = Some(Link { crc, end, incarnation, time_us });
            Ok((position, header, crc))
        });
        if found.is_err() {
            self.position = self.until;
        }
        Some(found)
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
