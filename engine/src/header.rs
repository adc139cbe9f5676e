//! The first 4096 bytes of every journal, segment and index file: what the file is, whose it is, where it stands in
//! its chain.
//!
//! Comes in: the facts of a file about to be made, or the first bytes of one that was found. Goes out: the encoded
//! block, or a [`FileHeader`] that is proven whole and written by a version that we can read. What must stay true in
//! every later version: magic, CRC and their places, so that a newer file is told from a rotten one.

use thiserror::Error;

use crate::id::{Incarnation, Lsn, Uid};

/// Length of the header of a file, in bytes; what follows starts here.
pub const FILE_HEADER_BYTES: usize = 4_096;
/// First four bytes of every file with this header.
pub const FILE_MAGIC: [u8; 4] = *b"TLRF";
/// The version that this program writes, and the newest that it reads.
pub const FILE_VERSION: u16 = 1;

const MAGIC: usize = 0;
const VERSION: usize = 4;
const KIND: usize = 6;
const INCOMPATIBLE: usize = 8;
const COMPATIBLE: usize = 10;
const CRC: usize = 12;
const CLUSTER: usize = 16;
const NODE: usize = 32;
const NUMBER: usize = 48;
const FIRST_LSN: usize = 56;
const INCARNATION: usize = 64;
const PREV_CRC: usize = 72;
const SHARD: usize = 76;
const ZERO: usize = 78;

const _: () = assert!(SHARD + 2 == ZERO && ZERO < FILE_HEADER_BYTES, "fields overlap");

/// What a file holds. The numbers are on disk and never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FileKind {
    /// Groups of frames.
    Journal = 1,
    /// Blocks of one partition.
    Segment = 2,
    /// Where the blocks of one sealed segment stand.
    Index = 3,
}

impl FileKind {
    const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Journal),
            2 => Some(Self::Segment),
            3 => Some(Self::Index),
            _ => None,
        }
    }
}

/// The facts at the head of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// What the file holds.
    pub kind: FileKind,
    /// Bits that a reader may ignore when it does not know them.
    pub compatible_flags: u16,
    /// The cluster that wrote it.
    pub cluster: Uid,
    /// The node that wrote it.
    pub node: Uid,
    /// The shard that it belongs to.
    pub shard: u16,
    /// The journal's file number, or the segment's id.
    pub number: u64,
    /// The first frame that it holds or, in a segment or index, the first that could be in it.
    pub first_lsn: Lsn,
    /// CRC of what stands before it in its chain; 0 for the first and for files without a chain.
    pub prev_crc: u32,
    /// The run of the broker that made it.
    pub incarnation: Incarnation,
}

/// Why bytes are not the header of a file that we may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderFault {
    /// The file ends before its header does.
    #[error("file header is cut short bytes={found} expected={FILE_HEADER_BYTES}")]
    Short {
        /// Bytes that are there.
        found: usize,
    },
    /// Not one of our files, or its first bytes are rotten.
    #[error("file header has the wrong magic found={found:02x?}")]
    BadMagic {
        /// What stands in the place of the magic.
        found: [u8; 4],
    },
    /// Some byte of the header is not what was written.
    #[error("file header is damaged crc={found:#010x} expected={expected:#010x}")]
    BadCrc {
        /// What the header says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// Written by a newer program: use that one.
    #[error("file was written by another version version={found} newest_known={FILE_VERSION}")]
    NewerVersion {
        /// What the header says.
        found: u16,
    },
    /// Uses something that this program does not know and may not ignore.
    #[error("file uses unknown features incompatible_flags={found:#06x}")]
    IncompatibleFlags {
        /// The bits that are set.
        found: u16,
    },
    /// A file of another kind stands under this name.
    #[error("file is of the wrong kind kind={found} expected={expected}")]
    WrongKind {
        /// The number of the kind that was looked for; 0 when any would have done.
        expected: u16,
        /// The number that the header says.
        found: u16,
    },
    /// Bytes that this version leaves zero are not.
    #[error("file header has bytes where zeros belong at={at}")]
    NonZeroPadding {
        /// Position of the first one.
        at: usize,
    },
}

