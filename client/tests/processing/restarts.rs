//! Processors that are started again, with and without a snapshot.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tillroll_proto::reason;
use tokio::sync::Semaphore;

use super::{
    Running, builder, prove, run, say, start, until_done,
    words::{Counter, Trouble},
};
use crate::fake::{Fake, Fate};

async fn with_snapshots(fake: &Fake, directory: &std::path::Path, steps: u64) -> Running {
    let builder = builder(fake, Counter::default(), "counter-0").await;
    start(builder.snapshots(directory).snapshot_steps(steps))
}

#[tokio::test]
async fn a_killed_processor_is_made_again_from_the_log() {
    let fake = Fake::start(2).await;
    let mut said = 0;
    for _ in 0..6 {
        let running = run(&fake, Counter::default(), "counter-0").await;
        say(&fake, said..said + 40).await;
        said += 40;
        running.kill().await;
    }
    let running = run(&fake, Counter::default(), "counter-0").await;
    until_done(&fake).await;
    prove(&fake, said, false).await;
    running.stop().await;
}

#[tokio::test]
async fn a_snapshot_spares_reading_what_it_stands_for() {
    let fake = Fake::start(2).await;
    let directory = tempfile::tempdir().expect("a directory");
    say(&fake, 0..100).await;
    let running = with_snapshots(&fake, directory.path(), 1_000_000).await;
    until_done(&fake).await;
    assert_eq!(running.stop().await.statistics.snapshots_written, 2, "on a clean stop");
    say(&fake, 100..130).await;
    let running = with_snapshots(&fake, directory.path(), 1_000_000).await;
    until_done(&fake).await;
    prove(&fake, 130, false).await;
    let statistics = running.stop().await.statistics;
    assert_eq!((statistics.snapshots_used, statistics.observed, statistics.applied), (2, 0, 0), "{statistics:?}");
}

#[tokio::test]
async fn snapshots_that_are_taken_under_way_are_followed_by_what_came_after() {
    let fake = Fake::start(2).await;
    let directory = tempfile::tempdir().expect("a directory");
    let mut said = 0;
    let mut used = 0;
    for _ in 0..8 {
        let running = with_snapshots(&fake, directory.path(), 20).await;
        say(&fake, said..said + 70).await;
        said += 70;
        until_done(&fake).await;
        // A snapshot is written beside the work, and may end after it.
        let since = Instant::now();
        while running.watch.read().snapshots_written == 0 {
            assert!(since.elapsed() < Duration::from_mins(1), "no snapshot was written");
            tokio::task::yield_now().await;
        }
        let statistics = running.watch.read();
        used += statistics.snapshots_used;
        assert_eq!(statistics.snapshots_thrown_away, 0, "{statistics:?}");
        running.kill().await;
    }
    assert!(used > 4, "{used} snapshots were used");
    prove(&fake, said, false).await;
}

/// A processor that waits to take its producer over: its second append was refused. With permits at the gate it goes
/// on; until then more steps are decided.
async fn fenced(fake: &Fake, directory: &std::path::Path) -> (Running, Arc<Semaphore>) {
    let running = with_snapshots(fake, directory, 8).await;
    say(fake, 0..3).await;
    until_done(fake).await;
    fake.script([Fate::Refuse(reason::PRODUCER_FENCED)]);
    let gate = Arc::new(Semaphore::new(0));
    fake.state.lock().registrations = Some(Arc::clone(&gate));
    say(fake, 3..5).await;
    running.until(|statistics| statistics.refusals.contains_key(reason::PRODUCER_FENCED)).await;
    (running, gate)
}

