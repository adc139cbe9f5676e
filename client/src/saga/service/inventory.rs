//! Keeps the stock: sets goods aside for an order, frees what is not shipped, takes back what is returned.
//!
//! Stock crosses orders, so one owner decides over all of it, and counts what it decides: `decision` is dense from 1
//! over everything that it says. All of an order's inputs stand in one partition, so each is answered by itself, and
//! what was said is all that is kept: for each code what is free, for each order what is set aside.

mod stock;

use std::{collections::HashMap, convert::Infallible};

use serde::Deserialize;

pub use self::stock::Stock;
use super::{Hear, Seek, Word, hears, read, say};
use crate::{
    processor::{Failed, Malformed, Output, Service, Told, Trigger},
    saga::payload::{
        Event, InventoryRejected, InventoryReleased, InventoryReserved, InventoryReturned, InventoryUpdated,
        OrderCancelling, OrderConfirmed, OrderPlaced, ReturnAccepted, StockChangeRequested, StockUnits, Units, group,
        topic,
    },
};

/// The service that keeps the stock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inventory;

/// What it hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// These product lines were placed.
    Placed(Vec<StockUnits>),
    /// These are shipped.
    Confirmed(Vec<Units>),
    /// Nothing is shipped.
    Cancelling,
    /// These come back.
    Returned {
        /// The request behind it.
        request: String,
        /// What comes back.
        lines: Vec<Units>,
        /// The id of the `OrderFulfilled` that shipped it.
        fulfilled: String,
    },
    /// The stock of a code is to be changed.
    Change {
        /// The request's own number.
        request: String,
        /// The change, in units.
        units: i64,
    },
}

impl Hear for Demand {
    const HEARS: &'static [(&'static str, &'static [&'static str])] = &[
        (topic::ORDERS, &[OrderPlaced::KIND, OrderConfirmed::KIND, OrderCancelling::KIND, ReturnAccepted::KIND]),
        (topic::STOCK, &[StockChangeRequested::KIND]),
    ];

    fn hear(kind: &str, payload: &[u8]) -> Result<Option<Self>, Malformed> {
        #[derive(Deserialize)]
        struct Confirmed {
            lines: Vec<Units>,
        }
        #[derive(Deserialize)]
        struct Returned {
            request: String,
            lines: Vec<Units>,
            fulfilled: String,
        }

        Ok(Some(match kind {
            OrderPlaced::KIND => Self::Placed(placed(kind, payload)?),
            OrderConfirmed::KIND => Self::Confirmed(read::<Confirmed>(kind, payload)?.lines),
            OrderCancelling::KIND => Self::Cancelling,
            ReturnAccepted::KIND => {
                let Returned { request, lines, fulfilled } = read(kind, payload)?;
                Self::Returned { request, lines, fulfilled }
            }
            StockChangeRequested::KIND => {
                let StockChangeRequested { request, units } = read(kind, payload)?;
                Self::Change { request, units }
            }
            _ => return Ok(None),
        }))
    }
}

/// The product lines of a placement.
fn placed(kind: &str, payload: &[u8]) -> Result<Vec<StockUnits>, Malformed> {
    #[derive(Deserialize)]
    struct Order {
        lines: Vec<Placed>,
    }
    #[derive(Deserialize)]
    struct Placed {
        line: u32,
        code: String,
        units: u64,
        #[serde(default)]
        service: bool,
    }

    let products = read::<Order>(kind, payload)?.lines.into_iter().filter(|line| !line.service && line.units > 0);
    Ok(products.map(|Placed { line, code, units, .. }| StockUnits { line, code, units }).collect())
}

/// Every product line that the stock has whole, in the order of the lines; the others are short.
fn reserve(stock: &Stock, decision: u64, products: &[StockUnits]) -> Event {
    // A code may stand in several lines: each finds what those before it left.
    let mut free: HashMap<&str, u64> = HashMap::with_capacity(products.len());
    let (mut lines, mut short) = (Vec::with_capacity(products.len()), Vec::new());
    for product in products {
        let left = free.entry(&product.code).or_insert_with(|| stock.free(&product.code));
        if *left >= product.units {
            *left -= product.units;
            lines.push(product.clone());
        } else {
            short.push(product.line);
        }
    }
    if lines.is_empty() && !short.is_empty() {
        InventoryRejected { decision, short }.into()
    } else {
        InventoryReserved { decision, lines, short }.into()
    }
}

