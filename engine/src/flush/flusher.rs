//! Tail → segments: published batches of a lane merged into a block, written with one direct write.
//!
//! A lane is flushed when it has a whole block, when the tail is half full (the oldest first, since one small batch
//! pins a whole group's buffer), or when a checkpoint asks for everything up to its LSN. One call on the disk a step:
//! what the next call is follows from what stands, so a step that found no space is simply done again later.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    admit::{SharedApplied, room::Room},
    disk::{
        self, Disk, DiskFile, Mode,
        aligned::{AlignedBuf, AlignedPool},
    },
    flush::{Wishes, Written},
    header::{FILE_HEADER_BYTES, FileHeader, FileKind},
    id::{Lane, Lsn, SegmentId},
    journal::{Identity, poison},
    marks::Marks,
    notice::{Lack, Notices},
    poison::{Poison, Poisoned},
    request::TopicConfig,
    segment::{
        self, ActiveIndex, Extent, Reach,
        block::{Builder, Built, Origin, Place, Pushed},
        name::{DATA_DIR, Name, Part, lane_dir, topic_dir},
        shelf::{GrowingIndex, Shelf},
    },
    settings::Settings,
    stage::{Bell, Now, Stage, Step},
    table::row::SegmentRow,
    tail::{LaneState, Tail},
};

/// After a lack of space, flushing is tried again after this long.
const RETRY_US: u64 = 200_000;
/// A segment is rolled by age once it holds this part of its size.
const AGED_PART: u64 = 128;
/// Written files that may wait for a sync; one more is synced first.
const UNSYNCED_FILES_MAX: usize = 128;
/// Growing segments whose files are kept open between two blocks.
const OPEN_FILES_MAX: usize = 128;
/// Space is taken ahead in steps between these.
const ALLOCATE_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 20;

/// What a flusher is made of.
pub struct Parts {
    /// Where segments are.
    pub disk: Arc<dyn Disk>,
    /// Where batches are.
    pub tail: Arc<Tail>,
    /// Read: the topics' configurations.
    pub applied: SharedApplied,
    /// Read: only published frames are flushed.
    pub marks: Arc<Marks>,
    /// Set when a write fails.
    pub poison: Arc<Poison>,
    /// Where readers find blocks.
    pub shelf: Arc<Shelf>,
    /// Where buffers come from.
    pub buffers: AlignedPool,
    /// Whose files these are.
    pub identity: Identity,
    /// Sizes.
    pub settings: Settings,
    /// What the checkpoint will sync.
    pub written: Arc<Written>,
    /// How far to flush.
    pub wishes: Arc<Wishes>,
    /// Told whether something is lacking.
    pub room: Arc<Room>,
    /// The next segment's id.
    pub next_segment: Arc<AtomicU64>,
    /// Told what is lacking.
    pub notices: Arc<Notices>,
    /// Rung when something was flushed or space ran out.
    pub checkpointer: Bell,
    /// What wakes it.
    pub bell: Bell,
}

/// The flush stage.
pub struct Flusher {
    parts: Parts,
    lanes: BTreeMap<Lane, Active>,
    /// Lanes whose files were opened, oldest first.
    opened: VecDeque<Lane>,
    dirs: BTreeSet<String>,
    job: Option<Job>,
    /// Lanes whose flush lacked something: the others go first.
    lacking: BTreeSet<Lane>,
    retry_at: u64,
    lack: Lack,
}

/// The growing segment of a lane, as flush knows it.
struct Active {
    row: SegmentRow,
    name: Name,
    file: Option<Arc<dyn DiskFile>>,
    allocated: u64,
    is_headed: bool,
    sealing: Sealing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sealing {
    No,
    Trimmed,
}

/// One block on its way.
struct Job {
    lane: Lane,
    built: Option<Built>,
    seal_first: bool,
}

/// What a call on the disk brought.
enum Call {
    Done,
    /// The job is over.
    Finished,
    /// The job has nothing to write now.
    Nothing,
    /// Something is lacking. Nothing was lost; it is tried again.
    Lacking(io::Error),
}

impl Flusher {
    /// A flusher with nothing on its way.
    pub fn new(parts: Parts) -> Self {
        let lack = Lack::new(parts.notices.clone(), "flush");
        Self {
            parts,
            lanes: BTreeMap::new(),
            opened: VecDeque::new(),
            dirs: BTreeSet::new(),
            job: None,
            lacking: BTreeSet::new(),
            retry_at: 0,
            lack,
        }
    }

