//! What can be wrong with a file of orders: each with its place and with what was expected there.

use std::{fmt, io, path::PathBuf};

/// Characters of a wrong value that are kept: a cell may be as long as a row.
const VALUE_CHARS_MAX: usize = 80;

/// Why a file is not taken for the book of a shop. Lines are those of the unpacked file, the header being line 1.
#[derive(Debug)]
#[non_exhaustive]
pub enum RetailError {
    /// The file cannot be opened: fix the path.
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It breaks off, or cannot be unpacked.
    Read {
        /// The line that was being read.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// It is packed in another way than its name says, or than is read here.
    Packing {
        /// What is known of it.
        found: &'static str,
    },
    /// The header lacks a column.
    NoColumn {
        /// Which.
        column: &'static str,
        /// Those that it has.
        found: Vec<String>,
    },
    /// The header has a column twice.
    TwoColumns {
        /// Which.
        column: &'static str,
    },
    /// A row has another number of cells than the header.
    Cells {
        /// Where.
        line: u64,
        /// How many the header has.
        expected: u64,
        /// How many the row has.
        found: u64,
    },
    /// A cell is not UTF-8.
    NotText {
        /// Where.
        line: u64,
        /// The number of the cell in its row, from 1.
        cell: u64,
    },
    /// A quote is never closed: the cell behind it has swallowed the rest of the file.
    OpenQuote {
        /// The row that it begins in.
        line: u64,
    },
    /// A cell is not what its column holds.
    Cell {
        /// Where.
        line: u64,
        /// The column's name.
        column: &'static str,
        /// What stands there; its beginning, if it is long.
        value: String,
        /// What should.
        expected: &'static str,
    },
    /// A row says something else than the first row of its invoice, where an invoice has one answer.
    Differs {
        /// Where.
        line: u64,
        /// The column's name.
        column: &'static str,
        /// The invoice.
        invoice: String,
        /// What stands there.
        value: String,
        /// What stood in its first row.
        first: String,
    },
    /// A sum is beyond what is counted in: 9.2 × 10¹⁸ units, mills or pence.
    TooLarge {
        /// Where the sum got too large.
        line: u64,
        /// Of what.
        what: &'static str,
    },
}

impl RetailError {
    /// A cell that is not what its column holds.
    pub(super) fn cell(line: u64, column: &'static str, value: &str, expected: &'static str) -> Self {
        Self::Cell { line, column, value: value.chars().take(VALUE_CHARS_MAX).collect(), expected }
    }

    /// What the parser says about a row.
    pub(super) fn from_csv(error: csv::Error, line: u64) -> Self {
        let line = error.position().map_or(line, csv::Position::line);
        match error.into_kind() {
            csv::ErrorKind::Io(source) => Self::Read { line, source },
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                Self::Cells { line, expected: expected_len, found: len }
            }
            csv::ErrorKind::Utf8 { err, .. } => Self::NotText { line, cell: err.field() as u64 + 1 },
            // Seeking and deserializing are not done here; a kind that comes to the parser later is told in its words.
            other => Self::Read { line, source: io::Error::other(format!("{other:?}")) },
        }
    }

    /// The line that it is about.
    pub fn line(&self) -> Option<u64> {
        match self {
            Self::Open { .. } | Self::Packing { .. } | Self::NoColumn { .. } | Self::TwoColumns { .. } => None,
            Self::Read { line, .. }
            | Self::Cells { line, .. }
            | Self::NotText { line, .. }
            | Self::OpenQuote { line }
            | Self::Cell { line, .. }
            | Self::Differs { line, .. }
            | Self::TooLarge { line, .. } => Some(*line),
        }
    }
}

impl fmt::Display for RetailError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, .. } => write!(to, "open the orders path={}", path.display()),
            Self::Read { line, .. } => write!(to, "read the orders line={line}"),
            Self::Packing { found } => write!(to, "the orders are neither CSV nor CSV packed with zstd: {found}"),
            Self::NoColumn { column, found } => {
                write!(to, "the orders have no column {column}; they have: {}", found.join(", "))
            }
            Self::TwoColumns { column } => write!(to, "the orders have the column {column} twice"),
            Self::Cells { line, expected, found } => {
                write!(to, "a row has another number of cells than the header line={line} {expected} != {found}")
            }
            Self::NotText { line, cell } => write!(to, "a cell is not UTF-8 line={line} cell={cell}"),
            Self::OpenQuote { line } => write!(to, "a quote is never closed line={line}"),
            Self::Cell { line, column, value, expected } => {
                write!(to, "a cell is not {expected} line={line} column={column} value={value:?}")
            }
            Self::Differs { line, column, invoice, value, first } => write!(
                to,
                "an invoice has two answers line={line} column={column} invoice={invoice} first={first:?} \
                 value={value:?}"
            ),
            Self::TooLarge { line, what } => write!(to, "a sum is too large line={line} what={what}"),
        }
    }
}

impl std::error::Error for RetailError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open { source, .. } | Self::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}
