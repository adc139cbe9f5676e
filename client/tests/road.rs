//! Goal: what the SDK promises holds over a real socket when streams break and
//! appends are refused: each record once, in order, and every ticket answered.
//!
//! Method: a broker in memory that keeps the contract, and a script of what
//! goes wrong. Everything is read back and compared.

mod fake;
mod consuming;
mod processing;
mod storefront;

use std::time::Duration;

use fake::{Fake, Fate, ReadFate};
use tillroll_client::{Append, Compression, EncodedBatch, ErrorKind, Event, Position, Producer, Record, Ticket};
use tillroll_proto::{
    reason,
    v1::{self, start_position::At},
};

/// Sends numbered records, each as an append of its own.
async fn send_each(producer: &Producer, numbers: std::ops::Range<u32>) -> Vec<Ticket> {
    let mut tickets = Vec::new();
    for number in numbers {
        tickets.push(producer.send(Record::new(number.to_string())).await.expect("it has room"));
    }
    tickets
}

async fn read_values(fake: &Fake) -> Vec<String> {
    let mut reader = fake.client().await.reader("orders").open().await.expect("it can be read");
    let mut values = Vec::new();
    while let Some(received) = reader.next().await {
        let value = received.expect("whole").record.value;
        values.push(String::from_utf8(value.to_vec()).expect("a number"));
    }
    assert!(reader.caught_up());
    values
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// One record an append: every record is at the size trigger.
async fn one_by_one(fake: &Fake, name: Option<&str>) -> Producer {
    let mut builder = fake.client().await.producer("orders").batch_bytes(1);
    builder = builder.in_flight_bytes(1 << 20);
    if let Some(name) = name {
        builder = builder.name(name);
    }
    builder.build().await.expect("it can be built")
}

/// Room comes when somebody deletes producers, or in days: whoever tries for two minutes only keeps a person waiting.
#[tokio::test]
async fn a_broker_that_takes_no_more_producers_is_not_waited_for() {
    let fake = Fake::start(1).await;
    fake.state.lock().room = Some(0);
    for name in [None, Some("loader")] {
        let builder = fake.client().await.producer("orders");
        let builder = name.iter().fold(builder, |builder, name| builder.name(*name));
        // Time that stands still would be seen to be waited for.
        let built = tokio::time::timeout(Duration::from_secs(15), builder.build()).await;
        let error = built.expect("it does not wait").expect_err("there is no room");
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Exhausted, Some(reason::PRODUCERS_FULL)));
        assert!(error.hint().is_some_and(|hint| hint.contains("delete producers")), "{error}");
    }
    fake.state.lock().room = None;
    fake.client().await.producer("orders").build().await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_written_once_and_in_order_however_often_streams_break() {
    let fake = Fake::start(1).await;
    let pattern = [
        Fate::Keep,
        Fate::LoseAfter,
        Fate::Keep,
        Fate::LoseBefore,
        Fate::LoseAfter,
        Fate::Keep,
        Fate::Keep,
        Fate::Refuse(reason::DISK_FULL),
        Fate::Keep,
        Fate::Refuse(reason::LOG_POISONED),
    ];
    fake.script(pattern.into_iter().cycle().take(60));
    let producer = one_by_one(&fake, None).await;
    let tickets = send_each(&producer, 0..100).await;
    producer.close().await.expect("everything is accepted in the end");
    for (offset, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(ticket.await.expect("accepted").offset, offset as u64);
    }
    assert_eq!(read_values(&fake).await, numbers(0..100));
    let statistics = producer.statistics();
    assert!(statistics.duplicate_appends > 0 && statistics.broken_streams > 0, "{statistics:?}");
    assert_eq!((statistics.accepted_records, statistics.failed_appends), (100, 0));
    assert_eq!((statistics.buffered_bytes, statistics.unanswered_appends), (0, 0));
}

