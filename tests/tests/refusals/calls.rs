//! Bad reads, topics and registrations: one row per way to be wrong.

use tillroll_proto::v1::{self, start_position::At};
use tonic::Status;

use tillroll_tests::road::{Expected, Road, TOPIC, expected, plain, record};

/// A bad call.
enum Call {
    Read(v1::ReadRequest),
    Find(v1::FindOffsetsRequest),
    Create(v1::CreateTopicRequest),
    Update(v1::UpdateTopicRequest),
    Get(v1::GetTopicRequest),
    Delete(v1::DeleteTopicRequest),
    Init(v1::InitProducerRequest),
    ListTopics(v1::ListTopicsRequest),
    ListProducers(v1::ListProducersRequest),
}

impl Call {
    /// How it was refused.
    async fn make(self, road: &mut Road, name: &str) -> Status {
        let (log, topics) = (&mut road.log, &mut road.topics);
        let refused = match self {
            Self::Read(request) => match log.read(request).await {
                Ok(answer) => answer.into_inner().message().await.map(|_| ()),
                Err(status) => Err(status),
            },
            Self::Find(request) => topics.find_offsets(request).await.map(|_| ()),
            Self::Create(request) => topics.create_topic(request).await.map(|_| ()),
            Self::Update(request) => topics.update_topic(request).await.map(|_| ()),
            Self::Get(request) => topics.get_topic(request).await.map(|_| ()),
            Self::Delete(request) => topics.delete_topic(request).await.map(|_| ()),
            Self::Init(request) => log.init_producer(request).await.map(|_| ()),
            Self::ListTopics(request) => topics.list_topics(request).await.map(|_| ()),
            Self::ListProducers(request) => log.list_producers(request).await.map(|_| ()),
        };
        refused.expect_err(name)
    }
}

/// The reasons that have a row.
pub(crate) fn reasons() -> impl Iterator<Item = &'static str> {
    rows("0000000000000000").into_iter().map(|(_, _, expected)| expected.reason)
}

