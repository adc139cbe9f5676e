//! One good log, order by order, with the input, the cursors and the ledger that fit it. Amounts are worked out by
//! hand.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Received, Record,
    processor::{Fact as _, STEP_HEADER},
    saga::{
        check::{Charge, Cursor, End, ExpectedInput, Log, Operation, Outcome, Terms},
        payload::{
            AddressChangeRefused, AddressChangeRequested, CancelReason, CancelRequested, Event as Payload,
            InventoryRejected, InventoryReleased, InventoryReserved, InventoryReturned, InventoryUpdated, Line, Notice,
            NotificationSent, OrderCancelled, OrderCancelling, OrderConfirmed, OrderFulfilled, OrderPlaced,
            PaymentAuthorized, PaymentCaptured, PaymentDeclined, PaymentVoided, PlacementRefused, RefundProcessed,
            RefusedReason, ReturnAccepted, ReturnRefused, ReturnRequested, StockChangeRequested, StockUnits, Units,
            group, topic,
        },
    },
};

/// Partitions of every topic but the stock's.
const PARTITIONS: u32 = 3;

/// An event as it is written. What a test changes, it changes here.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) offset: u64,
    pub(super) time_us: i64,
    pub(super) id: String,
    pub(super) source: String,
    pub(super) key: String,
    pub(super) correlation: String,
    pub(super) causation: String,
    pub(super) step: Option<String>,
    pub(super) fact: Payload,
}

impl Said {
    pub(super) fn received(&self) -> Received {
        let mut record = Record::new(self.fact.encode())
            .key(self.key.clone())
            .id(self.id.clone())
            .type_(self.fact.kind())
            .source(self.source.clone())
            .correlation_id(self.correlation.clone())
            .causation_id(self.causation.clone());
        if let Some(step) = &self.step {
            record = record.header(STEP_HEADER, step.clone());
        }
        let Self { topic, partition, offset, time_us, .. } = self;
        let topic = Arc::from(topic.as_str());
        Received { topic, partition: *partition, offset: *offset, append_time_us: *time_us, record }
    }
}

/// A log with what is judged beside it.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) events: Vec<Said>,
    pub(super) ends: Vec<End>,
    pub(super) cursors: Vec<Cursor>,
    pub(super) ledger: Vec<Charge>,
    pub(super) input: ExpectedInput,
}

impl World {
    /// The good one.
    pub(super) fn good() -> Self {
        let mut shop = Shop::default();
        stock(&mut shop);
        plain(&mut shop);
        short(&mut shop);
        cancelled_in_part(&mut shop);
        declined(&mut shop);
        out_of_stock(&mut shop);
        cancelled_by_the_customer(&mut shop);
        cancelled_by_the_customer_and_short(&mut shop);
        past_the_deadline(&mut shop);
        charged_after_cancelling(&mut shop);
        returned_in_parts(&mut shop);
        returned_before_it_was_shipped(&mut shop);
        cancelled_too_late(&mut shop);
        moved_house(&mut shop);
        gift(&mut shop);
        services_alone(&mut shop);
        placed_twice(&mut shop);
        placed_twice_otherwise(&mut shop);
        declined_at_once(&mut shop);
        guest(&mut shop);
        shop.close()
    }

    pub(super) fn log(&self) -> Log {
        // Topic by topic, as a broker is read.
        let mut events: Vec<&Said> = self.events.iter().collect();
        events.sort_by_key(|said| (said.topic.as_str(), said.partition, said.offset));
        let mut log = Log::new();
        for said in events {
            log.take(&said.received());
        }
        log
    }

    pub(super) fn terms(&self) -> Terms<'_> {
        Terms {
            input: Some(&self.input),
            standing: Some((&self.ends, &self.cursors)),
            ledger: Some(&self.ledger),
            allow_open: false,
        }
    }
}

