//! Timers of consumer groups: a member that is away for longer than its session loses what it holds, and a partition
//! that is not given back in time is taken.
//!
//! A clock only ever frees a partition, and by a frame; what counts is the epoch. Times run from the moment at which
//! the absence or the drain was first seen by this process, so a restart begins them anew. Nothing here is durable. A
//! group is looked at when something of it has changed or is due, and no other group with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    admit::GroupRequest,
    group::{Leave, LostWhy, Release},
    id::{GroupId, Lane},
    journal::{frame::FRAME_HEADER_BYTES, op::OP_HEADER_BYTES},
    limits::NAME_BYTES_MAX,
    presence::Presence,
    sequence::decide::View,
    table::group::GroupRow,
};

/// Partitions that one frame takes at most.
const LANES_MAX: usize = 1_024;
/// What taking a partition and giving it to another member take in a frame, at most.
const LANE_BYTES_MAX: usize = 2 * (OP_HEADER_BYTES + 40) + NAME_BYTES_MAX;

/// What runs.
pub(super) struct Absence {
    presence: Arc<Presence>,
    groups: BTreeMap<GroupId, Timers>,
    /// When something of a group is over.
    due: BTreeSet<(u64, GroupId)>,
    /// Groups in which a timer may start or end.
    changed: BTreeSet<GroupId>,
    /// Partitions that one frame takes.
    lanes_max: usize,
    is_started: bool,
}

/// The timers of one group.
#[derive(Default)]
struct Timers {
    /// Members that are away: the process, and since when.
    away: BTreeMap<String, (String, u64)>,
    /// Partitions that are asked back: under which epoch, and since when.
    draining: BTreeMap<Lane, (u64, u64)>,
    due_us: u64,
}

impl Absence {
    /// Nothing runs yet. A frame has at most `frame_bytes_max`.
    pub(super) fn new(presence: Arc<Presence>, frame_bytes_max: usize) -> Self {
        let (groups, due, changed) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let fit = frame_bytes_max.saturating_sub(FRAME_HEADER_BYTES) / LANE_BYTES_MAX;
        Self { presence, groups, due, changed, lanes_max: fit.clamp(1, LANES_MAX), is_started: false }
    }

    /// A group changed in a way that may start or end a timer.
    pub(super) fn look_again(&mut self, group: GroupId) {
        self.changed.insert(group);
    }

    /// When to look again, in microseconds of the monotonic clock.
    pub(super) fn due_us(&self) -> u64 {
        self.due.first().map_or(u64::MAX, |(due_us, _)| *due_us)
    }

    /// What is over now in the next group that is worth a look: what has to happen, one request after the other. None:
    /// no group is.
    pub(super) fn over(&mut self, view: View<'_>, now_us: u64) -> Option<(GroupId, Vec<GroupRequest>)> {
        if !std::mem::replace(&mut self.is_started, true) {
            self.changed.extend(view.applied.groups.keys());
        }
        self.changed.append(&mut self.presence.take_changed());
        let due = || self.due.first().filter(|(due_us, _)| *due_us <= now_us).map(|(_, group)| *group);
        let group = self.changed.first().copied().or_else(due)?;
        self.changed.remove(&group);
        let before = self.groups.remove(&group).unwrap_or_default();
        self.due.remove(&(before.due_us, group));
        let Some(row) = view.ahead.group_by_id(view.applied, group) else { return Some((group, Vec::new())) };
        let mut over = Vec::new();
        let after = self.look(row, &before, now_us, &mut over);
        if after.due_us < u64::MAX {
            self.due.insert((after.due_us, group));
            self.groups.insert(group, after);
        }
        Some((group, over))
    }

    /// The timers of a group as they run from now on.
    fn look(&self, row: &GroupRow, before: &Timers, now_us: u64, over: &mut Vec<GroupRequest>) -> Timers {
        let mut after = Timers { due_us: u64::MAX, ..Timers::default() };
        for (member, known) in &row.members {
            if self.presence.is_here(&(row.id, member.clone(), known.instance.clone())) {
                continue;
            }
            let since = before.away.get(member).filter(|(process, _)| *process == known.instance);
            let since = since.map_or(now_us, |(_, since)| *since);
            let until = since + u64::from(row.config.session_ms) * 1_000;
            if until <= now_us {
                over.push(session_over(row, member, &known.instance));
            } else {
                after.due_us = after.due_us.min(until);
                after.away.insert(member.clone(), (known.instance.clone(), since));
            }
        }
        let mut drained = Vec::new();
        for (lane, cursor) in row.cursors.iter().filter(|(_, cursor)| cursor.is_draining) {
            let since = before.draining.get(lane).filter(|(epoch, _)| *epoch == cursor.epoch);
            let since = since.map_or(now_us, |(_, since)| *since);
            let until = since + u64::from(row.config.drain_ms) * 1_000;
            if until <= now_us {
                drained.push((*lane, cursor.epoch));
            } else {
                after.due_us = after.due_us.min(until);
                after.draining.insert(*lane, (cursor.epoch, since));
            }
        }
        // Each request copies the group: one for many partitions, not one for each.
        over.extend(drained.chunks(self.lanes_max).map(|held| drain_over(row, held)));
        after
    }
}

fn session_over(row: &GroupRow, member: &str, instance: &str) -> GroupRequest {
    GroupRequest::Leave(Leave {
        group: row.name.clone(),
        member: member.to_owned(),
        instance: instance.to_owned(),
        why: LostWhy::SessionExpired,
    })
}

fn drain_over(row: &GroupRow, held: &[(Lane, u64)]) -> GroupRequest {
    GroupRequest::Release(Release {
        group: row.name.clone(),
        held: held.to_vec(),
        commits: Vec::new(),
        why: LostWhy::DrainExpired,
    })
}
