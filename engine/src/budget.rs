//! Back-pressure is a value that you must hold: a [`Permit`] is taken before the queue and dropped after the answer.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

/// Bytes and appends that may be between admission and answer.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes_max: u64,
    appends_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: u64,
    appends: usize,
    next_turn: u64,
    /// Those who wait, in order of arrival. A turn that is given up is removed by its future's drop.
    waiting: VecDeque<(u64, Option<Waker>)>,
    /// What they wait with: it is in memory as well.
    waiting_bytes: u64,
}

/// The right to have so many bytes on their way. Given back on drop.
#[derive(Debug)]
pub struct Permit {
    bytes: u64,
    shared: Arc<Shared>,
}

/// Resolves to a permit, in order of arrival; to none when as much waits already as may.
#[derive(Debug)]
pub struct Acquire {
    bytes: u64,
    turn: Option<u64>,
    shared: Arc<Shared>,
}

impl Budget {
    /// Room for `bytes_max` and `appends_max`. One append larger than all of it still passes when it is alone.
    pub fn new(bytes_max: u64, appends_max: usize) -> Self {
        Self { shared: Arc::new(Shared { bytes_max, appends_max, state: Mutex::default() }) }
    }

    /// A permit at once, or none. Never overtakes those who wait.
    pub fn try_acquire(&self, bytes: u64) -> Option<Permit> {
        let mut state = self.shared.state.lock();
        if !state.waiting.is_empty() || !self.shared.fits(&state, bytes) {
            return None;
        }
        Some(self.shared.take(&mut state, bytes))
    }

    /// Waits for room. As many bytes may wait as may be on their way; one append always may.
    pub fn acquire(&self, bytes: u64) -> Acquire {
        Acquire { bytes, turn: None, shared: self.shared.clone() }
    }

    /// The limit, in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.shared.bytes_max
    }

    /// Bytes that wait for room.
    pub fn waiting_bytes(&self) -> u64 {
        self.shared.state.lock().waiting_bytes
    }

    /// Bytes on their way.
    pub fn bytes(&self) -> u64 {
        self.shared.state.lock().bytes
    }
}

impl Shared {
    fn fits(&self, state: &State, bytes: u64) -> bool {
        state.appends == 0 || (state.appends < self.appends_max && state.bytes + bytes <= self.bytes_max)
    }

    fn take(self: &Arc<Self>, state: &mut State, bytes: u64) -> Permit {
        state.bytes += bytes;
        state.appends += 1;
        Permit { bytes, shared: self.clone() }
    }

    fn wake_first(state: &mut State) -> Option<Waker> {
        state.waiting.front_mut().and_then(|(_, waker)| waker.take())
    }
}

impl Future for Acquire {
    type Output = Option<Permit>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Permit>> {
        let shared = self.shared.clone();
        let mut state = shared.state.lock();
        let is_first = match self.turn {
            None => state.waiting.is_empty(),
            Some(turn) => state.waiting.front().is_some_and(|(first, _)| *first == turn),
        };
        if is_first && shared.fits(&state, self.bytes) {
            if self.turn.take().is_some() {
                state.waiting.pop_front();
                state.waiting_bytes -= self.bytes;
            }
            let permit = shared.take(&mut state, self.bytes);
            let next = Shared::wake_first(&mut state);
            drop(state);
            if let Some(next) = next {
                next.wake();
            }
            return Poll::Ready(Some(permit));
        }
        let turn = match self.turn {
            Some(turn) => turn,
            None if !state.waiting.is_empty() && state.waiting_bytes + self.bytes > shared.bytes_max => {
                return Poll::Ready(None);
            }
            None => {
                let turn = state.next_turn;
                state.next_turn += 1;
                state.waiting.push_back((turn, None));
                state.waiting_bytes += self.bytes;
                self.turn = Some(turn);
                turn
            }
        };
        if let Some((_, waker)) = state.waiting.iter_mut().find(|(other, _)| *other == turn) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(turn) = self.turn else { return };
        let mut state = self.shared.state.lock();
        state.waiting.retain(|(other, _)| *other != turn);
        state.waiting_bytes -= self.bytes;
        let next = Shared::wake_first(&mut state);
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.bytes -= self.bytes;
        state.appends -= 1;
        let next = Shared::wake_first(&mut state);
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(acquire: &mut Acquire) -> Poll<Option<Permit>> {
        Pin::new(acquire).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn those_who_wait_are_served_in_order() {
        let budget = Budget::new(10, 100);
        let held = budget.try_acquire(8).expect("empty budget");
        let (mut first, mut second) = (budget.acquire(9), budget.acquire(1));
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending(), "a small one does not overtake");
        assert!(budget.try_acquire(1).is_none());
        drop(held);
        assert!(poll(&mut second).is_pending());
        let got = poll(&mut first);
        assert!(got.is_ready());
        assert!(poll(&mut second).is_ready());
    }

    #[test]
    fn a_waiter_that_gives_up_lets_the_next_one_pass() {
        let budget = Budget::new(10, 100);
        let held = budget.try_acquire(8).expect("empty budget");
        let (mut first, mut second) = (budget.acquire(8), budget.acquire(2));
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending());
        drop(first);
        assert!(poll(&mut second).is_ready());
        drop(held);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn what_waits_is_bounded_and_one_always_may() {
        let budget = Budget::new(10, 100);
        let held = budget.try_acquire(8).expect("empty budget");
        let (mut first, mut second, mut third) = (budget.acquire(50), budget.acquire(1), budget.acquire(1));
        assert!(poll(&mut first).is_pending(), "one may wait whatever its size");
        assert!(matches!(poll(&mut second), Poll::Ready(None)), "no more may");
        drop(first);
        assert_eq!(budget.waiting_bytes(), 0);
        let mut fourth = budget.acquire(9);
        assert!(poll(&mut fourth).is_pending() && poll(&mut third).is_pending());
        assert_eq!(budget.waiting_bytes(), 10);
        drop(held);
        assert!(matches!(poll(&mut fourth), Poll::Ready(Some(_))));
        assert!(matches!(poll(&mut third), Poll::Ready(Some(_))));
        assert_eq!(budget.waiting_bytes(), 0);
    }

    #[test]
    fn one_too_large_passes_when_alone() {
        let budget = Budget::new(10, 100);
        assert!(budget.try_acquire(50).is_some());
    }
}
