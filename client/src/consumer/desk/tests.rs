use tillroll_proto::reason;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::{Compression, EncodedBatch, ErrorKind, Record};
use consume_response::Event;

const CREDIT: u64 = 8_000;

fn assignment(partition: u32, assignment_epoch: u64, next_offset: u64) -> v1::Assignment {
    v1::Assignment { topic: "orders".into(), partition, assignment_epoch, next_offset }
}

fn place(partition: u32, assignment_epoch: u64, next_offset: u64) -> Place {
    Place { topic: "orders".into(), partition, assignment_epoch, next_offset }
}

fn assigned(assignments: Vec<v1::Assignment>) -> Event {
    Event::Assigned(v1::Assigned { assignments })
}

fn batch(partition: u32, assignment_epoch: u64, offsets: std::ops::Range<u64>) -> v1::Batch {
    let records: Vec<Record> = offsets.clone().map(|offset| Record::new(offset.to_string())).collect();
    let record_count = u32::try_from(records.len()).expect("few");
    v1::Batch {
        topic: "orders".into(),
        partition,
        next_offset: offsets.end,
        encoded: Some(v1::EncodedRange {
            base_offset: offsets.start,
            times: vec![v1::AppendTimeRun { record_count, append_time_us: 7 }],
            batch: Some(EncodedBatch::of(&records, Compression::None).into_wire()),
            ..v1::EncodedRange::default()
        }),
        assignment_epoch,
        ..v1::Batch::default()
    }
}

/// A desk with one partition, from offset 0 under epoch 1, that was told so.
fn desk() -> Desk {
    let mut desk = Desk::new(CREDIT, true);
    desk.joined(&joined(false), false);
    hear(&mut desk, assigned(vec![assignment(0, 1, 0)]));
    assert!(matches!(desk.take_news(), Some(ConsumerEvent::Assigned(_))));
    desk
}

fn joined(resumed: bool) -> v1::Joined {
    v1::Joined { member_id: "m".into(), session_ms: 10_000, heartbeat_ms: 1_000, resumed }
}

/// The member comes back and is told what it holds.
fn resume(desk: &mut Desk, assignments: Vec<v1::Assignment>) {
    desk.joined(&joined(true), true);
    hear(desk, assigned(assignments));
}

fn hear(desk: &mut Desk, event: Event) {
    desk.hear(event).expect("the contract is kept");
}

/// Takes everything that waits; gives the offsets.
fn take(desk: &mut Desk) -> Vec<u64> {
    let mut offsets = Vec::new();
    while let Some(queued) = desk.take(true) {
        if let Queued::Batch { batch, bytes, .. } = queued {
            offsets.extend(batch.map(|received| received.expect("whole").offset));
            desk.done_with(bytes);
        }
    }
    offsets
}

fn said(desk: &mut Desk) -> Vec<Action> {
    std::iter::from_fn(|| desk.next_action()).filter(|action| !matches!(action, Action::Credit(_))).collect()
}

fn commits(actions: &[Action]) -> Vec<(u64, Vec<(u32, u64)>)> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Commit(commit) => Some(commit),
        _ => None,
    });
    let moves = |commit: &v1::Commit| commit.commits.iter().map(|one| (one.partition, one.next_offset)).collect();
    sent.map(|commit| (commit.commit_id, moves(commit))).collect()
}

fn accepted(commit_id: u64) -> Event {
    let result = Some(v1::committed::Result::Ok(v1::CommitCursorsResponse::default()));
    Event::Committed(v1::Committed { commit_id, result })
}

fn refused(commit_id: u64, name: &str, facts: &[(&str, u64)]) -> Event {
    let mut details = ErrorDetails::new();
    let facts = facts.iter().map(|(key, value)| ((*key).to_owned(), value.to_string()));
    details.set_error_info(name, reason::DOMAIN, facts.collect::<std::collections::HashMap<_, _>>());
    let status = tonic::Status::with_error_details(tonic::Code::FailedPrecondition, "no", details);
    let message = prost::Message::decode(status.details()).expect("it was made with details");
    Event::Committed(v1::Committed { commit_id, result: Some(v1::committed::Result::Refused(message)) })
}

