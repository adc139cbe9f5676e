//! The words for places and things: one newtype per idea, so that an offset can never be passed for an LSN.
//!
//! All are counted from 0 unless said otherwise, none is ever reused, and ranges are half-open.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $raw);

        impl $name {
            /// The bare number, for encoding and for arithmetic that leaves the idea.
            pub const fn get(self) -> $raw {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A topic's identity. A re-created name gets a new one. Counted from 1.
    TopicId(u64)
}
number! {
    /// A producer's identity. Counted from 1.
    ProducerId(u64)
}
number! {
    /// A consumer group's identity. A re-created name gets a new one. Counted from 1.
    GroupId(u64)
}
number! {
    /// A segment's identity, in its file headers and in the tables. Counted from 1.
    SegmentId(u64)
}
number! {
    /// One ordered lane of a topic.
    Partition(u32)
}
number! {
    /// A record's number in its partition, from 0, dense.
    Offset(u64)
}
number! {
    /// A frame's number in the journal, from 1. 0 stands for "before the first frame".
    Lsn(u64)
}
number! {
    /// Rises at every open for writing, durably, before the first frame of that run.
    Incarnation(u64)
}

impl Offset {
    /// The offset `records` further on.
    #[must_use]
    pub const fn plus(self, records: u64) -> Self {
        Self(self.0 + records)
    }

    /// How many records lie in `start..self`; 0 when `start` is not before `self`.
    pub const fn since(self, start: Self) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

impl Lsn {
    /// The next frame's number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl TopicId {
    /// Reads the form that [`TopicId::hex`] writes.
    pub fn from_hex(text: &str) -> Option<Self> {
        (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }

    /// 16 hex digits, as in the data directory and on the wire.
    pub fn hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// A partition of a topic: what offsets count in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The topic.
    pub topic: TopicId,
    /// The partition of it.
    pub partition: Partition,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic.hex(), self.partition)
    }
}

/// A 16-byte identity drawn once: of a cluster, of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uid(pub [u8; 16]);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
