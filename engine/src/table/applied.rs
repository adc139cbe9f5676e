//! The applied state: what all durable frames, in LSN order, have made of the tables.
//!
//! One stage applies, everybody else reads. Applying reads no clock and no entropy and cannot fail: what a frame says
//! was decided before it was written. The same frames give the same state on every node.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    id::{GroupId, Lane, Lsn, Offset, Partition, ProducerId, TopicId},
    journal::{
        Frame,
        group_op::GroupOp,
        op::{BatchOp, Op, ProducerOpenOp, StampOp, TopicCreateOp},
    },
    limits::PRODUCER_WINDOW,
    table::{
        follow::{self, Misfit},
        group::GroupRow,
        row::{AnswerRow, CountersRow, PlacedRow, ProducerRow, TopicRow},
    },
};

/// What frames made of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneEnd {
    /// Next offset.
    pub end: Offset,
    /// Append time of the last record, in microseconds.
    pub last_time_us: i64,
}

/// All tables at one LSN.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// The last applied frame.
    pub lsn: Lsn,
    /// Its time: no later frame has a smaller one.
    pub time_us: i64,
    /// Records up to and including it.
    pub position: u64,
    /// Numbers that are counted.
    pub counters: CountersRow,
    /// Topics, tombstones included.
    pub topics: BTreeMap<TopicId, TopicRow>,
    /// Names of topics that are alive.
    pub topic_names: BTreeMap<String, TopicId>,
    /// Producers.
    pub producers: BTreeMap<ProducerId, ProducerRow>,
    /// Names of producers.
    pub producer_names: BTreeMap<String, ProducerId>,
    /// Consumer groups.
    pub groups: BTreeMap<GroupId, Arc<GroupRow>>,
    /// Names of consumer groups.
    pub group_names: BTreeMap<String, GroupId>,
    /// Lanes that hold or held records.
    pub lanes: BTreeMap<Lane, LaneEnd>,
    /// What the rows come to. Follows from them, and is never stored.
    pub sums: Sums,
}

/// Numbers that follow from the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Partitions of all topics, tombstones included.
    pub partitions: u64,
    /// Cursors of all groups.
    pub cursors: u64,
    /// Members of all groups.
    pub members: u64,
    /// Bytes of all answers.
    pub answer_bytes: u64,
    /// Producers that have answers.
    pub answered: u64,
}

/// What operations of a frame leave for its end.
#[derive(Default)]
struct Effects {
    stamp: Option<StampOp>,
    placed: Vec<PlacedRow>,
}

impl Applied {
    /// Makes a durable frame's effects so.
    ///
    /// # Panics
    ///
    /// When the frame is not the next one, or does not continue a lane: then memory no longer agrees with the disk.
    pub fn apply(&mut self, frame: &Frame) {
        assert_eq!(frame.lsn, self.lsn.next(), "frames are applied in order");
        let mut effects = Effects::default();
        frame.ops.iter().for_each(|op| self.take(op, frame, &mut effects));
        self.end(frame, effects);
    }

    /// Makes the effects of a frame so that recovery reads again. Tables and journal may be of different moments, so
    /// that the frame follows from the tables is not believed before it is seen.
    ///
    /// # Errors
    ///
    /// [`Misfit`]; then these tables are worth nothing any more.
    pub fn replay(&mut self, frame: &Frame) -> Result<(), Misfit> {
        follow::frame(self, frame)?;
        let (mut effects, records) = (Effects::default(), frame.record_count());
        for op in &frame.ops {
            follow::op(self, op, records)?;
            self.take(op, frame, &mut effects);
        }
        self.end(frame, effects);
        Ok(())
    }

