//! Who is there: which processes of which members have a stream open right now.
//!
//! Nothing of it is durable and nothing decides by it but timers: a member that is away for longer than its session
//! loses its partitions by a frame like any other (`sequence`). After a restart nobody is there yet, and all timers
//! begin anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{id::GroupId, stage::Bell};

/// A process of a member of a group.
pub type Who = (GroupId, String, String);

/// Who is there.
#[derive(Debug, Default)]
pub struct Presence {
    state: Mutex<State>,
    /// Wakes whoever runs the timers.
    bell: Bell,
}

#[derive(Debug, Default)]
struct State {
    /// How many streams each has open.
    here: BTreeMap<Who, u32>,
    /// Groups in which a stream was opened or closed since it was asked.
    changed: BTreeSet<GroupId>,
}

impl Presence {
    /// Nobody yet. `bell` rings when somebody comes or goes.
    pub fn new(bell: Bell) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), bell })
    }

    /// Somebody is there until the answer is dropped.
    pub fn attend(self: &Arc<Self>, who: Who) -> Attendance {
        let mut state = self.state.lock();
        *state.here.entry(who.clone()).or_default() += 1;
        state.changed.insert(who.0);
        drop(state);
        self.bell.ring();
        Attendance { presence: self.clone(), who }
    }

    /// Whether a process has a stream open.
    pub fn is_here(&self, who: &Who) -> bool {
        self.state.lock().here.contains_key(who)
    }

    /// Groups in which a stream was opened or closed since this was asked last.
    pub(crate) fn take_changed(&self) -> BTreeSet<GroupId> {
        std::mem::take(&mut self.state.lock().changed)
    }
}

/// A member's stream is open. Dropped when it is not any more.
#[derive(Debug)]
pub struct Attendance {
    presence: Arc<Presence>,
    who: Who,
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let mut state = self.presence.state.lock();
        if let Some(count) = state.here.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                state.here.remove(&self.who);
            }
        }
        state.changed.insert(self.who.0);
        drop(state);
        self.presence.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_there_until_its_last_stream_is_gone() {
        let presence = Presence::new(Bell::default());
        let who = (GroupId(1), "payment-0".to_owned(), "a".to_owned());
        assert!(presence.take_changed().is_empty());
        let (old, new) = (presence.attend(who.clone()), presence.attend(who.clone()));
        assert!(presence.take_changed().len() == 1 && presence.take_changed().is_empty());
        drop(old);
        assert!(presence.is_here(&who));
        drop(new);
        assert!(!presence.is_here(&who) && presence.take_changed().contains(&GroupId(1)));
    }
}
