//! S9, returns: in the order in which the order service answers, each takes back what was asked, as far as the customer
//! has it then; one is refused when nothing of it is left, or when the order was given up.

use super::{
    super::payload::{RefusedReason, ReturnAccepted, ReturnRefused},
    case::Case,
    facts::{Ask, At, of_units},
    place::Place,
    tally::Tally,
    verdict::{Findings, Invariant::S9},
};

/// An answer to a request that comes to a return.
#[derive(Clone, Copy)]
enum Answer<'a> {
    Accepted(&'a At<ReturnAccepted>),
    Refused(&'a At<ReturnRefused>),
}

impl Answer<'_> {
    fn request(&self) -> &str {
        match self {
            Self::Accepted(fact) => &fact.fact.request,
            Self::Refused(fact) => &fact.fact.request,
        }
    }

    fn place(&self, case: &Case<'_>) -> Place {
        match self {
            Self::Accepted(fact) => case.place(fact),
            Self::Refused(fact) => case.place(fact),
        }
    }

    /// What comes back.
    fn units(&self) -> Tally {
        match self {
            Self::Accepted(fact) => of_units(&fact.fact.lines),
            Self::Refused(_) => Tally::default(),
        }
    }
}

pub(crate) fn judge(case: &Case<'_>, findings: &mut Findings) {
    let order = case.order;
    let accepted = order.return_accepted.iter().map(Answer::Accepted);
    let mut answers: Vec<Answer<'_>> = accepted.chain(order.return_refused.iter().map(Answer::Refused)).collect();
    answers.sort_by_key(|answer| answer.place(case));
    let decided = case.decided();
    // What is confirmed is what will be shipped: what a customer has, or will have.
    let mut left = order.confirmed.first().map_or_else(Tally::default, |confirmed| of_units(&confirmed.fact.lines));
    for answer in answers {
        let here = answer.place(case);
        if decided.is_none_or(|decided| decided > here) {
            let expected = format_args!("the decision before the answer to {}", answer.request());
            findings.wrong(S9, case.about, &[here], expected, decided.map_or("none", |_| "it later"));
        }
        judge_answer(case, answer, &left, findings);
        left = left.less(&answer.units());
    }
}

fn judge_answer(case: &Case<'_>, answer: Answer<'_>, left: &Tally, findings: &mut Findings) {
    let request = answer.request();
    // That there is none, or one about something else, is another finding.
    let asked = case.order.asked.iter().find(|asked| asked.fact.request == request && asked.fact.ask != Ask::Address);
    let Some(asked) = asked else { return };
    let wanted = of_units(&asked.fact.lines);
    let due: Tally = wanted.iter().map(|(line, units)| (line, units.min(left.units(line)))).collect();
    let places = [answer.place(case), case.place(asked)];
    match answer {
        Answer::Accepted(_) => {
            let units = answer.units();
            if units != due || due.is_empty() {
                let expected = format_args!("taken back for {request} what was asked and is left: {due}");
                findings.wrong(S9, case.about, &places, expected, units);
            }
        }
        Answer::Refused(refused) => {
            if !due.is_empty() {
                let expected = format_args!("taken back for {request} what was asked and is left: {due}");
                findings.wrong(S9, case.about, &places, expected, "a refusal");
            }
            let given_up = case.order.confirmed.is_empty();
            let reason = if given_up { RefusedReason::OrderCancelled } else { RefusedReason::NothingToReturn };
            if refused.fact.reason != reason {
                let (expected, found) = (format_args!("{request} refused for {reason:?}"), refused.fact.reason);
                findings.wrong(S9, case.about, &places, expected, format_args!("{found:?}"));
            }
        }
    }
}
