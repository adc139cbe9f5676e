//! The log of a process that runs for long: what happens and is no answer to anybody, on standard error.

use std::io::{IsTerminal as _, stderr};

use tillroll_server::notices;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Warnings, errors and the engine's notices go to standard error from now on; TILLROLL_LOG asks for more, or less.
pub(crate) fn start() {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    let filter = match std::env::var("TILLROLL_LOG").ok().filter(|text| !text.is_empty()) {
        Some(text) => builder.parse_lossy(text),
        None => builder.parse_lossy(format!("warn,{}=info", notices::TARGET)),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    // Who reads a pipe compares whole words, and a log that nobody reads any more is nothing to stop for.
    log.with_ansi(stderr().is_terminal()).log_internal_errors(false).init();
}