/// Writes a log.
#[derive(Default)]
pub(super) struct Shop {
    pub(super) events: Vec<Said>,
    /// How many events were written and taken away before these.
    pub(super) before: usize,
    ends: BTreeMap<(&'static str, u32), u64>,
    pub(super) ledger: Vec<Charge>,
    pub(super) input: ExpectedInput,
    decision: u64,
}

/// An event that was written: its index.
pub(super) type Ref = usize;

impl Shop {
    fn write(&mut self, source: &str, key: &str, cause: Option<Ref>, step: Option<String>, fact: Payload) -> Ref {
        let topic = fact.topic();
        let partitions = if topic == topic::STOCK { 1 } else { PARTITIONS };
        let partition = key.bytes().map(u32::from).sum::<u32>() % partitions;
        let end = self.ends.entry((topic, partition)).or_default();
        let index = self.events.len();
        let number = self.before + index;
        self.events.push(Said {
            topic: topic.into(),
            partition,
            offset: *end,
            time_us: 1_700_000_000_000_000 + i64::try_from(number).expect("few events") * 1_000,
            id: format!("0190a6f0-0000-7000-8000-{number:012x}"),
            source: source.into(),
            key: key.into(),
            correlation: key.into(),
            causation: cause.map(|cause| self.events[cause].id.clone()).unwrap_or_default(),
            step,
            fact,
        });
        *end += 1;
        index
    }

    pub(super) fn storefront(&mut self, key: &str, fact: impl Into<Payload>) -> Ref {
        let fact = fact.into();
        match &fact {
            Payload::OrderPlaced(placed) => {
                self.input.orders.entry(key.into()).or_insert_with(|| placed.clone());
            }
            Payload::StockChangeRequested(change) => self.input.stock.push((key.into(), change.clone())),
            request => self.input.requests.entry(key.into()).or_default().push(request.clone()),
        }
        self.write(group::STOREFRONT, key, None, None, fact)
    }

    /// A step for an input, which says all this about the input's key.
    fn step<const N: usize>(&mut self, group: &str, input: Ref, facts: [Payload; N]) -> [Ref; N] {
        let Said { topic, partition, offset, .. } = &self.events[input];
        let name = format!("{group}/{topic}/{partition}/{offset}");
        self.outputs(group, input, &name, facts)
    }

    /// The same for the deadline of the order that was placed so.
    fn deadline<const N: usize>(&mut self, placed: Ref, facts: [Payload; N]) -> [Ref; N] {
        let name = format!("order/timer/deadline:{}", self.events[placed].key);
        self.outputs(group::ORDER, placed, &name, facts)
    }

    fn outputs<const N: usize>(&mut self, group: &str, cause: Ref, name: &str, facts: [Payload; N]) -> [Ref; N] {
        let key = self.events[cause].key.clone();
        let mut k = 0;
        let outputs = facts.map(|fact| {
            k += 1;
            self.write(group, &key, Some(cause), Some(format!("{name}/{}/{N}", k - 1)), fact)
        });
        // They stand in one append.
        let time_us = self.events[outputs[0]].time_us;
        for output in outputs {
            self.events[output].time_us = time_us;
        }
        outputs
    }

    pub(super) fn order<const N: usize>(&mut self, input: Ref, facts: [Payload; N]) -> [Ref; N] {
        self.step(group::ORDER, input, facts)
    }

    pub(super) fn payment<const N: usize>(&mut self, input: Ref, facts: [Payload; N]) -> [Ref; N] {
        self.step(group::PAYMENT, input, facts)
    }

    fn inventory(&mut self, input: Ref, fact: Payload) -> Ref {
        let [said] = self.step(group::INVENTORY, input, [fact]);
        said
    }

    pub(super) fn fulfilled(&mut self, confirmed: Ref, lines: &[(u32, u64)]) -> Ref {
        let [said] = self.step(group::FULFILMENT, confirmed, [OrderFulfilled { lines: units(lines) }.into()]);
        said
    }

    pub(super) fn told(&mut self, of: Ref, notice: Notice) {
        let request = match &self.events[of].fact {
            Payload::RefundProcessed(refund) => Some(refund.request.clone()),
            _ => None,
        };
        self.step(group::NOTIFICATION, of, [NotificationSent { notice, request }.into()]);
    }

    pub(super) fn id(&self, said: Ref) -> String {
        self.events[said].id.clone()
    }

