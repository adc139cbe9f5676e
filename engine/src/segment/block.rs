//! Blocks: built from batches at flush, proven whole before anything of them is read.
//!
//! Comes in: the batches of one partition in their order, or bytes from a segment. Goes out: an aligned buffer ready
//! for a direct write, or a [`Block`] whose every byte was checked. What must stay true: a batch's CRC is verified
//! before its bytes enter a block, so no CRC is ever computed over unverified bytes; a batch is never split; the
//! bytes of a record are copied once.

use bytes::Bytes;
use crc32fast::Hasher;
use thiserror::Error;

use super::{
    format::{
        BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, BlockFault, BlockHeader, RUN_BYTES, RUNS_MAX, Run, SECTIONS_MAX, Section,
        section,
    },
    index::Entry,
};
use crate::{
    batch::Batch,
    codec::{Codec, CodecFault, compress},
    disk::aligned::{AlignedBuf, AlignedPool},
    id::{Incarnation, Lane, Lsn, Offset, SegmentId},
    limits,
};

/// A batch that arrives compressed becomes a block as it is when it has at least this many bytes.
pub const WHOLE_BYTES_MIN: usize = 32 << 10;
/// From here on combining the batch's CRC is cheaper than computing one over its copy.
const COMBINE_BYTES_MIN: usize = 4 << 10;

/// By which append a batch came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The frame.
    pub lsn: Lsn,
    /// Records on the shard before the first one of the batch.
    pub position: u64,
    /// Append time, in microseconds.
    pub time_us: i64,
}

/// Where a block is to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Topic and partition.
    pub lane: Lane,
    /// The segment.
    pub segment: SegmentId,
    /// [`Built::crc`] of the block before, or the CRC of the file's header for the first.
    pub prev_crc: u32,
    /// This run of the broker.
    pub incarnation: Incarnation,
}

/// What became of a batch that was offered to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Taken, and more may follow.
    Open,
    /// Taken, and the block must be finished before the next one.
    Full,
    /// Not taken: finish the block, then offer it again.
    Not,
}

/// A batch whose bytes are not those that were appended. Nothing of it entered the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BuildFault {
    /// The bytes changed since the batch was checked.
    #[error("batch is damaged base={base} crc={actual:#010x} expected={expected:#010x}")]
    BatchCrc {
        /// Offset of its first record.
        base: Offset,
        /// As the batch says.
        expected: u32,
        /// Of the bytes.
        actual: u32,
    },
    /// A batch that was checked does not decode: it never was.
    #[error("batch does not decode base={base}: {fault}")]
    Undecodable {
        /// Offset of its first record.
        base: Offset,
        /// Why.
        fault: CodecFault,
    },
}

/// Gathers batches until a block is full.
///
/// Holds slices of the batches, so their buffers are pinned until [`Builder::finish`]. **Cost** of a push: one pass
/// over the bytes for the CRC, and decompression of small compressed batches; no work per record.
#[derive(Debug)]
pub struct Builder {
    codec: Codec,
    block_bytes: usize,
    parts: Vec<Part>,
    raw_bytes: usize,
    runs: Vec<Run>,
    base: Offset,
    end: Offset,
    /// The codec of the one part, when that is a batch taken as it is.
    whole: Option<Codec>,
    scratch: Vec<u8>,
}

/// Bytes whose CRC was verified or, for unpacked ones, follows from one that was.
#[derive(Debug)]
struct Part {
    bytes: Bytes,
    crc: Option<u32>,
}

/// A finished block.
#[derive(Debug)]
pub struct Built {
    /// Its bytes, header and padding included; a multiple of 4096 long.
    pub bytes: AlignedBuf,
    /// Its header.
    pub header: BlockHeader,
    /// What the next block chains to.
    pub crc: u32,
}

impl Built {
    /// Its row in the index, once it stands at `position`.
    pub fn entry(&self, position: u64) -> Entry {
        Entry::of(&self.header, position)
    }
}

impl Builder {
    /// For a topic with this codec; a block closes at `block_bytes` raw, at most 4 MiB.
    pub fn new(codec: Codec, block_bytes: usize) -> Self {
        Self {
            codec,
            block_bytes: block_bytes.clamp(1, limits::BATCH_BYTES_MAX),
            parts: Vec::new(),
            raw_bytes: 0,
            runs: Vec::new(),
            base: Offset(0),
            end: Offset(0),
            whole: None,
            scratch: Vec::new(),
        }
    }

