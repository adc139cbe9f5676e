//! Services that fail and inputs that are malformed.

use tillroll_client::{
    Append, Record,
    processor::{Cause, OnMalformed, ProcessorError},
};
use tokio::time::timeout;

use super::{
    PATIENCE, builder, prove, run, say, start, until_done,
    words::{Counter, Trouble},
};
use crate::fake::Fake;

#[tokio::test]
async fn a_step_that_fails_for_a_while_is_tried_again() {
    for trouble in [
        Trouble::Fails(3),
        Trouble::PanicsDeciding(3),
        Trouble::PanicsObserving(3),
        Trouble::PanicsApplying(3),
        Trouble::PanicsCalling(3),
    ] {
        let fake = Fake::start(2).await;
        say(&fake, 0..60).await;
        let running = run(&fake, Counter::troubled("word-7", trouble), "counter-0").await;
        until_done(&fake).await;
        prove(&fake, 60, false).await;
        let statistics = running.stop().await.statistics;
        assert_eq!(statistics.failed_tries, 3, "{trouble:?} {statistics:?}");
    }
}

#[tokio::test]
async fn a_step_that_cannot_be_made_stops_the_processor_and_is_named() {
    for trouble in [
        Trouble::Fails(100),
        Trouble::PanicsDeciding(100),
        Trouble::PanicsObserving(100),
        Trouble::PanicsApplying(100),
        Trouble::PanicsCalling(100),
    ] {
        let fake = Fake::start(1).await;
        say(&fake, 0..30).await;
        let service = Counter::troubled("word-7", trouble);
        let error = start(builder(&fake, service.clone(), "counter-0").await.tries(3)).end().await;
        let ProcessorError::Failed { service: name, key, cause, tries, wrong } = &error else {
            panic!("{trouble:?} {error}")
        };
        assert_eq!((name.as_str(), key.as_str(), *tries), ("counter", "word-7", 3), "{trouble:?}");
        assert_eq!(*cause, Cause::Input { topic: "words".into(), partition: 0, offset: 7 });
        assert!(wrong.contains("planted"), "{wrong}");
        // What was before it is done with, and whoever mends the service goes on there.
        assert_eq!(fake.cursor("counter", "words", 0).next, 7, "{trouble:?}");
        service.trouble.lock().clear();
        let running = run(&fake, service, "counter-0").await;
        until_done(&fake).await;
        prove(&fake, 30, false).await;
        running.stop().await;
    }
}

/// Once each of two steps that failed in turns made the other's tries begin again: the service never stopped.
#[tokio::test]
async fn steps_that_fail_at_the_same_time_are_counted_each_for_itself() {
    let fake = Fake::start(1).await;
    say(&fake, 0..30).await;
    let service = Counter::troubled("word-7", Trouble::PanicsCalling(1_000));
    service.trouble.lock().insert("word-8".to_owned(), Trouble::PanicsCalling(1_000));
    let error = start(builder(&fake, service.clone(), "counter-0").await.tries(4)).end().await;
    let ProcessorError::Failed { key, cause, tries, .. } = &error else { panic!("{error}") };
    assert!(["word-7", "word-8"].contains(&key.as_str()), "{error}");
    let offset = if key == "word-7" { 7 } else { 8 };
    assert_eq!(*cause, Cause::Input { topic: "words".into(), partition: 0, offset });
    assert_eq!(*tries, 4);
    service.trouble.lock().clear();
    let running = run(&fake, service, "counter-0").await;
    until_done(&fake).await;
    prove(&fake, 30, false).await;
    running.stop().await;
}

#[tokio::test]
async fn tries_begin_again_when_a_step_was_made() {
    let fake = Fake::start(1).await;
    let service = Counter::default();
    let running = start(builder(&fake, service.clone(), "counter-0").await.tries(3));
    for round in 0..3 {
        service.trouble.lock().insert("word-0".to_owned(), Trouble::Fails(2));
        say(&fake, round * 23..(round + 1) * 23).await;
        until_done(&fake).await;
    }
    prove(&fake, 69, false).await;
    assert_eq!(running.stop().await.statistics.failed_tries, 6);
}

/// Once it was tried again for ever, and never counted.
#[tokio::test]
async fn a_step_whose_calls_cannot_be_named_again_is_counted() {
    for (left, tries) in [(3, 10), (100, 3)] {
        let fake = Fake::start(1).await;
        say(&fake, 0..30).await;
        let service = Counter::troubled("word-7", Trouble::PanicsCallingThenAsking(left));
        let running = start(builder(&fake, service, "counter-0").await.tries(tries));
        if left < 10 {
            until_done(&fake).await;
            prove(&fake, 30, false).await;
            assert_eq!(running.stop().await.statistics.failed_tries, left);
            continue;
        }
        let error = running.end().await;
        let ProcessorError::Failed { key, tries: 3, wrong, .. } = &error else { panic!("{error}") };
        assert_eq!((key.as_str(), wrong.as_str()), ("word-7", "panicked: planted in calls"));
    }
}