    /// The gateway does something, or refuses it. Out: the key that it was asked with.
    fn charge(&mut self, operation: Operation, names: &str, amount: u64, outcome: Outcome) -> Option<String> {
        let word = match operation {
            Operation::Authorize => "authorize",
            Operation::Capture => "capture",
            Operation::Void => "void",
            Operation::Refund => "refund",
        };
        let key = Some(format!("{word}:{names}"));
        let order = names.split(':').next().unwrap_or_default().to_owned();
        self.ledger.push(Charge { key: key.clone(), operation, order, amount, outcome });
        key
    }

    pub(super) fn authorized(&mut self, order: &str, amount: u64) -> Payload {
        let key = self.charge(Operation::Authorize, order, amount, Outcome::Accepted);
        PaymentAuthorized { amount, key }.into()
    }

    fn declined(&mut self, order: &str, amount: u64) -> Payload {
        let key = self.charge(Operation::Authorize, order, amount, Outcome::Declined);
        PaymentDeclined { amount, key }.into()
    }

    pub(super) fn captured(&mut self, order: &str, amount: u64) -> Payload {
        let key = self.charge(Operation::Capture, order, amount, Outcome::Accepted);
        PaymentCaptured { amount, key }.into()
    }

    pub(super) fn voided(&mut self, order: &str, amount: u64, authorized: String) -> Payload {
        let key = self.charge(Operation::Void, order, amount, Outcome::Accepted);
        PaymentVoided { amount, key, compensates: authorized }.into()
    }

    pub(super) fn refunded(&mut self, order: &str, request: &str, amount: u64, captured: String) -> Payload {
        let key = self.charge(Operation::Refund, &format!("{order}:{request}"), amount, Outcome::Accepted);
        RefundProcessed { request: request.into(), amount, key, compensates: captured }.into()
    }

    fn decision(&mut self) -> u64 {
        self.decision += 1;
        self.decision
    }

    pub(super) fn reserved(&mut self, placed: Ref, lines: &[(u32, &str, u64)], short: &[u32]) -> Ref {
        let (decision, lines, short) = (self.decision(), stocked(lines), short.to_vec());
        self.inventory(placed, InventoryReserved { decision, lines, short }.into())
    }

    fn rejected(&mut self, placed: Ref, short: &[u32]) -> Ref {
        let (decision, short) = (self.decision(), short.to_vec());
        self.inventory(placed, InventoryRejected { decision, short }.into())
    }

    pub(super) fn released(&mut self, decided: Ref, lines: &[(u32, &str, u64)], reserved: Ref) -> Ref {
        let (decision, lines, compensates) = (self.decision(), stocked(lines), self.id(reserved));
        self.inventory(decided, InventoryReleased { decision, lines, compensates }.into())
    }

    pub(super) fn returned(&mut self, accepted: Ref, request: &str, lines: &[(u32, &str, u64)], fulfilled: Ref) -> Ref {
        let (decision, lines, compensates) = (self.decision(), stocked(lines), self.id(fulfilled));
        let request = request.into();
        self.inventory(accepted, InventoryReturned { decision, request, lines, compensates }.into())
    }

    pub(super) fn stock(&mut self, code: &str, request: &str, asked: i64, applied: i64) {
        let change = self.storefront(code, StockChangeRequested { request: request.into(), units: asked });
        let (decision, request) = (self.decision(), request.into());
        self.inventory(change, InventoryUpdated { decision, request, asked, applied }.into());
    }

    /// Confirmed, shipped and paid as it is, and the customer is told: the way of most orders.
    pub(super) fn carried_out(&mut self, last: Ref, order: &str, lines: &[(u32, u64)], amount: u64) -> (Ref, Ref) {
        let [confirmed] = self.order(last, [confirmed(lines, amount, "Bergen", &[])]);
        self.told(confirmed, Notice::Confirmed);
        let fulfilled = self.fulfilled(confirmed, lines);
        self.told(fulfilled, Notice::Shipped);
        let captured = self.captured(order, amount);
        let [captured] = self.payment(fulfilled, [captured]);
        (fulfilled, captured)
    }

