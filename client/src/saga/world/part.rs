//! A service of the world with its states, whatever its types are.

use std::{
    fmt::Debug,
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::Entry;
use crate::processor::{Fact, Service, Timer, Told, Trigger, identify};

/// Something that a step said, ready to be appended.
#[derive(Debug)]
pub(super) struct Spoken {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) topic: &'static str,
    pub(super) payload: Vec<u8>,
}

/// A service of any type. What goes wrong is said in words.
pub(super) trait Part {
    fn name(&self) -> &str;

    /// Makes the step of an input; nothing happens when it is not wanted. `id` names the step's k-th output.
    fn hear(&mut self, slot: usize, entry: &Entry, id: &mut dyn FnMut(usize) -> String) -> Result<Vec<Spoken>, String>;

    /// Makes the step of a timer.
    fn fire(
        &mut self,
        slot: usize,
        key: &str,
        name: &str,
        id: &mut dyn FnMut(usize) -> String,
    ) -> Result<Vec<Spoken>, String>;

    /// The timer of a key, and which state it is of.
    fn timer(&self, key: &str) -> Option<(usize, Timer)>;

    /// All keys with a timer.
    fn timers(&self) -> Vec<String>;

    /// Whether an event means anything to it.
    #[cfg(test)]
    fn wants(&self, topic: &str, kind: &str) -> bool;

    /// Everything that a state has.
    #[cfg(test)]
    fn state(&self, slot: usize) -> String;

    /// Makes a state again from inputs and own outputs, which come with whether they are own, and takes it on in place
    /// of the one that is there.
    ///
    /// **Errors**: the two differ, or the new one reads otherwise than it was written.
    #[cfg(test)]
    fn rebuild(&mut self, slot: usize, words: &mut dyn Iterator<Item = (&Entry, bool)>) -> Result<(), String>;
}

/// A service, and a state for each of its slots.
pub(super) struct Running<S: Service> {
    service: S,
    states: Vec<S::State>,
}

impl<S: Service> Running<S> {
    pub(super) fn new(service: S, slots: usize) -> Self {
        Self { service, states: (0..slots).map(|_| S::State::default()).collect() }
    }

    fn told(entry: &Entry) -> Result<Option<Told<S::Fact>>, String> {
        let fact = S::Fact::decode(entry.kind, &entry.payload).map_err(|malformed| malformed.to_string())?;
        let (key, id, append_time_us) = (entry.key.clone(), entry.id.clone(), entry.append_time_us);
        Ok(fact.map(|fact| Told { key, id, append_time_us, fact }))
    }

    fn step(
        &mut self,
        slot: usize,
        trigger: &Trigger<'_, S::Fact>,
        answers: &[S::Answer],
        id: &mut dyn FnMut(usize) -> String,
    ) -> Result<Vec<Spoken>, String> {
        let state = &mut self.states[slot];
        let outputs = self.service.decide(state, trigger, answers).map_err(|failed| failed.to_string())?;
        let mut ids = 0..outputs.len();
        let outputs = identify(outputs, || ids.next().map(&mut *id).unwrap_or_default());
        let mut spoken = Vec::with_capacity(outputs.len());
        for output in outputs {
            self.service.apply(state, &output);
            let (kind, topic, payload) = (output.fact.kind(), output.fact.topic(), output.fact.encode());
            spoken.push(Spoken { key: output.key, id: output.id, kind, topic, payload });
        }
        Ok(spoken)
    }
}

impl<S: Service<State: Debug + PartialEq>> Part for Running<S> {
    fn name(&self) -> &str {
        self.service.name()
    }

    fn hear(&mut self, slot: usize, entry: &Entry, id: &mut dyn FnMut(usize) -> String) -> Result<Vec<Spoken>, String> {
        if !self.service.wants(&entry.place.topic, entry.kind) {
            return Ok(Vec::new());
        }
        let Some(told) = Self::told(entry)? else { return Ok(Vec::new()) };
        self.service.observe(&mut self.states[slot], &told);
        let mut answers = Vec::new();
        for call in self.service.calls(&self.states[slot], &told) {
            answers.push(at_once(self.service.perform(call)).ok_or("the gateway of a world does not wait")?);
        }
        self.step(slot, &Trigger::Input(&told), &answers, id)
    }

    fn fire(
        &mut self,
        slot: usize,
        key: &str,
        name: &str,
        id: &mut dyn FnMut(usize) -> String,
    ) -> Result<Vec<Spoken>, String> {
        self.step(slot, &Trigger::Timer { key, name }, &[], id)
    }

    fn timer(&self, key: &str) -> Option<(usize, Timer)> {
        let mut states = self.states.iter().enumerate();
        states.find_map(|(slot, state)| Some((slot, self.service.timer(state, key)?)))
    }

    fn timers(&self) -> Vec<String> {
        let all = self.states.iter().flat_map(|state| self.service.timers(state));
        all.map(|(key, _)| key).collect()
    }

    #[cfg(test)]
    fn wants(&self, topic: &str, kind: &str) -> bool {
        self.service.wants(topic, kind)
    }

    #[cfg(test)]
    fn state(&self, slot: usize) -> String {
        format!("{:?}", self.states[slot])
    }

    #[cfg(test)]
    fn rebuild(&mut self, slot: usize, words: &mut dyn Iterator<Item = (&Entry, bool)>) -> Result<(), String> {
        let mut state = S::State::default();
        for (entry, is_own) in words {
            if !is_own && !self.service.wants(&entry.place.topic, entry.kind) {
                continue;
            }
            let Some(told) = Self::told(entry)? else { continue };
            if is_own {
                self.service.apply(&mut state, &told);
            } else {
                self.service.observe(&mut state, &told);
            }
        }
        let saved = serde_json::to_vec(&state).map_err(|error| error.to_string())?;
        let read: S::State = serde_json::from_slice(&saved).map_err(|error| error.to_string())?;
        if read != state {
            return Err(format!("{} reads {read:?}, written {state:?}", self.name()));
        }
        if read != self.states[slot] {
            return Err(format!("{} is {:?}, made again {read:?}", self.name(), self.states[slot]));
        }
        self.states[slot] = read;
        Ok(())
    }
}

/// The output of a future that waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
