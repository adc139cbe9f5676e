//! What is kept of each order and of each code: what was said, by type, with the event that says it.
//!
//! Payloads that are small are kept as they are. Of an `OrderPlaced` the descriptions go, and a number stands for the
//! whole content; of the inventory's events the codes become numbers. So a year of orders fits in little memory.

use xxhash_rust::xxh3::Xxh3;

use super::{
    super::payload::{
        AddressChangeRefused, InventoryUpdated, Line, NotificationSent, OrderCancelled, OrderCancelling,
        OrderConfirmed, OrderFulfilled, OrderPlaced, PaymentAuthorized, PaymentCaptured, PaymentDeclined,
        PaymentVoided, PlacementRefused, RefundProcessed, ReturnAccepted, ReturnRefused, StockChangeRequested,
        StockUnits, Units,
    },
    tally::Tally,
};

/// A fact and the event that says it: its index in the log.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) event: u32,
    pub(crate) fact: T,
}

/// Number of a code in the log's list of codes.
pub(crate) type CodeNumber = u32;

/// A line of a placed order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bought {
    pub(crate) line: u32,
    pub(crate) code: CodeNumber,
    pub(crate) units: u64,
    pub(crate) price_mills: u64,
    pub(crate) service: bool,
}

impl Bought {
    pub(crate) fn of(line: &Line, code: CodeNumber) -> Self {
        let Line { line, units, price_mills, service, .. } = *line;
        Self { line, code, units, price_mills, service }
    }

    /// What so many units of it cost, in pence, rounded half up. Wide enough for any payload.
    pub(crate) fn pence(&self, units: u64) -> u128 {
        (u128::from(units) * u128::from(self.price_mills) + 5) / 10
    }
}

/// A placement.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Stands for the whole content; see [`content`].
    pub(crate) content: u128,
    pub(crate) address: String,
    /// By number. Empty for placements after the first: their content alone matters.
    pub(crate) lines: Vec<Bought>,
}

/// What a customer asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Cancel,
    Return,
    Address,
}

/// A request about an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) ask: Ask,
    pub(crate) request: String,
    pub(crate) lines: Vec<Units>,
    /// The new address; empty when it is not about the address.
    pub(crate) address: String,
}

/// Units of a line with their code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stocked {
    pub(crate) line: u32,
    pub(crate) code: CodeNumber,
    pub(crate) units: u64,
}

impl Stocked {
    pub(crate) fn of(units: &StockUnits, code: CodeNumber) -> Self {
        Self { line: units.line, code, units: units.units }
    }
}

/// A change of the stock that an order makes.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub(crate) lines: Vec<Stocked>,
    /// Numbers of the lines that are short, of a reservation or a rejection.
    pub(crate) short: Vec<u32>,
    /// What is compensated, of a release or a return.
    pub(crate) compensates: String,
    /// The request behind a return.
    pub(crate) request: String,
}

/// All that was said about an order.
#[derive(Debug, Default)]
pub(crate) struct Order {
    pub(crate) placed: Vec<At<Placed>>,
    pub(crate) asked: Vec<At<Asked>>,
    pub(crate) placement_refused: Vec<At<PlacementRefused>>,
    pub(crate) address_refused: Vec<At<AddressChangeRefused>>,
    pub(crate) confirmed: Vec<At<OrderConfirmed>>,
    pub(crate) cancelling: Vec<At<OrderCancelling>>,
    pub(crate) cancelled: Vec<At<OrderCancelled>>,
    pub(crate) return_accepted: Vec<At<ReturnAccepted>>,
    pub(crate) return_refused: Vec<At<ReturnRefused>>,
    pub(crate) authorized: Vec<At<PaymentAuthorized>>,
    pub(crate) declined: Vec<At<PaymentDeclined>>,
    pub(crate) captured: Vec<At<PaymentCaptured>>,
    pub(crate) voided: Vec<At<PaymentVoided>>,
    pub(crate) refunded: Vec<At<RefundProcessed>>,
    pub(crate) reserved: Vec<At<Moved>>,
    pub(crate) rejected: Vec<At<Moved>>,
    pub(crate) released: Vec<At<Moved>>,
    pub(crate) returned: Vec<At<Moved>>,
    pub(crate) fulfilled: Vec<At<OrderFulfilled>>,
    pub(crate) told: Vec<At<NotificationSent>>,
}

impl Order {
    /// The lines of its first placement; none when it was never placed.
    pub(crate) fn lines(&self) -> &[Bought] {
        self.placed.first().map_or(&[], |placed| &placed.fact.lines)
    }

    /// The placed line of this number.
    pub(crate) fn line(&self, line: u32) -> Option<&Bought> {
        let lines = self.lines();
        lines.binary_search_by_key(&line, |bought| bought.line).ok().map(|at| &lines[at])
    }

