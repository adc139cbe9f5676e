//! The name of a step, which every event that a processor emits carries: which input of which group it answers, and
//! which of the step's outputs it is.
//!
//! `group/topic/partition/offset/k/n` for an input, `group/timer/name/k/n` for a timer: output `k` of `n`, from 0.
//! Names of groups and topics have no slash; a timer's name may, so it is read from both ends.

use std::{fmt, str::FromStr};

/// The header that carries it.
pub const STEP_HEADER: &str = "tillroll-step";

/// What a step answers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The record there.
    Input {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
    },
    /// The timer of this name, which is unique in its group: what it is called and the key that it is about.
    Timer {
        /// Its name, such as `deadline:536365`.
        name: String,
    },
}

/// Where an event comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepName {
    /// The group whose step it is.
    pub group: String,
    /// What the step answers to.
    pub cause: Cause,
    /// Which of the step's outputs, from 0.
    pub k: u32,
    /// How many outputs the step has.
    pub n: u32,
}

impl fmt::Display for StepName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, cause, k, n } = self;
        match cause {
            Cause::Input { topic, partition, offset } => {
                write!(formatter, "{group}/{topic}/{partition}/{offset}/{k}/{n}")
            }
            Cause::Timer { name } => write!(formatter, "{group}/timer/{name}/{k}/{n}"),
        }
    }
}

/// Text that names no step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoStep(pub String);

impl fmt::Display for NoStep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "not a step's name text={:?}", self.0)
    }
}

impl std::error::Error for NoStep {}

impl FromStr for StepName {
    type Err = NoStep;

    fn from_str(text: &str) -> Result<Self, NoStep> {
        parse(text).filter(|step| step.k < step.n).ok_or_else(|| NoStep(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<StepName> {
    let (group, rest) = text.split_once('/')?;
    let mut ends = rest.rsplitn(3, '/');
    let (n, k, cause) = (ends.next()?.parse().ok()?, ends.next()?.parse().ok()?, ends.next()?);
    let cause = match cause.strip_prefix("timer/") {
        // A topic may be called `timer`: its steps have a partition and an offset, which a timer's name has not.
        Some(name) if name.split('/').count() != 2 || name.split('/').any(|part| part.parse::<u64>().is_err()) => {
            Cause::Timer { name: name.to_owned() }
        }
        _ => {
            let mut parts = cause.split('/');
            let (topic, partition) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
            let offset = parts.next()?.parse().ok()?;
            if parts.next().is_some() {
                return None;
            }
            Cause::Input { topic, partition, offset }
        }
    };
    Some(StepName { group: group.to_owned(), cause, k, n })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_reads_as_it_was_written() {
        let input = Cause::Input { topic: "orders".into(), partition: 3, offset: 17 };
        let timer = Cause::Timer { name: "deadline:536365".into() };
        for (cause, text) in [(input, "payment/orders/3/17/0/2"), (timer, "payment/timer/deadline:536365/0/2")] {
            let step = StepName { group: "payment".into(), cause, k: 0, n: 2 };
            assert_eq!(step.to_string(), text);
            assert_eq!(text.parse(), Ok(step));
        }
    }

    #[test]
    fn what_is_no_step_is_said() {
        for text in ["", "payment", "payment/orders/3/17", "payment/orders/3/17/2/2", "payment/orders/x/17/0/1"] {
            assert_eq!(text.parse::<StepName>(), Err(NoStep(text.to_owned())), "{text}");
        }
    }
}
