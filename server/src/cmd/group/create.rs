//! `tillroll group create`: nothing that decides which records a group sees is guessed, neither where it starts nor who
//! shares out its partitions.

use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use serde_json::json;
use tillroll_client::{AssignmentRule, BelowHead, Client, Error, GroupMode, GroupOptions, Position};

use super::shown;
use crate::cmd::{each_once, fail::Failure, out::Out, read::place, time};

pub(super) const EXAMPLES: &str = "Examples:
  tillroll group create mailer --topic orders --from earliest --rule spread
  tillroll group create billing --topic orders --topic payments --from latest --rule co-partitioned
  tillroll group create export --topic orders --from append-time:2026-01-01 --manual

With --rule the server shares the partitions out to members, who consume. With --manual whoever likes reads from the
group's cursors and moves them by compare and set. Partitions that come later start at offset 0.";

/// `tillroll group create`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("mode").required(true))]
pub(super) struct Create {
    /// 1 to 128 of a-z 0-9 . _ -
    name: String,
    /// A topic that it reads; may be repeated
    #[arg(long, value_name = "TOPIC", required = true)]
    topic: Vec<String>,
    /// earliest, latest, offset:N, append-time:T or last:N (of each partition)
    #[arg(long, value_name = "PLACE", value_parser = place::parse)]
    from: Position,
    /// How the server shares partitions out to members
    #[arg(long, group = "mode")]
    rule: Option<Rule>,
    /// No members: readers share themselves, and cursors move by compare and set
    #[arg(long, group = "mode")]
    manual: bool,
    /// What happens when records that a cursor points to are gone [default: fail]
    #[arg(long)]
    below_head: Option<Below>,
    /// How long the partitions of a member that is gone are kept for it, such as 15s [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = time::span, allow_hyphen_values = true)]
    session: Option<Duration>,
    /// How long a member may take to finish with a partition that it has to give back [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = time::span, allow_hyphen_values = true)]
    drain: Option<Duration>,
}

/// How partitions are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rule {
    /// Evenly, moving as few as possible
    Spread,
    /// Partition i of every topic to the same member
    CoPartitioned,
    /// Everything to one member; the others stand by
    Single,
}

impl From<Rule> for AssignmentRule {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::Spread => Self::Spread,
            Rule::CoPartitioned => Self::CoPartitioned,
            Rule::Single => Self::Single,
        }
    }
}

/// What happens below the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Below {
    /// The partition stalls until somebody sets the cursor
    Fail,
    /// The cursor is moved to the first record that is kept
    Earliest,
}

impl From<Below> for BelowHead {
    fn from(below: Below) -> Self {
        match below {
            Below::Fail => Self::Fail,
            Below::Earliest => Self::Earliest,
        }
    }
}

/// Runs `tillroll group create`.
pub(super) async fn run(client: &Client, create: Create, out: Out) -> Result<(), Failure> {
    each_once("topic", &create.topic)?;
    // The command line has one of the two.
    let mode = create.rule.map_or(GroupMode::Manual, |rule| GroupMode::Members(rule.into()));
    let mut options = GroupOptions::new(create.topic.clone(), mode, create.from);
    options.below_head = create.below_head.map(Into::into);
    (options.session, options.drain) = (create.session, create.drain);
    let spans = [("config.session_ms", "--session", create.session), ("config.drain_ms", "--drain", create.drain)];
    let answer = client.groups().create(create.name, options).await;
    let (info, created) = match answer {
        Err(error) if create.rule == Some(Rule::CoPartitioned) && field(&error) == Some("config.topics") => {
            return Err(unequal(client, &create.topic, error).await);
        }
        answer => answer.map_err(|error| out_of_range(&spans, error))?,
    };
    let did = if created { "created:" } else { "is there already:" };
    let mut object = shown::object(&info);
    object["created"] = json!(created);
    out.one(format!("group {} {did} {}", info.name, shown::settings(&info)), &object)
}

/// The field of the request that is refused.
fn field(error: &Error) -> Option<&str> {
    error.metadata().get("field").map(String::as_str)
}

/// Topics that do not go together, with what each has; the broker's own words where it is something else.
async fn unequal(client: &Client, topics: &[String], error: Error) -> Failure {
    let mut counts = Vec::new();
    for topic in topics {
        let Ok(info) = client.admin().get_topic(topic).await else { return error.into() };
        counts.push((topic, info.partition_count));
    }
    if counts.iter().all(|(_, count)| *count == counts[0].1) {
        return error.into();
    }
    let listed: Vec<_> = counts.iter().map(|(topic, count)| format!("{topic} has {count}")).collect();
    let message = format!("co-partitioned topics have equally many partitions: {}", listed.join(", "));
    Failure::from(error).message(message).hint("make the topics with equal --partitions, or take --rule spread")
}

/// A length of time that the broker does not take, as it was typed.
fn out_of_range(spans: &[(&str, &str, Option<Duration>)], error: Error) -> Failure {
    let typed = spans.iter().find(|(name, ..)| field(&error) == Some(name));
    let (Some((_, flag, Some(span))), Some(limit_ms)) = (typed, error.number("limit")) else { return error.into() };
    let limit = Duration::from_millis(limit_ms);
    let which = if *span < limit { "short: the least" } else { "long: the most" };
    let message = format!("{flag} {} is too {which} is {}", time::show_span(*span), time::show_span(limit));
    Failure::from(error).message(message)
}
