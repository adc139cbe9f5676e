//! Topics as a program makes and loses them, and errors that it can act on without reading their text.

use tillroll_client::{Append, Compression, ErrorKind, Record, TopicOptions};
use tillroll_proto::reason;
use tokio::time::timeout;

use crate::broker::{Broker, End, PATIENCE, read_all, send_each};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_made_once_described_listed_and_deleted() {
    let mut broker = Broker::start();
    let client = broker.client().await;
    let admin = client.admin();
    let options = TopicOptions::default().partitions(3).compression(Compression::Zstd).max_record_bytes(5_000);
    let (made, created) = admin.create_topic("orders", options.clone()).await.expect("a new topic");
    assert!(created);
    assert_eq!((made.partition_count, made.compression, made.max_record_bytes), (3, Compression::Zstd, 5_000));
    let (again, created) = admin.create_topic("orders", options.clone()).await.expect("the same once more");
    assert!(!created);
    assert_eq!(again, made);

    let other = admin.create_topic("orders", options.clone().partitions(4)).await.expect_err("it has 3");
    assert_eq!((other.kind(), other.reason()), (ErrorKind::Conflict, Some(reason::TOPIC_EXISTS)));
    let differences = &other.metadata()["differences"];
    assert!(differences.contains("partitions") && !differences.contains("max_record_bytes"), "{differences}");
    let wrong = admin.create_topic("Orders!", TopicOptions::default()).await.expect_err("not a name");
    assert_eq!((wrong.kind(), wrong.reason()), (ErrorKind::InvalidInput, Some(reason::NAME_INVALID)));

    for name in ["orders-late", "visits"] {
        admin.create_topic(name, TopicOptions::default()).await.expect("a new topic");
    }
    broker.restart(End::Kill);
    let client = broker.client().await;
    let admin = client.admin();
    let names = async |prefix| {
        let topics = admin.list_topics(prefix).await.expect("listed");
        topics.into_iter().map(|topic| topic.name).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["orders", "orders-late", "visits"]);
    assert_eq!(names("orders").await, ["orders", "orders-late"]);
    assert_eq!(names("x").await, [""; 0]);

    let producer = client.producer("orders").partition(2).build().await.expect("it is there");
    send_each(&producer, [Record::new("1"), Record::new("2")]).await;
    let described = admin.get_topic("orders").await.expect("it is there");
    let ends: Vec<_> =
        described.partitions.iter().map(|one| (one.partition, one.head_offset, one.end_offset)).collect();
    assert_eq!((described.topic_id.as_str(), ends), (made.topic_id.as_str(), vec![(0, 0, 0), (1, 0, 0), (2, 0, 2)]));

    admin.delete_topic("orders", &made.topic_id).await.expect("deleted");
    assert_eq!(names("").await, ["orders-late", "visits"]);
    let (anew, created) = admin.create_topic("orders", options).await.expect("the name is free");
    assert!(created && anew.topic_id != made.topic_id, "ids are never used again");
    let late = admin.delete_topic("orders", &made.topic_id).await.expect_err("another topic by now");
    assert_eq!((late.kind(), late.reason()), (ErrorKind::Conflict, Some(reason::TOPIC_RECREATED)));
    assert!(read_all(&client, "orders").await.is_empty(), "nothing of the old one is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_not_there_is_not_found_by_anybody() {
    let broker = Broker::start();
    let client = broker.topic("orders", 1).await;
    let missing = [
        client.admin().get_topic("order").await.expect_err("not there"),
        client.admin().delete_topic("order", "0123456789abcdef").await.expect_err("not there"),
        client.producer("order").build().await.expect_err("not there"),
        client.reader("order").open().await.expect_err("not there"),
        client.append(Append::new().records("order", [Record::new("1")])).await.expect_err("not there"),
    ];
    for error in missing {
        assert_eq!((error.kind(), error.reason()), (ErrorKind::NotFound, Some(reason::TOPIC_NOT_FOUND)), "{error:?}");
        assert!(!error.is_retryable() && error.has_no_side_effects());
        assert_eq!(error.metadata()["similar"], "orders", "{error:?}");
    }
    let beyond = client.producer("orders").partition(1).build().await.expect_err("it has one");
    assert_eq!((beyond.kind(), beyond.reason()), (ErrorKind::NotFound, Some(reason::PARTITION_NOT_FOUND)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_too_large_fails_alone_and_says_by_how_much() {
    let broker = Broker::start();
    let client = broker.client().await;
    let options = TopicOptions::default().partitions(1).max_record_bytes(1_000);
    client.admin().create_topic("orders", options).await.expect("a new topic");
    let producer = client.producer("orders").build().await.expect("it is there");
    let before = producer.send(Record::new("before")).await.expect("it has room");
    let large = || Record::new(vec![0; 998]);
    let from_sdk = producer.send(large()).await.expect_err("too large");
    let from_server = client.append(Append::new().records_to("orders", 0, [large()])).await.expect_err("too large");
    for error in [from_sdk, from_server] {
        let what = (error.kind(), error.reason());
        assert_eq!(what, (ErrorKind::InvalidInput, Some(reason::RECORD_TOO_LARGE)), "{error:?}");
        assert_eq!((error.number("limit"), error.number("actual")), (Some(1_000), Some(1_001)), "{error:?}");
        assert!(!error.is_retryable() && error.has_no_side_effects());
    }
    let fits = producer.send(Record::new(vec![0; 997])).await.expect("as large as may be");
    assert_eq!((before.await.expect("accepted").offset, fits.await.expect("accepted").offset), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flush_and_close_leave_nothing_behind_and_tickets_rise() {
    let broker = Broker::start();
    let client = broker.topic("orders", 1).await;
    // Nothing but a flush or a close would send the last ones within this test.
    let producer = client.producer("orders").linger(PATIENCE).build().await.expect("it is there");
    let mut tickets = Vec::new();
    for round in 1..=3 {
        for _ in 0..500 {
            tickets.push(producer.send(Record::new("x")).await.expect("it has room"));
        }
        if round < 3 {
            producer.flush().await.expect("accepted");
        } else {
            producer.close().await.expect("accepted");
        }
        assert_eq!(read_all(&client, "orders").await.len(), round * 500);
        assert_eq!(producer.statistics().accepted_records, round as u64 * 500);
    }
    let mut last = 0;
    for (expected, ticket) in (0..).zip(tickets) {
        let placed = ticket.await.expect("accepted");
        assert_eq!((placed.partition, placed.offset), (0, expected));
        assert!(placed.append_time_us >= last, "append times do not fall");
        last = placed.append_time_us;
    }
    let late = producer.send(Record::new("late")).await.expect_err("closed");
    assert_eq!(late.kind(), ErrorKind::Closed);
    producer.flush().await.expect("there is nothing to flush");
    producer.close().await.expect("it is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_and_producers_of_a_deleted_topic_end_with_a_typed_error() {
    let broker = Broker::start();
    let client = broker.topic("orders", 2).await;
    let producer = client.producer("orders").build().await.expect("it is there");
    send_each(&producer, [Record::new("1")]).await;
    let mut follower = client.reader("orders").follow(true).open().await.expect("it follows");
    let mut of_key = client.reader("orders").key("nobody").follow(true).open().await.expect("it follows");
    follower.next().await.expect("open").expect("whole");
    let id = client.admin().get_topic("orders").await.expect("it is there").topic_id;
    client.admin().delete_topic("orders", &id).await.expect("deleted");
    for follower in [&mut follower, &mut of_key] {
        let end = timeout(PATIENCE, follower.next()).await.expect("it is told").expect("not as if all were well");
        let end = end.expect_err("the topic is gone");
        assert_eq!((end.kind(), end.reason()), (ErrorKind::NotFound, Some(reason::TOPIC_NOT_FOUND)), "{end:?}");
        assert!(follower.next().await.is_none(), "behind an error there is nothing");
    }
    let refused = producer.send(Record::new("2")).await.expect("it does not know yet").await.expect_err("gone");
    assert!(matches!(refused.kind(), ErrorKind::NotFound | ErrorKind::Conflict), "{refused:?}");
    assert!(!refused.is_retryable() && refused.has_no_side_effects(), "{refused:?}");
}
