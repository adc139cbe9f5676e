//! What the order service reads of its inputs. Of a placement it keeps numbers, the address, and a hash of the rest.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::super::{Hear, Numbered, malformed, read};
use crate::{
    processor::Malformed,
    saga::payload::{
        AddressChangeRequested, CancelRequested, InventoryRejected, InventoryReleased, InventoryReserved,
        OrderFulfilled, OrderPlaced, PaymentAuthorized, PaymentDeclined, PaymentVoided, ReturnRequested, Units, pence,
        topic,
    },
};

/// What the order service hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matter {
    /// An order was placed.
    Placed(Placement),
    /// A customer asks for something.
    Asked(Box<str>, Asked),
    /// The money is set aside.
    Authorized,
    /// There is no money.
    Declined,
    /// What was set aside of the money, or the rest of it, is free again.
    Voided,
    /// Goods are set aside.
    Reserved {
        /// How many units in all.
        units: u64,
        /// The numbers of lines that are short.
        short: Vec<u32>,
    },
    /// All goods are short.
    Rejected,
    /// So many units are free again.
    Released(u64),
    /// The goods are on their way.
    Fulfilled,
}

/// What is needed of a placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// A hash of all that it says.
    pub(super) content: u64,
    pub(super) address: Box<str>,
    /// What the service lines cost together.
    pub(super) service_pence: u64,
    pub(super) products: Vec<Product>,
}

/// Units of a product line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u64, u64)", into = "(u32, u64, u64)")]
pub(super) struct Product {
    pub(super) line: u32,
    pub(super) units: u64,
    pub(super) price_mills: u64,
}

impl Product {
    pub(super) fn pence(&self) -> u64 {
        pence(self.units, self.price_mills)
    }
}

/// Most of a snapshot is products, so they stand in it without names.
impl From<Product> for (u32, u64, u64) {
    fn from(Product { line, units, price_mills }: Product) -> Self {
        (line, units, price_mills)
    }
}

impl From<(u32, u64, u64)> for Product {
    fn from((line, units, price_mills): (u32, u64, u64)) -> Self {
        Self { line, units, price_mills }
    }
}

impl Numbered for Product {
    fn line(&self) -> u32 {
        self.line
    }
}

/// What a customer asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// That lines do not come.
    Cancel(Vec<Units>),
    /// To give lines back.
    Return(Vec<Units>),
    /// That it goes elsewhere.
    Address(Box<str>),
}

impl Hear for Matter {
    const HEARS: &'static [(&'static str, &'static [&'static str])] = &[
        (
            topic::ORDERS,
            &[OrderPlaced::KIND, CancelRequested::KIND, ReturnRequested::KIND, AddressChangeRequested::KIND],
        ),
        (topic::PAYMENTS, &[PaymentAuthorized::KIND, PaymentDeclined::KIND, PaymentVoided::KIND]),
        (topic::INVENTORY, &[InventoryReserved::KIND, InventoryRejected::KIND, InventoryReleased::KIND]),
        (topic::FULFILMENT, &[OrderFulfilled::KIND]),
    ];

    fn hear(kind: &str, payload: &[u8]) -> Result<Option<Self>, Malformed> {
        #[derive(Deserialize)]
        struct Lines {
            request: Box<str>,
            lines: Vec<Units>,
        }
        #[derive(Deserialize)]
        struct Address {
            request: Box<str>,
            address: Box<str>,
        }
        #[derive(Deserialize)]
        struct Reserved {
            lines: Vec<OfLine>,
            short: Vec<u32>,
        }
        #[derive(Deserialize)]
        struct Released {
            lines: Vec<OfLine>,
        }

        Ok(Some(match kind {
            OrderPlaced::KIND => Self::Placed(placement(kind, payload)?),
            CancelRequested::KIND => {
                let Lines { request, lines } = read(kind, payload)?;
                Self::Asked(request, Asked::Cancel(lines))
            }
            ReturnRequested::KIND => {
                let Lines { request, lines } = read(kind, payload)?;
                Self::Asked(request, Asked::Return(lines))
            }
            AddressChangeRequested::KIND => {
                let Address { request, address } = read(kind, payload)?;
                Self::Asked(request, Asked::Address(address))
            }
            PaymentAuthorized::KIND => Self::Authorized,
            PaymentDeclined::KIND => Self::Declined,
            PaymentVoided::KIND => Self::Voided,
            InventoryReserved::KIND => {
                let Reserved { lines, short } = read(kind, payload)?;
                Self::Reserved { units: units(&lines), short }
            }
            InventoryRejected::KIND => Self::Rejected,
            InventoryReleased::KIND => Self::Released(units(&read::<Released>(kind, payload)?.lines)),
            OrderFulfilled::KIND => Self::Fulfilled,
            _ => return Ok(None),
        }))
    }
}

#[derive(Deserialize)]
struct OfLine {
    units: u64,
}

fn units(lines: &[OfLine]) -> u64 {
    lines.iter().fold(0, |units, line| units.saturating_add(line.units))
}

fn placement(kind: &str, payload: &[u8]) -> Result<Placement, Malformed> {
    #[derive(Deserialize)]
    struct Order<'a> {
        #[serde(borrow)]
        customer: Option<Cow<'a, str>>,
        #[serde(borrow)]
        address: Cow<'a, str>,
        #[serde(borrow)]
        lines: Vec<Placed<'a>>,
    }
    #[derive(Deserialize)]
    struct Placed<'a> {
        line: u32,
        #[serde(borrow)]
        code: Cow<'a, str>,
        #[serde(borrow)]
        description: Cow<'a, str>,
        units: u64,
        price_mills: u64,
        #[serde(default)]
        service: bool,
    }

    let order: Order<'_> = serde_json::from_slice(payload).map_err(|error| malformed(kind, &error))?;
    let mut content = Content::with_capacity(payload.len());
    content.text(order.customer.as_deref());
    content.text(Some(&order.address));
    let mut products = Vec::with_capacity(order.lines.len());
    let mut service_pence = 0_u64;
    for Placed { line, code, description, units, price_mills, service } in &order.lines {
        content.numbers([u64::from(*line), *units, *price_mills, u64::from(*service)]);
        content.text(Some(code));
        content.text(Some(description));
        if *service {
            service_pence = service_pence.saturating_add(pence(*units, *price_mills));
        } else if *units > 0 {
            products.push(Product { line: *line, units: *units, price_mills: *price_mills });
        }
    }
    Ok(Placement { content: content.hash(), address: order.address.into(), service_pence, products })
}

/// What a placement says, in a form that depends on nothing but what it says. Its hash is kept in snapshots, so it must
/// stay what it is.
struct Content(Vec<u8>);

impl Content {
    fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    fn numbers(&mut self, numbers: [u64; 4]) {
        self.0.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }

    fn text(&mut self, text: Option<&str>) {
        let bytes = text.map_or(u32::MAX, |text| text.len() as u32);
        self.0.extend(bytes.to_le_bytes());
        self.0.extend(text.unwrap_or_default().as_bytes());
    }

    fn hash(&self) -> u64 {
        xxh3_64(&self.0)
    }
}
