//! Goal: what the consumer promises holds over a real socket when streams break
//! and partitions come and go: each record of a partition once in an epoch, in
//! order, every commit answered, nothing of a partition after it went back.

use std::{collections::BTreeMap, time::Duration};

use tillroll_client::{
    Append, Compression, Consumer, ConsumerEvent, Delivery, EncodedBatch, Error, ErrorKind, LostReason, Record,
};
use tillroll_proto::{reason, v1::AssignmentRule};
use tokio::time::timeout;

use crate::fake::Fake;

/// No test needs as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A group of one topic.
async fn group(partitions: u32) -> Fake {
    let fake = Fake::start(partitions).await;
    fake.group("mailer", &["orders"], AssignmentRule::Spread);
    fake
}

async fn member(fake: &Fake, name: &str) -> Consumer {
    fake.client().await.consumer("mailer").member(name).open().await.expect("it can join")
}

/// Appends numbered records, each as a batch of its own.
async fn append(fake: &Fake, partition: u32, numbers: std::ops::Range<u32>) {
    let client = fake.client().await;
    for number in numbers {
        let batch = EncodedBatch::of(&[Record::new(number.to_string())], Compression::Lz4);
        client.append(Append::new().encoded("orders", partition, batch)).await.expect("accepted");
    }
}

async fn next(consumer: &mut Consumer) -> Delivery {
    timeout(PATIENCE, consumer.next()).await.expect("in time").expect("it goes on").expect("a record")
}

/// The next event that is not a batch, or why it ended.
async fn event(consumer: &mut Consumer) -> Result<ConsumerEvent, Error> {
    timeout(PATIENCE, consumer.next_event()).await.expect("in time").expect("it goes on")
}

/// The offsets of the next so many records, by partition.
async fn offsets(consumer: &mut Consumer, count: usize) -> BTreeMap<u32, Vec<u64>> {
    let mut offsets: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for _ in 0..count {
        let delivery = next(consumer).await;
        offsets.entry(delivery.received.partition).or_default().push(delivery.received.offset);
    }
    offsets
}

#[tokio::test]
async fn records_come_in_order_and_a_commit_moves_the_cursor() {
    let fake = group(2).await;
    append(&fake, 0, 0..5).await;
    append(&fake, 1, 0..3).await;
    let mut consumer = member(&fake, "mailer-0").await;
    let mut last = None;
    for _ in 0..8 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.assignment_epoch, 1);
        if delivery.received.partition == 0 {
            last = Some(delivery);
        }
    }
    consumer.commit(&last.expect("five of them")).await.expect("it is held");
    assert_eq!((fake.cursor("mailer", "orders", 0).next, fake.cursor("mailer", "orders", 1).next), (5, 0));
    append(&fake, 0, 5..6).await;
    assert_eq!(next(&mut consumer).await.received.offset, 5);
    let held: Vec<_> = consumer.held().iter().map(|held| (held.partition, held.next_offset)).collect();
    assert_eq!(held, [(0, 6), (1, 3)]);
}

#[tokio::test]
async fn a_broken_stream_is_joined_again_and_no_record_comes_twice() {
    let fake = group(1).await;
    append(&fake, 0, 0..10).await;
    let mut consumer = member(&fake, "mailer-0").await;
    let mut seen = Vec::new();
    for round in 0..5 {
        for _ in 0..4 {
            let delivery = next(&mut consumer).await;
            seen.push(delivery.received.offset);
            if delivery.received.offset % 3 == 0 {
                drop(delivery.commit());
            }
        }
        fake.break_streams("mailer");
        append(&fake, 0, 10 + round * 3..13 + round * 3).await;
    }
    assert_eq!(seen, (0..20).collect::<Vec<u64>>());
    assert_eq!(fake.cursor("mailer", "orders", 0).epoch, 1, "nobody else had it");
    consumer.close().await.expect("every commit is answered");
    let cursor = fake.cursor("mailer", "orders", 0);
    assert_eq!((cursor.next, cursor.holder), (19, None));
}

#[tokio::test]
async fn interruptions_are_told_once_for_each() {
    let fake = group(1).await;
    let mut consumer = member(&fake, "mailer-0").await;
    assert!(matches!(event(&mut consumer).await, Ok(ConsumerEvent::Assigned(_))));
    fake.break_streams("mailer");
    let told = event(&mut consumer).await.expect("no end");
    assert!(matches!(told, ConsumerEvent::Interrupted(_)), "{told:?}");
    let told = event(&mut consumer).await.expect("no end");
    assert!(matches!(told, ConsumerEvent::Resumed), "{told:?}");
}

