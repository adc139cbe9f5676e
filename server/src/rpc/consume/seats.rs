//! The streams that are open, one a member: a newer one of the same process ends the older one, and whoever explains a
//! group may look at what each waits for.
//!
//! Nothing here is durable and nothing decides by it. The lock is held for a look or a change, never while waiting.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tillroll_engine::{
    id::{GroupId, Lane},
    presence::Attendance,
};
use tillroll_proto::reason::key;
use tokio_util::sync::CancellationToken;

use super::sent::Sent;
use crate::refusal::Facts;

/// A process of a member.
type Who = (GroupId, String, String);

/// All streams of one server.
#[derive(Clone, Debug, Default)]
pub(in crate::rpc) struct Seats {
    taken: Arc<Mutex<HashMap<Who, Arc<Seat>>>>,
}

/// What one stream is about.
#[derive(Debug, Default)]
pub(in crate::rpc) struct Seat {
    /// A newer stream of the same process has come.
    replaced: CancellationToken,
    view: Mutex<View>,
}

/// What a stream waits for.
#[derive(Clone, Debug, Default)]
pub(in crate::rpc) struct View {
    /// It has records, and no credit to send them.
    pub(in crate::rpc) has_no_credit: bool,
    /// By partition: what was sent, and when.
    pub(in crate::rpc) sent: BTreeMap<Lane, Sent>,
    /// Partitions that cannot be read, and why.
    pub(in crate::rpc) stalled: BTreeMap<Lane, Stall>,
    /// Partitions of which the member wants no records.
    pub(in crate::rpc) held_back: BTreeSet<Lane>,
    /// Records that were gone before they were sent, and were passed over; counted since the stream began.
    pub(in crate::rpc) passed_over: BTreeMap<Lane, u64>,
}

/// Why a partition cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rpc) struct Stall {
    /// The reason of the refusal.
    pub(in crate::rpc) reason: &'static str,
    /// In words.
    pub(in crate::rpc) text: String,
    /// Where reading can go on, if that is known.
    pub(in crate::rpc) goes_on: Option<String>,
}

impl From<&Facts> for Stall {
    fn from(facts: &Facts) -> Self {
        let fact = |key| facts.metadata.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone());
        Self { reason: facts.reason(), text: facts.message.clone(), goes_on: fact(key::TO).or_else(|| fact(key::HEAD)) }
    }
}

/// A stream's place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    seats: Seats,
    who: Who,
    seat: Arc<Seat>,
    _here: Attendance,
}

impl Seats {
    /// Takes the place of a process. A stream that has it ends.
    pub(super) fn take(&self, who: Who, here: Attendance) -> Taken {
        let seat = Arc::new(Seat::default());
        let mut taken = lock(&self.taken);
        if let Some(older) = taken.insert(who.clone(), seat.clone()) {
            older.replaced.cancel();
        }
        drop(taken);
        Taken { seats: self.clone(), who, seat, _here: here }
    }

    /// What the stream of a process waits for; none when there is none.
    pub(in crate::rpc) fn view(&self, who: &Who) -> Option<View> {
        let seat = lock(&self.taken).get(who).cloned()?;
        let view = lock(&seat.view).clone();
        Some(view)
    }
}

impl Taken {
    /// Ends when another stream has taken the place.
    pub(super) async fn replaced(&self) {
        self.seat.replaced.cancelled().await;
    }

    /// What is shown of it.
    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.seat.view)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = lock(&self.seats.taken);
        if taken.get(&self.who).is_some_and(|seat| Arc::ptr_eq(seat, &self.seat)) {
            taken.remove(&self.who);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
