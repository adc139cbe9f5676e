//! Bad appends: one row per way to be wrong.

use prost::Message as _;
use tillroll_engine::codec::{Codec, compress};
use tillroll_proto::v1::{
    self, AppendRequest, EncodedBatch, Header, Record, append_batch::Content, append_outcome::Result as Outcome,
    append_stream_response::Event, check::Kind,
};
use tokio_stream::wrappers::ReceiverStream;

use tillroll_tests::road::{Expected, Road, TOPIC, expected, good, plain, record};

/// A bad append, and what it is told.
struct Row {
    name: &'static str,
    request: AppendRequest,
    expected: Expected,
}

fn row(name: &'static str, request: AppendRequest, expected: Expected) -> Row {
    Row { name, request, expected }
}

/// The reasons that have a row.
pub(crate) fn reasons() -> impl Iterator<Item = &'static str> {
    rows("0000000000000000").into_iter().map(|row| row.expected.reason)
}

fn rows(topic_id: &str) -> Vec<Row> {
    [names(topic_id), records_and_batches(), whole_appends(), encodings(), fields(), producers(), checks()]
        .into_iter()
        .flatten()
        .collect()
}

const RECORD: &str = "batches[0].records[0]";
const DATA: &str = "batches[0].encoded.data";
const MIB: usize = 1 << 20;

fn one(record: Record) -> AppendRequest {
    plain(TOPIC, 0, vec![record])
}

/// A change of the only batch of a good append.
fn batch(change: impl FnOnce(&mut v1::AppendBatch)) -> AppendRequest {
    let mut request = good();
    change(&mut request.batches[0]);
    request
}

fn encoded_batch(codec: Codec, set: &[u8], record_count: u32) -> EncodedBatch {
    let data = compress(codec, set);
    let number = match codec {
        Codec::None => v1::Codec::None,
        Codec::Lz4 => v1::Codec::Lz4,
        Codec::Zstd => v1::Codec::Zstd,
    };
    EncodedBatch {
        codec: number.into(),
        crc32: crc32fast::hash(&data),
        record_count,
        decoded_bytes: u32::try_from(set.len()).expect("small"),
        data: data.into(),
    }
}

fn set(count: usize) -> Vec<u8> {
    v1::RecordSet { records: vec![record(b"value"); count] }.encode_to_vec()
}

/// An append of an encoded batch of three records, changed.
fn encoded(codec: Codec, change: impl FnOnce(&mut EncodedBatch)) -> AppendRequest {
    let mut encoded = encoded_batch(codec, &set(3), 3);
    change(&mut encoded);
    batch(|batch| batch.content = Some(Content::Encoded(encoded)))
}

/// The same with other bytes, whose CRC is right.
fn bytes(codec: v1::Codec, data: Vec<u8>) -> AppendRequest {
    encoded(Codec::None, |batch| {
        batch.codec = codec.into();
        batch.crc32 = crc32fast::hash(&data);
        batch.data = data.into();
    })
}

fn names(topic_id: &str) -> Vec<Row> {
    let pinned = batch(|batch| batch.topic_id = "00000000000000ff".into());
    vec![
        row(
            "an unknown topic",
            plain("ordres", 0, vec![record(b"")]),
            expected("TOPIC_NOT_FOUND", &[("topic", &"ordres"), ("similar", &TOPIC)]),
        ),
        row(
            "a partition out of range",
            plain(TOPIC, 2, vec![record(b"")]),
            expected("PARTITION_NOT_FOUND", &[("topic", &TOPIC), ("partition", &2), ("count", &2)]),
        ),
        row(
            "the id of another topic",
            pinned,
            expected("TOPIC_RECREATED", &[("topic", &TOPIC), ("topic_id", &topic_id)]),
        ),
        row(
            "a commit of a group",
            AppendRequest {
                commits: vec![v1::CursorCommit { group: "mailer".into(), ..v1::CursorCommit::default() }],
                ..good()
            },
            expected("GROUP_NOT_FOUND", &[("group", &"mailer")]),
        ),
        row(
            "an assignment of a group",
            AppendRequest { checks: vec![check(Kind::Assignment(held("mailer")))], ..good() },
            expected("GROUP_NOT_FOUND", &[("group", &"mailer")]),
        ),
    ]
}

