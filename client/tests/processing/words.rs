//! Services for tests, in which every slip shows: what they say counts what they heard.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize, Serializer};
use tillroll_client::processor::{Fact, Failed, Malformed, Output, Service, Timer, Told, Trigger};
use tokio::sync::Semaphore;

/// What is said on the topics of the tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// On `words`: somebody said it.
    Said,
    /// On `counts`: how often it was said by now, and how many words were before it in all.
    Counted { count: u64, total: u64, padding: usize },
}

impl Fact for Word {
    fn kind(&self) -> &'static str {
        match self {
            Self::Said => "Said.v1",
            Self::Counted { .. } => "Counted.v1",
        }
    }

    fn topic(&self) -> &'static str {
        match self {
            Self::Said => "words",
            Self::Counted { .. } => "counts",
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Said => b"{}".to_vec(),
            Self::Counted { count, total, padding } => {
                format!("[{count},{total}]{}", " ".repeat(*padding)).into_bytes()
            }
        }
    }

    fn decode(kind: &str, payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let wrong = |wrong: serde_json::Error| Malformed { kind: kind.into(), wrong: wrong.to_string() };
        match kind {
            "Said.v1" => {
                serde_json::from_slice::<serde_json::Value>(payload).map_err(wrong)?;
                Ok(Some(Self::Said))
            }
            "Counted.v1" => {
                let (count, total) = serde_json::from_slice(payload).map_err(wrong)?;
                Ok(Some(Self::Counted { count, total, padding: 0 }))
            }
            _ => Ok(None),
        }
    }
}

/// What the counter knows: how often each word was heard, and how often it was counted.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) heard: HashMap<String, u64>,
    pub(crate) counted: HashMap<String, u64>,
    pub(crate) total: u64,
    #[serde(skip_deserializing, serialize_with = "unless_poisoned")]
    poisoned: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "it is called with a reference")]
fn unless_poisoned<S: Serializer>(poisoned: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    assert!(!poisoned, "planted in serialize");
    serializer.serialize_bool(false)
}

/// Counts words. What is said of a word is 1, 2, 3 and so on, or something was lost, doubled or forgotten.
#[derive(Clone, Default)]
pub(crate) struct Counter {
    /// Calls wait for a permit of this, when there is one.
    pub(crate) gate: Option<Arc<Semaphore>>,
    /// What goes wrong.
    pub(crate) trouble: Arc<Mutex<HashMap<String, Trouble>>>,
    /// Words wait so long for a last count, in microseconds.
    pub(crate) timer_us: Option<i64>,
    /// Each count is larger by so many bytes.
    pub(crate) padding: usize,
    /// Each step counts so many times more.
    pub(crate) echoes: u64,
    /// It does not name the topic that it writes to.
    pub(crate) is_silent: bool,
    /// The most calls at the same time so far, and those now.
    pub(crate) calls: Arc<(AtomicU64, AtomicU64)>,
}

/// A word that nobody says.
pub(crate) const ELSEWHERE: &str = "elsewhere";

/// What goes wrong with a word, so many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Fails(u64),
    PanicsDeciding(u64),
    PanicsObserving(u64),
    PanicsApplying(u64),
    PanicsCalling(u64),
    /// Once in a call, and then whenever it is asked again which calls there are.
    PanicsCallingThenAsking(u64),
    PanicsAsking(u64),
    /// The state cannot be written from then on.
    PanicsSaving(u64),
    /// It says something of a word that belongs to another partition.
    SaysElsewhere(u64),
}

impl Counter {
    pub(crate) fn troubled(word: &str, trouble: Trouble) -> Self {
        let counter = Self::default();
        counter.trouble.lock().insert(word.to_owned(), trouble);
        counter
    }

    /// Whether it goes wrong now, which it then does once less.
    fn goes_wrong(&self, word: &str, place: fn(u64) -> Trouble) -> bool {
        let mut trouble = self.trouble.lock();
        let Some(known) = trouble.get_mut(word) else { return false };
        let left = match *known {
            Trouble::Fails(left)
            | Trouble::PanicsDeciding(left)
            | Trouble::PanicsObserving(left)
            | Trouble::PanicsApplying(left)
            | Trouble::PanicsCalling(left)
            | Trouble::PanicsCallingThenAsking(left)
            | Trouble::PanicsAsking(left)
            | Trouble::PanicsSaving(left)
            | Trouble::SaysElsewhere(left) => left,
        };
        let now = *known == place(left) && left > 0;
        if now {
            *known = place(left - 1);
        }
        now
    }
}

