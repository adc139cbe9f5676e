//! What happened in a run, as the log tells it: how long orders took, and what was met on the way. The proof is the
//! checker's; nothing here decides whether a run was good.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tillroll_client::{
    Client,
    processor::Fact as _,
    saga::payload::{CancelReason, Event, topic},
};

use crate::cmd::fail::Failure;

/// Longest time that is told apart, in microseconds: a day.
const TIME_US_MAX: u64 = 86_400_000_000;
/// How long orders come in before it is measured how many are done.
pub(super) const WARM_UP: Duration = Duration::from_secs(10);

/// What is known of an order.
#[derive(Debug, Default)]
struct Course {
    placed_us: Option<i64>,
    decided_us: Option<i64>,
    fulfilled_us: Option<i64>,
    cancelled_us: Option<i64>,
    authorized: Option<u64>,
    authorized_us: i64,
    is_cancelling: bool,
    is_late: bool,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    orders: HashMap<String, Course>,
    cancels: HashSet<(String, String)>,
    decided_by: HashSet<(String, String)>,
    /// Orders that were placed once more.
    pub(super) placed_again: u64,
    /// Payments that the gateway declined.
    pub(super) declines: u64,
    /// Captures below what was authorised.
    pub(super) captures_below: u64,
    /// Refunds.
    pub(super) refunds: u64,
    /// Orders cancelled because their time was over.
    pub(super) deadlines: u64,
    /// From placed to decided and to fulfilled, in microseconds of append time.
    placed_to_decided: Histogram<u64>,
    placed_to_fulfilled: Histogram<u64>,
}

impl Seen {
    fn new() -> Result<Self, Failure> {
        let histogram = || {
            Histogram::new_with_max(TIME_US_MAX, 3).map_err(|error| Failure::plain(format!("counting times: {error}")))
        };
        Ok(Self {
            orders: HashMap::new(),
            cancels: HashSet::new(),
            decided_by: HashSet::new(),
            placed_again: 0,
            declines: 0,
            captures_below: 0,
            refunds: 0,
            deadlines: 0,
            placed_to_decided: histogram()?,
            placed_to_fulfilled: histogram()?,
        })
    }

    /// Reads the topics that tell it, to their present ends.
    pub(super) async fn read(client: &Client) -> Result<Self, Failure> {
        let mut seen = Self::new()?;
        for topic in [topic::ORDERS, topic::PAYMENTS, topic::INVENTORY, topic::FULFILMENT] {
            let mut reader = client.reader(topic).open().await?;
            while let Some(received) = reader.next().await {
                let received = received?;
                let (record, time_us) = (received.record, received.append_time_us);
                let event = Event::decode(&record.type_, &record.value);
                let event = event.map_err(|malformed| Failure::plain(malformed.to_string()))?;
                let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
                if let (Some(key), Some(event)) = (key, event) {
                    seen.take(key, event, time_us);
                }
            }
        }
        seen.settle();
        Ok(seen)
    }

    fn take(&mut self, key: &str, event: Event, time_us: i64) {
        let course = self.orders.entry(key.to_owned()).or_default();
        match event {
            Event::OrderPlaced(_) if course.placed_us.is_some() => self.placed_again += 1,
            Event::OrderPlaced(_) => course.placed_us = Some(time_us),
            Event::CancelRequested(asked) => {
                self.cancels.insert((key.to_owned(), asked.request));
            }
            Event::OrderConfirmed(decision) => {
                course.decided_us = Some(time_us);
                self.decided_by.extend(decision.requests.into_iter().map(|request| (key.to_owned(), request)));
            }
            Event::OrderCancelling(decision) => {
                (course.decided_us, course.is_cancelling) = (Some(time_us), true);
                self.deadlines += u64::from(decision.reason == CancelReason::Deadline);
                self.decided_by.extend(decision.requests.into_iter().map(|request| (key.to_owned(), request)));
            }
            Event::PaymentAuthorized(paid) => (course.authorized, course.authorized_us) = (Some(paid.amount), time_us),
            // Without a key the gateway was not asked: the order was being cancelled already.
            Event::PaymentDeclined(declined) => self.declines += u64::from(declined.key.is_some()),
            Event::PaymentCaptured(paid) => {
                self.captures_below += u64::from(course.authorized.is_some_and(|amount| paid.amount < amount));
            }
            Event::RefundProcessed(_) => self.refunds += 1,
            Event::InventoryReserved(_) => course.is_late |= course.decided_us.is_some_and(|at| at < time_us),
            Event::OrderFulfilled(_) => course.fulfilled_us = Some(time_us),
            Event::OrderCancelled(_) => course.cancelled_us = Some(time_us),
            _ => {}
        }
    }

