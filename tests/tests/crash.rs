//! Goal: no crash, at whatever call on the disk, breaks a promise (P1–P5, P8). Method: a scripted workload is run once
//! for every changing call that it makes, and that call is the last one; the log is opened on what survived, checked,
//! crashed again during that recovery, opened and checked again. Then the same with every call failing in turn.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tillroll_engine::{
    disk::sim::{CallKind, Crash, Fault, SimDisk},
    open::OpenReport,
};
use tillroll_tests::{
    dice::Dice,
    ledger::Broken,
    world::{Workload, World, settings},
};

/// Operations of the scripted workload.
const OPERATIONS: usize = 260;

/// Runs the workload on a new disk under `plan`; the disk may be dead afterwards.
fn run(seed: u64, operations: usize, plan: impl FnOnce(&SimDisk)) -> Result<(SimDisk, Workload), Broken> {
    let disk = SimDisk::new(seed);
    plan(&disk);
    let mut workload = Workload::new(seed);
    if let Ok(mut world) = World::open(&disk, settings(), seed) {
        if workload.prepare(&mut world).is_some() {
            workload.run(&mut world, operations)?;
        }
        world.driver.steps(500);
        if let Some(poisoned) = world.engine.status().poisoned.filter(|_| disk.faults() == 0 && !disk.is_dead()) {
            return Err(format!("poisoned without a fault: {poisoned}"));
        }
        if world.engine.is_poisoned() && !disk.is_dead() {
            // Writes are off, reads go on.
            workload.ledger.collect();
            workload.ledger.check(&world.engine).map_err(|broken| format!("P9 reads of a poisoned log: {broken}"))?;
        }
        workload.ledger.crash();
    }
    Ok((disk, workload))
}

/// A crash leaves torn ends, and nothing that only damage leaves.
fn quiet(report: &OpenReport) -> Result<(), Broken> {
    let torn = ["is not believed", "one slot of control", "it holds no whole block", "it holds no frame"];
    let is_torn = |finding: &&String| torn.iter().any(|text| finding.contains(text));
    match report.findings.iter().find(|finding| !is_torn(finding)) {
        Some(finding) => Err(format!("P8 a crash left what only damage leaves: {finding}")),
        None => Ok(()),
    }
}

/// Opens what survived, checks it, and lets it work on a little.
fn reopen(disk: &SimDisk, workload: &mut Workload, seed: u64) -> Result<(), Broken> {
    // What an assertion says of it is printed; that it came to one is the broken promise.
    let opened = catch_unwind(AssertUnwindSafe(|| World::open(disk, settings(), seed)));
    let opened = opened.map_err(|_| "P8 it does not open: a panic".to_owned())?;
    let mut world = opened.map_err(|error| format!("P8 it does not open: {error}"))?;
    quiet(&world.report)?;
    workload.after_crash(&mut world)?;
    workload.run(&mut world, 6)?;
    world.driver.settle(100_000);
    workload.ledger.collect();
    workload.ledger.check(&world.engine)?;
    workload.ledger.crash();
    Ok(())
}

/// One crash at one call, a second one during the recovery, and a power cut after reading.
fn crash_at(seed: u64, operations: usize, nth: u64, crash: Crash) -> Result<Option<CallKind>, Broken> {
    let (disk, mut workload) = run(seed, operations, |disk| disk.crash_at(nth, crash))?;
    if !disk.is_dead() {
        return Ok(None);
    }
    let kind = disk.last_call().map(|call| call.kind);
    disk.reseed(seed ^ nth);
    // Recovery itself is crashed at a call that moves with the point, then run through.
    let before = disk.changes();
    let measured = disk.snapshot();
    drop(World::open(&measured, settings(), seed));
    let calls = measured.changes().max(1);
    let second = if nth.is_multiple_of(2) { Crash::Power } else { Crash::Kill };
    disk.crash_at(1 + nth % calls, second);
    if World::open(&disk, settings(), seed).is_ok() && !disk.is_dead() {
        disk.crash(second);
    }
    assert!(disk.changes() >= before, "calls are counted over crashes");
    reopen(&disk, &mut workload, seed ^ 1)?;
    // What was shown after a kill must survive a power cut.
    disk.crash(Crash::Power);
    reopen(&disk, &mut workload, seed ^ 2)?;
    Ok(kind)
}

