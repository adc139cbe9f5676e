//! Every number that the saga's page knows of a file: a mapping that comes to other ones is another mapping.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::{
    RetailError,
    invoice::{Invoice, Kind, Row},
};

/// What was counted in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Invoices that are orders.
    pub orders: Tally,
    /// Invoices that take from the stock.
    pub stock_down: Tally,
    /// Invoices that add to the stock, lines of services among them, which change nothing.
    pub stock_up: Tally,
    /// Fees of the marketplace.
    pub fees: Tally,
    /// Bad debts.
    pub bad_debts: Tally,
    /// Credits.
    pub credits: Tally,
    /// What is odd about the lines.
    pub dirt: Dirt,
    /// What became of the credits.
    pub credited: Credited,
    /// Changes of the stock that are sent, one for each product line; the opening stock is apart.
    pub stock_changes: u64,
    /// Lines of [`Counts::stock_up`] and [`Counts::stock_down`] that change nothing, because a service has no stock.
    pub stock_service_lines: u64,
    /// Units of the opening stock.
    pub opening_units: u64,
}

/// Invoices and what stands on them, with the signs of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Invoices.
    pub invoices: u64,
    /// Lines.
    pub lines: u64,
    /// Units.
    pub units: i64,
    /// What the lines come to, each rounded half up.
    pub pence: i64,
}

/// What is odd about a file. Of orders, unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dirt {
    /// Lines without customer, in the whole file.
    pub lines_without_customer: u64,
    /// Orders without customer.
    pub guest_orders: u64,
    /// Lines of services.
    pub service_lines: u64,
    /// Orders of services alone: nothing is reserved for them.
    pub orders_without_products: u64,
    /// Codes of products as they are written.
    pub codes_as_written: u64,
    /// Codes of products in upper case.
    pub codes: u64,
    /// Orders with a code, be it of a service, on several lines.
    pub orders_repeating_a_code: u64,
    /// Orders with a product at several prices.
    pub orders_with_two_prices: u64,
    /// Lines that are another line of their order over again, to the letter.
    pub doubled_lines: u64,
    /// Lines of price 0.
    pub gift_lines: u64,
    /// Orders that cost nothing.
    pub orders_of_nothing: u64,
    /// Lines that have a price and cost nothing all the same.
    pub lines_rounded_to_nothing: u64,
    /// Lines without description, in the whole file.
    pub empty_descriptions: u64,
    /// Customers with several countries, in the whole file.
    pub customers_of_several_countries: u64,
    /// The most lines of one order.
    pub lines_max: u64,
    /// The first order with so many.
    pub longest_order: Option<String>,
}

/// What became of the lines of credits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Credited {
    /// Product lines that were bought before, to the last unit.
    pub matched_lines: u64,
    /// Product lines that were bought before in part.
    pub cut_lines: u64,
    /// Product lines that were not bought before, or were credited before.
    pub nothing_bought_lines: u64,
    /// Product lines without customer.
    pub guest_lines: u64,
    /// Lines of services, with customer.
    pub service_lines: u64,
    /// Lines of services, without customer.
    pub guest_service_lines: u64,
    /// What is sent: one for each credit and order that it touches.
    pub requests: u64,
    /// Of these, within an hour of the purchase.
    pub cancel_requests: u64,
    /// Of these, later.
    pub return_requests: u64,
    /// Units that are asked back.
    pub units: u64,
    /// What these cost when they were bought, in pence.
    pub pence: u64,
    /// Credits that something was sent for.
    pub credits_with_requests: u64,
    /// Credits that nothing was sent for.
    pub credits_without_requests: u64,
}

impl Counts {
    /// All invoices together.
    pub fn total(&self) -> Tally {
        let kinds = [self.orders, self.stock_down, self.stock_up, self.fees, self.bad_debts, self.credits];
        kinds.into_iter().fold(Tally::default(), |sum, kind| Tally {
            invoices: sum.invoices + kind.invoices,
            lines: sum.lines + kind.lines,
            units: sum.units + kind.units,
            pence: sum.pence + kind.pence,
        })
    }

