//! Appends: gathered from what is decided, sent as far as the window goes, and what the server says of each.

use std::time::Duration;

use tillroll_proto::{
    reason::{self, key},
    v1::{self, append_outcome},
};
use tokio::time::Instant;
use tonic_types::RpcStatusExt as _;

use super::{Runtime, running::Phase};
use crate::{
    AppendedBatch, Error, ProducerIdentity,
    processor::{
        ProcessorError, Service, append,
        core::{Fault, UnitId},
        fail_point::{FailPoint, reach},
        flight::{Answer, Entry, Settled},
        line::LineEvent,
        load::OwnEnd,
    },
    session,
};

/// Cursors that nothing was said for wait so long for something that is: they cost an append of their own.
const CURSOR_LINGER: Duration = Duration::from_millis(5);
/// The longest pause after "not now".
const PAUSE_MAX: Duration = Duration::from_secs(2);

impl<S: Service> Runtime<S> {
    /// Sends as much as the window takes.
    pub(super) fn send(&mut self) {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.paused_until = None;
        while let Some(window) = self.free_window() {
            if !self.has_next() {
                break;
            }
            let flight = self.core.flight();
            // One append may be larger than the window; it then goes alone.
            let in_flight_bytes = flight.in_flight_bytes();
            let bytes = flight.unsent_bytes().unwrap_or(0);
            if in_flight_bytes > 0 && in_flight_bytes + bytes > window.bytes as usize {
                break;
            }
            let answered_below = flight.answered_below();
            let Some(entry) = self.core.send(self.append_id + 1) else { break };
            self.append_id += 1;
            let stamp = self.producer.stamp(entry.sequence, answered_below);
            let request = append::request(entry, self.service.name(), &self.output_names, stamp);
            self.line.send(request);
            reach(FailPoint::AfterAppend);
        }
    }

    /// The window, when another append may be sent.
    pub(super) fn free_window(&self) -> Option<session::Window> {
        let window = self.line.window()?;
        let appends = (window.appends as usize).min(self.settings.appends_in_flight);
        (self.core.flight().in_flight() < appends).then_some(window)
    }

    /// Whether there is an append to send: one that is sent again, or a new one.
    fn has_next(&mut self) -> bool {
        let flight = self.core.flight();
        if flight.unsent_bytes().is_some() {
            return true;
        }
        if !flight.is_all_sent() || !self.is_time_to_gather() {
            return false;
        }
        self.cursors_due = None;
        reach(FailPoint::BeforeAppend);
        self.core.gather(&self.limits)
    }

    /// Whatever was said does not wait. Cursors alone wait a little, unless something has to end.
    fn is_time_to_gather(&mut self) -> bool {
        if self.core.has_said() {
            return true;
        }
        if !self.core.has_unsent() {
            self.cursors_due = None;
            return false;
        }
        let now = Instant::now();
        let due = *self.cursors_due.get_or_insert(now + CURSOR_LINGER);
        let is_ending = self.stopping.is_some() || self.units.values().any(|run| run.drain_until.is_some());
        if now < due && !is_ending {
            return false;
        }
        reach(FailPoint::BeforeCursors);
        true
    }

    /// Takes what the line says.
    pub(super) fn on_line(&mut self, event: LineEvent) -> Result<(), ProcessorError> {
        match event {
            LineEvent::Up { incarnation } => self.incarnation = self.incarnation.max(incarnation),
            LineEvent::Answer(outcome) => self.answered(outcome)?,
            LineEvent::Broke(error) => {
                tracing::debug!(service = self.service.name(), %error, "the append stream broke");
                self.counters.broken_streams.add(1);
                self.core.broke();
            }
            LineEvent::Claimed(identity) => self.claimed(identity),
            LineEvent::Unknown => self.line.claim(None),
            LineEvent::GaveUp(error) => return Err(ProcessorError::broker("append")(error)),
        }
        if !self.line.is_claiming() && self.core.settle() == Some(Settled::TakeOver) {
            reach(FailPoint::BeforeTakeOver);
            self.line.claim(Some(self.producer.producer_id.to_string()));
        }
        Ok(())
    }

    fn answered(&mut self, outcome: v1::AppendOutcome) -> Result<(), ProcessorError> {
        let failed = ProcessorError::broker("append");
        let expected = self.core.flight().oldest().map(|entry| entry.append_id);
        if expected != Some(outcome.append_id) {
            return Err(failed(session::out_of_order(outcome.append_id, expected)));
        }
        let fields = fields_at_fault(outcome.result.as_ref());
        match session::result(outcome.result).map_err(failed)? {
            Ok(appended) => {
                reach(FailPoint::AfterAck);
                self.pauses.reset();
                self.counters.duplicates.add(u64::from(appended.duplicate));
                if let Some(entry) = self.core.accepted() {
                    self.in_log(&entry, Some((&appended.batches, Some(appended.append_time_us))));
                }
                Ok(())
            }
            Err(error) => self.refused(error, &fields),
        }
    }

