//! Goal: a start never gives out offsets that segments already hold, removes nothing that replay does not bring again,
//! and never panics, whatever part of a directory is lost, older than the rest, or somebody else's. Method: a log on
//! the simulated disk is stopped in the middle of a checkpoint, so that its tables list blocks of frames above their
//! own LSN; then the journal loses its end, or the files are copied one by one at different moments, or files are put
//! beside them.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;

use super::OpenError;
use crate::{
    disk::sim::SimDisk,
    driver::seeded::{Seeded, SimEnv},
    engine::{self, Engine},
    error::ReadFault,
    header::{FILE_HEADER_BYTES, FileHeader, FileKind},
    id::{Incarnation, Lane, Lsn, Offset, Partition, Uid},
    journal::{
        Identity, Tip,
        control::{CONTROL_PATH, Control, Watermark},
        frame::FrameHeader,
        pool::JOURNAL_DIR,
    },
    limits::ALIGN,
    request::{Append, AppendBatch, Content, TopicConfig},
    settings::Settings,
    table::file::{self, Checkpoint},
};

const TOPIC: &str = "orders";

fn settings() -> Settings {
    Settings {
        journal_files_max: 8,
        journal_file_bytes: 64 << 10,
        group_bytes: 16 << 10,
        tail_bytes: 96 << 10,
        block_bytes: 4 << 10,
        checkpoint_after_us: 1_000_000,
        space_floor_bytes: 0,
        ballast_bytes: 0,
        ..Settings::default()
    }
}

struct World {
    engine: Engine,
    driver: Seeded,
    env: Arc<SimEnv>,
    findings: Vec<String>,
    dropped_bytes: u64,
    possible_loss: bool,
}

fn open(disk: &SimDisk, seed: u64) -> Result<World, OpenError> {
    let env = SimEnv::new(seed);
    let (engine, stages, report) = engine::open(disk.handle(), env.clone(), settings())?;
    let (findings, dropped_bytes, possible_loss) = (report.findings, report.dropped_bytes, report.possible_loss);
    Ok(World { engine, driver: Seeded::new(stages, env.clone(), seed), env, findings, dropped_bytes, possible_loss })
}

fn topic(world: &mut World) -> Lane {
    let config = TopicConfig { partitions: 1, segment_bytes: 64 << 10, ..TopicConfig::default() };
    let ticket = world.engine.create_topic(TOPIC, config, false);
    world.driver.settle(10_000);
    let created = ticket.try_take().expect("answered").expect("created");
    Lane { topic: created.topic.id, partition: Partition(0) }
}

/// The value at an offset: every record of a lane says where it belongs.
fn value(offset: u64) -> Vec<u8> {
    let mut value = format!("{offset}/").into_bytes();
    value.resize(700, b'x');
    value
}

/// A record with that value, alone in its set.
fn set(value: &[u8]) -> Bytes {
    let varint = |number: usize| [(number & 0x7f | 0x80) as u8, (number >> 7) as u8];
    let mut record = vec![0x12];
    record.extend(varint(value.len()));
    record.extend(value);
    let mut out = vec![0x0a];
    out.extend(varint(record.len()));
    out.extend(record);
    out.into()
}

fn append(engine: &Engine, offset: u64) -> crate::ticket::Ticket<crate::request::Appended> {
    let content = Content::Plain(set(&value(offset)));
    let batch = AppendBatch { topic: TOPIC.into(), topic_id: None, partition: Some(Partition(0)), content };
    engine.try_append(Append { batches: vec![batch], ..Append::default() })
}

/// Steps until an append is answered; whether it was accepted.
fn answered(world: &mut World, ticket: &crate::ticket::Ticket<crate::request::Appended>) -> bool {
    for _ in 0..100_000 {
        if let Some(answer) = ticket.try_take() {
            return answer.is_ok();
        }
        if !world.driver.step() {
            world.env.advance(200_000);
        }
    }
    panic!("an append was not answered");
}

fn control(disk: &SimDisk) -> Control {
    Control::read(&disk.read_file(CONTROL_PATH)).expect("control reads").0
}

fn tables(disk: &SimDisk) -> Checkpoint {
    let cluster = control(disk).cluster;
    file::read_newest(&*disk.handle(), cluster).expect("reads").checkpoint.unwrap_or_default()
}

