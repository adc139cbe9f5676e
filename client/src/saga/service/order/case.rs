//! One order as the order service sees it: what was heard of it, what was said of it, and what follows.
//!
//! While a state is made again, words may come before the facts that they followed from: a request is answered before
//! it is heard, an order confirmed before it is placed. In any order the same facts and words make the same case.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use serde::{Deserialize, Serialize};

use super::{
    super::Seek,
    hear::{Asked, Matter, Placement, Product},
};
use crate::saga::payload::{
    AddressChangeRefused, CancelReason, Event, OrderCancelled, OrderCancelling, OrderConfirmed, PlacementRefused,
    RefusedReason, ReturnAccepted, ReturnRefused, Units,
};

/// One order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Case {
    placed: Option<Placed>,
    /// Product lines: as they were placed; once the order is confirmed, what of them the customer has.
    products: Vec<Product>,
    money: Money,
    goods: Goods,
    /// The id of the `OrderFulfilled`.
    fulfilled: Option<Box<str>>,
    decision: Decision,
    /// Requests that have no answer, in the order in which they came.
    waiting: Vec<(Box<str>, Asked)>,
    /// All requests, and the event that each came with first; none as long as only the answer is known.
    requests: BTreeMap<Box<str>, Option<Box<str>>>,
    /// Placements with another content that have no answer, in the order in which they came.
    misplaced: Vec<Box<str>>,
    /// Those that have.
    refused: BTreeSet<Box<str>>,
    /// Events that said again what was said.
    ignored: BTreeSet<Box<str>>,
    /// What was said of the product lines before the placement was heard.
    ahead: Ahead,
}

/// What is kept of the placement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Placed {
    id: Box<str>,
    at_us: i64,
    content: u64,
    /// Empty once the order is decided.
    address: Box<str>,
    service_pence: u64,
    has_products: bool,
}

/// What was heard of the money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Money {
    #[default]
    Unknown,
    Authorized,
    Declined,
    Voided,
}

/// What was heard of the goods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Goods {
    rejected: bool,
    /// Units.
    reserved: Option<u64>,
    /// Units.
    released: Option<u64>,
    /// Lines. Empty once the order is decided.
    short: Vec<u32>,
}

/// What was said of the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Decision {
    #[default]
    Open,
    Confirmed,
    Cancelling(CancelReason),
    Cancelled(CancelReason),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ahead {
    confirmed: Vec<Units>,
    returned: Vec<Units>,
}

/// Whether an input says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It does, or it was heard before.
    Heard,
    /// It says again what another event said: counted, once.
    Ignored,
}

impl Case {
    /// The id of the placement and when it was taken in, as long as there is no decision.
    pub(super) fn undecided(&self) -> Option<(&str, i64)> {
        let placed = self.placed.as_ref().filter(|_| self.decision == Decision::Open)?;
        Some((&placed.id, placed.at_us))
    }

    /// Takes in a fact that event `id` brought.
    pub(super) fn hear(&mut self, matter: &Matter, id: &str, at_us: i64) -> News {
        match matter {
            Matter::Placed(placement) => return self.hear_placement(placement, id, at_us),
            Matter::Asked(request, asked) => return self.hear_request(request, asked, id),
            Matter::Authorized if self.money == Money::Unknown => self.money = Money::Authorized,
            Matter::Authorized => {}
            Matter::Declined => self.money = Money::Declined,
            Matter::Voided => self.money = Money::Voided,
            Matter::Reserved { units, short } => {
                self.goods.reserved = Some(*units);
                if self.decision == Decision::Open {
                    self.goods.short.clone_from(short);
                }
            }
            Matter::Rejected => self.goods.rejected = true,
            Matter::Released(units) => self.goods.released = Some(*units),
            Matter::Fulfilled => self.fulfilled = Some(id.into()),
        }
        News::Heard
    }

    fn hear_placement(&mut self, placement: &Placement, id: &str, at_us: i64) -> News {
        let Some(placed) = &self.placed else {
            self.place(placement, id, at_us);
            return News::Heard;
        };
        if placed.content == placement.content {
            return if *placed.id == *id { News::Heard } else { self.ignore(id) };
        }
        if !self.refused.contains(id) && !self.misplaced.iter().any(|misplaced| **misplaced == *id) {
            self.misplaced.push(id.into());
        }
        News::Heard
    }

    fn place(&mut self, placement: &Placement, id: &str, at_us: i64) {
        let Placement { content, ref address, service_pence, ref products } = *placement;
        let has_products = !products.is_empty();
        let address = if self.decision == Decision::Open { address.clone() } else { Box::default() };
        self.placed = Some(Placed { id: id.into(), at_us, content, address, service_pence, has_products });
        match self.decision {
            Decision::Open => self.products.clone_from(products),
            Decision::Confirmed => {
                let Ahead { confirmed, returned } = mem::take(&mut self.ahead);
                self.products.clone_from(products);
                self.keep(&confirmed);
                self.give_back(&returned);
            }
            Decision::Cancelling(_) | Decision::Cancelled(_) => {}
        }
    }

