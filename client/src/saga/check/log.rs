//! Gathers the log: every event once, in few bytes, and what it says in the facts of its order or code.
//!
//! Events of a partition come in their order; the topics in any. Each payload is decoded once and dropped. Beside the
//! payloads, the names of steps are read as the processor writes them, by [`StepName`].

use std::{
    collections::{HashMap, hash_map::Entry},
    str::FromStr as _,
};

use super::{
    super::payload::{CancelReason, Event as Payload, Line, Notice, StockUnits, Units, group},
    facts::{Ask, Asked, At, Bought, Code, CodeNumber, Moved, Order, Placed, Stocked, content},
    flow::{self, Rule},
    place::{EventId, Place},
    verdict::{Findings, Invariant, Subject},
};
use crate::{
    Received,
    processor::{Cause, Fact as _, STEP_HEADER, StepName},
};

/// An event as the judge keeps it.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) place: Place,
    /// When the broker took it in, in microseconds.
    pub(crate) time_us: i64,
    pub(crate) id: Option<EventId>,
    /// The rule of its type.
    pub(crate) rule: &'static Rule,
    pub(crate) about: About,
    pub(crate) cause: Option<EventId>,
    pub(crate) step: Option<Step>,
    pub(crate) detail: Detail,
}

impl Event {
    /// Its type.
    pub(crate) fn kind(&self) -> &'static str {
        self.rule.kind
    }
}

/// What an event is about, by its number in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Order(u32),
    Code(CodeNumber),
}

/// The step whose output an event is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Empty when no group of the saga is called so.
    pub(crate) group: &'static str,
    pub(crate) answers: Answers,
    pub(crate) k: u32,
    pub(crate) n: u32,
}

/// What a step answers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answers {
    Input(Place),
    Timer(Box<str>),
    /// An input on a topic that is not of the saga.
    Elsewhere(Box<str>),
}

/// What of its payload matters to the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    None,
    /// A decline of which nobody was asked; a reservation of no lines.
    Nothing,
    Cancelling(CancelReason),
    Told(Notice),
}

/// A change of the stock, and where its lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) number: u64,
    pub(crate) event: u32,
    pub(crate) change: Change,
}

/// Which list of facts has a change of the stock, and where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Reserved(usize),
    Rejected(usize),
    Released(usize),
    Returned(usize),
    Updated(usize),
}

/// The whole log, gathered to be judged.
pub struct Log {
    pub(crate) events: Vec<Event>,
    /// The first event of each id.
    pub(crate) ids: HashMap<EventId, u32>,
    pub(crate) orders: Vec<Order>,
    pub(crate) codes: Vec<Code>,
    pub(crate) decisions: Vec<Decision>,
    /// What was found while gathering.
    pub(crate) findings: Findings,
    names: Vec<Box<str>>,
    order_numbers: HashMap<Box<str>, u32>,
    code_numbers: HashMap<Box<str>, CodeNumber>,
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

impl Log {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// Nothing yet, with room for so many events.
    pub fn with_capacity(events: usize) -> Self {
        Self {
            events: Vec::with_capacity(events),
            ids: HashMap::with_capacity(events),
            orders: Vec::new(),
            codes: Vec::new(),
            decisions: Vec::new(),
            findings: Findings::new(),
            names: Vec::new(),
            order_numbers: HashMap::new(),
            code_numbers: HashMap::new(),
        }
    }

    /// Takes in one event. A record that is no event of the saga is a finding: nothing can be proved about it.
    ///
    /// # Panics
    ///
    /// Beyond 2³² events.
    pub fn take(&mut self, received: &Received) {
        let record = &received.record;
        let Some(place) = Place::new(&received.topic, received.partition, received.offset) else { return };
        let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        let subject = || key.map_or(Subject::Log, |key| Subject::Order(key.to_owned()));
        let Some(key) = key else {
            self.findings.wrong(Invariant::S3, &subject(), &[place], "an event with a key", "a record without one");
            return;
        };
        let payload = match Payload::decode(&record.type_, &record.value) {
            Ok(Some(payload)) => payload,
            Ok(None) => {
                let found = format_args!("type {:?}", record.type_);
                self.findings.wrong(Invariant::S3, &subject(), &[place], "a type of the flow", found);
                return;
            }
            Err(malformed) => {
                self.findings.wrong(Invariant::S3, &subject(), &[place], "a payload of its type", malformed);
                return;
            }
        };
        let about = self.about(&payload, key);
        let step = record.headers.iter().find(|(name, _)| name == STEP_HEADER);
        let event = Event {
            place,
            time_us: received.append_time_us,
            id: EventId::of(&record.id),
            rule: flow::rule(payload.kind()).expect("the flow has every type of the payloads"),
            about,
            cause: EventId::of(&record.causation_id),
            step: step.and_then(|(_, step)| read_step(step)),
            detail: detail(&payload),
        };
        self.envelope(&event, key, &record.correlation_id, &record.source);
        let number = u32::try_from(self.events.len()).expect("fewer than 2^32 events");
        if let Some(id) = &event.id {
            match self.ids.entry(id.clone()) {
                Entry::Vacant(entry) => drop(entry.insert(number)),
                Entry::Occupied(first) => {
                    let places = [self.events[*first.get() as usize].place, place];
                    let about = self.subject(about);
                    self.findings.wrong(
                        Invariant::S2,
                        &about,
                        &places,
                        "one event of an id",
                        format_args!("two of {id}"),
                    );
                }
            }
        }
        self.events.push(event);
        self.gather(about, number, payload);
    }

