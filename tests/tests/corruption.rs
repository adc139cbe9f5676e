//! Goal: no damaged byte goes unseen unless it does not matter. Method: a small data directory with a file of every
//! kind is opened once for every single byte of it, with that byte changed. Then either the open is refused, or its
//! report says so, or reads of the records that it belongs to say so, or the byte is of a class that `docs/format.md`
//! lists as harmless; and in every case all records that are read are right, and none is silently missing.
//!
//! Of the two classes that are nothing but room taken ahead, `segment-behind-end` and `segment-unlisted`, every 16th
//! byte is changed alone; `TILLROLL_ALL_BYTES=1` takes each. Every span that may stay unseen is also changed as a
//! whole. `TILLROLL_FILE` and `TILLROLL_BYTE` visit one file or one byte, `TILLROLL_SEED` makes another directory.

#[path = "corruption/directory.rs"]
mod directory;
#[path = "corruption/layout.rs"]
mod layout;

use std::{
    collections::BTreeMap,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
};

use directory::{Directory, small};
use layout::{CLASSES, Outcome, Span};
use tillroll_engine::{
    disk::sim::{Crash, SimDisk},
    open::OpenError,
};
use tillroll_tests::world::World;

/// After damage that is harmless, the log is also run on and opened again at each so many bytes.
const REOPEN_EVERY: usize = 97;
/// The retry of the producer's last append is tried after each byte; of bytes that nobody reads, after one in so many.
const RETRY_EVERY: usize = 7;
/// Of room taken ahead, one byte in so many is changed alone.
const ROOM_STEP: usize = 16;

/// Bytes to be changed together: one, or a whole span.
struct Point<'a> {
    path: &'a str,
    bytes: Range<usize>,
    span: &'a Span,
}

/// What happened per class: bytes visited, and per outcome.
type Counts = BTreeMap<&'static str, BTreeMap<Outcome, u64>>;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|number| number.parse().ok())
}

/// The bits that are changed: single ones and several, never none.
fn mask(at: usize) -> u8 {
    [0x01, 0xff, 0x80, 0x10, 0x02, 0x55, 0x40, 0x08, 0x20, 0x04, 0xaa][at % 11]
}

/// Opens the directory with one byte changed and says what came of it.
fn visit(whole: &Directory, base: &SimDisk, point: &Point<'_>, seed: u64) -> Result<Outcome, String> {
    let disk = base.snapshot();
    point.bytes.clone().for_each(|at| disk.flip(point.path, at as u64, mask(at)));
    let span = point.span;
    let mut world = match World::open(&disk, small(), seed) {
        Ok(world) => world,
        Err(error) => return refused(&error, span),
    };
    if let Some((lane, loses)) = &span.loses {
        // Nothing but this lane's records is in the file.
        let lost = whole.check(&world.engine, *lane)?;
        let wanted: Vec<_> = if span.class.is_harmless() { Vec::new() } else { vec![loses.clone()] };
        if lost != wanted {
            return Err(format!("offsets {lost:?} cannot be read, the byte belongs to {wanted:?}"));
        }
        return Ok(if lost.is_empty() { said(&world) } else { Outcome::Damaged });
    }
    check_all(whole, &world)?;
    let outcome = said(&world);
    if !span.class.is_unread() || point.bytes.start.is_multiple_of(RETRY_EVERY) || point.bytes.len() > 1 {
        whole.retry(&mut world)?;
    }
    if point.bytes.start.is_multiple_of(REOPEN_EVERY) || point.bytes.len() > 1 {
        world.driver.settle(100_000);
        check_all(whole, &world)?;
        disk.crash(Crash::Power);
        let world = World::open(&disk, small(), seed ^ 1).map_err(|error| format!("the second open: {error}"))?;
        check_all(whole, &world)?;
    }
    Ok(outcome)
}

fn check_all(whole: &Directory, world: &World) -> Result<(), String> {
    let group = world.engine.group(&whole.group.name).map_err(|refusal| refusal.to_string())?;
    if *group != whole.group {
        return Err(format!("the group was {:?} and is {group:?}", whole.group));
    }
    for lane in whole.lanes.keys() {
        let lost = whole.check(&world.engine, *lane)?;
        if !lost.is_empty() {
            return Err(format!("lane {lane}: {lost:?} cannot be read"));
        }
    }
    Ok(())
}

/// Whether the report of the open says something.
fn said(world: &World) -> Outcome {
    let report = &world.report;
    let spoke = !report.findings.is_empty() || report.dropped_bytes > 0;
    if spoke { Outcome::Reported } else { Outcome::Silent }
}

/// A refusal counts when it names the damage.
fn refused(error: &OpenError, span: &Span) -> Result<Outcome, String> {
    match (error, span.lsn) {
        (OpenError::Rotten { from, to }, Some(lsn)) if !(from.0..=to.0).contains(&lsn) => {
            Err(format!("frame {lsn} is damaged, the refusal names {from} to {to}"))
        }
        (
            OpenError::Rotten { .. }
            | OpenError::Control { .. }
            | OpenError::Tables { .. }
            | OpenError::TablesDamaged { .. },
            _,
        ) => Ok(Outcome::Refused),
        _ => Err(format!("refused for another reason: {error}")),
    }
}

