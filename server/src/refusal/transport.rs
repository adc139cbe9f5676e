//! What the transport says of requests that never became a message, in our words: its statuses have no reason.

use tillroll_proto::reason::key;
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
        Code::Internal => {
            let message = format!("the request is not a message of this call: {said}; regenerate the client");
            Some(Facts::new(&table::BAD_ENCODING, message))
        }
        Code::Unimplemented => {
            let call = shown(path.trim_start_matches('/'));
            let message = format!("this broker does not serve {call}; GetServer lists what it does{}", behind(&said));
            let feature = if path.is_empty() { "call" } else { path };
            Some(Facts::new(&table::UNSUPPORTED_FEATURE, message).with(key::FEATURE, feature))
        }
        _ => None,
    }
}

fn behind(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}
