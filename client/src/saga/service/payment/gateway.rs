//! What the payment service needs of a gateway: one call, which is made until its outcome is known.

use std::{fmt, future::Future};

/// What is asked of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Set an amount aside.
    Authorize,
    /// Take what was set aside, or a part of it.
    Capture,
    /// Free what was set aside and not taken.
    Void,
    /// Give back what was taken, or a part of it.
    Refund,
}

impl Operation {
    /// Its name, as it stands in keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
        }
    }

    /// The name of a business operation, `<operation>:<order>[:<request>]`.
    pub(super) fn key(self, order: &str, request: Option<&str>) -> String {
        match request {
            Some(request) => format!("{self}:{order}:{request}"),
            None => format!("{self}:{order}"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// One movement of money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// What is asked.
    pub operation: Operation,
    /// The name of this business operation, `<operation>:<order>[:<request>]`: the gateway does once whatever it is
    /// asked under one key, however often. So it has no part of an attempt or an event in it.
    pub key: String,
    /// The order that it is about.
    pub order: String,
    /// The request behind it, for a refund.
    pub request: Option<String>,
    /// In pence, never 0.
    pub amount: u64,
}

/// What came of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charged {
    /// It is done.
    Accepted,
    /// It is not done, and never will be. Only [`Operation::Authorize`] is ever answered so.
    Declined,
}

/// A payment gateway, which remembers its keys.
pub trait Gateway: Send + Sync + 'static {
    /// Charges, and returns once the outcome is known, however long and however many attempts that takes: an outcome
    /// that is not known is never [`Charged::Declined`].
    fn charge(&self, charge: Charge) -> impl Future<Output = Charged> + Send;
}
