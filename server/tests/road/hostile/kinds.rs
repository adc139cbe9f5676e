//! What hostile clients do.

use std::time::Duration;

use bytes::Bytes;
use tillroll_proto::v1;
use tokio::{net::TcpStream, task::JoinHandle};

use super::{
    requests::{Asked, LARGE_BYTES, append, append_of},
    wire::{Connection, WINDOW, framed, prefix, send},
};

/// Calls of one hostile connection.
pub(crate) const CALLS: usize = 30;
/// Streams of appends to many partitions of one connection, and appends of each.
const WIDE_STREAMS: usize = 4;
const WIDE_APPENDS: u64 = 32;
/// A call that has not begun after this long finds no room.
const CALL_WITHIN: Duration = Duration::from_millis(100);

/// What they do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Appends that announce 8 MiB, and nothing behind that.
    Announced,
    /// Appends of 8 MiB without the last byte.
    OneByteShort,
    /// Appends of nearly 8 MiB, whole, whose end is not said.
    Unended,
    /// Reads of everything, of which nothing is taken.
    Unread,
    /// Sockets without a word, far more of them.
    Silent,
    /// Requests of a list with millions of empty entries, one after the other.
    Expanding,
    /// Streams of appends that go on while no outcome is taken.
    UnreadOutcomes,
    /// The same, and then half a request.
    HalfBehindUnread,
    /// Calls with one long answer that is not taken: pages of cursors with all that may be kept beside one.
    UnreadAnswers,
    /// Streams of appends, each to hundreds of partitions, whose outcomes are not taken.
    WideOutcomes,
    /// Cursor commits of a megabyte whose answers are not taken.
    LargeCommits,
    /// Reads of everything, of which a byte is taken now and then.
    Trickling,
    /// Members of a group that take nothing, half of them without credit.
    UnreadMembers,
    /// Appends of nearly 8 MiB, whole, one behind the other.
    WholeLarge,
    /// As many calls as they get, and not a word in them.
    IdleCalls,
    /// As many connections as they get, and not a call on them.
    IdleConnections,
}

/// What a kind can take up, besides the room for what is not whole and not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Calls,
    /// Appends that stand in the log and wait before it.
    Appends,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 16] = [
        Self::Announced,
        Self::OneByteShort,
        Self::Unended,
        Self::Unread,
        Self::Silent,
        Self::Expanding,
        Self::UnreadOutcomes,
        Self::HalfBehindUnread,
        Self::UnreadAnswers,
        Self::WideOutcomes,
        Self::LargeCommits,
        Self::Trickling,
        Self::UnreadMembers,
        Self::WholeLarge,
        Self::IdleCalls,
        Self::IdleConnections,
    ];

    /// Of each of its streams: what comes beyond it is not taken.
    fn window(self) -> u32 {
        match self {
            Self::HalfBehindUnread | Self::UnreadAnswers | Self::WideOutcomes | Self::LargeCommits => 0,
            _ => WINDOW,
        }
    }

    pub(crate) fn takes(self) -> Takes {
        match self {
            Self::Announced
            | Self::OneByteShort
            | Self::Unended
            | Self::Unread
            | Self::Silent
            | Self::Expanding
            | Self::Trickling
            | Self::IdleConnections => Takes::Nothing,
            Self::IdleCalls | Self::UnreadMembers | Self::UnreadAnswers => Takes::Calls,
            Self::UnreadOutcomes
            | Self::HalfBehindUnread
            | Self::WholeLarge
            | Self::WideOutcomes
            | Self::LargeCommits => Takes::Appends,
        }
    }
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

