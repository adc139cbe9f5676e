//! What the judge says: findings, each with its invariant, what it is about, where, what was expected and what is
//! there; the orders that are still open; and what was counted on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;

use super::place::Place;

/// How many findings of each invariant are kept. All are counted.
pub const FINDINGS_MAX: usize = 25;
/// How many open orders are listed. All are counted.
pub const OPEN_MAX: usize = 1_000;
/// How many places a finding names.
const PLACES_MAX: usize = 8;

/// What has to hold. `docs/saga.md` has the words of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Invariant {
    /// The log is whole and holds the input, every item once.
    S1,
    /// Ids are unique, and every step stands in the log once and whole.
    S2,
    /// Every event has a cause that the flow allows.
    S3,
    /// Every order is decided once and for a reason, and carried out or given up as a whole.
    S4,
    /// The money of each order adds up.
    S5,
    /// The money of all orders adds up.
    S6,
    /// The stock adds up, after every event.
    S7,
    /// What is taken back was given before, and no more than that.
    S8,
    /// Every request has one answer, and gets what there is to get.
    S9,
    /// Nobody is told the same twice.
    S10,
    /// Every group has read everything.
    S11,
    /// The gateway's ledger and the log tell the same.
    S12,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::S1,
        Self::S2,
        Self::S3,
        Self::S4,
        Self::S5,
        Self::S6,
        Self::S7,
        Self::S8,
        Self::S9,
        Self::S10,
        Self::S11,
        Self::S12,
    ];

    /// Its name in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::S1 => "input",
            Self::S2 => "one step",
            Self::S3 => "cause",
            Self::S4 => "one decision",
            Self::S5 => "money per order",
            Self::S6 => "money in all",
            Self::S7 => "stock",
            Self::S8 => "compensation",
            Self::S9 => "requests",
            Self::S10 => "told once",
            Self::S11 => "quiet",
            Self::S12 => "ledger",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:?} {}", self.words())
    }
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// This order.
    Order(String),
    /// The stock of this code.
    Code(String),
    /// This group.
    Group(String),
    /// The log as a whole.
    Log,
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(order) => write!(formatter, "order {order}"),
            Self::Code(code) => write!(formatter, "code {code}"),
            Self::Group(group) => write!(formatter, "group {group}"),
            Self::Log => formatter.write_str("the log"),
        }
    }
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What does not hold.
    pub invariant: Invariant,
    /// What it is about.
    pub about: Subject,
    /// Where it shows, at most 8 places.
    pub places: Vec<Place>,
    /// What should be.
    pub expected: String,
    /// What is.
    pub found: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, about, places, expected, found } = self;
        write!(formatter, "{invariant}: {about}: expected {expected}, found {found}")?;
        for (index, place) in places.iter().enumerate() {
            write!(formatter, "{}{place}", if index == 0 { " at " } else { ", " })?;
        }
        Ok(())
    }
}

/// An order of which something has not happened yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Open {
    /// The order, or the code whose stock is to be changed.
    pub about: Subject,
    /// What it waits for, first.
    pub waits_for: String,
}

/// What was counted while judging.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Events of all topics.
    pub events: u64,
    /// Orders of which there is a placement.
    pub orders: u64,
    /// Orders that were shipped as they were placed.
    pub whole: u64,
    /// Orders that were shipped in part.
    pub partial: u64,
    /// Orders that were not carried out.
    pub cancelled: u64,
    /// Placements after an order's first one.
    pub placed_again: u64,
    /// Requests that say again what one before them said.
    pub asked_again: u64,
    /// Requests that are contained in decisions.
    pub requests_in_time: u64,
    /// Returns in which all was taken back that was asked.
    pub returns_whole: u64,
    /// Returns in which a part of it was taken back.
    pub returns_partial: u64,
    /// Returns that were refused.
    pub returns_refused: u64,
    /// Pence captured.
    pub captured_pence: u128,
    /// Pence given back.
    pub refunded_pence: u128,
    /// Units in stock at the end, without those that are set aside.
    pub units_left: i128,
    /// Events that a customer is told of, and was not told of (S10 forbids to tell twice, not to tell late).
    pub untold: u64,
    /// Records that some group has not read yet.
    pub unread: u64,
}

