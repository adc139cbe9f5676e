//! Goal: `Consume` keeps the contract: who holds what, which records come, which cursor commits count, and how a stream
//! ends.
//!
//! Method: members written with generated messages alone, against a real server on a real directory. No test waits for
//! time to pass but for messages.

mod member;
mod refusals;

use member::{GROUP, Member, append, cursor_commit, epoch_of, group, join, make, places, road, values};
use tillroll_proto::{
    reason,
    v1::{self, consume_request::Action, consume_response::Event, start_position::At},
};
use tillroll_tests::road::{Road, TOPIC, expected};
use tonic::Status;
use tonic_types::StatusExt as _;

fn reason_of(status: &Status) -> String {
    status.get_details_error_info().map_or_else(|| format!("none: {status}"), |info| info.reason)
}

#[tokio::test]
async fn a_member_gets_its_partitions_their_records_and_the_answers_to_its_cursor_commits() {
    let mut road = road().await;
    append(&mut road, 0, &["a", "b"]).await;
    let (mut member, joined) = Member::join(&road, join("m", "1")).await;
    assert_eq!((joined.session_ms, joined.heartbeat_ms, joined.resumed), (1_000, 333, false));
    let held = member.assigned().await;
    let epoch = epoch_of(&held);
    assert_eq!(places(&held), [(0, epoch), (1, epoch)]);
    let batch = member.batch().await;
    assert_eq!((batch.partition, batch.assignment_epoch, batch.next_offset), (0, epoch, 2));
    assert_eq!(values(&batch), ["a", "b"]);
    member.caught_up().await;
    append(&mut road, 1, &["c"]).await;
    assert_eq!(values(&member.batch().await), ["c"]);
    assert_eq!(member.commit(0, epoch, 1).await, Ok(()));
    assert_eq!(member.commit(0, epoch, 1).await, Ok(()), "where it is already");
    assert_eq!(member.commit(0, epoch, 0).await, Err(reason::CURSOR_BACKWARDS.into()));
    assert_eq!(member.commit(0, epoch, 3).await, Err(reason::CURSOR_BEYOND_END.into()));
    assert_eq!(member.commit(0, epoch + 1, 2).await, Err(reason::ASSIGNMENT_FENCED.into()));
    let stands = group(&mut road).await;
    assert_eq!(stands.cursors.iter().map(|cursor| cursor.next_offset).collect::<Vec<_>>(), [1, 0]);
    assert!(stands.members[0].connected && !stands.members[0].client.is_empty(), "{:?}", stands.members);
    member.say(Action::Leave(v1::Leave {})).await;
    member.end().await.expect("it left");
    assert!(group(&mut road).await.members.is_empty());
    road.end().await;
}

#[tokio::test]
async fn a_partition_moves_when_it_is_given_back_and_under_another_epoch() {
    let mut road = road().await;
    append(&mut road, 0, &["a", "b"]).await;
    append(&mut road, 1, &["c"]).await;
    let (mut first, _) = Member::join(&road, join("a", "1")).await;
    first.assigned().await;
    let (one, other) = (first.batch().await, first.batch().await);
    assert_eq!(one.records.len() + other.records.len(), 3);
    first.caught_up().await;

    let (mut second, _) = Member::join(&road, join("b", "1")).await;
    let asked = first.revoking().await;
    assert_eq!(asked.len(), 1);
    let (partition, epoch) = places(&asked)[0];
    append(&mut road, partition, &["not for the first"]).await;
    assert_eq!(first.commit(partition, epoch, 1).await, Ok(()), "it counts until it is given back");
    let last = if partition == 0 { 2 } else { 1 };
    let commits = vec![cursor_commit(partition, epoch, last)];
    first.say(Action::Release(v1::Release { assignments: asked, commits })).await;
    assert_eq!(places(&first.lost("RELEASED").await), [(partition, epoch)]);
    assert_eq!(first.commit(partition, epoch, last).await, Err(reason::ASSIGNMENT_FENCED.into()));

    let came = second.assigned().await;
    let next = epoch_of(&came);
    assert!(next > epoch && places(&came) == [(partition, next)]);
    assert_eq!(came[0].next_offset, last);
    assert_eq!(values(&second.batch().await), ["not for the first"]);
    second.caught_up().await;
    // A clean end moves everything at once.
    second.say(Action::Leave(v1::Leave {})).await;
    second.end().await.expect("it left");
    let back = first.assigned().await;
    assert!(epoch_of(&back) > next && places(&back) == [(partition, epoch_of(&back))]);
    road.end().await;
}