/// A directory whose newest tables list blocks of frames above their LSN: the first seed that gives one.
fn ahead() -> (SimDisk, Lane, Checkpoint) {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let mut world = open(&disk, seed).expect("a new directory opens");
        let lane = topic(&mut world);
        let mut held = Vec::new();
        for _ in 0..40 {
            (0..8).for_each(|_| held.push(append(&world.engine, held.len() as u64)));
            world.engine.ask_checkpoint();
            world.driver.steps(17);
            let tables = tables(&disk);
            if tables.lanes.iter().any(|row| row.flushed > row.end) {
                return (disk.snapshot(), lane, tables);
            }
        }
    }
    panic!("no seed gave tables that list blocks above their LSN");
}

/// The journal file of a number.
fn journal_file(disk: &SimDisk, number: u64) -> String {
    let headed = |path: &String| {
        let bytes = disk.read_file(path);
        bytes[..4] == *b"TLRF" && bytes[48..56] == number.to_le_bytes()
    };
    let mut files = disk.files().into_iter().filter(|path| path.starts_with(JOURNAL_DIR));
    files.find(headed).expect("the file is there")
}

/// Every group above `tip` is gone, as if it had never been written, and so is what the watermark says.
fn lose_above(disk: &SimDisk, tip: Tip) {
    for number in tip.file_no.. {
        let exists = disk
            .files()
            .iter()
            .any(|path| path.starts_with(JOURNAL_DIR) && disk.read_file(path)[48..56] == number.to_le_bytes());
        if !exists {
            break;
        }
        let path = journal_file(disk, number);
        let mut bytes = disk.read_file(&path);
        let from = if number == tip.file_no { usize::try_from(tip.at).expect("small") } else { 0 };
        bytes[from..].fill(0);
        disk.write_file(&path, &bytes);
    }
    disk.write_file("watermark", &[0; ALIGN]);
}

#[test]
fn blocks_that_the_tables_list_prove_frames_that_the_journal_has_lost() {
    let (disk, _, tables) = ahead();
    open(&disk.snapshot(), 1).expect("whole, it opens");
    lose_above(&disk, tables.tip);
    match open(&disk, 1) {
        Err(OpenError::Rotten { from, to }) => {
            assert_eq!(from, tables.tip.lsn.next());
            assert!(to > tables.tip.lsn);
        }
        Err(error) => panic!("refused for another reason: {error}"),
        Ok(world) => {
            let row = &tables.lanes[0];
            let end = world.engine.extent(row.lane).expect("alive").end;
            panic!("it opened: the next offset is {end}, segments hold everything below {}", row.flushed);
        }
    }
}

/// Reads a lane; what reads must be right, and what does not must be named.
fn check(engine: &Engine, lane: Lane) -> Offset {
    let mut next = Offset(0);
    loop {
        let answer = match engine.read(lane, next, 64 << 10) {
            Ok(answer) => answer,
            Err(ReadFault::Damaged { from, to, .. }) if from == next && to > from => {
                next = to;
                continue;
            }
            Err(fault) => panic!("lane {lane} offset {next}: {fault}"),
        };
        if answer.chunks.is_empty() {
            assert_eq!(next, answer.end, "all of it was read");
            return next;
        }
        for chunk in &answer.chunks {
            let plain = chunk.batch.decode().expect("it decodes");
            for (offset, record) in (chunk.base.0..).zip(crate::record::RecordSet::new(&plain).iter()) {
                let (_, view) = record.expect("a record");
                assert_eq!(view.value, value(offset), "offset {offset}");
            }
            next = chunk.end;
        }
    }
}

/// A log that works on while its files are copied one by one, in an order and at moments that the seed gives.
fn copied_live(seed: u64) -> (SimDisk, Lane) {
    let disk = SimDisk::new(seed);
    let mut world = open(&disk, seed).expect("a new directory opens");
    let lane = topic(&mut world);
    let (mut next, mut dice) = (0, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut draw = |below: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % below
    };
    let mut work = |world: &mut World, rounds: u64, draw: &mut dyn FnMut(u64) -> u64| {
        for _ in 0..rounds {
            let ticket = append(&world.engine, next);
            if draw(4) == 0 {
                world.engine.ask_checkpoint();
            }
            next += u64::from(answered(world, &ticket));
        }
    };
    work(&mut world, 10 + draw(60), &mut draw);
    let copy = SimDisk::new(seed);
    let mut left: BTreeMap<u64, String> = BTreeMap::new();
    for path in disk.files() {
        left.insert(draw(u64::MAX), path);
    }
    for path in left.into_values() {
        if disk.files().contains(&path) {
            copy.write_file(&path, &disk.read_file(&path));
        }
        work(&mut world, draw(8), &mut draw);
        world.driver.steps(draw(60));
    }
    (copy, lane)
}

