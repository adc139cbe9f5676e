//! Opening: from what the disk holds to a log that takes appends.
//!
//! Lock → control → newest whole tables → scan of the journal → the decision ([`decide`]) → cut → new incarnation →
//! files held against the tables → replay through the normal apply and flush → the stages. Until the decision nothing
//! is changed, and until the replay is done nothing is shown to anyone.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use parking_lot::RwLock;

use crate::{
    admit::{Admitted, SharedApplied, room::Room},
    commit::{Tips, watch::Watch},
    disk::{
        self, DirLock, Disk, Mode,
        aligned::{AlignedBuf, AlignedPool},
    },
    env::Env,
    flush::{Wishes, ballast::Ballast, checkpoint::Checkpointer, flusher::Flusher},
    id::{Incarnation, Lsn, SegmentId},
    journal::{
        GroupFile, Identity, Tip,
        control::{CONTROL_PATH, Control, Watermark},
        pool::{Files, Grow, Pool, Slot},
        replay::Replay,
        scan::{self, Found, Source},
        writer::Resume,
    },
    limits::ALIGN,
    marks::Marks,
    notice::{Notice, Notices},
    poison::Poison,
    presence::Presence,
    read::Reads,
    settings::Settings,
    stage::{Bell, Now, Queue, Stage, Step},
    table::file::{self, Checkpoint, TablesFault},
    tail::Tail,
};

pub mod decide;
mod directory;
mod error;
mod house;
mod leftover;

use decide::{Facts, Verdict};
pub use error::OpenError;
use error::io;
use house::{Bells, CONTROLS_MAX, Road, Shared};
use leftover::Known;

/// Published batches in memory while the journal is replayed.
const REPLAY_TAIL_BYTES: u64 = 64 << 20;

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// This run's incarnation.
    pub incarnation: u64,
    /// Frames replayed from the journal.
    pub frames_replayed: u64,
    /// Bytes dropped behind the last whole group, when there were any.
    pub dropped_bytes: u64,
    /// Where a copy of them is, when it was made.
    pub quarantined: Option<String>,
    /// Whether an acked group may have been among them: after a power cut, one node cannot decide it.
    pub possible_loss: bool,
    /// Damage that does not stop the start, in words.
    pub findings: Vec<String>,
}

/// All stages, in the order of the road.
pub type Stages = Vec<Box<dyn Stage>>;

/// What the handle is made of.
pub struct Opened {
    /// The stages, to be driven.
    pub stages: Stages,
    /// What opening found and did.
    pub report: OpenReport,
    /// What callers work with.
    pub(crate) parts: Parts,
}

/// What callers work with.
pub(crate) struct Parts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) settings: Settings,
    pub(crate) identity: Identity,
    pub(crate) control: parking_lot::Mutex<Control>,
    pub(crate) applied: SharedApplied,
    pub(crate) marks: Arc<Marks>,
    pub(crate) poison: Arc<Poison>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) reads: Reads,
    pub(crate) room: Arc<Room>,
    pub(crate) wishes: Arc<Wishes>,
    pub(crate) syncs: Arc<AtomicU64>,
    pub(crate) appends: Arc<Queue<Admitted>>,
    pub(crate) controls: Arc<Queue<Admitted>>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) checkpointer: Bell,
    pub(crate) stopping: AtomicBool,
    pub(crate) _lock: Box<dyn DirLock>,
}

/// What was found, before anything is built on it.
struct Ground {
    control: Control,
    identity: Identity,
    checkpoint: Checkpoint,
    found: Found,
    report: OpenReport,
}

/// Opens a data directory, making it when it is new.
///
/// **Durability**: when this returns, everything that any run of the broker acked is readable, and nothing else is;
/// this run's incarnation is on the disk. **Cost**: in proportion to the journal behind the newest checkpoint, not to
/// the data.
///
/// # Errors
///
/// [`OpenError`]; nothing that was acked is changed by a refused start.
pub fn open(disk: Arc<dyn Disk>, env: Arc<dyn Env>, settings: Settings) -> Result<Opened, OpenError> {
    let lock = disk.lock().map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::Locked,
        _ => io("locking the data directory")(error),
    })?;
    let ground = ground(&*disk, &*env, &settings)?;
    build(disk, env, settings, ground, lock)
}

