//! A consumer group as it stands, and what its operations do to it.
//!
//! The row changes by operations alone, in the applied tables and in the overlay of `sequence` by the same function: a
//! restart finds members, epochs and cursors as they were.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    fields::{FieldReader, FieldWriter},
    group::{GroupConfig, LostWhy},
    id::{GroupId, Lane, Lsn, Offset, Partition, TopicId},
    journal::group_op::{GroupCreate, GroupOp},
    table::row::Row,
};

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// Its id.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// How it works.
    pub config: GroupConfig,
    /// The number of the frame that changed its settings last: no version is used twice under one name.
    pub version: u64,
    /// Why it is paused, when it is.
    pub paused: Option<String>,
    /// Its topics in the order of their coming, by id and the name that each had.
    pub topics: Vec<(TopicId, String)>,
    /// Its members by their ids.
    pub members: BTreeMap<String, MemberRow>,
    /// Where it stands.
    pub cursors: BTreeMap<Lane, CursorRow>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// Which process it is.
    pub instance: String,
    /// What it calls itself.
    pub client: String,
    /// When it joined, in microseconds.
    pub joined_us: i64,
}

/// A group's place in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CursorRow {
    /// The next offset to read.
    pub next: Offset,
    /// The number of the frame that gave the partition to its holder, set the cursor, or created it. No epoch is used
    /// twice, not even when the group is deleted and created again.
    pub epoch: u64,
    /// The member that holds it.
    pub holder: Option<String>,
    /// The holder is asked to give it back.
    pub is_draining: bool,
    /// Why the holder before lost it.
    pub lost: Option<LostWhy>,
    /// What was committed beside the offset.
    pub metadata: Bytes,
    /// When it was committed last, in microseconds; 0: never.
    pub committed_us: i64,
}

impl CursorRow {
    /// Whether this member holds it under this epoch.
    pub fn is_held(&self, epoch: u64) -> bool {
        self.holder.is_some() && self.epoch == epoch
    }
}

impl GroupRow {
    /// A group as the frame `lsn` creates it.
    pub fn new(create: &GroupCreate, lsn: Lsn) -> Self {
        let epoch = if cfg!(bug = "epochs_restart") { 0 } else { lsn.get() };
        let cursor = |&(lane, next): &(Lane, Offset)| (lane, CursorRow { next, epoch, ..CursorRow::default() });
        Self {
            id: create.group,
            name: create.name.clone(),
            config: create.config.clone(),
            version: lsn.get(),
            paused: None,
            topics: create.topics.clone(),
            members: BTreeMap::new(),
            cursors: create.cursors.iter().map(cursor).collect(),
        }
    }

    /// Whether it has a cursor in a topic.
    pub fn reads(&self, topic: TopicId) -> bool {
        let first = Lane { topic, partition: Partition(0) };
        self.cursors.range(first..).next().is_some_and(|(lane, _)| lane.topic == topic)
    }

    /// A topic that this group reads, by the name that it had.
    pub fn topic(&self, name: &str) -> Option<TopicId> {
        self.topics.iter().rev().find(|(_, known)| known == name).map(|(id, _)| *id)
    }

    /// What an operation of the frame `lsn` does. One that names a lane or member that is gone does nothing.
    pub fn apply(&mut self, op: &GroupOp, lsn: Lsn, time_us: i64) {
        match op {
            GroupOp::Create(_) | GroupOp::Delete(_) => {}
            GroupOp::Change(change) => {
                self.version = lsn.get();
                self.paused.clone_from(&change.paused);
                self.config.below_head = change.below_head;
                for (topic, name, partitions) in &change.topics {
                    self.topics.retain(|(_, known)| known != name);
                    self.topics.push((*topic, name.clone()));
                    for partition in 0..*partitions {
                        let lane = Lane { topic: *topic, partition: Partition(partition) };
                        let begins = CursorRow { epoch: lsn.get(), ..CursorRow::default() };
                        self.cursors.entry(lane).or_insert(begins);
                    }
                }
            }
            GroupOp::Commit { lane, next, metadata, .. } => {
                if let Some(cursor) = self.cursors.get_mut(lane).filter(|_| !cfg!(bug = "commits_left_out")) {
                    (cursor.next, cursor.metadata, cursor.committed_us) = (*next, metadata.clone(), time_us);
                }
            }
            GroupOp::Set { lane, next, epoch, .. } => {
                if let Some(cursor) = self.cursors.get_mut(lane) {
                    (cursor.next, cursor.epoch, cursor.is_draining) = (*next, *epoch, false);
                    cursor.lost = cursor.holder.take().map(|_| LostWhy::CursorSet);
                }
            }
            GroupOp::Member { member, instance, client, .. } => {
                let (instance, client) = (instance.clone(), client.clone());
                self.members.insert(member.clone(), MemberRow { instance, client, joined_us: time_us });
            }
            GroupOp::MemberGone { member, .. } => {
                self.members.remove(member);
            }
            GroupOp::Assign { lane, epoch, holder, is_draining, lost, .. } => {
                if let Some(cursor) = self.cursors.get_mut(lane) {
                    let epoch = if cfg!(bug = "epochs_restart") { cursor.epoch + 1 } else { *epoch };
                    (cursor.epoch, cursor.is_draining, cursor.lost) = (epoch, *is_draining, *lost);
                    cursor.holder.clone_from(holder);
                }
            }
        }
    }

    /// A topic is gone, and with it what the group knew of it. The name stays: it has to be started anew.
    pub fn forget_topic(&mut self, topic: TopicId) {
        self.cursors.retain(|lane, _| lane.topic != topic);
    }
}

impl Row for GroupRow {
    const TABLE: u8 = 5;

    fn write(&self, out: &mut FieldWriter) {
        out.number(self.id.0).text(&self.name).number(self.version);
        self.config.put(out);
        out.option(self.paused.as_deref());
        out.count(self.topics.len());
        for (topic, name) in &self.topics {
            out.number(topic.0).text(name);
        }
        out.count(self.members.len());
        for (member, row) in &self.members {
            out.text(member).text(&row.instance).text(&row.client).time(row.joined_us);
        }
        out.count(self.cursors.len());
        for (lane, cursor) in &self.cursors {
            out.lane(*lane).number(cursor.next.0).number(cursor.epoch);
            out.option(cursor.holder.as_deref());
            out.truth(cursor.is_draining).byte(LostWhy::number(cursor.lost));
            out.bytes(&cursor.metadata).time(cursor.committed_us);
        }
    }

    fn read(row: &mut FieldReader<'_>) -> Option<Self> {
        let member = |row: &mut FieldReader<'_>| {
            let id = row.text()?;
            Some((id, MemberRow { instance: row.text()?, client: row.text()?, joined_us: row.time()? }))
        };
        let cursor = |row: &mut FieldReader<'_>| {
            let lane = row.lane()?;
            let cursor = CursorRow {
                next: Offset(row.number()?),
                epoch: row.number()?,
                holder: row.option()?,
                is_draining: row.truth()?,
                lost: LostWhy::from_field(row.byte()?)?,
                metadata: Bytes::copy_from_slice(row.bytes()?),
                committed_us: row.time()?,
            };
            Some((lane, cursor))
        };
        let (id, name, version) = (GroupId(row.number()?), row.text()?, row.number()?);
        Some(Self {
            id,
            name,
            version,
            config: GroupConfig::take(row)?,
            paused: row.option()?,
            topics: row.list(|row| Some((TopicId(row.number()?), row.text()?)))?,
            members: row.list(member)?,
            cursors: row.list(cursor)?,
        })
    }
}
