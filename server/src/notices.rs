//! The engine's notices, logged.
//!
//! Every notice is one event of `tracing` with the target [`TARGET`], at the level that its severity asks for. What
//! must stay true: a notice that repeats cannot flood the log. Of one kind, [`BURST`] a minute are logged; the others
//! are counted, and the count is logged when the minute is over.

use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
    time::Duration,
};

use tillroll_engine::{
    engine::Engine,
    notice::{Notice, Severity, Taken},
};
use tokio::time::{Instant, sleep_until};

/// The target of the events, for filters.
pub const TARGET: &str = "tillroll::notice";
/// Notices of one kind that are logged within [`WINDOW`].
pub const BURST: u32 = 5;
/// The time for which repeats are counted.
pub const WINDOW: Duration = Duration::from_mins(1);

/// How many of one kind were seen since when.
struct Seen {
    since: Instant,
    count: u32,
    severity: Severity,
}

/// Decides which notices are logged.
#[derive(Default)]
pub struct Limiter {
    seen: HashMap<Discriminant<Notice>, Seen>,
}

impl Limiter {
    /// What to log of these notices at `now`, in order.
    pub fn pass(&mut self, taken: &Taken, now: Instant) -> Vec<(Severity, String)> {
        let mut lines = self.over(now);
        for notice in &taken.notices {
            let (severity, text) = notice.told();
            let seen = self.seen.entry(discriminant(notice)).or_insert(Seen { since: now, count: 0, severity });
            seen.count += 1;
            seen.severity = seen.severity.max(severity);
            if seen.count <= BURST {
                lines.push((severity, text));
            }
        }
        if taken.dropped > 0 {
            let text = format!("{} notices came faster than they were logged and were dropped", taken.dropped);
            lines.push((Severity::Warn, text));
        }
        lines
    }

    /// The counts of windows that are over.
    fn over(&mut self, now: Instant) -> Vec<(Severity, String)> {
        let over = self.seen.extract_if(|_, seen| now.duration_since(seen.since) >= WINDOW);
        let held_back = over.filter(|(_, seen)| seen.count > BURST);
        let line = |(_, seen): (_, Seen)| {
            let seconds = WINDOW.as_secs();
            let text = format!("{} notices like one above were not logged within {seconds} s", seen.count - BURST);
            (seen.severity, text)
        };
        held_back.map(line).collect()
    }

    /// When the first window is over.
    fn next(&self) -> Option<Instant> {
        self.seen.values().map(|seen| seen.since + WINDOW).min()
    }
}

fn log(lines: Vec<(Severity, String)>) {
    for (severity, text) in lines {
        match severity {
            Severity::Info => tracing::info!(target: TARGET, "{text}"),
            Severity::Warn => tracing::warn!(target: TARGET, "{text}"),
            Severity::Error => tracing::error!(target: TARGET, "{text}"),
        }
    }
}

/// Logs what there is now, without waiting: before the server listens, and after the engine has stopped.
pub fn log_now(engine: &Engine) {
    log(Limiter::default().pass(&engine.notices().take(), Instant::now()));
}

/// Logs notices for as long as it is polled.
pub async fn log_all(engine: Engine) {
    let mut limiter = Limiter::default();
    loop {
        let far = Instant::now() + WINDOW;
        let taken = tokio::select! {
            taken = engine.notices().next() => taken,
            () = sleep_until(limiter.next().unwrap_or(far)) => Taken::default(),
        };
        log(limiter.pass(&taken, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(count: u64) -> Taken {
        Taken { notices: (0..count).map(|free| Notice::DiskRelieved { free }).collect(), dropped: 0 }
    }

    #[test]
    fn repeats_are_counted_and_the_count_is_logged_when_the_minute_is_over() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        assert_eq!(limiter.pass(&taken(3), start).len(), 3);
        assert_eq!(limiter.pass(&taken(9), start).len(), 2, "five of a kind");
        let other = Taken { notices: vec![Notice::JournalRelieved { files: 3 }], dropped: 2 };
        assert_eq!(limiter.pass(&other, start).len(), 2, "another kind, and what was dropped");
        let after = limiter.pass(&Taken::default(), start + WINDOW);
        assert_eq!(after.len(), 1);
        assert!(after[0].1.starts_with("7 notices"), "{after:?}");
        assert_eq!(limiter.pass(&taken(1), start + WINDOW).len(), 1, "a new minute");
    }
}
