//! A batch as it came, cut to what was asked for, and its records one by one.

use std::sync::Arc;

use bytes::Bytes;
use tillroll_proto::v1;

use super::Received;
use crate::{
    Error, Record,
    decode::{self, damaged},
};

/// Records of one partition, in order. It is an iterator that decodes each
/// record when it is asked for.
#[derive(Debug)]
pub struct ReadBatch {
    topic: Arc<str>,
    partition: u32,
    next_offset: u64,
    bytes: usize,
    left: usize,
    records: Form,
}

#[derive(Debug)]
enum Form {
    /// Decoded by the server.
    Plain(std::vec::IntoIter<v1::ReadRecord>),
    /// A set, of which the first `index` records are cut off.
    Encoded { set: Bytes, index: usize, range: Range },
}

/// Offsets and times of an encoded batch.
#[derive(Debug)]
struct Range {
    base_offset: u64,
    deltas: Vec<u32>,
    /// (index of the first record behind the run, its append time).
    times: Vec<(usize, i64)>,
}

impl ReadBatch {
    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Where to go on behind this batch.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// How many records are left in it.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Nothing is left in it.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The size of the encoded records that it came with, decompressed, with
    /// those that were not asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next record as it is encoded, with its offset and append time: for whoever takes it apart, and leaves most
    /// of them alone.
    pub(crate) fn next_encoded(&mut self) -> Option<Result<(u64, i64, Bytes), Error>> {
        self.left = self.left.checked_sub(1)?;
        let Form::Encoded { set, index, range } = &mut self.records else {
            return Some(Err(Error::protocol("records that were asked for as they are encoded")));
        };
        let at = *index;
        *index += 1;
        let body = decode::next_record(set).and_then(|body| body.ok_or_else(short));
        Some(body.map(|body| (range.offset(at), range.append_time_us(at), body)))
    }

    /// Verifies a batch, decompresses it, and leaves the records with offsets
    /// from `from` on, at most `limit` of them.
    pub(crate) fn from_wire(topic: &Arc<str>, batch: v1::Batch, from: u64, limit: Option<u64>) -> Result<Self, Error> {
        let v1::Batch { partition, next_offset, records, encoded, .. } = batch;
        if next_offset < from {
            return Err(Error::protocol(format!(
                "a batch from before the place that was asked for partition={partition} \
                 expected={from} actual={next_offset}"
            )));
        }
        let wanted = from..next_offset;
        let (form, bytes, left) = match encoded {
            Some(range) => encoded_form(range, &wanted)?,
            None => plain_form(records, &wanted),
        };
        let mut batch = Self { topic: Arc::clone(topic), partition, next_offset, bytes, left, records: form };
        if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok())
            && batch.left > limit
        {
            batch.next_offset = batch.offset_after(limit);
            batch.left = limit;
        }
        Ok(batch)
    }

    /// The offset behind the first `count` of the records that are left.
    fn offset_after(&self, count: usize) -> u64 {
        match (&self.records, count.checked_sub(1)) {
            (Form::Plain(records), Some(last)) => records.as_slice()[last].offset + 1,
            (Form::Encoded { index, range, .. }, Some(last)) => range.offset(index + last) + 1,
            (_, None) => self.next_offset,
        }
    }

    fn take(&mut self) -> Result<(u64, i64, Record), Error> {
        match &mut self.records {
            Form::Plain(records) => {
                let next = records.next().ok_or_else(short)?;
                let record = next.record.ok_or_else(|| Error::protocol("a record is empty"))?;
                Ok((next.offset, next.append_time_us, Record::from_wire(record)))
            }
            Form::Encoded { set, index, range } => {
                let body = decode::next_record(set)?.ok_or_else(short)?;
                let record = decode::record(body)?;
                let at = *index;
                *index += 1;
                Ok((range.offset(at), range.append_time_us(at), record))
            }
        }
    }
}

