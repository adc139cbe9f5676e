//! The checkpoint: what is in segments and tables stands for all frames up to x, and the journal before x is given
//! back.
//!
//! The order: (1) cut the applied state at x; (2) have everything up to x flushed; (3) sync every segment written
//! since, then the directories with new names; (4) write the tables, with x, into the file that is not the newest, and
//! sync; (5) give back journal files wholly ≤ x; (6) unlink what frames ≤ x deleted. A step is one call on the disk.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    admit::{Admitted, Request, SharedApplied, room::Room},
    commit::Tips,
    disk::{self, Disk, DiskFile, Mode},
    flush::{Wishes, Written},
    id::{Lane, Lsn, TopicId},
    journal::{Identity, Tip, poison, pool::Pool},
    limits::ALIGN,
    marks::Marks,
    notice::{Lack, Notices},
    poison::Poison,
    segment::{
        name::{DATA_DIR, Name, lane_dir, topic_dir},
        shelf::Shelf,
    },
    settings::Settings,
    stage::{Bell, Now, Queue, Stage, Step},
    table::{
        Applied,
        file::{Checkpoint, PATHS},
        row::{LaneRow, TopicRow},
    },
    tail::Tail,
};

/// Tables are written in pieces of this many bytes.
const PIECE_BYTES: usize = 1 << 20;
/// After a lack of space, the tables are tried again after this long.
const RETRY_US: u64 = 1_000_000;
/// A checkpoint for a deleted topic begins this long after the one before.
const DELETES_SHARED_US: u64 = 1_000_000;

/// What a checkpointer is made of.
pub struct Parts {
    /// Where everything is.
    pub disk: Arc<dyn Disk>,
    /// Read: the tables.
    pub applied: SharedApplied,
    /// Read: where a cut may be.
    pub tips: Arc<Tips>,
    /// Read: what is not flushed, and what is in segments.
    pub tail: Arc<Tail>,
    /// Journal files are given back to it.
    pub pool: Arc<Pool>,
    /// Moves `checkpointed`.
    pub marks: Arc<Marks>,
    /// Set when a write or sync fails.
    pub poison: Arc<Poison>,
    /// Closed before their files are unlinked.
    pub shelf: Arc<Shelf>,
    /// What flush has written.
    pub written: Arc<Written>,
    /// How far flush should go, and whether somebody asked.
    pub wishes: Arc<Wishes>,
    /// Read: the next segment's id.
    pub next_segment: Arc<AtomicU64>,
    /// Told how large the tables are.
    pub room: Arc<Room>,
    /// Whose files these are.
    pub identity: Identity,
    /// When to start.
    pub settings: Settings,
    /// Rung when something should be flushed.
    pub flusher: Bell,
    /// Rung when space ran out.
    pub ballast: Bell,
    /// To `sequence`: a deleted topic's files are gone.
    pub controls: Arc<Queue<Admitted>>,
    /// Told what is lacking.
    pub notices: Arc<Notices>,
    /// What wakes it.
    pub bell: Bell,
}

/// The checkpoint stage.
pub struct Checkpointer {
    parts: Parts,
    generation: u64,
    last: Lsn,
    changed_at: Option<u64>,
    state: State,
    unlinked: BTreeSet<TopicId>,
    began_at: Option<u64>,
    retry_at: u64,
    lack: Lack,
}

/// Where a checkpoint stands: each arm is one step's work.
enum State {
    Resting,
    Flushing(Box<Cut>),
    Syncing { ready: Box<Checkpoint>, files: Vec<Arc<dyn DiskFile>>, dirs: Vec<String> },
    Opening(Box<Checkpoint>),
    Writing { ready: Box<Checkpoint>, file: Arc<dyn DiskFile>, bytes: Vec<u8>, at: usize, is_new: bool },
    Naming(Box<Checkpoint>),
    Unlinking(Vec<Unlink>),
}

