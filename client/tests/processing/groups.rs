//! Members that come and go.

use std::sync::Arc;

use tillroll_client::processor::ProcessorError;
use tillroll_proto::reason;
use tokio::{sync::Semaphore, time::timeout};

use super::{PATIENCE, prove, run, say, until_done, words::Counter};
use crate::fake::Fake;

#[tokio::test]
async fn partitions_go_from_member_to_member_and_no_word_is_lost_or_counted_twice() {
    let fake = Fake::start(4).await;
    let first = run(&fake, Counter::default(), "a").await;
    let mut said = 0;
    for round in 0..6 {
        say(&fake, said..said + 60).await;
        let second = run(&fake, Counter::default(), "b").await;
        said += 60;
        let joined = fake.until(|state| {
            let group = &state.groups["counter"];
            group.held_by("b").len() == 2 && group.held_by("a").len() == 2
        });
        timeout(PATIENCE, joined).await.expect("in time");
        say(&fake, said..said + 60).await;
        said += 60;
        if round % 2 == 0 {
            second.stop().await;
        } else {
            second.kill().await;
            fake.expire("counter", "b");
        }
    }
    until_done(&fake).await;
    prove(&fake, said, false).await;
    let statistics = first.stop().await.statistics;
    assert!(statistics.rebalances > 20, "{statistics:?}");
}

#[tokio::test]
async fn whoever_is_taken_over_stops_and_the_other_goes_on() {
    let fake = Fake::start(2).await;
    say(&fake, 0..100).await;
    let older = run(&fake, Counter::default(), "counter-0").await;
    fake.until(|state| state.groups.get("counter").is_some_and(|group| !group.members.is_empty())).await;
    let newer = run(&fake, Counter::default(), "counter-0").await;
    let error = older.end().await;
    assert!(matches!(&error, ProcessorError::TakenOver { member } if member == "counter-0"), "{error}");
    say(&fake, 100..150).await;
    until_done(&fake).await;
    prove(&fake, 150, false).await;
    newer.stop().await;
}

#[tokio::test]
async fn a_session_that_ends_under_work_fences_what_is_on_its_way() {
    let fake = Fake::start(2).await;
    let running = run(&fake, Counter::default(), "counter-0").await;
    for round in 0..10 {
        let held = fake.until(|state| state.groups.get("counter").is_some_and(|it| it.held_by("counter-0").len() == 2));
        timeout(PATIENCE, held).await.expect("in time");
        say(&fake, round * 30..(round + 1) * 30).await;
        fake.break_streams("counter");
        fake.expire("counter", "counter-0");
    }
    until_done(&fake).await;
    prove(&fake, 300, false).await;
    let statistics = running.stop().await.statistics;
    assert!(statistics.rebuilds > 4, "{statistics:?}");
}

#[tokio::test]
async fn an_epoch_that_rises_unseen_is_learned_from_a_refusal() {
    let fake = Fake::start(2).await;
    say(&fake, 0..50).await;
    let gate = Arc::new(Semaphore::new(0));
    let service = Counter { gate: Some(Arc::clone(&gate)), ..Counter::default() };
    let running = run(&fake, service, "counter-0").await;
    running.until(|statistics| statistics.calls_in_flight > 10).await;
    {
        // As if the message were late.
        let mut state = fake.state.lock();
        state.groups.get_mut("counter").expect("it is there").cursors.values_mut().for_each(|at| at.epoch += 1);
    }
    gate.add_permits(1_000);
    running.until(|statistics| statistics.refusals.contains_key(reason::ASSIGNMENT_FENCED)).await;
    fake.break_streams("counter");
    say(&fake, 50..100).await;
    until_done(&fake).await;
    prove(&fake, 100, false).await;
    running.stop().await;
}

#[tokio::test]
async fn a_cursor_that_is_set_for_one_input_leaves_the_other_where_it_is() {
    let fake = Fake::start(2).await;
    say(&fake, 0..60).await;
    let running = run(&fake, Counter::default(), "counter-0").await;
    until_done(&fake).await;
    let end = fake.cursor("counter", "words", 0).next;
    fake.set_cursor("counter", "words", 0, end);
    say(&fake, 60..120).await;
    until_done(&fake).await;
    prove(&fake, 120, false).await;
    running.stop().await;
}
