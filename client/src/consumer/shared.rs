//! What a consumer's handle and its task share: the desk behind a lock, and how each wakes the other.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    ConsumerEvent, DeliveredBatch, HeldPartition,
    commit::{CommitTicket, Place},
    desk::{Desk, Phase, Queued},
};
use crate::Error;

/// The desk between a consumer's handle and its task.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something for the task to look at.
    pub(super) work: Notify,
}

#[derive(Debug)]
struct State {
    desk: Desk,
    /// The program, when it waits.
    program: Option<Waker>,
}

/// What the handle finds.
pub(super) enum Took {
    /// Something.
    Event(ConsumerEvent),
    /// It is woken when there is something.
    Nothing,
    /// It has ended, which is told once with its error.
    Ended(Option<Error>),
}

impl Shared {
    pub(super) fn new(credit_bytes: u64, auto_release: bool) -> Self {
        let state = State { desk: Desk::new(credit_bytes, auto_release), program: None };
        Self { state: Mutex::new(state), work: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the desk from the program's side: the task may have something to do.
    fn told<T>(&self, change: impl FnOnce(&mut Desk) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state.desk);
        let has_work = state.desk.has_work();
        drop(state);
        if has_work {
            self.work.notify_one();
        }
        result
    }

    /// Changes the desk from the task's side: the program may have something to take.
    pub(super) fn heard<T>(&self, change: impl FnOnce(&mut Desk) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state.desk);
        let program = if state.desk.has_news() { state.program.take() } else { None };
        drop(state);
        if let Some(program) = program {
            program.wake();
        }
        result
    }

    pub(super) fn take(self: &Arc<Self>, context: &mut Context<'_>, whole: bool) -> Took {
        let mut state = self.lock();
        let full = state.desk.is_full();
        let took = if let Some(event) = state.desk.take_news() {
            Took::Event(event)
        } else {
            match state.desk.take(whole) {
                Some(Queued::Batch { batch, assignment_epoch, bytes }) => {
                    Took::Event(ConsumerEvent::Batch(DeliveredBatch::new(batch, assignment_epoch, bytes, self)))
                }
                Some(Queued::Event(event)) => Took::Event(event),
                None if state.desk.phase() == Phase::Ended => Took::Ended(state.desk.take_end()),
                None => {
                    state.program = Some(context.waker().clone());
                    Took::Nothing
                }
            }
        };
        drop(state);
        if full {
            self.work.notify_one();
        }
        took
    }

    pub(super) fn commit(&self, place: &Place) -> CommitTicket {
        self.told(|desk| desk.commit(place))
    }

    pub(super) fn release(&self, partition: &HeldPartition) {
        self.told(|desk| desk.release(partition));
    }

    pub(super) fn hold(&self, partition: &HeldPartition, held: bool) {
        self.told(|desk| desk.hold(partition, held));
    }

    /// Whether records up to this place may still be handed out, which they then are.
    pub(super) fn hand_out(&self, place: &Place) -> bool {
        self.lock().desk.hand_out(place)
    }

    pub(super) fn done_with(&self, bytes: u64) {
        self.told(|desk| desk.done_with(bytes));
    }

    pub(super) fn held(&self) -> Vec<HeldPartition> {
        self.lock().desk.held()
    }

    pub(super) fn session(&self) -> Duration {
        self.lock().desk.session()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().desk.phase() != Phase::Open
    }

    pub(super) fn close(&self, phase: Phase) {
        self.told(|desk| desk.close(phase));
    }

    /// Ends the consumer, from either side.
    pub(super) fn end(&self, error: Option<Error>) {
        self.heard(|desk| desk.end(error));
        self.work.notify_one();
    }
}
