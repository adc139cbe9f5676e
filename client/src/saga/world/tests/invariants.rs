//! S2 to S12 of a quiet world, as asserts. They are told from the events alone.

use std::collections::{BTreeMap, BTreeSet};

use super::super::World;
use crate::{
    processor::{Cause, StepName},
    saga::{
        payload::{Event, Notice, OrderPlaced, StockUnits, Units, pence},
        service::Charged,
        tests::judged,
        world::Entry,
    },
};

/// Which events may follow from which. With an order that is read from several topics, the last of the facts that a
/// word needs is its cause, so most have several.
const CAUSES: &[(&str, &[&str])] = &[
    ("PlacementRefused", &["OrderPlaced"]),
    ("AddressChangeRefused", &["AddressChangeRequested"]),
    ("OrderConfirmed", &["PaymentAuthorized", "InventoryReserved", "OrderPlaced"]),
    (
        "OrderCancelling",
        &["PaymentDeclined", "InventoryRejected", "InventoryReserved", "CancelRequested", "OrderPlaced"],
    ),
    (
        "OrderCancelled",
        &[
            "PaymentDeclined",
            "PaymentVoided",
            "InventoryRejected",
            "InventoryReserved",
            "InventoryReleased",
            "OrderPlaced",
        ],
    ),
    ("ReturnAccepted", &["ReturnRequested", "CancelRequested", "OrderFulfilled"]),
    (
        "ReturnRefused",
        &[
            "ReturnRequested",
            "CancelRequested",
            "OrderFulfilled",
            "PaymentDeclined",
            "InventoryRejected",
            "InventoryReserved",
            "OrderPlaced",
        ],
    ),
    ("PaymentAuthorized", &["OrderPlaced"]),
    ("PaymentDeclined", &["OrderPlaced"]),
    ("PaymentCaptured", &["OrderFulfilled", "OrderConfirmed"]),
    ("PaymentVoided", &["OrderFulfilled", "OrderConfirmed", "OrderCancelling"]),
    ("RefundProcessed", &["ReturnAccepted", "OrderFulfilled"]),
    ("InventoryReserved", &["OrderPlaced"]),
    ("InventoryRejected", &["OrderPlaced"]),
    ("InventoryReleased", &["OrderConfirmed", "OrderCancelling"]),
    ("InventoryReturned", &["ReturnAccepted"]),
    ("InventoryUpdated", &["StockChangeRequested"]),
    ("OrderFulfilled", &["OrderConfirmed"]),
    ("NotificationSent", &["OrderConfirmed", "OrderCancelled", "OrderFulfilled", "RefundProcessed"]),
];

/// What may follow from an order's deadline.
const LATE: [&str; 3] = ["OrderCancelling", "OrderCancelled", "ReturnRefused"];

/// Everything that has to hold of a world in which nothing is left to read.
pub(super) fn check(world: &World) {
    assert_eq!(world.ready(), [], "every partition is read to its end");
    let entries = world.entries();
    steps(entries);
    causes(entries);
    stock(entries);
    let mut orders: BTreeMap<&str, Vec<(&Entry, Event)>> = BTreeMap::new();
    for entry in entries {
        orders.entry(&entry.key).or_default().push((entry, entry.event()));
    }
    orders.retain(|_, told| told.iter().any(|(_, event)| matches!(event, Event::OrderPlaced(_))));
    for (order, told) in &orders {
        Told { order, told }.check();
    }
    ledger(world);
    // The checker, which was written from the same page by itself, says the same.
    let verdict = judged(world, None);
    assert!(verdict.holds(), "{verdict}");
}

fn short(entry: &Entry) -> &str {
    entry.kind.trim_end_matches(".v1")
}

