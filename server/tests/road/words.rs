//! A service in which every slip shows: it counts what is said of a word on two topics, so what it says of each word is
//! 1, 2, 3 and so on; and the proof that it did.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use tillroll_client::{
    Client, Received, Record,
    processor::{
        Cause, Fact, Failed, Malformed, Output, Processor, ProcessorBuilder, Rule, STEP_HEADER, Service, StepName,
        Timer, Told, Trigger,
    },
};

use crate::{
    broker::{Broker, read_all, within},
    dice::Dice,
};

/// What the service hears.
pub(crate) const HEARD: [&str; 2] = ["words", "shouts"];
/// What it writes to.
pub(crate) const COUNTS: &str = "counts";
/// How many words there are.
const WORDS: u64 = 60;

/// What is said on the topics of the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Somebody said it.
    Said,
    /// How often it was said by now.
    Counted(u64),
}

impl Fact for Word {
    fn kind(&self) -> &'static str {
        match self {
            Self::Said => "Said.v1",
            Self::Counted(_) => "Counted.v1",
        }
    }

    fn topic(&self) -> &'static str {
        match self {
            Self::Said => HEARD[0],
            Self::Counted(_) => COUNTS,
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Said => b"{}".to_vec(),
            Self::Counted(count) => count.to_string().into_bytes(),
        }
    }

    fn decode(kind: &str, payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let wrong = |wrong: serde_json::Error| Malformed { kind: kind.into(), wrong: wrong.to_string() };
        Ok(match kind {
            "Said.v1" => Some(Self::Said),
            "Counted.v1" => Some(Self::Counted(serde_json::from_slice(payload).map_err(wrong)?)),
            _ => None,
        })
    }
}

/// How often each word was heard and counted.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    heard: HashMap<String, u64>,
    counted: HashMap<String, u64>,
}

/// The service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter {
    /// Each step makes a call that ends at another time.
    pub(crate) calls: bool,
    /// Each word is counted once more by a timer, as soon as it was heard.
    pub(crate) timers: bool,
}

impl Service for Counter {
    type Fact = Word;
    type State = Tally;
    type Call = usize;
    type Answer = ();

    fn name(&self) -> &'static str {
        "counter"
    }

    fn writes(&self) -> &[&'static str] {
        &[COUNTS]
    }

    fn wants(&self, _: &str, kind: &str) -> bool {
        kind == "Said.v1"
    }

    fn observe(&self, state: &mut Tally, input: &Told<Word>) {
        *state.heard.entry(input.key.clone()).or_default() += 1;
    }

    fn calls(&self, _: &Tally, input: &Told<Word>) -> Vec<usize> {
        self.calls.then(|| input.id.bytes().map(usize::from).sum::<usize>() % 13).into_iter().collect()
    }

    async fn perform(&self, turns: usize) {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }

    fn decide(&self, state: &Tally, trigger: &Trigger<'_, Word>, _: &[()]) -> Result<Vec<Output<Word>>, Failed> {
        let key = trigger.key().to_owned();
        let count = state.counted.get(&key).copied().unwrap_or(0) + 1;
        Ok(vec![Output { key, fact: Word::Counted(count) }])
    }

    fn apply(&self, state: &mut Tally, output: &Told<Word>) {
        let Word::Counted(count) = output.fact else { panic!("it says nothing else") };
        let known = state.counted.entry(output.key.clone()).or_default();
        assert_eq!(count, *known + 1, "outputs are applied in their order, each once");
        *known = count;
    }

    fn timer(&self, state: &Tally, key: &str) -> Option<Timer> {
        let (heard, counted) = (state.heard.get(key)?, state.counted.get(key).copied().unwrap_or(0));
        let is_open = self.timers && counted <= *heard;
        is_open.then(|| Timer { name: "last", due_us: 1, since: format!("first-{key}") })
    }

    fn timers(&self, state: &Tally) -> Vec<(String, Timer)> {
        state.heard.keys().filter_map(|key| Some((key.clone(), self.timer(state, key)?))).collect()
    }
}

