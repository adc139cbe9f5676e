//! S11, quiet: every group has read every partition of its topics to the end.

use super::{
    super::payload::group,
    flow,
    place::Place,
    verdict::{Findings, Invariant::S11, Subject},
};

/// The published end of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset of the next record.
    pub end_offset: u64,
}

/// How far a group has read a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The group's name.
    pub group: String,
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset of the next record that it reads.
    pub next_offset: u64,
}

/// Out: how many records are not read yet, over all groups.
///
/// A group that still has to read leaves orders open, so with `allow_open` it is counted and not found.
pub(crate) fn judge(ends: &[End], cursors: &[Cursor], allow_open: bool, findings: &mut Findings) -> u64 {
    let mut unread = 0;
    for name in group::ALL {
        let topics = flow::topics_read(name);
        for end in ends {
            let cursor = cursors.iter().find(|cursor| {
                (cursor.group.as_str(), cursor.topic.as_str(), cursor.partition) == (name, &end.topic, end.partition)
            });
            // What the group has no need to read is judged when it reads it anyway.
            if cursor.is_none() && !topics.contains(&end.topic.as_str()) {
                continue;
            }
            let next_offset = cursor.map_or(0, |cursor| cursor.next_offset);
            unread += end.end_offset.saturating_sub(next_offset);
            if next_offset == end.end_offset || allow_open {
                continue;
            }
            let places: Vec<Place> = Place::new(&end.topic, end.partition, next_offset).into_iter().collect();
            let expected = format_args!("a cursor at the end {} of {} {}", end.end_offset, end.topic, end.partition);
            let about = Subject::Group(name.to_owned());
            match cursor {
                Some(_) => findings.wrong(S11, &about, &places, expected, next_offset),
                None => findings.wrong(S11, &about, &places, expected, "none"),
            }
        }
    }
    unread
}
