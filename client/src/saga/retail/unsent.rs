//! What of the file is no event of the storefront, line by line, and why.

use std::collections::BTreeMap;

use serde::Serialize;

use super::invoice::{Invoice, Row};

/// Why a line, or some of its units, is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// What the marketplace takes: accounting.
    Fee,
    /// Money that will not come: accounting.
    BadDebt,
    /// A credit without customer: nobody knows what for.
    GuestCredit,
    /// A credit for what its customer had not bought before, or had got back already.
    NothingBought,
    /// The part of a credit that is above what its customer had bought.
    Cut,
    /// A credit of a service: accounting.
    ServiceCredit,
    /// A change of the stock of a service, which has none.
    ServiceStock,
}

/// A line that is not sent, or only in part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unsent {
    /// Why.
    pub reason: Reason,
    /// Its invoice.
    pub invoice: String,
    /// Its number in the invoice, from 1.
    pub line: u32,
    /// Its code, in upper case.
    pub code: String,
    /// The units that are not sent, with their sign in the file.
    pub units: i64,
    /// What these come to, in pence, at the price of the line.
    pub pence: i64,
}

/// What is not sent for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnsentTally {
    /// Lines.
    pub lines: u64,
    /// Units, with their signs.
    pub units: i64,
    /// Pence, with their signs.
    pub pence: i64,
}

impl Unsent {
    /// A whole line.
    pub(super) fn whole(reason: Reason, invoice: &Invoice, line: u32, row: &Row) -> Self {
        Self::part(reason, invoice, line, row, row.units, row.pence)
    }

    /// Some units of a line.
    pub(super) fn part(reason: Reason, invoice: &Invoice, line: u32, row: &Row, units: i64, pence: i64) -> Self {
        Self { reason, invoice: invoice.id.clone(), line, code: row.code.clone(), units, pence }
    }
}

impl Reason {
    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Fee => "a fee of the marketplace",
            Self::BadDebt => "a bad debt",
            Self::GuestCredit => "a credit without customer",
            Self::NothingBought => "a credit for what was not bought, or credited before",
            Self::Cut => "the part of a credit above what was bought",
            Self::ServiceCredit => "a credit of a service",
            Self::ServiceStock => "a change of the stock of a service",
        }
    }
}

/// What is not sent, by reason.
pub fn by_reason(unsent: &[Unsent]) -> BTreeMap<Reason, UnsentTally> {
    let mut tallies: BTreeMap<Reason, UnsentTally> = BTreeMap::new();
    for left in unsent {
        let tally = tallies.entry(left.reason).or_default();
        tally.lines += 1;
        // The sum over the whole file was counted before, line by line.
        tally.units = tally.units.saturating_add(left.units);
        tally.pence = tally.pence.saturating_add(left.pence);
    }
    tallies
}
