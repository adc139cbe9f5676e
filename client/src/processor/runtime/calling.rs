//! Calls to the world outside of the log: each step's own ones one after the other, those of many steps at the same
//! time.

use std::sync::Arc;

use tokio::{
    task::{Id, JoinError},
    time::Instant,
};

use super::{
    Runtime,
    running::{Phase, Run, Work},
};
use crate::processor::{
    ProcessorError, Service,
    caught::{caught, words},
    fail_point::{FailPoint, reach},
};

impl<S: Service> Runtime<S> {
    /// Makes the calls of a step that was begun under this number.
    pub(super) fn make_calls(&mut self, run: &mut Run<S>, number: u64, calls: Vec<S::Call>) {
        let Phase::Running(running) = &mut run.phase else { return };
        let service = Arc::clone(&self.service);
        self.counters.calls.add(calls.len() as u64);
        let task = self.calls.spawn(async move {
            let mut answers = Vec::with_capacity(calls.len());
            for call in calls {
                reach(FailPoint::BeforeCall);
                answers.push(service.perform(call).await);
                reach(FailPoint::AfterCall);
            }
            answers
        });
        self.call_of.insert(task.id(), (run.key, running.id, number));
        running.calls.insert(number, task);
        self.counters.calls_in_flight.set(self.call_of.len() as u64);
    }

    /// The calls of a step ended.
    pub(super) fn on_call(&mut self, ended: Result<(Id, Vec<S::Answer>), JoinError>) -> Result<(), ProcessorError> {
        let (id, result) = match ended {
            Ok((id, answers)) => (id, Ok(answers)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some((unit, id, number)) = self.call_of.remove(&id) else { return Ok(()) };
        self.counters.calls_in_flight.set(self.call_of.len() as u64);
        let Some(mut run) = self.units.remove(&unit) else {
            self.wake_waiting();
            return Ok(());
        };
        let ended = self.call_ended(&mut run, id, number, result);
        self.units.insert(unit, run);
        self.wake(unit);
        self.wake_waiting();
        ended
    }

    fn call_ended(
        &mut self,
        run: &mut Run<S>,
        id: super::UnitId,
        number: u64,
        result: Result<Vec<S::Answer>, JoinError>,
    ) -> Result<(), ProcessorError> {
        let Phase::Running(running) = &mut run.phase else { return Ok(()) };
        if running.id != id {
            return Ok(());
        }
        running.calls.remove(&number);
        match result {
            Ok(answered) => {
                let Some(order) = self.core.unit_mut(id) else { return Ok(()) };
                order.answer(number, |work| {
                    if let Work::Input { answers, .. } = work {
                        *answers = answered;
                    }
                });
            }
            Err(error) if error.is_cancelled() => {}
            Err(panic) => {
                let Some(work) = self.core.unit(id).and_then(|order| order.open(number)) else { return Ok(()) };
                let (key, cause) = (work.key().to_owned(), self.cause(run, work));
                let wrong = match panic.try_into_panic() {
                    Ok(panic) => format!("a call {}", words(&*panic)),
                    Err(error) => error.to_string(),
                };
                let pause = self.count_failure(run, key, cause, wrong)?;
                if let Phase::Running(running) = &mut run.phase {
                    running.calls_again.push((Instant::now() + pause, number));
                }
            }
        }
        Ok(())
    }

    /// Calls that panicked are made again when their time has come.
    ///
    /// **Errors**: a step has failed too often, since it could not be said again what its calls are.
    pub(super) fn make_calls_again(&mut self, run: &mut Run<S>) -> Result<(), ProcessorError> {
        let Phase::Running(running) = &mut run.phase else { return Ok(()) };
        if running.calls_again.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let due: Vec<u64> =
            running.calls_again.iter().filter(|(at, _)| now >= *at).map(|(_, number)| *number).collect();
        running.calls_again.retain(|(at, _)| now < *at);
        for number in due {
            let Phase::Running(running) = &run.phase else { break };
            let work = self.core.unit(running.id).and_then(|order| order.open(number));
            let Some(work @ Work::Input { told, .. }) = work else { continue };
            let service = &*self.service;
            match caught(|| service.calls(&running.state, told)) {
                Ok(calls) => self.make_calls(run, number, calls),
                Err(wrong) => {
                    let (key, cause) = (told.key.clone(), self.cause(run, work));
                    let pause = self.count_failure(run, key, cause, wrong)?;
                    let Phase::Running(running) = &mut run.phase else { break };
                    running.calls_again.push((now + pause, number));
                }
            }
        }
        Ok(())
    }
}
