//! Steps: an input is observed, its calls are made, it is decided, and what was said is applied and put where the next
//! append finds it.
//!
//! Whatever a service does, it is caught here: a step that fails or panics is tried again with growing pauses. When it
//! may have left the state half changed, the state is made again first.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Runtime,
    holding::{Next, Peeked},
    running::{Phase, Run, Running, Work},
};
use crate::{
    partition_for_key,
    processor::{
        Cause, Failed, Place, ProcessorError, Service, Timer, Told, Trigger,
        fail_point::{FailPoint, reach},
        identify, input,
        output::{self, Origin, Unwritable},
        settings::OnMalformed,
    },
};

/// Steps of one unit before the others have their turn.
const SLICE: usize = 256;
/// Steps of one unit that are begun and not decided, at most.
const OPEN_STEPS_MAX: usize = 8_192;
/// No step is begun while so many bytes of outputs are not sent.
const UNSENT_BYTES_MAX: usize = 8 << 20;

/// How a unit goes on.
enum Flow {
    /// It has more to do.
    More,
    /// Something has to happen first.
    Rest,
    /// Its state is made again, after a pause.
    Reload(Duration),
}

/// How one try of a step went.
enum Tried {
    /// It is decided and applied; this is its key's timer from now on.
    Done(Option<Timer>),
    Again(Duration),
    Reload(Duration),
}

impl<S: Service> Runtime<S> {
    /// Goes on with a unit, a slice.
    pub(super) fn advance(&mut self, key: u32) -> Result<(), ProcessorError> {
        self.load_if_due(key);
        if let Some(mut run) = self.units.remove(&key) {
            let flow = match &mut run.phase {
                Phase::Running(_) => self.slice(&mut run),
                _ => Ok(Flow::Rest),
            };
            self.units.insert(key, run);
            match flow? {
                Flow::More => self.wake(key),
                Flow::Rest => {}
                Flow::Reload(pause) => self.reload(key, false, pause),
            }
        }
        self.settled(key);
        self.give_back_if_done(key);
        Ok(())
    }

    fn slice(&mut self, run: &mut Run<S>) -> Result<Flow, ProcessorError> {
        let is_full = self.core.unsent_bytes() >= UNSENT_BYTES_MAX;
        if let Phase::Running(running) = &mut run.phase {
            running.turn = (running.turn + 1) % run.lanes.len();
        }
        for _ in 0..SLICE {
            let flow = self.step(run, is_full)?;
            if !matches!(flow, Flow::More) {
                // Whatever waited for the snapshot goes on.
                let is_taken = matches!(flow, Flow::Rest) && self.take_snapshot(run);
                return Ok(if is_taken { Flow::More } else { flow });
            }
        }
        Ok(Flow::More)
    }

    /// Decides what is next, or begins what can be begun.
    fn step(&mut self, run: &mut Run<S>, is_full: bool) -> Result<Flow, ProcessorError> {
        let Phase::Running(running) = &mut run.phase else { return Ok(Flow::Rest) };
        let id = running.id;
        self.make_calls_again(run);
        let Phase::Running(running) = &mut run.phase else { return Ok(Flow::Rest) };
        if running.blocked_until.is_some_and(|until| Instant::now() < until) {
            return Ok(Flow::Rest);
        }
        running.blocked_until = None;
        let Some(order) = self.core.unit_mut(id) else { return Ok(Flow::Rest) };
        if order.next_to_decide().is_some() {
            return self.decide_next(run);
        }
        let open_steps = order.open_steps();
        let is_full = is_full || open_steps >= OPEN_STEPS_MAX || self.call_of.len() >= self.settings.calls_in_flight;
        let is_ending = self.stopping.is_some() || run.drain_until.is_some();
        running.waits_for_room = is_full || is_ending || running.saving_waits();
        if running.waits_for_room {
            return Ok(Flow::Rest);
        }
        if self.begin_timer(run) {
            return Ok(Flow::More);
        }
        self.take_in(run)
    }

    /// Takes in the next record of one of the unit's lanes.
    fn take_in(&mut self, run: &mut Run<S>) -> Result<Flow, ProcessorError> {
        let count = run.lanes.len();
        let Phase::Running(running) = &mut run.phase else { return Ok(Flow::Rest) };
        let first = running.turn;
        for at in (first..count).chain(0..first) {
            let key = run.lanes[at];
            let Some(lane) = self.lanes.get_mut(&key) else { return Ok(Flow::Rest) };
            let next = lane.next().map_err(ProcessorError::broker("read an input"))?;
            match next {
                Next::Nothing => {}
                Next::Behind(next) => {
                    self.pass(run, at, next);
                    self.let_go(key);
                    return Ok(Flow::More);
                }
                Next::Record(record) => {
                    let Phase::Running(running) = &mut run.phase else { return Ok(Flow::Rest) };
                    running.turn = at;
                    match self.record(run, at, record)? {
                        // The lane waits for a step of its key; another one may go on.
                        None => {}
                        Some(flow) => return Ok(flow),
                    }
                }
            }
        }
        Ok(Flow::Rest)
    }

