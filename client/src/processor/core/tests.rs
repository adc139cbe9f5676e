//! Goal: exactly once, whatever happens. Method: a model of a broker with inputs, cursors, epochs and producers, and a
//! processor around the core that begins, decides, sends and crashes as a seed says; requests of broken streams linger
//! and arrive late. After every append the log is compared with the cursors; at the end everything is processed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;
use tillroll_proto::v1;

use super::*;
use crate::{
    Stamp,
    processor::{
        append::{Conditions, request},
        block::{Output, Said},
    },
};

const UNITS: u32 = 3;
const LANES: usize = 2;
/// Size of a record of the model.
const RECORD_BYTES: usize = 24;

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// What an output says: the step that it is of, and how many decisions its unit had made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    unit: u32,
    /// Lane and offset; a timer has none, and its number as the offset.
    lane: Option<usize>,
    offset: u64,
    k: u8,
    n: u8,
    decision: u64,
}

impl Record {
    fn put(self, out: &mut BytesMut) {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..4].copy_from_slice(&self.unit.to_le_bytes());
        bytes[4] = self.lane.map_or(u8::MAX, |lane| lane as u8);
        (bytes[5], bytes[6]) = (self.k, self.n);
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.decision.to_le_bytes());
        out.extend_from_slice(&bytes);
    }

    fn read(bytes: &[u8]) -> Self {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Self {
            unit: u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")),
            lane: (bytes[4] != u8::MAX).then_some(usize::from(bytes[4])),
            offset: number(8),
            k: bytes[5],
            n: bytes[6],
            decision: number(16),
        }
    }
}

/// Unit, lane and offset of a step.
type StepPlace = (u32, Option<usize>, u64);

#[derive(Clone, Debug, Default)]
struct Cursor {
    next: u64,
    epoch: u64,
}

#[derive(Debug, Default)]
struct Producer {
    epoch: u64,
    next: u64,
    answers: BTreeMap<u64, v1::AppendRequest>,
}

/// What the model says to one append.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Yes { duplicate: bool },
    Later,
    Gap(u64),
    NoProducer,
    FencedProducer,
    Faults(Vec<(String, Fault)>),
}

/// The model of a broker.
struct Broker {
    /// How many outputs the step of each input has, and its key, by unit and lane.
    inputs: BTreeMap<(u32, usize), Vec<(u8, u32)>>,
    cursors: BTreeMap<(u32, usize), Cursor>,
    skipped: BTreeSet<(u32, usize, u64)>,
    log: Vec<Record>,
    producers: BTreeMap<String, Producer>,
    registered: u64,
    duplicates: u64,
    refusals: u64,
}

impl Broker {
    fn new(dice: &mut Dice, inputs: usize) -> Self {
        let mut broker = Self {
            inputs: BTreeMap::new(),
            cursors: BTreeMap::new(),
            skipped: BTreeSet::new(),
            log: Vec::new(),
            producers: BTreeMap::new(),
            registered: 0,
            duplicates: 0,
            refusals: 0,
        };
        for unit in 0..UNITS {
            for lane in 0..LANES {
                let input = |_| (dice.below(3) as u8, dice.below(6) as u32);
                broker.inputs.insert((unit, lane), (0..inputs).map(input).collect());
                broker.cursors.insert((unit, lane), Cursor::default());
            }
        }
        broker
    }

    fn register(&mut self) -> (String, u64, u64) {
        self.registered += 1;
        let id = format!("p-{}", self.registered);
        self.producers.insert(id.clone(), Producer { epoch: 1, next: 1, answers: BTreeMap::new() });
        (id, 1, 1)
    }

    /// None: nobody knows it.
    fn take_over(&mut self, id: &str) -> Option<(u64, u64)> {
        let producer = self.producers.get_mut(id)?;
        producer.epoch += 1;
        Some((producer.epoch, producer.next))
    }

