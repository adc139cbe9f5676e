//! `tillroll consume`: a member of a group that prints what it gets, and commits it when it is printed.

use std::collections::BTreeSet;

use clap::Args;
use tillroll_client::{
    AssignmentRule, Client, Consumer, ConsumerBuilder, ConsumerEvent, ErrorKind, GroupMode, GroupOptions,
    HeldPartition, Position,
};
use tokio::signal::unix::SignalKind;

use crate::cmd::{
    Connection, TRIES_ON,
    fail::{Code, Failure},
    out::{Format, Out, counted, reader_left},
    read::{
        pattern::{self, Pattern},
        place,
        printer::Printer,
    },
    signals::Signals,
};

/// `tillroll consume`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll consume orders --group mailer --from earliest    make the group when it is not there, and follow
  tillroll consume orders --group mailer                    go on where the group is
  tillroll consume orders --group mailer -n 10              ten records, then leave
  tillroll consume orders --group mailer --until-caught-up  what is there now, then leave
  tillroll consume orders payments --group audit -o jsonl | jq .value

A record is committed when it is printed: after a crash it may be printed again, and none is left out. Start the same
command several times, and the partitions are shared. With --member the process is known again after a restart.
SIGTERM and Ctrl-C commit what is printed and leave the group; a second one ends it at once.
--format is the one of read: tillroll read --help")]
pub(crate) struct Consume {
    #[command(flatten)]
    connection: Connection,
    /// The topics that the group reads
    #[arg(required = true)]
    topic: Vec<String>,
    /// The group
    #[arg(long)]
    group: String,
    /// Make the group when it is not there, and start it here: earliest, latest, offset:N, append-time:T or last:N
    #[arg(long, value_name = "PLACE", value_parser = place::parse)]
    from: Option<Position>,
    /// The member's name, the same after a restart [default: a new one each time]
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// Leave after so many records
    #[arg(short = 'n', value_name = "COUNT")]
    count: Option<u64>,
    /// Leave when everything that was there at the start is printed
    #[arg(long)]
    until_caught_up: bool,
    /// How a record is written
    #[arg(long, value_name = "PATTERN", default_value = pattern::DEFAULT)]
    format: Pattern,
}

/// Runs `tillroll consume`.
pub(crate) async fn run(consume: Consume, out: Out) -> Result<(), Failure> {
    let has_end = consume.count.is_some() || consume.until_caught_up;
    if out.format == Format::Json && !has_end {
        return Err(Failure::usage("a JSON document has an end, and consuming has none").hint("use -o jsonl"));
    }
    let mut printer = Printer::new(out.format, consume.format.clone());
    let client = consume.connection.connect().await?;
    consume.check_group(&client, out).await?;
    let builder = client.consumer(&consume.group);
    let builder = consume.member.iter().fold(builder, ConsumerBuilder::member);
    let mut signals = Signals::new()?;
    let mut consumer = tokio::select! {
        opened = builder.open() => opened?,
        signal = signals.next() => std::process::exit(128 + signal),
    };
    let done = tokio::select! {
        done = print(&consume, &mut consumer, &mut printer, out) => done.map(|()| Code::Ok),
        signal = signals.next() => Ok(stopped_by(signal)),
        () = reader_left() => Ok(Code::Ok),
    };
    // What is printed is committed before the partitions go to others.
    let left = tokio::select! {
        left = consumer.close(), if done.is_ok() => left,
        second = signals.next(), if done.is_ok() => std::process::exit(128 + second),
        else => Ok(()),
    };
    let code = done?;
    left?;
    let records = printer.end()?;
    out.say(format!("{} printed and committed", counted(records, "record")));
    if code == Code::Ok { Ok(()) } else { Err(Failure::silent(code)) }
}

/// Ctrl-C interrupts; any other signal is how a service is ended in order.
fn stopped_by(signal: i32) -> Code {
    if signal == SignalKind::interrupt().as_raw_value() { Code::Interrupted } else { Code::Ok }
}

impl Consume {
    /// The group is there and reads these topics; it is made only when its start is said.
    async fn check_group(&self, client: &Client, out: Out) -> Result<(), Failure> {
        let group = match (client.groups().get(&self.group).await, self.from) {
            (Err(error), Some(from)) if error.kind() == ErrorKind::NotFound => {
                let mode = GroupMode::Members(AssignmentRule::Spread);
                let options = GroupOptions::new(self.topic.clone(), mode, from);
                let (group, _) = client.groups().create(&self.group, options).await?;
                out.say(format!("group {} made: it begins at {}", group.name, place::show(from)));
                return Ok(());
            }
            (Err(error), None) if error.kind() == ErrorKind::NotFound => {
                let hint = format!("to make it, say where it begins: --group {} --from earliest", self.group);
                return Err(Failure::from(error).hint(hint));
            }
            (group, _) => group?,
        };
        let (reads, asked): (BTreeSet<&String>, BTreeSet<&String>) =
            (group.topics.iter().collect(), self.topic.iter().collect());
        if reads != asked {
            let topics = group.topics.join(" ");
            let wrong = format!("group {} reads {topics}", self.group);
            return Err(Failure::usage(wrong).hint(format!("tillroll consume {topics} --group {}", self.group)));
        }
        if self.from.is_some() {
            out.say(format!("group {} is there and goes on at its cursors; --from begins new ones only", self.group));
        }
        Ok(())
    }
}

/// Prints until enough is printed.
async fn print(consume: &Consume, consumer: &mut Consumer, printer: &mut Printer, out: Out) -> Result<(), Failure> {
    if consume.count == Some(0) {
        return Ok(());
    }
    while let Some(event) = consumer.next_event().await {
        match event? {
            ConsumerEvent::Batch(mut batch) => {
                let mut last = None;
                for record in batch.records() {
                    let record = record?;
                    printer.print(&record.received)?;
                    last = Some(record);
                    if consume.count.is_some_and(|count| printer.records >= count) {
                        break;
                    }
                }
                printer.flush()?;
                if let Some(last) = last {
                    drop(last.commit());
                }
                if consume.count.is_some_and(|count| printer.records >= count) {
                    return Ok(());
                }
            }
            ConsumerEvent::CaughtUp if consume.until_caught_up => return Ok(()),
            event => tell(event, out),
        }
    }
    Ok(())
}

/// What happens to the member, for whoever watches.
fn tell(event: ConsumerEvent, out: Out) {
    match event {
        ConsumerEvent::Assigned(partitions) => out.say(format!("got {}", listed(&partitions))),
        ConsumerEvent::Revoking { partitions, .. } => out.say(format!("gives back {}", listed(&partitions))),
        ConsumerEvent::Lost { partitions, reason } => out.say(format!("lost {}: {reason}", listed(&partitions))),
        ConsumerEvent::Stalled { partition, error } => {
            out.say(format!("{}/{} cannot go on: {error}", partition.topic, partition.partition));
        }
        ConsumerEvent::CommitRefused { error, .. } => {
            // It was printed, and comes again to whoever has the partition now.
            out.say(format!("not committed: {error}"));
        }
        ConsumerEvent::Interrupted(error) => out.say(format!("interrupted: {}; {TRIES_ON}", error.message())),
        ConsumerEvent::Resumed => out.say("connected again"),
        _ => {}
    }
}

fn listed(partitions: &[HeldPartition]) -> String {
    let named: Vec<String> = partitions.iter().map(|held| format!("{}/{}", held.topic, held.partition)).collect();
    named.join(" ")
}