    /// Whether there is nothing to finish.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes of the record sets in it, unpacked.
    pub fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// Offset behind the last record in it; meaningless while it is empty.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Offers the batch whose first record has the offset `base`.
    ///
    /// # Errors
    ///
    /// [`BuildFault`] when its bytes are not those that were appended; the block stays as it was.
    ///
    /// # Panics
    ///
    /// When a batch was left out, or the batch was never checked to have records: both are ours to know.
    pub fn push(&mut self, origin: Origin, base: Offset, batch: &Batch) -> Result<Pushed, BuildFault> {
        assert!(batch.record_count > 0, "a batch has records");
        assert!(self.is_empty() || base == self.end, "batches follow each other base={base} end={}", self.end);
        let raw_bytes = batch.decoded_bytes as usize;
        let whole = batch.codec != Codec::None && batch.data.len() >= WHOLE_BYTES_MIN;
        let full = self.whole.is_some() || self.raw_bytes >= self.block_bytes || self.runs.len() >= RUNS_MAX;
        if !self.is_empty() && (whole || full || self.raw_bytes + raw_bytes > self.block_bytes) {
            return Ok(Pushed::Not);
        }
        let actual = crc32fast::hash(&batch.data);
        if actual != batch.crc32 {
            return Err(BuildFault::BatchCrc { base, expected: batch.crc32, actual });
        }
        if whole {
            self.whole = Some(batch.codec);
        }
        let part = if whole || batch.codec == Codec::None {
            Part { bytes: batch.data.clone(), crc: Some(actual) }
        } else {
            let bytes = batch.decode().map_err(|fault| BuildFault::Undecodable { base, fault })?;
            Part { bytes, crc: None }
        };
        if self.is_empty() {
            self.base = base;
        }
        self.parts.push(part);
        self.raw_bytes += raw_bytes;
        self.end = base.plus(u64::from(batch.record_count));
        self.add_run(origin, batch.record_count);
        let full = whole || self.raw_bytes >= self.block_bytes || self.runs.len() >= RUNS_MAX;
        Ok(if full { Pushed::Full } else { Pushed::Open })
    }

    /// Batches of one frame that follow each other on the shard are one run.
    fn add_run(&mut self, origin: Origin, count: u32) {
        let Origin { lsn, position, time_us } = origin;
        match self.runs.last_mut() {
            Some(last) if last.lsn == lsn && last.position + u64::from(last.count) == position => last.count += count,
            _ => self.runs.push(Run { lsn, position, time_us, count }),
        }
    }

    /// Makes the block of what was taken, and is empty again. **Cost**: one copy of the records into the buffer, or
    /// into the compressor; CRCs over the result.
    ///
    /// # Panics
    ///
    /// When nothing was taken.
    pub fn finish(&mut self, place: &Place, pool: &AlignedPool) -> Built {
        assert!(!self.is_empty(), "an empty block says nothing");
        let raw = self.raw_bytes as u32;
        let (codec, packed) = self.pack();
        let stored = packed.as_ref().map_or_else(|| self.parts.iter().map(|part| part.bytes.len()).sum(), Vec::len);
        let body_len = stored + self.runs.len() * RUN_BYTES;
        let mut out = pool.take((BLOCK_HEADER_BYTES + body_len).next_multiple_of(limits::ALIGN));
        out.grow_zeroed(BLOCK_HEADER_BYTES);
        let records_crc = match packed {
            Some(packed) => {
                out.push(&packed);
                crc32fast::hash(&packed)
            }
            None => self.copy_parts(&mut out),
        };
        let runs_at = out.len();
        self.runs.iter().for_each(|run| out.push(&run.encode()));
        let runs_crc = crc32fast::hash(&out.as_slice()[runs_at..]);
        out.pad(limits::ALIGN);
        let runs_len = (self.runs.len() * RUN_BYTES) as u32;
        let mut sections = [Section::default(); SECTIONS_MAX];
        sections[0] = Section { kind: section::RECORDS, flags: 0, stored: stored as u32, raw, crc: records_crc };
        sections[1] = Section { kind: section::RUNS, flags: 0, stored: runs_len, raw: runs_len, crc: runs_crc };
        let header = self.header(place, codec, sections, &out);
        let (bytes, crc) = header.encode();
        out.as_mut_slice()[..BLOCK_HEADER_BYTES].copy_from_slice(&bytes);
        self.clear();
        Built { bytes: out, header, crc }
    }

