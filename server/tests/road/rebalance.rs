//! Members come and go under load, each doing one step a record: read, append an output with the cursor behind it.
//!
//! What must hold: no record is left out and none is committed twice. That is seen twice over: by the step headers of
//! the outputs, and by the offsets that the members handled, which they note outside of the broker. A member that takes
//! long for a record keeps its partitions.
//!
//! Short in every run; `TILLROLL_LONG=1` takes the minute, and a record that takes as long.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tillroll_client::{
    Append, AssignmentRule, Client, ConsumerEvent, CursorCommit, DeliveredBatch, ErrorKind, GroupMode, GroupOptions,
    HeldPartition, Position, Record,
    processor::{Cause, STEP_HEADER, StepName},
};
use tillroll_proto::reason;
use tokio::sync::watch;

use crate::{
    broker::{Broker, PATIENCE, within},
    dice::Dice,
};

const GROUP: &str = "workers";
const PARTITIONS: u32 = 8;
/// Records of one append of a member.
const STEPS: usize = 16;

/// A place in the input.
type At = (u32, u64);

/// What members note outside of the broker.
#[derive(Debug, Default)]
struct Notes {
    handled: BTreeMap<At, u32>,
    committed: BTreeMap<At, u32>,
    fenced: u64,
    assigned: u64,
}

type Shared = Arc<Mutex<Notes>>;

fn is_long() -> bool {
    std::env::var_os("TILLROLL_LONG").is_some()
}

async fn set_up(broker: &Broker, session: Duration) -> Client {
    let client = broker.topic("orders", PARTITIONS).await;
    broker.topic("handled", PARTITIONS).await;
    let mode = GroupMode::Members(AssignmentRule::Spread);
    let options = GroupOptions::new(["orders"], mode, Position::Earliest).session(session);
    client.groups().create(GROUP, options).await.expect("created");
    client
}

/// A member that works until it is told to leave.
async fn work(client: Client, name: String, notes: Shared, mut leave: watch::Receiver<bool>) {
    let mut consumer = client.consumer(GROUP).member(name).auto_release(false).open().await.expect("joined");
    let mut cursors: BTreeMap<u32, u64> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            event = consumer.next_event() => event,
            _ = leave.changed() => break,
        };
        match event.expect("it goes on").expect("nothing is wrong") {
            ConsumerEvent::Batch(batch) => step(&client, batch, &notes, &mut cursors).await,
            ConsumerEvent::Assigned(partitions) => {
                notes.lock().expect("no panic").assigned += 1;
                cursors.extend(partitions.iter().map(|held| (held.partition, held.next_offset)));
            }
            // Nothing is in hand between two batches.
            ConsumerEvent::Revoking { partitions, .. } => partitions.iter().for_each(|held| consumer.release(held)),
            _ => {}
        }
    }
    consumer.close().await.expect("it left");
}

