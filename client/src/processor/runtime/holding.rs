//! What the group gave: partitions, what came of them, and the units that they make.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant as StdInstant},
};

use super::{Runtime, running::Run, stalling::Stall};
use crate::{
    ConsumerEvent, DeliveredBatch, Error, HeldPartition, LostReason, ReadBatch,
    processor::{
        ProcessorError, Service,
        envelope::Envelope,
        fail_point::{FailPoint, reach},
    },
};

/// A partition of an input, by the input's index.
pub(super) type LaneKey = (usize, u32);

/// A partition that is held back when it has more than this part of the credit, and let go below a quarter of that.
const HELD_BACK_PART: u64 = 4;

/// A partition that the group gave.
pub(super) struct Lane {
    pub(super) epoch: u64,
    /// The cursor when it came, or when its unit was loaded last.
    pub(super) cursor: u64,
    /// Behind the last record that came.
    pub(super) came: u64,
    /// What came and no step was begun for.
    queue: VecDeque<Intake>,
    /// Where the queue began when it was last left alone.
    queue_from: u64,
    /// What of it counts in the credit.
    queued_bytes: u64,
    /// The record at the front, which has to wait.
    peeked: Option<Peeked>,
    held_back: bool,
    /// The server refused it: it is about to be lost.
    pub(super) is_fenced: bool,
    /// Behind what came, nothing more comes.
    pub(super) stalled: Option<Stall>,
}

/// Records that came.
enum Intake {
    /// From the group's stream.
    Delivered(DeliveredBatch),
    /// Read again after a reload.
    Refill(ReadBatch),
}

/// A record that was looked at.
pub(super) struct Peeked {
    pub(super) offset: u64,
    pub(super) append_time_us: i64,
    pub(super) envelope: Envelope,
}

/// What is at the front of a lane.
pub(super) enum Next {
    Record(Peeked),
    /// Nothing more comes before this offset.
    Behind(u64),
    Nothing,
}

impl Lane {
    fn new(epoch: u64, cursor: u64) -> Self {
        Self {
            epoch,
            cursor,
            came: cursor,
            queue: VecDeque::new(),
            queue_from: cursor,
            queued_bytes: 0,
            peeked: None,
            held_back: false,
            is_fenced: false,
            stalled: None,
        }
    }

    fn push(&mut self, batch: DeliveredBatch) {
        (self.came, self.stalled) = (batch.next_offset(), None);
        self.queued_bytes += batch.credit_bytes();
        self.queue.push_back(Intake::Delivered(batch));
    }

    /// Its unit is loaded again: what came is read again from the cursor on.
    pub(super) fn forget(&mut self) {
        self.queue.clear();
        (self.peeked, self.queued_bytes, self.queue_from) = (None, 0, self.came);
    }

    /// Where the records begin that have come: what is before has to be read.
    pub(super) fn queue_from(&self) -> u64 {
        self.queue_from
    }

    /// Its unit is loaded: it stands at this cursor, and what was read comes before what has come since.
    pub(super) fn begin(&mut self, cursor: u64, read: Vec<ReadBatch>) {
        self.cursor = cursor;
        for batch in read.into_iter().rev() {
            self.queue.push_front(Intake::Refill(batch));
        }
    }

    /// Takes what is at the front.
    ///
    /// **Errors**: it cannot be read, with the offset where that is.
    pub(super) fn next(&mut self) -> Result<Next, (u64, Error)> {
        if let Some(peeked) = self.peeked.take() {
            return Ok(Next::Record(peeked));
        }
        let Some(front) = self.queue.front_mut() else { return Ok(Next::Nothing) };
        let records = match front {
            Intake::Delivered(batch) => batch.encoded(),
            Intake::Refill(batch) => batch,
        };
        let at = records.next_offset().saturating_sub(records.len() as u64);
        if let Some(record) = records.next_encoded() {
            let (offset, append_time_us, body) = record.map_err(|error| (at, error))?;
            let envelope = Envelope::read(body).map_err(|error| (offset, error))?;
            return Ok(Next::Record(Peeked { offset, append_time_us, envelope }));
        }
        let end = records.next_offset();
        if let Some(Intake::Delivered(batch)) = self.queue.pop_front() {
            self.queued_bytes -= batch.credit_bytes();
        }
        Ok(Next::Behind(end))
    }

    /// Puts a record back that has to wait.
    pub(super) fn put_back(&mut self, peeked: Peeked) {
        self.peeked = Some(peeked);
    }
}

impl<S: Service> Runtime<S> {
    /// Takes what the group says.
    pub(super) fn on_event(&mut self, event: Option<Result<ConsumerEvent, Error>>) -> Result<(), ProcessorError> {
        let event = match event {
            Some(Ok(event)) => event,
            Some(Err(error)) if error.reason() == Some(tillroll_proto::reason::TAKEN_OVER) => {
                return Err(ProcessorError::TakenOver { member: self.consumer.member_id().to_owned() });
            }
            Some(Err(error)) => return Err(ProcessorError::broker("consume")(error)),
            None => return Err(ProcessorError::misconfigured("the group's stream ended by itself")),
        };
        match event {
            ConsumerEvent::Batch(batch) => self.on_batch(batch),
            ConsumerEvent::Assigned(partitions) => self.on_assigned(&partitions),
            ConsumerEvent::Revoking { partitions, drain } => self.on_revoking(&partitions, drain),
            ConsumerEvent::Lost { partitions, reason } => self.on_lost(&partitions, &reason),
            ConsumerEvent::Stalled { partition, error } => self.on_stalled(&partition, error),
            ConsumerEvent::Interrupted(error) => {
                self.counters.broken_streams.add(1);
                tracing::debug!(service = self.service.name(), %error, "the group's stream broke");
            }
            ConsumerEvent::CommitRefused { .. } | ConsumerEvent::CaughtUp | ConsumerEvent::Resumed => {}
        }
        Ok(())
    }

