//! Goal: the operator learns of every state that no caller's answer carries, once, and when it is over. Method: the log
//! on the simulated disk is brought into each state on purpose, and the notices are taken out.

use tillroll_engine::{
    disk::sim::{CallKind, Crash, Fault, SimDisk},
    id::{Lane, Offset, Partition},
    notice::Notice,
    request::{Append, AppendBatch, Content, TopicConfig},
    settings::Settings,
};
use tillroll_tests::{
    ledger::read_lane,
    members::new_group,
    world::{World, record_set, settings},
};

fn open(disk: &SimDisk, settings: Settings) -> World {
    World::open(disk, settings, 3).expect("it opens")
}

fn topic(world: &mut World) -> Lane {
    let config = TopicConfig { partitions: 1, segment_bytes: 64 << 10, ..TopicConfig::default() };
    let ticket = world.engine.create_topic("orders", config, false);
    let created = world.wait(&ticket).expect("answered").expect("created");
    Lane { topic: created.topic.id, partition: Partition(0) }
}

/// Appends a little; whether it was accepted.
fn append(world: &mut World) -> bool {
    let content = Content::Plain(record_set(&[vec![7; 900]]));
    let batch = AppendBatch { topic: "orders".to_owned(), topic_id: None, partition: Some(Partition(0)), content };
    let ticket = world.engine.try_append(Append { batches: vec![batch], ..Append::default() });
    world.wait(&ticket).is_some_and(|answer| answer.is_ok())
}

fn checkpoint(world: &mut World) {
    world.engine.ask_checkpoint();
    world.driver.settle(100_000);
    let marks = world.engine.marks();
    assert_eq!(marks.checkpointed.get(), marks.durable.get());
}

fn taken(world: &World) -> Vec<Notice> {
    world.engine.notices().take().notices
}

/// Leaves so many bytes free.
fn leave(disk: &SimDisk, world: &World, bytes: u64) {
    let space = disk.handle().space().expect("the disk says");
    disk.set_capacity(space.total - space.free + bytes);
    world.env.advance(1_000_000);
}

#[test]
fn a_disk_that_fills_is_reported_when_it_is_low_when_it_is_full_and_when_there_is_space_again() {
    let disk = SimDisk::new(21);
    let settings = Settings { space_floor_bytes: 64 << 10, ballast_bytes: 0, ..settings() };
    let mut world = open(&disk, settings);
    topic(&mut world);
    checkpoint(&mut world);
    assert_eq!(taken(&world), []);
    // Nobody appends: it is seen all the same.
    leave(&disk, &world, 100 << 10);
    world.driver.settle(100);
    assert!(matches!(taken(&world)[..], [Notice::DiskLow { free: 102_400, needed: 65_536.. }]));
    leave(&disk, &world, 4 << 10);
    assert!(!append(&mut world) && !append(&mut world));
    assert!(matches!(taken(&world)[..], [Notice::DiskFull { free: 4_096, .. }]), "once, whoever is refused");
    leave(&disk, &world, 1 << 30);
    assert!(append(&mut world));
    assert!(matches!(taken(&world)[..], [Notice::DiskRelieved { .. }]));
}

#[test]
fn a_full_journal_is_reported_once_and_when_it_has_room_again() {
    let disk = SimDisk::new(22);
    // Appends wait before they are refused, so that it is deletes and the like that fill the last files.
    let mut world = open(&disk, Settings { hold_checkpoints: true, journal_files_max: 8, ..settings() });
    topic(&mut world);
    while append(&mut world) {}
    assert_eq!(taken(&world), [], "two files are kept");
    let mut made = 0;
    while world.engine.status().journal_files < 8 {
        let name = format!("brief-{made}");
        let ticket = world.engine.create_topic(&name, TopicConfig::default(), false);
        world.wait(&ticket).expect("answered").expect("created");
        made += 1;
    }
    assert_eq!(taken(&world), [Notice::JournalFull { files: 8, files_max: 8 }]);
    checkpoint(&mut world);
    assert!(matches!(taken(&world)[..], [Notice::JournalRelieved { files: 1 }]));
}

#[test]
fn writes_that_go_off_are_reported_with_action_file_and_cause() {
    let disk = SimDisk::new(23);
    let mut world = open(&disk, settings());
    topic(&mut world);
    disk.fail_at_kind(CallKind::Sync, 1, Fault::Error);
    assert!(!append(&mut world));
    let notices = taken(&world);
    let [Notice::WritesOff { action: "sync", file, cause }] = &notices[..] else { panic!("{notices:?}") };
    assert!(file.starts_with("journal/slot-") && cause.contains("os error 5"), "{notices:?}");
}

