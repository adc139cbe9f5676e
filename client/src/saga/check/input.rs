//! S1, input: the log holds what was put in, every item once. A second placement of an order has the same content, or
//! it was refused.

use std::collections::{BTreeMap, HashSet};

use super::{
    super::payload::{Event as Payload, OrderPlaced, PlacementRefused, StockChangeRequested},
    case::Case,
    facts::{Ask, Asked, Bought, Order, Placed, content, of_units},
    log::Log,
    place::Place,
    verdict::{Findings, Invariant::S1, Subject},
};

/// What should have been put in, made again from where it came from.
#[derive(Clone, Debug, Default)]
pub struct ExpectedInput {
    /// The placement of each order.
    pub orders: BTreeMap<String, OrderPlaced>,
    /// The requests about each order: cancellations, returns, changes of the address.
    pub requests: BTreeMap<String, Vec<Payload>>,
    /// Changes of the stock, each with its code.
    pub stock: Vec<(String, StockChangeRequested)>,
}

/// Placements after the first: with the same content they do nothing, others are refused once each.
pub(crate) fn judge(case: &Case<'_>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let [first, again @ ..] = &order.placed[..] else { return };
    let refused: Vec<(Option<Place>, Place)> = order
        .placement_refused
        .iter()
        .map(|refused| (case.log.by_id(&refused.fact.placement).map(|event| event.place), case.place(refused)))
        .collect();
    for placed in again {
        let here = case.place(placed);
        let refusals = refused.iter().filter(|(placement, _)| *placement == Some(here));
        let mut places: Vec<Place> = refusals.map(|(_, refusal)| *refusal).collect();
        let count = places.len();
        places.extend([here, case.place(first)]);
        match (placed.fact.content == first.fact.content, count) {
            (true, 0) | (false, 1) => {}
            (true, _) => findings.wrong(S1, about, &places, "no refusal of a placement that is the same", count),
            (false, 0) => {
                let expected = format_args!("{} of a placement that is another", PlacementRefused::KIND);
                findings.missing(S1, about, &places, expected);
            }
            (false, _) => findings.wrong(S1, about, &places, "one refusal of a placement that is another", count),
        }
    }
    for (placement, refusal) in &refused {
        if !again.iter().any(|placed| Some(case.place(placed)) == *placement) {
            let expected = "a refusal of a second placement of the order";
            findings.wrong(S1, about, &[*refusal], expected, "a refusal of something else");
        }
    }
}