    fn header(&self, place: &Place, codec: Codec, sections: [Section; SECTIONS_MAX], out: &AlignedBuf) -> BlockHeader {
        let (first, last) = (self.runs[0], self.runs[self.runs.len() - 1]);
        assert!(first.time_us <= last.time_us, "append time does not go back");
        assert!(out.len() <= BLOCK_BYTES_MAX, "what was taken fits into a block");
        let body_len: u32 = sections.iter().map(|section| section.stored).sum();
        let body_end = BLOCK_HEADER_BYTES + body_len as usize;
        BlockHeader {
            compatible_flags: 0,
            block_len: out.len() as u32,
            body_len,
            body_crc: body_crc(&sections, &out.as_slice()[body_end..]),
            prev_crc: place.prev_crc,
            first_lsn: first.lsn,
            last_lsn: last.lsn,
            incarnation: place.incarnation,
            first_time_us: first.time_us,
            last_time_us: last.time_us,
            base: self.base,
            end: self.end,
            lane: place.lane,
            segment: place.segment,
            count: self.end.since(self.base) as u32,
            codec,
            key_id: 0,
            chain: [0; 32],
            tag: [0; 16],
            sections,
        }
    }

    /// The codec of the records section, and its bytes when they are not just the parts in a row.
    fn pack(&mut self) -> (Codec, Option<Vec<u8>>) {
        if let Some(codec) = self.whole {
            return (codec, None);
        }
        if self.codec == Codec::None {
            return (Codec::None, None);
        }
        let plain = match &self.parts[..] {
            [part] => &part.bytes[..],
            parts => {
                self.scratch.clear();
                self.scratch.reserve_exact(self.raw_bytes);
                for part in parts {
                    self.scratch.extend_from_slice(&part.bytes);
                }
                &self.scratch
            }
        };
        let packed = compress(self.codec, plain);
        if packed.len() < plain.len() { (self.codec, Some(packed)) } else { (Codec::None, None) }
    }

    /// The one copy. The CRC of a large part is carried over from its batch, so that a copy gone wrong is found by
    /// the first reader.
    fn copy_parts(&self, out: &mut AlignedBuf) -> u32 {
        let mut hasher = Hasher::new();
        for part in &self.parts {
            let at = out.len();
            out.push(&part.bytes);
            match part.crc {
                Some(crc) if part.bytes.len() >= COMBINE_BYTES_MIN => {
                    hasher.combine(&Hasher::new_with_initial_len(crc, part.bytes.len() as u64));
                }
                _ => hasher.update(&out.as_slice()[at..]),
            }
        }
        hasher.finalize()
    }

    fn clear(&mut self) {
        self.parts.clear();
        self.runs.clear();
        self.raw_bytes = 0;
        self.whole = None;
    }
}

/// A block that was read and is proven whole: header, body, padding, sections, counts.
#[derive(Clone, Debug)]
pub struct Block {
    header: BlockHeader,
    crc: u32,
    bytes: Bytes,
    /// The records section: its row, and its bytes as stored.
    section: Section,
    records: Bytes,
    runs: Vec<Run>,
}

