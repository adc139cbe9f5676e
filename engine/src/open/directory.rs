//! The directory itself: made when it is new, and held against what the tables list.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use crate::{
    disk::{self, Disk, Mode},
    env::Env,
    flush::ballast::BALLAST_PATH,
    id::{Incarnation, Lane, Lsn, SegmentId, TopicId, Uid},
    journal::{
        control::{CONTROL_PATH, Control, ControlFault, WATERMARK_PATH, Watermark},
        pool::{JOURNAL_DIR, Slot},
    },
    limits::ALIGN,
    open::{
        error::{OpenError, io},
        leftover::{self, Known},
    },
    segment::name::{self, DATA_DIR, Name, Part},
    table::{
        file::PATHS,
        row::{LaneRow, TopicRow},
    },
};

/// Where things are put that nobody asked for and nobody may lose.
pub(super) const QUARANTINE_DIR: &str = "quarantine";
/// What the name of a file begins with that was moved out of the way within its directory.
const QUARANTINED: &str = "quarantined-";
const CONTROL_NEW_PATH: &str = "control.new";
/// Files of a data directory, tables apart; what a new file system holds; and the lock of earlier versions.
const ROOT_NAMES: [&str; 6] = [CONTROL_PATH, CONTROL_NEW_PATH, WATERMARK_PATH, BALLAST_PATH, "lost+found", "lock"];
/// Foreign files that are named one by one.
const FOREIGN_NAMED_MAX: usize = 20;

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
/// A listed segment that is missing is damage of its range and found out by whoever reads it. A segment that is not
/// listed is removed when replay brings all of it again ([`leftover`]), and put into quarantine otherwise. Names that
/// are not of a log are reported and left alone.
pub(super) fn compare(
    disk: &dyn Disk,
    topics: &BTreeMap<TopicId, TopicRow>,
    lanes: &[LaneRow],
    known: &Known,
    incarnation: Incarnation,
) -> Result<Listing, OpenError> {
    let (mut findings, mut lost) = (Vec::new(), BTreeSet::new());
    // A deleted topic's files go with the next checkpoint, or are gone already: nobody will read them.
    let is_deleted = |topic| topics.get(&topic).is_some_and(|row: &TopicRow| row.deleted.is_some());
    let mut foreign = foreign_in_root(disk)?;
    let on_disk = files_of_lanes(disk, &is_deleted, &mut foreign)?;
    let rows: BTreeMap<Lane, &LaneRow> = lanes.iter().map(|row| (row.lane, row)).collect();
    for (lane, row) in rows.iter().filter(|(lane, _)| !is_deleted(lane.topic)) {
        let files = on_disk.get(lane).map(Vec::as_slice).unwrap_or_default();
        for (segment, finding) in missing(row, files) {
            lost.insert(segment);
            findings.push(finding);
        }
    }
    for (lane, files) in &on_disk {
        let dir = name::lane_dir(*lane);
        let mut unlisted = Vec::new();
        for file in files {
            match Name::parse_file(*lane, &file.name) {
                Some(name) if rows.get(lane).is_none_or(|row| !lists(row, &name)) => unlisted.push((name, file.is_dir)),
                Some(_) => {}
                None if file.name.starts_with(QUARANTINED) => {}
                None => foreign.push(format!("{dir}/{}", file.name)),
            }
        }
        findings.extend(clear(disk, &unlisted, known, incarnation)?);
    }
    findings.extend(named(&foreign));
    Ok(Listing { findings, lost })
}

fn lists(row: &LaneRow, name: &Name) -> bool {
    row.segments.iter().any(|segment| segment.base == name.base && segment.generation == name.generation)
}

/// The files in the directories of all lanes whose topic is not deleted.
fn files_of_lanes(
    disk: &dyn Disk,
    is_deleted: &dyn Fn(TopicId) -> bool,
    foreign: &mut Vec<String>,
) -> Result<BTreeMap<Lane, Vec<disk::Entry>>, OpenError> {
    let mut files = BTreeMap::new();
    for topic in list(disk, DATA_DIR)? {
        let path = format!("{DATA_DIR}/{}", topic.name);
        let Some(id) = name::parse_topic(&topic.name) else {
            foreign.push(path);
            continue;
        };
        if is_deleted(id) {
            continue;
        }
        check_dir(&topic, &path)?;
        for lane in list(disk, &path)? {
            let path = format!("{path}/{}", lane.name);
            let Some(partition) = name::parse_partition(&lane.name) else {
                foreign.push(path);
                continue;
            };
            check_dir(&lane, &path)?;
            files.insert(Lane { topic: id, partition }, list(disk, &path)?);
        }
    }
    Ok(files)
}