fn released(actions: &[Action]) -> Vec<u32> {
    let releases = actions.iter().filter_map(|action| match action {
        Action::Release(release) => Some(release),
        _ => None,
    });
    releases.flat_map(|release| release.assignments.iter().map(|one| one.partition)).collect()
}

fn answer(ticket: &mut CommitTicket) -> Option<Result<(), Error>> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(ticket).poll(&mut context) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}

/// The group is left when nothing is open any more: not while commits wait behind those that may be unanswered at once,
/// and not while the server has said "not now" to one.
#[test]
fn a_member_leaves_when_all_of_its_commits_are_answered() {
    const PARTITIONS: u32 = 100;
    let mut desk = Desk::new(CREDIT, true);
    desk.joined(&joined(false), false);
    hear(&mut desk, assigned((0..PARTITIONS).map(|partition| assignment(partition, 1, 0)).collect()));
    let (mut tickets, mut open) = (Vec::new(), Vec::new());
    for partition in 0..PARTITIONS {
        hear(&mut desk, Event::Batch(batch(partition, 1, 0..1)));
        take(&mut desk);
        tickets.push(desk.commit(&place(partition, 1, 1)));
        // Each is sent alone, as far as the limit goes.
        open.extend(said(&mut desk));
    }
    desk.close(Phase::Closing);
    let mut answered = 0;
    loop {
        open.extend(said(&mut desk));
        if open.iter().any(|action| matches!(action, Action::Leave(_))) {
            break;
        }
        let Some(Action::Commit(commit)) = (!open.is_empty()).then(|| open.remove(0)) else {
            assert!(desk.commits().is_paused(), "nothing is said, and the group is not left");
            desk.commits().resume();
            continue;
        };
        answered += 1;
        let done = v1::committed::Result::Ok(v1::CommitCursorsResponse::default());
        let done = v1::Committed { commit_id: commit.commit_id, result: Some(done) };
        let said =
            if answered == 3 { refused(commit.commit_id, reason::JOURNAL_FULL, &[]) } else { Event::Committed(done) };
        hear(&mut desk, said);
    }
    assert_eq!(open.len(), 1, "{open:?}");
    assert!(desk.commits().is_empty());
    assert!(tickets.iter_mut().all(|ticket| matches!(answer(ticket), Some(Ok(())))));
}

#[test]
fn a_record_is_handed_out_once_however_often_it_is_sent() {
    let mut desk = desk();
    hear(&mut desk, Event::Batch(batch(0, 1, 0..5)));
    assert_eq!(take(&mut desk), [0, 1, 2, 3, 4]);
    hear(&mut desk, Event::Batch(batch(0, 1, 5..7)));
    desk.broke();
    resume(&mut desk, vec![assignment(0, 1, 0)]);
    // The server begins at the cursor again; what waits is not taken yet.
    hear(&mut desk, Event::Batch(batch(0, 1, 0..4)));
    hear(&mut desk, Event::Batch(batch(0, 1, 4..9)));
    assert_eq!(take(&mut desk), [5, 6, 7, 8]);
    assert!(matches!(desk.take_news(), Some(ConsumerEvent::Resumed)));
    assert!(desk.take_news().is_none(), "nothing is lost and nothing new");
}

#[test]
fn a_batch_of_another_epoch_or_of_nobody_is_dropped_and_paid_for() {
    let mut desk = desk();
    hear(&mut desk, Event::Batch(batch(0, 9, 0..5)));
    hear(&mut desk, Event::Batch(batch(3, 1, 0..5)));
    assert!(take(&mut desk).is_empty());
    let Some(Action::Credit(credit)) = desk.next_action() else { panic!("credit goes back") };
    assert!(credit.bytes > 0);
    assert_eq!(desk.initial_credit(), CREDIT);
}

