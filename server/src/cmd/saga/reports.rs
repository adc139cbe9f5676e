//! Reports on standard output, again and again, without the service ever waiting for whoever reads them.
//!
//! A thread of its own writes them. At most one waits for it: while the reader is slow newer ones are left out, and
//! when it has gone there are no more. The service goes on either way.

use std::{io::Write, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
    time::timeout,
};

use crate::cmd::terminal;

/// How often it is said how the service stands.
const REPORT_EVERY: Duration = Duration::from_millis(20);
/// So long the last report waits for its reader.
const LAST_WITHIN: Duration = Duration::from_secs(1);

/// Reports that are being written.
pub(super) struct Reports {
    report: Arc<dyn Fn() -> String + Send + Sync>,
    lines: mpsc::Sender<String>,
    ticking: JoinHandle<()>,
    writing: JoinHandle<()>,
}

impl Reports {
    /// Reports to standard output, from now on.
    pub(super) fn start(report: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self::start_to(terminal::stdout(), report)
    }

    fn start_to(output: impl Write + Send + 'static, report: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let report: Arc<dyn Fn() -> String + Send + Sync> = Arc::new(report);
        let (lines, written) = mpsc::channel(1);
        let writing = tokio::task::spawn_blocking(move || write(output, written));
        let ticking = tokio::spawn(tick(report.clone(), lines.clone()));
        Self { report, lines, ticking, writing }
    }

    /// Writes the last one, and waits a moment for its reader.
    pub(super) async fn end(self) {
        let Self { report, lines, ticking, writing } = self;
        ticking.abort();
        let last = async {
            // An error says that the reader has gone.
            if lines.send(report()).await.is_ok() {
                drop(lines);
                // Whoever waits here has nothing else to do with a thread that panicked.
                let _ = writing.await;
            }
        };
        // A reader that reads nothing gets no last report.
        let _ = timeout(LAST_WITHIN, last).await;
    }
}

async fn tick(report: Arc<dyn Fn() -> String + Send + Sync>, lines: mpsc::Sender<String>) {
    let mut ticks = tokio::time::interval(REPORT_EVERY);
    loop {
        ticks.tick().await;
        match lines.try_reserve() {
            Ok(place) => place.send(report()),
            // The one before is not written yet.
            Err(TrySendError::Full(())) => {}
            Err(TrySendError::Closed(())) => return,
        }
    }
}

/// Writes lines until there are no more, or nobody reads them.
fn write(mut output: impl Write, mut lines: mpsc::Receiver<String>) {
    while let Some(line) = lines.blocking_recv() {
        if writeln!(output, "{}", terminal::json(&line)).and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, BufRead as _, BufReader},
        os::unix::net::UnixStream,
        sync::atomic::{AtomicU64, Ordering},
    };

    use super::*;

    /// Reports of a number that counts them, into one end of a pipe.
    fn counting(output: UnixStream) -> (Reports, Arc<AtomicU64>) {
        let made = Arc::new(AtomicU64::new(0));
        let counter = made.clone();
        let report = move || counter.fetch_add(1, Ordering::SeqCst).to_string();
        (Reports::start_to(output, report), made)
    }

    #[tokio::test]
    async fn the_last_report_comes_and_is_the_newest() {
        let (output, input) = UnixStream::pair().expect("a pair");
        let (reports, made) = counting(output);
        let reading = tokio::task::spawn_blocking(|| {
            let lines = BufReader::new(input).lines().map(|line| line.expect("text"));
            lines.last().expect("at least the last one")
        });
        reports.end().await;
        let last = timeout(Duration::from_mins(1), reading).await.expect("it ends").expect("no panic");
        assert_eq!(last, (made.load(Ordering::SeqCst) - 1).to_string());
    }

    /// A reader that reads nothing, until it goes away.
    struct Full(std::sync::mpsc::Receiver<()>);

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_holds_nothing_up() {
        let (reader, full) = std::sync::mpsc::sync_channel(0);
        let made = Arc::new(AtomicU64::new(0));
        let counter = made.clone();
        let report = move || counter.fetch_add(1, Ordering::SeqCst).to_string();
        let reports = Reports::start_to(Full(full), report);
        let mut ticks = tokio::time::interval(REPORT_EVERY);
        for _ in 0..10 {
            ticks.tick().await;
        }
        let is_made = made.load(Ordering::SeqCst);
        assert!(is_made <= 2, "one is being written, one waits: {is_made}");
        timeout(Duration::from_mins(1), reports.end()).await.expect("it does not wait for the reader");
        drop(reader);
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_ends_the_reports_and_nothing_else() {
        let (output, input) = UnixStream::pair().expect("a pair");
        drop(input);
        let (mut reports, _) = counting(output);
        let ended = async {
            (&mut reports.writing).await.expect("no panic");
            (&mut reports.ticking).await.expect("no panic");
        };
        timeout(Duration::from_mins(1), ended).await.expect("both end");
        let Reports { lines, .. } = reports;
        assert!(lines.is_closed());
    }
}
