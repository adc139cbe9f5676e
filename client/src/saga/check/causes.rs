//! S3, cause: every event but a storefront's names an event of the same order (of the same code) that the flow allows
//! as its cause, and stands in the step of that event; nothing causes itself.
//!
//! Key, correlation, topic and source of each event are looked at while the log is gathered.

use super::{
    super::payload::{CancelReason, OrderPlaced, group},
    flow::{Cause, Rule},
    log::{About, Answers, Detail, Event, Log, Step},
    place::Place,
    verdict::{Findings, Invariant::S3},
};

pub(crate) fn judge(log: &Log, findings: &mut Findings) {
    for event in log.events.iter().filter(|event| event.rule.by != group::STOREFRONT) {
        judge_cause(log, event, event.rule, findings);
    }
    judge_cycles(log, findings);
}

/// The ways of the flow that events of this log came about, each as its type and the cause. For tests that every way is
/// one that the services go.
#[cfg(test)]
pub(crate) fn ways(log: &Log) -> Vec<(&'static str, Cause)> {
    let mut ways = Vec::new();
    for event in &log.events {
        let Some(cause) = event.cause.as_ref().and_then(|id| log.ids.get(id)) else { continue };
        let Some(step) = &event.step else { continue };
        let gone = event.rule.causes.iter().filter(|cause_of| allows(**cause_of, event, step, log.event(*cause)));
        ways.extend(gone.map(|gone| (event.kind(), *gone)));
    }
    ways
}

fn judge_cause(log: &Log, event: &Event, rule: &Rule, findings: &mut Findings) {
    let about = log.subject(event.about);
    let kind = rule.kind;
    let Some(step) = &event.step else {
        return findings.wrong(S3, &about, &[event.place], format_args!("a step's name on {kind}"), "none");
    };
    if step.group != rule.by {
        let expected = format_args!("{kind} in a step of {}", rule.by);
        let found = if step.group.is_empty() { "another group" } else { step.group };
        findings.wrong(S3, &about, &[event.place], expected, found);
    }
    let Some(id) = &event.cause else {
        return findings.wrong(S3, &about, &[event.place], format_args!("a cause of {kind}"), "none");
    };
    let Some(cause) = log.ids.get(id).map(|number| log.event(*number)) else {
        let (expected, found) = (format_args!("the cause of {kind} in the log"), format_args!("no event {id}"));
        return findings.wrong(S3, &about, &[event.place], expected, found);
    };
    let places = [event.place, cause.place];
    if cause.about != event.about {
        let (expected, found) = (format_args!("a cause of {kind} of {about}"), log.subject(cause.about));
        findings.wrong(S3, &about, &places, expected, found);
    }
    // Append times never fall, and nothing is read before it is written.
    if cause.time_us > event.time_us {
        findings.wrong(S3, &about, &places, format_args!("the cause of {kind} before it"), "after");
    }
    if !rule.causes.iter().any(|allowed| allows(*allowed, event, step, cause)) {
        let mut allowed: Vec<&str> = rule.causes.iter().map(|cause| cause.kind()).collect();
        allowed.dedup();
        let expected = format_args!("{kind} because of {} as the flow has it", allowed.join(", "));
        findings.wrong(S3, &about, &places, expected, cause.kind());
    }
    judge_step(log, event, step, cause, findings);
}

/// Whether this way to cause an event is the way that it was caused.
fn allows(allowed: Cause, event: &Event, step: &Step, cause: &Event) -> bool {
    let by_timer = matches!(step.answers, Answers::Timer(_));
    let fits = match allowed {
        Cause::Input(_) => !by_timer,
        Cause::InputToNothing(_) => !by_timer && event.detail == Detail::Nothing,
        Cause::InputOfNothing(_) => !by_timer && cause.detail == Detail::Nothing,
        Cause::GivesUp(_, reason) => {
            !by_timer && event.detail == Detail::Cancelling(reason) && cause.detail != Detail::Nothing
        }
        Cause::Told(_, notice) => !by_timer && event.detail == Detail::Told(notice),
        // An order that is given up by its deadline is given up for that.
        Cause::Deadline => {
            by_timer && !matches!(event.detail, Detail::Cancelling(reason) if reason != CancelReason::Deadline)
        }
    };
    fits && cause.kind() == allowed.kind()
}

/// The step's header says where the cause stands, or names the order's timer.
fn judge_step(log: &Log, event: &Event, step: &Step, cause: &Event, findings: &mut Findings) {
    let about = log.subject(event.about);
    let places = [event.place, cause.place];
    match &step.answers {
        Answers::Input(place) if *place == cause.place => {}
        Answers::Input(place) => {
            let expected = format_args!("{} in the step for its cause at {}", event.kind(), cause.place);
            findings.wrong(S3, &about, &places, expected, format_args!("the step for {place}"));
        }
        Answers::Elsewhere(place) => {
            let expected = format_args!("{} in the step for its cause at {}", event.kind(), cause.place);
            findings.wrong(S3, &about, &places, expected, format_args!("the step for {place}"));
        }
        Answers::Timer(name) => judge_timer(log, event, name, cause, findings),
    }
}

fn judge_timer(log: &Log, event: &Event, name: &str, cause: &Event, findings: &mut Findings) {
    let About::Order(order) = event.about else { return };
    let about = log.subject(event.about);
    let places = [event.place, cause.place];
    let own = format!("deadline:{}", log.order_name(order));
    if name != own {
        let expected = format_args!("{} by the timer {own}", event.kind());
        findings.wrong(S3, &about, &places, expected, format_args!("the timer {name}"));
    }
    let first = log.orders[order as usize].placed.first().map(|placed| log.place(placed.event));
    if first.is_some_and(|first| first != cause.place) {
        let expected = format_args!("the deadline to run from the first {}", OrderPlaced::KIND);
        findings.wrong(S3, &about, &places, expected, format_args!("from {}", cause.place));
    }
}

/// Follows every event to where it comes from. Each has one cause at most, so a way back is a circle.
fn judge_cycles(log: &Log, findings: &mut Findings) {
    #[derive(Clone, Copy, PartialEq)]
    enum Walked {
        Not,
        Now,
        Done,
    }
    let mut walked = vec![Walked::Not; log.events.len()];
    let mut way: Vec<u32> = Vec::new();
    for start in 0..log.events.len() as u32 {
        let mut next = Some(start);
        while let Some(number) = next.filter(|number| walked[*number as usize] == Walked::Not) {
            walked[number as usize] = Walked::Now;
            way.push(number);
            next = log.event(number).cause.as_ref().and_then(|id| log.ids.get(id)).copied();
        }
        if let Some(number) = next.filter(|number| walked[*number as usize] == Walked::Now) {
            let circle = way.iter().skip_while(|step| **step != number);
            let places: Vec<Place> = circle.map(|step| log.place(*step)).collect();
            let about = log.subject(log.event(number).about);
            let found = format_args!("a circle of {}", places.len());
            findings.wrong(S3, &about, &places, "causes that lead back to a storefront's event", found);
        }
        for number in way.drain(..) {
            walked[number as usize] = Walked::Done;
        }
    }
}