/// Ids are unique, and every step is whole.
fn steps(entries: &[Entry]) {
    let ids: BTreeSet<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids.len(), entries.len(), "ids are unique");
    let mut steps: BTreeMap<(&str, &Cause), Vec<(u32, u32)>> = BTreeMap::new();
    for StepName { group, cause, k, n } in entries.iter().filter_map(|entry| entry.step.as_ref()) {
        steps.entry((group, cause)).or_default().push((*k, *n));
    }
    for (step, outputs) in steps {
        let n = outputs.len() as u32;
        assert_eq!(outputs, (0..n).map(|k| (k, n)).collect::<Vec<_>>(), "step {step:?}");
    }
}

/// Every cause is an event of the same key, of a type that the flow allows, where the step says.
fn causes(entries: &[Entry]) {
    let by_id: BTreeMap<&str, &Entry> = entries.iter().map(|entry| (entry.id.as_str(), entry)).collect();
    for entry in entries {
        let (Some(causation), Some(step)) = (&entry.causation, &entry.step) else {
            assert_eq!((&entry.causation, &entry.step, entry.source.as_str()), (&None, &None, "storefront"));
            continue;
        };
        let cause = by_id[causation.as_str()];
        assert_eq!(cause.key, entry.key, "{entry:?}");
        assert!(cause.append_time_us < entry.append_time_us, "{entry:?}");
        match &step.cause {
            Cause::Input { topic, partition, offset } => {
                let at = (&*cause.place.topic, cause.place.partition, cause.place.offset);
                assert_eq!(at, (topic.as_str(), *partition, *offset), "{entry:?}");
                let (_, allowed) = CAUSES.iter().find(|(kind, _)| *kind == short(entry)).expect("the flow has it");
                assert!(allowed.contains(&short(cause)), "{} because of {}", entry.kind, cause.kind);
            }
            Cause::Timer { name } => {
                assert_eq!((name, short(cause)), (&format!("deadline:{}", entry.key), "OrderPlaced"));
                assert!(LATE.contains(&short(entry)), "{} because of a deadline", entry.kind);
            }
        }
    }
}

/// S7: decisions are dense, and nothing is given out that is not there.
fn stock(entries: &[Entry]) {
    let (mut free, mut decisions) = (BTreeMap::<String, i64>::new(), 0);
    let mut changes = BTreeMap::<String, i64>::new();
    for entry in entries {
        let (decision, moved): (u64, Vec<(String, i64)>) = match entry.event() {
            Event::InventoryReserved(of) => (of.decision, moves(-1, of.lines)),
            Event::InventoryReleased(of) => (of.decision, moves(1, of.lines)),
            Event::InventoryReturned(of) => (of.decision, moves(1, of.lines)),
            Event::InventoryUpdated(of) => {
                assert_eq!(changes.remove(&of.request), Some(of.asked), "a change is asked once and answered once");
                assert!(of.applied == of.asked || of.asked < of.applied && of.applied <= 0, "{of:?}");
                (of.decision, vec![(entry.key.clone(), of.applied)])
            }
            Event::InventoryRejected(of) => (of.decision, Vec::new()),
            Event::StockChangeRequested(of) => {
                changes.insert(of.request, of.units);
                continue;
            }
            _ => continue,
        };
        decisions += 1;
        assert_eq!(decision, decisions, "decisions are dense and in the log's order");
        for (code, units) in moved {
            let free = free.entry(code).or_default();
            *free += units;
            assert!(*free >= 0, "{entry:?}");
        }
    }
    assert!(changes.is_empty(), "{changes:?} have no answer");
}

fn moves(sign: i64, lines: Vec<StockUnits>) -> Vec<(String, i64)> {
    lines.into_iter().map(|line| (line.code, sign * i64::try_from(line.units).unwrap())).collect()
}

