//! What the engine reports to the operator: states that no caller's answer carries.
//!
//! Stages push typed facts; the server takes them out of the [`ring`] and logs them. The engine formats nothing on the
//! way in, knows no logger and never waits for the reader.
//!
//! A new kind of notice is one variant of [`Notice`] and one arm of [`Notice::told`].

use crate::id::{Lane, Lsn, Offset};

mod ring;

pub use ring::{Lack, Notices, Taken};

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know: something healed, or a start did what it should.
    Info,
    /// Something is short or was lost; the broker goes on.
    Warn,
    /// Requests are refused, or data cannot be read.
    Error,
}

/// Why a member is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It left.
    Left,
    /// It was not heard of for its session.
    Silent,
    /// It held no partition; one or the other.
    HeldNothing,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Free space fell below twice what appends need.
    DiskLow {
        /// Bytes that are free.
        free: u64,
        /// Bytes below which appends are refused.
        needed: u64,
    },
    /// Appends are refused: the disk is full.
    DiskFull {
        /// Bytes that are free.
        free: u64,
        /// Bytes below which appends are refused.
        needed: u64,
    },
    /// There is space again.
    DiskRelieved {
        /// Bytes that are free.
        free: u64,
    },
    /// Appends are refused: no journal file can be reused before a checkpoint.
    JournalFull {
        /// Files in use.
        files: u32,
        /// Files that there may be.
        files_max: u32,
    },
    /// A checkpoint has given journal files back.
    JournalRelieved {
        /// Files in use.
        files: u32,
    },
    /// A write or a sync failed: writes are refused until the broker starts again.
    WritesOff {
        /// What was being done.
        action: &'static str,
        /// On which file.
        file: String,
        /// The system's words.
        cause: String,
    },
    /// A read found damage. Reported once for each file.
    Damaged {
        /// Topic and partition.
        lane: Lane,
        /// First offset that cannot be read.
        from: Offset,
        /// Offset behind the last one that cannot be read.
        to: Offset,
        /// The file.
        file: String,
        /// What was found.
        fault: String,
    },
    /// The system failed to read a file. Reported once for each file.
    ReadFailed {
        /// Topic and partition.
        lane: Lane,
        /// The file.
        file: String,
        /// The system's words.
        cause: String,
    },
    /// A file could not be made, opened or extended for lack of something. It is tried again.
    Lacking {
        /// Which stage.
        stage: &'static str,
        /// The file.
        file: String,
        /// The system's words.
        cause: String,
    },
    /// What was lacking is there again.
    Healed {
        /// Which stage.
        stage: &'static str,
        /// The file.
        file: String,
    },
    /// The start read frames again that no checkpoint stood for.
    Replayed {
        /// How many frames.
        frames: u64,
        /// How long it took.
        duration_us: u64,
    },
    /// The start dropped bytes behind the last whole write batch of the journal.
    Dropped {
        /// How many bytes.
        bytes: u64,
        /// Where a copy of them is.
        copy: Option<String>,
        /// Whether acknowledged records may be among them.
        possible_loss: bool,
    },
    /// The start found damage, or files that do not belong there.
    Finding {
        /// What was found, with the next step.
        text: String,
    },
    /// What callers changed.
    Changed(Change),
    /// The system's clock jumped.
    ClockJumped {
        /// By how much, in microseconds; negative: backwards.
        by_us: i64,
        /// How far append times are ahead of the clock now, in microseconds: they stand still for so long.
        ahead_us: i64,
    },
    /// A stop ended before everything was checkpointed.
    StopGivenUp {
        /// Frames that the next start replays.
        frames: u64,
        /// The last frame that is durable.
        durable: Lsn,
        /// Partitions with records that are in no segment yet.
        partitions: u64,
    },
}

/// What callers changed that an operator should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A topic was deleted.
    TopicDeleted {
        /// Its name.
        topic: String,
    },
    /// A consumer group was created.
    GroupCreated {
        /// Its name.
        group: String,
        /// What it reads.
        topics: Vec<String>,
    },
    /// A consumer group was deleted, with its cursors.
    GroupDeleted {
        /// Its name.
        group: String,
    },
    /// A member joined a group.
    MemberJoined {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// What it says of itself.
        client: String,
    },
    /// Another process took a member over.
    MemberTakenOver {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// What the new process says of itself.
        client: String,
    },
    /// A member is none any more.
    MemberGone {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// Why.
        why: Gone,
    },
    /// A member was asked for a partition and did not give it back in time.
    PartitionTaken {
        /// The group.
        group: String,
        /// The member.
        member: String,
        /// Topic and partition.
        lane: Lane,
    },
    /// Cursors of a group were set by hand.
    CursorsSet {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// In how many partitions.
        partitions: u32,
        /// Why, as was said.
        reason: String,
    },
}

