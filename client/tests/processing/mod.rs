//! Goal: what the processor promises holds over a real socket: every input is answered once, in order, whatever breaks,
//! is refused, is lost or fails on the way.
//!
//! Method: a service that counts words, over a broker in memory with a script of what goes wrong. What it has said in
//! the end is 1, 2, 3 for each word, under the steps of the inputs, or the test fails.

mod words;
mod breaks;
mod groups;
mod trouble;
mod stalls;
mod refused;
mod restarts;

use std::{collections::BTreeMap, time::Duration};

use tillroll_client::{
    Append, Compression, EncodedBatch, Received, Record, partition_for_key,
    processor::{Processor, ProcessorBuilder, ProcessorError, Report, Rule, Statistics, Watch},
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use crate::fake::Fake;
use words::Counter;

/// No test needs as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A processor in a task of its own.
struct Running {
    watch: Watch,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Report, ProcessorError>>,
}

impl Running {
    /// Waits until it has counted this.
    async fn until(&self, holds: impl Fn(&Statistics) -> bool) {
        let counted = async {
            while !holds(&self.watch.read()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, counted).await.expect("in time");
    }

    /// Lets it finish what it has in hand.
    async fn stop(self) -> Report {
        self.stop.send(()).expect("it runs");
        timeout(PATIENCE, self.task).await.expect("in time").expect("no panic").expect("it was told to")
    }

    /// Waits until it ends by itself.
    async fn end(self) -> ProcessorError {
        timeout(PATIENCE, self.task).await.expect("in time").expect("no panic").expect_err("it ends by itself")
    }

    /// As good as a kill.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn builder(fake: &Fake, service: Counter, member: &str) -> ProcessorBuilder<Counter> {
    let builder = Processor::builder(&fake.client().await, service).member(member);
    builder.inputs(["words"]).rule(Rule::CoPartitioned)
}

fn start(builder: ProcessorBuilder<Counter>) -> Running {
    let processor = builder.build().expect("it is set up");
    let watch = processor.watch();
    let (stop, told) = oneshot::channel();
    let task = tokio::spawn(processor.run(async move {
        let _ = told.await;
    }));
    Running { watch, stop, task }
}

async fn run(fake: &Fake, service: Counter, member: &str) -> Running {
    start(builder(fake, service, member).await)
}

/// Word number n of a test.
fn word(number: u32) -> String {
    format!("word-{}", number % 23)
}

/// Says words, in appends of a few, each in the partition of its key.
async fn say(fake: &Fake, numbers: std::ops::Range<u32>) {
    let client = fake.client().await;
    let partitions = fake.state.lock().partitions;
    let numbers: Vec<u32> = numbers.collect();
    for few in numbers.chunks(7) {
        let mut append = Append::new();
        for number in few {
            let word = word(*number);
            let partition = partition_for_key(word.as_bytes(), partitions);
            let record = Record::new("{}").key(word).id(format!("say-{number}")).type_("Said.v1").source("test");
            append = append.encoded("words", partition, EncodedBatch::of(&[record], Compression::None));
        }
        client.append(append).await.expect("accepted");
    }
}

/// Waits until every input is done with.
async fn until_done(fake: &Fake) {
    let done = fake.until(|state| {
        let Some(group) = state.groups.get("counter") else { return false };
        group.cursors.iter().all(|(lane, cursor)| cursor.next == state.end(lane))
    });
    timeout(PATIENCE, done).await.expect("in time");
}

/// Everything on a topic, by partition and offset.
async fn read(fake: &Fake, topic: &str) -> Vec<Received> {
    let mut reader = fake.client().await.reader(topic).open().await.expect("it can be read");
    let mut all = Vec::new();
    while let Some(received) = reader.next().await {
        all.push(received.expect("whole"));
    }
    all.sort_by_key(|received| (received.partition, received.offset));
    all
}

/// Every input has its one count, each word counts 1, 2, 3, each partition's total as well, and steps and causes are
/// those of the inputs. `timers`: one more for each word.
async fn prove(fake: &Fake, said: u32, timers: bool) {
    let inputs = read(fake, "words").await;
    assert_eq!(inputs.len() as u32, said);
    let outputs = read(fake, "counts").await;
    let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for input in &inputs {
        let key = String::from_utf8(input.record.key.clone().expect("a key").to_vec()).expect("text");
        expected.entry(key).or_default().0 += 1;
    }
    let mut steps = BTreeMap::new();
    let mut totals: BTreeMap<u32, u64> = BTreeMap::new();
    for output in &outputs {
        let record = &output.record;
        let key = String::from_utf8(record.key.clone().expect("a key").to_vec()).expect("text");
        let (count, total): (u64, u64) = serde_json::from_slice(&record.value).expect("two numbers");
        let counted = expected.get_mut(&key).expect("it was said");
        counted.1 += 1;
        let place = format!("{key} at {}/{}", output.partition, output.offset);
        assert_eq!(count, counted.1, "{place}");
        let expected_total = totals.entry(output.partition).or_default();
        *expected_total += 1;
        assert_eq!(total, *expected_total, "{place}");
        let (name, step) = &record.headers[0];
        assert_eq!(name, "tillroll-step");
        let step = String::from_utf8(step.to_vec()).expect("text");
        let cause = (record.causation_id.clone(), record.correlation_id.clone());
        assert!(steps.insert(step.clone(), cause).is_none(), "step {step} twice");
        assert_eq!((record.type_.as_str(), record.source.as_str()), ("Counted.v1", "counter"));
    }
    for (key, (heard, counted)) in expected {
        assert_eq!(counted, heard + u64::from(timers), "{key}");
    }
    for input in &inputs {
        let step = format!("counter/words/{}/{}/0/1", input.partition, input.offset);
        let key = String::from_utf8(input.record.key.clone().expect("a key").to_vec()).expect("text");
        assert_eq!(steps.get(&step), Some(&(input.record.id.clone(), key)), "{step}");
    }
    let mut ids: Vec<&str> = outputs.iter().map(|output| output.record.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), outputs.len(), "ids are unique");
}
