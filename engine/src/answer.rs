//! The answer that travels with a frame: decided in `sequence`, given when the frame is published.

use crate::{
    budget::Permit,
    error::Refusal,
    id::Lsn,
    poison::Poisoned,
    request::{Appended, ProducerOpened, TopicCreated},
    ticket::Reply,
};

/// What will be said, and to whom.
#[derive(Debug)]
pub enum Answer {
    /// To an append.
    Append(Reply<Appended>, Result<Appended, Refusal>),
    /// To a producer's registration.
    Producer(Reply<ProducerOpened>, Result<ProducerOpened, Refusal>),
    /// To a topic's creation.
    Topic(Reply<TopicCreated>, Result<TopicCreated, Refusal>),
    /// To a deletion.
    Deleted(Reply<()>, Result<(), Refusal>),
    /// Nobody asked: the engine's own frame.
    Nobody,
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
        match self.answer {
            Answer::Append(reply, answer) => reply.send(answer),
            Answer::Producer(reply, answer) => reply.send(answer),
            Answer::Topic(reply, answer) => reply.send(answer),
            Answer::Deleted(reply, answer) => reply.send(answer),
            Answer::Nobody => {}
        }
    }

    /// A write or a sync failed under it: nobody knows until a restart. Never a refusal, or the client would send it
    /// again under a new stamp and the restart would find both.
    pub fn give_unknown(self, poisoned: &Poisoned) {
        self.give_instead(Refusal::OutcomeUnknown(poisoned.clone()));
    }

    /// Says something else than what was decided.
    pub fn give_instead(self, refusal: Refusal) {
        let answer = match self.answer {
            Answer::Append(reply, _) => Answer::Append(reply, Err(refusal)),
            Answer::Producer(reply, _) => Answer::Producer(reply, Err(refusal)),
            Answer::Topic(reply, _) => Answer::Topic(reply, Err(refusal)),
            Answer::Deleted(reply, _) => Answer::Deleted(reply, Err(refusal)),
            Answer::Nobody => Answer::Nobody,
        };
        Self { answer, ..self }.give();
    }
}