    fn append(&mut self, append: &v1::AppendRequest) -> Verdict {
        let stamp = append.producer.as_ref().expect("every append has one");
        let Some(producer) = self.producers.get(&stamp.producer_id) else { return Verdict::NoProducer };
        if stamp.epoch < producer.epoch {
            return Verdict::FencedProducer;
        }
        if stamp.sequence > producer.next {
            return Verdict::Gap(producer.next);
        }
        if stamp.sequence < producer.next {
            let known = producer.answers.get(&stamp.sequence).expect("it is remembered");
            assert_eq!(*known, v1::AppendRequest { producer: None, ..append.clone() }, "another append of that number");
            self.duplicates += 1;
            return Verdict::Yes { duplicate: true };
        }
        let faults = self.faults(append);
        if !faults.is_empty() {
            self.refusals += 1;
            return Verdict::Faults(faults);
        }
        let (id, sequence) = (stamp.producer_id.clone(), stamp.sequence);
        for commit in &append.commits {
            let cursor = self.cursors.get_mut(&place(&commit.topic, commit.partition)).expect("it is a lane");
            cursor.next = commit.next_offset;
        }
        for batch in &append.batches {
            let Some(v1::append_batch::Content::Encoded(encoded)) = &batch.content else { panic!("it is encoded") };
            self.log.extend(encoded.data.chunks(RECORD_BYTES).map(Record::read));
        }
        let producer = self.producers.get_mut(&id).expect("it was just there");
        producer.next += 1;
        producer.answers.insert(sequence, v1::AppendRequest { producer: None, ..append.clone() });
        self.prove();
        Verdict::Yes { duplicate: false }
    }

    fn faults(&self, append: &v1::AppendRequest) -> Vec<(String, Fault)> {
        let mut faults = Vec::new();
        for (index, commit) in append.commits.iter().enumerate() {
            let cursor = &self.cursors[&place(&commit.topic, commit.partition)];
            if commit.assignment_epoch != Some(cursor.epoch) {
                faults.push((format!("commits[{index}]"), Fault::Fenced));
            } else if commit.expected_offset != Some(cursor.next) {
                faults.push((format!("commits[{index}]"), Fault::Misplaced));
            }
        }
        for (index, check) in append.checks.iter().enumerate() {
            let Some(v1::check::Kind::Assignment(held)) = &check.kind else { panic!("of another kind") };
            if self.cursors[&place(&held.topic, held.partition)].epoch != held.assignment_epoch {
                faults.push((format!("checks[{index}]"), Fault::Fenced));
            }
        }
        assert!(!append.commits.is_empty() || !append.checks.is_empty(), "an append without a fence");
        faults
    }

    /// What is in the log is what the cursors have moved over, each step whole and once; and decisions are dense.
    fn prove(&self) {
        let mut steps: BTreeMap<StepPlace, Vec<(u8, u8)>> = BTreeMap::new();
        let mut decisions: BTreeMap<u32, u64> = BTreeMap::new();
        for record in &self.log {
            steps.entry((record.unit, record.lane, record.offset)).or_default().push((record.k, record.n));
            if record.k == 0 {
                let decision = decisions.entry(record.unit).or_default();
                *decision += 1;
                assert_eq!(record.decision, *decision, "decisions are in the log in their order, without a hole");
            }
        }
        for ((unit, lane, offset), outputs) in &steps {
            let n = outputs[0].1;
            let whole: Vec<(u8, u8)> = (0..n).map(|k| (k, n)).collect();
            assert_eq!(*outputs, whole, "the step of unit {unit} lane {lane:?} offset {offset}");
            if let Some(lane) = lane {
                assert!(*offset < self.cursors[&(*unit, *lane)].next, "an output before its cursor");
            }
        }
        for ((unit, lane), cursor) in &self.cursors {
            for offset in 0..cursor.next {
                let (n, _) = self.inputs[&(*unit, *lane)][offset as usize];
                let is_there = steps.contains_key(&(*unit, Some(*lane), offset));
                let is_skipped = self.skipped.contains(&(*unit, *lane, offset));
                assert_eq!(is_there, n > 0 && !is_skipped, "unit {unit} lane {lane} offset {offset} of {n}");
            }
        }
    }

    fn is_done(&self) -> bool {
        self.cursors.iter().all(|(place, cursor)| cursor.next == self.inputs[place].len() as u64)
    }
}