/// Once an error of a state that could not be made named nobody.
#[tokio::test]
async fn a_panic_while_a_state_is_made_names_the_record() {
    for (trouble, topic) in [(Trouble::PanicsObserving(100), "words"), (Trouble::PanicsApplying(100), "counts")] {
        let fake = Fake::start(1).await;
        say(&fake, 0..30).await;
        let service = Counter::default();
        let running = run(&fake, service.clone(), "counter-0").await;
        until_done(&fake).await;
        running.stop().await;
        service.trouble.lock().insert("word-7".to_owned(), trouble);
        let error = start(builder(&fake, service, "counter-0").await.tries(3)).end().await;
        let ProcessorError::Failed { key, cause, tries: 3, wrong, .. } = &error else { panic!("{error}") };
        assert_eq!(key, "word-7", "{error}");
        assert_eq!(*cause, Cause::Input { topic: topic.into(), partition: 0, offset: 7 }, "{error}");
        assert!(wrong.contains("planted"), "{wrong}");
    }
}

/// Records that are no words.
async fn say_nonsense(fake: &Fake) {
    let record = |key: &'static str, value: &'static str| Record::new(value).key(key).type_("Said.v1");
    let nonsense = [
        record("word-1", "not JSON"),
        Record::new("{}").type_("Said.v1"),
        Record::new("{}").key(vec![0xff, 0xfe]).type_("Said.v1"),
    ];
    let batch = tillroll_client::EncodedBatch::of(&nonsense, tillroll_client::Compression::None);
    let append = Append::new().encoded("words", 0, batch);
    fake.client().await.append(append).await.expect("accepted");
}

#[tokio::test]
async fn a_malformed_input_stops_the_processor_and_is_named() {
    let fake = Fake::start(1).await;
    say(&fake, 0..20).await;
    say_nonsense(&fake).await;
    let error = run(&fake, Counter::default(), "counter-0").await.end().await;
    let ProcessorError::Malformed { place, malformed } = &error else { panic!("{error}") };
    assert_eq!((&*place.topic, place.partition, place.offset), ("words", 0, 20));
    assert_eq!(malformed.kind, "Said.v1");
    assert_eq!(fake.cursor("counter", "words", 0).next, 20, "what was before it is done with");
}

#[tokio::test]
async fn a_malformed_input_is_skipped_when_that_is_said_and_counted_and_named() {
    let fake = Fake::start(1).await;
    say(&fake, 0..20).await;
    say_nonsense(&fake).await;
    let skipping = builder(&fake, Counter::default(), "counter-0").await.on_malformed(OnMalformed::Skip);
    let running = start(skipping);
    until_done(&fake).await;
    let statistics = running.stop().await.statistics;
    assert_eq!((statistics.malformed_skipped, statistics.steps), (3, 20));
    let places: Vec<u64> = statistics.malformed.iter().map(|place| place.offset).collect();
    assert_eq!(places, [20, 21, 22]);
}

#[tokio::test]
async fn a_key_in_a_partition_where_it_does_not_belong_is_malformed() {
    let fake = Fake::start(4).await;
    let key = (0..100).map(|n| format!("w{n}")).find(|key| tillroll_client::partition_for_key(key.as_bytes(), 4) == 1);
    let record = Record::new("{}").key(key.expect("there is one")).type_("Said.v1");
    let batch = tillroll_client::EncodedBatch::of(&[record], tillroll_client::Compression::None);
    fake.client().await.append(Append::new().encoded("words", 2, batch)).await.expect("accepted");
    let error = run(&fake, Counter::default(), "counter-0").await.end().await;
    assert!(error.to_string().contains("belongs to partition 1"), "{error}");
}

#[tokio::test]
async fn records_that_mean_nothing_only_move_the_cursor() {
    let fake = Fake::start(2).await;
    let records: Vec<Record> = (0..50).map(|n| Record::new("x").key(format!("k{n}")).type_("Other.v1")).collect();
    for partition in 0..2 {
        let batch = tillroll_client::EncodedBatch::of(&records, tillroll_client::Compression::Lz4);
        fake.client().await.append(Append::new().encoded("words", partition, batch)).await.expect("accepted");
    }
    let running = run(&fake, Counter::default(), "counter-0").await;
    until_done(&fake).await;
    let statistics = running.stop().await.statistics;
    assert_eq!((statistics.inputs, statistics.steps, statistics.outputs), (100, 0, 0));
}

#[tokio::test]
async fn a_timer_fires_once_for_each_word_also_when_the_processor_is_killed() {
    let fake = Fake::start(2).await;
    say(&fake, 0..46).await;
    // Due from the beginning: as soon as a word was counted, its timer fires.
    let service = Counter { timer_us: Some(1), ..Counter::default() };
    let killed = run(&fake, service.clone(), "counter-0").await;
    killed.until(|statistics| statistics.timers_fired > 5).await;
    killed.kill().await;
    let running = run(&fake, service, "counter-0").await;
    let all = fake.until(|state| {
        let counts = |partition| state.end(&("counts".to_owned(), partition));
        counts(0) + counts(1) == 46 + 23
    });
    timeout(PATIENCE, all).await.expect("in time");
    until_done(&fake).await;
    running.stop().await;
    let steps = super::read(&fake, "counts").await;
    let timers = steps.iter().filter(|output| output.record.headers[0].1.starts_with(b"counter/timer/last:word-"));
    assert_eq!(timers.clone().count(), 23);
    assert!(timers.clone().all(|output| output.record.causation_id.starts_with("first-word-")));
}
