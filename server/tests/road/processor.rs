//! Processors over a real broker: whatever is killed, given away, taken over or restored, each input is answered once.

use std::time::Duration;

use tillroll_client::{
    Client,
    processor::{ProcessorBuilder, ProcessorError, Report, Rule, Statistics, Watch},
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use crate::{
    broker::{End, PATIENCE},
    dice::Dice,
    words::{Counter, builder, prove, say, topics, until_done},
};

const PARTITIONS: u32 = 8;

/// A processor in a task of its own.
struct Running {
    watch: Watch,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Report, ProcessorError>>,
}

impl Running {
    fn start(builder: ProcessorBuilder<Counter>) -> Self {
        let processor = builder.retry_for(PATIENCE).build().expect("it is set up");
        let watch = processor.watch();
        let (stop, told) = oneshot::channel();
        let task = tokio::spawn(processor.run(async move {
            let _ = told.await;
        }));
        Self { watch, stop, task }
    }

    /// Lets it finish what it has in hand.
    async fn stop(self) -> Statistics {
        self.stop.send(()).expect("it runs");
        let report = self.task.await.expect("no panic").expect("it was told to");
        report.statistics
    }

    /// As good as a kill.
    async fn kill(self) -> Statistics {
        self.task.abort();
        let _ = self.task.await;
        self.watch.read()
    }
}

fn with_calls() -> Counter {
    Counter { calls: true, timers: false }
}

async fn through_kills(seed: u64, end: End) {
    let mut dice = Dice::new(seed);
    let mut broker = topics(PARTITIONS).await;
    let client = broker.client().await;
    let running = Running::start(builder(&broker.client().await, with_calls(), "counter-0"));
    for _ in 0..6 {
        let before = running.watch.read().outputs;
        say(&client, &mut dice, 2_000).await;
        while running.watch.read().outputs < before + 300 {
            tokio::task::yield_now().await;
        }
        broker.restart(end);
    }
    until_done(&client).await;
    let counted = prove(&client, false).await;
    let statistics = running.stop().await;
    println!("{counted} counts, {statistics:?}");
    assert!(statistics.broken_streams >= 6, "{statistics:?}");
    assert_eq!(statistics.outputs, counted as u64, "nothing was decided twice: no state was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_word_is_counted_once_through_kills_of_the_broker() {
    timeout(PATIENCE, through_kills(61, End::Kill)).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_word_is_counted_once_through_orderly_stops_of_the_broker() {
    timeout(PATIENCE, through_kills(62, End::Terminate)).await.expect("in time");
}

/// Members come, leave and are killed while words are said.
async fn come_and_go(seed: u64, rule: Rule, least: u64) {
    let mut dice = Dice::new(seed);
    let broker = topics(PARTITIONS).await;
    let client = broker.client().await;
    let fresh = |name: String, client: Client| {
        let builder = builder(&client, with_calls(), &name).rule(rule).session(Duration::from_secs(1));
        Running::start(builder)
    };
    let mut members = vec![fresh("m-0".into(), broker.client().await)];
    let mut all = Vec::new();
    for round in 1..20 {
        say(&client, &mut dice, 400).await;
        members.push(fresh(format!("m-{round}"), broker.client().await));
        while !members.iter().any(|member| member.watch.read().units > 0) {
            tokio::task::yield_now().await;
        }
        if members.len() > 3 {
            // With one for all, whoever has everything goes.
            let holder = members.iter().position(|member| rule == Rule::Single && member.watch.read().units > 0);
            let choice = holder.unwrap_or_else(|| usize::try_from(dice.below(3)).expect("small"));
            let member = members.remove(choice);
            all.push(if dice.flip() { member.kill().await } else { member.stop().await });
        }
    }
    until_done(&client).await;
    let counted = prove(&client, false).await;
    for member in members {
        all.push(member.stop().await);
    }
    let sum = |count: fn(&Statistics) -> u64| all.iter().map(count).sum::<u64>();
    let (rebalances, rebuilds, outputs) = (sum(|one| one.rebalances), sum(|one| one.rebuilds), sum(|one| one.outputs));
    println!("{counted} counts of {outputs} decided, {rebalances} rebalances, {rebuilds} rebuilds");
    assert!(rebalances >= least, "{rebalances}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_go_and_are_killed_and_each_word_is_counted_once() {
    timeout(PATIENCE, come_and_go(63, Rule::CoPartitioned, 20)).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stands_by_takes_everything_when_the_one_member_is_gone() {
    timeout(PATIENCE, come_and_go(64, Rule::Single, 10)).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_of_the_same_name_takes_over_at_once() {
    let taking = async {
        let mut dice = Dice::new(65);
        let broker = topics(PARTITIONS).await;
        let client = broker.client().await;
        let mut older = Running::start(builder(&broker.client().await, with_calls(), "counter-0"));
        for _ in 0..5 {
            say(&client, &mut dice, 500).await;
            while older.watch.read().outputs == 0 {
                tokio::task::yield_now().await;
            }
            let newer = Running::start(builder(&broker.client().await, with_calls(), "counter-0"));
            let ended = older.task.await.expect("no panic").expect_err("it was taken over");
            assert!(matches!(&ended, ProcessorError::TakenOver { .. }), "{ended}");
            older = newer;
        }
        until_done(&client).await;
        prove(&client, false).await;
        older.stop().await;
    };
    timeout(PATIENCE, taking).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_ahead_of_a_restored_broker_is_thrown_away() {
    let restoring = async {
        let mut dice = Dice::new(66);
        let mut broker = topics(PARTITIONS).await;
        let client = broker.client().await;
        let directory = tempfile::tempdir().expect("a directory");
        let with_snapshots = |client: Client| {
            let builder = builder(&client, with_calls(), "counter-0");
            Running::start(builder.snapshots(directory.path()))
        };
        say(&client, &mut dice, 2_000).await;
        let running = with_snapshots(broker.client().await);
        until_done(&client).await;
        let first = running.stop().await;
        assert_eq!(first.snapshots_written, u64::from(PARTITIONS), "{first:?}");
        let copy = broker.copy();

        say(&client, &mut dice, 2_000).await;
        let running = with_snapshots(broker.client().await);
        until_done(&client).await;
        let second = running.stop().await;
        assert_eq!(second.snapshots_used, u64::from(PARTITIONS), "{second:?}");
        assert_eq!((second.observed, second.applied), (0, 0), "the snapshots stand for all of it: {second:?}");
        prove(&client, false).await;

        broker.restore(&copy);
        say(&client, &mut dice, 500).await;
        let running = with_snapshots(broker.client().await);
        until_done(&client).await;
        prove(&client, false).await;
        let third = running.stop().await;
        assert_eq!((third.snapshots_used, third.snapshots_thrown_away), (0, u64::from(PARTITIONS)), "{third:?}");
        assert!(third.observed > 1_000 && third.applied > 1_000, "{third:?}");
    };
    timeout(PATIENCE, restoring).await.expect("in time");
}