    /// The last word, and the customer is told.
    fn cancelled(&mut self, last: Ref, reason: CancelReason) {
        let [cancelled] = self.order(last, [OrderCancelled { reason }.into()]);
        self.told(cancelled, Notice::Cancelled);
    }

    /// Everything was read to its end.
    fn close(self) -> World {
        let Self { events, ends, ledger, input, .. } = self;
        let mut all = Vec::new();
        for name in topic::ALL {
            let partitions = if name == topic::STOCK { 1 } else { PARTITIONS };
            all.extend((0..partitions).map(|partition| End {
                topic: name.into(),
                partition,
                end_offset: ends.get(&(name, partition)).copied().unwrap_or_default(),
            }));
        }
        let read: [(&str, &[&str]); 5] = [
            (group::ORDER, &[topic::ORDERS, topic::PAYMENTS, topic::INVENTORY, topic::FULFILMENT]),
            (group::PAYMENT, &[topic::ORDERS, topic::FULFILMENT]),
            (group::INVENTORY, &[topic::ORDERS, topic::STOCK]),
            (group::FULFILMENT, &[topic::ORDERS]),
            (group::NOTIFICATION, &[topic::ORDERS, topic::PAYMENTS, topic::FULFILMENT]),
        ];
        let mut cursors = Vec::new();
        for (group, topics) in read {
            cursors.extend(all.iter().filter(|end| topics.contains(&end.topic.as_str())).map(|end| Cursor {
                group: group.into(),
                topic: end.topic.clone(),
                partition: end.partition,
                next_offset: end.end_offset,
            }));
        }
        World { events, ends: all, cursors, ledger, input }
    }
}

pub(super) fn line(line: u32, code: &str, units: u64, price_mills: u64) -> Line {
    Line { line, code: code.into(), description: format!("A {code}"), units, price_mills, service: code == "POST" }
}

fn placed(lines: &[Line]) -> OrderPlaced {
    OrderPlaced { customer: Some("17850".into()), address: "Bergen".into(), lines: lines.to_vec() }
}

pub(super) fn units(lines: &[(u32, u64)]) -> Vec<Units> {
    lines.iter().map(|&(line, units)| Units { line, units }).collect()
}

fn stocked(lines: &[(u32, &str, u64)]) -> Vec<StockUnits> {
    lines.iter().map(|&(line, code, units)| StockUnits { line, code: code.into(), units }).collect()
}

pub(super) fn confirmed(lines: &[(u32, u64)], amount: u64, address: &str, requests: &[&str]) -> Payload {
    let requests = requests.iter().map(|request| (*request).to_owned()).collect();
    OrderConfirmed { lines: units(lines), amount, address: address.into(), requests }.into()
}

fn cancelling(reason: CancelReason, requests: &[&str]) -> Payload {
    OrderCancelling { reason, requests: requests.iter().map(|request| (*request).to_owned()).collect() }.into()
}

pub(super) fn cancel(request: &str, lines: &[(u32, u64)]) -> CancelRequested {
    CancelRequested { request: request.into(), lines: units(lines) }
}

pub(super) fn give_back(request: &str, lines: &[(u32, u64)]) -> ReturnRequested {
    ReturnRequested { request: request.into(), lines: units(lines) }
}

pub(super) fn accepted(request: &str, lines: &[(u32, u64)], amount: u64, fulfilled: String) -> Payload {
    ReturnAccepted { request: request.into(), lines: units(lines), amount, fulfilled }.into()
}

fn refused(request: &str, reason: RefusedReason) -> Payload {
    ReturnRefused { request: request.into(), reason }.into()
}

/// 100 hearts, 40 lanterns; 5 birds come and 8 are to go, of which there are 5; 3 come again.
fn stock(shop: &mut Shop) {
    shop.stock("HEART", "opening-1", 100, 100);
    shop.stock("LANTERN", "opening-2", 40, 40);
    shop.stock("BIRD", "opening-3", 5, 5);
    shop.stock("BIRD", "536589", -8, -5);
    shop.stock("BIRD", "536600", 3, 3);
}

/// 6 × 2.55 + 3 × 0.335 + postage of 18 = 15.30 + 1.005 + 18.00, each rounded: 34.31.
fn plain(shop: &mut Shop) {
    let lines = [line(1, "HEART", 6, 2_550), line(2, "LANTERN", 3, 335), line(3, "POST", 1, 18_000)];
    let placed = shop.storefront("plain", placed(&lines));
    let authorized = shop.authorized("plain", 3_431);
    shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 6), (2, "LANTERN", 3)], &[]);
    shop.carried_out(reserved, "plain", &[(1, 6), (2, 3)], 3_431);
}

