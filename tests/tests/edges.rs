//! Goal: the edges of the engine's rules hold: a full disk, a full journal, a log whose writes are off, producers that
//! come and go. Method: the log on the simulated disk under a seeded scheduler, each edge reached on purpose.

use tillroll_engine::{
    disk::sim::{CallKind, Crash, Fault, SimDisk},
    error::{ReadFault, Refusal},
    id::{Lane, Offset, Partition, TopicId},
    limits::TOPICS_MAX,
    open::OpenError,
    request::{Append, AppendBatch, Appended, Content, InitProducer, Stamp, TopicConfig},
    settings::Settings,
};
use tillroll_tests::{
    ledger::read_lane,
    world::{Workload, World, record_set, settings},
};

fn open(disk: &SimDisk, settings: Settings) -> World {
    World::open(disk, settings, 3).expect("it opens")
}

fn topic(world: &mut World, name: &str) -> Lane {
    let config = TopicConfig { partitions: 1, segment_bytes: 64 << 10, ..TopicConfig::default() };
    let ticket = world.engine.create_topic(name, config, false);
    let created = world.wait(&ticket).expect("answered").expect("created");
    Lane { topic: created.topic.id, partition: Partition(0) }
}

fn request(topic: &str, values: &[Vec<u8>], stamp: Option<Stamp>) -> Append {
    let content = Content::Plain(record_set(values));
    let batch = AppendBatch { topic: topic.to_owned(), topic_id: None, partition: Some(Partition(0)), content };
    Append { batches: vec![batch], stamp, ..Append::default() }
}

fn append(world: &mut World, topic: &str, stamp: impl Into<Option<Stamp>>) -> Result<Appended, Refusal> {
    let ticket = world.engine.try_append(request(topic, &[vec![7; 900], vec![8; 900]], stamp.into()));
    world.wait(&ticket).expect("answered")
}

fn stamp(epoch: u64, sequence: u64) -> Stamp {
    Stamp { producer: "loader".into(), epoch, sequence, answered_below: 0 }
}

fn register(world: &mut World, name: Option<&str>, idle_expiry_ms: u64) -> Result<(String, u64), Refusal> {
    let ticket = world.engine.init_producer(InitProducer {
        name: name.map(str::to_owned),
        idle_expiry_ms,
        expected_epoch: None,
    });
    world.wait(&ticket).expect("answered").map(|opened| (opened.name, opened.epoch))
}

/// Steps until everything that is published is checkpointed.
fn checkpoint(world: &mut World) {
    while world.engine.marks().checkpointed.get() < world.engine.marks().published.get() {
        world.engine.ask_checkpoint();
        world.driver.steps(100);
    }
}

/// Leaves no byte free.
fn fill(disk: &SimDisk) -> u64 {
    let space = disk.handle().space().expect("the disk says");
    disk.set_capacity(space.total - space.free);
    space.total
}

#[test]
fn appends_that_wait_together_share_one_sync() {
    let mut world = open(&SimDisk::new(5), settings());
    topic(&mut world, "orders");
    let before = world.engine.status().syncs;
    // Nothing is stepped between: all of them are there when the first one is decided.
    let small = |number: u8| world.engine.try_append(request("orders", &[vec![number; 100]], None));
    let tickets: Vec<_> = (0..40).map(small).collect();
    for (number, ticket) in tickets.iter().enumerate() {
        let appended = world.wait(ticket).expect("answered").expect("accepted");
        assert_eq!(appended.batches[0].base, Offset(number as u64));
    }
    assert_eq!(world.engine.status().syncs - before, 1);
}