/// The applied state at x.
struct Cut {
    tip: Tip,
    applied: Applied,
}

/// A name to be removed.
enum Unlink {
    File(String),
    Dir(String),
    Sync(String),
    Topic(TopicId),
}

impl Checkpointer {
    /// Goes on behind the checkpoint of `generation` at `last`.
    pub fn new(parts: Parts, generation: u64, last: Lsn) -> Self {
        let lack = Lack::new(parts.notices.clone(), "the checkpoint");
        let (state, unlinked) = (State::Resting, BTreeSet::new());
        Self { parts, generation, last, changed_at: None, state, unlinked, began_at: None, retry_at: 0, lack }
    }

    /// Whether one should start now, or when.
    fn due(&mut self, now: Now) -> Result<(), Step> {
        let published = self.parts.marks.published.get();
        if published == self.last {
            self.changed_at = None;
            self.parts.wishes.checkpoint.store(false, Ordering::Release);
            return Err(Step::Idle);
        }
        let mut due = *self.changed_at.get_or_insert(now.mono_us) + self.parts.settings.checkpoint_after_us;
        if self.parts.wishes.deleted.load(Ordering::Acquire) {
            // At once, unless one was just made: many deletes in a row share one.
            due = due.min(self.began_at.map_or(0, |at| at + DELETES_SHARED_US));
        }
        let asked = self.parts.wishes.checkpoint.load(Ordering::Acquire);
        if asked {
            return Ok(());
        }
        if self.parts.settings.hold_checkpoints {
            return Err(Step::Idle);
        }
        let full = self.parts.pool.fullness().wants_checkpoint();
        if full || now.mono_us >= due { Ok(()) } else { Err(Step::Until(due)) }
    }

    fn cut(&mut self) -> State {
        self.parts.wishes.deleted.store(false, Ordering::Release);
        let applied = self.parts.applied.read();
        let (tip, applied) = (self.parts.tips.newest(), applied.clone());
        self.parts.wishes.flush_to.store(tip.lsn.0, Ordering::Release);
        self.parts.flusher.ring();
        State::Flushing(Box::new(Cut { tip, applied }))
    }

    /// Everything up to x is in segments: what they hold, and which files to sync for it.
    fn gather(&mut self, cut: Cut) -> State {
        let Cut { tip, mut applied } = cut;
        // The lanes first: a file is noted as written before its lane says so, so what is taken after covers them.
        let lanes = self.parts.tail.lanes().into_iter().filter_map(|(lane, shared)| {
            let state = shared.lock();
            let end = applied.lanes.get(&lane).copied().unwrap_or_default();
            let segments = state.segments.clone();
            let (head, flushed, last_time_us) = (state.head, state.flushed, end.last_time_us);
            applied.topics.contains_key(&lane.topic).then_some(LaneRow {
                lane,
                head,
                end: end.end,
                last_time_us,
                flushed,
                segments,
            })
        });
        let lanes = lanes.collect();
        // After the lanes: flush takes ids on its own thread, and none that is listed may be given again.
        applied.counters.next_segment = self.parts.next_segment.load(Ordering::Acquire);
        let (files, mut dirs) = self.parts.written.take();
        if cfg!(bug = "dir_unsynced") {
            dirs.clear();
        }
        let ready = Checkpoint { generation: self.generation + 1, tip, applied, lanes };
        if cfg!(bug = "recycled_early") {
            self.parts.pool.release(tip.lsn);
        }
        State::Syncing { ready: Box::new(ready), files, dirs }
    }

