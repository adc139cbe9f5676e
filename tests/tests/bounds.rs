//! Goal: no request, and no number of them, takes more than it may, stops others, or leaves the log in a state from
//! which it does not come back by itself. Method: the log on the simulated disk under a seeded scheduler.

use bytes::Bytes;
use tillroll_engine::{
    disk::sim::{Crash, SimDisk},
    error::{Refusal, Sized},
    group::{BelowHead, GroupConfig, Mode, NewGroup, SetCursors},
    id::{Offset, Partition},
    limits,
    request::{
        Append, AppendBatch, Appended, Check, Content, CursorCommit, HeldAssignment, InitProducer, ProducerOpened,
        Stamp, Start, TopicConfig,
    },
    settings::Settings,
};
use tillroll_tests::world::{World, record_set, settings};

fn open(disk: &SimDisk, settings: Settings) -> World {
    World::open(disk, settings, 3).expect("it opens")
}

fn topic(world: &mut World, name: &str, partitions: u32) -> Result<(), Refusal> {
    let config = TopicConfig { partitions, segment_bytes: 64 << 10, ..TopicConfig::default() };
    let ticket = world.engine.create_topic(name, config, false);
    world.wait(&ticket).expect("answered").map(drop)
}

fn group(world: &mut World, name: &str, topics: &[&str]) -> Result<(), Refusal> {
    let config = GroupConfig {
        mode: Mode::Manual,
        rule: None,
        start: Start::Earliest,
        below_head: BelowHead::Fail,
        session_ms: 10_000,
        drain_ms: 30_000,
    };
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    let ticket = world.engine.create_group(NewGroup { name: name.into(), topics, config });
    world.wait(&ticket).expect("answered").map(drop)
}

fn register(world: &mut World, name: Option<&str>, idle_expiry_ms: u64) -> Result<ProducerOpened, Refusal> {
    let init = InitProducer { name: name.map(str::to_owned), idle_expiry_ms, expected_epoch: None };
    let ticket = world.engine.init_producer(init);
    world.wait(&ticket).expect("answered")
}

/// One record for each of the first `partitions` of a topic.
fn spread(topic: &str, partitions: u32, stamp: impl Into<Option<Stamp>>) -> Append {
    let set = record_set(&[vec![7; 3]]);
    let batch = |partition| AppendBatch {
        topic: topic.into(),
        topic_id: None,
        partition: Some(Partition(partition)),
        content: Content::Plain(set.clone()),
    };
    Append { batches: (0..partitions).map(batch).collect(), stamp: stamp.into(), ..Append::default() }
}

fn append(world: &mut World, append: &Append) -> Result<Appended, Refusal> {
    world.append(append).expect("answered")
}

fn stamp(opened: &ProducerOpened, sequence: u64, answered_below: u64) -> Stamp {
    Stamp { producer: opened.name.clone(), epoch: opened.epoch, sequence, answered_below }
}

/// A cursor that is set takes an operation for each partition, with the reason in each. A frame that fits no journal
/// file would wait for ever, and everything behind it: the journal grew to its maximum, and appends got JOURNAL_FULL
/// until a restart.
#[test]
fn a_request_whose_frame_fits_no_file_is_refused_and_stops_nothing() {
    let mut world = open(&SimDisk::new(51), Settings { journal_file_bytes: 32 << 10, ..settings() });
    topic(&mut world, "wide", 64).expect("created");
    group(&mut world, "readers", &["wide"]).expect("created");
    let set = |bytes: usize| SetCursors {
        group: "readers".into(),
        topic: "wide".into(),
        to: (0..64).map(|partition| (Partition(partition), Offset(0))).collect(),
        dry_run: false,
        with_members: true,
        reason: "x".repeat(bytes),
    };
    let ticket = world.engine.set_cursors(set(1_000));
    let refused = world.wait(&ticket).expect("answered").expect_err("64 KB do not fit 32");
    let Refusal::TooLarge { what: Sized::RequestBytes, limit: 24_576, actual, .. } = refused else {
        panic!("{refused}")
    };
    assert!(actual > 64_000, "{actual}");
    let ticket = world.engine.set_cursors(set(limits::REASON_BYTES_MAX + 1));
    let refused = world.wait(&ticket).expect("answered").expect_err("the reason is too long");
    assert!(matches!(refused, Refusal::SettingOutOfRange { field: "reason", .. }), "{refused}");
    for _ in 0..50 {
        append(&mut world, &spread("wide", 4, None)).expect("the road is free");
    }
    assert!(world.engine.status().journal_files < 5, "the journal does not grow");
    let ticket = world.engine.set_cursors(set(100));
    assert_eq!(world.wait(&ticket).expect("answered").expect("set").len(), 64);
}

