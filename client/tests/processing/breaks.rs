//! Streams that break and appends that are refused.

use std::sync::{Arc, atomic::Ordering};

use tillroll_client::processor::Rule;
use tillroll_proto::reason;
use tokio::{sync::Semaphore, time::timeout};

use super::{PATIENCE, builder, prove, run, say, start, until_done, words::Counter};
use crate::fake::{Fake, Fate, ReadFate};

#[tokio::test]
async fn every_word_is_counted_once() {
    let fake = Fake::start(4).await;
    say(&fake, 0..300).await;
    let running = run(&fake, Counter::default(), "counter-0").await;
    until_done(&fake).await;
    say(&fake, 300..400).await;
    until_done(&fake).await;
    prove(&fake, 400, false).await;
    let statistics = running.stop().await.statistics;
    assert_eq!((statistics.inputs, statistics.steps, statistics.outputs), (400, 400, 400));
    assert!(statistics.appends < 200, "steps are gathered: {statistics:?}");
    assert!(statistics.refusals.is_empty() && statistics.duplicates == 0, "{statistics:?}");
    assert!(fake.state.lock().groups["counter"].members.is_empty(), "it left");
}

#[tokio::test]
async fn every_word_is_counted_once_however_often_streams_break() {
    let fake = Fake::start(2).await;
    let pattern = [
        Fate::Keep,
        Fate::LoseAfter,
        Fate::Keep,
        Fate::LoseBefore,
        Fate::Refuse(reason::DISK_FULL),
        Fate::Keep,
        Fate::LoseAfter,
        Fate::Refuse(reason::LOG_POISONED),
    ];
    fake.script(pattern.into_iter().cycle().take(48));
    fake.read_script([ReadFate::Keep, ReadFate::Break].into_iter().cycle().take(8));
    let running = run(&fake, Counter::default(), "counter-0").await;
    for slice in 0..40 {
        say(&fake, slice * 10..(slice + 1) * 10).await;
        if slice % 4 == 3 {
            fake.break_streams("counter");
        }
    }
    until_done(&fake).await;
    prove(&fake, 400, false).await;
    let statistics = running.stop().await.statistics;
    assert!(statistics.duplicates > 0 && statistics.broken_streams > 5, "{statistics:?}");
    assert!(statistics.refusals.contains_key(reason::DISK_FULL), "{statistics:?}");
}

#[tokio::test]
async fn a_producer_that_was_forgotten_costs_a_rebuild_and_nothing_else() {
    let fake = Fake::start(2).await;
    let running = run(&fake, Counter::default(), "counter-0").await;
    for slice in 0..10 {
        fake.script([Fate::Forget]);
        say(&fake, slice * 10..(slice + 1) * 10).await;
        until_done(&fake).await;
    }
    prove(&fake, 100, false).await;
    let statistics = running.stop().await.statistics;
    assert!(statistics.refusals[reason::PRODUCER_UNKNOWN] >= 10 && statistics.take_overs >= 10, "{statistics:?}");
    assert!(statistics.rebuilds > 10, "{statistics:?}");
}

#[tokio::test]
async fn a_cursor_that_somebody_else_moved_is_asked_for_and_the_state_made_again() {
    let fake = Fake::start(1).await;
    say(&fake, 0..50).await;
    let running = run(&fake, Counter::default(), "counter-0").await;
    until_done(&fake).await;
    {
        // Nobody saw it, and nobody is fenced by it: the next commit finds the cursor elsewhere.
        let mut state = fake.state.lock();
        let group = state.groups.get_mut("counter").expect("it is there");
        group.cursors.values_mut().for_each(|cursor| cursor.next -= 3);
    }
    say(&fake, 50..60).await;
    until_done(&fake).await;
    let statistics = running.stop().await.statistics;
    assert_eq!(statistics.refusals[reason::EXPECTED_OFFSET_MISMATCH], 1, "{statistics:?}");
    assert_eq!(statistics.rebuilds, 2, "{statistics:?}");
    // Ten were made on a state that was not to be trusted, and again with the three before them.
    assert!((63..=73).contains(&statistics.steps), "{statistics:?}");
}

#[tokio::test]
async fn calls_of_many_words_are_made_at_the_same_time_and_their_steps_stay_in_order() {
    let fake = Fake::start(2).await;
    say(&fake, 0..200).await;
    let gate = Arc::new(Semaphore::new(0));
    let service = Counter { gate: Some(Arc::clone(&gate)), ..Counter::default() };
    let running = start(builder(&fake, service.clone(), "counter-0").await.calls_in_flight(8));
    let (most, now) = &*service.calls;
    let full = async {
        while now.load(Ordering::Relaxed) < 8 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, full).await.expect("in time");
    gate.add_permits(200);
    until_done(&fake).await;
    prove(&fake, 200, false).await;
    let statistics = running.stop().await.statistics;
    assert_eq!((statistics.calls, statistics.calls_in_flight), (200, 0));
    assert_eq!(most.load(Ordering::Relaxed), 8, "as many as may be, and no more");
}

/// Once a unit without anything in flight waited for room that the others had taken, and nobody woke it.
#[tokio::test]
async fn units_that_wait_for_room_go_on_when_there_is_some() {
    let fake = Fake::start(8).await;
    say(&fake, 0..400).await;
    let running = run(&fake, Counter { padding: 100_000, ..Counter::default() }, "counter-0").await;
    until_done(&fake).await;
    prove(&fake, 400, false).await;
    running.stop().await;
}

#[tokio::test]
async fn one_member_holds_everything_and_totals_go_over_all_partitions() {
    let fake = Fake::start(4).await;
    say(&fake, 0..200).await;
    let running = start(builder(&fake, Counter::default(), "counter-0").await.rule(Rule::Single));
    until_done(&fake).await;
    let killed = running;
    say(&fake, 200..300).await;
    killed.kill().await;
    let running = start(builder(&fake, Counter::default(), "counter-0").await.rule(Rule::Single));
    until_done(&fake).await;
    running.stop().await;
    let mut totals: Vec<u64> = super::read(&fake, "counts")
        .await
        .iter()
        .map(|output| serde_json::from_slice::<(u64, u64)>(&output.record.value).expect("two numbers").1)
        .collect();
    totals.sort_unstable();
    assert_eq!(totals, (1..=300).collect::<Vec<u64>>(), "one decider, over all partitions");
}
