//! The rows, one by one, and their bytes: little-endian, fixed order, text and lists behind a length.
//!
//! Rows are read from a file whose checksums held, so a row that does not read is a bug or a newer format; it is
//! still an error and never a panic.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    codec::Codec,
    fields::{FieldReader, FieldWriter},
    id::{Lane, Lsn, Offset, ProducerId, SegmentId, TopicId},
    limits::ALIGN,
    request::TopicConfig,
};

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRow {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// How it is kept.
    pub config: TopicConfig,
    /// When it was created, in microseconds.
    pub created_us: i64,
    /// The frame that deleted it: a tombstone, until its files are gone.
    pub deleted: Option<Lsn>,
}

/// A producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerRow {
    /// Its id.
    pub id: ProducerId,
    /// Its name.
    pub name: String,
    /// The epoch that counts.
    pub epoch: u64,
    /// The last accepted sequence; 0 before the first.
    pub last_sequence: u64,
    /// Records ever accepted.
    pub accepted_records: u64,
    /// Idle time after which it is forgotten, in microseconds; 0: never.
    pub idle_expiry_us: u64,
    /// Time of its last frame, in microseconds.
    pub last_us: i64,
    /// Its newest answers, oldest first: the newest one, and those that it has not confirmed.
    pub answers: VecDeque<Arc<AnswerRow>>,
}

impl ProducerRow {
    /// What its answers take in memory.
    pub fn answer_bytes(&self) -> u64 {
        self.answers.iter().map(|answer| answer.bytes()).sum()
    }

    /// What an append that confirms the answers below `answered_below` lets go of, and adds itself.
    pub fn confirmed_bytes(&self, answered_below: u64) -> u64 {
        self.answers.iter().take_while(|answer| answer.sequence < answered_below).map(|answer| answer.bytes()).sum()
    }
}

/// What an append was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRow {
    /// Its sequence.
    pub sequence: u64,
    /// What it asked, hashed.
    pub content_hash: u64,
    /// Its frame.
    pub lsn: Lsn,
    /// Its time, in microseconds.
    pub time_us: i64,
    /// Where its batches went.
    pub placed: Vec<PlacedRow>,
}

impl AnswerRow {
    /// What it takes in memory.
    pub fn bytes(&self) -> u64 {
        Self::bytes_of(self.placed.len())
    }

    /// What an answer takes that names so many places.
    pub fn bytes_of(places: usize) -> u64 {
        128 + 32 * places as u64
    }
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedRow {
    /// Its place in the request.
    pub batch_index: u32,
    /// Topic and partition.
    pub lane: Lane,
    /// Offset of its first record.
    pub base: Offset,
    /// How many records.
    pub record_count: u32,
}

/// A lane: what frames made of it, and what flush has put into segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRow {
    /// Which.
    pub lane: Lane,
    /// First kept offset.
    pub head: Offset,
    /// Next offset.
    pub end: Offset,
    /// Append time of its last record, in microseconds.
    pub last_time_us: i64,
    /// Records below are in synced segments.
    pub flushed: Offset,
    /// Its segments, oldest first; only the last can be active.
    pub segments: Vec<SegmentRow>,
}

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRow {
    /// Its id.
    pub id: SegmentId,
    /// Offset of its first record.
    pub base: Offset,
    /// Offset behind its last record.
    pub end: Offset,
    /// Rises when a compaction replaces it.
    pub generation: u32,
    /// It never changes again.
    pub sealed: bool,
    /// The last frame that any of its blocks holds records of; 0 before the first block. Blocks are written of durable
    /// frames only, so this frame was durable.
    pub last_lsn: Lsn,
    /// End of its data in the file.
    pub bytes: u64,
    /// `header_crc` of its last block, which the next one continues; 0 before the first.
    pub last_crc: u32,
    /// Append time of its first record, in microseconds.
    pub first_time_us: i64,
    /// Append time of its last record, in microseconds.
    pub last_time_us: i64,
}

/// Numbers that are counted and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountersRow {
    /// The next topic's id.
    pub next_topic: u64,
    /// The next producer's id.
    pub next_producer: u64,
    /// The next segment's id.
    pub next_segment: u64,
    /// The next consumer group's id.
    pub next_group: u64,
}

impl Default for CountersRow {
    fn default() -> Self {
        Self { next_topic: 1, next_producer: 1, next_segment: 1, next_group: 1 }
    }
}

