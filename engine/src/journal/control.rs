//! `control` and `watermark`: the two small files that say what a run of the broker may believe.
//!
//! `control` has two slots of 4096 bytes, written in turn and synced; the valid one with the higher generation counts.
//! `watermark` holds the newest durable LSN, rewritten in place after every sync of the journal and never synced: it
//! survives a killed process, and after a power cut a stale or torn one only says less than it could.

use std::{io, sync::Arc};

use crate::{
    disk::{self, Disk, DiskFile, Mode},
    header::{put, take},
    id::{Incarnation, Lsn, Uid},
    limits::ALIGN,
};

/// The path of `control`.
pub const CONTROL_PATH: &str = "control";
/// The path of `watermark`.
pub const WATERMARK_PATH: &str = "watermark";
/// Length of the watermark file in bytes.
pub const WATERMARK_BYTES: usize = 32;

const CONTROL_MAGIC: [u8; 4] = *b"TLRC";
const WATERMARK_MAGIC: [u8; 4] = *b"TLRW";
/// Version of the whole data directory.
pub const DIRECTORY_VERSION: u16 = 1;

/// What `control` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Rises with every write.
    pub generation: u64,
    /// Drawn when the directory was made.
    pub cluster: Uid,
    /// Drawn when the directory was made.
    pub node: Uid,
    /// One, today.
    pub shard_count: u16,
    /// The run that owns the directory.
    pub incarnation: Incarnation,
    /// Last frame at a clean stop; 0 while a run is going on.
    pub clean_lsn: Lsn,
}

/// Why `control` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlFault {
    /// Neither slot is valid.
    #[error("both slots of control are damaged")]
    BothDamaged,
    /// A valid slot of a newer version.
    #[error("data directory of a newer format version={version} supported={DIRECTORY_VERSION}")]
    Newer {
        /// Its version.
        version: u16,
    },
}

