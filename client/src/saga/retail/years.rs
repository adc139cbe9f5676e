//! The same year over and over: a shop that is as large as a measurement is long.

use super::{Order, Request, Shop, StockChange};

/// Between the last thing of a year and the first of the next, in microseconds: a day.
const BETWEEN_YEARS_US: i64 = 86_400_000_000;

impl Shop {
    /// What happens in this shop so many times, one after the other. The first year stays as it is; in the others
    /// orders and changes of the stock have the number of the year behind their own, as in `536365-2`. The opening
    /// stock is that of all years. Counts stay those of the file.
    #[must_use]
    pub fn years(mut self, years: u32) -> Self {
        let lines = self.file_lines().max().map_or(0, |last| last + 1);
        let (first, last) = self.times();
        let span_us = last - first + BETWEEN_YEARS_US;
        let (orders, requests, changes) = (self.orders.len(), self.requests.len(), self.stock_changes.len());
        for opening in &mut self.opening {
            opening.change.units = opening.change.units.saturating_mul(i64::from(years.max(1)));
        }
        for year in 2..=years {
            let past = year - 1;
            let shift = Shift { year, lines: lines * u64::from(past), us: span_us.saturating_mul(i64::from(past)) };
            for index in 0..orders {
                self.orders.push(shift.order(&self.orders[index]));
            }
            for index in 0..requests {
                self.requests.push(shift.request(&self.requests[index]));
            }
            for index in 0..changes {
                self.stock_changes.push(shift.stock_change(&self.stock_changes[index]));
            }
        }
        self
    }

    fn file_lines(&self) -> impl Iterator<Item = u64> {
        let orders = self.orders.iter().map(|order| order.file_line);
        let requests = self.requests.iter().map(|request| request.file_line);
        orders.chain(requests).chain(self.stock_changes.iter().map(|change| change.file_line))
    }

    /// The first and the last time.
    fn times(&self) -> (i64, i64) {
        let times = || {
            let orders = self.orders.iter().map(|order| order.time_us);
            let requests = self.requests.iter().map(|request| request.time_us);
            orders.chain(requests).chain(self.stock_changes.iter().map(|change| change.time_us))
        };
        (times().min().unwrap_or(0), times().max().unwrap_or(0))
    }
}

/// How a year differs from the first.
struct Shift {
    year: u32,
    lines: u64,
    us: i64,
}

impl Shift {
    fn number(&self, number: &str) -> String {
        format!("{number}-{}", self.year)
    }

    fn order(&self, order: &Order) -> Order {
        let (file_line, time_us) = (order.file_line + self.lines, order.time_us + self.us);
        Order { id: self.number(&order.id), file_line, time_us, placed: order.placed.clone() }
    }

    fn request(&self, request: &Request) -> Request {
        let (file_line, time_us) = (request.file_line + self.lines, request.time_us + self.us);
        Request { order: self.number(&request.order), file_line, time_us, ..request.clone() }
    }

    fn stock_change(&self, change: &StockChange) -> StockChange {
        let mut shifted = change.clone();
        shifted.invoice = self.number(&change.invoice);
        (shifted.file_line, shifted.time_us) = (change.file_line + self.lines, change.time_us + self.us);
        shifted.change.request = self.number(&change.change.request);
        shifted
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_year_is_the_first_one_under_other_numbers_behind_the_one_before() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/retail-saga-cut.csv.zst");
        let one = Shop::read(path).expect("it is well formed");
        let three = one.clone().years(3);
        assert_eq!(one.clone().years(1).events().collect::<Vec<_>>(), one.events().collect::<Vec<_>>());
        let rest =
            |shop: &Shop| shop.scenes().flat_map(|scene| scene.events).map(|told| told.event).collect::<Vec<_>>();
        let scenes = |shop: &Shop| shop.scenes().count();
        assert_eq!(scenes(&three), 3 * scenes(&one));
        assert_eq!(rest(&three).len(), 3 * rest(&one).len());
        assert_eq!(rest(&three)[..rest(&one).len()], rest(&one)[..], "the first year stays as it is");
        let keys: HashSet<&str> = three.orders.iter().map(|order| order.id.as_str()).collect();
        assert_eq!(keys.len(), 3 * one.orders.len());
        assert!(three.requests.iter().all(|request| keys.contains(request.order.as_str())));
        let requests: HashSet<&str> = three.stock_changes.iter().map(|it| it.change.request.as_str()).collect();
        assert_eq!(requests.len(), 3 * one.stock_changes.len());
        let times: Vec<i64> = three.orders.iter().map(|order| order.time_us).collect();
        assert!(times.is_sorted(), "one year comes behind the other");
        let opening = |shop: &Shop| shop.opening.iter().map(|opening| opening.change.units).sum::<i64>();
        assert_eq!(opening(&three), 3 * opening(&one));
    }
}
