//! A log on a simulated disk, driven by a seed, with a workload that a seed writes.
//!
//! Goal: every promise that a crash can break is broken by a crash here, if it can be. Method: a workload of some
//! hundred operations runs until a planned call on the disk is the last one; the log is opened again on what survived
//! and everything is held against the [`Ledger`].

use std::sync::Arc;

use bytes::Bytes;
use tillroll_engine::{
    batch::Batch,
    codec::{self, Codec},
    disk::sim::SimDisk,
    driver::seeded::{Seeded, SimEnv},
    engine::{self, Engine},
    error::Refusal,
    id::{Lane, Offset, Partition, TopicId},
    open::{OpenError, OpenReport},
    request::{Append, AppendBatch, Appended, Check, Content, CursorCommit, InitProducer, Stamp, TopicConfig},
    settings::Settings,
    ticket::Ticket,
};

use crate::{
    dice::Dice,
    ledger::{Broken, Entry, Ledger, Outcome, Part, value},
    members::is_of_cursor,
    passing::Passing,
};

/// The named producer of the workload.
const PRODUCER: &str = "loader";

/// Small files, so that a short workload goes through all of them.
pub fn settings() -> Settings {
    Settings {
        journal_files_max: 8,
        journal_file_bytes: 64 << 10,
        group_bytes: 16 << 10,
        in_flight_bytes: 64 << 10,
        in_flight_appends: 64,
        answers_bytes: 4 << 20,
        tail_bytes: 96 << 10,
        block_bytes: 8 << 10,
        checkpoint_after_us: 1_000_000,
        segment_age_us: 60_000_000,
        space_floor_bytes: 0,
        ballast_bytes: 16 << 10,
        hold_checkpoints: false,
    }
}

/// A log that is open, and what drives it.
pub struct World {
    /// The handle.
    pub engine: Engine,
    /// What drives its stages.
    pub driver: Seeded,
    /// Its clock.
    pub env: Arc<SimEnv>,
    /// What opening found.
    pub report: OpenReport,
}

impl World {
    /// Opens what the disk holds.
    pub fn open(disk: &SimDisk, settings: Settings, seed: u64) -> Result<Self, OpenError> {
        let env = SimEnv::new(seed);
        let (engine, stages, report) = engine::open(disk.handle(), env.clone(), settings)?;
        let driver = Seeded::new(stages, env.clone(), seed);
        Ok(Self { engine, driver, env, report })
    }

    /// Steps until a ticket is answered; none when the stages came to rest before.
    ///
    /// # Panics
    ///
    /// When that takes more steps than anything should.
    pub fn wait<T>(&mut self, ticket: &Ticket<T>) -> Option<Result<T, Refusal>> {
        for _ in 0..200_000 {
            if let Some(answer) = ticket.try_take() {
                return Some(answer);
            }
            if !self.driver.step() {
                return ticket.try_take();
            }
        }
        panic!("a ticket was not answered within 200,000 steps");
    }
}

impl World {
    /// Appends, and again when there was no room for it.
    pub fn append(&mut self, request: &Append) -> Option<Result<Appended, Refusal>> {
        for _ in 0..100 {
            let ticket = self.engine.try_append(request.clone());
            match self.wait(&ticket)? {
                Err(Refusal::JournalFull { .. } | Refusal::DiskFull { .. } | Refusal::Lacking) => {
                    self.env.advance(200_000);
                    self.driver.steps(1_000);
                }
                answer => return Some(answer),
            }
        }
        None
    }
}

/// Operations against a world, remembered in a ledger.
pub struct Workload {
    dice: Dice,
    /// What was asked and answered.
    pub ledger: Ledger,
    /// The producer's epoch, once it is registered.
    epoch: u64,
    /// The next sequence that has not been used.
    next_sequence: u64,
    passing: Passing,
}

