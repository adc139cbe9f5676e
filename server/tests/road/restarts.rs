//! Producers and followers through ends of the broker: nothing lost, nothing twice, nothing out of order.

use std::{collections::HashMap, sync::Arc};

use tillroll_client::{Client, Producer, ProducerStatistics, Received, Record, Ticket, partition_for_key};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    broker::{Broker, End, PATIENCE, number, read_all},
    dice::Dice,
};

const PARTITIONS: u32 = 8;
const KEYS: u64 = 60;
/// Records between two ends of the broker.
const SLICE: u64 = 3_000;

/// Where each record was placed, by its number.
type Places = Vec<(u32, u64)>;

/// A record that says its number, and its key.
fn record(dice: &mut Dice, number: u64) -> Record {
    Record::new(number.to_string()).key(format!("customer-{}", dice.below(KEYS))).header("padding", dice.word(40))
}

/// Offsets are dense, every number is there once and where its ticket said, and each key stays in one partition, in
/// the order of sending.
fn prove(received: &[Received], places: &Places) {
    let mut ends: HashMap<u32, u64> = HashMap::new();
    let mut last: HashMap<bytes::Bytes, u64> = HashMap::new();
    let mut found = vec![false; places.len()];
    for received in received {
        let (number, partition) = (number(received), received.partition);
        let end = ends.entry(partition).or_default();
        assert_eq!(received.offset, *end, "partition {partition}: offsets are dense and come in order");
        *end += 1;
        let place = usize::try_from(number).expect("small");
        assert!(!std::mem::replace(&mut found[place], true), "record {number} came twice");
        assert_eq!((partition, received.offset), places[place], "record {number} is not where its ticket said");
        let key = received.record.key.clone().expect("every record has one");
        assert_eq!(partition, partition_for_key(&key, PARTITIONS), "the key decides the partition");
        let before = last.insert(key, number);
        assert!(before.is_none_or(|before| before < number), "record {number} came behind {before:?} of its key");
    }
    assert_eq!(found.iter().position(|found| !found), None, "a record is lost");
    assert_eq!(ends.len(), PARTITIONS as usize, "keys spread over all partitions");
}

/// Sends as many records as it is let, and gives where they are.
async fn produce(
    producer: Producer,
    mut dice: Dice,
    count: u64,
    may_send: Arc<Semaphore>,
) -> (Places, ProducerStatistics) {
    let mut tickets = Vec::new();
    for number in 0..count {
        may_send.acquire().await.expect("open").forget();
        tickets.push(producer.send(record(&mut dice, number)).await.expect("it goes on"));
    }
    producer.close().await.expect("everything is accepted in the end");
    (places(tickets).await, producer.statistics())
}

async fn places(tickets: Vec<Ticket>) -> Places {
    let mut places = Vec::new();
    for ticket in tickets {
        let at = ticket.await.expect("accepted");
        places.push((at.partition, at.offset));
    }
    places
}

/// Small appends and a small window: many are unanswered at any time.
async fn producer(client: &Client) -> Producer {
    let builder = client.producer("orders").batch_bytes(2 << 10).in_flight_bytes(32 << 10).retry_for(PATIENCE);
    builder.build().await.expect("the topic is there")
}

/// The broker ends whenever the follower has seen another slice, just as the producer is let send half of the next one;
/// the other half waits until the broker is back, so that every end breaks a stream.
async fn live(seed: u64, ends: &[End]) {
    let mut broker = Broker::start();
    let client = broker.topic("orders", PARTITIONS).await;
    let count = SLICE * (ends.len() as u64 + 1);
    let may_send = Arc::new(Semaphore::new(SLICE as usize));
    let follower = broker.client().await.reader("orders").follow(true).limit(count).retry_for(PATIENCE);
    let mut follower = follower.open().await.expect("it can be read");
    let sending = produce(producer(&client).await, Dice::new(seed), count, Arc::clone(&may_send));
    let sending = tokio::spawn(sending);

    let mut received = Vec::new();
    let mut left = ends.iter();
    while let Some(next) = follower.next().await {
        received.push(next.expect("it goes on"));
        if (received.len() as u64).is_multiple_of(SLICE)
            && let Some(end) = left.next()
        {
            may_send.add_permits(SLICE as usize / 2);
            broker.restart(*end);
            may_send.add_permits(SLICE as usize / 2);
        }
    }
    assert_eq!(received.len() as u64, count);
    let (places, statistics) = sending.await.expect("no panic");
    assert!(statistics.broken_streams >= ends.len() as u64, "not every end hit the producer: {statistics:?}");
    assert_eq!((statistics.accepted_records, statistics.failed_appends), (count, 0));
    prove(&received, &places);
    received.sort_by_key(|received| (received.partition, received.offset));
    assert_eq!(read_all(&broker.client().await, "orders").await, received, "a later reader sees the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_and_a_follower_go_through_kills_of_the_broker() {
    timeout(PATIENCE, live(41, &[End::Kill; 4])).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_and_a_follower_go_through_orderly_stops_of_the_broker() {
    timeout(PATIENCE, live(42, &[End::Terminate; 3])).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_spread_over_partitions_and_each_stays_in_one_in_order() {
    let broker = Broker::start();
    let client = broker.topic("orders", PARTITIONS).await;
    let all = Arc::new(Semaphore::new(SLICE as usize));
    let producer = client.producer("orders").build().await.expect("the topic is there");
    let (places, statistics) = produce(producer, Dice::new(43), SLICE, all).await;
    assert!(statistics.accepted_appends < SLICE / 4, "records are gathered: {statistics:?}");
    prove(&read_all(&client, "orders").await, &places);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_producer_knows_after_a_kill_how_far_it_came() {
    let mut broker = Broker::start();
    let client = broker.topic("orders", PARTITIONS).await;
    let mut dice = Dice::new(44);
    let mut tickets = Vec::new();
    for (from, to) in [(0, 700), (700, 1_000)] {
        let producer = client.producer("orders").name("till-1").retry_for(PATIENCE).build().await.expect("built");
        assert_eq!((producer.producer_id(), producer.accepted_records()), ("till-1", from));
        for number in from..to {
            tickets.push(producer.send(record(&mut dice, number)).await.expect("it has room"));
        }
        producer.flush().await.expect("accepted");
        broker.restart(End::Kill);
    }
    prove(&read_all(&client, "orders").await, &places(tickets).await);
}