impl Control {
    /// One slot's bytes.
    pub fn encode(&self) -> [u8; ALIGN] {
        let mut bytes = [0; ALIGN];
        put(&mut bytes, 0, CONTROL_MAGIC);
        put(&mut bytes, 4, DIRECTORY_VERSION.to_le_bytes());
        put(&mut bytes, 6, self.shard_count.to_le_bytes());
        put(&mut bytes, 16, self.generation.to_le_bytes());
        put(&mut bytes, 24, self.cluster.0);
        put(&mut bytes, 40, self.node.0);
        put(&mut bytes, 56, self.incarnation.0.to_le_bytes());
        put(&mut bytes, 64, self.clean_lsn.0.to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        put(&mut bytes, 8, crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Option<Self>, ControlFault> {
        let Some(slot) = bytes.first_chunk::<ALIGN>() else { return Ok(None) };
        let mut unsigned = *slot;
        put(&mut unsigned, 8, [0; 4]);
        if slot[0..4] != CONTROL_MAGIC || crc32fast::hash(&unsigned).to_le_bytes() != take::<4>(slot, 8) {
            return Ok(None);
        }
        let version = u16::from_le_bytes(take(slot, 4));
        if version != DIRECTORY_VERSION {
            return Err(ControlFault::Newer { version });
        }
        Ok(Some(Self {
            generation: u64::from_le_bytes(take(slot, 16)),
            cluster: Uid(take(slot, 24)),
            node: Uid(take(slot, 40)),
            shard_count: u16::from_le_bytes(take(slot, 6)),
            incarnation: Incarnation(u64::from_le_bytes(take(slot, 56))),
            clean_lsn: Lsn(u64::from_le_bytes(take(slot, 64))),
        }))
    }

    /// The newer valid slot of the file's bytes, and whether the other one holds something that is not valid: a write
    /// that a crash cut short, or rot.
    pub fn read(bytes: &[u8]) -> Result<(Self, bool), ControlFault> {
        let is_damaged = bytes
            .chunks(ALIGN)
            .any(|slot| slot.iter().any(|&byte| byte != 0) && !matches!(Self::decode(slot), Ok(Some(_))));
        Self::newest(bytes).map(|newest| (newest, is_damaged))
    }

    /// The newer valid slot of the file's bytes.
    fn newest(bytes: &[u8]) -> Result<Self, ControlFault> {
        let first = Self::decode(bytes)?;
        let second = Self::decode(bytes.get(ALIGN..).unwrap_or_default())?;
        first.into_iter().chain(second).max_by_key(|control| control.generation).ok_or(ControlFault::BothDamaged)
    }

    /// Writes the next generation into the slot that is not the newest, and syncs. At the return it is durable.
    pub fn write_next(&mut self, file: &dyn DiskFile) -> io::Result<()> {
        self.generation += 1;
        let slot = (self.generation % 2) * ALIGN as u64;
        disk::write_all_at(file, &self.encode(), slot)?;
        file.sync()
    }
}

/// What `watermark` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Frames up to here were durable.
    pub durable_lsn: Lsn,
    /// The run that wrote it.
    pub incarnation: Incarnation,
}

impl Watermark {
    /// The file's bytes.
    pub fn encode(&self) -> [u8; WATERMARK_BYTES] {
        let mut bytes = [0; WATERMARK_BYTES];
        put(&mut bytes, 0, WATERMARK_MAGIC);
        put(&mut bytes, 8, self.durable_lsn.0.to_le_bytes());
        put(&mut bytes, 16, self.incarnation.0.to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        put(&mut bytes, 4, crc.to_le_bytes());
        bytes
    }

    /// What the bytes say; none when they are torn or were never written.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<WATERMARK_BYTES>()?;
        let mut unsigned = *bytes;
        put(&mut unsigned, 4, [0; 4]);
        let holds = bytes[0..4] == WATERMARK_MAGIC && crc32fast::hash(&unsigned).to_le_bytes() == take::<4>(bytes, 4);
        holds.then(|| Self {
            durable_lsn: Lsn(u64::from_le_bytes(take(bytes, 8))),
            incarnation: Incarnation(u64::from_le_bytes(take(bytes, 16))),
        })
    }

    /// Reads the file, when there is one and it is whole.
    pub fn read(disk: &dyn Disk) -> io::Result<Option<Self>> {
        let file = match disk::open_cold(disk, WATERMARK_PATH, Mode::Read, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = [0; WATERMARK_BYTES];
        let count = disk::read_full_at(&*file, &mut bytes, 0)?;
        Ok(Self::decode(&bytes[..count]))
    }

    /// Opens the file for writing in place, making it when it is missing.
    pub fn open(disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        match disk.open(WATERMARK_PATH, Mode::Write, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk.open(WATERMARK_PATH, Mode::Create, false)?;
                file.allocate(0, ALIGN as u64)?;
                disk.sync_dir("")?;
                Ok(file)
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Control {
        Control {
            generation: 6,
            cluster: Uid([7; 16]),
            node: Uid([8; 16]),
            shard_count: 1,
            incarnation: Incarnation(3),
            clean_lsn: Lsn(99),
        }
    }

    #[test]
    fn the_newer_slot_counts_and_a_damaged_one_does_not() {
        let older = sample();
        let newer = Control { generation: 7, clean_lsn: Lsn(120), ..older };
        let mut both = [older.encode(), newer.encode()].concat();
        assert_eq!(Control::newest(&both), Ok(newer));
        for at in ALIGN..2 * ALIGN {
            both[at] ^= 0x10;
            assert_eq!(Control::newest(&both), Ok(older), "byte {at}");
            both[at] ^= 0x10;
        }
        both.fill(0);
        assert_eq!(Control::newest(&both), Err(ControlFault::BothDamaged));
    }

    #[test]
    fn control_and_watermark_match_their_golden_bytes() {
        crate::header::golden::check("control-slot", &sample().encode());
        let mark = Watermark { durable_lsn: Lsn(17), incarnation: Incarnation(2) };
        crate::header::golden::check("watermark", &mark.encode());
        assert_eq!(Watermark::decode(&mark.encode()), Some(mark));
    }

    #[test]
    fn a_torn_watermark_says_nothing() {
        let good = Watermark { durable_lsn: Lsn(17), incarnation: Incarnation(2) }.encode();
        for at in 0..WATERMARK_BYTES {
            let mut bad = good;
            bad[at] ^= 1;
            assert_eq!(Watermark::decode(&bad), None, "byte {at}");
        }
    }
}