/// An answer names every partition that its append went to, and an append may go to thousands.
#[test]
fn answers_that_nobody_confirms_stop_their_producer_and_no_other() {
    let disk = SimDisk::new(52);
    let settings = Settings { answers_bytes: 40_000, journal_files_max: 64, ..settings() };
    let mut world = open(&disk, settings.clone());
    topic(&mut world, "wide", 64).expect("created");
    let wide = register(&mut world, Some("wide"), 0).expect("registered");
    let narrow = register(&mut world, Some("narrow"), 0).expect("registered");
    append(&mut world, &spread("wide", 1, stamp(&narrow, 1, 0))).expect("accepted");
    let mut sequence = 0;
    let refused = loop {
        match append(&mut world, &spread("wide", 64, stamp(&wide, sequence + 1, 0))) {
            Ok(_) => sequence += 1,
            Err(refusal) => break refusal,
        }
        assert!(sequence < 256, "nothing stops it");
    };
    assert!(matches!(refused, Refusal::AnswersFull { limit: 20_000, actual, .. } if actual > 20_000), "{refused}");
    // Nothing is forgotten that was not confirmed, and the refused append has consumed no sequence.
    for accepted in [1, sequence] {
        let again = append(&mut world, &spread("wide", 64, stamp(&wide, accepted, 0))).expect("remembered");
        assert!(again.duplicate && again.batches.len() == 64);
    }
    for number in 2..50 {
        append(&mut world, &spread("wide", 1, stamp(&narrow, number, 0))).expect("it has its share");
    }
    // The way out, also after a restart.
    drop(world);
    disk.crash(Crash::Power);
    let mut world = open(&disk, settings);
    let refused = append(&mut world, &spread("wide", 64, stamp(&wide, sequence + 1, 0))).expect_err("as before");
    assert!(matches!(refused, Refusal::AnswersFull { .. }), "{refused}");
    let next = spread("wide", 64, stamp(&wide, sequence + 1, sequence + 1));
    append(&mut world, &next).expect("what it confirms makes room");
    world.driver.settle(100_000);
    let forgotten = append(&mut world, &spread("wide", 64, stamp(&wide, sequence, 0))).expect_err("it was confirmed");
    assert!(matches!(forgotten, Refusal::SequenceForgotten { oldest, .. } if oldest == sequence + 1), "{forgotten}");
    assert!(append(&mut world, &next).expect("remembered").duplicate, "the newest answer stays");
}

/// A producer that is registered again hears of its newest appends. All of them would not fit a message that a client
/// takes, and the name could never be used again.
#[test]
fn a_registration_answers_with_what_fits_and_the_rest_comes_in_pages() {
    let settings = Settings { journal_files_max: 64, in_flight_bytes: 1 << 20, ..settings() };
    let mut world = open(&SimDisk::new(53), settings);
    let name = "t".repeat(128);
    topic(&mut world, &name, 128).expect("created");
    let opened = register(&mut world, Some("wide"), 0).expect("registered");
    for sequence in 1..=60 {
        append(&mut world, &spread(&name, 128, stamp(&opened, sequence, 0))).expect("accepted");
    }
    let opened = register(&mut world, Some("wide"), 0).expect("registered again");
    let (recent, has_older) = world.engine.newest_appends("wide", opened.epoch).expect("it is ours");
    assert!(has_older && recent.len() > 10, "{}", recent.len());
    assert_eq!(recent.last().map(|recent| recent.sequence), Some(60), "the newest are among them");
    let bytes: usize = recent.iter().map(|recent| recent.appended.batches.len() * (128 + 64)).sum();
    assert!(bytes <= limits::RECENT_BYTES_MAX, "{bytes}");
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let (page, has_more) = world.engine.producer_appends("wide", after, 100_000).expect("registered");
        assert!(page.len() <= 4, "{}", page.len());
        seen.extend(page.iter().map(|recent| recent.sequence));
        after = *seen.last().expect("one at least");
        if !has_more {
            break;
        }
    }
    assert_eq!(seen, (1..=60).collect::<Vec<u64>>());
}

