//! What decided steps leave behind until it is in the log: the moves of cursors, and what the steps said, encoded and
//! sorted by where it goes.
//!
//! Consecutive steps of a unit share a block for as long as it is small and was not sent. An append takes whole blocks.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::EncodedBatch;

/// A block takes no further step beyond this many bytes of outputs.
const BYTES_MAX: usize = 256 << 10;
/// A block takes no further step beyond this many outputs.
const RECORDS_MAX: u32 = 8_192;
/// A block takes no further step that goes to more places than this.
const PARTS_MAX: usize = 256;
/// A block takes nothing further when it moves so many cursors.
const MOVES_MAX: usize = 256;

/// A cursor's way through one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    /// Which of the unit's lanes.
    pub(super) lane: usize,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Outputs for one partition, in the order in which they were decided.
#[derive(Debug)]
pub(super) struct Part {
    /// Which of the processor's output topics.
    pub(super) topic: usize,
    pub(super) partition: u32,
    pub(super) records: u32,
    encoded: Encoded,
}

#[derive(Debug)]
enum Encoded {
    Open(BytesMut),
    Closed { data: Bytes, crc32: u32 },
}

/// What a step said: encoded records, each framed as in a `RecordSet`, and where each goes.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) bytes: BytesMut,
    pub(super) outputs: Vec<Output>,
}

/// An output of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Output {
    /// Which of the processor's output topics.
    pub(super) topic: usize,
    pub(super) partition: u32,
    /// Where it is in [`Said::bytes`].
    pub(super) range: std::ops::Range<usize>,
}

/// A partition of a unit, and the epoch under which it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    pub(super) epoch: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Block {
    /// The unit's lanes, under which it may come to the log.
    held: Arc<[Held]>,
    moves: Vec<Move>,
    parts: Vec<Part>,
    records: u32,
    bytes: usize,
    /// A timer made one of its steps.
    has_timer: bool,
    /// It was handed to an append once: it stays as it is.
    closed: bool,
}

impl Said {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.outputs.clear();
    }
}

impl Block {
    /// An empty one.
    pub(super) fn new(held: Arc<[Held]>) -> Self {
        let (moves, parts) = (Vec::new(), Vec::new());
        Self { held, moves, parts, records: 0, bytes: 0, has_timer: false, closed: false }
    }

    /// Whether another step fits in.
    pub(super) fn takes(&self, said: &Said) -> bool {
        let is_new = |output: &&Output| self.find(output.topic, output.partition).is_none();
        let records = u32::try_from(said.outputs.len()).unwrap_or(u32::MAX);
        !self.closed
            && self.moves.len() < MOVES_MAX
            && (said.outputs.is_empty()
                || self.bytes + said.bytes.len() <= BYTES_MAX
                    && self.records.saturating_add(records) <= RECORDS_MAX
                    && self.parts.len() + said.outputs.iter().filter(is_new).count() <= PARTS_MAX)
    }

    /// Takes in what a step said.
    pub(super) fn push(&mut self, said: &Said, is_timer: bool) {
        assert!(!self.closed, "what was sent stays as it is");
        self.has_timer |= is_timer;
        for output in &said.outputs {
            let index = self.find(output.topic, output.partition).unwrap_or_else(|| {
                let (topic, partition) = (output.topic, output.partition);
                self.parts.push(Part { topic, partition, records: 0, encoded: Encoded::Open(BytesMut::new()) });
                self.parts.len() - 1
            });
            let part = &mut self.parts[index];
            part.records += 1;
            if let Encoded::Open(encoded) = &mut part.encoded {
                encoded.extend_from_slice(&said.bytes[output.range.clone()]);
            }
        }
        self.records += u32::try_from(said.outputs.len()).unwrap_or(u32::MAX);
        self.bytes += said.bytes.len();
    }

    /// Moves a lane's cursor on.
    pub(super) fn advance(&mut self, lane: usize, from: u64, to: u64) {
        assert!(!self.closed, "what was sent stays as it is");
        match self.moves.iter_mut().find(|known| known.lane == lane) {
            Some(known) => {
                assert_eq!(known.to, from, "a cursor goes on where it was");
                known.to = to;
            }
            None => self.moves.push(Move { lane, from, to }),
        }
    }

    fn find(&self, topic: usize, partition: u32) -> Option<usize> {
        // The last one is the likeliest: a unit writes to few places.
        self.parts.iter().rposition(|part| (part.topic, part.partition) == (topic, partition))
    }

    /// Nothing is added any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        for part in &mut self.parts {
            if let Encoded::Open(encoded) = &mut part.encoded {
                let data = std::mem::take(encoded).freeze();
                part.encoded = Encoded::Closed { crc32: crc32fast::hash(&data), data };
            }
        }
    }

    pub(super) fn held(&self) -> &[Held] {
        &self.held
    }

    /// A timer made one of its steps.
    pub(super) fn has_timer(&self) -> bool {
        self.has_timer
    }

    pub(super) fn moves(&self) -> &[Move] {
        &self.moves
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(super) fn records(&self) -> u32 {
        self.records
    }

    /// The size of its outputs.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing is said in it: it can wait for others.
    pub(super) fn is_silent(&self) -> bool {
        self.parts.is_empty()
    }
}

impl Part {
    /// As it goes over the wire.
    ///
    /// # Panics
    ///
    /// When its block is not closed.
    pub(super) fn batch(&self) -> EncodedBatch {
        let Encoded::Closed { data, crc32 } = &self.encoded else { panic!("a block is closed before it is sent") };
        EncodedBatch {
            compression: crate::Compression::None,
            crc32: *crc32,
            record_count: self.records,
            decoded_bytes: u32::try_from(data.len()).expect("blocks are bounded far below 4 GiB"),
            data: data.clone(),
        }
    }
}
