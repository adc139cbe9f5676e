//! What comes and goes in the workload: a group that is deleted and made again under its name, with cursors set to
//! wherever, and producers without a name, which expire.
//!
//! What must hold (P4, P6): an epoch of a group that is gone is below every epoch of the one that has its name, and
//! moves nothing; a cursor is where it was set; an append that a producer repeats is not in the log twice.

use bytes::Bytes;
use tillroll_engine::{
    error::Refusal,
    group::{Join, SetCursors},
    id::{Lane, Offset, Partition},
    request::{Append, CursorCommit, InitProducer, Stamp},
};

use crate::{dice::Dice, ledger::Broken, members::new_group, world::World};

const GROUP: &str = "passing";
const TOPIC: &str = "plain";

/// What was seen of them.
#[derive(Debug, Default)]
pub struct Passing {
    /// The highest epoch of a group of this name that is deleted, acked.
    ended: u64,
    instances: u64,
}

impl Passing {
    /// A group is made, read, set and, one time in two, deleted. Ends early when the disk dies under it.
    pub fn group(&mut self, world: &mut World, dice: &mut Dice, lane: Lane) -> Result<(), Broken> {
        let Some(epoch) = self.join(world, lane) else { return Ok(()) };
        if epoch <= self.ended {
            return Err(format!("P6 group {GROUP} was made again: epoch {epoch} is not above {}", self.ended));
        }
        let ended = self.ended;
        let ticket = world.engine.commit_cursors(vec![commit(lane, Offset(0), ended)]);
        if ended > 0 && matches!(world.wait(&ticket), Some(Ok(()))) {
            return Err(format!("P6 a commit under epoch {ended} of the deleted group was accepted"));
        }
        let Ok(extent) = world.engine.extent(lane) else { return Ok(()) };
        let to = Offset(dice.between(extent.head.0, extent.end.0));
        let set = SetCursors {
            group: GROUP.to_owned(),
            topic: TOPIC.to_owned(),
            to: vec![(lane.partition, to)],
            dry_run: false,
            with_members: true,
            reason: "a test".to_owned(),
        };
        let ticket = world.engine.set_cursors(set);
        let Some(Ok(_)) = world.wait(&ticket) else { return Ok(()) };
        let row = world.engine.group(GROUP).map_err(|refusal| format!("P6 group {GROUP}: {refusal}"))?;
        let cursor = &row.cursors[&lane];
        if cursor.next != to {
            return Err(format!("P6 the cursor was set to {to}, and is at {}", cursor.next));
        }
        let seen = row.cursors.values().map(|cursor| cursor.epoch).max().unwrap_or(0);
        if dice.one_in(2) {
            let ticket = world.engine.delete_group(GROUP, true);
            if let Some(Ok(())) = world.wait(&ticket) {
                self.ended = self.ended.max(seen);
            }
        }
        Ok(())
    }

    /// Makes the group, unless it is there, and joins it; the epoch under which the member holds the partition.
    fn join(&mut self, world: &mut World, lane: Lane) -> Option<u64> {
        let ticket = world.engine.create_group(new_group(GROUP, TOPIC));
        world.wait(&ticket)?.ok()?;
        self.instances += 1;
        let (group, member, instance) = (GROUP.to_owned(), "m".to_owned(), format!("p-{}", self.instances));
        let join = Join { group, member, instance, client: String::new(), comes_back: false };
        let ticket = world.engine.join(join);
        world.wait(&ticket)?.ok()?;
        let row = world.engine.group(GROUP).ok()?;
        row.cursors.get(&lane).filter(|cursor| cursor.holder.is_some()).map(|cursor| cursor.epoch)
    }

    /// A producer without a name, which expires soon, appends and repeats it: twice in the log it must not be.
    /// `append` is given its stamp here. What was answered, when something was.
    pub fn producer(
        world: &mut World,
        dice: &mut Dice,
        append: &Append,
    ) -> Result<Option<Result<tillroll_engine::request::Appended, Refusal>>, Broken> {
        let init = InitProducer { name: None, idle_expiry_ms: 60_000, expected_epoch: None };
        let ticket = world.engine.init_producer(init);
        let Some(Ok(opened)) = world.wait(&ticket) else { return Ok(None) };
        let stamp = Stamp { producer: opened.name, epoch: opened.epoch, sequence: 1, answered_below: 0 };
        // It may expire just now: between the two looks of one step, or before.
        world.env.advance(if dice.one_in(2) { dice.below(2_000) } else { 59_999_000 + dice.below(2_000) });
        let append = Append { stamp: Some(stamp), ..append.clone() };
        let first = world.engine.try_append(append.clone());
        let again = world.engine.try_append(append);
        let (first, again) = (world.wait(&first), world.wait(&again));
        if let (Some(Ok(first)), Some(Ok(again))) = (&first, &again)
            && (!again.duplicate || first.batches.iter().zip(&again.batches).any(|(one, other)| one.base != other.base))
        {
            return Err(format!("P4 an append and its retry are both in the log: {first:?} {again:?}"));
        }
        if let (Some(Err(Refusal::ProducerUnknown { .. })), Some(Ok(_))) = (&first, &again) {
            return Err("P4 a producer that is unknown is known again".to_owned());
        }
        Ok(match (first, again) {
            (Some(Err(_)), Some(Ok(again))) => Some(Ok(again)),
            (first, _) => first,
        })
    }
}

fn commit(lane: Lane, next: Offset, epoch: u64) -> CursorCommit {
    CursorCommit {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        partition: Partition(lane.partition.0),
        next,
        epoch: Some(epoch),
        expected: None,
        metadata: Bytes::new(),
    }
}