/// A lane's topic is its number in the unit, its partition the unit.
fn place(topic: &str, partition: u32) -> (u32, usize) {
    (partition, topic.parse().expect("a number"))
}

struct Step {
    lane: Option<usize>,
    offset: u64,
    n: u8,
}

/// A unit as the process knows it: the state is the number of decisions, and the timers that have fired.
struct Run {
    id: UnitId,
    decisions: u64,
    fired: BTreeSet<u64>,
    waiting: Vec<u64>,
}

/// One process: what it knows, and its stream.
struct Process {
    core: Core<Step>,
    runs: BTreeMap<u32, Run>,
    producer: (String, u64),
    append_id: u64,
    /// Requests on their way, and answers on theirs.
    requests: VecDeque<v1::AppendStreamRequest>,
    answers: VecDeque<(u64, Verdict)>,
    timers: u64,
}

impl Process {
    /// Starts, and takes everything that there is.
    fn start(broker: &mut Broker, timers: u64) -> Self {
        let (id, epoch, next) = broker.register();
        let mut process = Self {
            core: Core::new(next),
            runs: BTreeMap::new(),
            producer: (id, epoch),
            append_id: 0,
            requests: VecDeque::new(),
            answers: VecDeque::new(),
            timers,
        };
        for unit in 0..UNITS {
            fence(broker, unit);
            process.load(broker, unit);
        }
        process
    }

    /// Makes a unit from the log.
    fn load(&mut self, broker: &Broker, unit: u32) {
        let lanes = (0..LANES).map(|lane| {
            let Cursor { next, epoch } = broker.cursors[&(unit, lane)].clone();
            (Held { topic: lane.to_string().into(), partition: unit, epoch }, next)
        });
        let id = self.core.add(lanes.collect::<Vec<_>>());
        let own = broker.log.iter().filter(|record| record.unit == unit);
        let decisions = own.clone().filter(|record| record.k == 0).count() as u64;
        let fired = own.filter(|record| record.lane.is_none()).map(|record| record.offset).collect();
        self.runs.insert(unit, Run { id, decisions, fired, waiting: Vec::new() });
    }

    fn lose(&mut self, unit: u32) {
        if let Some(run) = self.runs.remove(&unit) {
            self.core.remove(run.id);
        }
    }

    fn begin(&mut self, broker: &Broker, dice: &mut Dice) {
        let unit = dice.below(UNITS as usize) as u32;
        let Some(run) = self.runs.get_mut(&unit) else { return };
        let order = self.core.unit_mut(run.id).expect("it is held");
        if dice.one_in(9) {
            let number = dice.below(40) as u64;
            let key = format!("timer-{number}");
            if !order.is_busy(&key) && !run.fired.contains(&number) {
                self.timers += 1;
                order.begin(None, key, Step { lane: None, offset: number, n: 1 }, true);
            }
            return;
        }
        let lane = dice.below(LANES);
        let offset = order.lane(lane).begun;
        let Some((n, key)) = broker.inputs[&(unit, lane)].get(offset as usize) else { return };
        let key = format!("key-{key}");
        if *n == 0 && dice.one_in(2) {
            order.pass(lane, offset + 1);
        } else if !order.is_busy(&key) {
            let is_ready = dice.one_in(3);
            let number = order.begin(Some((lane, offset + 1)), key, Step { lane: Some(lane), offset, n: *n }, is_ready);
            if !is_ready {
                run.waiting.push(number);
            }
        }
    }

    /// A call is answered, in any order.
    fn answer_call(&mut self, dice: &mut Dice) {
        let unit = dice.below(UNITS as usize) as u32;
        let Some(run) = self.runs.get_mut(&unit).filter(|run| !run.waiting.is_empty()) else { return };
        let number = run.waiting.swap_remove(dice.below(run.waiting.len()));
        assert!(self.core.unit_mut(run.id).expect("it is held").answer(number, |_| ()));
    }