    /// The units of its product lines.
    pub(crate) fn products(&self) -> Tally {
        self.lines().iter().filter(|line| !line.service).map(|line| (line.line, line.units)).collect()
    }

    /// What its service lines cost.
    pub(crate) fn services_pence(&self) -> u128 {
        self.lines().iter().filter(|line| line.service).map(|line| line.pence(line.units)).sum()
    }

    /// What all of it costs.
    pub(crate) fn placed_pence(&self) -> u128 {
        self.lines().iter().map(|line| line.pence(line.units)).sum()
    }

    /// What these units of its lines cost. A line that it has not costs nothing: that it is there is another finding.
    pub(crate) fn pence(&self, units: &Tally) -> u128 {
        units.iter().map(|(line, units)| self.line(line).map_or(0, |bought| bought.pence(units))).sum()
    }

    /// What was shipped of it.
    pub(crate) fn shipped(&self) -> Tally {
        of_units(self.fulfilled.iter().flat_map(|fulfilled| &fulfilled.fact.lines))
    }

    /// What was set aside for it.
    pub(crate) fn reserved(&self) -> Tally {
        of_stocked(self.reserved.iter().flat_map(|reserved| &reserved.fact.lines))
    }

    /// What was set free again.
    pub(crate) fn released(&self) -> Tally {
        of_stocked(self.released.iter().flat_map(|released| &released.fact.lines))
    }

    /// What came back of it.
    pub(crate) fn returned(&self) -> Tally {
        of_stocked(self.returned.iter().flat_map(|returned| &returned.fact.lines))
    }
}

/// All that was said about the stock of a code.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) name: Box<str>,
    pub(crate) asked: Vec<At<StockChangeRequested>>,
    pub(crate) updated: Vec<At<InventoryUpdated>>,
}

pub(crate) fn of_units<'a>(units: impl IntoIterator<Item = &'a Units>) -> Tally {
    units.into_iter().map(|units| (units.line, units.units)).collect()
}

pub(crate) fn of_stocked<'a>(stocked: impl IntoIterator<Item = &'a Stocked>) -> Tally {
    stocked.into_iter().map(|stocked| (stocked.line, stocked.units)).collect()
}

/// A number that stands for the content of a placement: equal contents have equal ones, however their JSON is written.
pub(crate) fn content(placed: &OrderPlaced) -> u128 {
    let OrderPlaced { customer, address, lines } = placed;
    let mut hash = Xxh3::new();
    let mut text = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    text(customer.as_deref().unwrap_or_default());
    text(if customer.is_some() { "customer" } else { "guest" });
    text(address);
    for Line { line, code, description, units, price_mills, service } in lines {
        text(code);
        text(description);
        text(if *service { "service" } else { "product" });
        text(&format!("{line} {units} {price_mills}"));
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed() -> OrderPlaced {
        let line = |line, code: &str| Line {
            line,
            code: code.into(),
            description: "HEART".into(),
            units: 3,
            price_mills: 2_555,
            service: false,
        };
        OrderPlaced { customer: None, address: "Bergen".into(), lines: vec![line(1, "22"), line(2, "23")] }
    }

    #[test]
    fn contents_that_differ_in_anything_have_other_numbers() {
        let same = content(&placed());
        assert_eq!(content(&placed()), same);
        let others: [fn(&mut OrderPlaced); 10] = [
            |placed| placed.customer = Some(String::new()),
            |placed| placed.address = "Oslo".into(),
            |placed| placed.lines[0].line = 3,
            |placed| placed.lines[0].code = "2".into(),
            |placed| placed.lines[0].description.push(' '),
            |placed| placed.lines[0].units = 4,
            |placed| placed.lines[0].price_mills = 2_554,
            |placed| placed.lines[0].service = true,
            |placed| placed.lines.swap(0, 1),
            |placed| placed.lines.truncate(1),
        ];
        for (number, change) in others.iter().enumerate() {
            let mut other = placed();
            change(&mut other);
            assert_ne!(content(&other), same, "change {number}");
        }
    }

    #[test]
    fn prices_of_lines_are_those_of_the_payloads() {
        for (units, price_mills) in [(6, 2_550), (4, 1), (5, 1), (7, 0), (3, 335), (74_215, 12_345)] {
            let line = Line { units, price_mills, ..placed().lines.remove(0) };
            assert_eq!(Bought::of(&line, 0).pence(units), u128::from(line.pence(units)));
        }
        let dear = Bought { line: 1, code: 0, units: u64::MAX, price_mills: u64::MAX, service: false };
        assert!(dear.pence(dear.units) > u128::from(u64::MAX));
    }
}