#[test]
fn what_is_withdrawn_before_its_turn_is_not_written() {
    let mut world = open(&SimDisk::new(6), settings());
    let lane = topic(&mut world, "orders");
    let one = |number: u8| world.engine.try_append(request("orders", &[vec![number; 100]], None));
    let (dropped, withdrawn, wanted) = (one(1), one(2), one(3));
    drop(dropped);
    assert!(withdrawn.withdraw(), "its turn has not come");
    let brief = world.engine.create_topic("brief", TopicConfig::default(), false);
    drop(brief);
    let appended = world.wait(&wanted).expect("answered").expect("accepted");
    assert_eq!(appended.batches[0].base, Offset(0));
    assert!(!wanted.withdraw(), "it was done");
    assert_eq!(read_lane(&world.engine, lane).expect("reads"), [vec![3; 100]]);
    assert!(world.engine.topic("brief").is_err());
    // Taken up, it stands though nobody waits for it any more.
    let taken = world.engine.try_append(request("orders", &[vec![4; 100]], None));
    while world.engine.marks().durable.get() < appended.lsn.next() {
        assert!(world.driver.step());
    }
    drop(taken);
    world.driver.settle(10_000);
    assert_eq!(read_lane(&world.engine, lane).expect("reads").len(), 2);
}

#[test]
fn appends_that_wait_for_a_flush_that_has_no_room_are_refused() {
    let disk = SimDisk::new(16);
    let mut world = open(&disk, Settings { in_flight_bytes: 1 << 20, in_flight_appends: 1_000, ..settings() });
    let lane = topic(&mut world, "orders");
    let mut taken = 0;
    while world.engine.status().journal_files < 4 {
        append(&mut world, "orders", None).expect("there is room");
        taken += 2;
    }
    checkpoint(&mut world);
    // The journal has files to go on with; segments cannot grow. What is admitted now has read the disk before.
    fill(&disk);
    let mut more = Vec::new();
    for _ in 0..10 {
        more.extend((0..30).map(|_| world.engine.try_append(request("orders", &[vec![7; 900]], None))));
        world.driver.settle(100_000);
    }
    world.env.advance(200_000);
    world.driver.settle(100_000);
    let answers = more.iter().map(|ticket| ticket.try_take().expect("every one is answered"));
    let refused = answers.filter(|answer| match answer {
        Ok(_) => false,
        Err(refusal) => {
            assert!(matches!(refusal, Refusal::DiskFull { .. } | Refusal::Lacking), "{refusal}");
            true
        }
    });
    let refused = refused.count();
    assert!(refused > 0 && refused < 300, "{refused} of 300 were refused");
    assert_eq!(read_lane(&world.engine, lane).expect("reads").len(), taken + 300 - refused);
}

#[test]
fn a_full_disk_refuses_appends_and_everything_else_works() {
    let disk = SimDisk::new(11);
    let settings = Settings { space_floor_bytes: 32 << 10, ..settings() };
    let mut world = open(&disk, settings.clone());
    let (lane, brief) = (topic(&mut world, "orders"), topic(&mut world, "brief"));
    let mut accepted = 0;
    while accepted < 200 {
        append(&mut world, "orders", None).expect("there is room");
        append(&mut world, "brief", None).expect("there is room");
        accepted += 2;
        world.env.advance(200_000);
    }
    let before = read_lane(&world.engine, lane).expect("reads");
    let total = fill(&disk);
    world.env.advance(200_000);
    let refused = append(&mut world, "orders", None).expect_err("there is no room");
    assert!(matches!(refused, Refusal::DiskFull { unit: "bytes", free, needed } if free < needed), "{refused}");
    assert_eq!(read_lane(&world.engine, lane).expect("reads work"), before);
    register(&mut world, Some("loader"), 0).expect("registrations work from the reserve");
    // A restart works, reads work, and deleting gives space back.
    drop(world);
    disk.crash(Crash::Kill);
    let mut world = open(&disk, settings.clone());
    assert_eq!(read_lane(&world.engine, lane).expect("reads work"), before);
    assert!(matches!(append(&mut world, "orders", None), Err(Refusal::DiskFull { .. })));
    let ticket = world.engine.delete_topic("brief", brief.topic);
    world.wait(&ticket).expect("answered").expect("deletes work");
    for _ in 0..200 {
        world.env.advance(500_000);
        world.driver.settle(100_000);
    }
    assert!(
        !disk.files().iter().any(|path| path.starts_with(&format!("data/{}", brief.topic.hex()))),
        "files are gone"
    );
    disk.set_capacity(total);
    world.env.advance(200_000);
    let appended = append(&mut world, "orders", None).expect("there is room again");
    assert_eq!(appended.batches[0].base, Offset(before.len() as u64), "no offset was consumed by a refusal");
}

