//! Chunks to responses: as they stand for readers of batches, record by record for everybody else.
//!
//! Comes in: what the engine gave of one partition. Goes out: batches in their order, how far they reach, and a refusal
//! behind them when something cannot be sent. Nothing here waits: a read from the disk packs on the thread that may
//! block. What must stay true: with a hard limit no encoded `ReadResponse` is larger, its envelope included.

use prost::{Message, encoding::encoded_len_varint};
use tillroll_engine::{
    batch::Batch,
    id::Offset,
    request::{Chunk, TimeRun},
};
use tillroll_proto::v1;

use super::{
    cut::{self, Numbered, Plain, RUN_BYTES, Undecodable},
    plan::{Cursor, Order},
};
use crate::{
    refusal::{Facts, response_limit, undecodable_range},
    wire,
};

/// What one look into a partition comes to.
#[derive(Debug)]
pub(in crate::rpc) struct Packed {
    /// In their order; the last one says how far the look came.
    pub(in crate::rpc) batches: Vec<v1::Batch>,
    /// Records in them.
    pub(in crate::rpc) records: u64,
    /// Comes behind the batches.
    pub(in crate::rpc) refusal: Option<Facts>,
    /// Memory of what they were packed from: their records lie in it.
    kept_bytes: usize,
}

impl Packed {
    /// Bytes of memory that stay until the batches are sent.
    pub(in crate::rpc) fn bytes(&self) -> usize {
        self.batches.iter().map(Message::encoded_len).sum::<usize>().max(self.kept_bytes)
    }
}

/// Whether these chunks are sent as they are stored: none is unpacked and cut.
pub(in crate::rpc) fn stand_as_they_are(order: &Order, until: Offset, left: Option<u64>, chunks: &[Chunk]) -> bool {
    let bytes = |chunk: &Chunk| chunk.batch.data.len() + chunk.times.len() * RUN_BYTES;
    let room = UNASKED_BYTES_MAX / 2;
    order.is_encoded
        && order.key.is_none()
        && left.is_none()
        && chunks.iter().all(|chunk| chunk.end <= until && (order.limit.is_hard || bytes(chunk) <= room))
}

/// Fills responses.
pub(in crate::rpc) struct Packer<'a> {
    order: &'a Order,
    cursor: Cursor,
    /// Nothing from here on.
    until: Offset,
    /// Records that may still be sent.
    left: u64,
    batches: Vec<v1::Batch>,
    records: u64,
    /// Everything before it was looked at.
    next: Offset,
    /// The response that is being filled, and its encoded bytes but for its `next_offset`.
    open: Vec<v1::ReadRecord>,
    open_bytes: usize,
    /// Bytes of a response's batch without records and `next_offset`.
    blank_bytes: usize,
}

impl<'a> Packer<'a> {
    /// For records of this partition from its cursor to `until`, at most `left`.
    pub(in crate::rpc) fn new(order: &'a Order, cursor: Cursor, until: Offset, left: Option<u64>) -> Self {
        let blank_bytes = batch(order, cursor, Offset(0)).encoded_len();
        Self {
            order,
            cursor,
            until,
            left: left.unwrap_or(u64::MAX),
            batches: Vec::new(),
            records: 0,
            next: cursor.next,
            open: Vec::new(),
            open_bytes: blank_bytes,
            blank_bytes,
        }
    }

    /// Packs chunks that follow each other.
    pub(in crate::rpc) fn pack(mut self, chunks: Vec<Chunk>) -> Packed {
        let kept_bytes = chunks.iter().map(|chunk| chunk.kept_bytes).sum();
        let packed = if self.order.is_encoded { self.encoded(chunks) } else { self.plain(&chunks) };
        self.close();
        self.tell();
        Packed { batches: self.batches, records: self.records, refusal: packed.err(), kept_bytes }
    }

