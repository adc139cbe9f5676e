//! The words of consumer groups: how a group shares partitions, where it stands, and what may be asked of it.
//!
//! A group has a cursor for every partition of its topics. Each partition has an assignment epoch of its own, which
//! rises when the partition changes hands or its cursor is set: whoever held it before is fenced, and nobody else is.

use std::fmt;

use crate::{
    fields::{FieldReader, FieldWriter},
    id::{Lane, Offset, Partition},
    request::{CursorCommit, Start},
};

/// Who may move a group's cursors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Members, each the partitions that it holds.
    Members = 1,
    /// Anybody, by compare and set.
    Manual = 2,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Members => "members",
            Self::Manual => "manual",
        })
    }
}

/// How members share partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// Evenly, and each member keeps what it has.
    Spread = 1,
    /// Partition i of every topic to the same member.
    CoPartitioned = 2,
    /// Everything to one member; the others stand by.
    Single = 3,
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Spread => "spread",
            Self::CoPartitioned => "co-partitioned",
            Self::Single => "single",
        })
    }
}

/// What happens when records that a cursor points to are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BelowHead {
    /// The partition stalls, and says so.
    Fail = 1,
    /// The cursor is moved to the head.
    Earliest = 2,
}

impl fmt::Display for BelowHead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Fail => "fail",
            Self::Earliest => "earliest",
        })
    }
}

/// Why a member holds a partition no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LostWhy {
    /// It gave it back.
    Released = 1,
    /// Another process has the member's id now.
    TakenOver = 2,
    /// It was away for longer than its session.
    SessionExpired = 3,
    /// It was asked for it and did not give it back in time.
    DrainExpired = 4,
    /// The cursor was set.
    CursorSet = 5,
    /// It left.
    Left = 6,
}

macro_rules! numbered {
    ($name:ident: $($arm:ident),+) => {
        impl $name {
            /// The one with this number.
            pub fn from_number(number: u8) -> Option<Self> {
                [$(Self::$arm),+].into_iter().find(|one| *one as u8 == number)
            }
        }
    };
}

numbered!(Mode: Members, Manual);
numbered!(Rule: Spread, CoPartitioned, Single);
numbered!(BelowHead: Fail, Earliest);
numbered!(LostWhy: Released, TakenOver, SessionExpired, DrainExpired, CursorSet, Left);

impl LostWhy {
    /// As a field; 0 stands for nothing.
    pub fn number(why: Option<Self>) -> u8 {
        why.map_or(0, |why| why as u8)
    }

    /// See [`LostWhy::number`].
    pub fn from_field(number: u8) -> Option<Option<Self>> {
        if number == 0 { Some(None) } else { Self::from_number(number).map(Some) }
    }
}

/// How a group works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Who moves cursors.
    pub mode: Mode,
    /// How members share partitions; none for a manual group.
    pub rule: Option<Rule>,
    /// Where the cursors began.
    pub start: Start,
    /// What happens when records are gone.
    pub below_head: BelowHead,
    /// A member that is away keeps its partitions so long, in milliseconds.
    pub session_ms: u32,
    /// A member that is asked for a partition may finish for so long, in milliseconds.
    pub drain_ms: u32,
}

impl GroupConfig {
    /// Writes it.
    pub(crate) fn put(&self, out: &mut FieldWriter) {
        out.byte(self.mode as u8).byte(self.rule.map_or(0, |rule| rule as u8)).byte(self.below_head as u8);
        out.word(self.session_ms).word(self.drain_ms);
        let (kind, number) = match self.start {
            Start::Earliest => (1, 0),
            Start::Latest => (2, 0),
            Start::Offset(offset) => (3, offset.0),
            Start::AppendTime(time_us) => (4, time_us.cast_unsigned()),
            Start::Last(count) => (5, count),
        };
        out.byte(kind).number(number);
    }

    /// Reads it.
    pub(crate) fn take(row: &mut FieldReader<'_>) -> Option<Self> {
        let mode = Mode::from_number(row.byte()?)?;
        let rule = match row.byte()? {
            0 => None,
            number => Some(Rule::from_number(number)?),
        };
        let below_head = BelowHead::from_number(row.byte()?)?;
        let (session_ms, drain_ms) = (row.word()?, row.word()?);
        let start = match (row.byte()?, row.number()?) {
            (1, 0) => Start::Earliest,
            (2, 0) => Start::Latest,
            (3, offset) => Start::Offset(Offset(offset)),
            (4, time_us) => Start::AppendTime(time_us.cast_signed()),
            (5, count) => Start::Last(count),
            _ => return None,
        };
        Some(Self { mode, rule, start, below_head, session_ms, drain_ms })
    }
}

/// A group to be created. The engine looks up where `config.start` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGroup {
    /// Its name.
    pub name: String,
    /// Its topics, by name.
    pub topics: Vec<String>,
    /// How it works.
    pub config: GroupConfig,
}

/// A member that joins, or comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The group's name.
    pub group: String,
    /// Who it is, over restarts of its process.
    pub member: String,
    /// Which process it is.
    pub instance: String,
    /// What it calls itself, for people.
    pub client: String,
    /// It was a member before: when another process has its name by now, it is refused.
    pub comes_back: bool,
}

/// What became of a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The same process was a member already, and keeps what it held.
    pub resumed: bool,
    /// See [`GroupConfig::session_ms`].
    pub session_ms: u32,
    /// See [`GroupConfig::drain_ms`].
    pub drain_ms: u32,
}

/// A member's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// The group's name.
    pub group: String,
    /// The member.
    pub member: String,
    /// Only this process of it; a later one stays.
    pub instance: String,
    /// It left by itself, or its session ended.
    pub why: LostWhy,
}

/// Partitions that are given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The group's name.
    pub group: String,
    /// Topic, partition and the epoch under which it was held.
    pub held: Vec<(Lane, u64)>,
    /// Cursors that move in the same frame.
    pub commits: Vec<CursorCommit>,
    /// Given back, or taken because the time was over.
    pub why: LostWhy,
}

/// Cursors that are set, also backwards; every epoch that it touches rises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCursors {
    /// The group's name.
    pub group: String,
    /// The topic's name.
    pub topic: String,
    /// Partitions and where their cursors go.
    pub to: Vec<(Partition, Offset)>,
    /// Only say what would be.
    pub dry_run: bool,
    /// Also when members hold them.
    pub with_members: bool,
    /// Why, for whoever looks later.
    pub reason: String,
}

/// A cursor that was set, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorMove {
    /// The partition.
    pub partition: Partition,
    /// Where it was.
    pub from: Offset,
    /// Where it is.
    pub to: Offset,
}

/// Changes of a group; what is not given stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupChange {
    /// The group's name.
    pub group: String,
    /// The version that the change was made for; none: whatever stands.
    pub version: Option<u64>,
    /// Pause or resume.
    pub paused: Option<bool>,
    /// Why it is paused.
    pub pause_reason: String,
    /// What happens when records are gone.
    pub below_head: Option<BelowHead>,
    /// Topics that come to it, by name; their cursors start at 0.
    pub add_topics: Vec<String>,
}