#[test]
fn a_live_copy_is_refused_or_opens_right() {
    let (mut refused, mut opened) = (0, 0);
    for seed in 0..80 {
        let (disk, lane) = copied_live(seed);
        let mut world = match catch_unwind(AssertUnwindSafe(|| open(&disk, seed))) {
            Ok(Ok(world)) => world,
            Ok(Err(_)) => {
                refused += 1;
                continue;
            }
            Err(panic) => {
                println!("seed {seed}: the start panicked");
                std::panic::resume_unwind(panic);
            }
        };
        opened += 1;
        if world.engine.topic(TOPIC).is_err() {
            continue;
        }
        println!("seed {seed}: {:?}", world.findings);
        let end = check(&world.engine, lane);
        let ticket = append(&world.engine, end.0);
        world.driver.settle(100_000);
        let appended = ticket.try_take().expect("answered").expect("accepted");
        assert_eq!(appended.batches[0].base, end, "seed {seed}");
        world.engine.ask_checkpoint();
        world.driver.settle(100_000);
        assert_eq!(check(&world.engine, lane), end.plus(1), "seed {seed}: an acked record is readable");
    }
    println!("{refused} refused, {opened} opened");
    assert!(refused > 5 && opened > 5, "{refused} refused, {opened} opened");
}

/// A directory whose newest journal file has one group and a damaged header, as a power cut may leave it; and the
/// first block of the group.
fn headless() -> (SimDisk, Vec<u8>) {
    let disk = SimDisk::new(3);
    let mut world = open(&disk, 3).expect("a new directory opens");
    topic(&mut world);
    // Up to the first group of a new file.
    fill_journal(&mut world, 2);
    drop(world);
    let path = journal_file(&disk, 2);
    let bytes = disk.read_file(&path);
    let seed = Identity { cluster: control(&disk).cluster, ..Identity::default() }.seed();
    let frame = FrameHeader::decode(&bytes[ALIGN..], seed).expect("a whole frame behind the header");
    assert_eq!(frame.durable_lsn.next(), frame.lsn, "nothing else tells that it was durable");
    disk.flip(&path, 100, 0x40);
    disk.write_file("watermark", &[0; ALIGN]);
    (disk, bytes[ALIGN..2 * ALIGN].to_vec())
}

#[test]
fn whole_groups_in_a_journal_file_without_a_header_are_reported_and_kept_aside() {
    let (disk, first) = headless();
    let world = open(&disk, 4).expect("a power cut may leave this: it opens");
    assert!(world.dropped_bytes > 0 && world.possible_loss, "it says what it drops");
    let kept = disk.files().into_iter().find(|path| path.starts_with("quarantine/")).expect("a copy is kept");
    assert!(disk.read_file(&kept).starts_with(&first));
    drop(world);
    let world = open(&disk, 5).expect("it opens again");
    assert_eq!((world.dropped_bytes, world.findings.len()), (0, 0), "reported once");
}

/// A directory with one segment that the tables list, closed in order.
fn settled() -> (SimDisk, Lane, String) {
    let disk = SimDisk::new(8);
    let mut world = open(&disk, 8).expect("a new directory opens");
    let lane = topic(&mut world);
    for offset in 0..20 {
        let ticket = append(&world.engine, offset);
        assert!(answered(&mut world, &ticket));
    }
    world.engine.ask_checkpoint();
    world.driver.settle(100_000);
    let segment = disk.files().into_iter().find(|path| path.starts_with("data/")).expect("a segment");
    (disk, lane, segment)
}

