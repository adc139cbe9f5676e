//! `tillroll group set-cursor`: look, ask, set. However it is called, it says how many records the group skips or sees
//! again.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};
use tillroll_client::{Client, CursorMove, Error, GroupInfo, Position, SetCursors};

use crate::cmd::{
    confirm, each_once,
    fail::{Code, Failure},
    out::{Format, Out, counted, table},
    read::place,
};

pub(super) const EXAMPLES: &str = "Examples:
  tillroll group set-cursor mailer --topic orders --to append-time:2h --dry-run
  tillroll group set-cursor mailer --topic orders --to earliest --reason 'a template was wrong'
  tillroll group set-cursor mailer --topic orders --partition 3 --to offset:17 --yes

Whoever holds one of these partitions loses it, and what it still commits there is refused.";

/// `tillroll group set-cursor`.
#[derive(Args, Debug)]
pub(super) struct SetCursor {
    /// The group
    name: String,
    /// The topic
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// Only this partition; may be repeated [default: all]
    #[arg(long, value_name = "PARTITION")]
    partition: Vec<u32>,
    /// earliest, latest, offset:N, append-time:T or last:N (of each partition)
    #[arg(long, value_name = "PLACE", value_parser = place::parse)]
    to: Position,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    /// Also when members hold the partitions, which are then lost to them
    #[arg(long)]
    with_members: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    reason: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs `tillroll group set-cursor`.
pub(super) async fn run(client: &Client, set: SetCursor, out: Out) -> Result<(), Failure> {
    each_once("partition", &set.partition)?;
    let (groups, name, topic) = (client.groups(), set.name.as_str(), set.topic.as_str());
    let asked = SetCursors::new(topic, set.to)
        .partitions(set.partition)
        .with_members(set.with_members)
        .reason(set.reason.unwrap_or_default());
    if set.dry_run || !set.yes {
        let moves = groups.set_cursors(name, asked.clone().dry_run(true)).await.map_err(refused)?;
        let holders = if set.with_members { None } else { holders(&groups.get(name).await?, topic, &moves) };
        if set.dry_run {
            let words = format!("nothing is changed: group {name} would {} of {topic}", effect(&moves));
            show(&words, (name, topic, true), &moves, out)?;
            if let Some(holders) = holders {
                out.say(format!("group {name} has members: {holders}; to set its cursors, {STOP_THEM}"));
            }
            return Ok(());
        }
        if let Some(holders) = holders {
            let failure = Failure::new(Code::Conflict, format!("group {name} has members: {holders}"));
            return Err(failure.hint(STOP_THEM));
        }
        let (effect, mut question) = (effect(&moves), table(&COLUMNS, &rows(&moves)));
        let doing = format!("having group {name} {effect} of {topic}");
        question.push(format!("have group {name} {effect} of {topic}"));
        confirm::by_name(&doing, question, name).await?;
    }
    let moves = groups.set_cursors(name, asked).await.map_err(refused)?;
    let words = format!("{} of group {name} set, to {} of {topic}", cursors(&moves), effect(&moves));
    show(&words, (name, topic, false), &moves, out)
}

/// What is to be done about members.
const STOP_THEM: &str = "stop its members first, or add --with-members, which takes their partitions";

/// Who holds what would be set; none when nobody does.
fn holders(group: &GroupInfo, topic: &str, moves: &[CursorMove]) -> Option<String> {
    let set: BTreeSet<u32> = moves.iter().map(|made| made.partition).collect();
    let cursors = group.cursors.iter().filter(|at| at.topic == topic && set.contains(&at.partition));
    let holders: BTreeSet<&str> = cursors.filter_map(|at| at.holder.as_deref()).collect();
    (!holders.is_empty()).then(|| holders.into_iter().collect::<Vec<_>>().join(" "))
}

fn refused(error: Error) -> Failure {
    place::beyond_end(&error, "--to").unwrap_or_else(|| Failure::of_existing(error))
}

const COLUMNS: [&str; 5] = ["partition", "from_offset", "to_offset", "skipped_records", "repeated_records"];

fn rows(moves: &[CursorMove]) -> Vec<Vec<Value>> {
    let row = |made: &CursorMove| {
        vec![
            json!(made.partition),
            json!(made.from_offset),
            json!(made.to_offset),
            json!(made.skipped_records),
            json!(made.repeated_records),
        ]
    };
    moves.iter().map(row).collect()
}

fn cursors(moves: &[CursorMove]) -> String {
    counted(moves.len() as u64, "cursor")
}

fn totals(moves: &[CursorMove]) -> (u64, u64) {
    let (skipped, repeated) =
        (moves.iter().map(|made| made.skipped_records), moves.iter().map(|one| one.repeated_records));
    (skipped.sum(), repeated.sum())
}

/// What the group does for it: both numbers, also when they are 0.
fn effect(moves: &[CursorMove]) -> String {
    let (skipped, repeated) = totals(moves);
    format!("skip {} and repeat {}", counted(skipped, "record"), counted(repeated, "record"))
}

fn show(
    words: &str,
    (group, topic, dry_run): (&str, &str, bool),
    moves: &[CursorMove],
    out: Out,
) -> Result<(), Failure> {
    let rows = rows(moves);
    if out.format == Format::Table {
        let lines = [words.to_owned(), String::new()].into_iter().chain(table(&COLUMNS, &rows));
        return out.one(lines.collect::<Vec<_>>(), &Value::Null);
    }
    let columns = || COLUMNS.iter().map(|column| (*column).to_owned());
    let moves_shown: Vec<Value> = rows.into_iter().map(|row| Value::Object(columns().zip(row).collect())).collect();
    let (skipped, repeated) = totals(moves);
    let object = json!({
        "group": group,
        "topic": topic,
        "dry_run": dry_run,
        "skipped_records": skipped,
        "repeated_records": repeated,
        "moves": moves_shown,
    });
    out.one(words, &object)
}
