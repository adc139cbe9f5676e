//! Why something about a consumer group was refused.

use tillroll_engine::error::{CursorFault, CursorPlace, CursorWhy, FailedCheck, Refusal};
use tillroll_proto::reason::key;

use super::{
    Facts, bad_field, shown, table, taken_over, unsupported,
    write::{mismatched, violated},
};

/// Members and cursors that are named in a message.
const LISTED_MAX: usize = 8;

/// The facts of a refusal about a consumer group.
pub(super) fn of_group(refusal: &Refusal) -> Facts {
    match refusal {
        Refusal::GroupExists { group, differences } => {
            let different = differences.iter().map(|one| format!("{} is {}, asked {}", one.field, one.has, one.asked));
            let listed = different.collect::<Vec<_>>().join("; ");
            let message = format!("group {} exists with another configuration: {listed}", shown(group));
            Facts::new(&table::GROUP_EXISTS, message).with(key::GROUP, group).with(key::DIFFERENCES, listed)
        }
        Refusal::GroupHasMembers { group, members } => {
            let listed = members.iter().take(LISTED_MAX).map(String::as_str).collect::<Vec<_>>().join(" ");
            let message = format!("group {} has members: {listed}; stop them, or say with_members", shown(group));
            let facts = Facts::new(&table::GROUP_HAS_MEMBERS, message).with(key::GROUP, group);
            facts.with(key::HOLDER, listed).with(key::COUNT, members.len())
        }
        Refusal::GroupChanged { group, expected, actual } => {
            let message = format!("group {} has changed: its etag is {actual}, not {expected}", shown(group));
            let facts = Facts::new(&table::GROUP_CHANGED, message).with(key::GROUP, group);
            facts.with(key::EXPECTED, expected).with(key::ACTUAL, actual)
        }
        Refusal::GroupsFull { limit } => {
            let message = format!("there are {limit} groups, no more may be; delete some");
            Facts::new(&table::GROUPS_FULL, message).with(key::LIMIT, limit)
        }
        Refusal::GroupRowsFull { what, limit, actual } => {
            let message = format!("groups would have {actual} {what} in all, the limit is {limit}; delete some");
            Facts::new(&table::GROUPS_FULL, message).with(key::LIMIT, limit).with(key::ACTUAL, actual)
        }
        Refusal::TakenOver { group, member } => taken_over(group, member),
        Refusal::GroupFull { group, limit } => {
            let message = format!("group {} has {limit} members, no more may be", shown(group));
            Facts::new(&table::GROUPS_FULL, message).with(key::GROUP, group).with(key::LIMIT, limit)
        }
        Refusal::GroupConfigInvalid { field, wrong } => bad_field(field, format!("{field} {wrong}")),
        Refusal::StartRequired { group, topic } => {
            let message = format!(
                "group {} does not read the topic that is called {} now; add it with UpdateGroup",
                shown(group),
                shown(topic)
            );
            Facts::new(&table::START_REQUIRED, message).with(key::GROUP, group).with(key::TOPIC, topic)
        }
        Refusal::StartOutOfRange { topic, partition, asked, least, most } => {
            let (edge, limit) = most.map_or(("begins", *least), |most| ("ends", most));
            let message = format!("start: {}/{partition} {edge} at {limit}, asked {asked}", shown(topic));
            bad_field("start", message).with(key::LIMIT, limit).with(key::ACTUAL, asked)
        }
        Refusal::StartUnreadable { topic, partition, cause } => {
            let message = format!("where to start in {}/{partition} could not be looked up: {cause}", shown(topic));
            Facts::new(&table::READ_FAILED, message).with(key::TOPIC, topic).with(key::PARTITION, partition)
        }
        Refusal::CursorRefused { faults, checks } => of_cursors(faults, checks),
        other => unsupported(&other.to_string()),
    }
}