/// A row of one of the tables.
pub trait Row: Sized {
    /// The table's number in the file. Numbers once used are never reused. 5 is groups, with their members
    /// and cursors. Reserved: 6 to 8, 9 remainder, 10 schedules, 11 idempotency keys, 12 queue state, 13 schemas,
    /// 14 grants.
    const TABLE: u8;

    /// Writes it.
    fn write(&self, out: &mut FieldWriter);

    /// Reads it.
    fn read(row: &mut FieldReader<'_>) -> Option<Self>;

    /// Its bytes.
    fn encode(&self) -> Vec<u8> {
        let mut out = FieldWriter::default();
        self.write(&mut out);
        out.into_bytes()
    }

    /// The row that `bytes` are, all of them.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut row = FieldReader::new(bytes);
        Self::read(&mut row).filter(|_| row.is_empty())
    }
}

impl Row for CountersRow {
    const TABLE: u8 = 1;

    fn write(&self, out: &mut FieldWriter) {
        out.number(self.next_topic).number(self.next_producer).number(self.next_segment).number(self.next_group);
    }

    fn read(row: &mut FieldReader<'_>) -> Option<Self> {
        Some(Self {
            next_topic: row.number()?,
            next_producer: row.number()?,
            next_segment: row.number()?,
            next_group: row.number()?,
        })
    }
}

impl Row for TopicRow {
    const TABLE: u8 = 2;

    fn write(&self, out: &mut FieldWriter) {
        out.number(self.id.0).text(&self.name);
        out.word(self.config.partitions).byte(self.config.codec as u8);
        out.word(self.config.max_record_bytes).word(self.config.segment_bytes);
        out.time(self.created_us).number(self.deleted.map_or(0, Lsn::get));
    }

    fn read(row: &mut FieldReader<'_>) -> Option<Self> {
        let (id, name) = (TopicId(row.number()?), row.text()?);
        let (partitions, codec) = (row.word()?, Codec::from_number(row.byte()?)?);
        let (max_record_bytes, segment_bytes) = (row.word()?, row.word()?);
        let config = TopicConfig { partitions, codec, max_record_bytes, segment_bytes };
        let (created_us, deleted) = (row.time()?, row.number()?);
        Some(Self { id, name, config, created_us, deleted: (deleted > 0).then_some(Lsn(deleted)) })
    }
}

impl Row for ProducerRow {
    const TABLE: u8 = 3;

    fn write(&self, out: &mut FieldWriter) {
        out.number(self.id.0).text(&self.name).number(self.epoch).number(self.last_sequence);
        out.number(self.accepted_records).number(self.idle_expiry_us).time(self.last_us);
        out.count(self.answers.len());
        for answer in &self.answers {
            out.number(answer.sequence).number(answer.content_hash).number(answer.lsn.0).time(answer.time_us);
            out.count(answer.placed.len());
            for placed in &answer.placed {
                out.word(placed.batch_index).lane(placed.lane).number(placed.base.0).word(placed.record_count);
            }
        }
    }

    fn read(row: &mut FieldReader<'_>) -> Option<Self> {
        let placed = |row: &mut FieldReader<'_>| {
            Some(PlacedRow {
                batch_index: row.word()?,
                lane: row.lane()?,
                base: Offset(row.number()?),
                record_count: row.word()?,
            })
        };
        let answer = |row: &mut FieldReader<'_>| {
            Some(Arc::new(AnswerRow {
                sequence: row.number()?,
                content_hash: row.number()?,
                lsn: Lsn(row.number()?),
                time_us: row.time()?,
                placed: row.list(placed)?,
            }))
        };
        Some(Self {
            id: ProducerId(row.number()?),
            name: row.text()?,
            epoch: row.number()?,
            last_sequence: row.number()?,
            accepted_records: row.number()?,
            idle_expiry_us: row.number()?,
            last_us: row.time()?,
            answers: row.list(answer)?,
        })
    }
}

impl Row for LaneRow {
    const TABLE: u8 = 4;

    fn write(&self, out: &mut FieldWriter) {
        out.lane(self.lane).number(self.head.0).number(self.end.0).time(self.last_time_us).number(self.flushed.0);
        out.count(self.segments.len());
        for segment in &self.segments {
            out.number(segment.id.0).number(segment.base.0).number(segment.end.0).word(segment.generation);
            out.truth(segment.sealed).number(segment.last_lsn.0).number(segment.bytes).word(segment.last_crc);
            out.time(segment.first_time_us).time(segment.last_time_us);
        }
    }