/// 2 × 2.55 are there, 10 × 1.00 are not.
fn short(shop: &mut Shop) {
    let placed = shop.storefront("short", placed(&[line(1, "HEART", 2, 2_550), line(2, "BIRD", 10, 1_000)]));
    shop.reserved(placed, &[(1, "HEART", 2)], &[2]);
    let authorized = shop.authorized("short", 1_510);
    let [authorized] = shop.payment(placed, [authorized]);
    let [confirmed] = shop.order(authorized, [confirmed(&[(1, 2)], 510, "Bergen", &[])]);
    shop.told(confirmed, Notice::Confirmed);
    let fulfilled = shop.fulfilled(confirmed, &[(1, 2)]);
    shop.told(fulfilled, Notice::Shipped);
    let rest = shop.id(authorized);
    let outputs = [shop.captured("short", 510), shop.voided("short", 1_000, rest)];
    shop.payment(fulfilled, outputs);
}

/// 4 × 2.55 + 2 × 0.335 = 10.87; one of the four is cancelled in time.
fn cancelled_in_part(shop: &mut Shop) {
    let placed = shop.storefront("part", placed(&[line(1, "HEART", 4, 2_550), line(2, "LANTERN", 2, 335)]));
    shop.storefront("part", cancel("C1", &[(1, 1)]));
    let authorized = shop.authorized("part", 1_087);
    let [authorized] = shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 4), (2, "LANTERN", 2)], &[]);
    let lines = [(1, 3), (2, 2)];
    let [confirmed] = shop.order(reserved, [confirmed(&lines, 832, "Bergen", &["C1"])]);
    shop.told(confirmed, Notice::Confirmed);
    shop.released(confirmed, &[(1, "HEART", 1)], reserved);
    let fulfilled = shop.fulfilled(confirmed, &lines);
    shop.told(fulfilled, Notice::Shipped);
    let rest = shop.id(authorized);
    let outputs = [shop.captured("part", 832), shop.voided("part", 255, rest)];
    shop.payment(fulfilled, outputs);
}

fn declined(shop: &mut Shop) {
    let placed = shop.storefront("declined", placed(&[line(1, "HEART", 2, 2_550)]));
    let reserved = shop.reserved(placed, &[(1, "HEART", 2)], &[]);
    let refusal = shop.declined("declined", 510);
    let [refusal] = shop.payment(placed, [refusal]);
    let [cancelling] = shop.order(refusal, [cancelling(CancelReason::PaymentDeclined, &[])]);
    let released = shop.released(cancelling, &[(1, "HEART", 2)], reserved);
    shop.cancelled(released, CancelReason::PaymentDeclined);
}

fn out_of_stock(shop: &mut Shop) {
    let placed = shop.storefront("nothing", placed(&[line(1, "BIRD", 9, 1_000)]));
    let authorized = shop.authorized("nothing", 900);
    let [authorized] = shop.payment(placed, [authorized]);
    let rejected = shop.rejected(placed, &[1]);
    let [cancelling] = shop.order(rejected, [cancelling(CancelReason::OutOfStock, &[])]);
    let rest = shop.id(authorized);
    let voided = shop.voided("nothing", 900, rest);
    let [voided] = shop.payment(cancelling, [voided]);
    shop.cancelled(voided, CancelReason::OutOfStock);
}

