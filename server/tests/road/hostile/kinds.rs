//! What hostile clients do.

use std::time::Duration;

use bytes::Bytes;
use tillroll_client::{Client, Record};
use tillroll_proto::v1::{self, start_position::At};
use tokio::{net::TcpStream, task::JoinHandle};

use super::wire::{Connection, framed, prefix, send};

/// Calls of one hostile connection.
const CALLS: usize = 30;

/// What they do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Appends that announce 8 MiB, and nothing behind that.
    Announced,
    /// Appends of 8 MiB without the last byte.
    OneByteShort,
    /// Reads of everything, of which nothing is taken.
    Unread,
    /// Sockets without a word, far more of them.
    Silent,
    /// Requests of a list with millions of empty entries, one after the other.
    Expanding,
    /// Streams of appends that go on while no outcome is taken.
    UnreadOutcomes,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Announced, Self::OneByteShort, Self::Unread, Self::Silent, Self::Expanding, Self::UnreadOutcomes];
}

/// Hostile clients at work; gone when it is dropped.
pub(crate) struct Attack {
    clients: Vec<JoinHandle<()>>,
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.clients.iter().for_each(JoinHandle::abort);
    }
}

/// Something to read: 16 MiB.
pub(crate) async fn fill(client: &Client) {
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

/// Lets them loose; answers when each has begun.
pub(crate) async fn attack(kind: Kind, address: &str, count: usize) -> Attack {
    let mut clients = Vec::new();
    let (begun, mut begins) = tokio::sync::mpsc::channel(count);
    for _ in 0..count {
        let (address, begun) = (address.to_owned(), begun.clone());
        clients.push(tokio::spawn(async move {
            let mut connection = Connection::open(&address).await;
            let held = begin(kind, &address, &mut connection).await;
            let _all_have = begun.send(()).await;
            drop(begun);
            go_on(kind, &mut connection).await;
            std::future::pending::<()>().await;
            drop(held);
        }));
    }
    drop(begun);
    while begins.recv().await.is_some() {}
    Attack { clients }
}

/// As many clients that behave: each appends as much as a request of this kind has, waits for the answer, and goes on.
/// They take the processor and the disk as far as these go.
pub(crate) async fn behave(kind: Kind, address: &str, count: usize) -> Attack {
    const RECORD_BYTES: usize = 64 << 10;
    let records = if matches!(kind, Kind::Expanding) { (2 << 20) / RECORD_BYTES } else { 1 };
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::open(address).await;
        clients.push(tokio::spawn(async move {
            let record = v1::Record { value: vec![7; RECORD_BYTES].into(), ..v1::Record::default() };
            let whole = framed(&append(vec![record; records]));
            while let Some((response, mut stream)) = connection.call("LogService/Append").await {
                send(&mut stream, whole.clone()).await;
                let _ended = stream.send_data(Bytes::new(), true);
                let Ok(answer) = response.await else { return };
                let mut body = answer.into_body();
                while let Some(Ok(bytes)) = body.data().await {
                    let _given_back = body.flow_control().release_capacity(bytes.len());
                }
            }
        }));
    }
    Attack { clients }
}

fn append(records: Vec<v1::Record>) -> v1::AppendRequest {
    let records = v1::append_batch::Content::Records(v1::RecordSet { records });
    let batch = v1::AppendBatch {
        topic: "orders".into(),
        partition: Some(0),
        content: Some(records),
        ..v1::AppendBatch::default()
    };
    v1::AppendRequest { batches: vec![batch], ..v1::AppendRequest::default() }
}

type Held = (Vec<(h2::client::ResponseFuture, h2::SendStream<Bytes>)>, Vec<TcpStream>);

async fn begin(kind: Kind, address: &str, connection: &mut Connection) -> Held {
    let mut held: Held = (Vec::new(), Vec::new());
    match kind {
        Kind::Announced => {
            for _ in 0..CALLS {
                let Some((response, mut stream)) = connection.call("LogService/Append").await else { break };
                send(&mut stream, prefix(8 << 20).into()).await;
                held.0.push((response, stream));
            }
        }
        Kind::OneByteShort => {
            let Some((response, mut stream)) = connection.call("LogService/Append").await else { return held };
            let mut bytes = prefix(8 << 20);
            bytes.resize(bytes.len() + (8 << 20) - 1, 7);
            let sending = send(&mut stream, bytes.into());
            // The broker may not take all of it.
            let _sent = tokio::time::timeout(Duration::from_secs(2), sending).await;
            held.0.push((response, stream));
        }
        Kind::Unread => {
            let read = v1::ReadRequest {
                topic: "orders".into(),
                start: Some(v1::StartPosition { at: Some(At::Earliest(true)) }),
                stop: v1::ReadStop::Follow.into(),
                max_response_bytes: 8 << 20,
                ..v1::ReadRequest::default()
            };
            for _ in 0..CALLS {
                let Some((response, mut stream)) = connection.call("LogService/Read").await else { break };
                send(&mut stream, framed(&read)).await;
                held.0.push((response, stream));
            }
        }
        Kind::Silent => {
            for _ in 0..10 {
                let address = address.trim_start_matches("http://");
                held.1.push(TcpStream::connect(address).await.expect("the broker listens"));
            }
        }
        Kind::Expanding | Kind::UnreadOutcomes => {}
    }
    held
}

async fn go_on(kind: Kind, connection: &mut Connection) {
    match kind {
        Kind::Expanding => loop {
            // A million empty names.
            let body = [0x0a, 0].repeat(1 << 20);
            let config = [&[0x12][..], &varint(body.len()), &body].concat();
            let whole: Bytes = [prefix(config.len()), config].concat().into();
            let Some((response, mut stream)) = connection.call("GroupService/CreateGroup").await else { return };
            send(&mut stream, whole).await;
            let _refused = response.await;
        },
        Kind::UnreadOutcomes => {
            let Some((response, mut stream)) = connection.call("LogService/AppendStream").await else { return };
            let append = append(vec![v1::Record { value: vec![7; 4 << 10].into(), ..v1::Record::default() }]);
            for append_id in 1.. {
                let request = v1::AppendStreamRequest { append_id, append: Some(append.clone()) };
                if !send(&mut stream, framed(&request)).await {
                    break;
                }
            }
            drop(response);
        }
        _ => {}
    }
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
