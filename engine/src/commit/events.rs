//! What durable frames changed that an operator should hear of: groups, members, cursors that were set, topics deleted.
//! What producers append and members commit is the daily work and no event.

use crate::{
    group::LostWhy,
    id::{GroupId, Lane},
    journal::{Frame, group_op::GroupOp, op::Op},
    notice::{Change, Gone},
    table::applied::Applied,
};

/// The events of these frames, which are to be applied to `before`.
pub(super) fn of(frames: &[Frame], before: &Applied) -> Vec<Change> {
    frames.iter().flat_map(|frame| of_frame(frame, before)).collect()
}

/// Whether a look at the tables is worth it.
pub(super) fn has_any(frames: &[Frame]) -> bool {
    let is_event = |op: &Op| match op {
        Op::TopicDelete(_) => true,
        Op::Group(op) => !matches!(op, GroupOp::Commit { .. } | GroupOp::Change(_)),
        _ => false,
    };
    frames.iter().flat_map(|frame| &frame.ops).any(is_event)
}

fn of_frame(frame: &Frame, before: &Applied) -> Vec<Change> {
    let name = |group: &GroupId| before.groups.get(group).map_or_else(|| group.to_string(), |row| row.name.clone());
    let (mut events, mut set) = (Vec::new(), None);
    for op in &frame.ops {
        match op {
            Op::TopicDelete(topic) => {
                let row = before.topics.get(topic);
                events.push(Change::TopicDeleted { topic: row.map_or_else(String::new, |row| row.name.clone()) });
            }
            Op::Group(GroupOp::Create(create)) => {
                let topics = create.topics.iter().map(|(_, topic)| topic.clone()).collect();
                events.push(Change::GroupCreated { group: create.name.clone(), topics });
            }
            Op::Group(GroupOp::Delete(group)) => events.push(Change::GroupDeleted { group: name(group) }),
            Op::Group(GroupOp::Set { group, lane, reason, .. }) => {
                let (_, _, partitions, _) = set.get_or_insert((group, *lane, 0, reason));
                *partitions += 1;
            }
            Op::Group(GroupOp::Member { group, member, client, .. }) => {
                let is_known = before.groups.get(group).is_some_and(|row| row.members.contains_key(member));
                let (group, member, client) = (name(group), member.clone(), client.clone());
                events.push(if is_known {
                    Change::MemberTakenOver { group, member, client }
                } else {
                    Change::MemberJoined { group, member, client }
                });
            }
            Op::Group(GroupOp::MemberGone { group, member }) => {
                events.push(Change::MemberGone { group: name(group), member: member.clone(), why: why(frame) });
            }
            Op::Group(GroupOp::Assign { group, lane, lost: Some(LostWhy::DrainExpired), .. }) => {
                let row = before.groups.get(group).and_then(|row| row.cursors.get(lane));
                let member = row.and_then(|cursor| cursor.holder.clone()).unwrap_or_default();
                events.push(Change::PartitionTaken { group: name(group), member, lane: *lane });
            }
            _ => {}
        }
    }
    events.extend(set.map(|(group, lane, partitions, reason): (&GroupId, Lane, u32, &String)| {
        let topic = before.topics.get(&lane.topic).map_or_else(String::new, |row| row.name.clone());
        Change::CursorsSet { group: name(group), topic, partitions, reason: reason.clone() }
    }));
    events
}

/// Why a member is gone, as its partitions tell it.
fn why(frame: &Frame) -> Gone {
    let lost = |op: &Op| match op {
        Op::Group(GroupOp::Assign { lost, .. }) => *lost,
        _ => None,
    };
    match frame.ops.iter().find_map(lost) {
        Some(LostWhy::SessionExpired) => Gone::Silent,
        Some(LostWhy::Left) => Gone::Left,
        _ => Gone::HeldNothing,
    }
}
