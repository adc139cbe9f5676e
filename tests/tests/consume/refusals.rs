//! What is refused because a group has members, or because of who they are.

use tillroll_proto::{
    reason,
    v1::{self, check::Kind, consume_request::Action, start_position::At},
};
use tillroll_tests::road::{TOPIC, expected, plain, record};
use tonic_types::StatusExt as _;

use crate::member::{GROUP, Member, append, cursor_commit, epoch_of, group, join, places, road};

/// A commit as it is sent outside of a stream.
fn named(commit: v1::CursorCommit) -> v1::CursorCommit {
    v1::CursorCommit { group: GROUP.into(), ..commit }
}

fn set(with_members: bool) -> v1::SetCursorsRequest {
    v1::SetCursorsRequest {
        group: GROUP.into(),
        topic: TOPIC.into(),
        partitions: vec![0],
        to: Some(v1::StartPosition { at: Some(At::Earliest(true)) }),
        with_members,
        ..v1::SetCursorsRequest::default()
    }
}

#[tokio::test]
async fn a_group_with_members_is_deleted_and_set_only_when_that_is_said() {
    let mut road = road().await;
    let (mut member, _) = Member::join(&road, join("m", "1")).await;
    let epoch = epoch_of(&member.assigned().await);
    member.caught_up().await;
    let has_members = expected(reason::GROUP_HAS_MEMBERS, &[("group", &GROUP), ("holder", &"m"), ("count", &1)]);
    let delete = |with_members| v1::DeleteGroupRequest { name: GROUP.into(), with_members };
    let status = road.groups.delete_group(delete(false)).await.expect_err("it has a member");
    has_members.check("a delete", &status);
    let status = road.groups.set_cursors(set(false)).await.expect_err("it is held");
    has_members.check("a set", &status);
    let dry = v1::SetCursorsRequest { dry_run: true, ..set(false) };
    let moves = road.groups.set_cursors(dry).await.expect("a dry run changes nothing").into_inner().moves;
    assert_eq!(moves, [v1::CursorMove::default()], "partition 0 stays at 0");
    assert_eq!(member.commit(0, epoch, 0).await, Ok(()), "nothing has changed");
    road.groups.set_cursors(set(true)).await.expect("set");
    assert_eq!(places(&member.lost("CURSOR_SET").await), [(0, epoch)]);
    road.groups.delete_group(delete(true)).await.expect("deleted");
    member.end().await.expect_err("the group is gone");
    road.end().await;
}

