//! What is said between a payment service and the gateway: operations, keys, what is asked and what is answered.
//!
//! A key names a business operation, `<operation>:<order>[:<request>]`: this order is authorised once, this return is
//! refunded once. It never names an attempt, an event or a process. Whoever asks again asks with the same key, however
//! often and from wherever, and that is what makes asking again harmless.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The header that carries a key.
pub const KEY_HEADER: &str = "idempotency-key";

/// The longest key in bytes.
const KEY_BYTES_MAX: usize = 255;
/// The longest name of an order or a request in bytes.
const NAME_BYTES_MAX: usize = 100;
/// The longest address of a callback in bytes.
const URL_BYTES_MAX: usize = 1_024;

/// What can be asked of the gateway. Each moves money, or holds or frees it, once per key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Holds an amount on the customer's card. The only operation that is ever declined.
    Authorize,
    /// Takes money that is held.
    Capture,
    /// Frees what is held and was not taken.
    Void,
    /// Gives money back that was taken.
    Refund,
}

impl Operation {
    /// All of them, in the order of a payment's life.
    pub const ALL: [Self; 4] = [Self::Authorize, Self::Capture, Self::Void, Self::Refund];

    /// Its name in paths, keys and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
        }
    }

    /// The path that it is asked under.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Authorize => "/v1/authorize",
            Self::Capture => "/v1/capture",
            Self::Void => "/v1/void",
            Self::Refund => "/v1/refund",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How an operation ended, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was done.
    Accepted,
    /// It was refused, and stays refused under this key.
    Declined,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Accepted => "accepted",
            Self::Declined => "declined",
        })
    }
}

/// What an answer says of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It was done.
    Accepted,
    /// It was refused, and stays refused under this key.
    Declined,
    /// It will be known later: by a report to the callback, or by asking again.
    Pending,
}

impl Standing {
    /// The end, when there is one.
    pub const fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Accepted => Some(Verdict::Accepted),
            Self::Declined => Some(Verdict::Declined),
            Self::Pending => None,
        }
    }
}

impl From<Verdict> for Standing {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Accepted => Self::Accepted,
            Verdict::Declined => Self::Declined,
        }
    }
}

/// The name of a business operation: at most 255 visible ASCII characters. Cheap to clone.
///
/// ```
/// use tillroll_client::saga::gateway::{Key, Operation};
/// assert_eq!(Key::new(Operation::Capture, "536365", None)?.as_str(), "capture:536365");
/// assert_eq!(Key::new(Operation::Refund, "536365", Some("C536379"))?.as_str(), "refund:536365:C536379");
/// # Ok::<(), tillroll_client::saga::gateway::KeyFault>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyFault {
    /// There is nothing.
    #[error("a key is empty")]
    Empty,
    /// It is too long.
    #[error("a key is too long limit={KEY_BYTES_MAX} bytes={bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character is not visible ASCII.
    #[error("a key has a character that is not visible ASCII character={character:?}")]
    Character {
        /// The first such character.
        character: char,
    },
    /// The parts of a key are parted by colons, so an order's name cannot have one.
    #[error("the order of a key has a colon order={order}")]
    Colon {
        /// The order's name.
        order: String,
    },
}

impl Key {
    /// The key of an operation on an order, or of the part of it that a request names.
    ///
    /// **Errors**: when the names do not make a key.
    pub fn new(operation: Operation, order: &str, request: Option<&str>) -> Result<Self, KeyFault> {
        if order.contains(':') {
            return Err(KeyFault::Colon { order: order.to_owned() });
        }
        match request {
            None => format!("{operation}:{order}").parse(),
            Some(request) => format!("{operation}:{order}:{request}").parse(),
        }
    }

    /// As it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = KeyFault;

