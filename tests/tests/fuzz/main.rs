//! Goal: no bytes, whatever they are, make the broker panic, hang or refuse who comes after. Method: random requests of
//! every method go through the real service stack over a real socket ([`requests`]), random changes of every kind of
//! file are opened and read ([`files`]). A seed repeats each input; `tests/corpus` holds those that once found
//! something, or that reach far, and each run begins with them: `requests` as they are sent, `files` as seeds.
//!
//! In every run a few seconds of each; an hour of each, or as long as is asked:
//!
//!     TILLROLL_FUZZ_SECONDS=3600 cargo test --release -p tillroll-tests --test fuzz -- --nocapture

mod files;
mod message;
mod requests;

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Inputs of each target when no time is asked for.
const INPUTS: u64 = 1_500;

thread_local! {
    static KEEPS_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// What panics on this thread from here on is found by the target that works on it, and is nobody else's.
fn keep_panics() {
    KEEPS_PANICS.set(true);
}

/// Which inputs a target is given.
struct Inputs {
    next: u64,
    until: Option<Instant>,
}

impl Inputs {
    /// As the environment says: from `TILLROLL_SEED` on, for so many seconds.
    fn of_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let until = number("TILLROLL_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
        Self { next: number("TILLROLL_SEED").unwrap_or(1), until }
    }
}

impl Iterator for Inputs {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let goes_on = match self.until {
            Some(until) => Instant::now() < until,
            None => self.next % 1_000_000 <= INPUTS,
        };
        let seed = self.next;
        self.next += 1;
        goes_on.then_some(seed)
    }
}
