//! `tillroll consume`: a member of a group that prints what it gets, and commits it when it is printed. [`unread`]
//! knows what cannot be read up to its end.

mod unread;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use clap::Args;
use tillroll_client::{
    AssignmentRule, Client, Consumer, ConsumerBuilder, ConsumerEvent, DeliveredBatch, Delivery, Error, ErrorKind,
    GroupInfo, GroupMode, GroupOptions, HeldPartition, LostReason, Position,
};
use tillroll_engine::admit::check_name;
use tokio::signal::unix::SignalKind;

use unread::Unread;

use crate::cmd::{
    Connection, TRIES_ON,
    fail::{Code, Failure},
    group::reads,
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

A record is committed when standard output took it: after a crash it may be printed again, and none is left out. What a
pipe took counts, also when whoever reads the pipe leaves without it, as `| head -1` does with what stands behind the
first line: take -n 1 for the first record alone. Start the same command several times, and the partitions are shared.
With --member the process is known again after a restart.
SIGTERM and Ctrl-C commit what is printed and leave the group. Then it ends with 0, after Ctrl-C with 130; a second
signal ends it at once, with 143 or 130.
--format is the one of read: tillroll read --help")]
pub(crate) struct Consume {
    #[command(flatten)]
    pub(super) connection: Connection,
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
    #[arg(long, value_name = "NAME", value_parser = name)]
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
    /// Write the parts of --format byte by byte as they are, whatever a terminal makes of them
    #[arg(long)]
    raw: bool,
}

/// How long a member that is told to end waits for its joining, which may be done already.
const JOINING: Duration = Duration::from_secs(2);
/// How long nothing has come before it is looked up why, the first time and then again and again.
const QUIET: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// What became of a topic.
const ANOTHER: &str = "is gone; one that is made under its name is another topic";
/// Members that are named in a line.
const NAMED_MAX: usize = 8;

/// A member's name, by the broker's own rule: told before a group is made for a member that then cannot join.
fn name(text: &str) -> Result<String, String> {
    let names = "names are 1 to 128 of a-z 0-9 . _ - and begin with a letter or digit";
    check_name("member", text).map(|()| text.to_owned()).map_err(|_| names.to_owned())
}

/// Runs `tillroll consume`.
pub(crate) async fn run(consume: Consume, out: Out) -> Result<(), Failure> {
    let has_end = consume.count.is_some() || consume.until_caught_up;
    if out.format == Format::Json && !has_end {
        return Err(Failure::usage("a JSON document has an end, and consuming has none").hint("use -o jsonl"));
    }
    let mut printer = Printer::new(out.format, consume.format.clone(), consume.raw)?;
    let client = consume.connection.connect().await?;
    consume.check_group(&client, out).await?;
    let builder = client.consumer(&consume.group);
    let builder = consume.member.iter().fold(builder, ConsumerBuilder::member);
    let mut signals = Signals::new()?;
    let mut opening = std::pin::pin!(builder.open());
    let mut consumer = tokio::select! {
        opened = opening.as_mut() => opened?,
        signal = signals.next() => {
            // It may have joined by now: a member that goes without a word holds up the others.
            let Ok(joined) = tokio::time::timeout(JOINING, opening).await else {
                std::process::exit(Code::cut_short(signal) as i32)
            };
            joined?.close().await?;
            return ended(stopped_by(signal));
        }
    };
    let done = tokio::select! {
        done = print(&consume, &client, &mut consumer, (&mut printer, out)) => done,
        signal = signals.next() => Ok(stopped_by(signal)),
        () = reader_left() => Ok(Code::Ok),
    };
    // What is printed is committed before the partitions go to others, also when no more could be printed.
    let left = tokio::select! {
        left = consumer.close() => left,
        second = signals.next() => std::process::exit(Code::cut_short(second) as i32),
    };
    // What was not committed of a topic that is gone is nobody's loss.
    let done = if done == Ok(Code::NotFound) { Err(consume.reads_nothing()) } else { done };
    let code = match done {
        Ok(code) => code,
        Err(failure) => {
            if let Ok(records) = printer.end_early() {
                out.say(format!("{} printed", counted(records, "record")));
            }
            // Whoever read the output has gone, which is no failure; what it has read must be committed all the same.
            return if failure.code() == Code::Ok { Ok(left?) } else { Err(failure) };
        }
    };
    left?;
    let records = printer.end()?;
    out.say(format!("{} printed and committed", counted(records, "record")));
    ended(code)
}

fn ended(code: Code) -> Result<(), Failure> {
    if code == Code::Ok { Ok(()) } else { Err(Failure::silent(code)) }
}

/// Ctrl-C interrupts; any other signal is how a service is ended in order.
fn stopped_by(signal: SignalKind) -> Code {
    if signal == SignalKind::interrupt() { Code::Interrupted } else { Code::Ok }
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
                let close = error.metadata().get("similar");
                let close = close.map_or_else(String::new, |name| format!("did you mean {name}? "));
                let hint = format!("{close}to make it, say where it begins: --group {} --from earliest", self.group);
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
        self.check_readable(&group, out)?;
        if self.from.is_some() {
            out.say(format!("group {} is there and goes on at its cursors; --from begins new ones only", self.group));
        }
        Ok(())
    }

    /// A member would get something from it.
    fn check_readable(&self, group: &GroupInfo, out: Out) -> Result<(), Failure> {
        let name = &self.group;
        if group.mode == GroupMode::Manual {
            let hint =
                "its cursors are moved by compare and set; consume takes a group that is made with --rule spread";
            return Err(Failure::new(Code::Refused, format!("group {name} is manual: it has no members")).hint(hint));
        }
        let gone: Vec<&str> = group.topics.iter().map(String::as_str).filter(|topic| !reads(group, topic)).collect();
        if group.cursors.is_empty() {
            return Err(self.reads_nothing());
        }
        for topic in gone {
            out.say(format!("group {name} does not read {topic} any more: it {ANOTHER}"));
        }
        Ok(())
    }

    /// Every topic of the group is gone. Its topics are those that were asked for.
    fn reads_nothing(&self) -> Failure {
        let (name, topics) = (&self.group, self.topic.join(" "));
        let failure = Failure::new(Code::NotFound, format!("group {name} reads nothing: {topics} {ANOTHER}"));
        let again = format!("tillroll consume {topics} --group {name} --from earliest");
        failure.hint(format!("to begin anew: tillroll group delete {name} --yes && {again}"))
    }

    /// What ended the member. A process that is taken over has nothing to mend and nothing to try again.
    fn ended(&self, consumer: &Consumer, error: Error) -> Failure {
        if error.reason() == Some("TOPIC_NOT_FOUND") {
            return self.reads_nothing();
        }
        if error.reason() != Some("TAKEN_OVER") {
            return error.into();
        }
        let (member, group) = (consumer.member_id(), &self.group);
        let message = format!("member {member} of group {group} was taken over by another process, so this one ends");
        Failure::new(Code::Conflict, message).hint("two processes at the same time need names of their own: --member")
    }
}

