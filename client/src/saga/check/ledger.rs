//! S12, ledger: what the gateway did and what the log says of payments is the same, one to one by key.

use std::{collections::BTreeMap, fmt};

use super::{
    case::Case,
    place::Place,
    verdict::{Findings, Invariant::S12, Subject},
};

/// What the gateway is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Set an amount aside.
    Authorize,
    /// Take what is set aside.
    Capture,
    /// Free what is set aside.
    Void,
    /// Give back what was taken.
    Refund,
}

impl Operation {
    /// The first part of its keys.
    fn name(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
        }
    }
}

/// What came of it, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Accepted,
    /// It was not.
    Declined,
}

/// An entry of the gateway's ledger: something that it did, or refused to do. An answer that it repeated is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The key that it was asked with.
    pub key: Option<String>,
    /// What was asked.
    pub operation: Operation,
    /// For which order.
    pub order: String,
    /// In pence.
    pub amount: u64,
    /// What came of it.
    pub outcome: Outcome,
}

impl fmt::Display for Charge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, order, amount, outcome, .. } = self;
        write!(formatter, "{operation:?} of {amount} p for {order}, {outcome:?}")
    }
}

/// The same as an event of the log tells it.
struct Paid<'a> {
    place: Place,
    /// The key that it has to have: `<operation>:<order>[:<request>]`.
    due_key: String,
    charge: Charge,
    about: &'a Subject,
    /// A decline of an order that was being cancelled: nobody was asked.
    never_asked: bool,
}

pub(crate) fn judge(cases: &[Case<'_>], ledger: &[Charge], findings: &mut Findings) {
    let mut by_key: BTreeMap<&str, Vec<&Charge>> = BTreeMap::new();
    for charge in ledger {
        if let Some(key) = &charge.key {
            by_key.entry(key).or_default().push(charge);
        } else {
            let about = Subject::Order(charge.order.clone());
            findings.wrong(S12, &about, &[], "a key with every charge", format_args!("{charge}, without one"));
        }
    }
    let paid: Vec<Paid<'_>> = cases.iter().flat_map(paid).collect();
    let mut events: BTreeMap<&str, Vec<&Paid<'_>>> = BTreeMap::new();
    for paid in &paid {
        match &paid.charge.key {
            Some(key) => events.entry(key).or_default().push(paid),
            None if paid.charge.amount == 0 || paid.never_asked => {}
            None => findings.wrong(S12, paid.about, &[paid.place], "the key of what was asked", &paid.charge),
        }
    }
    for (key, paid) in &events {
        judge_key(key, paid, by_key.get(key).map_or(&[], Vec::as_slice), findings);
    }
    for (key, charges) in by_key.iter().filter(|(key, _)| !events.contains_key(*key)) {
        let about = Subject::Order(charges[0].order.clone());
        // The gateway is asked before the log is told, so this may be on its way.
        findings.missing(S12, &about, &[], format_args!("an event for the charge {key}: {}", charges[0]));
    }
}

/// One event and one effective charge of each key, and both tell the same.
fn judge_key(key: &str, paid: &[&Paid<'_>], charges: &[&Charge], findings: &mut Findings) {
    let Paid { place, due_key, charge, about, .. } = paid[0];
    let places: Vec<Place> = paid.iter().map(|paid| paid.place).collect();
    if paid.len() > 1 {
        findings.wrong(S12, about, &places, format_args!("one event with the key {key}"), paid.len());
    }
    if key != due_key {
        findings.wrong(S12, about, &[*place], format_args!("the key {due_key}"), key);
    }
    if charge.amount == 0 {
        findings.wrong(S12, about, &[*place], "no key with an amount of 0", key);
    }
    match charges {
        [] => findings.wrong(S12, about, &[*place], format_args!("in the ledger {charge}, key {key}"), "nothing"),
        [only] if *only == charge => {}
        [only] => findings.wrong(S12, about, &[*place], format_args!("in the ledger {charge}"), only),
        more => {
            let expected = format_args!("one effective charge with the key {key}");
            findings.wrong(S12, about, &places, expected, more.len());
        }
    }
}

/// What the log says of an order's payments.
fn paid<'a>(case: &Case<'a>) -> Vec<Paid<'a>> {
    let Case { log, order, name, about } = *case;
    let mut all = Vec::new();
    let mut add = |event: u32, operation: Operation, amount, key: &Option<String>, outcome, request: Option<&str>| {
        let request = request.map_or_else(String::new, |request| format!(":{request}"));
        let due_key = format!("{}:{name}{request}", operation.name());
        let never_asked = outcome == Outcome::Declined && key.is_none() && !order.cancelling.is_empty();
        let charge = Charge { key: key.clone(), operation, order: name.to_owned(), amount, outcome };
        all.push(Paid { place: log.place(event), due_key, charge, about, never_asked });
    };
    for at in &order.authorized {
        add(at.event, Operation::Authorize, at.fact.amount, &at.fact.key, Outcome::Accepted, None);
    }
    for at in &order.declined {
        add(at.event, Operation::Authorize, at.fact.amount, &at.fact.key, Outcome::Declined, None);
    }
    for at in &order.captured {
        add(at.event, Operation::Capture, at.fact.amount, &at.fact.key, Outcome::Accepted, None);
    }
    for at in &order.voided {
        add(at.event, Operation::Void, at.fact.amount, &at.fact.key, Outcome::Accepted, None);
    }
    for at in &order.refunded {
        add(at.event, Operation::Refund, at.fact.amount, &at.fact.key, Outcome::Accepted, Some(&at.fact.request));
    }
    all
}
