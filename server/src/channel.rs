//! The settings of the HTTP/2 side, in one function that the benches use as well.

use std::time::Duration;

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

/// Applies them.
pub fn tune(server: Server) -> Server {
    server
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(1_024)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
}
