//! Goal: calls that wait end with what they waited for, or with a reason.
//!
//! Method: a server on a socket over a log on the simulated disk, whose stages move only when the test steps them: what
//! waits waits until then.

use std::time::{Duration, Instant};

use tillroll_engine::{
    disk::sim::SimDisk,
    id::{Lane, Offset, Partition},
    request::{Append, AppendBatch, Content, TopicConfig},
    ticket::Ticket,
};
use tillroll_proto::{
    reason,
    reason::key,
    v1::{self, log_service_client::LogServiceClient, read_response::Event},
};
use tillroll_server::{Server, ServerSettings};
use tillroll_tests::world::{World, record_set, settings};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// No test needs as long.
const PATIENCE: Duration = Duration::from_mins(1);
const SEED: u64 = 51;

/// A log that stands still, and a client of the server in front of it.
struct Held {
    world: World,
    lane: Lane,
    client: LogServiceClient<Channel>,
}

impl Held {
    async fn new() -> Self {
        println!("seed {SEED}");
        let mut world = World::open(&SimDisk::new(SEED), settings(), SEED).expect("it opens");
        let config = TopicConfig { partitions: 1, segment_bytes: 64 << 10, ..TopicConfig::default() };
        let ticket = world.engine.create_topic("orders", config, false);
        let topic = world.wait(&ticket).expect("answered").expect("created").topic.id;
        let any = "127.0.0.1:0".parse().expect("an address");
        let server = Server::bind(any, world.engine.clone(), ServerSettings::default()).await.expect("a port");
        let address = server.local_addr().expect("bound");
        // It ends with the test's runtime.
        tokio::spawn(async move { server.serve(CancellationToken::new()).await.is_ok() });
        let channel = Channel::from_shared(format!("http://{address}")).expect("a uri").connect().await;
        let client = LogServiceClient::new(channel.expect("served"));
        Self { world, lane: Lane { topic, partition: Partition(0) }, client }
    }

    /// An append of one record past the socket.
    fn append(&self, bytes: usize) -> Ticket<tillroll_engine::request::Appended> {
        let content = Content::Plain(record_set(&[vec![7; bytes]]));
        let batch = AppendBatch { topic: "orders".into(), topic_id: None, partition: Some(Partition(0)), content };
        self.world.engine.try_append(Append { batches: vec![batch], ..Append::default() })
    }

    /// Steps the log until this is so.
    async fn step_until(&mut self, what: &str, is_so: impl Fn() -> bool) {
        let since = Instant::now();
        while !is_so() {
            assert!(since.elapsed() < PATIENCE, "{what}: not in time");
            self.world.driver.steps(100);
            tokio::task::yield_now().await;
        }
    }
}

/// An append of one record over the socket.
fn request(bytes: usize) -> v1::AppendRequest {
    let record = v1::Record { value: vec![8; bytes].into(), ..v1::Record::default() };
    let batch = v1::AppendBatch {
        topic: "orders".into(),
        partition: Some(0),
        content: Some(v1::append_batch::Content::Records(v1::RecordSet { records: vec![record] })),
        topic_id: String::new(),
    };
    v1::AppendRequest { batches: vec![batch], ..v1::AppendRequest::default() }
}

fn reason_of(status: &Status) -> String {
    status.get_details_error_info().map_or_else(|| format!("none: {status}"), |info| info.reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_waits_for_room_is_answered_when_room_comes_or_refused_at_its_deadline() {
    let mut held = Held::new().await;
    let room = settings().in_flight_bytes;
    let first = held.append(50_000);
    assert!(50_000 < room && 50_000 + 20_000 > room, "a second one has no room beside it");
    let mut client = held.client.clone();
    let waits = tokio::spawn(async move { client.append(request(20_000)).await });
    let mut late = Request::new(request(20_000));
    late.set_timeout(Duration::from_secs(1));
    let refused = held.client.append(late).await.expect_err("nothing moves before its deadline");
    assert_eq!(reason_of(&refused), reason::TOO_MANY_IN_FLIGHT, "the server says it, and not the deadline");
    let wait = refused.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(wait.is_some(), "it may be tried again");
    assert!(!waits.is_finished(), "without a deadline it waits on");

    held.step_until("an answer", || waits.is_finished()).await;
    let first = first.try_take().expect("it was answered before").expect("accepted");
    let second = waits.await.expect("no panic").expect("accepted").into_inner();
    assert_eq!((first.batches[0].base, second.batches[0].base_offset), (Offset(0), 1));
    held.world.driver.settle(100_000);
    let extent = held.world.engine.extent(held.lane).expect("it is there");
    assert_eq!(extent.end, Offset(2), "the refused one wrote nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_follows_a_topic_ends_with_its_deletion() {
    let mut held = Held::new().await;
    let first = held.append(10);
    held.world.wait(&first).expect("answered").expect("accepted");
    let start = v1::StartPosition { at: Some(v1::start_position::At::Earliest(true)) };
    let read = v1::ReadRequest {
        topic: "orders".into(),
        start: Some(start),
        stop: v1::ReadStop::Follow as i32,
        ..v1::ReadRequest::default()
    };
    let mut responses = held.client.read(read).await.expect("it is there").into_inner();
    let mut records = 0;
    while let Some(response) = responses.message().await.expect("open") {
        match response.event {
            Some(Event::Batch(batch)) => records += batch.records.len(),
            Some(Event::CaughtUp(_)) => break,
            _ => {}
        }
    }
    assert_eq!(records, 1, "it waits at the end");
    let id = held.lane.topic;
    let deleted = held.world.engine.delete_topic("orders", id);
    held.world.wait(&deleted).expect("answered").expect("deleted");
    let end = loop {
        match timeout(PATIENCE, responses.message()).await.expect("it is told") {
            Ok(Some(response)) => assert!(matches!(response.event, Some(Event::Heartbeat(_))), "{response:?}"),
            Ok(None) => panic!("as if all were well"),
            Err(status) => break status,
        }
    };
    assert_eq!(reason_of(&end), reason::TOPIC_NOT_FOUND);
    let facts = end.get_details_error_info().expect("it has a reason").metadata;
    assert_eq!((facts[key::TOPIC].as_str(), facts[key::TOPIC_ID].as_str()), ("orders", id.hex().as_str()));
}