    fn decide(&mut self, dice: &mut Dice) {
        let unit = dice.below(UNITS as usize) as u32;
        let Some(run) = self.runs.get_mut(&unit) else { return };
        let order = self.core.unit_mut(run.id).expect("it is held");
        let Some(Step { lane, offset, n }) = order.next_to_decide() else { return };
        let (lane, offset) = (*lane, *offset);
        let n = if lane.is_none() && !run.fired.insert(offset) { 0 } else { *n };
        run.decisions += u64::from(n > 0);
        let mut said = Said::default();
        for k in 0..n {
            let start = said.bytes.len();
            Record { unit, lane, offset, k, n, decision: run.decisions }.put(&mut said.bytes);
            said.outputs.push(Output { topic: 0, partition: unit, range: start..said.bytes.len() });
        }
        order.decided(&said);
    }

    fn send(&mut self, dice: &mut Dice) {
        let limits = AppendLimits {
            bytes: RECORD_BYTES * dice.below(40),
            records: 50,
            batches: 1 + dice.below(3),
            commits: 100,
        };
        if self.core.flight().unsent_bytes().is_none()
            && (!self.core.flight().is_all_sent() || self.core.flight().in_flight() > 4 || !self.core.gather(&limits))
        {
            return;
        }
        let (answered_below, append_id) = (self.core.flight().answered_below(), self.append_id + 1);
        let Some(entry) = self.core.send(append_id) else { return };
        self.append_id = append_id;
        let (producer_id, epoch) = (self.producer.0.as_str().into(), self.producer.1);
        let stamp = Stamp { producer_id, epoch, sequence: entry.sequence, answered_below };
        self.requests.push_back(request(entry, "group", &["out".to_owned()], stamp));
    }

    /// Takes one answer; gives the units whose state is to be made again, with whether they are still held.
    fn hear(&mut self, broker: &mut Broker) {
        let Some((append_id, said)) = self.answers.pop_front() else { return };
        assert_eq!(self.core.flight().oldest().map(|entry| entry.append_id), Some(append_id));
        match said {
            Verdict::Yes { .. } => {
                self.core.accepted();
            }
            Verdict::Later => self.core.not_accepted(Answer::Later, []),
            Verdict::Gap(next) => self.core.not_accepted(Answer::Gap { next }, []),
            Verdict::NoProducer | Verdict::FencedProducer => self.core.not_accepted(Answer::Refused, []),
            Verdict::Faults(faults) => {
                let conditions = Conditions::of(self.core.flight().oldest().expect("it is in flight"));
                let faults = faults.iter().map(|(field, fault)| (conditions.unit(field).expect("a unit"), *fault));
                self.core.not_accepted(Answer::Refused, faults.collect::<Vec<_>>());
            }
        }
        self.settle(broker);
    }

    fn settle(&mut self, broker: &mut Broker) {
        if self.core.settle() != Some(Settled::TakeOver) {
            return;
        }
        let again: Vec<(UnitId, Fault)> = if let Some((epoch, next)) = broker.take_over(&self.producer.0) {
            self.producer.1 = epoch;
            self.core.taken_over(next).1
        } else {
            let (id, epoch, next) = broker.register();
            self.producer = (id, epoch);
            self.core.renewed(next).into_iter().map(|id| (id, Fault::Misplaced)).collect()
        };
        for (id, fault) in again {
            let unit = self.runs.iter().find(|(_, run)| run.id == id).map(|(unit, _)| *unit);
            let unit = unit.expect("units at fault are held");
            assert_eq!(self.core.unit(id).expect("it is there").in_flight(), 0);
            self.lose(unit);
            if fault == Fault::Misplaced {
                self.load(broker, unit);
            }
        }
    }
}

fn fence(broker: &mut Broker, unit: u32) {
    for lane in 0..LANES {
        broker.cursors.get_mut(&(unit, lane)).expect("it is a lane").epoch += 1;
    }
}