#[test]
fn a_full_journal_refuses_when_nothing_will_empty_it() {
    let disk = SimDisk::new(12);
    let mut world = open(&disk, Settings { hold_checkpoints: true, tail_bytes: 64 << 20, ..settings() });
    let lane = topic(&mut world, "orders");
    let mut accepted = 0;
    let refused = loop {
        match append(&mut world, "orders", None) {
            Ok(_) => accepted += 2,
            Err(refusal) => break refusal,
        }
        assert!(accepted < 100_000, "the journal never fills");
    };
    assert!(matches!(refused, Refusal::JournalFull { files: 7, limit: 6 }), "{refused}");
    // Deletes and registrations still have files of their own; what was accepted survives a power cut.
    register(&mut world, Some("loader"), 0).expect("controls are not refused");
    drop(world);
    disk.crash(Crash::Power);
    let world = open(&disk, settings());
    assert_eq!(read_lane(&world.engine, lane).expect("reads").len(), accepted);
}

#[test]
fn a_failed_sync_turns_writes_off_and_leaves_reads_on() {
    let disk = SimDisk::new(13);
    let mut world = open(&disk, settings());
    let lane = topic(&mut world, "orders");
    let (_, epoch) = register(&mut world, Some("loader"), 0).expect("registered");
    append(&mut world, "orders", stamp(epoch, 1)).expect("accepted");
    world.driver.settle(10_000);
    disk.fail_at_kind(CallKind::Sync, 1, Fault::Error);
    let unknown = append(&mut world, "orders", stamp(epoch, 2)).expect_err("the sync failed under it");
    assert!(matches!(unknown, Refusal::OutcomeUnknown(_)), "{unknown}");
    let refused = append(&mut world, "orders", stamp(epoch, 2)).expect_err("writes are off");
    assert!(matches!(refused, Refusal::Poisoned(_)), "{refused}");
    assert_eq!(read_lane(&world.engine, lane).expect("reads go on").len(), 2);
    let (syncs, writes) = (|| disk.changes_by_kind()[&CallKind::Sync], || disk.changes_by_kind()[&CallKind::Write]);
    let before = (syncs(), writes());
    world.env.advance(60_000_000);
    world.driver.settle(10_000);
    assert_eq!((syncs(), writes()), before, "nothing is written or synced after a failure");
    // Only a new process goes on, and the retry learns the truth.
    drop(world);
    disk.crash(Crash::Power);
    let mut world = open(&disk, settings());
    let (_, epoch) = register(&mut world, Some("loader"), 0).expect("registered again");
    let stands = read_lane(&world.engine, lane).expect("reads").len() == 4;
    let again = append(&mut world, "orders", stamp(epoch, 2)).expect("answered");
    assert_eq!(again.duplicate, stands);
    assert_eq!(again.batches[0].base, Offset(2));
    assert_eq!(read_lane(&world.engine, lane).expect("reads").len(), 4);
}

#[test]
fn a_nameless_producer_expires_by_a_frame_and_is_never_taken_for_a_new_one() {
    let disk = SimDisk::new(14);
    let mut world = open(&disk, settings());
    topic(&mut world, "orders");
    let (name, epoch) = register(&mut world, None, 60_000).expect("registered");
    let own = |sequence| Some(Stamp { producer: name.clone(), epoch, sequence, answered_below: 0 });
    append(&mut world, "orders", own(1)).expect("accepted");
    world.env.advance(59_000_000);
    append(&mut world, "orders", own(2)).expect("still known");
    world.env.advance(200_000_000);
    world.driver.settle(10_000);
    let refused = append(&mut world, "orders", own(3)).expect_err("it expired");
    assert!(matches!(refused, Refusal::ProducerUnknown { .. }), "{refused}");
    let anew = register(&mut world, Some(&name), 60_000).expect_err("a made-up name is not given twice");
    assert!(matches!(anew, Refusal::ProducerUnknown { .. }), "{anew}");
    drop(world);
    disk.crash(Crash::Power);
    let mut world = open(&disk, settings());
    assert!(matches!(append(&mut world, "orders", own(2)), Err(Refusal::ProducerUnknown { .. })));
}

