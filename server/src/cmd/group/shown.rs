//! How a group is written: in words and tables for people, as an object for programs. Settings are spelled as the flags
//! that set them.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tillroll_client::{
    AssignmentRule, BelowHead, CursorInfo, Finding, GroupExplanation, GroupInfo, GroupMode, MemberInfo,
};

use crate::cmd::{
    out::{counted, table},
    read::place,
    time,
};

/// The columns of a listing.
pub(super) const LISTED: [&str; 9] =
    ["name", "mode", "rule", "topics", "members", "lag_records", "lag_ms", "paused", "pause_reason"];

/// A row of a listing. People read names side by side, programs get a list.
pub(super) fn listed(info: &GroupInfo, is_table: bool) -> Vec<Value> {
    let (mode, rule) = mode_name(info.mode);
    let said = |yes: bool| if yes { json!("yes") } else { Value::Null };
    vec![
        json!(info.name),
        json!(mode),
        json!(rule),
        if is_table { json!(topics(info)) } else { json!(info.topics) },
        json!(info.members.len()),
        read_of(info, info.lag_records()),
        waiting(info),
        if is_table { said(info.paused.is_some()) } else { json!(info.paused.is_some()) },
        json!(info.paused),
    ]
}

/// The topics in a line, with those that are gone.
fn topics(info: &GroupInfo) -> String {
    let named = |topic: &String| if super::reads(info, topic) { topic.clone() } else { format!("{topic} (gone)") };
    info.topics.iter().map(named).collect::<Vec<_>>().join(" ")
}

/// A lag; none when there is nothing that is read, which is not the same as being caught up.
fn read_of(info: &GroupInfo, lag: u64) -> Value {
    if info.cursors.is_empty() { Value::Null } else { json!(lag) }
}

/// How long the oldest record has been waiting, of those that can be read.
fn waiting(info: &GroupInfo) -> Value {
    let is_known = info.lag_ms() > 0 || !info.cursors.iter().any(is_unknown);
    if is_known { read_of(info, info.lag_ms()) } else { Value::Null }
}

/// Whether nobody knows since when the record at a cursor has been waiting: it cannot be read, as where data is
/// damaged. One that can has been waiting for 1 ms at least.
fn is_unknown(cursor: &CursorInfo) -> bool {
    cursor.lag_records > 0 && cursor.lag_ms == 0
}

/// How long the record at a cursor has been waiting.
fn waiting_at(cursor: &CursorInfo) -> Value {
    if is_unknown(cursor) { Value::Null } else { json!(cursor.lag_ms) }
}

/// A group's settings in a line.
pub(super) fn settings(info: &GroupInfo) -> String {
    let topics = if info.topics.len() == 1 { "topic" } else { "topics" };
    let (mode, rule) = mode_name(info.mode);
    let rest = match info.mode {
        GroupMode::Manual => String::new(),
        _ => format!(", session {}, drain {}", time::show_span(info.session), time::show_span(info.drain)),
    };
    format!(
        "{}, {topics} {}, from {}, {} below the head{rest}",
        rule.unwrap_or(mode),
        info.topics.join(" "),
        place::show(info.start),
        below_name(info.below_head),
    )
}

/// A group in words.
pub(super) fn words(info: &GroupInfo) -> Vec<String> {
    let is_manual = info.mode == GroupMode::Manual;
    let mut parts = vec![format!("group {} (etag {}): {}", info.name, info.etag, settings(info))];
    parts.extend(info.paused.iter().map(|reason| format!("paused: {reason}")));
    let members = if is_manual { String::new() } else { format!("{}, ", counted(info.members.len() as u64, "member")) };
    parts.push(format!("{members}{}", lag(info)));
    let gone = info.topics.iter().filter(|topic| !super::reads(info, topic));
    parts.extend(gone.map(|topic| format!("topic {topic} is gone; one that is made under its name is another one")));
    if !info.members.is_empty() {
        let rows: Vec<_> = info.members.iter().map(member_row).collect();
        parts.push(String::new());
        parts.extend(table(&MEMBER, &rows));
    }
    let epochs = epochs(info);
    let columns = if is_manual { &CURSOR[..CURSOR_ALONE] } else { &CURSOR[..] };
    let row = |cursor: &CursorInfo| {
        let mut row = cursor_row(cursor, &epochs);
        row.truncate(columns.len());
        row
    };
    if !info.cursors.is_empty() {
        parts.push(String::new());
        parts.extend(table(columns, &info.cursors.iter().map(row).collect::<Vec<_>>()));
    }
    parts
}

/// A group as an object.
pub(super) fn object(info: &GroupInfo) -> Value {
    let (mode, rule) = mode_name(info.mode);
    json!({
        "name": info.name,
        "etag": info.etag,
        "topics": info.topics,
        "topics_gone": info.topics.iter().filter(|topic| !super::reads(info, topic)).collect::<Vec<_>>(),
        "mode": mode,
        "rule": rule,
        "start": place::show(info.start),
        "below_head": below_name(info.below_head),
        "session_ms": info.session.as_millis() as u64,
        "drain_ms": info.drain.as_millis() as u64,
        "paused": info.paused.is_some(),
        "pause_reason": info.paused,
        "lag_records": read_of(info, info.lag_records()),
        "lag_ms": waiting(info),
        "members": info.members.iter().map(member_object).collect::<Vec<_>>(),
        "cursors": info.cursors.iter().map(cursor_object).collect::<Vec<_>>(),
    })
}

