//! Reading a ledger's file: whole, or line by line up to where it is synced.
//!
//! Every line is checked, and that their numbers count from 1. A kill leaves a prefix of what was written, so bytes
//! behind the last newline are the torn rest of a line that nobody was told of. Everything else that does not read is
//! damage.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Take},
    path::{Path, PathBuf},
};

use super::{
    super::entry::{DIGITS, Entry, LINE_BYTES_MAX, LineFault},
    HEADING, LedgerError,
};

/// Reads as far as the file goes.
const PAST_END: u64 = u64::MAX;

/// What stands in a ledger's file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Whole {
    /// All charges, in the order of charging.
    pub entries: Vec<Entry>,
    /// Bytes of a torn last line, which counts for nothing.
    pub torn_bytes: u64,
    /// Bytes before it.
    pub bytes: u64,
}

/// Reads a ledger's file, which a gateway may have open. Changes nothing.
///
/// **Errors**: when it cannot be read, is no ledger, or is damaged.
pub fn read(path: &Path) -> Result<Whole, LedgerError> {
    let mut lines = Lines::open(path, PAST_END)?;
    let mut entries = Vec::new();
    while let Some(entry) = lines.next()? {
        entries.push(entry);
    }
    Ok(Whole { entries, torn_bytes: lines.torn_bytes, bytes: lines.position })
}

/// The entries of a file, one after the other.
pub(crate) struct Lines {
    path: PathBuf,
    source: BufReader<Take<File>>,
    /// Where the next line begins.
    position: u64,
    /// How many entries were read.
    entries: u64,
    torn_bytes: u64,
    line: Vec<u8>,
}

impl Lines {
    /// Opens a file, to be read up to a place.
    pub(crate) fn open(path: &Path, end: u64) -> Result<Self, LedgerError> {
        let file = File::open(path).map_err(|source| failed(path, source))?;
        let source = BufReader::with_capacity(64 << 10, file.take(end));
        let mut lines =
            Self { path: path.to_owned(), source, position: 0, entries: 0, torn_bytes: 0, line: Vec::new() };
        lines.heading()?;
        Ok(lines)
    }

    /// A file without a whole heading is empty, if what is there is the beginning of one.
    fn heading(&mut self) -> Result<(), LedgerError> {
        self.fill(HEADING.len())?;
        if self.line == HEADING {
            self.position = HEADING.len() as u64;
        } else if HEADING.starts_with(&self.line) {
            self.torn_bytes = self.line.len() as u64;
        } else {
            let found = String::from_utf8_lossy(&self.line).into_owned();
            return Err(LedgerError::Foreign { file: self.path.clone(), found });
        }
        Ok(())
    }

    /// The next entry; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, LedgerError> {
        self.fill(LINE_BYTES_MAX)?;
        let Some((b'\n', line)) = self.line.split_last() else {
            if self.line.len() == LINE_BYTES_MAX {
                return Err(self.damaged(LineFault::Endless));
            }
            self.torn_bytes += self.line.len() as u64;
            return Ok(None);
        };
        let entry = Entry::decode(line).map_err(|fault| self.damaged(fault))?;
        if entry.number != self.entries + 1 {
            return Err(self.damaged(LineFault::Number { expected: self.entries + 1, found: entry.number }));
        }
        self.entries += 1;
        self.position += self.line.len() as u64;
        Ok(Some(entry))
    }

    /// The JSON text of the next entry, with its newline; none at the end.
    pub(crate) fn next_text(&mut self) -> Result<Option<&[u8]>, LedgerError> {
        let is_entry = self.next()?.is_some();
        Ok(is_entry.then(|| &self.line[DIGITS + 1..]))
    }

    /// Takes in a line with its newline, or so many bytes, or what is left.
    fn fill(&mut self, bytes_max: usize) -> Result<(), LedgerError> {
        self.line.clear();
        let read = self.source.by_ref().take(bytes_max as u64).read_until(b'\n', &mut self.line);
        read.map(drop).map_err(|source| failed(&self.path, source))
    }

    fn damaged(&self, fault: LineFault) -> LedgerError {
        LedgerError::Damaged { file: self.path.clone(), position: self.position, line: self.entries + 2, fault }
    }
}

fn failed(path: &Path, source: std::io::Error) -> LedgerError {
    LedgerError::Io { file: path.to_owned(), doing: "reading", source }
}
