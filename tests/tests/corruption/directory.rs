//! A small data directory with a file of every kind, and what it holds.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use tillroll_engine::{
    codec::Codec,
    disk::sim::{Crash, SimDisk},
    engine::Engine,
    error::ReadFault,
    group::{BelowHead, GroupConfig, Join, Mode, NewGroup, Rule},
    id::{Lane, Offset, Partition},
    record::RecordSet,
    request::{Append, AppendBatch, Appended, Content, CursorCommit, InitProducer, Stamp, Start, TopicConfig},
    settings::Settings,
    table::group::GroupRow,
};
use tillroll_tests::{
    dice::Dice,
    ledger::value,
    world::{World, record_set, settings},
};

/// One record as a reader gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    value: Vec<u8>,
    append_time_us: i64,
}

/// The directory, durable and closed by a kill.
pub(crate) struct Directory {
    /// What the disk holds.
    pub disk: SimDisk,
    /// Every record of every lane.
    pub lanes: BTreeMap<Lane, Vec<Seen>>,
    /// The consumer group.
    pub group: GroupRow,
    /// The producer's last append.
    pub last: Append,
    /// What it was answered.
    pub answer: Appended,
}

const GROUP: &str = "mailer";
const TOPICS: [(&str, Codec); 3] = [("plain", Codec::None), ("packed", Codec::Lz4), ("dense", Codec::Zstd)];

/// Files as small as they go, since each of their bytes costs an open.
pub(crate) fn small() -> Settings {
    Settings {
        journal_file_bytes: 24 << 10,
        group_bytes: 8 << 10,
        block_bytes: 3 << 10,
        ballast_bytes: 4 << 10,
        segment_age_us: 50_000_000,
        ..settings()
    }
}

/// Makes appends, and remembers what they were.
struct Loader {
    world: World,
    dice: Dice,
    epoch: u64,
    sequence: u64,
    made: usize,
    values: BTreeMap<Lane, Vec<Vec<u8>>>,
    lanes: Vec<(String, Lane)>,
}

impl Loader {
    /// Sends one stamped append of a few records to each lane that `to` names, without waiting.
    fn send(&mut self, to: Range<usize>) -> (Append, tillroll_engine::ticket::Ticket<Appended>) {
        let mut batches = Vec::new();
        for (part, (topic, lane)) in self.lanes[to].iter().enumerate() {
            let records = usize::try_from(self.dice.between(1, 3)).expect("small");
            // Plain records are large enough for blocks of more than one page.
            let most = if topic == TOPICS[0].0 { 1_500 } else { 700 };
            let filling = usize::try_from(self.dice.between(200, most)).expect("small");
            let values: Vec<_> = (0..records).map(|place| value(self.made, part, place, filling)).collect();
            let content = Content::Plain(record_set(&values));
            batches.push(AppendBatch {
                topic: topic.clone(),
                topic_id: None,
                partition: Some(lane.partition),
                content,
            });
            self.values.entry(*lane).or_default().extend(values);
        }
        self.made += 1;
        self.sequence += 1;
        let (producer, sequence) = ("loader".to_owned(), self.sequence);
        let stamp = Stamp { producer, epoch: self.epoch, sequence, answered_below: sequence.saturating_sub(3) };
        let append = Append { batches, stamp: Some(stamp), ..Append::default() };
        let ticket = self.world.engine.try_append(append.clone());
        (append, ticket)
    }

    fn append(&mut self, to: Range<usize>) -> (Append, Appended) {
        let (append, ticket) = self.send(to);
        let answer = self.world.wait(&ticket).expect("answered").expect("accepted");
        (append, answer)
    }

    /// Another process takes the group's one member over, and moves a cursor.
    fn consume(&mut self, next: u64) {
        let (group, member, client) = (GROUP.to_owned(), "m-0".to_owned(), "test".to_owned());
        let ticket =
            self.world.engine.join(Join { group, member, instance: format!("i-{next}"), client, comes_back: false });
        self.world.wait(&ticket).expect("answered").expect("joined");
        let lane = self.lanes[0].1;
        let epoch = self.world.engine.group(GROUP).expect("it is there").cursors[&lane].epoch;
        let commit = CursorCommit {
            group: GROUP.to_owned(),
            topic: TOPICS[0].0.to_owned(),
            partition: lane.partition,
            next: Offset(next),
            epoch: Some(epoch),
            expected: None,
            metadata: Bytes::from_static(b"beside"),
        };
        let ticket = self.world.engine.commit_cursors(vec![commit]);
        self.world.wait(&ticket).expect("answered").expect("moved");
    }

