//! The directory itself: made when it is new, and held against what the tables list.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use crate::{
    disk::{self, Disk, Mode},
    env::Env,
    id::{Incarnation, Lane, Lsn, Offset, SegmentId, Uid},
    journal::{
        control::{CONTROL_PATH, Control, ControlFault, WATERMARK_PATH, Watermark},
        pool::{JOURNAL_DIR, Slot},
    },
    limits::ALIGN,
    open::error::{OpenError, io},
    segment::name::{self, DATA_DIR, Name, Part},
    table::{
        file::PATHS,
        row::{LaneRow, TopicRow},
    },
};

/// Where things are put that nobody asked for and nobody may lose.
pub(super) const QUARANTINE_DIR: &str = "quarantine";
const CONTROL_NEW_PATH: &str = "control.new";

/// Reads `control`, making the directory when it is new. The flag: one of its slots is damaged.
pub(super) fn control(disk: &dyn Disk, env: &dyn Env) -> Result<(Control, bool), OpenError> {
    disk.sync_dir("").map_err(io("syncing the data directory"))?;
    let names = disk.list("").map_err(io("listing the data directory"))?;
    if !names.iter().any(|entry| entry.name == CONTROL_PATH) {
        make(disk, env)?;
    }
    let file = disk::open_cold(disk, CONTROL_PATH, Mode::Write, false).map_err(io("opening control"))?;
    let mut bytes = [0; 2 * ALIGN];
    let count = disk::read_full_at(&*file, &mut bytes, 0).map_err(io("reading control"))?;
    Control::read(&bytes[..count]).map_err(|fault| match fault {
        ControlFault::Newer { .. } => OpenError::Newer { what: fault.to_string() },
        ControlFault::BothDamaged => OpenError::Control { fault },
    })
}

/// Makes a data directory. `control` comes last and by a rename, so that a crash on the way leaves a directory that
/// is still new.
fn make(disk: &dyn Disk, env: &dyn Env) -> Result<(), OpenError> {
    if let Some(found) = remains(disk)? {
        return Err(OpenError::ControlMissing { found });
    }
    if let Some(found) = disk.list("").map_err(io("listing the data directory"))?.into_iter().find(is_foreign) {
        return Err(OpenError::NotEmpty { found: found.name });
    }
    let act = |what: &str| io(format!("making the data directory ({what})"));
    disk.create_dir(JOURNAL_DIR).map_err(act(JOURNAL_DIR))?;
    disk.create_dir(DATA_DIR).map_err(act(DATA_DIR))?;
    Watermark::open(disk).map_err(act("watermark"))?;
    match disk.remove(CONTROL_NEW_PATH) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(act(CONTROL_NEW_PATH)(error)),
        _ => {}
    }
    let (mut cluster, mut node) = (Uid::default(), Uid::default());
    env.fill(&mut cluster.0);
    env.fill(&mut node.0);
    let mut control = Control { cluster, node, shard_count: 1, incarnation: Incarnation(0), ..Control::default() };
    let file = disk.open(CONTROL_NEW_PATH, Mode::Create, false).map_err(act(CONTROL_NEW_PATH))?;
    file.allocate(0, 2 * ALIGN as u64).map_err(act(CONTROL_NEW_PATH))?;
    control.write_next(&*file).map_err(act(CONTROL_NEW_PATH))?;
    disk.rename(CONTROL_NEW_PATH, CONTROL_PATH).map_err(act(CONTROL_PATH))?;
    disk.sync_dir("").map_err(act("its names"))
}

/// Something that neither a making that was interrupted leaves nor a new file system.
fn is_foreign(entry: &disk::Entry) -> bool {
    !["lost+found", JOURNAL_DIR, DATA_DIR, WATERMARK_PATH, CONTROL_NEW_PATH].contains(&entry.name.as_str())
}

/// What of a log is there without a `control`.
fn remains(disk: &dyn Disk) -> Result<Option<String>, OpenError> {
    let listed = |dir: &str| match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(io(format!("listing {dir}"))),
    };
    let tables = listed("")?.into_iter().find(|entry| PATHS.contains(&entry.name.as_str()));
    let data = listed(DATA_DIR)?.into_iter().next();
    let journal = listed(JOURNAL_DIR)?.into_iter().find(|entry| Slot::from_name(&entry.name).is_some());
    let named = |dir: &'static str| move |entry: disk::Entry| format!("{dir}/{}", entry.name);
    Ok(tables.map(|entry| entry.name).or(data.map(named(DATA_DIR))).or(journal.map(named(JOURNAL_DIR))))
}

/// What the files below `data/` are, held against the tables.
#[derive(Debug)]
pub(super) struct Listing {
    /// What was found, in words.
    pub(super) findings: Vec<String>,
    /// Listed segments whose file is missing or too short: nothing is appended to them.
    pub(super) lost: BTreeSet<SegmentId>,
}