#[tokio::test]
async fn another_process_of_the_same_member_takes_over_and_ends_the_older_one() {
    let mut road = road().await;
    append(&mut road, 0, &["a"]).await;
    let (mut older, _) = Member::join(&road, join("m", "1")).await;
    let before = epoch_of(&older.assigned().await);
    let (mut newer, joined) = Member::join(&road, join("m", "2")).await;
    assert!(!joined.resumed);
    let held = newer.assigned().await;
    let after = epoch_of(&held);
    assert!(after > before && places(&held) == [(0, after), (1, after)]);
    let status = older.end().await.expect_err("it is fenced");
    expected(reason::TAKEN_OVER, &[("group", &GROUP), ("member", &"m")]).check("the older one", &status);
    newer.batch().await;
    newer.caught_up().await;
    // Whoever comes back behind a broken stream does not take over in its turn.
    let late = v1::Join { comes_back: true, ..join("m", "1") };
    let status = Member::open(&road, Action::Join(late)).await.end().await.expect_err("it is another process now");
    expected(reason::TAKEN_OVER, &[("group", &GROUP), ("member", &"m")]).check("the one that comes back", &status);
    assert_eq!(newer.commit(0, before, 1).await, Err(reason::ASSIGNMENT_FENCED.into()), "the epoch of before");
    assert_eq!(newer.commit(0, after, 1).await, Ok(()));
    road.end().await;
}

#[tokio::test]
async fn a_broken_stream_is_no_leave_and_the_same_process_goes_on() {
    let mut road = road().await;
    append(&mut road, 0, &["a", "b"]).await;
    let (mut broken, _) = Member::join(&road, join("m", "1")).await;
    let held = places(&broken.assigned().await);
    broken.batch().await;
    broken.caught_up().await;
    assert_eq!(broken.commit(0, held[0].1, 1).await, Ok(()));
    broken.half_close();
    broken.end().await.expect("half-closed");
    let (mut back, joined) = Member::join(&road, join("m", "1")).await;
    assert!(joined.resumed);
    assert_eq!(places(&back.assigned().await), held, "the same epochs");
    assert_eq!(values(&back.batch().await), ["b"], "from the cursor");
    // A second stream of the same process ends the one before.
    let (mut again, joined) = Member::join(&road, join("m", "1")).await;
    assert!(joined.resumed);
    assert_eq!(reason_of(&back.end().await.expect_err("replaced")), reason::TAKEN_OVER);
    assert_eq!(places(&again.assigned().await), held);
    // It is not back within its session: somebody else gets everything.
    drop(again);
    let (mut heir, _) = Member::join(&road, join("heir", "1")).await;
    let mut got = Vec::new();
    while got.len() < 2 {
        if let Event::Assigned(assigned) = heir.next().await {
            got.extend(places(&assigned.assignments));
        }
    }
    got.sort_unstable();
    let given = got[0].1;
    assert!(given > held[0].1 && got == [(0, given), (1, given)], "{got:?}");
    road.end().await;
}

