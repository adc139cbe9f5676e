//! Below the producer: prepared appends on a stream, and what a retry of one is answered.

use std::time::Duration;

use tillroll_client::{Append, Compression, EncodedBatch, ErrorKind, Record};
use tillroll_proto::reason;

use crate::broker::{Broker, End, number, read_all};

/// An append of one record.
fn one(number: u32) -> Append {
    let batch = EncodedBatch::of(&[Record::new(number.to_string())], Compression::Lz4);
    Append::new().encoded("orders", 0, batch)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_come_in_order_and_a_refusal_does_not_end_the_session() {
    let broker = Broker::start();
    let client = broker.topic("orders", 1).await;
    let (mut sender, mut outcomes) = client.append_session().await.expect("open").split();
    for number in 0..100 {
        let append = if number % 10 == 3 { one(number).expect_next_offset("orders", 0, 7_777) } else { one(number) };
        assert_eq!(sender.send(append).await.expect("open"), u64::from(number) + 1);
    }
    drop(sender);
    let mut offset = 0;
    for number in 0..100 {
        let outcome = outcomes.next().await.expect("unbroken").expect("one for each");
        assert_eq!(outcome.append_id, number + 1);
        match outcome.result {
            Ok(appended) => {
                assert_eq!(appended.batches[0].base_offset, offset, "a refusal consumes no offset");
                offset += 1;
            }
            Err(refused) => {
                assert_eq!((number % 10, refused.kind()), (3, ErrorKind::Conflict), "{refused:?}");
                assert_eq!(refused.reason(), Some(reason::EXPECTED_OFFSET_MISMATCH));
            }
        }
    }
    assert!(outcomes.next().await.expect("it ends well").is_none());
    assert_eq!(offset, 90);
    assert_eq!(read_all(&client, "orders").await.len(), 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stamped_append_is_written_once_however_often_it_is_sent() {
    let mut broker = Broker::start();
    let client = broker.topic("orders", 1).await;
    let identity = client.init_producer(Some("till-1"), Duration::ZERO).await.expect("registered");
    let mut firsts = Vec::new();
    for sequence in 1..=5 {
        let append = one(sequence).stamp(identity.stamp(u64::from(sequence), 0));
        firsts.push(client.append(append).await.expect("accepted"));
    }
    for end in [None, Some(End::Kill), Some(End::Terminate)] {
        if let Some(end) = end {
            broker.restart(end);
        }
        let (mut sender, mut outcomes) = broker.client().await.append_session().await.expect("open").split();
        for (sequence, first) in (1..).zip(&firsts) {
            let append = one(sequence).stamp(identity.stamp(u64::from(sequence), 0));
            sender.send(append).await.expect("open");
            let again = outcomes.next().await.expect("unbroken").expect("answered").result.expect("known");
            assert!(again.duplicate, "sequence {sequence} after {end:?}");
            assert_eq!((&again.batches, again.append_time_us), (&first.batches, first.append_time_us));
        }
        let beyond = one(9).stamp(identity.stamp(9, 0));
        sender.send(beyond).await.expect("open");
        let gap = outcomes.next().await.expect("unbroken").expect("answered").result.expect_err("6 is next");
        assert_eq!((gap.reason(), gap.number("next")), (Some(reason::SEQUENCE_GAP), Some(6)), "after {end:?}");
    }
    let client = broker.client().await;
    let newer = client.init_producer(Some("till-1"), Duration::ZERO).await.expect("taken over");
    assert_eq!((newer.next_sequence, newer.accepted_records), (6, 5));
    let fenced = client.append(one(6).stamp(identity.stamp(6, 0))).await.expect_err("an older epoch");
    assert_eq!((fenced.kind(), fenced.reason()), (ErrorKind::Fenced, Some(reason::PRODUCER_FENCED)));
    assert!(fenced.has_no_side_effects());
    let numbers: Vec<u64> = read_all(&client, "orders").await.iter().map(number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_a_kill_breaks_says_so_on_both_halves() {
    let mut broker = Broker::start();
    let client = broker.topic("orders", 1).await;
    let (mut sender, mut outcomes) = client.append_session().await.expect("open").split();
    sender.send(one(0)).await.expect("open");
    outcomes.next().await.expect("unbroken").expect("answered").result.expect("accepted");
    broker.restart(End::Kill);
    let lost = outcomes.next().await.expect_err("the stream is gone");
    assert!(lost.reason().is_none() && !lost.has_no_side_effects(), "{lost:?}");
    let closed = sender.send(one(1)).await.expect_err("the stream is gone");
    assert_eq!(closed.kind(), ErrorKind::Closed);
    client.append(one(2)).await.expect("the connection was made anew");
    let numbers: Vec<u64> = read_all(&client, "orders").await.iter().map(number).collect();
    assert_eq!(numbers, [0, 2]);
}