#[test]
fn credit_goes_back_in_parts_and_a_new_stream_begins_with_what_is_left() {
    let mut desk = desk();
    hear(&mut desk, Event::Batch(batch(0, 1, 0..1)));
    hear(&mut desk, Event::Batch(batch(0, 1, 1..100)));
    let Some(Queued::Batch { bytes: small, .. }) = desk.take(true) else { panic!("the first batch") };
    desk.done_with(small);
    assert!(desk.next_action().is_none(), "a small part waits for more");
    let Some(Queued::Batch { bytes: large, .. }) = desk.take(true) else { panic!("the second batch") };
    assert_eq!(desk.initial_credit(), CREDIT - large);
    desk.done_with(large);
    assert!(matches!(desk.next_action(), Some(Action::Credit(credit)) if credit.bytes == large));
}

#[test]
fn commits_that_wait_are_one_and_every_ticket_is_answered() {
    let mut desk = desk();
    hear(&mut desk, assigned(vec![assignment(1, 4, 0)]));
    let mut tickets = [desk.commit(&place(0, 1, 3)), desk.commit(&place(0, 1, 2)), desk.commit(&place(1, 4, 8))];
    assert_eq!(commits(&said(&mut desk)), [(1, vec![(0, 3), (1, 8)])]);
    assert!(tickets.iter_mut().all(|ticket| answer(ticket).is_none()));
    hear(&mut desk, accepted(1));
    assert!(tickets.iter_mut().all(|ticket| matches!(answer(ticket), Some(Ok(())))));
}

#[test]
fn a_refused_partition_does_not_take_the_others_with_it() {
    let mut desk = desk();
    hear(&mut desk, assigned(vec![assignment(1, 4, 0)]));
    let mut good = desk.commit(&place(0, 1, 3));
    drop(desk.commit(&place(1, 4, 8)));
    assert_eq!(commits(&said(&mut desk)).len(), 1);
    hear(&mut desk, refused(1, reason::ASSIGNMENT_FENCED, &[]));
    assert_eq!(commits(&said(&mut desk)), [(2, vec![(0, 3)]), (3, vec![(1, 8)])]);
    hear(&mut desk, accepted(2));
    hear(&mut desk, refused(3, reason::ASSIGNMENT_FENCED, &[]));
    assert!(matches!(answer(&mut good), Some(Ok(()))));
    let news: Vec<_> = std::iter::from_fn(|| desk.take_news()).collect();
    let told = news.iter().any(|event| {
        matches!(event, ConsumerEvent::CommitRefused { partition, error }
            if partition.partition == 1 && partition.next_offset == 8 && error.kind() == ErrorKind::Fenced)
    });
    assert!(told, "nobody holds its ticket: {news:?}");
}

#[test]
fn unanswered_commits_are_sent_again_and_a_cursor_that_is_further_is_a_yes() {
    let mut desk = desk();
    let mut first = desk.commit(&place(0, 1, 3));
    assert_eq!(commits(&said(&mut desk)), [(1, vec![(0, 3)])]);
    let mut second = desk.commit(&place(0, 1, 5));
    assert_eq!(commits(&said(&mut desk)), [(2, vec![(0, 5)])]);
    desk.broke();
    resume(&mut desk, vec![assignment(0, 1, 0)]);
    assert_eq!(commits(&said(&mut desk)), [(1, vec![(0, 3)]), (2, vec![(0, 5)])]);
    hear(&mut desk, refused(1, reason::CURSOR_BACKWARDS, &[("current", 5)]));
    hear(&mut desk, accepted(2));
    assert!(matches!(answer(&mut first), Some(Ok(()))));
    assert!(matches!(answer(&mut second), Some(Ok(()))));
}

