//! An append in the form in which it is sent, as often as needed.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tillroll_proto::v1::{self, append_batch::Content};

use super::{set::ClosedSet, ticket::Cell};
use crate::{Compression, Stamp};

/// What the names and numbers of a batch and of an append take at most, beside
/// the topic's name and id.
const BATCH_OVERHEAD_BYTES: usize = 64;
const APPEND_OVERHEAD_BYTES: usize = 256;

/// A closed set whose batches are compressed and checked. Sending it copies
/// nothing but the names.
pub(crate) struct Prepared {
    batches: Vec<v1::AppendBatch>,
    pub(crate) cell: Arc<Cell>,
    /// What it counts for in the buffer.
    pub(crate) held_bytes: usize,
    pub(crate) records: u32,
}

impl Prepared {
    /// Encodes a set. Gives back the buffers that are free for the next one.
    pub(crate) fn new(set: ClosedSet, topic: &str, topic_id: &str, compression: Compression) -> (Self, Vec<BytesMut>) {
        let ClosedSet { cell, batches, bytes, records } = set;
        let mut spare = Vec::new();
        let batches = batches
            .into_iter()
            .map(|(partition, writer)| {
                let (batch, buffer) = writer.finish(compression);
                spare.extend(buffer);
                v1::AppendBatch {
                    topic: topic.to_owned(),
                    partition: Some(partition),
                    content: Some(Content::Encoded(batch.into_wire())),
                    // The partition count was read from this topic, and would
                    // be wrong for one that was made anew under its name.
                    topic_id: topic_id.to_owned(),
                }
            })
            .collect();
        (Self { batches, cell, held_bytes: bytes, records }, spare)
    }

    /// The message that sends it under this stamp.
    pub(crate) fn request(&self, append_id: u64, stamp: Stamp) -> v1::AppendStreamRequest {
        let append = v1::AppendRequest {
            batches: self.batches.clone(),
            producer: Some(stamp.into_wire()),
            ..v1::AppendRequest::default()
        };
        v1::AppendStreamRequest { append_id, append: Some(append) }
    }

    /// What it counts for in the server's window: a little more than its bytes
    /// on the wire.
    pub(crate) fn wire_bytes(&self) -> usize {
        let batches: usize = self
            .batches
            .iter()
            .map(|batch| {
                let content = match &batch.content {
                    Some(Content::Encoded(encoded)) => encoded.data.len(),
                    _ => 0,
                };
                content + batch.topic.len() + batch.topic_id.len() + BATCH_OVERHEAD_BYTES
            })
            .sum();
        batches + APPEND_OVERHEAD_BYTES
    }

    /// Its buffers, as far as nobody else holds them any more.
    pub(crate) fn reclaim(self) -> Vec<BytesMut> {
        let data = |batch: v1::AppendBatch| match batch.content {
            Some(Content::Encoded(encoded)) => Bytes::try_into_mut(encoded.data).ok(),
            _ => None,
        };
        self.batches.into_iter().filter_map(data).collect()
    }
}
