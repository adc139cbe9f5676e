//! `tillroll bench`: how much the road takes, measured from outside, on a topic of its own that is deleted afterwards.
//!
//! Appends go out as prepared batches on append streams, so that what is measured is the broker and the wire and not
//! how fast a client can encode. Every acked record is read back and proven afterwards ([`verify`]).

mod payload;
mod lane;
mod append;
mod read;
mod verify;

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tillroll_client::{Client, Compression, TopicInfo, TopicOptions};

use crate::cmd::{Connection, fail::Failure, interrupt, out::Out};

/// `tillroll bench`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll bench append
  tillroll bench append --record-bytes 512 --batch-records 1 --rate 5000 --seconds 10
  tillroll bench read --readers 2 -o json")]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure appends, then prove every acked record
    #[command(after_help = "Examples:
  tillroll bench append
  tillroll bench append --producers 4 --partitions 8 -o json
  tillroll bench append --record-bytes 512 --batch-records 1 --rate 5000 --seconds 10

A batch is one append. Latency is from handing an append over to its answer; with --rate, an append that could not be
handed over in time counts from when it was due. mb_per_s counts values in millions of bytes.")]
    Append(AppendPlan),
    /// Measure reads from the earliest record on, again and again
    #[command(after_help = "Examples:
  tillroll bench read
  tillroll bench read --partitions 8 --readers 2 --seconds 10 -o json")]
    Read(ReadPlan),
}

#[derive(Args, Clone, Debug)]
struct AppendPlan {
    /// Partitions of the topic
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// Producers, each with a connection of its own
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    producers: u32,
    /// The size of a value
    #[arg(long, value_name = "BYTES", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(16..))]
    record_bytes: u32,
    /// Records of an append
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    batch_records: u32,
    /// Unanswered bytes of a producer, at most
    #[arg(long, value_name = "BYTES", default_value_t = 2 << 20)]
    in_flight_bytes: u32,
    /// Records a second, all producers together [default: as many as go]
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// How long
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Do not read back what was acked
    #[arg(long)]
    no_verify: bool,
}

#[derive(Args, Clone, Debug)]
struct ReadPlan {
    /// Partitions of the topic
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// Readers of all partitions, each with a connection of its own
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    readers: u32,
    /// The size of a value
    #[arg(long, value_name = "BYTES", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(16..))]
    record_bytes: u32,
    /// Bytes that are appended first
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    fill_bytes: u64,
    /// How long
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
}

/// Runs `tillroll bench`.
pub(crate) async fn run(bench: Bench, out: Out) -> Result<(), Failure> {
    let client = bench.connection.connect().await?;
    let partitions = match &bench.what {
        What::Append(plan) => plan.partitions,
        What::Read(plan) => plan.partitions,
    };
    fits(&client, &bench.what)?;
    let topic = topic(&client, partitions).await?;
    let server = &bench.connection.server();
    let work = async {
        match &bench.what {
            What::Append(plan) => append::bench(&client, server, &topic, plan, out).await,
            What::Read(plan) => read::bench(server, &topic, plan, out).await,
        }
    };
    // However it ends, its topic goes.
    let done = tokio::select! {
        done = AssertUnwindSafe(work).catch_unwind() => done,
        code = interrupt() => Ok(Err(Failure::silent(code))),
    };
    let deleted = client.admin().delete_topic(&topic.name, &topic.topic_id).await;
    let (object, failure) = done.unwrap_or_else(|panic| resume_unwind(panic))?;
    deleted?;
    out.one(words(&object), &object)?;
    failure.map_or(Ok(()), Err)
}

/// Nothing is made for what the broker does not take.
fn fits(client: &Client, what: &What) -> Result<(), Failure> {
    /// Around a value, at most: the record's own fields.
    const AROUND_BYTES: u64 = 32;
    let limits = client.server().limits;
    let (record_bytes, batch_records) = match what {
        What::Append(plan) => (plan.record_bytes, plan.batch_records),
        What::Read(plan) => (plan.record_bytes, 1),
    };
    let largest = u64::from(limits.max_record_bytes).saturating_sub(AROUND_BYTES);
    if u64::from(record_bytes) > largest {
        let wrong = format!("a record of {record_bytes} bytes is more than the broker takes, which is {largest}");
        return Err(Failure::usage(wrong).hint(format!("take --record-bytes {largest} or less")));
    }
    if batch_records > limits.max_append_records {
        let (given, most) = (batch_records, limits.max_append_records);
        let wrong = format!("an append of {given} records is more than the broker takes, which is {most}");
        return Err(Failure::usage(wrong).hint(format!("take --batch-records {most} or fewer")));
    }
    let batch_bytes = u64::from(batch_records) * u64::from(record_bytes);
    if batch_bytes > u64::from(limits.max_batch_bytes) {
        let wrong = format!("a batch would have {batch_bytes} bytes, the broker takes {}", limits.max_batch_bytes);
        return Err(Failure::usage(wrong).hint("take fewer --batch-records"));
    }
    Ok(())
}

/// A topic of this run alone. Stored as it comes: a compressed filler would measure the filler.
async fn topic(client: &Client, partitions: u32) -> Result<TopicInfo, Failure> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let name = format!("bench-{}-{}", std::process::id(), since.as_micros());
    let options = TopicOptions::default().partitions(partitions).compression(Compression::None);
    let options = options.max_record_bytes(client.server().limits.max_record_bytes);
    Ok(client.admin().create_topic(name, options).await?.0)
}

/// An object in two columns; inner ones by path.
fn words(object: &Value) -> Vec<String> {
    fn put(lines: &mut Vec<(String, String)>, name: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (field, value) in fields {
                    put(lines, &format!("{name}{}{field}", if name.is_empty() { "" } else { " " }), value);
                }
            }
            Value::Number(number) => {
                let text =
                    number.as_u64().map_or_else(|| format!("{:.1}", number.as_f64().unwrap_or(0.0)), super::out::count);
                lines.push((name.to_owned(), text));
            }
            Value::Null => lines.push((name.to_owned(), "-".to_owned())),
            Value::String(text) => lines.push((name.to_owned(), text.clone())),
            other => lines.push((name.to_owned(), other.to_string())),
        }
    }
    let mut lines = Vec::new();
    put(&mut lines, "", object);
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    lines.into_iter().map(|(name, text)| format!("{name:width$}  {text}")).collect()
}

/// Numbers that every bench has.
#[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "for people: far below 2^52, never negative")]
fn rates(records: u64, bytes: u64, elapsed: Duration) -> Value {
    let seconds = elapsed.as_secs_f64().max(1e-6);
    json!({
        "records": records,
        "seconds": (seconds * 1_000.0).round() / 1_000.0,
        "records_per_s": (records as f64 / seconds).round() as u64,
        "mb_per_s": (bytes as f64 / seconds / 1e5).round() / 10.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_written_in_two_columns() {
        let object = json!({"records": 1_000, "ack_us": {"p50": 250, "max": 1.25}, "syncs": null, "verified": true});
        let expected = ["records     1,000", "ack_us p50  250", "ack_us max  1.2", "syncs       -", "verified    true"];
        assert_eq!(words(&object), expected);
    }

    #[test]
    fn rates_are_per_second() {
        let rates = rates(1_000, 1_024_000, Duration::from_millis(500));
        assert_eq!((&rates["records_per_s"], &rates["mb_per_s"]), (&json!(2_000), &json!(2.0)));
    }
}