impl Workload {
    /// A workload that the seed writes.
    pub fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            ledger: Ledger::default(),
            epoch: 0,
            next_sequence: 1,
            passing: Passing::default(),
        }
    }

    /// Topics and the producer. Ends early when the disk dies under it.
    pub fn prepare(&mut self, world: &mut World) -> Option<()> {
        let topics = [("plain", 2, Codec::None), ("packed", 1, Codec::Lz4), ("dense", 1, Codec::Zstd)];
        for (name, partitions, codec) in topics {
            let config = TopicConfig { partitions, codec, segment_bytes: 64 << 10, ..TopicConfig::default() };
            let ticket = world.engine.create_topic(name, config, false);
            let created = world.wait(&ticket)?.ok()?;
            self.ledger.topics.insert(name.to_owned(), (created.topic.id, partitions));
        }
        self.ledger.members.prepare(world)?;
        self.register(world)
    }

    /// Registers the producer, or takes it over.
    pub fn register(&mut self, world: &mut World) -> Option<()> {
        let init = InitProducer { name: Some(PRODUCER.to_owned()), ..InitProducer::default() };
        let ticket = world.engine.init_producer(init);
        let opened = world.wait(&ticket)?.ok()?;
        self.epoch = opened.epoch;
        self.next_sequence = opened.next_sequence;
        Some(())
    }

    /// `count` operations; stops when the log takes no more.
    pub fn run(&mut self, world: &mut World, count: usize) -> Result<(), Broken> {
        if self.ledger.topics.is_empty() {
            return Ok(());
        }
        for _ in 0..count {
            match self.dice.below(27) {
                0..=8 => self.append(world, true),
                9..=11 => self.append(world, false),
                12 => self.retry(world)?,
                13 => self.expect_wrong(world),
                14 | 15 => self.read(world)?,
                16 => world.env.advance(self.dice.between(1_000, 700_000)),
                17 => world.engine.ask_checkpoint(),
                18 => self.churn(world),
                19 => self.withdraw(),
                20 | 21 => self.ledger.members.churn(world, &mut self.dice),
                22 => self.ledger.members.commit(&world.engine, &mut self.dice),
                23 if self.dice.one_in(2) => self.ledger.members.set(world),
                23 => self.ledger.members.commit_fenced(world)?,
                24 => {
                    if let Some((topic, _)) = self.ledger.topics.get("plain") {
                        let lane = Lane { topic: *topic, partition: Partition(0) };
                        self.passing.group(world, &mut self.dice, lane)?;
                    }
                }
                25 => self.expiring(world)?,
                _ => world.driver.steps(200),
            }
            world.driver.steps(self.dice.below(24));
            self.ledger.collect();
            if world.engine.is_poisoned() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn lanes(&self) -> Vec<(String, Lane)> {
        let topics = self.ledger.topics.iter();
        let lanes = topics.flat_map(|(name, (topic, partitions))| {
            (0..*partitions).map(|partition| (name.clone(), Lane { topic: *topic, partition: Partition(partition) }))
        });
        lanes.collect()
    }

    /// Appends to one or two lanes, plain or compressed.
    fn append(&mut self, world: &World, stamped: bool) {
        let number = self.ledger.entries.len();
        let mut lanes = self.lanes();
        let mut parts = Vec::new();
        for part in 0..usize::try_from(self.dice.between(1, 2)).expect("small") {
            let place = usize::try_from(self.dice.below(lanes.len() as u64)).expect("small");
            let (topic, lane) = lanes.remove(place);
            let (records, filling) = (self.dice.between(1, 12), self.dice.between(0, 700));
            let filling = usize::try_from(filling).expect("small");
            let values = (0..usize::try_from(records).expect("small")).map(|place| value(number, part, place, filling));
            parts.push(Part { topic, lane, values: values.collect() });
        }
        let sequence = (stamped && self.epoch > 0).then_some(self.next_sequence);
        self.next_sequence += u64::from(sequence.is_some());
        let mut append = self.request(&parts, sequence, &[]);
        if self.dice.one_in(3) {
            self.ledger.members.join_append(&world.engine, &mut self.dice, number, &mut append);
        }
        let commits = append.commits.clone();
        let outcome = Outcome::Pending(world.engine.try_append(append));
        self.ledger.entries.push(Entry { parts, sequence, commits, outcome });
        // A refusal at the door consumed no sequence: what comes after would be a gap.
        self.ledger.collect();
        if matches!(self.ledger.entries[number].outcome, Outcome::Refused(_)) && sequence.is_some() {
            self.next_sequence -= 1;
        }
    }

    /// A producer without a name appends and expires.
    fn expiring(&mut self, world: &mut World) -> Result<(), Broken> {
        let number = self.ledger.entries.len();
        let (topic, lane) = self.lanes().remove(0);
        let parts = vec![Part { topic, lane, values: vec![value(number, 0, 0, 20)] }];
        let append = self.request(&parts, None, &[]);
        let answer = Passing::producer(world, &mut self.dice, &append)?;
        let outcome = match answer {
            Some(Ok(appended)) => Outcome::Acked(appended),
            Some(Err(refusal)) if !matches!(refusal, Refusal::OutcomeUnknown(_)) => Outcome::Refused(refusal),
            _ => Outcome::Unknown,
        };
        self.ledger.entries.push(Entry { parts, sequence: None, commits: Vec::new(), outcome });
        Ok(())
    }

    /// The append of an entry, with the same bytes every time.
    fn request(&self, parts: &[Part], sequence: Option<u64>, commits: &[CursorCommit]) -> Append {
        let batch = |part: &Part| {
            let plain = record_set(&part.values);
            let packed = part.values.len().is_multiple_of(3);
            let content = if packed { Content::Encoded(encoded(&plain)) } else { Content::Plain(plain) };
            AppendBatch { topic: part.topic.clone(), topic_id: None, partition: Some(part.lane.partition), content }
        };
        let stamp = sequence.map(|sequence| Stamp {
            producer: PRODUCER.to_owned(),
            epoch: self.epoch,
            sequence,
            answered_below: 0,
        });
        Append { batches: parts.iter().map(batch).collect(), stamp, commits: commits.to_vec(), ..Append::default() }
    }

    /// Sends an accepted append once more: the same answer, or none of it is true any more.
    fn retry(&mut self, world: &mut World) -> Result<(), Broken> {
        let acked = self.ledger.entries.iter().enumerate().rev().find_map(|(number, entry)| match &entry.outcome {
            Outcome::Acked(appended) if entry.sequence.is_some() => Some((number, appended.clone())),
            _ => None,
        });
        let Some((number, first)) = acked else { return Ok(()) };
        let entry = &self.ledger.entries[number];
        let ticket = world.engine.try_append(self.request(&entry.parts, entry.sequence, &entry.commits));
        match world.wait(&ticket) {
            Some(Ok(again)) => {
                let same = |a: &Lane, b: &Lane, x: Offset, y: Offset| a == b && x == y;
                let equal = again.batches.len() == first.batches.len()
                    && again.batches.iter().zip(&first.batches).all(|(a, b)| same(&a.lane, &b.lane, a.base, b.base));
                if again.duplicate && equal {
                    return Ok(());
                }
                Err(format!("P4 append {number} was acked as {first:?} and a retry got {again:?}"))
            }
            None
            | Some(Err(
                Refusal::Overloaded { .. }
                | Refusal::OutcomeUnknown(_)
                | Refusal::Poisoned(_)
                | Refusal::JournalFull { .. }
                | Refusal::DiskFull { .. }
                | Refusal::Lacking
                | Refusal::SequenceForgotten { .. },
            )) => Ok(()),
            Some(Err(refusal)) => Err(format!("P4 append {number} was acked and a retry was refused: {refusal}")),
        }
    }

    /// Takes back an append that waits: it must not be in the log, unless it was taken up.
    fn withdraw(&mut self) {
        let waiting = self.ledger.entries.iter_mut().rev().find_map(|entry| match &entry.outcome {
            Outcome::Pending(ticket) if entry.sequence.is_none() && ticket.withdraw() => Some(&mut entry.outcome),
            _ => None,
        });
        if let Some(outcome) = waiting {
            *outcome = Outcome::Refused(Refusal::Stopping);
        }
    }

    /// An append whose expected offset cannot hold.
    fn expect_wrong(&mut self, world: &World) {
        let number = self.ledger.entries.len();
        let (topic, lane) = self.lanes().remove(0);
        let parts = vec![Part { topic: topic.clone(), lane, values: vec![value(number, 0, 0, 5)] }];
        let check = Check::NextOffset { topic, partition: lane.partition, next_offset: Offset(1 << 40) };
        let append = Append { checks: vec![check], ..self.request(&parts, None, &[]) };
        let outcome = Outcome::Pending(world.engine.try_append(append));
        self.ledger.entries.push(Entry { parts, sequence: None, commits: Vec::new(), outcome });
    }

    /// Reads a lane whole: what was seen must stay.
    fn read(&mut self, world: &World) -> Result<(), Broken> {
        let lanes = self.lanes();
        let place = usize::try_from(self.dice.below(lanes.len() as u64)).expect("small");
        let lane = lanes[place].1;
        let values = crate::ledger::read_lane(&world.engine, lane)?;
        if let Some(seen) = self.ledger.seen.get(&lane)
            && !values.starts_with(seen)
        {
            return Err(format!("P2 lane {lane}: what was read before is not the same now"));
        }
        self.ledger.seen.insert(lane, values);
        Ok(())
    }

    /// A topic that comes, gets records and goes.
    fn churn(&mut self, world: &mut World) {
        let config =
            TopicConfig { partitions: 1, codec: Codec::None, segment_bytes: 64 << 10, ..TopicConfig::default() };
        let ticket = world.engine.create_topic("brief", config, false);
        let Some(Ok(created)) = world.wait(&ticket) else { return };
        let id = created.topic.id;
        self.ledger.doomed.push(id);
        let number = self.ledger.entries.len();
        let lane = Lane { topic: id, partition: Partition(0) };
        let values = (0..30).map(|place| value(number, 0, place, 300)).collect();
        let parts = vec![Part { topic: "brief".to_owned(), lane, values }];
        let outcome = Outcome::Pending(world.engine.try_append(self.request(&parts, None, &[])));
        self.ledger.entries.push(Entry { parts, sequence: None, commits: Vec::new(), outcome });
        world.driver.steps(self.dice.below(200));
        let ticket = world.engine.delete_topic("brief", id);
        if let Some(Ok(())) = world.wait(&ticket) {
            self.ledger.deleted.push(id);
        }
    }

    /// After a reopening: holds the log against the ledger, then sends again whatever has no answer, and what was
    /// accepted last, and holds the answers against the log.
    pub fn after_crash(&mut self, world: &mut World) -> Result<(), Broken> {
        self.ledger.check(&world.engine)?;
        if self.epoch == 0 {
            return Ok(());
        }
        let highest = self.highest_present();
        self.register(world).ok_or("the producer could not be registered after a restart")?;
        if self.next_sequence != highest + 1 {
            return Err(format!("P4 sequence {highest} is the last in the log, next is {}", self.next_sequence));
        }
        self.resend(world, highest)
    }

    fn highest_present(&self) -> u64 {
        let stamped = self.ledger.entries.iter().enumerate().filter(|(_, entry)| entry.sequence.is_some());
        let present = stamped.filter(|(number, _)| self.ledger.is_present(*number));
        present.filter_map(|(_, entry)| entry.sequence).max().unwrap_or(0)
    }

    /// Sends the newest stamped appends again under the new epoch, in the order of their sequences.
    fn resend(&mut self, world: &mut World, highest: u64) -> Result<(), Broken> {
        let is_open = |entry: &Entry| !matches!(entry.outcome, Outcome::Refused(_));
        let mut again: Vec<(u64, usize)> = (0..)
            .zip(&self.ledger.entries)
            .filter(|(_, entry)| is_open(entry))
            .filter_map(|(number, entry)| entry.sequence.map(|sequence| (sequence, number)))
            .collect();
        again.sort_unstable();
        // All that may have been lost, and the newest that were not.
        again.retain(|(sequence, _)| sequence + 12 > highest);
        for (sequence, number) in again {
            let was_present = self.ledger.is_present(number);
            let entry = &self.ledger.entries[number];
            let request = self.request(&entry.parts, Some(sequence), &entry.commits);
            let answer = world.append(&request).ok_or("an append after a restart was never answered")?;
            match answer {
                Ok(appended) if appended.duplicate == was_present => {
                    self.ledger.entries[number].outcome = Outcome::Acked(appended);
                }
                // What came before it was lost with the crash: it can only be a gap now.
                Err(Refusal::SequenceGap { .. }) if sequence > highest + 1 && !was_present => {
                    self.ledger.entries[number].outcome = Outcome::Refused(Refusal::Stopping);
                }
                // So was the assignment under which it moves a cursor.
                Err(refusal) if is_of_cursor(&refusal) && !was_present => {
                    self.ledger.entries[number].outcome = Outcome::Refused(refusal);
                }
                other => {
                    return Err(format!("P4 append {number} (sequence {sequence}, present {was_present}): {other:?}"));
                }
            }
        }
        self.next_sequence = self.highest_known() + 1;
        self.ledger.check(&world.engine)
    }

    fn highest_known(&self) -> u64 {
        let acked = self.ledger.entries.iter().filter(|entry| matches!(entry.outcome, Outcome::Acked(_)));
        acked.filter_map(|entry| entry.sequence).max().unwrap_or(0)
    }
}

/// A `RecordSet` of records that have a value only.
pub fn record_set(values: &[Vec<u8>]) -> Bytes {
    let mut out = Vec::new();
    for value in values {
        let mut record = vec![0x12];
        varint(&mut record, value.len());
        record.extend(value);
        out.push(0x0a);
        varint(&mut out, record.len());
        out.extend(record);
    }
    out.into()
}

fn varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn encoded(plain: &Bytes) -> Batch {
    let data = Bytes::from(codec::compress(Codec::Lz4, plain));
    let set = tillroll_engine::record::RecordSet::new(plain);
    Batch {
        codec: Codec::Lz4,
        record_count: u32::try_from(set.iter().count()).expect("small"),
        decoded_bytes: u32::try_from(plain.len()).expect("small"),
        crc32: crc32fast::hash(&data),
        data,
    }
}

/// The id of a topic, for tests that make their own.
pub const FIRST_TOPIC: TopicId = TopicId(1);
