//! Moves the money: authorises what is placed, captures what is shipped, voids the rest, refunds what comes back.
//!
//! It acts on placements and on the decisions of the order service alone. An outcome that is not known is asked for
//! again under the same key until it is, so an authorisation may be found after the order was being cancelled: it is
//! said all the same, and voided at the next step. An amount of 0 is never asked for.
//!
//! A charge that the gateway refuses as such, and an order whose name makes no key, fail the step: the service stops
//! after its tries and names the order, instead of waiting for what never comes.
//!
//! `calls` and `decide` of a step both go by [`Purse::due`], so an answer always belongs to the charge that it is for.

mod gateway;
mod provider;

use serde::{Deserialize, Serialize};

pub use self::gateway::{Charge, Charged, Gateway, Refused};
use super::{ByKey, Hear, Word, hears, read, say};
pub use crate::saga::gateway::Operation;
use crate::{
    processor::{Failed, Malformed, Output, Service, Told, Trigger, sibling},
    saga::{
        gateway::{Key, KeyFault},
        payload::{
            Event, OrderCancelling, OrderConfirmed, OrderFulfilled, OrderPlaced, PaymentAuthorized, PaymentCaptured,
            PaymentDeclined, PaymentVoided, RefundProcessed, ReturnAccepted, group, pence, topic,
        },
    },
};

/// The service that moves the money, by way of a gateway.
#[derive(Clone, Debug)]
pub struct Payment<G> {
    gateway: G,
}

impl<G: Gateway> Payment<G> {
    /// A payment service that charges there.
    pub fn new(gateway: G) -> Self {
        Self { gateway }
    }
}

/// What it hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bill {
    /// An order was placed, for so much.
    Placed(u64),
    /// It is carried out, for so much.
    Confirmed(u64),
    /// It is not carried out.
    Cancelling,
    /// It is shipped.
    Fulfilled,
    /// Some of it comes back.
    Returned {
        /// The request behind it.
        request: Box<str>,
        /// What is given back for it.
        amount: u64,
    },
}

impl Hear for Bill {
    const HEARS: &'static [(&'static str, &'static [&'static str])] = &[
        (topic::ORDERS, &[OrderPlaced::KIND, OrderConfirmed::KIND, OrderCancelling::KIND, ReturnAccepted::KIND]),
        (topic::FULFILMENT, &[OrderFulfilled::KIND]),
    ];

    fn hear(kind: &str, payload: &[u8]) -> Result<Option<Self>, Malformed> {
        #[derive(Deserialize)]
        struct Placed {
            lines: Vec<Line>,
        }
        #[derive(Deserialize)]
        struct Line {
            units: u64,
            price_mills: u64,
        }
        #[derive(Deserialize)]
        struct Confirmed {
            amount: u64,
        }
        #[derive(Deserialize)]
        struct Returned {
            request: Box<str>,
            amount: u64,
        }

        Ok(Some(match kind {
            OrderPlaced::KIND => {
                let lines = read::<Placed>(kind, payload)?.lines;
                let amounts = lines.iter().map(|line| pence(line.units, line.price_mills));
                Self::Placed(amounts.fold(0, u64::saturating_add))
            }
            OrderConfirmed::KIND => Self::Confirmed(read::<Confirmed>(kind, payload)?.amount),
            OrderCancelling::KIND => Self::Cancelling,
            OrderFulfilled::KIND => Self::Fulfilled,
            ReturnAccepted::KIND => {
                let Returned { request, amount } = read(kind, payload)?;
                Self::Returned { request, amount }
            }
            _ => return Ok(None),
        }))
    }
}

/// What became of the money of all orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purses {
    orders: ByKey<Purse>,
    declined: u64,
    captured_pence: u64,
    refunded_pence: u64,
}

impl Purses {
    /// How many payments were declined, and how many pence were captured and refunded.
    pub fn counts(&self) -> [(&'static str, u64); 3] {
        [("declined", self.declined), ("captured_pence", self.captured_pence), ("refunded_pence", self.refunded_pence)]
    }
}

/// The money of one order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Purse {
    placed: Option<u64>,
    fate: Fate,
    is_fulfilled: bool,
    money: Money,
    refunds: Vec<Refund>,
}

/// What the order service decided, as far as it was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Fate {
    #[default]
    Open,
    Confirmed(u64),
    Cancelling,
}

