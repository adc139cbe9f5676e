//! What is sent is what comes back, whatever it is and however it is packed.

use tillroll_client::{Append, Compression, EncodedBatch, Record, TopicOptions};

use crate::{
    broker::{Broker, End, read_all},
    dice::Dice,
};

const PACKINGS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

/// Every field in every state that means something of its own, then records of chance.
fn samples(dice: &mut Dice) -> Vec<Record> {
    let full = Record::new(vec![7; 3_000])
        .key("customer-1")
        .header("shop", "7")
        .header("shop", "8")
        .header("empty", "")
        .event_time_us(1_291_191_960_000_000)
        .id("orders.csv#1")
        .type_("OrderPlaced.v1")
        .source("shop")
        .content_type("application/json")
        .correlation_id("basket-9")
        .causation_id("click-3")
        .traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let mut samples = vec![
        Record::new("keyless"),
        Record::new(""),
        Record::new("").key("an empty value"),
        Record::new("an empty key").key(""),
        Record::tombstone("customer-1"),
        Record::new("before 1970").event_time_us(-1),
        Record::new("in 1970").event_time_us(0),
        Record::new(vec![0xff, 0, 0xfe]).key(vec![0x80; 1_024]).header("bytes", vec![0xff, 0]),
        full,
    ];
    for _ in 0..200 {
        let length = dice.below(2_000);
        // Half of them can be packed well.
        let value =
            if dice.flip() { dice.bytes(length) } else { dice.word(5).repeat(length as usize / 5).into_bytes() };
        let mut record = Record::new(value).id(dice.word(12));
        if dice.flip() {
            record = record.key(dice.bytes(8)).type_(dice.word(6));
        }
        for _ in 0..dice.below(4) {
            record = record.header(dice.word(4), dice.bytes(20));
        }
        samples.push(record);
    }
    samples
}

/// The road of every record: which codec is used on disk, which on the wire.
fn topic(stored: Compression, sent: Compression) -> String {
    format!("stored-{stored:?}-sent-{sent:?}").to_lowercase()
}

async fn check(broker: &Broker, samples: &[Record]) {
    let client = broker.client().await;
    for stored in PACKINGS {
        for sent in PACKINGS {
            let topic = topic(stored, sent);
            let received = read_all(&client, &topic).await;
            assert_eq!(received.len(), samples.len(), "{topic}");
            for (expected, (offset, actual)) in samples.iter().zip((0..).zip(received)) {
                assert_eq!((actual.offset, &actual.record), (offset, expected), "{topic}");
                assert!(actual.append_time_us > 0, "{topic}");
            }
            // With a filter, the server takes the batches apart.
            let mut reader = client.reader(&topic).key("customer-1").open().await.expect("it can be read");
            let of_key = samples.iter().filter(|record| record.key.as_deref() == Some(b"customer-1"));
            for expected in of_key {
                let actual = reader.next().await.expect("it is there").expect("whole");
                assert_eq!(&actual.record, expected, "{topic}");
            }
            assert!(reader.next().await.is_none(), "{topic}: only that key");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_comes_back_equal_in_every_codec_from_memory_and_from_disk() {
    let mut broker = Broker::start();
    let client = broker.client().await;
    let samples = samples(&mut Dice::new(45));
    for stored in PACKINGS {
        for sent in PACKINGS {
            let topic = topic(stored, sent);
            let options = TopicOptions::default().partitions(1).compression(stored);
            client.admin().create_topic(&topic, options).await.expect("a new topic");
            let producer = client.producer(&topic).compression(sent).batch_bytes(16 << 10);
            let producer = producer.build().await.expect("the topic is there");
            for record in samples.clone() {
                let _flushed = producer.send(record).await.expect("it has room");
            }
            producer.close().await.expect("accepted");
        }
    }
    check(&broker, &samples).await;
    // An orderly stop leaves everything in segments, a kill leaves the journal to read again.
    broker.restart(End::Terminate);
    check(&broker, &samples).await;
    broker.restart(End::Kill);
    check(&broker, &samples).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_append_places_batches_of_every_form_or_none() {
    let broker = Broker::start();
    let client = broker.topic("orders", 4).await;
    let samples = samples(&mut Dice::new(46));
    let encoded = EncodedBatch::of(&samples, Compression::Zstd);
    let append = Append::new().encoded("orders", 1, encoded).records_to("orders", 2, samples.clone());
    let refused = client.append(append.clone().expect_next_offset("orders", 1, 5)).await.expect_err("it is at 0");
    assert_eq!((refused.number("expected"), refused.number("actual")), (Some(5), Some(0)), "{refused:?}");
    assert!(read_all(&client, "orders").await.is_empty(), "all or nothing");

    let appended = client.append(append.expect_next_offset("orders", 1, 0)).await.expect("accepted");
    let places: Vec<_> = appended.batches.iter().map(|batch| (batch.partition, batch.base_offset)).collect();
    assert_eq!(places, [(1, 0), (2, 0)]);
    let received = read_all(&client, "orders").await;
    assert!(received.iter().all(|received| received.append_time_us == appended.append_time_us));
    let records: Vec<Record> = received.into_iter().map(|received| received.record).collect();
    assert_eq!(records, [samples.clone(), samples].concat());
}