    pub(crate) fn event(&self, number: u32) -> &Event {
        &self.events[number as usize]
    }

    pub(crate) fn place(&self, number: u32) -> Place {
        self.event(number).place
    }

    /// The event of this id, as it is written in a payload.
    pub(crate) fn by_id(&self, id: &str) -> Option<&Event> {
        self.ids.get(&EventId::of(id)?).map(|number| self.event(*number))
    }

    pub(crate) fn subject(&self, about: About) -> Subject {
        match about {
            About::Order(order) => Subject::Order(self.order_name(order).to_owned()),
            About::Code(code) => Subject::Code(self.codes[code as usize].name.to_string()),
        }
    }

    pub(crate) fn order_name(&self, order: u32) -> &str {
        &self.names[order as usize]
    }

    pub(crate) fn order_by_name(&self, name: &str) -> Option<&Order> {
        self.order_numbers.get(name).map(|number| &self.orders[*number as usize])
    }

    pub(crate) fn code_by_name(&self, name: &str) -> Option<&Code> {
        self.code_numbers.get(name).map(|number| &self.codes[*number as usize])
    }

    /// What every event has beside its payload, however it came about.
    fn envelope(&mut self, event: &Event, key: &str, correlation: &str, source: &str) {
        let Rule { kind, on, by, .. } = *event.rule;
        let about = || match event.about {
            About::Order(_) => Subject::Order(key.to_owned()),
            About::Code(_) => Subject::Code(key.to_owned()),
        };
        let places = [event.place];
        if event.id.is_none() {
            self.findings.wrong(Invariant::S2, &about(), &places, "an id", "none");
        }
        if correlation != key {
            let (expected, found) = (format_args!("correlation id {key}"), format_args!("{correlation:?}"));
            self.findings.wrong(Invariant::S3, &about(), &places, expected, found);
        }
        if event.place.topic() != on {
            let (expected, found) = (format_args!("{kind} on {on}"), event.place.topic());
            self.findings.wrong(Invariant::S3, &about(), &places, expected, found);
        }
        if source != by {
            let (expected, found) = (format_args!("{kind} from {by}"), format_args!("{source:?}"));
            self.findings.wrong(Invariant::S3, &about(), &places, expected, found);
        }
    }

    fn about(&mut self, payload: &Payload, key: &str) -> About {
        match payload {
            Payload::InventoryUpdated(_) | Payload::StockChangeRequested(_) => About::Code(self.code(key)),
            _ => About::Order(self.order(key)),
        }
    }

    fn order(&mut self, name: &str) -> u32 {
        if let Some(number) = self.order_numbers.get(name) {
            return *number;
        }
        let number = self.orders.len() as u32;
        self.orders.push(Order::default());
        self.names.push(name.into());
        self.order_numbers.insert(name.into(), number);
        number
    }

    fn code(&mut self, name: &str) -> CodeNumber {
        if let Some(number) = self.code_numbers.get(name) {
            return *number;
        }
        let number = self.codes.len() as CodeNumber;
        self.codes.push(Code { name: name.into(), asked: Vec::new(), updated: Vec::new() });
        self.code_numbers.insert(name.into(), number);
        number
    }

    fn gather(&mut self, about: About, event: u32, payload: Payload) {
        let order = match about {
            About::Order(order) => order as usize,
            About::Code(code) => return self.gather_stock(code, event, payload),
        };
        match payload {
            Payload::OrderPlaced(fact) => {
                let content = content(&fact);
                // What a second placement says beside its content has no effect.
                let first = self.orders[order].placed.is_empty();
                let lines = if first { self.bought(&fact.lines) } else { Vec::new() };
                let fact = Placed { content, address: fact.address, lines };
                add(&mut self.orders[order].placed, event, fact);
            }
            Payload::InventoryReserved(fact) => {
                let index = self.orders[order].reserved.len();
                let fact = self.moved(event, fact.decision, Change::Reserved(index), &fact.lines, fact.short);
                add(&mut self.orders[order].reserved, event, fact);
            }
            Payload::InventoryRejected(fact) => {
                let index = self.orders[order].rejected.len();
                let fact = self.moved(event, fact.decision, Change::Rejected(index), &[], fact.short);
                add(&mut self.orders[order].rejected, event, fact);
            }
            Payload::InventoryReleased(fact) => {
                let index = self.orders[order].released.len();
                let moved = self.moved(event, fact.decision, Change::Released(index), &fact.lines, Vec::new());
                let fact = Moved { compensates: fact.compensates, ..moved };
                add(&mut self.orders[order].released, event, fact);
            }
            Payload::InventoryReturned(fact) => {
                let index = self.orders[order].returned.len();
                let moved = self.moved(event, fact.decision, Change::Returned(index), &fact.lines, Vec::new());
                let fact = Moved { compensates: fact.compensates, request: fact.request, ..moved };
                add(&mut self.orders[order].returned, event, fact);
            }
            other => gather_order(&mut self.orders[order], event, other),
        }
    }

