//! A processor that is killed between any two steps of its road: at each fail point once, in a process of its own.
//!
//! Method: this test's own program is started again as the processor, with a fail point armed. Words are said, and what
//! else leads there is done, until it has aborted at that point; then another process of the same name goes on, and
//! every word has to be counted once. The points are those that the code lists, so none is left out, and a test whose
//! point is not reached does not end in time.

use std::{
    io::Read as _,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tillroll_client::{
    Client, Record,
    processor::{FAIL_POINT_VARIABLE, FAIL_POINTS, FailPoint},
};
use tokio::time::timeout;

use crate::{
    broker::{Broker, PATIENCE},
    dice::Dice,
    process::wait_for,
    words::{Counter, builder, prove, say, topics, until_done},
};

/// Where the broker is that the processor of another process goes to.
const BROKER: &str = "TILLROLL_TEST_BROKER";
/// Where its snapshots are.
const SNAPSHOTS: &str = "TILLROLL_TEST_SNAPSHOTS";
const SIGABRT: i32 = 6;

/// Not a test by itself: what the process does that the others start. It ends when its input does.
#[tokio::test]
async fn runs_a_processor_when_it_is_told_to() {
    let (Ok(broker), Ok(snapshots)) = (std::env::var(BROKER), std::env::var(SNAPSHOTS)) else { return };
    let client = Client::connect(&broker).await.expect("it takes requests");
    let builder = builder(&client, Counter { calls: true, timers: true }, "counter-0");
    let processor = builder.snapshots(snapshots).snapshot_steps(20).build().expect("it is set up");
    let stop = tokio::task::spawn_blocking(|| {
        let _ = std::io::stdin().read(&mut [0]);
    });
    if let Err(error) = processor.run(async { stop.await.expect("no panic") }).await {
        // The task that reads the input would be waited for.
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// Starts it.
fn start(broker: &Broker, snapshots: &Path, point: Option<(FailPoint, u64)>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("it runs"));
    command.args(["--exact", "fail_points::runs_a_processor_when_it_is_told_to", "--nocapture"]);
    command.env(BROKER, broker.address()).env(SNAPSHOTS, snapshots).env_remove(FAIL_POINT_VARIABLE);
    if let Some((point, count)) = point {
        command.env(FAIL_POINT_VARIABLE, format!("{point}:{count}"));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

/// Does what leads to a point that words alone do not lead to.
async fn lead_to(point: FailPoint, client: &Client, child: &mut Child) {
    match point {
        FailPoint::BeforeTakeOver | FailPoint::AfterTakeOver => {
            // Whoever takes all producers over that there are fences its one, too.
            let newest = client.init_producer(None, Duration::from_mins(1)).await.expect("registered");
            let number = u64::from_str_radix(&newest.producer_id["_p-".len()..], 16).expect("a made-up name");
            for number in 1..number {
                // Some numbers are other things.
                let _ = client.init_producer(Some(&format!("_p-{number:016x}")), Duration::from_mins(1)).await;
            }
        }
        FailPoint::AfterRevoking | FailPoint::BeforeRelease => {
            let other = client.consumer("counter").member("z").open().await;
            if let Ok(other) = other {
                let _ = timeout(Duration::from_secs(1), other.close()).await;
            }
        }
        FailPoint::BeforeCursors => {
            // Nothing is said for it.
            let producer = client.producer("words").build().await.expect("the topic is there");
            drop(producer.send(Record::new("{}").key("word").type_("Other.v1")).await.expect("it has room"));
            producer.close().await.expect("accepted");
        }
        FailPoint::BeforeLeave => drop(child.stdin.take()),
        _ => {}
    }
}

/// Points that every step passes are armed for one of many.
fn count(point: FailPoint, dice: &mut Dice) -> u64 {
    match point {
        FailPoint::BeforeLoad | FailPoint::AfterLoad => 1 + dice.below(4),
        FailPoint::AfterObserve
        | FailPoint::BeforeCall
        | FailPoint::AfterCall
        | FailPoint::BeforeDecide
        | FailPoint::AfterDecide
        | FailPoint::AfterApply
        | FailPoint::TimerDue => 1 + dice.below(50),
        FailPoint::BeforeAppend | FailPoint::AfterAppend | FailPoint::AfterAck => 1 + dice.below(10),
        _ => 1 + dice.below(2),
    }
}

async fn killed_at(point: FailPoint, dice: &mut Dice) {
    let broker = topics(4).await;
    let client = broker.client().await;
    let snapshots = tempfile::tempdir().expect("a directory");
    let count = if point == FailPoint::BeforeLeave { 1 } else { count(point, dice) };
    say(&client, dice, 100).await;
    let mut child = start(&broker, snapshots.path(), Some((point, count)));
    let status = loop {
        if let Some(status) = child.try_wait().expect("it was started here") {
            break status;
        }
        if point != FailPoint::BeforeCursors {
            say(&client, dice, 20).await;
        }
        lead_to(point, &client, &mut child).await;
    };
    let mut said = String::new();
    // It has ended, and nobody else has its end of the pipe.
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("text");
    assert_eq!(status.signal(), Some(SIGABRT), "{point}:{count}: {status}: {said}");
    assert!(said.contains(&format!("fail point {point} reached")), "{said}");

    let mut child = start(&broker, snapshots.path(), None);
    say(&client, dice, 50).await;
    until_done(&client).await;
    drop(child.stdin.take());
    let status = wait_for("the processor's end", child.id(), || child.wait()).expect("it was started here");
    assert!(status.success(), "{point}: {status}");
    let counted = prove(&client, true).await;
    println!("{point}:{count}: {counted} counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_word_is_counted_once_though_the_processor_is_killed_at_any_point() {
    let mut dice = Dice::new(71);
    for point in FAIL_POINTS {
        timeout(PATIENCE, killed_at(*point, &mut dice)).await.unwrap_or_else(|_| panic!("{point} is not reached"));
    }
}