#[tokio::test]
async fn a_refused_append_fails_alone_and_the_rest_moves_up() {
    let fake = Fake::start(1).await;
    fake.script([Fate::Keep, Fate::Refuse(reason::BAD_ENCODING)]);
    let producer = one_by_one(&fake, None).await;
    let tickets = send_each(&producer, 0..6).await;
    let failure = producer.flush().await.expect_err("one was refused");
    assert_eq!(failure.reason(), Some(reason::BAD_ENCODING));
    producer.flush().await.expect("a failure is told once");
    for (number, ticket) in tickets.into_iter().enumerate() {
        let outcome = ticket.await;
        match number {
            1 => assert!(outcome.expect_err("refused").has_no_side_effects()),
            _ => assert!(outcome.is_ok(), "{outcome:?}"),
        }
    }
    assert_eq!(read_values(&fake).await, ["0", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_refusal_after_a_broken_stream_takes_a_new_epoch_first() {
    let fake = Fake::start(1).await;
    fake.script([Fate::LoseBefore, Fate::Refuse(reason::BAD_ENCODING)]);
    let producer = one_by_one(&fake, Some("till-1")).await;
    let tickets = send_each(&producer, 0..3).await;
    producer.flush().await.expect_err("one was refused");
    drop(tickets);
    assert_eq!(producer.statistics().fences, 1);
    assert_eq!(fake.state.lock().producers["till-1"].epoch, 2);
    assert_eq!(read_values(&fake).await, ["1", "2"]);
}

#[tokio::test]
async fn a_producer_that_was_taken_over_stops() {
    let fake = Fake::start(1).await;
    let older = one_by_one(&fake, Some("till-1")).await;
    send_each(&older, 0..3).await;
    older.flush().await.expect("it is the only one");
    let newer = one_by_one(&fake, Some("till-1")).await;
    assert_eq!(newer.accepted_records(), 3);
    let ticket = older.send(Record::new("late")).await.expect("it does not know yet");
    assert_eq!(ticket.await.expect_err("fenced").kind(), ErrorKind::Fenced);
    let refused = older.send(Record::new("later")).await.expect_err("it knows now");
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    send_each(&newer, 3..5).await;
    newer.close().await.expect("it is not fenced");
    assert_eq!(read_values(&fake).await, numbers(0..5));
}

#[tokio::test]
async fn a_nameless_producer_that_was_forgotten_registers_anew() {
    let fake = Fake::start(1).await;
    fake.script([Fate::Keep, Fate::Forget]);
    let producer = one_by_one(&fake, None).await;
    send_each(&producer, 0..1).await;
    producer.flush().await.expect("accepted");
    send_each(&producer, 1..4).await;
    producer.close().await.expect("accepted under another id");
    assert_eq!(fake.state.lock().made_up, 2);
    assert_eq!(read_values(&fake).await, numbers(0..4));
}

#[tokio::test]
async fn records_are_gathered_into_few_appends() {
    let fake = Fake::start(1).await;
    let producer = fake.client().await.producer("orders").build().await.expect("built");
    for number in 0..1_000 {
        let _ticket = producer.send(Record::new(number.to_string())).await.expect("room");
    }
    producer.close().await.expect("accepted");
    let appends = fake.state.lock().accepted.len();
    assert!(appends < 100, "{appends} appends for 1,000 records");
    assert_eq!(read_values(&fake).await, numbers(0..1_000));
}

#[tokio::test]
async fn keys_choose_the_partition_and_keep_their_order_in_one_append() {
    let fake = Fake::start(8).await;
    let producer = fake.client().await.producer("orders").compression(Compression::Zstd).build().await.expect("built");
    let mut tickets = Vec::new();
    for number in 0..400_u32 {
        let record = Record::new(number.to_string()).key((number % 20).to_string());
        tickets.push((number, producer.send(record).await.expect("room")));
    }
    for (number, ticket) in tickets {
        let key = (number % 20).to_string();
        let expected = tillroll_client::partition_for_key(key.as_bytes(), 8);
        assert_eq!(ticket.await.expect("accepted").partition, expected);
    }
    assert!(fake.state.lock().accepted.iter().any(|batches| *batches > 1));
    let mut reader = fake.client().await.reader("orders").open().await.expect("readable");
    let mut last = std::collections::BTreeMap::new();
    while let Some(received) = reader.next().await {
        let record = received.expect("whole").record;
        let number: u32 = String::from_utf8_lossy(&record.value).parse().expect("a number");
        assert!(last.insert(record.key, number).is_none_or(|before| before < number));
    }
    assert_eq!(last.len(), 20);
}

#[tokio::test]
async fn a_batch_is_one_append_and_gets_one_ticket() {
    let fake = Fake::start(4).await;
    let producer = fake.client().await.producer("orders").build().await.expect("built");
    let records = (0..10).map(|number| Record::new(number.to_string()));
    let placed = producer.send_batch(2, records).await.expect("room").await.expect("accepted");
    assert_eq!((placed.partition, placed.base_offset, placed.record_count), (2, 0, 10));
    let wrong = producer.send_batch(4, [Record::new("x")]).await.expect_err("four partitions");
    assert_eq!(wrong.reason(), Some(reason::PARTITION_NOT_FOUND));
}

#[tokio::test]
async fn a_record_above_a_limit_fails_before_it_takes_others_with_it() {
    let fake = Fake::start(1).await;
    let producer = fake.client().await.producer("orders").build().await.expect("built");
    let good = producer.send(Record::new("good")).await.expect("room");
    let large = producer.send(Record::new(vec![0; 1 << 20])).await.expect_err("too large");
    assert_eq!(large.reason(), Some(reason::RECORD_TOO_LARGE));
    good.await.expect("accepted");
    producer.close().await.expect("nothing failed");
    let closed = producer.send(Record::new("late")).await.expect_err("closed");
    assert_eq!(closed.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn sending_waits_for_room_and_goes_on() {
    let fake = Fake::start(1).await;
    let builder = fake.client().await.producer("orders").batch_bytes(2_000);
    let producer = builder.in_flight_bytes(4_000).build().await.expect("built");
    for number in 0..500_u32 {
        let mut value = number.to_string();
        value.push_str(&" ".repeat(300));
        let _ticket = producer.send(Record::new(value)).await.expect("room comes");
        assert!(producer.statistics().buffered_bytes <= 4_000);
    }
    producer.close().await.expect("accepted");
    let values: Vec<String> = read_values(&fake).await.iter().map(|value| value.trim().to_owned()).collect();
    assert_eq!(values, numbers(0..500));
}

#[tokio::test]
async fn a_producer_gives_up_when_its_budget_is_used_up() {
    let fake = Fake::start(1).await;
    fake.script(std::iter::repeat_n(Fate::Refuse(reason::DISK_FULL), 10_000));
    let builder = fake.client().await.producer("orders");
    let producer = builder.retry_for(Duration::from_millis(200)).build().await.expect("built");
    let ticket = producer.send(Record::new("x")).await.expect("room");
    let error = ticket.await.expect_err("the disk stays full");
    assert_eq!(error.reason(), Some(reason::DISK_FULL));
    assert!(!error.is_retryable(), "{error}");
    producer.close().await.expect_err("the failure is told");
}

#[tokio::test]
async fn an_absent_topic_is_said_with_a_hint() {
    let fake = Fake::start(1).await;
    let error = fake.client().await.producer("absent").build().await.expect_err("not there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.hint(), Some("create it with: tillroll topic create absent"));
}

#[tokio::test]
async fn a_session_answers_each_append_in_order_also_after_a_refusal() {
    let fake = Fake::start(1).await;
    fake.script([Fate::Keep, Fate::Refuse(reason::BAD_CRC), Fate::Keep]);
    let client = fake.client().await;
    let (mut sender, mut outcomes) = client.append_session().await.expect("open").split();
    let taker = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(outcome) = outcomes.next().await.expect("the stream holds") {
            seen.push((outcome.append_id, outcome.result.is_ok()));
        }
        seen
    });
    for _ in 0..20 {
        let batch = EncodedBatch::of(&[Record::new("x")], Compression::None);
        sender.send(Append::new().encoded("orders", 0, batch)).await.expect("room comes");
    }
    drop(sender);
    let expected: Vec<(u64, bool)> = (1..=20).map(|id| (id, id != 2)).collect();
    assert_eq!(taker.await.expect("it ends"), expected);
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was_when_its_stream_breaks() {
    let fake = Fake::start(1).await;
    let producer = one_by_one(&fake, None).await;
    send_each(&producer, 0..30).await;
    producer.close().await.expect("accepted");
    let pattern = [ReadFate::Keep, ReadFate::Keep, ReadFate::Break];
    fake.read_script(pattern.into_iter().cycle().take(24));
    assert_eq!(read_values(&fake).await, numbers(0..30));
}

#[tokio::test]
async fn a_reader_from_a_group_goes_on_where_it_was_whatever_became_of_the_group() {
    let fake = Fake::start(2).await;
    let producer = one_by_one(&fake, None).await;
    for partition in 0..2 {
        for number in 0..20 {
            let record = [Record::new(number.to_string())];
            let _ = producer.send_batch(partition, record).await.expect("room").await.expect("accepted");
        }
    }
    producer.close().await.expect("accepted");
    fake.manual_group("mailer", &[(0, 4), (1, 11)]);
    fake.read_script([ReadFate::Keep, ReadFate::Keep, ReadFate::Break]);
    let client = fake.client().await;
    let mut reader = client.reader("orders").from_group("mailer").open().await.expect("it can be read");
    // Somebody else sets the cursors, and then nobody has them.
    fake.state.lock().groups.clear();
    let mut offsets = [Vec::new(), Vec::new()];
    while let Some(received) = reader.next().await {
        let received = received.expect("whole");
        offsets[received.partition as usize].push(received.offset);
    }
    assert_eq!(offsets, [(4..20).collect::<Vec<_>>(), (11..20).collect()]);
    let reads = std::mem::take(&mut fake.state.lock().reads);
    let starts: Vec<_> = reads.iter().map(|read| read.start.clone().and_then(|start| start.at)).collect();
    assert_eq!(starts, [Some(At::Group("mailer".into())), Some(At::Earliest(true))]);
    let resumed =
        |read: &v1::ReadRequest| read.resume.iter().map(|at| (at.partition, at.next_offset)).collect::<Vec<_>>();
    assert_eq!(resumed(&reads[0]), [(0, 4), (1, 11)]);
    assert_eq!(resumed(&reads[1]), [(0, 6), (1, 11)], "also where nothing came yet");

    let gone = client.reader("orders").from_group("mailer").open().await.expect_err("no such group");
    assert_eq!((gone.kind(), gone.reason()), (ErrorKind::NotFound, Some(reason::GROUP_NOT_FOUND)));
    let again = client.reader("orders").from_group("mailer").from(Position::Offset(3)).open().await;
    assert!(again.is_ok(), "the last word counts");
}

#[tokio::test]
async fn a_reader_from_a_group_takes_the_partitions_that_it_is_told() {
    let fake = Fake::start(2).await;
    fake.manual_group("mailer", &[(0, 4), (1, 11)]);
    let reader = fake.client().await.reader("orders").from_group("mailer").partitions([1]).resume(1, 7);
    reader.open().await.expect("it can be read");
    let resume = fake.state.lock().reads[0].resume.clone();
    assert_eq!(resume, [v1::PartitionOffset { partition: 1, next_offset: 7 }]);
}

#[tokio::test]
async fn a_damaged_batch_ends_the_read_and_is_never_given_out() {
    let fake = Fake::start(1).await;
    let producer = one_by_one(&fake, None).await;
    send_each(&producer, 0..3).await;
    producer.close().await.expect("accepted");
    fake.read_script([ReadFate::Keep, ReadFate::Damage]);
    let mut reader = fake.client().await.reader("orders").open().await.expect("readable");
    assert!(reader.next().await.expect("one").is_ok());
    let error = reader.next().await.expect("an error").expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!(reader.next().await.is_none());
}

#[tokio::test]
async fn limits_positions_and_batches_of_a_reader() {
    let fake = Fake::start(1).await;
    let producer = fake.client().await.producer("orders").build().await.expect("built");
    let records = |range: std::ops::Range<u32>| range.map(|n| Record::new(n.to_string()));
    let _ = producer.send_batch(0, records(0..10)).await.expect("room").await.expect("kept");
    let client = fake.client().await;

    let mut limited = client.reader("orders").resume(0, 4).limit(3).open().await.expect("open");
    let mut offsets = Vec::new();
    while let Some(received) = limited.next().await {
        offsets.push(received.expect("whole").offset);
    }
    assert_eq!(offsets, [4, 5, 6]);

    let mut whole = client.reader("orders").open().await.expect("open");
    let first = whole.next().await.expect("a record").expect("whole");
    assert_eq!(first.offset, 0);
    let rest = whole.next_batch().await.expect("the rest").expect("whole");
    assert_eq!((rest.len(), rest.next_offset()), (9, 10));
    assert!(matches!(whole.next_event().await, Some(Ok(Event::CaughtUp))));
    assert!(whole.next_event().await.is_none());

    let latest = client.reader("orders").from(Position::Latest);
    assert!(latest.open().await.expect("open").next().await.is_none());
}

#[tokio::test]
async fn a_listing_takes_every_page() {
    let fake = Fake::start(1).await;
    let topics = fake.client().await.admin().list_topics("").await.expect("listed");
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}
