//! The five services of the order saga. Each is a plain implementation of [`Service`](crate::processor::Service).
//!
//! | service | hears | says |
//! |---|---|---|
//! | [`Order`] | placements and requests; what payment, inventory and fulfilment made of them | the decision, answers |
//! | [`Payment`] | placements, decisions, accepted returns; what was shipped | what became of the money |
//! | [`Inventory`] | the same, and changes of the stock | what became of the goods |
//! | [`Fulfilment`] | confirmed orders | what was shipped |
//! | [`Notification`] | what a customer wants to know | that he was told |
//!
//! Inputs of different topics come in any order. So [`Order`] and [`Payment`], which hear of one order from several
//! topics, keep facts and say at each step everything that is due and was not said; doubles and other orders change
//! nothing. The other three answer each input by itself, and what they said is all that they keep.
//!
//! What every service shares is here: [`Word`], which reads of an input no more than the service needs.

mod fulfilment;
mod inventory;
mod notification;
mod order;
mod payment;

use std::{collections::HashMap, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use fulfilment::{Fulfilment, Shipped};
pub use inventory::{Inventory, Stock};
pub use notification::{Notices, Notification};
pub use order::{DEADLINE, Order, Orders};
pub use payment::{Charge, Charged, Gateway, Operation, Payment, Purses, Refused};

use super::payload::{Event, Units, group};
use crate::processor::{Fact, Malformed, Output};

/// Inputs of a service, of which it reads what it needs and skips the rest.
pub trait Hear: Clone + fmt::Debug + Send + Sync + 'static {
    /// The types that it hears, topic by topic.
    const HEARS: &'static [(&'static str, &'static [&'static str])];

    /// Reads what is needed of an input; none when it is not heard.
    ///
    /// **Errors**: it is heard, and the payload is not one of its type as far as it is read.
    fn hear(kind: &str, payload: &[u8]) -> Result<Option<Self>, Malformed>;
}

/// Whether a service that hears `H` wants an input of this type.
pub fn hears<H: Hear>(topic: &str, kind: &str) -> bool {
    H::HEARS.iter().any(|(heard, kinds)| *heard == topic && kinds.contains(&kind))
}

/// The topics that the service of this group reads; none when it is none of the saga's.
pub fn reads(group: &str) -> Vec<&'static str> {
    fn topics<H: Hear>() -> Vec<&'static str> {
        H::HEARS.iter().map(|(topic, _)| *topic).collect()
    }

    match group {
        group::ORDER => topics::<order::Matter>(),
        group::PAYMENT => topics::<payment::Bill>(),
        group::INVENTORY => topics::<inventory::Demand>(),
        group::FULFILMENT => topics::<fulfilment::Confirmed>(),
        group::NOTIFICATION => topics::<notification::Reason>(),
        _ => Vec::new(),
    }
}

/// What a service hears and what it says itself: a fact of its topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word<H> {
    /// An input: its type, and what was read of it.
    Heard(&'static str, H),
    /// An output, whole.
    Said(Event),
}

impl<H: Hear> Fact for Word<H> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Heard(kind, _) => kind,
            Self::Said(event) => event.kind(),
        }
    }

    fn topic(&self) -> &'static str {
        match self {
            Self::Heard(kind, _) => Event::topic_of(kind).expect("services hear types of the saga"),
            Self::Said(event) => event.topic(),
        }
    }

    /// **Panics**: for an input. Not all of it was read, so it cannot be written.
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Heard(kind, _) => unreachable!("an input is never written again kind={kind}"),
            Self::Said(event) => event.encode(),
        }
    }

    fn decode(kind: &str, payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut heard = H::HEARS.iter().flat_map(|(_, kinds)| *kinds);
        match heard.find(|heard| **heard == kind) {
            Some(kind) => Ok(H::hear(kind, payload)?.map(|what| Self::Heard(kind, what))),
            None => Ok(Event::decode(kind, payload)?.map(Self::Said)),
        }
    }

    fn name_siblings(&mut self, ids: &[String]) {
        if let Self::Said(event) = self {
            event.name_siblings(ids);
        }
    }
}

/// Reads fields of a payload; those that `T` does not have are skipped.
fn read<T: DeserializeOwned>(kind: &str, payload: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(payload).map_err(|error| malformed(kind, &error))
}

fn malformed(kind: &str, error: &serde_json::Error) -> Malformed {
    Malformed { kind: kind.to_owned(), wrong: error.to_string() }
}

/// An output of a step about `key`.
fn say<H>(key: &str, event: impl Into<Event>) -> Output<Word<H>> {
    Output { key: key.to_owned(), fact: Word::Said(event.into()) }
}

/// Something for each key: order, request or code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct ByKey<T>(HashMap<Box<str>, T>);

impl<T> Default for ByKey<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Default> ByKey<T> {
    fn get(&self, key: &str) -> Option<&T> {
        self.0.get(key)
    }

    /// What is there for the key, which from now on is something.
    fn of(&mut self, key: &str) -> &mut T {
        if !self.0.contains_key(key) {
            self.0.insert(key.into(), T::default());
        }
        self.0.get_mut(key).expect("it was put in if it was missing")
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(key, of)| (&**key, of))
    }
}

/// Something that stands for a line of an order.
trait Numbered {
    fn line(&self) -> u32;
}

impl Numbered for Units {
    fn line(&self) -> u32 {
        self.line
    }
}

/// Finds lines by their numbers: at once when they are asked for in the order in which they stand, which is the rule,
/// and at all in any other.
#[derive(Default)]
struct Seek {
    next: usize,
}

impl Seek {
    /// Where the line stands.
    fn line<T: Numbered>(&mut self, line: u32, lines: &[T]) -> Option<usize> {
        let (before, after) = lines.split_at(self.next.min(lines.len()));
        let ahead = after.iter().position(|of| of.line() == line).map(|at| before.len() + at);
        let at = ahead.or_else(|| before.iter().position(|of| of.line() == line))?;
        self.next = at + 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests;
