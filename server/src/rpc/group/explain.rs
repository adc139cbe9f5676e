//! `ExplainGroup`: why a group does or does not move, in words.
//!
//! A pure function of the group's row, of where its partitions begin and end, and of what the streams of its members
//! wait for: findings, the heaviest first, and one sentence that says the first.

use tillroll_engine::{
    group::{Mode, Rule},
    id::{Lane, Offset},
    request::Extent,
    table::group::{CursorRow, GroupRow},
};
use tillroll_proto::{
    reason,
    v1::{ExplainGroupResponse, Finding},
};

use crate::rpc::consume::{Stall, View};

/// Findings of one answer; what is left out is counted.
const FINDINGS_MAX: usize = 256;
/// Partitions without a connected member that are read at their cursors: a block of each, at most.
const PROBES_MAX: u32 = 32;
/// A member that had records for this long without a cursor commit is named.
const WORKS_FOR_US: i64 = 5_000_000;

/// What is looked at.
pub(super) struct Look<'a> {
    /// The group.
    pub(super) row: &'a GroupRow,
    /// The time, in microseconds.
    pub(super) now_us: i64,
    /// What each partition holds.
    pub(super) extent: &'a dyn Fn(Lane) -> Extent,
    /// What the stream of a member waits for; none when it is away.
    pub(super) view: &'a dyn Fn(&str) -> Option<View>,
    /// Why a partition cannot be read from an offset on; none when it can. It may read a block from the disk.
    pub(super) probe: &'a dyn Fn(Lane, Offset) -> Option<Stall>,
}

/// Explains a group.
pub(super) fn explain(look: &Look<'_>) -> ExplainGroupResponse {
    let row = look.row;
    let mut probes = PROBES_MAX;
    let partitions = row.cursors.iter().filter_map(|(lane, at)| partition(look, *lane, at, &mut probes));
    // Damage comes first: a member that is started, or a group that is resumed, would stand still at it.
    let (mut findings, others): (Vec<_>, Vec<_>) = partitions.partition(|found| found.reason == reason::DATA_DAMAGED);
    findings.extend(whole(look));
    findings.extend(others);
    // What is caught up is said last, and once.
    let behind = row.cursors.iter().filter(|(lane, at)| at.next < (look.extent)(**lane).end).count();
    if behind == 0 && !row.cursors.is_empty() {
        let text = format!("all {} partitions are read to their ends", row.cursors.len());
        findings.push(finding("CAUGHT_UP", text, "nothing: it goes on with the next record"));
    }
    let summary = summary(look, &findings, behind);
    // It holds up nothing, so it is not what the group is about.
    findings.extend(row.cursors.iter().filter_map(|(lane, at)| passed_over(look, *lane, at)));
    if findings.len() > FINDINGS_MAX {
        let text = format!("{} findings more are left out", findings.len() - FINDINGS_MAX + 1);
        findings.truncate(FINDINGS_MAX - 1);
        findings.push(finding("MORE", text, "mend these first"));
    }
    ExplainGroupResponse { summary, findings }
}

fn finding(reason: &str, text: String, next_step: &str) -> Finding {
    Finding { reason: reason.to_owned(), topic: String::new(), partition: None, text, next_step: next_step.to_owned() }
}

fn summary(look: &Look<'_>, findings: &[Finding], behind: usize) -> String {
    let name = &look.row.name;
    match findings.first() {
        Some(Finding { topic, partition: Some(partition), text, .. }) => {
            format!("group {name}: {topic}/{partition}: {text}")
        }
        Some(first) => format!("group {name}: {}", first.text),
        None if look.row.config.mode == Mode::Manual => {
            format!("group {name} is manual, with {behind} partitions behind: whoever reads commits by compare and set")
        }
        None => format!("group {name} is reading, with {behind} partitions behind"),
    }
}

/// What holds up all of it.
fn whole(look: &Look<'_>) -> Vec<Finding> {
    let (row, mut findings) = (look.row, deleted(look.row));
    if let Some(reason) = &row.paused {
        let why = if reason.is_empty() { "no reason was given" } else { reason };
        let next = format!("tillroll group resume {}", row.name);
        findings.push(finding("PAUSED", format!("it is paused: {why}"), &next));
    }
    if row.config.mode == Mode::Members && row.members.is_empty() && !row.cursors.is_empty() {
        findings.push(finding("NO_MEMBERS", "nobody is a member of it".to_owned(), &start_one(row)));
    }
    for member in row.members.keys() {
        match (look.view)(member) {
            None => {
                let text = format!(
                    "member {member} is away; its partitions wait for it until its session of {} s is over",
                    row.config.session_ms / 1_000
                );
                findings.push(finding("SESSION_WAIT", text, "start it again, or wait: they go to other members"));
            }
            Some(view) if view.has_no_credit => {
                let text = format!("member {member} takes no more records: it has not given credit for what it got");
                findings.push(finding("NO_CREDIT", text, "look what the member does with its records"));
            }
            Some(_) => {}
        }
    }
    findings
}

/// Its topics that are gone. A topic has partitions, and a group a cursor in each until the topic is deleted; one that
/// has the name later is another topic.
fn deleted(row: &GroupRow) -> Vec<Finding> {
    let gone = row.topics.iter().filter(|(id, _)| !row.cursors.keys().any(|lane| lane.topic == *id));
    let gone: Vec<&str> = gone.map(|(_, name)| name.as_str()).collect();
    let told = |topic: &&str| {
        let text = format!("the topic {topic} that it read is gone; one that is made under its name is another topic");
        let next = if row.cursors.is_empty() {
            let create = create(row, &row.name, &gone);
            format!("once the topic is there again: tillroll group delete {} --yes && {create}", row.name)
        } else {
            let create = create(row, &format!("{}-{topic}", row.name), &[topic]);
            format!("leave it as it is, and read the topic that has the name later with another group: {create}")
        };
        Finding { topic: (*topic).to_owned(), ..finding("TOPIC_DELETED", text, &next) }
    };
    gone.iter().map(told).collect()
}

