//! Goal: a disk that lies is found out, and what it did is never served as if it were right. Method: one write or sync
//! of a random workload is lost though it said that it was done, or a write goes to another place of its file, or a
//! read fails; the process is killed, the log is opened again, and every record that it gives out is held against what
//! was acked. It may refuse the start or name what is damaged; it may not be wrong, and after a kill nothing that was
//! acked may be missing without a word.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use tillroll_engine::{
    disk::sim::{CallKind, Crash, Fault, SimDisk},
    engine::Engine,
    error::ReadFault,
    id::{Lane, Offset},
    record::RecordSet,
};
use tillroll_tests::{
    dice::Dice,
    ledger::Outcome,
    world::{Workload, World, settings},
};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    /// The fault was not reached, or did not matter.
    Nothing,
    /// Writes were turned off, or a read named damage, while the log ran.
    SeenRunning,
    /// The start was refused.
    Refused,
    /// The start, or a read behind it, named damage.
    Damaged,
}

/// What a partition gives out.
struct Given {
    /// Values by offset; what is damaged is absent.
    values: BTreeMap<u64, Vec<u8>>,
    end: u64,
    is_damaged: bool,
}

fn read(engine: &Engine, lane: Lane) -> Result<Given, String> {
    let (mut next, mut values, mut is_damaged) = (Offset(0), BTreeMap::new(), false);
    loop {
        let answer = match engine.read(lane, next, 64 << 10) {
            Ok(answer) => answer,
            Err(ReadFault::Damaged { from, to, .. }) if from == next && to > from => {
                (next, is_damaged) = (to, true);
                continue;
            }
            Err(fault) => return Err(format!("{lane} at {next}: {fault}")),
        };
        if answer.chunks.is_empty() {
            return Ok(Given { values, end: next.0, is_damaged });
        }
        for chunk in answer.chunks {
            let plain: Bytes = chunk.batch.decode().map_err(|fault| fault.to_string())?;
            for (offset, record) in (chunk.base.0..).zip(RecordSet::new(&plain).iter()) {
                let value = record.map_err(|fault| fault.to_string())?.1.value.to_vec();
                values.insert(offset, value);
            }
            next = chunk.end;
        }
    }
}

/// Holds what is read against what was acked. Whether damage was named.
fn hold(engine: &Engine, workload: &Workload, must_have_all: bool) -> Result<bool, String> {
    let mut is_damaged = false;
    for (topic, partitions) in workload.ledger.topics.values() {
        for partition in (0..*partitions).map(tillroll_engine::id::Partition) {
            let lane = Lane { topic: *topic, partition };
            let given = read(engine, lane)?;
            is_damaged |= given.is_damaged;
            for entry in &workload.ledger.entries {
                let Outcome::Acked(appended) = &entry.outcome else { continue };
                for (part, batch) in entry.parts.iter().zip(&appended.batches).filter(|(_, batch)| batch.lane == lane) {
                    for (offset, value) in (batch.base.0..).zip(&part.values) {
                        match given.values.get(&offset) {
                            Some(found) if found != value => return Err(format!("{lane} at {offset}: another record")),
                            None if must_have_all && offset >= given.end => {
                                return Err(format!("{lane} at {offset}: acked, and gone without a word"));
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
    }
    Ok(is_damaged)
}

fn run(seed: u64, fault: Fault, kind: CallKind, crash: Crash) -> Result<Came, String> {
    let (disk, mut dice) = (SimDisk::new(seed), Dice::new(seed));
    disk.set_direct(seed.is_multiple_of(2));
    let mut workload = Workload::new(seed);
    let mut world = World::open(&disk, settings(), seed).map_err(|error| error.to_string())?;
    workload.prepare(&mut world).ok_or("it was not prepared")?;
    disk.fail_at_kind(kind, dice.between(1, 120), fault);
    let operations = usize::try_from(dice.between(20, 150)).expect("small");
    let ran = catch_unwind(AssertUnwindSafe(|| workload.run(&mut world, operations)));
    let mut came = Came::Nothing;
    match ran.map_err(|_| "a panic while it ran".to_owned())? {
        Err(broken) if !broken.contains("damaged") => return Err(broken),
        Err(_) => came = Came::SeenRunning,
        Ok(()) if world.engine.is_poisoned() => came = Came::SeenRunning,
        Ok(()) => {}
    }
    workload.ledger.crash();
    disk.crash(crash);
    let opened = catch_unwind(AssertUnwindSafe(|| World::open(&disk, settings(), seed ^ 1)));
    let Ok(world) = opened.map_err(|_| "a panic while it opened".to_owned())? else { return Ok(Came::Refused) };
    let said = world.report.dropped_bytes > 0 || !world.report.findings.is_empty();
    let must_have_all = crash == Crash::Kill && !said;
    let is_damaged = hold(&world.engine, &workload, must_have_all)?;
    Ok(if is_damaged || said { came.max(Came::Damaged) } else { came })
}

#[test]
fn lost_and_misplaced_writes_are_found_out_and_never_served() {
    let mut counts: BTreeMap<Came, u32> = BTreeMap::new();
    let faults = [(Fault::Lost, CallKind::Write), (Fault::Misplaced, CallKind::Write), (Fault::Lost, CallKind::Sync)];
    for seed in 0..720 {
        let (fault, kind) = faults[usize::try_from(seed % 3).expect("small")];
        let crash = if seed % 2 == 0 { Crash::Kill } else { Crash::Power };
        let came = run(seed, fault, kind, crash);
        let came = came.unwrap_or_else(|broken| panic!("{broken}\n  {fault:?} {kind} {crash:?} seed={seed}"));
        *counts.entry(came).or_default() += 1;
    }
    println!("{counts:?}");
    for came in [Came::Refused, Came::Damaged] {
        assert!(counts.get(&came).is_some_and(|count| *count >= 10), "{counts:?}");
    }
}

#[test]
fn a_read_that_fails_is_an_error_and_never_a_record_or_a_hole() {
    let disk = SimDisk::new(5);
    let mut workload = Workload::new(5);
    let mut world = World::open(&disk, settings(), 5).expect("it opens");
    workload.prepare(&mut world).expect("it is prepared");
    workload.run(&mut world, 150).expect("nothing is wrong");
    workload.ledger.crash();
    disk.crash(Crash::Kill);
    disk.set_short_reads(4);
    let measured = disk.snapshot();
    let world = World::open(&measured, settings(), 6).expect("it opens");
    assert!(!hold(&world.engine, &workload, true).expect("all of it is there"));
    let mut failed = 0;
    for nth in 1..=measured.reads() {
        let disk = disk.snapshot();
        disk.set_short_reads(4);
        disk.fail_read_at(nth);
        let opened = catch_unwind(AssertUnwindSafe(|| World::open(&disk, settings(), 6)));
        let Ok(world) = opened.unwrap_or_else(|_| panic!("a panic at read {nth}")) else {
            failed += 1;
            continue;
        };
        match hold(&world.engine, &workload, true) {
            Ok(is_damaged) => assert!(!is_damaged, "read {nth}: nothing is damaged"),
            Err(fault) if fault.contains("another record") || fault.contains("gone without") => {
                panic!("{fault}, read {nth}")
            }
            Err(_) => failed += 1,
        }
        // The next try finds everything.
        assert!(!hold(&world.engine, &workload, true).unwrap_or_else(|broken| panic!("{broken}, read {nth}")));
    }
    assert!(failed > 20, "only {failed} reads failed where it shows");
}
