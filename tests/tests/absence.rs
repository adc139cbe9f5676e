//! Goal: timers of consumer groups free partitions when they say, and not before: sessions of members that are away,
//! and partitions that are not given back.
//!
//! Method: a log on the simulated disk, whose clock moves only when the test moves it.

use tillroll_engine::{
    disk::sim::SimDisk,
    group::{BelowHead, GroupConfig, Join, LostWhy, Mode, NewGroup, Rule},
    id::GroupId,
    presence::Attendance,
    request::{Start, TopicConfig},
    table::group::GroupRow,
};
use tillroll_tests::world::{World, settings};

const SEED: u64 = 71;
const SESSION_MS: u32 = 10_000;
const DRAIN_MS: u32 = 30_000;
const GROUP: &str = "workers";

/// A world with a topic of four partitions and a group that reads it.
fn prepared(disk: &SimDisk) -> World {
    println!("seed {SEED}");
    let mut world = World::open(disk, settings(), SEED).expect("it opens");
    let config = TopicConfig { partitions: 4, segment_bytes: 64 << 10, ..TopicConfig::default() };
    let ticket = world.engine.create_topic("orders", config, false);
    world.wait(&ticket).expect("answered").expect("created");
    let config = GroupConfig {
        mode: Mode::Members,
        rule: Some(Rule::Spread),
        start: Start::Earliest,
        below_head: BelowHead::Fail,
        session_ms: SESSION_MS,
        drain_ms: DRAIN_MS,
    };
    let new = NewGroup { name: GROUP.to_owned(), topics: vec!["orders".to_owned()], config };
    let ticket = world.engine.create_group(new);
    world.wait(&ticket).expect("answered").expect("created");
    world
}

fn row(world: &World) -> GroupRow {
    GroupRow::clone(&*world.engine.group(GROUP).expect("it is there"))
}

fn held(world: &World, member: &str) -> usize {
    row(world).cursors.values().filter(|cursor| cursor.holder.as_deref() == Some(member)).count()
}

fn join(world: &mut World, member: &str) -> Attendance {
    let id: GroupId = row(world).id;
    let here = world.engine.attend((id, member.to_owned(), "1".to_owned()));
    let (group, member, instance) = (GROUP.to_owned(), member.to_owned(), "1".to_owned());
    let ticket = world.engine.join(Join { group, member, instance, client: String::new(), comes_back: false });
    world.wait(&ticket).expect("answered").expect("joined");
    world.driver.settle(10_000);
    here
}

fn pass(world: &mut World, ms: u32) {
    world.env.advance(u64::from(ms) * 1_000);
    world.driver.settle(10_000);
}

#[test]
fn a_member_that_is_away_keeps_its_partitions_for_its_session_and_no_longer() {
    let mut world = prepared(&SimDisk::new(SEED));
    let here = join(&mut world, "a");
    assert_eq!(held(&world, "a"), 4);
    pass(&mut world, 10 * SESSION_MS);
    assert_eq!(held(&world, "a"), 4, "it is there");
    drop(here);
    pass(&mut world, 0);
    pass(&mut world, SESSION_MS - 1);
    assert_eq!(held(&world, "a"), 4, "it may come back");
    let back = world.engine.attend((row(&world).id, "a".to_owned(), "1".to_owned()));
    pass(&mut world, 2 * SESSION_MS);
    assert_eq!(held(&world, "a"), 4, "it came back");
    drop(back);
    pass(&mut world, 0);
    pass(&mut world, SESSION_MS);
    let row = row(&world);
    assert!(row.members.is_empty());
    assert!(row.cursors.values().all(|cursor| cursor.lost == Some(LostWhy::SessionExpired)), "{row:?}");
}

#[test]
fn a_partition_that_is_not_given_back_is_taken_when_its_time_is_over() {
    let mut world = prepared(&SimDisk::new(SEED));
    let _a = join(&mut world, "a");
    let before = row(&world);
    let _b = join(&mut world, "b");
    assert_eq!((held(&world, "a"), held(&world, "b")), (4, 0), "asked back first");
    assert_eq!(row(&world).cursors.values().filter(|cursor| cursor.is_draining).count(), 2);
    pass(&mut world, DRAIN_MS - 1);
    assert_eq!(held(&world, "b"), 0);
    pass(&mut world, 1);
    assert_eq!((held(&world, "a"), held(&world, "b")), (2, 2));
    for (lane, cursor) in &row(&world).cursors {
        let rose = cursor.epoch > before.cursors[lane].epoch;
        assert_eq!(rose, cursor.holder.as_deref() == Some("b"), "an epoch rises when the partition changes hands");
    }
}

#[test]
fn a_restart_begins_all_timers_anew_and_changes_nothing_else() {
    let disk = SimDisk::new(SEED);
    let mut world = prepared(&disk);
    let here = join(&mut world, "a");
    let before = row(&world);
    drop((here, world));
    let mut world = World::open(&disk, settings(), SEED).expect("it opens");
    assert_eq!(row(&world), before);
    pass(&mut world, 0);
    pass(&mut world, SESSION_MS - 1);
    assert_eq!(row(&world), before);
    pass(&mut world, 1);
    assert!(row(&world).members.is_empty(), "it did not come back");
}
