use proptest::prelude::*;

use super::*;
use crate::{
    group::{BelowHead, GroupConfig, LostWhy},
    id::{GroupId, Offset, Partition, TopicId},
    journal::group_op::GroupCreate,
    request::Start,
};

fn group(rule: Rule, topics: u64, partitions: u32) -> GroupRow {
    let lanes = (1..=topics).flat_map(|topic| {
        (0..partitions).map(move |partition| Lane { topic: TopicId(topic), partition: Partition(partition) })
    });
    let create = GroupCreate {
        group: GroupId(1),
        name: "mailer".into(),
        config: GroupConfig {
            mode: Mode::Members,
            rule: Some(rule),
            start: Start::Earliest,
            below_head: BelowHead::Fail,
            session_ms: 10_000,
            drain_ms: 30_000,
        },
        topics: (1..=topics).map(|topic| (TopicId(topic), format!("t{topic}"))).collect(),
        cursors: lanes.map(|lane| (lane, Offset(0))).collect(),
    };
    GroupRow::new(&create, Lsn(1))
}

/// The frame behind everything that has happened to the group.
fn next(group: &GroupRow) -> Lsn {
    Lsn(group.cursors.values().map(|cursor| cursor.epoch).max().unwrap_or(0).max(group.version) + 1)
}

fn apply(group: &mut GroupRow, op: &GroupOp) {
    let lsn = next(group);
    group.apply(op, lsn, 0);
}

fn join(group: &mut GroupRow, member: &str) {
    let (instance, client) = ("1".to_owned(), String::new());
    let op = GroupOp::Member { group: group.id, member: member.to_owned(), instance, client };
    apply(group, &op);
    settle(group);
}

fn leave(group: &mut GroupRow, member: &str) {
    let held: Vec<(Lane, u64)> = held_by(group, member);
    for (lane, epoch) in held {
        free(group, lane, epoch);
    }
    let op = GroupOp::MemberGone { group: group.id, member: member.to_owned() };
    apply(group, &op);
    settle(group);
}

fn free(group: &mut GroupRow, lane: Lane, epoch: u64) {
    let lost = Some(LostWhy::Released);
    let op = GroupOp::Assign { group: group.id, lane, epoch, holder: None, is_draining: false, lost };
    apply(group, &op);
}

fn settle(group: &mut GroupRow) {
    let lsn = next(group);
    for op in share(group, lsn) {
        group.apply(&op, lsn, 0);
    }
    assert_eq!(share(group, lsn.next()), [], "asked again, nothing is left to do");
}

/// Whoever is asked gives back, until nobody is asked.
fn drain(group: &mut GroupRow) -> usize {
    let mut moved = 0;
    loop {
        let draining = group.cursors.iter().find(|(_, cursor)| cursor.is_draining);
        let Some((lane, epoch)) = draining.map(|(lane, cursor)| (*lane, cursor.epoch)) else { return moved };
        free(group, lane, epoch);
        settle(group);
        moved += 1;
    }
}

fn held_by(group: &GroupRow, member: &str) -> Vec<(Lane, u64)> {
    let held = group.cursors.iter().filter(|(_, cursor)| cursor.holder.as_deref() == Some(member));
    held.map(|(lane, cursor)| (*lane, cursor.epoch)).collect()
}

#[test]
fn the_first_member_has_all_and_the_second_gets_half_when_it_is_given_back() {
    let mut group = group(Rule::Spread, 1, 8);
    join(&mut group, "a");
    let first = held_by(&group, "a");
    assert_eq!(first.len(), 8);
    join(&mut group, "b");
    assert_eq!((held_by(&group, "a").len(), held_by(&group, "b").len()), (8, 0), "asked, not taken");
    assert_eq!(drain(&mut group), 4);
    assert_eq!((held_by(&group, "a").len(), held_by(&group, "b").len()), (4, 4));
    assert!(held_by(&group, "a").iter().all(|held| first.contains(held)), "what did not move is not fenced");
    let fenced = |(lane, epoch): &(Lane, u64)| first.iter().any(|(other, before)| other == lane && before < epoch);
    assert!(held_by(&group, "b").iter().all(fenced));
}

#[test]
fn a_unit_is_given_on_only_as_a_whole() {
    let mut group = group(Rule::CoPartitioned, 2, 2);
    join(&mut group, "a");
    join(&mut group, "b");
    let draining: Vec<Lane> =
        group.cursors.iter().filter(|(_, cursor)| cursor.is_draining).map(|(lane, _)| *lane).collect();
    assert_eq!(draining.len(), 2, "one partition of both topics");
    assert_eq!(draining[0].partition, draining[1].partition);
    let epoch = group.cursors[&draining[0]].epoch;
    free(&mut group, draining[0], epoch);
    settle(&mut group);
    assert_eq!(held_by(&group, "b"), [], "the other half is not free yet");
    free(&mut group, draining[1], epoch);
    settle(&mut group);
    assert_eq!(held_by(&group, "b").len(), 2);
}

#[test]
fn with_one_for_all_the_others_stand_by() {
    let mut group = group(Rule::Single, 2, 3);
    join(&mut group, "b");
    join(&mut group, "a");
    assert_eq!((held_by(&group, "b").len(), held_by(&group, "a").len()), (6, 0));
    assert_eq!(drain(&mut group), 0);
    leave(&mut group, "b");
    assert_eq!(held_by(&group, "a").len(), 6);
}

proptest! {
    /// Members come and go in any order: in the end all is held, evenly, units whole, and no epoch has fallen.
    #[test]
    fn everything_is_held_evenly(
        rule in prop::sample::select(vec![Rule::Spread, Rule::CoPartitioned, Rule::Single]),
        topics in 1..4_u64,
        partitions in 1..9_u32,
        steps in prop::collection::vec((0..6_u8, any::<bool>(), any::<bool>()), 1..40),
    ) {
        let mut group = group(rule, topics, partitions);
        join(&mut group, "last");
        for (member, joins, drains) in steps {
            let before: BTreeMap<Lane, u64> = group.cursors.iter().map(|(lane, at)| (*lane, at.epoch)).collect();
            let member = format!("m{member}");
            match (joins, group.members.contains_key(&member)) {
                (true, false) => join(&mut group, &member),
                (false, true) => leave(&mut group, &member),
                _ => {}
            }
            if drains {
                drain(&mut group);
            }
            for (lane, at) in &group.cursors {
                prop_assert!(at.epoch >= before[lane]);
                prop_assert!(at.holder.as_ref().is_none_or(|holder| group.members.contains_key(holder)));
            }
        }
        drain(&mut group);
        let units = units(&group);
        let owners: Vec<BTreeSet<_>> =
            units.iter().map(|unit| unit.iter().map(|lane| group.cursors[lane].holder.clone()).collect()).collect();
        prop_assert!(owners.iter().all(|owners| owners.len() == 1 && !owners.contains(&None)), "{owners:?}");
        let counts = group.members.keys().map(|member| {
            owners.iter().filter(|owners| owners.contains(&Some(member.clone()))).count()
        });
        let (least, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
        prop_assert!(most - least <= 1, "{least} to {most}");
    }
}
