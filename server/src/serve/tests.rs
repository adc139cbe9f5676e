//! Goal: over a real socket, every call ends with what it should: a reason, a deadline, or the end of the server.

use std::time::Duration;

use tillroll_engine::{driver::threads::Running, settings::Settings};
use tillroll_proto::{
    reason,
    reason::key,
    v1::{
        self, append_outcome::Result as Outcome, append_stream_response::Event as Appended,
        log_service_client::LogServiceClient, operator_service_client::OperatorServiceClient, read_response::Event,
        topic_service_client::TopicServiceClient,
    },
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use super::*;

/// No test needs as long.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    url: String,
    channel: Channel,
    stop: CancellationToken,
    serving: JoinHandle<bool>,
    running: Running,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new(drain: Duration) -> Self {
        Self::with(drain, Settings::default()).await
    }

    async fn with(drain: Duration, log: Settings) -> Self {
        let settings = ServerSettings { drain, ..ServerSettings::default() };
        let directory = tempfile::tempdir().expect("a directory");
        let running = Running::start(directory.path(), log).expect("an engine");
        let any = "127.0.0.1:0".parse().expect("an address");
        let server = Server::bind(any, running.engine.clone(), settings).await.expect("a port");
        let address = server.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serving = tokio::spawn(async move { server.serve(stopped).await.is_ok() });
        let url = format!("http://{address}");
        let channel = Channel::from_shared(url.clone()).expect("a uri").connect().await.expect("served");
        let world = Self { url, channel, stop, serving, running, _directory: directory };
        let config = v1::TopicConfig { partitions: Some(2), ..v1::TopicConfig::default() };
        let create = v1::CreateTopicRequest { name: "orders".into(), config: Some(config), dry_run: false };
        TopicServiceClient::new(world.channel.clone()).create_topic(create).await.expect("a topic");
        world
    }

    fn log(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channel.clone())
    }

    async fn append(&self, partition: u32, values: &[&str]) {
        self.log().append(append(partition, values)).await.expect("appended");
    }

    /// The server ends in time, and with it the engine.
    async fn end(self) {
        self.stop.cancel();
        assert!(timeout(PATIENCE, self.serving).await.expect("in time").expect("no panic"));
        self.running.stop();
    }
}

fn append(partition: u32, values: &[&str]) -> v1::AppendRequest {
    let record = |value: &&str| v1::Record { value: (*value).to_owned().into(), ..v1::Record::default() };
    let set = v1::RecordSet { records: values.iter().map(record).collect() };
    let batch = v1::AppendBatch {
        topic: "orders".into(),
        partition: Some(partition),
        content: Some(v1::append_batch::Content::Records(set)),
        topic_id: String::new(),
    };
    v1::AppendRequest { batches: vec![batch], ..v1::AppendRequest::default() }
}

fn read(stop: v1::ReadStop) -> v1::ReadRequest {
    let start = v1::StartPosition { at: Some(v1::start_position::At::Earliest(true)) };
    v1::ReadRequest { topic: "orders".into(), start: Some(start), stop: stop as i32, ..v1::ReadRequest::default() }
}

fn reason_of(status: &Status) -> String {
    status.get_details_error_info().map_or_else(|| format!("none: {status}"), |info| info.reason)
}

fn fact(status: &Status, name: &str) -> Option<String> {
    status.get_details_error_info()?.metadata.get(name).cloned()
}

/// Sends a message of another call.
async fn wrong_message(channel: &Channel, path: &'static str) -> Status {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("connected");
    let codec = ProstCodec::<v1::GetTopicRequest, v1::AppendResponse>::default();
    let request = Request::new(v1::GetTopicRequest { name: "no batch".into() });
    grpc.unary(request, path.parse().expect("a path"), codec).await.expect_err("not a message of this call")
}

#[tokio::test]
async fn what_never_becomes_a_request_is_refused_with_a_reason() {
    let world = World::new(Duration::from_secs(5)).await;
    let huge = append(0, &["x".repeat(9 << 20).as_str()]);
    let refused = world.log().append(huge).await.expect_err("too large");
    assert_eq!((reason_of(&refused).as_str(), refused.code()), (reason::APPEND_TOO_LARGE, Code::InvalidArgument));
    assert_eq!(fact(&refused, key::LIMIT), Some(channel::REQUEST_BYTES_MAX.to_string()));
    let actual = fact(&refused, key::ACTUAL).and_then(|actual| actual.parse::<usize>().ok());
    assert!(actual.is_some_and(|actual| actual > 9 << 20), "{actual:?}");
    let refused = wrong_message(&world.channel, "/tillroll.v1.LogService/Append").await;
    assert_eq!((reason_of(&refused).as_str(), refused.code()), (reason::BAD_ENCODING, Code::InvalidArgument));
    for path in ["/tillroll.v1.LogService/Rewrite", "/tillroll.v1.CompactService/Compact"] {
        assert_eq!(reason_of(&wrong_message(&world.channel, path).await), reason::UNSUPPORTED_FEATURE);
    }
    world.append(0, &["the connection still works"]).await;
    world.end().await;
}