/// Everything is cancelled; the goods are set aside only afterwards.
fn cancelled_by_the_customer(shop: &mut Shop) {
    let placed = shop.storefront("regretted", placed(&[line(1, "HEART", 5, 2_550)]));
    let request = shop.storefront("regretted", cancel("C2", &[(1, 5)]));
    let authorized = shop.authorized("regretted", 1_275);
    let [authorized] = shop.payment(placed, [authorized]);
    let [cancelling] = shop.order(request, [cancelling(CancelReason::Requested, &["C2"])]);
    let rest = shop.id(authorized);
    let voided = shop.voided("regretted", 1_275, rest);
    shop.payment(cancelling, [voided]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 5)], &[]);
    let released = shop.released(cancelling, &[(1, "HEART", 5)], reserved);
    shop.cancelled(released, CancelReason::Requested);
}

/// One line is cancelled and the other is short: nothing is left of it.
fn cancelled_by_the_customer_and_short(shop: &mut Shop) {
    let placed = shop.storefront("unlucky", placed(&[line(1, "HEART", 1, 2_550), line(2, "BIRD", 4, 1_000)]));
    shop.storefront("unlucky", cancel("C3", &[(1, 1)]));
    let reserved = shop.reserved(placed, &[(1, "HEART", 1)], &[2]);
    let [cancelling] = shop.order(reserved, [cancelling(CancelReason::Requested, &["C3"])]);
    shop.released(cancelling, &[(1, "HEART", 1)], reserved);
    let authorized = shop.authorized("unlucky", 655);
    let [authorized] = shop.payment(placed, [authorized]);
    let rest = shop.id(authorized);
    let voided = shop.voided("unlucky", 655, rest);
    let [voided] = shop.payment(cancelling, [voided]);
    shop.cancelled(voided, CancelReason::Requested);
}

/// The gateway is never asked; a return that was asked meanwhile is refused by the same timer.
fn past_the_deadline(shop: &mut Shop) {
    let placed = shop.storefront("late", placed(&[line(1, "LANTERN", 7, 335)]));
    let reserved = shop.reserved(placed, &[(1, "LANTERN", 7)], &[]);
    shop.storefront("late", give_back("R1", &[(1, 7)]));
    let outputs = [cancelling(CancelReason::Deadline, &[]), refused("R1", RefusedReason::OrderCancelled)];
    let [cancelling, _] = shop.deadline(placed, outputs);
    shop.released(cancelling, &[(1, "LANTERN", 7)], reserved);
    let [refusal] = shop.payment(cancelling, [PaymentDeclined { amount: 235, key: None }.into()]);
    shop.cancelled(refusal, CancelReason::Deadline);
}

/// The gateway's answer comes when the order is being cancelled already.
fn charged_after_cancelling(shop: &mut Shop) {
    let placed = shop.storefront("charged", placed(&[line(1, "BIRD", 6, 1_000)]));
    let rejected = shop.rejected(placed, &[1]);
    shop.order(rejected, [cancelling(CancelReason::OutOfStock, &[])]);
    let authorized = shop.authorized("charged", 600);
    // The event that is voided gets its id when it is written, right before.
    let next = format!("0190a6f0-0000-7000-8000-{:012x}", shop.events.len());
    let voided = shop.voided("charged", 600, next);
    let [_, voided] = shop.payment(placed, [authorized, voided]);
    shop.cancelled(voided, CancelReason::OutOfStock);
}

/// 3 × 0.335 come back one by one: 1.01 in all, which is 0.34 + 0.33 + 0.34; with the last a heart of 2.55.
fn returned_in_parts(shop: &mut Shop) {
    let placed = shop.storefront("parts", placed(&[line(1, "LANTERN", 3, 335), line(2, "HEART", 1, 2_550)]));
    let authorized = shop.authorized("parts", 356);
    shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "LANTERN", 3), (2, "HEART", 1)], &[]);
    let (fulfilled, captured) = shop.carried_out(reserved, "parts", &[(1, 3), (2, 1)], 356);
    let bought = shop.id(captured);
    for (request, asked, lines, amount) in [
        ("R1", &[(1, 1)][..], &[(1, "LANTERN", 1)][..], 34),
        ("R2", &[(1, 1)], &[(1, "LANTERN", 1)], 33),
        ("R3", &[(1, 2), (2, 1)], &[(1, "LANTERN", 1), (2, "HEART", 1)], 289),
    ] {
        let asked = shop.storefront("parts", give_back(request, asked));
        let taken: Vec<(u32, u64)> = lines.iter().map(|(line, _, units)| (*line, *units)).collect();
        let shipped = shop.id(fulfilled);
        let [accepted] = shop.order(asked, [accepted(request, &taken, amount, shipped)]);
        let refund = shop.refunded("parts", request, amount, bought.clone());
        let [refund] = shop.payment(accepted, [refund]);
        shop.told(refund, Notice::Refunded);
        shop.returned(accepted, request, lines, fulfilled);
    }
    let asked = shop.storefront("parts", give_back("R4", &[(2, 1)]));
    shop.order(asked, [refused("R4", RefusedReason::NothingToReturn)]);
}

