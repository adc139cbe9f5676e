//! S9, requests: each has exactly one answer or is contained in its order's decision; `returns` has what is granted of
//! one. A decision contains its requests and nothing else: it ships what was reserved and not cancelled, to the last
//! address that it contains.

use std::collections::HashMap;

use super::{
    super::payload::{CancelReason, InventoryUpdated, OrderConfirmed, StockChangeRequested},
    case::Case,
    facts::{Ask, Asked, At, of_units},
    log::Log,
    place::Place,
    returns,
    tally::Tally,
    verdict::{Findings, Invariant::S9, Subject},
};

/// What was made of a request.
struct Answer<'a> {
    request: &'a str,
    place: Place,
    /// What requests it can be an answer to.
    answers: &'static [Ask],
    /// It is contained in a decision.
    contained: bool,
}

const RETURNS: &[Ask] = &[Ask::Cancel, Ask::Return];

pub(crate) fn judge(case: &Case<'_>, findings: &mut Findings) {
    let answers = answers(case);
    for asked in &case.order.asked {
        judge_asked(case, asked, &answers, findings);
    }
    for answer in &answers {
        let asked = case.order.asked.iter().find(|asked| asked.fact.request == answer.request);
        judge_answer(case, answer, asked, findings);
    }
    returns::judge(case, findings);
    judge_addresses(case, findings);
    for confirmed in &case.order.confirmed {
        judge_contained(case, confirmed, findings);
    }
    for cancelling in &case.order.cancelling {
        let contains = |request: &String| contained(case, request).is_some_and(|asked| asked.fact.ask == Ask::Cancel);
        if cancelling.fact.reason == CancelReason::Requested && !cancelling.fact.requests.iter().any(contains) {
            let expected = "a request that the cancellation contains";
            findings.wrong(S9, case.about, &[case.place(cancelling)], expected, "none");
        }
    }
}

fn answers<'a>(case: &Case<'a>) -> Vec<Answer<'a>> {
    let order = case.order;
    let mut answers = Vec::new();
    let mut add = |request: &'a str, place, asks, contained| {
        answers.push(Answer { request, place, answers: asks, contained });
    };
    for fact in &order.return_accepted {
        add(&fact.fact.request, case.place(fact), RETURNS, false);
    }
    for fact in &order.return_refused {
        add(&fact.fact.request, case.place(fact), RETURNS, false);
    }
    for fact in &order.address_refused {
        add(&fact.fact.request, case.place(fact), &[Ask::Address], false);
    }
    for fact in &order.confirmed {
        for request in &fact.fact.requests {
            // A return cannot be carried out before anything is shipped.
            add(request, case.place(fact), &[Ask::Cancel, Ask::Address], true);
        }
    }
    for fact in &order.cancelling {
        for request in &fact.fact.requests {
            add(request, case.place(fact), &[Ask::Cancel, Ask::Return, Ask::Address], true);
        }
    }
    answers
}

fn judge_asked(case: &Case<'_>, asked: &At<Asked>, answers: &[Answer<'_>], findings: &mut Findings) {
    let request = &asked.fact.request;
    let here = case.place(asked);
    // The same asked again is the same request, which is answered once.
    let others = case.order.asked.iter().filter(|other| other.fact.request == *request && other.fact != asked.fact);
    let others: Vec<Place> = others.map(|other| case.place(other)).filter(|other| *other > here).collect();
    if !others.is_empty() {
        let places = [&[here], &others[..]].concat();
        findings.wrong(S9, case.about, &places, format_args!("one request called {request}"), places.len());
    }
    let answered: Vec<Place> =
        answers.iter().filter(|answer| answer.request == request).map(|answer| answer.place).collect();
    match answered.len() {
        0 => findings.missing(S9, case.about, &[here], format_args!("an answer to {request}")),
        1 => {}
        count => {
            let places = [&[here], &answered[..]].concat();
            findings.wrong(S9, case.about, &places, format_args!("one answer to {request}"), count);
        }
    }
}