/// Keys of the gateway and events of the payment service are one to one.
fn ledger(world: &World) {
    let mut ledger: BTreeMap<String, (u64, Charged)> = BTreeMap::new();
    for (charge, outcome) in world.charges() {
        assert!(charge.amount > 0, "{charge:?}");
        let before = ledger.insert(charge.key.to_string(), (charge.amount, outcome));
        assert_eq!(before, None, "without a crash nothing is asked twice: {charge:?}");
    }
    for entry in world.entries() {
        let (amount, key, charged) = match entry.event() {
            Event::PaymentAuthorized(of) => (of.amount, of.key, Charged::Accepted),
            Event::PaymentDeclined(of) => (of.amount, of.key, Charged::Declined),
            Event::PaymentCaptured(of) => (of.amount, of.key, Charged::Accepted),
            Event::PaymentVoided(of) => (of.amount, of.key, Charged::Accepted),
            Event::RefundProcessed(of) => (of.amount, of.key, Charged::Accepted),
            _ => continue,
        };
        match key {
            Some(key) => assert_eq!(ledger.remove(&key), Some((amount, charged)), "{key}"),
            None => assert!(amount == 0 || charged == Charged::Declined, "{entry:?}"),
        }
    }
    assert!(ledger.is_empty(), "{ledger:?} are not in the log");
}

type Lines = BTreeMap<u32, u64>;

fn lines(units: &[Units]) -> Lines {
    units.iter().map(|line| (line.line, line.units)).collect()
}

/// What was told about an order.
struct Told<'a> {
    order: &'a str,
    told: &'a [(&'a Entry, Event)],
}

