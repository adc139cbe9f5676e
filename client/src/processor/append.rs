//! An append of the processor as the server gets it: batches of what its blocks say, a commit for each cursor that
//! moves, and for units that move none a check that they are still held.
//!
//! A function of the entry alone: an append that is sent again is the same, byte for byte.

use tillroll_proto::v1;

use super::{block::Move, core::UnitId, flight::Entry};
use crate::Stamp;

/// What an append of a processor relies on.
const NEEDS: [&str; 2] = ["append.commits", "append.checks.assignment"];

/// Which units the commits and checks of an append are about, in the order of the request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) commits: Vec<(UnitId, Move)>,
    /// Units whose first lane is checked.
    pub(super) checks: Vec<UnitId>,
}

impl Conditions {
    /// One commit for each lane that moves, though several blocks move it; one check for each unit that moves none, or
    /// of which a timer said something: that moves no cursor by itself.
    pub(super) fn of(entry: &Entry) -> Self {
        let mut conditions = Self::default();
        for (id, block) in &entry.blocks {
            for one in block.moves() {
                let known = conditions.commits.iter_mut().rev().find(|(of, known)| (of, known.lane) == (id, one.lane));
                match known {
                    Some((_, known)) => known.to = one.to,
                    None => conditions.commits.push((*id, *one)),
                }
            }
        }
        for (id, block) in &entry.blocks {
            let moves = conditions.commits.iter().any(|(of, _)| of == id);
            if (block.has_timer() || !moves) && !conditions.checks.contains(id) {
                conditions.checks.push(*id);
            }
        }
        conditions
    }

    /// The unit that a field of the request is about, such as `commits[3]`.
    pub(super) fn unit(&self, field: &str) -> Option<UnitId> {
        let (list, index) = field.split_once('[')?;
        let index: usize = index.split(']').next()?.parse().ok()?;
        match list {
            "commits" => self.commits.get(index).map(|(id, _)| *id),
            "checks" => self.checks.get(index).copied(),
            _ => None,
        }
    }
}

/// The request of an append. `topics` are the processor's output topics.
pub(super) fn request(entry: &Entry, group: &str, topics: &[String], stamp: Stamp) -> v1::AppendStreamRequest {
    let conditions = Conditions::of(entry);
    let held = |id: &UnitId| {
        let block = entry.blocks.iter().find(|(of, _)| of == id).map(|(_, block)| block);
        block.expect("conditions are about the blocks").held()
    };
    let parts = entry.blocks.iter().flat_map(|(_, block)| block.parts());
    let batches = parts.map(|part| v1::AppendBatch {
        topic: topics[part.topic].clone(),
        partition: Some(part.partition),
        content: Some(v1::append_batch::Content::Encoded(part.batch().into_wire())),
        topic_id: String::new(),
    });
    let commits = conditions.commits.iter().map(|(id, one)| {
        let lane = &held(id)[one.lane];
        v1::CursorCommit {
            group: group.to_owned(),
            topic: lane.topic.to_string(),
            partition: lane.partition,
            next_offset: one.to,
            assignment_epoch: Some(lane.epoch),
            expected_offset: Some(one.from),
            ..v1::CursorCommit::default()
        }
    });
    let checks = conditions.checks.iter().map(|id| {
        let lane = &held(id)[0];
        let assignment = v1::HeldAssignment {
            group: group.to_owned(),
            topic: lane.topic.to_string(),
            partition: lane.partition,
            assignment_epoch: lane.epoch,
        };
        v1::Check { kind: Some(v1::check::Kind::Assignment(assignment)) }
    });
    let append = v1::AppendRequest {
        batches: batches.collect(),
        producer: Some(stamp.into_wire()),
        commits: commits.collect(),
        checks: checks.collect(),
        needs: NEEDS.iter().map(|need| (*need).to_owned()).collect(),
    };
    v1::AppendStreamRequest { append_id: entry.append_id, append: Some(append) }
}
