//! The frame header: 160 bytes in front of the operations of one append.
//!
//! `header_crc` is verified before any length is believed. `prev_crc` chains frames across groups and files, so a
//! stale frame of a recycled file can be whole and still not belong.

use crate::{
    header::{put, take},
    id::{Incarnation, Lsn},
    journal::op::Op,
    limits::ALIGN,
};

/// Length of the header.
pub const FRAME_HEADER_BYTES: usize = 160;
/// First four bytes of every frame.
pub const FRAME_MAGIC: [u8; 4] = *b"TLRJ";
/// Version of the frame layout.
pub const FRAME_VERSION: u16 = 1;

/// Incompatible flags: a reader that does not know a bit refuses.
pub mod flag {
    /// First frame of its group.
    pub const FIRST: u16 = 1;
    /// Last frame of its group; the group's padding belongs to it.
    pub const LAST: u16 = 2;
    /// Reserved: the body is ciphertext.
    pub const ENCRYPTED: u16 = 4;
    /// Reserved: the body is compressed.
    pub const COMPRESSED: u16 = 8;
    /// What this version reads.
    pub const KNOWN: u16 = FIRST | LAST;
}

/// What a frame says of itself, verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHeader {
    /// See [`flag`].
    pub flags: u16,
    /// CRC-32 of the header with this field zero. Computed by [`FrameHeader::encode`].
    pub header_crc: u32,
    /// Header, body and padding: the next header is this far on.
    pub frame_len: u32,
    /// Operations, without the group's padding.
    pub body_len: u32,
    /// CRC-32 of the body.
    pub body_crc: u32,
    /// The previous frame's `header_crc`; 0 before the first frame ever.
    pub prev_crc: u32,
    /// Its number.
    pub lsn: Lsn,
    /// Leadership epoch; 1 on a single node.
    pub epoch: u64,
    /// The run of the broker that wrote it.
    pub incarnation: Incarnation,
    /// Frames up to here were durable when it was written.
    pub durable_lsn: Lsn,
    /// Append time in microseconds: the clock, but never below the previous frame's.
    pub time_us: i64,
    /// Records before it on the shard.
    pub position: u64,
    /// The shard.
    pub shard: u16,
    /// How many operations.
    pub op_count: u32,
}

/// Why bytes are not a frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// All zero: nothing was written here.
    #[error("nothing written here")]
    Zero,
    /// Not a frame, or its header is damaged.
    #[error("no frame header here")]
    NotAFrame,
    /// A valid header of a version or with flags that this program does not know.
    #[error("frame of a newer version version={version} flags={flags}")]
    Newer {
        /// Its version.
        version: u16,
        /// Its incompatible flags.
        flags: u16,
    },
}

impl FrameHeader {
    /// Encodes it, computing `header_crc`, which is returned beside the bytes.
    ///
    /// The checksum starts from `seed`, which is drawn from the cluster's identity: recovery looks for frames at every
    /// aligned position, and a record whose value is a made-up frame must not pass for one.
    pub fn encode(&self, seed: u32) -> ([u8; FRAME_HEADER_BYTES], u32) {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        put(&mut bytes, 0, FRAME_MAGIC);
        put(&mut bytes, 4, FRAME_VERSION.to_le_bytes());
        put(&mut bytes, 6, (FRAME_HEADER_BYTES as u16).to_le_bytes());
        put(&mut bytes, 8, self.flags.to_le_bytes());
        put(&mut bytes, 16, self.frame_len.to_le_bytes());
        put(&mut bytes, 20, self.body_len.to_le_bytes());
        put(&mut bytes, 24, self.body_crc.to_le_bytes());
        put(&mut bytes, 28, self.prev_crc.to_le_bytes());
        put(&mut bytes, 32, self.lsn.0.to_le_bytes());
        put(&mut bytes, 40, self.epoch.to_le_bytes());
        put(&mut bytes, 48, self.incarnation.0.to_le_bytes());
        put(&mut bytes, 56, self.durable_lsn.0.to_le_bytes());
        put(&mut bytes, 64, self.time_us.to_le_bytes());
        put(&mut bytes, 72, self.position.to_le_bytes());
        put(&mut bytes, 80, self.shard.to_le_bytes());
        put(&mut bytes, 84, self.op_count.to_le_bytes());
        let crc = header_crc(&bytes, seed);
        put(&mut bytes, 12, crc.to_le_bytes());
        (bytes, crc)
    }