    /// Where a filter left records out, the reader still learns how far it is: in the last batch, or in one of its own.
    fn tell(&mut self) {
        let limit = self.order.limit;
        let fits = |batch: &v1::Batch| !limit.is_hard || framed(batch.encoded_len()) <= limit.bytes;
        if let Some(last) = self.batches.last_mut() {
            let told = last.next_offset;
            last.next_offset = told.max(self.next.0);
            if told == last.next_offset || fits(last) {
                return;
            }
            last.next_offset = told;
        }
        let blank = batch(self.order, self.cursor, self.next);
        if self.next > self.cursor.next && fits(&blank) {
            self.batches.push(blank);
        }
    }

    fn plain(&mut self, chunks: &[Chunk]) -> Result<(), Facts> {
        for chunk in chunks {
            if self.is_done() {
                break;
            }
            let broken = |_: Undecodable| self.undecodable(chunk);
            let plain = Plain::of(chunk).map_err(broken)?;
            let (key, from, until) = (self.order.key.clone(), self.next, self.until);
            for record in plain.records(from, until, key.as_deref()) {
                let record = record.map_err(|_| self.undecodable(chunk))?;
                if self.left == 0 {
                    return Ok(());
                }
                if record.has_key {
                    let message = read_record(&record).map_err(|_| self.undecodable(chunk))?;
                    self.add(message)?;
                }
                self.next = record.offset.plus(1);
            }
            self.check_complete(&plain, chunk)?;
        }
        Ok(())
    }

    /// Adds a record to the response that is being filled, or begins the next one with it.
    fn add(&mut self, record: v1::ReadRecord) -> Result<(), Facts> {
        let (offset, limit) = (Offset(record.offset), self.order.limit);
        let bytes = framed(record.encoded_len());
        // `next_offset` takes a tag and a varint, and is the next record's offset at least.
        let behind = 1 + encoded_len_varint(record.offset + 1);
        if framed(self.open_bytes + bytes + behind) > limit.bytes {
            self.close();
            let alone = framed(self.blank_bytes + bytes + behind);
            if limit.is_hard && alone > limit.bytes {
                return Err(self.too_large(offset, alone));
            }
        }
        self.open_bytes += bytes;
        self.open.push(record);
        self.records += 1;
        self.left -= 1;
        Ok(())
    }

    /// Ends the response that is being filled, when anything is in it.
    fn close(&mut self) {
        let Some(last) = self.open.last() else { return };
        // What a filter left out behind the last record is told later.
        let next = Offset(last.offset + 1);
        let records = std::mem::take(&mut self.open);
        self.open_bytes = self.blank_bytes;
        self.batches.push(v1::Batch { records, ..batch(self.order, self.cursor, next) });
    }

    fn encoded(&mut self, chunks: Vec<Chunk>) -> Result<(), Facts> {
        let limit = self.order.limit;
        let room = limit.bytes.saturating_sub(self.blank_bytes + ENVELOPE_BYTES);
        for chunk in cut::merge(chunks, room) {
            while !self.is_done() && self.next < chunk.end {
                let (message, count, next) = self.next_of(&chunk)?;
                if let Some(message) = message {
                    let size = framed(message.encoded_len());
                    if limit.is_hard && size > limit.bytes {
                        return Err(self.too_large(self.next, size));
                    }
                    self.batches.push(message);
                }
                self.left -= count;
                self.records += count;
                self.next = next;
            }
        }
        Ok(())
    }

    /// The next message of a chunk: all of it as it is stored, or a part; how many records, and how far that is.
    fn next_of(&self, chunk: &Chunk) -> Result<(Option<v1::Batch>, u64, Offset), Facts> {
        let message = |part, next| v1::Batch { encoded: Some(part), ..batch(self.order, self.cursor, next) };
        let wanted = chunk.end.since(self.next);
        if self.order.key.is_none() && chunk.end <= self.until && wanted <= self.left {
            // A chunk may begin before what is wanted: a reader of batches leaves that out itself.
            let whole = message(range(chunk.base, Vec::new(), &chunk.times, &chunk.batch), chunk.end);
            // Who asked for no limit is a client like any other.
            if self.order.limit.is_hard || framed(whole.encoded_len()) <= UNASKED_BYTES_MAX {
                return Ok((Some(whole), wanted, chunk.end));
            }
        }
        let (part, count, next) = self.part(chunk).map_err(|_| self.undecodable(chunk))?;
        Ok((part.map(|part| message(part, next)), count, next))
    }