    /// Passes over records that mean nothing.
    fn pass(&mut self, run: &mut Run<S>, lane: usize, next: u64) {
        let Phase::Running(running) = &mut run.phase else { return };
        let Some(order) = self.core.unit_mut(running.id) else { return };
        if order.lane(lane).begun < next {
            order.pass(lane, next);
            // There is no record right before that place.
            running.times[lane] = None;
        }
    }

    /// Takes in one record. None: it has to wait, and was put back.
    fn record(&mut self, run: &mut Run<S>, at: usize, record: Peeked) -> Result<Option<Flow>, ProcessorError> {
        let key = run.lanes[at];
        let Phase::Running(running) = &mut run.phase else { return Ok(None) };
        let Some(order) = self.core.unit_mut(running.id) else { return Ok(None) };
        if record.offset < order.lane(at).begun {
            // It was read again, and came again.
            return Ok(Some(Flow::More));
        }
        let (topic, service) = (&self.inputs[key.0].name, &*self.service);
        let wanted = catch_unwind(AssertUnwindSafe(|| service.wants(topic, record.envelope.kind())));
        let is_wanted = match wanted {
            Ok(is_wanted) => is_wanted,
            Err(panic) => return self.unheard(run, at, record, words(&*panic)).map(Some),
        };
        if !is_wanted {
            running.times[at] = Some(record.append_time_us);
            order.pass(at, record.offset + 1);
            self.counters.inputs.add(1);
            return Ok(Some(Flow::More));
        }
        if record.envelope.key().is_some_and(|key| order.is_busy(key)) {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.put_back(record);
            }
            return Ok(None);
        }
        let (time, count) = (record.append_time_us, self.co_partitions);
        let told = catch_unwind(AssertUnwindSafe(|| input::told::<S::Fact>(&record.envelope, time, count, key.1)));
        let told = match told {
            Ok(Ok(told)) => told,
            Err(panic) => return self.unheard(run, at, record, words(&*panic)).map(Some),
            Ok(Err(malformed)) => {
                let place = Place { topic: topic.clone(), partition: key.1, offset: record.offset };
                if self.settings.on_malformed == OnMalformed::Stop {
                    return Err(ProcessorError::Malformed { place, malformed });
                }
                tracing::warn!(service = self.service.name(), ?place, %malformed, "an input is skipped");
                self.counters.skipped(place);
                None
            }
        };
        self.counters.inputs.add(1);
        running.times[at] = Some(time);
        let Some(told) = told else {
            order.pass(at, record.offset + 1);
            return Ok(Some(Flow::More));
        };
        let correlation = record.envelope.correlation_id();
        let correlation_id = (!correlation.is_empty() && correlation != told.key).then(|| correlation.to_owned());
        self.begin(run, at, record.offset, told, correlation_id).map(Some)
    }

    /// A record could not be looked at: nothing is changed by that, and it is looked at again.
    fn unheard(&mut self, run: &mut Run<S>, at: usize, record: Peeked, wrong: String) -> Result<Flow, ProcessorError> {
        let (cause, key) =
            (self.cause_of(run, at, record.offset), record.envelope.key().unwrap_or_default().to_owned());
        if let Some(lane) = self.lanes.get_mut(&run.lanes[at]) {
            lane.put_back(record);
        }
        let pause = self.count_failure(run, key, cause, wrong)?;
        block(run, pause);
        Ok(Flow::Rest)
    }

    /// Begins the step of an input, and makes it at once when it needs no call and nothing is before it.
    fn begin(
        &mut self,
        run: &mut Run<S>,
        lane: usize,
        offset: u64,
        told: Told<S::Fact>,
        correlation_id: Option<String>,
    ) -> Result<Flow, ProcessorError> {
        let Phase::Running(running) = &mut run.phase else { return Ok(Flow::Rest) };
        let service = &*self.service;
        let calls = catch_unwind(AssertUnwindSafe(|| {
            service.observe(&mut running.state, &told);
            reach(FailPoint::AfterObserve);
            service.calls(&running.state, &told)
        }));
        let calls = match calls {
            Ok(calls) => calls,
            Err(panic) => {
                let cause = self.cause_of(run, lane, offset);
                let pause = self.count_failure(run, told.key, cause, words(&*panic))?;
                return Ok(Flow::Reload(pause));
            }
        };
        let Some(order) = self.core.unit_mut(running.id) else { return Ok(Flow::Rest) };
        let input = Some((lane, offset + 1));
        if calls.is_empty() && order.is_current() {
            let work = Work::Input { told, lane, offset, correlation_id, answers: Vec::new() };
            return match self.try_step(run, &work)? {
                Tried::Done(timer) => {
                    if let Some(order) = run.id().and_then(|id| self.core.unit_mut(id)) {
                        order.settle(input, &self.said);
                    }
                    self.decided(run, &work, timer);
                    Ok(Flow::More)
                }
                Tried::Reload(pause) => Ok(Flow::Reload(pause)),
                Tried::Again(pause) => {
                    self.open(run, input, work, true);
                    block(run, pause);
                    Ok(Flow::Rest)
                }
            };
        }
        let is_ready = calls.is_empty();
        let work = Work::Input { told, lane, offset, correlation_id, answers: Vec::new() };
        if let Some(number) = self.open(run, input, work, is_ready)
            && !is_ready
        {
            self.make_calls(run, number, calls);
        }
        Ok(Flow::More)
    }

    pub(super) fn open(
        &mut self,
        run: &Run<S>,
        input: Option<(usize, u64)>,
        work: Work<S>,
        is_ready: bool,
    ) -> Option<u64> {
        let order = run.id().and_then(|id| self.core.unit_mut(id))?;
        Some(order.begin(input, work.key().to_owned(), work, is_ready))
    }

    /// Makes the step that is next.
    fn decide_next(&mut self, run: &mut Run<S>) -> Result<Flow, ProcessorError> {
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
    fn try_step(&mut self, run: &mut Run<S>, work: &Work<S>) -> Result<Tried, ProcessorError> {
        let Phase::Running(running) = &mut run.phase else { return Ok(Tried::Again(Duration::ZERO)) };
        reach(FailPoint::BeforeDecide);
        self.said.clear();
        let service = &*self.service;
        let (trigger, answers) = match work {
            Work::Input { told, answers, .. } => (Trigger::Input(told), answers.as_slice()),
            Work::Timer { key, timer } => (Trigger::Timer { key, name: timer.name }, &[][..]),
        };
        let (ids, now_us) = (&mut self.ids, super::timing::now_us());
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let outputs = service.decide(&running.state, &trigger, answers)?;
            Ok::<_, Failed>(identify(outputs, || ids.next(now_us)))
        }));
        let outputs = match decided {
            Ok(Ok(outputs)) => outputs,
            Ok(Err(Failed { wrong })) => return self.failed_try(run, work, wrong).map(Tried::Again),
            Err(panic) => return self.failed_try(run, work, words(&*panic)).map(Tried::Again),
        };
        reach(FailPoint::AfterDecide);
        if let Some(wrong) = self.misplaced(run.key, work.key(), &outputs) {
            return self.failed_try(run, work, wrong).map(Tried::Again);
        }
        let encoded = catch_unwind(AssertUnwindSafe(|| self.encode(run, work, &outputs)));
        match encoded {
            Ok(encoded) => encoded?,
            Err(panic) => return self.failed_try(run, work, words(&*panic)).map(Tried::Again),
        }
        let Phase::Running(running) = &mut run.phase else { return Ok(Tried::Again(Duration::ZERO)) };
        let service = &*self.service;
        let applied = catch_unwind(AssertUnwindSafe(|| {
            for output in &outputs {
                service.apply(&mut running.state, output);
            }
            service.timer(&running.state, work.key())
        }));
        reach(FailPoint::AfterApply);
        let timer = match applied {
            Ok(timer) => timer,
            Err(panic) => return self.failed_try(run, work, words(&*panic)).map(Tried::Reload),
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
    fn decided(&mut self, run: &mut Run<S>, work: &Work<S>, timer: Option<Timer>) {
        let outputs = self.said.outputs.len() as u64;
        self.counters.steps.add(1);
        self.counters.outputs.add(outputs);
        if run.failed.as_ref().is_some_and(|(cause, _)| *cause == self.cause(run, work)) {
            run.failed = None;
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

    pub(super) fn count_failure(
        &self,
        run: &mut Run<S>,
        key: String,
        cause: Cause,
        wrong: String,
    ) -> Result<Duration, ProcessorError> {
        self.counters.failed_tries.add(1);
        run.count_failure(&self.settings, self.service.name(), key, cause, wrong)
    }

    pub(super) fn cause(&self, run: &Run<S>, work: &Work<S>) -> Cause {
        match work {
            Work::Input { lane, offset, .. } => self.cause_of(run, *lane, *offset),
            Work::Timer { key, timer } => Cause::Timer { name: format!("{}:{key}", timer.name) },
        }
    }

    fn cause_of(&self, run: &Run<S>, lane: usize, offset: u64) -> Cause {
        let (input, partition) = run.lanes[lane];
        Cause::Input { topic: self.inputs[input].name.to_string(), partition, offset }
    }
}

impl<S: Service> Running<S> {
    /// A snapshot waits until every step that was begun is decided.
    fn saving_waits(&self) -> bool {
        matches!(self.saving, Some(super::running::Saving::Wanted))
    }
}

/// The next step of a unit failed: it waits.
fn block<S: Service>(run: &mut Run<S>, pause: Duration) {
    if let Phase::Running(running) = &mut run.phase {
        running.blocked_until = Some(Instant::now() + pause);
    }
}

/// What a panic said.
pub(super) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "without a word".to_owned()))
}
