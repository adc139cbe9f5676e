//! What the transport says of requests that never became a message, in our words: its statuses have no reason.

use tillroll_proto::{limits::Fault, reason::key};
use tonic::{Code, Status};

use super::{Facts, VIOLATION_BYTES_MAX, cut, shown, table};
use crate::channel;

/// A request that never became a message: what the transport says of it, in our words. A status that already has a
/// reason, and one that is about the connection, is left as it is.
/// `path` is that of the call.
pub fn of_transport(status: &Status, path: &str) -> Option<Facts> {
    // One with a source is about the connection.
    if !status.details().is_empty() || std::error::Error::source(status).is_some() {
        return None;
    }
    let said = cut(status.message().to_owned(), VIOLATION_BYTES_MAX);
    match status.code() {
        // tonic's word for a message above the receive limit; ours of this code all have details.
        Code::OutOfRange => {
            let limit = channel::REQUEST_BYTES_MAX;
            let message =
                format!("the request has more than {limit} bytes, which no append may have; split it: {said}");
            let facts = Facts::new(&table::APPEND_TOO_LARGE, message).with(key::FIELD, "batches");
            Some(facts.with(key::LIMIT, limit))
        }
        Code::Internal => Some(not_a_message(&said)),
        Code::Unimplemented => {
            let call = shown(path.trim_start_matches('/'));
            let message = format!("this broker does not serve {call}; GetServer lists what it does{}", behind(&said));
            let feature = if path.is_empty() { "call" } else { path };
            Some(Facts::new(&table::UNSUPPORTED_FEATURE, message).with(key::FEATURE, feature))
        }
        _ => None,
    }
}

/// A request with a field that has more than it may.
pub fn of_limits(fault: &Fault) -> Facts {
    let Fault::TooLarge { field, reason, limit, actual, .. } = fault else { return not_a_message(&fault.to_string()) };
    let row = table::ALL.iter().find(|row| row.reason == *reason).copied().unwrap_or(&table::REQUEST_TOO_LARGE);
    let facts = Facts::new(row, fault.to_string()).with(key::FIELD, field);
    facts.with(key::LIMIT, limit).with(key::ACTUAL, actual)
}

/// A request that is within its limits and does not decode.
pub fn undecodable(error: &prost::DecodeError) -> Facts {
    not_a_message(&error.to_string())
}

fn not_a_message(said: &str) -> Facts {
    let message = format!("the request is not a message of this call: {said}; regenerate the client");
    Facts::new(&table::BAD_ENCODING, message)
}

fn behind(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}