    /// Takes any text that can be sent as a key, whether or not it names an operation.
    fn from_str(text: &str) -> Result<Self, KeyFault> {
        match text.chars().find(|character| !character.is_ascii_graphic()) {
            Some(character) => Err(KeyFault::Character { character }),
            None if text.is_empty() => Err(KeyFault::Empty),
            None if text.len() > KEY_BYTES_MAX => Err(KeyFault::TooLong { bytes: text.len() }),
            None => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ask<'a> {
    /// Pence, more than 0.
    pub(crate) amount: u64,
    #[serde(borrow)]
    pub(crate) order: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Cow<'a, str>>,
    /// Where to report an outcome that is pending.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) callback_url: Option<Cow<'a, str>>,
}

/// Why a request is not looked at further. Nothing was charged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum AskFault {
    #[error("the body is not what is expected: {0}")]
    Body(String),
    #[error("an amount of 0 is not charged")]
    NoAmount,
    #[error("a name is empty, longer than {NAME_BYTES_MAX} bytes, or has control characters field={field}")]
    Name { field: &'static str },
    #[error("the callback's address is too long limit={URL_BYTES_MAX} bytes={bytes}")]
    Url { bytes: usize },
}

impl<'a> Ask<'a> {
    /// Reads a body.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, AskFault> {
        let ask: Self = serde_json::from_slice(body).map_err(|error| AskFault::Body(error.to_string()))?;
        if ask.amount == 0 {
            return Err(AskFault::NoAmount);
        }
        is_name(&ask.order).then_some(()).ok_or(AskFault::Name { field: "order" })?;
        ask.request.as_deref().is_none_or(is_name).then_some(()).ok_or(AskFault::Name { field: "request" })?;
        match ask.callback_url.as_deref().map_or(0, str::len) {
            bytes if bytes > URL_BYTES_MAX => Err(AskFault::Url { bytes }),
            _ => Ok(ask),
        }
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) outcome: Standing,
    /// The gateway's number of the charge.
    pub(crate) charge: u64,
    /// The key was known: nothing was charged by this request.
    pub(crate) repeated: bool,
}

/// The body of an answer that is a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused<'a> {
    #[serde(borrow)]
    pub(crate) error: Cow<'a, str>,
}

/// What is posted to a callback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report<'a> {
    #[serde(borrow)]
    pub(crate) key: Cow<'a, str>,
    pub(crate) operation: Operation,
    pub(crate) amount: u64,
    pub(crate) outcome: Verdict,
    /// The gateway's number of the charge: a later charge has a higher one.
    pub(crate) charge: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_the_operation_and_never_an_attempt() {
        let key = |order, request| Key::new(Operation::Refund, order, request).map(|key| key.to_string());
        assert_eq!(key("536365", Some("C1")), Ok("refund:536365:C1".to_owned()));
        assert_eq!(key("536365", None), key("536365", None));
        assert_eq!(key("a:b", None), Err(KeyFault::Colon { order: "a:b".to_owned() }));
        assert_eq!(key("a b", None), Err(KeyFault::Character { character: ' ' }));
        assert_eq!("".parse::<Key>(), Err(KeyFault::Empty));
        assert_eq!("a".repeat(256).parse::<Key>(), Err(KeyFault::TooLong { bytes: 256 }));
        for operation in Operation::ALL {
            assert_eq!(operation.path(), format!("/v1/{operation}"));
            assert_eq!(serde_json::to_value(operation).unwrap(), operation.name());
        }
    }

    #[test]
    fn a_body_is_taken_or_refused_with_its_reason() {
        fn check(body: &str, expected: Result<u64, &str>) {
            let found = Ask::parse(body.as_bytes()).map(|ask| ask.amount).map_err(|fault| fault.to_string());
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(*found, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                _ => panic!("{body}: {found:?}, expected {expected:?}"),
            }
        }
        check(r#"{"amount":1999,"order":"536365"}"#, Ok(1999));
        check(r#"{"amount":5,"order":"5","request":"C\"1","callback_url":"http://a/","more":1}"#, Ok(5));
        check(r#"{"amount":0,"order":"536365"}"#, Err("an amount of 0"));
        check(r#"{"amount":-1,"order":"536365"}"#, Err("the body is not"));
        check(r#"{"amount":1.5,"order":"536365"}"#, Err("the body is not"));
        check(r#"{"amount":1,"order":""}"#, Err("field=order"));
        check(r#"{"amount":1,"order":"a","request":"\u0000"}"#, Err("field=request"));
        check(&format!(r#"{{"amount":1,"order":"{}"}}"#, "a".repeat(101)), Err("field=order"));
        check(&format!(r#"{{"amount":1,"order":"a","callback_url":"{}"}}"#, "a".repeat(1025)), Err("limit=1024"));
        check("", Err("the body is not"));
    }
}
