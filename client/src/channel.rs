//! The settings of every connection, in one place, so that benches measure what
//! the client uses.

use std::time::Duration;

use tonic::transport::Endpoint;

/// The largest HTTP/2 frame. It matters more than any window: with the default
/// of 16 KiB a batch of 1 MiB is cut into 64 frames.
pub const FRAME_BYTES: u32 = 256 << 10;
/// Flow control window of a stream: what may come of it that nobody takes. More does not help.
pub const WINDOW_BYTES: u32 = 2 << 20;
/// Flow control window of a connection: all that HTTP/2 has. A stream that nobody polls keeps its own window full, and
/// would take the connection's from its siblings if that were not larger than what all streams of a connection may
/// hold: 1,023 of them, and servers take 1,024 at most. Memory is bounded by the windows of the streams.
pub const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// The largest message taken from a server.
pub const DECODED_MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Applies the client's settings to an endpoint.
pub fn tune(endpoint: Endpoint) -> Endpoint {
    endpoint
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .connect_timeout(Duration::from_secs(5))
}