    fn checkpoint(&mut self) {
        self.world.engine.ask_checkpoint();
        self.world.driver.settle(100_000);
        let status = self.world.engine.status();
        assert_eq!(status.checkpointed, status.durable, "the checkpoint stands for all of it");
    }

    fn segments(&self, lane: usize) -> usize {
        self.world.engine.segments(self.lanes[lane].1).expect("the topic is alive").len()
    }

    /// Sealed segments of each lane at least.
    fn sealed(&self) -> usize {
        let count = |lane| self.world.engine.segments(lane).expect("alive").iter().filter(|row| row.sealed).count();
        self.lanes.iter().map(|(_, lane)| count(*lane)).min().unwrap_or(0)
    }
}

fn start(disk: &SimDisk, seed: u64) -> Loader {
    let mut world = World::open(disk, small(), seed).expect("a new directory opens");
    let mut lanes = Vec::new();
    for (name, codec) in TOPICS {
        let config = TopicConfig { partitions: 1, codec, segment_bytes: 64 << 10, ..TopicConfig::default() };
        let ticket = world.engine.create_topic(name, config, false);
        let topic = world.wait(&ticket).expect("answered").expect("created").topic;
        lanes.push((name.to_owned(), Lane { topic: topic.id, partition: Partition(0) }));
    }
    let config = GroupConfig {
        mode: Mode::Members,
        rule: Some(Rule::Spread),
        start: Start::Earliest,
        below_head: BelowHead::Fail,
        session_ms: 10_000,
        drain_ms: 30_000,
    };
    let topics = TOPICS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let ticket = world.engine.create_group(NewGroup { name: GROUP.to_owned(), topics, config });
    world.wait(&ticket).expect("answered").expect("created");
    let ticket = world.engine.init_producer(InitProducer {
        name: Some("loader".to_owned()),
        idle_expiry_ms: 0,
        ..InitProducer::default()
    });
    let epoch = world.wait(&ticket).expect("answered").expect("registered").epoch;
    Loader { world, dice: Dice::new(seed), epoch, sequence: 0, made: 0, values: BTreeMap::new(), lanes }
}

/// Makes the directory: three topics, two sealed segments of each and one that grows, a torn end that was put aside,
/// two checkpoints and more, and frames in two journal files that no checkpoint stands for.
pub(crate) fn make(seed: u64) -> Directory {
    let disk = SimDisk::new(seed);
    let mut loader = start(&disk, seed);
    loop {
        loader.append(0..3);
        loader.append(0..3);
        loader.consume(u64::try_from(loader.made).expect("small"));
        loader.checkpoint();
        if loader.sealed() >= 2 {
            break;
        }
        loader.world.env.advance(60_000_000);
    }
    // A second block for two of the growing segments.
    loader.append(0..2);
    disk.crash(Crash::Kill);
    tear(&disk);
    loader.world = World::open(&disk, small(), seed).expect("a torn end does not stop the start");
    assert!(loader.world.report.quarantined.is_some(), "the torn end is put aside");
    loader.checkpoint();
    // One group of several frames, then groups of one, into the next file. The clock has gone on far enough for the
    // next whole block of a lane to begin a segment that no checkpoint lists.
    loader.world.env.advance(600_000_000);
    let many: Vec<_> = (0..3).map(|lane| loader.send(lane..lane + 1).1).collect();
    for ticket in &many {
        loader.world.wait(ticket).expect("answered").expect("accepted");
    }
    loader.append(0..3);
    let listed = loader.segments(2);
    while loader.segments(2) == listed {
        loader.append(2..3);
        loader.world.driver.settle(100_000);
    }
    loader.consume(u64::try_from(loader.made).expect("small"));
    let group = GroupRow::clone(&*loader.world.engine.group(GROUP).expect("it is there"));
    let (last, answer) = loader.append(1..3);
    let before = loader.world.engine.status();
    assert!(before.checkpointed < before.durable && before.journal_files > 1, "{before:?}");
    disk.crash(Crash::Kill);
    let durable = SimDisk::new(seed);
    disk.files().iter().for_each(|path| durable.write_file(path, &disk.read_file(path)));
    let lanes = read_all(&durable, &loader.values, seed);
    Directory { disk: durable, lanes, group, last, answer }
}