fn held(group: &str) -> v1::HeldAssignment {
    v1::HeldAssignment { group: group.into(), topic: TOPIC.into(), partition: 0, assignment_epoch: 1 }
}

fn check(kind: Kind) -> v1::Check {
    v1::Check { kind: Some(kind) }
}

fn records_and_batches() -> Vec<Row> {
    let large = record(&vec![7; MIB]);
    let headers = |count, bytes| Record {
        headers: vec![Header { name: "h".into(), value: vec![1; bytes].into() }; count],
        ..record(b"")
    };
    let of_record = |field: &str, limit: usize, actual: usize| {
        let facts: [(&str, &dyn std::fmt::Display); 5] =
            [("field", &field), ("batch", &0), ("record", &0), ("limit", &limit), ("actual", &actual)];
        expected("RECORD_TOO_LARGE", &facts)
    };
    vec![
        row("an oversized record", one(large.clone()), of_record(RECORD, MIB, large.encoded_len())),
        row(
            "an oversized key",
            one(Record { key: Some(vec![1; 1_025].into()), ..record(b"") }),
            of_record("batches[0].records[0].key", 1_024, 1_025),
        ),
        row("too many headers", one(headers(65, 1)), of_record("batches[0].records[0].headers", 64, 65)),
        row(
            "oversized headers",
            one(headers(2, 16 << 10)),
            of_record("batches[0].records[0].headers", 32 << 10, 2 * ((16 << 10) + 1)),
        ),
        row(
            "an oversized batch",
            bytes(v1::Codec::None, vec![0; 4 * MIB + 1]),
            expected(
                "BATCH_TOO_LARGE",
                &[("field", &DATA), ("batch", &0), ("limit", &(4 * MIB)), ("actual", &(4 * MIB + 1))],
            ),
        ),
        row(
            "a batch that says it is oversized when decoded",
            encoded(Codec::Lz4, |batch| batch.decoded_bytes = (4 << 20) + 1),
            expected(
                "BATCH_TOO_LARGE",
                &[
                    ("field", &"batches[0].encoded.decoded_bytes"),
                    ("batch", &0),
                    ("limit", &(4 * MIB)),
                    ("actual", &(4 * MIB + 1)),
                ],
            ),
        ),
        row("a bomb in lz4", bomb(Codec::Lz4), bombed()),
        row("a bomb in zstd", bomb(Codec::Zstd), bombed()),
    ]
}

fn whole_appends() -> Vec<Row> {
    let of_append = |field: &str, limit: usize, actual: usize| {
        expected("APPEND_TOO_LARGE", &[("field", &field), ("limit", &limit), ("actual", &actual)])
    };
    let thirds = |bytes: usize| {
        let large = bytes_batch(bytes);
        AppendRequest { batches: vec![large; 3], ..AppendRequest::default() }
    };
    vec![
        row("an oversized append", thirds(2_800_000), of_append("batches", 8 * MIB, 3 * 2_800_000)),
        row(
            "too many batches",
            AppendRequest { batches: vec![good().batches[0].clone(); 1_025], ..AppendRequest::default() },
            of_append("batches", 1_024, 1_025),
        ),
        row(
            "too many checks",
            AppendRequest { checks: vec![check(Kind::Assignment(held("mailer"))); 1_025], ..good() },
            of_append("checks", 1_024, 1_025),
        ),
        row(
            "too many records in a batch",
            plain(TOPIC, 0, vec![Record::default(); 65_537]),
            expected(
                "APPEND_TOO_LARGE",
                &[("field", &"batches[0]"), ("batch", &0), ("limit", &65_536), ("actual", &65_537)],
            ),
        ),
        row(
            "too many records in all batches",
            AppendRequest {
                batches: vec![plain(TOPIC, 0, vec![Record::default(); 40_000]).batches[0].clone(); 2],
                ..AppendRequest::default()
            },
            of_append("batches", 65_536, 80_000),
        ),
        row("no batch", AppendRequest::default(), expected("APPEND_EMPTY", &[("field", &"batches")])),
        row(
            "an empty batch",
            plain(TOPIC, 0, Vec::new()),
            expected("APPEND_EMPTY", &[("field", &"batches[0]"), ("batch", &0)]),
        ),
        row(
            "an empty encoded batch",
            encoded(Codec::None, |batch| *batch = encoded_batch(Codec::None, &[], 0)),
            expected("APPEND_EMPTY", &[("field", &"batches[0]"), ("batch", &0)]),
        ),
    ]
}

