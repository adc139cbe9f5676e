//! Timers of consumer groups: a member that is away for longer than its session loses what it holds, and a partition
//! that is not given back in time is taken.
//!
//! A clock only ever frees a partition, and by a frame; what counts is the epoch. Times run from the moment at which
//! the absence or the drain was first seen by this process, so a restart begins them anew. Nothing here is durable.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    admit::GroupRequest,
    group::{Leave, LostWhy, Release},
    id::{GroupId, Lane},
    presence::Presence,
    sequence::decide::View,
    table::group::GroupRow,
};

/// What runs.
pub(super) struct Absence {
    presence: Arc<Presence>,
    /// Members that are away: the process, and since when.
    away: BTreeMap<(GroupId, String), (String, u64)>,
    /// Partitions that are asked back: under which epoch, and since when.
    draining: BTreeMap<(GroupId, Lane), (u64, u64)>,
    /// When something is over; at the start everything is looked at.
    due_us: u64,
}

impl Absence {
    /// Nothing runs yet.
    pub(super) fn new(presence: Arc<Presence>) -> Self {
        Self { presence, away: BTreeMap::new(), draining: BTreeMap::new(), due_us: 0 }
    }

    /// A group changed in a way that may start or end a timer.
    pub(super) fn look_again(&mut self) {
        self.due_us = 0;
    }

    /// When to look again, in microseconds of the monotonic clock.
    pub(super) fn due_us(&self) -> u64 {
        self.due_us
    }

    /// Whether it is worth a look now.
    pub(super) fn is_due(&self, now_us: u64) -> bool {
        now_us >= self.due_us || self.presence.take_changed()
    }

    /// What is over now: what has to happen, one request after the other.
    pub(super) fn over(&mut self, view: View<'_>, now_us: u64) -> Vec<GroupRequest> {
        let (mut over, mut due_us) = (Vec::new(), u64::MAX);
        let (mut away, mut draining) = (BTreeMap::new(), BTreeMap::new());
        for row in view.ahead.groups(view.applied).filter(|row| !row.members.is_empty()) {
            for (member, known) in &row.members {
                let who = (row.id, member.clone(), known.instance.clone());
                if self.presence.is_here(&who) {
                    continue;
                }
                let (group, member, instance) = who;
                let key = (group, member);
                let since = self.away.get(&key).filter(|(process, _)| *process == instance).map(|(_, since)| *since);
                let since = since.unwrap_or(now_us);
                let until = since + u64::from(row.config.session_ms) * 1_000;
                if until <= now_us {
                    over.push(session_over(row, &key.1, &instance));
                } else {
                    due_us = due_us.min(until);
                    away.insert(key, (instance, since));
                }
            }
            for (lane, cursor) in row.cursors.iter().filter(|(_, cursor)| cursor.is_draining) {
                let key = (row.id, *lane);
                let since =
                    self.draining.get(&key).filter(|(epoch, _)| *epoch == cursor.epoch).map(|(_, since)| *since);
                let since = since.unwrap_or(now_us);
                let until = since + u64::from(row.config.drain_ms) * 1_000;
                if until <= now_us {
                    over.push(drain_over(row, *lane, cursor.epoch));
                } else {
                    due_us = due_us.min(until);
                    draining.insert(key, (cursor.epoch, since));
                }
            }
        }
        (self.away, self.draining, self.due_us) = (away, draining, due_us);
        over
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

fn drain_over(row: &GroupRow, lane: Lane, epoch: u64) -> GroupRequest {
    GroupRequest::Release(Release {
        group: row.name.clone(),
        held: vec![(lane, epoch)],
        commits: Vec::new(),
        why: LostWhy::DrainExpired,
    })
}