/// The return waits for the shipment, and the refund for the capture.
fn returned_before_it_was_shipped(shop: &mut Shop) {
    let placed = shop.storefront("eager", placed(&[line(1, "HEART", 2, 2_550)]));
    let authorized = shop.authorized("eager", 510);
    shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 2)], &[]);
    let [confirmed] = shop.order(reserved, [confirmed(&[(1, 2)], 510, "Bergen", &[])]);
    shop.told(confirmed, Notice::Confirmed);
    shop.storefront("eager", give_back("R1", &[(1, 2)]));
    let fulfilled = shop.fulfilled(confirmed, &[(1, 2)]);
    shop.told(fulfilled, Notice::Shipped);
    let shipped = shop.id(fulfilled);
    let [accepted] = shop.order(fulfilled, [accepted("R1", &[(1, 2)], 510, shipped)]);
    let captured = shop.captured("eager", 510);
    let next = format!("0190a6f0-0000-7000-8000-{:012x}", shop.events.len());
    let refund = shop.refunded("eager", "R1", 510, next);
    let [_, refund] = shop.payment(fulfilled, [captured, refund]);
    shop.told(refund, Notice::Refunded);
    shop.returned(accepted, "R1", &[(1, "HEART", 2)], fulfilled);
}

/// The cancellation comes after the decision and is carried out as a return.
fn cancelled_too_late(shop: &mut Shop) {
    let placed = shop.storefront("slow", placed(&[line(1, "HEART", 3, 2_550)]));
    let authorized = shop.authorized("slow", 765);
    shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 3)], &[]);
    let (fulfilled, captured) = shop.carried_out(reserved, "slow", &[(1, 3)], 765);
    let asked = shop.storefront("slow", cancel("C1", &[(1, 2)]));
    let (shipped, bought) = (shop.id(fulfilled), shop.id(captured));
    let [accepted] = shop.order(asked, [accepted("C1", &[(1, 2)], 510, shipped)]);
    let refund = shop.refunded("slow", "C1", 510, bought);
    let [refund] = shop.payment(accepted, [refund]);
    shop.told(refund, Notice::Refunded);
    shop.returned(accepted, "C1", &[(1, "HEART", 2)], fulfilled);
}

/// The first change of the address comes in time, the second does not.
fn moved_house(shop: &mut Shop) {
    let placed = shop.storefront("moved", placed(&[line(1, "HEART", 1, 2_550)]));
    shop.storefront("moved", AddressChangeRequested { request: "A1".into(), address: "Oslo".into() });
    let authorized = shop.authorized("moved", 255);
    shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 1)], &[]);
    let [confirmed] = shop.order(reserved, [confirmed(&[(1, 1)], 255, "Oslo", &["A1"])]);
    shop.told(confirmed, Notice::Confirmed);
    let late = shop.storefront("moved", AddressChangeRequested { request: "A2".into(), address: "Rome".into() });
    shop.order(late, [AddressChangeRefused { request: "A2".into(), reason: RefusedReason::TooLate }.into()]);
    let fulfilled = shop.fulfilled(confirmed, &[(1, 1)]);
    shop.told(fulfilled, Notice::Shipped);
    let captured = shop.captured("moved", 255);
    shop.payment(fulfilled, [captured]);
}

