//! The engine's notices, logged.
//!
//! Every notice is one event of `tracing` with the target [`TARGET`], at the level that its severity asks for. What
//! must stay true: a notice that repeats cannot flood the log. Of one kind, [`BURST`] a minute are logged, and of what
//! callers changed [`BURST_CHANGES`]; the others are counted, and the count is logged when the minute is over, or the
//! broker stops.

use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
    time::Duration,
};

use parking_lot::Mutex;
use tillroll_engine::{
    engine::Engine,
    notice::{Change, Notice, Severity, Taken},
};
use tokio::time::{Instant, sleep_until};

/// The target of the events, for filters.
pub const TARGET: &str = "tillroll::notice";
/// Notices of one kind that are logged within [`WINDOW`].
pub const BURST: u32 = 5;
/// The same for what callers changed: who looks for who deleted a topic wants each of them.
pub const BURST_CHANGES: u32 = 100;
/// The time for which repeats are counted.
pub const WINDOW: Duration = Duration::from_mins(1);

/// What notices have in common that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind(Discriminant<Notice>, Option<Discriminant<Change>>);

impl Kind {
    fn of(notice: &Notice) -> Self {
        let change = match notice {
            Notice::Changed(change) => Some(discriminant(change)),
            _ => None,
        };
        Self(discriminant(notice), change)
    }

    fn burst(self) -> u32 {
        if self.1.is_some() { BURST_CHANGES } else { BURST }
    }
}

/// How many of one kind were seen since when, and the last one that was logged.
struct Seen {
    since: Instant,
    count: u32,
    severity: Severity,
    logged: String,
}

type Lines = Vec<(Severity, String)>;

/// Decides which notices are logged.
#[derive(Default)]
struct Limiter {
    seen: HashMap<Kind, Seen>,
}

impl Limiter {
    /// What to log of these notices at `now`, in order.
    fn pass(&mut self, taken: &Taken, now: Instant) -> Lines {
        let mut lines = self.over(|seen| now.duration_since(seen.since) >= WINDOW);
        for notice in &taken.notices {
            let (severity, text) = notice.told();
            let kind = Kind::of(notice);
            let seen = self.seen.entry(kind).or_insert(Seen { since: now, count: 0, severity, logged: String::new() });
            seen.count += 1;
            seen.severity = seen.severity.max(severity);
            if seen.count <= kind.burst() {
                seen.logged.clone_from(&text);
                lines.push((severity, text));
            }
        }
        if taken.dropped > 0 {
            let text = format!("{} notices came faster than they were logged and were dropped", taken.dropped);
            lines.push((Severity::Warn, text));
        }
        lines
    }

    /// The counts of kinds whose time is over.
    fn over(&mut self, is_over: impl Fn(&Seen) -> bool) -> Lines {
        let over = self.seen.extract_if(|_, seen| is_over(seen));
        let held_back = over.filter_map(|(kind, seen)| Some((seen.count.checked_sub(kind.burst())?, seen)));
        let line = |(count, seen): (u32, Seen)| {
            (seen.severity, format!("and {count} more like this one, which were not logged: {}", seen.logged))
        };
        held_back.filter(|(count, _)| *count > 0).map(line).collect()
    }

    /// When the first window is over.
    fn next(&self) -> Option<Instant> {
        self.seen.values().map(|seen| seen.since + WINDOW).min()
    }
}

fn log(lines: Lines) {
    for (severity, text) in lines {
        match severity {
            Severity::Info => tracing::info!(target: TARGET, "{text}"),
            Severity::Warn => tracing::warn!(target: TARGET, "{text}"),
            Severity::Error => tracing::error!(target: TARGET, "{text}"),
        }
    }
}

/// The log of one engine's notices.
pub struct Log {
    engine: Engine,
    limiter: Mutex<Limiter>,
}

impl Log {
    /// Of this engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine, limiter: Mutex::default() }
    }

    /// Logs what there is now, without waiting: before the server listens.
    pub fn now(&self) {
        log(self.limiter.lock().pass(&self.engine.notices().take(), Instant::now()));
    }

    /// Logs notices for as long as it is polled.
    pub async fn follow(&self) {
        loop {
            let next = self.limiter.lock().next();
            let taken = tokio::select! {
                taken = self.engine.notices().next() => taken,
                () = sleep_until(next.unwrap_or_else(|| Instant::now() + WINDOW)) => Taken::default(),
            };
            log(self.limiter.lock().pass(&taken, Instant::now()));
        }
    }

    /// Logs what is left, counts as well: the engine has stopped.
    pub fn end(&self) {
        self.now();
        log(self.limiter.lock().over(|_| true));
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
        let said = "and 7 more like this one, which were not logged: there is disk space again: free=1 bytes";
        assert_eq!(after[0].1, said);
        assert_eq!(limiter.pass(&taken(1), start + WINDOW).len(), 1, "a new minute");
    }

    #[test]
    fn changes_are_logged_one_by_one_and_a_stop_leaves_no_count_behind() {
        let deleted = |topic: u32| Notice::Changed(Change::TopicDeleted { topic: topic.to_string() });
        let joined = Change::MemberJoined { group: "g".into(), member: "m".into(), client: String::new() };
        let mut notices: Vec<Notice> = (0..BURST_CHANGES + 2).map(deleted).collect();
        notices.push(Notice::Changed(joined));
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let lines = limiter.pass(&Taken { notices, dropped: 0 }, now);
        assert_eq!(lines.len() as u32, BURST_CHANGES + 1, "each kind of change has its own count");
        let left = limiter.over(|_| true);
        assert_eq!(left.len(), 1);
        assert!(left[0].1.starts_with("and 2 more like this one") && left[0].1.ends_with("topic 99 was deleted"));
    }
}