impl Iterator for ReadBatch {
    type Item = Result<Received, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.take().map(|(offset, append_time_us, record)| Received {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            offset,
            append_time_us,
            record,
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

fn plain_form(records: Vec<v1::ReadRecord>, wanted: &std::ops::Range<u64>) -> (Form, usize, usize) {
    let records: Vec<v1::ReadRecord> = records.into_iter().filter(|record| wanted.contains(&record.offset)).collect();
    let bytes = records.iter().map(prost::Message::encoded_len).sum();
    let left = records.len();
    (Form::Plain(records.into_iter()), bytes, left)
}

fn encoded_form(encoded: v1::EncodedRange, wanted: &std::ops::Range<u64>) -> Result<(Form, usize, usize), Error> {
    let batch = encoded.batch.ok_or_else(|| Error::protocol("an encoded range without a batch"))?;
    let mut set = decode::open(&batch)?;
    let count = batch.record_count as usize;
    let range = Range::new(encoded.base_offset, encoded.offset_deltas, &encoded.times, count)?;
    let bytes = set.len();
    let first = range.index_of(wanted.start, count);
    let end = range.index_of(wanted.end, count);
    for _ in 0..first {
        decode::next_record(&mut set)?.ok_or_else(short)?;
    }
    let form = Form::Encoded { set, index: first, range };
    Ok((form, bytes, end.saturating_sub(first)))
}

impl Range {
    fn new(base_offset: u64, deltas: Vec<u32>, runs: &[v1::AppendTimeRun], count: usize) -> Result<Self, Error> {
        if !deltas.is_empty() && (deltas.len() != count || !deltas.is_sorted_by(|a, b| a < b)) {
            return Err(damaged(format!("offsets count={count} offsets={}", deltas.len())));
        }
        let mut times = Vec::with_capacity(runs.len());
        let mut end = 0_usize;
        for run in runs {
            end += run.record_count as usize;
            times.push((end, run.append_time_us));
        }
        if end != count {
            return Err(damaged(format!("append times count={count} times={end}")));
        }
        Ok(Self { base_offset, deltas, times })
    }

    fn offset(&self, index: usize) -> u64 {
        let delta = self.deltas.get(index).map_or(index as u64, |delta| u64::from(*delta));
        self.base_offset + delta
    }

    /// The index of the first of `count` records at this offset or beyond.
    fn index_of(&self, offset: u64, count: usize) -> usize {
        let delta = offset.saturating_sub(self.base_offset);
        if self.deltas.is_empty() {
            return usize::try_from(delta).unwrap_or(count).min(count);
        }
        self.deltas.partition_point(|known| u64::from(*known) < delta)
    }

    fn append_time_us(&self, index: usize) -> i64 {
        let run = self.times.partition_point(|(end, _)| *end <= index);
        self.times.get(run).map_or(0, |(_, time)| *time)
    }
}

/// A set with fewer records than it says.
fn short() -> Error {
    damaged("fewer records than counted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compression, EncodedBatch};

    fn wire(base_offset: u64, deltas: &[u32], count: u32, next_offset: u64) -> v1::Batch {
        let records: Vec<Record> = (0..count).map(|n| Record::new(n.to_string())).collect();
        v1::Batch {
            partition: 3,
            next_offset,
            encoded: Some(v1::EncodedRange {
                base_offset,
                offset_deltas: deltas.to_vec(),
                times: vec![
                    v1::AppendTimeRun { record_count: 1, append_time_us: 100 },
                    v1::AppendTimeRun { record_count: count - 1, append_time_us: 200 },
                ],
                batch: Some(EncodedBatch::of(&records, Compression::Lz4).into_wire()),
            }),
            ..v1::Batch::default()
        }
    }

    fn read(batch: v1::Batch, from: u64, limit: Option<u64>) -> (Vec<(u64, i64, String)>, u64) {
        let batch = ReadBatch::from_wire(&"orders".into(), batch, from, limit).expect("a whole batch");
        let next_offset = batch.next_offset();
        let records = batch
            .map(|received| {
                let received = received.expect("a whole record");
                let value = String::from_utf8_lossy(&received.record.value).into_owned();
                (received.offset, received.append_time_us, value)
            })
            .collect();
        (records, next_offset)
    }

    #[test]
    fn records_before_the_asked_offset_are_cut_off() {
        let (records, next) = read(wire(10, &[], 4, 14), 12, None);
        assert_eq!(records, [(12, 200, "2".into()), (13, 200, "3".into())]);
        assert_eq!(next, 14);
    }

    #[test]
    fn records_from_the_next_offset_on_are_cut_off() {
        let (records, next) = read(wire(10, &[], 4, 11), 0, None);
        assert_eq!(records, [(10, 100, "0".into())]);
        assert_eq!(next, 11);
    }

    #[test]
    fn a_limit_moves_the_next_offset_to_the_last_record_given_out() {
        let (records, next) = read(wire(10, &[0, 5, 6, 9], 4, 20), 11, Some(2));
        assert_eq!(records, [(15, 200, "1".into()), (16, 200, "2".into())]);
        assert_eq!(next, 17);
    }

    #[test]
    fn a_batch_that_a_filter_left_empty_still_moves_on() {
        let empty = v1::Batch { next_offset: 50, ..v1::Batch::default() };
        assert_eq!(read(empty, 40, None), (vec![], 50));
    }

    #[test]
    fn counts_that_do_not_match_are_refused() {
        let parse = |batch| ReadBatch::from_wire(&"orders".into(), batch, 0, None);
        assert!(parse(wire(10, &[0, 1], 4, 14)).is_err(), "two offsets for four records");
        assert!(parse(wire(10, &[0, 2, 1, 3], 4, 14)).is_err(), "offsets that fall");
        let mut late = wire(10, &[], 4, 14);
        late.encoded.as_mut().expect("encoded").times.pop();
        assert!(parse(late).is_err(), "times for one record of four");
        assert!(
            ReadBatch::from_wire(&"orders".into(), wire(10, &[], 4, 14), 15, None).is_err(),
            "a batch below the asked offset"
        );
    }
}
