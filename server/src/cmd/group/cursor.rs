//! `tillroll group set-cursor`: look, ask, set. However it is called, it says how many records the group skips or sees
//! again.

use clap::Args;
use serde_json::{Value, json};
use tillroll_client::{Client, CursorMove, Position, SetCursors};

use crate::cmd::{
    confirm,
    fail::Failure,
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
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs `tillroll group set-cursor`.
pub(super) async fn run(client: &Client, set: SetCursor, out: Out) -> Result<(), Failure> {
    let (groups, name, topic) = (client.groups(), set.name.as_str(), set.topic.as_str());
    let asked = SetCursors::new(topic, set.to)
        .partitions(set.partition)
        .with_members(set.with_members)
        .reason(set.reason.unwrap_or_default());
    if set.dry_run || !set.yes {
        let moves = groups.set_cursors(name, asked.clone().dry_run(true)).await?;
        if set.dry_run {
            let words = format!("nothing is changed: group {name} would {} of {topic}", effect(&moves));
            return show(&words, (name, topic, true), &moves, out);
        }
        let (effect, all) = (effect(&moves), table(&COLUMNS, &rows(&moves)));
        let doing = format!("having group {name} {effect} of {topic}");
        confirm::by_name(&doing, &format!("{all}\nhave group {name} {effect} of {topic}"), name).await?;
    }
    let moves = groups.set_cursors(name, asked).await?;
    let words = format!("{} of group {name} set, to {} of {topic}", cursors(&moves), effect(&moves));
    show(&words, (name, topic, false), &moves, out)
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
        return out.one(&format!("{words}\n\n{}", table(&COLUMNS, &rows)), &Value::Null);
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