#[test]
fn a_clock_that_jumps_back_changes_neither_order_nor_times() {
    let disk = SimDisk::new(15);
    let mut world = open(&disk, settings());
    topic(&mut world, "orders");
    let first = append(&mut world, "orders", None).expect("accepted");
    world.env.jump(5);
    let second = append(&mut world, "orders", None).expect("accepted");
    assert!(second.append_time_us >= first.append_time_us);
    assert_eq!(second.batches[0].base, Offset(2));
}

#[test]
fn a_newer_epoch_fences_the_older_and_answers_stay() {
    let disk = SimDisk::new(16);
    let mut world = open(&disk, settings());
    topic(&mut world, "orders");
    let (_, older) = register(&mut world, Some("loader"), 0).expect("registered");
    let first = append(&mut world, "orders", stamp(older, 1)).expect("accepted");
    let (_, newer) = register(&mut world, Some("loader"), 0).expect("taken over");
    let fenced = append(&mut world, "orders", stamp(older, 2));
    assert!(matches!(fenced, Err(Refusal::ProducerFenced { current, .. }) if current == newer));
    let again = append(&mut world, "orders", stamp(newer, 1)).expect("answered");
    assert!(again.duplicate && again.batches == first.batches);
    for sequence in 2..=300 {
        append(&mut world, "orders", stamp(newer, sequence)).expect("accepted");
    }
    assert!(matches!(
        append(&mut world, "orders", stamp(newer, 44)),
        Err(Refusal::SequenceForgotten { oldest: 45, .. })
    ));
    assert!(append(&mut world, "orders", stamp(newer, 45)).expect("answered").duplicate);
    assert!(matches!(append(&mut world, "orders", stamp(newer, 302)), Err(Refusal::SequenceGap { next: 301, .. })));
    let other = request("orders", &[vec![1]], Some(stamp(newer, 300)));
    let ticket = world.engine.try_append(other);
    assert!(matches!(world.wait(&ticket), Some(Err(Refusal::SequenceReused { .. }))));
}

#[test]
fn a_record_that_looks_like_a_frame_does_not_stop_a_restart() {
    // A frame header claims that frames up to 2^60 are durable; found at an aligned position it would refuse the start.
    let claim = tillroll_engine::journal::frame::FrameHeader {
        flags: 3,
        frame_len: 4_096,
        durable_lsn: tillroll_engine::id::Lsn(1 << 60),
        lsn: tillroll_engine::id::Lsn((1 << 60) + 1),
        ..Default::default()
    };
    let disk = SimDisk::new(17);
    let mut world = open(&disk, settings());
    let lane = topic(&mut world, "orders");
    for seed in [0, crc32fast::hash(&[0; 16])] {
        let (header, _) = claim.encode(seed);
        // Headers at every multiple of 8, so that one of them is aligned wherever the value lies.
        let value: Vec<u8> = header.iter().copied().cycle().take(40_000).collect();
        for shift in 0..20 {
            let values = vec![value[shift * 8..30_000].to_vec()];
            let ticket = world.engine.try_append(request("orders", &values, None));
            world.wait(&ticket).expect("answered").expect("accepted");
        }
    }
    drop(world);
    disk.crash(Crash::Power);
    let world = open(&disk, settings());
    assert_eq!(read_lane(&world.engine, lane).expect("reads").len(), 40);
}

