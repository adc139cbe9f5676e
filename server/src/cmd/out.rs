//! Output: data on standard output, as a table, JSON or JSON lines; messages on standard error.

use std::{
    fs::File,
    os::{fd::AsFd as _, unix::fs::FileTypeExt as _},
};

use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value};
use tokio::{io::Interest, net::unix::pipe};

use crate::cmd::{
    fail::Failure,
    terminal::{self, Lines, line, say},
};

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
}

/// What every subcommand takes.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Out {
    /// How data is written to standard output
    #[arg(id = "output", short = 'o', long = "output", global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
    /// No messages on standard error but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

impl Out {
    /// A message for whoever watches.
    pub(crate) fn say(self, message: impl AsRef<str>) {
        if !self.quiet {
            say(message.as_ref());
        }
    }

    /// A line of a story, for people alone: nothing where an object is asked for.
    pub(crate) fn tell(self, line: &str) -> Result<(), Failure> {
        if self.format == Format::Table {
            terminal::print(line)?;
        }
        Ok(())
    }

    /// One thing: in words, or as an object.
    pub(crate) fn one(self, words: impl Into<Lines>, object: &Value) -> Result<(), Failure> {
        let written = match self.format {
            Format::Table => terminal::print(words),
            Format::Json => terminal::print_json([format!("{object:#}")]),
            Format::Jsonl => terminal::print_json([object.to_string()]),
        };
        Ok(written?)
    }

    /// Many things of a kind. Every row has a value for every column.
    pub(crate) fn many(self, columns: &[&str], rows: Vec<Vec<Value>>) -> Result<(), Failure> {
        if self.format == Format::Table {
            return Ok(terminal::print(table(columns, &rows))?);
        }
        let objects = rows.into_iter().map(|row| {
            Value::Object(columns.iter().map(|column| (*column).to_owned()).zip(row).collect::<Map<_, _>>())
        });
        let written = match self.format {
            Format::Json => terminal::print_json([format!("{:#}", Value::Array(objects.collect()))]),
            Format::Table | Format::Jsonl => terminal::print_json(objects.map(|object| object.to_string())),
        };
        Ok(written?)
    }
}

/// Resolves when nobody reads standard output any more: the other end of its pipe is closed, as after `| head -1`.
/// Writing would tell it too, but a command that waits may have nothing to write for hours. Never where the output is
/// no pipe.
pub(crate) async fn reader_left() {
    match stdout_pipe() {
        Some(pipe) if pipe.ready(Interest::ERROR).await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

/// Standard output once more, to be waited on and never written to: it blocks as it did, since others may share it.
fn stdout_pipe() -> Option<pipe::Sender> {
    let stdout = File::from(terminal::stdout().as_fd().try_clone_to_owned().ok()?);
    let is_pipe = stdout.metadata().is_ok_and(|found| found.file_type().is_fifo());
    is_pipe.then(|| pipe::Sender::from_file_unchecked(stdout).ok()).flatten()
}

/// A table without lines: columns aligned, numbers to the right.
pub(crate) fn table(columns: &[&str], rows: &[Vec<Value>]) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|column| column.replace('_', " ").to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(words));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        if rows.iter().all(|row| row.get(index).is_some_and(|cell| cell.is_number() || cell.is_null())) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        // A cell has one line, and its width is that of what is shown.
        Value::String(text) => line(text).into_owned(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), count),
        other => line(&other.to_string()).into_owned(),
    }
}

/// A number for people: 1,234,567.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 record`, `2 records`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A size for people, in powers of 1024.
pub(crate) fn size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit {
            let whole = bytes.is_multiple_of(unit);
            let (quotient, tenth) = (bytes / unit, bytes % unit * 10 / unit);
            return if whole { format!("{quotient} {name}") } else { format!("{quotient}.{tenth} {name}") };
        }
    }
    format!("{bytes} B")
}

/// How many in a second, whole.
#[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "for people: far below 2^52, never negative")]
pub(crate) fn per_second(number: u64, seconds: f64) -> u64 {
    (number as f64 / seconds.max(0.001)).round() as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_grouped_and_nouns_agree() {
        assert_eq!([0, 999, 1_000, 541_909, 1_234_567].map(count), ["0", "999", "1,000", "541,909", "1,234,567"]);
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(2_000, "partition"), "2,000 partitions");
        assert_eq!([0, 1_023, 1 << 20, 1_536].map(size), ["0 B", "1023 B", "1 MiB", "1.5 KiB"]);
        assert_eq!(per_second(1_000, 0.5), 2_000);
    }

    #[test]
    fn a_cell_has_one_line() {
        let rows = vec![vec![json!("a\nb\x1b"), json!("\u{9b}")], vec![json!("c"), json!("d")]];
        let lines = ["NAME      X", r"a\nb\x1b  \u{9b}", "c         d"];
        assert_eq!(table(&["name", "x"], &rows), lines);
    }

    #[test]
    fn a_table_has_no_lines_and_no_blanks_at_the_end() {
        let rows = vec![vec![json!("orders"), json!(8)], vec![json!("a"), json!(1_024)]];
        let lines = ["NAME    END OFFSET", "orders           8", "a            1,024"];
        assert_eq!(table(&["name", "end_offset"], &rows), lines);
    }
}
