//! S2, one step: for every input or timer of a group, its outputs k = 0 … n−1 stand in the log, each once.
//!
//! That ids are unique is seen while the log is gathered.

use super::{
    log::{Answers, Event, Log, Step},
    place::Place,
    verdict::{Findings, Invariant::S2},
};

pub(crate) fn judge(log: &Log, findings: &mut Findings) {
    let with_step = log.events.iter().filter_map(|event| event.step.as_ref().map(|step| (step, event)));
    let mut outputs: Vec<(&Step, &Event)> = with_step.collect();
    outputs.sort_by_key(|(step, event)| (step.group, &step.answers, step.k, event.place));
    let same = |one: &(&Step, &Event), other: &(&Step, &Event)| {
        (one.0.group, &one.0.answers) == (other.0.group, &other.0.answers)
    };
    for step in outputs.chunk_by(same) {
        judge_step(log, step, findings);
    }
}

fn judge_step(log: &Log, outputs: &[(&Step, &Event)], findings: &mut Findings) {
    let (first, event) = outputs[0];
    let whole = outputs.len() == first.n as usize;
    let counted = outputs.iter().enumerate().all(|(k, (step, _))| step.k as usize == k && step.n == first.n);
    if whole && counted {
        return;
    }
    let places: Vec<Place> = outputs.iter().map(|(_, event)| event.place).collect();
    let found: Vec<String> = outputs.iter().map(|(step, _)| format!("{}/{}", step.k, step.n)).collect();
    let answers = match &first.answers {
        Answers::Input(place) => place.to_string(),
        Answers::Timer(name) => format!("the timer {name}"),
        Answers::Elsewhere(place) => place.to_string(),
    };
    let expected = format_args!("the outputs 0 to {} of {}'s step for {answers}, each once", first.n - 1, first.group);
    findings.wrong(S2, &log.subject(event.about), &places, expected, found.join(" "));
}
