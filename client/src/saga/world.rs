//! The five services over a log in memory: for tests that need no broker. One thread, one delivery at a time.
//!
//! Everything goes through bytes as it does in the log. The world keeps a processor's contract: each partition of each
//! topic is delivered in its order, a step's outputs stand in the log before the next step, states are kept per
//! partition, and inventory has a single one. Which partition is next is the caller's to choose.

mod part;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use self::part::{Part, Running, Spoken};
use super::{
    payload::{Event, group, topic},
    service::{Charge, Charged, Fulfilment, Gateway, Inventory, Notification, Order, Payment, Refused, reads},
};
use crate::{
    partition_for_key,
    processor::{Cause, Fact as _, Place, StepName},
};

/// An event as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub place: Place,
    /// What it is about: an order, or a code.
    pub key: String,
    /// Its id.
    pub id: String,
    /// Its type.
    pub kind: &'static str,
    /// Its payload.
    pub payload: Vec<u8>,
    /// A clock that goes on by a microsecond with every event.
    pub append_time_us: i64,
    /// Who said it.
    pub source: String,
    /// The event that made it be said; none for the storefront's.
    pub causation: Option<String>,
    /// The step that said it; none for the storefront's.
    pub step: Option<StepName>,
}

impl Entry {
    /// What it says.
    ///
    /// **Panics**: never, for an entry of a world.
    pub fn event(&self) -> Event {
        let event = Event::decode(self.kind, &self.payload).expect("the world wrote it");
        event.expect("a type of the saga")
    }
}

/// A step that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Whose step.
    pub group: String,
    /// What it was about.
    pub key: String,
    /// What went wrong.
    pub wrong: String,
}

impl fmt::Display for Stuck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "step failed group={} key={}: {}", self.group, self.key, self.wrong)
    }
}

impl std::error::Error for Stuck {}

/// A partition that a service has not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    subscription: usize,
}

/// A service's way through a partition.
#[derive(Debug)]
struct Subscription {
    part: usize,
    /// Which of the service's states it changes.
    slot: usize,
    topic: &'static str,
    partition: usize,
    cursor: usize,
}

/// Charges by a rule, and remembers what it was asked.
struct Till {
    rule: Box<dyn Fn(&Charge) -> Charged + Send + Sync>,
    charges: Mutex<Vec<(Charge, Charged)>>,
}

impl Gateway for Arc<Till> {
    async fn charge(&self, charge: Charge) -> Result<Charged, Refused> {
        let charged = (self.rule)(&charge);
        self.charges.lock().unwrap_or_else(PoisonError::into_inner).push((charge, charged));
        Ok(charged)
    }
}

/// The services, their log and their gateway.
pub struct World {
    entries: Vec<Entry>,
    /// For each topic of [`topic::ALL`] and each partition: indexes of entries.
    logs: Vec<Vec<Vec<usize>>>,
    parts: Vec<Box<dyn Part>>,
    subscriptions: Vec<Subscription>,
    till: Arc<Till>,
}

impl World {
    /// A world in which nothing was said, whose gateway answers by a rule: the same answer for the same key.
    pub fn new(
        partitions: usize,
        deadline: Duration,
        rule: impl Fn(&Charge) -> Charged + Send + Sync + 'static,
    ) -> Self {
        let till = Arc::new(Till { rule: Box::new(rule), charges: Mutex::default() });
        let parts: Vec<Box<dyn Part>> = vec![
            Box::new(Running::new(Order::new(deadline), partitions)),
            Box::new(Running::new(Payment::new(till.clone()), partitions)),
            Box::new(Running::new(Inventory, 1)),
            Box::new(Running::new(Fulfilment, partitions)),
            Box::new(Running::new(Notification, partitions)),
        ];
        let count = |topic| if topic == topic::STOCK { 1 } else { partitions };
        let mut subscriptions = Vec::new();
        for (part, running) in parts.iter().enumerate() {
            for topic in reads(running.name()) {
                let slot = |partition| if running.name() == group::INVENTORY { 0 } else { partition };
                let all = 0..count(topic);
                subscriptions.extend(all.map(|partition| Subscription {
                    part,
                    slot: slot(partition),
                    topic,
                    partition,
                    cursor: 0,
                }));
            }
        }
        let logs = topic::ALL.iter().map(|topic| vec![Vec::new(); count(topic)]).collect();
        Self { entries: Vec::new(), logs, parts, subscriptions, till }
    }

    /// The storefront says something. Gives the event's id.
    pub fn tell(&mut self, key: &str, event: impl Into<Event>) -> String {
        let event = event.into();
        let id = format!("e{}", self.entries.len());
        let spoken = Spoken {
            key: key.to_owned(),
            id: id.clone(),
            kind: event.kind(),
            topic: event.topic(),
            payload: event.encode(),
        };
        self.append(spoken, group::STOREFRONT, None, None);
        id
    }

