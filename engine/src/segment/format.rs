//! The header of a block and its sections, byte by byte; `docs/format.md` says the same in words.
//!
//! Comes in: the facts of a block about to be written, or bytes found on disk. Goes out: bytes, or facts that hold
//! together. What must stay true: no length is believed before `header_crc` held; `header_crc` covers the header,
//! `body_crc` every byte behind it, the padding too; so each byte of a block is covered by one of the two.

use thiserror::Error;

use crate::{
    codec::Codec,
    header::{put, take},
    id::{Incarnation, Lane, Lsn, Offset, Partition, SegmentId, TopicId},
    limits,
};

/// Length of a block's header, in bytes; the body starts here.
pub const BLOCK_HEADER_BYTES: usize = 384;
/// First four bytes of every block.
pub const BLOCK_MAGIC: [u8; 4] = *b"TLRB";
/// The version that this program writes, and the newest that it reads.
pub const BLOCK_VERSION: u16 = 1;
/// Sections that a block can have.
pub const SECTIONS_MAX: usize = 6;
/// Runs that a block can have: it closes at so many, so that tiny appends cannot make it mostly runs.
pub const RUNS_MAX: usize = 8_192;
/// Length of one run, in bytes.
pub const RUN_BYTES: usize = 32;
/// The longest block: one batch that does not shrink, its runs, header and padding.
pub const BLOCK_BYTES_MAX: usize =
    (BLOCK_HEADER_BYTES + limits::BATCH_BYTES_MAX + RUNS_MAX * RUN_BYTES).next_multiple_of(limits::ALIGN);

// The first 32 bytes are those of a frame's header, so that one dump tool reads both.
const MAGIC: usize = 0;
const VERSION: usize = 4;
const HEADER_LEN: usize = 6;
const INCOMPATIBLE: usize = 8;
const COMPATIBLE: usize = 10;
const HEADER_CRC: usize = 12;
const BLOCK_LEN: usize = 16;
const BODY_LEN: usize = 20;
const BODY_CRC: usize = 24;
const PREV_CRC: usize = 28;
const FIRST_LSN: usize = 32;
const LAST_LSN: usize = 40;
const INCARNATION: usize = 48;
const FIRST_TIME: usize = 56;
const LAST_TIME: usize = 64;
const BASE: usize = 72;
const END: usize = 80;
const TOPIC: usize = 88;
const SEGMENT: usize = 96;
const PARTITION: usize = 104;
const COUNT: usize = 108;
const CODEC: usize = 112;
const ZERO_CODEC: usize = 113;
const KEY_ID: usize = 116;
const CHAIN: usize = 120;
const TAG: usize = 152;
const SECTIONS: usize = 168;
const SECTION_BYTES: usize = 16;
const ZERO_TAIL: usize = SECTIONS + SECTIONS_MAX * SECTION_BYTES;

const _: () = assert!(CHAIN + 32 == TAG && TAG + 16 == SECTIONS, "fields overlap");
const _: () = assert!(ZERO_TAIL <= BLOCK_HEADER_BYTES && BLOCK_HEADER_BYTES.is_multiple_of(8), "header too small");
const _: () = assert!(BLOCK_BYTES_MAX < u32::MAX as usize, "lengths are u32");

/// Kinds of sections. The numbers are on disk and never used again for something else.
pub mod section {
    /// The `RecordSet`, compressed by the block's codec.
    pub const RECORDS: u16 = 1;
    /// Which append each record came by: [`super::Run`]s.
    pub const RUNS: u16 = 2;
    /// Offsets of the records, less the base; only in blocks with gaps, after compaction. Not written yet.
    pub const OFFSET_DELTAS: u16 = 3;
    /// Reserved.
    pub const KEY_REVISIONS: u16 = 4;
    /// Reserved.
    pub const KEY_PREVIOUS: u16 = 5;
    /// Reserved.
    pub const BLOOM: u16 = 6;
}

/// One section, as the table in the header says; its bytes stand behind those of the sections before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// One of [`section`]; 0 is no section.
    pub kind: u16,
    /// Nothing yet: zero.
    pub flags: u16,
    /// Bytes in the block.
    pub stored: u32,
    /// Bytes when decoded.
    pub raw: u32,
    /// CRC-32 (IEEE) over the stored bytes.
    pub crc: u32,
}

/// Records of one block that were appended by one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The frame.
    pub lsn: Lsn,
    /// Records on the shard before the first of these.
    pub position: u64,
    /// Append time, in microseconds.
    pub time_us: i64,
    /// How many records.
    pub count: u32,
}

impl Run {
    /// The run as it stands in the section: lsn, position, time, count, zero.
    pub fn encode(&self) -> [u8; RUN_BYTES] {
        let mut out = [0; RUN_BYTES];
        put(&mut out, 0, self.lsn.get().to_le_bytes());
        put(&mut out, 8, self.position.to_le_bytes());
        put(&mut out, 16, self.time_us.to_le_bytes());
        put(&mut out, 24, self.count.to_le_bytes());
        out
    }