/// Everything up to the new incarnation.
fn ground(disk: &dyn Disk, env: &dyn Env, settings: &Settings) -> Result<Ground, OpenError> {
    let (mut control, is_slot_damaged) = directory::control(disk, env)?;
    let identity = Identity { cluster: control.cluster, node: control.node, incarnation: control.incarnation };
    let mut report = OpenReport::default();
    if is_slot_damaged {
        report.findings.push("one slot of control is damaged; the other one is believed".to_owned());
    }
    let (mut checkpoint, damaged) = tables(disk, &control, &mut report)?;
    let source = Source { disk, seed: identity.seed(), file_bytes: settings.journal_file_bytes };
    let mut found = scan::scan(&source, checkpoint.tip)?;
    let watermark = Watermark::read(disk).map_err(io("reading the watermark"))?;
    // One of a later run than any that owned this directory is of another one. The newest run that did may be told by
    // the journal alone, or, when a slot of control rotted, by nothing: then it was the one behind control's.
    let owned = Incarnation(control.incarnation.0 + u64::from(is_slot_damaged)).max(found.newest_incarnation);
    let watermark = watermark.filter(|mark| mark.incarnation <= owned);
    let facts = Facts {
        last: found.tip.lsn,
        tables: checkpoint.tip.lsn,
        clean: control.clean_lsn,
        watermark: watermark.map_or(Lsn(0), |mark| mark.durable_lsn),
        lookahead: found.lookahead,
        flushed: checkpoint.flushed_lsn(),
        has_more: found.dropped.is_some() || !found.strays.is_empty(),
    };
    let mut uncopied = BTreeSet::new();
    match decide::decide(&facts) {
        Verdict::Rotten { from, to } => {
            return Err(match damaged {
                Some((file, fault)) => OpenError::TablesDamaged { file, fault, from, to },
                None => OpenError::Rotten { from, to },
            });
        }
        Verdict::Keep => {}
        Verdict::Drop { possible_loss } => {
            report.possible_loss = possible_loss;
            uncopied = cut(disk, &found, control.incarnation, &mut report)?;
        }
    }
    // A newer run than control tells of has been here when its slot rotted: an incarnation is never used twice.
    let newest = watermark.map_or(Incarnation(0), |mark| mark.incarnation).max(found.newest_incarnation);
    control.incarnation = Incarnation(control.incarnation.max(newest).0 + 1);
    control.clean_lsn = Lsn(0);
    let file = disk.open(CONTROL_PATH, Mode::Write, false).map_err(io("opening control"))?;
    control.write_next(&*file).map_err(io("writing control"))?;
    report.incarnation = control.incarnation.0;
    set_aside(disk, &mut found, uncopied, &mut report)?;
    let identity = Identity { incarnation: control.incarnation, ..identity };
    let known = Known {
        cluster: control.cluster,
        tables: checkpoint.tip.lsn,
        last: found.tip.lsn,
        next_segment: SegmentId(checkpoint.applied.counters.next_segment),
    };
    let (topics, lanes) = (&checkpoint.applied.topics, &checkpoint.lanes);
    let listing = directory::compare(disk, topics, lanes, &known, control.incarnation)?;
    report.findings.extend(listing.findings);
    // A growing segment without its file takes no more blocks: what comes next begins another one.
    let segments = checkpoint.lanes.iter_mut().flat_map(|lane| &mut lane.segments);
    segments.filter(|row| listing.lost.contains(&row.id)).for_each(|row| row.sealed = true);
    Ok(Ground { control, identity, checkpoint, found, report })
}

/// The newest whole tables, or empty ones; and a file that is damaged, which may have stood for frames that the journal
/// has no more.
fn tables(
    disk: &dyn Disk,
    control: &Control,
    report: &mut OpenReport,
) -> Result<(Checkpoint, Option<(String, TablesFault)>), OpenError> {
    let newest = file::read_newest(disk, control.cluster).map_err(io("reading the tables"))?;
    let mut damaged = None;
    for (path, fault) in newest.faults {
        match fault {
            TablesFault::Newer { .. } => return Err(OpenError::Newer { what: format!("{path}: {fault}") }),
            TablesFault::Foreign => return Err(OpenError::Tables { file: path.to_owned(), fault }),
            // The other file, or the journal from its first frame on, has it all; if not, M is greater than L.
            TablesFault::Damaged { .. } => {
                report.findings.push(format!("{path} is not believed: {fault}"));
                damaged = Some((path.to_owned(), fault));
            }
        }
    }
    Ok((newest.checkpoint.unwrap_or_default(), damaged))
}