#[tokio::test]
async fn an_append_stream_says_why_it_cannot_go_on() {
    let world = World::new(Duration::from_secs(5)).await;
    let huge = append(0, &["x".repeat(9 << 20).as_str()]);
    let requests = [append(0, &["fits"]), huge].into_iter().zip(1..);
    let requests = requests.map(|(append, append_id)| v1::AppendStreamRequest { append_id, append: Some(append) });
    let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
    let mut outcomes = world.log().append_stream(requests).await.expect("opened").into_inner();
    let mut is_answered = false;
    let refused = loop {
        match outcomes.message().await {
            Ok(Some(v1::AppendStreamResponse { event: Some(Appended::Outcome(outcome)) })) => {
                is_answered |= matches!(outcome.result, Some(Outcome::Ok(_)));
            }
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended well"),
            Err(status) => break status,
        }
    };
    assert!(is_answered, "what came before has its outcome");
    assert_eq!(reason_of(&refused), reason::APPEND_TOO_LARGE);
    world.end().await;
}

#[tokio::test]
async fn streams_end_with_the_server_and_say_so() {
    let world = World::new(Duration::from_mins(1)).await;
    let (appends, requests) = mpsc::channel(1);
    let mut outcomes = world.log().append_stream(ReceiverStream::new(requests)).await.expect("opened").into_inner();
    let append = Some(append(0, &["one"]));
    appends.send(v1::AppendStreamRequest { append_id: 1, append }).await.expect("open");
    let mut responses = world.log().read(read(v1::ReadStop::Follow)).await.expect("reads").into_inner();
    let health = tonic_health::pb::HealthCheckRequest::default();
    let mut health_client = tonic_health::pb::health_client::HealthClient::new(world.channel.clone());
    let mut statuses = health_client.watch(health).await.expect("watched").into_inner();
    assert_eq!(statuses.message().await.expect("serving").map(|status| status.status), Some(1));
    while !matches!(
        outcomes.message().await.expect("open"),
        Some(v1::AppendStreamResponse { event: Some(Appended::Outcome(_)) })
    ) {}
    world.stop.cancel();
    let ended = loop {
        match outcomes.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(reason_of(&ended.expect_err("not well")), reason::SHUTTING_DOWN);
    let ended = loop {
        match responses.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(reason_of(&ended.expect_err("not well")), reason::SHUTTING_DOWN);
    assert_eq!(statuses.message().await.expect("told").map(|status| status.status), Some(2), "not serving");
    assert!(statuses.message().await.expect("ends well").is_none());
    world.end().await;
}

#[tokio::test]
async fn a_connection_that_does_not_end_is_cut() {
    let world = World::new(Duration::from_millis(50)).await;
    let (_requests, pending) = mpsc::channel::<v1::GetServerRequest>(1);
    let mut grpc = Grpc::new(world.channel.clone());
    grpc.ready().await.expect("connected");
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".parse().expect("a path");
    let codec = ProstCodec::<v1::GetServerRequest, v1::GetServerResponse>::default();
    let request = Request::new(ReceiverStream::new(pending));
    let mut held = grpc.streaming(request, path, codec).await.expect("opened").into_inner();
    world.stop.cancel();
    assert!(timeout(PATIENCE, held.message()).await.expect("cut in time").is_err());
    world.end().await;
}

#[tokio::test]
async fn deadlines_end_streams_too() {
    let world = World::new(Duration::from_secs(5)).await;
    let (_appends, requests) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(requests));
    request.metadata_mut().insert("grpc-timeout", "50m".parse().expect("a value"));
    let mut outcomes = world.log().append_stream(request).await.expect("opened").into_inner();
    let ended = loop {
        match timeout(PATIENCE, outcomes.message()).await.expect("in time") {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended.expect_err("late").code(), Code::DeadlineExceeded);
    let mut request = Request::new(read(v1::ReadStop::Follow));
    request.metadata_mut().insert("grpc-timeout", "50m".parse().expect("a value"));
    let mut responses = world.log().read(request).await.expect("reads").into_inner();
    let ended = loop {
        match timeout(PATIENCE, responses.message()).await.expect("in time") {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended.expect_err("late").code(), Code::DeadlineExceeded);
    world.end().await;
}

#[tokio::test]
async fn a_read_that_reaches_its_limit_at_the_ends_is_caught_up_first() {
    let world = World::new(Duration::from_secs(5)).await;
    world.append(0, &["a", "b"]).await;
    world.append(1, &["c"]).await;
    for (max_records, caught_up) in [(0, 1), (3, 1), (2, 0)] {
        let request = v1::ReadRequest { max_records, ..read(v1::ReadStop::AtEnd) };
        let mut responses = world.log().read(request).await.expect("reads").into_inner();
        let (mut records, mut ends) = (0, 0);
        while let Some(response) = responses.message().await.expect("ends well") {
            match response.event {
                Some(Event::Batch(batch)) => records += batch.records.len() as u64,
                Some(Event::CaughtUp(_)) => ends += 1,
                _ => {}
            }
        }
        assert_eq!((records, ends), (if max_records == 0 { 3 } else { max_records }, caught_up));
    }
    world.end().await;
}

#[tokio::test]
async fn a_follower_hears_of_each_partition_and_of_a_quiet_log() {
    let world = World::new(Duration::from_secs(5)).await;
    let request = v1::ReadRequest { heartbeat_ms: 100, ..read(v1::ReadStop::Follow) };
    let mut responses = world.log().read(request).await.expect("reads").into_inner();
    let (mut seen, mut beats) = (Vec::new(), 0);
    for round in 0..6 {
        world.append(round % 2, &["x"]).await;
        while seen.len() <= round as usize {
            match responses.message().await.expect("open").expect("goes on").event {
                Some(Event::Batch(batch)) => seen.push((batch.partition, batch.next_offset)),
                Some(Event::Heartbeat(_)) => beats += 1,
                _ => {}
            }
        }
    }
    assert_eq!(seen, [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3)]);
    while beats < 2 {
        let event = timeout(PATIENCE, responses.message()).await.expect("alive").expect("open").expect("goes on").event;
        beats += i32::from(matches!(event, Some(Event::Heartbeat(beat)) if beat.ends.len() == 2));
    }
    world.end().await;
}

#[tokio::test]
async fn a_reader_may_ask_for_as_much_as_the_server_announces() {
    let world = World::new(Duration::from_secs(5)).await;
    let server = world.log().get_server(v1::GetServerRequest {}).await.expect("answers").into_inner();
    let max = server.limits.expect("always").max_response_bytes;
    let request = v1::ReadRequest { max_response_bytes: max, ..read(v1::ReadStop::AtEnd) };
    world.log().read(request.clone()).await.expect("as announced");
    let more = v1::ReadRequest { max_response_bytes: max + 1, ..request };
    let refused = world.log().read(more).await.expect_err("more");
    assert_eq!(reason_of(&refused), reason::FIELD_INVALID);
    assert_eq!(
        (fact(&refused, key::LIMIT), fact(&refused, key::FIELD)),
        (Some(max.to_string()), Some("max_response_bytes".to_owned()))
    );
    world.end().await;
}

#[tokio::test]
async fn the_status_counts_what_is_open_and_what_is_in_use() {
    let world = World::new(Duration::from_secs(5)).await;
    let mut operator = OperatorServiceClient::new(world.channel.clone());
    let before = operator.get_status(v1::GetStatusRequest {}).await.expect("answers").into_inner();
    assert_eq!((before.connections, before.open_calls, before.topics, before.partitions), (1, 1, 1, 2));
    assert_eq!(before.write_state(), v1::WriteState::On, "{}", before.write_cause);
    assert!(before.max_connections > 1 && before.needed_free_bytes > 0 && before.start_time_us > 0);
    assert!(before.memory_budgets.iter().all(|budget| budget.used_bytes <= budget.limit_bytes));
    let _reader = world.log().read(read(v1::ReadStop::Follow)).await.expect("reads");
    world.append(0, &["one"]).await;
    // A call ends on the server a moment after its client has the answer.
    let counted = async {
        loop {
            let status = operator.get_status(v1::GetStatusRequest {}).await.expect("answers").into_inner();
            if status.open_calls == 2 {
                return status;
            }
        }
    };
    let after = timeout(PATIENCE, counted).await.expect("the reader and the call itself");
    let tail = after.memory_budgets.iter().find(|budget| budget.name == "tail").expect("a budget");
    assert!(tail.used_bytes > 0);
    world.end().await;
}

/// Whoever balances load asks for the health of writes; reads go on, so the service itself stays healthy.
#[tokio::test]
async fn the_health_of_writes_is_what_appends_would_be_told() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus as Told, health_client::HealthClient,
    };
    let full = Settings { space_floor_bytes: 1 << 60, ..Settings::default() };
    for (log, expected) in [(Settings::default(), Told::Serving), (full, Told::NotServing)] {
        let world = World::with(Duration::from_secs(5), log).await;
        let mut health = HealthClient::new(world.channel.clone());
        let mut ask = async |service: &str| {
            let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await;
            answer.ok().map(|answer| answer.into_inner().status())
        };
        let told = async { while ask(WRITES).await != Some(expected) {} };
        timeout(PATIENCE, told).await.expect("it is told soon");
        assert_eq!(ask("tillroll.v1.LogService").await, Some(Told::Serving));
        world.end().await;
    }
}

