//! Inputs that cannot go on, and logs that cannot be read: the service ends and names the place, unless it goes on.

use std::{sync::Arc, time::Duration};

use tillroll_client::processor::ProcessorError;
use tillroll_proto::reason;
use tokio::sync::Semaphore;

use super::{builder, prove, run, say, start, until_done, words::Counter};
use crate::fake::{Fake, ReadFate};

/// The processor ended since it could not read on there.
fn check(error: &ProcessorError, topic: &str, offset: u64, reason: &str) {
    let ProcessorError::Unreadable { place, error: why } = error else { panic!("{error}") };
    assert_eq!((&*place.topic, place.partition, place.offset), (topic, 0, offset), "{error}");
    assert_eq!(why.reason(), Some(reason), "{error}");
    let named = format!("topic={topic} partition=0 offset={offset} reason={reason}");
    assert!(error.to_string().contains(&named), "{error}");
}

/// Once it gave a line in the log and nothing else: the service looked healthy and did nothing.
#[tokio::test]
async fn an_input_that_is_damaged_or_gone_ends_the_processor_and_is_named() {
    for reason in [reason::DATA_DAMAGED, reason::OFFSET_BELOW_HEAD] {
        let fake = Fake::start(1).await;
        say(&fake, 0..20).await;
        let running = run(&fake, Counter::default(), "counter-0").await;
        until_done(&fake).await;
        fake.stall("counter", "words", 0, reason);
        check(&running.end().await, "words", 20, reason);
    }
}

#[tokio::test]
async fn what_came_before_the_damage_is_done_with_first() {
    let fake = Fake::start(1).await;
    say(&fake, 0..20).await;
    let gate = Arc::new(Semaphore::new(0));
    let service = Counter { gate: Some(Arc::clone(&gate)), ..Counter::default() };
    let running = run(&fake, service, "counter-0").await;
    running.until(|statistics| statistics.calls_in_flight > 0).await;
    fake.stall("counter", "words", 0, reason::DATA_DAMAGED);
    running.until(|statistics| statistics.stalled == 1).await;
    gate.add_permits(20);
    check(&running.end().await, "words", 20, reason::DATA_DAMAGED);
    assert_eq!(fake.cursor("counter", "words", 0).next, 20);
}

#[tokio::test]
async fn an_input_that_cannot_go_on_now_is_waited_for() {
    let fake = Fake::start(1).await;
    let running = run(&fake, Counter::default(), "counter-0").await;
    say(&fake, 0..20).await;
    until_done(&fake).await;
    fake.stall("counter", "words", 0, reason::READ_FAILED);
    running.until(|statistics| statistics.stalled == 1).await;
    say(&fake, 20..40).await;
    until_done(&fake).await;
    prove(&fake, 40, false).await;
    assert_eq!(running.stop().await.statistics.stalled, 0);
}

#[tokio::test]
async fn an_input_that_does_not_go_on_for_too_long_ends_the_processor() {
    let fake = Fake::start(1).await;
    say(&fake, 0..20).await;
    let running = start(builder(&fake, Counter::default(), "counter-0").await.retry_for(Duration::from_millis(500)));
    until_done(&fake).await;
    fake.stall("counter", "words", 0, reason::READ_FAILED);
    check(&running.end().await, "words", 20, reason::READ_FAILED);
}

/// Once it was tried again every half second, for ever.
#[tokio::test]
async fn a_state_that_cannot_be_read_is_tried_a_few_times_and_its_place_named() {
    let fake = Fake::start(1).await;
    say(&fake, 0..30).await;
    let running = run(&fake, Counter::default(), "counter-0").await;
    until_done(&fake).await;
    running.stop().await;
    fake.state.lock().reads.clear();
    fake.read_script([ReadFate::Refuse(reason::OFFSET_BELOW_HEAD)].into_iter().cycle().take(3));
    let running = start(builder(&fake, Counter::default(), "counter-0").await.tries(3));
    check(&running.end().await, "words", 0, reason::OFFSET_BELOW_HEAD);
    assert_eq!(fake.state.lock().reads.len(), 3);
    // Twice is not too often.
    fake.read_script([ReadFate::Refuse(reason::OFFSET_BELOW_HEAD)].into_iter().cycle().take(2));
    let running = start(builder(&fake, Counter::default(), "counter-0").await.tries(3));
    say(&fake, 30..40).await;
    until_done(&fake).await;
    prove(&fake, 40, false).await;
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_batch_ends_the_processor_while_the_state_is_made() {
    let fake = Fake::start(1).await;
    say(&fake, 0..30).await;
    let running = run(&fake, Counter::default(), "counter-0").await;
    until_done(&fake).await;
    running.stop().await;
    fake.read_script([ReadFate::Keep, ReadFate::Keep, ReadFate::Damage]);
    let error = run(&fake, Counter::default(), "counter-0").await.end().await;
    let ProcessorError::Unreadable { place, .. } = &error else { panic!("{error}") };
    // Each word is a batch of its own here.
    assert_eq!((&*place.topic, place.partition, place.offset), ("words", 0, 2), "{error}");
}
