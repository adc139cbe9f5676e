//! Steps are made: what a service decides is given ids, encoded and applied.

use std::time::Duration;

use super::{
    Runtime,
    running::{Phase, Run, Work},
    stepping::{Flow, block},
};
use crate::{
    partition_for_key,
    processor::{
        Failed, ProcessorError, Service, Timer, Told, Trigger,
        caught::caught,
        fail_point::{FailPoint, reach},
        identify,
        output::{self, Origin, Unwritable},
    },
};

/// How one try of a step went.
pub(super) enum Tried {
    /// It is decided and applied; this is its key's timer from now on.
    Done(Option<Timer>),
    Again(Duration),
    Reload(Duration),
}

impl<S: Service> Runtime<S> {
    /// Makes the step that is next.
    pub(super) fn decide_next(&mut self, run: &mut Run<S>) -> Result<Flow, ProcessorError> {
        // It stays where it is until it is decided: a try that fails is made again.
        let Some(work) = run.id().and_then(|id| self.core.unit_mut(id)?.take_next()) else { return Ok(Flow::Rest) };
        let tried = self.try_step(run, &work);
        let Some(order) = run.id().and_then(|id| self.core.unit_mut(id)) else { return Ok(Flow::Rest) };
        match tried? {
            Tried::Done(timer) => {
                order.decided(&self.said);
                self.decided(run, &work, timer);
                Ok(Flow::More)
            }
            Tried::Again(pause) => {
                order.put_back(work);
                block(run, pause);
                Ok(Flow::Rest)
            }
            Tried::Reload(pause) => Ok(Flow::Reload(pause)),
        }
    }

    /// Decides a step, and applies what it says. What it says is in `said`, ready to be sent.
    pub(super) fn try_step(&mut self, run: &mut Run<S>, work: &Work<S>) -> Result<Tried, ProcessorError> {
        let Phase::Running(running) = &mut run.phase else { return Ok(Tried::Again(Duration::ZERO)) };
        reach(FailPoint::BeforeDecide);
        self.said.clear();
        let service = &*self.service;
        let (trigger, answers) = match work {
            Work::Input { told, answers, .. } => (Trigger::Input(told), answers.as_slice()),
            Work::Timer { key, timer } => (Trigger::Timer { key, name: timer.name }, &[][..]),
        };
        let (ids, now_us) = (&mut self.ids, super::timing::now_us());
        let decided = caught(|| {
            let outputs = service.decide(&running.state, &trigger, answers)?;
            Ok::<_, Failed>(identify(outputs, || ids.next(now_us)))
        });
        let outputs = match decided {
            Ok(Ok(outputs)) => outputs,
            Ok(Err(Failed { wrong })) | Err(wrong) => return self.failed_try(run, work, wrong).map(Tried::Again),
        };
        reach(FailPoint::AfterDecide);
        if let Some(wrong) = self.misplaced(run.key, work.key(), &outputs) {
            return self.failed_try(run, work, wrong).map(Tried::Again);
        }
        match caught(|| self.encode(run, work, &outputs)) {
            Ok(encoded) => encoded?,
            Err(wrong) => return self.failed_try(run, work, wrong).map(Tried::Again),
        }
        let Phase::Running(running) = &mut run.phase else { return Ok(Tried::Again(Duration::ZERO)) };
        let service = &*self.service;
        let applied = caught(|| {
            for output in &outputs {
                service.apply(&mut running.state, output);
            }
            service.timer(&running.state, work.key())
        });
        reach(FailPoint::AfterApply);
        let timer = match applied {
            Ok(timer) => timer,
            Err(wrong) => return self.failed_try(run, work, wrong).map(Tried::Reload),
        };
        if let Some(last) = outputs.into_iter().last() {
            running.newest_id = Some(last.id);
        }
        Ok(Tried::Done(timer))
    }

    /// What is wrong with outputs that another unit would find when it makes its state.
    fn misplaced(&self, unit: u32, key: &str, outputs: &[Told<S::Fact>]) -> Option<String> {
        let count = self.co_partitions?;
        let elsewhere =
            |output: &&Told<S::Fact>| output.key != key && partition_for_key(output.key.as_bytes(), count) != unit;
        let output = outputs.iter().find(elsewhere)?;
        Some(format!("it says something of {:?}, which belongs to another partition", output.key))
    }

    fn encode(&mut self, run: &Run<S>, work: &Work<S>, outputs: &[Told<S::Fact>]) -> Result<(), ProcessorError> {
        if outputs.is_empty() {
            return Ok(());
        }
        let cause = self.cause(run, work);
        let (correlation_id, causation_id) = match work {
            Work::Input { told, correlation_id, .. } => {
                (correlation_id.as_ref().unwrap_or(&told.key), told.id.as_str())
            }
            Work::Timer { key, timer } => (key, timer.since.as_str()),
        };
        let origin = Origin { service: self.service.name(), cause: &cause, correlation_id, causation_id };
        let too_large = |what, actual, limit| {
            let (key, cause) = (work.key().to_owned(), cause.clone());
            ProcessorError::StepTooLarge { key, cause, what, actual, limit }
        };
        output::encode(outputs, &origin, &self.outputs, &mut self.said).map_err(|unwritable| match unwritable {
            Unwritable::TooLarge { actual, limit } => too_large("record", actual, limit),
            Unwritable::ForeignTopic(topic) => {
                let service = self.service.name();
                ProcessorError::misconfigured(format!("{service} writes to {topic}, which it does not name"))
            }
        })?;
        let limits = &self.client.server().limits;
        let (bytes, records) = (limits.max_batch_bytes as usize, limits.max_append_records as usize);
        if self.said.bytes.len() > bytes {
            return Err(too_large("bytes", self.said.bytes.len(), bytes));
        }
        if outputs.len() > records {
            return Err(too_large("records", outputs.len(), records));
        }
        Ok(())
    }

    /// A step is decided: it is counted, and its key's timer set.
    pub(super) fn decided(&mut self, run: &mut Run<S>, work: &Work<S>, timer: Option<Timer>) {
        let outputs = self.said.outputs.len() as u64;
        self.counters.steps.add(1);
        self.counters.outputs.add(outputs);
        if !run.failed.is_empty() {
            let cause = self.cause(run, work);
            run.failed.remove(&cause);
        }
        let Phase::Running(running) = &mut run.phase else { return };
        if let Some(steps) = &mut running.steps_unsaved {
            *steps += 1;
        }
        match (work, timer) {
            (Work::Timer { key, timer: fired }, Some(timer)) if outputs == 0 && *fired == timer => {
                running.timers.set_again(key, timer, super::timing::now_us());
            }
            (_, timer) => running.timers.set(work.key(), timer),
        }
    }

    fn failed_try(&mut self, run: &mut Run<S>, work: &Work<S>, wrong: String) -> Result<Duration, ProcessorError> {
        let cause = self.cause(run, work);
        self.count_failure(run, work.key().to_owned(), cause, wrong)
    }
}