#[tokio::test]
async fn a_member_commits_only_what_it_holds_and_says_under_which_epoch() {
    let mut road = road().await;
    append(&mut road, 0, &["a"]).await;
    append(&mut road, 1, &["b"]).await;
    let (mut first, _) = Member::join(&road, join("first", "1")).await;
    first.assigned().await;
    let (mut second, _) = Member::join(&road, join("second", "1")).await;
    // Records come before it is asked back, or not.
    let asked = loop {
        match first.next().await {
            v1::consume_response::Event::Revoking(revoking) => break revoking.assignments,
            v1::consume_response::Event::Batch(_) | v1::consume_response::Event::CaughtUp(_) => {}
            other => panic!("{other:?}"),
        }
    };
    let (moves, held) = places(&asked)[0];
    let stays = 1 - moves;
    first.say(Action::Release(v1::Release { assignments: asked, commits: Vec::new() })).await;
    first.lost("RELEASED").await;
    let given = epoch_of(&second.assigned().await);
    second.batch().await;
    second.caught_up().await;
    // It never held the other partition, neither under its own epoch nor under the next one of that partition.
    for epoch in [0, given] {
        assert_eq!(second.commit(stays, epoch, 1).await, Err(reason::ASSIGNMENT_FENCED.into()), "epoch {epoch}");
        let commits = vec![named(cursor_commit(stays, epoch, 1))];
        let alone = road.groups.commit_cursors(v1::CommitCursorsRequest { commits }).await;
        let facts: [(&str, &dyn std::fmt::Display); 8] = [
            ("group", &GROUP),
            ("topic", &TOPIC),
            ("partition", &stays),
            ("field", &"commits[0]"),
            ("count", &1),
            ("epoch", &epoch),
            ("current", &held),
            ("holder", &"first"),
        ];
        expected(reason::ASSIGNMENT_FENCED, &facts).check("of another", &alone.expect_err("it is the first's"));
    }
    let blind = named(v1::CursorCommit { assignment_epoch: None, ..cursor_commit(moves, given, 1) });
    let no_epoch = expected(reason::FIELD_REQUIRED, &[("field", &"commits[0]")]);
    let alone = v1::CommitCursorsRequest { commits: vec![blind.clone()] };
    no_epoch.check("alone", &road.groups.commit_cursors(alone).await.expect_err("whose is it"));
    let ends = road.ends().await;
    let appended = v1::AppendRequest { commits: vec![blind], ..plain(TOPIC, 0, vec![record(b"not to be")]) };
    no_epoch.check("in an append", &road.log.append(appended).await.expect_err("whose is it"));
    assert_eq!(road.ends().await, ends);
    let stands = group(&mut road).await;
    assert_eq!(stands.cursors.iter().map(|cursor| cursor.next_offset).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(second.commit(moves, given, 1).await, Ok(()), "its own it may");
    road.end().await;
}

#[tokio::test]
async fn all_that_fails_in_an_append_is_told_at_once_each_by_its_reason() {
    let mut road = road().await;
    append(&mut road, 0, &["a", "b"]).await;
    let (mut member, _) = Member::join(&road, join("m", "1")).await;
    let epoch = epoch_of(&member.assigned().await);
    member.batch().await;
    member.caught_up().await;
    assert_eq!(member.commit(0, epoch, 1).await, Ok(()));
    let ends = |next_offset| {
        let expected = v1::ExpectedNextOffset { topic: TOPIC.into(), partition: 0, next_offset };
        v1::Check { kind: Some(Kind::NextOffset(expected)) }
    };
    let held = |partition, assignment_epoch| {
        let held = v1::HeldAssignment { group: GROUP.into(), topic: TOPIC.into(), partition, assignment_epoch };
        v1::Check { kind: Some(Kind::Assignment(held)) }
    };
    let mixed = v1::AppendRequest {
        commits: [(0, epoch, 0), (1, 1_000, 0), (0, epoch, 2)].map(|(a, b, c)| named(cursor_commit(a, b, c))).to_vec(),
        checks: vec![ends(7), held(0, epoch), held(1, 40), ends(2)],
        ..plain(TOPIC, 0, vec![record(b"not to be")])
    };
    let status = road.log.append(mixed).await.expect_err("much is wrong with it");
    // The reason is the heaviest one's, and the facts are the first one's of those.
    let facts: [(&str, &dyn std::fmt::Display); 8] = [
        ("group", &GROUP),
        ("topic", &TOPIC),
        ("partition", &1),
        ("field", &"commits[1]"),
        ("count", &4),
        ("epoch", &1_000),
        ("current", &epoch),
        ("holder", &"m"),
    ];
    expected(reason::ASSIGNMENT_FENCED, &facts).check("mixed", &status);
    let violations = status.get_details_precondition_failure().expect("all of them").violations;
    let told: Vec<(&str, &str)> = violations.iter().map(|one| (one.r#type.as_str(), one.subject.as_str())).collect();
    let all = [
        (reason::ASSIGNMENT_FENCED, "commits[1]"),
        (reason::ASSIGNMENT_FENCED, "checks[2]"),
        (reason::CURSOR_BACKWARDS, "commits[0]"),
        (reason::EXPECTED_OFFSET_MISMATCH, "orders/0"),
    ];
    assert_eq!(told, all);
    assert_eq!(road.ends().await, [2, 0], "nothing is written");
    assert_eq!(member.commit(0, epoch, 2).await, Ok(()), "and no cursor moved");
    road.end().await;
}

#[tokio::test]
async fn partitions_that_go_together_are_equally_many_and_stay_so() {
    let mut road = road().await;
    let three = v1::TopicConfig { partitions: Some(3), ..v1::TopicConfig::default() };
    let three = v1::CreateTopicRequest { name: "three".into(), config: Some(three), dry_run: false };
    road.topics.create_topic(three).await.expect("created");
    let config = |topics: &[&str]| v1::GroupConfig {
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        mode: v1::GroupMode::Members.into(),
        rule: v1::AssignmentRule::CoPartitioned.into(),
        start: Some(v1::StartPosition { at: Some(At::Earliest(true)) }),
        ..v1::GroupConfig::default()
    };
    let create = |topics| v1::CreateGroupRequest { name: "pairs".into(), config: Some(config(topics)) };
    let unequal = expected(reason::FIELD_INVALID, &[("field", &"config.topics")]);
    let status = road.groups.create_group(create(&[TOPIC, "three"])).await.expect_err("two and three");
    unequal.check("a creation", &status);
    assert!(status.message().ends_with(": orders has 2, three has 3"), "{status:?}");
    let created = road.groups.create_group(create(&[TOPIC])).await.expect("created").into_inner().group;
    let update = v1::UpdateGroupRequest {
        name: "pairs".into(),
        add_topics: vec!["three".into()],
        ..v1::UpdateGroupRequest::default()
    };
    let status = road.groups.update_group(update).await.expect_err("two and three");
    unequal.check("a topic more", &status);
    assert!(status.message().ends_with(": orders has 2, three has 3"), "{status:?}");
    let asked = v1::GetGroupRequest { name: "pairs".into() };
    let stands = road.groups.get_group(asked).await.expect("it is there").into_inner().group;
    assert_eq!(stands, created, "nothing has changed");
    road.end().await;
}
