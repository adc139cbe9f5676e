//! Where a reader starts, where it stops, and what it leaves out.

use tillroll_client::{Client, ErrorKind, Event, Position, ReaderBuilder, Received, Record};
use tillroll_proto::reason;

use crate::broker::{Broker, number, read_all, send_each};

/// Ten records in each of two partitions, one append each, keys a and b in turn. Partition 1 has those from 10 on.
async fn filled() -> (Broker, Client) {
    let broker = Broker::start();
    let client = broker.topic("orders", 2).await;
    for partition in 0..2 {
        let producer = client.producer("orders").partition(partition).build().await.expect("it is there");
        let first = u64::from(partition) * 10;
        let key = |number: u64| if number.is_multiple_of(2) { "a" } else { "b" };
        let records = (first..first + 10).map(|number| Record::new(number.to_string()).key(key(number)));
        assert_eq!(send_each(&producer, records).await, (0..10).collect::<Vec<_>>());
        producer.close().await.expect("accepted");
    }
    (broker, client)
}

/// The numbers that it gives out, sorted: order holds within a partition only, and is held here.
async fn numbers(reader: ReaderBuilder) -> Vec<u64> {
    let mut reader = reader.open().await.expect("it can be read");
    let mut all: Vec<Received> = Vec::new();
    while let Some(received) = reader.next().await {
        let received = received.expect("whole");
        let before = all.iter().rfind(|before| before.partition == received.partition);
        assert!(before.is_none_or(|before| before.offset < received.offset), "{before:?} came before {received:?}");
        all.push(received);
    }
    let mut numbers: Vec<u64> = all.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn both(range: std::ops::Range<u64>) -> Vec<u64> {
    range.clone().chain(range.start + 10..range.end + 10).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_start_is_exact_in_every_partition() {
    let (_broker, client) = filled().await;
    let from = |position| client.reader("orders").from(position);
    assert_eq!(numbers(client.reader("orders")).await, both(0..10), "from the earliest unless told");
    assert_eq!(numbers(from(Position::Earliest)).await, both(0..10));
    assert_eq!(numbers(from(Position::Latest)).await, [0; 0]);
    assert_eq!(numbers(from(Position::Offset(7))).await, both(7..10));
    assert_eq!(numbers(from(Position::Offset(10))).await, [0; 0], "the end is a place");
    assert_eq!(numbers(from(Position::Last(3))).await, both(7..10));
    assert_eq!(numbers(from(Position::Last(30))).await, both(0..10), "more than there are");
    assert_eq!(
        numbers(from(Position::Offset(7)).resume(1, 2)).await,
        [&[7, 8, 9][..], &[12, 13, 14, 15, 16, 17, 18, 19]].concat()
    );
    let found = client.admin().find_offsets("orders", Position::Last(3)).await.expect("found");
    assert_eq!(found, [(0, 7), (1, 7)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_by_append_time_is_the_first_record_of_that_time_or_later() {
    let (_broker, client) = filled().await;
    let all = read_all(&client, "orders").await;
    let times = all.iter().map(|received| received.append_time_us);
    for time in times.flat_map(|time| [time - 1, time, time + 1]) {
        let expected: Vec<u64> = all.iter().filter(|one| one.append_time_us >= time).map(number).collect();
        assert_eq!(numbers(client.reader("orders").from(Position::AppendTime(time))).await, expected, "at {time}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_outside_of_the_log_is_refused_with_where_it_ends() {
    let (_broker, client) = filled().await;
    let refused = client.reader("orders").from(Position::Offset(11)).open().await.expect_err("there is no 11");
    assert_eq!((refused.kind(), refused.reason()), (ErrorKind::OutOfRange, Some(reason::OFFSET_BEYOND_END)));
    assert_eq!(refused.number("end"), Some(10), "{refused:?}");
    assert!(!refused.is_retryable());
    for (partitions, resume, expected) in [
        (&[2][..], None, reason::PARTITION_NOT_FOUND),
        (&[1, 1], None, reason::FIELD_INVALID),
        (&[1], Some(0), reason::FIELD_INVALID),
    ] {
        let mut reader = client.reader("orders").partitions(partitions.iter().copied());
        if let Some(partition) = resume {
            reader = reader.resume(partition, 0);
        }
        let refused = reader.open().await.expect_err("no such choice");
        assert_eq!(refused.reason(), Some(expected), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_a_key_and_a_choice_of_partitions_leave_out_the_rest() {
    let (_broker, client) = filled().await;
    let reader = || client.reader("orders");
    let even: Vec<u64> = (0..20).step_by(2).collect();
    assert_eq!(numbers(reader().key("a")).await, even);
    assert_eq!(numbers(reader().key("nobody")).await, [0; 0]);
    assert_eq!(numbers(reader().partitions([1])).await, (10..20).collect::<Vec<_>>());
    assert_eq!(numbers(reader().partitions([1]).limit(3)).await, [10, 11, 12]);
    assert_eq!(numbers(reader().partitions([1]).key("b").limit(3)).await, [11, 13, 15]);
    assert_eq!(numbers(reader().limit(0)).await, [0; 0]);
    assert_eq!(numbers(reader().limit(15)).await.len(), 15, "over all partitions together");
    let last = reader().partitions([0]).from(Position::Last(5)).limit(2);
    assert_eq!(numbers(last).await, [5, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_from_the_latest_gets_what_comes_after_it_and_nothing_else() {
    let (_broker, client) = filled().await;
    let mut latest = client.reader("orders").from(Position::Latest).follow(true).open().await.expect("it follows");
    let mut earliest = client.reader("orders").follow(true).limit(21).open().await.expect("it follows");
    let event = latest.next_event().await.expect("open").expect("whole");
    assert!(matches!(event, Event::CaughtUp), "nothing is left of what there was: {event:?}");
    let mut before = 0;
    while !earliest.caught_up() {
        match earliest.next_event().await.expect("open").expect("whole") {
            Event::Batch(batch) => before += batch.len(),
            _ => assert!(earliest.caught_up()),
        }
    }
    assert_eq!(before, 20, "caught up is told behind the last one");
    let producer = client.producer("orders").build().await.expect("it is there");
    assert_eq!(send_each(&producer, [Record::new("20")]).await, [10]);
    for follower in [&mut latest, &mut earliest] {
        assert_eq!(number(&follower.next().await.expect("open").expect("whole")), 20);
    }
    assert!(earliest.next().await.is_none(), "its limit is reached");
}
