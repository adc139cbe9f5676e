//! Why a processor stops.

use std::fmt;

use super::{Cause, Malformed, Place};
use crate::Error;

/// Why a processor stopped before it was told to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProcessorError {
    /// The broker cannot be reached for too long, or refuses what the processor needs.
    Broker {
        /// What was attempted.
        attempted: &'static str,
        /// What came of it.
        error: Error,
    },
    /// Another process joined under this member's name. This one has nothing to say any more; it must not come back by
    /// itself.
    TakenOver {
        /// The member's name.
        member: String,
    },
    /// A step could not be made, however often it was tried.
    Failed {
        /// The service.
        service: String,
        /// What the step is about, such as an order.
        key: String,
        /// What it answers to.
        cause: Cause,
        /// How often it was tried.
        tries: u32,
        /// What went wrong the last time.
        wrong: String,
    },
    /// An input is not what its type says, and the policy is not to skip it.
    Malformed {
        /// Where it is.
        place: Place,
        /// What is wrong with it.
        malformed: Malformed,
    },
    /// The log cannot be read on from a place that the service has to read, such as for damaged data, or records that
    /// are gone below a cursor. It needs somebody: whoever starts it again meets it again.
    Unreadable {
        /// The first record that cannot be read.
        place: Place,
        /// Why, with the server's reason if it gave one.
        error: Error,
    },
    /// What one step says does not fit into one append.
    StepTooLarge {
        /// What the step is about.
        key: String,
        /// What it answers to.
        cause: Cause,
        /// What is too large.
        what: &'static str,
        /// How large it is.
        actual: usize,
        /// How large it may be.
        limit: usize,
    },
    /// The settings do not fit together, or not to what is there.
    Misconfigured {
        /// What is wrong.
        wrong: String,
    },
}

impl ProcessorError {
    pub(super) fn broker(attempted: &'static str) -> impl FnOnce(Error) -> Self {
        move |error| Self::Broker { attempted, error }
    }

    pub(super) fn misconfigured(wrong: impl Into<String>) -> Self {
        Self::Misconfigured { wrong: wrong.into() }
    }
}

/// Where a step is, for people.
struct At<'a>(&'a Cause);

impl fmt::Display for At<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Cause::Input { topic, partition, offset } => {
                write!(formatter, "topic={topic} partition={partition} offset={offset}")
            }
            Cause::Timer { name } => write!(formatter, "timer={name}"),
        }
    }
}

impl fmt::Display for ProcessorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker { attempted, error } => write!(formatter, "{attempted}: {error}"),
            Self::TakenOver { member } => {
                write!(formatter, "another process joined under this name member={member}")
            }
            Self::Failed { service, key, cause, tries, wrong } => {
                write!(formatter, "step failed service={service} key={key} {} tries={tries}: {wrong}", At(cause))
            }
            Self::Malformed { place: Place { topic, partition, offset }, malformed } => {
                write!(formatter, "{malformed} topic={topic} partition={partition} offset={offset}")
            }
            Self::Unreadable { place: Place { topic, partition, offset }, error } => {
                let reason = error.reason().unwrap_or("NONE");
                let place = format!("topic={topic} partition={partition} offset={offset} reason={reason}");
                write!(formatter, "the log cannot be read on {place}: {error}")
            }
            Self::StepTooLarge { key, cause, what, actual, limit } => {
                write!(formatter, "a step says too much key={key} {} {what}={actual} limit={limit}", At(cause))
            }
            Self::Misconfigured { wrong } => formatter.write_str(wrong),
        }
    }
}

impl std::error::Error for ProcessorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broker { error, .. } | Self::Unreadable { error, .. } => Some(error),
            Self::Malformed { malformed, .. } => Some(malformed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_and_the_place_are_named() {
        let cause = Cause::Input { topic: "orders".into(), partition: 3, offset: 17 };
        let error = ProcessorError::Failed {
            service: "payment".into(),
            key: "536365".into(),
            cause,
            tries: 5,
            wrong: "no".into(),
        };
        let text = "step failed service=payment key=536365 topic=orders partition=3 offset=17 tries=5: no";
        assert_eq!(error.to_string(), text);
        let malformed = Malformed { kind: "OrderPlaced.v1".into(), wrong: "not JSON".into() };
        let place = Place { topic: "orders".into(), partition: 3, offset: 17 };
        let error = ProcessorError::Malformed { place, malformed };
        let text = "malformed payload kind=OrderPlaced.v1: not JSON topic=orders partition=3 offset=17";
        assert_eq!(error.to_string(), text);
    }
}