    /// The part of a chunk that fits the read, cut at its end, at the record limit, to one key and, where the client
    /// named no limit, at as many bytes as a response usually has; how many records that are, and how far it was looked
    /// at.
    fn part(&self, chunk: &Chunk) -> Result<(Option<v1::EncodedRange>, u64, Offset), Undecodable> {
        let plain = Plain::of(chunk)?;
        let limit = self.order.limit;
        let (mut next, mut kept, mut bytes, mut is_full) = (self.next, Vec::new(), 0, false);
        for record in plain.records(self.next, self.until, self.order.key.as_deref()) {
            let record = record?;
            bytes += if record.has_key { record.entry.len() + RUN_BYTES } else { 0 };
            is_full = !limit.is_hard && bytes > limit.bytes && !kept.is_empty();
            if kept.len() as u64 == self.left || is_full {
                break;
            }
            next = record.offset.plus(1);
            if record.has_key {
                kept.push(record);
            }
        }
        let is_complete = next >= plain.end().min(self.until) || kept.len() as u64 == self.left || is_full;
        if !is_complete {
            return Err(Undecodable);
        }
        let cut = cut::batch_of(&kept).map(|(base, deltas, times, batch)| range(base, deltas, &times, &batch));
        Ok((cut, kept.len() as u64, next))
    }

    fn is_done(&self) -> bool {
        self.left == 0 || self.next >= self.until
    }

    /// A chunk with fewer records than its range would be a gap, and would be asked for again for ever.
    fn check_complete(&self, plain: &Plain, chunk: &Chunk) -> Result<(), Facts> {
        if self.next >= plain.end().min(self.until) { Ok(()) } else { Err(self.undecodable(chunk)) }
    }

    fn undecodable(&self, chunk: &Chunk) -> Facts {
        let from = self.next.max(chunk.base);
        undecodable_range(from, chunk.end).at(&self.order.topic, Some(self.cursor.lane.partition))
    }

    fn too_large(&self, offset: Offset, size: usize) -> Facts {
        response_limit(&self.order.topic, self.cursor.lane.partition, offset, size, self.order.limit.bytes)
    }
}

/// A response's `next_offset`, an encoded range's fields and the tags around them, at most.
const ENVELOPE_BYTES: usize = 128;

/// What a client takes that was told nothing else: the usual limit of generic ones.
const UNASKED_BYTES_MAX: usize = 4 << 20;

/// Bytes of a message in a message: with its tag and its length.
fn framed(bytes: usize) -> usize {
    1 + encoded_len_varint(bytes as u64) + bytes
}

fn batch(order: &Order, cursor: Cursor, next: Offset) -> v1::Batch {
    v1::Batch {
        topic: order.topic.clone(),
        partition: cursor.lane.partition.0,
        next_offset: next.0,
        records: Vec::new(),
        encoded: None,
        assignment_epoch: 0,
        topic_id: order.topic_id.clone(),
    }
}

fn read_record(record: &Numbered) -> Result<v1::ReadRecord, Undecodable> {
    let message = v1::Record::decode(record.message.clone()).map_err(|_| Undecodable)?;
    Ok(v1::ReadRecord { offset: record.offset.0, append_time_us: record.append_time_us, record: Some(message) })
}

fn range(base: Offset, offset_deltas: Vec<u32>, times: &[TimeRun], batch: &Batch) -> v1::EncodedRange {
    let run = |run: &TimeRun| v1::AppendTimeRun { record_count: run.record_count, append_time_us: run.append_time_us };
    v1::EncodedRange {
        base_offset: base.0,
        offset_deltas,
        times: times.iter().map(run).collect(),
        batch: Some(v1::EncodedBatch {
            codec: wire::codec_number(batch.codec),
            data: batch.data.clone(),
            crc32: batch.crc32,
            record_count: batch.record_count,
            decoded_bytes: batch.decoded_bytes,
        }),
    }
}

#[cfg(test)]
mod tests;