/// Lets them loose; answers when each has begun.
pub(crate) async fn attack(kind: Kind, address: &str, count: usize) -> Attack {
    let mut clients = Vec::new();
    let (begun, mut begins) = tokio::sync::mpsc::channel(count);
    for number in 0..count {
        let (address, begun) = (address.to_owned(), begun.clone());
        clients.push(tokio::spawn(async move {
            let mut connection = Connection::open(&address, kind.window()).await;
            let held = begin(kind, number, &address, &mut connection).await;
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
    let whole = framed(&append_of(kind));
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::open(address, WINDOW).await;
        let whole = whole.clone();
        clients.push(tokio::spawn(async move {
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

/// Whatever lives as long as the client does.
#[derive(Default)]
struct Held {
    calls: Vec<(h2::client::ResponseFuture, h2::SendStream<Bytes>)>,
    sockets: Vec<TcpStream>,
    connections: Vec<Connection>,
    reading: Option<JoinHandle<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}

async fn begin(kind: Kind, number: usize, address: &str, connection: &mut Connection) -> Held {
    let mut held = Held::default();
    if let Some(asked) = Asked::of(kind, number) {
        ask(connection, &asked, &mut held).await;
    }
    match kind {
        Kind::Announced => {
            for _ in 0..CALLS {
                let Some((response, mut stream)) = connection.call("LogService/Append").await else { break };
                send(&mut stream, prefix(8 << 20).into()).await;
                held.calls.push((response, stream));
            }
        }
        Kind::OneByteShort => {
            let Some((response, mut stream)) = connection.call("LogService/Append").await else { return held };
            let mut bytes = prefix(8 << 20);
            bytes.resize(bytes.len() + (8 << 20) - 1, 7);
            let sending = send(&mut stream, bytes.into());
            // The broker may not take all of it.
            let _sent = tokio::time::timeout(Duration::from_secs(2), sending).await;
            held.calls.push((response, stream));
        }
        Kind::Unended => {
            let whole = framed(&append_of(Kind::WholeLarge));
            for _ in 0..CALLS {
                let Some((response, mut stream)) = connection.call("LogService/Append").await else { break };
                // The broker may not take all of it.
                let _sent = tokio::time::timeout(CALL_WITHIN, send(&mut stream, whole.clone())).await;
                held.calls.push((response, stream));
            }
        }
        Kind::Trickling => {
            held.reading = held.calls.pop().map(|(response, stream)| tokio::spawn(trickle(response, stream)));
        }
        Kind::IdleCalls => {
            for _ in 0..200 {
                // What is refused is over at once, and its place is free for the next one.
                let calling = tokio::time::timeout(CALL_WITHIN, connection.call("LogService/AppendStream"));
                let Ok(Some(call)) = calling.await else { break };
                held.calls.push(call);
            }
        }
        Kind::Silent => {
            for _ in 0..10 {
                let address = address.trim_start_matches("http://");
                held.sockets.push(TcpStream::connect(address).await.expect("the broker listens"));
            }
        }
        Kind::IdleConnections => {
            for _ in 0..20 {
                held.connections.extend(Connection::try_open(address, WINDOW).await);
            }
        }
        _ => {}
    }
    held
}

/// Calls that say this and take nothing of what comes.
async fn ask(connection: &mut Connection, asked: &Asked, held: &mut Held) {
    for _ in 0..asked.calls {
        // There may be no more: then it has begun all the same.
        let calling = tokio::time::timeout(CALL_WITHIN, connection.call(asked.path));
        let Ok(Some((response, mut stream))) = calling.await else { break };
        send(&mut stream, asked.request.clone()).await;
        if asked.ends {
            let _ended = stream.send_data(Bytes::new(), true);
        }
        held.calls.push((response, stream));
    }
}

/// Takes a byte of a response, over and over.
async fn trickle(response: h2::client::ResponseFuture, stream: h2::SendStream<Bytes>) {
    let Ok(answer) = response.await else { return };
    let mut body = answer.into_body();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    while let Some(Ok(bytes)) = body.data().await {
        for _ in 0..bytes.len() {
            ticks.tick().await;
            let _given_back = body.flow_control().release_capacity(1);
        }
    }
    drop(stream);
}

async fn go_on(kind: Kind, connection: &mut Connection) {
    match kind {
        Kind::Expanding => loop {
            let within = |field: u8, body: &[u8]| [&[field][..], &varint(body.len()), body].concat();
            // A million empty names in the configuration of a group, a million empty records of a batch.
            let empty = [0x0a, 0].repeat(1 << 20);
            let group = within(0x12, &empty);
            let batch = [within(0x0a, b"orders"), within(0x1a, &empty)].concat();
            let append = within(0x0a, &batch);
            for (path, request) in [("GroupService/CreateGroup", group), ("LogService/Append", append)] {
                let whole: Bytes = [prefix(request.len()), request].concat().into();
                let Some((response, mut stream)) = connection.call(path).await else { return };
                send(&mut stream, whole).await;
                let _refused = response.await;
            }
        },
        Kind::WholeLarge => {
            let record = v1::Record { value: vec![7; LARGE_BYTES / 8].into(), ..v1::Record::default() };
            let whole = framed(&append(vec![record; 8]));
            let mut calls = Vec::new();
            while let Some((response, mut stream)) = connection.call("LogService/Append").await {
                // The windows may be full: then it waits, as they do.
                if !send(&mut stream, whole.clone()).await || stream.send_data(Bytes::new(), true).is_err() {
                    return;
                }
                calls.push(response);
                if calls.len() >= CALLS {
                    let _answered = calls.remove(0).await;
                }
            }
        }
        Kind::UnreadOutcomes | Kind::HalfBehindUnread => {
            let Some((response, mut stream)) = connection.call("LogService/AppendStream").await else { return };
            // So many outcomes wait for the client that the broker takes in no more, or as many appends as it takes.
            let (bytes, appends) =
                if matches!(kind, Kind::HalfBehindUnread) { (1, 1_500) } else { (4 << 10, u64::MAX) };
            let append = append(vec![v1::Record { value: vec![7; bytes].into(), ..v1::Record::default() }]);
            for append_id in 1..appends {
                let request = v1::AppendStreamRequest { append_id, append: Some(append.clone()) };
                if !send(&mut stream, framed(&request)).await {
                    return;
                }
            }
            let mut half = prefix(8 << 20);
            half.resize(4 << 20, 7);
            send(&mut stream, half.into()).await;
            std::future::pending::<()>().await;
            drop(response);
        }
        Kind::WideOutcomes => {
            let append = append_of(kind);
            let mut calls = Vec::new();
            for _ in 0..WIDE_STREAMS {
                let Some((response, mut stream)) = connection.call("LogService/AppendStream").await else { return };
                for append_id in 1..=WIDE_APPENDS {
                    let request = v1::AppendStreamRequest { append_id, append: Some(append.clone()) };
                    // Where nothing more is taken it goes on with the next one.
                    let sending = tokio::time::timeout(CALL_WITHIN, send(&mut stream, framed(&request)));
                    if !sending.await.unwrap_or(false) {
                        break;
                    }
                }
                calls.push((response, stream));
            }
            std::future::pending::<()>().await;
            drop(calls);
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
