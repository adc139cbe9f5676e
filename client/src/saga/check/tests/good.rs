//! One good log, with the input, the cursors and the ledger that fit it: how it is written. What is written stands in
//! `orders`.

mod orders;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Received, Record,
    processor::{Fact as _, STEP_HEADER},
    saga::{
        check::{Charge, Cursor, End, ExpectedInput, Log, Operation, Outcome, Terms},
        payload::{
            CancelReason, CancelRequested, Event as Payload, InventoryRejected, InventoryReleased, InventoryReserved,
            InventoryReturned, InventoryUpdated, Line, Notice, NotificationSent, OrderCancelled, OrderCancelling,
            OrderConfirmed, OrderFulfilled, OrderPlaced, PaymentAuthorized, PaymentCaptured, PaymentDeclined,
            PaymentVoided, RefundProcessed, RefusedReason, ReturnAccepted, ReturnRefused, ReturnRequested,
            StockChangeRequested, StockUnits, Units, group, topic,
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
        orders::all(&mut shop);
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
