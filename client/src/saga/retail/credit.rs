//! Credits are matched to what their customers had bought before; the file itself does not say what they are for.
//!
//! A line of a credit takes units of earlier lines of the same customer and code that no credit has taken yet: of those
//! at its own price first, and of these those of the latest order first, as many lines as it needs; within an order
//! from its first line on. "Earlier" is above the credit in the file and not later by the clock; "latest" is by the
//! clock of the order, then by its place in the file.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use super::{
    counts::Credited,
    invoice::{Invoice, Kind, Row, pence},
    unsent::{Reason, Unsent},
};

/// What one credit asks of one order.
#[derive(Debug)]
pub(super) struct Claim {
    /// The order's place among the invoices.
    pub(super) order: usize,
    /// Units by line.
    pub(super) lines: BTreeMap<u32, u64>,
}

/// What customers that got credits had bought, and what of it no credit has taken yet.
#[derive(Debug, Default)]
pub(super) struct Purchases<'a> {
    bought: HashMap<&'a str, HashMap<&'a str, Vec<Purchase>>>,
}

/// A product line of an order.
#[derive(Debug)]
struct Purchase {
    /// The order's place among the invoices.
    order: usize,
    /// Where the order begins in the file.
    order_line: u64,
    time_us: i64,
    line: u32,
    mills: i64,
    /// Units that are not credited yet.
    left: u64,
}

impl<'a> Purchases<'a> {
    /// Lines of these orders that some credit may be about.
    pub(super) fn of(invoices: &'a [(Kind, Invoice)]) -> Self {
        let mut bought: HashMap<&str, HashMap<&str, Vec<Purchase>>> = HashMap::new();
        for (customer, row) in products(invoices, Kind::Credit).map(|(_, invoice, _, row)| (&invoice.customer, row)) {
            if let Some(customer) = customer {
                bought.entry(customer).or_default().entry(&row.code).or_default();
            }
        }
        for (order, invoice, line, row) in products(invoices, Kind::Order) {
            let Some(customer) = &invoice.customer else { continue };
            if let Some(lines) = bought.get_mut(customer.as_str()).and_then(|codes| codes.get_mut(row.code.as_str())) {
                lines.push(Purchase {
                    order,
                    order_line: invoice.file_line,
                    time_us: invoice.time_us,
                    line,
                    mills: row.mills,
                    left: row.units.unsigned_abs(),
                });
            }
        }
        for lines in bought.values_mut().flat_map(HashMap::values_mut) {
            lines.sort_by_key(|line| (Reverse((line.time_us, line.order_line)), line.line));
        }
        Self { bought }
    }

    /// Takes what a credit is about. Gives a claim for each order that it touches, in the order in which it touches
    /// them, and leaves word of every line that is not sent whole.
    pub(super) fn take(&mut self, credit: &Invoice, counts: &mut Credited, unsent: &mut Vec<Unsent>) -> Vec<Claim> {
        let mut claims: Vec<Claim> = Vec::new();
        for (line, row) in numbered(credit) {
            let customer = match (&credit.customer, row.service) {
                (Some(customer), false) => customer.as_str(),
                (customer, service) => {
                    let (reason, count) = match (customer, service) {
                        (None, false) => (Reason::GuestCredit, &mut counts.guest_lines),
                        (None, true) => (Reason::ServiceCredit, &mut counts.guest_service_lines),
                        (Some(_), _) => (Reason::ServiceCredit, &mut counts.service_lines),
                    };
                    *count += 1;
                    unsent.push(Unsent::whole(reason, credit, line, row));
                    continue;
                }
            };
            let lines = self.bought.get_mut(customer).and_then(|codes| codes.get_mut(row.code.as_str()));
            let asked = row.units.unsigned_abs();
            let left = take_units(lines.map_or(&mut [], Vec::as_mut_slice), credit, row, asked, &mut claims);
            if left == 0 {
                counts.matched_lines += 1;
            } else if left == asked {
                counts.nothing_bought_lines += 1;
                unsent.push(Unsent::whole(Reason::NothingBought, credit, line, row));
            } else {
                counts.cut_lines += 1;
                let left = -left.cast_signed();
                // A part of a line that fits fits too.
                let pence = pence(left, row.mills).unwrap_or_default();
                unsent.push(Unsent::part(Reason::Cut, credit, line, row, left, pence));
            }
        }
        claims
    }
}

/// Takes so many units of these lines, at the price of the credit's line before others. Gives how many there were not.
fn take_units(lines: &mut [Purchase], credit: &Invoice, row: &Row, mut units: u64, claims: &mut Vec<Claim>) -> u64 {
    for at_its_price in [true, false] {
        for bought in lines.iter_mut().filter(|bought| (bought.mills == row.mills) == at_its_price) {
            let earlier = bought.order_line < credit.file_line && bought.time_us <= credit.time_us;
            let taken = if earlier { bought.left.min(units) } else { 0 };
            if taken == 0 {
                continue;
            }
            bought.left -= taken;
            units -= taken;
            let place = claims.iter().position(|claim| claim.order == bought.order).unwrap_or_else(|| {
                claims.push(Claim { order: bought.order, lines: BTreeMap::new() });
                claims.len() - 1
            });
            *claims[place].lines.entry(bought.line).or_default() += taken;
        }
    }
    units
}

/// Product lines of all invoices of a kind: the invoice's place, the invoice, the line's number, the line.
fn products(invoices: &[(Kind, Invoice)], of: Kind) -> impl Iterator<Item = (usize, &Invoice, u32, &Row)> {
    let places = invoices.iter().enumerate().filter(move |(_, (kind, _))| *kind == of);
    places
        .flat_map(|(place, (_, invoice))| numbered(invoice).map(move |(line, row)| (place, invoice, line, row)))
        .filter(|(_, _, _, row)| !row.service)
}

/// Lines with their numbers in their invoice, from 1.
pub(super) fn numbered(invoice: &Invoice) -> impl Iterator<Item = (u32, &Row)> {
    (1..).zip(&invoice.rows)
}