#[test]
fn nothing_is_handed_out_after_the_group_asked_for_it_back() {
    let mut desk = desk();
    hear(&mut desk, Event::Batch(batch(0, 1, 0..2)));
    assert_eq!(take(&mut desk), [0, 1]);
    hear(&mut desk, Event::Batch(batch(0, 1, 2..4)));
    hear(&mut desk, Event::Revoking(v1::Revoking { assignments: vec![assignment(0, 1, 0)], drain_ms: 500 }));
    hear(&mut desk, Event::Batch(batch(0, 1, 4..6)));
    assert!(take(&mut desk).is_empty());
    assert!(!desk.hand_out(&place(0, 1, 3)), "the rest of a batch in hand neither");
    assert!(matches!(desk.take_news(), Some(ConsumerEvent::Revoking { drain, .. }) if drain.as_millis() == 500));
    assert!(released(&said(&mut desk)).is_empty(), "two records are not committed");
    drop(desk.commit(&place(0, 1, 2)));
    let sent = said(&mut desk);
    assert_eq!((commits(&sent).len(), released(&sent).len()), (1, 0), "the answer comes first");
    hear(&mut desk, accepted(1));
    assert_eq!(released(&said(&mut desk)), [0]);
    assert_eq!(desk.held(), []);
    let mut late = desk.commit(&place(0, 1, 2));
    assert!(matches!(answer(&mut late), Some(Err(error)) if error.reason() == Some(reason::ASSIGNMENT_FENCED)));
}

#[test]
fn a_partition_of_which_nothing_was_handed_out_goes_back_at_once() {
    let mut desk = desk();
    hear(&mut desk, Event::Batch(batch(0, 1, 0..2)));
    hear(&mut desk, Event::Revoking(v1::Revoking { assignments: vec![assignment(0, 1, 0)], drain_ms: 500 }));
    assert_eq!(released(&said(&mut desk)), [0]);
}

#[test]
fn without_auto_release_the_program_says_when() {
    let mut desk = Desk::new(CREDIT, false);
    hear(&mut desk, assigned(vec![assignment(0, 1, 0)]));
    hear(&mut desk, Event::Revoking(v1::Revoking { assignments: vec![assignment(0, 1, 0)], drain_ms: 500 }));
    assert!(released(&said(&mut desk)).is_empty());
    desk.release(&held(&"orders".into(), 0, 1, 0));
    assert_eq!(released(&said(&mut desk)), [0]);
}

#[test]
fn a_partition_that_was_given_back_on_a_broken_stream_is_given_back_again() {
    let mut desk = desk();
    let revoking = || Event::Revoking(v1::Revoking { assignments: vec![assignment(0, 1, 0)], drain_ms: 500 });
    hear(&mut desk, revoking());
    assert_eq!(released(&said(&mut desk)), [0]);
    desk.broke();
    resume(&mut desk, vec![assignment(0, 1, 0)]);
    hear(&mut desk, revoking());
    assert_eq!(released(&said(&mut desk)), [0]);
}

#[test]
fn a_session_that_is_over_takes_everything() {
    let mut desk = desk();
    hear(&mut desk, Event::Batch(batch(0, 1, 0..2)));
    let mut waiting = desk.commit(&place(0, 1, 1));
    desk.broke();
    desk.joined(&joined(false), true);
    let reasons: Vec<_> = std::iter::from_fn(|| desk.take_news()).collect();
    assert!(matches!(&reasons[0], ConsumerEvent::Lost { reason: LostReason::SessionExpired, .. }), "{reasons:?}");
    assert!(matches!(answer(&mut waiting), Some(Err(error)) if error.kind() == ErrorKind::Fenced));
    assert_eq!((take(&mut desk), desk.held()), (vec![], vec![]));
    hear(&mut desk, assigned(vec![assignment(0, 2, 0)]));
    hear(&mut desk, Event::Batch(batch(0, 2, 0..2)));
    assert_eq!(take(&mut desk), [0, 1], "under the new epoch they come again");
}

