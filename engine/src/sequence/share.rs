//! Who holds which partition: evenly, and everybody keeps what they have as far as that goes.
//!
//! A pure function of the group's row: the same row gives the same answer on every node. What it answers are operations
//! that bring the row closer to the goal; a partition that somebody still holds is asked back first and given on when
//! it is free.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    group::{Mode, Rule},
    id::{Lane, Lsn},
    journal::group_op::GroupOp,
    table::group::{CursorRow, GroupRow},
};

/// Partitions that only move together.
type Unit = Vec<Lane>;

/// What has to happen next, in the frame `lsn`: the epoch of whatever is given is that number.
pub(super) fn share(group: &GroupRow, lsn: Lsn) -> Vec<GroupOp> {
    if group.config.mode == Mode::Manual || group.members.is_empty() {
        return Vec::new();
    }
    let units = units(group);
    let goal = goal(group, &units);
    let steps = units.iter().zip(&goal).flat_map(|(unit, member)| steps(group, unit, member, lsn));
    steps.collect()
}

fn units(group: &GroupRow) -> Vec<Unit> {
    let lanes = || group.cursors.keys().copied();
    match group.config.rule {
        Some(Rule::CoPartitioned) => {
            let mut units: BTreeMap<_, Unit> = BTreeMap::new();
            lanes().for_each(|lane| units.entry(lane.partition).or_default().push(lane));
            units.into_values().collect()
        }
        Some(Rule::Single) => vec![lanes().collect()],
        Some(Rule::Spread) | None => lanes().map(|lane| vec![lane]).collect(),
    }
}

/// Who has a unit and is not asked to give it back.
fn keeper<'a>(group: &'a GroupRow, unit: &Unit) -> Option<&'a str> {
    let mut held = unit.iter().filter_map(|lane| cursor(group, *lane)).filter(|cursor| cursor.holder.is_some());
    let keeps = held.clone().all(|cursor| !cursor.is_draining);
    held.next().filter(|_| keeps).and_then(|cursor| cursor.holder.as_deref())
}

fn cursor(group: &GroupRow, lane: Lane) -> Option<&CursorRow> {
    group.cursors.get(&lane)
}

/// The member that each unit should go to. Nobody gets two more than another; those who have more keep more.
fn goal<'a>(group: &'a GroupRow, units: &[Unit]) -> Vec<&'a str> {
    let kept: Vec<Option<&str>> =
        units.iter().map(|unit| keeper(group, unit).filter(|member| group.members.contains_key(*member))).collect();
    let mut counts: BTreeMap<&str, usize> = group.members.keys().map(|member| (member.as_str(), 0)).collect();
    for member in kept.iter().flatten() {
        *counts.entry(member).or_default() += 1;
    }
    let mut members: Vec<(usize, &str)> = counts.into_iter().map(|(member, count)| (count, member)).collect();
    members.sort_by_key(|(count, member)| (std::cmp::Reverse(*count), *member));
    let (least, more) = (units.len() / members.len(), units.len() % members.len());
    let quota = members.iter().enumerate().map(|(place, (_, member))| (*member, least + usize::from(place < more)));
    let mut left: BTreeMap<&str, usize> = quota.collect();
    let mut goal: Vec<Option<&str>> = Vec::with_capacity(units.len());
    for keeper in kept {
        let room = keeper.and_then(|member| left.get_mut(member)).filter(|left| **left > 0);
        goal.push(keeper.filter(|_| room.map(|left| *left -= 1).is_some()));
    }
    let mut free = left.into_iter().flat_map(|(member, left)| std::iter::repeat_n(member, left));
    goal.into_iter().filter_map(|keeper| keeper.or_else(|| free.next())).collect()
}

/// What brings a unit to a member: asked back from whoever has it, or given when all of it is free.
fn steps(group: &GroupRow, unit: &Unit, member: &str, lsn: Lsn) -> Vec<GroupOp> {
    let holders: BTreeSet<&str> = unit.iter().filter_map(|lane| cursor(group, *lane)?.holder.as_deref()).collect();
    let stays = keeper(group, unit).is_some_and(|keeper| keeper == member && holders.len() == 1);
    let step = |lane: &Lane| {
        let at = cursor(group, *lane)?;
        let (epoch, holder, is_draining) = match &at.holder {
            Some(_) if stays || at.is_draining => return None,
            Some(holder) => (at.epoch, holder.clone(), true),
            None if stays || holders.is_empty() => (lsn.get(), member.to_owned(), false),
            // The rest of the unit is not free yet.
            None => return None,
        };
        let (lane, lost) = (*lane, at.lost);
        Some(GroupOp::Assign { group: group.id, lane, epoch, holder: Some(holder), is_draining, lost })
    };
    unit.iter().filter_map(step).collect()
}

#[cfg(test)]
mod tests;
