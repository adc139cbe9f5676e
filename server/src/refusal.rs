//! How the server says no: a reason from one [`table`], the facts for programs, and a sentence for people.
//!
//! Comes in: what the engine refused, or what is wrong with a request's fields. Goes out: a `google.rpc.Status` with
//! `ErrorInfo` and, where they fit, `BadRequest`, `PreconditionFailure` and `RetryInfo`. What must stay true: every
//! refusal has a row in the table, and all of it fits into the headers that it travels in.

use std::{collections::HashMap, fmt::Display};

use tillroll_engine::id::Partition;
use tillroll_proto::reason::{self, key};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt, pb};

pub mod table;
mod group;
mod write;
mod read;
mod transport;

pub use read::{gave_up, of_fault, response_limit, undecodable_range};
pub use transport::{of_limits, of_transport, undecodable};
pub use write::{of_answer, of_pin, of_refusal};

use self::table::Row;

/// The message travels in a header, percent-encoded, and once more in the details. Some clients take no more than
/// 8 KiB of headers in all.
const MESSAGE_BYTES_MAX: usize = 1_024;
/// One fact.
const VALUE_BYTES_MAX: usize = 256;
/// What is said of one field or one condition.
const VIOLATION_BYTES_MAX: usize = 256;
/// All conditions that do not hold, together; how many there are stands in the metadata.
const VIOLATIONS_BYTES_MAX: usize = 2 << 10;
/// A name that a client made up, in a message.
const NAME_BYTES_MAX: usize = 160;

/// Everything that is said of one refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Reason, code, and whether to try again.
    pub row: &'static Row,
    /// What, where, the limit, the next step: for people.
    pub message: String,
    /// The same for programs.
    pub metadata: Vec<(&'static str, String)>,
    /// Conditions that do not hold.
    pub violations: Vec<Violation>,
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The reason that it would be refused for alone.
    pub reason: &'static str,
    /// What it is about.
    pub subject: String,
    /// What was found.
    pub found: String,
}

impl Violation {
    fn bytes(&self) -> usize {
        self.reason.len() + self.subject.len() + self.found.len()
    }
}

impl Facts {
    /// A refusal with no facts yet.
    pub fn new(row: &'static Row, message: impl Into<String>) -> Self {
        let message = cut(message.into(), MESSAGE_BYTES_MAX);
        Self { row, message, metadata: Vec::new(), violations: Vec::new() }
    }

    /// The reason, one of `tillroll_proto::reason`.
    pub fn reason(&self) -> &'static str {
        self.row.reason
    }

    /// What a generic client goes by.
    pub fn code(&self) -> Code {
        self.row.code
    }

    /// Adds a fact, unless it is known already.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Display) -> Self {
        debug_assert!(self.row.keys.contains(&key), "{} does not list {key}", self.row.reason);
        if self.metadata.iter().all(|(known, _)| *known != key) {
            self.metadata.push((key, cut(value.to_string(), VALUE_BYTES_MAX)));
        }
        self
    }

    /// Adds the place of a read, as far as the reason has one and it is not known already.
    #[must_use]
    pub fn at(self, topic: &str, partition: Option<Partition>) -> Self {
        let keys = self.row.keys;
        let facts = if keys.contains(&key::TOPIC) { self.with(key::TOPIC, topic) } else { self };
        match partition.filter(|_| keys.contains(&key::PARTITION)) {
            Some(partition) => facts.with(key::PARTITION, partition),
            None => facts,
        }
    }

    /// Adds a condition that does not hold, as long as there is room for it.
    #[must_use]
    pub fn violating(mut self, reason: &'static str, subject: String, found: String) -> Self {
        let (subject, found) = (cut(subject, VIOLATION_BYTES_MAX), cut(found, VIOLATION_BYTES_MAX));
        let taken: usize = self.violations.iter().map(Violation::bytes).sum();
        let violation = Violation { reason, subject, found };
        if taken + violation.bytes() <= VIOLATIONS_BYTES_MAX {
            self.violations.push(violation);
        }
        self
    }

    fn details(&self) -> ErrorDetails {
        let metadata: HashMap<String, String> =
            self.metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let mut details = ErrorDetails::new();
        let field = metadata.get(key::FIELD).filter(|_| self.row.code == Code::InvalidArgument).cloned();
        details.set_error_info(self.row.reason, reason::DOMAIN, metadata);
        if let Some(field) = field {
            details.add_bad_request_violation(field, cut(self.message.clone(), VIOLATION_BYTES_MAX));
        }
        for Violation { reason, subject, found } in &self.violations {
            details.add_precondition_failure_violation(*reason, subject.clone(), found.clone());
        }
        if let Some(wait) = self.row.wait {
            details.set_retry_info(Some(wait));
        }
        details
    }

    /// The status of a call.
    pub fn status(&self) -> Status {
        Status::with_error_details(self.row.code, self.message.clone(), self.details())
    }

    /// The same as a message, for outcomes on a stream.
    pub fn message_status(&self) -> pb::Status {
        let status = self.status();
        let bare = |_| pb::Status { code: self.row.code as i32, message: self.message.clone(), details: Vec::new() };
        prost::Message::decode(status.details()).unwrap_or_else(bare)
    }
}

