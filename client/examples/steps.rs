//! How many inputs a second a processor takes, and what each costs it: `steps ADDRESS [INPUTS [VALUE_BYTES]]`.
//!
//! A trivial service, so that the figures are the library's: for every input it says one event of as many bytes. Half of
//! the inputs mean nothing to it, as in a shop. One runtime thread, as a service has it.

use std::{
    collections::HashMap,
    error::Error,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tillroll_client::{
    Client, Record, TopicOptions,
    processor::{Fact, Failed, Malformed, Output, Processor, Rule, Service, Told, Trigger},
};

/// An event of the example.
enum Event {
    Heard(Vec<u8>),
    Told(Vec<u8>),
}

impl Fact for Event {
    fn kind(&self) -> &'static str {
        match self {
            Self::Heard(_) => "Heard.v1",
            Self::Told(_) => "Told.v1",
        }
    }

    fn topic(&self) -> &'static str {
        match self {
            Self::Heard(_) => "heard",
            Self::Told(_) => "told",
        }
    }

    fn encode(&self) -> Vec<u8> {
        let (Self::Heard(value) | Self::Told(value)) = self;
        value.clone()
    }

    fn decode(kind: &str, payload: &[u8]) -> Result<Option<Self>, Malformed> {
        Ok(match kind {
            "Heard.v1" => Some(Self::Heard(payload.to_vec())),
            "Told.v1" => Some(Self::Told(payload.to_vec())),
            _ => None,
        })
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Counts(HashMap<String, u64>);

struct Echo;

impl Service for Echo {
    type Fact = Event;
    type State = Counts;
    type Call = ();
    type Answer = ();

    fn name(&self) -> &'static str {
        "echo"
    }

    fn writes(&self) -> &[&'static str] {
        &["told"]
    }

    fn wants(&self, _: &str, kind: &str) -> bool {
        kind == "Heard.v1"
    }

    fn observe(&self, _: &mut Counts, _: &Told<Event>) {}

    async fn perform(&self, (): ()) {}

    fn decide(&self, _: &Counts, trigger: &Trigger<'_, Event>, _: &[()]) -> Result<Vec<Output<Event>>, Failed> {
        let Trigger::Input(Told { key, fact: Event::Heard(value), .. }) = trigger else { return Ok(Vec::new()) };
        Ok(vec![Output { key: key.clone(), fact: Event::Told(value.clone()) }])
    }

    fn apply(&self, state: &mut Counts, output: &Told<Event>) {
        match state.0.get_mut(&output.key) {
            Some(count) => *count += 1,
            None => {
                state.0.insert(output.key.clone(), 1);
            }
        }
    }
}

/// Processor time of this process.
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("a process has a name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("where is the broker?")?;
    let inputs: u64 = arguments.next().map_or(Ok(400_000), |text| text.parse())?;
    let value_bytes: usize = arguments.next().map_or(Ok(300), |text| text.parse())?;
    let client = Client::connect(&address).await?;
    for topic in ["heard", "told"] {
        client.admin().create_topic(topic, TopicOptions::default().partitions(8)).await?;
    }
    let producer = client.producer("heard").in_flight_bytes(8 << 20).build().await?;
    for number in 0..inputs {
        let kind = if number % 2 == 0 { "Heard.v1" } else { "Other.v1" };
        let record = Record::new(vec![b'x'; value_bytes]).key(format!("order-{}", number % 20_011)).type_(kind);
        drop(producer.send(record.id(format!("019a0000-0000-7000-8000-{number:012}"))).await?);
    }
    producer.close().await?;

    let processor = Processor::builder(&client, Echo).member("echo-0").inputs(["heard"]).rule(Rule::CoPartitioned);
    let processor = processor.build()?;
    let watch = processor.watch();
    let (cpu_before, since) = (cpu()?, Instant::now());
    let done = async {
        while watch.read().inputs < inputs || watch.read().appends_in_flight > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let report = processor.run(done).await?;
    let (elapsed, used) = (since.elapsed(), cpu()?.saturating_sub(cpu_before));
    let count = f64::from(u32::try_from(inputs)?);
    println!(
        "{inputs} inputs of {value_bytes} bytes, {} steps, {} appends in {:.2} s: {:.0}/s, {:.2} us of processor time each",
        report.statistics.steps,
        report.statistics.appends,
        elapsed.as_secs_f64(),
        count / elapsed.as_secs_f64(),
        used.as_secs_f64() * 1e6 / count,
    );
    Ok(())
}
