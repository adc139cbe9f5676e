//! The events of the order saga: JSON payloads, one struct a type. `docs/saga.md` says who emits which because of what.
//!
//! Money is in pence, prices in mills (a tenth of a penny: some goods cost less than a penny). A line of an order is
//! known by its number, never by its code: codes repeat within an order, at different prices.

use serde::{Deserialize, Serialize};

use crate::processor::{Fact, Malformed, resolve_sibling};

/// The topics of the saga. All but [`topic::STOCK`] have equal partitions and the order's id as key.
pub mod topic {
    /// Placements, requests and the decisions on them.
    pub const ORDERS: &str = "orders";
    /// What became of the money.
    pub const PAYMENTS: &str = "payments";
    /// What became of the goods.
    pub const INVENTORY: &str = "inventory";
    /// What was shipped.
    pub const FULFILMENT: &str = "fulfilment";
    /// What the customer was told.
    pub const NOTIFICATIONS: &str = "notifications";
    /// Changes of the stock: one partition, the product's code as key.
    pub const STOCK: &str = "stock";
    /// All of them.
    pub const ALL: [&str; 6] = [ORDERS, PAYMENTS, INVENTORY, FULFILMENT, NOTIFICATIONS, STOCK];
}

/// The groups of the saga, which are its services' names too.
pub mod group {
    /// Decides.
    pub const ORDER: &str = "order";
    /// Authorises, captures, voids, refunds.
    pub const PAYMENT: &str = "payment";
    /// Reserves, releases, takes back.
    pub const INVENTORY: &str = "inventory";
    /// Ships.
    pub const FULFILMENT: &str = "fulfilment";
    /// Tells the customer.
    pub const NOTIFICATION: &str = "notification";
    /// The source of placements and requests; no group.
    pub const STOREFRONT: &str = "storefront";
    /// All groups.
    pub const ALL: [&str; 5] = [ORDER, PAYMENT, INVENTORY, FULFILMENT, NOTIFICATION];
}

/// A line of an order, as it was placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number in the order, from 1.
    pub line: u32,
    /// The product's or service's code.
    pub code: String,
    /// As it stood on the invoice.
    pub description: String,
    /// How many.
    pub units: u64,
    /// The price of one, in mills.
    pub price_mills: u64,
    /// It is charged and never reserved nor shipped: postage, carriage, a fee.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub service: bool,
}

impl Line {
    /// What so many units of it cost, in pence, rounded half up.
    pub fn pence(&self, units: u64) -> u64 {
        pence(units, self.price_mills)
    }
}

/// What so many units at so many mills cost, in pence, rounded half up.
pub fn pence(units: u64, price_mills: u64) -> u64 {
    units.saturating_mul(price_mills).saturating_add(5) / 10
}

/// Units of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units {
    /// The line's number in its order.
    pub line: u32,
    /// How many.
    pub units: u64,
}

/// Units of a line that came from, or went back to, the stock of a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockUnits {
    /// The line's number in its order.
    pub line: u32,
    /// The product's code.
    pub code: String,
    /// How many.
    pub units: u64,
}

/// Why an order is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CancelReason {
    /// The payment was declined.
    PaymentDeclined,
    /// Nothing of it is in stock.
    OutOfStock,
    /// The customer asked for it, or for everything that was left of it.
    Requested,
    /// It was not decided in time.
    Deadline,
}

/// Why something that was asked is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefusedReason {
    /// The order is cancelled, or being cancelled.
    OrderCancelled,
    /// None of these units was shipped, or they were all returned before.
    NothingToReturn,
    /// The order is decided.
    TooLate,
    /// An order of this id was placed with another content.
    OtherContent,
}

/// What the customer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Notice {
    /// The order is confirmed.
    Confirmed,
    /// The order is cancelled.
    Cancelled,
    /// The goods are on their way.
    Shipped,
    /// Money comes back.
    Refunded,
}

macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident on $topic:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })+) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $name {
            /// The event's type.
            pub const KIND: &'static str = concat!(stringify!($name), ".v1");
        }

        impl From<$name> for Event {
            fn from(payload: $name) -> Self { Self::$name(payload) }
        })+

        /// Any event of the saga.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Event { $($(#[$doc])* $name($name),)+ }

        impl Event {
            /// The types of all events.
            pub const KINDS: &'static [&'static str] = &[$($name::KIND),+];

            /// The topic of a type; none when it is none of the saga's.
            pub fn topic_of(kind: &str) -> Option<&'static str> {
                match kind { $($name::KIND => Some(topic::$topic),)+ _ => None }
            }
        }

        impl Fact for Event {
            fn kind(&self) -> &'static str {
                match self { $(Self::$name(_) => $name::KIND),+ }
            }

            fn topic(&self) -> &'static str {
                match self { $(Self::$name(_) => topic::$topic),+ }
            }

            fn encode(&self) -> Vec<u8> {
                let encoded = match self { $(Self::$name(payload) => serde_json::to_vec(payload)),+ };
                encoded.expect("a payload has text as keys and writes to memory")
            }

            fn decode(kind: &str, payload: &[u8]) -> Result<Option<Self>, Malformed> {
                let wrong = |error: serde_json::Error| Malformed { kind: kind.to_owned(), wrong: error.to_string() };
                Ok(Some(match kind {
                    $($name::KIND => Self::$name(serde_json::from_slice(payload).map_err(wrong)?),)+
                    _ => return Ok(None),
                }))
            }

            fn name_siblings(&mut self, ids: &[String]) {
                if let Some(compensates) = self.compensates_mut() {
                    resolve_sibling(compensates, ids);
                }
            }
        }
    };
}

impl Event {
    /// The id of the event whose effect it takes back, in types that do so.
    fn compensates_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::PaymentVoided(PaymentVoided { compensates, .. })
            | Self::RefundProcessed(RefundProcessed { compensates, .. })
            | Self::InventoryReleased(InventoryReleased { compensates, .. })
            | Self::InventoryReturned(InventoryReturned { compensates, .. }) => Some(compensates),
            _ => None,
        }
    }
}