/// Drops what stands behind the last whole group: copied aside, then ended by one block of zeros. Returns the files
/// without a header that hold frames of which no copy could be made.
fn cut(
    disk: &dyn Disk,
    found: &Found,
    incarnation: Incarnation,
    report: &mut OpenReport,
) -> Result<BTreeSet<Slot>, OpenError> {
    let mut uncopied = BTreeSet::new();
    // Strays are found again wherever one of their blocks stands, so all of them go; the chain ends at its first zeros.
    let strays = found.strays.iter().map(|stray| (stray, stray.bytes.len(), true));
    for (dropped, cut_bytes, is_stray) in found.dropped.iter().map(|dropped| (dropped, ALIGN, false)).chain(strays) {
        report.dropped_bytes += dropped.bytes.len() as u64;
        let kept = directory::keep_dropped(disk, dropped.slot, dropped.at, &dropped.bytes, incarnation, found.tip.lsn);
        // The log goes on in the file of the chain, copied or not. It needs no file of strays.
        if is_stray && kept.is_none() {
            uncopied.insert(dropped.slot);
            continue;
        }
        report.quarantined = report.quarantined.take().or(kept);
        let path = dropped.slot.path();
        let file = disk.open(&path, Mode::Write, true).map_err(io(format!("opening {path}")))?;
        let mut zeros = AlignedBuf::with_capacity(cut_bytes);
        zeros.grow_zeroed(cut_bytes);
        disk::write_all_at(&*file, zeros.as_slice(), dropped.at).map_err(io(format!("cutting {path}")))?;
        file.sync().map_err(io(format!("syncing the cut of {path}")))?;
    }
    Ok(uncopied)
}

/// Moves journal files out of the way that are not ours, or whose frames could not be copied: they are never filled.
fn set_aside(
    disk: &dyn Disk,
    found: &mut Found,
    uncopied: BTreeSet<Slot>,
    report: &mut OpenReport,
) -> Result<(), OpenError> {
    let incarnation = Incarnation(report.incarnation);
    for &(slot, why) in &found.foreign {
        let (finding, _) = directory::set_aside(disk, slot, &why.to_string(), incarnation)?;
        report.findings.push(finding);
    }
    found.unfilled.retain(|slot| !uncopied.contains(slot));
    for slot in uncopied {
        let why = "it holds frames that are dropped, and no copy of them could be made";
        let (finding, target) = directory::set_aside(disk, slot, why, incarnation)?;
        report.findings.push(finding);
        report.quarantined.get_or_insert(target);
    }
    Ok(())
}

/// The stages over what was found, with the journal replayed.
fn build(
    disk: Arc<dyn Disk>,
    env: Arc<dyn Env>,
    settings: Settings,
    ground: Ground,
    lock: Box<dyn DirLock>,
) -> Result<Opened, OpenError> {
    let Ground { control, identity, checkpoint, found, mut report } = ground;
    let (generation, start, tables) = (checkpoint.generation, checkpoint.tip, tables_named(&checkpoint));
    let began = env.mono_us();
    let shared = share(disk, &env, settings, identity, checkpoint, &found);
    let mut flusher = Flusher::new(shared.flusher());
    let tip = replay(&shared, &*env, (start, &tables), &found, &mut flusher, &mut report)?;
    held_to_end(&shared, &tables)?;
    let mut grow =
        Grow::new(shared.disk.clone(), shared.pool.clone(), shared.poison.clone(), shared.settings.journal_file_bytes);
    first_file(&shared, &found, &mut grow)?;
    let resume = resume(&shared, &found, tip)?;
    let watermark = Watermark::open(&*shared.disk).map_err(io("opening the watermark"))?;
    let checkpointer = Checkpointer::new(shared.checkpointer(), generation, start.lsn);
    let road = Road::new(&shared, resume, watermark);
    let ballast = Ballast::new(
        shared.disk.clone(),
        shared.wishes.clone(),
        shared.poison.clone(),
        shared.settings.ballast_bytes,
        (shared.room.clone(), shared.tail.clone()),
        &shared.bells.ballast,
    );
    let stages: Stages = vec![
        Box::new(road.sequencer),
        Box::new(road.writer),
        Box::new(road.sync),
        Box::new(road.publisher),
        Box::new(flusher),
        Box::new(checkpointer),
        Box::new(grow),
        Box::new(ballast),
    ];
    tell(&shared.notices, &report, env.mono_us() - began);
    shared.poison.rings(stages.iter().map(|stage| stage.bell().clone()));
    let parts = Parts {
        reads: shared.reads(),
        disk: shared.disk,
        env,
        settings: shared.settings,
        identity,
        control: parking_lot::Mutex::new(control),
        applied: shared.applied,
        marks: shared.marks,
        poison: shared.poison,
        pool: shared.pool,
        tail: shared.tail,
        room: shared.room,
        wishes: shared.wishes,
        syncs: road.syncs,
        appends: road.appends,
        controls: shared.controls,
        watch: shared.watch,
        presence: shared.presence,
        notices: shared.notices,
        checkpointer: shared.bells.checkpointer,
        stopping: AtomicBool::new(false),
        _lock: lock,
    };
    Ok(Opened { stages, report, parts })
}

