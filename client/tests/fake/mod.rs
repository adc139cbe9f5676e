//! A broker in memory that keeps the contract of producers and reads over a
//! real socket, and misbehaves as a script says.

mod log;
mod topics;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use parking_lot::Mutex;
use tillroll_proto::{reason, v1};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic_types::{ErrorDetails, StatusExt as _};

/// What becomes of the next append that arrives on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// As the contract says.
    Keep,
    /// The stream breaks before it is looked at.
    LoseBefore,
    /// It is accepted, and the stream breaks before the answer.
    LoseAfter,
    /// It is refused with this reason.
    Refuse(&'static str),
    /// The producer is forgotten, then it is looked at.
    Forget,
}

/// What became of the next response of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadFate {
    Keep,
    /// The stream breaks before it.
    Break,
    /// A byte of it is wrong.
    Damage,
}

#[derive(Default)]
pub(crate) struct State {
    pub partitions: u32,
    /// Encoded batches with their base offsets, by partition.
    pub log: BTreeMap<u32, Vec<(u64, v1::EncodedBatch)>>,
    pub producers: BTreeMap<String, Producer>,
    pub fates: VecDeque<Fate>,
    pub read_fates: VecDeque<ReadFate>,
    /// Appends that were accepted, in order, by their number of batches.
    pub accepted: Vec<usize>,
    pub made_up: u64,
}

#[derive(Clone, Default)]
pub(crate) struct Producer {
    pub epoch: u64,
    pub next: u64,
    pub records: u64,
    pub answers: BTreeMap<u64, (u32, v1::AppendResponse)>,
}

#[derive(Clone)]
pub(crate) struct Fake {
    pub state: Arc<Mutex<State>>,
    pub address: SocketAddr,
}

impl Fake {
    /// Serves a topic of so many partitions, under any name, on a free port.
    pub(crate) async fn start(partitions: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = State { partitions, ..State::default() };
        let fake = Self { state: Arc::new(Mutex::new(state)), address };
        let server = tonic::transport::Server::builder()
            .add_service(v1::log_service_server::LogServiceServer::new(fake.clone()))
            .add_service(v1::topic_service_server::TopicServiceServer::new(fake.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        fake
    }

    pub(crate) async fn client(&self) -> tillroll_client::Client {
        tillroll_client::Client::connect(&self.address.to_string()).await.expect("it listens")
    }

    pub(crate) fn script(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state.lock().fates.extend(fates);
    }

    pub(crate) fn read_script(&self, fates: impl IntoIterator<Item = ReadFate>) {
        self.state.lock().read_fates.extend(fates);
    }
}

/// A refusal with its reason and facts.
pub(crate) fn refusal(name: &str, facts: &[(&str, String)]) -> tonic::Status {
    let code = match name {
        reason::TOPIC_NOT_FOUND | reason::PARTITION_NOT_FOUND => tonic::Code::NotFound,
        reason::DISK_FULL | reason::JOURNAL_FULL => tonic::Code::ResourceExhausted,
        reason::LOG_POISONED | reason::OUTCOME_UNKNOWN => tonic::Code::Unavailable,
        _ => tonic::Code::FailedPrecondition,
    };
    let facts = facts.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    let mut details = ErrorDetails::new();
    details.set_error_info(name, reason::DOMAIN, facts.collect::<std::collections::HashMap<_, _>>());
    tonic::Status::with_error_details(code, format!("refused as {name}"), details)
}

pub(crate) fn as_message(status: &tonic::Status) -> tonic_types::pb::Status {
    prost::Message::decode(status.details()).expect("it was made with details")
}