    /// The lane to work on, and whether a small block is wanted too.
    fn choose(&self) -> Option<(Lane, bool)> {
        let forced = Lsn(self.parts.wishes.flush_to.load(Ordering::Acquire)).min(self.parts.marks.published.get());
        let oldest = || self.parts.tail.oldest_but(&self.lacking);
        if self.parts.tail.is_pressed()
            && let Some((_, lane)) = oldest()
        {
            return Some((lane, true));
        }
        if let Some(lane) = self.parts.tail.full_lane_but(&self.lacking) {
            return Some((lane, false));
        }
        oldest().filter(|(oldest, _)| *oldest <= forced).map(|(_, lane)| (lane, true))
    }

    /// Starts a job: merges what a lane has into a block. No call on the disk.
    fn start(&mut self) -> Result<bool, Poisoned> {
        for topic in self.parts.wishes.to_close() {
            self.lanes.retain(|lane, _| lane.topic != topic);
        }
        let Some((lane, take_small)) = self.choose() else { return Ok(false) };
        let Some(config) = self.parts.applied.read().live_topic(lane.topic).map(|topic| topic.config) else {
            self.parts.tail.end_topic(lane.topic);
            return Ok(true);
        };
        let Some(shared) = self.parts.tail.lane(lane) else { return Ok(false) };
        let batches = {
            let state = shared.lock();
            self.load(lane, &state);
            self.published(&state)
        };
        let (Some(first), Some(active)) = (batches.first(), self.lanes.get(&lane)) else { return Ok(false) };
        let old = first.time_us.saturating_sub(active.row.first_time_us) >= self.parts.settings.segment_age_us;
        // A quiet partition does not begin a file a day for ever.
        let old = old && active.row.bytes >= u64::from(config.segment_bytes) / AGED_PART;
        let mut builder = Builder::new(config.codec, self.parts.settings.block_bytes);
        let mut is_full = false;
        for batch in &batches {
            let origin = Origin { lsn: batch.lsn, position: batch.position, time_us: batch.time_us };
            let pushed = builder.push(origin, batch.base, &batch.batch).map_err(|fault| Poisoned {
                action: "flushing",
                file: format!("the tail of {lane}"),
                cause: fault.to_string(),
            })?;
            is_full = pushed != Pushed::Open;
            if is_full {
                break;
            }
        }
        if !is_full && !take_small {
            return Ok(false);
        }
        let place = Place {
            lane,
            segment: active.row.id,
            prev_crc: active.row.last_crc,
            incarnation: self.parts.identity.incarnation,
        };
        let mut built = builder.finish(&place, &self.parts.buffers);
        let has_blocks = active.row.end > active.row.base;
        let too_large = active.row.bytes + built.bytes.len() as u64 > u64::from(config.segment_bytes);
        let seal_first = has_blocks && (too_large || old);
        if seal_first {
            // It goes to the segment behind: the block's header will name that one.
            built = self.rebuild(lane, &batches, config)?;
        }
        self.job = Some(Job { lane, built: Some(built), seal_first });
        Ok(true)
    }

    /// The batches of a lane that are published, as many as may fill a block.
    fn published(&self, state: &LaneState) -> Vec<crate::tail::TailBatch> {
        let published = self.parts.marks.published.get();
        let mut raw = 0;
        let visible = state.batches.iter().take_while(|batch| batch.lsn <= published);
        let enough = visible.take_while(|batch| {
            let more = raw < self.parts.settings.block_bytes;
            raw += batch.batch.decoded_bytes as usize;
            more
        });
        enough.cloned().collect()
    }

    /// Knows the lane's growing segment, or a new one.
    fn load(&mut self, lane: Lane, state: &LaneState) {
        if self.lanes.contains_key(&lane) {
            return;
        }
        let active = match state.segments.last().filter(|row| !row.sealed) {
            Some(row) => {
                let name = Name { lane, base: row.base, generation: row.generation, part: Part::Log };
                Active { row: *row, name, file: None, allocated: 0, is_headed: true, sealing: Sealing::No }
            }
            None => self.fresh(lane, state.flushed),
        };
        self.lanes.insert(lane, active);
    }

