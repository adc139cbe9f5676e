//! What a service is to the processor: facts that it knows, a state that it keeps, and plain functions between them.
//!
//! The state is made of two things alone, and so it can always be made again from the log: what the service
//! **observed** (facts of its inputs) and what it **said** (its own outputs). Inputs of different topics are not
//! ordered against each other, so `observe` must come to the same state in every order that keeps each partition's own;
//! `apply` sees the outputs in the order in which they were decided. How the two are mixed is not kept either: see
//! [`Service`].

use std::{fmt, future::Future, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

/// Something that is written on a topic: the payload of an event, with its type.
pub trait Fact: Sized + Send + Sync + 'static {
    /// Its type, such as `OrderPlaced.v1`.
    fn kind(&self) -> &'static str;

    /// The topic that it is written to.
    fn topic(&self) -> &'static str;

    /// Its payload.
    fn encode(&self) -> Vec<u8>;

    /// Reads a payload of this type; none when the type is not known here.
    ///
    /// **Errors**: the type is known and the payload is not one of it.
    fn decode(kind: &str, payload: &[u8]) -> Result<Option<Self>, Malformed>;

    /// Puts ids in the place of what [`sibling`](super::sibling) called other outputs of the same step. It is called
    /// for every output once all of them have ids, before any is applied or written; see [`identify`](super::identify).
    fn name_siblings(&mut self, _ids: &[String]) {}
}

/// A payload that is not what its type says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The type.
    pub kind: String,
    /// What is wrong with it.
    pub wrong: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "malformed payload kind={}: {}", self.kind, self.wrong)
    }
}

impl std::error::Error for Malformed {}

/// A fact as it stands in the log, or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<F> {
    /// What it is about: the record's key.
    pub key: String,
    /// The event's id.
    pub id: String,
    /// When the broker took it in, in microseconds; 0 for an output that is not appended yet.
    pub append_time_us: i64,
    /// What was said.
    pub fact: F,
}

/// A place in the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
}

/// What a step answers to.
#[derive(Clone, Copy, Debug)]
pub enum Trigger<'a, F> {
    /// An event of an input topic, observed already.
    Input(&'a Told<F>),
    /// A timer of this key that is due.
    Timer {
        /// What it is about.
        key: &'a str,
        /// Which of the key's timers.
        name: &'a str,
    },
}

impl<F> Trigger<'_, F> {
    /// What the step is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Input(told) => &told.key,
            Self::Timer { key, .. } => key,
        }
    }
}

/// Something that a step says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output<F> {
    /// What it is about.
    pub key: String,
    /// What is said.
    pub fact: F,
}

/// When a key has to be looked at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Which of the key's timers; becomes part of the step's name.
    pub name: &'static str,
    /// When, in microseconds since 1970 UTC.
    pub due_us: i64,
    /// The event that it runs from: the cause of what it makes the service say.
    pub since: String,
}

/// A step that could not be made. It is tried again with growing pauses, and then the service stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What went wrong.
    pub wrong: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "step failed: {}", self.wrong)
    }
}

impl std::error::Error for Failed {}

/// A service: for every input, `observe` → `calls` → `perform` → `decide` → `apply` of each output.
///
/// Steps of one key never overlap. Steps of other keys go on while one waits for its calls; what they say is appended
/// in the order of their inputs all the same.
///
/// # What a state may depend on
///
/// While a service runs, `observe` and `apply` alternate. When a state is made again, **all** inputs are observed
/// before **any** output is applied. Both have to come to the same state, or a service decides otherwise after a
/// restart than it would have before. So:
///
/// - `observe` does not look at what `apply` has set, and `apply` does not look at what `observe` has set. The simplest
///   way is to give each its own part of the state; only `calls`, `decide`, `timer` and `timers` look at both.
/// - Neither takes away what the other put there. Example: input 1 asks for a thing, output 1 grants it, input 2 asks
///   again and has to wait for something else. If `apply` clears "asked", the live service still has "asked" from input
///   2, and grants it later; in the one that is made again output 1 has cleared both, and input 2 is never answered.
///   "Asked twice, granted once" comes out the same either way.
/// - `apply` finds everything that it needs in the output itself.
///
/// A test that keeps the inputs and outputs of a run can make the state again, inputs first, and compare.
pub trait Service: Send + Sync + 'static {
    /// What is said on its topics, by itself and by others.
    type Fact: Fact;
    /// What it knows of the partitions that it holds together: of partition i of every topic, or of everything.
    type State: Default + Serialize + DeserializeOwned + Send + 'static;
    /// A call to something outside of the log.
    type Call: Send + 'static;
    /// What came of a call.
    type Answer: Send + 'static;

    /// Its name: the name of its group and the source of its events.
    fn name(&self) -> &str;

    /// The topics that it writes to.
    fn writes(&self) -> &[&'static str];

    /// Whether an input of this type means anything to it; what does not is not even decoded.
    fn wants(&self, topic: &str, kind: &str) -> bool;

    /// Takes in what an input says. Commutes between partitions of different topics, and with every `apply`.
    fn observe(&self, state: &mut Self::State, input: &Told<Self::Fact>);

    /// Calls that have to be answered before the step can be decided, in their order.
    fn calls(&self, _state: &Self::State, _input: &Told<Self::Fact>) -> Vec<Self::Call> {
        Vec::new()
    }

    /// Makes one call. It may be made again after a crash, so it names its business operation; it returns when the
    /// outcome is known, however long that takes. Cancelled by dropping it.
    fn perform(&self, call: Self::Call) -> impl Future<Output = Self::Answer> + Send;

    /// Decides what to say: a plain function of what it knows.
    ///
    /// **Errors**: see [`Failed`]. A panic counts as one.
    fn decide(
        &self,
        state: &Self::State,
        trigger: &Trigger<'_, Self::Fact>,
        answers: &[Self::Answer],
    ) -> Result<Vec<Output<Self::Fact>>, Failed>;

    /// Takes in what the service said itself, in this process or in one before it: in the order in which it was
    /// decided, and perhaps after inputs that came later. Commutes with every `observe`.
    fn apply(&self, state: &mut Self::State, output: &Told<Self::Fact>);

    /// When this key has to be looked at again, as its state stands.
    fn timer(&self, _state: &Self::State, _key: &str) -> Option<Timer> {
        None
    }

    /// All keys with a timer, after the state was made again.
    fn timers(&self, _state: &Self::State) -> Vec<(String, Timer)> {
        Vec::new()
    }
}
