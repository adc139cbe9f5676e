//! `tillroll status`: whether a broker is there, and what it says of itself.

use clap::Args;
use serde_json::json;

use crate::cmd::{
    Connection,
    fail::Failure,
    out::{Out, count, size},
};

/// `tillroll status`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll status
  tillroll status --server http://10.0.0.7:7420 -o json")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(super) connection: Connection,
}

/// Runs `tillroll status`.
pub(crate) async fn run(status: Status, out: Out) -> Result<(), Failure> {
    let client = status.connection.connect().await?;
    let server = client.server();
    let topics = client.admin().list_topics("").await?;
    let partitions: u64 = topics.iter().map(|topic| u64::from(topic.partition_count)).sum();
    let limits = server.limits;
    let words = vec![
        format!("broker       {}", client.url()),
        format!("version      {}", server.version),
        format!("node         {}", server.node_id),
        format!("incarnation  {}", server.incarnation),
        format!("topics       {} ({} partitions)", count(topics.len() as u64), count(partitions)),
        format!(
            "limits       record {}, append {}, key {}",
            size(limits.max_record_bytes.into()),
            size(limits.max_append_bytes.into()),
            size(limits.max_key_bytes.into()),
        ),
    ];
    let object = json!({
        "server": client.url(),
        "version": server.version,
        "node_id": server.node_id,
        "incarnation": server.incarnation,
        "features": server.features,
        "topics": topics.len(),
        "partitions": partitions,
        "limits": {
            "max_record_bytes": limits.max_record_bytes,
            "max_append_bytes": limits.max_append_bytes,
            "max_append_records": limits.max_append_records,
            "max_key_bytes": limits.max_key_bytes,
        },
    });
    out.one(words, &object)
}