/// A broker with the topics.
pub(crate) async fn topics(partitions: u32) -> Broker {
    let broker = Broker::start();
    for topic in HEARD.into_iter().chain([COUNTS]) {
        broker.topic(topic, partitions).await;
    }
    broker
}

/// A processor of the service.
pub(crate) fn builder(client: &Client, counter: Counter, member: &str) -> ProcessorBuilder<Counter> {
    Processor::builder(client, counter).member(member).inputs(HEARD).rule(Rule::CoPartitioned)
}

/// Says so many words on either topic; among them are records that mean nothing.
pub(crate) async fn say(client: &Client, dice: &mut Dice, count: u64) {
    let producers = [
        client.producer(HEARD[0]).build().await.expect("the topic is there"),
        client.producer(HEARD[1]).build().await.expect("the topic is there"),
    ];
    for _ in 0..count {
        let (kind, id) = (if dice.below(9) == 0 { "Other.v1" } else { "Said.v1" }, dice.word(12));
        let record = Record::new("{}").key(format!("word-{}", dice.below(WORDS))).id(id).type_(kind);
        drop(producers[dice.below(2) as usize].send(record).await.expect("it has room"));
    }
    for producer in producers {
        producer.close().await.expect("accepted");
    }
}

/// Waits until every input is done with.
pub(crate) async fn until_done(client: &Client) {
    let done = async {
        while client.groups().get("counter").await.map_or(1, |group| group.lag_records()) > 0 {
            tokio::task::yield_now().await;
        }
    };
    within("all inputs are done with", done).await;
}

fn key(received: &Received) -> String {
    String::from_utf8(received.record.key.clone().expect("a key").to_vec()).expect("text")
}

/// Every word is counted once for each time that it was said, in order, under the step of the input that it answers;
/// with `timers` once more. Gives how many counts there are.
pub(crate) async fn prove(client: &Client, timers: bool) -> usize {
    let mut said: BTreeMap<Cause, (String, String)> = BTreeMap::new();
    let mut words = BTreeSet::new();
    for topic in HEARD {
        for input in read_all(client, topic).await {
            if input.record.type_ == "Said.v1" {
                let (partition, offset) = (input.partition, input.offset);
                let cause = Cause::Input { topic: topic.to_owned(), partition, offset };
                words.insert(key(&input));
                said.insert(cause, (key(&input), input.record.id));
            }
        }
    }
    let mut counts: HashMap<String, u64> = HashMap::new();
    let counted = read_all(client, COUNTS).await;
    for output in &counted {
        let word = key(output);
        let count = counts.entry(word.clone()).or_default();
        *count += 1;
        let text = std::str::from_utf8(&output.record.value).expect("a number");
        assert_eq!(text, count.to_string(), "{word} at {}/{}", output.partition, output.offset);
        let (_, step) = output.record.headers.iter().find(|(name, _)| name == STEP_HEADER).expect("a step");
        let step: StepName = std::str::from_utf8(step).expect("text").parse().expect("a step");
        assert_eq!((step.group.as_str(), step.k, step.n), ("counter", 0, 1));
        let cause = output.record.causation_id.clone();
        match &step.cause {
            Cause::Input { .. } => assert_eq!(said.remove(&step.cause), Some((word, cause)), "{step} answers no input"),
            Cause::Timer { name } => {
                assert_eq!((name.as_str(), cause), (&*format!("last:{word}"), format!("first-{word}")));
                assert!(timers && words.remove(&word), "{step} twice");
            }
        }
    }
    assert!(said.is_empty(), "{} inputs are not answered, the first is {:?}", said.len(), said.first_key_value());
    assert!(!timers || words.is_empty(), "{} timers did not fire", words.len());
    let ids: BTreeSet<&str> = counted.iter().map(|output| output.record.id.as_str()).collect();
    assert_eq!(ids.len(), counted.len(), "ids are unique");
    counted.len()
}