fn check_dir(entry: &disk::Entry, path: &str) -> Result<(), OpenError> {
    if entry.is_dir { Ok(()) } else { Err(OpenError::NotADirectory { path: path.to_owned() }) }
}

/// Removes the unlisted files of one lane that replay brings again, and renames the others.
fn clear(
    disk: &dyn Disk,
    unlisted: &[(Name, bool)],
    known: &Known,
    incarnation: Incarnation,
) -> Result<Vec<String>, OpenError> {
    let mut findings = Vec::new();
    let mut removed = None;
    let mut kept_segments = BTreeSet::new();
    // Segments before their indexes, which go the same way.
    let logs = unlisted.iter().filter(|(name, _)| name.part == Part::Log);
    for (name, is_dir) in logs.chain(unlisted.iter().filter(|(name, _)| name.part == Part::Index)) {
        let path = name.path();
        let why = match name.part {
            _ if *is_dir => Some("it is a directory".to_owned()),
            Part::Log => {
                let reading = |action: &str| io(format!("{action} {path}, which no table lists"));
                let file = disk.open(&path, Mode::Read, false).map_err(reading("opening"))?;
                let kept = leftover::kept(&*file, name.lane, known).map_err(reading("reading"))?;
                kept.map(|kept| kept.to_string())
            }
            Part::Index => {
                let is_kept = kept_segments.contains(&(name.base, name.generation));
                is_kept.then(|| "it belongs to a segment that is kept".to_owned())
            }
        };
        if let Some(why) = why {
            kept_segments.insert((name.base, name.generation));
            findings.push(quarantine(disk, name, &why, incarnation)?);
        } else {
            disk.remove(&path).map_err(io(format!("removing {path}")))?;
            removed = Some(name.lane);
        }
    }
    if let Some(lane) = removed {
        // Replay may cut segments elsewhere: back after a power cut, the file would lie below what is flushed then.
        let dir = name::lane_dir(lane);
        disk.sync_dir(&dir).map_err(io(format!("syncing {dir}")))?;
    }
    Ok(findings)
}

/// Names in the data directory and in the journal's that are not of a log.
fn foreign_in_root(disk: &dyn Disk) -> Result<Vec<String>, OpenError> {
    let mut foreign = Vec::new();
    for entry in list(disk, "")? {
        let name = entry.name.as_str();
        if [JOURNAL_DIR, DATA_DIR, QUARANTINE_DIR].contains(&name) {
            check_dir(&entry, name)?;
        } else if !ROOT_NAMES.contains(&name) && !PATHS.contains(&name) {
            foreign.push(entry.name);
        }
    }
    let is_ours = |name: &str| Slot::from_name(name).is_some() || name.starts_with(QUARANTINED);
    let journal = list(disk, JOURNAL_DIR)?.into_iter().filter(|entry| !is_ours(&entry.name));
    foreign.extend(journal.map(|entry| format!("{JOURNAL_DIR}/{}", entry.name)));
    Ok(foreign)
}

/// Names foreign files, a bounded number of them.
fn named(foreign: &[String]) -> Vec<String> {
    let named = foreign.iter().take(FOREIGN_NAMED_MAX);
    let mut findings: Vec<_> = named.map(|path| format!("{path} is not a file of the log; it is left alone")).collect();
    if foreign.len() > FOREIGN_NAMED_MAX {
        let more = foreign.len() - FOREIGN_NAMED_MAX;
        findings.push(format!("{more} more files are not of the log; they are left alone"));
    }
    findings
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
fn quarantine(disk: &dyn Disk, name: &Name, why: &str, incarnation: Incarnation) -> Result<String, OpenError> {
    let path = name.path();
    // A rename stays within its directory; a name that is no segment's is never looked at again.
    let target = format!("{}/{QUARANTINED}{}-{}", name::lane_dir(name.lane), incarnation, name.file());
    disk.rename(&path, &target).map_err(io(format!("moving {path}")))?;
    Ok(format!("{path} is listed nowhere and was renamed to {target}: {why}"))
}

/// Moves a file that has the name of a journal's slot out of the way, so that nobody fills it. Returns what was found,
/// in words, and where it is now.
pub(super) fn set_aside(
    disk: &dyn Disk,
    slot: Slot,
    why: &str,
    incarnation: Incarnation,
) -> Result<(String, String), OpenError> {
    let (path, target) = (slot.path(), format!("{JOURNAL_DIR}/{QUARANTINED}{incarnation}-{}", slot.name()));
    disk.rename(&path, &target).map_err(io(format!("moving {path}")))?;
    disk.sync_dir(JOURNAL_DIR).map_err(io(format!("syncing {JOURNAL_DIR}")))?;
    Ok((format!("{path} is not used and was renamed to {target}: {why}"), target))
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
