//! What a program asks of a group: its settings, their changes, and places for
//! its cursors.

use std::time::Duration;

use bytes::Bytes;
use tillroll_proto::{
    reason::{self, key},
    v1,
};

use crate::{Error, ErrorKind, Position};

/// Who decides which partitions a reader of the group gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupMode {
    /// The server, among the members that are connected, by this rule.
    Members(AssignmentRule),
    /// The readers themselves: there are no members, and cursors move by compare
    /// and set.
    Manual,
}

/// How partitions are spread over members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AssignmentRule {
    /// Evenly, and moving as few as possible.
    Spread,
    /// Partition i of every topic to the same member. All topics have the same
    /// number of partitions.
    CoPartitioned,
    /// Everything to one member; the others stand by.
    Single,
}

/// What happens when a cursor is below the head of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BelowHead {
    /// The partition stalls until somebody sets the cursor.
    Fail,
    /// The cursor is moved to the head; that is counted and logged.
    Earliest,
}

impl GroupMode {
    pub(super) fn to_wire(self) -> (v1::GroupMode, v1::AssignmentRule) {
        match self {
            Self::Manual => (v1::GroupMode::Manual, v1::AssignmentRule::Unspecified),
            Self::Members(AssignmentRule::Spread) => (v1::GroupMode::Members, v1::AssignmentRule::Spread),
            Self::Members(AssignmentRule::CoPartitioned) => (v1::GroupMode::Members, v1::AssignmentRule::CoPartitioned),
            Self::Members(AssignmentRule::Single) => (v1::GroupMode::Members, v1::AssignmentRule::Single),
        }
    }

    pub(super) fn from_wire(mode: i32, rule: i32) -> Result<Self, Error> {
        let rule = match (v1::GroupMode::try_from(mode), v1::AssignmentRule::try_from(rule)) {
            (Ok(v1::GroupMode::Manual), _) => return Ok(Self::Manual),
            (Ok(v1::GroupMode::Members), Ok(v1::AssignmentRule::Spread)) => AssignmentRule::Spread,
            (Ok(v1::GroupMode::Members), Ok(v1::AssignmentRule::CoPartitioned)) => AssignmentRule::CoPartitioned,
            (Ok(v1::GroupMode::Members), Ok(v1::AssignmentRule::Single)) => AssignmentRule::Single,
            _ => return Err(Error::protocol(format!("a group of an unknown mode mode={mode} rule={rule}"))),
        };
        Ok(Self::Members(rule))
    }
}

impl BelowHead {
    fn to_wire(self) -> v1::BelowHead {
        match self {
            Self::Fail => v1::BelowHead::Fail,
            Self::Earliest => v1::BelowHead::Earliest,
        }
    }

    pub(super) fn from_wire(number: i32) -> Result<Self, Error> {
        match v1::BelowHead::try_from(number) {
            Ok(v1::BelowHead::Unspecified | v1::BelowHead::Fail) => Ok(Self::Fail),
            Ok(v1::BelowHead::Earliest) => Ok(Self::Earliest),
            Err(_) => Err(Error::protocol(format!("a group of an unknown policy below_head={number}"))),
        }
    }
}

/// Settings of a new group. Which topics it reads, who decides and where it
/// starts are never guessed; what else is not set has the server's default: fail
/// below the head, sessions of 10 s, drains of 30 s.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupOptions {
    /// The topics that it reads.
    pub topics: Vec<String>,
    /// Who decides which partitions a reader gets.
    pub mode: GroupMode,
    /// Where it starts in the partitions that there are when it is made; later
    /// ones start at offset 0.
    pub start: Position,
    /// What to do below the head.
    pub below_head: Option<BelowHead>,
    /// How long the partitions of a member that is gone are kept for it, at least
    /// 1 s.
    pub session: Option<Duration>,
    /// How long a member may take to finish with a partition that it has to give
    /// back.
    pub drain: Option<Duration>,
}

impl GroupOptions {
    /// A group that reads these topics from this place on.
    pub fn new(topics: impl IntoIterator<Item = impl Into<String>>, mode: GroupMode, start: Position) -> Self {
        let topics = topics.into_iter().map(Into::into).collect();
        Self { topics, mode, start, below_head: None, session: None, drain: None }
    }

    /// The same with this policy below the head.
    #[must_use]
    pub fn below_head(mut self, below_head: BelowHead) -> Self {
        self.below_head = Some(below_head);
        self
    }

    /// The same with sessions of this length, in whole milliseconds.
    #[must_use]
    pub fn session(mut self, session: Duration) -> Self {
        self.session = Some(session);
        self
    }

    /// The same with so much time to give a partition back, in whole
    /// milliseconds.
    #[must_use]
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = Some(drain);
        self
    }

    pub(super) fn into_wire(self) -> Result<v1::GroupConfig, Error> {
        let (mode, rule) = self.mode.to_wire();
        Ok(v1::GroupConfig {
            topics: self.topics,
            mode: mode.into(),
            rule: rule.into(),
            start: Some(self.start.into_wire()),
            below_head: self.below_head.map_or(0, |below_head| below_head.to_wire().into()),
            session_ms: millis("session", self.session)?,
            drain_ms: millis("drain", self.drain)?,
        })
    }
}