#[test]
fn a_cursor_that_stands_before_what_was_acknowledged_is_another_log() {
    let mut desk = desk();
    hear(&mut desk, Event::Batch(batch(0, 1, 0..5)));
    assert_eq!(take(&mut desk).len(), 5);
    drop(desk.commit(&place(0, 1, 5)));
    said(&mut desk);
    hear(&mut desk, accepted(1));
    desk.broke();
    resume(&mut desk, vec![assignment(0, 1, 2)]);
    let news: Vec<_> = std::iter::from_fn(|| desk.take_news()).collect();
    assert!(matches!(&news[1], ConsumerEvent::Lost { reason: LostReason::MovedBack, .. }), "{news:?}");
    hear(&mut desk, Event::Batch(batch(0, 1, 2..4)));
    assert_eq!(take(&mut desk), [2, 3]);
}

#[test]
fn what_the_server_does_not_list_was_lost_while_away() {
    for first in [assigned(vec![assignment(1, 4, 0)]), Event::Heartbeat(v1::Heartbeat::default())] {
        let mut desk = desk();
        hear(&mut desk, assigned(vec![assignment(1, 4, 0)]));
        desk.take_news();
        desk.broke();
        desk.joined(&joined(true), true);
        let listed = usize::from(matches!(first, Event::Assigned(_)));
        hear(&mut desk, first);
        let news: Vec<_> = std::iter::from_fn(|| desk.take_news()).collect();
        let lost = matches!(&news[1], ConsumerEvent::Lost { partitions, reason: LostReason::WhileAway }
            if partitions.len() == 2 - listed);
        assert!(lost, "{news:?}");
        assert_eq!(desk.held().len(), listed);
    }
}

#[test]
fn holds_are_asked_for_again_on_a_new_stream() {
    let mut desk = desk();
    let partition = held(&"orders".into(), 0, 1, 0);
    desk.hold(&partition, true);
    desk.hold(&partition, true);
    let holds = |actions: Vec<Action>| actions.iter().filter(|action| matches!(action, Action::Hold(_))).count();
    assert_eq!(holds(said(&mut desk)), 1);
    desk.broke();
    resume(&mut desk, vec![assignment(0, 1, 0)]);
    assert_eq!(holds(said(&mut desk)), 1);
    desk.hold(&partition, false);
    assert_eq!(holds(said(&mut desk)), 1);
}

#[test]
fn leaving_comes_behind_the_last_commit_and_is_said_once() {
    let mut desk = desk();
    hear(&mut desk, Event::Batch(batch(0, 1, 0..5)));
    drop(desk.commit(&place(0, 1, 2)));
    desk.close(Phase::Closing);
    let sent = said(&mut desk);
    assert!(matches!(&sent[..], [Action::Commit(_)]), "not before it is answered: {sent:?}");
    hear(&mut desk, accepted(1));
    let sent = said(&mut desk);
    assert!(matches!(&sent[..], [Action::Leave(_)]), "{sent:?}");
    assert_eq!(desk.phase(), Phase::Left);
    assert!(said(&mut desk).is_empty());
    assert!(take(&mut desk).is_empty(), "nothing is handed out any more");
}

#[test]
fn not_now_is_asked_again_after_a_pause() {
    let mut desk = desk();
    let mut ticket = desk.commit(&place(0, 1, 2));
    said(&mut desk);
    hear(&mut desk, refused(1, reason::LOG_POISONED, &[]));
    assert!(answer(&mut ticket).is_none() && said(&mut desk).is_empty() && desk.commits().is_paused());
    desk.commits().resume();
    assert_eq!(commits(&said(&mut desk)), [(2, vec![(0, 2)])]);
}

#[test]
fn an_answer_that_nobody_asked_for_ends_it() {
    assert_eq!(desk().hear(accepted(5)).expect_err("not asked").kind(), ErrorKind::Protocol);
}
