//! What a client knows of its server.

use tillroll_proto::v1;

/// The server's version, identity, limits and features.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Its version.
    pub version: String,
    /// The id of its data directory.
    pub node_id: String,
    /// Rises each time its data is opened for writing.
    pub incarnation: u64,
    /// The limits in force.
    pub limits: Limits,
    /// What it can do beyond the first release.
    pub features: Vec<String>,
    /// Syncs of the journal since the broker started.
    pub journal_syncs: u64,
}

/// What a server takes at most. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The largest encoded record of any topic.
    pub max_record_bytes: u32,
    /// The largest append.
    pub max_append_bytes: u32,
    /// The most records of an append.
    pub max_append_records: u32,
    /// The most batches of an append.
    pub max_append_batches: u32,
    /// The longest key.
    pub max_key_bytes: u32,
    /// The most unanswered appends on one stream.
    pub max_in_flight_appends: u32,
    /// The most unanswered bytes on one stream.
    pub max_in_flight_bytes: u32,
    /// The largest response that a reader may ask for.
    pub max_response_bytes: u32,
    /// The largest batch before compression.
    pub max_batch_bytes: u32,
}

impl ServerInfo {
    pub(crate) fn from_wire(wire: v1::GetServerResponse) -> Self {
        Self {
            version: wire.version,
            node_id: wire.node_id,
            incarnation: wire.incarnation,
            limits: Limits::from_wire(wire.limits.unwrap_or_default()),
            features: wire.features,
            journal_syncs: wire.journal_syncs,
        }
    }
}

impl Limits {
    /// A limit that a server leaves out is the one of the contract.
    fn from_wire(wire: v1::Limits) -> Self {
        let or = |stated: u32, contract: u32| if stated == 0 { contract } else { stated };
        Self {
            max_record_bytes: or(wire.max_record_bytes, 3 << 20),
            max_append_bytes: or(wire.max_append_bytes, 8 << 20),
            max_append_records: or(wire.max_append_records, 65_536),
            max_append_batches: or(wire.max_append_batches, 1_024),
            max_key_bytes: or(wire.max_key_bytes, 1 << 10),
            max_in_flight_appends: or(wire.max_in_flight_appends, 256),
            max_in_flight_bytes: or(wire.max_in_flight_bytes, 8 << 20),
            max_response_bytes: or(wire.max_response_bytes, 4 << 20),
            max_batch_bytes: or(wire.max_batch_bytes, 4 << 20),
        }
    }
}
