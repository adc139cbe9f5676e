//! What a service of the saga says of itself while it runs, one JSON object a line, for whoever supervises it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a service stands. Counters count since its process began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// Which service.
    pub(crate) service: String,
    /// Which member of its group.
    pub(crate) member: String,
    /// Steps that are appended.
    pub(crate) steps: u64,
    /// Events that it said.
    pub(crate) outputs: u64,
    /// Appends that were answered.
    pub(crate) appends: u64,
    /// Of these, those that a retry found in the log already.
    pub(crate) duplicates: u64,
    /// Appends that were refused because a partition was not its own any more.
    pub(crate) fenced: u64,
    /// Appends that were refused for other reasons, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Times that its state was made again from the log.
    pub(crate) rebuilds: u64,
    /// Times that partitions came to it, or went.
    pub(crate) moves: u64,
    /// Timers that fired.
    pub(crate) timers_fired: u64,
    /// Timers that run.
    pub(crate) timers: u64,
    /// Steps that are begun and not appended.
    pub(crate) steps_in_flight: u64,
    /// Appends that are sent and not answered.
    pub(crate) appends_in_flight: u64,
    /// Calls to the outside that are not answered.
    pub(crate) calls_in_flight: u64,
    /// Snapshots of the state that were used at a start.
    pub(crate) snapshots_used: u64,
    /// Snapshots that were ahead of the log, or no good, and thrown away.
    pub(crate) snapshots_refused: u64,
    /// Payloads that were skipped because they are not what their type says.
    pub(crate) malformed: u64,
    /// The newest of them that is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) malformed_newest: Option<Named>,
}

/// Where a payload is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    /// The topic.
    pub(crate) topic: String,
    /// The partition.
    pub(crate) partition: u32,
    /// The offset.
    pub(crate) offset: u64,
}

impl Report {
    /// Adds the counters of another process of the same service.
    pub(crate) fn add(&mut self, other: &Self) {
        self.service.clone_from(&other.service);
        self.member.clone_from(&other.member);
        for (sum, number) in [
            (&mut self.steps, other.steps),
            (&mut self.outputs, other.outputs),
            (&mut self.appends, other.appends),
            (&mut self.duplicates, other.duplicates),
            (&mut self.fenced, other.fenced),
            (&mut self.rebuilds, other.rebuilds),
            (&mut self.moves, other.moves),
            (&mut self.timers_fired, other.timers_fired),
            (&mut self.snapshots_used, other.snapshots_used),
            (&mut self.snapshots_refused, other.snapshots_refused),
            (&mut self.malformed, other.malformed),
        ] {
            *sum += number;
        }
        if other.malformed_newest.is_some() {
            self.malformed_newest.clone_from(&other.malformed_newest);
        }
        for (reason, number) in &other.refused {
            *self.refused.entry(reason.clone()).or_default() += number;
        }
    }

    /// Whether something is begun and not done.
    pub(crate) fn is_busy(&self) -> bool {
        self.steps_in_flight + self.appends_in_flight + self.calls_in_flight > 0
    }
}
