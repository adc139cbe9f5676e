//! A year as it is told: the opening stock, then everything in the order of the file.

use super::{Order, Request, Shop, StockChange};
use crate::{processor::Fact as _, saga::payload::Event};

/// An event of the storefront that has no id yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening<'a> {
    /// What it is about: the order's id, or the code of the product. It is the record's key.
    pub key: &'a str,
    /// When it happened, in microseconds since 1970 UTC.
    pub time_us: i64,
    /// What happened.
    pub event: Event,
}

impl Happening<'_> {
    /// The topic that it is told on.
    pub fn topic(&self) -> &'static str {
        self.event.topic()
    }
}

/// All that an invoice makes happen: an order; or what a credit asks of one order or several; or changes of the stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene<'a> {
    /// The invoice's number.
    pub invoice: &'a str,
    /// What happens, in its order.
    pub events: Vec<Happening<'a>>,
}

impl Order {
    /// The placement.
    pub fn happening(&self) -> Happening<'_> {
        Happening { key: &self.id, time_us: self.time_us, event: self.placed.clone().into() }
    }
}

impl Request {
    /// The wish.
    pub fn happening(&self) -> Happening<'_> {
        Happening { key: &self.order, time_us: self.time_us, event: self.event() }
    }
}

impl StockChange {
    /// The wish.
    pub fn happening(&self) -> Happening<'_> {
        Happening { key: &self.code, time_us: self.time_us, event: self.change.clone().into() }
    }
}

impl Shop {
    /// Everything that the storefront says, in its order: the opening stock, then the file. A file in the order of its
    /// times gives events in the order of theirs; what is asked of an order comes behind it in any case.
    pub fn events(&self) -> impl Iterator<Item = Happening<'_>> {
        self.opening_events().chain(self.scenes().flat_map(|scene| scene.events))
    }

    /// The opening stock, by code.
    pub fn opening_events(&self) -> impl Iterator<Item = Happening<'_>> {
        self.opening.iter().map(StockChange::happening)
    }

    /// The file invoice by invoice, without the opening stock: what [`Shop::events`] says behind it.
    pub fn scenes(&self) -> impl Iterator<Item = Scene<'_>> {
        let mut orders = self.orders.iter().peekable();
        let mut requests = self.requests.iter().peekable();
        let mut changes = self.stock_changes.iter().peekable();
        std::iter::from_fn(move || {
            let next_order = orders.peek().map(|order| (order.file_line, order.id.as_str()));
            let next_request = requests.peek().map(|request| (request.file_line, request.id.as_str()));
            let next_change = changes.peek().map(|change| (change.file_line, change.invoice.as_str()));
            let (line, invoice) = [next_order, next_request, next_change].into_iter().flatten().min()?;
            let mut events = Vec::new();
            events.extend(orders.next_if(|order| order.file_line == line).map(Order::happening));
            while let Some(request) = requests.next_if(|request| request.file_line == line) {
                events.push(request.happening());
            }
            while let Some(change) = changes.next_if(|change| change.file_line == line) {
                events.push(change.happening());
            }
            Some(Scene { invoice, events })
        })
    }
}