impl Notice {
    /// How much it matters, and what it says.
    pub fn told(&self) -> (Severity, String) {
        use Severity::{Error, Info, Warn};
        match self {
            Self::DiskLow { free, needed } => {
                (Warn, format!("disk space is low: free={free} bytes, appends are refused below {needed}; free some"))
            }
            Self::DiskFull { free, needed } => (
                Error,
                format!("the disk is full: free={free} bytes, appends need {needed}; they are refused until then"),
            ),
            Self::DiskRelieved { free } => (Info, format!("there is disk space again: free={free} bytes")),
            Self::JournalFull { files, files_max } => {
                let text = format!("the journal is full: {files} of {files_max} files; appends wait for a checkpoint");
                (Error, text)
            }
            Self::JournalRelieved { files } => (Info, format!("the journal has room again: {files} files in use")),
            Self::WritesOff { action, file, cause } => {
                let next = "reads go on. Mend the disk, then start the broker again";
                (Error, format!("writes are off: {action} failed on {file}: {cause}; {next}"))
            }
            Self::Damaged { lane, from, to, file, fault } => {
                let range = format!("offsets {from} to {} of {lane}", to.get().saturating_sub(1));
                (Error, format!("{range} cannot be read: {file}: {fault}; put the file back from a copy"))
            }
            Self::ReadFailed { lane, file, cause } => {
                (Error, format!("reading {file} of {lane} failed: {cause}; look at the disk"))
            }
            Self::Lacking { stage, file, cause } => {
                (Error, format!("{stage} cannot go on: {file}: {cause}; nothing is lost, it is tried again"))
            }
            Self::Healed { stage, file } => (Info, format!("{stage} goes on: {file} is no longer held up")),
            Self::Replayed { frames, duration_us } => {
                let tenths = duration_us / 100_000;
                let (seconds, tenth) = (tenths / 10, tenths % 10);
                (Info, format!("{frames} frames of the journal replayed in {seconds}.{tenth} s"))
            }
            Self::Dropped { bytes, copy, possible_loss } => {
                let copy = copy.as_ref().map_or_else(String::new, |file| format!(" (a copy is in {file})"));
                let acked = if *possible_loss {
                    "a kill leaves only what was never acknowledged; after a power cut, acknowledged records may be \
                     among them"
                } else {
                    "they were never acknowledged"
                };
                let text = format!("{bytes} bytes behind the last whole write batch of the journal are dropped{copy}");
                (Warn, format!("{text}: {acked}"))
            }
            Self::Finding { text } => (Warn, text.clone()),
            Self::Changed(change) => change.told(),
            Self::ClockJumped { by_us, ahead_us } => jump(*by_us, *ahead_us),
            Self::StopGivenUp { frames, durable, partitions } => (
                Warn,
                format!(
                    "the stop did not wait for the last checkpoint: {frames} frames up to {durable}, {partitions} \
                     partitions; nothing is lost, the next start replays them"
                ),
            ),
        }
    }
}

impl Change {
    fn told(&self) -> (Severity, String) {
        use Severity::{Info, Warn};
        match self {
            Self::TopicDeleted { topic } => (Info, format!("topic {topic} was deleted")),
            Self::GroupCreated { group, topics } => {
                (Info, format!("group {group} was created: it reads {}", topics.join(" ")))
            }
            Self::GroupDeleted { group } => (Info, format!("group {group} was deleted with its cursors")),
            Self::MemberJoined { group, member, client } => {
                (Info, format!("member {member} joined group {group}: {client}"))
            }
            Self::MemberTakenOver { group, member, client } => {
                (Warn, format!("member {member} of group {group} was taken over by another process: {client}"))
            }
            Self::MemberGone { group, member, why: Gone::Left } => {
                (Info, format!("member {member} left group {group}"))
            }
            Self::MemberGone { group, member, why: Gone::HeldNothing } => {
                (Info, format!("member {member} of group {group} is gone; it held no partition"))
            }
            Self::MemberGone { group, member, why: Gone::Silent } => {
                let text = format!("member {member} of group {group} was silent for its session and is lost");
                (Warn, format!("{text}: others get its partitions"))
            }
            Self::PartitionTaken { group, member, lane } => {
                let text = format!("partition {lane} was taken from member {member} of group {group}");
                (Warn, format!("{text}: it was asked for it and did not give it back in time"))
            }
            Self::CursorsSet { group, topic, partitions, reason } => {
                let reason = if reason.is_empty() { "no reason was given" } else { reason };
                (Info, format!("cursors of group {group} were set in {partitions} partitions of {topic}: {reason}"))
            }
        }
    }
}

fn jump(by_us: i64, ahead_us: i64) -> (Severity, String) {
    let (by, ahead) = (by_us / 1_000_000, ahead_us / 1_000_000);
    let stands = match ahead {
        0 => "append times go on with it".to_owned(),
        _ => format!("append times are {ahead} s ahead of it and stand still until it is there"),
    };
    (Severity::Warn, format!("the system's clock jumped by {by} s: {stands}"))
}
