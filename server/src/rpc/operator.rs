//! `OperatorService`: what the broker is doing, from memory.

use std::{
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime},
};

use tillroll_engine::{engine::Engine, error::Refusal, request};
use tillroll_proto::{
    raw::operator_service_server::OperatorService,
    v1::{self, WriteState},
};
use tonic::{Request, Response, Status};

use crate::{
    connections::{
        Connections, LARGE_WAITS_MAX, OUTCOME_BYTES_MAX, OUTCOME_BYTES_OWN, STREAMS_MAX, STREAMS_OWN, TURNS_MAX,
        UNDECODED_BYTES_MAX, UNDECODED_BYTES_OWN, UNREAD_BYTES_MAX, UNREAD_BYTES_SMALL, Use, window_bytes,
    },
    notices::TARGET,
    refusal::of_refusal,
};

/// Bytes of memory of a call that is not over: its task, what it remembers, and a small answer.
const CALL_BYTES: u64 = 16 << 10;

/// Bytes of a long answer on its way: as it is put together, as it is encoded, and as it is sent.
const LONG_ANSWER_BYTES: u64 = 8 << 20;
/// Bytes of a large request that waits for its turn.
const WAITS_BYTES: u64 = 48 << 10;

/// `OperatorService`.
#[derive(Clone)]
pub struct Operator {
    engine: Engine,
    connections: Arc<Connections>,
    data_directory: Arc<str>,
    start_time_us: i64,
    started: Instant,
}

impl Operator {
    /// Serves this engine; the start is now.
    pub fn new(engine: Engine, data_directory: &Path, connections: Arc<Connections>) -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            engine,
            connections,
            data_directory: data_directory.to_string_lossy().into(),
            start_time_us: i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX),
            started: Instant::now(),
        }
    }
}

/// Logs how much memory clients can take at most, and for what.
pub fn announce(engine: &Engine, connections_max: usize) {
    let budgets = budgets(&engine.status(), &Use { connections_max, ..Use::default() });
    let sum: u64 = budgets.iter().map(|budget| budget.limit_bytes).sum();
    let parts = budgets.iter().map(|budget| format!("{} {} MiB", budget.name, budget.limit_bytes >> 20));
    let parts = parts.collect::<Vec<_>>().join(", ");
    tracing::info!(target: TARGET, "clients can take at most {} MiB of memory: {parts}", sum >> 20);
}

#[tonic::async_trait]
impl OperatorService for Operator {
    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        // It looks at every partition.
        let engine = self.engine.clone();
        let status = super::blocking(move || engine.status()).await?;
        let used = self.connections.used();
        let (write_state, write_cause) = writes(self.engine.write_refusal());
        Ok(Response::new(v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            memory_budgets: budgets(&status, &used),
            node_id: status.node_id,
            incarnation: status.incarnation,
            start_time_us: self.start_time_us,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            data_directory: self.data_directory.to_string(),
            free_bytes: status.free_bytes,
            needed_free_bytes: status.needed_bytes,
            write_state: write_state.into(),
            write_cause,
            connections: used.connections as u64,
            max_connections: used.connections_max as u64,
            open_calls: used.streams as u64,
            journal_files: status.journal_files,
            max_journal_files: status.journal_files_max,
            stored_bytes: status.stored_bytes,
            topics: status.topics,
            partitions: status.partitions,
            producers: status.producers,
            groups: status.groups,
        }))
    }
}

/// The state of writes, and its cause in the words of the refusal.
fn writes(refusal: Option<Refusal>) -> (WriteState, String) {
    let Some(refusal) = refusal else { return (WriteState::On, String::new()) };
    let state = match refusal {
        Refusal::DiskFull { .. } => WriteState::DiskFull,
        Refusal::JournalFull { .. } => WriteState::JournalFull,
        Refusal::Lacking => WriteState::Lacking,
        _ => WriteState::Off,
    };
    (state, of_refusal(&refusal).message)
}

/// Everything that clients can make the broker keep in memory. What the shop has stored (topics, groups, producers, the
/// indexes of segments) grows with itself and is not among it.
fn budgets(status: &request::Status, used: &Use) -> Vec<v1::MemoryBudget> {
    let windows = (window_bytes(used.connections), window_bytes(used.connections_max));
    // Each connection has a little beyond the common budgets.
    let own = |bytes: u64| used.connections_max as u64 * bytes;
    let calls = (used.streams as u64 * CALL_BYTES, (STREAMS_MAX as u64 + own(STREAMS_OWN as u64)) * CALL_BYTES);
    let long_answers = |turns: usize, waits: usize| turns as u64 * LONG_ANSWER_BYTES + waits as u64 * WAITS_BYTES;
    // One of each connection may wait whatever the others do.
    let waits_max = LARGE_WAITS_MAX + used.connections_max;
    let rows = [
        ("tail", status.tail_bytes, status.tail_bytes_max),
        ("appends in flight", status.in_flight_bytes, status.in_flight_bytes_max),
        ("appends that wait for room", status.waiting_bytes, status.in_flight_bytes_max),
        // Twice: see `Settings::answers_bytes`.
        ("remembered answers", status.answer_bytes, 2 * status.answer_bytes_max),
        ("commands in flight", status.command_bytes, status.command_bytes_max),
        ("requests that are not whole", used.undecoded_bytes, UNDECODED_BYTES_MAX + own(UNDECODED_BYTES_OWN)),
        ("responses that are not read", used.unread_bytes, UNREAD_BYTES_MAX + own(UNREAD_BYTES_SMALL)),
        ("outcomes that are not read", used.outcome_bytes, OUTCOME_BYTES_MAX + own(OUTCOME_BYTES_OWN)),
        ("long answers", long_answers(used.turns, used.large_waits), long_answers(TURNS_MAX, waits_max)),
        ("windows of connections", windows.0, windows.1),
        ("open calls", calls.0, calls.1),
    ];
    let budget = |(name, used_bytes, limit_bytes): (&str, u64, u64)| v1::MemoryBudget {
        name: name.to_owned(),
        used_bytes,
        limit_bytes,
    };
    rows.into_iter().map(budget).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_all_writes_is_a_state_with_its_cause() {
        let cases = [
            (None, WriteState::On, ""),
            (Some(Refusal::DiskFull { unit: "bytes", free: 5, needed: 6 }), WriteState::DiskFull, "disk"),
            (Some(Refusal::JournalFull { files: 14, limit: 16 }), WriteState::JournalFull, "journal"),
            (Some(Refusal::Lacking), WriteState::Lacking, "lack"),
            (Some(Refusal::Stopping), WriteState::Off, "stop"),
        ];
        for (refusal, state, word) in cases {
            let (found, cause) = writes(refusal);
            assert_eq!(found, state);
            assert!(cause.contains(word) && cause.is_empty() == word.is_empty(), "{state:?}: {cause}");
        }
    }
}