#[tokio::test]
async fn a_partition_is_given_back_when_what_was_handed_out_is_committed() {
    let fake = group(2).await;
    append(&fake, 0, 0..3).await;
    append(&fake, 1, 0..3).await;
    let mut first = member(&fake, "a").await;
    let mut in_hand = None;
    for _ in 0..6 {
        let delivery = next(&mut first).await;
        if delivery.received.partition == 1 {
            in_hand = Some(delivery);
        }
    }
    let mut second = member(&fake, "b").await;
    let Ok(ConsumerEvent::Revoking { partitions, .. }) = event(&mut first).await else { panic!("asked back") };
    assert_eq!(partitions.iter().map(|one| one.partition).collect::<Vec<_>>(), [1]);
    append(&fake, 1, 3..6).await;
    assert_eq!(fake.cursor("mailer", "orders", 1).holder.as_deref(), Some("a"), "it has three records in hand");
    in_hand.expect("three").commit().await.expect("it is still held");
    assert_eq!(offsets(&mut second, 3).await, BTreeMap::from([(1, vec![3, 4, 5])]));
    assert_eq!(fake.cursor("mailer", "orders", 1).epoch, 2);
    assert_eq!(first.held().len(), 1);
}

#[tokio::test]
async fn whoever_is_taken_over_ends_and_does_not_come_back() {
    let fake = group(1).await;
    append(&fake, 0, 0..2).await;
    let mut older = member(&fake, "mailer-0").await;
    assert_eq!(next(&mut older).await.received.offset, 0);
    let in_hand = next(&mut older).await;
    let mut newer = member(&fake, "mailer-0").await;
    assert_eq!(offsets(&mut newer, 2).await, BTreeMap::from([(0, vec![0, 1])]), "it was not committed");
    let error = loop {
        match event(&mut older).await {
            Ok(ConsumerEvent::Lost { reason, .. }) => assert_eq!(reason, LostReason::TakenOver),
            Ok(event) => panic!("{event:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Fenced, Some(reason::TAKEN_OVER)));
    assert!(older.next().await.is_none() && older.is_closed());
    in_hand.commit().await.expect_err("it has nothing to say any more");
    assert_eq!(fake.cursor("mailer", "orders", 0), fake_cursor(0, 2, "mailer-0"));
}

fn fake_cursor(next: u64, epoch: u64, holder: &str) -> crate::fake::Cursor {
    crate::fake::Cursor { next, epoch, holder: Some(holder.to_owned()), is_draining: false }
}

#[tokio::test]
async fn a_session_that_is_over_is_told_and_its_commits_are_refused() {
    let fake = group(1).await;
    append(&fake, 0, 0..2).await;
    let mut consumer = member(&fake, "mailer-0").await;
    let in_hand = next(&mut consumer).await;
    fake.break_streams("mailer");
    fake.expire("mailer", "mailer-0");
    let mut told = Vec::new();
    loop {
        match event(&mut consumer).await.expect("no end") {
            ConsumerEvent::Lost { reason, .. } => told.push(reason),
            ConsumerEvent::Assigned(given) => {
                assert_eq!((given[0].assignment_epoch, given[0].next_offset), (2, 0));
                break;
            }
            _ => {}
        }
    }
    assert_eq!(told, [LostReason::SessionExpired]);
    let refused = in_hand.commit().await.expect_err("another epoch");
    assert_eq!(refused.reason(), Some(reason::ASSIGNMENT_FENCED));
    assert_eq!(next(&mut consumer).await.received.offset, 0, "it comes again");
}

#[tokio::test]
async fn a_cursor_that_is_set_begins_again_under_another_epoch() {
    let fake = group(1).await;
    append(&fake, 0, 0..4).await;
    let mut consumer = member(&fake, "mailer-0").await;
    assert_eq!(offsets(&mut consumer, 4).await, BTreeMap::from([(0, vec![0, 1, 2, 3])]));
    fake.set_cursor("mailer", "orders", 0, 2);
    let Ok(ConsumerEvent::Lost { reason, .. }) = event(&mut consumer).await else { panic!("it is lost first") };
    assert_eq!(reason, LostReason::CursorSet);
    assert_eq!(offsets(&mut consumer, 2).await, BTreeMap::from([(0, vec![2, 3])]));
}

#[tokio::test]
async fn a_refused_commit_is_never_silent() {
    let fake = group(1).await;
    append(&fake, 0, 0..1).await;
    let mut consumer = member(&fake, "mailer-0").await;
    let in_hand = next(&mut consumer).await;
    fake.state.lock().group("mailer").expect("it is there").cursors.values_mut().for_each(|cursor| cursor.epoch = 9);
    drop(in_hand.commit());
    let error = consumer.next().await.expect("told").expect_err("refused");
    assert_eq!((error.kind(), consumer.is_closed()), (ErrorKind::Fenced, false));
}

#[tokio::test]
async fn a_small_credit_lets_everything_through_in_turn() {
    let fake = group(2).await;
    append(&fake, 0, 0..50).await;
    append(&fake, 1, 0..50).await;
    let builder = fake.client().await.consumer("mailer").member("mailer-0").credit_bytes(300);
    let mut consumer = builder.open().await.expect("it can join");
    let all = offsets(&mut consumer, 100).await;
    assert!(all.values().all(|offsets| *offsets == (0..50).collect::<Vec<u64>>()), "{all:?}");
}

#[tokio::test]
async fn a_partition_that_is_held_back_leaves_the_others_alone() {
    let fake = group(2).await;
    let mut consumer = member(&fake, "mailer-0").await;
    let Ok(ConsumerEvent::Assigned(given)) = event(&mut consumer).await else { panic!("both come") };
    consumer.hold(&given[0], true);
    // What is said on the stream is heard in order: when the commit is answered, the hold is known.
    append(&fake, 1, 0..1).await;
    let first = next(&mut consumer).await;
    first.commit().await.expect("held");
    append(&fake, 0, 0..1).await;
    append(&fake, 1, 1..2).await;
    assert_eq!(offsets(&mut consumer, 1).await, BTreeMap::from([(1, vec![1])]));
    consumer.hold(&given[0], false);
    assert_eq!(offsets(&mut consumer, 1).await, BTreeMap::from([(0, vec![0])]));
}

#[tokio::test]
async fn each_record_is_committed_behind_its_handler() {
    let fake = group(1).await;
    append(&fake, 0, 0..5).await;
    let mut consumer = member(&fake, "mailer-0").await;
    let mut handled = 0;
    let ended = consumer.commit_after(|delivery| {
        handled += 1;
        let result = if delivery.received.offset == 3 { Err(Stopped) } else { Ok(()) };
        std::future::ready(result)
    });
    ended.await.expect_err("it stops at the fourth");
    assert_eq!(handled, 4);
    consumer.close().await.expect("what was done is committed");
    assert_eq!(fake.cursor("mailer", "orders", 0).next, 3);
}

#[derive(Debug)]
struct Stopped;

impl From<tillroll_client::Error> for Stopped {
    fn from(error: tillroll_client::Error) -> Self {
        panic!("{error}");
    }
}

#[tokio::test]
async fn a_member_with_a_made_up_name_leaves_when_it_is_dropped() {
    let fake = group(1).await;
    let client = fake.client().await;
    let consumer = client.consumer("mailer").open().await.expect("it can join");
    let name = consumer.member_id().to_owned();
    let mut other = member(&fake, "z").await;
    drop(consumer);
    let Ok(ConsumerEvent::Assigned(given)) = event(&mut other).await else { panic!("it is free") };
    assert_eq!(given.len(), 1);
    assert!(!fake.state.lock().group("mailer").expect("it is there").members.contains_key(&name));
}

#[tokio::test]
async fn a_group_that_is_not_there_is_said() {
    let fake = Fake::start(1).await;
    let error = fake.client().await.consumer("mailer").open().await.expect_err("nobody made it");
    assert_eq!((error.kind(), error.reason()), (ErrorKind::NotFound, Some(reason::GROUP_NOT_FOUND)));
}

/// A group may have a hundred thousand cursors, and each of them costs the server a look into its log.
#[tokio::test]
async fn whether_a_group_has_a_topic_left_is_one_call_however_many_cursors_it_has() {
    let fake = group(1).await;
    let mut consumer = member(&fake, "a").await;
    assert!(matches!(event(&mut consumer).await, Ok(ConsumerEvent::Assigned(_))));
    fake.state.lock().has_more_cursors = true;
    fake.lose("mailer", "orders", 0, "TOPIC_DELETED");
    let lost = event(&mut consumer).await.expect("it goes on");
    assert!(matches!(lost, ConsumerEvent::Lost { reason: LostReason::TopicDeleted, .. }), "{lost:?}");
    // What comes next is taken in when it has looked.
    fake.share("mailer");
    assert!(matches!(event(&mut consumer).await, Ok(ConsumerEvent::Assigned(_))));
    assert_eq!(fake.state.lock().looks, (1, 0));
}