    fn take(&mut self, op: &Op, frame: &Frame, effects: &mut Effects) {
        match op {
            Op::Batch(op) => effects.placed.push(self.extend(op, frame.time_us)),
            Op::Stamp(op) => effects.stamp = Some(*op),
            Op::ProducerOpen(op) => self.open_producer(op, frame.time_us),
            Op::ProducerExpire(producer) => self.forget_producer(*producer),
            Op::TopicCreate(op) => self.create_topic(op, frame.time_us),
            Op::TopicDelete(topic) => self.delete_topic(*topic, frame.lsn),
            Op::TopicForget(topic) => self.forget_topic(*topic),
            Op::Group(op) => self.change_group(op, frame.lsn, frame.time_us),
        }
    }

    fn end(&mut self, frame: &Frame, effects: Effects) {
        if let Some(stamp) = effects.stamp {
            self.answer(stamp, frame, effects.placed);
        }
        self.lsn = frame.lsn;
        self.time_us = frame.time_us;
        self.position = frame.position + frame.record_count();
    }

    /// Counts the rows anew, after they were read from a checkpoint.
    pub fn sum(&mut self) {
        let answers = |row: &&ProducerRow| !row.answers.is_empty();
        self.sums = Sums {
            partitions: self.topics.values().map(|row| u64::from(row.config.partitions)).sum(),
            cursors: self.groups.values().map(|row| row.cursors.len() as u64).sum(),
            members: self.groups.values().map(|row| row.members.len() as u64).sum(),
            answer_bytes: self.producers.values().map(ProducerRow::answer_bytes).sum(),
            answered: self.producers.values().filter(answers).count() as u64,
        };
    }

    /// A topic that is alive, by name.
    pub fn topic(&self, name: &str) -> Option<&TopicRow> {
        self.topics.get(self.topic_names.get(name)?)
    }

    /// Whether a topic ever had this id.
    pub fn has_been(&self, id: TopicId) -> bool {
        id > TopicId(0) && id.0 < self.counters.next_topic
    }

    /// A topic that is alive, by id.
    pub fn live_topic(&self, id: TopicId) -> Option<&TopicRow> {
        self.topics.get(&id).filter(|topic| topic.deleted.is_none())
    }

    /// A producer, by name.
    pub fn producer(&self, name: &str) -> Option<&ProducerRow> {
        self.producers.get(self.producer_names.get(name)?)
    }

    fn extend(&mut self, op: &BatchOp, time_us: i64) -> PlacedRow {
        let records = op.batch.record_count;
        if self.live_topic(op.lane.topic).is_some() {
            let lane = self.lanes.entry(op.lane).or_default();
            assert_eq!(op.base, lane.end, "a batch continues lane {}", op.lane);
            lane.end = op.base.plus(u64::from(records));
            lane.last_time_us = time_us;
        }
        PlacedRow { batch_index: op.batch_index, lane: op.lane, base: op.base, record_count: records }
    }

    fn open_producer(&mut self, op: &ProducerOpenOp, time_us: i64) {
        self.counters.next_producer = self.counters.next_producer.max(op.producer.0 + 1);
        self.producer_names.insert(op.name.clone(), op.producer);
        let row = self.producers.entry(op.producer).or_insert_with(|| ProducerRow {
            id: op.producer,
            name: op.name.clone(),
            epoch: 0,
            last_sequence: 0,
            accepted_records: 0,
            idle_expiry_us: 0,
            last_us: 0,
            answers: VecDeque::new(),
        });
        row.epoch = op.epoch;
        row.idle_expiry_us = op.idle_expiry_us;
        row.last_us = time_us;
    }

    fn forget_producer(&mut self, producer: ProducerId) {
        if let Some(row) = self.producers.remove(&producer) {
            self.producer_names.remove(&row.name);
            self.sums.answer_bytes -= row.answer_bytes();
            self.sums.answered -= u64::from(!row.answers.is_empty());
        }
    }

    fn create_topic(&mut self, op: &TopicCreateOp, time_us: i64) {
        self.counters.next_topic = self.counters.next_topic.max(op.topic.0 + 1);
        self.topic_names.insert(op.name.clone(), op.topic);
        let (id, name) = (op.topic, op.name.clone());
        self.sums.partitions += u64::from(op.config.partitions);
        self.topics.insert(id, TopicRow { id, name, config: op.config, created_us: time_us, deleted: None });
    }

