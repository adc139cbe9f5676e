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

use crate::{error::Refusal, poison::Poisoned};

struct Cell<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    answer: Option<Result<T, Refusal>>,
    waker: Option<Waker>,
    phase: Phase,
}

/// How far a question has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It waits: nothing was done for it.
    Asked,
    /// Nobody wants it done any more.
    Withdrawn,
    /// It is being done.
    TakenUp,
    /// The answer was given.
    Answered,
}

/// An answer that will come. Dropped before the log takes the question up, it withdraws it: nothing is written. Dropped
/// later, it changes nothing.
pub struct Ticket<T> {
    cell: Arc<Cell<T>>,
}

/// The other half: given away with the message, used once. Dropped unused, it answers [`Refusal::Stopping`], or
/// [`Refusal::OutcomeUnknown`] when the question was taken up.
pub struct Reply<T> {
    cell: Arc<Cell<T>>,
}

/// A ticket and the reply that resolves it.
pub fn ticket<T>() -> (Reply<T>, Ticket<T>) {
    let state = State { answer: None, waker: None, phase: Phase::Asked };
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

    /// Takes the question back: true when nothing was done for it, and nothing will be; false when it is too late, and
    /// an answer comes.
    pub fn withdraw(&self) -> bool {
        let mut state = self.cell.state.lock();
        if state.phase == Phase::Asked {
            state.phase = Phase::Withdrawn;
        }
        state.phase == Phase::Withdrawn
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
            assert!(state.phase != Phase::Answered, "a ticket is answered once");
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

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl<T> Reply<T> {
    /// From here on what was asked is done; false when it was withdrawn.
    pub fn take_up(&self) -> bool {
        let mut state = self.cell.state.lock();
        if state.phase == Phase::Asked {
            state.phase = Phase::TakenUp;
        }
        state.phase == Phase::TakenUp
    }

    /// Whether nobody wants it done any more.
    pub fn is_withdrawn(&self) -> bool {
        self.cell.state.lock().phase == Phase::Withdrawn
    }

    /// Resolves the ticket.
    pub fn send(self, answer: Result<T, Refusal>) {
        self.resolve(|_| answer);
    }

    fn resolve(&self, answer: impl FnOnce(Phase) -> Result<T, Refusal>) {
        let mut state = self.cell.state.lock();
        if state.phase == Phase::Answered {
            return;
        }
        state.answer = Some(answer(state.phase));
        state.phase = Phase::Answered;
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
        self.resolve(|phase| Err(if phase == Phase::TakenUp { closed() } else { Refusal::Stopping }));
    }
}

/// The log was closed between the taking up and the answer.
fn closed() -> Refusal {
    let cause = "it was closed before the answer".into();
    Refusal::OutcomeUnknown(Poisoned { action: "writing", file: "the log".into(), cause })
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
        let (reply, waiting) = ticket::<u32>();
        assert!(reply.take_up());
        drop(reply);
        assert!(matches!(waiting.wait(), Err(Refusal::OutcomeUnknown(_))));
    }

    #[test]
    fn a_question_is_withdrawn_until_it_is_taken_up() {
        let (reply, waiting) = ticket::<u32>();
        assert!(waiting.withdraw() && reply.is_withdrawn() && !reply.take_up());
        let (reply, waiting) = ticket::<u32>();
        drop(waiting);
        assert!(!reply.take_up(), "nobody waits for it");
        let (reply, waiting) = ticket::<u32>();
        assert!(reply.take_up() && !waiting.withdraw());
        reply.send(Ok(7));
        assert_eq!(waiting.wait(), Ok(7));
    }
}