/// One byte, with everything that may go wrong told with its place.
fn visit_told(whole: &Directory, base: &SimDisk, point: &Point<'_>, seed: u64) -> Outcome {
    let class = point.span.class;
    let visited = catch_unwind(AssertUnwindSafe(|| visit(whole, base, point, seed)));
    let broken = match visited {
        Ok(Ok(outcome)) if class.may.contains(&outcome) => return outcome,
        Ok(Ok(outcome)) => format!("{outcome:?} is none of {:?}", class.may),
        Ok(Err(broken)) => broken,
        Err(_) => "a panic".to_owned(),
    };
    let Point { path, bytes, .. } = point;
    let replay = format!("TILLROLL_SEED={seed} TILLROLL_FILE={path} TILLROLL_BYTE={}", bytes.start);
    panic!("{broken}\n  class {}, bytes {bytes:?}, {replay}", class.name);
}

/// Visits all points, on two threads.
fn visit_all(whole: &Directory, points: &[Point<'_>], seed: u64) -> Counts {
    let next = AtomicUsize::new(0);
    let work = || {
        // A disk of one's own, so that the threads do not wait for each other.
        let base = whole.disk.snapshot();
        let mut counts = Counts::new();
        while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = visit_told(whole, &base, point, seed);
            *counts.entry(point.span.class.name).or_default().entry(outcome).or_default() += 1;
        }
        counts
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut counts = work();
        for (class, outcomes) in other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            let sum = counts.entry(class).or_default();
            for (outcome, count) in outcomes {
                *sum.entry(outcome).or_default() += count;
            }
        }
        counts
    })
}

/// All bytes to be visited: one by one, and whole spans of those that nobody needs.
fn points(files: &BTreeMap<String, Vec<Span>>) -> Vec<Point<'_>> {
    let (only, byte) = (std::env::var("TILLROLL_FILE").ok(), number("TILLROLL_BYTE"));
    let step = |span: &Span| if span.class.is_room() && number("TILLROLL_ALL_BYTES").is_none() { ROOM_STEP } else { 1 };
    let mut points = Vec::new();
    for (path, span) in files.iter().flat_map(|(path, spans)| spans.iter().map(move |span| (path, span))) {
        if only.as_ref().is_some_and(|only| only != path) {
            continue;
        }
        if span.class.is_unread() && byte.is_none() {
            points.push(Point { path, bytes: span.range.clone(), span });
        }
        let step = if byte.is_some() { 1 } else { step(span) };
        let places = span.range.clone().step_by(step).filter(|at| byte.is_none_or(|byte| byte == *at as u64));
        points.extend(places.map(|at| Point { path, bytes: at..at + 1, span }));
    }
    points
}

#[test]
fn every_damaged_byte_is_seen_or_harmless() {
    let seed = number("TILLROLL_SEED").unwrap_or(11);
    let whole = directory::make(seed);
    let files = layout::files(&whole.disk);
    let points = points(&files);
    let counts = visit_all(&whole, &points, seed);
    let bytes: usize = files.values().flatten().map(|span| span.range.len()).sum();
    println!("{} visits, {} files of {bytes} bytes, seed {seed}", points.len(), files.len());
    for (class, outcomes) in &counts {
        println!("  {class:<26} {:>7} visits {outcomes:?}", outcomes.values().sum::<u64>());
    }
    if std::env::var_os("TILLROLL_FILE").is_none() && number("TILLROLL_BYTE").is_none() {
        for class in CLASSES {
            assert!(counts.contains_key(class.name), "no byte of class {}", class.name);
        }
    }
}

/// A checker that cannot find anything proves nothing: it is shown a log with a wrong record, and one with a hole.
#[test]
fn a_log_that_is_not_what_was_written_is_found() {
    let mut whole = directory::make(12);
    let world = World::open(&whole.disk.snapshot(), small(), 12).expect("it opens");
    let lane = *whole.lanes.keys().next().expect("there are lanes");
    assert_eq!(whole.check(&world.engine, lane), Ok(Vec::new()));
    whole.lanes.get_mut(&lane).expect("it is there").swap(1, 2);
    assert!(whole.check(&world.engine, lane).is_err_and(|broken| broken.contains("offset 1: wrong")));
    whole.lanes.get_mut(&lane).expect("it is there").swap(1, 2);
    let last = whole.lanes[&lane].last().expect("it has records").clone();
    whole.lanes.get_mut(&lane).expect("it is there").push(last);
    assert!(whole.check(&world.engine, lane).is_err_and(|broken| broken.contains("0 damaged of")));
}

#[test]
fn every_harmless_class_is_documented() {
    let text = include_str!("../../docs/format.md");
    let (_, section) = text.split_once("## Bytes whose corruption is harmless").expect("the section is there");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    for class in CLASSES {
        let listed = section.contains(&format!("| `{}` |", class.name));
        assert_eq!(listed, class.is_harmless() || class.may == [Outcome::Reported], "class {}", class.name);
    }
}
