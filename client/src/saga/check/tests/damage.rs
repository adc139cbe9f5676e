mod asked;
mod books;
mod flow;

use std::collections::BTreeSet;

use super::{
    super::{Charge, Cursor, FINDINGS_MAX, Invariant, Subject},
    good::{Said, World},
    judge_whole, named,
};
use crate::{
    processor::Fact as _,
    saga::payload::{Event as Payload, PaymentCaptured},
};

/// What is done to the log, who must notice, and about what.
struct Damage {
    what: &'static str,
    invariant: Invariant,
    about: Subject,
    apply: fn(&mut World),
}

fn order(invariant: Invariant, order: &str, what: &'static str, apply: fn(&mut World)) -> Damage {
    Damage { what, invariant, about: Subject::Order(order.into()), apply }
}

fn code(invariant: Invariant, code: &str, what: &'static str, apply: fn(&mut World)) -> Damage {
    Damage { what, invariant, about: Subject::Code(code.into()), apply }
}

fn group(invariant: Invariant, group: &str, what: &'static str, apply: fn(&mut World)) -> Damage {
    Damage { what, invariant, about: Subject::Group(group.into()), apply }
}

/// Changes the payload of the first event of this type with this key.
macro_rules! change {
    ($world:expr, $key:literal, $kind:ident, $change:expr) => {{
        let change: fn(&mut $kind) = $change;
        match &mut $world.said($key, $kind::KIND).fact {
            Payload::$kind(fact) => change(fact),
            other => panic!("{other:?} instead of {}", $kind::KIND),
        }
    }};
}
use change;

impl World {
    /// The first event of this type with this key.
    fn at(&self, key: &str, kind: &str) -> usize {
        let found = self.events.iter().position(|said| said.key == key && said.fact.kind() == kind);
        found.unwrap_or_else(|| panic!("no {kind} of {key} in the good log"))
    }

    fn said(&mut self, key: &str, kind: &str) -> &mut Said {
        let at = self.at(key, kind);
        &mut self.events[at]
    }

    fn id(&self, key: &str, kind: &str) -> String {
        self.events[self.at(key, kind)].id.clone()
    }

    fn lose(&mut self, key: &str, kind: &str) {
        let at = self.at(key, kind);
        self.events.remove(at);
    }

    /// Writes it again at the end of its partition, as it is.
    pub(super) fn again(&mut self, at: usize) -> &mut Said {
        let mut said = self.events[at].clone();
        let place = |said: &Said| (said.topic.clone(), said.partition);
        let of_partition = self.events.iter().filter(|other| place(other) == place(&said));
        said.offset = of_partition.map(|other| other.offset + 1).max().unwrap_or_default();
        said.time_us = self.events.iter().map(|other| other.time_us + 1_000).max().unwrap_or_default();
        self.events.push(said);
        self.events.last_mut().expect("one was pushed")
    }

    /// Writes it again under an id and in a step of its own.
    fn twin(&mut self, key: &str, kind: &str) -> &mut Said {
        let number = self.events.len();
        let at = self.at(key, kind);
        let said = self.again(at);
        said.id = format!("0190a6f0-0000-7000-8001-{number:012x}");
        said.step = said.step.take().map(|_| format!("{}/orders/9/{number}/0/1", said.source));
        said
    }

    /// The same about another order.
    fn twin_of(&mut self, key: &str, kind: &str, other: &str) {
        let said = self.twin(key, kind);
        (said.key, said.correlation) = (other.into(), other.into());
    }

    /// Two events of a partition change places.
    fn swap(&mut self, one: usize, other: usize) {
        let offset = self.events[one].offset;
        self.events[one].offset = std::mem::replace(&mut self.events[other].offset, offset);
    }

    /// The second click on "twice".
    fn second_click(&self) -> usize {
        let found = self.events.iter().rposition(|said| said.key == "twice" && said.causation.is_empty());
        found.expect("it was clicked twice")
    }

    /// A step for the second click says what the step for the first one said.
    fn says_for_second_click(&mut self, kind: &str) -> &mut Said {
        let Said { topic, partition, offset, id, .. } = self.events[self.second_click()].clone();
        let said = self.twin("twice", kind);
        said.step = Some(format!("{}/{topic}/{partition}/{offset}/0/1", said.source));
        said.causation = id;
        said
    }

    /// Changes the step's name of the first event of this type with this key.
    fn step(&mut self, key: &str, kind: &str, from: &str, to: &str) {
        let step = &mut self.said(key, kind).step;
        *step = step.as_ref().map(|step| step.replace(from, to));
    }

    fn charge(&mut self, key: &str) -> &mut Charge {
        let found = self.ledger.iter_mut().find(|charge| charge.key.as_deref() == Some(key));
        found.unwrap_or_else(|| panic!("no charge {key} in the good ledger"))
    }

    /// The first cursor of a group on a topic.
    fn cursor(&mut self, group: &str, topic: &str) -> &mut Cursor {
        let of = |cursor: &&mut Cursor| cursor.group == group && cursor.topic == topic;
        self.cursors.iter_mut().find(of).expect("the group reads it")
    }
}

fn all() -> Vec<Damage> {
    flow::damages().into_iter().chain(asked::damages()).chain(books::damages()).collect()
}

#[test]
fn every_damage_is_named_by_its_invariant_and_its_order() {
    let mut missed = Vec::new();
    for Damage { what, invariant, about, apply } in all() {
        let mut world = World::good();
        apply(&mut world);
        let verdict = judge_whole(&world);
        let found = verdict.findings.iter().find(|found| (found.invariant, &found.about) == (invariant, &about));
        if found.is_none() {
            missed.push(format!("{what}: {invariant} did not name {about}:\n{}", named(&verdict)));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

#[test]
fn every_invariant_has_a_damage() {
    let damaged: BTreeSet<Invariant> = all().into_iter().map(|damage| damage.invariant).collect();
    assert_eq!(damaged.into_iter().collect::<Vec<_>>(), Invariant::ALL);
}

#[test]
fn a_finding_says_invariant_order_places_expected_and_found() {
    let mut world = World::good();
    change!(world, "plain", PaymentCaptured, |fact| fact.amount -= 1);
    let verdict = judge_whole(&world);
    let found = verdict.findings.iter().find(|finding| finding.invariant == Invariant::S5).expect("S5 is hurt");
    let said = "S5 money per order: order plain: expected captured what was shipped: 3431 p, found 3430 p \
                at payments 1:1, fulfilment 1:0";
    assert_eq!(found.to_string(), said);
    let json = serde_json::to_value(found).expect("a finding is written as JSON");
    assert_eq!(json["invariant"], "S5");
    assert_eq!(json["about"]["order"], "plain");
    assert_eq!(json["places"][0], serde_json::json!({"topic": "payments", "partition": 1, "offset": 1}));
}

#[test]
fn findings_beyond_the_limit_are_counted() {
    let mut world = World::good();
    for said in &mut world.events {
        said.correlation.clear();
    }
    let events = world.events.len() as u64;
    let verdict = judge_whole(&world);
    assert_eq!(verdict.found.get(&Invariant::S3), Some(&events));
    let kept = verdict.findings.iter().filter(|finding| finding.invariant == Invariant::S3).count();
    assert_eq!(kept, FINDINGS_MAX);
    assert!(verdict.to_string().contains("more findings"), "{verdict}");
}
