//! The answer that travels with a frame: decided in `sequence`, given when the frame is published.

use std::fmt;

use crate::{budget::Permit, error::Refusal, id::Lsn, poison::Poisoned, ticket::Reply};

/// What will be said, and to whom.
pub struct Answer(Option<Box<dyn Say>>);

trait Say: Send {
    /// Says what was decided.
    fn say(self: Box<Self>);

    /// Says no instead.
    fn refuse(self: Box<Self>, refusal: Refusal);
}

impl<T: Send> Say for (Reply<T>, Result<T, Refusal>) {
    fn say(self: Box<Self>) {
        let (reply, answer) = *self;
        reply.send(answer);
    }

    fn refuse(self: Box<Self>, refusal: Refusal) {
        self.0.send(Err(refusal));
    }
}

impl Answer {
    /// To whoever asked.
    pub fn to<T: Send + 'static>(reply: Reply<T>, answer: Result<T, Refusal>) -> Self {
        Self(Some(Box::new((reply, answer))))
    }

    /// Nobody asked: the engine's own frame.
    pub fn nobody() -> Self {
        Self(None)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Answer" } else { "Answer to nobody" })
    }
}

/// An answer on its way, with the room that it holds.
#[derive(Debug)]
pub struct Pending {
    /// The answer.
    pub answer: Answer,
    /// Given back when the answer was given.
    pub permit: Option<Permit>,
    /// The frame that it rests on.
    pub rests_on: Lsn,
}

impl Pending {
    /// Says what was decided.
    pub fn give(self) {
        // Room is given back before the answer: whoever is woken by the answer may ask for it.
        drop(self.permit);
        if let Some(answer) = self.answer.0 {
            answer.say();
        }
    }

    /// A write or a sync failed under it: nobody knows until a restart. Never a refusal, or the client would send it
    /// again under a new stamp and the restart would find both.
    pub fn give_unknown(self, poisoned: &Poisoned) {
        self.give_instead(Refusal::OutcomeUnknown(poisoned.clone()));
    }

    /// Says something else than what was decided.
    pub fn give_instead(self, refusal: Refusal) {
        drop(self.permit);
        if let Some(answer) = self.answer.0 {
            answer.refuse(refusal);
        }
    }
}
