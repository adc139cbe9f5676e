//! Two runs of one scenario: what no race can change has to be the same.
//!
//! A cancel or a change of the address may come before or after the decision, and the first of two refusals is the
//! reason. Where no such race is, the same events are said. Where a cancel leaves something to ship, the order is
//! confirmed in both, and what the customer keeps and has paid in the end is the same. For the rest the invariants do.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    super::World,
    scenario::{Ask, Plan, SERVICE, Scenario, name},
};
use crate::saga::payload::Event;

/// What a race can change about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Race {
    /// Nothing.
    None,
    /// Whether something is part of the decision or answered after it.
    When,
    /// What is decided, or why.
    Decision,
}

impl Race {
    /// As long as stock is plenty and no deadline fires.
    pub(super) fn of(plan: &Plan) -> Self {
        let mut left: BTreeMap<u32, u64> = plan.in_stock().collect();
        let has_products = plan.lines.iter().any(|(code, ..)| *code != SERVICE);
        let is_rejected = has_products && left.is_empty();
        for ask in &plan.asks {
            if let Ask::Cancel(lines) = ask {
                for (line, units) in lines {
                    left.entry(*line).and_modify(|left| *left = left.saturating_sub(*units));
                }
            }
        }
        let loses_all = has_products && left.values().all(|units| *units == 0);
        let is_asked = plan.asks.iter().any(|ask| matches!(ask, Ask::Cancel(_) | Ask::Move));
        match () {
            () if plan.is_declined && is_rejected => Self::Decision,
            () if !is_asked => Self::None,
            () if plan.is_declined || is_rejected || loses_all => Self::Decision,
            () => Self::When,
        }
    }
}

/// Holds the end of one run against the end of another.
pub(super) fn ends(scenario: &Scenario, one: &World, other: &World) {
    for (number, plan) in scenario.orders.iter().enumerate() {
        let order = name(number);
        match Race::of(plan) {
            Race::None => assert_eq!(said(one, &order), said(other, &order), "order {order}"),
            Race::When => assert_eq!(kept(one, &order, plan), kept(other, &order, plan), "order {order}"),
            Race::Decision => {}
        }
    }
}

/// What was said about an order by the services, without what names a place in the run, sorted.
fn said(world: &World, order: &str) -> Vec<String> {
    let entries = world.entries().iter().filter(|entry| entry.key == order && entry.step.is_some());
    let mut said: Vec<String> = entries
        .map(|entry| {
            let mut payload: Value = serde_json::from_slice(&entry.payload).unwrap();
            for field in ["decision", "compensates", "fulfilled", "placement"] {
                payload.as_object_mut().unwrap().remove(field);
            }
            format!("{} {payload}", entry.kind)
        })
        .collect();
    said.sort();
    said
}

/// What the customer has in the end, by line, and what he has paid.
fn kept(world: &World, order: &str, plan: &Plan) -> (BTreeMap<u32, u64>, i128) {
    let (mut lines, mut pence) = (BTreeMap::new(), 0);
    for entry in world.entries().iter().filter(|entry| entry.key == order) {
        match entry.event() {
            Event::OrderFulfilled(shipped) => {
                lines.extend(shipped.lines.iter().map(|line| (line.line, line.units)));
            }
            Event::ReturnAccepted(back) => {
                for line in back.lines {
                    *lines.get_mut(&line.line).unwrap() -= line.units;
                }
            }
            Event::PaymentCaptured(captured) => pence += i128::from(captured.amount),
            Event::RefundProcessed(refunded) => pence -= i128::from(refunded.amount),
            _ => {}
        }
    }
    lines.retain(|_, units| *units > 0);
    let price = |line: u32, units: u64| i128::from(crate::saga::payload::pence(units, plan.line(line).2));
    let services = (1..).zip(&plan.lines).filter(|(_, (code, ..))| *code == SERVICE);
    let services: i128 = services.map(|(line, (_, units, _))| price(line, *units)).sum();
    let products: i128 = lines.iter().map(|(line, units)| price(*line, *units)).sum();
    assert_eq!(pence, services + products, "order {order} is paid for what it has");
    (lines, pence)
}
