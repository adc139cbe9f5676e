//! A year of a real shop becomes what a storefront says: `docs/saga.md` has the rules and every count.
//!
//! In comes the file of the "Online Retail" data set, or a cut of it: lines of invoices. Out come orders, what
//! customers want back of them, changes of the stock, and a list of what is none of these and why. `file` gathers
//! lines into invoices, `invoice` says what kind each is, `credit` matches credits to purchases, `counts` counts,
//! `stream` puts everything in its order. Nothing is skipped silently, and no number goes through a float.

mod cell;
mod counts;
mod credit;
mod error;
mod file;
mod invoice;
mod stream;
mod unsent;
mod years;

use std::{collections::HashMap, io::Read, path::Path};

pub use counts::{Counts, Credited, Dirt, Tally};
pub use error::RetailError;
pub use stream::{Happening, Scene};
pub use unsent::{Reason, Unsent, UnsentTally, by_reason};

use super::payload::{CancelRequested, Event, Line, OrderPlaced, ReturnRequested, StockChangeRequested, Units};
use credit::{Claim, Purchases, numbered};
use invoice::{Invoice, Kind};

/// A credit within so long of its purchase is a cancellation.
const CANCEL_WITHIN_US: i64 = 3_600_000_000;
/// What the opening stock is of the units that are ordered, in percent.
const OPENING_PERCENT: u64 = 95;
/// Stands for the invoice in changes of the stock that open it.
const OPENING: &str = "opening";

/// All that a file of orders says.
#[derive(Clone, Debug, Default)]
pub struct Shop {
    /// What was bought, in the order of the file.
    pub orders: Vec<Order>,
    /// What customers want back of it, in the order of the credits, each with its orders as it touches them.
    pub requests: Vec<Request>,
    /// Changes of the stock, one for each product line, in the order of the file.
    pub stock_changes: Vec<StockChange>,
    /// The stock before the first order, by code.
    pub opening: Vec<StockChange>,
    /// What is none of these, in the order of the file.
    pub unsent: Vec<Unsent>,
    /// What was counted.
    pub counts: Counts,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id: the invoice's number.
    pub id: String,
    /// Where its first line stands in the file; the header is line 1.
    pub file_line: u64,
    /// When it was placed, in microseconds since 1970 UTC: the time of its first line.
    pub time_us: i64,
    /// What was placed.
    pub placed: OrderPlaced,
}

/// What a credit asks of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its id, unique in its order: the credit's number.
    pub id: String,
    /// The order.
    pub order: String,
    /// Where the credit's first line stands in the file.
    pub file_line: u64,
    /// When it was asked, in microseconds since 1970 UTC: the time of the credit's first line.
    pub time_us: i64,
    /// It came within an hour of the purchase, and is therefore a cancellation; a return otherwise.
    pub within_hour: bool,
    /// What is asked, by line.
    pub lines: Vec<Units>,
}

impl Request {
    /// What the storefront says.
    pub fn event(&self) -> Event {
        let (request, lines) = (self.id.clone(), self.lines.clone());
        if self.within_hour {
            CancelRequested { request, lines }.into()
        } else {
            ReturnRequested { request, lines }.into()
        }
    }
}

/// A change of the stock of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockChange {
    /// The invoice's number; `opening` for the stock before the first order.
    pub invoice: String,
    /// The product's code.
    pub code: String,
    /// Where the invoice's first line stands in the file; 0 for the stock before the first order.
    pub file_line: u64,
    /// When it was asked, in microseconds since 1970 UTC: the time of the invoice's first line.
    pub time_us: i64,
    /// What is asked. Its request is the invoice's number and the line's, as in `536589/1`, or `opening/` and the code.
    pub change: StockChangeRequested,
}

