//! What flows to a member: what it is told of its partitions, and their records within its credit.
//!
//! What must stay true: `Assigned` only from the applied row, so that every older epoch is fenced durably; no record of
//! a partition after its `Revoking` or `Lost`.

use std::time::Duration;

use prost::Message as _;
use tillroll_engine::{
    group::BelowHead,
    id::{Lane, Offset},
    table::group::GroupRow,
};
use tillroll_proto::{
    reason,
    v1::{self, consume_response::Event},
};

use super::{End, held::Stop, member::Member, seats::Stall};
use crate::{
    connections::NoRoom,
    refusal::{Facts, membership_ended, no_group, taken_over},
    rpc::{
        read::{self, Waiting},
        responses::Room,
    },
};

/// Where there is no room for a response, it is looked for again after this long.
const NO_ROOM: Duration = Duration::from_millis(50);
/// Why a partition alone cannot go on, as the contract lists it at `Stalled`.
const STALLS: [&str; 6] = [
    reason::DATA_DAMAGED,
    reason::OFFSET_BELOW_HEAD,
    reason::OFFSET_BEYOND_END,
    reason::RESPONSE_LIMIT,
    reason::READ_FAILED,
    reason::LOG_POISONED,
];
/// A partition whose read failed for now is looked at again after this long.
const STALL: Duration = Duration::from_secs(1);

impl Member {
    /// Looks at the group as it is now, and says what is new.
    pub(super) fn follow(&mut self) -> Result<(), End> {
        let (group, member) = (&self.join.group, &self.join.member_id);
        let row = self.place.engine.group(group).ok().filter(|row| row.id == self.place.id);
        let Some(row) = row else {
            return Err(no_group(group, None).into());
        };
        match row.members.get(member) {
            None => return Err(membership_ended(group, member, "its session ended, or it left").into()),
            Some(known) if known.instance != self.join.instance_id => return Err(taken_over(group, member).into()),
            Some(_) => {}
        }
        self.set_flow(&row);
        let engine = &self.place.engine;
        let end_of = |lane| engine.extent(lane).map_or(Offset(0), |extent| extent.end);
        let news = self.holdings.follow(&row, &self.join.member_id, self.place.form, end_of);
        if !news.lost.is_empty() {
            // Who waits for a partition that is lost would wait for ever.
            self.waiting = Waiting::default();
            self.waits = None;
            self.ready = self.holdings.iter().map(|(lane, _)| lane).collect();
        }
        for lane in news.came {
            // What was sent under an older epoch counts no more.
            self.place.seat.view().sent.remove(&lane);
            self.look_at(lane);
        }
        for (reason, assignments) in news.lost {
            self.say(Event::Lost(v1::Lost { assignments, reason: reason.to_owned() }));
        }
        if !news.assigned.is_empty() {
            self.say(Event::Assigned(v1::Assigned { assignments: news.assigned }));
        }
        if !news.revoking.is_empty() {
            self.say(Event::Revoking(v1::Revoking { assignments: news.revoking, drain_ms: self.drain_ms }));
        }
        self.show();
        self.tell_caught_up();
        Ok(())
    }

    /// Takes over what the row says about sending.
    fn set_flow(&mut self, row: &GroupRow) {
        let resumes = self.is_paused && row.paused.is_none();
        self.is_paused = row.paused.is_some();
        // What stalled below the head may go on by the new rule.
        let is_ruled_anew = self.below_head != row.config.below_head;
        self.below_head = row.config.below_head;
        if is_ruled_anew {
            self.holdings.try_stalled();
        }
        if resumes || is_ruled_anew {
            self.waiting = Waiting::default();
            self.ready = self.holdings.iter().map(|(lane, _)| lane).collect();
        }
    }

    /// A partition may have records to send; it has its turn once.
    pub(super) fn look_at(&mut self, lane: Lane) {
        if !self.ready.contains(&lane) {
            self.ready.push_back(lane);
        }
    }

    /// Sends what there is of the next partition, a look's worth; false when nothing can be sent now.
    pub(super) async fn turn(&mut self) -> Result<bool, End> {
        if self.is_paused || self.credit <= 0 {
            // Who could not send does not wait for room.
            self.waits = None;
            return Ok(false);
        }
        let Some(lane) = self.ready.pop_front() else { return Ok(false) };
        // Whether it still does shows now.
        self.waits = None;
        let Some(held) = self.holdings.get(lane).filter(|held| held.flows()) else { return Ok(true) };
        let (engine, order, cursor) = (self.place.engine.clone(), held.order.clone(), held.cursor(lane));
        let mut room = None;
        if let Some(connection) = &self.place.connection {
            match connection.try_room(read::bytes_at(&engine, &order, cursor)) {
                Ok(taken) => room = Some(taken),
                Err(whose) => {
                    self.waits = (whose == NoRoom::All).then(|| connection.waits());
                    self.waiting.add_later(lane, NO_ROOM);
                    return Ok(true);
                }
            }
        }
        let looked = read::look(engine, order, cursor, (Offset(u64::MAX), None), room).await;
        match looked {
            Ok(None) => self.waiting.add(&self.place.engine, lane, lane, cursor.next),
            Ok(Some((packed, room))) => {
                self.waiting.had_records(lane);
                for batch in packed.batches {
                    self.send(lane, batch, room.clone());
                }
                match packed.refusal {
                    Some(facts) => self.stall(lane, &facts)?,
                    None => self.ready.push_back(lane),
                }
            }
            // A topic that is gone takes its partitions with it: the group's row tells, and that is on its way.
            Err(facts) if facts.reason() == reason::TOPIC_NOT_FOUND => {}
            Err(facts) => self.stall(lane, &facts)?,
        }
        self.tell_caught_up();
        Ok(true)
    }