    /// Adds up times.
    fn settle(&mut self) {
        for course in self.orders.values() {
            let Some(placed_us) = course.placed_us else { continue };
            let since = |at: Option<i64>| at.and_then(|at| u64::try_from(at - placed_us).ok());
            // Longer than a day counts as a day.
            if let Some(us) = since(course.decided_us) {
                self.placed_to_decided.saturating_record(us);
            }
            if let Some(us) = since(course.fulfilled_us) {
                self.placed_to_fulfilled.saturating_record(us);
            }
        }
    }

    /// Successes of payment or inventory that came after the order was being cancelled.
    pub(super) fn late_successes(&self) -> u64 {
        let is_late = |course: &&Course| {
            let paid_late =
                course.authorized.is_some() && course.decided_us.is_some_and(|at| at < course.authorized_us);
            course.is_cancelling && (paid_late || course.is_late)
        };
        self.orders.values().filter(is_late).count() as u64
    }

    /// Cancel requests that the decision contains.
    pub(super) fn cancels_won(&self) -> u64 {
        self.cancels.intersection(&self.decided_by).count() as u64
    }

    /// Cancel requests that came after the decision.
    pub(super) fn cancels_lost(&self) -> u64 {
        self.cancels.difference(&self.decided_by).count() as u64
    }

    /// The time by which this share of the orders was decided, and fulfilled, in milliseconds.
    pub(super) fn quantiles(&self, share: f64) -> (f64, f64) {
        (ms(&self.placed_to_decided, share), ms(&self.placed_to_fulfilled, share))
    }

    /// Orders a second, from the first placement until the last order was decided or fulfilled.
    pub(super) fn orders_per_s(&self) -> u64 {
        let placed = self.orders.values().filter_map(|course| course.placed_us);
        let done = self.orders.values().filter_map(|course| course.fulfilled_us.max(course.decided_us));
        let (count, first, last) = (placed.clone().count() as u64, placed.min(), done.max());
        let us = first.zip(last).and_then(|(first, last)| u64::try_from(last - first).ok()).unwrap_or(0);
        count * 1_000_000 / us.max(1)
    }

    /// Orders that were done each second while others came in, the first seconds apart, and over how many seconds; none
    /// when that is less than one.
    pub(super) fn sustained(&self) -> Option<(u64, u64)> {
        let placed = || self.orders.values().filter_map(|course| course.placed_us);
        let from = placed().min()? + i64::try_from(WARM_UP.as_micros()).ok()?;
        let until = placed().max()?;
        let seconds = u64::try_from(until - from).ok()? / 1_000_000;
        let done = self.orders.values().filter_map(|course| course.fulfilled_us.or(course.cancelled_us));
        let count = done.filter(|at| (from..until).contains(at)).count() as u64;
        (seconds > 0).then(|| (count * 1_000_000 / u64::try_from(until - from).unwrap_or(u64::MAX), seconds))
    }

    /// The times as objects.
    pub(super) fn times(&self) -> (Value, Value) {
        let object = |times: &Histogram<u64>| json!({ "p50": ms(times, 0.5), "p99": ms(times, 0.99) });
        (object(&self.placed_to_decided), object(&self.placed_to_fulfilled))
    }
}

fn ms(times: &Histogram<u64>, share: f64) -> f64 {
    let tenths = times.value_at_quantile(share) / 100;
    f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0
}

#[cfg(test)]
impl Seen {
    /// So many orders with a success that came too late, and so many cancel requests that won and that lost.
    pub(super) fn of_cancels(late: usize, won: usize, lost: usize) -> Self {
        let mut seen = Self::new().expect("a histogram");
        for number in 0..late {
            let course = Course { is_cancelling: true, is_late: true, ..Course::default() };
            seen.orders.insert(number.to_string(), course);
        }
        let request = |number: usize| ("order".to_owned(), number.to_string());
        seen.cancels = (0..won + lost).map(request).collect();
        seen.decided_by = (0..won).map(request).collect();
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Orders that are placed every hundredth of a second and fulfilled a second later, from an append time of 5 s on.
    fn seen(seconds: i64) -> Seen {
        let mut seen = Seen::new().expect("a histogram");
        for number in 0..seconds * 100 {
            let placed_us = 5_000_000 + number * 10_000;
            let course = Course {
                placed_us: Some(placed_us),
                decided_us: Some(placed_us + 500_000),
                fulfilled_us: Some(placed_us + 1_000_000),
                ..Course::default()
            };
            seen.orders.insert(number.to_string(), course);
        }
        seen
    }

    #[test]
    fn what_is_sustained_leaves_out_the_beginning_and_what_comes_behind_the_last_placement() {
        assert_eq!(seen(0).sustained(), None);
        assert_eq!(seen(10).sustained(), None, "all of it is warm-up");
        let (rate, seconds) = seen(30).sustained().expect("some seconds");
        assert_eq!((rate, seconds), (100, 19), "the last placement is just before the thirtieth second");
        // Those that are never done are not counted, however many are placed.
        let mut stuck = seen(30);
        stuck.orders.values_mut().for_each(|course| course.fulfilled_us = None);
        assert_eq!(stuck.sustained(), Some((0, 19)));
    }
}