/// Once a snapshot was finished at the first of two blocks that came to the log in one append, though it stood for
/// both: outputs of the second were applied again.
#[tokio::test]
async fn a_snapshot_stands_for_what_it_says_also_when_an_append_was_refused() {
    let fake = Fake::start(1).await;
    let directory = tempfile::tempdir().expect("a directory");
    let (running, gate) = fenced(&fake, directory.path()).await;
    // A snapshot is taken.
    say(&fake, 5..15).await;
    running.until(|statistics| statistics.steps == 15).await;
    gate.add_permits(10);
    running.until(|statistics| statistics.snapshots_written == 1).await;
    running.kill().await;
    let running = with_snapshots(&fake, directory.path(), 8).await;
    say(&fake, 15..20).await;
    until_done(&fake).await;
    prove(&fake, 20, false).await;
    let statistics = running.stop().await.statistics;
    assert_eq!((statistics.snapshots_used, statistics.failed_tries), (1, 0), "{statistics:?}");
}

/// Once a snapshot that was taken when everything was in the log was finished at the next block: it named outputs that
/// its state did not have, and they were said again.
#[tokio::test]
async fn a_snapshot_that_waits_for_nothing_stands_for_no_later_block() {
    let fake = Fake::start(1).await;
    let directory = tempfile::tempdir().expect("a directory");
    let (running, gate) = fenced(&fake, directory.path()).await;
    // A first snapshot is taken, and enough for a second one is decided behind it.
    say(&fake, 5..10).await;
    running.until(|statistics| statistics.steps == 10).await;
    say(&fake, 10..25).await;
    running.until(|statistics| statistics.steps == 25).await;
    gate.add_permits(10);
    until_done(&fake).await;
    say(&fake, 25..26).await;
    until_done(&fake).await;
    running.until(|statistics| statistics.snapshots_written == 2).await;
    running.kill().await;
    let running = with_snapshots(&fake, directory.path(), 8).await;
    say(&fake, 26..30).await;
    until_done(&fake).await;
    prove(&fake, 30, false).await;
    let statistics = running.stop().await.statistics;
    assert_eq!((statistics.snapshots_used, statistics.failed_tries), (1, 0), "{statistics:?}");
}

#[tokio::test]
async fn a_snapshot_of_a_newer_broker_is_thrown_away() {
    let fake = Fake::start(1).await;
    let directory = tempfile::tempdir().expect("a directory");
    fake.state.lock().incarnation = 9;
    say(&fake, 0..50).await;
    let running = with_snapshots(&fake, directory.path(), 1_000).await;
    until_done(&fake).await;
    running.stop().await;
    fake.state.lock().incarnation = 8;
    say(&fake, 50..60).await;
    let running = with_snapshots(&fake, directory.path(), 1_000).await;
    until_done(&fake).await;
    prove(&fake, 60, false).await;
    let statistics = running.stop().await.statistics;
    assert_eq!((statistics.snapshots_thrown_away, statistics.snapshots_used), (1, 0), "{statistics:?}");
    assert_eq!((statistics.observed, statistics.applied), (50, 50), "{statistics:?}");
}

/// Once a snapshot named the incarnation in which its state was loaded, though it stood for what a later one accepted:
/// a broker that was restored from a copy between the two was not found to be older.
#[tokio::test]
async fn a_snapshot_names_the_incarnation_of_what_it_stands_for() {
    let fake = Fake::start(1).await;
    let directory = tempfile::tempdir().expect("a directory");
    fake.state.lock().incarnation = 3;
    say(&fake, 0..50).await;
    let running = with_snapshots(&fake, directory.path(), 1_000).await;
    until_done(&fake).await;
    // The broker is started again under the processor, and the append that finds out is sent again.
    fake.state.lock().incarnation = 7;
    fake.script([Fate::LoseBefore]);
    say(&fake, 50..60).await;
    until_done(&fake).await;
    let statistics = running.stop().await.statistics;
    assert_eq!((statistics.rebuilds, statistics.snapshots_written), (1, 1), "{statistics:?}");
    fake.state.lock().incarnation = 6;
    let running = with_snapshots(&fake, directory.path(), 1_000).await;
    say(&fake, 60..70).await;
    until_done(&fake).await;
    prove(&fake, 70, false).await;
    let statistics = running.stop().await.statistics;
    assert_eq!((statistics.snapshots_thrown_away, statistics.snapshots_used), (1, 0), "{statistics:?}");
}