    /// Reads what [`Run::encode`] wrote; none when the padding is not zero.
    pub fn decode(bytes: &[u8; RUN_BYTES]) -> Option<Self> {
        (take(bytes, 28) == [0; 4]).then(|| Self {
            lsn: Lsn(u64::from_le_bytes(take(bytes, 0))),
            position: u64::from_le_bytes(take(bytes, 8)),
            time_us: i64::from_le_bytes(take(bytes, 16)),
            count: u32::from_le_bytes(take(bytes, 24)),
        })
    }
}

/// The facts at the head of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Bits that a reader may ignore when it does not know them.
    pub compatible_flags: u16,
    /// The whole block in bytes, header and padding included; a multiple of 4096.
    pub block_len: u32,
    /// The sections together, in bytes.
    pub body_len: u32,
    /// CRC over everything behind the header, padding included.
    pub body_crc: u32,
    /// The `header_crc` of the block before; for the first block, the CRC of the segment's file header.
    pub prev_crc: u32,
    /// First frame that gave records.
    pub first_lsn: Lsn,
    /// Last frame that gave records.
    pub last_lsn: Lsn,
    /// The run of the broker that wrote it.
    pub incarnation: Incarnation,
    /// Append time of the first record, in microseconds.
    pub first_time_us: i64,
    /// Append time of the last record, in microseconds.
    pub last_time_us: i64,
    /// Offset of the first record.
    pub base: Offset,
    /// Offset behind the last record; not `base + count` after compaction.
    pub end: Offset,
    /// Topic and partition.
    pub lane: Lane,
    /// The segment that it was written for.
    pub segment: SegmentId,
    /// Records in it.
    pub count: u32,
    /// How the records section is compressed.
    pub codec: Codec,
    /// Reserved for encryption: 0.
    pub key_id: u32,
    /// Reserved: zero.
    pub chain: [u8; 32],
    /// Reserved: zero.
    pub tag: [u8; 16],
    /// The sections in their order; kind 0 behind the last.
    pub sections: [Section; SECTIONS_MAX],
}