    fn delete_topic(&mut self, topic: TopicId, lsn: Lsn) {
        if let Some(row) = self.topics.get_mut(&topic).filter(|row| row.deleted.is_none()) {
            row.deleted = Some(lsn);
            self.topic_names.remove(&row.name);
            let first = Lane { topic, partition: Partition(0) };
            let lanes = self.lanes.range(first..).map(|(lane, _)| *lane).take_while(|lane| lane.topic == topic);
            for lane in lanes.collect::<Vec<_>>() {
                self.lanes.remove(&lane);
            }
            for group in self.groups.values_mut().filter(|group| group.reads(topic)) {
                let before = group.cursors.len() as u64;
                Arc::make_mut(group).forget_topic(topic);
                self.sums.cursors -= before - group.cursors.len() as u64;
            }
        }
    }

    /// A consumer group, by name.
    pub fn group(&self, name: &str) -> Option<&Arc<GroupRow>> {
        self.groups.get(self.group_names.get(name)?)
    }

    fn change_group(&mut self, op: &GroupOp, lsn: Lsn, time_us: i64) {
        match op {
            GroupOp::Create(create) => {
                self.counters.next_group = self.counters.next_group.max(create.group.0 + 1);
                self.group_names.insert(create.name.clone(), create.group);
                self.sums.cursors += create.cursors.len() as u64;
                self.groups.insert(create.group, Arc::new(GroupRow::new(create, lsn)));
            }
            GroupOp::Delete(group) => {
                if let Some(row) = self.groups.remove(group) {
                    self.group_names.remove(&row.name);
                    self.sums.cursors -= row.cursors.len() as u64;
                    self.sums.members -= row.members.len() as u64;
                }
            }
            op => {
                if let Some(row) = self.groups.get_mut(&op.group()) {
                    let before = (row.cursors.len() as u64, row.members.len() as u64);
                    Arc::make_mut(row).apply(op, lsn, time_us);
                    let sums = &mut self.sums;
                    sums.cursors = sums.cursors - before.0 + row.cursors.len() as u64;
                    sums.members = sums.members - before.1 + row.members.len() as u64;
                }
            }
        }
    }

    fn forget_topic(&mut self, topic: TopicId) {
        if self.topics.get(&topic).is_some_and(|row| row.deleted.is_some())
            && let Some(row) = self.topics.remove(&topic)
        {
            self.sums.partitions -= u64::from(row.config.partitions);
        }
    }

    /// Remembers the answer of a stamped append. What the append confirms is forgotten; of what is not confirmed the
    /// newest ones are always kept.
    fn answer(&mut self, stamp: StampOp, frame: &Frame, placed: Vec<PlacedRow>) {
        let Some(row) = self.producers.get_mut(&stamp.producer) else { return };
        row.last_sequence = stamp.sequence;
        row.accepted_records += frame.record_count();
        row.last_us = frame.time_us;
        let sums = &mut self.sums;
        sums.answered += u64::from(row.answers.is_empty());
        let is_over = |answer: &mut Arc<AnswerRow>| answer.sequence < stamp.answered_below;
        while let Some(answer) = row.answers.pop_front_if(is_over) {
            sums.answer_bytes -= answer.bytes();
        }
        let window = if cfg!(bug = "answers_forgotten") { 4 } else { PRODUCER_WINDOW };
        if row.answers.len() == window {
            sums.answer_bytes -= row.answers.pop_front().map_or(0, |answer| answer.bytes());
        }
        let answer = AnswerRow {
            sequence: stamp.sequence,
            content_hash: stamp.content_hash,
            lsn: frame.lsn,
            time_us: frame.time_us,
            placed,
        };
        sums.answer_bytes += answer.bytes();
        row.answers.push_back(Arc::new(answer));
    }
}