/// Zero stands for the default on the wire: asking for it would get 10 s or 30 s.
fn millis(field: &str, time: Option<Duration>) -> Result<u32, Error> {
    match time.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX)) {
        None => Ok(0),
        Some(0) => {
            let facts = [(key::FIELD, field.to_owned())];
            let message = format!("{field} is below a millisecond; leave it out, or say how long");
            Err(Error::refused(ErrorKind::InvalidInput, reason::FIELD_INVALID, message, &facts))
        }
        Some(millis) => Ok(millis),
    }
}

/// Changes of a group's settings; what is not set stays as it is. To pause and
/// resume it, see [`crate::Groups::pause`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupUpdate {
    /// The etag that the group must have; any unless set.
    pub etag: Option<String>,
    /// What to do below the head.
    pub below_head: Option<BelowHead>,
    /// Topics that it reads in addition, from offset 0 on.
    pub add_topics: Vec<String>,
}

impl GroupUpdate {
    /// A change of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if the group is still as it was when it had this etag.
    #[must_use]
    pub fn etag(mut self, etag: impl Into<String>) -> Self {
        self.etag = Some(etag.into());
        self
    }

    /// From now on with this policy below the head.
    #[must_use]
    pub fn below_head(mut self, below_head: BelowHead) -> Self {
        self.below_head = Some(below_head);
        self
    }

    /// Reads one more topic, from offset 0 on.
    #[must_use]
    pub fn add_topic(mut self, topic: impl Into<String>) -> Self {
        self.add_topics.push(topic.into());
        self
    }

    pub(super) fn into_wire(self, name: &str) -> v1::UpdateGroupRequest {
        v1::UpdateGroupRequest {
            name: name.to_owned(),
            etag: self.etag.unwrap_or_default(),
            paused: None,
            pause_reason: String::new(),
            below_head: self.below_head.map(|below_head| below_head.to_wire().into()),
            add_topics: self.add_topics,
        }
    }
}

/// Where the cursors of a topic are to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetCursors {
    /// The topic's name.
    pub topic: String,
    /// The partitions; all of them when there is none.
    pub partitions: Vec<u32>,
    /// Where to.
    pub to: Position,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Also when members hold the partitions, which are then lost to them.
    pub with_members: bool,
    /// Why, for the record.
    pub reason: String,
}

impl SetCursors {
    /// All cursors of a topic, to this place.
    pub fn new(topic: impl Into<String>, to: Position) -> Self {
        Self {
            topic: topic.into(),
            partitions: Vec::new(),
            to,
            dry_run: false,
            with_members: false,
            reason: String::new(),
        }
    }

    /// Only these partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = u32>) -> Self {
        self.partitions = partitions.into_iter().collect();
        self
    }

    /// Whether to say only what would happen.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Whether partitions are taken from members that hold them.
    #[must_use]
    pub fn with_members(mut self, with_members: bool) -> Self {
        self.with_members = with_members;
        self
    }

    /// The same with a reason, for the record.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    pub(super) fn into_wire(self, group: &str) -> v1::SetCursorsRequest {
        v1::SetCursorsRequest {
            group: group.to_owned(),
            topic: self.topic,
            partitions: self.partitions,
            to: Some(self.to.into_wire()),
            dry_run: self.dry_run,
            with_members: self.with_members,
            reason: self.reason,
        }
    }
}

/// Moves a group's cursor in one partition, forward. A manual group needs the
/// offset that the cursor is expected at, a group with members the epoch of the
/// assignment.
///
/// ```
/// use tillroll_client::CursorCommit;
/// let done = CursorCommit::new("mailer", "orders", 3, 42).expected_offset(17);
/// assert_eq!(done.next_offset, 42);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CursorCommit {
    /// The group's name.
    pub group: String,
    /// The topic's name.
    pub topic: String,
    /// The partition, from 0.
    pub partition: u32,
    /// The next offset to read: one behind the last that is done.
    pub next_offset: u64,
    /// The epoch under which the partition is held.
    pub assignment_epoch: Option<u64>,
    /// Where the cursor must be now.
    pub expected_offset: Option<u64>,
    /// Kept with the cursor and given back with it, at most 1 KiB.
    pub metadata: Bytes,
}

impl CursorCommit {
    /// A move of this cursor to `next_offset`.
    pub fn new(group: impl Into<String>, topic: impl Into<String>, partition: u32, next_offset: u64) -> Self {
        Self {
            group: group.into(),
            topic: topic.into(),
            partition,
            next_offset,
            assignment_epoch: None,
            expected_offset: None,
            metadata: Bytes::new(),
        }
    }

    /// Only if the cursor is here now: compare and set.
    #[must_use]
    pub fn expected_offset(mut self, offset: u64) -> Self {
        self.expected_offset = Some(offset);
        self
    }

    /// Only while the partition is held under this epoch.
    #[must_use]
    pub fn assignment_epoch(mut self, epoch: u64) -> Self {
        self.assignment_epoch = Some(epoch);
        self
    }

    /// Leaves this with the cursor.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<Bytes>) -> Self {
        self.metadata = metadata.into();
        self
    }

    pub(crate) fn into_wire(self) -> v1::CursorCommit {
        v1::CursorCommit {
            group: self.group,
            topic: self.topic,
            partition: self.partition,
            next_offset: self.next_offset,
            assignment_epoch: self.assignment_epoch,
            expected_offset: self.expected_offset,
            metadata: self.metadata,
        }
    }
}
