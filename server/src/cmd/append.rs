//! `tillroll append`: one record from the command line, or every line of a file or of standard input.
//!
//! A thread of its own reads and parses ([`input`], [`rows`]); the producer sends ([`load`]); [`progress`] tells how it
//! goes. What is acked is on disk, in the order of the lines of a key, and never twice within one run; with
//! `--producer`, not twice over any number of runs.

mod input;
mod load;
mod past;
mod compare;
mod progress;
mod rows;

use std::path::PathBuf;

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use serde_json::json;
use tillroll_client::{Producer, Record};

use crate::cmd::{
    Connection,
    fail::Failure,
    out::{Format as Output, Out},
    time, unless_interrupted,
};
use progress::{TICK, Trouble};

/// `tillroll append`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll append orders --key 42 --value '{\"total\":1999}'
  tillroll append orders events.jsonl --key-column order_id
  tillroll append orders retail.csv.zst --key-column InvoiceNo --time-column InvoiceDate --producer retail
  tail -f shop.log | tillroll append orders -

A CSV row becomes one record: a JSON object of strings by column name. A line of a file gets the id FILE#LINE, data
lines counted from 1; an error names the line of the file as an editor counts it, where a header is line 1. With
--producer, a load that was stopped goes on where the log stands when it is started again; what it left out is compared
with the log first. Times are from the year -9999 to 9999-12-31T23:59:59.999999Z.")]
pub(crate) struct Append {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// The topic
    topic: String,
    /// A file, packed with zstd or not; `-` is standard input
    #[arg(value_name = "FILE", conflicts_with = "value")]
    file: Option<PathBuf>,
    /// One record with this value
    #[arg(long, allow_hyphen_values = true)]
    value: Option<String>,
    /// The key of --value
    #[arg(long, requires = "value", conflicts_with = "file", allow_hyphen_values = true)]
    key: Option<String>,
    /// What the file holds [default: by its name, else lines]
    #[arg(long, conflicts_with = "value")]
    format: Option<Format>,
    /// The column (of a row) or field (of a JSON object) that is the key; an empty one or null is none
    #[arg(long, value_name = "COLUMN", conflicts_with = "value")]
    key_column: Option<String>,
    /// The column or field that is the event time
    #[arg(long, value_name = "COLUMN", conflicts_with = "value")]
    time_column: Option<String>,
    /// The zone of times that name none
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = time::zone)]
    time_zone: jiff::tz::TimeZone,
    /// The type of every record, such as OrderPlaced.v1
    #[arg(long = "type", value_name = "TYPE", allow_hyphen_values = true)]
    type_: Option<String>,
    /// A name under which the load goes on after it was stopped; one name for one file. It is known for ever
    #[arg(long, value_name = "NAME", conflicts_with = "value", value_parser = NonEmptyStringValueParser::new())]
    producer: Option<String>,
    /// The size at which an append is sent
    #[arg(long, hide = true, value_name = "BYTES")]
    batch_bytes: Option<usize>,
    /// Unanswered bytes, at most
    #[arg(long, hide = true, value_name = "BYTES")]
    in_flight_bytes: Option<usize>,
    /// Leave out so many records at the beginning
    #[arg(long, value_name = "RECORDS", default_value_t = 0, conflicts_with_all = ["producer", "value"])]
    skip: u64,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Each line is a value
    Lines,
    /// Each line is a JSON value
    Jsonl,
    /// A header, then rows
    Csv,
}

/// Runs `tillroll append`.
pub(crate) async fn run(append: Append, out: Out) -> Result<(), Failure> {
    match (&append.value, &append.file) {
        (Some(value), _) => unless_interrupted(one(&append, value, out)).await,
        (None, Some(file)) => load::run(&append, file, out).await,
        (None, None) => {
            let hint = format!("standard input is read by: tillroll append {} -", append.topic);
            Err(Failure::usage("nothing to append: name a FILE, - or --value").hint(hint))
        }
    }
}

/// Says why an append takes long.
async fn tell(producer: &Producer, out: Out) {
    let (mut trouble, mut ticks) = (Trouble::default(), tokio::time::interval(TICK));
    loop {
        ticks.tick().await;
        if let Some(line) = trouble.news(producer.trouble().as_ref()) {
            out.say(line);
        }
    }
}

/// Appends the one record of the command line.
async fn one(append: &Append, value: &str, out: Out) -> Result<(), Failure> {
    let client = append.connection.connect().await?;
    let producer = client.producer(&append.topic).build().await?;
    let mut record = Record::new(value.to_owned());
    record.key = append.key.clone().map(Into::into);
    record.type_ = append.type_.clone().unwrap_or_default();
    let placed = tokio::select! {
        placed = async { producer.send(record).await?.await } => placed?,
        () = tell(&producer, out) => unreachable!("it tells for ever"),
    };
    producer.close().await?;
    let words = format!("acked: {} partition {} offset {}", append.topic, placed.partition, placed.offset);
    let object = json!({
        "topic": append.topic,
        "partition": placed.partition,
        "offset": placed.offset,
        "append_time": time::show(placed.append_time_us),
    });
    if out.quiet && out.format == Output::Table {
        return Ok(());
    }
    out.one(words, &object)
}