    fn hear_request(&mut self, request: &str, asked: &Asked, id: &str) -> News {
        match self.requests.get_mut(request) {
            None => {
                self.requests.insert(request.into(), Some(id.into()));
                self.waiting.push((request.into(), asked.clone()));
            }
            // It was answered before this process; now it is heard again.
            Some(first @ None) => *first = Some(id.into()),
            Some(Some(first)) if **first != *id => return self.ignore(id),
            Some(Some(_)) => {}
        }
        News::Heard
    }

    fn ignore(&mut self, id: &str) -> News {
        if self.ignored.insert(id.into()) { News::Ignored } else { News::Heard }
    }

    /// A placement was refused.
    pub(super) fn refused(&mut self, placement: &str) {
        self.misplaced.retain(|misplaced| **misplaced != *placement);
        self.refused.insert(placement.into());
    }

    /// The order was confirmed, with these lines and requests.
    pub(super) fn confirmed(&mut self, lines: &[Units], requests: &[String]) {
        self.decided(Decision::Confirmed, requests);
        if self.placed.is_some() {
            self.keep(lines);
        } else {
            self.ahead.confirmed = lines.to_vec();
        }
    }

    /// The order is not carried out, nor are these requests.
    pub(super) fn cancelling(&mut self, reason: CancelReason, requests: &[String]) {
        self.decided(Decision::Cancelling(reason), requests);
        self.products = Vec::new();
    }

    /// The last word was said.
    pub(super) fn cancelled(&mut self, reason: CancelReason) {
        self.decision = Decision::Cancelled(reason);
    }

    /// Goods were taken back.
    pub(super) fn returned(&mut self, request: &str, lines: &[Units]) {
        self.answered(request);
        if self.placed.is_some() {
            self.give_back(lines);
        } else {
            self.ahead.returned.extend(lines);
        }
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, request: &str) {
        self.waiting.retain(|(waiting, _)| **waiting != *request);
        self.requests.entry(request.into()).or_default();
    }

    fn decided(&mut self, decision: Decision, requests: &[String]) {
        self.decision = decision;
        self.goods.short = Vec::new();
        if let Some(placed) = &mut self.placed {
            placed.address = Box::default();
        }
        for request in requests {
            self.answered(request);
        }
    }

    /// From what was placed to what was confirmed.
    fn keep(&mut self, confirmed: &[Units]) {
        let mut seek = Seek::default();
        for product in &mut self.products {
            product.units = seek.line(product.line, confirmed).map_or(0, |at| confirmed[at].units);
        }
        self.products.retain(|product| product.units > 0);
        self.products.shrink_to_fit();
    }

    fn give_back(&mut self, lines: &[Units]) {
        let mut seek = Seek::default();
        for &Units { line, units } in lines {
            if let Some(at) = seek.line(line, &self.products) {
                self.products[at].units = self.products[at].units.saturating_sub(units);
            }
        }
        self.products.retain(|product| product.units > 0);
    }
}

/// What follows.
impl Case {
    /// Everything that is due and was not said, in the order in which it is said. `is_late` when the deadline is over.
    pub(super) fn due(&self, is_late: bool) -> Vec<Event> {
        let mut says = Vec::new();
        let reason = RefusedReason::OtherContent;
        says.extend(self.misplaced.iter().map(|id| PlacementRefused { placement: id.to_string(), reason }.into()));
        match self.decision {
            Decision::Open => match self.cancelling_due(is_late) {
                Some(reason) => {
                    says.push(OrderCancelling { reason, requests: self.contained() }.into());
                    says.extend(self.waiting.iter().filter(|(_, asked)| is_return(asked)).map(refuse_cancelled));
                    says.extend(self.cancelled_due(reason));
                }
                None => says.extend(self.confirmed_due()),
            },
            Decision::Cancelling(reason) => {
                says.extend(self.waiting.iter().map(refuse_cancelled));
                says.extend(self.cancelled_due(reason));
            }
            Decision::Cancelled(_) => says.extend(self.waiting.iter().map(refuse_cancelled)),
            Decision::Confirmed => self.answer(&mut says),
        }
        says
    }

    /// Why it has to be cancelled, if it has to be.
    fn cancelling_due(&self, is_late: bool) -> Option<CancelReason> {
        let placed = self.placed.as_ref()?;
        let can_lose_all = placed.has_products && (self.goods.reserved.is_some() || self.has_cancels());
        match () {
            () if self.money == Money::Declined => Some(CancelReason::PaymentDeclined),
            () if self.goods.rejected => Some(CancelReason::OutOfStock),
            () if can_lose_all && self.to_ship().is_empty() => Some(CancelReason::Requested),
            () if is_late => Some(CancelReason::Deadline),
            () => None,
        }
    }

