//! Ships what is confirmed: `OrderFulfilled` for `OrderConfirmed`, once per order. Split shipments are not modelled.
//!
//! What it said is all that it keeps.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::{ByKey, Hear, Word, hears, read, say};
use crate::{
    processor::{Failed, Malformed, Output, Service, Told, Trigger},
    saga::payload::{Event, OrderConfirmed, OrderFulfilled, Units, group, topic},
};

/// The service that ships.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fulfilment;

/// What it hears: that an order is confirmed, and which lines of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Confirmed {
    lines: Vec<Units>,
}

impl Hear for Confirmed {
    const HEARS: &'static [(&'static str, &'static [&'static str])] = &[(topic::ORDERS, &[OrderConfirmed::KIND])];

    fn hear(kind: &str, payload: &[u8]) -> Result<Option<Self>, Malformed> {
        read(kind, payload).map(Some)
    }
}

/// The orders that were shipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipped {
    orders: ByKey<()>,
}

impl Shipped {
    /// How many orders were shipped.
    pub fn orders(&self) -> usize {
        self.orders.count()
    }
}

impl Service for Fulfilment {
    type Fact = Word<Confirmed>;
    type State = Shipped;
    type Call = Infallible;
    type Answer = Infallible;

    fn name(&self) -> &str {
        group::FULFILMENT
    }

    fn writes(&self) -> &[&'static str] {
        &[topic::FULFILMENT]
    }

    fn wants(&self, topic: &str, kind: &str) -> bool {
        hears::<Confirmed>(topic, kind)
    }

    fn observe(&self, _: &mut Shipped, _: &Told<Self::Fact>) {}

    async fn perform(&self, call: Infallible) -> Infallible {
        call
    }

    fn decide(
        &self,
        state: &Shipped,
        trigger: &Trigger<'_, Self::Fact>,
        _: &[Infallible],
    ) -> Result<Vec<Output<Self::Fact>>, Failed> {
        match trigger {
            Trigger::Input(Told { key, fact: Word::Heard(_, confirmed), .. }) if state.orders.get(key).is_none() => {
                Ok(vec![say(key, OrderFulfilled { lines: confirmed.lines.clone() })])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn apply(&self, state: &mut Shipped, output: &Told<Self::Fact>) {
        if let Word::Said(Event::OrderFulfilled(_)) = output.fact {
            state.orders.of(&output.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saga::service::tests::{Story, confirmed, fulfilled};

    #[test]
    fn what_is_confirmed_is_shipped_once() {
        let mut story = Story::new(Fulfilment);
        assert_eq!(story.hear("1", confirmed(&[(1, 2), (3, 1)], 700)), [fulfilled(&[(1, 2), (3, 1)])]);
        assert_eq!(story.hear("1", confirmed(&[(1, 2), (3, 1)], 700)), []);
        assert_eq!(story.hear("2", confirmed(&[], 100)), [fulfilled(&[])]);
        assert_eq!(story.state.orders(), 2);
    }
}