/// Why bytes are not a block of ours. All of these are damage, but for the two that say that a newer program wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BlockFault {
    /// The bytes end before the block does.
    #[error("block is cut short bytes={found} expected={expected}")]
    Short {
        /// Bytes that should be there.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// No block begins here.
    #[error("block has the wrong magic found={found:02x?}")]
    BadMagic {
        /// What stands in the place of the magic.
        found: [u8; 4],
    },
    /// Some byte of the header is not what was written.
    #[error("block header is damaged crc={found:#010x} expected={expected:#010x}")]
    BadHeaderCrc {
        /// What the header says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// Written by a newer program: use that one.
    #[error("block was written by another version version={found} newest_known={BLOCK_VERSION}")]
    NewerVersion {
        /// What the header says.
        found: u16,
    },
    /// Uses something that this program does not know and may not ignore.
    #[error("block uses unknown features incompatible_flags={found:#06x}")]
    IncompatibleFlags {
        /// The bits that are set.
        found: u16,
    },
    /// Some byte behind the header is not what was written.
    #[error("block body is damaged crc={found:#010x} expected={expected:#010x}")]
    BadBodyCrc {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// Some byte of a section is not what was written.
    #[error("section is damaged kind={kind} crc={found:#010x} expected={expected:#010x}")]
    BadSectionCrc {
        /// Which section.
        kind: u16,
        /// What the table says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// Bytes that this version leaves zero are not.
    #[error("block has bytes where zeros belong at={at}")]
    NonZeroPadding {
        /// Position of the first one in the block.
        at: usize,
    },
    /// Facts of the header that contradict each other or the body.
    #[error("block contradicts itself field={field} value={found}")]
    Contradiction {
        /// The fact.
        field: &'static str,
        /// What it says.
        found: u64,
    },
    /// A whole block, but not the one that belongs here.
    #[error("block belongs elsewhere field={field} found={found} expected={expected}")]
    Misplaced {
        /// `topic`, `partition`, `segment`, `base`, `prev_crc` or `incarnation`.
        field: &'static str,
        /// What this place asks for.
        expected: u64,
        /// What the block says.
        found: u64,
    },
}

impl BlockHeader {
    /// The header as it stands in the block, and its CRC: what the next block chains to.
    pub fn encode(&self) -> ([u8; BLOCK_HEADER_BYTES], u32) {
        let mut out = [0; BLOCK_HEADER_BYTES];
        put(&mut out, MAGIC, BLOCK_MAGIC);
        put(&mut out, VERSION, BLOCK_VERSION.to_le_bytes());
        put(&mut out, HEADER_LEN, (BLOCK_HEADER_BYTES as u16).to_le_bytes());
        put(&mut out, COMPATIBLE, self.compatible_flags.to_le_bytes());
        put(&mut out, BLOCK_LEN, self.block_len.to_le_bytes());
        put(&mut out, BODY_LEN, self.body_len.to_le_bytes());
        put(&mut out, BODY_CRC, self.body_crc.to_le_bytes());
        put(&mut out, PREV_CRC, self.prev_crc.to_le_bytes());
        put(&mut out, FIRST_LSN, self.first_lsn.get().to_le_bytes());
        put(&mut out, LAST_LSN, self.last_lsn.get().to_le_bytes());
        put(&mut out, INCARNATION, self.incarnation.get().to_le_bytes());
        put(&mut out, FIRST_TIME, self.first_time_us.to_le_bytes());
        put(&mut out, LAST_TIME, self.last_time_us.to_le_bytes());
        put(&mut out, BASE, self.base.get().to_le_bytes());
        put(&mut out, END, self.end.get().to_le_bytes());
        put(&mut out, TOPIC, self.lane.topic.get().to_le_bytes());
        put(&mut out, SEGMENT, self.segment.get().to_le_bytes());
        put(&mut out, PARTITION, self.lane.partition.get().to_le_bytes());
        put(&mut out, COUNT, self.count.to_le_bytes());
        put(&mut out, CODEC, [self.codec.number()]);
        put(&mut out, KEY_ID, self.key_id.to_le_bytes());
        put(&mut out, CHAIN, self.chain);
        put(&mut out, TAG, self.tag);
        for (number, section) in self.sections.iter().enumerate() {
            let at = SECTIONS + number * SECTION_BYTES;
            put(&mut out, at, section.kind.to_le_bytes());
            put(&mut out, at + 2, section.flags.to_le_bytes());
            put(&mut out, at + 4, section.stored.to_le_bytes());
            put(&mut out, at + 8, section.raw.to_le_bytes());
            put(&mut out, at + 12, section.crc.to_le_bytes());
        }
        let crc = crc32fast::hash(&out);
        put(&mut out, HEADER_CRC, crc.to_le_bytes());
        (out, crc)
    }

    /// Reads the header of a block and its CRC; `bytes` may go on behind it. Whether the block is the one that
    /// belongs here is the reader's question.
    ///
    /// # Errors
    ///
    /// [`BlockFault::Short`], `BadMagic`, `BadHeaderCrc`, then what the bytes say though they are as written.
    pub fn decode(bytes: &[u8]) -> Result<(Self, u32), BlockFault> {
        let Some(bytes) = bytes.first_chunk::<BLOCK_HEADER_BYTES>() else {
            return Err(BlockFault::Short { expected: BLOCK_HEADER_BYTES, found: bytes.len() });
        };
        let magic = take(bytes, MAGIC);
        if magic != BLOCK_MAGIC {
            return Err(BlockFault::BadMagic { found: magic });
        }
        let crc = check_crc(bytes)?;
        check_envelope(bytes)?;
        let codec = Codec::from_number(bytes[CODEC]);
        let header = Self {
            compatible_flags: u16::from_le_bytes(take(bytes, COMPATIBLE)),
            block_len: u32::from_le_bytes(take(bytes, BLOCK_LEN)),
            body_len: u32::from_le_bytes(take(bytes, BODY_LEN)),
            body_crc: u32::from_le_bytes(take(bytes, BODY_CRC)),
            prev_crc: u32::from_le_bytes(take(bytes, PREV_CRC)),
            first_lsn: Lsn(u64::from_le_bytes(take(bytes, FIRST_LSN))),
            last_lsn: Lsn(u64::from_le_bytes(take(bytes, LAST_LSN))),
            incarnation: Incarnation(u64::from_le_bytes(take(bytes, INCARNATION))),
            first_time_us: i64::from_le_bytes(take(bytes, FIRST_TIME)),
            last_time_us: i64::from_le_bytes(take(bytes, LAST_TIME)),
            base: Offset(u64::from_le_bytes(take(bytes, BASE))),
            end: Offset(u64::from_le_bytes(take(bytes, END))),
            lane: Lane {
                topic: TopicId(u64::from_le_bytes(take(bytes, TOPIC))),
                partition: Partition(u32::from_le_bytes(take(bytes, PARTITION))),
            },
            segment: SegmentId(u64::from_le_bytes(take(bytes, SEGMENT))),
            count: u32::from_le_bytes(take(bytes, COUNT)),
            codec: codec.ok_or(contradiction("codec", u64::from(bytes[CODEC])))?,
            key_id: u32::from_le_bytes(take(bytes, KEY_ID)),
            chain: take(bytes, CHAIN),
            tag: take(bytes, TAG),
            sections: std::array::from_fn(|number| {
                let at = SECTIONS + number * SECTION_BYTES;
                Section {
                    kind: u16::from_le_bytes(take(bytes, at)),
                    flags: u16::from_le_bytes(take(bytes, at + 2)),
                    stored: u32::from_le_bytes(take(bytes, at + 4)),
                    raw: u32::from_le_bytes(take(bytes, at + 8)),
                    crc: u32::from_le_bytes(take(bytes, at + 12)),
                }
            }),
        };
        header.check_facts()?;
        Ok((header, crc))
    }

    /// Where a section stands in the block, and its row in the table.
    pub fn section(&self, kind: u16) -> Option<(std::ops::Range<usize>, Section)> {
        let mut at = BLOCK_HEADER_BYTES;
        for section in self.sections.iter().take_while(|section| section.kind != 0) {
            let end = at + section.stored as usize;
            if section.kind == kind {
                return Some((at..end, *section));
            }
            at = end;
        }
        None
    }

    /// The facts that must agree before any length is used.
    fn check_facts(&self) -> Result<(), BlockFault> {
        let used = self.sections.iter().take_while(|section| section.kind != 0).count();
        let behind = &self.sections[used..];
        let stored: u64 = self.sections.iter().map(|section| u64::from(section.stored)).sum();
        let whole = (BLOCK_HEADER_BYTES as u64 + stored).next_multiple_of(limits::ALIGN as u64);
        let records = self.section(section::RECORDS).map_or(0, |(_, section)| section.raw);
        let runs = self.section(section::RUNS).map_or(0, |(_, section)| section.stored) as usize;
        let repeated = (1..used).find(|at| self.sections[..*at].iter().any(|s| s.kind == self.sections[*at].kind));
        let facts = [
            ("body_len", u64::from(self.body_len), u64::from(self.body_len) == stored),
            ("block_len", u64::from(self.block_len), u64::from(self.block_len) == whole),
            ("block_len", u64::from(self.block_len), self.block_len as usize <= BLOCK_BYTES_MAX),
            ("section_kind", repeated.unwrap_or(0) as u64, repeated.is_none()),
            ("sections", used as u64, behind.iter().all(|section| *section == Section::default())),
            ("records_raw", u64::from(records), (1..=limits::BATCH_BYTES_MAX).contains(&(records as usize))),
            ("runs_stored", runs as u64, runs > 0 && runs.is_multiple_of(RUN_BYTES) && runs / RUN_BYTES <= RUNS_MAX),
            ("end", self.end.get(), self.end.get() <= limits::NUMBER_MAX && self.base < self.end),
            // Gaps come with compaction, which sets an incompatible flag.
            ("count", u64::from(self.count), u64::from(self.count) == self.end.since(self.base)),
            ("last_lsn", self.last_lsn.get(), self.first_lsn <= self.last_lsn),
            ("last_time_us", self.last_time_us.cast_unsigned(), self.first_time_us <= self.last_time_us),
        ];
        match facts.iter().find(|(_, _, holds)| !holds) {
            Some((field, found, _)) => Err(contradiction(field, *found)),
            None => Ok(()),
        }
    }
}

const fn contradiction(field: &'static str, found: u64) -> BlockFault {
    BlockFault::Contradiction { field, found }
}

fn check_crc(bytes: &[u8; BLOCK_HEADER_BYTES]) -> Result<u32, BlockFault> {
    let expected = u32::from_le_bytes(take(bytes, HEADER_CRC));
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..HEADER_CRC]);
    hasher.update(&[0; 4]);
    hasher.update(&bytes[HEADER_CRC + 4..]);
    let found = hasher.finalize();
    if expected == found { Ok(found) } else { Err(BlockFault::BadHeaderCrc { expected, found }) }
}

/// Version, flags, length and padding of the header.
fn check_envelope(bytes: &[u8; BLOCK_HEADER_BYTES]) -> Result<(), BlockFault> {
    let version = u16::from_le_bytes(take(bytes, VERSION));
    if version != BLOCK_VERSION {
        return Err(BlockFault::NewerVersion { found: version });
    }
    let flags = u16::from_le_bytes(take(bytes, INCOMPATIBLE));
    if flags != 0 {
        return Err(BlockFault::IncompatibleFlags { found: flags });
    }
    let length = u16::from_le_bytes(take(bytes, HEADER_LEN));
    if usize::from(length) != BLOCK_HEADER_BYTES {
        return Err(contradiction("header_len", u64::from(length)));
    }
    let zeros = (ZERO_CODEC..KEY_ID).chain(ZERO_TAIL..BLOCK_HEADER_BYTES);
    match zeros.into_iter().find(|at| bytes[*at] != 0) {
        Some(at) => Err(BlockFault::NonZeroPadding { at }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