    fn confirmed_due(&self) -> Option<Event> {
        let placed = self.placed.as_ref()?;
        if self.money != Money::Authorized || self.goods.reserved.is_none() {
            return None;
        }
        let products = self.to_ship();
        let amount = products.iter().fold(placed.service_pence, |sum, product| sum.saturating_add(product.pence()));
        let lines = products.iter().map(|product| Units { line: product.line, units: product.units }).collect();
        let moved = self.waiting.iter().rev().find_map(|(_, asked)| match asked {
            Asked::Address(address) => Some(address),
            Asked::Cancel(_) | Asked::Return(_) => None,
        });
        let address = moved.unwrap_or(&placed.address).to_string();
        Some(OrderConfirmed { lines, amount, address, requests: self.contained() }.into())
    }

    /// The last word, once payment and inventory have both answered and hold nothing.
    fn cancelled_due(&self, reason: CancelReason) -> Option<Event> {
        let Goods { rejected, reserved, released, .. } = self.goods;
        let holds_no_money = matches!(self.money, Money::Declined | Money::Voided);
        let holds_no_goods = rejected || reserved.is_some_and(|units| units == 0 || released == Some(units));
        (holds_no_money && holds_no_goods).then(|| OrderCancelled { reason }.into())
    }

    /// Answers to what is asked of a confirmed order. Goods come back once they are on their way.
    fn answer(&self, says: &mut Vec<Event>) {
        let mut left: Option<Vec<Product>> = None;
        for (request, asked) in &self.waiting {
            let request = request.to_string();
            match (asked, &self.fulfilled) {
                (Asked::Address(_), _) => {
                    says.push(AddressChangeRefused { request, reason: RefusedReason::TooLate }.into());
                }
                (Asked::Cancel(lines) | Asked::Return(lines), Some(fulfilled)) => {
                    let left = left.get_or_insert_with(|| self.products.clone());
                    says.push(take_back(request, lines, left, fulfilled));
                }
                (Asked::Cancel(_) | Asked::Return(_), None) => {}
            }
        }
    }

    /// Product lines as they are shipped, if the order is confirmed now: without those that are short, and without what
    /// was cancelled.
    fn to_ship(&self) -> Vec<Product> {
        let mut products = self.products.clone();
        for (_, asked) in &self.waiting {
            if let Asked::Cancel(lines) = asked {
                let mut seek = Seek::default();
                for &Units { line, units } in lines {
                    if let Some(at) = seek.line(line, &products) {
                        products[at].units = products[at].units.saturating_sub(units);
                    }
                }
            }
        }
        products.retain(|product| product.units > 0 && !self.goods.short.contains(&product.line));
        products
    }

    fn has_cancels(&self) -> bool {
        self.waiting.iter().any(|(_, asked)| matches!(asked, Asked::Cancel(_)))
    }

    /// Requests that are contained in a decision that is made now: a return waits for the goods.
    fn contained(&self) -> Vec<String> {
        let contained = self.waiting.iter().filter(|(_, asked)| !is_return(asked));
        contained.map(|(request, _)| request.to_string()).collect()
    }
}

fn is_return(asked: &Asked) -> bool {
    matches!(asked, Asked::Return(_))
}

fn refuse_cancelled((request, asked): &(Box<str>, Asked)) -> Event {
    let request = request.to_string();
    match asked {
        Asked::Address(_) => AddressChangeRefused { request, reason: RefusedReason::TooLate }.into(),
        Asked::Cancel(_) | Asked::Return(_) => ReturnRefused { request, reason: RefusedReason::OrderCancelled }.into(),
    }
}

/// Takes back what was asked, as far as the customer has it, out of `left`.
fn take_back(request: String, asked: &[Units], left: &mut [Product], fulfilled: &str) -> Event {
    let mut seek = Seek::default();
    let mut lines: Vec<Units> = Vec::with_capacity(asked.len());
    let mut amount = 0_u64;
    for &Units { line, units } in asked {
        let Some(at) = seek.line(line, left) else { continue };
        let product = &mut left[at];
        let (units, before) = (units.min(product.units), product.pence());
        if units == 0 {
            continue;
        }
        product.units -= units;
        amount = amount.saturating_add(before - product.pence());
        match lines.iter_mut().find(|taken| taken.line == line) {
            Some(taken) => taken.units += units,
            None => lines.push(Units { line, units }),
        }
    }
    if lines.is_empty() {
        return ReturnRefused { request, reason: RefusedReason::NothingToReturn }.into();
    }
    ReturnAccepted { request, lines, amount, fulfilled: fulfilled.to_owned() }.into()
}