impl Shop {
    /// Reads a file, packed with zstd or not.
    ///
    /// **Errors**: see [`RetailError`]; the first row that cannot be read, or else the first invoice of no kind.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, RetailError> {
        Self::read_from(file::open(path.as_ref())?)
    }

    /// Reads what a file would hold, packed with zstd or not.
    ///
    /// **Errors**: as [`Shop::read`].
    pub fn read_from(input: impl Read) -> Result<Self, RetailError> {
        let invoices = file::invoices(input)?;
        let kinds = invoices.into_iter().map(|invoice| Ok((invoice.kind()?, invoice)));
        let invoices = kinds.collect::<Result<Vec<_>, RetailError>>()?;
        let mut shop = Self { counts: Counts::of(&invoices)?, ..Self::default() };
        let mut purchases = Purchases::of(&invoices);
        for (kind, invoice) in &invoices {
            match kind {
                Kind::Order => {}
                Kind::StockDown | Kind::StockUp => shop.change_stock(invoice),
                Kind::Fee => shop.leave(Reason::Fee, invoice),
                Kind::BadDebt => shop.leave(Reason::BadDebt, invoice),
                Kind::Credit => {
                    let claims = purchases.take(invoice, &mut shop.counts.credited, &mut shop.unsent);
                    shop.ask_back(invoice, &claims, &invoices);
                }
            }
        }
        drop(purchases);
        shop.opening = opening(&invoices);
        shop.counts.opening_units = shop.opening.iter().map(|opening| opening.change.units.unsigned_abs()).sum();
        shop.orders = invoices.into_iter().filter(|(kind, _)| *kind == Kind::Order).map(|(_, it)| order(it)).collect();
        Ok(shop)
    }

    /// Every line is listed, none is sent.
    fn leave(&mut self, reason: Reason, invoice: &Invoice) {
        self.unsent.extend(numbered(invoice).map(|(line, row)| Unsent::whole(reason, invoice, line, row)));
    }

    fn change_stock(&mut self, invoice: &Invoice) {
        for (line, row) in numbered(invoice) {
            if row.service {
                self.counts.stock_service_lines += 1;
                self.unsent.push(Unsent::whole(Reason::ServiceStock, invoice, line, row));
                continue;
            }
            self.counts.stock_changes += 1;
            self.stock_changes.push(StockChange {
                invoice: invoice.id.clone(),
                code: row.code.clone(),
                file_line: invoice.file_line,
                time_us: invoice.time_us,
                change: StockChangeRequested { request: format!("{}/{line}", invoice.id), units: row.units },
            });
        }
    }

    /// One request for each order that a credit touches.
    fn ask_back(&mut self, credit: &Invoice, claims: &[Claim], invoices: &[(Kind, Invoice)]) {
        let counts = &mut self.counts.credited;
        let asks =
            if claims.is_empty() { &mut counts.credits_without_requests } else { &mut counts.credits_with_requests };
        *asks += 1;
        for claim in claims {
            let order = &invoices[claim.order].1;
            let request = Request {
                id: credit.id.clone(),
                order: order.id.clone(),
                file_line: credit.file_line,
                time_us: credit.time_us,
                within_hour: credit.time_us - order.time_us <= CANCEL_WITHIN_US,
                lines: claim.lines.iter().map(|(&line, &units)| Units { line, units }).collect(),
            };
            counts.requests += 1;
            let kind = if request.within_hour { &mut counts.cancel_requests } else { &mut counts.return_requests };
            *kind += 1;
            for asked in &request.lines {
                let price = order.rows[asked.line as usize - 1].mills;
                counts.units += asked.units;
                // A part of a line that fits fits too.
                counts.pence += invoice::pence(asked.units.cast_signed(), price).map_or(0, i64::unsigned_abs);
            }
            self.requests.push(request);
        }
    }
}

fn order(invoice: Invoice) -> Order {
    let line = |(line, row): (u32, invoice::Row)| Line {
        line,
        code: row.code,
        description: row.description,
        units: row.units.unsigned_abs(),
        price_mills: row.mills.unsigned_abs(),
        service: row.service,
    };
    let lines = (1..).zip(invoice.rows).map(line).collect();
    let placed = OrderPlaced { customer: invoice.customer, address: invoice.country, lines };
    Order { id: invoice.id, file_line: invoice.file_line, time_us: invoice.time_us, placed }
}

/// For each product that is ordered: most of the units that are, and at least what the largest line asks for.
fn opening(invoices: &[(Kind, Invoice)]) -> Vec<StockChange> {
    let mut ordered: HashMap<&str, (u64, u64)> = HashMap::new();
    let orders = invoices.iter().filter(|(kind, _)| *kind == Kind::Order);
    for row in orders.flat_map(|(_, order)| &order.rows).filter(|row| !row.service) {
        let units = row.units.unsigned_abs();
        let (sum, largest) = ordered.entry(&row.code).or_default();
        *sum += units;
        *largest = units.max(*largest);
    }
    let time_us = invoices.first().map_or(0, |(_, first)| first.time_us);
    let mut opening: Vec<StockChange> = ordered
        .into_iter()
        .map(|(code, (sum, largest))| StockChange {
            invoice: OPENING.to_owned(),
            code: code.to_owned(),
            file_line: 0,
            time_us,
            change: StockChangeRequested {
                request: format!("{OPENING}/{code}"),
                units: opening_units(sum).max(largest).cast_signed(),
            },
        })
        .collect();
    opening.sort_by(|one, other| one.code.cmp(&other.code));
    opening
}

/// So many percent of what is ordered, rounded up to units.
fn opening_units(ordered: u64) -> u64 {
    // In hundreds and the rest, because the product may be more than 64 bits hold.
    ordered / 100 * OPENING_PERCENT + (ordered % 100 * OPENING_PERCENT).div_ceil(100)
}

#[cfg(test)]
mod tests;