/// The one finding that names `path`, and where its bytes are now.
fn kept(disk: &SimDisk, path: &str, bytes: &[u8]) {
    let world = open(disk, 9).expect("it opens");
    let named: Vec<_> = world.findings.iter().filter(|finding| finding.contains(path)).collect();
    assert_eq!(named.len(), 1, "{:?}", world.findings);
    let is_kept = disk.files().iter().any(|path| disk.read_file(path) == bytes && path.contains("quarantined-"));
    assert!(is_kept, "{named:?}, {:?}", disk.files());
}

#[test]
fn a_segment_that_no_table_lists_is_kept_unless_replay_brings_all_of_it() {
    let (disk, lane, segment) = settled();
    let bytes = disk.read_file(&segment);
    let beyond =
        crate::segment::name::Name { lane, base: Offset(20), generation: 0, part: crate::segment::name::Part::Log };
    // Blocks of frames that the tables stand for already: no replay brings them.
    let one = disk.snapshot();
    one.write_file(&beyond.path(), &bytes);
    kept(&one, &beyond.path(), &bytes);
    // Bytes that are nothing of ours.
    let two = disk.snapshot();
    two.write_file(&beyond.path(), b"notes of a visitor");
    kept(&two, &beyond.path(), b"notes of a visitor");
    // A topic that nobody knows.
    let three = disk.snapshot();
    let unknown = crate::segment::name::Name {
        lane: Lane { topic: crate::id::TopicId(77), partition: Partition(0) },
        base: Offset(0),
        ..beyond
    };
    three.handle().create_dir("data/000000000000004d").expect("made");
    three.handle().create_dir("data/000000000000004d/0").expect("made");
    three.write_file(&unknown.path(), &bytes);
    kept(&three, &unknown.path(), &bytes);
    // A segment of another cluster, whose frames have numbers that replay brings: ours they are not.
    let (five, segment, _) = flushed_since();
    let mut theirs = five.read_file(&segment);
    let header = FileHeader::decode_kind(&theirs[..FILE_HEADER_BYTES], FileKind::Segment).expect("a segment");
    theirs[..FILE_HEADER_BYTES].copy_from_slice(&FileHeader { cluster: Uid([7; 16]), ..header }.encode());
    five.write_file(&segment, &theirs);
    kept(&five, &segment, &theirs);
    // Room that was taken for a segment of which nothing was written: replay makes it again.
    let four = disk.snapshot();
    four.write_file(&beyond.path(), &vec![0; 64 << 10]);
    let world = open(&four, 9).expect("it opens");
    assert_eq!((world.findings.len(), four.files().contains(&beyond.path())), (0, false), "{:?}", world.findings);
}

/// A segment that a flush has made since the checkpoint, and the partition's end.
fn flushed_since() -> (SimDisk, String, u64) {
    let (disk, _, first) = settled();
    let mut world = open(&disk, 8).expect("it opens");
    let mut next = 20;
    while disk.files().iter().filter(|path| path.contains(".log")).count() < 2 {
        let ticket = append(&world.engine, next);
        assert!(answered(&mut world, &ticket));
        world.driver.settle(100_000);
        next += 1;
    }
    assert_eq!(tables(&disk).lanes[0].segments.len(), 1, "no checkpoint came");
    let since = disk.files().into_iter().find(|path| path.contains(".log") && *path != first).expect("there are two");
    (disk, since, next)
}

#[test]
fn a_segment_that_a_flush_after_the_checkpoint_made_is_removed_without_a_word() {
    let (disk, _, next) = flushed_since();
    let copy = disk.snapshot();
    let world = open(&copy, 9).expect("it opens");
    assert_eq!(world.findings, Vec::<String>::new());
    assert_eq!(world.engine.extent(tables(&disk).lanes[0].lane).expect("alive").end, Offset(next));
}

#[test]
fn names_that_are_not_of_a_log_are_reported_and_left_alone() {
    let (disk, lane, _) = settled();
    let lane_dir = crate::segment::name::lane_dir(lane);
    let foreign =
        ["todo.txt", "data/readme", "journal/slot-1", &format!("{lane_dir}/x.log"), "data/0000000000000001/two"];
    for path in foreign {
        disk.write_file(path, b"x");
    }
    let world = open(&disk, 9).expect("it opens");
    for path in foreign {
        assert_eq!(world.findings.iter().filter(|finding| finding.starts_with(path)).count(), 1, "{path}");
        assert_eq!(disk.read_file(path), b"x");
    }
    assert_eq!(world.findings.len(), foreign.len(), "{:?}", world.findings);
}

