//! What customers do: stock, orders and requests, and the storefront's events that they come to.

use proptest::{collection::vec, prelude::*};

use crate::saga::payload::{
    AddressChangeRequested, CancelRequested, Event, Line, OrderPlaced, ReturnRequested, StockChangeRequested, Units,
};

/// The code of postage: charged, never in stock.
pub(super) const SERVICE: usize = 9;
/// A code that is never in stock.
pub(super) const MISSING: usize = 8;

/// An event of the storefront.
#[derive(Clone, Debug)]
pub(super) struct Speech {
    pub(super) key: String,
    pub(super) event: Event,
}

/// What a customer asks for: lines by their numbers, and units.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Cancel(Vec<(u32, u64)>),
    Return(Vec<(u32, u64)>),
    Move,
}

/// An order, and what comes of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Code, units, price in mills.
    pub(super) lines: Vec<(usize, u64, u64)>,
    pub(super) is_declined: bool,
    /// It is placed twice; with another content the second time.
    pub(super) doubled: Option<bool>,
    pub(super) asks: Vec<Ask>,
    /// The last request is made twice.
    pub(super) asks_twice: bool,
}

impl Plan {
    pub(super) fn line(&self, number: u32) -> (usize, u64, u64) {
        self.lines[number as usize - 1]
    }

    /// Numbers and units of the product lines of codes that are in stock, if there is plenty.
    pub(super) fn in_stock(&self) -> impl Iterator<Item = (u32, u64)> {
        let numbered = (1..).zip(&self.lines);
        numbered.filter(|(_, (code, ..))| *code < MISSING).map(|(number, (_, units, _))| (number, *units))
    }

    fn placed(&self) -> OrderPlaced {
        let lines = (1..).zip(&self.lines).map(|(line, &(code, units, price_mills))| Line {
            line,
            code: if code == SERVICE { "POST".to_owned() } else { format!("8512{code}A") },
            description: "WHITE \"HANGING\" £ HEART".to_owned(),
            units,
            price_mills,
            service: code == SERVICE,
        });
        OrderPlaced { customer: None, address: "United Kingdom".to_owned(), lines: lines.collect() }
    }
}

/// Everything that happens, but for when.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    stock: Vec<(usize, i64)>,
    pub(super) orders: Vec<Plan>,
}

impl Scenario {
    pub(super) fn new(stock: impl Into<Vec<(usize, i64)>>, orders: Vec<Plan>) -> Self {
        Self { stock: stock.into(), orders }
    }

    /// Names of orders whose payment is declined.
    pub(super) fn declined(&self) -> impl Iterator<Item = String> {
        let orders = (0..).zip(&self.orders).filter(|(_, plan)| plan.is_declined);
        orders.map(|(number, _)| name(number))
    }

    /// The stock before the first order.
    pub(super) fn stock(&self) -> impl Iterator<Item = (String, Event)> {
        (0..).zip(&self.stock).map(|(number, &(code, units))| {
            let change = StockChangeRequested { request: format!("S{number}"), units };
            (format!("8512{code}A"), change.into())
        })
    }

    /// What is said of each order, in its order.
    pub(super) fn speeches(&self) -> Vec<Vec<Speech>> {
        let orders = (0..).zip(&self.orders);
        orders.map(|(number, plan)| speeches(&name(number), plan)).collect()
    }
}

/// The name of an order.
pub(super) fn name(number: usize) -> String {
    (536_365 + number).to_string()
}

fn speeches(key: &str, plan: &Plan) -> Vec<Speech> {
    let units = |lines: &[(u32, u64)]| lines.iter().map(|&(line, units)| Units { line, units }).collect();
    let placed = plan.placed();
    let mut events = vec![Event::from(placed.clone())];
    if let Some(is_other) = plan.doubled {
        let address = if is_other { "EIRE".to_owned() } else { placed.address.clone() };
        events.push(OrderPlaced { address, ..placed }.into());
    }
    for (number, ask) in plan.asks.iter().enumerate() {
        let request = format!("C{number}");
        events.push(match ask {
            Ask::Cancel(lines) => CancelRequested { request, lines: units(lines) }.into(),
            Ask::Return(lines) => ReturnRequested { request, lines: units(lines) }.into(),
            Ask::Move => AddressChangeRequested { request, address: format!("France {number}") }.into(),
        });
    }
    if plan.asks_twice && !plan.asks.is_empty() {
        events.extend(events.last().cloned());
    }
    events.into_iter().map(|event| Speech { key: key.to_owned(), event }).collect()
}

fn plan() -> impl Strategy<Value = Plan> {
    let code = prop_oneof![12 => 0_usize..4, 1 => Just(MISSING), 2 => Just(SERVICE)];
    let price = prop_oneof![1 => Just(0_u64), 1 => 1_u64..10, 4 => 10_u64..5_000];
    let asked = || vec((1_u32..6, 1_u64..7), 1..4);
    let ask = prop_oneof![
        3 => asked().prop_map(Ask::Cancel),
        3 => asked().prop_map(Ask::Return),
        1 => Just(Ask::Move),
        // Everything at once.
        1 => Just(Ask::Cancel((1..6).map(|line| (line, 9)).collect())),
    ];
    let doubled = prop_oneof![4 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let is_declined = prop_oneof![4 => Just(false), 1 => Just(true)];
    let plan = (vec((code, 1_u64..7, price), 1..6), is_declined, doubled, vec(ask, 0..4), any::<bool>());
    plan.prop_map(|(lines, is_declined, doubled, asks, asks_twice)| Plan {
        lines,
        is_declined,
        doubled,
        asks,
        asks_twice,
    })
}

/// Orders that do not meet in the stock.
pub(super) fn plenty() -> impl Strategy<Value = Scenario> {
    vec(plan(), 1..5).prop_map(|orders| Scenario::new([(0, 999), (1, 999), (2, 999), (3, 999)], orders))
}

/// Orders that do, and a stock that is taken from while they run.
pub(super) fn scarce() -> impl Strategy<Value = Scenario> {
    let stock = vec((0_usize..4, -9_i64..20), 0..8);
    (stock, vec(plan(), 1..6)).prop_map(|(stock, orders)| Scenario::new(stock, orders))
}