    /// A segment that is to be made, from `base` on.
    fn fresh(&self, lane: Lane, base: crate::id::Offset) -> Active {
        let id = SegmentId(self.parts.next_segment.fetch_add(1, Ordering::Relaxed));
        let row = SegmentRow {
            id,
            base,
            end: base,
            generation: 0,
            sealed: false,
            last_lsn: Lsn(0),
            bytes: FILE_HEADER_BYTES as u64,
            last_crc: self.header(id).crc(),
            first_time_us: i64::MAX,
            last_time_us: i64::MIN,
        };
        let name = Name { lane, base, generation: 0, part: Part::Log };
        Active { row, name, file: None, allocated: 0, is_headed: false, sealing: Sealing::No }
    }

    fn header(&self, segment: SegmentId) -> FileHeader {
        let Identity { cluster, node, incarnation } = self.parts.identity;
        FileHeader {
            kind: FileKind::Segment,
            compatible_flags: 0,
            cluster,
            node,
            shard: 0,
            number: segment.0,
            first_lsn: Lsn(0),
            prev_crc: 0,
            incarnation,
        }
    }

    /// The same block for a segment that begins with it.
    fn rebuild(&self, lane: Lane, batches: &[crate::tail::TailBatch], config: TopicConfig) -> Result<Built, Poisoned> {
        let next = SegmentId(self.parts.next_segment.load(Ordering::Relaxed));
        let mut builder = Builder::new(config.codec, self.parts.settings.block_bytes);
        for batch in batches {
            let origin = Origin { lsn: batch.lsn, position: batch.position, time_us: batch.time_us };
            let pushed = builder.push(origin, batch.base, &batch.batch).map_err(|fault| Poisoned {
                action: "flushing",
                file: format!("the tail of {lane}"),
                cause: fault.to_string(),
            })?;
            if pushed != Pushed::Open {
                break;
            }
        }
        let incarnation = self.parts.identity.incarnation;
        let place = Place { lane, segment: next, prev_crc: self.header(next).crc(), incarnation };
        Ok(builder.finish(&place, &self.parts.buffers))
    }

    /// Makes the one call that the job needs next.
    fn advance(&mut self, job: &mut Job) -> io::Result<Call> {
        if !self.is_alive(job.lane) {
            self.lanes.remove(&job.lane);
            return Ok(Call::Nothing);
        }
        if self.parts.written.file_count() > UNSYNCED_FILES_MAX {
            return self.sync_one();
        }
        let Some(mut active) = self.lanes.remove(&job.lane) else { return Ok(Call::Nothing) };
        let was_open = active.file.is_some();
        let called = if job.seal_first { self.seal(job, &mut active) } else { self.write(job, &mut active) };
        if active.file.is_some() && !was_open {
            self.close_oldest();
            self.opened.push_back(job.lane);
        }
        self.lanes.insert(job.lane, active);
        called
    }

    /// Closes the file that was opened first, when enough are open. What waits for a sync is held until then elsewhere.
    fn close_oldest(&mut self) {
        if self.opened.len() >= OPEN_FILES_MAX
            && let Some(active) = self.opened.pop_front().and_then(|lane| self.lanes.get_mut(&lane))
        {
            active.file = None;
        }
    }

    /// The segment that is written for a lane now.
    fn path(&self, lane: Lane) -> String {
        self.lanes.get(&lane).map_or_else(String::new, |active| active.name.path())
    }

    fn is_alive(&self, lane: Lane) -> bool {
        self.parts.applied.read().live_topic(lane.topic).is_some()
    }

    /// Too many files wait for the checkpoint: one is synced and closed now.
    fn sync_one(&mut self) -> io::Result<Call> {
        if let Some((lane, file)) = self.parts.written.one_file() {
            file.sync()?;
            // Not before: until then a checkpoint has to wait for it.
            self.parts.written.forget_file(&file);
            if let Some(active) = self.lanes.get_mut(&lane).filter(|active| active.name.path() == file.path()) {
                active.file = None;
            }
        }
        Ok(Call::Done)
    }

