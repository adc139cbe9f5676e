//! The log of a process that runs for long: what happens and is no answer to anybody, on standard error.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Warnings and errors go to standard error from now on; TILLROLL_LOG asks for more, or less.
pub(crate) fn start() {
    let filter = EnvFilter::builder()
        .with_env_var("TILLROLL_LOG")
        .with_default_directive(LevelFilter::WARN.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    // Who reads a pipe compares whole words, and a log that nobody reads any more is nothing to stop for.
    log.with_ansi(stderr().is_terminal()).log_internal_errors(false).init();
}