struct World {
    dice: Dice,
    broker: Broker,
    process: Process,
    /// Requests of streams that broke, and of processes that died.
    lingering: Vec<VecDeque<v1::AppendStreamRequest>>,
    crashes: u64,
    fences: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut broker = Broker::new(&mut dice, 60);
        let process = Process::start(&mut broker, 0);
        Self { dice, broker, process, lingering: Vec::new(), crashes: 0, fences: 0 }
    }

    fn serve(&mut self) {
        let Some(request) = self.process.requests.pop_front() else { return };
        let append = request.append.as_ref().expect("it has one");
        let said = if self.dice.one_in(25) { Verdict::Later } else { self.broker.append(append) };
        self.process.answers.push_back((request.append_id, said));
    }

    /// A copy arrives late.
    fn serve_late(&mut self) {
        let index = self.dice.below(self.lingering.len());
        let Some(stream) = self.lingering.get_mut(index) else { return };
        match stream.pop_front() {
            Some(request) if !self.dice.one_in(3) => {
                self.broker.append(request.append.as_ref().expect("it has one"));
            }
            Some(_) => {}
            None => {
                self.lingering.swap_remove(index);
            }
        }
    }

    fn break_stream(&mut self) {
        let requests = std::mem::take(&mut self.process.requests);
        self.process.answers.clear();
        self.lingering.push(requests);
        self.process.core.broke();
        self.process.settle(&mut self.broker);
    }

    fn disturb(&mut self) {
        match self.dice.below(7) {
            0 | 1 => self.break_stream(),
            2 => {
                self.crashes += 1;
                self.lingering.push(std::mem::take(&mut self.process.requests));
                self.process = Process::start(&mut self.broker, self.process.timers);
            }
            3 | 4 => {
                // It is lost, which the process does not know for a while, or learns from a refusal.
                self.fences += 1;
                let unit = self.dice.below(UNITS as usize) as u32;
                fence(&mut self.broker, unit);
            }
            5 => {
                let (unit, lane) = (self.dice.below(UNITS as usize) as u32, self.dice.below(LANES));
                let cursor = self.broker.cursors.get_mut(&(unit, lane)).expect("it is a lane");
                if (cursor.next as usize) < self.broker.inputs[&(unit, lane)].len() {
                    self.broker.skipped.insert((unit, lane, cursor.next));
                    cursor.next += 1;
                }
            }
            _ => {
                let id = self.process.producer.0.clone();
                self.broker.producers.remove(&id);
            }
        }
    }

    /// The group tells the process what it holds.
    fn tell(&mut self) {
        for unit in 0..UNITS {
            let epoch = self.broker.cursors[&(unit, 0)].epoch;
            let known = self
                .process
                .runs
                .get(&unit)
                .map(|run| self.process.core.unit(run.id).expect("it is held").held()[0].epoch);
            if known != Some(epoch) {
                self.process.lose(unit);
                self.process.load(&self.broker, unit);
            }
        }
    }

    fn step(&mut self, disturb: usize) {
        match self.dice.below(13) {
            0..4 => self.process.begin(&self.broker, &mut self.dice),
            4 => self.process.answer_call(&mut self.dice),
            5 | 6 => self.process.decide(&mut self.dice),
            7 => self.process.send(&mut self.dice),
            8 => self.serve(),
            9 => self.process.hear(&mut self.broker),
            10 => self.serve_late(),
            11 => self.tell(),
            _ if disturb > 0 && self.dice.one_in(disturb) => self.disturb(),
            _ => {}
        }
    }
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..3_000 {
        world.step(4);
    }
    for _ in 0..200_000 {
        world.step(0);
        if world.broker.is_done() {
            break;
        }
    }
    assert!(world.broker.is_done(), "everything is processed in the end: {:?}", world.broker.cursors);
    world.broker.prove();
    world
}

#[test]
fn every_step_is_in_the_log_once_whatever_happens() {
    let (mut duplicates, mut refusals, mut crashes, mut fences) = (0, 0, 0, 0);
    for seed in 0..300 {
        let world = std::panic::catch_unwind(|| run(seed));
        let world = world.unwrap_or_else(|_| panic!("seed {seed}"));
        duplicates += world.broker.duplicates;
        refusals += world.broker.refusals;
        crashes += world.crashes;
        fences += world.fences;
    }
    println!("seeds 0..300: {duplicates} duplicates, {refusals} refusals, {crashes} crashes, {fences} fences");
    assert!(duplicates > 300 && refusals > 300 && crashes > 300 && fences > 300);
}
