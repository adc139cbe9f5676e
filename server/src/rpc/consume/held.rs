//! What a member was told that it holds, and what it has to be told when the group's row is another one.
//!
//! A pure room: comes in, the row as it is applied, and so durable; goes out, partitions that are lost, that came, and
//! that are asked back, in this order. A partition under another epoch is lost and then came anew: its records and
//! cursor commits of before count no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tillroll_engine::{
    group::LostWhy,
    id::{Lane, Offset, TopicId},
    table::group::{CursorRow, GroupRow},
};
use tillroll_proto::v1;

use crate::rpc::read::{Cursor, Limit, Order};

/// A partition that the member holds.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Under which epoch.
    pub(super) epoch: u64,
    /// The next offset to send.
    pub(super) next: Offset,
    /// Where the partition ended when it came.
    pub(super) end: Offset,
    /// What its responses look like.
    pub(super) order: Arc<Order>,
    /// Why none of its records are sent; nothing while they flow.
    pub(super) stops: BTreeSet<Stop>,
}

/// Why the records of a partition do not flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    /// It is asked back.
    Draining,
    /// The member gives it back, and that is not answered.
    GivenBack,
    /// The member wants none of them for now.
    HeldBack,
    /// It cannot be read.
    Stalled,
}

impl Held {
    /// Whether its records may be sent.
    pub(super) fn flows(&self) -> bool {
        self.stops.is_empty()
    }

    /// Everything that was there when it came was sent, or will not be: the member gives it up, or wants none of it.
    /// What cannot be read is not sent, and still to be.
    fn is_caught_up(&self) -> bool {
        self.next >= self.end || self.stops.iter().any(|stop| *stop != Stop::Stalled)
    }

    /// Where it is read.
    pub(super) fn cursor(&self, lane: Lane) -> Cursor {
        Cursor { lane, next: self.next, end: self.end }
    }

    /// As the wire says it.
    pub(super) fn assignment(&self, lane: Lane) -> v1::Assignment {
        v1::Assignment {
            topic: self.order.topic.clone(),
            partition: lane.partition.0,
            assignment_epoch: self.epoch,
            next_offset: self.next.0,
        }
    }
}

/// How records are sent to this member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// As batches, not record by record.
    pub(super) is_encoded: bool,
    /// How large a response may be.
    pub(super) limit: Limit,
}

/// What changed for a member.
#[derive(Debug, Default)]
pub(super) struct News {
    /// No longer held, by why.
    pub(super) lost: BTreeMap<&'static str, Vec<v1::Assignment>>,
    /// Held from now on.
    pub(super) assigned: Vec<v1::Assignment>,
    /// The lanes of those.
    pub(super) came: Vec<Lane>,
    /// Asked back.
    pub(super) revoking: Vec<v1::Assignment>,
}

/// Everything that a member holds, as far as it was told.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    held: BTreeMap<Lane, Held>,
}

impl Holdings {
    /// A partition that it holds.
    pub(super) fn get(&self, lane: Lane) -> Option<&Held> {
        self.held.get(&lane)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, lane: Lane) -> Option<&mut Held> {
        self.held.get_mut(&lane)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Lane, &Held)> {
        self.held.iter().map(|(lane, held)| (*lane, held))
    }

    /// It holds something, and everything that was there when that came was sent.
    pub(super) fn are_caught_up(&self) -> bool {
        !self.held.is_empty() && self.held.values().all(Held::is_caught_up)
    }

    /// The partition that a name and a number are, when it is held under this epoch.
    pub(super) fn find(&self, assignment: &v1::Assignment) -> Option<Lane> {
        let named = |(lane, held): &(Lane, &Held)| {
            held.order.topic == assignment.topic && lane.partition.0 == assignment.partition
        };
        self.iter().find(named).filter(|(_, held)| held.epoch == assignment.assignment_epoch).map(|(lane, _)| lane)
    }

    /// Follows the group's row. `end_of` says where a partition ends now.
    pub(super) fn follow(&mut self, row: &GroupRow, member: &str, form: Form, end_of: impl Fn(Lane) -> Offset) -> News {
        let mut news = News::default();
        let is_mine = |cursor: &&CursorRow| cursor.holder.as_deref() == Some(member);
        self.held.retain(|lane, held| {
            let at = row.cursors.get(lane);
            let stays = at.filter(is_mine).is_some_and(|at| at.epoch == held.epoch);
            if !stays {
                news.lost.entry(why(at)).or_default().push(held.assignment(*lane));
            }
            stays
        });
        for (lane, at) in row.cursors.iter().filter(|(_, at)| is_mine(at)) {
            let Some(topic) = name_of(row, lane.topic) else { continue };
            let held = self.held.entry(*lane).or_insert_with(|| {
                let order = Order {
                    topic: topic.to_owned(),
                    topic_id: lane.topic.hex(),
                    is_encoded: form.is_encoded,
                    key: None,
                    limit: form.limit,
                };
                let held = Held {
                    epoch: at.epoch,
                    next: at.next,
                    end: end_of(*lane),
                    order: Arc::new(order),
                    stops: BTreeSet::new(),
                };
                news.assigned.push(held.assignment(*lane));
                news.came.push(*lane);
                held
            });
            if at.is_draining && held.stops.insert(Stop::Draining) {
                news.revoking.push(held.assignment(*lane));
            }
        }
        news
    }

    /// Partitions that do not flow, for this reason among others.
    pub(super) fn lanes_with(&self, stop: Stop) -> BTreeSet<Lane> {
        self.iter().filter(|(_, held)| held.stops.contains(&stop)).map(|(lane, _)| lane).collect()
    }

    /// What could not be read is tried again.
    pub(super) fn try_stalled(&mut self) {
        for held in self.held.values_mut() {
            held.stops.remove(&Stop::Stalled);
        }
    }

    /// It holds nothing any more.
    pub(super) fn lose_all(&mut self) -> Vec<v1::Assignment> {
        std::mem::take(&mut self.held).iter().map(|(lane, held)| held.assignment(*lane)).collect()
    }
}

fn name_of(row: &GroupRow, topic: TopicId) -> Option<&str> {
    row.topics.iter().find(|(id, _)| *id == topic).map(|(_, name)| name.as_str())
}

/// Why a partition is lost; one whose topic is gone has no row any more.
fn why(at: Option<&CursorRow>) -> &'static str {
    match at.map(|at| at.lost) {
        None => "TOPIC_DELETED",
        Some(Some(LostWhy::Released | LostWhy::Left)) => "RELEASED",
        Some(Some(LostWhy::TakenOver)) => "TAKEN_OVER",
        Some(Some(LostWhy::SessionExpired)) => "SESSION_EXPIRED",
        Some(Some(LostWhy::DrainExpired)) => "DRAIN_EXPIRED",
        Some(Some(LostWhy::CursorSet) | None) => "CURSOR_SET",
    }
}

#[cfg(test)]
mod tests;