    /// One call; what stands after it. `None`: nothing can be done before something moves.
    fn advance(&mut self, state: State) -> io::Result<(State, bool)> {
        match state {
            State::Resting => Ok((self.cut(), true)),
            State::Flushing(cut) => {
                if self.parts.tail.oldest().is_some_and(|(oldest, _)| oldest <= cut.tip.lsn) {
                    return Ok((State::Flushing(cut), false));
                }
                Ok((self.gather(*cut), true))
            }
            State::Syncing { ready, mut files, mut dirs } => {
                let is_done = if let Some(file) = files.pop() {
                    file.sync()?;
                    true
                } else if let Some(dir) = dirs.last() {
                    let is_synced = self.sync_dir(dir)?;
                    dirs.truncate(dirs.len() - usize::from(is_synced));
                    is_synced
                } else {
                    return Ok((State::Opening(ready), true));
                };
                Ok((State::Syncing { ready, files, dirs }, is_done))
            }
            State::Opening(ready) => self.open(ready),
            State::Writing { ready, file, bytes, at, is_new } => {
                if at == bytes.len() {
                    file.sync()?;
                    let bytes = bytes.len() as u64;
                    self.parts.room.set_tables_bytes(bytes);
                    return Ok((if is_new { State::Naming(ready) } else { self.commit(&ready) }, true));
                }
                let piece = &bytes[at..bytes.len().min(at + PIECE_BYTES)];
                disk::write_all_at(&*file, piece, at as u64)?;
                let at = at + piece.len();
                Ok((State::Writing { ready, file, bytes, at, is_new }, true))
            }
            State::Naming(ready) => {
                let is_synced = self.sync_dir("")?;
                Ok(if is_synced { (self.commit(&ready), true) } else { (State::Naming(ready), false) })
            }
            State::Unlinking(mut left) => {
                let Some(unlink) = left.last() else { return Ok((State::Resting, true)) };
                let is_done = self.unlink(unlink)?;
                left.truncate(left.len() - usize::from(is_done));
                Ok((State::Unlinking(left), is_done))
            }
        }
    }

    /// Syncs a directory; false when there is no descriptor for it now.
    fn sync_dir(&mut self, dir: &str) -> io::Result<bool> {
        match self.parts.disk.sync_dir(dir) {
            Err(error) if disk::lacks_descriptor(&error) => {
                self.lack.begins(if dir.is_empty() { "the data directory" } else { dir }, &error);
                self.parts.room.set_lacking(true);
                return Ok(false);
            }
            other => other?,
        }
        if self.lack.is_on() {
            self.lack.ends();
            self.parts.room.set_lacking(false);
        }
        Ok(true)
    }