type Row = (&'static str, Call, Expected);

fn rows(topic_id: &str) -> Vec<Row> {
    [reads(topic_id), topics(topic_id), registrations(), pages()].into_iter().flatten().collect()
}

/// A good read of partition 0, changed.
fn read(change: impl FnOnce(&mut v1::ReadRequest)) -> Call {
    let mut request = v1::ReadRequest {
        topic: TOPIC.into(),
        partitions: vec![0],
        start: Some(from(At::Earliest(true))),
        stop: v1::ReadStop::AtEnd.into(),
        ..v1::ReadRequest::default()
    };
    change(&mut request);
    Call::Read(request)
}

fn from(at: At) -> v1::StartPosition {
    v1::StartPosition { at: Some(at) }
}

fn invalid(field: &str, limit: u64, actual: u64) -> Expected {
    expected("FIELD_INVALID", &[("field", &field), ("limit", &limit), ("actual", &actual)])
}

fn required(field: &str) -> Expected {
    expected("FIELD_REQUIRED", &[("field", &field)])
}

/// A page that is larger than any is refused, not cut.
fn pages() -> Vec<Row> {
    let page_size = 1_001;
    let topics = v1::ListTopicsRequest { page_size, ..v1::ListTopicsRequest::default() };
    let producers = v1::ListProducersRequest { page_size, ..v1::ListProducersRequest::default() };
    let refused = || invalid("page_size", 1_000, 1_001);
    vec![
        ("a page of too many topics", Call::ListTopics(topics), refused()),
        ("a page of too many producers", Call::ListProducers(producers), refused()),
    ]
}

fn reads(topic_id: &str) -> Vec<Row> {
    let beyond = |offset: u64| {
        expected("OFFSET_BEYOND_END", &[("topic", &TOPIC), ("partition", &0), ("offset", &offset), ("end", &1)])
    };
    let outside = || expected("PARTITION_NOT_FOUND", &[("topic", &TOPIC), ("partition", &2), ("count", &2)]);
    let resume = |partition, next_offset| vec![v1::PartitionOffset { partition, next_offset }];
    vec![
        (
            "a read of an unknown topic",
            read(|read| read.topic = "payments".into()),
            expected("TOPIC_NOT_FOUND", &[("topic", &"payments")]),
        ),
        (
            "a read of another topic's id",
            read(|read| read.topic_id = "00000000000000ff".into()),
            expected("TOPIC_RECREATED", &[("topic", &TOPIC), ("topic_id", &topic_id)]),
        ),
        ("a read of a partition out of range", read(|read| read.partitions = vec![2]), outside()),
        (
            "a read that names a partition twice",
            read(|read| read.partitions = vec![0, 1, 0]),
            expected("FIELD_INVALID", &[("field", &"partitions[2]"), ("actual", &0)]),
        ),
        ("a read from beyond the end", read(|read| read.start = Some(from(At::Offset(2)))), beyond(2)),
        ("a read that goes on beyond the end", read(|read| read.resume = resume(0, 9)), beyond(9)),
        ("a search beyond the end", Call::Find(find(At::Offset(2))), beyond(2)),
        (
            "a read for a group",
            read(|read| read.start = Some(from(At::Group("mailer".into())))),
            expected("GROUP_NOT_FOUND", &[("group", &"mailer")]),
        ),
        ("a read from nowhere", read(|read| read.start = None), required("start")),
        ("a read without an end", read(|read| read.stop = 0), required("stop")),
        (
            "a read with an oversized answer",
            read(|read| read.max_response_bytes = (8 << 20) + 1),
            invalid("max_response_bytes", 8 << 20, (8 << 20) + 1),
        ),
        ("a read with a hasty heartbeat", read(|read| read.heartbeat_ms = 99), invalid("heartbeat_ms", 100, 99)),
        (
            "a record that does not fit the answer",
            read(|read| read.max_response_bytes = 64),
            expected(
                "RESPONSE_LIMIT",
                &[("topic", &TOPIC), ("partition", &0), ("offset", &0), ("size", &SIZE), ("limit", &64)],
            ),
        ),
    ]
}

/// Bytes of a `ReadResponse` with the one record of partition 0.
const SIZE: u32 = 249;

fn find(at: At) -> v1::FindOffsetsRequest {
    v1::FindOffsetsRequest { topic: TOPIC.into(), at: Some(from(at)) }
}

fn create(name: &str, config: v1::TopicConfig) -> Call {
    Call::Create(v1::CreateTopicRequest { name: name.into(), config: Some(config), dry_run: false })
}

fn topics(topic_id: &str) -> Vec<Row> {
    let partitions = |count| v1::TopicConfig { partitions: Some(count), ..v1::TopicConfig::default() };
    let delete = |name: &str, id: &str| Call::Delete(v1::DeleteTopicRequest { name: name.into(), topic_id: id.into() });
    let not_found = |name: &'static str| expected("TOPIC_NOT_FOUND", &[("topic", &name)]);
    let named = |name: &str| expected("NAME_INVALID", &[("field", &"name"), ("name", &name)]);
    let segment = v1::TopicConfig { segment_bytes: Some(1), ..v1::TopicConfig::default() };
    let record = v1::TopicConfig { max_record_bytes: Some(4 << 20), ..v1::TopicConfig::default() };
    let codec = v1::TopicConfig { codec: Some(9), ..v1::TopicConfig::default() };
    vec![
        ("a topic in capitals", create("Orders", partitions(1)), named("Orders")),
        ("a topic of ours", create("_orders", partitions(1)), named("_orders")),
        ("a topic with no name", create("", partitions(1)), named("")),
        ("a topic without partitions", create("none", partitions(0)), invalid("partitions", 1, 0)),
        ("a topic with too many", create("many", partitions(1_025)), invalid("partitions", 1_024, 1_025)),
        ("tiny segments", create("tiny", segment), invalid("segment_bytes", 64 << 10, 1)),
        ("huge records", create("huge", record), invalid("max_record_bytes", 3 << 20, 4 << 20)),
        ("a codec that nobody knows", create("odd", codec), invalid("config.codec", 3, 9)),
        (
            "a topic that is another",
            create(TOPIC, partitions(3)),
            expected("TOPIC_EXISTS", &[("topic", &TOPIC), ("differences", &"partitions is 2, asked 3")]),
        ),
        (
            "an update",
            Call::Update(v1::UpdateTopicRequest { name: TOPIC.into(), ..v1::UpdateTopicRequest::default() }),
            expected("UNSUPPORTED_FEATURE", &[("feature", &"topic.update")]),
        ),
        ("a look at nothing", Call::Get(v1::GetTopicRequest { name: "payments".into() }), not_found("payments")),
        ("a delete without an id", delete(TOPIC, ""), required("topic_id")),
        ("a delete of nothing", delete("payments", topic_id), not_found("payments")),
        (
            "a delete of another",
            delete(TOPIC, "00000000000000ff"),
            expected("TOPIC_RECREATED", &[("topic", &TOPIC), ("topic_id", &topic_id)]),
        ),
    ]
}

fn registrations() -> Vec<Row> {
    let init = |name: &str, idle_expiry_ms| {
        Call::Init(v1::InitProducerRequest {
            producer_id: name.into(),
            idle_expiry_ms,
            ..v1::InitProducerRequest::default()
        })
    };
    let week_ms = 7 * 24 * 3_600 * 1_000;
    vec![
        (
            "a producer that is no name",
            init("No Body", 0),
            expected("NAME_INVALID", &[("field", &"producer_id"), ("name", &"No Body")]),
        ),
        (
            "a name that is longer than any",
            init(&"x".repeat(257), 0),
            expected("REQUEST_TOO_LARGE", &[("field", &"producer_id"), ("limit", &256), ("actual", &257)]),
        ),
        ("a nameless producer that never ends", init("", 0), invalid("idle_expiry_ms", 1, 0)),
        ("one that idles for too long", init("", week_ms + 1), invalid("idle_expiry_ms", week_ms, week_ms + 1)),
    ]
}

#[tokio::test]
async fn a_bad_call_is_told_why_and_changes_nothing() {
    let mut road = Road::new().await;
    road.log.append(plain(TOPIC, 0, vec![record(&[7; 200])])).await.expect("appended");
    for (name, call, expected) in rows(&road.topic_id.clone()) {
        let before = road.ends().await;
        let status = call.make(&mut road, name).await;
        expected.check(name, &status);
        assert_eq!(road.ends().await, before, "{name}");
        road.append_good(name).await;
    }
    let fits = read(|read| read.max_response_bytes = SIZE);
    let Call::Read(request) = fits else { unreachable!("it is a read") };
    let answer = road.log.read(request).await.expect("answered").into_inner().message().await;
    assert!(answer.is_ok(), "what a refusal asks for is enough: {answer:?}");
    let listed = road.topics.list_topics(v1::ListTopicsRequest::default()).await.expect("listed").into_inner();
    let names: Vec<String> = listed.topics.into_iter().map(|topic| topic.name).collect();
    assert_eq!(names, [TOPIC]);
    road.end().await;
}
