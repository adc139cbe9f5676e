//! Decides: for each order exactly one of `OrderConfirmed` and `OrderCancelling`, and an answer to each request.
//!
//! It hears of an order from four topics, which are not ordered against each other. So it keeps what it heard, and each
//! step says all that is due and was not said: [`Case::due`] is the whole of its rules, a plain function of the facts.

mod case;
mod hear;

use std::{convert::Infallible, time::Duration};

use serde::{Deserialize, Serialize};

use self::case::Case;
pub(super) use self::hear::Matter;
use super::{ByKey, Word, hears, say};
use crate::{
    processor::{Failed, Output, Service, Timer, Told, Trigger},
    saga::payload::{
        Event, OrderCancelled, OrderCancelling, OrderConfirmed, PlacementRefused, ReturnAccepted, group, topic,
    },
};

/// The name of the timer after which an order that is not decided is cancelled. It runs from the append time of its
/// `OrderPlaced`.
pub const DEADLINE: &str = "deadline";

/// The service that decides.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    deadline_us: i64,
}

impl Order {
    /// A service that cancels what it cannot decide for this long.
    pub fn new(deadline: Duration) -> Self {
        Self { deadline_us: i64::try_from(deadline.as_micros()).unwrap_or(i64::MAX) }
    }

    fn deadline(self, case: &Case) -> Option<Timer> {
        let (placed, at_us) = case.undecided()?;
        Some(Timer { name: DEADLINE, due_us: at_us.saturating_add(self.deadline_us), since: placed.to_owned() })
    }
}

/// All orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    cases: ByKey<Case>,
    ignored: u64,
    refused: u64,
    confirmed: u64,
    cancelling: u64,
}

impl Orders {
    /// How many events were ignored because they said again what was said, how many placements were refused, how many
    /// orders were decided how.
    pub fn counts(&self) -> [(&'static str, u64); 4] {
        [
            ("ignored", self.ignored),
            ("refused", self.refused),
            ("confirmed", self.confirmed),
            ("cancelling", self.cancelling),
        ]
    }
}

impl Service for Order {
    type Fact = Word<Matter>;
    type State = Orders;
    type Call = Infallible;
    type Answer = Infallible;

    fn name(&self) -> &str {
        group::ORDER
    }

    fn writes(&self) -> &[&'static str] {
        &[topic::ORDERS]
    }

    fn wants(&self, topic: &str, kind: &str) -> bool {
        hears::<Matter>(topic, kind)
    }

    fn observe(&self, state: &mut Orders, input: &Told<Self::Fact>) {
        let Word::Heard(_, matter) = &input.fact else { return };
        if state.cases.of(&input.key).hear(matter, &input.id, input.append_time_us) == case::News::Ignored {
            state.ignored += 1;
        }
    }

    async fn perform(&self, call: Infallible) -> Infallible {
        call
    }

    fn decide(
        &self,
        state: &Orders,
        trigger: &Trigger<'_, Self::Fact>,
        _: &[Infallible],
    ) -> Result<Vec<Output<Self::Fact>>, Failed> {
        let order = trigger.key();
        let is_late = matches!(trigger, Trigger::Timer { name, .. } if *name == DEADLINE);
        let says = state.cases.get(order).map(|case| case.due(is_late)).unwrap_or_default();
        Ok(says.into_iter().map(|event| say(order, event)).collect())
    }

    fn apply(&self, state: &mut Orders, output: &Told<Self::Fact>) {
        let Word::Said(event) = &output.fact else { return };
        let case = state.cases.of(&output.key);
        match event {
            Event::PlacementRefused(PlacementRefused { placement, .. }) => {
                case.refused(placement);
                state.refused += 1;
            }
            Event::OrderConfirmed(OrderConfirmed { lines, requests, .. }) => {
                case.confirmed(lines, requests);
                state.confirmed += 1;
            }
            Event::OrderCancelling(OrderCancelling { reason, requests }) => {
                case.cancelling(*reason, requests);
                state.cancelling += 1;
            }
            Event::OrderCancelled(OrderCancelled { reason }) => case.cancelled(*reason),
            Event::ReturnAccepted(ReturnAccepted { request, lines, .. }) => case.returned(request, lines),
            Event::ReturnRefused(refused) => case.answered(&refused.request),
            Event::AddressChangeRefused(refused) => case.answered(&refused.request),
            _ => {}
        }
    }

    fn timer(&self, state: &Orders, key: &str) -> Option<Timer> {
        self.deadline(state.cases.get(key)?)
    }

    fn timers(&self, state: &Orders) -> Vec<(String, Timer)> {
        let due = state.cases.iter().filter_map(|(key, case)| Some((key.to_owned(), self.deadline(case)?)));
        due.collect()
    }
}

#[cfg(test)]
mod tests;
