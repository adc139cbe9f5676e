//! Three sets of channel settings, so that nobody can say that the bare program was held back by ours.

use std::fmt;

use clap::ValueEnum;
use serde_json::{Value, json};
use tillroll_client::channel as client;
use tillroll_server::channel as server;
use tonic::transport::{Endpoint, Server};

/// HTTP/2 frame of [`Settings::Large`]: a batch of 1 MiB in one.
const LARGE_FRAME_BYTES: u32 = 1 << 20;
/// Stream window of [`Settings::Large`].
const LARGE_STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Connection window of [`Settings::Large`].
const LARGE_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Which set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Settings {
    /// The product's own: frames of 256 KiB, windows of 2 and 4 MiB
    #[value(name = "1", alias = "tuned")]
    Tuned,
    /// Frames of 1 MiB, windows of 8 and 16 MiB
    #[value(name = "2", alias = "large")]
    Large,
    /// What tonic does by itself, with TCP_NODELAY
    #[value(name = "3", alias = "untuned")]
    Untuned,
}

impl Settings {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Tuned, Self::Large, Self::Untuned];

    /// How it is chosen on the command line.
    pub fn number(self) -> &'static str {
        match self {
            Self::Tuned => "1",
            Self::Large => "2",
            Self::Untuned => "3",
        }
    }

    /// Applies it to the server's side.
    pub fn server(self, builder: Server) -> Server {
        match self {
            Self::Tuned => server::tune(builder),
            Self::Large => server::tune(builder)
                .max_frame_size(LARGE_FRAME_BYTES)
                .initial_stream_window_size(LARGE_STREAM_WINDOW_BYTES)
                .initial_connection_window_size(LARGE_CONNECTION_WINDOW_BYTES),
            Self::Untuned => builder,
        }
    }

    /// Applies it to the client's side.
    pub fn client(self, endpoint: Endpoint) -> Endpoint {
        match self {
            Self::Tuned => client::tune(endpoint),
            Self::Large => client::tune(endpoint)
                .max_frame_size(LARGE_FRAME_BYTES)
                .initial_stream_window_size(LARGE_STREAM_WINDOW_BYTES)
                .initial_connection_window_size(LARGE_CONNECTION_WINDOW_BYTES),
            Self::Untuned => endpoint.tcp_nodelay(true),
        }
    }

    /// What it sets on the server's side, where appends arrive; null is what tonic takes by itself.
    pub fn object(self) -> Value {
        let (frame, stream, connection) = match self {
            Self::Tuned => {
                (Some(server::FRAME_BYTES), Some(server::STREAM_WINDOW_BYTES), Some(server::CONNECTION_WINDOW_BYTES))
            }
            Self::Large => {
                (Some(LARGE_FRAME_BYTES), Some(LARGE_STREAM_WINDOW_BYTES), Some(LARGE_CONNECTION_WINDOW_BYTES))
            }
            Self::Untuned => (None, None, None),
        };
        json!({
            "settings": self.to_string(),
            "frame_bytes": frame,
            "stream_window_bytes": stream,
            "connection_window_bytes": connection,
        })
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tuned => "tuned",
            Self::Large => "large",
            Self::Untuned => "untuned",
        })
    }
}
