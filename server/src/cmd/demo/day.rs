//! The first day of the orders, as it is shipped: what is appended, and what has to be found.

use std::collections::HashSet;

use tillroll_client::Record;

use crate::cmd::{append, fail::Failure};

const PACKED: &[u8] = include_bytes!("../../../data/retail-first-day.csv.zst");
const SOURCE: &str = "retail-first-day.csv";
/// Of the unpacked file; it has 275,001 bytes.
const BYTES_MAX: usize = 1 << 20;

/// One day of a shop.
pub(super) struct Day {
    /// The fields of each line.
    pub(super) lines: Vec<Vec<String>>,
    /// The names of the fields.
    pub(super) columns: Vec<String>,
    /// What is appended, one for each line.
    pub(super) records: Vec<Record>,
}

impl Day {
    /// Unpacks and parses the file twice: once as `append` does, and once for the proof.
    pub(super) fn unpack() -> Result<Self, Failure> {
        let bytes = zstd::bulk::decompress(PACKED, BYTES_MAX).map_err(|error| Failure::io("unpacking", &error))?;
        Self::of(&bytes)
    }

    fn of(bytes: &[u8]) -> Result<Self, Failure> {
        let wrong = |error: csv::Error| Failure::plain(format!("{SOURCE}: {error}"));
        let mut rows = csv::Reader::from_reader(bytes);
        let columns = rows.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
        let lines = rows.records().map(|row| row.map(|row| row.iter().map(str::to_owned).collect()));
        let lines = lines.collect::<Result<_, _>>().map_err(wrong)?;
        let records = append::csv_records(bytes.to_vec(), SOURCE, "InvoiceNo", "InvoiceDate")?;
        Ok(Self { lines, columns, records })
    }

    /// How many invoices there are.
    pub(super) fn invoices(&self) -> usize {
        self.lines.iter().filter_map(|line| line.first()).collect::<HashSet<_>>().len()
    }

    #[cfg(test)]
    pub(super) fn small() -> Self {
        let text =
            "InvoiceNo,InvoiceDate,What\n1,2010-12-01 08:26:00,a\n1,2010-12-01 08:26:00,a\n2,2010-12-01 08:27:00,b\n";
        Self::of(text.as_bytes()).expect("three lines")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_has_3108_lines_of_143_invoices() {
        let day = Day::unpack().expect("the shipped file is whole");
        assert_eq!((day.lines.len(), day.records.len(), day.invoices()), (3_108, 3_108, 143));
        assert_eq!(day.records[3_107].id, "retail-first-day.csv#3108");
        assert!(day.records.iter().all(|record| record.key.is_some() && record.event_time_us.is_some()));
    }
}
