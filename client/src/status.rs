//! What a server is doing.

use std::time::Duration;

use tillroll_proto::v1;

/// Whether a server takes writes, and how much of each limit is in use. The
/// numbers are read one after the other, not as one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Its version.
    pub version: String,
    /// The id of its data directory.
    pub node_id: String,
    /// Rises each time its data is opened for writing.
    pub incarnation: u64,
    /// When it started, in microseconds since 1970 UTC.
    pub start_time_us: i64,
    /// How long it has been running.
    pub uptime: Duration,
    /// Its data directory, as it was told.
    pub data_directory: String,
    /// Free bytes of the file system, when it says.
    pub free_bytes: Option<u64>,
    /// Appends are refused while fewer bytes than these are free.
    pub needed_free_bytes: u64,
    /// Whether appends are taken.
    pub write_state: WriteState,
    /// Why not; empty when they are.
    pub write_cause: String,
    /// Open connections.
    pub connections: u64,
    /// The most open connections.
    pub max_connections: u64,
    /// Open calls, streams included.
    pub open_calls: u64,
    /// Journal files in use.
    pub journal_files: u64,
    /// The most journal files.
    pub max_journal_files: u64,
    /// Bytes in segments.
    pub stored_bytes: u64,
    /// Topics.
    pub topics: u64,
    /// Partitions of all topics.
    pub partitions: u64,
    /// Registered producers.
    pub producers: u64,
    /// Consumer groups.
    pub groups: u64,
    /// Everything in memory that has a limit.
    pub memory_budgets: Vec<MemoryBudget>,
}

/// Whether a server takes appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteState {
    /// It does.
    On,
    /// Not until bytes are free on its disk.
    DiskFull,
    /// Not until a checkpoint gives journal files back.
    JournalFull,
    /// Not until the system has again what it lacks, such as descriptors.
    Lacking,
    /// Not until it is restarted.
    Off,
    /// One that this client does not know.
    Unknown,
}

/// Memory that has a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryBudget {
    /// What it holds.
    pub name: String,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes at most.
    pub limit_bytes: u64,
}

impl WriteState {
    /// As the contract spells it, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "ON",
            Self::DiskFull => "DISK_FULL",
            Self::JournalFull => "JOURNAL_FULL",
            Self::Lacking => "LACKING",
            Self::Off => "OFF",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl ServerStatus {
    pub(crate) fn from_wire(wire: v1::GetStatusResponse) -> Self {
        let write_state = match wire.write_state() {
            v1::WriteState::On => WriteState::On,
            v1::WriteState::DiskFull => WriteState::DiskFull,
            v1::WriteState::JournalFull => WriteState::JournalFull,
            v1::WriteState::Lacking => WriteState::Lacking,
            v1::WriteState::Off => WriteState::Off,
            v1::WriteState::Unspecified => WriteState::Unknown,
        };
        let budget = |wire: v1::MemoryBudget| MemoryBudget {
            name: wire.name,
            used_bytes: wire.used_bytes,
            limit_bytes: wire.limit_bytes,
        };
        Self {
            version: wire.version,
            node_id: wire.node_id,
            incarnation: wire.incarnation,
            start_time_us: wire.start_time_us,
            uptime: Duration::from_millis(wire.uptime_ms),
            data_directory: wire.data_directory,
            free_bytes: wire.free_bytes,
            needed_free_bytes: wire.needed_free_bytes,
            write_state,
            write_cause: wire.write_cause,
            connections: wire.connections,
            max_connections: wire.max_connections,
            open_calls: wire.open_calls,
            journal_files: wire.journal_files,
            max_journal_files: wire.max_journal_files,
            stored_bytes: wire.stored_bytes,
            topics: wire.topics,
            partitions: wire.partitions,
            producers: wire.producers,
            groups: wire.groups,
            memory_budgets: wire.memory_budgets.into_iter().map(budget).collect(),
        }
    }
}
