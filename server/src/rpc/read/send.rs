//! Chunks to responses: as they stand for readers of batches, record by record for everybody else.

use prost::Message;
use tillroll_engine::{
    id::Offset,
    request::{Chunk, TimeRun},
};
use tillroll_proto::{
    reason::{self, key},
    v1::{self, read_response::Event},
};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::{
    Cursor, Plan,
    cut::{self, Numbered, Plain, Undecodable},
};
use crate::{refusal::Facts, wire};

/// Bytes around a record's own in a response, at most.
const RECORD_FRAME_BYTES: usize = 32;

/// The way to the connection.
pub(super) struct Sender {
    responses: mpsc::Sender<Result<v1::ReadResponse, Status>>,
}

impl Sender {
    pub(super) fn new(responses: mpsc::Sender<Result<v1::ReadResponse, Status>>) -> Self {
        Self { responses }
    }

    /// Sends an event; `Err(None)` when the client is gone.
    pub(super) async fn send(&self, event: Event) -> Result<(), Option<Facts>> {
        let response = v1::ReadResponse { event: Some(event) };
        self.responses.send(Ok(response)).await.map_err(|_| None)
    }

    /// Ends the call with a refusal.
    pub(super) async fn fail(&self, facts: Facts) {
        // A client that is gone needs no answer.
        let _gone = self.responses.send(Err(facts.status())).await;
    }
}

fn broken(cursor: Cursor) -> impl Fn(Undecodable) -> Option<Facts> {
    move |_| {
        let message = format!("records from offset {} on do not decode though their checksums hold", cursor.next);
        let facts = Facts::new(reason::DATA_DAMAGED, Code::DataLoss, message);
        Some(facts.with(key::FROM, cursor.next).with(key::PARTITION, cursor.lane.partition))
    }
}

fn too_large(offset: Offset, size: usize, limit: usize) -> Facts {
    let message =
        format!("offset {offset} needs {size} bytes, max_response_bytes is {limit}; raise it or read on behind");
    let facts = Facts::new(reason::RESPONSE_LIMIT, Code::OutOfRange, message);
    facts.with(key::OFFSET, offset).with(key::SIZE, size).with(key::LIMIT, limit)
}

fn batch(plan: &Plan, cursor: Cursor, next: Offset) -> v1::Batch {
    v1::Batch {
        topic: plan.topic.name.clone(),
        partition: cursor.lane.partition.0,
        next_offset: next.0,
        records: Vec::new(),
        encoded: None,
        assignment_epoch: 0,
        topic_id: plan.topic.id.hex(),
    }
}

/// Sends chunks record by record; where to go on.
pub(super) async fn records(
    plan: &mut Plan,
    cursor: Cursor,
    chunks: Vec<Chunk>,
    until: Offset,
    sender: &Sender,
) -> Result<Offset, Option<Facts>> {
    let (mut next, mut bytes, mut out) = (cursor.next, 0, Vec::new());
    for chunk in &chunks {
        let decoded = Plain::of(chunk).map_err(broken(cursor))?;
        let key = plan.key.clone();
        for record in decoded.records(cursor.next, until, key.as_deref()) {
            let record = record.map_err(broken(cursor))?;
            if plan.records_left == Some(0) {
                break;
            }
            if record.has_key {
                let size = record.message.len() + RECORD_FRAME_BYTES;
                if plan.is_hard && size > plan.response_bytes {
                    send_records(plan, cursor, next, &mut out, sender).await?;
                    return Err(Some(too_large(record.offset, size, plan.response_bytes)));
                }
                if bytes + size > plan.response_bytes && !out.is_empty() {
                    send_records(plan, cursor, next, &mut out, sender).await?;
                    bytes = 0;
                }
                bytes += size;
                out.push(read_record(&record).map_err(broken(cursor))?);
                plan.records_left = plan.records_left.map(|left| left - 1);
            }
            next = record.offset.plus(1);
        }
    }
    if next > cursor.next || !out.is_empty() {
        send_records(plan, cursor, next, &mut out, sender).await?;
    }
    Ok(next)
}

async fn send_records(
    plan: &Plan,
    cursor: Cursor,
    next: Offset,
    out: &mut Vec<v1::ReadRecord>,
    sender: &Sender,
) -> Result<(), Option<Facts>> {
    let batch = v1::Batch { records: std::mem::take(out), ..batch(plan, cursor, next) };
    sender.send(Event::Batch(batch)).await
}

fn read_record(record: &Numbered) -> Result<v1::ReadRecord, Undecodable> {
    let message = v1::Record::decode(record.message.clone()).map_err(|_| Undecodable)?;
    Ok(v1::ReadRecord { offset: record.offset.0, append_time_us: record.append_time_us, record: Some(message) })
}

/// Sends chunks as batches; where to go on.
pub(super) async fn encoded(
    plan: &mut Plan,
    cursor: Cursor,
    chunks: Vec<Chunk>,
    until: Offset,
    sender: &Sender,
) -> Result<Offset, Option<Facts>> {
    let mut next = cursor.next;
    for chunk in cut::merge(chunks, plan.response_bytes) {
        if next >= until || plan.records_left == Some(0) {
            break;
        }
        let wanted = chunk.end.since(next);
        let is_whole = plan.key.is_none() && chunk.end <= until && plan.records_left.is_none_or(|left| wanted <= left);
        let (range, behind) = if is_whole {
            plan.records_left = plan.records_left.map(|left| left - wanted);
            (Some(range(chunk.base, Vec::new(), &chunk.times, &chunk.batch)), chunk.end)
        } else {
            part(plan, &chunk, next, until).map_err(broken(cursor))?
        };
        let size = range.as_ref().map_or(0, Message::encoded_len);
        if plan.is_hard && size > plan.response_bytes {
            return Err(Some(too_large(next, size, plan.response_bytes)));
        }
        next = behind;
        sender.send(Event::Batch(v1::Batch { encoded: range, ..batch(plan, cursor, next) })).await?;
    }
    Ok(next)
}

/// The part of a chunk that fits the read: cut at its end, at the record limit, to one key.
fn part(
    plan: &mut Plan,
    chunk: &Chunk,
    from: Offset,
    until: Offset,
) -> Result<(Option<v1::EncodedRange>, Offset), Undecodable> {
    let decoded = Plain::of(chunk)?;
    let (key, mut next, mut kept) = (plan.key.clone(), from, Vec::new());
    for record in decoded.records(from, until, key.as_deref()) {
        let record = record?;
        if plan.records_left == Some(0) {
            break;
        }
        next = record.offset.plus(1);
        if record.has_key {
            plan.records_left = plan.records_left.map(|left| left - 1);
            kept.push(record);
        }
    }
    let cut = cut::batch_of(&kept);
    Ok((cut.map(|(base, deltas, times, batch)| range(base, deltas, &times, &batch)), next))
}

fn range(
    base: Offset,
    offset_deltas: Vec<u32>,
    times: &[TimeRun],
    batch: &tillroll_engine::batch::Batch,
) -> v1::EncodedRange {
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