/// A batch with so many bytes in all, whose CRC nobody will look at.
fn bytes_batch(bytes: usize) -> v1::AppendBatch {
    let batch = EncodedBatch { codec: v1::Codec::None.into(), data: vec![0; bytes].into(), ..EncodedBatch::default() };
    let content = Some(Content::Encoded(batch));
    v1::AppendBatch { topic: TOPIC.into(), partition: Some(0), content, topic_id: String::new() }
}

/// Little that becomes more than may be.
fn bomb(codec: Codec) -> AppendRequest {
    encoded(codec, |batch| *batch = EncodedBatch { decoded_bytes: 9, ..encoded_batch(codec, &vec![0; 64 * MIB], 1) })
}

fn bombed() -> Expected {
    expected("BATCH_TOO_LARGE", &[("field", &DATA), ("batch", &0), ("limit", &(4 * MIB))])
}

fn encodings() -> Vec<Row> {
    let crc = encoded_batch(Codec::None, &set(3), 3).crc32;
    let counted = |field: &str, said: usize, actual: usize| {
        let field = format!("batches[0].encoded.{field}");
        expected("BAD_ENCODING", &[("field", &field), ("batch", &0), ("expected", &said), ("actual", &actual)])
    };
    let undecodable = || expected("BAD_ENCODING", &[("field", &DATA), ("batch", &0)]);
    let mut not_text = set(1);
    // A text field, `id`, of one byte that is no UTF-8.
    not_text[1] += 3;
    not_text.extend([0x32, 1, 0xff]);
    vec![
        row(
            "a wrong CRC",
            encoded(Codec::None, |batch| batch.crc32 = !crc),
            expected(
                "BAD_CRC",
                &[("field", &"batches[0].encoded.crc32"), ("batch", &0), ("expected", &!crc), ("actual", &crc)],
            ),
        ),
        row("a wrong count", encoded(Codec::Zstd, |batch| batch.record_count = 4), counted("record_count", 4, 3)),
        row(
            "a wrong size",
            encoded(Codec::Lz4, |batch| batch.decoded_bytes += 1),
            counted("decoded_bytes", set(3).len() + 1, set(3).len()),
        ),
        row(
            "a set that is no protobuf",
            bytes(v1::Codec::None, b"\x0a\x05".to_vec()),
            expected("BAD_ENCODING", &[("field", &"batches[0]"), ("batch", &0)]),
        ),
        row(
            "a text that is no UTF-8",
            bytes(v1::Codec::None, not_text),
            expected("BAD_ENCODING", &[("field", &"batches[0].records[0].id"), ("batch", &0), ("record", &0)]),
        ),
        row("broken lz4", bytes(v1::Codec::Lz4, vec![0xff; 64]), undecodable()),
        row("broken zstd", bytes(v1::Codec::Zstd, vec![0xff; 64]), undecodable()),
    ]
}

