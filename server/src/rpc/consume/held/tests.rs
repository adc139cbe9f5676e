use tillroll_engine::{
    group::{BelowHead, GroupConfig, Mode, Rule},
    id::{GroupId, Lsn, Partition},
    journal::group_op::{GroupCreate, GroupOp},
    request::Start,
};

use super::*;

const ME: &str = "a";
const FORM: Form = Form { is_encoded: false, limit: Limit { bytes: 1 << 20, is_hard: false } };

fn lane(partition: u32) -> Lane {
    Lane { topic: TopicId(1), partition: Partition(partition) }
}

/// A group with two partitions of one topic.
fn row() -> GroupRow {
    let create = GroupCreate {
        group: GroupId(1),
        name: "workers".into(),
        config: GroupConfig {
            mode: Mode::Members,
            rule: Some(Rule::Spread),
            start: Start::Earliest,
            below_head: BelowHead::Fail,
            session_ms: 10_000,
            drain_ms: 30_000,
        },
        topics: vec![(TopicId(1), "orders".into())],
        cursors: vec![(lane(0), Offset(7)), (lane(1), Offset(0))],
    };
    GroupRow::new(&create, Lsn(1))
}

fn assign(
    row: &mut GroupRow,
    partition: u32,
    epoch: u64,
    holder: Option<&str>,
    is_draining: bool,
    lost: Option<LostWhy>,
) {
    let holder = holder.map(str::to_owned);
    row.apply(&GroupOp::Assign { group: row.id, lane: lane(partition), epoch, holder, is_draining, lost }, Lsn(2), 0);
}

/// What a member is told, in short.
fn told(holdings: &mut Holdings, row: &GroupRow) -> String {
    let news = holdings.follow(row, ME, FORM, |_| Offset(9));
    let short = |list: &[v1::Assignment]| -> String {
        let one = |one: &v1::Assignment| format!(" {}@{}:{}", one.partition, one.assignment_epoch, one.next_offset);
        list.iter().map(one).collect()
    };
    let lost: Vec<String> = news.lost.iter().map(|(why, list)| format!("lost {why}{}; ", short(list))).collect();
    let lost = lost.concat();
    format!("{lost}came{}; back{}", short(&news.assigned), short(&news.revoking))
}

/// What the member itself gives up or holds back is not waited for. What cannot be read never counts as read.
#[test]
fn a_partition_that_cannot_be_read_is_never_caught_up() {
    let mut holdings = Holdings::default();
    let mut row = row();
    assign(&mut row, 0, 1, Some(ME), false, None);
    assert!(!holdings.are_caught_up(), "it holds nothing");
    told(&mut holdings, &row);
    let stops = [Stop::Draining, Stop::GivenBack, Stop::HeldBack, Stop::Stalled];
    for chosen in 0..1_u32 << stops.len() {
        let stopped: BTreeSet<Stop> =
            stops.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1).map(|(_, stop)| *stop).collect();
        let only_stalled = stopped.iter().all(|stop| *stop == Stop::Stalled);
        let held = holdings.get_mut(lane(0)).expect("it came");
        (held.next, held.stops) = (Offset(8), stopped.clone());
        assert_eq!(holdings.are_caught_up(), !only_stalled, "before the end: {stopped:?}");
        holdings.get_mut(lane(0)).expect("it came").next = Offset(9);
        assert!(holdings.are_caught_up(), "at the end: {stopped:?}");
    }
}

#[test]
fn a_member_is_told_what_came_what_is_asked_back_and_what_is_lost() {
    let (mut row, mut holdings) = (row(), Holdings::default());
    assert_eq!(told(&mut holdings, &row), "came; back");
    assign(&mut row, 0, 1, Some(ME), false, None);
    assign(&mut row, 1, 1, Some("b"), false, None);
    assert_eq!(told(&mut holdings, &row), "came 0@1:7; back");
    assert_eq!(told(&mut holdings, &row), "came; back", "once");
    assign(&mut row, 0, 1, Some(ME), true, None);
    assert_eq!(told(&mut holdings, &row), "came; back 0@1:7");
    assert!(!holdings.get(lane(0)).expect("held").flows());
    assign(&mut row, 0, 1, None, false, Some(LostWhy::DrainExpired));
    assert_eq!(told(&mut holdings, &row), "lost DRAIN_EXPIRED 0@1:7; came; back");
}

#[test]
fn another_epoch_is_another_holding() {
    let (mut row, mut holdings) = (row(), Holdings::default());
    assign(&mut row, 0, 1, Some(ME), false, None);
    told(&mut holdings, &row);
    assign(&mut row, 0, 2, Some(ME), false, Some(LostWhy::CursorSet));
    assert_eq!(told(&mut holdings, &row), "lost CURSOR_SET 0@1:7; came 0@2:7; back");
}

#[test]
fn a_topic_that_is_gone_takes_its_partitions_with_it() {
    let (mut row, mut holdings) = (row(), Holdings::default());
    assign(&mut row, 0, 1, Some(ME), false, None);
    told(&mut holdings, &row);
    row.forget_topic(TopicId(1));
    assert_eq!(told(&mut holdings, &row), "lost TOPIC_DELETED 0@1:7; came; back");
}

#[test]
fn a_partition_is_found_by_name_and_epoch() {
    let (mut row, mut holdings) = (row(), Holdings::default());
    assign(&mut row, 0, 3, Some(ME), false, None);
    told(&mut holdings, &row);
    let named = |topic: &str, partition, assignment_epoch| v1::Assignment {
        topic: topic.into(),
        partition,
        assignment_epoch,
        next_offset: 0,
    };
    assert_eq!(holdings.find(&named("orders", 0, 3)), Some(lane(0)));
    for other in [named("orders", 0, 2), named("orders", 1, 3), named("other", 0, 3)] {
        assert_eq!(holdings.find(&other), None);
    }
}
