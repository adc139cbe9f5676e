//! The log of a process that runs for long: what happens and is no answer to anybody, on standard error.

use std::io::{IsTerminal as _, stderr};

use tillroll_server::notices;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    filter::LevelFilter,
    fmt::{FormatFields, format::debug_fn},
};

use crate::cmd::terminal::line;

/// Warnings, errors and the engine's notices go to standard error from now on; TILLROLL_LOG asks for more, or less.
pub(crate) fn start() {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    let filter = match std::env::var("TILLROLL_LOG").ok().filter(|text| !text.is_empty()) {
        Some(text) => builder.parse_lossy(text),
        None => builder.parse_lossy(format!("warn,{}=info", notices::TARGET)),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).fmt_fields(fields()).with_writer(stderr);
    // Who reads a pipe compares whole words, and a log that nobody reads any more is nothing to stop for.
    log.with_ansi(stderr().is_terminal()).log_internal_errors(false).init();
}

/// Messages and fields tell of records, names and files: each is one line that a terminal only shows.
fn fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    debug_fn(|writer, field, value| {
        let text = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", line(&text)),
            name => write!(writer, "{name}={}", line(&text)),
        }
    })
    .delimited(" ")
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_came_from_outside_begins_no_line_and_is_not_obeyed() {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).without_time().fmt_fields(fields());
        let log = log.with_writer(move || writer.clone()).finish();
        let wild = "a\x1b[2J\x07\u{9b}\x7f\nforged\u{202e}";
        tracing::subscriber::with_default(log, || {
            let error = std::io::Error::other(wild);
            let error = &error as &dyn std::error::Error;
            tracing::warn!(shown = %wild, debug = ?wild, plain = wild, error, "{wild}");
        });
        let said = String::from_utf8(kept.0.lock().expect("nobody panicked").clone()).expect("text");
        assert_eq!(said.chars().filter(|char| char.is_control()).collect::<String>(), "\n", "{said:?}");
        let shown = r"a\x1b[2J\x07\u{9b}\x7f\nforged\u{202e}";
        assert!(said.contains(&format!("{shown} shown={shown} ")), "{said}");
    }
}