    /// Seals the growing segment: cut to its data, index written. Afterwards `active` is the next one.
    fn seal(&mut self, job: &mut Job, active: &mut Active) -> io::Result<Call> {
        let Some(file) = active.file.clone() else { return self.open(active) };
        if active.sealing == Sealing::No {
            file.set_bytes(active.row.bytes)?;
            active.sealing = Sealing::Trimmed;
            return Ok(Call::Done);
        }
        // The index is a cache: whatever a crash leaves of it is found out by its checksum and made anew.
        if let Some(index) = self.index_of(active) {
            let name = active.name.with(Part::Index).path();
            let bytes = index.encode(&self.header(active.row.id));
            let index_file = match self.parts.disk.open(&name, Mode::Write, false) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let made = disk::or_lack(self.parts.disk.open(&name, Mode::Create, false))?;
                    return Ok(made.map_or_else(Call::Lacking, |_| Call::Done));
                }
                other => match disk::or_lack(other)? {
                    Ok(file) => file,
                    Err(lack) => return Ok(Call::Lacking(lack)),
                },
            };
            if index_file.bytes()? < bytes.len() as u64 {
                let made = disk::or_lack(index_file.allocate(0, bytes.len() as u64))?;
                return Ok(made.map_or_else(Call::Lacking, |()| Call::Done));
            }
            disk::write_all_at(&*index_file, &bytes, 0)?;
            self.parts.written.note_file(job.lane, &index_file);
        }
        if let Some(shared) = self.parts.tail.lane(job.lane) {
            let mut state = shared.lock();
            if let Some(row) = state.segments.last_mut() {
                row.sealed = true;
            }
        }
        self.parts.shelf.drop_growing(active.row.id);
        *active = self.fresh(job.lane, active.row.end);
        job.seal_first = false;
        Ok(Call::Done)
    }

    /// The growing segment's index: in memory, or made from its blocks when nobody has read it since the start. None
    /// when the file does not read: then whoever reads the segment finds out.
    fn index_of(&self, active: &Active) -> Option<ActiveIndex> {
        if let Some(index) = self.parts.shelf.growing(active.row.id) {
            return Some(index.copy());
        }
        let file = self.parts.disk.open(&active.name.path(), Mode::Read, false).ok()?;
        let Active { row, name, .. } = active;
        let extent = Extent { lane: name.lane, segment: row.id, base: row.base, data_end: row.bytes };
        let reader = segment::Reader::open(file, extent, false, self.parts.buffers.clone()).ok()?;
        let index = reader.index(Reach { end: row.end, last_time_us: row.last_time_us }).ok()?;
        Some(self.parts.shelf.keep_growing(row.id, GrowingIndex::new(index)).copy())
    }

    /// Writes the block, after whatever must stand before it.
    fn write(&mut self, job: &mut Job, active: &mut Active) -> io::Result<Call> {
        if active.file.is_none() {
            return self.open(active);
        }
        let Some(file) = active.file.clone() else { return Ok(Call::Nothing) };
        let Some(built) = job.built.take() else { return Ok(Call::Nothing) };
        assert_eq!(built.header.segment, active.row.id, "a block goes to the segment that it names");
        let end = active.row.bytes + built.bytes.len() as u64;
        if active.allocated < end {
            let step = active.row.bytes.clamp(*ALLOCATE_BYTES.start(), *ALLOCATE_BYTES.end());
            let wanted = (active.allocated + step).max(end).next_multiple_of(FILE_HEADER_BYTES as u64);
            job.built = Some(built);
            if let Err(lack) = disk::or_lack(file.allocate(active.allocated, wanted - active.allocated))? {
                return Ok(Call::Lacking(lack));
            }
            active.allocated = wanted;
            return Ok(Call::Done);
        }
        if !active.is_headed {
            job.built = Some(built);
            let mut buffer = AlignedBuf::with_capacity(FILE_HEADER_BYTES);
            buffer.push(&self.header(active.row.id).encode());
            disk::write_all_at(&*file, buffer.as_slice(), 0)?;
            active.is_headed = true;
            return Ok(Call::Done);
        }
        disk::write_all_at(&*file, built.bytes.as_slice(), active.row.bytes)?;
        // After the write: a checkpoint on its own thread may take what is noted at any time, and syncs it once. Before
        // the lane says so: a checkpoint that lists the block finds its file here.
        self.parts.written.note_file(job.lane, &file);
        self.show(job.lane, active, &built);
        Ok(Call::Finished)
    }

    /// The block is written: readers find it in the segment now, and the tail lets its batches go.
    fn show(&self, lane: Lane, active: &mut Active, built: &Built) {
        let entry = built.entry(active.row.bytes);
        let header = &built.header;
        active.row.bytes += built.bytes.len() as u64;
        active.row.end = header.end;
        active.row.last_lsn = header.last_lsn;
        active.row.last_crc = built.crc;
        active.row.first_time_us = active.row.first_time_us.min(header.first_time_us);
        active.row.last_time_us = header.last_time_us;
        let is_first = header.base == active.row.base;
        if is_first {
            self.parts.shelf.keep_growing(active.row.id, Arc::default());
        }
        let Some(shared) = self.parts.tail.lane(lane) else { return };
        let mut state = shared.lock();
        // A growing index that was never loaded is made from the blocks by whoever needs it first.
        if let Some(index) = self.parts.shelf.growing(active.row.id) {
            GrowingIndex::push(&index, entry, header.end, active.row.bytes);
        }
        match state.segments.last_mut().filter(|row| row.id == active.row.id) {
            Some(row) => *row = active.row,
            None => state.segments.push(active.row),
        }
        self.parts.tail.flushed(lane, &mut state, header.end);
    }

    /// Opens the segment's file, making it and its directories when they are missing: one of them a call.
    fn open(&mut self, active: &mut Active) -> io::Result<Call> {
        let path = active.name.path();
        if active.is_headed {
            let file = match disk::or_lack(self.parts.disk.open(&path, Mode::Write, true))? {
                Ok(file) => file,
                Err(lack) => return Ok(Call::Lacking(lack)),
            };
            active.allocated = file.bytes()?;
            active.file = Some(file);
            return Ok(Call::Done);
        }
        let lane = active.name.lane;
        for (dir, parent) in [(topic_dir(lane.topic), DATA_DIR.to_owned()), (lane_dir(lane), topic_dir(lane.topic))] {
            if !self.dirs.contains(&dir) {
                if let Err(lack) = disk::or_lack(self.parts.disk.create_dir(&dir))? {
                    return Ok(Call::Lacking(lack));
                }
                self.parts.written.note_dir(&parent);
                self.dirs.insert(dir);
                return Ok(Call::Done);
            }
        }
        let file = match disk::or_lack(self.parts.disk.open(&path, Mode::Create, true)) {
            Ok(Ok(file)) => file,
            Ok(Err(lack)) => return Ok(Call::Lacking(lack)),
            // Left over from before a crash, behind every checkpoint: replay writes it again.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match disk::or_lack(self.parts.disk.open(&path, Mode::Write, true))? {
                    Ok(file) => file,
                    Err(lack) => return Ok(Call::Lacking(lack)),
                }
            }
            Err(error) => return Err(error),
        };
        self.parts.written.note_dir(&lane_dir(lane));
        active.allocated = 0;
        active.file = Some(file);
        Ok(Call::Done)
    }
}

