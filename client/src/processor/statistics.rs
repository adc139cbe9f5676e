//! What a processor has done so far: counted while it runs, read by whoever wants to know.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Place;

/// Places of malformed inputs that are named.
const NAMED_MAX: usize = 100;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What a processor has done so far.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Statistics {
            $($(#[$doc])* pub $name: u64,)+
            /// Appends that were refused, by the server's reason.
            pub refusals: BTreeMap<String, u64>,
            /// The first inputs that were skipped as malformed.
            pub malformed: Vec<Place>,
        }

        /// The counters behind [`Statistics`].
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)+
            refusals: Mutex<BTreeMap<String, u64>>,
            malformed: Mutex<Vec<Place>>,
        }

        impl Counters {
            fn read(&self) -> Statistics {
                Statistics {
                    $($name: self.$name.read(),)+
                    refusals: self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                    malformed: self.malformed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                }
            }
        }
    };
}

counters! {
    /// Records of its inputs that it has taken in, also those that mean nothing to it.
    inputs,
    /// Steps that were decided.
    steps,
    /// Events that they said.
    outputs,
    /// Timers that fired.
    timers_fired,
    /// Calls that were made.
    calls,
    /// Calls that are not answered now.
    calls_in_flight,
    /// Steps that are begun and not in the log now.
    steps_in_flight,
    /// Appends that are not answered now.
    appends_in_flight,
    /// Timers that run now.
    timers,
    /// Tries of a step that failed.
    failed_tries,
    /// Appends that were accepted.
    appends,
    /// Appends that the log had already when they were sent again.
    duplicates,
    /// Streams that broke, of appends and of the group.
    broken_streams,
    /// Times that it took its producer over, after a refusal.
    take_overs,
    /// States that were made again from the log.
    rebuilds,
    /// Inputs that were observed for that.
    observed,
    /// Own outputs that were applied for that.
    applied,
    /// Partitions of its inputs that cannot go on now.
    stalled,
    /// Units that came, or went.
    rebalances,
    /// Units that it holds now.
    units,
    /// Snapshots that were written.
    snapshots_written,
    /// Snapshots that could not be written.
    snapshots_failed,
    /// Snapshots that a state began from.
    snapshots_used,
    /// Snapshots that were thrown away.
    snapshots_thrown_away,
    /// Inputs that were skipped because they are malformed.
    malformed_skipped,
}

/// A number that one task changes and others read.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn refused(&self, reason: &str) {
        *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(reason.to_owned()).or_default() += 1;
    }

    pub(super) fn skipped(&self, place: Place) {
        self.malformed_skipped.add(1);
        let mut named = self.malformed.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() < NAMED_MAX {
            named.push(place);
        }
    }
}

/// Reads a processor's statistics, also while it runs and after.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    pub(super) counters: Arc<Counters>,
}

impl Watch {
    /// What it has done so far.
    pub fn read(&self) -> Statistics {
        self.counters.read()
    }
}