/// Reports what opening found and did.
fn tell(notices: &Notices, report: &OpenReport, duration_us: u64) {
    if report.frames_replayed > 0 {
        notices.push(Notice::Replayed { frames: report.frames_replayed, duration_us });
    }
    if report.dropped_bytes > 0 {
        let (copy, possible_loss) = (report.quarantined.clone(), report.possible_loss);
        notices.push(Notice::Dropped { bytes: report.dropped_bytes, copy, possible_loss });
    }
    report.findings.iter().for_each(|text| notices.push(Notice::Finding { text: text.clone() }));
}

/// What the stages share, as the checkpoint says.
fn share(
    disk: Arc<dyn Disk>,
    env: &Arc<dyn Env>,
    settings: Settings,
    identity: Identity,
    checkpoint: Checkpoint,
    found: &Found,
) -> Shared {
    let bells = Bells::default();
    let notices = Arc::new(Notices::default());
    let (marks, poison) = (Arc::new(Marks::default()), Arc::new(Poison::new(notices.clone())));
    marks.durable.raise(checkpoint.tip.lsn);
    marks.published.raise(checkpoint.tip.lsn);
    marks.checkpointed.raise(checkpoint.tip.lsn);
    // As many as the tail may pin: what a full tail lets go serves the next groups, without new pages from the system.
    let buffers = AlignedPool::new(usize::try_from(settings.tail_bytes).unwrap_or(usize::MAX));
    let files = Files {
        used: found.chain.clone(),
        free: found.free.clone(),
        unfilled: found.unfilled.clone(),
        next_file_no: found.next_file_no,
    };
    let pool = Pool::new(
        settings.journal_files_max,
        files,
        [bells.sequencer.clone(), bells.writer.clone()],
        &bells.checkpointer,
        notices.clone(),
    );
    let tail =
        Arc::new(Tail::new(settings.block_bytes, settings.tail_bytes, marks.clone(), &bells.flusher, &bells.sequencer));
    tail.restore(&checkpoint.lanes, &checkpoint.applied);
    let listed = checkpoint.lanes.iter().flat_map(|lane| &lane.segments).map(|segment| segment.id.get() + 1).max();
    let room = Room::new(disk.clone(), env.mono_us(), settings.space_floor_bytes, notices.clone());
    room.set_tables_bytes(checkpoint.encode(identity.cluster).len() as u64);
    let controls = Queue::new(CONTROLS_MAX, &Bell::default(), &bells.sequencer);
    Shared {
        room: Arc::new(room),
        controls,
        watch: Arc::default(),
        presence: Presence::new(bells.sequencer.clone()),
        next_segment: Arc::new(AtomicU64::new(checkpoint.applied.counters.next_segment.max(listed.unwrap_or(0)))),
        applied: Arc::new(RwLock::new(checkpoint.applied)),
        tips: Arc::new(Tips::at(checkpoint.tip)),
        shelf: Arc::default(),
        written: Arc::default(),
        wishes: Arc::default(),
        disk,
        settings,
        identity,
        marks,
        poison,
        buffers,
        pool,
        tail,
        notices,
        bells,
    }
}