/// A record may have fields that this broker does not know: a plain append stores its bytes as they came.
#[tokio::test]
async fn what_the_broker_does_not_know_of_a_record_is_stored_and_comes_back() {
    use prost::Message as _;
    let world = World::new(Duration::from_secs(5)).await;
    // Field 200, one byte long.
    let unknown = [0xc2, 0x0c, 0x01, 0x2a];
    let known = v1::Record { value: "known".into(), ..v1::Record::default() };
    let record = [known.encode_to_vec(), unknown.to_vec()].concat();
    let set = [&[0x0a, record.len() as u8][..], &record].concat();
    let batch = tillroll_proto::raw::AppendBatch {
        topic: "orders".into(),
        partition: Some(0),
        content: Some(tillroll_proto::raw::append_batch::Content::Records(set.clone().into())),
        ..Default::default()
    };
    let request = tillroll_proto::raw::AppendRequest { batches: vec![batch], ..Default::default() };
    let mut grpc = Grpc::new(world.channel.clone());
    grpc.ready().await.expect("connected");
    let codec = ProstCodec::<tillroll_proto::raw::AppendRequest, v1::AppendResponse>::default();
    let path = "/tillroll.v1.LogService/Append".parse().expect("a path");
    grpc.unary(Request::new(request), path, codec).await.expect("accepted");
    let encoded = v1::ReadRequest { format: v1::ReadFormat::Encoded.into(), ..read(v1::ReadStop::AtEnd) };
    let mut answers = world.log().read(encoded).await.expect("reads").into_inner();
    let mut stored = Vec::new();
    while let Some(answer) = answers.message().await.expect("whole") {
        if let Some(Event::Batch(v1::Batch { encoded: Some(range), .. })) = answer.event {
            stored.push(range.batch.expect("a batch").data);
        }
    }
    assert_eq!(stored, [bytes::Bytes::from(set)]);
    world.end().await;
}