#[test]
fn partitions_of_all_topics_together_have_a_limit() {
    let mut world = open(&SimDisk::new(54), settings());
    let mut partitions = 0;
    let refused = loop {
        match topic(&mut world, &format!("t-{partitions}"), 1_024) {
            Ok(()) => partitions += 1_024,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(partitions, limits::PARTITIONS_ALL_MAX);
    let more = limits::PARTITIONS_ALL_MAX + 1_024;
    assert!(matches!(refused, Refusal::PartitionsFull { actual, .. } if actual == more), "{refused}");
    let refused = topic(&mut world, "one-more", 1).expect_err("not even one");
    assert!(matches!(refused, Refusal::PartitionsFull { .. }), "{refused}");
}

#[test]
fn cursors_of_all_groups_together_have_a_limit() {
    let mut world = open(&SimDisk::new(55), Settings { journal_file_bytes: 1 << 20, ..settings() });
    let names: Vec<String> = (0..16).map(|number| format!("t-{number}")).collect();
    for name in &names {
        topic(&mut world, name, 1_024).expect("created");
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut groups = 0;
    let refused = loop {
        match group(&mut world, &format!("g-{groups}"), &names) {
            Ok(()) => groups += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(groups * 16_384, limits::CURSORS_ALL_MAX);
    assert!(matches!(refused, Refusal::GroupRowsFull { what: "cursors", .. }), "{refused}");
    let ticket = world.engine.delete_group("g-0", false);
    world.wait(&ticket).expect("answered").expect("deleted");
    group(&mut world, "g-again", &names).expect("there is room again");
}

/// Above 17 registrations a second the limit filled with producers that nobody used any more.
#[test]
fn producers_expire_as_fast_as_they_come() {
    let mut world = open(&SimDisk::new(56), Settings { journal_files_max: 64, ..settings() });
    topic(&mut world, "orders", 1).expect("created");
    for _ in 0..3_000 {
        register(&mut world, None, 60_000).expect("registered");
    }
    assert_eq!(world.engine.status().producers, 3_000);
    world.env.advance(61_000_000);
    world.driver.settle(100_000);
    assert_eq!(world.engine.status().producers, 0);
}

/// A clock that jumps ahead and comes back: append times stay ahead, and idle time is counted all the same.
#[test]
fn a_clock_that_jumps_expires_nobody_early_and_keeps_nobody() {
    let mut world = open(&SimDisk::new(57), settings());
    topic(&mut world, "orders", 1).expect("created");
    let opened = register(&mut world, None, 60_000).expect("registered");
    let now_us = world.engine.env().wall_us();
    world.env.jump(now_us + 1_000_000_000_000);
    world.driver.settle(10_000);
    let ahead = append(&mut world, &spread("orders", 1, stamp(&opened, 1, 0))).expect("it is not idle");
    world.env.jump(now_us);
    world.env.advance(59_000_000);
    world.driver.settle(10_000);
    assert_eq!(world.engine.status().producers, 1, "its time is not over");
    let pinned = append(&mut world, &spread("orders", 1, None)).expect("accepted");
    assert_eq!(pinned.append_time_us, ahead.append_time_us, "times never fall");
    world.env.advance(2_000_000);
    world.driver.settle(10_000);
    assert_eq!(world.engine.status().producers, 0, "it was idle for its time");
}

#[test]
fn a_producer_is_listed_and_deleted_and_its_name_is_free() {
    let disk = SimDisk::new(58);
    let mut world = open(&disk, settings());
    topic(&mut world, "orders", 1).expect("created");
    let first = register(&mut world, Some("loader"), 0).expect("registered");
    register(&mut world, Some("other"), 0).expect("registered");
    append(&mut world, &spread("orders", 1, stamp(&first, 1, 0))).expect("accepted");
    let listed = world.engine.producers("lo", None, 10);
    assert_eq!(
        listed.iter().map(|one| (one.name.as_str(), one.next_sequence, one.answers)).collect::<Vec<_>>(),
        [("loader", 2, 1)]
    );
    let ticket = world.engine.delete_producer("loader", Some(first.epoch + 1));
    let refused = world.wait(&ticket).expect("answered").expect_err("it has another epoch");
    assert!(matches!(refused, Refusal::ProducerFenced { .. }), "{refused}");
    let ticket = world.engine.delete_producer("loader", Some(first.epoch));
    world.wait(&ticket).expect("answered").expect("deleted");
    let refused = append(&mut world, &spread("orders", 1, stamp(&first, 2, 0))).expect_err("it is gone");
    assert!(matches!(refused, Refusal::ProducerUnknown { .. }), "{refused}");
    drop(world);
    disk.crash(Crash::Power);
    let mut world = open(&disk, settings());
    assert_eq!(world.engine.producers("", None, 10).len(), 1);
    let again = register(&mut world, Some("loader"), 0).expect("the name is free");
    assert!(again.epoch > first.epoch && again.next_sequence == 1);
}

/// A process that registers again says which epoch it had: whoever took the name meanwhile is not fenced by it.
#[test]
fn an_older_process_that_registers_again_is_refused_and_fences_nobody() {
    let mut world = open(&SimDisk::new(59), settings());
    topic(&mut world, "orders", 1).expect("created");
    let older = register(&mut world, Some("till"), 0).expect("registered");
    let newer = register(&mut world, Some("till"), 0).expect("taken over");
    let again = |epoch| InitProducer { name: Some("till".into()), idle_expiry_ms: 0, expected_epoch: Some(epoch) };
    let ticket = world.engine.init_producer(again(older.epoch));
    let refused = world.wait(&ticket).expect("answered").expect_err("it is the newer one's");
    assert!(matches!(refused, Refusal::ProducerFenced { current, .. } if current == newer.epoch), "{refused}");
    append(&mut world, &spread("orders", 1, stamp(&newer, 1, 0))).expect("it goes on");
    let ticket = world.engine.init_producer(again(newer.epoch));
    world.wait(&ticket).expect("answered").expect("its own");
}

/// Records without a partition are divided by key: each may become a part, and the answer names each part.
#[test]
fn an_append_goes_to_a_bounded_number_of_parts() {
    let mut world = open(&SimDisk::new(60), Settings { in_flight_bytes: 64 << 20, ..settings() });
    topic(&mut world, "wide", 1_024).expect("created");
    let mut set = Vec::new();
    for number in 0..6_000_u32 {
        // Record { key: four bytes }
        set.extend([0x0a, 6, 0x0a, 4]);
        set.extend(number.to_le_bytes());
    }
    let set = Bytes::from(set);
    let batch = AppendBatch { topic: "wide".into(), topic_id: None, partition: None, content: Content::Plain(set) };
    let ticket = world.engine.try_append(Append { batches: vec![batch.clone(); 5], ..Append::default() });
    let refused = world.wait(&ticket).expect("answered").expect_err("too many parts");
    assert!(matches!(refused, Refusal::TooLarge { what: Sized::Parts, limit: 4_096, .. }), "{refused}");
}

/// What an append takes of the budget counts everything that it is made of.
#[test]
fn the_budget_counts_names_checks_metadata_and_parts() {
    let of = |append: &Append| tillroll_engine::admit::append_bytes(append);
    let commit = CursorCommit {
        group: "g".repeat(100),
        topic: "t".repeat(100),
        partition: Partition(0),
        next: Offset(0),
        epoch: None,
        expected: None,
        metadata: Bytes::from(vec![0; 1_000]),
    };
    let check = Check::HeldAssignment(HeldAssignment {
        group: "g".repeat(100),
        topic: "t".repeat(100),
        partition: Partition(0),
        epoch: 1,
    });
    let append = Append { commits: vec![commit; 1_000], checks: vec![check; 1_000], ..Append::default() };
    assert!(of(&append) >= 1_000 * (100 + 100 + 1_000) + 1_000 * 200);
    let empty = [0x0a, 0].repeat(1_000);
    let content = Content::Plain(empty.into());
    let batch = AppendBatch { topic: "wide".into(), topic_id: None, partition: None, content };
    assert!(of(&Append { batches: vec![batch], ..Append::default() }) > 1_000 * 200, "each may be a part");
}

/// On a full disk a checkpoint writes the tables anew: what is kept aside for it grows with them.
#[test]
fn what_is_kept_aside_for_a_full_disk_grows_with_the_tables() {
    let disk = SimDisk::new(3);
    let mut world = open(&disk, settings());
    let kept = |disk: &SimDisk| disk.read_file("ballast").len();
    world.env.advance(2_000_000);
    world.driver.settle(100_000);
    let before = kept(&disk);
    for number in 0..200 {
        topic(&mut world, &format!("{}-{number}", "long-name".repeat(10)), 1).expect("created");
    }
    for _ in 0..3 {
        world.engine.ask_checkpoint();
        world.driver.settle(100_000);
        world.env.advance(2_000_000);
        world.driver.settle(100_000);
    }
    let tables = ["tables-a", "tables-b"].map(|name| disk.read_file(name).len()).into_iter().max().unwrap_or(0);
    assert!(before >= 16 << 10 && tables > before, "{before} {tables}");
    assert!(kept(&disk) >= 2 * tables, "{} bytes for tables of {tables}", kept(&disk));
}

/// A reader that is slow keeps what it read, and what it lies in: a write buffer of 2 MiB for each small batch that it
/// did not copy, which no budget counted.
#[test]
fn what_a_read_keeps_in_memory_is_what_it_says() {
    let disk = SimDisk::new(3);
    let mut world = open(&disk, settings());
    topic(&mut world, "orders", 1).expect("created");
    let lane =
        tillroll_engine::id::Lane { topic: world.engine.topic("orders").expect("there").id, partition: Partition(0) };
    for (bytes, is_copied) in [(100, true), (2_000, true), (12_000, false)] {
        let batch = AppendBatch {
            topic: "orders".into(),
            topic_id: None,
            partition: Some(Partition(0)),
            content: Content::Plain(record_set(&[vec![7; bytes]])),
        };
        let appended = append(&mut world, &Append { batches: vec![batch], ..Append::default() }).expect("accepted");
        let base = appended.batches[0].base;
        let read = || world.engine.read(lane, base, 1 << 20).expect("it is there").chunks.remove(0);
        let (one, other) = (read(), read());
        assert_eq!(one.batch.data, other.batch.data);
        assert_eq!(one.batch.data.as_ptr() != other.batch.data.as_ptr(), is_copied, "{bytes} bytes");
        let buffer = if is_copied { one.batch.data.len() } else { settings().group_bytes };
        assert!(one.kept_bytes >= buffer, "{bytes} bytes keep {} of {buffer}", one.kept_bytes);
    }
}

/// Commands wait in memory for their turn and for the disk, whole: a thousand of them with a megabyte each did.
#[test]
fn commands_that_are_not_answered_have_a_budget_and_give_it_back() {
    let mut world = open(&SimDisk::new(57), settings());
    topic(&mut world, "wide", 64).expect("created");
    group(&mut world, "readers", &["wide"]).expect("created");
    let commit = |partition| CursorCommit {
        group: "readers".into(),
        topic: "wide".into(),
        partition: Partition(partition),
        next: Offset(0),
        epoch: None,
        expected: None,
        metadata: Bytes::from(vec![7; 1_000]),
    };
    let commits: Vec<_> = (0..64).map(commit).collect();
    let tickets: Vec<_> = (0..1_000).map(|_| world.engine.commit_cursors(commits.clone())).collect();
    let status = world.engine.status();
    assert!(status.command_bytes <= limits::COMMANDS_BYTES_MAX, "{}", status.command_bytes);
    assert!(status.command_bytes > limits::COMMANDS_BYTES_MAX - 100_000, "{}", status.command_bytes);
    let mut refused = 0;
    for ticket in &tickets {
        if let Err(Refusal::Overloaded { limit_bytes }) = world.wait(ticket).expect("answered") {
            assert_eq!(limit_bytes, limits::COMMANDS_BYTES_MAX);
            refused += 1;
        }
    }
    assert!((700..800).contains(&refused), "{refused}");
    assert_eq!(world.engine.status().command_bytes, 0);
    let answer = world.engine.commit_cursors(commits);
    assert!(!matches!(world.wait(&answer), Some(Err(Refusal::Overloaded { .. }))), "there is room again");
}

/// Whoever registers hears of its own appends, and not of those of who took the name over since.
#[test]
fn the_newest_appends_are_told_to_the_epoch_that_registered_last_alone() {
    let mut world = open(&SimDisk::new(58), settings());
    let (first, second) =
        (register(&mut world, Some("till"), 0).expect("registered"), register(&mut world, Some("till"), 0));
    let second = second.expect("taken over");
    let fenced = world.engine.newest_appends("till", first.epoch).expect_err("it was taken over");
    assert!(matches!(fenced, Refusal::ProducerFenced { current, .. } if current == second.epoch), "{fenced}");
    assert_eq!(world.engine.newest_appends("till", second.epoch), Ok((Vec::new(), false)));
}

/// What is kept beside a cursor came in a request of any length, which must not stay with it.
#[test]
fn a_cursor_keeps_its_metadata_and_nothing_of_the_request() {
    let mut world = open(&SimDisk::new(59), settings());
    topic(&mut world, "orders", 1).expect("created");
    group(&mut world, "readers", &["orders"]).expect("created");
    append(&mut world, &spread("orders", 1, None)).expect("accepted");
    let request = Bytes::from(vec![7; 1 << 20]);
    let commit = CursorCommit {
        group: "readers".into(),
        topic: "orders".into(),
        partition: Partition(0),
        next: Offset(1),
        epoch: None,
        expected: Some(Offset(0)),
        metadata: request.slice(1_000..2_000),
    };
    let ticket = world.engine.commit_cursors(vec![commit]);
    world.wait(&ticket).expect("answered").expect("committed");
    let row = world.engine.group("readers").expect("it is there");
    let kept = &row.cursors.values().next().expect("a cursor").metadata;
    assert_eq!(kept.len(), 1_000);
    assert!(!request.as_ptr_range().contains(&kept.as_ptr()));
}
