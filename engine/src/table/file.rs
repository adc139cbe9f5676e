//! All rows at one checkpoint, in one file: two files, written in turn, each whole or not believed.
//!
//! A header of 128 bytes (which LSN the rows stand for, and where the journal goes on), then rows sorted by table and
//! key, each with its own checksum. While one file is written the other stays as it is, so a crash in the middle
//! leaves the older checkpoint. A page-structured store takes over when tables outgrow memory; the rows stay.

use std::{io, sync::Arc};

use thiserror::Error;

use crate::{
    disk::{self, Disk, Mode},
    header::{put, take},
    id::{Incarnation, Lsn, Uid},
    journal::Tip,
    table::{
        Applied,
        applied::LaneEnd,
        group::GroupRow,
        row::{CountersRow, LaneRow, ProducerRow, Row, TopicRow},
    },
};

/// The two files.
pub const PATHS: [&str; 2] = ["tables-a", "tables-b"];
const MAGIC: [u8; 4] = *b"TLRT";
const VERSION: u16 = 2;
const HEADER_BYTES: usize = 128;
const ROW_HEADER_BYTES: usize = 12;

/// What a tables file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Rises with every checkpoint; odd ones stand in the second file.
    pub generation: u64,
    /// The last frame that it stands for, and where the journal goes on.
    pub tip: Tip,
    /// The tables at that frame.
    pub applied: Applied,
    /// Lanes with what is in their segments.
    pub lanes: Vec<LaneRow>,
}

/// Why a tables file is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TablesFault {
    /// Too short, or a checksum does not hold.
    #[error("damaged: {what} at={at}")]
    Damaged {
        /// Which check.
        what: &'static str,
        /// Byte position.
        at: usize,
    },
    /// Of a newer version, or a row of a table that this version does not know.
    #[error("newer format: {what}={number}")]
    Newer {
        /// What.
        what: &'static str,
        /// Its number.
        number: u64,
    },
    /// Of another cluster.
    #[error("belongs to another cluster")]
    Foreign,
}