/// Whoever reads no outcomes is not answered any more; what waits for room behind it must be.
#[tokio::test]
async fn streams_whose_outcomes_are_not_read_hold_up_no_append() {
    const STREAMS: usize = 32;
    let log = Settings { in_flight_appends: 1, ..Settings::default() };
    let world = World::with(Duration::from_secs(1), log).await;
    let mut unread = Vec::new();
    for _ in 0..STREAMS {
        let (requests, stream) = mpsc::channel(64);
        // A small window is soon full.
        let endpoint = Channel::from_shared(world.url.clone()).expect("a uri").initial_stream_window_size(4_096);
        let channel = endpoint.connect().await.expect("served");
        let answers = LogServiceClient::new(channel).append_stream(ReceiverStream::new(stream)).await;
        unread.push(answers.expect("opened").into_inner());
        tokio::spawn(async move {
            for append_id in 1.. {
                let request = v1::AppendStreamRequest { append_id, append: Some(append(0, &["unread"])) };
                if requests.send(request).await.is_err() {
                    return;
                }
            }
        });
    }
    let answered = async {
        for _ in 0..600 {
            world.append(1, &["answered"]).await;
        }
    };
    timeout(PATIENCE, answered).await.expect("all of them");
    drop(unread);
    world.end().await;
}
