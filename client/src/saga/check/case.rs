//! One order before the judge, with what every family of invariants asks of it.

use super::{
    facts::{At, Order},
    log::Log,
    place::Place,
    verdict::{Findings, Invariant, Subject},
};

/// An order, and the log that it stands in.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) log: &'a Log,
    pub(crate) order: &'a Order,
    pub(crate) name: &'a str,
    pub(crate) about: &'a Subject,
}

impl<'a> Case<'a> {
    /// What was taken in before this event, or at the same moment: of several topics no more is known of the order in
    /// which they were written.
    pub(crate) fn before<T>(&self, facts: &'a [At<T>], event: u32) -> impl Iterator<Item = &'a At<T>> {
        let (log, time_us) = (self.log, self.log.event(event).time_us);
        facts.iter().filter(move |fact| log.event(fact.event).time_us <= time_us)
    }

    /// Where the decision stands, if there is one.
    pub(crate) fn decided(&self) -> Option<Place> {
        let confirmed = self.order.confirmed.iter().map(|fact| fact.event);
        let decisions = confirmed.chain(self.order.cancelling.iter().map(|fact| fact.event));
        decisions.map(|event| self.log.place(event)).min()
    }

    pub(crate) fn place<T>(&self, fact: &At<T>) -> Place {
        self.log.place(fact.event)
    }

    pub(crate) fn places<T>(&self, facts: &[At<T>]) -> Vec<Place> {
        facts.iter().map(|fact| self.place(fact)).collect()
    }

    /// What was said is said at most once.
    pub(crate) fn at_most_one<T>(&self, invariant: Invariant, what: &str, facts: &[At<T>], findings: &mut Findings) {
        if facts.len() > 1 {
            let (expected, found) = (format_args!("at most one {what}"), facts.len());
            findings.wrong(invariant, self.about, &self.places(facts), expected, found);
        }
    }
}