/// A group, when so much time is over.
async fn look(client: &Client, group: &str, after: Duration) -> Option<GroupInfo> {
    tokio::time::sleep(after).await;
    // Whether the broker answers is told by the member itself.
    client.groups().get(group).await.ok()
}

/// Why nothing comes to a member, when it is not that everything is read.
fn why_quiet(group: &GroupInfo, member: &str) -> Option<String> {
    if let Some(reason) = &group.paused {
        return Some(format!("paused: {reason}"));
    }
    let holders: Option<BTreeSet<&str>> = group.cursors.iter().map(|at| at.holder.as_deref()).collect();
    let others = holders.filter(|holders| !holders.contains(member))?;
    let named = others.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join(" ");
    Some(format!("stands by: all partitions are with {named}"))
}

/// Prints until enough is printed, or there is nothing left to read.
async fn print(
    consume: &Consume,
    client: &Client,
    consumer: &mut Consumer,
    (printer, out): (&mut Printer, Out),
) -> Result<Code, Failure> {
    if consume.count == Some(0) {
        return Ok(Code::Ok);
    }
    let ([mut quiet, then], mut said) = (QUIET, None);
    let mut unread = Unread::default();
    loop {
        let event = tokio::select! {
            event = consumer.next_event() => event,
            group = look(client, &consume.group, quiet) => {
                quiet = then;
                let Some(group) = group else { continue };
                if group.cursors.is_empty() {
                    return Ok(Code::NotFound);
                }
                let why = why_quiet(&group, consumer.member_id());
                why.iter().filter(|_| why != said).for_each(|why| out.say(why));
                said = why;
                continue;
            }
        };
        let Some(event) = event else { return Ok(Code::Ok) };
        match event.map_err(|error| consume.ended(consumer, error))? {
            ConsumerEvent::Batch(mut batch) => {
                print_batch(&mut batch, consume.count, printer)?;
                if consume.count.is_some_and(|count| printer.records >= count) {
                    return Ok(Code::Ok);
                }
                unread.goes_on(batch.topic(), batch.partition());
            }
            ConsumerEvent::CaughtUp if consume.until_caught_up => return Ok(Code::Ok),
            // What may pass is waited for.
            ConsumerEvent::Stalled { partition, error } if consume.until_caught_up && !error.is_retryable() => {
                let group = client.groups().get(&consume.group).await?;
                unread.stalls(&group, partition, error);
            }
            event => {
                if matches!(&event, ConsumerEvent::Lost { reason: LostReason::TopicDeleted, .. }) {
                    // Perhaps it was the last one.
                    quiet = Duration::ZERO;
                }
                tell(event, out);
            }
        }
        if !unread.is_empty()
            && let Some(failure) = unread.all_else_is_read(&consume.group, &consumer.held())
        {
            return Err(failure);
        }
    }
}