/// Why a group does or does not move, in words and as an object.
pub(super) fn explained(name: &str, explained: &GroupExplanation) -> (Vec<String>, Value) {
    let mut words = vec![explained.summary.clone()];
    for finding in &explained.findings {
        words.push(String::new());
        words.push(format!("{}{}: {}", finding.reason, place_of(finding), finding.text));
        if !finding.next_step.is_empty() {
            words.push(format!("  next: {}", finding.next_step));
        }
    }
    let finding = |one: &Finding| {
        json!({
            "reason": one.reason,
            "topic": one.topic,
            "partition": one.partition,
            "text": one.text,
            "next_step": one.next_step,
        })
    };
    let findings: Vec<Value> = explained.findings.iter().map(finding).collect();
    (words, json!({"group": name, "summary": explained.summary, "findings": findings}))
}

fn place_of(finding: &Finding) -> String {
    match (&finding.topic, finding.partition) {
        (Some(topic), Some(partition)) => format!(" {topic}/{partition}"),
        (Some(topic), None) => format!(" {topic}"),
        (None, _) => String::new(),
    }
}

/// The mode and the rule, as flags spell them.
fn mode_name(mode: GroupMode) -> (&'static str, Option<&'static str>) {
    match mode {
        GroupMode::Manual => ("manual", None),
        GroupMode::Members(AssignmentRule::Spread) => ("members", Some("spread")),
        GroupMode::Members(AssignmentRule::CoPartitioned) => ("members", Some("co-partitioned")),
        GroupMode::Members(AssignmentRule::Single) => ("members", Some("single")),
        _ => ("unknown", None),
    }
}

fn below_name(below: BelowHead) -> &'static str {
    match below {
        BelowHead::Fail => "fail",
        BelowHead::Earliest => "earliest",
        _ => "unknown",
    }
}

fn lag(info: &GroupInfo) -> String {
    match info.lag_records() {
        _ if info.cursors.is_empty() => "no topic: nothing is read".to_owned(),
        0 => "caught up".to_owned(),
        records => {
            let longest = match info.lag_ms() {
                0 => "an unknown time".to_owned(),
                millis => time::show_span(std::time::Duration::from_millis(millis)),
            };
            let which = if info.cursors.iter().any(is_unknown) { "the oldest that can be read" } else { "the oldest" };
            format!("{} waiting, {which} for {longest}", counted(records, "record"))
        }
    }
}

const MEMBER: [&str; 6] = ["member_id", "instance_id", "client", "joined", "connected", "partitions"];

fn member_row(member: &MemberInfo) -> Vec<Value> {
    vec![
        json!(member.member_id),
        json!(member.instance_id),
        json!(member.client),
        json!(time::show(member.joined_time_us)),
        json!(if member.connected { "yes" } else { "no" }),
        json!(member.assignments.len()),
    ]
}

fn member_object(member: &MemberInfo) -> Value {
    let assignments = member.assignments.iter().map(|held| {
        json!({
            "topic": held.topic,
            "partition": held.partition,
            "assignment_epoch": held.assignment_epoch,
            "next_offset": held.next_offset,
        })
    });
    json!({
        "member_id": member.member_id,
        "instance_id": member.instance_id,
        "client": member.client,
        "joined": time::show(member.joined_time_us),
        "connected": member.connected,
        "assignments": assignments.collect::<Vec<_>>(),
    })
}

const CURSOR: [&str; 8] =
    ["topic", "partition", "next_offset", "lag_records", "lag_ms", "committed", "holder", "epoch"];
/// How many of them a manual group has.
const CURSOR_ALONE: usize = 6;

/// The epochs under which partitions are held.
type Epochs<'a> = HashMap<(&'a str, u32), u64>;

fn epochs(info: &GroupInfo) -> Epochs<'_> {
    let held = info.members.iter().flat_map(|member| &member.assignments);
    held.map(|held| ((held.topic.as_str(), held.partition), held.assignment_epoch)).collect()
}

fn cursor_row(cursor: &CursorInfo, epochs: &Epochs<'_>) -> Vec<Value> {
    vec![
        json!(cursor.topic),
        json!(cursor.partition),
        json!(cursor.next_offset),
        json!(cursor.lag_records),
        waiting_at(cursor),
        committed(cursor),
        json!(cursor.holder),
        json!(epochs.get(&(cursor.topic.as_str(), cursor.partition))),
    ]
}

fn cursor_object(cursor: &CursorInfo) -> Value {
    let mut object = json!({
        "topic": cursor.topic,
        "partition": cursor.partition,
        "next_offset": cursor.next_offset,
        "lag_records": cursor.lag_records,
        "lag_ms": waiting_at(cursor),
        "committed": committed(cursor),
        "holder": cursor.holder,
    });
    match std::str::from_utf8(&cursor.metadata) {
        Ok("") => {}
        Ok(text) => object["metadata"] = json!(text),
        Err(_) => object["metadata_base64"] = json!(STANDARD.encode(&cursor.metadata)),
    }
    object
}

fn committed(cursor: &CursorInfo) -> Value {
    if cursor.committed_time_us == 0 { Value::Null } else { json!(time::show(cursor.committed_time_us)) }
}