/// What is set aside for the order beyond what is shipped.
fn release(stock: &Stock, decision: u64, order: &str, shipped: &[Units]) -> Option<Event> {
    let held = stock.held(order)?;
    let mut seek = Seek::default();
    let rest = held.lines.iter().filter_map(|line| {
        let shipped = seek.line(line.line, shipped).map_or(0, |at| shipped[at].units);
        let units = line.units.saturating_sub(shipped);
        (units > 0).then(|| StockUnits { line: line.line, code: stock.code_at(line.shelf).to_owned(), units })
    });
    let lines: Vec<StockUnits> = rest.collect();
    let compensates = held.reserved.as_deref().unwrap_or_default().to_owned();
    (!lines.is_empty()).then(|| InventoryReleased { decision, lines, compensates }.into())
}

/// What comes back to where it came from.
fn take_back(stock: &Stock, order: &str, units: &[Units]) -> Vec<StockUnits> {
    let Some(held) = stock.held(order) else { return Vec::new() };
    let mut seek = Seek::default();
    let lines = units.iter().filter_map(|&Units { line, units }| {
        let at = seek.line(line, &held.lines)?;
        Some(StockUnits { line, code: stock.code_at(held.lines[at].shelf).to_owned(), units })
    });
    lines.collect()
}

/// The change that is possible: a decrease takes what is free.
fn update(stock: &Stock, decision: u64, code: &str, request: &str, asked: i64) -> Event {
    let free = i64::try_from(stock.free(code)).unwrap_or(i64::MAX);
    let applied = free.saturating_add(asked).max(0) - free;
    InventoryUpdated { decision, request: request.to_owned(), asked, applied }.into()
}

impl Service for Inventory {
    type Fact = Word<Demand>;
    type State = Stock;
    type Call = Infallible;
    type Answer = Infallible;

    fn name(&self) -> &str {
        group::INVENTORY
    }

    fn writes(&self) -> &[&'static str] {
        &[topic::INVENTORY]
    }

    fn wants(&self, topic: &str, kind: &str) -> bool {
        hears::<Demand>(topic, kind)
    }

    fn observe(&self, _: &mut Stock, _: &Told<Self::Fact>) {}

    async fn perform(&self, call: Infallible) -> Infallible {
        call
    }

    fn decide(
        &self,
        stock: &Stock,
        trigger: &Trigger<'_, Self::Fact>,
        _: &[Infallible],
    ) -> Result<Vec<Output<Self::Fact>>, Failed> {
        let Trigger::Input(Told { key, fact: Word::Heard(_, notice), .. }) = trigger else { return Ok(Vec::new()) };
        let decision = stock.decisions() + 1;
        let says = match notice {
            Demand::Placed(products) => stock.held(key).is_none().then(|| reserve(stock, decision, products)),
            Demand::Confirmed(shipped) => release(stock, decision, key, shipped),
            Demand::Cancelling => release(stock, decision, key, &[]),
            Demand::Returned { request, lines, fulfilled } => {
                let known = stock.held(key).is_some_and(|held| held.took_back(request));
                (!known).then(|| {
                    let (request, compensates) = (request.clone(), fulfilled.clone());
                    let lines = take_back(stock, key, lines);
                    InventoryReturned { decision, request, lines, compensates }.into()
                })
            }
            Demand::Change { request, units } => {
                (!stock.changed(request)).then(|| update(stock, decision, key, request, *units))
            }
        };
        Ok(says.into_iter().map(|event| say(key, event)).collect())
    }

    fn apply(&self, stock: &mut Stock, output: &Told<Self::Fact>) {
        if let Word::Said(event) = &output.fact {
            stock.apply(&output.key, &output.id, event);
        }
    }
}

#[cfg(test)]
mod tests;