/// The log against what should have been put in.
pub(crate) fn judge_expected(log: &Log, cases: &[Case<'_>], expected: &ExpectedInput, findings: &mut Findings) {
    for (name, placed) in &expected.orders {
        let about = Subject::Order(name.clone());
        match log.order_by_name(name).map(|order| (order, order.placed.first())) {
            Some((order, Some(first))) if first.fact.content != content(placed) => {
                let differs = differs(log, order, &first.fact, placed);
                findings.wrong(S1, &about, &[log.place(first.event)], "the order as it was put in", differs);
            }
            Some((_, Some(_))) => {}
            _ => findings.wrong(S1, &about, &[], OrderPlaced::KIND, "none"),
        }
    }
    for case in cases {
        if !expected.orders.contains_key(case.name) && !case.order.placed.is_empty() {
            let places = case.places(&case.order.placed);
            findings.wrong(S1, case.about, &places, "no order that was not put in", "one");
        }
        judge_requests(case, expected.requests.get(case.name).map_or(&[], Vec::as_slice), findings);
    }
    for (name, requests) in &expected.requests {
        if log.order_by_name(name).is_none() && !requests.is_empty() {
            findings.wrong(S1, &Subject::Order(name.clone()), &[], format_args!("{} requests", requests.len()), "none");
        }
    }
    judge_stock(log, &expected.stock, findings);
}

/// In what the log's placement is another one.
fn differs(log: &Log, order: &Order, found: &Placed, expected: &OrderPlaced) -> String {
    let mut wanted: Vec<(&str, Bought)> =
        expected.lines.iter().map(|line| (line.code.as_str(), Bought::of(line, 0))).collect();
    wanted.sort_by_key(|(_, line)| line.line);
    let lines = order.lines();
    if lines.len() != wanted.len() {
        return format!("{} lines instead of {}", lines.len(), wanted.len());
    }
    let apart = lines.iter().zip(&wanted).find(|(line, (code, wanted))| {
        Bought { code: 0, ..**line } != *wanted || *log.codes[line.code as usize].name != **code
    });
    match apart {
        Some((line, (code, wanted))) => {
            let put = |code: &str, line: &Bought| {
                let service = if line.service { " as a service" } else { "" };
                format!("line {} of {} {code} at {} mills{service}", line.line, line.units, line.price_mills)
            };
            format!("{} instead of {}", put(&log.codes[line.code as usize].name, line), put(code, wanted))
        }
        None if found.address != expected.address => {
            format!("the address {:?} instead of {:?}", found.address, expected.address)
        }
        None => "another customer, another order of lines or other descriptions".into(),
    }
}

/// Every request that was put in, once and as it was, and no other.
fn judge_requests(case: &Case<'_>, expected: &[Payload], findings: &mut Findings) {
    let wanted: Vec<Asked> = expected.iter().filter_map(asked).collect();
    for wanted in &wanted {
        let found = case.order.asked.iter().filter(|found| found.fact.request == wanted.request);
        let (places, same): (Vec<Place>, Vec<bool>) =
            found.map(|found| (case.place(found), is_same(&found.fact, wanted))).unzip();
        let what = format_args!("{:?} {} as it was put in, once", wanted.ask, wanted.request);
        match same[..] {
            [true] => {}
            [false] => findings.wrong(S1, case.about, &places, what, "another one"),
            _ => findings.wrong(S1, case.about, &places, what, places.len()),
        }
    }
    for found in &case.order.asked {
        if !wanted.iter().any(|wanted| wanted.request == found.fact.request) {
            let place = case.place(found);
            findings.wrong(S1, case.about, &[place], "no request that was not put in", &found.fact.request);
        }
    }
}

fn is_same(one: &Asked, other: &Asked) -> bool {
    one.ask == other.ask && of_units(&one.lines) == of_units(&other.lines) && one.address == other.address
}

fn asked(payload: &Payload) -> Option<Asked> {
    let (ask, request, lines, address) = match payload {
        Payload::CancelRequested(fact) => (Ask::Cancel, &fact.request, fact.lines.clone(), String::new()),
        Payload::ReturnRequested(fact) => (Ask::Return, &fact.request, fact.lines.clone(), String::new()),
        Payload::AddressChangeRequested(fact) => (Ask::Address, &fact.request, Vec::new(), fact.address.clone()),
        _ => return None,
    };
    Some(Asked { ask, request: request.clone(), lines, address })
}

/// Every change of the stock, once and as it was put in, and no other.
fn judge_stock(log: &Log, expected: &[(String, StockChangeRequested)], findings: &mut Findings) {
    let mut wanted: HashSet<(&str, &str)> = HashSet::new();
    for (code, StockChangeRequested { request, units }) in expected {
        wanted.insert((code, request));
        let about = Subject::Code(code.clone());
        let found = log.code_by_name(code).map_or(&[][..], |code| &code.asked);
        let found = found.iter().filter(|asked| asked.fact.request == *request);
        let (places, same): (Vec<Place>, Vec<bool>) =
            found.map(|asked| (log.place(asked.event), asked.fact.units == *units)).unzip();
        match same[..] {
            [true] => {}
            [false] => findings.wrong(S1, &about, &places, format_args!("{units} units asked by {request}"), "another"),
            _ => findings.wrong(S1, &about, &places, format_args!("{request} of {units} units, once"), places.len()),
        }
    }
    for code in &log.codes {
        for asked in &code.asked {
            if !wanted.contains(&(&*code.name, asked.fact.request.as_str())) {
                let about = Subject::Code(code.name.to_string());
                let place = log.place(asked.event);
                findings.wrong(S1, &about, &[place], "no change of the stock that was not put in", &asked.fact.request);
            }
        }
    }
}