impl From<Facts> for Status {
    fn from(facts: Facts) -> Self {
        facts.status()
    }
}

/// A name for a message: quoted, and shortened when nobody meant it as one.
fn shown(name: &str) -> String {
    if name.len() <= NAME_BYTES_MAX {
        return format!("{name:?}");
    }
    format!("{:?}… ({} bytes)", &name[..name.floor_char_boundary(NAME_BYTES_MAX)], name.len())
}

/// A fact as text, and no more of it than may travel.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max - '…'.len_utf8()));
        text.push('…');
    }
    text
}

/// A field that has no valid value.
pub fn bad_field(field: &str, what: impl Into<String>) -> Facts {
    Facts::new(&table::FIELD_INVALID, what).with(key::FIELD, field)
}

/// A field that must be set.
pub fn required(field: &str, what: impl Into<String>) -> Facts {
    Facts::new(&table::FIELD_REQUIRED, what).with(key::FIELD, field)
}

/// A group that does not exist.
pub fn no_group(group: &str, similar: Option<&str>) -> Facts {
    let close = similar.map_or_else(String::new, |similar| format!(" (there is {})", shown(similar)));
    let message = format!("group {} not found{close}; create it with CreateGroup", shown(group));
    let facts = Facts::new(&table::GROUP_NOT_FOUND, message).with(key::GROUP, group);
    similar.iter().fold(facts, |facts, similar| facts.with(key::SIMILAR, similar))
}

/// A member whose id another process has now.
pub fn taken_over(group: &str, member: &str) -> Facts {
    let message = format!("member {} of group {} is another process now; stop this one", shown(member), shown(group));
    Facts::new(&table::TAKEN_OVER, message).with(key::GROUP, group).with(key::MEMBER, member)
}

/// A member that is none any more.
pub fn membership_ended(group: &str, member: &str, why: &str) -> Facts {
    let (shown_group, shown_member) = (shown(group), shown(member));
    let message = format!("{shown_member} is no member of group {shown_group} any more: {why}; join again");
    Facts::new(&table::MEMBERSHIP_ENDED, message).with(key::GROUP, group).with(key::MEMBER, member)
}

/// A feature that this broker does not have.
pub fn unsupported(feature: &str) -> Facts {
    let message = format!("feature {} is not supported by this broker; GetServer lists what is", shown(feature));
    Facts::new(&table::UNSUPPORTED_FEATURE, message).with(key::FEATURE, feature)
}

/// A call that ends because the server does.
pub fn stopping() -> Facts {
    Facts::new(&table::SHUTTING_DOWN, "the broker is stopping; go on with the same call once it is back")
}

#[cfg(test)]
mod tests;
