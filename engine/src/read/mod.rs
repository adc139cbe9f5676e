//! Reading: start → plan → blocks and batches → wait.
//!
//! A reader sees what is published and nothing else. Records come from the tail while they are there, from segments
//! otherwise, in the batches or blocks that they stand in; cutting them exactly is the caller's work. Damage is an
//! answer with its range, never a gap.

use std::{
    collections::BTreeSet,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;

use crate::{
    admit::SharedApplied,
    disk::{Disk, Mode, aligned::AlignedPool},
    error::ReadFault,
    id::{Lane, Offset},
    marks::Marks,
    notice::{Notice, Notices},
    poison::Poison,
    request::{Chunk, Extent, ReadAnswer, SegmentView, Start, TimeRun},
    segment::{
        self, Block, Found, Index, Name, Part, SegmentFault, reader,
        shelf::{GrowingIndex, OpenSegment, Shelf},
    },
    table::row::SegmentRow,
    tail::{LaneState, SharedLane, Tail, TailBatch},
};

/// Damaged files that are remembered as reported.
const REPORTED_MAX: usize = 1_024;

/// Everything that a read looks at.
pub struct Reads {
    /// Where segments are.
    pub disk: Arc<dyn Disk>,
    /// Which topics there are.
    pub applied: SharedApplied,
    /// What is visible.
    pub marks: Arc<Marks>,
    /// Batches in memory, and what is in segments.
    pub tail: Arc<Tail>,
    /// Segments that are open.
    pub shelf: Arc<Shelf>,
    /// A log that is poisoned may show damage that a restart repairs.
    pub poison: Arc<Poison>,
    /// Where buffers come from.
    pub buffers: AlignedPool,
    /// Told what cannot be read.
    pub notices: Arc<Notices>,
    /// Files that were reported.
    pub reported: Mutex<BTreeSet<String>>,
}

/// Where a read finds what it wants.
enum Plan {
    /// Nothing is there yet.
    AtEnd(Offset),
    /// In memory.
    Tail(ReadAnswer),
    /// In this segment; the lane ends at the offset.
    Segment(SegmentRow, Offset),
    /// In no segment that is known, up to the offset.
    Missing(Offset),
}

impl Reads {
    /// The lane's state; none when it never held a record.
    fn lane(&self, lane: Lane) -> Result<Option<SharedLane>, ReadFault> {
        let applied = self.applied.read();
        let topic = applied.live_topic(lane.topic).ok_or(ReadFault::TopicNotFound { topic: lane.topic })?;
        let count = topic.config.partitions;
        if lane.partition.0 >= count {
            return Err(ReadFault::PartitionNotFound { partition: lane.partition, count });
        }
        Ok(self.tail.lane(lane))
    }

    /// What a lane holds.
    pub fn extent(&self, lane: Lane) -> Result<Extent, ReadFault> {
        let published = self.marks.published.get();
        let Some(shared) = self.lane(lane)? else { return Ok(Extent::default()) };
        let state = shared.lock();
        let visible = || state.batches.iter().take_while(|batch| batch.lsn <= published);
        let first = state.segments.first().map(|row| row.first_time_us);
        let last = visible().last().map(|batch| batch.time_us);
        Ok(Extent {
            head: state.head,
            end: state.visible_end(published),
            stored_bytes: state.segments.iter().map(|row| row.bytes).sum(),
            first_time_us: first.or_else(|| visible().next().map(|batch| batch.time_us)),
            last_time_us: last.or_else(|| state.segments.last().map(|row| row.last_time_us)),
        })
    }

    /// Segments of a lane, oldest first.
    pub fn segments(&self, lane: Lane) -> Result<Vec<SegmentView>, ReadFault> {
        let Some(shared) = self.lane(lane)? else { return Ok(Vec::new()) };
        let view = |row: &SegmentRow| SegmentView {
            base: row.base,
            end: row.end,
            bytes: row.bytes,
            sealed: row.sealed,
            first_time_us: row.first_time_us,
            last_time_us: row.last_time_us,
        };
        let state = shared.lock();
        Ok(state.segments.iter().map(view).collect())
    }

    /// Whether a read from there would not touch the disk.
    pub fn is_in_memory(&self, lane: Lane, from: Offset) -> bool {
        self.tail.lane(lane).is_none_or(|shared| shared.lock().flushed <= from)
    }

    /// Decoded bytes that a read from there would give from memory, at most `bytes_max` and a batch.
    pub fn bytes_in_memory(&self, lane: Lane, from: Offset, bytes_max: usize) -> usize {
        let published = self.marks.published.get();
        let Some(shared) = self.tail.lane(lane) else { return 0 };
        let state = shared.lock();
        let mut bytes = 0;
        for batch in state.batches_from(from).take_while(|batch| batch.lsn <= published) {
            bytes += batch.batch.decoded_bytes as usize;
            if bytes >= bytes_max {
                break;
            }
        }
        bytes
    }

    /// Reads about `bytes_max` decoded bytes from `from` on: at least one batch when there is one.
    pub fn read(&self, lane: Lane, from: Offset, bytes_max: usize) -> Result<ReadAnswer, ReadFault> {
        let Some(shared) = self.lane(lane)? else {
            let end = Offset(0);
            return if from == end {
                Ok(ReadAnswer::default())
            } else {
                Err(ReadFault::BeyondEnd { offset: from, end })
            };
        };
        let plan = self.plan(&shared.lock(), from, bytes_max)?;
        match plan {
            Plan::AtEnd(end) => Ok(ReadAnswer { chunks: Vec::new(), next: from, end }),
            Plan::Tail(mut answer) => {
                // Copied here, where the lane is not locked.
                answer.chunks.iter_mut().for_each(let_go);
                Ok(answer)
            }
            Plan::Segment(row, end) => self.read_segment(lane, &shared, row, from, end, bytes_max),
            Plan::Missing(to) => {
                let file = segment::name::lane_dir(lane);
                let fault = "no segment holds these offsets".to_owned();
                let fault = ReadFault::Damaged { from, to, file, position: 0, fault };
                self.report(lane, &fault);
                Err(fault)
            }
        }
    }

    fn plan(&self, state: &LaneState, from: Offset, bytes_max: usize) -> Result<Plan, ReadFault> {
        let published = self.marks.published.get();
        let (head, end) = (state.head, state.visible_end(published));
        if from < head {
            return Err(ReadFault::BelowHead { offset: from, head });
        }
        if from > end {
            return Err(ReadFault::BeyondEnd { offset: from, end });
        }
        if from == end {
            return Ok(Plan::AtEnd(end));
        }
        if from < state.flushed {
            let behind = state.segments.partition_point(|row| row.end <= from);
            let found = state.segments.get(behind).filter(|row| row.base <= from);
            let missing_to = || state.segments.get(behind).map_or(state.flushed, |row| row.base);
            return Ok(found.map_or_else(|| Plan::Missing(missing_to()), |row| Plan::Segment(*row, end)));
        }
        let (mut chunks, mut bytes, mut pinned) = (Vec::new(), 0, 0);
        let mut last = None;
        for batch in state.batches_from(from).take_while(|batch| batch.lsn <= published) {
            let is_enough = bytes + batch.batch.decoded_bytes as usize > bytes_max || pinned > PINNED_MAX;
            if bytes > 0 && is_enough {
                break;
            }
            bytes += batch.batch.decoded_bytes as usize;
            let mut chunk = tail_chunk(batch);
            if last.is_some_and(|last| Arc::ptr_eq(last, &batch.pin)) && chunk.kept_bytes > chunk.batch.data.len() {
                // The one before it keeps the buffer of both.
                chunk.kept_bytes = 0;
            } else if chunk.kept_bytes > chunk.batch.data.len() {
                last = Some(&batch.pin);
            }
            pinned += chunk.kept_bytes;
            chunks.push(chunk);
        }
        let next = chunks.last().map_or(from, |chunk| chunk.end);
        Ok(Plan::Tail(ReadAnswer { chunks, next, end }))
    }

    fn read_segment(
        &self,
        lane: Lane,
        shared: &SharedLane,
        row: SegmentRow,
        from: Offset,
        end: Offset,
        bytes_max: usize,
    ) -> Result<ReadAnswer, ReadFault> {
        let open = self.open(lane, shared, row, from)?;
        let (mut chunks, mut bytes, mut next) = (Vec::new(), 0, from);
        let failed = |error: io::Error| lost(lane, &row, &error);
        let mut found = open.index.floor(from).map_err(failed)?;
        while let Some(block) = found.filter(|_| next < row.end && next < end) {
            let read = open.reader.with_data_end(row.bytes.max(block.next_position)).read_found(&block);
            let read = match read {
                Ok((read, _)) => read,
                // What was read before the damage is an answer; the next call names the damage.
                Err(_) if !chunks.is_empty() => break,
                Err(fault) => return Err(self.damage((lane, &open), &row, next, &block, &fault)),
            };
            let chunk = block_chunk(&read);
            // A row may say more than its blocks hold: whoever believed it would ask for the same again and again.
            if chunk.base > next || chunk.end <= next {
                break;
            }
            if !chunks.is_empty() && bytes + chunk.batch.decoded_bytes as usize > bytes_max {
                break;
            }
            bytes += chunk.batch.decoded_bytes as usize;
            next = chunk.end;
            chunks.push(chunk);
            if bytes >= bytes_max {
                break;
            }
            found = open.index.get(block.number + 1).map_err(failed)?;
        }
        if chunks.is_empty() {
            let fault = SegmentFault::NoBlock { path: log_path(lane, &row), position: 0, data_end: row.bytes };
            return Err(self.damaged_segment(lane, &row, from, 0, &fault));
        }
        Ok(ReadAnswer { chunks, next, end })
    }

    /// A segment ready to be read. `from` names what cannot be read when it is not there.
    fn open(&self, lane: Lane, shared: &SharedLane, row: SegmentRow, from: Offset) -> Result<OpenSegment, ReadFault> {
        if row.sealed {
            let open = || {
                let reader = self.reader(lane, &row, false)?;
                let name = Name { lane, base: row.base, generation: row.generation, part: Part::Index };
                let index: Arc<dyn Index> = match segment::open_index(&*self.disk, &name.path(), row.id) {
                    Ok(index) if index.data_end() == row.bytes => index,
                    // An index is a cache: missing, torn or stale, it is made anew from the blocks.
                    Ok(_) | Err(_) => Arc::new(reader.index(reach(&row))?),
                };
                Ok(OpenSegment { reader, index })
            };
            return self.shelf.open(row.id, open).map_err(|fault| self.damaged_segment(lane, &row, from, 0, &fault));
        }
        let reader =
            self.reader(lane, &row, true).map_err(|fault| self.damaged_segment(lane, &row, from, 0, &fault))?;
        let index = self.growing((lane, shared), &row, &reader, from)?;
        Ok(OpenSegment { reader, index })
    }

    fn reader(&self, lane: Lane, row: &SegmentRow, is_growing: bool) -> Result<segment::Reader, SegmentFault> {
        let path = log_path(lane, row);
        let read = |source| SegmentFault::Read { path: path.clone(), position: 0, source };
        let file = self.disk.open(&path, Mode::Read, false).map_err(read)?;
        let extent = reader::Extent { lane, segment: row.id, base: row.base, data_end: row.bytes };
        segment::Reader::open(file, extent, is_growing, self.buffers.clone())
    }

    /// The index of a growing segment: kept by flush, or made from the blocks on first use after a restart.
    fn growing(
        &self,
        (lane, shared): (Lane, &SharedLane),
        row: &SegmentRow,
        reader: &segment::Reader,
        from: Offset,
    ) -> Result<Arc<GrowingIndex>, ReadFault> {
        let mut now = *row;
        loop {
            if let Some(index) = self.shelf.growing(row.id) {
                return Ok(index);
            }
            let scanned = reader.with_data_end(now.bytes).index(reach(&now));
            let scanned = scanned.map_err(|fault| self.damaged_segment(lane, row, from, 0, &fault))?;
            // Flush may have written more meanwhile, and only tells an index that is kept.
            let state = shared.lock();
            let stands = state.segments.iter().find(|other| other.id == row.id).copied().unwrap_or(now);
            if stands.bytes == now.bytes {
                return Ok(self.shelf.keep_growing(row.id, GrowingIndex::new(scanned)));
            }
            now = stands;
        }
    }

    /// A block that is not what was written.
    fn damage(
        &self,
        (lane, open): (Lane, &OpenSegment),
        row: &SegmentRow,
        from: Offset,
        block: &Found,
        fault: &SegmentFault,
    ) -> ReadFault {
        let behind = open.index.get(block.number + 1).ok().flatten();
        let to = behind.map_or(row.end, |behind| behind.entry.base);
        self.damaged_segment(lane, &SegmentRow { end: to, ..*row }, from, block.entry.position, fault)
    }

    fn damaged_segment(
        &self,
        lane: Lane,
        row: &SegmentRow,
        from: Offset,
        position: u64,
        fault: &SegmentFault,
    ) -> ReadFault {
        // Above the last checkpoint the journal still has these records: a restart writes them again.
        let is_in_journal = || self.tail.lane(lane).is_some_and(|shared| from >= shared.lock().checkpointed);
        if let Some(poisoned) = self.poison.first().filter(|_| is_in_journal()) {
            return ReadFault::Poisoned(poisoned);
        }
        let file = match fault {
            SegmentFault::Read { path, .. }
            | SegmentFault::Header { path, .. }
            | SegmentFault::WrongSegment { path, .. }
            | SegmentFault::NoBlock { path, .. }
            | SegmentFault::Damaged { path, .. } => path.clone(),
        };
        let fault = match fault {
            SegmentFault::Read { source, .. } if source.kind() != io::ErrorKind::NotFound => {
                ReadFault::Io { file, cause: source.to_string() }
            }
            _ => ReadFault::Damaged { from, to: row.end, file, position, fault: fault.to_string() },
        };
        self.report(lane, &fault);
        fault
    }

    /// Reports a file that does not read, once.
    fn report(&self, lane: Lane, fault: &ReadFault) {
        let (file, notice) = match fault.clone() {
            ReadFault::Damaged { from, to, file, fault, .. } => {
                (file.clone(), Notice::Damaged { lane, from, to, file, fault })
            }
            ReadFault::Io { file, cause } => (file.clone(), Notice::ReadFailed { lane, file, cause }),
            _ => return,
        };
        let mut reported = self.reported.lock();
        if reported.len() < REPORTED_MAX && reported.insert(file) {
            self.notices.push(notice);
        }
    }

    /// Finds where a read starts.
    pub fn find(&self, lane: Lane, start: Start) -> Result<Offset, ReadFault> {
        let published = self.marks.published.get();
        let Some(shared) = self.lane(lane)? else {
            return match start {
                Start::Offset(offset) if offset > Offset(0) => Err(ReadFault::BeyondEnd { offset, end: Offset(0) }),
                _ => Ok(Offset(0)),
            };
        };
        let state = shared.lock();
        let (head, end) = (state.head, state.visible_end(published));
        let time_us = match start {
            Start::Earliest => return Ok(head),
            Start::Latest => return Ok(end),
            Start::Last(count) => return Ok(head.max(Offset(end.0.saturating_sub(count)))),
            Start::Offset(offset) if offset < head => return Err(ReadFault::BelowHead { offset, head }),
            Start::Offset(offset) if offset > end => return Err(ReadFault::BeyondEnd { offset, end }),
            Start::Offset(offset) => return Ok(offset),
            Start::AppendTime(time_us) => time_us,
        };
        let row = state.segments.iter().find(|row| row.last_time_us >= time_us).copied();
        let in_tail = state.batches.iter().find(|batch| batch.time_us >= time_us && batch.lsn <= published);
        let in_tail = in_tail.map_or(end, |batch| batch.base);
        drop(state);
        match row {
            Some(row) => self.find_in(lane, &shared, row, time_us),
            None => Ok(in_tail),
        }
    }

    /// The first record of a segment that was appended at `time_us` or later.
    fn find_in(&self, lane: Lane, shared: &SharedLane, row: SegmentRow, time_us: i64) -> Result<Offset, ReadFault> {
        let open = self.open(lane, shared, row, row.base)?;
        let found = open.index.first_at(time_us).map_err(|error| lost(lane, &row, &error))?;
        let Some(found) = found else { return Ok(row.end) };
        let read = open.reader.with_data_end(row.bytes.max(found.next_position)).read_found(&found);
        let (block, _) = read.map_err(|fault| self.damage((lane, &open), &row, found.entry.base, &found, &fault))?;
        let earlier = block.runs().iter().take_while(|run| run.time_us < time_us);
        Ok(block.base().plus(earlier.map(|run| u64::from(run.count)).sum()))
    }

    /// Waits for records past `end`.
    pub fn moved(&self, lane: Lane, end: Offset) -> Moved {
        // A lane that never held a record is made, so that there is something to wait at.
        let shared = self.applied.read().live_topic(lane.topic).map(|_| self.tail.lane_or_new(lane));
        Moved { shared, end, turn: None, marks: self.marks.clone() }
    }
}

/// Resolves when a lane has visible records past an offset, or its topic is gone.
pub struct Moved {
    shared: Option<SharedLane>,
    end: Offset,
    turn: Option<u64>,
    marks: Arc<Marks>,
}

impl Drop for Moved {
    fn drop(&mut self) {
        if let (Some(shared), Some(turn)) = (&self.shared, self.turn) {
            shared.lock().leave(turn);
        }
    }
}

impl Future for Moved {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(shared) = self.shared.clone() else { return Poll::Ready(()) };
        // The mark is read under the lane's lock, and publish wakes under it after the mark has moved: no wake is lost.
        let mut state = shared.lock();
        let published = self.marks.published.get();
        self.turn = state.wait(published, self.end, self.turn, context.waker());
        if self.turn.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

fn reach(row: &SegmentRow) -> segment::Reach {
    segment::Reach { end: row.end, last_time_us: row.last_time_us }
}

fn log_path(lane: Lane, row: &SegmentRow) -> String {
    Name { lane, base: row.base, generation: row.generation, part: Part::Log }.path()
}

fn lost(lane: Lane, row: &SegmentRow, error: &io::Error) -> ReadFault {
    ReadFault::Io { file: log_path(lane, row), cause: error.to_string() }
}

/// Batches of the tail that take less than one in so many bytes of the write buffer in which they lie are copied out: a
/// reader that is slow would keep all of the buffer, long after the tail has let it go.
const COPIED_BELOW: u64 = 4;
/// Write buffers that one read keeps with the larger ones.
const PINNED_MAX: usize = 8 << 20;

/// Lets go of the buffer that a small batch lies in.
fn let_go(chunk: &mut Chunk) {
    if chunk.kept_bytes == chunk.batch.data.len() {
        chunk.batch.data = bytes::Bytes::copy_from_slice(&chunk.batch.data);
    }
}

fn tail_chunk(batch: &TailBatch) -> Chunk {
    let times = vec![TimeRun { record_count: batch.batch.record_count, append_time_us: batch.time_us }];
    let (bytes, pinned) = (batch.batch.data.len(), usize::try_from(batch.pin.bytes()).unwrap_or(usize::MAX));
    let is_copied = bytes as u64 * COPIED_BELOW < pinned as u64;
    let kept_bytes = if is_copied { bytes } else { pinned };
    Chunk { base: batch.base, end: batch.end(), batch: batch.batch.clone(), times, kept_bytes }
}

fn block_chunk(block: &Block) -> Chunk {
    let run = |run: &segment::Run| TimeRun { record_count: run.count, append_time_us: run.time_us };
    let (batch, times) = (block.batch(), block.runs().iter().map(run).collect());
    let kept_bytes = batch.data.len();
    Chunk { base: block.base(), end: block.end(), batch, times, kept_bytes }
}