    /// Delivers until no service has anything to read.
    ///
    /// **Errors**: a step that cannot be made.
    pub fn run(&mut self) -> Result<(), Stuck> {
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            for subscription in 0..self.subscriptions.len() {
                while self.next(subscription).is_some() {
                    self.deliver(Ready { subscription })?;
                    is_quiet = false;
                }
            }
        }
        Ok(())
    }

    /// Partitions that a service has something to read of.
    pub fn ready(&self) -> Vec<Ready> {
        let all = (0..self.subscriptions.len()).filter(|&subscription| self.next(subscription).is_some());
        all.map(|subscription| Ready { subscription }).collect()
    }

    /// Delivers the next event of a partition. Gives what was said then, as indexes of entries.
    ///
    /// **Errors**: the step cannot be made. **Panics**: when nothing is ready there.
    pub fn deliver(&mut self, ready: Ready) -> Result<std::ops::Range<usize>, Stuck> {
        let at = self.next(ready.subscription).expect("only what is ready is delivered");
        let Subscription { part, slot, .. } = self.subscriptions[ready.subscription];
        let (entry, first) = (&self.entries[at], self.entries.len());
        let said = self.parts[part].hear(slot, entry, &mut |k| format!("e{}", first + k));
        let said = said.map_err(|wrong| self.stuck(part, &self.entries[at].key, wrong))?;
        let Place { topic, partition, offset } = &entry.place;
        let cause = Cause::Input { topic: topic.to_string(), partition: *partition, offset: *offset };
        let causation = entry.id.clone();
        self.subscriptions[ready.subscription].cursor += 1;
        Ok(self.append_step(part, said, &cause, &causation))
    }

    /// Lets the timer of an order fire, if it has one. Gives what was said then; none without a timer.
    ///
    /// **Errors**: the step cannot be made.
    pub fn fire(&mut self, key: &str) -> Result<Option<std::ops::Range<usize>>, Stuck> {
        let found = self.parts.iter().enumerate().find_map(|(part, running)| {
            let (slot, timer) = running.timer(key)?;
            Some((part, slot, timer))
        });
        let Some((part, slot, timer)) = found else { return Ok(None) };
        let first = self.entries.len();
        let said = self.parts[part].fire(slot, key, timer.name, &mut |k| format!("e{}", first + k));
        let said = said.map_err(|wrong| self.stuck(part, key, wrong))?;
        let cause = Cause::Timer { name: format!("{}:{key}", timer.name) };
        Ok(Some(self.append_step(part, said, &cause, &timer.since)))
    }

    /// Keys with a timer.
    pub fn timers(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.parts.iter().flat_map(|part| part.timers()).collect();
        keys.sort();
        keys
    }

    /// Everything that was said, in the order of the appends.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Everything that the gateway was asked, and its answers.
    pub fn charges(&self) -> Vec<(Charge, Charged)> {
        self.till.charges.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn next(&self, subscription: usize) -> Option<usize> {
        let Subscription { topic, partition, cursor, .. } = self.subscriptions[subscription];
        self.log(topic, partition).get(cursor).copied()
    }

    fn log(&self, topic: &str, partition: usize) -> &[usize] {
        &self.logs[place_of(topic)][partition]
    }

    fn stuck(&self, part: usize, key: &str, wrong: String) -> Stuck {
        Stuck { group: self.parts[part].name().to_owned(), key: key.to_owned(), wrong }
    }

    fn append_step(
        &mut self,
        part: usize,
        said: Vec<Spoken>,
        cause: &Cause,
        causation: &str,
    ) -> std::ops::Range<usize> {
        let (first, n) = (self.entries.len(), said.len() as u32);
        let group = self.parts[part].name().to_owned();
        for (k, spoken) in (0..n).zip(said) {
            let step = StepName { group: group.clone(), cause: cause.clone(), k, n };
            self.append(spoken, &group, Some(causation.to_owned()), Some(step));
        }
        first..self.entries.len()
    }

    fn append(&mut self, spoken: Spoken, source: &str, causation: Option<String>, step: Option<StepName>) {
        let Spoken { key, id, kind, topic, payload } = spoken;
        let log = &mut self.logs[place_of(topic)];
        let partition = partition_for_key(key.as_bytes(), log.len() as u32);
        let log = &mut log[partition as usize];
        let place = Place { topic: topic.into(), partition, offset: log.len() as u64 };
        log.push(self.entries.len());
        let append_time_us = i64::try_from(self.entries.len()).unwrap_or(i64::MAX);
        let source = source.to_owned();
        self.entries.push(Entry { place, key, id, kind, payload, append_time_us, source, causation, step });
    }
}

fn place_of(topic: &str) -> usize {
    topic::ALL.iter().position(|known| *known == topic).expect("a topic of the saga")
}

#[cfg(test)]
mod tests;
