//! A unit's state in a file, so that a restart does not read the whole log.
//!
//! The log is the truth; a snapshot only spares reading. It names what it stands for: the cursor of every input, how
//! far the own outputs are in it, the broker's data and its incarnation, and the append times of the records at these
//! edges. It is thrown away when anything of that is ahead of the broker or otherwise there, as after a restore from an
//! older copy, and when a byte of it is wrong.
//!
//! One file, little-endian: 8 bytes `tillsnap`; u32 format 1; u32 CRC-32 (IEEE) of everything behind it; u64 size of
//! the head; the head as JSON; the state as JSON, to the end of the file. It is written under another name, synced,
//! renamed, and the directory is synced.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::fail_point::{FailPoint, reach};

const MAGIC: &[u8; 8] = b"tillsnap";
const FORMAT: u32 = 1;
/// Magic, format, CRC.
const FIXED_BYTES: usize = 16;
/// No state is believed to be larger.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// What a snapshot stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) service: String,
    /// Which of the service's units.
    pub(super) unit: u32,
    /// The broker's data directory.
    pub(super) node_id: String,
    pub(super) incarnation: u64,
    /// The input's cursors.
    pub(super) inputs: Vec<Edge>,
    /// Behind the last own output that is in the state.
    pub(super) outputs: Vec<Edge>,
    /// The id of the last own output: ids go on above it.
    pub(super) newest_id: Option<String>,
}

/// A place in a partition: everything before it is in the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Edge {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) next_offset: u64,
    /// The append time of the record before it, when it is known.
    pub(super) append_time_us: Option<i64>,
}

/// A snapshot that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) head: Head,
    pub(super) state: Vec<u8>,
}

/// Why a snapshot is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// There is none.
    Absent,
    Unreadable(String),
    /// Not a snapshot, or of a format that is not known.
    Foreign,
    /// A byte of it is wrong.
    Damaged,
    /// It is of another service, unit or broker.
    OfOther(&'static str),
    /// The broker's data is older than the snapshot.
    AheadOfBroker {
        snapshot: u64,
        broker: u64,
    },
    /// A place is beyond the end of the log, or beyond the cursor.
    AheadOfLog {
        edge: Edge,
        end: u64,
    },
    /// The log has another record there.
    OtherHistory {
        edge: Edge,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("there is none"),
            Self::Unreadable(cause) => write!(formatter, "it cannot be read: {cause}"),
            Self::Foreign => formatter.write_str("it is no snapshot of a known format"),
            Self::Damaged => formatter.write_str("it is damaged"),
            Self::OfOther(what) => write!(formatter, "it is of another {what}"),
            Self::AheadOfBroker { snapshot, broker } => {
                write!(formatter, "it is ahead of the broker incarnation={snapshot} broker={broker}")
            }
            Self::AheadOfLog { edge: Edge { topic, partition, next_offset, .. }, end } => {
                let place = format!("topic={topic} partition={partition} offset={next_offset}");
                write!(formatter, "it is ahead of the log {place} end={end}")
            }
            Self::OtherHistory { edge: Edge { topic, partition, next_offset, .. } } => {
                let place = format!("topic={topic} partition={partition} offset={next_offset}");
                write!(formatter, "the log has another record before {place}")
            }
        }
    }
}

/// The name of a unit's file.
pub(super) fn path(directory: &Path, service: &str, unit: u32) -> PathBuf {
    directory.join(format!("{service}-{unit}.snapshot"))
}

impl Snapshot {
    /// The bytes of its file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let head = serde_json::to_vec(&self.head).expect("a head has text as keys and writes to memory");
        let mut bytes = Vec::with_capacity(FIXED_BYTES + 8 + head.len() + self.state.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(head.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&self.state);
        let crc32 = crc32fast::hash(&bytes[FIXED_BYTES..]);
        bytes[12..FIXED_BYTES].copy_from_slice(&crc32.to_le_bytes());
        bytes
    }

    /// Reads the bytes of a file.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unusable> {
        let (Some(fixed), Some(rest)) = (bytes.get(..FIXED_BYTES), bytes.get(FIXED_BYTES..)) else {
            return Err(Unusable::Foreign);
        };
        if fixed[..8] != *MAGIC || fixed[8..12] != FORMAT.to_le_bytes() {
            return Err(Unusable::Foreign);
        }
        if fixed[12..] != crc32fast::hash(rest).to_le_bytes() {
            return Err(Unusable::Damaged);
        }
        let size = rest.first_chunk::<8>().map(|size| u64::from_le_bytes(*size));
        let end = size.and_then(|size| usize::try_from(size).ok()).and_then(|size| size.checked_add(8));
        let parts = end.and_then(|end| Some((rest.get(8..end)?, rest.get(end..)?)));
        let (head, state) = parts.ok_or(Unusable::Damaged)?;
        let head = serde_json::from_slice(head).map_err(|_| Unusable::Damaged)?;
        Ok(Self { head, state: state.to_vec() })
    }

    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, Unusable> {
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Unusable::Absent,
            _ => Unusable::Unreadable(error.to_string()),
        };
        let file = File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::decode(&bytes)
    }

    /// Writes it where it is found again: the older one stays until the new one is whole on disk.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let unfinished = path.with_extension("unfinished");
        let mut file = File::create(&unfinished)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        reach(FailPoint::BeforeRename);
        fs::rename(&unfinished, path)?;
        reach(FailPoint::AfterRename);
        File::open(directory)?.sync_all()
    }
}

impl Head {
    /// Whether it is of this service, unit and broker, and the broker's data is not older.
    pub(super) fn check_owner(
        &self,
        service: &str,
        unit: u32,
        node_id: &str,
        incarnation: u64,
    ) -> Result<(), Unusable> {
        for (what, same) in
            [("service", self.service == service), ("unit", self.unit == unit), ("broker", self.node_id == node_id)]
        {
            if !same {
                return Err(Unusable::OfOther(what));
            }
        }
        if self.incarnation > incarnation {
            return Err(Unusable::AheadOfBroker { snapshot: self.incarnation, broker: incarnation });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
