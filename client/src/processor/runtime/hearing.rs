//! Steps are begun: the records of a unit's lanes are looked at one by one, and those that mean something are observed.

use super::{
    Runtime,
    deciding::Tried,
    holding::{Next, Peeked},
    running::{Phase, Run, Work},
    stepping::{Flow, block},
};
use crate::processor::{
    Place, ProcessorError, Service, Told,
    caught::caught,
    fail_point::{FailPoint, reach},
    input,
    settings::OnMalformed,
};

impl<S: Service> Runtime<S> {
    /// Takes in the next record of one of the unit's lanes.
    pub(super) fn take_in(&mut self, run: &mut Run<S>) -> Result<Flow, ProcessorError> {
        let count = run.lanes.len();
        let Phase::Running(running) = &mut run.phase else { return Ok(Flow::Rest) };
        let first = running.turn;
        for at in (first..count).chain(0..first) {
            let key = run.lanes[at];
            let Some(lane) = self.lanes.get_mut(&key) else { return Ok(Flow::Rest) };
            let next = lane.next().map_err(|(offset, error)| {
                let place = Place { topic: self.inputs[key.0].name.clone(), partition: key.1, offset };
                ProcessorError::Unreadable { place, error }
            })?;
            match next {
                Next::Nothing => self.check_stalled(run, at)?,
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
        let is_wanted = match caught(|| service.wants(topic, record.envelope.kind())) {
            Ok(is_wanted) => is_wanted,
            Err(wrong) => return self.unheard(run, at, record, wrong).map(Some),
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
        let told = match caught(|| input::told::<S::Fact>(&record.envelope, time, count, key.1)) {
            Ok(Ok(told)) => told,
            Err(wrong) => return self.unheard(run, at, record, wrong).map(Some),
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
        let calls = caught(|| {
            service.observe(&mut running.state, &told);
            reach(FailPoint::AfterObserve);
            service.calls(&running.state, &told)
        });
        let calls = match calls {
            Ok(calls) => calls,
            Err(wrong) => {
                let cause = self.cause_of(run, lane, offset);
                let pause = self.count_failure(run, told.key, cause, wrong)?;
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
}
