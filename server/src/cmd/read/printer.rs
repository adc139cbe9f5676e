//! Records on standard output, as lines of a pattern, as JSON lines or as one JSON document.
//!
//! Standard output may take a part of what it is given and then no more: how much it took is counted to the byte, so
//! that whoever commits what is printed knows the last record that it has.

use std::io;

use rustix::io::Errno;
use tillroll_client::Received;

use super::{object, pattern::Pattern};
use crate::cmd::{fail::Failure, out::Format, terminal};

const BUFFER_BYTES: usize = 256 << 10;

/// Writes records one after the other.
pub(in crate::cmd) struct Printer {
    format: Format,
    pattern: Pattern,
    /// Records are written as they are.
    is_raw: bool,
    /// How many were written, or stand in the buffer.
    pub(in crate::cmd) records: u64,
    buffer: Vec<u8>,
    /// Bytes that standard output took.
    taken: u64,
    stdout: io::Stdout,
}

impl Printer {
    /// Nothing is written yet.
    ///
    /// **Errors**: `is_raw` says how a pattern is written, and JSON has none.
    pub(in crate::cmd) fn new(format: Format, pattern: Pattern, is_raw: bool) -> Result<Self, Failure> {
        if is_raw && format != Format::Table {
            return Err(
                Failure::usage("--raw is about --format, and JSON says all bytes as they are").hint("leave it out")
            );
        }
        Ok(Self { format, pattern, is_raw, records: 0, buffer: Vec::new(), taken: 0, stdout: terminal::stdout() })
    }

    /// Writes a record, which may stay in a buffer. It is written when [`Printer::taken`] comes to the number that is
    /// given back.
    pub(in crate::cmd) fn print(&mut self, received: &Received) -> Result<u64, Failure> {
        let out = &mut self.buffer;
        match self.format {
            Format::Table if self.is_raw => self.pattern.write_raw(out, received),
            Format::Table => self.pattern.write(out, received),
            Format::Jsonl => {
                object::write(out, received);
                out.push(b'\n');
            }
            Format::Json => {
                out.extend_from_slice(if self.records == 0 { b"[\n" } else { b",\n" });
                object::write(out, received);
            }
        }
        self.records += 1;
        let end = self.taken + self.buffer.len() as u64;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(end)
    }

    /// How many bytes standard output took.
    pub(in crate::cmd) fn taken(&self) -> u64 {
        self.taken
    }

    /// Everything is written when this returns.
    pub(in crate::cmd) fn flush(&mut self) -> Result<(), Failure> {
        let mut done = 0;
        let written = loop {
            if done == self.buffer.len() {
                break Ok(());
            }
            match rustix::io::write(&self.stdout, &self.buffer[done..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(error) => break Err(io::Error::from(error)),
            }
        };
        self.taken += done as u64;
        self.buffer.drain(..done);
        Ok(written?)
    }

    /// The same after a failure: a document that was not begun is none.
    pub(in crate::cmd) fn end_early(self) -> Result<u64, Failure> {
        if self.records == 0 { Ok(0) } else { self.end() }
    }

    /// Writes what is left, and says how many records there were.
    pub(in crate::cmd) fn end(mut self) -> Result<u64, Failure> {
        if self.format == Format::Json {
            self.buffer.extend_from_slice(if self.records == 0 { b"[]\n" } else { b"\n]\n" });
        }
        self.flush()?;
        Ok(self.records)
    }
}