impl FileHeader {
    /// The header as it stands in the file.
    pub fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut out = [0; FILE_HEADER_BYTES];
        put(&mut out, MAGIC, FILE_MAGIC);
        put(&mut out, VERSION, FILE_VERSION.to_le_bytes());
        put(&mut out, KIND, (self.kind as u16).to_le_bytes());
        put(&mut out, COMPATIBLE, self.compatible_flags.to_le_bytes());
        put(&mut out, CLUSTER, self.cluster.0);
        put(&mut out, NODE, self.node.0);
        put(&mut out, NUMBER, self.number.to_le_bytes());
        put(&mut out, FIRST_LSN, self.first_lsn.get().to_le_bytes());
        put(&mut out, INCARNATION, self.incarnation.get().to_le_bytes());
        put(&mut out, PREV_CRC, self.prev_crc.to_le_bytes());
        put(&mut out, SHARD, self.shard.to_le_bytes());
        let crc = crc32fast::hash(&out);
        put(&mut out, CRC, crc.to_le_bytes());
        out
    }

    /// Reads a header of any kind; `bytes` may go on behind it.
    ///
    /// # Errors
    ///
    /// In this order: [`HeaderFault::Short`], `BadMagic`, `BadCrc`, `NewerVersion`, `IncompatibleFlags`, `WrongKind`
    /// (of no known kind), `NonZeroPadding`. So everything but the first three says that the bytes are as written.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let Some(bytes) = bytes.first_chunk::<FILE_HEADER_BYTES>() else {
            return Err(HeaderFault::Short { found: bytes.len() });
        };
        let magic = take(bytes, MAGIC);
        if magic != FILE_MAGIC {
            return Err(HeaderFault::BadMagic { found: magic });
        }
        check_crc(bytes)?;
        let version = u16::from_le_bytes(take(bytes, VERSION));
        if version != FILE_VERSION {
            return Err(HeaderFault::NewerVersion { found: version });
        }
        let flags = u16::from_le_bytes(take(bytes, INCOMPATIBLE));
        if flags != 0 {
            return Err(HeaderFault::IncompatibleFlags { found: flags });
        }
        let kind = u16::from_le_bytes(take(bytes, KIND));
        let kind = FileKind::from_number(kind).ok_or(HeaderFault::WrongKind { expected: 0, found: kind })?;
        if let Some(at) = bytes[ZERO..].iter().position(|byte| *byte != 0) {
            return Err(HeaderFault::NonZeroPadding { at: ZERO + at });
        }
        Ok(Self {
            kind,
            compatible_flags: u16::from_le_bytes(take(bytes, COMPATIBLE)),
            cluster: Uid(take(bytes, CLUSTER)),
            node: Uid(take(bytes, NODE)),
            shard: u16::from_le_bytes(take(bytes, SHARD)),
            number: u64::from_le_bytes(take(bytes, NUMBER)),
            first_lsn: Lsn(u64::from_le_bytes(take(bytes, FIRST_LSN))),
            prev_crc: u32::from_le_bytes(take(bytes, PREV_CRC)),
            incarnation: Incarnation(u64::from_le_bytes(take(bytes, INCARNATION))),
        })
    }

    /// Reads a header that must be of `kind`.
    ///
    /// # Errors
    ///
    /// Those of [`FileHeader::decode`], and `WrongKind` for a header of another kind.
    pub fn decode_kind(bytes: &[u8], kind: FileKind) -> Result<Self, HeaderFault> {
        let header = Self::decode(bytes)?;
        if header.kind != kind {
            return Err(HeaderFault::WrongKind { expected: kind as u16, found: header.kind as u16 });
        }
        Ok(header)
    }

    /// The CRC that stands in an encoded header: what the first thing behind it chains to.
    pub fn crc(&self) -> u32 {
        u32::from_le_bytes(take(&self.encode(), CRC))
    }
}

fn check_crc(bytes: &[u8; FILE_HEADER_BYTES]) -> Result<(), HeaderFault> {
    let expected = u32::from_le_bytes(take(bytes, CRC));
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CRC]);
    hasher.update(&[0; 4]);
    hasher.update(&bytes[CRC + 4..]);
    let found = hasher.finalize();
    if expected == found { Ok(()) } else { Err(HeaderFault::BadCrc { expected, found }) }
}

/// Copies a field of a fixed width out of `bytes`.
///
/// # Panics
///
/// When it does not lie within: places are constants of formats whose length was checked before.
pub(crate) fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// Writes a field of a fixed width into `bytes`. Panics as [`take`] does.
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, field: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&field);
}