    fn send(&mut self, lane: Lane, mut batch: v1::Batch, room: Room) {
        let now_us = self.place.engine.env().wall_us();
        let Some(held) = self.holdings.get_mut(lane) else { return };
        held.next = Offset(batch.next_offset);
        batch.assignment_epoch = held.epoch;
        let bytes = i64::try_from(batch.encoded_len()).unwrap_or(i64::MAX);
        if self.credit < i64::MAX {
            self.credit = self.credit.saturating_sub(bytes);
        }
        let mut view = self.place.seat.view();
        view.sent.entry(lane).or_default().note(Offset(batch.next_offset), now_us);
        view.stalled.remove(&lane);
        view.has_no_credit = self.credit <= 0;
        drop(view);
        self.say_in(Event::Batch(batch), room);
    }

    /// A partition that cannot go on; the others do. One that may go on later is looked at again. A refusal that says
    /// nothing of the partition's records ends the stream.
    fn stall(&mut self, lane: Lane, facts: &Facts) -> Result<(), End> {
        if !STALLS.contains(&facts.reason()) {
            return Err(facts.clone().into());
        }
        let begins = self.place.engine.extent(lane).map_or(Offset(0), |extent| extent.head);
        let Some(held) = self.holdings.get_mut(lane) else { return Ok(()) };
        if held.next < begins && self.below_head == BelowHead::Earliest {
            let (topic, partition) = (&held.order.topic, lane.partition);
            let (group, from, to) = (&self.join.group, held.next, begins);
            tracing::warn!(%group, %topic, %partition, %from, %to, "records are gone: the group goes on at the head");
            *self.place.seat.view().passed_over.entry(lane).or_default() += begins.since(held.next);
            held.next = begins;
            self.ready.push_back(lane);
            return Ok(());
        }
        let mut view = self.place.seat.view();
        let is_new = view.stalled.insert(lane, Stall::from(facts)).is_none();
        drop(view);
        if facts.row.wait.is_some() {
            self.waiting.add_later(lane, STALL);
        } else {
            held.stops.insert(Stop::Stalled);
        }
        if is_new {
            let (assignment, error) = (Some(held.assignment(lane)), Some(facts.message_status()));
            self.say(Event::Stalled(v1::Stalled { assignment, error }));
        }
        Ok(())
    }

    /// Once: everything that was there when it came has been sent.
    fn tell_caught_up(&mut self) {
        if self.is_caught_up || !self.holdings.are_caught_up() {
            return;
        }
        self.is_caught_up = true;
        let ends = self.ends();
        self.say(Event::CaughtUp(v1::CaughtUp { ends }));
    }

    pub(super) fn hold(&mut self, assignments: &[v1::Assignment], is_held: bool) {
        for lane in assignments.iter().filter_map(|given| self.holdings.find(given)).collect::<Vec<_>>() {
            if let Some(held) = self.holdings.get_mut(lane) {
                if is_held {
                    held.stops.insert(Stop::HeldBack);
                } else if held.stops.remove(&Stop::HeldBack) {
                    self.look_at(lane);
                }
            }
        }
        self.show();
    }

    /// Shows what is held back, and forgets what is not held.
    pub(super) fn show(&self) {
        let mut view = self.place.seat.view();
        view.held_back = self.holdings.lanes_with(Stop::HeldBack);
        view.sent.retain(|lane, _| self.holdings.get(*lane).is_some());
        view.stalled.retain(|lane, _| self.holdings.get(*lane).is_some());
        view.has_no_credit = self.credit <= 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/tillroll/v1/group_service.proto"));

    #[test]
    fn the_contract_lists_why_a_partition_stalls() {
        let (before, _) =
            CONTRACT.split_once("\n  google.rpc.Status error = 2;\n}").expect("the last field of Stalled");
        let (_, listed) = before.rsplit_once("message Stalled {").expect("its beginning");
        let is_reason = |word: &&str| word.contains('_') && word.chars().all(|c| c == '_' || c.is_ascii_uppercase());
        let words = listed.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        let listed: Vec<&str> = words.filter(is_reason).collect();
        assert_eq!(listed, STALLS);
    }
}
