//! What the inventory service keeps: for each code what is free, for each order what is set aside or was shipped.
//!
//! All of it follows from the service's own events, and those of one order follow each other. Events of different
//! orders may come in any order when the state is made again: sums do not mind.

use std::{collections::HashMap, mem};

use serde::{Deserialize, Serialize};

use super::super::{ByKey, Numbered, Seek};
use crate::saga::payload::{
    Event, InventoryRejected, InventoryReleased, InventoryReserved, InventoryReturned, InventoryUpdated, StockUnits,
};

/// The stock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stock {
    decisions: u64,
    /// Where each code's shelf stands.
    codes: HashMap<Box<str>, u32>,
    shelves: Vec<Shelf>,
    orders: ByKey<Held>,
    /// Requests to change the stock that were answered.
    changes: ByKey<()>,
    rejected: u64,
    lines_reserved: u64,
    lines_short: u64,
}

/// What is free of a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shelf {
    code: Box<str>,
    /// Below 0 only while the state is made again.
    free: i64,
}

/// What an order has of the stock, from the answer to its placement on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// The id of the `InventoryReserved`; none when everything was short.
    pub(super) reserved: Option<Box<str>>,
    /// What was set aside and not released: once the order is confirmed, what was shipped.
    pub(super) lines: Vec<HeldLine>,
    /// Requests whose goods were taken back.
    returned: Vec<Box<str>>,
}

/// Units of a line, and the shelf that they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u64)", into = "(u32, u32, u64)")]
pub(super) struct HeldLine {
    pub(super) line: u32,
    pub(super) shelf: u32,
    pub(super) units: u64,
}

/// Most of a snapshot is lines, so they stand in it without names.
impl From<HeldLine> for (u32, u32, u64) {
    fn from(HeldLine { line, shelf, units }: HeldLine) -> Self {
        (line, shelf, units)
    }
}

impl From<(u32, u32, u64)> for HeldLine {
    fn from((line, shelf, units): (u32, u32, u64)) -> Self {
        Self { line, shelf, units }
    }
}

impl Numbered for HeldLine {
    fn line(&self) -> u32 {
        self.line
    }
}

impl Held {
    /// Whether the goods of this request were taken back.
    pub(super) fn took_back(&self, request: &str) -> bool {
        self.returned.iter().any(|returned| **returned == *request)
    }
}

impl Stock {
    /// How many decisions were made: the number of the last one.
    pub fn decisions(&self) -> u64 {
        self.decisions
    }

    /// Units of a code that are free.
    pub fn free(&self, code: &str) -> u64 {
        self.shelf(code).map_or(0, |shelf| u64::try_from(shelf.free).unwrap_or(0))
    }

    /// How many orders were rejected, and how many lines of the others were reserved and short.
    pub fn counts(&self) -> [(&'static str, u64); 3] {
        [("rejected", self.rejected), ("lines_reserved", self.lines_reserved), ("lines_short", self.lines_short)]
    }

    /// What an order has; none before its placement is answered.
    pub(super) fn held(&self, order: &str) -> Option<&Held> {
        self.orders.get(order)
    }

    /// Whether this request to change the stock was answered.
    pub(super) fn changed(&self, request: &str) -> bool {
        self.changes.get(request).is_some()
    }

    /// The code of the shelf that stands there.
    pub(super) fn code_at(&self, place: u32) -> &str {
        &self.shelves[place as usize].code
    }

    fn shelf(&self, code: &str) -> Option<&Shelf> {
        self.codes.get(code).map(|&place| &self.shelves[place as usize])
    }

    /// Takes in what was said about `key`: an order, or a code for `InventoryUpdated`.
    pub(super) fn apply(&mut self, key: &str, id: &str, event: &Event) {
        let decision = match event {
            Event::InventoryReserved(InventoryReserved { decision, lines, short }) => {
                self.reserve(key, id, lines);
                self.lines_reserved += lines.len() as u64;
                self.lines_short += short.len() as u64;
                *decision
            }
            Event::InventoryRejected(InventoryRejected { decision, .. }) => {
                self.orders.of(key);
                self.rejected += 1;
                *decision
            }
            Event::InventoryReleased(InventoryReleased { decision, lines, .. }) => {
                self.release(key, lines);
                *decision
            }
            Event::InventoryReturned(InventoryReturned { decision, request, lines, .. }) => {
                for line in lines {
                    self.shelve(&line.code, signed(line.units));
                }
                self.orders.of(key).returned.push(request.as_str().into());
                *decision
            }
            Event::InventoryUpdated(InventoryUpdated { decision, request, applied, .. }) => {
                self.shelve(key, *applied);
                self.changes.of(request);
                *decision
            }
            _ => return,
        };
        self.decisions = self.decisions.max(decision);
    }

    fn reserve(&mut self, order: &str, id: &str, lines: &[StockUnits]) {
        let held = lines.iter().map(|of| {
            let taken_from = self.shelve(&of.code, -signed(of.units));
            HeldLine { line: of.line, shelf: taken_from, units: of.units }
        });
        let lines = held.collect();
        let order = self.orders.of(order);
        order.lines = lines;
        order.reserved = Some(id.into());
    }

    fn release(&mut self, order: &str, lines: &[StockUnits]) {
        let mut held = mem::take(&mut self.orders.of(order).lines);
        let mut seek = Seek::default();
        for line in lines {
            self.shelve(&line.code, signed(line.units));
            if let Some(at) = seek.line(line.line, &held) {
                held[at].units = held[at].units.saturating_sub(line.units);
            }
        }
        held.retain(|line| line.units > 0);
        held.shrink_to_fit();
        self.orders.of(order).lines = held;
    }

    /// Changes what is free of a code, and says where its shelf stands.
    fn shelve(&mut self, code: &str, units: i64) -> u32 {
        let place = self.codes.get(code).copied().unwrap_or_else(|| {
            let place = self.shelves.len() as u32;
            self.shelves.push(Shelf { code: code.into(), free: 0 });
            self.codes.insert(code.into(), place);
            place
        });
        let free = &mut self.shelves[place as usize].free;
        *free = free.saturating_add(units);
        place
    }
}

/// Shelves stand in the order in which their codes were first heard of: in a state that was made again, another one.
impl PartialEq for Stock {
    fn eq(&self, other: &Self) -> bool {
        let shelves_are_equal = self.shelves.len() == other.shelves.len()
            && self.shelves.iter().all(|shelf| other.shelf(&shelf.code) == Some(shelf));
        let lines_are_equal = |held: &Held, others: &Held| {
            held.lines.len() == others.lines.len()
                && held.lines.iter().zip(&others.lines).all(|(line, others_line)| {
                    (line.line, line.units) == (others_line.line, others_line.units)
                        && self.code_at(line.shelf) == other.code_at(others_line.shelf)
                })
        };
        let orders_are_equal = self.orders.count() == other.orders.count()
            && self.orders.iter().all(|(order, held)| {
                other.orders.get(order).is_some_and(|others| {
                    held.reserved == others.reserved
                        && held.returned == others.returned
                        && lines_are_equal(held, others)
                })
            });
        shelves_are_equal
            && orders_are_equal
            && self.decisions == other.decisions
            && self.changes == other.changes
            && self.counts() == other.counts()
    }
}

impl Eq for Stock {}

fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}
