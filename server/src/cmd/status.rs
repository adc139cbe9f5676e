//! `tillroll status`: whether a broker is there, and what it says of itself.

use clap::Args;
use serde_json::{Value, json};
use tillroll_client::{Client, MemoryBudget, ServerStatus, WriteState};

use crate::cmd::{
    Connection,
    fail::Failure,
    out::{Out, count, size},
};

/// `tillroll status`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll status
  tillroll status --server http://10.0.0.7:7420 -o json

It ends with 0 when the broker answers and takes appends, with 1 when it answers and refuses them, since its disk or its
journal is full or writes are off, and with 5 when it does not answer.")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(super) connection: Connection,
}

/// Runs `tillroll status`.
pub(crate) async fn run(status: Status, out: Out) -> Result<(), Failure> {
    let client = status.connection.connect().await?;
    let found = client.admin().server_status().await?;
    out.one(words(&client, &found), &object(&client, &found))?;
    if found.write_state == WriteState::On {
        return Ok(());
    }
    let cause = if found.write_cause.is_empty() { "no cause is told" } else { &found.write_cause };
    Err(Failure::plain(format!("appends are refused: {cause}")))
}

fn words(client: &Client, found: &ServerStatus) -> Vec<String> {
    let limits = client.server().limits;
    let cause = if found.write_cause.is_empty() { String::new() } else { format!(": {}", found.write_cause) };
    let free = found.free_bytes.map_or_else(|| "unknown".to_owned(), size);
    let mut rows = vec![
        ("broker", client.url().to_owned()),
        ("version", found.version.clone()),
        ("node", found.node_id.clone()),
        ("incarnation", found.incarnation.to_string()),
        ("up", format!("{} s", count(found.uptime.as_secs()))),
        ("data", found.data_directory.clone()),
        ("writes", format!("{}{}", found.write_state.name(), cause)),
        ("disk", format!("{free} free, appends need {}", size(found.needed_free_bytes))),
        ("journal", format!("{} of {} files", count(found.journal_files), count(found.max_journal_files))),
        ("segments", size(found.stored_bytes)),
        ("connections", format!("{} of {}", count(found.connections), count(found.max_connections))),
        ("open calls", count(found.open_calls)),
        ("topics", format!("{} ({} partitions)", count(found.topics), count(found.partitions))),
        ("producers", count(found.producers)),
        ("groups", count(found.groups)),
    ];
    let budgets = found.memory_budgets.iter();
    let budgets = budgets.map(|budget| {
        let used = format!("{} {} of {}", budget.name, size(budget.used_bytes), size(budget.limit_bytes));
        ("memory", used)
    });
    rows.extend(budgets);
    let limits = [
        format!("record {}", size(limits.max_record_bytes.into())),
        format!("append {}", size(limits.max_append_bytes.into())),
        format!("key {}", size(limits.max_key_bytes.into())),
    ];
    rows.push(("limits", limits.join(", ")));
    rows.iter().map(|(name, value)| format!("{name:<11}  {value}")).collect()
}

fn object(client: &Client, found: &ServerStatus) -> Value {
    let limits = client.server().limits;
    let budget = |budget: &MemoryBudget| {
        let (used_bytes, limit_bytes) = (budget.used_bytes, budget.limit_bytes);
        json!({ "name": budget.name, "used_bytes": used_bytes, "limit_bytes": limit_bytes })
    };
    json!({
        "server": client.url(),
        "version": found.version,
        "node_id": found.node_id,
        "incarnation": found.incarnation,
        "features": client.server().features,
        "start_time_us": found.start_time_us,
        "uptime_ms": u64::try_from(found.uptime.as_millis()).unwrap_or(u64::MAX),
        "data_directory": found.data_directory,
        "free_bytes": found.free_bytes,
        "needed_free_bytes": found.needed_free_bytes,
        "write_state": found.write_state.name(),
        "write_cause": found.write_cause,
        "connections": found.connections,
        "max_connections": found.max_connections,
        "open_calls": found.open_calls,
        "journal_files": found.journal_files,
        "max_journal_files": found.max_journal_files,
        "stored_bytes": found.stored_bytes,
        "topics": found.topics,
        "partitions": found.partitions,
        "producers": found.producers,
        "groups": found.groups,
        "memory_budgets": found.memory_budgets.iter().map(budget).collect::<Vec<_>>(),
        "limits": {
            "max_record_bytes": limits.max_record_bytes,
            "max_append_bytes": limits.max_append_bytes,
            "max_append_records": limits.max_append_records,
            "max_key_bytes": limits.max_key_bytes,
        },
    })
}