fn judge_answer(case: &Case<'_>, answer: &Answer<'_>, asked: Option<&At<Asked>>, findings: &mut Findings) {
    let request = answer.request;
    let Some(asked) = asked else {
        let expected = format_args!("the request {request} that is answered");
        return findings.wrong(S9, case.about, &[answer.place], expected, "none");
    };
    let places = [answer.place, case.place(asked)];
    if !answer.answers.contains(&asked.fact.ask) {
        let expected = format_args!("{request} to be one of {:?}", answer.answers);
        findings.wrong(S9, case.about, &places, expected, format_args!("{:?}", asked.fact.ask));
    }
    if answer.contained && case.place(asked) > answer.place {
        findings.wrong(
            S9,
            case.about,
            &places,
            format_args!("{request} before the decision that contains it"),
            "after",
        );
    }
}

/// The address can be changed until the order is decided, so a change of it is refused behind the decision.
fn judge_addresses(case: &Case<'_>, findings: &mut Findings) {
    let decided = case.decided();
    for refused in &case.order.address_refused {
        let here = case.place(refused);
        if decided.is_none_or(|decided| decided > here) {
            let found = decided.map_or("none", |_| "it later");
            findings.wrong(
                S9,
                case.about,
                &[here],
                format_args!("the decision before {}", refused.fact.request),
                found,
            );
        }
    }
}

/// What is shipped is what is reserved, without what the contained requests cancel; to the address of the last of them.
fn judge_contained(case: &Case<'_>, confirmed: &At<OrderConfirmed>, findings: &mut Findings) {
    let order = case.order;
    let here = case.place(confirmed);
    let requests = || confirmed.fact.requests.iter().filter_map(|request| contained(case, request));
    let cancelled = requests().filter(|asked| asked.fact.ask == Ask::Cancel);
    let cancelled: Tally = of_units(cancelled.flat_map(|asked| &asked.fact.lines));
    let (left, reserved) = (order.products().less(&cancelled), order.reserved());
    let shipped: Tally = left.iter().map(|(line, units)| (line, units.min(reserved.units(line)))).collect();
    let (expected, found) = shipped.apart(&of_units(&confirmed.fact.lines));
    if !expected.is_empty() || !found.is_empty() {
        let mut places = vec![here];
        places.extend(requests().map(|asked| case.place(asked)));
        let expected = format_args!("confirmed what is reserved and not cancelled: {expected}");
        findings.wrong(S9, case.about, &places, expected, found);
    }
    let changes = requests().filter(|asked| asked.fact.ask == Ask::Address);
    let last = changes.max_by_key(|asked| case.place(asked)).map(|asked| &asked.fact.address);
    let Some(address) = last.or(order.placed.first().map(|placed| &placed.fact.address)) else { return };
    if *address != confirmed.fact.address {
        let (expected, found) = (format_args!("the address {address:?}"), &confirmed.fact.address);
        findings.wrong(S9, case.about, &[here], expected, format_args!("{found:?}"));
    }
}

fn contained<'a>(case: &Case<'a>, request: &str) -> Option<&'a At<Asked>> {
    case.order.asked.iter().find(|asked| asked.fact.request == request)
}

/// The same for changes of the stock: each is answered by one update of its code.
pub(crate) fn judge_stock(log: &Log, findings: &mut Findings) {
    let mut seen: HashMap<&str, Place> = HashMap::new();
    for code in &log.codes {
        let about = Subject::Code(code.name.to_string());
        for asked in &code.asked {
            let StockChangeRequested { request, units } = &asked.fact;
            let here = log.place(asked.event);
            if let Some(first) = seen.insert(request, here) {
                findings.wrong(S9, &about, &[first, here], format_args!("one request {request}"), "two");
            }
            let updates = code.updated.iter().filter(|update| update.fact.request == *request);
            let updates: Vec<(Place, i64)> =
                updates.map(|update| (log.place(update.event), update.fact.asked)).collect();
            match updates[..] {
                [] => findings.missing(S9, &about, &[here], format_args!("{} for {request}", InventoryUpdated::KIND)),
                [(_, asked)] if asked == *units => {}
                [(place, asked)] => {
                    let expected = format_args!("{units} asked, as {request} has it");
                    findings.wrong(S9, &about, &[place, here], expected, asked);
                }
                _ => {
                    let places: Vec<Place> = updates.iter().map(|(place, _)| *place).collect();
                    findings.wrong(S9, &about, &places, format_args!("one answer to {request}"), updates.len());
                }
            }
        }
        for update in &code.updated {
            let request = &update.fact.request;
            if !code.asked.iter().any(|asked| asked.fact.request == *request) {
                let expected = format_args!("the request {request} that is answered");
                findings.wrong(S9, &about, &[log.place(update.event)], expected, "none");
            }
        }
    }
}