    /// Notes where outputs are, and goes on with what waited for them. Without places they are somewhere.
    fn in_log(&mut self, entry: &Entry, places: Option<(&[AppendedBatch], Option<i64>)>) {
        self.counters.appends.add(1);
        let mut index = 0;
        for (id, block) in &entry.blocks {
            let unit = self.unit_by_id(*id);
            let mut run = unit.and_then(|unit| self.units.remove(&unit));
            for part in block.parts() {
                let known = places.and_then(|(batches, time)| Some((batches.get(index)?, time)));
                index += 1;
                let Some(Phase::Running(running)) = run.as_mut().map(|run| &mut run.phase) else { continue };
                if let Some((batch, time)) = known {
                    let next_offset = batch.base_offset + u64::from(batch.record_count);
                    running.own.insert((part.topic, part.partition), OwnEnd { next_offset, append_time_us: time });
                } else {
                    // What a snapshot would stand for is not known any more.
                    (running.steps_unsaved, running.saving) = (None, None);
                }
            }
            if let Some(mut run) = run {
                // A snapshot may stand for this block, and not for the next one of the same append.
                if let Phase::Running(running) = &mut run.phase {
                    running.blocks_in_log += 1;
                }
                let unit = run.key;
                self.units.insert(unit, run);
                self.save_if_marked(unit);
                self.wake(unit);
            }
        }
        self.wake_waiting();
    }

    fn refused(&mut self, error: Error, fields: &[String]) -> Result<(), ProcessorError> {
        let reason = error.reason().unwrap_or_default();
        self.counters.refused(if reason.is_empty() { "NONE" } else { reason });
        let misplaced = [reason::EXPECTED_OFFSET_MISMATCH, reason::CURSOR_BACKWARDS, reason::CURSOR_BEYOND_END];
        match reason {
            reason::SEQUENCE_GAP => match error.number(key::NEXT) {
                Some(next) => self.core.not_accepted(Answer::Gap { next }, []),
                None => return Err(ProcessorError::broker("append")(Error::protocol("a gap without its next"))),
            },
            reason::SEQUENCE_FORGOTTEN => {
                // It is in the log; only its offsets are gone.
                if let Some(entry) = self.core.accepted() {
                    self.in_log(&entry, None);
                }
            }
            reason::PRODUCER_FENCED | reason::PRODUCER_UNKNOWN => self.core.not_accepted(Answer::Refused, []),
            reason::ASSIGNMENT_FENCED => self.at_fault(fields, Fault::Fenced),
            _ if misplaced.contains(&reason) => self.at_fault(fields, Fault::Misplaced),
            _ if error.is_retryable() => {
                self.pause(&error);
                self.core.not_accepted(Answer::Later, []);
            }
            _ => return Err(ProcessorError::broker("append")(error)),
        }
        Ok(())
    }

    /// Units are at fault; when it is not said which, all of the append are.
    fn at_fault(&mut self, fields: &[String], fault: Fault) {
        let Some(entry) = self.core.flight().oldest() else { return };
        let conditions = append::Conditions::of(entry);
        let mut units: Vec<UnitId> = fields.iter().filter_map(|field| conditions.unit(field)).collect();
        if units.is_empty() {
            units = entry.blocks.iter().map(|(id, _)| *id).collect();
        }
        self.core.not_accepted(Answer::Refused, units.into_iter().map(|id| (id, fault)));
    }

    /// The server said "not now".
    fn pause(&mut self, error: &Error) {
        // One pause for all that were refused together.
        if self.paused_until.is_none() {
            // A disk that is full is mended by somebody, sooner or later.
            let delay = self.pauses.after(error).unwrap_or(PAUSE_MAX);
            self.paused_until = Some(Instant::now() + delay);
        }
    }

    /// The producer was taken over, or is a new one: what is in the log is known, and the rest never comes there.
    fn claimed(&mut self, identity: ProducerIdentity) {
        self.counters.take_overs.add(1);
        let next = identity.next_sequence;
        let is_same = identity.producer_id == self.producer.producer_id;
        let recent = identity.recent.clone();
        self.producer = identity;
        reach(FailPoint::AfterTakeOver);
        if !is_same {
            for id in self.core.renewed(next) {
                if let Some(unit) = self.unit_by_id(id) {
                    self.reload(unit, true, Duration::ZERO);
                }
            }
            return;
        }
        let (accepted, faults) = self.core.taken_over(next);
        for entry in &accepted {
            let past = recent.iter().find(|past| past.sequence == entry.sequence);
            // When they came there is not said; the next append says it.
            self.in_log(entry, past.map(|past| (past.batches.as_slice(), None)));
        }
        for (id, fault) in faults {
            let Some(unit) = self.unit_by_id(id) else { continue };
            match fault {
                Fault::Fenced => self.fence(unit),
                Fault::Misplaced => self.reload(unit, true, Duration::ZERO),
            }
        }
    }
}

/// The fields of the request that a refusal names.
fn fields_at_fault(result: Option<&append_outcome::Result>) -> Vec<String> {
    let Some(append_outcome::Result::Refused(status)) = result else { return Vec::new() };
    let details = status.get_error_details();
    let violations = details.precondition_failure().map(|failure| failure.violations.as_slice()).unwrap_or_default();
    violations.iter().map(|violation| violation.subject.clone()).collect()
}
