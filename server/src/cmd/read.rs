//! `tillroll read`: records on standard output, in the order in which the server sends them; order holds within a
//! partition. [`place`] says where it starts, [`pattern`] and [`object`] how a record is written, [`newest`] finds the
//! last records over all partitions.

mod newest;
mod object;
pub(super) mod pattern;
pub(super) mod place;
pub(super) mod printer;
mod shown;

use clap::Args;
use tillroll_client::{Client, Error, Event, Position, Reader, ReaderBuilder};

use crate::cmd::{
    Connection, TRIES_ON, each_once,
    fail::{Code, Failure},
    interrupt,
    out::{Format, Out, counted, reader_left},
};
use newest::Newest;
use pattern::Pattern;
use printer::Printer;

/// How many records `-n` alone keeps in memory at most.
const NEWEST_MAX: u64 = 1_000_000;

/// `tillroll read`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll read orders                      from the earliest record to the present end
  tillroll read orders -f                   and on, as records come
  tillroll read orders -n 10                the last ten by append time
  tillroll read orders --from append-time:2h --key 42
  tillroll read orders -o jsonl | jq .value
  tillroll read orders --format '%p/%o %k %v\\n'

In --format: %p partition, %o offset, %t append time, %k key, %v value, %i id, %y type, %s source, %e event time,
%T topic, %% a percent sign; \\n \\t \\\\ as usual. What is absent is written as -, and bytes that are no text as
base64:… Line breaks and whatever else a terminal obeys are shown as \\n, \\x1b or \\u{9b}, within JSON as \\u001b. For
the bytes as they are take -o jsonl, or --raw, where what is absent is nothing.")]
pub(crate) struct Read {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// The topic
    topic: String,
    /// Go on with records as they come
    #[arg(short, long)]
    follow: bool,
    /// At most so many records; without --from the last ones by append time, and with -f on behind them
    #[arg(short = 'n', value_name = "COUNT")]
    count: Option<u64>,
    /// Only this partition; may be repeated
    #[arg(long, value_name = "PARTITION")]
    partition: Vec<u32>,
    /// Only records with exactly this key
    #[arg(long, allow_hyphen_values = true)]
    key: Option<String>,
    /// earliest, latest, offset:N, append-time:T or last:N (of each partition) [default: earliest]
    #[arg(long, value_name = "PLACE", value_parser = place::parse)]
    from: Option<Position>,
    /// How a record is written
    #[arg(long, value_name = "PATTERN", default_value = pattern::DEFAULT)]
    format: Pattern,
    /// Write the parts of --format byte by byte as they are, whatever a terminal makes of them
    #[arg(long)]
    raw: bool,
}

/// Runs `tillroll read`.
pub(crate) async fn run(read: Read, out: Out) -> Result<(), Failure> {
    if read.follow && out.format == Format::Json {
        return Err(Failure::usage("a JSON document has an end, and -f has none").hint("use -o jsonl"));
    }
    each_once("partition", &read.partition)?;
    let newest = read.newest();
    if newest.is_some_and(|count| count > NEWEST_MAX) {
        return Err(Failure::usage(format!("-n alone keeps the records in memory: at most {NEWEST_MAX}"))
            .hint("with --from they are written as they come"));
    }
    let mut printer = Printer::new(out.format, read.format.clone(), read.raw)?;
    let work = async {
        let client = read.connection.connect().await?;
        let partitions = read.partition_count(&client).await?;
        let limited = print(&read, &client, newest, (&mut printer, out)).await?;
        Ok::<_, Failure>((partitions, limited))
    };
    let done = tokio::select! {
        done = work => done.map(Ok),
        code = interrupt() => Ok(Err(code)),
        // Nobody is there for what is left in the buffer either.
        () = reader_left() => return Err(Failure::silent(Code::Ok)),
    };
    let done = match done {
        Ok(done) => done,
        Err(failure) => {
            printer.end_early()?;
            return Err(failure);
        }
    };
    let records = printer.end()?;
    let (partitions, limited) = match done {
        Ok(done) => done,
        Err(code) => {
            out.say(counted(records, "record"));
            return Err(Failure::silent(code));
        }
    };
    let more = if limited { "stopped by -n, more may follow" } else { "at the end (-f follows)" };
    out.say(format!("{}, {}, {more}", counted(records, "record"), counted(partitions, "partition")));
    Ok(())
}

impl Read {
    /// `-n` alone asks for the last records over all partitions.
    fn newest(&self) -> Option<u64> {
        if self.from.is_some() { None } else { self.count }
    }

    /// How many partitions are read.
    async fn partition_count(&self, client: &Client) -> Result<u64, Failure> {
        if self.partition.is_empty() {
            Ok(client.admin().get_topic(&self.topic).await?.partition_count.into())
        } else {
            Ok(self.partition.len() as u64)
        }
    }

    fn reader(&self, client: &Client) -> ReaderBuilder {
        let reader = client.reader(&self.topic).partitions(self.partition.iter().copied()).follow(self.follow);
        match &self.key {
            Some(key) => reader.key(key.clone()),
            None => reader,
        }
    }
}

/// Prints what was asked for, and says whether `-n` ended it.
async fn print(
    read: &Read,
    client: &Client,
    newest: Option<u64>,
    (printer, out): (&mut Printer, Out),
) -> Result<bool, Failure> {
    let Some(count) = newest else {
        let reader = read.reader(client).from(read.from.unwrap_or(Position::Earliest));
        let reader = read.count.map_or(reader.clone(), |count| reader.limit(count));
        let mut reader = reader.open().await.map_err(refused)?;
        print_all(&mut reader, printer, out).await?;
        return Ok(read.count.is_some_and(|count| printer.records >= count));
    };
    // With a key, nobody knows how far back its last records are.
    let from = if read.key.is_some() { Position::Earliest } else { Position::Last(count) };
    let mut reader = read.reader(client).from(from).open().await.map_err(refused)?;
    let mut kept = Newest::new(count);
    while let Some(event) = reader.next_event().await {
        match event.map_err(refused)? {
            Event::Batch(batch) => {
                for received in batch {
                    kept.take(received?);
                }
            }
            Event::CaughtUp => break,
            event => tell(&event, out),
        }
    }
    for received in kept.into_sorted() {
        printer.print(&received)?;
    }
    printer.flush()?;
    if read.follow {
        print_all(&mut reader, printer, out).await?;
    }
    Ok(false)
}

async fn print_all(reader: &mut Reader, printer: &mut Printer, out: Out) -> Result<(), Failure> {
    while let Some(event) = reader.next_event().await {
        match event.map_err(refused)? {
            Event::Batch(batch) => {
                for received in batch {
                    printer.print(&received?)?;
                }
                // Whoever follows wants to see a record when it comes. Up to the end, a full buffer is soon enough.
                if reader.caught_up() {
                    printer.flush()?;
                }
            }
            Event::CaughtUp => printer.flush()?,
            event => tell(&event, out),
        }
    }
    Ok(())
}

fn refused(error: Error) -> Failure {
    place::beyond_end(&error, "--from").unwrap_or_else(|| error.into())
}

/// A read that has to wait for its broker says so.
fn tell(event: &Event, out: Out) {
    match event {
        Event::Interrupted(error) => out.say(format!("interrupted: {}; {TRIES_ON}", error.message())),
        Event::Resumed => out.say("connected again"),
        _ => {}
    }
}