    fn gather_stock(&mut self, code: CodeNumber, event: u32, payload: Payload) {
        let facts = &mut self.codes[code as usize];
        match payload {
            Payload::StockChangeRequested(fact) => add(&mut facts.asked, event, fact),
            Payload::InventoryUpdated(fact) => {
                let change = Change::Updated(facts.updated.len());
                self.decisions.push(Decision { number: fact.decision, event, change });
                add(&mut facts.updated, event, fact);
            }
            _ => {}
        }
    }

    fn bought(&mut self, lines: &[Line]) -> Vec<Bought> {
        let mut bought: Vec<Bought> = lines.iter().map(|line| Bought::of(line, self.code(&line.code))).collect();
        bought.sort_by_key(|line| line.line);
        bought
    }

    fn moved(&mut self, event: u32, number: u64, change: Change, lines: &[StockUnits], short: Vec<u32>) -> Moved {
        self.decisions.push(Decision { number, event, change });
        let lines = lines.iter().map(|units| Stocked::of(units, self.code(&units.code))).collect();
        Moved { lines, short, compensates: String::new(), request: String::new() }
    }
}

/// Most lists have one fact, and there are many lists: the first takes no more room than it needs.
fn add<T>(list: &mut Vec<At<T>>, event: u32, fact: T) {
    if list.is_empty() {
        list.reserve_exact(1);
    }
    list.push(At { event, fact });
}

/// The facts that are kept as they are.
fn gather_order(order: &mut Order, event: u32, payload: Payload) {
    let mut asked = |ask, request: String, lines: Vec<Units>, address: String| {
        add(&mut order.asked, event, Asked { ask, request, lines, address });
    };
    match payload {
        Payload::CancelRequested(fact) => {
            asked(Ask::Cancel, fact.request, fact.lines, String::new());
        }
        Payload::ReturnRequested(fact) => {
            asked(Ask::Return, fact.request, fact.lines, String::new());
        }
        Payload::AddressChangeRequested(fact) => {
            asked(Ask::Address, fact.request, Vec::new(), fact.address);
        }
        Payload::PlacementRefused(fact) => add(&mut order.placement_refused, event, fact),
        Payload::AddressChangeRefused(fact) => add(&mut order.address_refused, event, fact),
        Payload::OrderConfirmed(mut fact) => {
            fact.lines.shrink_to_fit();
            add(&mut order.confirmed, event, fact);
        }
        Payload::OrderCancelling(fact) => add(&mut order.cancelling, event, fact),
        Payload::OrderCancelled(fact) => add(&mut order.cancelled, event, fact),
        Payload::ReturnAccepted(fact) => add(&mut order.return_accepted, event, fact),
        Payload::ReturnRefused(fact) => add(&mut order.return_refused, event, fact),
        Payload::PaymentAuthorized(fact) => add(&mut order.authorized, event, fact),
        Payload::PaymentDeclined(fact) => add(&mut order.declined, event, fact),
        Payload::PaymentCaptured(fact) => add(&mut order.captured, event, fact),
        Payload::PaymentVoided(fact) => add(&mut order.voided, event, fact),
        Payload::RefundProcessed(fact) => add(&mut order.refunded, event, fact),
        Payload::OrderFulfilled(mut fact) => {
            fact.lines.shrink_to_fit();
            add(&mut order.fulfilled, event, fact);
        }
        Payload::NotificationSent(fact) => add(&mut order.told, event, fact),
        Payload::OrderPlaced(_)
        | Payload::InventoryReserved(_)
        | Payload::InventoryRejected(_)
        | Payload::InventoryReleased(_)
        | Payload::InventoryReturned(_)
        | Payload::InventoryUpdated(_)
        | Payload::StockChangeRequested(_) => unreachable!("gathered with their codes"),
    }
}

fn read_step(header: &[u8]) -> Option<Step> {
    let StepName { group: name, cause, k, n } = StepName::from_str(std::str::from_utf8(header).ok()?).ok()?;
    let answers = match cause {
        Cause::Timer { name } => Answers::Timer(name.into()),
        Cause::Input { topic, partition, offset } => match Place::new(&topic, partition, offset) {
            Some(place) => Answers::Input(place),
            None => Answers::Elsewhere(format!("{topic} {partition}:{offset}").into()),
        },
    };
    let group = group::ALL.into_iter().find(|known| *known == name).unwrap_or_default();
    Some(Step { group, answers, k, n })
}

fn detail(payload: &Payload) -> Detail {
    match payload {
        Payload::PaymentDeclined(fact) if fact.key.is_none() => Detail::Nothing,
        Payload::InventoryReserved(fact) if fact.lines.is_empty() => Detail::Nothing,
        Payload::OrderCancelling(fact) => Detail::Cancelling(fact.reason),
        Payload::NotificationSent(fact) => Detail::Told(fact.notice),
        _ => Detail::None,
    }
}