    /// Counts what can be counted before the mapping.
    ///
    /// **Errors**: [`RetailError::TooLarge`]. Whoever sums up units or pence of the same lines later needs no check.
    pub(super) fn of(invoices: &[(Kind, Invoice)]) -> Result<Self, RetailError> {
        let mut counts = Self::default();
        let mut sizes = (0_i64, 0_i64);
        for (kind, invoice) in invoices {
            counts.tally(*kind).invoices += 1;
            for row in &invoice.rows {
                let too_large = |what| RetailError::TooLarge { line: row.file_line, what };
                let add = |sum: i64, value: i64| sum.checked_add(value.checked_abs()?);
                sizes.0 = add(sizes.0, row.units).ok_or_else(|| too_large("units of all lines"))?;
                sizes.1 = add(sizes.1, row.pence).ok_or_else(|| too_large("pence of all lines"))?;
                let tally = counts.tally(*kind);
                tally.lines += 1;
                tally.units += row.units;
                tally.pence += row.pence;
            }
        }
        counts.dirt = Dirt::of(invoices);
        Ok(counts)
    }

    fn tally(&mut self, kind: Kind) -> &mut Tally {
        match kind {
            Kind::Order => &mut self.orders,
            Kind::StockDown => &mut self.stock_down,
            Kind::StockUp => &mut self.stock_up,
            Kind::Fee => &mut self.fees,
            Kind::BadDebt => &mut self.bad_debts,
            Kind::Credit => &mut self.credits,
        }
    }
}

impl Dirt {
    fn of(invoices: &[(Kind, Invoice)]) -> Self {
        let mut dirt = Self::default();
        let (mut written, mut codes) = (HashSet::new(), HashSet::new());
        let mut countries: HashMap<&str, HashSet<&str>> = HashMap::new();
        for (kind, invoice) in invoices {
            match invoice.customer.as_deref() {
                Some(customer) => {
                    countries.entry(customer).or_default().insert(&invoice.country);
                }
                None => dirt.lines_without_customer += invoice.rows.len() as u64,
            }
            dirt.empty_descriptions += count(&invoice.rows, |row| row.description.is_empty());
            if *kind == Kind::Order {
                dirt.look_at(invoice);
                for row in invoice.rows.iter().filter(|row| !row.service) {
                    written.insert(row.written());
                    codes.insert(row.code.as_str());
                }
            }
        }
        dirt.codes_as_written = written.len() as u64;
        dirt.codes = codes.len() as u64;
        dirt.customers_of_several_countries = countries.values().filter(|named| named.len() > 1).count() as u64;
        dirt
    }

    /// Looks at one order.
    fn look_at(&mut self, order: &Invoice) {
        let rows = &order.rows;
        let services = count(rows, |row| row.service);
        self.guest_orders += u64::from(order.customer.is_none());
        self.service_lines += services;
        self.orders_without_products += u64::from(services == rows.len() as u64);
        self.gift_lines += count(rows, |row| row.mills == 0);
        self.lines_rounded_to_nothing += count(rows, |row| row.mills != 0 && row.pence == 0);
        self.orders_of_nothing += u64::from(rows.iter().all(|row| row.pence == 0));
        self.doubled_lines += rows.len() as u64 - distinct(rows.iter().map(contents));
        let codes = distinct(rows.iter().map(|row| row.code.as_str()));
        self.orders_repeating_a_code += u64::from(codes < rows.len() as u64);
        let products = || rows.iter().filter(|row| !row.service);
        let priced = distinct(products().map(|row| (row.code.as_str(), row.mills)));
        self.orders_with_two_prices += u64::from(priced > distinct(products().map(|row| row.code.as_str())));
        if rows.len() as u64 > self.lines_max {
            self.lines_max = rows.len() as u64;
            self.longest_order = Some(order.id.clone());
        }
    }
}

/// All that tells a line from the others of its invoice, but for its place.
fn contents(row: &Row) -> (&str, &str, i64, i64, i64) {
    (row.written(), &row.description, row.units, row.mills, row.time_us)
}

fn count(rows: &[Row], rule: fn(&Row) -> bool) -> u64 {
    rows.iter().filter(|row| rule(row)).count() as u64
}

fn distinct<T: Eq + std::hash::Hash>(values: impl Iterator<Item = T>) -> u64 {
    values.collect::<HashSet<_>>().len() as u64
}
