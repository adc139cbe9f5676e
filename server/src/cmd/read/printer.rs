//! Records on standard output, as lines of a pattern, as JSON lines or as one JSON document.

use std::io::{self, BufWriter, Write as _};

use tillroll_client::Received;

use super::{object, pattern::Pattern};
use crate::cmd::{fail::Failure, out::Format};

const BUFFER_BYTES: usize = 256 << 10;

/// Writes records one after the other.
pub(in crate::cmd) struct Printer {
    format: Format,
    pattern: Pattern,
    /// How many were written.
    pub(in crate::cmd) records: u64,
    line: Vec<u8>,
    stdout: BufWriter<io::StdoutLock<'static>>,
}

impl Printer {
    /// Nothing is written yet.
    pub(in crate::cmd) fn new(format: Format, pattern: Pattern) -> Self {
        let stdout = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        Self { format, pattern, records: 0, line: Vec::new(), stdout }
    }

    /// Writes a record, which may stay in a buffer.
    pub(in crate::cmd) fn print(&mut self, received: &Received) -> Result<(), Failure> {
        self.line.clear();
        match self.format {
            Format::Table => self.pattern.write(&mut self.line, received),
            Format::Jsonl => {
                object::write(&mut self.line, received);
                self.line.push(b'\n');
            }
            Format::Json => {
                self.line.extend_from_slice(if self.records == 0 { b"[\n" } else { b",\n" });
                object::write(&mut self.line, received);
            }
        }
        self.records += 1;
        Ok(self.stdout.write_all(&self.line)?)
    }

    /// Everything is written when this returns.
    pub(in crate::cmd) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.stdout.flush()?)
    }

    /// Writes what is left, and says how many records there were.
    pub(in crate::cmd) fn end(mut self) -> Result<u64, Failure> {
        if self.format == Format::Json {
            self.stdout.write_all(if self.records == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        self.stdout.flush()?;
        Ok(self.records)
    }
}