    /// Opens the tables file that is written this time, with room for the rows.
    fn open(&mut self, ready: Box<Checkpoint>) -> io::Result<(State, bool)> {
        let path = ready.path();
        let (file, is_new) = match self.parts.disk.open(path, Mode::Write, false) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match disk::or_lack(self.parts.disk.open(path, Mode::Create, false))? {
                    Err(lack) => return Ok(self.lacking(ready, &lack)),
                    Ok(file) => (file, true),
                }
            }
            Err(error) if disk::is_lack(&error) => return Ok(self.lacking(ready, &error)),
            Err(error) => return Err(error),
        };
        let bytes = ready.encode(self.parts.identity.cluster);
        let room = bytes.len().next_multiple_of(ALIGN) as u64;
        if file.bytes()? < room
            && let Err(lack) = disk::or_lack(file.allocate(0, room))?
        {
            return Ok(self.lacking(ready, &lack));
        }
        self.lack.ends();
        // The name is synced even when the file was there: a crash may have come between the two.
        let is_new = is_new || ready.generation <= PATHS.len() as u64;
        Ok((State::Writing { ready, file, bytes, at: 0, is_new }, true))
    }

    fn lacking(&mut self, ready: Box<Checkpoint>, cause: &io::Error) -> (State, bool) {
        self.lack.begins(ready.path(), cause);
        self.parts.wishes.ask_space();
        self.parts.room.set_lacking(true);
        self.parts.ballast.ring();
        (State::Opening(ready), false)
    }

    /// The tables are durable: x is the checkpoint.
    fn commit(&mut self, ready: &Checkpoint) -> State {
        self.generation = ready.generation;
        self.last = ready.tip.lsn;
        self.changed_at = None;
        self.parts.wishes.checkpoint.store(false, Ordering::Release);
        self.parts.room.set_lacking(false);
        self.parts.tail.checkpointed(&ready.lanes);
        self.parts.marks.checkpointed.raise(ready.tip.lsn);
        self.parts.pool.release(ready.tip.lsn);
        State::Unlinking(self.unlinks(ready))
    }

    /// What frames ≤ x deleted, to be taken from the end.
    fn unlinks(&mut self, ready: &Checkpoint) -> Vec<Unlink> {
        self.unlinked.retain(|topic| ready.applied.topics.contains_key(topic));
        let deleted = ready.applied.topics.values().filter(|row| row.deleted.is_some());
        let due = deleted.filter(|row| !self.unlinked.contains(&row.id));
        // A directory that does not list now is tried again by the next checkpoint.
        due.filter_map(|row| self.unlinks_of(row).ok()).flatten().collect()
    }

    fn unlinks_of(&self, row: &TopicRow) -> io::Result<Vec<Unlink>> {
        let mut all = vec![Unlink::Topic(row.id), Unlink::Sync(DATA_DIR.to_owned()), Unlink::Dir(topic_dir(row.id))];
        for partition in 0..row.config.partitions {
            let lane = Lane { topic: row.id, partition: crate::id::Partition(partition) };
            let dir = lane_dir(lane);
            let files = match self.parts.disk.list(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                other => other?,
            };
            all.push(Unlink::Dir(dir.clone()));
            // What is not of the log stays, and what was put aside: the next start names it.
            let files = files.into_iter().filter(|file| !file.is_dir && Name::parse_file(lane, &file.name).is_some());
            all.extend(files.map(|file| Unlink::File(format!("{dir}/{}", file.name))));
        }
        Ok(all)
    }

    /// One step of it; false when it has to be tried again.
    fn unlink(&mut self, unlink: &Unlink) -> io::Result<bool> {
        let gone_is_fine = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        match unlink {
            Unlink::File(path) => gone_is_fine(self.parts.disk.remove(path)).map(|()| true),
            Unlink::Dir(dir) => match gone_is_fine(self.parts.disk.remove_dir(dir)) {
                // A file that is not ours: it stays, and so does its directory.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(true),
                other => other.map(|()| true),
            },
            Unlink::Sync(dir) => self.sync_dir(dir),
            Unlink::Topic(topic) => {
                for (lane, shared) in self.parts.tail.lanes_of(*topic) {
                    let segments = shared.lock().segments.clone();
                    for row in &segments {
                        self.parts.shelf.close(row.id);
                    }
                    self.parts.tail.forget(lane);
                }
                self.parts.wishes.close(*topic);
                self.parts.flusher.ring();
                let forget = Admitted { request: Request::ForgetTopic(*topic), permit: None };
                // Where no more can wait, the next checkpoint asks again.
                if self.parts.controls.push(forget).is_ok() {
                    self.unlinked.insert(*topic);
                }
                Ok(true)
            }
        }
    }
}

impl Stage for Checkpointer {
    fn name(&self) -> &'static str {
        "checkpoint"
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
        if matches!(self.state, State::Resting) {
            if let Err(step) = self.due(now) {
                return step;
            }
            self.began_at = Some(now.mono_us);
        }
        let state = std::mem::replace(&mut self.state, State::Resting);
        let is_flushing = matches!(state, State::Flushing(_));
        match self.advance(state) {
            Ok((next, true)) => {
                self.state = next;
                Step::Did
            }
            Ok((next, false)) => {
                self.state = next;
                if is_flushing {
                    return Step::Idle;
                }
                self.retry_at = now.mono_us + RETRY_US;
                Step::Until(self.retry_at)
            }
            Err(error) => {
                poison(&self.parts.poison, "checkpoint", "segments or tables", &error);
                Step::Poisoned
            }
        }
    }
}