/// Replays the journal behind the checkpoint; flush makes room when the tail is full.
fn replay(
    shared: &Shared,
    env: &dyn Env,
    (start, tables): (Tip, &str),
    found: &Found,
    flusher: &mut Flusher,
    report: &mut OpenReport,
) -> Result<Tip, OpenError> {
    let file_bytes = shared.settings.journal_file_bytes;
    let source = Source { disk: &*shared.disk, seed: shared.identity.seed(), file_bytes };
    let mut replay = Replay::new(source, start, found, shared.buffers.clone());
    let applier = shared.applier();
    // Flush goes on while the journal is read, so that a start needs no more memory than the run behind it.
    shared.tail.set_limit(shared.settings.tail_bytes.min(REPLAY_TAIL_BYTES));
    let mut tip = Tip { file_no: found.tip.file_no, at: found.tip.at, ..start };
    while let Some(group) = replay.next_group()? {
        report.frames_replayed += group.frames.len() as u64;
        let misfit = |(lsn, misfit)| OpenError::Misfit { lsn, tables: tables.to_owned(), misfit };
        let ended = applier.replay(&group).map_err(misfit)?;
        shared.marks.durable.raise(group.tip.lsn);
        shared.marks.published.raise(group.tip.lsn);
        for topic in ended {
            shared.tail.end_topic(topic);
        }
        tip = group.tip;
        let is_full = shared.tail.is_full();
        while is_full && shared.tail.is_pressed() {
            let now = Now { wall_us: env.wall_us(), mono_us: env.mono_us() };
            if flusher.step(now) != Step::Did {
                // Without space to flush, recovery alone may exceed the budget: the journal bounds it.
                break;
            }
        }
        if let Some(poisoned) = shared.poison.first() {
            return Err(OpenError::Poisoned(poisoned));
        }
    }
    assert_eq!(tip.lsn, found.tip.lsn, "replay ends where the scan ended");
    drop(replay);
    shared.tail.set_limit(shared.settings.tail_bytes);
    shared.buffers.release();
    Ok(Tip { file_no: found.tip.file_no, at: found.tip.at, ..tip })
}

/// The tables by name.
fn tables_named(checkpoint: &Checkpoint) -> String {
    match checkpoint.tip.lsn {
        Lsn(0) => "an empty log".to_owned(),
        lsn => format!("{} of frame {lsn}", checkpoint.path()),
    }
}

/// Segments and tail hold each partition up to its end in the tables, and no further. With more, the next appends would
/// be given offsets that are taken; with less, they would leave a gap.
fn held_to_end(shared: &Shared, tables: &str) -> Result<(), OpenError> {
    let applied = shared.applied.read();
    for (lane, state) in shared.tail.lanes().into_iter().filter(|(lane, _)| applied.live_topic(lane.topic).is_some()) {
        let (flushed, held) = {
            let state = state.lock();
            (state.flushed, state.end())
        };
        let end = applied.lanes.get(&lane).map(|lane| lane.end).unwrap_or_default();
        if flushed > end {
            return Err(OpenError::FlushedBeyondEnd { lane, flushed, end });
        }
        if held < end {
            return Err(OpenError::EndBeyondHeld { lane, tables: tables.to_owned(), end, held });
        }
    }
    Ok(())
}

/// A new journal gets its first file here; every later one is made in the background.
fn first_file(shared: &Shared, found: &Found, grow: &mut Grow) -> Result<(), OpenError> {
    if !found.chain.is_empty() {
        return Ok(());
    }
    while !shared.pool.has_free() {
        // A full disk is no reason not to start: reads work, and appends are refused until there is a file.
        if grow.step(Now::default()) != Step::Did {
            break;
        }
    }
    match shared.poison.first() {
        Some(poisoned) => Err(OpenError::Poisoned(poisoned)),
        None => Ok(()),
    }
}

/// Where the group write goes on.
fn resume(shared: &Shared, found: &Found, tip: Tip) -> Result<Resume, OpenError> {
    let Some(last) = found.chain.last() else { return Ok(Resume { tip, file: None }) };
    let path = last.slot.path();
    let file = shared.disk.open(&path, Mode::Write, true).map_err(io(format!("opening {path}")))?;
    Ok(Resume { tip, file: Some(GroupFile { file, file_no: last.file_no }) })
}

#[cfg(all(test, feature = "sim"))]
mod tests;