/// What was said of the money.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Money {
    #[default]
    Untouched,
    Authorized {
        id: Box<str>,
        amount: u64,
    },
    Declined,
    /// And the rest was voided in the same step.
    Captured {
        id: Box<str>,
    },
    /// All of it.
    Voided,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Refund {
    request: Box<str>,
    amount: u64,
    is_said: bool,
}

/// Something that is due: money that moves when it is more than 0, and what is said of it then.
struct Due<'a> {
    operation: Operation,
    request: Option<&'a str>,
    amount: u64,
    /// What it takes back.
    compensates: String,
    /// Whether the gateway is asked; when not, whether it is as good as accepted.
    asks: Asks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Gateway,
    Nobody(Charged),
}

impl<'a> Due<'a> {
    fn new(operation: Operation, amount: u64, compensates: String) -> Self {
        let asks = if amount > 0 { Asks::Gateway } else { Asks::Nobody(Charged::Accepted) };
        Self { operation, request: None, amount, compensates, asks }
    }

    fn refund(refund: &'a Refund, compensates: String) -> Self {
        Self { request: Some(&refund.request), ..Self::new(Operation::Refund, refund.amount, compensates) }
    }

    /// What the gateway knows it by, if it is asked.
    ///
    /// **Errors**: the names make no key.
    fn key(&self, order: &str) -> Result<Option<Key>, KeyFault> {
        match self.asks {
            Asks::Gateway => Key::new(self.operation, order, self.request).map(Some),
            Asks::Nobody(_) => Ok(None),
        }
    }

    /// What the gateway is asked; nothing when the names make no key, of which the step fails when it is decided.
    fn charge(&self, order: &str) -> Option<Charge> {
        let key = self.key(order).ok().flatten()?;
        let Self { operation, request, amount, .. } = *self;
        Some(Charge { operation, key, order: order.to_owned(), request: request.map(str::to_owned), amount })
    }
}

impl Purse {
    /// Everything that is due and was not said, in the order in which it is said.
    fn due(&self) -> Vec<Due<'_>> {
        let mut due = Vec::new();
        let captured = match (&self.money, self.fate) {
            (Money::Untouched, fate) => {
                due.extend(self.placed.map(|amount| authorisation(amount, fate)));
                return due;
            }
            (Money::Authorized { id, amount }, Fate::Cancelling) => {
                due.push(Due::new(Operation::Void, *amount, id.to_string()));
                return due;
            }
            (Money::Authorized { id, amount }, Fate::Confirmed(confirmed)) if self.is_fulfilled => {
                due.push(Due::new(Operation::Capture, confirmed, String::new()));
                if *amount > confirmed {
                    due.push(Due::new(Operation::Void, amount - confirmed, id.to_string()));
                }
                sibling(0)
            }
            (Money::Captured { id }, _) => id.to_string(),
            _ => return due,
        };
        let unsaid = self.refunds.iter().filter(|refund| !refund.is_said);
        due.extend(unsaid.map(|refund| Due::refund(refund, captured.clone())));
        due
    }

    fn refund(&mut self, request: &str, amount: u64) -> &mut Refund {
        let at = self.refunds.iter().position(|refund| *refund.request == *request).unwrap_or_else(|| {
            self.refunds.push(Refund { request: request.into(), amount, is_said: false });
            self.refunds.len() - 1
        });
        &mut self.refunds[at]
    }
}

/// Nobody is asked for the money of an order that is being cancelled already.
fn authorisation(amount: u64, fate: Fate) -> Due<'static> {
    let due = Due::new(Operation::Authorize, amount, String::new());
    match fate {
        Fate::Cancelling => Due { asks: Asks::Nobody(Charged::Declined), ..due },
        Fate::Open | Fate::Confirmed(_) => due,
    }
}