impl Service for Counter {
    type Fact = Word;
    type State = Counts;
    type Call = String;
    type Answer = ();

    fn name(&self) -> &'static str {
        "counter"
    }

    fn writes(&self) -> &[&'static str] {
        if self.is_silent { &["others"] } else { &["counts"] }
    }

    fn wants(&self, topic: &str, kind: &str) -> bool {
        (topic, kind) == ("words", "Said.v1")
    }

    fn observe(&self, state: &mut Counts, input: &Told<Word>) {
        *state.heard.entry(input.key.clone()).or_default() += 1;
        state.poisoned |= self.goes_wrong(&input.key, Trouble::PanicsSaving);
        assert!(!self.goes_wrong(&input.key, Trouble::PanicsObserving), "planted in observe");
    }

    fn calls(&self, _: &Counts, input: &Told<Word>) -> Vec<String> {
        assert!(!self.goes_wrong(&input.key, Trouble::PanicsAsking), "planted in calls");
        let has_call = self.gate.is_some() || self.trouble.lock().contains_key(&input.key);
        has_call.then(|| input.key.clone()).into_iter().collect()
    }

    async fn perform(&self, word: String) {
        assert!(!self.goes_wrong(&word, Trouble::PanicsCalling), "planted in perform");
        if self.goes_wrong(&word, Trouble::PanicsCallingThenAsking) {
            if let Some(trouble) = self.trouble.lock().get_mut(&word)
                && let Trouble::PanicsCallingThenAsking(left) = *trouble
            {
                *trouble = Trouble::PanicsAsking(left);
            }
            panic!("planted in perform");
        }
        if let Some(gate) = &self.gate {
            let (most, now) = &*self.calls;
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            gate.acquire().await.expect("open").forget();
            now.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn decide(&self, state: &Counts, trigger: &Trigger<'_, Word>, _: &[()]) -> Result<Vec<Output<Word>>, Failed> {
        let key = trigger.key();
        assert!(!self.goes_wrong(key, Trouble::PanicsDeciding), "planted in decide");
        if self.goes_wrong(key, Trouble::Fails) {
            return Err(Failed { wrong: "planted".into() });
        }
        if let Trigger::Timer { name, .. } = trigger {
            assert_eq!(*name, "last");
        }
        let key = if self.goes_wrong(key, Trouble::SaysElsewhere) { ELSEWHERE } else { key };
        let count = state.counted.get(key).copied().unwrap_or(0) + 1;
        let counted = |echo| Output {
            key: key.to_owned(),
            fact: Word::Counted { count: count + echo, total: state.total + 1 + echo, padding: self.padding },
        };
        Ok((0..=self.echoes).map(counted).collect())
    }

    fn apply(&self, state: &mut Counts, output: &Told<Word>) {
        let Word::Counted { count, total, .. } = output.fact else { panic!("it says nothing else") };
        let known = state.counted.entry(output.key.clone()).or_default();
        assert_eq!((count, total), (*known + 1, state.total + 1), "outputs are applied in their order, each once");
        (*known, state.total) = (count, total);
        assert!(!self.goes_wrong(&output.key, Trouble::PanicsApplying), "planted in apply");
    }

    fn timer(&self, state: &Counts, key: &str) -> Option<Timer> {
        let due_us = self.timer_us?;
        // One more count than it was heard is the timer's.
        let heard = state.heard.get(key).copied().unwrap_or(0);
        let is_open = state.counted.get(key).copied().unwrap_or(0) <= heard;
        is_open.then(|| Timer { name: "last", due_us, since: format!("first-{key}") })
    }

    fn timers(&self, state: &Counts) -> Vec<(String, Timer)> {
        state.heard.keys().filter_map(|key| Some((key.clone(), self.timer(state, key)?))).collect()
    }
}
