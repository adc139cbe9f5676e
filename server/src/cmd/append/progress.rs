//! How a load goes: a bar on a terminal, a line every few seconds elsewhere, nothing when quiet.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use tillroll_client::Error;

use crate::cmd::{
    TRIES_ON,
    append::input::Input,
    out::{Out, count, counted, per_second},
    terminal,
};

/// How often a bar moves.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shorter troubles are nobody's business.
const TROUBLE_AFTER: Duration = Duration::from_secs(1);

/// The progress of one load.
pub(super) struct Progress {
    out: Out,
    bar: Option<ProgressBar>,
    read: Arc<AtomicU64>,
    started: Instant,
    line_due: Instant,
    line_acked: u64,
    trouble: Trouble,
}

/// A producer that tries again: said once, when it has lasted a moment, and once more when it is over.
#[derive(Default)]
pub(super) struct Trouble {
    /// Since when, and whether that was said.
    lasts: Option<(Instant, bool)>,
}

impl Trouble {
    /// What there is to say.
    pub(super) fn news(&mut self, trouble: Option<&Error>) -> Option<String> {
        let Some(error) = trouble else {
            let is_told = self.lasts.take().is_some_and(|(_, is_told)| is_told);
            return is_told.then(|| "going on".to_owned());
        };
        let (since, is_told) = self.lasts.get_or_insert_with(|| (Instant::now(), false));
        let is_new = since.elapsed() >= TROUBLE_AFTER && !std::mem::replace(is_told, true);
        is_new.then(|| format!("waiting: {}; {TRIES_ON}", error.message()))
    }
}

impl Progress {
    /// Begins now.
    pub(super) fn new(out: Out, input: &Input) -> Self {
        // A bar would be in the way of whoever types.
        let bar = (!out.quiet && io::stderr().is_terminal() && !input.terminal).then(|| bar(input.size));
        let started = Instant::now();
        Self {
            out,
            bar,
            read: Arc::clone(&input.read),
            started,
            line_due: started + LINE_EVERY,
            line_acked: 0,
            trouble: Trouble::default(),
        }
    }

    /// Shows how many records are acked by now.
    pub(super) fn show(&mut self, acked: u64) {
        let rate = count(per_second(acked, self.seconds()));
        if let Some(bar) = &self.bar {
            bar.set_position(self.read.load(Ordering::Relaxed));
            bar.set_message(format!("{} acked, {rate}/s", counted(acked, "record")));
        } else if Instant::now() >= self.line_due {
            self.line_due += LINE_EVERY;
            // A source that is silent for hours is no news.
            if std::mem::replace(&mut self.line_acked, acked) == acked {
                return;
            }
            self.out.say(format!("{} acked, {rate}/s", counted(acked, "record")));
        }
    }

    /// Says why it does not go on.
    pub(super) fn trouble(&mut self, trouble: Option<&Error>) {
        match (self.trouble.news(trouble), &self.bar) {
            (Some(line), Some(bar)) => bar.println(terminal::line(&line)),
            (Some(line), None) => self.out.say(line),
            (None, _) => {}
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Since the beginning.
    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

fn bar(size: Option<u64>) -> ProgressBar {
    let template = if size.is_some() { "{bar:30} {percent:>3}% {msg}" } else { "{spinner} {msg}" };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    ProgressBar::with_draw_target(size, ProgressDrawTarget::stderr()).with_style(style)
}