/// One call that fails, then a crash.
fn fail_at(seed: u64, nth: u64, fault: Fault, kind: Option<CallKind>) -> Result<Option<CallKind>, Broken> {
    let (disk, mut workload) = run(seed, OPERATIONS, |disk| match kind {
        Some(kind) => disk.fail_at_kind(kind, nth, fault),
        None => disk.fail_at(nth, fault),
    })?;
    // Only a write can be short.
    if disk.faults() == 0 {
        return Ok(None);
    }
    let struck = disk.calls().into_iter().nth(usize::try_from(nth - 1).expect("small")).map(|call| call.kind);
    disk.reseed(seed ^ nth);
    disk.crash(if nth.is_multiple_of(2) { Crash::Power } else { Crash::Kill });
    reopen(&disk, &mut workload, seed ^ 1)?;
    disk.crash(Crash::Power);
    reopen(&disk, &mut workload, seed ^ 2)?;
    Ok(kind.or(struck))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|number| number.parse().ok())
}

/// The seed of the scripted workload; `TILLROLL_SEED` gives another.
fn seed() -> u64 {
    number("TILLROLL_SEED").unwrap_or(7)
}

/// How often the scripted workload changes the disk when nothing goes wrong.
fn calls(seed: u64) -> u64 {
    let (disk, mut workload) = run(seed, OPERATIONS, |_| {}).expect("without a crash nothing breaks");
    let total = disk.changes();
    reopen(&disk, &mut workload, seed).expect("without a crash nothing breaks");
    total
}

type Visited = BTreeMap<CallKind, u64>;