/// Appends until the journal has so many files in use.
fn fill_journal(world: &mut World, files: u64) {
    let mut next = 0;
    while world.engine.status().journal_files < files {
        let ticket = append(&world.engine, next);
        world.driver.settle(100_000);
        ticket.try_take().expect("answered").expect("accepted");
        next += 1;
    }
}

#[test]
fn a_foreign_file_with_the_name_of_a_journal_slot_is_kept_and_named() {
    let (disk, _, _) = settled();
    let whole = usize::try_from(settings().journal_file_bytes).expect("small");
    let mut theirs = disk.read_file(&journal_file(&disk, 1));
    let header = FileHeader::decode_kind(&theirs[..FILE_HEADER_BYTES], FileKind::Journal).expect("a journal file");
    theirs[..FILE_HEADER_BYTES].copy_from_slice(&FileHeader { cluster: Uid([7; 16]), ..header }.encode());
    theirs[FILE_HEADER_BYTES..].fill(7);
    let segment = disk.files().into_iter().find(|path| path.contains(".log")).expect("a segment");
    let mut image = vec![0; 32 << 10];
    image.extend(b"an image of a disk");
    let mut long = vec![0; 2 * whole];
    long[whole + 9] = 1;
    let noise: Vec<u8> = (0..whole).map(|at| (at % 251) as u8).collect();
    let foreign = [b"notes of a visitor".to_vec(), theirs, disk.read_file(&segment), image, long, noise];
    for bytes in foreign {
        let disk = disk.snapshot();
        disk.write_file("journal/slot-099", &bytes);
        let mut world = open(&disk, 9).expect("it opens");
        let named = world.findings.iter().filter(|finding| finding.starts_with("journal/slot-099 ")).count();
        assert_eq!((named, world.findings.len()), (1, 1), "{:?}", world.findings);
        fill_journal(&mut world, 4);
        let is_kept = |path: &String| path.starts_with(JOURNAL_DIR) && disk.read_file(path) == bytes;
        assert!(disk.files().iter().any(is_kept), "{} bytes were overwritten", bytes.len());
        assert!(!disk.files().contains(&"journal/slot-099".to_owned()), "its name is not used");
        drop(world);
        assert_eq!(open(&disk, 9).expect("it opens").findings, Vec::<String>::new(), "named once");
    }
    // What a crash leaves of a file that was being filled is ours.
    for bytes in [Vec::new(), vec![0; 8 << 10], vec![0; whole]] {
        let disk = disk.snapshot();
        disk.write_file("journal/slot-099", &bytes);
        let mut world = open(&disk, 9).expect("it opens");
        assert_eq!(world.findings, Vec::<String>::new());
        fill_journal(&mut world, 2);
        assert_eq!(disk.read_file("journal/slot-099").len(), whole, "it is used");
    }
}

#[test]
fn frames_of_which_no_copy_can_be_made_are_not_overwritten() {
    let (disk, first) = headless();
    let space = disk.handle().space().expect("the disk says");
    disk.set_capacity(space.total - space.free);
    let world = open(&disk, 4).expect("a full disk does not stop a start");
    assert!(world.dropped_bytes > 0 && world.possible_loss, "it says what it drops");
    let is_there = |path: &String| disk.read_file(path).windows(ALIGN).step_by(ALIGN).any(|block| block == first);
    let kept: Vec<_> = disk.files().into_iter().filter(is_there).collect();
    assert_eq!(kept.len(), 1, "{:?}", disk.files());
    assert!(world.findings.iter().any(|finding| finding.contains(&kept[0])), "{kept:?} {:?}", world.findings);
    drop(world);
    disk.set_capacity(space.total);
    let mut world = open(&disk, 5).expect("it opens again");
    assert_eq!((world.dropped_bytes, world.findings.len()), (0, 0), "reported once");
    fill_journal(&mut world, 4);
    assert_eq!(disk.files().into_iter().filter(is_there).collect::<Vec<_>>(), kept, "and not used");
}

#[test]
fn a_file_where_a_directory_belongs_is_named() {
    let (disk, _, _) = settled();
    for path in ["data/0000000000000009", "data/0000000000000001/7"] {
        let disk = disk.snapshot();
        disk.write_file(path, b"x");
        let error = open(&disk, 9).err().expect("refused").to_string();
        assert!(error.contains(path) && error.contains("is a file"), "{error}");
    }
}