#[tokio::test]
async fn a_state_that_panics_when_it_is_written_costs_its_snapshots_and_nothing_else() {
    let fake = Fake::start(1).await;
    let directory = tempfile::tempdir().expect("a directory");
    say(&fake, 0..50).await;
    let service = Counter::troubled("word-7", Trouble::PanicsSaving(1));
    let running = start(builder(&fake, service, "counter-0").await.snapshots(directory.path()).snapshot_steps(20));
    until_done(&fake).await;
    say(&fake, 50..100).await;
    until_done(&fake).await;
    prove(&fake, 100, false).await;
    let statistics = running.stop().await.statistics;
    assert_eq!((statistics.snapshots_failed, statistics.snapshots_written), (1, 0), "{statistics:?}");
}

/// Once a disk that did not answer held up the end of the processor for as long as it liked.
#[cfg(unix)]
#[tokio::test]
async fn a_snapshot_that_cannot_be_written_in_time_does_not_hold_up_the_end() {
    let fake = Fake::start(1).await;
    let directory = tempfile::tempdir().expect("a directory");
    // Whoever opens a pipe waits for the other end.
    let pipe = directory.path().join("counter-0.unfinished");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("there is mkfifo");
    assert!(made.success());
    say(&fake, 0..20).await;
    let builder = builder(&fake, Counter::default(), "counter-0").await.snapshots(directory.path());
    let running = start(builder.stop_within(Duration::from_millis(300)));
    until_done(&fake).await;
    let since = Instant::now();
    let statistics = running.stop().await.statistics;
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert_eq!((statistics.snapshots_failed, statistics.snapshots_written), (1, 0), "{statistics:?}");
    assert!(fake.state.lock().groups["counter"].members.is_empty(), "it left");
    // Lets the writer go.
    let reader = std::thread::spawn(move || std::fs::read(pipe));
    reader.join().expect("no panic").expect("it was written");
}

#[tokio::test]
async fn a_snapshot_of_another_history_is_thrown_away_though_the_log_has_grown_past_it() {
    let fake = Fake::start(1).await;
    let directory = tempfile::tempdir().expect("a directory");
    say(&fake, 0..50).await;
    let running = with_snapshots(&fake, directory.path(), 1_000).await;
    until_done(&fake).await;
    let older = {
        let state = fake.state.lock();
        (state.log.clone(), state.groups["counter"].cursors.clone())
    };
    say(&fake, 50..80).await;
    until_done(&fake).await;
    running.stop().await;
    // The broker is restored from an older copy, and goes on from there without snapshots.
    {
        let mut state = fake.state.lock();
        state.log = older.0;
        let group = state.groups.get_mut("counter").expect("it is there");
        group.cursors = older.1;
        group.cursors.values_mut().for_each(|cursor| cursor.holder = None);
        state.incarnation += 10;
    }
    say(&fake, 200..260).await;
    let other = run(&fake, Counter::default(), "counter-0").await;
    until_done(&fake).await;
    other.stop().await;
    let running = with_snapshots(&fake, directory.path(), 1_000).await;
    say(&fake, 300..310).await;
    until_done(&fake).await;
    prove(&fake, 120, false).await;
    let statistics = running.stop().await.statistics;
    assert_eq!((statistics.snapshots_thrown_away, statistics.snapshots_used), (1, 0), "{statistics:?}");
}

#[tokio::test]
async fn a_damaged_snapshot_is_thrown_away() {
    let fake = Fake::start(1).await;
    let directory = tempfile::tempdir().expect("a directory");
    say(&fake, 0..50).await;
    let running = with_snapshots(&fake, directory.path(), 1_000).await;
    until_done(&fake).await;
    running.stop().await;
    let file = directory.path().join("counter-0.snapshot");
    let mut bytes = std::fs::read(&file).expect("it was written");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let running = with_snapshots(&fake, directory.path(), 1_000).await;
    say(&fake, 50..60).await;
    until_done(&fake).await;
    prove(&fake, 60, false).await;
    assert_eq!(running.stop().await.statistics.snapshots_thrown_away, 1);
}
