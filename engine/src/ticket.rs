//! Waiting without a runtime: a [`Ticket`] is a future that any executor can poll, and a blocking wait as well.
//!
//! Whoever wants an answer puts the answering half, a [`Reply`], into its message.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::{Condvar, Mutex};

use crate::error::Refusal;

struct Cell<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    answer: Option<Result<T, Refusal>>,
    waker: Option<Waker>,
    answered: bool,
}

/// An answer that will come. Dropping it does not undo what was asked.
pub struct Ticket<T> {
    cell: Arc<Cell<T>>,
}

/// The other half: given away with the message, used once. Dropped unused, it answers [`Refusal::Stopping`].
pub struct Reply<T> {
    cell: Arc<Cell<T>>,
}

/// A ticket and the reply that resolves it.
pub fn ticket<T>() -> (Reply<T>, Ticket<T>) {
    let state = State { answer: None, waker: None, answered: false };
    let cell = Arc::new(Cell { state: Mutex::new(state), ready: Condvar::new() });
    (Reply { cell: cell.clone() }, Ticket { cell })
}

impl<T> Ticket<T> {
    /// A ticket that is answered already.
    pub fn resolved(answer: Result<T, Refusal>) -> Self {
        let (reply, ticket) = ticket();
        reply.send(answer);
        ticket
    }

    /// Takes the answer when it is there.
    pub fn try_take(&self) -> Option<Result<T, Refusal>> {
        self.cell.state.lock().answer.take()
    }

    /// Blocks this thread until the answer is there. Not for threads that drive stages.
    ///
    /// # Panics
    ///
    /// When the answer was taken before.
    pub fn wait(self) -> Result<T, Refusal> {
        let mut state = self.cell.state.lock();
        loop {
            if let Some(answer) = state.answer.take() {
                return answer;
            }
            assert!(!state.answered, "a ticket is answered once");
            self.cell.ready.wait(&mut state);
        }
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T, Refusal>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.cell.state.lock();
        if let Some(answer) = state.answer.take() {
            return Poll::Ready(answer);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl<T> Reply<T> {
    /// Resolves the ticket.
    pub fn send(self, answer: Result<T, Refusal>) {
        self.resolve(answer);
    }

    fn resolve(&self, answer: Result<T, Refusal>) {
        let mut state = self.cell.state.lock();
        if state.answered {
            return;
        }
        state.answered = true;
        state.answer = Some(answer);
        let waker = state.waker.take();
        drop(state);
        self.cell.ready.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.resolve(Err(Refusal::Stopping));
    }
}

impl<T> std::fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticket")
    }
}

impl<T> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_wakes_a_blocked_waiter() {
        let (reply, waiting) = ticket::<u32>();
        let waiter = std::thread::scope(|scope| {
            let handle = scope.spawn(move || waiting.wait());
            reply.send(Ok(7));
            handle.join().expect("the waiter does not panic")
        });
        assert_eq!(waiter, Ok(7));
    }

    #[test]
    fn a_dropped_reply_is_an_answer_too() {
        let (reply, waiting) = ticket::<u32>();
        drop(reply);
        assert_eq!(waiting.wait(), Err(Refusal::Stopping));
    }
}
