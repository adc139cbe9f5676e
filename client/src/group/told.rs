//! What a program is told of a group: its settings, members and cursors, moves
//! of cursors, and what holds it up.

use std::time::Duration;

use bytes::Bytes;
use tillroll_proto::v1;

use crate::{BelowHead, Error, GroupMode, Position};

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// The topics that it reads.
    pub topics: Vec<String>,
    /// Who decides which partitions a reader gets.
    pub mode: GroupMode,
    /// Where it started.
    pub start: Position,
    /// What happens below the head.
    pub below_head: BelowHead,
    /// How long the partitions of a member that is gone are kept for it.
    pub session: Duration,
    /// How long a member may take to finish with a partition that it has to give
    /// back.
    pub drain: Duration,
    /// Changes with every change of the settings.
    pub etag: String,
    /// Why it is paused, as the operator said; none when it is not.
    pub paused: Option<String>,
    /// Its members.
    pub members: Vec<MemberInfo>,
    /// Its cursors, one for each partition of its topics.
    pub cursors: Vec<CursorInfo>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// Its name; the same over restarts of its process.
    pub member_id: String,
    /// The name of its process; new for each start.
    pub instance_id: String,
    /// What it says of its program, and its address.
    pub client: String,
    /// When it joined, in microseconds since 1970 UTC.
    pub joined_time_us: i64,
    /// Its stream is open.
    pub connected: bool,
    /// What it holds.
    pub assignments: Vec<Assignment>,
}

/// A partition that a member holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assignment {
    /// The topic's name.
    pub topic: String,
    /// The partition, from 0.
    pub partition: u32,
    /// Rises only when this partition changes hands or its cursor is set.
    pub assignment_epoch: u64,
    /// The cursor: the next offset that the member gets.
    pub next_offset: u64,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CursorInfo {
    /// The topic's name.
    pub topic: String,
    /// The partition, from 0.
    pub partition: u32,
    /// The next offset to read.
    pub next_offset: u64,
    /// How many records are waiting.
    pub lag_records: u64,
    /// How long the record at the cursor has been waiting, in milliseconds, at
    /// least 1; 0 when caught up, or unknown since the record cannot be read.
    pub lag_ms: u64,
    /// What the last cursor commit left here.
    pub metadata: Bytes,
    /// When the cursor was last committed, in microseconds since 1970 UTC; 0 when
    /// it never was.
    pub committed_time_us: i64,
    /// The member that holds the partition; none when it is free.
    pub holder: Option<String>,
}

/// A cursor that was set, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CursorMove {
    /// The partition, from 0.
    pub partition: u32,
    /// Where it was.
    pub from_offset: u64,
    /// Where it is now.
    pub to_offset: u64,
    /// Records that the group will not see.
    pub skipped_records: u64,
    /// Records that the group will see again.
    pub repeated_records: u64,
}

/// Why a group does or does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupExplanation {
    /// In one sentence.
    pub summary: String,
    /// In detail.
    pub findings: Vec<Finding>,
}

/// Something that holds a group up, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// In one word, such as `PAUSED`, `NO_MEMBERS` or `CAUGHT_UP`. There may be
    /// others with later servers.
    pub reason: String,
    /// The topic; none when it is about the whole group.
    pub topic: Option<String>,
    /// The partition; none when it is about the whole topic.
    pub partition: Option<u32>,
    /// What was found, in words.
    pub text: String,
    /// What to do about it; empty when there is nothing to do.
    pub next_step: String,
}

impl GroupInfo {
    /// How many records are waiting, over all cursors.
    pub fn lag_records(&self) -> u64 {
        self.cursors.iter().map(|cursor| cursor.lag_records).sum()
    }

    /// How long the record that has been waiting longest has been waiting, in
    /// milliseconds.
    pub fn lag_ms(&self) -> u64 {
        self.cursors.iter().map(|cursor| cursor.lag_ms).max().unwrap_or(0)
    }

    /// Takes all cursors instead of the first ones, and what members hold with them.
    pub(super) fn hold(&mut self, cursors: Vec<v1::Cursor>) {
        self.members.iter_mut().for_each(|member| member.assignments.clear());
        for cursor in &cursors {
            if let Some(holder) = self.members.iter_mut().find(|member| member.member_id == cursor.holder) {
                holder.assignments.push(Assignment {
                    topic: cursor.topic.clone(),
                    partition: cursor.partition,
                    assignment_epoch: cursor.assignment_epoch,
                    next_offset: cursor.next_offset,
                });
            }
        }
        self.cursors = cursors.into_iter().map(CursorInfo::from_wire).collect();
    }

    pub(super) fn from_wire(wire: Option<v1::Group>) -> Result<Self, Error> {
        let wire = wire.ok_or_else(|| Error::protocol("an answer without its group"))?;
        let config = wire.config.ok_or_else(|| Error::protocol("a group without its settings"))?;
        Ok(Self {
            name: wire.name,
            topics: config.topics,
            mode: GroupMode::from_wire(config.mode, config.rule)?,
            start: Position::from_wire(config.start)?,
            below_head: BelowHead::from_wire(config.below_head)?,
            session: Duration::from_millis(config.session_ms.into()),
            drain: Duration::from_millis(config.drain_ms.into()),
            etag: wire.etag,
            paused: wire.paused.then_some(wire.pause_reason),
            members: wire.members.into_iter().map(MemberInfo::from_wire).collect(),
            cursors: wire.cursors.into_iter().map(CursorInfo::from_wire).collect(),
        })
    }
}

impl MemberInfo {
    fn from_wire(wire: v1::Member) -> Self {
        Self {
            member_id: wire.member_id,
            instance_id: wire.instance_id,
            client: wire.client,
            joined_time_us: wire.joined_time_us,
            connected: wire.connected,
            assignments: wire.assignments.into_iter().map(Assignment::from_wire).collect(),
        }
    }
}

impl Assignment {
    fn from_wire(wire: v1::Assignment) -> Self {
        Self {
            topic: wire.topic,
            partition: wire.partition,
            assignment_epoch: wire.assignment_epoch,
            next_offset: wire.next_offset,
        }
    }
}

impl CursorInfo {
    pub(super) fn from_wire(wire: v1::Cursor) -> Self {
        Self {
            topic: wire.topic,
            partition: wire.partition,
            next_offset: wire.next_offset,
            lag_records: wire.lag_records,
            lag_ms: wire.lag_ms,
            metadata: wire.metadata,
            committed_time_us: wire.committed_time_us,
            holder: said(wire.holder),
        }
    }
}

impl CursorMove {
    pub(super) fn from_wire(wire: v1::CursorMove) -> Self {
        Self {
            partition: wire.partition,
            from_offset: wire.from_offset,
            to_offset: wire.to_offset,
            skipped_records: wire.skipped_records,
            repeated_records: wire.repeated_records,
        }
    }
}

impl GroupExplanation {
    pub(super) fn from_wire(wire: v1::ExplainGroupResponse) -> Self {
        let findings = wire.findings.into_iter().map(|finding| Finding {
            reason: finding.reason,
            topic: said(finding.topic),
            partition: finding.partition,
            text: finding.text,
            next_step: finding.next_step,
        });
        Self { summary: wire.summary, findings: findings.collect() }
    }
}

/// The wire leaves a text empty where there is none.
fn said(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
