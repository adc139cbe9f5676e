//! Goal: an epoch that has ended never counts again, whatever is deleted and created again under the same name, and a
//! decision sees everything that is on its way to the disk. Method: the log on the simulated disk under a seeded
//! scheduler; each story is told once.

use tillroll_engine::{
    disk::sim::{Crash, SimDisk},
    error::{CursorWhy, Refusal},
    group::Join,
    id::{Lane, Offset, Partition},
    request::{
        Append, AppendBatch, Appended, Check, Content, CursorCommit, HeldAssignment, InitProducer, Stamp, TopicConfig,
    },
};
use tillroll_tests::{
    members::new_group,
    world::{World, record_set, settings},
};

const GROUP: &str = "workers";
const TOPIC: &str = "orders";

fn open(disk: &SimDisk) -> World {
    World::open(disk, settings(), 3).expect("it opens")
}

fn create_topic(world: &mut World) -> Lane {
    let config = TopicConfig { partitions: 1, segment_bytes: 64 << 10, ..TopicConfig::default() };
    let ticket = world.engine.create_topic(TOPIC, config, false);
    let created = world.wait(&ticket).expect("answered").expect("created");
    Lane { topic: created.topic.id, partition: Partition(0) }
}

fn create_group(world: &mut World) {
    let ticket = world.engine.create_group(new_group(GROUP, TOPIC));
    world.wait(&ticket).expect("answered").expect("created");
}

fn join(world: &mut World, member: &str) {
    let join = Join {
        group: GROUP.into(),
        member: member.into(),
        instance: format!("{member}-1"),
        client: String::new(),
        comes_back: false,
    };
    let ticket = world.engine.join(join);
    world.wait(&ticket).expect("answered").expect("joined");
}

/// The epoch under which somebody holds the partition.
fn epoch(world: &World, lane: Lane) -> u64 {
    let row = world.engine.group(GROUP).expect("it is there");
    let cursor = &row.cursors[&lane];
    assert!(cursor.holder.is_some());
    cursor.epoch
}

fn append(world: &mut World, stamp: Option<Stamp>, checks: Vec<Check>) -> Result<Appended, Refusal> {
    let content = Content::Plain(record_set(&[vec![7; 100]]));
    let batch = AppendBatch { topic: TOPIC.into(), topic_id: None, partition: Some(Partition(0)), content };
    let ticket = world.engine.try_append(Append { batches: vec![batch], stamp, checks, ..Append::default() });
    world.wait(&ticket).expect("answered")
}

fn commit(world: &mut World, next: u64, epoch: u64) -> Result<(), Refusal> {
    let commit = CursorCommit {
        group: GROUP.into(),
        topic: TOPIC.into(),
        partition: Partition(0),
        next: Offset(next),
        epoch: Some(epoch),
        expected: None,
        metadata: bytes::Bytes::new(),
    };
    let ticket = world.engine.commit_cursors(vec![commit]);
    world.wait(&ticket).expect("answered")
}

fn is_fenced(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::CursorRefused { faults, .. }
        if faults.iter().all(|fault| matches!(fault.why, CursorWhy::Fenced { .. })))
}

fn register(world: &mut World, name: Option<&str>, idle_expiry_ms: u64) -> (String, u64) {
    let ticket = world.engine.init_producer(InitProducer {
        name: name.map(str::to_owned),
        idle_expiry_ms,
        expected_epoch: None,
    });
    let opened = world.wait(&ticket).expect("answered").expect("registered");
    (opened.name, opened.epoch)
}