/// The command that makes a group like this one, from the beginning of these topics.
fn create(row: &GroupRow, name: &str, topics: &[&str]) -> String {
    let mode = match (row.config.mode, row.config.rule) {
        (Mode::Manual, _) => "--manual",
        (Mode::Members, Some(Rule::CoPartitioned)) => "--rule co-partitioned",
        (Mode::Members, Some(Rule::Single)) => "--rule single",
        (Mode::Members, Some(Rule::Spread) | None) => "--rule spread",
    };
    let topics: Vec<String> = topics.iter().map(|topic| format!("--topic {topic}")).collect();
    format!("tillroll group create {name} {} --from earliest {mode}", topics.join(" "))
}

/// How a group gets a member. Partitions that go together, or to one alone, tell of a service, whose records are not
/// for whoever prints and commits them.
fn start_one(row: &GroupRow) -> String {
    let topics: Vec<&str> = row.topics.iter().map(|(_, name)| name.as_str()).collect();
    let consume = format!("tillroll consume {} --group {}", topics.join(" "), row.name);
    match row.config.rule {
        Some(Rule::CoPartitioned | Rule::Single) => format!("start its service; when it has none: {consume}"),
        Some(Rule::Spread) | None => format!("start a member: {consume}, or a program of your own"),
    }
}

/// What holds up one partition.
fn partition(look: &Look<'_>, lane: Lane, at: &CursorRow, probes: &mut u32) -> Option<Finding> {
    let topic = look.row.topics.iter().find(|(id, _)| *id == lane.topic).map(|(_, name)| name.clone())?;
    let (reason, text, next_step) = held_up(look, lane, at, &topic, probes)?;
    Some(Finding { reason: reason.to_owned(), topic, partition: Some(lane.partition.0), text, next_step })
}

/// Records that were gone, so that the group went on at the head, as it was told to.
fn passed_over(look: &Look<'_>, lane: Lane, at: &CursorRow) -> Option<Finding> {
    let holder = at.holder.as_deref()?;
    let count = (look.view)(holder)?.passed_over.get(&lane).copied()?;
    let topic = look.row.topics.iter().find(|(id, _)| *id == lane.topic).map(|(_, name)| name.clone())?;
    Some(Finding {
        reason: "PASSED_OVER".to_owned(),
        topic,
        partition: Some(lane.partition.0),
        text: format!("{count} records were gone before {holder} got them, and it went on at the head"),
        next_step: "keep records for longer, or read faster: what is gone is not handled".to_owned(),
    })
}

/// A reason, what was found, and what to do about it.
type HeldUp = (&'static str, String, String);

fn held_up(look: &Look<'_>, lane: Lane, at: &CursorRow, topic: &str, probes: &mut u32) -> Option<HeldUp> {
    let extent = (look.extent)(lane);
    let view = at.holder.as_deref().and_then(|holder| (look.view)(holder));
    let set_to = |place: &str| {
        let (group, partition) = (&look.row.name, lane.partition);
        format!("tillroll group set-cursor {group} --topic {topic} --partition {partition} --to {place}")
    };
    if at.next >= extent.head
        && let Some(stall) = stalled(look, lane, at, view.as_ref(), probes)
    {
        let behind = stall.goes_on.map_or_else(|| "latest".to_owned(), |offset| format!("offset:{offset}"));
        let next = format!("restore the file, or go on behind it without these records: {}", set_to(&behind));
        // Their times are in what cannot be read.
        let is_damaged = stall.reason == reason::DATA_DAMAGED;
        let unknown = if is_damaged { "; for how long its records have been waiting is unknown" } else { "" };
        return Some((stall.reason, format!("{}{unknown}", stall.text), next));
    }
    if at.next < extent.head {
        let text = format!("its cursor is at {}, and the log begins at {}", at.next, extent.head);
        return Some(("BELOW_HEAD", text, format!("set the cursor: {}", set_to("earliest"))));
    }
    let holder = at.holder.as_deref()?;
    if at.is_draining {
        let text = format!("it is asked back from {holder}, which may finish what it has within the drain time");
        return Some(("DRAINING", text, "nothing: it goes to another member then".to_owned()));
    }
    let view = view?;
    if view.held_back.contains(&lane) {
        let text = format!("member {holder} holds it back");
        return Some(("HELD_BACK", text, "look what the member waits for".to_owned()));
    }
    let sent = view.sent.get(&lane)?;
    let since_us = look.now_us - sent.since_us(at.next)?.max(at.committed_us);
    if since_us > WORKS_FOR_US {
        let (count, seconds) = (sent.until().since(at.next), since_us / 1_000_000);
        let text = format!("member {holder} has {count} records from offset {} on, for {seconds} s", at.next);
        return Some(("WORKING", text, "look what the member does with its records".to_owned()));
    }
    None
}

/// Why a partition cannot be read at its cursor: as its member met it, or, where no member reads, by a look of our own.
fn stalled(look: &Look<'_>, lane: Lane, at: &CursorRow, view: Option<&View>, probes: &mut u32) -> Option<Stall> {
    if let Some(view) = view {
        return view.stalled.get(&lane).cloned();
    }
    if at.next >= (look.extent)(lane).end || *probes == 0 {
        return None;
    }
    *probes -= 1;
    (look.probe)(lane, at.next)
}

#[cfg(test)]
mod tests;
