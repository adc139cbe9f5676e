//! The signals that end a process that serves others.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cmd::fail::Failure;

/// SIGTERM, SIGINT, and SIGHUP when the terminal goes away.
pub(crate) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Hears them from now on.
    pub(crate) fn new() -> Result<Self, Failure> {
        let hear = |kind| signal(kind).map_err(|error| Failure::io("listening for signals", &error));
        let hangup = hear(SignalKind::hangup())?;
        Ok(Self { hangup, terminate: hear(SignalKind::terminate())?, interrupt: hear(SignalKind::interrupt())? })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.hangup.recv() => SignalKind::hangup(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}
