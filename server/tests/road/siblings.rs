//! Streams of one client: one that nobody polls holds up no other, and a consumer that can get nothing any more ends.

use std::collections::BTreeSet;

use tillroll_client::{AssignmentRule, Client, ErrorKind, GroupMode, GroupOptions, Position, Record};
use tillroll_proto::reason;

use crate::broker::{Broker, within};

/// Records of 64 KiB, so many that no window of a stream holds them.
const RECORDS: u64 = 160;

async fn filled(broker: &Broker, topic: &str) -> Client {
    let client = broker.topic(topic, 1).await;
    let producer = client.producer(topic).build().await.expect("it is there");
    for number in 0..RECORDS {
        let mut value = vec![0; 64 << 10];
        // What can be packed away fills no window.
        let mut state = number + 1;
        for byte in &mut value {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = state.to_le_bytes()[7];
        }
        drop(producer.send(Record::new(value)).await.expect("it has room"));
    }
    producer.close().await.expect("acked");
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_not_polled_holds_up_no_other() {
    let broker = Broker::start();
    let client = filled(&broker, "orders").await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        let mut reader = client.reader("orders").open().await.expect("it can be read");
        within("a first record", reader.next()).await.expect("it has one").expect("whole");
        idle.push(reader);
    }
    let mut reader = client.reader("orders").open().await.expect("it can be read");
    let mut count = 0;
    while let Some(received) = within("the next record", reader.next()).await {
        received.expect("whole");
        count += 1;
    }
    assert_eq!(count, RECORDS);
    // And whoever was idle has lost nothing.
    for mut reader in idle {
        let mut count = 1;
        while let Some(received) = within("the next record", reader.next()).await {
            received.expect("whole");
            count += 1;
        }
        assert_eq!(count, RECORDS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_not_polled_holds_up_no_other() {
    let broker = Broker::start();
    let client = filled(&broker, "orders").await;
    let mode = GroupMode::Members(AssignmentRule::Spread);
    let mut idle = Vec::new();
    for group in ["one", "two", "three"] {
        let options = GroupOptions::new(["orders"], mode, Position::Earliest);
        client.groups().create(group, options).await.expect("a new group");
        let mut consumer = client.consumer(group).credit_bytes(64 << 20).open().await.expect("a member");
        if group != "three" {
            within("a first record", consumer.next()).await.expect("it has one").expect("whole");
            idle.push(consumer);
            continue;
        }
        let mut offsets = BTreeSet::new();
        while offsets.len() < usize::try_from(RECORDS).expect("few") {
            let delivery = within("the next record", consumer.next()).await.expect("it goes on").expect("whole");
            offsets.insert(delivery.received.offset);
            drop(delivery.commit());
        }
        within("the end", consumer.close()).await.expect("everything is committed");
    }
    let cursor = client.groups().get("three").await.expect("it is there").cursors[0].next_offset;
    assert_eq!(cursor, RECORDS);
}

/// A group of which every topic is gone has nothing to give: whoever waits for it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_topics_are_all_deleted_ends_with_why() {
    let broker = Broker::start();
    let client = broker.topic("orders", 2).await;
    broker.topic("visits", 1).await;
    let mode = GroupMode::Members(AssignmentRule::Spread);
    let options = GroupOptions::new(["orders", "visits"], mode, Position::Earliest);
    client.groups().create("mailer", options).await.expect("a new group");
    let mut consumer = client.consumer("mailer").open().await.expect("a member");
    let delete = async |name: &str| {
        let topic = client.admin().get_topic(name).await.expect("it is there");
        client.admin().delete_topic(name, &topic.topic_id).await.expect("deleted");
    };
    delete("orders").await;
    // The other one is read on.
    let producer = client.producer("visits").build().await.expect("it is there");
    producer.send(Record::new("x")).await.expect("room").await.expect("acked");
    let delivery = within("a record", consumer.next()).await.expect("it goes on").expect("whole");
    assert_eq!(&*delivery.received.topic, "visits");
    delete("visits").await;
    let error = within("the end", consumer.next()).await.expect("it says why").expect_err("nothing is left");
    assert_eq!((error.kind(), error.reason()), (ErrorKind::NotFound, Some(reason::TOPIC_NOT_FOUND)));
    assert!(error.message().contains("every topic that the group reads is deleted topics=orders visits"), "{error}");
    assert!(within("the end", consumer.next()).await.is_none());
}
