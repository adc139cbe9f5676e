//! What the payment service needs of a gateway: one call, which is made until its outcome is known.

use std::{fmt, future::Future};

use crate::saga::gateway::{Key, KeyFault, Operation};

/// One movement of money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// What is asked.
    pub operation: Operation,
    /// The name of this business operation, as [`Key::new`] makes it: the gateway does once whatever it is asked under
    /// one key, however often. So it has no part of an attempt or an event in it.
    pub key: Key,
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

/// The gateway does not take the charge as such. Nothing was charged, and asking again changes nothing: somebody has to
/// mend the order, the service or the gateway. It is no decline, which only the customer's money decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What was asked under which key.
    pub key: Key,
    /// Why not, in the gateway's words.
    pub wrong: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the gateway does not take the charge key={}: {}", self.key, self.wrong)
    }
}

impl std::error::Error for Refused {}

/// A payment gateway, which remembers its keys.
pub trait Gateway: Send + Sync + 'static {
    /// Charges, and returns once the outcome is known, however long and however many attempts that takes: an outcome
    /// that is not known is never [`Charged::Declined`], and no error.
    ///
    /// **Errors**: the charge as such is refused, for good.
    fn charge(&self, charge: Charge) -> impl Future<Output = Result<Charged, Refused>> + Send;
}

/// What a step fails with when the names of an order make no key: it can never be charged.
pub(super) fn no_key(order: &str, fault: &KeyFault) -> String {
    format!("the order cannot be charged for order={order:?}: {fault}")
}