/// It costs nothing and comes back: nobody asks the gateway.
fn gift(shop: &mut Shop) {
    let placed = shop.storefront("gift", placed(&[line(1, "HEART", 1, 0)]));
    shop.payment(placed, [PaymentAuthorized { amount: 0, key: None }.into()]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 1)], &[]);
    let [confirmed] = shop.order(reserved, [confirmed(&[(1, 1)], 0, "Bergen", &[])]);
    shop.told(confirmed, Notice::Confirmed);
    let fulfilled = shop.fulfilled(confirmed, &[(1, 1)]);
    shop.told(fulfilled, Notice::Shipped);
    let [captured] = shop.payment(fulfilled, [PaymentCaptured { amount: 0, key: None }.into()]);
    let asked = shop.storefront("gift", give_back("R1", &[(1, 1)]));
    let (shipped, bought) = (shop.id(fulfilled), shop.id(captured));
    let [accepted] = shop.order(asked, [accepted("R1", &[(1, 1)], 0, shipped)]);
    let refund = RefundProcessed { request: "R1".into(), amount: 0, key: None, compensates: bought };
    let [refund] = shop.payment(accepted, [refund.into()]);
    shop.told(refund, Notice::Refunded);
    shop.returned(accepted, "R1", &[(1, "HEART", 1)], fulfilled);
}

/// Nothing to reserve and nothing to ship.
fn services_alone(shop: &mut Shop) {
    let placed = shop.storefront("postage", placed(&[line(1, "POST", 1, 5_000)]));
    let reserved = shop.reserved(placed, &[], &[]);
    let authorized = shop.authorized("postage", 500);
    let [authorized] = shop.payment(placed, [authorized]);
    assert!(reserved < authorized);
    shop.carried_out(authorized, "postage", &[], 500);
}

/// A second click with the same content does nothing.
fn placed_twice(shop: &mut Shop) {
    let content = placed(&[line(1, "HEART", 1, 2_550), line(2, "HEART", 1, 2_100)]);
    let first = shop.storefront("twice", content.clone());
    shop.storefront("twice", content);
    let authorized = shop.authorized("twice", 465);
    shop.payment(first, [authorized]);
    let reserved = shop.reserved(first, &[(1, "HEART", 1), (2, "HEART", 1)], &[]);
    shop.carried_out(reserved, "twice", &[(1, 1), (2, 1)], 465);
}

/// One with another content is refused.
fn placed_twice_otherwise(shop: &mut Shop) {
    let first = shop.storefront("other", placed(&[line(1, "HEART", 1, 2_550)]));
    let second = shop.storefront("other", placed(&[line(1, "HEART", 2, 2_550)]));
    let refusal = PlacementRefused { placement: shop.id(second), reason: RefusedReason::OtherContent };
    shop.order(second, [refusal.into()]);
    let authorized = shop.authorized("other", 255);
    shop.payment(first, [authorized]);
    let reserved = shop.reserved(first, &[(1, "HEART", 1)], &[]);
    shop.carried_out(reserved, "other", &[(1, 1)], 255);
}

/// There is nothing to release, so the last word is said in the step of the decision.
fn declined_at_once(shop: &mut Shop) {
    let placed = shop.storefront("poor", placed(&[line(1, "POST", 2, 5_000)]));
    shop.reserved(placed, &[], &[]);
    shop.storefront("poor", give_back("R1", &[(1, 2)]));
    let refusal = shop.declined("poor", 1_000);
    let [refusal] = shop.payment(placed, [refusal]);
    let reason = CancelReason::PaymentDeclined;
    let outputs =
        [cancelling(reason, &[]), refused("R1", RefusedReason::OrderCancelled), OrderCancelled { reason }.into()];
    let [_, _, cancelled] = shop.order(refusal, outputs);
    shop.told(cancelled, Notice::Cancelled);
}

/// Nobody is known to have bought it.
fn guest(shop: &mut Shop) {
    let content = OrderPlaced { customer: None, ..placed(&[line(1, "BIRD", 3, 1_000)]) };
    let placed = shop.storefront("guest", content);
    let authorized = shop.authorized("guest", 300);
    shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "BIRD", 3)], &[]);
    shop.carried_out(reserved, "guest", &[(1, 3)], 300);
}
