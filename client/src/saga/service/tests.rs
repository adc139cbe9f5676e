//! What the stories of the services share: a service alone with its state, told one event after another.

use std::{
    fmt::Debug,
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::*;
use crate::{
    processor::{Failed, Service, Told, Trigger, identify},
    saga::payload::{Line, OrderConfirmed, OrderFulfilled, OrderPlaced},
};

/// A service, and what it was told and said. Inputs have the ids `i1`, `i2`, …, outputs `o1`, `o2`, …
pub(crate) struct Story<S: Service> {
    pub(crate) service: S,
    pub(crate) state: S::State,
    said: Vec<(String, Event)>,
    heard: usize,
}

impl<H: Hear, S: Service<Fact = Word<H>, State: Clone + Debug + PartialEq>> Story<S> {
    pub(crate) fn new(service: S) -> Self {
        Self { service, state: S::State::default(), said: Vec::new(), heard: 0 }
    }

    /// Tells an event, with the next id, and gives what the service says then.
    pub(crate) fn hear(&mut self, key: &str, event: impl Into<Event>) -> Vec<Event> {
        self.heard += 1;
        let id = format!("i{}", self.heard);
        self.hear_as(&id, key, event)
    }

    /// Tells an event with this id.
    pub(crate) fn hear_as(&mut self, id: &str, key: &str, event: impl Into<Event>) -> Vec<Event> {
        self.try_hear(id, key, event).expect("the step is made")
    }

    pub(crate) fn try_hear(&mut self, id: &str, key: &str, event: impl Into<Event>) -> Result<Vec<Event>, Failed> {
        let event = event.into();
        assert!(self.service.wants(event.topic(), event.kind()), "{} is wanted", event.kind());
        let fact = Word::decode(event.kind(), &event.encode()).expect("well formed").expect("known");
        let told =
            Told { key: key.to_owned(), id: id.to_owned(), append_time_us: i64::try_from(self.heard).unwrap(), fact };
        self.service.observe(&mut self.state, &told);
        let calls = self.service.calls(&self.state, &told);
        let answers: Vec<_> = calls.into_iter().map(|call| ready(self.service.perform(call))).collect();
        self.step(&Trigger::Input(&told), &answers)
    }

    /// Lets a timer fire.
    pub(crate) fn fire(&mut self, key: &str, name: &str) -> Vec<Event> {
        self.step(&Trigger::Timer { key, name }, &[]).expect("the step is made")
    }

    fn step(&mut self, trigger: &Trigger<'_, Word<H>>, answers: &[S::Answer]) -> Result<Vec<Event>, Failed> {
        let outputs = self.service.decide(&self.state, trigger, answers)?;
        let mut number = self.said.len();
        let outputs = identify(outputs, || {
            number += 1;
            format!("o{number}")
        });
        let mut says = Vec::new();
        for output in outputs {
            assert_eq!(output.key, trigger.key(), "a step is about one key");
            assert!(self.service.writes().contains(&output.fact.topic()), "{:?} stands on its own topic", output.fact);
            self.service.apply(&mut self.state, &output);
            let Word::Said(event) = output.fact else { panic!("an input was said: {output:?}") };
            says.push(event.clone());
            self.said.push((output.key, event));
        }
        let saved = serde_json::to_vec(&self.state).expect("a state is written");
        assert_eq!(serde_json::from_slice::<S::State>(&saved).expect("and read"), self.state);
        Ok(says)
    }

    /// Everything that was said about a key.
    pub(crate) fn about(&self, key: &str) -> Vec<Event> {
        self.said.iter().filter(|(of, _)| of == key).map(|(_, event)| event.clone()).collect()
    }
}

/// The output of a future that waits for nothing.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future waits"),
    }
}

/// Units of lines.
pub(crate) fn units(lines: &[(u32, u64)]) -> Vec<Units> {
    lines.iter().map(|&(line, units)| Units { line, units }).collect()
}

/// A placement of `(line, code, units, price in mills)`; codes in lower case are services.
pub(crate) fn placed(lines: &[(u32, &str, u64, u64)]) -> OrderPlaced {
    let lines = lines.iter().map(|&(line, code, units, price_mills)| Line {
        line,
        code: code.to_owned(),
        description: format!("A \"{code}\""),
        units,
        price_mills,
        service: code.chars().all(char::is_lowercase),
    });
    OrderPlaced { customer: Some("17850".into()), address: "United Kingdom".into(), lines: lines.collect() }
}

/// A confirmation of these lines.
pub(crate) fn confirmed(lines: &[(u32, u64)], amount: u64) -> Event {
    let (address, requests) = ("United Kingdom".into(), Vec::new());
    OrderConfirmed { lines: units(lines), amount, address, requests }.into()
}

/// A shipment of these lines.
pub(crate) fn fulfilled(lines: &[(u32, u64)]) -> Event {
    OrderFulfilled { lines: units(lines) }.into()
}

#[test]
fn every_type_that_is_heard_is_read_and_every_other_is_not_wanted() {
    fn check<H: Hear>() {
        for (topic, kinds) in H::HEARS {
            for kind in *kinds {
                assert_eq!(Event::topic_of(kind), Some(*topic), "{kind} stands on {topic}");
                assert!(hears::<H>(topic, kind));
                assert!(!matches!(H::hear(kind, b"{}"), Ok(None)), "{kind} is read");
            }
        }
        assert!(!hears::<H>("orders", "NotificationSent.v1") && !hears::<H>("payments", "OrderPlaced.v1"));
    }
    check::<order::Matter>();
    check::<payment::Bill>();
    check::<inventory::Demand>();
    check::<fulfilment::Confirmed>();
    check::<notification::Reason>();
    assert_eq!(reads(group::INVENTORY), ["orders", "stock"]);
    assert_eq!(reads(group::ORDER), ["orders", "payments", "inventory", "fulfilment"]);
}

#[test]
fn a_malformed_payload_is_named() {
    for payload in [&b"{"[..], b"[]", br#"{"customer":null,"address":"","lines":[{"line":1}]}"#] {
        let kind = OrderPlaced::KIND;
        assert_eq!(Word::<order::Matter>::decode(kind, payload).expect_err("malformed").kind, kind);
        assert_eq!(Word::<payment::Bill>::decode(kind, payload).expect_err("malformed").kind, kind);
        assert_eq!(Word::<inventory::Demand>::decode(kind, payload).expect_err("malformed").kind, kind);
    }
    assert_eq!(Word::<order::Matter>::decode("Unheard.v1", b"{"), Ok(None));
}

#[test]
fn lines_are_found_in_any_order() {
    let lines = units(&[(1, 10), (2, 20), (5, 50), (4, 40)]);
    for order in [[1, 2, 5, 4], [4, 5, 2, 1], [5, 1, 4, 2]] {
        let mut seek = Seek::default();
        let found = order.map(|line| seek.line(line, &lines).map(|at| lines[at].units));
        assert_eq!(found, order.map(|line| Some(u64::from(line) * 10)));
        assert_eq!(seek.line(3, &lines), None);
    }
}
