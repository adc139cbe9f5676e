//! A server on a directory of its own, and what every test needs of it.

use std::collections::BTreeMap;

use prost::Message as _;
use tillroll_engine::{driver::threads::Running, settings::Settings};
use tillroll_proto::v1::{
    self, append_batch::Content, group_service_client::GroupServiceClient, log_service_client::LogServiceClient,
    topic_service_client::TopicServiceClient,
};
use tillroll_server::{Server, ServerSettings, refusal::table};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use tonic_types::{StatusExt as _, pb};

/// The topic that every good append goes to; it has two partitions.
pub const TOPIC: &str = "orders";

/// A server with one topic, and one connection to it.
pub struct Road {
    /// `LogService`.
    pub log: LogServiceClient<Channel>,
    /// `TopicService`.
    pub topics: TopicServiceClient<Channel>,
    /// `GroupService`.
    pub groups: GroupServiceClient<Channel>,
    /// The topic's id.
    pub topic_id: String,
    stop: CancellationToken,
    serving: JoinHandle<bool>,
    running: Running,
    _directory: tempfile::TempDir,
}

impl Road {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// As everything here: when what every test builds on does not work.
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let running = Running::start(directory.path(), Settings::default()).expect("an engine");
        let any = "127.0.0.1:0".parse().expect("an address");
        let server = Server::bind(any, running.engine.clone(), ServerSettings::default()).await.expect("a port");
        let address = server.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serving = tokio::spawn(async move { server.serve(stopped).await.is_ok() });
        let channel = Channel::from_shared(format!("http://{address}")).expect("a uri").connect().await;
        let channel = channel.expect("served");
        let mut topics = TopicServiceClient::new(channel.clone());
        let config = v1::TopicConfig { partitions: Some(2), ..v1::TopicConfig::default() };
        let create = v1::CreateTopicRequest { name: TOPIC.into(), config: Some(config), dry_run: false };
        let created = topics.create_topic(create).await.expect("created").into_inner();
        let topic_id = created.topic.expect("it says which").topic_id;
        let groups = GroupServiceClient::new(channel.clone());
        let log = LogServiceClient::new(channel).max_encoding_message_size(16 << 20);
        Self { log, topics, groups, topic_id, stop, serving, running, _directory: directory }
    }

    /// Where the partitions end.
    ///
    /// # Panics
    ///
    /// When it is not so.
    pub async fn ends(&mut self) -> Vec<u64> {
        let asked = v1::GetTopicRequest { name: TOPIC.into() };
        let topic = self.topics.get_topic(asked).await.expect("it is there").into_inner().topic;
        topic.expect("it says which").partitions.iter().map(|partition| partition.end_offset).collect()
    }

    /// A good append on the same connection, which lands where the partition ended.
    ///
    /// # Panics
    ///
    /// When it is not so.
    pub async fn append_good(&mut self, after: &str) {
        let end = self.ends().await[1];
        let answer = self.log.append(good()).await.unwrap_or_else(|status| panic!("after {after}: {status}"));
        assert_eq!(answer.into_inner().batches[0].base_offset, end, "after {after}");
    }

    /// The server ends well.
    ///
    /// # Panics
    ///
    /// When it is not so.
    pub async fn end(self) {
        self.stop.cancel();
        drop((self.log, self.topics, self.groups));
        assert!(self.serving.await.expect("no panic"));
        self.running.stop();
    }
}

/// An append that nothing is wrong with.
pub fn good() -> v1::AppendRequest {
    plain(TOPIC, 1, vec![record(b"good")])
}

/// A record of this value.
pub fn record(value: &[u8]) -> v1::Record {
    v1::Record { value: value.to_vec().into(), ..v1::Record::default() }
}

/// An append of plain records.
pub fn plain(topic: &str, partition: u32, records: Vec<v1::Record>) -> v1::AppendRequest {
    let batch = v1::AppendBatch {
        topic: topic.into(),
        partition: Some(partition),
        content: Some(Content::Records(v1::RecordSet { records })),
        topic_id: String::new(),
    };
    v1::AppendRequest { batches: vec![batch], ..v1::AppendRequest::default() }
}

/// What a refusal must say: its reason and all of its facts.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Its reason.
    pub reason: &'static str,
    /// Its facts.
    pub facts: BTreeMap<String, String>,
}

/// See [`Expected`].
pub fn expected(reason: &'static str, facts: &[(&str, &dyn std::fmt::Display)]) -> Expected {
    Expected { reason, facts: facts.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect() }
}

impl Expected {
    /// Holds a status against it, and against the row that all refusals of the reason share.
    ///
    /// # Panics
    ///
    /// When it is not so.
    pub fn check(&self, name: &str, status: &Status) {
        let info = status.get_details_error_info().unwrap_or_else(|| panic!("{name}: no reason in {status}"));
        assert_eq!(info.reason, self.reason, "{name}: {}", status.message());
        assert_eq!(info.domain, "tillroll", "{name}");
        let facts: BTreeMap<String, String> = info.metadata.into_iter().collect();
        assert_eq!(facts, self.facts, "{name}: {}", status.message());
        let row = table::ALL.iter().find(|row| row.reason == self.reason).expect("the reason is known");
        assert_eq!(status.code(), row.code, "{name}");
        let first = status.message().chars().next().expect("it says something");
        assert!(!first.is_uppercase(), "{name}: {}", status.message());
    }

    /// The same for a refusal that is an outcome on a stream.
    ///
    /// # Panics
    ///
    /// When it is not so.
    pub fn check_message(&self, name: &str, message: &pb::Status) {
        let (code, details) = (Code::from_i32(message.code), message.encode_to_vec());
        self.check(name, &Status::with_details(code, message.message.clone(), details.into()));
    }
}
