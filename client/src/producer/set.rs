//! Sets of records: the open one, which takes records in, and the closed ones,
//! which become one append each; and what is counted about them.

use std::{collections::VecDeque, sync::Arc};

use bytes::BytesMut;
use tokio::time::Instant;

use super::{ProducerStatistics, ticket::Cell};
use crate::{BatchWriter, Error};

/// Buffers kept for the next batches.
const SPARE_BUFFERS: usize = 16;

/// What a buffer holds behind its lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) open: OpenSet,
    pub(crate) closed: VecDeque<ClosedSet>,
    /// Bytes in the open set, the closed ones, and those in flight.
    pub(crate) held_bytes: usize,
    pub(crate) closed_count: u64,
    pub(crate) answered_count: u64,
    /// Somebody waits for everything before it.
    pub(crate) flush_below: u64,
    pub(crate) failure: Option<Error>,
    pub(crate) gone: Option<Error>,
    /// Why it is trying again, while it is.
    pub(crate) trouble: Option<Error>,
    pub(crate) closing: bool,
    pub(crate) sticky: u32,
    pub(crate) spare: Vec<BytesMut>,
    pub(crate) statistics: ProducerStatistics,
}

#[derive(Debug)]
pub(crate) struct OpenSet {
    pub(crate) cell: Arc<Cell>,
    pub(crate) batches: Vec<(u32, BatchWriter)>,
    /// By partition: 1 + its index in `batches`, 0 without one.
    pub(crate) places: Vec<u32>,
    pub(crate) bytes: usize,
    pub(crate) records: u32,
    pub(crate) since: Option<Instant>,
}

/// Records that become one append.
#[derive(Debug)]
pub(crate) struct ClosedSet {
    pub(crate) cell: Arc<Cell>,
    pub(crate) batches: Vec<(u32, BatchWriter)>,
    pub(crate) bytes: usize,
    pub(crate) records: u32,
}

impl State {
    /// Nothing is held; keyless records begin with the partition `sticky`.
    pub(crate) fn new(topic: &Arc<str>, partitions: u32, sticky: u32) -> Self {
        let open = OpenSet {
            cell: Cell::new(topic),
            batches: Vec::new(),
            places: vec![0; partitions as usize],
            bytes: 0,
            records: 0,
            since: None,
        };
        Self {
            open,
            closed: VecDeque::new(),
            held_bytes: 0,
            closed_count: 0,
            answered_count: 0,
            flush_below: 0,
            failure: None,
            gone: None,
            trouble: None,
            closing: false,
            sticky: sticky % partitions,
            spare: Vec::new(),
            statistics: ProducerStatistics::default(),
        }
    }

    /// Keeps buffers for the next batches.
    pub(crate) fn keep(&mut self, buffers: Vec<BytesMut>) {
        let room = SPARE_BUFFERS - self.spare.len().min(SPARE_BUFFERS);
        self.spare.extend(buffers.into_iter().take(room));
    }

    /// Closes the open set, if anything is in it.
    pub(crate) fn close_open(&mut self) {
        if self.open.records == 0 {
            return;
        }
        for (partition, _) in &self.open.batches {
            self.open.places[*partition as usize] = 0;
        }
        let next = self.open.cell.another();
        let set = ClosedSet {
            cell: std::mem::replace(&mut self.open.cell, next),
            batches: std::mem::take(&mut self.open.batches),
            bytes: std::mem::take(&mut self.open.bytes),
            records: std::mem::take(&mut self.open.records),
        };
        self.open.since = None;
        // One batch goes to one partition, the next one to the next.
        self.sticky = (self.sticky + 1) % self.open.places.len() as u32;
        self.close(set);
    }

    /// Puts a closed set behind the others.
    pub(crate) fn close(&mut self, set: ClosedSet) {
        self.closed_count += 1;
        self.closed.push_back(set);
    }

    /// The index of the partition's batch in the open set. The first batch of a
    /// set gets room for `share_bytes`.
    pub(crate) fn writer(&mut self, partition: u32, share_bytes: usize) -> u32 {
        let place = self.open.places[partition as usize];
        if place > 0 {
            return place - 1;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        if self.open.batches.is_empty() {
            buffer.reserve(share_bytes);
        }
        self.open.batches.push((partition, BatchWriter::with_buffer(buffer)));
        let place = self.open.batches.len() as u32;
        self.open.places[partition as usize] = place;
        place - 1
    }
}