/// What the judge says of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What was judged: [`Invariant::S1`], [`Invariant::S11`] and [`Invariant::S12`] need more than the log.
    pub judged: Vec<Invariant>,
    /// What must not be: the first [`FINDINGS_MAX`] of each invariant.
    pub findings: Vec<Finding>,
    /// How many findings there are of each invariant, those that are not kept included. Without an entry there is none.
    pub found: BTreeMap<Invariant, u64>,
    /// Orders that are still open: the first [`OPEN_MAX`].
    pub open: Vec<Open>,
    /// How many orders are still open.
    pub open_count: u64,
    /// What was counted.
    pub counts: Counts,
}

impl Verdict {
    /// Whether everything that was judged holds.
    pub fn holds(&self) -> bool {
        self.found.is_empty()
    }
}

impl Verdict {
    /// What is shown to a person: a line for each finding and each open order, and one that sums up. Names and values
    /// of the events stand in them as they are, also if they have line breaks or what a terminal obeys.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.findings.iter().map(ToString::to_string).collect();
        let kept = self.findings.len() as u64;
        let all: u64 = self.found.values().sum();
        if all > kept {
            lines.push(format!("and {} more findings", all - kept));
        }
        lines.extend(self.open.iter().map(|open| format!("open: {} waits for {}", open.about, open.waits_for)));
        let judged: Vec<String> = self.judged.iter().map(|invariant| format!("{invariant:?}")).collect();
        let Counts { events, orders, .. } = self.counts;
        let (open, judged) = (self.open_count, judged.join(" "));
        lines.push(format!("{orders} orders, {events} events, {open} open, {all} findings ({judged})"));
        lines
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.lines().join("\n"))
    }
}

/// Collects findings while judging.
pub(crate) struct Findings {
    allow_open: bool,
    kept: Vec<Finding>,
    found: BTreeMap<Invariant, u64>,
    open: Vec<Open>,
    waiting: BTreeSet<Subject>,
}

impl Findings {
    pub(crate) fn new() -> Self {
        Self { allow_open: false, kept: Vec::new(), found: BTreeMap::new(), open: Vec::new(), waiting: BTreeSet::new() }
    }

    /// Whether what is missing is no finding.
    pub(crate) fn allow_open(&mut self, allow: bool) {
        self.allow_open = allow;
    }

    /// Something is there that must not be, or is another one.
    pub(crate) fn wrong(
        &mut self,
        invariant: Invariant,
        about: &Subject,
        places: &[Place],
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        let count = self.found.entry(invariant).or_default();
        *count += 1;
        if *count > FINDINGS_MAX as u64 {
            return;
        }
        self.kept.push(Finding {
            invariant,
            about: about.clone(),
            places: places.iter().copied().take(PLACES_MAX).collect(),
            expected: expected.to_string(),
            found: found.to_string(),
        });
    }

    /// Something is not there yet: the order is open, which is a finding unless open orders are allowed.
    pub(crate) fn missing(
        &mut self,
        invariant: Invariant,
        about: &Subject,
        places: &[Place],
        expected: impl fmt::Display,
    ) {
        if !self.waiting.contains(about) {
            self.waiting.insert(about.clone());
            if self.open.len() < OPEN_MAX {
                self.open.push(Open { about: about.clone(), waits_for: expected.to_string() });
            }
        }
        if !self.allow_open {
            self.wrong(invariant, about, places, expected, "none");
        }
    }

    /// Whether open orders are allowed.
    pub(crate) fn allows_open(&self) -> bool {
        self.allow_open
    }

    /// Whether something of any order is missing.
    pub(crate) fn any_open(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether something of it is missing.
    pub(crate) fn is_open(&self, about: &Subject) -> bool {
        self.waiting.contains(about)
    }

    pub(crate) fn verdict(mut self, judged: Vec<Invariant>, counts: Counts) -> Verdict {
        self.kept.sort_by_key(|finding| finding.invariant);
        Verdict {
            judged,
            findings: self.kept,
            found: self.found,
            open: self.open,
            open_count: self.waiting.len() as u64,
            counts,
        }
    }
}

/// A list as a person reads it.
pub(crate) struct Listed<'a, T>(pub(crate) &'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("none");
        }
        for (index, item) in self.0.iter().enumerate() {
            write!(formatter, "{}{item}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