impl Block {
    /// Proves the block at the start of `bytes`, which may go on behind it and stay pinned by the result. **Cost**:
    /// one pass for CRCs; nothing is decompressed and no record is looked at.
    ///
    /// # Errors
    ///
    /// [`BlockFault`]; `Short` with the length that is needed when `bytes` holds only the front of the block.
    pub fn parse(bytes: &Bytes) -> Result<Self, BlockFault> {
        let (header, crc) = BlockHeader::decode(bytes)?;
        let length = header.block_len as usize;
        if bytes.len() < length {
            return Err(BlockFault::Short { expected: length, found: bytes.len() });
        }
        let bytes = bytes.slice(..length);
        check_sections(&header, &bytes)?;
        let padding = BLOCK_HEADER_BYTES + header.body_len as usize;
        let crc_found = body_crc(&header.sections, &bytes[padding..]);
        if crc_found != header.body_crc {
            return Err(BlockFault::BadBodyCrc { expected: header.body_crc, found: crc_found });
        }
        if let Some(at) = bytes[padding..].iter().position(|byte| *byte != 0) {
            return Err(BlockFault::NonZeroPadding { at: padding + at });
        }
        let missing = |field| BlockFault::Contradiction { field, found: 0 };
        let (records, section) = header.section(section::RECORDS).ok_or(missing("records"))?;
        if header.codec == Codec::None && section.raw != section.stored {
            return Err(BlockFault::Contradiction { field: "records_raw", found: u64::from(section.raw) });
        }
        let records = bytes.slice(records);
        let (range, _) = header.section(section::RUNS).ok_or(missing("runs"))?;
        let runs = runs(&header, range.start, &bytes[range])?;
        Ok(Self { header, crc, bytes, section, records, runs })
    }

    /// Its header.
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// What the next block chains to.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// Offset of the first record.
    pub fn base(&self) -> Offset {
        self.header.base
    }

    /// Offset behind the last record.
    pub fn end(&self) -> Offset {
        self.header.end
    }

    /// Its whole bytes, as they stand in the segment.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Which append each record came by, in order; the counts add up to the block's.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The records as they are stored, ready to be handed to a reader without work; pins the block's buffer.
    pub fn batch(&self) -> Batch {
        Batch {
            codec: self.header.codec,
            record_count: self.header.count,
            decoded_bytes: self.section.raw,
            crc32: self.section.crc,
            data: self.records.clone(),
        }
    }

    /// The plain `RecordSet`: a slice of the block for [`Codec::None`], a decoded copy of at most 4 MiB otherwise.
    ///
    /// # Errors
    ///
    /// [`CodecFault`] when it does not decode to the stated length, which no damage of the disk can cause.
    pub fn records(&self) -> Result<Bytes, CodecFault> {
        self.batch().decode()
    }
}

/// Holds every section against its CRC.
fn check_sections(header: &BlockHeader, bytes: &[u8]) -> Result<(), BlockFault> {
    let mut at = BLOCK_HEADER_BYTES;
    for section in header.sections.iter().take_while(|section| section.kind != 0) {
        let Section { kind, flags, stored, crc: expected, .. } = *section;
        let end = at + stored as usize;
        let found = crc32fast::hash(&bytes[at..end]);
        if expected != found {
            return Err(BlockFault::BadSectionCrc { kind, expected, found });
        }
        if flags != 0 {
            return Err(BlockFault::Contradiction { field: "section_flags", found: u64::from(flags) });
        }
        at = end;
    }
    Ok(())
}

/// The CRC over sections and padding, out of those of the sections: no second pass over the body.
fn body_crc(sections: &[Section], padding: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    for section in sections {
        hasher.combine(&Hasher::new_with_initial_len(section.crc, u64::from(section.stored)));
    }
    hasher.update(padding);
    hasher.finalize()
}

/// Reads the runs, which stand at `at`, and holds them against the header.
fn runs(header: &BlockHeader, at: usize, bytes: &[u8]) -> Result<Vec<Run>, BlockFault> {
    let wrong = |field| BlockFault::Contradiction { field, found: at as u64 };
    let (rows, _) = bytes.as_chunks::<RUN_BYTES>();
    let runs: Option<Vec<Run>> = rows.iter().map(Run::decode).collect();
    let runs = runs.ok_or(wrong("run_padding"))?;
    let count: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
    let (first, last) = (runs.first().ok_or(wrong("runs"))?, runs.last().ok_or(wrong("runs"))?);
    if count != u64::from(header.count) {
        return Err(wrong("run_count"));
    }
    if (first.lsn, last.lsn) != (header.first_lsn, header.last_lsn) || !runs.is_sorted_by_key(|run| run.lsn) {
        return Err(wrong("run_lsn"));
    }
    let times = (first.time_us, last.time_us) == (header.first_time_us, header.last_time_us);
    if !times || !runs.is_sorted_by_key(|run| run.time_us) {
        return Err(wrong("run_time"));
    }
    Ok(runs)
}

#[cfg(test)]
#[path = "block_tests.rs"]
pub(super) mod tests;