    fn read(row: &mut FieldReader<'_>) -> Option<Self> {
        // A segment ends with a whole block: one that did not could not be written on.
        let ends_whole = |segment: &SegmentRow| segment.bytes.is_multiple_of(ALIGN as u64);
        let segment = |row: &mut FieldReader<'_>| {
            let read = SegmentRow {
                id: SegmentId(row.number()?),
                base: Offset(row.number()?),
                end: Offset(row.number()?),
                generation: row.word()?,
                sealed: row.truth()?,
                last_lsn: Lsn(row.number()?),
                bytes: row.number()?,
                last_crc: row.word()?,
                first_time_us: row.time()?,
                last_time_us: row.time()?,
            };
            Some(read).filter(ends_whole)
        };
        Some(Self {
            lane: row.lane()?,
            head: Offset(row.number()?),
            end: Offset(row.number()?),
            last_time_us: row.time()?,
            flushed: Offset(row.number()?),
            segments: row.list(segment)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Partition;

    fn check<R: Row + PartialEq + std::fmt::Debug>(row: &R) {
        let bytes = row.encode();
        assert_eq!(R::decode(&bytes).as_ref(), Some(row));
        for cut in 0..bytes.len() {
            assert!(R::decode(&bytes[..cut]).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn a_group_reads_back() {
        use crate::{
            group::{BelowHead, GroupConfig, LostWhy, Mode, Rule},
            id::GroupId,
            request::Start,
            table::group::{CursorRow, GroupRow, MemberRow},
        };
        let lane = Lane { topic: TopicId(4), partition: Partition(2) };
        let cursor = CursorRow {
            next: Offset(7),
            epoch: 3,
            holder: Some("m-0".into()),
            is_draining: true,
            lost: Some(LostWhy::TakenOver),
            metadata: bytes::Bytes::from_static(b"m"),
            committed_us: 11,
        };
        let member = MemberRow { instance: "i-1".into(), client: "test".into(), joined_us: 9 };
        check(&GroupRow {
            id: GroupId(1),
            name: "mailer".into(),
            config: GroupConfig {
                mode: Mode::Members,
                rule: Some(Rule::Spread),
                start: Start::Last(4),
                below_head: BelowHead::Earliest,
                session_ms: 1_000,
                drain_ms: 2_000,
            },
            version: 2,
            paused: Some(String::new()),
            topics: vec![(TopicId(4), "orders".into())],
            members: [("m-0".into(), member)].into(),
            cursors: [(lane, cursor)].into(),
        });
    }

    #[test]
    fn rows_read_back_and_a_cut_row_does_not() {
        let lane = Lane { topic: TopicId(4), partition: Partition(2) };
        check(&CountersRow { next_topic: 5, next_producer: 6, next_segment: 7, next_group: 8 });
        check(&TopicRow {
            id: TopicId(4),
            name: "orders".into(),
            config: TopicConfig::default(),
            created_us: -5,
            deleted: Some(Lsn(9)),
        });
        let placed = vec![PlacedRow { batch_index: 1, lane, base: Offset(100), record_count: 3 }];
        let answer = AnswerRow { sequence: 8, content_hash: 9, lsn: Lsn(10), time_us: 11, placed };
        check(&ProducerRow {
            id: ProducerId(1),
            name: "loader".into(),
            epoch: 2,
            last_sequence: 8,
            accepted_records: 1_000,
            idle_expiry_us: 0,
            last_us: 11,
            answers: [Arc::new(answer)].into(),
        });
        let segment = SegmentRow {
            id: SegmentId(3),
            base: Offset(0),
            end: Offset(50),
            generation: 0,
            sealed: true,
            last_lsn: Lsn(40),
            bytes: 8_192,
            last_crc: 77,
            first_time_us: 1,
            last_time_us: 2,
        };
        let row = LaneRow {
            lane,
            head: Offset(0),
            end: Offset(103),
            last_time_us: 11,
            flushed: Offset(50),
            segments: vec![segment],
        };
        check(&row);
        let cut = LaneRow { segments: vec![SegmentRow { bytes: 8_192 + 512, ..segment }], ..row };
        assert_eq!(LaneRow::decode(&cut.encode()), None, "it ends within a block");
    }
}