impl Checkpoint {
    /// Which file it is written to.
    pub fn path(&self) -> &'static str {
        PATHS[(self.generation % 2) as usize]
    }

    /// The last frame that a listed block holds records of. A checkpoint lists blocks of frames above its own LSN when
    /// flush has written them meanwhile, and they were durable.
    pub fn flushed_lsn(&self) -> Lsn {
        let segments = self.lanes.iter().flat_map(|lane| &lane.segments);
        segments.map(|segment| segment.last_lsn).max().unwrap_or_default()
    }

    /// The file's bytes.
    pub fn encode(&self, cluster: Uid) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        let mut rows = 0;
        push_row(&mut out, &mut rows, &self.applied.counters);
        self.applied.topics.values().for_each(|row| push_row(&mut out, &mut rows, row));
        self.applied.producers.values().for_each(|row| push_row(&mut out, &mut rows, row));
        self.lanes.iter().for_each(|row| push_row(&mut out, &mut rows, row));
        self.applied.groups.values().for_each(|row| push_row(&mut out, &mut rows, &**row));
        let body_crc = crc32fast::hash(&out[HEADER_BYTES..]);
        let body_len = (out.len() - HEADER_BYTES) as u64;
        put(&mut out, 0, MAGIC);
        put(&mut out, 4, VERSION.to_le_bytes());
        put(&mut out, 12, body_crc.to_le_bytes());
        put(&mut out, 16, self.generation.to_le_bytes());
        put(&mut out, 24, body_len.to_le_bytes());
        put(&mut out, 32, u64::to_le_bytes(rows));
        put(&mut out, 40, self.tip.lsn.0.to_le_bytes());
        put(&mut out, 48, self.tip.crc.to_le_bytes());
        put(&mut out, 56, self.tip.time_us.to_le_bytes());
        put(&mut out, 64, self.tip.position.to_le_bytes());
        put(&mut out, 72, self.tip.incarnation.0.to_le_bytes());
        put(&mut out, 80, self.tip.file_no.to_le_bytes());
        put(&mut out, 88, self.tip.at.to_le_bytes());
        put(&mut out, 96, cluster.0);
        let crc = crc32fast::hash(&out[..HEADER_BYTES]);
        put(&mut out, 8, crc.to_le_bytes());
        out
    }

    /// The checkpoint that a file's bytes are. Bytes behind its end are left over from an older, longer one.
    pub fn decode(bytes: &[u8], cluster: Uid) -> Result<Self, TablesFault> {
        let damaged = |what, at| TablesFault::Damaged { what, at };
        let mut header = *bytes.first_chunk::<HEADER_BYTES>().ok_or(damaged("length", bytes.len()))?;
        let crc = u32::from_le_bytes(take(&header, 8));
        put(&mut header, 8, [0; 4]);
        if header[0..4] != MAGIC || crc32fast::hash(&header) != crc {
            return Err(damaged("header", 0));
        }
        let version = u16::from_le_bytes(take(&header, 4));
        if version != VERSION {
            return Err(TablesFault::Newer { what: "version", number: u64::from(version) });
        }
        if take::<16>(&header, 96) != cluster.0 {
            return Err(TablesFault::Foreign);
        }
        let number = |at: usize| u64::from_le_bytes(take(&header, at));
        let body_len = usize::try_from(number(24)).unwrap_or(usize::MAX);
        let body = bytes[HEADER_BYTES..].get(..body_len).ok_or(damaged("length", bytes.len()))?;
        if crc32fast::hash(body) != u32::from_le_bytes(take(&header, 12)) {
            return Err(damaged("rows", HEADER_BYTES));
        }
        let tip = Tip {
            lsn: Lsn(number(40)),
            crc: u32::from_le_bytes(take(&header, 48)),
            time_us: i64::from_le_bytes(take(&header, 56)),
            position: number(64),
            incarnation: Incarnation(number(72)),
            file_no: number(80),
            at: number(88),
        };
        let mut checkpoint = Self { generation: number(16), tip, ..Self::default() };
        checkpoint.read_rows(body, number(32))?;
        checkpoint.applied.sum();
        Ok(checkpoint)
    }

    fn read_rows(&mut self, body: &[u8], rows: u64) -> Result<(), TablesFault> {
        let applied = &mut self.applied;
        (applied.lsn, applied.time_us, applied.position) = (self.tip.lsn, self.tip.time_us, self.tip.position);
        let (mut at, mut seen) = (0, 0);
        while at < body.len() {
            let damaged = |what| TablesFault::Damaged { what, at: HEADER_BYTES + at };
            let header = body[at..].first_chunk::<ROW_HEADER_BYTES>().ok_or(damaged("row header"))?;
            let len = u32::from_le_bytes(take(header, 4)) as usize;
            let row = body[at + ROW_HEADER_BYTES..].get(..len).ok_or(damaged("row length"))?;
            if row_crc(header[0], row) != u32::from_le_bytes(take(header, 8)) || header[1..4] != [0; 3] {
                return Err(damaged("row"));
            }
            self.read_row(header[0], row).ok_or(damaged("row contents"))??;
            at += ROW_HEADER_BYTES + len;
            seen += 1;
        }
        if seen == rows { Ok(()) } else { Err(TablesFault::Damaged { what: "row count", at: 32 }) }
    }

    fn read_row(&mut self, table: u8, row: &[u8]) -> Option<Result<(), TablesFault>> {
        let applied = &mut self.applied;
        match table {
            CountersRow::TABLE => applied.counters = CountersRow::decode(row)?,
            TopicRow::TABLE => {
                let row = TopicRow::decode(row)?;
                if row.deleted.is_none() {
                    applied.topic_names.insert(row.name.clone(), row.id);
                }
                applied.topics.insert(row.id, row);
            }
            ProducerRow::TABLE => {
                let row = ProducerRow::decode(row)?;
                applied.producer_names.insert(row.name.clone(), row.id);
                applied.producers.insert(row.id, row);
            }
            GroupRow::TABLE => {
                let row = GroupRow::decode(row)?;
                applied.group_names.insert(row.name.clone(), row.id);
                applied.groups.insert(row.id, Arc::new(row));
            }
            LaneRow::TABLE => {
                let row = LaneRow::decode(row)?;
                // A lane of a deleted topic is listed until its files are gone, but it has no end any more.
                if applied.live_topic(row.lane.topic).is_some() {
                    applied.lanes.insert(row.lane, LaneEnd { end: row.end, last_time_us: row.last_time_us });
                }
                self.lanes.push(row);
            }
            other => return Some(Err(TablesFault::Newer { what: "table", number: u64::from(other) })),
        }
        Some(Ok(()))
    }
}