#[test]
fn a_damaged_block_of_a_growing_segment_costs_its_own_records_after_a_restart() {
    let disk = SimDisk::new(23);
    let mut world = open(&disk, settings());
    let lane = topic(&mut world, "orders");
    // Each is a block of its own.
    let blocks = 6;
    for number in 0..blocks {
        let ticket = world.engine.try_append(request("orders", &[vec![number; 9_000]], None));
        world.wait(&ticket).expect("answered").expect("accepted");
    }
    checkpoint(&mut world);
    let [segment] = world.engine.segments(lane).expect("listed")[..] else { panic!("one segment") };
    assert!(!segment.sealed);
    drop(world);
    let block_bytes = (segment.bytes - 4_096) / u64::from(blocks);
    let log = disk.files().into_iter().find(|file| file.contains(".log")).expect("there is one");
    for damaged in 0..u64::from(blocks) {
        let disk = disk.snapshot();
        disk.flip(&log, 4_096 + damaged * block_bytes + 20, 1);
        let world = open(&disk, settings());
        for offset in 0..u64::from(blocks) {
            let read = world.engine.read(lane, Offset(offset), 1);
            match read {
                Ok(answer) => assert!(offset != damaged && answer.chunks[0].base == Offset(offset)),
                Err(ReadFault::Damaged { from, to, .. }) => {
                    assert_eq!((offset, from, to), (damaged, Offset(damaged), Offset(damaged + 1)));
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_deleted_topic_whose_files_are_gone_is_no_finding_of_any_start() {
    let disk = SimDisk::new(29);
    let mut world = open(&disk, settings());
    let lane = topic(&mut world, "brief");
    append(&mut world, "brief", None).expect("accepted");
    checkpoint(&mut world);
    assert!(disk.files().iter().any(|file| file.contains(".log")));
    let ticket = world.engine.delete_topic("brief", lane.topic);
    world.wait(&ticket).expect("answered").expect("deleted");
    checkpoint(&mut world);
    world.driver.settle(100_000);
    assert!(!disk.files().iter().any(|file| file.contains(".log")));
    drop(world);
    for crash in [Crash::Kill, Crash::Power] {
        disk.crash(crash);
        let mut world = open(&disk, settings());
        assert_eq!(world.report.findings, Vec::<String>::new());
        topic(&mut world, if crash == Crash::Kill { "next" } else { "last" });
        checkpoint(&mut world);
    }
}

#[test]
fn a_checkpoint_ends_when_more_lanes_than_files_that_may_wait_were_written() {
    let disk = SimDisk::new(31);
    let settings = Settings { journal_files_max: 64, ..settings() };
    let mut world = open(&disk, settings.clone());
    let (lanes, config) = (300, TopicConfig { partitions: 300, segment_bytes: 64 << 10, ..TopicConfig::default() });
    let ticket = world.engine.create_topic("wide", config, false);
    let created = world.wait(&ticket).expect("answered").expect("created");
    for partition in 0..lanes {
        let mut request = request("wide", &[vec![1; 20]], None);
        request.batches[0].partition = Some(Partition(partition));
        let ticket = world.engine.try_append(request);
        world.wait(&ticket).expect("answered").expect("accepted");
    }
    let last = world.engine.marks().published.get();
    for _ in 0..1_000 {
        world.engine.ask_checkpoint();
        world.driver.steps(100);
    }
    assert!(world.engine.marks().checkpointed.get() >= last, "the checkpoint does not end");
    drop(world);
    disk.crash(Crash::Power);
    let world = open(&disk, settings);
    for partition in 0..lanes {
        let lane = Lane { topic: created.topic.id, partition: Partition(partition) };
        assert_eq!(read_lane(&world.engine, lane).expect("reads").len(), 1);
    }
}

#[test]
fn deleted_topics_leave_room_for_new_ones() {
    let disk = SimDisk::new(32);
    let mut world = open(&disk, settings());
    for round in 0..(TOPICS_MAX / 100 + 2) {
        for number in 0..100 {
            let name = format!("t-{round}-{number}");
            let id = topic(&mut world, &name).topic;
            let ticket = world.engine.delete_topic(&name, id);
            world.wait(&ticket).expect("answered").expect("deleted");
        }
        checkpoint(&mut world);
        world.driver.settle(100_000);
    }
    // And none of it comes back.
    drop(world);
    disk.crash(Crash::Power);
    let mut world = open(&disk, settings());
    assert!(world.engine.topics("", None, 1).is_empty());
    let pinned = TopicId(5).hex();
    topic(&mut world, "t-0-4");
    let mut request = request("t-0-4", &[vec![1]], None);
    request.batches[0].topic_id = Some(pinned);
    let ticket = world.engine.try_append(request);
    let refused = world.wait(&ticket).expect("answered").expect_err("its topic is another one now");
    assert!(matches!(refused, Refusal::TopicRecreated { .. }), "{refused}");
}

#[test]
fn damage_that_the_journal_may_mend_is_told_from_damage_that_it_cannot() {
    let disk = SimDisk::new(33);
    let mut world = open(&disk, Settings { block_bytes: 2 << 10, ..settings() });
    let lane = topic(&mut world, "orders");
    for _ in 0..8 {
        append(&mut world, "orders", None).expect("accepted");
    }
    checkpoint(&mut world);
    let segment = world.engine.segments(lane).expect("they list").pop().expect("there is one");
    for _ in 0..8 {
        append(&mut world, "orders", None).expect("accepted");
    }
    world.driver.settle(100_000);
    let path = disk.files().into_iter().find(|path| path.starts_with("data/")).expect("there is one");
    let grown = world.engine.segments(lane).expect("they list").pop().expect("there is one");
    assert!(grown.end > segment.end && !grown.sealed, "blocks behind the checkpoint");
    disk.fail_at_kind(CallKind::Sync, 1, Fault::Error);
    append(&mut world, "orders", None).expect_err("the sync failed under it");
    assert!(world.engine.is_poisoned());
    for (at, damaged) in [(segment.bytes - 4_096, Offset(0)), (grown.bytes - 4_096, segment.end)] {
        disk.flip(&path, at + 200, 0x55);
        let mut next = damaged;
        let fault = loop {
            match world.engine.read(lane, next, 1) {
                Ok(answer) => next = answer.next,
                Err(fault) => break fault,
            }
        };
        match fault {
            ReadFault::Damaged { from, to, .. } => assert!(from < segment.end && to <= segment.end, "{from} {to}"),
            ReadFault::Poisoned(_) => assert!(next >= segment.end && damaged == segment.end),
            other => panic!("{other}"),
        }
    }
}

/// Neither descriptors nor inodes are left for a while. What needs them is refused in bounded time and tried again;
/// nothing is damaged by it, and writes go on once there are some again, without a restart.
#[test]
fn a_lack_of_descriptors_or_inodes_is_refused_and_heals() {
    for descriptors in [true, false] {
        let disk = SimDisk::new(34);
        let settings = Settings { in_flight_bytes: 1 << 20, in_flight_appends: 1_000, ..settings() };
        let mut world = open(&disk, settings);
        let lane = topic(&mut world, "orders");
        let mut taken = 0;
        for _ in 0..20 {
            append(&mut world, "orders", None).expect("accepted");
            taken += 2;
        }
        // Segments, tables and journal files that are not there yet are needed from here on.
        if descriptors {
            disk.set_lacks_descriptors(true);
        } else {
            disk.set_files_left(Some(0));
        }
        let (mut refused, mut rounds) = (0, 0);
        while refused < 20 {
            rounds += 1;
            assert!(rounds < 400, "nothing is refused: appends wait for ever");
            let ticket = world.engine.try_append(request("orders", &[vec![7; 900], vec![8; 900]], None));
            world.driver.settle(100_000);
            world.env.advance(300_000);
            world.driver.settle(100_000);
            match ticket.try_take() {
                Some(Ok(_)) => taken += 2,
                Some(Err(Refusal::Lacking | Refusal::DiskFull { .. } | Refusal::JournalFull { .. })) => refused += 1,
                Some(Err(other)) => panic!("{other}"),
                None => panic!("an append waits for what may never come (descriptors: {descriptors})"),
            }
            assert!(!world.engine.is_poisoned(), "{:?}", world.engine.status().poisoned);
        }
        assert!(world.engine.write_refusal().is_some(), "whoever asks for the state of writes is told the same");
        assert_eq!(world.engine.extent(lane).expect("it is there").end, Offset(taken));
        disk.set_lacks_descriptors(false);
        disk.set_files_left(None);
        for _ in 0..100 {
            world.env.advance(1_100_000);
            world.driver.settle(100_000);
        }
        append(&mut world, "orders", None).expect("it has healed");
        assert_eq!(world.engine.write_refusal(), None);
        checkpoint(&mut world);
        drop(world);
        disk.crash(Crash::Power);
        let world = open(&disk, tillroll_tests::world::settings());
        assert_eq!(read_lane(&world.engine, lane).expect("reads").len() as u64, taken + 2);
    }
}

/// One lane lacks what it takes to begin a segment; the others have theirs and are flushed.
#[test]
fn a_lane_whose_flush_lacks_something_does_not_hold_up_the_others() {
    let disk = SimDisk::new(35);
    let mut world = open(&disk, settings());
    let known = topic(&mut world, "known");
    append(&mut world, "known", None).expect("accepted");
    checkpoint(&mut world);
    topic(&mut world, "fresh");
    disk.set_files_left(Some(0));
    for _ in 0..6 {
        append(&mut world, "fresh", None).expect("accepted");
        append(&mut world, "known", None).expect("accepted");
    }
    world.driver.settle(100_000);
    world.env.advance(1_000_000);
    world.driver.settle(100_000);
    let flushed = world.engine.segments(known).expect("they list").last().map(|segment| segment.end);
    assert!(flushed > Some(Offset(2)), "{flushed:?}");
}

/// A file in the directory could be removed, and a second broker would run beside the first one.
#[test]
fn a_second_broker_is_refused_whatever_files_are_removed() {
    use tillroll_engine::{driver::threads::Running, open::OpenError};
    let directory = tempfile::tempdir().expect("a directory");
    let first = Running::start(directory.path(), Settings::default()).expect("it opens");
    assert!(!directory.path().join("lock").exists(), "there is no file to remove");
    let second = Running::start(directory.path(), Settings::default());
    assert!(matches!(second.err(), Some(OpenError::Locked)));
    first.stop();
    Running::start(directory.path(), Settings::default()).expect("it is free").stop();
}

#[test]
fn a_delete_makes_room_at_once() {
    let disk = SimDisk::new(23);
    let mut world = open(&disk, Settings { checkpoint_after_us: 30_000_000, ..settings() });
    let lane = topic(&mut world, "orders");
    for _ in 0..40 {
        append(&mut world, "orders", None).expect("accepted");
    }
    checkpoint(&mut world);
    let free = |disk: &SimDisk| disk.handle().space().expect("the disk says").free;
    let before = free(&disk);
    world.env.advance(1_500_000);
    let ticket = world.engine.delete_topic("orders", lane.topic);
    world.wait(&ticket).expect("answered").expect("deleted");
    world.driver.settle(100_000);
    assert!(free(&disk) >= before + (48 << 10), "{before} bytes were free, and {} are", free(&disk));
}

#[test]
fn a_damaged_newest_tables_file_is_named_by_the_refusal_that_it_causes() {
    let generation = |disk: &SimDisk, path: &str| {
        let is_there = disk.files().iter().any(|file| file == path);
        let bytes = is_there.then(|| disk.read_file(path)).filter(|bytes| bytes.len() > 40);
        // See docs/format.md: the generation is the fifth field of the header.
        bytes.map_or(0, |bytes| u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes")))
    };
    let mut refused = 0;
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let mut workload = Workload::new(seed);
        let mut world = World::open(&disk, settings(), seed).expect("it opens");
        workload.prepare(&mut world).expect("it is prepared");
        workload.run(&mut world, 150).expect("nothing is wrong");
        disk.crash(Crash::Kill);
        let newest = ["tables-a", "tables-b"].into_iter().max_by_key(|path| generation(&disk, path)).expect("two");
        if generation(&disk, newest) == 0 {
            continue;
        }
        disk.flip(newest, 150, 0x55);
        match World::open(&disk, settings(), seed).map(|world| world.report.findings) {
            Ok(findings) => assert!(findings.iter().any(|finding| finding.starts_with(newest)), "{findings:?}"),
            Err(OpenError::TablesDamaged { file, .. }) if file == newest => refused += 1,
            Err(error) => panic!("{error} seed={seed}"),
        }
    }
    assert!(refused >= 5, "only {refused} starts were refused");
}

#[test]
fn age_alone_rolls_no_segment_that_is_tiny() {
    let disk = SimDisk::new(34);
    // A 128th of the segment's size is 16 KiB.
    let mut world = open(&disk, settings());
    let config = TopicConfig { partitions: 1, segment_bytes: 2 << 20, ..TopicConfig::default() };
    let ticket = world.engine.create_topic("orders", config, false);
    let topic = world.wait(&ticket).expect("answered").expect("created").topic.id;
    let lane = Lane { topic, partition: Partition(0) };
    let segments = |world: &World| world.engine.segments(lane).expect("it lists").len();
    for day in 0..8 {
        append(&mut world, "orders", None).expect("accepted");
        checkpoint(&mut world);
        world.env.advance(86_400_000_000);
        // A block is a page: behind the header, three are less than a 128th.
        assert!(day > 2 || segments(&world) == 1, "day {day}: {} segments", segments(&world));
    }
    assert_eq!(segments(&world), 3, "what holds enough is rolled by age");
}

/// Files and directories are opened at many moments of a flush, a checkpoint and a delete: none of them may turn writes
/// off for want of a descriptor.
#[test]
fn a_lack_of_descriptors_at_any_moment_heals() {
    for moment in 0..200 {
        let disk = SimDisk::new(moment);
        let mut world = World::open(&disk, settings(), moment).expect("it opens");
        let brief = topic(&mut world, "brief");
        let lane = topic(&mut world, "orders");
        for name in ["orders", "brief", "orders"] {
            append(&mut world, name, None).expect("accepted");
        }
        let ticket = world.engine.delete_topic("brief", brief.topic);
        world.wait(&ticket).expect("answered").expect("deleted");
        world.engine.ask_checkpoint();
        world.driver.steps(moment);
        disk.set_lacks_descriptors(true);
        for _ in 0..4 {
            world.driver.settle(100_000);
            world.env.advance(1_100_000);
        }
        assert_eq!(world.engine.status().poisoned, None, "moment {moment}");
        disk.set_lacks_descriptors(false);
        for _ in 0..4 {
            world.driver.settle(100_000);
            world.env.advance(1_100_000);
        }
        append(&mut world, "orders", None).expect("it has healed");
        checkpoint(&mut world);
        assert_eq!(read_lane(&world.engine, lane).expect("reads").len(), 6, "moment {moment}");
    }
}

/// A topic's files go with it, and nobody else's.
#[test]
fn a_deleted_topic_takes_no_foreign_file_with_it() {
    let disk = SimDisk::new(35);
    let mut world = open(&disk, settings());
    let lane = topic(&mut world, "orders");
    append(&mut world, "orders", None).expect("accepted");
    checkpoint(&mut world);
    let dir = format!("data/{:016x}/0", lane.topic.0);
    let of_lane = |disk: &SimDisk| disk.files().into_iter().filter(|path| path.starts_with(&dir)).collect::<Vec<_>>();
    let own = of_lane(&disk);
    assert!(!own.is_empty());
    let foreign = [format!("{dir}/backup.log.bak"), format!("{dir}/quarantined-1-00000000000000000007-00000000.log")];
    for path in &foreign {
        disk.write_file(path, b"kept");
    }
    // A directory that is named like a segment cannot be unlinked.
    disk.handle().create_dir(&format!("{dir}/00000000000000000009-00000000.log")).expect("made");
    let ticket = world.engine.delete_topic("orders", lane.topic);
    world.wait(&ticket).expect("answered").expect("deleted");
    checkpoint(&mut world);
    world.driver.settle(100_000);
    assert_eq!(world.engine.status().poisoned, None);
    assert_eq!(of_lane(&disk), foreign);
    topic(&mut world, "orders");
    append(&mut world, "orders", None).expect("the name is free, and writes are on");
}
