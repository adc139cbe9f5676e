//! Goal: timers of consumer groups free partitions when they say, and not before: sessions of members that are away,
//! and partitions that are not given back.
//!
//! Method: a log on the simulated disk, whose clock moves only when the test moves it.

use tillroll_engine::{
    disk::sim::SimDisk,
    group::{BelowHead, GroupConfig, Join, LostWhy, Mode, NewGroup, Rule},
    id::GroupId,
    limits::NAME_BYTES_MAX,
    presence::Attendance,
    request::{Start, TopicConfig},
    settings::Settings,
    table::group::GroupRow,
};
use tillroll_tests::world::{World, settings};

const SEED: u64 = 71;
const SESSION_MS: u32 = 10_000;
const DRAIN_MS: u32 = 30_000;
const GROUP: &str = "workers";

/// A world with a topic of four partitions and a group that reads it.
fn prepared(disk: &SimDisk) -> World {
    prepared_with(disk, settings(), &[("orders", 4)], Rule::Spread)
}

/// A world with topics of so many partitions and a group that reads them.
fn prepared_with(disk: &SimDisk, settings: Settings, topics: &[(&str, u32)], rule: Rule) -> World {
    println!("seed {SEED}");
    let mut world = World::open(disk, settings, SEED).expect("it opens");
    for (name, partitions) in topics {
        let config = TopicConfig { partitions: *partitions, segment_bytes: 64 << 10, ..TopicConfig::default() };
        let ticket = world.engine.create_topic(name, config, false);
        world.wait(&ticket).expect("answered").expect("created");
    }
    let config = GroupConfig {
        mode: Mode::Members,
        rule: Some(rule),
        start: Start::Earliest,
        below_head: BelowHead::Fail,
        session_ms: SESSION_MS,
        drain_ms: DRAIN_MS,
    };
    let topics = topics.iter().map(|(name, _)| (*name).to_owned()).collect();
    let ticket = world.engine.create_group(NewGroup { name: GROUP.to_owned(), topics, config });
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

/// A frame for each partition would be a copy of the group for each.
#[test]
fn partitions_whose_time_is_over_together_are_taken_in_few_frames() {
    let wide = Settings { journal_file_bytes: 2 << 20, ..settings() };
    let topics = [("orders", 1_024), ("returns", 1_024)];
    let mut world = prepared_with(&SimDisk::new(SEED), wide, &topics, Rule::Spread);
    let _a = join(&mut world, "a");
    let _b = join(&mut world, "b");
    assert_eq!(row(&world).cursors.values().filter(|cursor| cursor.is_draining).count(), 1_024);
    let before = world.engine.marks().published.get();
    pass(&mut world, DRAIN_MS);
    assert_eq!((held(&world, "a"), held(&world, "b")), (1_024, 1_024));
    let frames = world.engine.marks().published.get().0 - before.0;
    assert_eq!(frames, 1, "all of them in one frame");
}

/// The same where frames are small: as many frames as it takes.
#[test]
fn partitions_are_taken_in_frames_that_fit() {
    let mut world = prepared_with(&SimDisk::new(SEED), settings(), &[("orders", 600)], Rule::Spread);
    let _a = join(&mut world, "a");
    let _b = join(&mut world, &"b".repeat(NAME_BYTES_MAX));
    let before = world.engine.marks().published.get();
    pass(&mut world, DRAIN_MS);
    assert_eq!(held(&world, "a"), 300);
    let frames = world.engine.marks().published.get().0 - before.0;
    assert!((2..=3).contains(&frames), "{frames} frames");
}

#[test]
fn an_end_of_a_session_that_fits_no_frame_is_tried_again() {
    let topics = [("orders", 200), ("returns", 100)];
    let mut world = prepared_with(&SimDisk::new(SEED), settings(), &topics, Rule::Single);
    let other = "b".repeat(NAME_BYTES_MAX);
    let a = join(&mut world, "a");
    let _b = join(&mut world, &other);
    assert_eq!((held(&world, "a"), held(&world, &other)), (300, 0));
    drop(a);
    pass(&mut world, 0);
    pass(&mut world, SESSION_MS);
    assert_eq!(held(&world, "a"), 300, "its partitions and their new holder are too much for one frame");
    let topic = world.engine.topic("returns").expect("it is there").id;
    let ticket = world.engine.delete_topic("returns", topic);
    world.wait(&ticket).expect("answered").expect("deleted");
    pass(&mut world, SESSION_MS);
    assert_eq!((held(&world, "a"), held(&world, &other)), (0, 200), "the time has passed once more");
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