    /// Verifies and reads a header at the start of `bytes`.
    pub fn decode(bytes: &[u8], seed: u32) -> Result<Self, FrameFault> {
        let Some(bytes) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Err(FrameFault::NotAFrame);
        };
        if bytes[0..4] != FRAME_MAGIC {
            let zero = bytes.iter().all(|&byte| byte == 0);
            return Err(if zero { FrameFault::Zero } else { FrameFault::NotAFrame });
        }
        let stored_crc = u32::from_le_bytes(take(bytes, 12));
        if header_crc(bytes, seed) != stored_crc {
            return Err(FrameFault::NotAFrame);
        }
        let version = u16::from_le_bytes(take(bytes, 4));
        let flags = u16::from_le_bytes(take(bytes, 8));
        if version != FRAME_VERSION || flags & !flag::KNOWN != 0 {
            return Err(FrameFault::Newer { version, flags });
        }
        let header = Self {
            flags,
            header_crc: stored_crc,
            frame_len: u32::from_le_bytes(take(bytes, 16)),
            body_len: u32::from_le_bytes(take(bytes, 20)),
            body_crc: u32::from_le_bytes(take(bytes, 24)),
            prev_crc: u32::from_le_bytes(take(bytes, 28)),
            lsn: Lsn(u64::from_le_bytes(take(bytes, 32))),
            epoch: u64::from_le_bytes(take(bytes, 40)),
            incarnation: Incarnation(u64::from_le_bytes(take(bytes, 48))),
            durable_lsn: Lsn(u64::from_le_bytes(take(bytes, 56))),
            time_us: i64::from_le_bytes(take(bytes, 64)),
            position: u64::from_le_bytes(take(bytes, 72)),
            shard: u16::from_le_bytes(take(bytes, 80)),
            op_count: u32::from_le_bytes(take(bytes, 84)),
        };
        let unread_is_zero = bytes[10..12] == [0; 2] && bytes[82..84] == [0; 2] && bytes[88..].iter().all(|&b| b == 0);
        let lengths_fit = FRAME_HEADER_BYTES + header.body_len as usize <= header.frame_len as usize
            && header.frame_len.is_multiple_of(8);
        if unread_is_zero && lengths_fit { Ok(header) } else { Err(FrameFault::NotAFrame) }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// CRC-32 of a header with its checksum field taken as zero, started from `seed`.
fn header_crc(bytes: &[u8; FRAME_HEADER_BYTES], seed: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&bytes[..12]);
    hasher.update(&[0; 4]);
    hasher.update(&bytes[16..]);
    hasher.finalize()
}

/// One append as the rest of the engine knows it: decided, numbered, and read back by recovery as it was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// Its number.
    pub lsn: Lsn,
    /// Append time in microseconds.
    pub time_us: i64,
    /// Records before it on the shard.
    pub position: u64,
    /// What became so.
    pub ops: Vec<Op>,
}

impl Frame {
    /// Bytes in the journal, without the group's padding.
    pub fn encoded_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.body_bytes()
    }

    /// Bytes of the operations.
    pub fn body_bytes(&self) -> usize {
        self.ops.iter().map(Op::encoded_bytes).sum()
    }

    /// Records that it adds to the shard.
    pub fn record_count(&self) -> u64 {
        self.ops.iter().map(|op| if let Op::Batch(batch) = op { u64::from(batch.batch.record_count) } else { 0 }).sum()
    }
}

/// Bytes that a group of `frames` bytes takes in a file: rounded up, without the zero block behind it.
pub const fn group_bytes(frames: usize) -> usize {
    frames.next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> FrameHeader {
        FrameHeader {
            flags: flag::FIRST | flag::LAST,
            header_crc: 0,
            frame_len: 4_096,
            body_len: 96,
            body_crc: 0x0102_0304,
            prev_crc: 0x0a0b_0c0d,
            lsn: Lsn(7),
            epoch: 1,
            incarnation: Incarnation(3),
            durable_lsn: Lsn(5),
            time_us: 1_700_000_000_000_000,
            position: 42,
            shard: 0,
            op_count: 2,
        }
    }

    #[test]
    fn a_header_reads_back_and_matches_its_golden_bytes() {
        let (bytes, crc) = sample().encode(0x5eed);
        assert_eq!(FrameHeader::decode(&bytes, 0x5eed), Ok(FrameHeader { header_crc: crc, ..sample() }));
        crate::header::golden::check("frame-header", &bytes);
    }

    #[test]
    fn every_corrupted_bit_of_a_header_is_seen() {
        let (good, _) = sample().encode(0x5eed);
        for at in 0..FRAME_HEADER_BYTES {
            for bit in 0..8 {
                let mut bad = good;
                bad[at] ^= 1 << bit;
                assert!(FrameHeader::decode(&bad, 0x5eed).is_err(), "byte {at} bit {bit}");
            }
        }
    }
}
