//! The settings of the HTTP/2 side, in one function that the benches use as well.

use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tonic::transport::Server;

/// The largest HTTP/2 frame: a batch of 1 MiB in 4 frames instead of 64 is the setting that matters most.
pub const FRAME_BYTES: u32 = 256 << 10;
/// Flow control window of one stream.
pub const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Flow control window of one connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// The largest request: an append and what is around it.
pub const REQUEST_BYTES_MAX: usize = (8 << 20) + (64 << 10);
/// The largest response: a batch that is sent as it is, and what is around it.
pub const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// The most that a reader may ask for as `max_response_bytes`: what GetServer announces, and what is refused above.
pub const READ_BYTES_MAX: u32 = 8 << 20;

/// Bytes of one stream that the transport has taken and not written.
const SEND_BYTES: usize = 64 << 10;
/// Calls at a time on one connection.
pub const STREAMS_PER_CONNECTION: u32 = 256;
/// All headers of a call.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// A silent peer is asked after this long whether it is there, and has this long to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));

/// The transport of one connection, with the windows of the connection and of each of its streams.
pub(crate) fn transport((connection, stream): (u32, u32)) -> http2::Builder<TokioExecutor> {
    let mut transport = http2::Builder::new(TokioExecutor::new());
    transport
        .timer(TokioTimer::new())
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(stream)
        .initial_connection_window_size(connection)
        .max_send_buf_size(SEND_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1);
    transport
}

/// Applies them to a server of tonic's own, to be compared with.
pub fn tune(server: Server) -> Server {
    server
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
}
