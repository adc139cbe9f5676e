//! One order's story: its events over all topics in causal order, as a person wants to see them, or as JSON.
//!
//! A cause stands before its effects; events that do not depend on each other stand by append time, then by place. An
//! event that names a cause which is not among the order's events, or which is caused by itself, is shown all the same.

mod words;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fmt,
};

use serde::Serialize;

use super::payload::{Event as Payload, OrderPlaced, topic};
use crate::{Client, Error, Received, processor::Fact as _};
use words::says;

/// What happened to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// The order's id; or a product's code, which has the story of its stock.
    pub key: String,
    /// Its events, causes first.
    pub moments: Vec<Moment>,
}

/// An event in an order's story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Microseconds since the order was placed; since the first event of a story without a placement.
    pub after_us: i64,
    /// When the broker took it in, in microseconds since 1970 UTC.
    pub append_time_us: i64,
    /// How many causes stand before it.
    pub depth: u32,
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// The event's id.
    pub id: String,
    /// The event's type, without its version.
    pub event: String,
    /// What it says, in words.
    pub says: String,
    /// The type of its cause, without its version; its id when it is not in the story, none when it has no cause.
    pub because: Option<String>,
    /// The cause's id, as the event has it.
    pub because_id: Option<String>,
}

impl Timeline {
    /// Reads the story of an order from a broker, up to the ends that there are.
    ///
    /// **Errors**: `NotFound` when a topic of the saga is not there; what a reader meets.
    ///
    /// **Cost**: every topic is looked through for the key.
    pub async fn read(client: &Client, key: &str) -> Result<Self, Error> {
        let mut events = Vec::new();
        for topic in topic::ALL {
            let mut reader = client.reader(topic).key(key.to_owned()).open().await?;
            while let Some(received) = reader.next().await {
                events.push(received?);
            }
        }
        Ok(Self::of(key, events))
    }

    /// The story that these events tell, in whatever order they come.
    pub fn of(key: &str, mut events: Vec<Received>) -> Self {
        let place = |event: &Received| (event.append_time_us, event.topic.clone(), event.partition, event.offset);
        events.sort_by_key(place);
        let mut by_id: HashMap<&str, usize> = HashMap::new();
        for (number, event) in events.iter().enumerate().filter(|(_, event)| !event.record.id.is_empty()) {
            by_id.entry(&event.record.id).or_insert(number);
        }
        let causes: Vec<Option<usize>> =
            events.iter().map(|event| by_id.get(event.record.causation_id.as_str()).copied()).collect();
        // The deadline of an order, and everything else, is counted from its placement.
        let placed = events.iter().find(|event| event.record.type_ == OrderPlaced::KIND);
        let began_us = placed.or(events.first()).map_or(0, |event| event.append_time_us);
        let mut depths = vec![0_u32; events.len()];
        let mut moments = Vec::with_capacity(events.len());
        for number in causes_first(&causes) {
            if let Some(cause) = causes[number] {
                depths[number] = depths[cause] + 1;
            }
            let cause = causes[number].map(|cause| &events[cause]);
            moments.push(Moment::of(&events[number], cause, depths[number], began_us));
        }
        Self { key: key.to_owned(), moments }
    }
}

/// Numbers of events in an order in which each stands behind its cause, and else as it stood.
fn causes_first(causes: &[Option<usize>]) -> Vec<usize> {
    let mut effects: Vec<Vec<usize>> = vec![Vec::new(); causes.len()];
    let mut ready: BinaryHeap<Reverse<usize>> = BinaryHeap::new();
    for (number, cause) in causes.iter().enumerate() {
        match cause {
            Some(cause) => effects[*cause].push(number),
            None => ready.push(Reverse(number)),
        }
    }
    let mut ordered = Vec::with_capacity(causes.len());
    let mut told = vec![false; causes.len()];
    // What is only caused by itself is never ready: its first event begins when nothing else is left.
    let mut left = 0..causes.len();
    loop {
        while let Some(Reverse(number)) = ready.pop() {
            if !std::mem::replace(&mut told[number], true) {
                ordered.push(number);
                ready.extend(effects[number].iter().copied().map(Reverse));
            }
        }
        match left.find(|number| !told[*number]) {
            Some(number) => ready.push(Reverse(number)),
            None => return ordered,
        }
    }
}

impl Moment {
    fn of(event: &Received, cause: Option<&Received>, depth: u32, began_us: i64) -> Self {
        let record = &event.record;
        let because_id = Some(record.causation_id.clone()).filter(|id| !id.is_empty());
        let because = cause.map(|cause| short(&cause.record.type_).to_owned()).or_else(|| because_id.clone());
        let says = match Payload::decode(&record.type_, &record.value) {
            Ok(Some(payload)) => says(&payload),
            Ok(None) => "of a type that the saga does not know".to_owned(),
            Err(malformed) => format!("cannot be read: {}", malformed.wrong),
        };
        Self {
            after_us: event.append_time_us - began_us,
            append_time_us: event.append_time_us,
            depth,
            topic: event.topic.to_string(),
            partition: event.partition,
            offset: event.offset,
            id: record.id.clone(),
            event: short(&record.type_).to_owned(),
            says,
            because,
            because_id,
        }
    }
}

impl Timeline {
    /// The story as it is shown to a person, a line for each event. What the events say stands there as it is, also if
    /// it has line breaks or what a terminal obeys.
    pub fn lines(&self) -> Vec<String> {
        let place = |moment: &Moment| format!("{} {}:{}", moment.topic, moment.partition, moment.offset);
        let width = self.moments.iter().map(|moment| place(moment).len()).max().unwrap_or_default();
        self.moments.iter().map(|moment| moment.line(&place(moment), width)).collect()
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.moments.is_empty() {
            return write!(formatter, "no event of {}", self.key);
        }
        formatter.write_str(&self.lines().join("\n"))
    }
}

impl Moment {
    fn line(&self, place: &str, width: usize) -> String {
        /// Deeper events stand below each other: a line has an end.
        const DEPTH_MAX: u32 = 12;
        let sign = if self.after_us < 0 { '-' } else { '+' };
        let after_us = self.after_us.unsigned_abs();
        let after = format!("{sign}{}.{:03} s", after_us / 1_000_000, after_us / 1_000 % 1_000);
        let indent = "  ".repeat(self.depth.min(DEPTH_MAX) as usize);
        let says = if self.says.is_empty() { String::new() } else { format!("  {}", self.says) };
        let because = self.because.as_ref().map(|because| format!("  because {because}")).unwrap_or_default();
        format!("{after:>12}  {place:width$}  {indent}{}{says}{because}", self.event)
    }
}

/// A type without its version.
fn short(kind: &str) -> &str {
    kind.split_once(".v").map_or(kind, |(name, _)| name)
}

#[cfg(test)]
mod tests;
