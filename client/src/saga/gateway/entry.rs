//! One line of the ledger: a charge that happened, or was declined.
//!
//! `crc32 json\n`: eight lowercase digits of the CRC-32 of the JSON text, a blank, the text, a newline. A person reads
//! it with `cut -c10- FILE`. What must stay true: a line that was changed anywhere is not taken for another one.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::charge::{Operation, Verdict};

/// The longest line with its newline, in bytes. The names in it are bounded, so no line comes near.
pub(crate) const LINE_BYTES_MAX: usize = 4_096;

/// Digits of a checksum. A blank parts them from the text.
pub(crate) const DIGITS: usize = 8;

/// One charge of the ledger. A charge with a key is the only one of its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Counts from 1 without holes, in the order of charging.
    pub number: u64,
    /// The key that it was asked with. Without one every request charges.
    pub key: Option<String>,
    /// What was asked.
    pub operation: Operation,
    /// The order's name.
    pub order: String,
    /// Pence.
    pub amount: u64,
    /// Whether money moved. Only an authorisation is ever declined.
    pub outcome: Verdict,
    /// When, in microseconds since 1970 UTC.
    pub time_us: i64,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineFault {
    /// It is too short for a checksum, or has no blank behind it.
    #[error("a line is not a checksum, a blank and a text bytes={bytes}")]
    Shape {
        /// Its length without the newline.
        bytes: usize,
    },
    /// It has no end within reason.
    #[error("a line does not end limit={LINE_BYTES_MAX}")]
    Endless,
    /// The checksum belongs to another text.
    #[error("a line's checksum is wrong expected={expected} found={found}")]
    Checksum {
        /// Of the text that is there.
        expected: String,
        /// What stands before it.
        found: String,
    },
    /// The text is whole, but no entry.
    #[error("a line is no entry: {what}")]
    Text {
        /// What the parser said.
        what: String,
    },
    /// The line is whole, but not the one that belongs here: a line is missing, or stands twice.
    #[error("a line is out of place expected={expected} found={found}")]
    Number {
        /// The number that belongs here.
        expected: u64,
        /// The number that is there.
        found: u64,
    },
}

impl Entry {
    /// Appends the line, with its newline.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.extend_from_slice(&[b' '; DIGITS + 1]);
        serde_json::to_writer(&mut *bytes, self).expect("names and numbers have a text, and memory takes it");
        let digits = digits(&bytes[start + DIGITS + 1..]);
        bytes[start..start + DIGITS].copy_from_slice(&digits);
        bytes.push(b'\n');
        assert!(bytes.len() - start <= LINE_BYTES_MAX, "the names of an entry are bounded");
    }

    /// Reads a line without its newline.
    pub(crate) fn decode(line: &[u8]) -> Result<Self, LineFault> {
        let Some((found, [b' ', text @ ..])) = line.split_at_checked(DIGITS) else {
            return Err(LineFault::Shape { bytes: line.len() });
        };
        let expected = digits(text);
        if found != expected {
            let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Err(LineFault::Checksum { expected: show(&expected), found: show(found) });
        }
        serde_json::from_slice(text).map_err(|error| LineFault::Text { what: error.to_string() })
    }
}

fn digits(text: &[u8]) -> [u8; DIGITS] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let crc = crc32fast::hash(text);
    std::array::from_fn(|place| HEX[(crc >> (4 * (DIGITS - 1 - place)) & 0xF) as usize])
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_deref().unwrap_or("none");
        write!(
            formatter,
            "charge {}: {} of {} p for order {} {} key={key}",
            self.number, self.operation, self.amount, self.order, self.outcome
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> Entry {
        Entry {
            number: 7,
            key: Some("authorize:536365".to_owned()),
            operation: Operation::Authorize,
            order: "536365".to_owned(),
            amount: 13_912,
            outcome: Verdict::Accepted,
            time_us: 1_291_192_800_000_000,
        }
    }

    fn line(entry: &Entry) -> Vec<u8> {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_line_stays_as_it_was_first_written() {
        let golden = concat!(
            r#"9e936e4d {"number":7,"key":"authorize:536365","operation":"authorize","order":"536365","#,
            r#""amount":13912,"outcome":"accepted","time_us":1291192800000000}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line(&entry())).unwrap(), golden);
        let none = Entry { key: None, operation: Operation::Void, outcome: Verdict::Declined, ..entry() };
        let golden = concat!(
            r#"816b265e {"number":7,"key":null,"operation":"void","order":"536365","#,
            r#""amount":13912,"outcome":"declined","time_us":1291192800000000}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line(&none)).unwrap(), golden);
    }

    #[test]
    fn a_line_with_any_byte_changed_is_refused() {
        let whole = line(&entry());
        let whole = &whole[..whole.len() - 1];
        for place in 0..whole.len() {
            for mask in [0x01, 0x20, 0x80, 0xFF] {
                let mut changed = whole.to_vec();
                changed[place] ^= mask;
                assert!(Entry::decode(&changed).is_err(), "place={place} mask={mask:#x}");
            }
            assert!(Entry::decode(&whole[..place]).is_err(), "cut at {place}");
        }
        assert_eq!(Entry::decode(whole), Ok(entry()));
    }

    proptest! {
        #[test]
        fn an_entry_comes_back_as_it_went(
            number: u64,
            key in proptest::option::of("[!-~]{1,255}"),
            operation in proptest::sample::select(Operation::ALL.to_vec()),
            order in "\\PC{1,25}",
            amount: u64,
            is_declined: bool,
            time_us: i64,
        ) {
            let outcome = if is_declined { Verdict::Declined } else { Verdict::Accepted };
            let entry = Entry { number, key, operation, order, amount, outcome, time_us };
            let line = line(&entry);
            prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
            prop_assert_eq!(Entry::decode(&line[..line.len() - 1]), Ok(entry));
        }
    }
}