/// Holds the files of all lanes against what the tables list.
///
/// A listed segment that is missing is damage of its range and found out by whoever reads it. A file that is not
/// listed was made behind the checkpoint when it begins at or after what the lane has flushed: all of it comes from
/// frames that replay brings again, so it may go. Any other file is put into quarantine, never removed.
pub(super) fn compare(
    disk: &dyn Disk,
    topics: &BTreeMap<crate::id::TopicId, TopicRow>,
    lanes: &[LaneRow],
    incarnation: Incarnation,
) -> Result<Listing, OpenError> {
    let (mut findings, mut lost) = (Vec::new(), BTreeSet::new());
    let rows: BTreeMap<Lane, &LaneRow> = lanes.iter().map(|row| (row.lane, row)).collect();
    let mut on_disk: BTreeMap<Lane, Vec<disk::Entry>> = BTreeMap::new();
    // A deleted topic's files go with the next checkpoint, or are gone already: nobody will read them.
    let is_deleted = |topic| topics.get(&topic).is_some_and(|row: &TopicRow| row.deleted.is_some());
    for topic in list(disk, DATA_DIR)? {
        let Some(id) = name::parse_topic(&topic.name) else { continue };
        if is_deleted(id) {
            continue;
        }
        for lane in list(disk, &name::topic_dir(id))? {
            let Some(partition) = name::parse_partition(&lane.name) else { continue };
            let lane = Lane { topic: id, partition };
            on_disk.insert(lane, list(disk, &name::lane_dir(lane))?);
        }
    }
    for (lane, row) in rows.iter().filter(|(lane, _)| !is_deleted(lane.topic)) {
        let files = on_disk.get(lane).map(Vec::as_slice).unwrap_or_default();
        for (segment, finding) in missing(row, files) {
            lost.insert(segment);
            findings.push(finding);
        }
    }
    for (lane, files) in &on_disk {
        let row = rows.get(lane);
        let flushed = row.map_or(Offset(0), |row| row.flushed);
        let mut has_removed = false;
        for file in files {
            let Some(name) = Name::parse_file(*lane, &file.name) else { continue };
            let is_listed = row.is_some_and(|row| {
                row.segments.iter().any(|segment| segment.base == name.base && segment.generation == name.generation)
            });
            if is_listed {
                continue;
            }
            if name.base >= flushed {
                disk.remove(&name.path()).map_err(io(format!("removing {}", name.path())))?;
                has_removed = true;
            } else {
                findings.push(quarantine(disk, &name, incarnation)?);
            }
        }
        if has_removed {
            // Replay may cut segments elsewhere: back after a power cut, the file would lie below what is flushed then.
            let dir = name::lane_dir(*lane);
            disk.sync_dir(&dir).map_err(io(format!("syncing {dir}")))?;
        }
    }
    Ok(Listing { findings, lost })
}

fn list(disk: &dyn Disk, dir: &str) -> Result<Vec<disk::Entry>, OpenError> {
    match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(io(format!("listing {dir}"))),
    }
}

fn missing(row: &LaneRow, files: &[disk::Entry]) -> Vec<(SegmentId, String)> {
    let short = row.segments.iter().filter_map(|segment| {
        let name = Name { lane: row.lane, base: segment.base, generation: segment.generation, part: Part::Log };
        let found = files.iter().find(|file| file.name == name.file());
        let what = match found {
            None => "is missing",
            Some(file) if file.bytes < segment.bytes => "is shorter than its data",
            Some(_) => return None,
        };
        let finding = format!(
            "segment {} {what}: offsets {} to {} cannot be read; put the file back from a copy, or read on from {}",
            name.path(),
            segment.base,
            segment.end.get() - 1,
            segment.end
        );
        Some((segment.id, finding))
    });
    short.collect()
}

/// Moves a file that no table lists out of the way, under a name that says where it was.
fn quarantine(disk: &dyn Disk, name: &Name, incarnation: Incarnation) -> Result<String, OpenError> {
    let path = name.path();
    // A rename stays within its directory; a name that is no segment's is never looked at again.
    let target = format!("{}/quarantined-{}-{}", name::lane_dir(name.lane), incarnation, name.file());
    disk.rename(&path, &target).map_err(io(format!("moving {path}")))?;
    Ok(format!("{path} is listed nowhere and was renamed to {target}"))
}

/// Copies dropped bytes aside, when there is space for it.
pub(super) fn keep_dropped(
    disk: &dyn Disk,
    slot: Slot,
    at: u64,
    bytes: &[u8],
    incarnation: Incarnation,
    last: Lsn,
) -> Option<String> {
    let path = format!("{QUARANTINE_DIR}/journal-{incarnation}-after-{last}-slot-{}-at-{at}", slot.0);
    let copy = || {
        disk.create_dir(QUARANTINE_DIR)?;
        let file = match disk.open(&path, Mode::Create, false) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(&path, Mode::Write, false)?,
            other => other?,
        };
        file.allocate(0, bytes.len() as u64)?;
        disk::write_all_at(&*file, bytes, 0)?;
        file.sync()?;
        disk.sync_dir(QUARANTINE_DIR)?;
        disk.sync_dir("")
    };
    // The copy is a courtesy: a full disk must not stop a restart.
    copy().ok().map(|()| path)
}