/// A member stops for a while. Meanwhile its group is deleted and created again, and another member holds the
/// partition. What the stopped member does when it wakes up must be refused: it would move the cursor past records that
/// the new member has not done, and append outputs a second time.
#[test]
fn a_member_of_a_deleted_group_is_fenced_from_the_group_that_has_its_name() {
    let disk = SimDisk::new(41);
    let mut world = open(&disk);
    let lane = create_topic(&mut world);
    for _ in 0..5 {
        append(&mut world, None, Vec::new()).expect("accepted");
    }
    let mut ended = Vec::new();
    for round in 0..3 {
        create_group(&mut world);
        // Epochs of before are tried also while nobody holds the partition yet.
        for old in &ended {
            assert!(is_fenced(&commit(&mut world, 1, *old).expect_err("it has ended")), "round {round} epoch {old}");
        }
        join(&mut world, "a");
        for old in &ended {
            let refused = commit(&mut world, 2, *old).expect_err("it has ended");
            assert!(is_fenced(&refused), "round {round} epoch {old}: {refused}");
            let held =
                HeldAssignment { group: GROUP.into(), topic: TOPIC.into(), partition: Partition(0), epoch: *old };
            let refused = append(&mut world, None, vec![Check::HeldAssignment(held)]).expect_err("it has ended");
            assert!(is_fenced(&refused), "round {round} epoch {old}: {refused}");
        }
        let current = epoch(&world, lane);
        commit(&mut world, 1, current).expect("the member holds it");
        ended.push(current);
        // A cursor that is set fences, too, and the next holder gets an epoch of its own.
        let set = tillroll_engine::group::SetCursors {
            group: GROUP.into(),
            topic: TOPIC.into(),
            to: vec![(Partition(0), Offset(0))],
            dry_run: false,
            with_members: true,
            reason: "again".into(),
        };
        let ticket = world.engine.set_cursors(set);
        world.wait(&ticket).expect("answered").expect("set");
        let current = epoch(&world, lane);
        assert!(ended.iter().all(|old| *old < current), "round {round}: {ended:?} {current}");
        ended.push(current);
        let ticket = world.engine.delete_group(GROUP, true);
        world.wait(&ticket).expect("answered").expect("deleted");
        if round == 1 {
            drop(world);
            disk.crash(Crash::Power);
            world = open(&disk);
        }
    }
}

/// An etag is a version: that of a group which is gone must not change the one that has its name.
#[test]
fn an_etag_of_a_deleted_group_does_not_match_the_group_that_has_its_name() {
    let disk = SimDisk::new(42);
    let mut world = open(&disk);
    create_topic(&mut world);
    create_group(&mut world);
    let version = world.engine.group(GROUP).expect("it is there").version;
    let ticket = world.engine.delete_group(GROUP, false);
    world.wait(&ticket).expect("answered").expect("deleted");
    create_group(&mut world);
    let change = tillroll_engine::group::GroupChange {
        group: GROUP.into(),
        version: Some(version),
        paused: Some(true),
        pause_reason: "stocktaking".into(),
        below_head: None,
        add_topics: Vec::new(),
    };
    let ticket = world.engine.change_group(change);
    let refused = world.wait(&ticket).expect("answered").expect_err("it is another group");
    assert!(matches!(refused, Refusal::GroupChanged { .. }), "{refused}");
}

/// The frame that forgets a producer is on its way to the disk when an append under its stamp is decided. Accepted, the
/// append would be acked, and its stamp would be lost when both are applied: the retry would be PRODUCER_UNKNOWN, and
/// the client would append it again under another name.
#[test]
fn an_append_is_decided_against_an_expiry_that_is_on_its_way() {
    let disk = SimDisk::new(43);
    let mut world = open(&disk);
    create_topic(&mut world);
    let (producer, epoch) = register(&mut world, None, 60_000);
    let stamp = |sequence| Some(Stamp { producer: producer.clone(), epoch, sequence, answered_below: 0 });
    append(&mut world, stamp(1), Vec::new()).expect("accepted");
    world.env.advance(200_000_000);
    // The append is there before the step that finds the producer idle: both are decided in that step.
    let refused = append(&mut world, stamp(2), Vec::new()).expect_err("it has expired");
    assert!(matches!(refused, Refusal::ProducerUnknown { .. }), "{refused}");
    world.driver.settle(10_000);
    let refused = append(&mut world, stamp(2), Vec::new()).expect_err("it has expired");
    assert!(matches!(refused, Refusal::ProducerUnknown { .. }), "{refused}");
}

/// A producer's name that is registered again after it was forgotten: what the older process still sends is fenced.
#[test]
fn an_epoch_of_a_producer_rises_above_every_earlier_one_of_its_name() {
    let disk = SimDisk::new(44);
    let mut world = open(&disk);
    create_topic(&mut world);
    let (_, first) = register(&mut world, Some("loader"), 60_000);
    world.env.advance(200_000_000);
    world.driver.settle(10_000);
    let (_, second) = register(&mut world, Some("loader"), 60_000);
    assert!(second > first, "{second} after {first}");
    let stamp = |epoch| Some(Stamp { producer: "loader".into(), epoch, sequence: 1, answered_below: 0 });
    let refused = append(&mut world, stamp(first), Vec::new()).expect_err("it was forgotten, and another one came");
    assert!(matches!(refused, Refusal::ProducerFenced { .. }), "{refused}");
    append(&mut world, stamp(second), Vec::new()).expect("accepted");
}