facts! {
    /// A customer placed an order. From the storefront.
    OrderPlaced on ORDERS {
        /// Who; none for a guest.
        customer: Option<String>,
        /// Where to.
        address: String,
        /// What.
        lines: Vec<Line>,
    }
    /// A customer wants lines of an order not to come. From the storefront.
    CancelRequested on ORDERS {
        /// The request's own number, unique in its order.
        request: String,
        /// What.
        lines: Vec<Units>,
    }
    /// A customer wants to give lines back. From the storefront.
    ReturnRequested on ORDERS {
        /// The request's own number, unique in its order.
        request: String,
        /// What.
        lines: Vec<Units>,
    }
    /// A customer wants the order to go elsewhere. From the storefront.
    AddressChangeRequested on ORDERS {
        /// The request's own number, unique in its order.
        request: String,
        /// Where to.
        address: String,
    }
    /// A second placement with another content does nothing.
    PlacementRefused on ORDERS {
        /// The id of the event that is refused.
        placement: String,
        /// Why.
        reason: RefusedReason,
    }
    /// The order is decided: the address stays.
    AddressChangeRefused on ORDERS {
        /// The request that it answers.
        request: String,
        /// Why.
        reason: RefusedReason,
    }
    /// The decision: it is carried out.
    OrderConfirmed on ORDERS {
        /// Product lines that will be shipped; all its service lines are charged beside them.
        lines: Vec<Units>,
        /// What these lines and the service lines cost, in pence.
        amount: u64,
        /// Where to.
        address: String,
        /// Requests that are contained in the decision.
        requests: Vec<String>,
    }
    /// The decision: it is not carried out, and what was taken is given back.
    OrderCancelling on ORDERS {
        /// Why.
        reason: CancelReason,
        /// Requests that are contained in the decision.
        requests: Vec<String>,
    }
    /// The last word: nothing is held for it any more.
    OrderCancelled on ORDERS {
        /// Why.
        reason: CancelReason,
    }
    /// Goods are taken back.
    ReturnAccepted on ORDERS {
        /// The request that it answers.
        request: String,
        /// What is taken back, at most what was asked.
        lines: Vec<Units>,
        /// What is given back for it, in pence: for each line what its units left before cost less what those left
        /// after cost, so that whatever is returned in parts comes to what was captured.
        amount: u64,
        /// The id of the `OrderFulfilled` that shipped it.
        fulfilled: String,
    }
    /// Nothing is taken back.
    ReturnRefused on ORDERS {
        /// The request that it answers.
        request: String,
        /// Why.
        reason: RefusedReason,
    }
    /// The whole amount of the placed order is set aside.
    PaymentAuthorized on PAYMENTS {
        /// In pence; with 0 nobody was asked.
        amount: u64,
        /// The key that the gateway knows it by; none when it was not asked.
        key: Option<String>,
    }
    /// There will be no money.
    PaymentDeclined on PAYMENTS {
        /// In pence.
        amount: u64,
        /// The key that the gateway knows it by; none when it was not asked, because the order was being cancelled.
        key: Option<String>,
    }
    /// What was shipped is paid.
    PaymentCaptured on PAYMENTS {
        /// In pence; with 0 nobody was asked.
        amount: u64,
        /// The key that the gateway knows it by; none when it was not asked.
        key: Option<String>,
    }
    /// What was set aside and not captured is free again.
    PaymentVoided on PAYMENTS {
        /// In pence; with 0 nobody was asked.
        amount: u64,
        /// The key that the gateway knows it by; none when it was not asked.
        key: Option<String>,
        /// The id of the `PaymentAuthorized`.
        compensates: String,
    }
    /// Money was given back.
    RefundProcessed on PAYMENTS {
        /// The request behind it.
        request: String,
        /// In pence; with 0 nobody was asked.
        amount: u64,
        /// The key that the gateway knows it by; none when it was not asked.
        key: Option<String>,
        /// The id of the `PaymentCaptured`.
        compensates: String,
    }
    /// Goods are set aside for the order: each product line whole, or it is short.
    InventoryReserved on INVENTORY {
        /// The number of this change of the stock, dense from 1 over all of them.
        decision: u64,
        /// What is set aside.
        lines: Vec<StockUnits>,
        /// The numbers of lines that are short.
        short: Vec<u32>,
    }
    /// The order has product lines, and all of them are short.
    InventoryRejected on INVENTORY {
        /// See [`InventoryReserved::decision`].
        decision: u64,
        /// The numbers of the lines.
        short: Vec<u32>,
    }
    /// Goods that were set aside are free again.
    InventoryReleased on INVENTORY {
        /// See [`InventoryReserved::decision`].
        decision: u64,
        /// What is free again.
        lines: Vec<StockUnits>,
        /// The id of the `InventoryReserved`.
        compensates: String,
    }
    /// Goods that were shipped are in stock again.
    InventoryReturned on INVENTORY {
        /// See [`InventoryReserved::decision`].
        decision: u64,
        /// The request behind it.
        request: String,
        /// What is in stock again.
        lines: Vec<StockUnits>,
        /// The id of the `OrderFulfilled`.
        compensates: String,
    }
    /// The stock of a code is another one. Its key is the code.
    InventoryUpdated on INVENTORY {
        /// See [`InventoryReserved::decision`].
        decision: u64,
        /// The request behind it.
        request: String,
        /// The change that was asked, in units.
        asked: i64,
        /// The change that was made: a decrease takes what is free.
        applied: i64,
    }
    /// The goods are on their way.
    OrderFulfilled on FULFILMENT {
        /// Product lines that were shipped: those that were confirmed.
        lines: Vec<Units>,
    }
    /// The customer was told.
    NotificationSent on NOTIFICATIONS {
        /// What.
        notice: Notice,
        /// The request that it is about; none when it is about the order.
        request: Option<String>,
    }
    /// The stock of a code is to be changed. From the storefront; its key is the code.
    StockChangeRequested on STOCK {
        /// The request's own number, unique among all of them.
        request: String,
        /// The change, in units.
        units: i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_rounded_half_up() {
        let line = |price_mills| Line {
            line: 1,
            code: "85123A".into(),
            description: String::new(),
            units: 6,
            price_mills,
            service: false,
        };
        for (price_mills, units, pence) in [(2_550, 6, 1_530), (1, 4, 0), (1, 5, 1), (0, 7, 0), (335, 3, 101)] {
            assert_eq!(line(price_mills).pence(units), pence, "{units} at {price_mills}");
        }
    }

    #[test]
    fn an_event_reads_as_it_was_written() {
        let cancelling = Event::from(OrderCancelling { reason: CancelReason::Deadline, requests: vec!["C1".into()] });
        assert_eq!(cancelling.encode(), br#"{"reason":"DEADLINE","requests":["C1"]}"#);
        assert_eq!((cancelling.kind(), cancelling.topic()), ("OrderCancelling.v1", "orders"));
        assert_eq!(Event::decode(cancelling.kind(), &cancelling.encode()), Ok(Some(cancelling)));
        assert_eq!(Event::decode("Unheard.v1", b"{}"), Ok(None));
        assert_eq!((Event::topic_of(OrderFulfilled::KIND), Event::topic_of("Unheard.v1")), (Some("fulfilment"), None));
        let malformed = Event::decode(OrderPlaced::KIND, b"{").expect_err("not JSON");
        assert_eq!(malformed.kind, OrderPlaced::KIND);
    }
}