impl Told<'_> {
    fn check(&self) {
        self.one_decision();
        self.money();
        self.goods();
        self.compensations();
        self.requests();
        self.notices();
    }

    fn all<T>(&self, pick: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.told.iter().filter_map(|(_, event)| pick(event)).collect()
    }

    fn count(&self, kind: &str) -> usize {
        self.told.iter().filter(|(entry, _)| short(entry) == kind).count()
    }

    fn place(&self, kind: &str) -> Option<i64> {
        self.told.iter().find(|(entry, _)| short(entry) == kind).map(|(entry, _)| entry.append_time_us)
    }

    fn placed(&self) -> OrderPlaced {
        let placed = self.all(|event| match event {
            Event::OrderPlaced(placed) => Some(placed.clone()),
            _ => None,
        });
        placed.into_iter().next().expect("only orders are checked")
    }

    fn confirmed(&self) -> Option<(Lines, u64, Vec<String>)> {
        let confirmed = self.all(|event| match event {
            Event::OrderConfirmed(of) => Some((lines(&of.lines), of.amount, of.requests.clone())),
            _ => None,
        });
        confirmed.into_iter().next()
    }

    /// S4.
    fn one_decision(&self) {
        let order = self.order;
        let counts = ["OrderConfirmed", "OrderCancelling", "OrderFulfilled", "OrderCancelled", "PaymentCaptured"];
        match counts.map(|kind| self.count(kind)) {
            [1, 0, 1, 0, 1] => {}
            [0, 1, 0, 1, 0] => {
                let last = self.place("OrderCancelled");
                for kind in ["PaymentVoided", "PaymentDeclined", "InventoryReleased", "InventoryRejected"] {
                    assert!(self.place(kind) < last, "{order}: the last word comes after {kind}");
                }
            }
            other => panic!("{order}: {counts:?} are {other:?}"),
        }
    }

    /// S5, and S6 order by order.
    fn money(&self) {
        let order = self.order;
        let sum = |pick: fn(&Event) -> Option<u64>| self.all(pick).into_iter().sum::<u64>();
        let auth = sum(|event| if let Event::PaymentAuthorized(of) = event { Some(of.amount) } else { None });
        let captured = sum(|event| if let Event::PaymentCaptured(of) = event { Some(of.amount) } else { None });
        let voided = sum(|event| if let Event::PaymentVoided(of) = event { Some(of.amount) } else { None });
        let refunded = sum(|event| if let Event::RefundProcessed(of) = event { Some(of.amount) } else { None });
        assert_eq!(self.count("PaymentAuthorized") + self.count("PaymentDeclined"), 1, "{order}");
        assert_eq!(auth, captured + voided, "{order}");
        let placed = self.placed();
        let price = |line: u32| placed.lines.iter().find(|of| of.line == line).unwrap().price_mills;
        let whole: u64 = placed.lines.iter().map(|line| line.pence(line.units)).sum();
        assert!(auth == whole || self.count("PaymentDeclined") == 1 && auth == 0, "{order}");
        let Some((shipped, amount, _)) = self.confirmed() else {
            assert_eq!((captured, refunded), (0, 0), "{order}");
            return;
        };
        let services = placed.lines.iter().filter(|line| line.service);
        let services: u64 = services.map(|line| line.pence(line.units)).sum();
        let products: u64 = shipped.iter().map(|(line, units)| pence(*units, price(*line))).sum();
        assert_eq!((captured, amount), (services + products, services + products), "{order}");
        let returned = self.returned();
        let back = returned.iter().map(|(line, units)| {
            let (shipped, price) = (shipped[line], price(*line));
            pence(shipped, price) - pence(shipped - units, price)
        });
        assert_eq!(refunded, back.sum::<u64>(), "{order}");
    }

    /// Units of accepted returns, by line.
    fn returned(&self) -> Lines {
        let mut returned = Lines::new();
        for (_, event) in self.told {
            if let Event::ReturnAccepted(of) = event {
                assert!(!of.lines.is_empty(), "{}: {of:?}", self.order);
                for line in &of.lines {
                    *returned.entry(line.line).or_default() += line.units;
                }
            }
        }
        returned
    }

    /// S7 of one order, and that what ships is part of what was set aside, and that of what was placed.
    fn goods(&self) {
        let order = self.order;
        let (mut reserved, mut released, mut back) = (Lines::new(), Lines::new(), Lines::new());
        let placed: BTreeMap<u32, (String, u64)> = self
            .placed()
            .lines
            .into_iter()
            .filter(|line| !line.service)
            .map(|line| (line.line, (line.code, line.units)))
            .collect();
        let mut short = BTreeSet::new();
        for (_, event) in self.told {
            let (into, lines) = match event {
                Event::InventoryReserved(of) => {
                    short.extend(&of.short);
                    (&mut reserved, &of.lines)
                }
                Event::InventoryRejected(of) => {
                    short.extend(&of.short);
                    continue;
                }
                Event::InventoryReleased(of) => (&mut released, &of.lines),
                Event::InventoryReturned(of) => (&mut back, &of.lines),
                _ => continue,
            };
            for line in lines {
                assert_eq!(placed[&line.line].0, line.code, "{order}");
                *into.entry(line.line).or_default() += line.units;
            }
        }
        assert_eq!(self.count("InventoryReserved") + self.count("InventoryRejected"), 1, "{order}");
        assert!(reserved.iter().all(|(line, units)| placed[line].1 == *units), "{order}: lines are whole");
        let answered: BTreeSet<u32> = reserved.keys().chain(&short).copied().collect();
        assert_eq!(answered, placed.keys().copied().collect(), "{order}: each line is there or short");
        let shipped = self.confirmed().map(|(lines, ..)| lines).unwrap_or_default();
        let mut held = reserved;
        for (line, units) in released {
            *held.get_mut(&line).expect("it was reserved") -= units;
        }
        held.retain(|_, units| *units > 0);
        assert_eq!(held, shipped, "{order}: what is neither released nor shipped is lost");
        let fulfilled =
            self.all(|event| if let Event::OrderFulfilled(of) = event { Some(lines(&of.lines)) } else { None });
        assert_eq!(fulfilled.into_iter().next().unwrap_or_default(), shipped, "{order}");
        assert_eq!(back, self.returned(), "{order}");
        assert!(back.iter().all(|(line, units)| *units <= shipped[line]), "{order}");
    }

    /// S8.
    fn compensations(&self) {
        let kinds: BTreeMap<&str, &str> =
            self.told.iter().map(|(entry, _)| (entry.id.as_str(), short(entry))).collect();
        for (entry, event) in self.told {
            let (compensates, kind) = match event {
                Event::PaymentVoided(of) => (&of.compensates, "PaymentAuthorized"),
                Event::RefundProcessed(of) => (&of.compensates, "PaymentCaptured"),
                Event::InventoryReleased(of) => (&of.compensates, "InventoryReserved"),
                Event::InventoryReturned(of) => (&of.compensates, "OrderFulfilled"),
                Event::ReturnAccepted(of) => (&of.fulfilled, "OrderFulfilled"),
                Event::PlacementRefused(of) => (&of.placement, "OrderPlaced"),
                _ => continue,
            };
            assert_eq!(kinds.get(compensates.as_str()), Some(&kind), "{}: {entry:?}", self.order);
        }
    }

    /// S9.
    fn requests(&self) {
        let (mut asked, mut answers) = (BTreeMap::<&str, Lines>::new(), BTreeMap::<&str, usize>::new());
        for (_, event) in self.told {
            let (request, lines) = match event {
                Event::CancelRequested(of) => (&of.request, sums(&of.lines)),
                Event::ReturnRequested(of) => (&of.request, sums(&of.lines)),
                Event::AddressChangeRequested(of) => (&of.request, Lines::new()),
                _ => continue,
            };
            asked.entry(request).or_insert(lines);
        }
        for (_, event) in self.told {
            let requests = match event {
                Event::OrderConfirmed(of) => &of.requests[..],
                Event::OrderCancelling(of) => &of.requests[..],
                Event::ReturnAccepted(of) => {
                    let asked = &asked[of.request.as_str()];
                    assert!(of.lines.iter().all(|line| line.units <= asked[&line.line]), "{}: {of:?}", self.order);
                    std::slice::from_ref(&of.request)
                }
                Event::ReturnRefused(of) => std::slice::from_ref(&of.request),
                Event::AddressChangeRefused(of) => std::slice::from_ref(&of.request),
                _ => continue,
            };
            for request in requests {
                *answers.entry(request).or_default() += 1;
            }
        }
        let expected: BTreeMap<&str, usize> = asked.keys().map(|request| (*request, 1)).collect();
        assert_eq!(answers, expected, "{}: each request has one answer", self.order);
        let mut placements = self.all(|event| if let Event::OrderPlaced(of) = event { Some(of.clone()) } else { None });
        let first = placements.remove(0);
        let others = placements.iter().filter(|placed| **placed != first).count();
        assert_eq!(self.count("PlacementRefused"), others, "{}", self.order);
    }

    /// S10, and that everything that is to be told is told.
    fn notices(&self) {
        let mut due: Vec<(Notice, Option<&str>)> = self.all_told(|event| match event {
            Event::OrderConfirmed(_) => Some((Notice::Confirmed, None)),
            Event::OrderCancelled(_) => Some((Notice::Cancelled, None)),
            Event::OrderFulfilled(_) => Some((Notice::Shipped, None)),
            Event::RefundProcessed(of) => Some((Notice::Refunded, Some(of.request.as_str()))),
            _ => None,
        });
        let mut sent: Vec<(Notice, Option<&str>)> = self.all_told(|event| match event {
            Event::NotificationSent(of) => Some((of.notice, of.request.as_deref())),
            _ => None,
        });
        due.sort_by_key(|(notice, request)| (format!("{notice:?}"), *request));
        sent.sort_by_key(|(notice, request)| (format!("{notice:?}"), *request));
        assert_eq!(sent, due, "{}", self.order);
        assert_eq!(self.count("RefundProcessed"), self.count("ReturnAccepted"), "{}", self.order);
    }

    fn all_told<'a, T>(&'a self, pick: impl Fn(&'a Event) -> Option<T>) -> Vec<T> {
        self.told.iter().filter_map(|(_, event)| pick(event)).collect()
    }
}

fn sums(units: &[Units]) -> Lines {
    let mut sums = Lines::new();
    for line in units {
        *sums.entry(line.line).or_default() += line.units;
    }
    sums
}
