//! Who is there: which processes of which members have a stream open right now.
//!
//! Nothing of it is durable and nothing decides by it but timers: a member that is away for longer than its session
//! loses its partitions by a frame like any other (`sequence`). After a restart nobody is there yet, and all timers
//! begin anew.

use std::{collections::BTreeMap, sync::Arc};

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
    /// Somebody came or went since it was asked.
    has_changed: bool,
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
        state.has_changed = true;
        drop(state);
        self.bell.ring();
        Attendance { presence: self.clone(), who }
    }

    /// Whether a process has a stream open.
    pub fn is_here(&self, who: &Who) -> bool {
        self.state.lock().here.contains_key(who)
    }

    /// Whether somebody came or went since this was asked last.
    pub(crate) fn take_changed(&self) -> bool {
        std::mem::take(&mut self.state.lock().has_changed)
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
        state.has_changed = true;
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
        assert!(!presence.take_changed());
        let (old, new) = (presence.attend(who.clone()), presence.attend(who.clone()));
        assert!(presence.take_changed() && !presence.take_changed());
        drop(old);
        assert!(presence.is_here(&who));
        drop(new);
        assert!(!presence.is_here(&who) && presence.take_changed());
    }
}
