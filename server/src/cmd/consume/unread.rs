//! Partitions that cannot be read up to their ends, such as for damaged data, and whether everything else is read:
//! whoever consumes up to the end must not be told that it is reached.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tillroll_client::{Error, GroupInfo, HeldPartition};

use crate::cmd::{fail::Failure, out::counted};

/// A partition.
type Place = (Arc<str>, u32);

/// See the head of this file.
#[derive(Default)]
pub(super) struct Unread {
    /// What cannot be read, and why.
    stalled: BTreeMap<Place, Error>,
    /// Where partitions of the group ended when the first of them could not be read.
    ends: BTreeMap<Place, u64>,
}

impl Unread {
    /// Everything can be read.
    pub(super) fn is_empty(&self) -> bool {
        self.stalled.is_empty()
    }

    /// A partition cannot be read on.
    pub(super) fn stalls(&mut self, group: &GroupInfo, partition: HeldPartition, error: Error) {
        if self.stalled.is_empty() {
            let end = |at: &tillroll_client::CursorInfo| {
                ((Arc::from(at.topic.as_str()), at.partition), at.next_offset + at.lag_records)
            };
            self.ends = group.cursors.iter().map(end).collect();
        }
        self.stalled.insert((partition.topic, partition.partition), error);
    }

    /// Records of a partition came.
    pub(super) fn goes_on(&mut self, topic: &Arc<str>, partition: u32) {
        if !self.stalled.is_empty() {
            self.stalled.remove(&(Arc::clone(topic), partition));
        }
    }

    /// Why the end cannot be reached, once everything that can be read of what is held is printed.
    pub(super) fn all_else_is_read(&self, group: &str, held: &[HeldPartition]) -> Option<Failure> {
        let places: BTreeSet<Place> = held.iter().map(|held| (Arc::clone(&held.topic), held.partition)).collect();
        let mut stalled = self.stalled.iter().filter(|(place, _)| places.contains(*place));
        let ((topic, partition), error) = stalled.next()?;
        let further = stalled.count() as u64;
        let is_read = |held: &HeldPartition| {
            let place = (Arc::clone(&held.topic), held.partition);
            self.stalled.contains_key(&place) || self.ends.get(&place).is_none_or(|end| held.next_offset >= *end)
        };
        if !held.iter().all(is_read) {
            return None;
        }
        let at = held.iter().find(|held| held.topic == *topic && held.partition == *partition)?.next_offset;
        let end = self.ends.get(&(Arc::clone(topic), *partition)).copied().unwrap_or(at);
        let records = counted(end.saturating_sub(at), "record");
        let more = match further {
            0 => String::new(),
            further => format!(", nor are {} more", counted(further, "partition")),
        };
        let message = format!(
            "{topic}/{partition} is not read to its end: from offset {at} on {records} are unread{more}: {}",
            error.message()
        );
        let behind =
            error.number("to").or(error.number("head")).map_or("offset:N".to_owned(), |to| format!("offset:{to}"));
        let hint = format!(
            "when these can be done without, go on behind them: tillroll group set-cursor {group} --topic {topic} \
             --partition {partition} --to {behind}"
        );
        Some(Failure::from(error.clone()).message(message).hint(hint))
    }
}