impl Flusher {
    /// Waits for the ballast, a delete, an operator. The block is made again from the tail; other lanes may have what
    /// this one lacks.
    fn lacks(&mut self, lane: Lane, cause: &io::Error) {
        self.lack.begins(&self.path(lane), cause);
        self.parts.wishes.ask_space();
        self.parts.room.set_lacking(true);
        self.parts.checkpointer.ring();
        self.lacking.insert(lane);
    }
}

impl Stage for Flusher {
    fn name(&self) -> &'static str {
        "flush"
    }

    fn bell(&self) -> &Bell {
        &self.parts.bell
    }

    fn step(&mut self, now: Now) -> Step {
        if self.parts.poison.is_set() {
            return Step::Poisoned;
        }
        if now.mono_us < self.retry_at {
            return Step::Until(self.retry_at);
        }
        let Some(mut job) = self.job.take() else {
            return match self.start() {
                Ok(true) => Step::Did,
                // Those that lacked something are tried again after a while, all of them.
                Ok(false) if !self.lacking.is_empty() => {
                    self.lacking.clear();
                    self.retry_at = now.mono_us + RETRY_US;
                    Step::Until(self.retry_at)
                }
                Ok(false) => {
                    self.lack.ends();
                    Step::Idle
                }
                Err(poisoned) => {
                    self.parts.poison.set(poisoned);
                    Step::Poisoned
                }
            };
        };
        match self.advance(&mut job) {
            Ok(Call::Done) => self.job = Some(job),
            Ok(Call::Finished) => {
                self.parts.room.set_lacking(false);
                self.parts.checkpointer.ring();
            }
            Ok(Call::Nothing) => self.parts.checkpointer.ring(),
            Ok(Call::Lacking(cause)) => self.lacks(job.lane, &cause),
            // The topic went away with its directory between two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_alive(job.lane) => {}
            Err(error) => {
                poison(&self.parts.poison, "flush", &self.path(job.lane), &error);
                return Step::Poisoned;
            }
        }
        Step::Did
    }
}