#[tokio::test]
async fn records_flow_within_credit_and_control_flows_without() {
    let mut road = road().await;
    let join_with = v1::Join { initial_credit_bytes: Some(1), max_response_bytes: 4_096, ..join("m", "1") };
    let large = "x".repeat(3_000);
    for _ in 0..3 {
        append(&mut road, 0, &[&large]).await;
    }
    let (mut member, _) = Member::join(&road, join_with).await;
    member.assigned().await;
    let mut seen = member.batch().await.records.len();
    let explain = v1::ExplainGroupRequest { group: GROUP.into() };
    let explained = road.groups.explain_group(explain).await.expect("explained").into_inner();
    // One look's worth may go beyond the credit; then it stops, and commits and revocations still come.
    let (mut second, _) = Member::join(&road, join("z", "1")).await;
    loop {
        match member.next().await {
            Event::Batch(batch) => seen += batch.records.len(),
            Event::Revoking(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(seen < 3, "{seen}");
    assert!(explained.findings.iter().any(|finding| finding.reason == "NO_CREDIT"), "{explained:?}");
    second.say(Action::Leave(v1::Leave {})).await;
    second.end().await.expect("it left");
    member.say(Action::Credit(v1::Credit { bytes: 1 << 20 })).await;
    while seen < 3 {
        if let Event::Batch(batch) = member.next().await {
            seen += batch.records.len();
        }
    }
    road.end().await;
}

#[tokio::test]
async fn what_is_held_back_or_paused_does_not_flow() {
    let mut road = road().await;
    let (mut member, _) = Member::join(&road, join("m", "1")).await;
    let held = member.assigned().await;
    member.caught_up().await;
    let (first, epoch) = (held[..1].to_vec(), epoch_of(&held));
    member.say(Action::Hold(v1::Hold { assignments: first.clone(), held: true })).await;
    // The answer to a commit shows that the hold was taken in.
    assert_eq!(member.commit(1, epoch, 0).await, Ok(()));
    append(&mut road, 0, &["held"]).await;
    append(&mut road, 1, &["flows"]).await;
    assert_eq!(values(&member.batch().await), ["flows"]);
    member.say(Action::Hold(v1::Hold { assignments: first, held: false })).await;
    assert_eq!(values(&member.batch().await), ["held"]);

    let update = |paused| v1::UpdateGroupRequest {
        name: GROUP.into(),
        paused: Some(paused),
        pause_reason: "a sale".into(),
        ..v1::UpdateGroupRequest::default()
    };
    road.groups.update_group(update(true)).await.expect("paused");
    append(&mut road, 0, &["later"]).await;
    let explain = v1::ExplainGroupRequest { group: GROUP.into() };
    let explained = road.groups.explain_group(explain).await.expect("explained").into_inner();
    assert!(explained.summary.contains("a sale"), "{explained:?}");
    assert_eq!(member.commit(0, epoch, 1).await, Ok(()), "no record came before the answer");
    road.groups.update_group(update(false)).await.expect("resumed");
    assert_eq!(values(&member.batch().await), ["later"]);
    road.end().await;
}

#[tokio::test]
async fn a_cursor_that_is_set_fences_its_member_and_comes_anew() {
    let mut road = road().await;
    append(&mut road, 0, &["a", "b"]).await;
    let (mut member, _) = Member::join(&road, join("m", "1")).await;
    let before = epoch_of(&member.assigned().await);
    member.batch().await;
    member.caught_up().await;
    let set = v1::SetCursorsRequest {
        group: GROUP.into(),
        topic: TOPIC.into(),
        partitions: vec![0],
        to: Some(v1::StartPosition { at: Some(At::Offset(1)) }),
        with_members: true,
        ..v1::SetCursorsRequest::default()
    };
    road.groups.set_cursors(set).await.expect("set");
    assert_eq!(places(&member.lost("CURSOR_SET").await), [(0, before)]);
    let came = member.assigned().await;
    assert!(epoch_of(&came) > before && came[0].next_offset == 1);
    assert_eq!(values(&member.batch().await), ["b"]);
    assert_eq!(member.commit(0, before, 2).await, Err(reason::ASSIGNMENT_FENCED.into()));
    road.end().await;
}

#[tokio::test]
async fn a_topic_that_is_deleted_is_lost_and_a_group_that_is_deleted_ends_its_streams() {
    let mut road = road().await;
    let (mut member, _) = Member::join(&road, join("m", "1")).await;
    member.assigned().await;
    member.caught_up().await;
    let delete = v1::DeleteTopicRequest { name: TOPIC.into(), topic_id: road.topic_id.clone() };
    road.topics.delete_topic(delete).await.expect("deleted");
    assert_eq!(member.lost("TOPIC_DELETED").await.len(), 2);
    let delete = v1::DeleteGroupRequest { name: GROUP.into(), with_members: true };
    road.groups.delete_group(delete).await.expect("deleted");
    assert_eq!(reason_of(&member.end().await.expect_err("gone")), reason::GROUP_NOT_FOUND);
    road.end().await;
}

#[tokio::test]
async fn a_member_that_promised_heartbeats_and_sends_none_is_let_go() {
    let mut road = road().await;
    let (mut member, _) = Member::join(&road, v1::Join { client_heartbeats: true, ..join("m", "1") }).await;
    let status = member.end().await.expect_err("it was silent");
    expected(reason::MEMBERSHIP_ENDED, &[("group", &GROUP), ("member", &"m")]).check("silent", &status);
    assert_eq!(group(&mut road).await.members.len(), 1, "its session goes on");
    road.end().await;
}

/// What a member does not take is no reason to heap up heartbeats for it, nor to overhear what it says.
#[tokio::test]
async fn a_member_that_does_not_read_for_a_while_is_not_let_go() {
    const COMMITS: u64 = 600;
    let mut road = road().await;
    make(&mut road, "watch").await;
    let large = "x".repeat(1_000_000);
    for _ in 0..8 {
        append(&mut road, 0, &[&large]).await;
    }
    let eager = v1::Join { client_heartbeats: true, auto_credit: true, ..join("m", "1") };
    let (mut member, joined) = Member::join(&road, eager).await;
    // More answers than the broker keeps for it: it stops taking in what the member says.
    for commit_id in 1..=COMMITS {
        let commits = vec![cursor_commit(1, 1, 0)];
        member.say(Action::Commit(v1::Commit { commit_id, commits })).await;
    }
    let idle = v1::Join { group: "watch".into(), initial_credit_bytes: Some(0), ..join("w", "1") };
    let (mut watch, _) = Member::join(&road, idle).await;
    watch.assigned().await;
    watch.beats(8).await;

    let (mut answers, mut records) = (0, 0);
    while answers < COMMITS || records < 8 {
        match member.next().await {
            Event::Committed(committed) => {
                answers += 1;
                assert_eq!(committed.commit_id, answers, "each once, in order");
            }
            Event::Batch(batch) => records += batch.records.len(),
            Event::Assigned(_) | Event::CaughtUp(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(member.heartbeats <= 2, "{} heartbeats waited, one each {} ms", member.heartbeats, joined.heartbeat_ms);
    road.end().await;
}

#[tokio::test]
async fn a_partition_whose_release_is_refused_flows_on() {
    let mut road = road().await;
    let (mut member, _) = Member::join(&road, join("m", "1")).await;
    let held = member.assigned().await;
    let epoch = epoch_of(&held);
    member.caught_up().await;
    let release = |commits| Action::Release(v1::Release { assignments: vec![held[0].clone()], commits });
    member.say(release(vec![cursor_commit(0, epoch, 5)])).await;
    assert_eq!(member.committed(0).await, Err(reason::CURSOR_BEYOND_END.into()));
    append(&mut road, 0, &["a"]).await;
    assert_eq!(values(&member.batch().await), ["a"]);
    member.say(release(vec![cursor_commit(0, epoch, 1)])).await;
    assert_eq!(places(&member.lost("RELEASED").await), [(0, epoch)]);
    road.end().await;
}

/// How a stream with this first message, and this second one, ends.
async fn refused(road: &Road, first: Action, second: Option<Action>) -> Status {
    let mut member = Member::open(road, first).await;
    if let Some(second) = second {
        member.say(second).await;
    }
    member.end().await.expect_err("refused")
}

#[tokio::test]
async fn what_a_member_says_wrong_is_refused_by_its_name() {
    let road = road().await;
    let good = || Action::Join(join("m", "1"));
    let other = v1::CursorCommit { group: "other".into(), ..cursor_commit(0, 1, 0) };
    let commit = Action::Commit(v1::Commit { commit_id: 1, commits: vec![other.clone()] });
    let release = Action::Release(v1::Release { assignments: Vec::new(), commits: vec![other] });
    let unknown = Action::Join(v1::Join { group: "nobody".into(), ..join("m", "1") });
    let field = |field: &'static str| vec![("field", field)];
    let rows = [
        (Action::Leave(v1::Leave {}), None, reason::FIELD_REQUIRED, field("join")),
        (good(), Some(good()), reason::FIELD_INVALID, field("join")),
        (good(), Some(commit), reason::FIELD_INVALID, field("commits[0].group")),
        (good(), Some(release), reason::FIELD_INVALID, field("commits[0].group")),
        (unknown, None, reason::GROUP_NOT_FOUND, vec![("group", "nobody")]),
        (Action::Join(join("", "1")), None, reason::NAME_INVALID, vec![("field", "member_id"), ("name", "")]),
        (Action::Join(join("m", "")), None, reason::NAME_INVALID, vec![("field", "instance_id"), ("name", "")]),
        (Action::Join(v1::Join { format: 9, ..join("m", "1") }), None, reason::FIELD_INVALID, field("format")),
    ];
    for (first, second, reason, facts) in rows {
        let name = format!("{first:?} {second:?}");
        let status = refused(&road, first, second).await;
        let facts: Vec<(&str, &dyn std::fmt::Display)> = facts.iter().map(|(key, value)| (*key, value as _)).collect();
        expected(reason, &facts).check(&name, &status);
    }
    road.end().await;
}