/// Something stands behind the last group, as after a torn write.
fn tear(disk: &SimDisk) {
    let last = disk.files().into_iter().filter(|path| path.starts_with("journal/")).max_by_key(|path| {
        let bytes = disk.read_file(path);
        let headed = bytes[..4] == *b"TLRF";
        headed.then(|| u64::from_le_bytes(bytes[48..56].try_into().expect("eight bytes")))
    });
    let last = last.expect("there is a journal");
    let bytes = disk.read_file(&last);
    let end = (4_096..bytes.len()).step_by(4_096).find(|at| bytes[*at..*at + 160].iter().all(|byte| *byte == 0));
    disk.flip(&last, end.expect("the file has an end") as u64 + 4, 0x55);
}

/// Reads the directory while it is whole and holds it against what was appended.
fn read_all(disk: &SimDisk, values: &BTreeMap<Lane, Vec<Vec<u8>>>, seed: u64) -> BTreeMap<Lane, Vec<Seen>> {
    let world = World::open(&disk.snapshot(), small(), seed).expect("it opens");
    assert_eq!(world.report.findings, Vec::<String>::new());
    let mut lanes = BTreeMap::new();
    for (lane, values) in values {
        let mut records = Vec::new();
        let lost = read(&world.engine, *lane, |_, record| {
            records.push(record);
            Ok(())
        });
        assert_eq!(lost, Ok(Vec::new()));
        assert!(
            records.iter().map(|record| &record.value).eq(values),
            "a whole directory reads back as it was written"
        );
        lanes.insert(*lane, records);
    }
    lanes
}

/// Reads a lane, each record into `each`, and goes on behind damage; the damaged ranges come back.
fn read(
    engine: &Engine,
    lane: Lane,
    mut each: impl FnMut(u64, Seen) -> Result<(), String>,
) -> Result<Vec<Range<u64>>, String> {
    let (mut next, mut lost) = (Offset(0), Vec::new());
    loop {
        let answer = match engine.read(lane, next, 64 << 10) {
            Ok(answer) => answer,
            Err(ReadFault::Damaged { from, to, .. }) if from == next && to > from => {
                lost.push(from.0..to.0);
                next = to;
                continue;
            }
            Err(fault) => return Err(format!("lane {lane} offset {next}: {fault}")),
        };
        if answer.chunks.is_empty() {
            let end = engine.extent(lane).map_err(|fault| fault.to_string())?.end;
            return if end == next { Ok(lost) } else { Err(format!("lane {lane} ends at {end}, read up to {next}")) };
        }
        for chunk in &answer.chunks {
            if chunk.base > next || chunk.end <= next {
                return Err(format!("lane {lane}: asked {next}, got {} to {}", chunk.base, chunk.end));
            }
            let plain = chunk.batch.decode().map_err(|fault| format!("lane {lane}: {fault}"))?;
            let times = chunk.times.iter().flat_map(|run| (0..run.record_count).map(|_| run.append_time_us));
            let mut count = 0;
            for ((offset, record), append_time_us) in (chunk.base.0..).zip(RecordSet::new(&plain).iter()).zip(times) {
                let (_, view) = record.map_err(|fault| format!("lane {lane}: {fault}"))?;
                count += 1;
                if offset >= next.0 {
                    each(offset, Seen { value: view.value.to_vec(), append_time_us })?;
                }
            }
            if chunk.base.plus(count) != chunk.end {
                return Err(format!("lane {lane}: {count} records from {} to {}", chunk.base, chunk.end));
            }
            next = chunk.end;
        }
    }
}

impl Directory {
    /// Reads a lane and holds every record that can be read against what was written.
    pub(crate) fn check(&self, engine: &Engine, lane: Lane) -> Result<Vec<Range<u64>>, String> {
        let wanted = &self.lanes[&lane];
        let mut count = 0;
        let lost = read(engine, lane, |offset, seen| {
            count += 1;
            let place = usize::try_from(offset).expect("small");
            if wanted.get(place) == Some(&seen) { Ok(()) } else { Err(format!("lane {lane} offset {offset}: wrong")) }
        })?;
        let missing: u64 = lost.iter().map(|range| range.end - range.start).sum();
        if count + missing == wanted.len() as u64 {
            return Ok(lost);
        }
        Err(format!("lane {lane}: {count} records and {missing} damaged of {}", wanted.len()))
    }

    /// The producer's last append, sent once more, is answered as it was.
    pub(crate) fn retry(&self, world: &mut World) -> Result<(), String> {
        let ticket = world.engine.try_append(self.last.clone());
        match world.wait(&ticket) {
            Some(Ok(again)) if again == (Appended { duplicate: true, ..self.answer.clone() }) => Ok(()),
            other => Err(format!("a retry was answered {other:?}, at first {:?}", self.answer)),
        }
    }
}
