//! What hostile clients ask for, and what there is to ask for.

use std::ops::Range;

use bytes::Bytes;
use tillroll_client::{AssignmentRule, Client, GroupMode, GroupOptions, Position, Record, TopicOptions};
use tillroll_proto::v1::{
    self, consume_request::Action, group_service_client::GroupServiceClient, log_service_client::LogServiceClient,
    start_position::At,
};
use tonic::transport::Endpoint;

use super::{
    kinds::{CALLS, Kind},
    wire::framed,
};

/// Bytes of a large append's records.
pub(crate) const LARGE_BYTES: usize = 7 << 20;
/// As many as one connection may have open.
const MANY_CALLS: usize = 256;

/// Calls of which nothing is taken.
pub(crate) struct Asked {
    pub(crate) calls: usize,
    pub(crate) path: &'static str,
    pub(crate) request: Bytes,
    /// A call with one request begins when that has ended.
    pub(crate) ends: bool,
}

impl Asked {
    /// What this kind asks for, if that is how it begins.
    pub(crate) fn of(kind: Kind, number: usize) -> Option<Self> {
        let (calls, path, request) = match kind {
            Kind::Unread | Kind::Trickling => (CALLS, "LogService/Read", framed(&read_all())),
            Kind::UnreadAnswers => {
                let list = v1::ListCursorsRequest {
                    group: "remembers".into(),
                    page_size: 1_000,
                    ..v1::ListCursorsRequest::default()
                };
                (MANY_CALLS, "GroupService/ListCursors", framed(&list))
            }
            Kind::LargeCommits => (CALLS, "GroupService/CommitCursors", framed(&remembering(0..512, 1, 1))),
            Kind::UnreadMembers => {
                let join = v1::Join {
                    group: "crowd".into(),
                    member_id: format!("member-{number}"),
                    instance_id: "1".into(),
                    initial_credit_bytes: Some(if number.is_multiple_of(2) { 0 } else { 64 << 20 }),
                    ..v1::Join::default()
                };
                let join = v1::ConsumeRequest { action: Some(Action::Join(join)) };
                (CALLS, "GroupService/Consume", framed(&join))
            }
            _ => return None,
        };
        Some(Self { calls, path, request, ends: !matches!(kind, Kind::UnreadMembers) })
    }
}

/// Cursor commits from one offset to the next, each with as much as may be kept beside a cursor.
fn remembering(partitions: Range<u32>, from: u64, next: u64) -> v1::CommitCursorsRequest {
    let commit = |partition| v1::CursorCommit {
        group: "remembers".into(),
        topic: "wide".into(),
        partition,
        next_offset: next,
        expected_offset: Some(from),
        metadata: vec![7; 1_000].into(),
        ..v1::CursorCommit::default()
    };
    v1::CommitCursorsRequest { commits: partitions.map(commit).collect() }
}

/// A group with a megabyte beside its cursors.
async fn remember(address: &str, client: &Client) {
    let options = GroupOptions::new(["wide"], GroupMode::Manual, Position::Earliest);
    client.groups().create("remembers", options).await.expect("a group");
    let endpoint = Endpoint::from_shared(format!("http://{}", address.trim_start_matches("http://")));
    let channel = endpoint.expect("an address").connect().await.expect("it listens");
    let record = v1::Record { value: vec![7].into(), ..v1::Record::default() };
    let batch = |partition| v1::AppendBatch {
        topic: "wide".into(),
        partition: Some(partition),
        content: Some(v1::append_batch::Content::Records(v1::RecordSet { records: vec![record.clone()] })),
        ..v1::AppendBatch::default()
    };
    let append = v1::AppendRequest { batches: (0..1_024).map(batch).collect(), ..v1::AppendRequest::default() };
    LogServiceClient::new(channel.clone()).append(append).await.expect("accepted");
    let mut groups = GroupServiceClient::new(channel);
    for partitions in [0..512, 512..1_024] {
        groups.commit_cursors(remembering(partitions, 0, 1)).await.expect("committed");
    }
}

/// Something to read: 16 MiB. A topic with many partitions, a group to be a member of, and one with much beside its
/// cursors.
pub(crate) async fn fill(address: &str, client: &Client) {
    let wide = TopicOptions::default().partitions(1_024);
    client.admin().create_topic("wide", wide).await.expect("a new topic");
    remember(address, client).await;
    let options = GroupOptions::new(["orders"], GroupMode::Members(AssignmentRule::Spread), Position::Earliest);
    client.groups().create("crowd", options).await.expect("a group");
    let producer = client.producer("orders").build().await.expect("registered");
    let mut tickets = Vec::new();
    for number in 0..256 {
        let record = Record::new(vec![7; 64 << 10]).key(format!("k{number}"));
        tickets.push(producer.send(record).await.expect("it has room"));
    }
    for ticket in tickets {
        ticket.await.expect("accepted");
    }
}

/// An append that costs what a request of this kind does.
pub(crate) fn append_of(kind: Kind) -> v1::AppendRequest {
    const RECORD_BYTES: usize = 64 << 10;
    let records = match kind {
        Kind::WideOutcomes => {
            // Each record to another partition, in few bytes; the broker divides them.
            let key = |key: u32| Some(key.to_le_bytes().to_vec().into());
            let records = (0..256).map(|number| v1::Record { key: key(number), ..v1::Record::default() });
            let mut append = append(records.collect());
            (append.batches[0].topic, append.batches[0].partition) = ("wide".into(), None);
            return append;
        }
        Kind::Expanding => (2 << 20) / RECORD_BYTES,
        Kind::WholeLarge => LARGE_BYTES / RECORD_BYTES,
        _ => 1,
    };
    append(vec![v1::Record { value: vec![7; RECORD_BYTES].into(), ..v1::Record::default() }; records])
}

pub(crate) fn append(records: Vec<v1::Record>) -> v1::AppendRequest {
    let records = v1::append_batch::Content::Records(v1::RecordSet { records });
    let batch = v1::AppendBatch {
        topic: "orders".into(),
        partition: Some(0),
        content: Some(records),
        ..v1::AppendBatch::default()
    };
    v1::AppendRequest { batches: vec![batch], ..v1::AppendRequest::default() }
}

fn read_all() -> v1::ReadRequest {
    v1::ReadRequest {
        topic: "orders".into(),
        start: Some(v1::StartPosition { at: Some(At::Earliest(true)) }),
        stop: v1::ReadStop::Follow.into(),
        max_response_bytes: 8 << 20,
        ..v1::ReadRequest::default()
    }
}