/// One append for some records: their outputs, and the cursor behind them.
async fn step(client: &Client, mut batch: DeliveredBatch, notes: &Shared, cursors: &mut BTreeMap<u32, u64>) {
    let (partition, epoch) = (batch.partition(), batch.assignment_epoch());
    let records: Vec<_> = batch.records().map(|record| record.expect("whole")).collect();
    for some in records.chunks(STEPS) {
        let (first, last) = (some.first().expect("some"), some.last().expect("some"));
        let next = last.received.offset + 1;
        let from = *cursors.entry(partition).or_insert(first.received.offset);
        let outputs = some.iter().map(|input| {
            let offset = input.received.offset;
            *notes.lock().expect("no panic").handled.entry((partition, offset)).or_default() += 1;
            let cause = Cause::Input { topic: "orders".into(), partition, offset };
            let step = StepName { group: GROUP.into(), cause, k: 0, n: 1 };
            Record::new(input.received.record.value.clone()).header(STEP_HEADER, step.to_string())
        });
        let commit = CursorCommit::new(GROUP, "orders", partition, next).assignment_epoch(epoch).expected_offset(from);
        let append = Append::new().records_to("handled", partition, outputs).commit_cursor(commit);
        match client.append(append).await {
            Ok(_) => {
                cursors.insert(partition, next);
                let mut notes = notes.lock().expect("no panic");
                for input in some {
                    *notes.committed.entry((partition, input.received.offset)).or_default() += 1;
                }
            }
            // Somebody else has the partition by now, and does these records.
            Err(error) if error.kind() == ErrorKind::Fenced => {
                assert_eq!(error.reason(), Some(reason::ASSIGNMENT_FENCED));
                notes.lock().expect("no panic").fenced += 1;
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Appends records until it is told to stop; gives how many.
async fn load(client: Client, stop: watch::Receiver<bool>) -> u64 {
    let producer = client.producer("orders").build().await.expect("registered");
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    let mut sent = 0;
    while !*stop.borrow() {
        pace.tick().await;
        for _ in 0..4 {
            drop(producer.send(Record::new(sent.to_string()).key(sent.to_string())).await.expect("it has room"));
            sent += 1;
        }
    }
    producer.close().await.expect("all of it is on disk");
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_and_every_record_is_done_once() {
    let (rounds, every) = if is_long() { (60, Duration::from_secs(1)) } else { (40, Duration::from_millis(150)) };
    let mut dice = Dice::new(31);
    let broker = Broker::start();
    let client = set_up(&broker, Duration::from_secs(10)).await;
    let notes = Shared::default();
    let (stop, stopped) = watch::channel(false);
    let loading = tokio::spawn(load(broker.client().await, stopped));
    let mut members = Vec::new();
    let mut pace = tokio::time::interval(every);
    for round in 0..rounds {
        pace.tick().await;
        let (leave, told) = watch::channel(false);
        let work = work(broker.client().await, format!("m-{round}"), notes.clone(), told);
        members.push((leave, tokio::spawn(work)));
        if members.len() > 3 {
            let (leave, working) = members.swap_remove(usize::try_from(dice.below(3)).expect("small"));
            leave.send_replace(true);
            within("a member's end", working).await.expect("it left in order");
        }
    }
    stop.send_replace(true);
    let sent = within("the end of the load", loading).await.expect("loaded");
    let since = Instant::now();
    while client.groups().get(GROUP).await.expect("it is there").lag_records() > 0 {
        assert!(since.elapsed() < PATIENCE, "not done in time");
    }
    for (leave, working) in members {
        leave.send_replace(true);
        within("a member's end", working).await.expect("it left in order");
    }
    let answered = outputs(&client).await;
    let notes = notes.lock().expect("no panic");
    println!("{sent} records, {} rebalances, {} appends fenced", notes.assigned, notes.fenced);
    assert!(notes.assigned >= 50, "{} rebalances", notes.assigned);
    let once: BTreeSet<At> = notes.committed.keys().copied().collect();
    assert!(notes.committed.values().all(|count| *count == 1), "committed twice");
    assert_eq!(once.len() as u64, sent, "left out");
    assert!(once.iter().all(|at| notes.handled.contains_key(at)));
    assert_eq!(answered, once, "the outputs say the same");
}

/// The inputs that the outputs answer, each once.
async fn outputs(client: &Client) -> BTreeSet<At> {
    let mut reader = client.reader("handled").open().await.expect("it can be read");
    let mut answered = BTreeSet::new();
    while let Some(received) = reader.next().await {
        let record = received.expect("whole").record;
        let (_, value) = record.headers.iter().find(|(name, _)| name == STEP_HEADER).expect("a step");
        let step: StepName = std::str::from_utf8(value).expect("text").parse().expect("a step's name");
        let Cause::Input { partition, offset, .. } = step.cause else { panic!("a timer") };
        assert!(answered.insert((partition, offset)), "{partition}:{offset} twice");
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_takes_long_for_a_record_keeps_its_partitions() {
    let long = if is_long() { Duration::from_mins(1) } else { Duration::from_secs(7) };
    let broker = Broker::start();
    let client = set_up(&broker, Duration::from_secs(1)).await;
    let producer = client.producer("orders").partition(0).build().await.expect("registered");
    let placed = producer.send(Record::new("slow")).await.expect("room").await.expect("on disk");
    assert_eq!((placed.partition, placed.offset), (0, 0));
    let mut consumer = client.consumer(GROUP).member("slow").open().await.expect("joined");
    let record = within("the record", consumer.next()).await.expect("a record").expect("whole");
    let given: Vec<HeldPartition> = consumer.held();
    let since = Instant::now();
    let mut explained = String::new();
    // The time itself is what is tested; looking at it takes none from others.
    let mut looks = tokio::time::interval(Duration::from_millis(200));
    while since.elapsed() < long {
        looks.tick().await;
        let group = client.groups().get(GROUP).await.expect("it is there");
        let holders: BTreeSet<&str> =
            group.cursors.iter().map(|cursor| cursor.holder.as_deref().unwrap_or_default()).collect();
        assert_eq!(holders, BTreeSet::from(["slow"]), "after {:?}", since.elapsed());
        explained = client.groups().explain(GROUP).await.expect("explained").summary;
    }
    assert!(explained.contains("member slow has 1 records from offset 0 on"), "{explained}");
    within("the cursor commit", record.commit()).await.expect("it still counts");
    assert_eq!(consumer.held(), given, "under the same epochs");
    consumer.close().await.expect("it left");
}