/// Prints a batch, and commits what standard output took of it, also when it takes no more.
fn print_batch(batch: &mut DeliveredBatch, count: Option<u64>, printer: &mut Printer) -> Result<(), Failure> {
    let mut waiting: VecDeque<(u64, Delivery)> = VecDeque::new();
    let mut outcome = Ok(());
    for record in batch.records() {
        let record = record?;
        match printer.print(&record.received) {
            Ok(end) => waiting.push_back((end, record)),
            Err(failure) => {
                outcome = Err(failure);
                break;
            }
        }
        if count.is_some_and(|count| printer.records >= count) {
            break;
        }
    }
    let outcome = outcome.and_then(|()| printer.flush());
    let taken = waiting.partition_point(|(end, _)| *end <= printer.taken());
    if let Some((_, last)) = taken.checked_sub(1).and_then(|last| waiting.get(last)) {
        drop(last.commit());
    }
    outcome
}

/// What happens to the member, for whoever watches.
fn tell(event: ConsumerEvent, out: Out) {
    match event {
        ConsumerEvent::Assigned(partitions) => out.say(format!("got {}", listed(&partitions))),
        ConsumerEvent::Revoking { partitions, .. } => out.say(format!("gives back {}", listed(&partitions))),
        ConsumerEvent::Lost { partitions, reason } => {
            out.say(format!("lost {}: {}", listed(&partitions), why_lost(&reason)));
        }
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

fn why_lost(reason: &LostReason) -> String {
    let words = match reason {
        LostReason::TakenOver => "another process has this member's name",
        LostReason::SessionExpired => "this member was away for longer than its session",
        LostReason::DrainExpired => "it was not given back in time",
        LostReason::CursorSet => "somebody set the cursor",
        LostReason::TopicDeleted => "the topic is deleted",
        LostReason::WhileAway => "while the connection was broken",
        LostReason::MovedBack => "the broker's data is an older copy",
        other => return other.to_string(),
    };
    words.to_owned()
}

fn listed(partitions: &[HeldPartition]) -> String {
    let named: Vec<String> = partitions.iter().map(|held| format!("{}/{}", held.topic, held.partition)).collect();
    named.join(" ")
}