#[test]
fn damage_is_reported_once_for_each_file() {
    let disk = SimDisk::new(24);
    let mut world = open(&disk, settings());
    let lane = topic(&mut world);
    assert!(append(&mut world));
    checkpoint(&mut world);
    let file = disk.files().into_iter().find(|path| path.starts_with("data/")).expect("a segment");
    disk.flip(&file, 4_096 + 500, 0x10);
    (0..3).for_each(|_| assert!(read_lane(&world.engine, lane).is_err()));
    let notices = taken(&world);
    let [Notice::Damaged { from: Offset(0), to: Offset(1), file: named, .. }] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!(*named, file);
}

#[test]
fn a_lack_is_reported_with_its_file_when_it_begins_and_when_it_is_over() {
    let disk = SimDisk::new(25);
    let mut world = open(&disk, Settings { ballast_bytes: 0, ..settings() });
    topic(&mut world);
    assert!(append(&mut world));
    leave(&disk, &world, 0);
    world.engine.ask_checkpoint();
    world.driver.settle(10_000);
    let notices = taken(&world);
    let lacks = |notice: &&Notice| {
        matches!(notice, Notice::Lacking { stage: "flush", file, cause }
        if file.starts_with("data/") && cause.contains("os error 28"))
    };
    assert_eq!(notices.iter().filter(lacks).count(), 1, "{notices:?}");
    leave(&disk, &world, 1 << 30);
    checkpoint(&mut world);
    let notices = taken(&world);
    assert!(notices.iter().any(|notice| matches!(notice, Notice::Healed { stage: "flush", .. })), "{notices:?}");
}

#[test]
fn what_a_start_did_is_reported() {
    let disk = SimDisk::new(26);
    let mut world = open(&disk, settings());
    topic(&mut world);
    assert!(append(&mut world));
    disk.crash(Crash::Kill);
    disk.write_file("tables-a", &[0x5a; 4_096]);
    let world = open(&disk, settings());
    let notices = taken(&world);
    assert!(matches!(notices[0], Notice::Replayed { frames: 2.., .. }), "{notices:?}");
    assert!(matches!(&notices[1], Notice::Finding { text } if text.contains("tables-a")), "{notices:?}");
    assert_eq!(notices.len(), 2);
}

#[test]
fn what_happens_to_groups_and_topics_and_the_clock_is_reported() {
    use tillroll_engine::{
        env::Env as _,
        group::{Join, SetCursors},
        notice::{Change, Gone},
    };
    let mut world = open(&SimDisk::new(29), settings());
    let lane = topic(&mut world);
    assert!(append(&mut world));
    let ticket = world.engine.create_group(new_group("mailer", "orders"));
    world.wait(&ticket).expect("answered").expect("created");
    let join = |instance: &str| Join {
        group: "mailer".into(),
        member: "m".into(),
        instance: instance.into(),
        client: "a test".into(),
        comes_back: false,
    };
    for instance in ["one", "two"] {
        let ticket = world.engine.join(join(instance));
        world.wait(&ticket).expect("answered").expect("joined");
    }
    let set = SetCursors {
        group: "mailer".into(),
        topic: "orders".into(),
        to: vec![(Partition(0), Offset(1))],
        dry_run: false,
        with_members: true,
        reason: "a sale".into(),
    };
    let ticket = world.engine.set_cursors(set);
    world.wait(&ticket).expect("answered").expect("set");
    world.env.jump(world.env.wall_us() + 3_600_000_000);
    assert!(append(&mut world));
    let ticket = world.engine.delete_topic("orders", lane.topic);
    world.wait(&ticket).expect("answered").expect("deleted");
    let ticket = world.engine.delete_group("mailer", true);
    world.wait(&ticket).expect("answered").expect("deleted");
    let told = taken(&world);
    let (group, member, client) = ("mailer".to_owned(), "m".to_owned(), "a test".to_owned());
    for expected in [
        Notice::Changed(Change::GroupCreated { group: group.clone(), topics: vec!["orders".into()] }),
        Notice::Changed(Change::MemberJoined { group: group.clone(), member: member.clone(), client: client.clone() }),
        Notice::Changed(Change::MemberTakenOver { group: group.clone(), member: member.clone(), client }),
        Notice::Changed(Change::CursorsSet {
            group: group.clone(),
            topic: "orders".into(),
            partitions: 1,
            reason: "a sale".into(),
        }),
        Notice::ClockJumped { by_us: 3_600_000_000, ahead_us: 0 },
        Notice::Changed(Change::TopicDeleted { topic: "orders".into() }),
        Notice::Changed(Change::GroupDeleted { group }),
    ] {
        assert!(told.contains(&expected), "{expected:?} is missing: {told:?}");
    }
    assert!(
        !told.iter().any(|notice| matches!(notice, Notice::Changed(Change::MemberGone { why: Gone::Silent, .. }))),
        "{told:?}"
    );
}
