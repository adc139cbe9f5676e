//! Processors that do not fit to what is there, and steps that say what cannot be written.

use tillroll_client::processor::{Cause, Processor, ProcessorError, Rule};
use tillroll_proto::v1;

use super::{
    builder, say, start,
    words::{Counter, ELSEWHERE, Trouble},
};
use crate::fake::Fake;

/// What is wrong with the settings.
fn wrong(error: ProcessorError) -> String {
    let ProcessorError::Misconfigured { wrong } = error else { panic!("{error}") };
    wrong
}

#[tokio::test]
async fn a_processor_without_inputs_or_without_a_rule_is_not_built() {
    let fake = Fake::start(1).await;
    let client = fake.client().await;
    let no_inputs = Processor::builder(&client, Counter::default()).rule(Rule::Single).build();
    assert!(wrong(no_inputs.expect_err("refused")).contains("needs a topic"));
    let no_rule = Processor::builder(&client, Counter::default()).inputs(["words"]).build();
    assert!(wrong(no_rule.expect_err("refused")).contains("rule"));
}

#[tokio::test]
async fn inputs_that_go_together_have_equally_many_partitions() {
    let fake = Fake::start(2).await;
    fake.state.lock().uneven.insert("more".to_owned(), 3);
    let both = |builder: super::ProcessorBuilder<Counter>| builder.inputs(["words", "more"]);
    let error = start(both(builder(&fake, Counter::default(), "counter-0").await)).end().await;
    assert!(wrong(error).ends_with("words=2 more=3"));
    assert!(fake.state.lock().groups.is_empty(), "nothing was made");
}

#[tokio::test]
async fn a_group_that_is_another_one_is_left_alone() {
    for (topics, rule) in [
        (["words"].as_slice(), v1::AssignmentRule::Single),
        (&["words", "others"], v1::AssignmentRule::CoPartitioned),
        (&["others"], v1::AssignmentRule::CoPartitioned),
    ] {
        let fake = Fake::start(2).await;
        fake.group("counter", topics, rule);
        let error = start(builder(&fake, Counter::default(), "counter-0").await).end().await;
        let named = format!("group counter is there and is another: it reads {}", topics.join(" "));
        assert!(wrong(error).starts_with(&named), "{topics:?} {rule:?}");
        assert!(fake.state.lock().groups["counter"].members.is_empty(), "nobody joined");
    }
    let fake = Fake::start(2).await;
    fake.manual_group("counter", &[]);
    let error = start(builder(&fake, Counter::default(), "counter-0").await).end().await;
    assert!(wrong(error).contains("is another"));
}

#[tokio::test]
async fn an_output_on_a_topic_that_the_service_does_not_name_stops_it() {
    let fake = Fake::start(1).await;
    say(&fake, 0..5).await;
    let service = Counter { is_silent: true, ..Counter::default() };
    let error = start(builder(&fake, service, "counter-0").await).end().await;
    assert_eq!(wrong(error), "counter writes to counts, which it does not name");
    assert_eq!(fake.cursor("counter", "words", 0).next, 0);
}

#[tokio::test]
async fn a_step_that_says_too_much_is_named_and_nothing_of_it_is_written() {
    for (padding, echoes, expected) in [(1 << 20, 0, "record"), (1_000_000, 4, "bytes")] {
        let fake = Fake::start(1).await;
        say(&fake, 0..5).await;
        let service = Counter { padding, echoes, ..Counter::default() };
        let error = start(builder(&fake, service, "counter-0").await).end().await;
        let ProcessorError::StepTooLarge { key, cause, what, actual, limit } = &error else { panic!("{error}") };
        assert_eq!((key.as_str(), *what), ("word-0", expected), "{error}");
        assert_eq!(*cause, Cause::Input { topic: "words".into(), partition: 0, offset: 0 });
        assert!(actual > limit, "{error}");
        assert_eq!(fake.cursor("counter", "words", 0).next, 0);
        assert!(super::read(&fake, "counts").await.is_empty());
    }
}

/// Whoever makes the state of that partition would find it there, and this service would not.
#[tokio::test]
async fn an_output_about_a_key_of_another_partition_is_a_failure() {
    let fake = Fake::start(2).await;
    let home = tillroll_client::partition_for_key(ELSEWHERE.as_bytes(), 2);
    let key = (0..23).map(super::word).find(|key| tillroll_client::partition_for_key(key.as_bytes(), 2) != home);
    let key = key.expect("there is one");
    say(&fake, 0..23).await;
    let service = Counter::troubled(&key, Trouble::SaysElsewhere(100));
    let error = start(builder(&fake, service, "counter-0").await.tries(2)).end().await;
    let ProcessorError::Failed { key: named, tries: 2, wrong, .. } = &error else { panic!("{error}") };
    assert_eq!((named, wrong.contains("belongs to another partition")), (&key, true), "{error}");
}