/// Golden files: `engine/golden/NAME.hex`, 32 bytes a line, lines of zeros left out, the length at the end.
/// `TILLROLL_BLESS=1` writes them anew; a change of one is a change of the format on disk.
#[cfg(test)]
pub(crate) mod golden {
    use std::fmt::Write;

    /// Holds `bytes` against the file `name`.
    pub(crate) fn check(name: &str, bytes: &[u8]) {
        let path = format!("{}/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
        let text = print(bytes);
        if std::env::var_os("TILLROLL_BLESS").is_some() {
            std::fs::write(&path, &text).expect("golden file can be written");
        }
        let wanted = std::fs::read_to_string(&path).expect("golden file exists");
        assert!(text == wanted, "format changed, file {path} says otherwise:\n{text}");
    }

    fn print(bytes: &[u8]) -> String {
        let mut text = String::new();
        for (number, line) in bytes.chunks(32).enumerate() {
            if line.iter().all(|byte| *byte == 0) {
                continue;
            }
            write!(text, "{:06x}:", number * 32).expect("a string takes all");
            for word in line.chunks(4) {
                text.push(' ');
                for byte in word {
                    write!(text, "{byte:02x}").expect("a string takes all");
                }
            }
            text.push('\n');
        }
        writeln!(text, "bytes: {}", bytes.len()).expect("a string takes all");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> FileHeader {
        FileHeader {
            kind: FileKind::Journal,
            compatible_flags: 0x8001,
            cluster: Uid(*b"cluster-identity"),
            node: Uid(*b"identity-of-node"),
            shard: 0x0203,
            number: 0x1112_1314_1516_1718,
            first_lsn: Lsn(0x2122_2324_2526_2728),
            prev_crc: 0x3132_3334,
            incarnation: Incarnation(0x4142_4344_4546_4748),
        }
    }

    /// Patches a valid header and makes its CRC right again.
    fn forged(at: usize, byte: u8) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = sample().encode();
        bytes[at] = byte;
        put(&mut bytes, CRC, [0; 4]);
        let crc = crc32fast::hash(&bytes);
        put(&mut bytes, CRC, crc.to_le_bytes());
        bytes
    }

    #[test]
    fn a_header_comes_back_as_it_went_in() {
        for kind in [FileKind::Journal, FileKind::Segment, FileKind::Index] {
            let header = FileHeader { kind, ..sample() };
            assert_eq!(FileHeader::decode(&header.encode()), Ok(header));
            assert_eq!(FileHeader::decode_kind(&header.encode(), kind), Ok(header));
            assert_eq!(header.crc().to_le_bytes(), header.encode()[CRC..CRC + 4]);
        }
    }

    #[test]
    fn the_format_is_the_golden_one() {
        golden::check("file-header", &sample().encode());
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let good = sample().encode();
        for at in 0..good.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bad = good;
                bad[at] ^= mask;
                let fault = FileHeader::decode(&bad).expect_err("a flipped byte must not pass");
                let wanted = if at < 4 {
                    matches!(fault, HeaderFault::BadMagic { .. })
                } else {
                    matches!(fault, HeaderFault::BadCrc { .. })
                };
                assert!(wanted, "byte {at} gave {fault}");
            }
        }
    }

    #[test]
    fn what_was_written_on_purpose_is_told_from_damage() {
        assert_eq!(FileHeader::decode(&forged(VERSION, 2)), Err(HeaderFault::NewerVersion { found: 2 }));
        assert_eq!(FileHeader::decode(&forged(INCOMPATIBLE, 4)), Err(HeaderFault::IncompatibleFlags { found: 4 }));
        assert_eq!(FileHeader::decode(&forged(KIND, 9)), Err(HeaderFault::WrongKind { expected: 0, found: 9 }));
        assert_eq!(FileHeader::decode(&forged(4_000, 9)), Err(HeaderFault::NonZeroPadding { at: 4_000 }));
        let journal = sample().encode();
        assert_eq!(
            FileHeader::decode_kind(&journal, FileKind::Index),
            Err(HeaderFault::WrongKind { expected: 3, found: 1 })
        );
        assert_eq!(FileHeader::decode(&journal[..4_095]), Err(HeaderFault::Short { found: 4_095 }));
    }
}
