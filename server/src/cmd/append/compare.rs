//! Whether an input begins with what was appended of it before: a named load goes on behind that, and an edit of a line
//! that is in the log already would be left out without a word.
//!
//! The lines are remembered as digests of four bytes, a window of them at a time, and the topic is read once for each
//! window. Why it is read back, and not remembered, stands in `docs/adr/0017-a-named-load-reads-back.md`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tillroll_client::{Client, Record};

use super::past;
use crate::cmd::{
    fail::{Code, Failure},
    out::{Out, counted},
};

/// Lines of one window: 64 MiB of digests.
const WINDOW_LINES_MAX: usize = 16 << 20;
/// Below this nobody has to be told why it takes a moment.
const TOLD_LINES: usize = 100_000;

/// Lines of an input, one behind the other, that were appended before.
#[derive(Debug, Default)]
pub(super) struct Window {
    first_line: u64,
    /// By line; 0 for one that is no record, or was found.
    digests: Vec<u32>,
}

impl Window {
    /// One line more, behind all others. Gives what there was before, as a window of its own, when that takes no more.
    pub(super) fn push(&mut self, line: u64, record: &Record) -> Option<Self> {
        let index = usize::try_from(line.saturating_sub(self.first_line)).unwrap_or(usize::MAX);
        let full = (self.digests.is_empty() || index >= WINDOW_LINES_MAX).then(|| std::mem::take(self));
        if full.is_some() {
            self.first_line = line;
        } else {
            // Lines between them are no records.
            self.digests.resize(index, 0);
        }
        self.digests.push(digest(record));
        full.filter(|full| !full.digests.is_empty())
    }

    /// A record of the log with this line's number.
    fn found(&mut self, line: u64, record: &Record) {
        let index = line.checked_sub(self.first_line).and_then(|index| usize::try_from(index).ok());
        if let Some(at) = index.and_then(|index| self.digests.get_mut(index))
            && *at == digest(record)
        {
            *at = 0;
        }
    }

    /// The first line that the log does not have as it stands in the input.
    fn first_that_differs(&self) -> Option<u64> {
        let index = self.digests.iter().position(|digest| *digest != 0)?;
        Some(self.first_line + index as u64)
    }
}

/// Everything of a record that comes from its line.
fn digest(record: &Record) -> u32 {
    let mut hasher = DefaultHasher::new();
    (&record.key, &record.value, &record.type_, record.event_time_us).hash(&mut hasher);
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    // 0 is taken.
    u32::from_le_bytes([a, b, c, d]).max(1)
}

/// Compares with the log.
pub(super) struct Compare<'a> {
    pub(super) client: &'a Client,
    pub(super) topic: &'a str,
    pub(super) source: &'a str,
    pub(super) out: Out,
}

impl Compare<'_> {
    /// Whether the log has all of these lines as they stand in the input.
    pub(super) async fn with(&self, mut window: Window) -> Result<(), Failure> {
        if window.digests.len() >= TOLD_LINES {
            let lines = counted(window.digests.len() as u64, "line");
            self.out.say(format!("comparing {lines} of {} with the log", self.source));
        }
        let mut reader = self.client.reader(self.topic).open().await?;
        while let Some(received) = reader.next().await {
            let record = received?.record;
            if record.source == self.source
                && let Some(line) = past::line(&record)
            {
                window.found(line, &record);
            }
        }
        let Some(line) = window.first_that_differs() else { return Ok(()) };
        let wrong = format!("{}#{line} is not what was appended under this name", self.source);
        Err(Failure::new(Code::Conflict, wrong).hint(
            "what is in the log stays; put back what stood there, or append what is new as a file of its own under a \
             --producer name of its own",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(line: u64, value: &str) -> Record {
        Record::new(value.to_owned()).id(format!("a.csv#{line}"))
    }

    #[test]
    fn the_first_line_that_differs_is_found_in_whatever_order_the_log_has_them() {
        let mut window = Window::default();
        // Line 8 is blank.
        for line in [5, 6, 7, 9, 10] {
            assert!(window.push(line, &record(line, &line.to_string())).is_none());
        }
        assert_eq!(window.first_that_differs(), Some(5));
        for line in [10, 5, 9, 6, 4, 11, 8] {
            window.found(line, &record(line, &line.to_string()));
        }
        assert_eq!(window.first_that_differs(), Some(7));
        window.found(7, &record(7, "another"));
        assert_eq!(window.first_that_differs(), Some(7));
        // A load of the same file under another name is in the log as well.
        window.found(7, &record(7, "7"));
        assert_eq!(window.first_that_differs(), None);
    }

    #[test]
    fn a_window_has_an_end_however_many_lines_are_blank() {
        let mut window = Window::default();
        let far = 7 + WINDOW_LINES_MAX as u64;
        assert!(window.push(7, &record(7, "7")).is_none());
        let full = window.push(far, &record(far, "far")).expect("it takes no more");
        assert_eq!((full.first_that_differs(), full.digests.len()), (Some(7), 1));
        assert_eq!((window.first_that_differs(), window.digests.len()), (Some(far), 1));
    }

    #[test]
    fn all_that_a_line_says_counts() {
        let record = Record::new("v").key("k").type_("t").event_time_us(1);
        assert_eq!(digest(&record), digest(&record.clone()));
        let mut others = [record.clone(), record.clone(), record.clone(), record.clone()];
        others[0].key = None;
        others[1].value = "w".into();
        others[2].type_ = String::new();
        others[3].event_time_us = None;
        assert!(others.iter().all(|other| digest(other) != digest(&record)));
    }
}