/// All cursors that may not move, and all else that does not hold; the reason is the first one's.
fn of_cursors(faults: &[CursorFault], checks: &[FailedCheck]) -> Facts {
    let Some(first) = faults.first() else { return unsupported("a refusal without a cause") };
    let listed = faults.iter().map(words).chain(checks.iter().map(mismatched)).take(LISTED_MAX);
    let listed = listed.collect::<Vec<_>>().join("; ");
    let place = field(first);
    let facts = of_first(first, &place, &listed).with(key::FIELD, place);
    // A field that is not set says no more in its metadata than which one.
    let facts = match first.why {
        CursorWhy::EpochRequired | CursorWhy::ExpectedRequired => facts,
        _ => facts
            .with(key::GROUP, &first.group)
            .with(key::TOPIC, &first.topic)
            .with(key::PARTITION, first.partition)
            .with(key::COUNT, faults.len() + checks.len()),
    };
    let facts = faults.iter().fold(facts, |facts, fault| facts.violating(reason(fault), field(fault), words(fault)));
    violated(facts, checks)
}

/// The heaviest one.
fn of_first(first: &CursorFault, place: &str, listed: &str) -> Facts {
    let group = shown(&first.group);
    match &first.why {
        CursorWhy::EpochRequired | CursorWhy::ExpectedRequired => {
            let what =
                format!("{place}: {listed}; groups with members need assignment_epoch, manual ones expected_offset");
            super::required(place, what)
        }
        CursorWhy::Fenced { epoch, current, holder } => {
            let message = format!("{listed}; this member of {group} has lost it: drop what was not accepted");
            let facts = Facts::new(&table::ASSIGNMENT_FENCED, message).with(key::EPOCH, epoch);
            let facts = facts.with(key::CURRENT, current);
            holder.iter().fold(facts, |facts, holder| facts.with(key::HOLDER, holder))
        }
        CursorWhy::Elsewhere { expected, actual } => {
            let message = format!("{listed}; somebody else moved the cursor of {group}: read again and decide anew");
            let facts = Facts::new(&table::EXPECTED_OFFSET_MISMATCH, message);
            facts.with(key::EXPECTED, expected).with(key::ACTUAL, actual)
        }
        CursorWhy::Backwards { asked, current } => {
            let message = format!("{listed}; only SetCursors moves a cursor of {group} back");
            Facts::new(&table::CURSOR_BACKWARDS, message).with(key::ACTUAL, asked).with(key::CURRENT, current)
        }
        CursorWhy::BeyondEnd { asked, end } => {
            let message = format!("{listed}; a cursor of {group} follows what was read");
            Facts::new(&table::CURSOR_BEYOND_END, message).with(key::ACTUAL, asked).with(key::END, end)
        }
    }
}

/// What it would be refused for alone.
fn reason(fault: &CursorFault) -> &'static str {
    let row = match fault.why {
        CursorWhy::EpochRequired | CursorWhy::ExpectedRequired => &table::FIELD_REQUIRED,
        CursorWhy::Fenced { .. } => &table::ASSIGNMENT_FENCED,
        CursorWhy::Elsewhere { .. } => &table::EXPECTED_OFFSET_MISMATCH,
        CursorWhy::Backwards { .. } => &table::CURSOR_BACKWARDS,
        CursorWhy::BeyondEnd { .. } => &table::CURSOR_BEYOND_END,
    };
    row.reason
}

fn field(fault: &CursorFault) -> String {
    match fault.place {
        CursorPlace::Commit(index) => format!("commits[{index}]"),
        CursorPlace::Check(index) => format!("checks[{index}]"),
    }
}

fn words(fault: &CursorFault) -> String {
    let CursorFault { topic, partition, .. } = fault;
    let found = match &fault.why {
        CursorWhy::Fenced { epoch, current, holder: Some(holder) } => {
            format!("is held by {holder} under epoch {current}, not {epoch}")
        }
        CursorWhy::Fenced { epoch, current, holder: None } => {
            format!("is held by nobody since epoch {current}, and not under {epoch}")
        }
        CursorWhy::EpochRequired => "comes without assignment_epoch".to_owned(),
        CursorWhy::ExpectedRequired => "comes without expected_offset".to_owned(),
        CursorWhy::Elsewhere { expected, actual } => format!("is at {actual}, not {expected}"),
        CursorWhy::Backwards { asked, current } => format!("is at {current}, past {asked}"),
        CursorWhy::BeyondEnd { asked, end } => format!("ends at {end}, before {asked}"),
    };
    format!("{topic}/{partition} {found}")
}