/// Two runs, of which the journal has lost the second one: what is left of it is the watermark, and a slot of control.
fn second_run_lost() -> SimDisk {
    let disk = SimDisk::new(9);
    let run = |first: u64| {
        let mut world = open(&disk, first).expect("it opens");
        if first == 0 {
            topic(&mut world);
        }
        for offset in first..first + 5 {
            let ticket = append(&world.engine, offset);
            assert!(answered(&mut world, &ticket));
        }
    };
    run(0);
    let journal: Vec<_> = disk.files().into_iter().filter(|path| path.starts_with(JOURNAL_DIR)).collect();
    let before: Vec<_> = journal.iter().map(|path| disk.read_file(path)).collect();
    run(5);
    for (path, bytes) in journal.iter().zip(&before) {
        disk.write_file(path, bytes);
    }
    disk
}

#[test]
fn a_watermark_counts_though_the_slot_of_its_run_is_rotten() {
    let disk = second_run_lost();
    assert!(matches!(open(&disk.snapshot(), 10), Err(OpenError::Rotten { .. })), "control knows the run");
    let newest = control(&disk).incarnation;
    let at = (0..2).map(|slot| slot * ALIGN as u64).find(|at| {
        let other = disk.snapshot();
        other.flip(CONTROL_PATH, at + 100, 0x40);
        control(&other).incarnation < newest
    });
    disk.flip(CONTROL_PATH, at.expect("one slot is the newer one") + 100, 0x40);
    match open(&disk, 10) {
        Err(OpenError::Rotten { from, to }) => assert_eq!(to.0 - from.0, 4, "five appends are gone"),
        Err(error) => panic!("refused for another reason: {error}"),
        Ok(_) => panic!("it opened, and five appends that were acked are gone"),
    }
}

/// Changes the newest tables of a directory, whose checksums hold again then.
fn forge(disk: &SimDisk, change: impl FnOnce(&mut Checkpoint)) {
    let mut forged = tables(disk);
    change(&mut forged);
    disk.write_file(forged.path(), &forged.encode(control(disk).cluster));
}

#[test]
fn a_frame_that_does_not_follow_from_whole_tables_refuses_the_start() {
    type Change = fn(&mut Checkpoint);
    let (disk, _, _) = flushed_since();
    let changes: [(Change, &str); 6] = [
        (|tables| tables.lanes[0].end = Offset(19), "ends at 19"),
        (|tables| tables.lanes[0].end = Offset(22), "ends at 22"),
        (|tables| tables.lanes[0].flushed = Offset(19), "segments and earlier frames end at 19"),
        (|tables| tables.tip.position += 1, "records before it, and there are"),
        (|tables| tables.tip.time_us = i64::MAX, "is before that of the frame before it"),
        (|tables| tables.applied.topics.clear(), "which is not there"),
    ];
    for (change, says) in changes {
        let disk = disk.snapshot();
        forge(&disk, change);
        match open(&disk, 9).err() {
            Some(error @ OpenError::Misfit { .. }) => {
                let text = error.to_string();
                let first = tables(&disk).tip.lsn.next();
                assert!(text.contains(says) && text.contains(&format!("frame {first} ")), "{text}");
                assert!(text.contains(tables(&disk).path()), "{text}");
            }
            other => panic!("{says}: {other:?}"),
        }
    }
}

#[test]
fn a_watermark_of_another_directory_says_nothing() {
    let (disk, ..) = settled();
    let mark = Watermark { durable_lsn: Lsn(1_000_000), incarnation: Incarnation(99) };
    disk.write_file("watermark", &mark.encode());
    open(&disk, 10).expect("it is not this directory's");
}

#[test]
fn an_end_that_neither_segments_nor_journal_reach_refuses_the_start() {
    let (disk, lane, _) = settled();
    forge(&disk, |tables| tables.lanes[0].end = Offset(30));
    match open(&disk, 9).err() {
        Some(OpenError::EndBeyondHeld { lane: named, end: Offset(30), held: Offset(20), .. }) => {
            assert_eq!(named, lane);
        }
        other => panic!("{other:?}"),
    }
}