/// What is said when it is done.
fn done(due: Due<'_>, charged: Charged, key: Option<String>) -> Result<Event, Failed> {
    let Due { operation, request, amount, compensates, .. } = due;
    Ok(match (operation, charged) {
        (Operation::Authorize, Charged::Accepted) => PaymentAuthorized { amount, key }.into(),
        (Operation::Authorize, Charged::Declined) => PaymentDeclined { amount, key }.into(),
        (Operation::Capture, Charged::Accepted) => PaymentCaptured { amount, key }.into(),
        (Operation::Void, Charged::Accepted) => PaymentVoided { amount, key, compensates }.into(),
        (Operation::Refund, Charged::Accepted) => {
            RefundProcessed { request: request.unwrap_or_default().to_owned(), amount, key, compensates }.into()
        }
        (operation, Charged::Declined) => {
            let wrong = format!("the gateway declined what it cannot decline operation={operation} amount={amount}");
            return Err(Failed { wrong });
        }
    })
}

impl<G: Gateway> Service for Payment<G> {
    type Fact = Word<Bill>;
    type State = Purses;
    type Call = Charge;
    type Answer = Result<Charged, Refused>;

    fn name(&self) -> &str {
        group::PAYMENT
    }

    fn writes(&self) -> &[&'static str] {
        &[topic::PAYMENTS]
    }

    fn wants(&self, topic: &str, kind: &str) -> bool {
        hears::<Bill>(topic, kind)
    }

    fn observe(&self, state: &mut Purses, input: &Told<Self::Fact>) {
        let Word::Heard(_, bill) = &input.fact else { return };
        let purse = state.orders.of(&input.key);
        match bill {
            // Only the first placement counts, whatever a second one says.
            Bill::Placed(amount) => _ = purse.placed.get_or_insert(*amount),
            Bill::Confirmed(amount) => purse.fate = Fate::Confirmed(*amount),
            Bill::Cancelling => purse.fate = Fate::Cancelling,
            Bill::Fulfilled => purse.is_fulfilled = true,
            Bill::Returned { request, amount } => _ = purse.refund(request, *amount),
        }
    }

    fn calls(&self, state: &Purses, input: &Told<Self::Fact>) -> Vec<Charge> {
        let due = state.orders.get(&input.key).map(Purse::due).unwrap_or_default();
        due.iter().filter_map(|due| due.charge(&input.key)).collect()
    }

    async fn perform(&self, call: Charge) -> Result<Charged, Refused> {
        self.gateway.charge(call).await
    }

    fn decide(
        &self,
        state: &Purses,
        trigger: &Trigger<'_, Self::Fact>,
        answers: &[Result<Charged, Refused>],
    ) -> Result<Vec<Output<Self::Fact>>, Failed> {
        let order = trigger.key();
        let due = state.orders.get(order).map(Purse::due).unwrap_or_default();
        let mut answers = answers.iter();
        let mut says = Vec::with_capacity(due.len());
        for due in due {
            let key = due.key(order).map_err(|fault| Failed { wrong: gateway::no_key(order, &fault) })?;
            let charged = match due.asks {
                Asks::Nobody(charged) => charged,
                Asks::Gateway => {
                    let answer = answers.next().ok_or_else(|| unanswered(order, "fewer"))?;
                    answer.clone().map_err(|refused| Failed { wrong: refused.to_string() })?
                }
            };
            says.push(say(order, done(due, charged, key.map(|key| key.to_string()))?));
        }
        answers.next().is_none().then_some(says).ok_or_else(|| unanswered(order, "more"))
    }

    fn apply(&self, state: &mut Purses, output: &Told<Self::Fact>) {
        let Word::Said(event) = &output.fact else { return };
        let purse = state.orders.of(&output.key);
        let id = || output.id.as_str().into();
        match event {
            Event::PaymentAuthorized(PaymentAuthorized { amount, .. }) => {
                purse.money = Money::Authorized { id: id(), amount: *amount };
            }
            Event::PaymentDeclined(_) => {
                purse.money = Money::Declined;
                state.declined += 1;
            }
            Event::PaymentCaptured(PaymentCaptured { amount, .. }) => {
                purse.money = Money::Captured { id: id() };
                state.captured_pence += amount;
            }
            Event::PaymentVoided(_) => {
                if let Money::Authorized { .. } = purse.money {
                    purse.money = Money::Voided;
                }
            }
            Event::RefundProcessed(RefundProcessed { request, amount, .. }) => {
                purse.refund(request, *amount).is_said = true;
                state.refunded_pence += amount;
            }
            _ => {}
        }
    }
}

fn unanswered(order: &str, which: &str) -> Failed {
    Failed { wrong: format!("there are {which} answers than charges order={order}") }
}

#[cfg(test)]
mod tests;