/// Set by the first broken promise: the other points of this run would only hide it.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Visits all points, on two threads.
fn visit<P: Copy + std::fmt::Debug + Sync>(
    what: &str,
    points: &[P],
    one: impl Fn(P) -> Result<Option<CallKind>, Broken> + Sync,
) -> Visited {
    let half = |parity: usize| {
        let mut visited = Visited::new();
        for (_, point) in points.iter().enumerate().filter(|(number, _)| number % 2 == parity) {
            if BROKEN.load(Ordering::Relaxed) {
                break;
            }
            match one(*point) {
                Ok(kind) => kind.into_iter().for_each(|kind| *visited.entry(kind).or_default() += 1),
                Err(broken) => {
                    BROKEN.store(true, Ordering::Relaxed);
                    panic!("{broken}\n  {what} {point:?}, seed {seed}", seed = seed());
                }
            }
        }
        visited
    };
    let (mut visited, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        let own = half(0);
        (own, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    for (kind, count) in other {
        *visited.entry(kind).or_default() += count;
    }
    visited
}

/// Prints what was visited, and fails when that was too little to mean anything.
fn report(what: &str, visited: &Visited, least: u64, kinds: &[CallKind]) {
    let total: u64 = visited.values().sum();
    println!("{what}: {total} points {visited:?}");
    assert!(
        !BROKEN.load(Ordering::Relaxed),
        "{what}: stopped after {total} points, since a promise was broken elsewhere"
    );
    assert!(total >= least, "{what}: only {total} points");
    for kind in kinds {
        assert!(visited.contains_key(kind), "{what}: no point at a {kind}");
    }
}

#[test]
fn a_crash_at_every_call_breaks_no_promise() {
    let seed = seed();
    let crashes = [Crash::Kill, Crash::Power];
    let all = (1..=calls(seed)).flat_map(|nth| crashes.map(|crash| (nth, crash)));
    let only = number("TILLROLL_CALL");
    let points: Vec<_> = all.filter(|(nth, _)| only.is_none_or(|only| only == *nth)).collect();
    let visited = visit("crash (TILLROLL_SEED, TILLROLL_CALL replay it) at call", &points, |(nth, crash)| {
        crash_at(seed, OPERATIONS, nth, crash)
    });
    if only.is_none() {
        report("crashes", &visited, 2_000, &CallKind::ALL);
    }
}

#[test]
fn a_failure_of_every_call_breaks_no_promise() {
    let seed = seed();
    let faults = [Fault::Error, Fault::NoSpace, Fault::ShortWrite];
    let points: Vec<_> = (1..=calls(seed)).flat_map(|nth| faults.map(|fault| (nth, fault))).collect();
    let visited = visit("failure at call", &points, |(nth, fault)| fail_at(seed, nth, fault, None));
    report("failures", &visited, 2_000, &CallKind::ALL);
}

#[test]
fn random_workloads_and_crashes_break_no_promise() {
    let first = number("TILLROLL_FIRST_SEED").unwrap_or(1_000);
    let count = number("TILLROLL_SEEDS").unwrap_or(2_000);
    let seeds: Vec<u64> = match number("TILLROLL_SEED") {
        Some(seed) => vec![seed],
        None => (first..first + count).collect(),
    };
    let visited = visit("random workload (TILLROLL_SEED replays it), seed", &seeds, |seed| {
        let mut dice = Dice::new(seed);
        let operations = usize::try_from(dice.between(10, 120)).expect("small");
        let crash = if dice.one_in(2) { Crash::Kill } else { Crash::Power };
        let calls = run(seed, operations, |_| {})?.0.changes();
        crash_at(seed, operations, dice.between(1, calls), crash)
    });
    report("crashes of random workloads", &visited, seeds.len() as u64, &[CallKind::Write, CallKind::Sync]);
}

/// One call of a recovery that fails: it refuses or opens, and the start after it finds everything.
fn fail_recovery_at(
    (disk, workload): (&SimDisk, &mut Workload),
    seed: u64,
    (nth, fault): (u64, Fault),
) -> Result<Option<CallKind>, Broken> {
    let disk = disk.snapshot();
    disk.reseed(seed ^ nth);
    disk.fail_at(nth, fault);
    let opened = catch_unwind(AssertUnwindSafe(|| World::open(&disk, settings(), seed)));
    let opened = opened.map_err(|_| "P8 a failing call while it opened: a panic".to_owned())?;
    if disk.faults() == 0 {
        return Ok(None);
    }
    if let Ok(world) = opened {
        workload.ledger.check(&world.engine).map_err(|broken| format!("opened over a failing call: {broken}"))?;
    }
    let struck = disk.calls().into_iter().nth(usize::try_from(nth - 1).expect("small")).map(|call| call.kind);
    for second in [Crash::Kill, Crash::Power] {
        disk.crash(second);
        let world = World::open(&disk, settings(), seed).map_err(|error| format!("P8 it does not open: {error}"))?;
        quiet(&world.report)?;
        workload.ledger.check(&world.engine)?;
    }
    Ok(struck)
}

#[test]
fn a_failure_of_every_call_of_a_recovery_breaks_no_promise() {
    let seed = seed();
    let faults = [Fault::Error, Fault::NoSpace, Fault::ShortWrite];
    let crashes = [Crash::Kill, Crash::Power];
    let points: Vec<_> = (7..=calls(seed)).step_by(29).flat_map(|nth| crashes.map(|crash| (nth, crash))).collect();
    let struck = Mutex::new(Visited::new());
    visit("failure during the recovery from a crash at call", &points, |(at, crash)| {
        let (disk, mut workload) = run(seed, OPERATIONS, |disk| disk.crash_at(at, crash))?;
        let measured = disk.snapshot();
        drop(World::open(&measured, settings(), seed));
        let calls = measured.changes();
        let shown = (workload.ledger.seen.clone(), workload.ledger.members.epochs.clone());
        for (nth, fault) in (1..=calls).flat_map(|nth| faults.map(|fault| (nth, fault))) {
            let kind = fail_recovery_at((&disk, &mut workload), seed, (nth, fault))
                .map_err(|broken| format!("{broken}\n  {fault:?} at call {nth} of the recovery"))?;
            if let Some(kind) = kind {
                *struck.lock().expect("no panic").entry(kind).or_default() += 1;
            }
            // What one recovery showed binds those after it, and no other branch.
            workload.ledger.seen.clone_from(&shown.0);
            workload.ledger.members.epochs.clone_from(&shown.1);
        }
        Ok(None)
    });
    let kinds = [CallKind::Write, CallKind::Sync, CallKind::SyncDir, CallKind::Create, CallKind::Remove];
    report("failures during recoveries", &struck.into_inner().expect("no panic"), 2_000, &kinds);
}

#[test]
fn the_same_seed_twice_gives_the_same_trace() {
    for seed in 50..80 {
        let trace = || {
            let (disk, workload) = run(seed, 80, |_| {}).expect("without a crash nothing breaks");
            (disk.trace_hash(), disk.changes(), workload.ledger.entries.len())
        };
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}