fn fields() -> Vec<Row> {
    let codec = "batches[0].encoded.codec";
    let tombstone = |field: &str| {
        let field = format!("batches[0].records[0].{field}");
        expected("FIELD_INVALID", &[("field", &field), ("batch", &0), ("record", &0)])
    };
    vec![
        row(
            "an unknown codec",
            encoded(Codec::None, |batch| batch.codec = 99),
            expected("FIELD_INVALID", &[("field", &codec), ("limit", &3), ("actual", &99)]),
        ),
        row(
            "no codec",
            encoded(Codec::None, |batch| batch.codec = 0),
            expected("FIELD_REQUIRED", &[("field", &codec)]),
        ),
        row(
            "no content",
            batch(|batch| batch.content = None),
            expected("FIELD_REQUIRED", &[("field", &"batches[0].content")]),
        ),
        row(
            "an encoded batch without a partition",
            AppendRequest {
                batches: encoded(Codec::None, |_| {})
                    .batches
                    .into_iter()
                    .map(|batch| v1::AppendBatch { partition: None, ..batch })
                    .collect(),
                ..AppendRequest::default()
            },
            expected("FIELD_REQUIRED", &[("field", &"batches[0].partition"), ("batch", &0)]),
        ),
        row("a tombstone without a key", one(Record { tombstone: true, ..Record::default() }), tombstone("key")),
        row(
            "a tombstone with a value",
            one(Record { tombstone: true, key: Some(b"k".to_vec().into()), ..record(b"v") }),
            tombstone("value"),
        ),
        row(
            "a need that is not met",
            AppendRequest { needs: vec!["append.telepathy".into()], ..good() },
            expected("UNSUPPORTED_FEATURE", &[("feature", &"append.telepathy")]),
        ),
    ]
}

fn stamped(producer: &str, epoch: u64, sequence: u64, value: &[u8], answered_below: u64) -> AppendRequest {
    let stamp = v1::ProducerStamp { producer_id: producer.into(), epoch, sequence, answered_below };
    AppendRequest { producer: Some(stamp), ..plain(TOPIC, 0, vec![record(value)]) }
}

/// Answers that are remembered of a producer.
const WINDOW: u64 = 256;

/// An epoch is the number of the frame that began it: the topic is the first one.
const LOADER_FENCED: u64 = 2;
const LOADER: u64 = 3;
const OLD: u64 = 4;

/// `loader` was taken over and has appended `first` and `second`; of `old` the answers to 1 and 2 are forgotten.
async fn prepare(road: &mut Road) {
    for (name, epoch) in [("loader", LOADER_FENCED), ("loader", LOADER), ("old", OLD)] {
        let init = v1::InitProducerRequest {
            producer_id: name.into(),
            idle_expiry_ms: 0,
            ..v1::InitProducerRequest::default()
        };
        let opened = road.log.init_producer(init).await.expect("registered").into_inner();
        assert_eq!(opened.epoch, epoch);
    }
    let old = (1..=WINDOW + 2).map(|sequence| {
        let request = stamped("old", OLD, sequence, b"old", 0);
        AppendRequest { batches: good().batches, ..request }
    });
    for request in
        [stamped("loader", LOADER, 1, b"first", 0), stamped("loader", LOADER, 2, b"second", 0)].into_iter().chain(old)
    {
        road.log.append(request).await.expect("appended");
    }
}

fn producers() -> Vec<Row> {
    let loader: (&str, &dyn std::fmt::Display) = ("producer", &"loader");
    vec![
        row(
            "an older epoch",
            stamped("loader", LOADER_FENCED, 3, b"third", 0),
            expected("PRODUCER_FENCED", &[loader, ("epoch", &LOADER), ("current", &LOADER)]),
        ),
        row(
            "a gap",
            stamped("loader", LOADER, 5, b"fifth", 0),
            expected("SEQUENCE_GAP", &[loader, ("sequence", &5), ("next", &3)]),
        ),
        row(
            "other bytes under the same sequence",
            stamped("loader", LOADER, 2, b"zweite", 0),
            expected("SEQUENCE_REUSED", &[loader, ("sequence", &2)]),
        ),
        row(
            "a sequence whose answer is forgotten",
            stamped("old", OLD, 2, b"old", 0),
            expected("SEQUENCE_FORGOTTEN", &[("producer", &"old"), ("sequence", &2), ("oldest", &3)]),
        ),
        row(
            "a stamp without a sequence",
            stamped("loader", LOADER, 0, b"third", 0),
            expected("FIELD_INVALID", &[("field", &"producer.sequence"), ("limit", &1), ("actual", &0)]),
        ),
        row(
            "a stamp that confirms what was never sent",
            stamped("loader", LOADER, 3, b"third", 4),
            expected("FIELD_INVALID", &[("field", &"producer.answered_below"), ("limit", &3), ("actual", &4)]),
        ),
        row(
            "an unknown producer",
            stamped("nobody", 1, 1, b"", 0),
            expected("PRODUCER_UNKNOWN", &[("producer", &"nobody")]),
        ),
        row(
            "a producer that is no name",
            stamped("No Body", 1, 1, b"", 0),
            expected("NAME_INVALID", &[("field", &"producer.producer_id"), ("name", &"No Body")]),
        ),
    ]
}