fn row_crc(table: u8, row: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[table]);
    hasher.update(row);
    hasher.finalize()
}

fn push_row<R: Row>(out: &mut Vec<u8>, rows: &mut u64, row: &R) {
    let bytes = row.encode();
    let len = u32::try_from(bytes.len()).expect("rows are bounded");
    out.extend([R::TABLE, 0, 0, 0]);
    out.extend(len.to_le_bytes());
    out.extend(row_crc(R::TABLE, &bytes).to_le_bytes());
    out.extend(bytes);
    *rows += 1;
}

/// What the two files hold.
#[derive(Debug)]
pub struct Newest {
    /// The newer one that is whole; none when there is none yet.
    pub checkpoint: Option<Checkpoint>,
    /// Files that are there and not believed.
    pub faults: Vec<(&'static str, TablesFault)>,
}

/// Reads both files, cold.
pub fn read_newest(disk: &dyn Disk, cluster: Uid) -> io::Result<Newest> {
    let mut newest = Newest { checkpoint: None, faults: Vec::new() };
    for path in PATHS {
        let file = match disk::open_cold(disk, path, Mode::Write, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; usize::try_from(file.bytes()?).map_err(io::Error::other)?];
        let count = disk::read_full_at(&*file, &mut bytes, 0)?;
        match Checkpoint::decode(&bytes[..count], cluster) {
            Ok(checkpoint) => {
                let is_newer = newest.checkpoint.as_ref().is_none_or(|other| other.generation < checkpoint.generation);
                if is_newer {
                    newest.checkpoint = Some(checkpoint);
                }
            }
            Err(fault) => newest.faults.push((path, fault)),
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{Lane, Offset, Partition, TopicId},
        request::TopicConfig,
    };

    fn sample() -> Checkpoint {
        let mut applied = Applied { lsn: Lsn(12), time_us: 34, position: 56, ..Applied::default() };
        let topic = TopicRow {
            id: TopicId(1),
            name: "orders".into(),
            config: TopicConfig::default(),
            created_us: 30,
            deleted: None,
        };
        applied.topic_names.insert("orders".into(), TopicId(1));
        applied.topics.insert(TopicId(1), topic);
        applied.counters.next_topic = 2;
        let lane = Lane { topic: TopicId(1), partition: Partition(0) };
        applied.lanes.insert(lane, LaneEnd { end: Offset(7), last_time_us: 33 });
        let row =
            LaneRow { lane, head: Offset(0), end: Offset(7), last_time_us: 33, flushed: Offset(7), segments: vec![] };
        let tip = Tip {
            lsn: Lsn(12),
            crc: 99,
            time_us: 34,
            position: 56,
            incarnation: Incarnation(2),
            file_no: 1,
            at: 8_192,
        };
        applied.sum();
        Checkpoint { generation: 3, tip, applied, lanes: vec![row] }
    }

    #[test]
    fn a_checkpoint_reads_back_and_matches_its_golden_bytes() {
        let cluster = Uid([5; 16]);
        let bytes = sample().encode(cluster);
        assert_eq!(Checkpoint::decode(&bytes, cluster), Ok(sample()));
        assert_eq!(Checkpoint::decode(&bytes, Uid([6; 16])), Err(TablesFault::Foreign));
        crate::header::golden::check("tables", &bytes);
    }

    #[test]
    fn every_corrupted_byte_of_a_tables_file_is_seen() {
        let cluster = Uid([5; 16]);
        let good = sample().encode(cluster);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            assert!(Checkpoint::decode(&bad, cluster).is_err(), "byte {at}");
        }
        for cut in 0..good.len() {
            assert!(Checkpoint::decode(&good[..cut], cluster).is_err(), "cut at {cut}");
        }
    }
}