    pub(super) fn lane_key(&self, topic: &str, partition: u32) -> Option<LaneKey> {
        Some((self.inputs.iter().position(|input| *input.name == *topic)?, partition))
    }

    /// The unit that a lane belongs to.
    pub(super) fn unit_key(&self, (_, partition): LaneKey) -> u32 {
        if self.co_partitions.is_some() { partition } else { 0 }
    }

    /// All lanes of a unit, in their order.
    pub(super) fn lanes_of(&self, unit: u32) -> Vec<LaneKey> {
        let inputs = self.inputs.iter().enumerate();
        match self.co_partitions {
            Some(_) => inputs.map(|(input, _)| (input, unit)).collect(),
            None => inputs.flat_map(|(index, input)| (0..input.partitions).map(move |at| (index, at))).collect(),
        }
    }

    fn on_batch(&mut self, batch: DeliveredBatch) {
        let Some(key) = self.lane_key(batch.topic(), batch.partition()) else { return };
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.epoch == batch.assignment_epoch()) else { return };
        lane.push(batch);
        if lane.queued_bytes > self.settings.credit_bytes / HELD_BACK_PART && !lane.held_back {
            self.hold_back(key, true);
        }
        self.wake(self.unit_key(key));
    }

    /// A lane that has little left may come on again.
    pub(super) fn let_go(&mut self, key: LaneKey) {
        let low = self.settings.credit_bytes / HELD_BACK_PART / 4;
        if self.lanes.get(&key).is_some_and(|lane| lane.held_back && lane.queued_bytes < low) {
            self.hold_back(key, false);
        }
    }

    fn hold_back(&mut self, key: LaneKey, held_back: bool) {
        if let Some(partition) = self.held(key) {
            self.consumer.hold(&partition, held_back);
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.held_back = held_back;
        }
    }

    pub(super) fn held(&self, key: LaneKey) -> Option<HeldPartition> {
        let lane = self.lanes.get(&key)?;
        let topic = self.inputs[key.0].name.clone();
        Some(HeldPartition { topic, partition: key.1, assignment_epoch: lane.epoch, next_offset: lane.cursor })
    }

    fn on_assigned(&mut self, partitions: &[HeldPartition]) {
        let mut touched = BTreeSet::new();
        for given in partitions {
            let Some(key) = self.lane_key(&given.topic, given.partition) else { continue };
            self.lanes.insert(key, Lane::new(given.assignment_epoch, given.next_offset));
            touched.insert(self.unit_key(key));
        }
        for unit in touched {
            self.assemble(unit);
        }
    }

    /// Loads a unit when all of its lanes are there.
    fn assemble(&mut self, unit: u32) {
        let lanes = self.lanes_of(unit);
        let is_there = |key: &LaneKey| self.lanes.get(key).is_some_and(|lane| !lane.is_fenced);
        if self.units.contains_key(&unit) || !lanes.iter().all(is_there) {
            return;
        }
        self.counters.rebalances.add(1);
        self.units.insert(unit, Run::new(unit, lanes));
        self.load(unit, false);
    }

    fn on_revoking(&mut self, partitions: &[HeldPartition], drain: Duration) {
        reach(FailPoint::AfterRevoking);
        // The last quarter is for what is decided by then to come to the log.
        let until = tokio::time::Instant::from_std(StdInstant::now() + drain * 3 / 4);
        for wanted in partitions {
            let Some(key) = self.lane_key(&wanted.topic, wanted.partition) else { continue };
            let unit = self.unit_key(key);
            match self.units.get_mut(&unit) {
                Some(run) => {
                    run.drain_until.get_or_insert(until);
                    self.wake(unit);
                }
                None => self.give_back(&[key]),
            }
        }
    }

    /// Tells the group that lanes are given back.
    pub(super) fn give_back(&mut self, keys: &[LaneKey]) {
        for key in keys {
            if let Some(partition) = self.held(*key) {
                self.consumer.release(&partition);
            }
            self.lanes.remove(key);
        }
    }

    fn on_lost(&mut self, partitions: &[HeldPartition], reason: &LostReason) {
        let mut touched = BTreeSet::new();
        for lost in partitions {
            let Some(key) = self.lane_key(&lost.topic, lost.partition) else { continue };
            if self.lanes.get(&key).is_some_and(|lane| lane.epoch == lost.assignment_epoch) {
                tracing::debug!(service = self.service.name(), topic = %lost.topic, lost.partition, %reason, "lost");
                self.lanes.remove(&key);
                touched.insert(self.unit_key(key));
            }
        }
        for unit in touched {
            self.lane_lost(unit);
        }
    }
}
