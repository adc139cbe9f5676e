//! A broker in memory that keeps the contract of producers, reads and consumer
//! groups over a real socket, and misbehaves as a script says.

mod log;
mod topics;
mod group;
mod consume;

pub(crate) use group::Cursor;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use parking_lot::Mutex;
use tillroll_proto::{reason, v1};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
};
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
    /// The read is refused with this reason.
    Refuse(&'static str),
}

/// A topic and a partition.
pub(crate) type Lane = (String, u32);

/// An encoded batch in the log.
#[derive(Clone)]
pub(crate) struct Stored {
    pub base_offset: u64,
    pub append_time_us: i64,
    pub batch: v1::EncodedBatch,
}

impl Stored {
    pub(crate) fn end(&self) -> u64 {
        self.base_offset + u64::from(self.batch.record_count)
    }

    pub(crate) fn range(&self) -> v1::EncodedRange {
        let (record_count, append_time_us) = (self.batch.record_count, self.append_time_us);
        v1::EncodedRange {
            base_offset: self.base_offset,
            times: vec![v1::AppendTimeRun { record_count, append_time_us }],
            batch: Some(self.batch.clone()),
            ..Default::default()
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub partitions: u32,
    /// Topics with another number of partitions.
    pub uneven: BTreeMap<String, u32>,
    pub incarnation: u64,
    pub log: BTreeMap<Lane, Vec<Stored>>,
    pub groups: BTreeMap<String, group::Group>,
    /// Groups have more cursors than one answer takes.
    pub has_more_cursors: bool,
    /// How often a group was looked up, and a page of cursors was asked for.
    pub looks: (u64, u64),
    /// The append time of the newest append.
    pub time_us: i64,
    pub streams: u64,
    pub changed: Arc<Notify>,
    pub producers: BTreeMap<String, Producer>,
    pub fates: VecDeque<Fate>,
    pub read_fates: VecDeque<ReadFate>,
    /// Appends that were accepted, in order, by their number of batches.
    pub accepted: Vec<usize>,
    pub made_up: u64,
    /// Producers are registered only with a permit of this, when there is one.
    pub registrations: Option<Arc<Semaphore>>,
    /// How many more producers are known at most, when there is a limit.
    pub room: Option<usize>,
    /// What readers asked for, in order.
    pub reads: Vec<v1::ReadRequest>,
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
    /// Something is another way than before.
    pub changed: Arc<Notify>,
}

impl Fake {
    /// Serves a topic of so many partitions, under any name, on a free port.
    pub(crate) async fn start(partitions: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = State { partitions, incarnation: 1, ..State::default() };
        let changed = Arc::clone(&state.changed);
        let fake = Self { state: Arc::new(Mutex::new(state)), address, changed };
        let server = tonic::transport::Server::builder()
            .add_service(v1::log_service_server::LogServiceServer::new(fake.clone()))
            .add_service(v1::topic_service_server::TopicServiceServer::new(fake.clone()))
            .add_service(v1::group_service_server::GroupServiceServer::new(fake.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        fake
    }

    pub(crate) async fn client(&self) -> tillroll_client::Client {
        tillroll_client::Client::connect(&self.address.to_string()).await.expect("it listens")
    }

    /// Waits until this holds.
    pub(crate) async fn until(&self, mut holds: impl FnMut(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if holds(&self.state.lock()) {
                return;
            }
            changed.await;
        }
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
    refusal_of(name, facts, &[])
}

/// The same with the fields that are at fault.
pub(crate) fn refusal_of(name: &str, facts: &[(&str, String)], fields: &[String]) -> tonic::Status {
    let code = match name {
        reason::TOPIC_NOT_FOUND | reason::PARTITION_NOT_FOUND | reason::GROUP_NOT_FOUND => tonic::Code::NotFound,
        reason::DISK_FULL | reason::JOURNAL_FULL | reason::PRODUCERS_FULL => tonic::Code::ResourceExhausted,
        reason::LOG_POISONED | reason::OUTCOME_UNKNOWN => tonic::Code::Unavailable,
        _ => tonic::Code::FailedPrecondition,
    };
    let facts = facts.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    let mut details = ErrorDetails::new();
    details.set_error_info(name, reason::DOMAIN, facts.collect::<std::collections::HashMap<_, _>>());
    for field in fields {
        details.add_precondition_failure_violation(name, field, "it is at fault");
    }
    tonic::Status::with_error_details(code, format!("refused as {name}"), details)
}

pub(crate) fn as_message(status: &tonic::Status) -> tonic_types::pb::Status {
    prost::Message::decode(status.details()).expect("it was made with details")
}
