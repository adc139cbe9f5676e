//! HTTP/2 by hand, over a socket that nobody reads unless it is said.

use bytes::Bytes;
use h2::{SendStream, client::ResponseFuture};
use http::Request;
use prost::Message;
use tokio::{net::TcpStream, task::JoinHandle};

/// The window of a stream, when nothing is said.
pub(crate) const WINDOW: u32 = 65_535;

/// A connection; closed when it is dropped.
pub(crate) struct Connection {
    sender: h2::client::SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// With streams whose windows have so many bytes.
    pub(crate) async fn open(address: &str, window: u32) -> Self {
        Self::try_open(address, window).await.expect("the broker speaks HTTP/2")
    }

    /// The same; none when the broker takes no more.
    pub(crate) async fn try_open(address: &str, window: u32) -> Option<Self> {
        let socket = TcpStream::connect(address.trim_start_matches("http://")).await.ok()?;
        let handshake = h2::client::Builder::new().initial_window_size(window).handshake(socket).await;
        let (sender, connection) = handshake.ok()?;
        let driver = tokio::spawn(async move {
            // The broker may end it.
            let _ended = connection.await;
        });
        Some(Self { sender, driver })
    }

    /// Begins a call; none when the broker takes no more.
    pub(crate) async fn call(&mut self, path: &str) -> Option<(ResponseFuture, SendStream<Bytes>)> {
        let mut sender = self.sender.clone().ready().await.ok()?;
        let request = Request::post(format!("http://broker/tillroll.v1.{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        sender.send_request(request, false).ok()
    }
}

/// A message with its prefix.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let body = message.encode_to_vec();
    let mut bytes = prefix(body.len());
    bytes.extend(body);
    bytes.into()
}

/// The prefix of a message of this length.
pub(crate) fn prefix(length: usize) -> Vec<u8> {
    let [a, b, c, d] = u32::try_from(length).expect("small").to_le_bytes();
    vec![0, d, c, b, a]
}

/// Sends as fast as the other side takes it; false when it does not any more.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> bool {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
            Some(Ok(capacity)) => {
                let piece = bytes.split_to(capacity.min(bytes.len()));
                if stream.send_data(piece, false).is_err() {
                    return false;
                }
            }
            _ => return false,
        }
    }
    true
}
