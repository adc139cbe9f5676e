//! Operations of consumer groups, kinds 16 to 23: what became of groups, members, assignments and cursors.

use bytes::Bytes;

use crate::{
    fields::{FieldReader, FieldWriter},
    group::{BelowHead, GroupConfig, LostWhy},
    id::{GroupId, Lane, Offset, TopicId},
};

/// Operation kinds; 24 to 31 are reserved for groups.
pub(super) mod kind {
    pub(in crate::journal) const CREATE: u16 = 16;
    pub(in crate::journal) const DELETE: u16 = 17;
    pub(in crate::journal) const CHANGE: u16 = 18;
    pub(in crate::journal) const COMMIT: u16 = 19;
    pub(in crate::journal) const SET: u16 = 20;
    pub(in crate::journal) const MEMBER: u16 = 21;
    pub(in crate::journal) const MEMBER_GONE: u16 = 22;
    pub(in crate::journal) const ASSIGN: u16 = 23;
}

/// What became of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupOp {
    /// It was created.
    Create(GroupCreate),
    /// It was deleted, with its cursors.
    Delete(GroupId),
    /// Its settings changed.
    Change(GroupSettings),
    /// A cursor moved forward.
    Commit {
        /// The group.
        group: GroupId,
        /// Topic and partition.
        lane: Lane,
        /// The next offset to read.
        next: Offset,
        /// Kept beside it.
        metadata: Bytes,
    },
    /// A cursor was set, whoever held the partition.
    Set {
        /// The group.
        group: GroupId,
        /// Topic and partition.
        lane: Lane,
        /// The next offset to read.
        next: Offset,
        /// The epoch from here on.
        epoch: u64,
        /// Why.
        reason: String,
    },
    /// A member joined, or another process took it over.
    Member {
        /// The group.
        group: GroupId,
        /// The member.
        member: String,
        /// Which process it is.
        instance: String,
        /// What it calls itself.
        client: String,
    },
    /// A member is none any more.
    MemberGone {
        /// The group.
        group: GroupId,
        /// The member.
        member: String,
    },
    /// A partition changed hands, or is about to.
    Assign {
        /// The group.
        group: GroupId,
        /// Topic and partition.
        lane: Lane,
        /// The epoch from here on.
        epoch: u64,
        /// Who holds it.
        holder: Option<String>,
        /// The holder is asked to give it back.
        is_draining: bool,
        /// Why the holder before lost it.
        lost: Option<LostWhy>,
    },
}

/// A group's creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCreate {
    /// The group.
    pub group: GroupId,
    /// Its name.
    pub name: String,
    /// How it works.
    pub config: GroupConfig,
    /// Its topics, by id and name.
    pub topics: Vec<(TopicId, String)>,
    /// Where its cursors begin.
    pub cursors: Vec<(Lane, Offset)>,
}

/// A group's settings as they are from here on, and topics that come to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// The group.
    pub group: GroupId,
    /// Why it is paused, when it is.
    pub paused: Option<String>,
    /// What happens when records are gone.
    pub below_head: BelowHead,
    /// Topics that come to it: id, name, partitions. Their cursors begin at 0.
    pub topics: Vec<(TopicId, String, u32)>,
}

impl GroupOp {
    /// The group that it is about.
    pub fn group(&self) -> GroupId {
        match self {
            Self::Create(create) => create.group,
            Self::Change(change) => change.group,
            Self::Delete(group)
            | Self::Commit { group, .. }
            | Self::Set { group, .. }
            | Self::Member { group, .. }
            | Self::MemberGone { group, .. }
            | Self::Assign { group, .. } => *group,
        }
    }

    /// Its kind.
    pub(super) fn kind(&self) -> u16 {
        match self {
            Self::Create(_) => kind::CREATE,
            Self::Delete(_) => kind::DELETE,
            Self::Change(_) => kind::CHANGE,
            Self::Commit { .. } => kind::COMMIT,
            Self::Set { .. } => kind::SET,
            Self::Member { .. } => kind::MEMBER,
            Self::MemberGone { .. } => kind::MEMBER_GONE,
            Self::Assign { .. } => kind::ASSIGN,
        }
    }

    /// Its bytes, behind the operation's header.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = FieldWriter::default();
        out.number(self.group().0);
        match self {
            Self::Delete(_) => {}
            Self::Create(create) => {
                out.text(&create.name);
                create.config.put(&mut out);
                out.count(create.topics.len());
                for (topic, name) in &create.topics {
                    out.number(topic.0).text(name);
                }
                out.count(create.cursors.len());
                for (lane, next) in &create.cursors {
                    out.lane(*lane).number(next.0);
                }
            }
            Self::Change(change) => {
                out.option(change.paused.as_deref()).byte(change.below_head as u8);
                out.count(change.topics.len());
                for (topic, name, partitions) in &change.topics {
                    out.number(topic.0).text(name).word(*partitions);
                }
            }
            Self::Commit { lane, next, metadata, .. } => {
                out.lane(*lane).number(next.0).bytes(metadata);
            }
            Self::Set { lane, next, epoch, reason, .. } => {
                out.lane(*lane).number(next.0).number(*epoch).text(reason);
            }
            Self::Member { member, instance, client, .. } => {
                out.text(member).text(instance).text(client);
            }
            Self::MemberGone { member, .. } => {
                out.text(member);
            }
            Self::Assign { lane, epoch, holder, is_draining, lost, .. } => {
                out.lane(*lane).number(*epoch).option(holder.as_deref()).truth(*is_draining);
                out.byte(LostWhy::number(*lost));
            }
        }
        out.into_bytes()
    }

    /// The operation of this kind that these bytes are, all of them; none when they are not one.
    pub(super) fn decode(kind: u16, bytes: &[u8]) -> Option<Self> {
        let mut row = FieldReader::new(bytes);
        let group = GroupId(row.number()?);
        let op = match kind {
            kind::CREATE => Self::Create(GroupCreate {
                group,
                name: row.text()?,
                config: GroupConfig::take(&mut row)?,
                topics: row.list(|row| Some((TopicId(row.number()?), row.text()?)))?,
                cursors: row.list(|row| Some((row.lane()?, Offset(row.number()?))))?,
            }),
            kind::DELETE => Self::Delete(group),
            kind::CHANGE => Self::Change(GroupSettings {
                group,
                paused: row.option()?,
                below_head: BelowHead::from_number(row.byte()?)?,
                topics: row.list(|row| Some((TopicId(row.number()?), row.text()?, row.word()?)))?,
            }),
            kind::COMMIT => Self::Commit {
                group,
                lane: row.lane()?,
                next: Offset(row.number()?),
                metadata: Bytes::copy_from_slice(row.bytes()?),
            },
            kind::SET => Self::Set {
                group,
                lane: row.lane()?,
                next: Offset(row.number()?),
                epoch: row.number()?,
                reason: row.text()?,
            },
            kind::MEMBER => Self::Member { group, member: row.text()?, instance: row.text()?, client: row.text()? },
            kind::MEMBER_GONE => Self::MemberGone { group, member: row.text()? },
            kind::ASSIGN => Self::Assign {
                group,
                lane: row.lane()?,
                epoch: row.number()?,
                holder: row.option()?,
                is_draining: row.truth()?,
                lost: LostWhy::from_field(row.byte()?)?,
            },
            _ => return None,
        };
        row.is_empty().then_some(op)
    }
}