fn checks() -> Vec<Row> {
    let next = |partition, next_offset| {
        check(Kind::NextOffset(v1::ExpectedNextOffset { topic: TOPIC.into(), partition, next_offset }))
    };
    let mismatch = |index: usize, count: usize| {
        let field = format!("checks[{index}]");
        let place: [(&str, &dyn std::fmt::Display); 3] = [("field", &field), ("topic", &TOPIC), ("partition", &0)];
        let [field, topic, partition] = place;
        let facts = [field, topic, partition, ("expected", &7), ("actual", &2), ("count", &count)];
        expected("EXPECTED_OFFSET_MISMATCH", &facts)
    };
    vec![
        row(
            "an expected offset that does not hold",
            AppendRequest { checks: vec![next(0, 2), next(0, 7)], ..good() },
            mismatch(1, 1),
        ),
        row("two of them", AppendRequest { checks: vec![next(0, 7), next(1, 1_000)], ..good() }, mismatch(0, 2)),
        row(
            "an unknown check",
            AppendRequest { checks: vec![next(0, 2), v1::Check::default()], ..good() },
            expected("UNKNOWN_CHECK", &[("field", &"checks[1].kind")]),
        ),
    ]
}

#[tokio::test]
async fn a_bad_append_is_told_why_and_writes_nothing() {
    let mut road = Road::new().await;
    prepare(&mut road).await;
    for Row { name, request, expected } in rows(&road.topic_id.clone()) {
        let before = road.ends().await;
        let status = road.log.append(request).await.expect_err(name);
        expected.check(name, &status);
        assert_eq!(road.ends().await, before, "{name}");
        road.append_good(name).await;
    }
    road.end().await;
}

#[tokio::test]
async fn a_bad_append_on_a_stream_is_an_outcome_and_the_stream_goes_on() {
    let mut road = Road::new().await;
    prepare(&mut road).await;
    let (requests, queue) = tokio::sync::mpsc::channel(4);
    let mut outcomes = road.log.append_stream(ReceiverStream::new(queue)).await.expect("open").into_inner();
    let mut append_id = 0;
    for Row { name, request, expected } in rows(&road.topic_id.clone()) {
        let mut ends = road.ends().await;
        for append in [good(), request, good()] {
            append_id += 1;
            requests.send(v1::AppendStreamRequest { append_id, append: Some(append) }).await.expect(name);
        }
        for part in 0..3 {
            let outcome = loop {
                match outcomes.message().await.expect(name).expect(name).event.expect(name) {
                    Event::Outcome(outcome) => break outcome,
                    Event::Opened(_) | Event::Heartbeat(_) => {}
                }
            };
            assert_eq!(outcome.append_id, append_id - 2 + part, "{name}");
            match outcome.result.expect("one of two") {
                Outcome::Ok(appended) => {
                    assert_eq!((part % 2, appended.batches[0].base_offset), (0, ends[1]), "{name}");
                    ends[1] += 1;
                }
                Outcome::Refused(refused) => {
                    assert_eq!(part, 1, "{name}: {}", refused.message);
                    expected.check_message(name, &refused);
                }
            }
        }
        assert_eq!(road.ends().await, ends, "{name}");
    }
    drop(requests);
    assert!(outcomes.message().await.expect("it ends well").is_none());
    road.end().await;
}
