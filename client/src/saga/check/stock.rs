//! S7, stock: the decisions of the inventory are numbered without a gap, in that order no code is ever given out twice
//! and no line is short of which there is enough, and at the end what was set aside and not set free is what was
//! shipped.

use std::cmp::Ordering;

use super::{
    super::payload::{InventoryRejected, InventoryReleased, InventoryReserved, InventoryReturned, ReturnAccepted},
    case::Case,
    facts::{At, Code, CodeNumber, Moved, of_stocked, of_units},
    log::{About, Change, Decision, Log},
    place::Place,
    verdict::{Findings, Invariant::S7, Subject},
};

pub(crate) fn judge(case: &Case<'_>, findings: &mut Findings) {
    let order = case.order;
    let answers = [case.places(&order.reserved), case.places(&order.rejected)].concat();
    if answers.len() > 1 {
        let expected = format_args!("one {} or {}", InventoryReserved::KIND, InventoryRejected::KIND);
        findings.wrong(S7, case.about, &answers, expected, answers.len());
    }
    for moved in order.reserved.iter().chain(&order.released).chain(&order.returned) {
        judge_codes(case, moved, findings);
    }
    judge_released(case, findings);
    judge_returned(case, findings);
}

/// Units are of the code that the line was placed with.
fn judge_codes(case: &Case<'_>, moved: &At<Moved>, findings: &mut Findings) {
    for units in &moved.fact.lines {
        let placed = case.order.line(units.line).map(|line| line.code);
        if placed != Some(units.code) {
            let code = |code: CodeNumber| &case.log.codes[code as usize].name;
            let placed = placed.map_or("none", |placed| code(placed));
            let expected = format_args!("code {placed} of line {}", units.line);
            findings.wrong(S7, case.about, &[case.place(moved)], expected, format_args!("code {}", code(units.code)));
        }
    }
}

/// Reserved less released is shipped, or nothing when the order is given up.
fn judge_released(case: &Case<'_>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let reserved = order.reserved();
    let shipped = match (&order.confirmed[..], &order.cancelling[..]) {
        ([confirmed, ..], _) => of_units(&confirmed.fact.lines),
        ([], [_, ..]) => order.shipped(),
        // Nothing is set free before the decision; the cause of what is there anyway is another finding.
        ([], []) => return,
    };
    let rest = reserved.less(&shipped);
    let places = || [case.places(&order.reserved), case.places(&order.released)].concat();
    if order.released.is_empty() {
        if !rest.is_empty() {
            findings.missing(S7, about, &places(), format_args!("{} of {rest}", InventoryReleased::KIND));
        }
        return;
    }
    let (expected, found) = rest.apart(&order.released());
    if !expected.is_empty() || !found.is_empty() {
        let expected = format_args!("released what was reserved and not shipped: {expected}");
        findings.wrong(S7, about, &places(), expected, found);
    }
}

/// Each return that was accepted is taken into stock once, and no line comes back more often than it was shipped.
fn judge_returned(case: &Case<'_>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let (shipped, returned) = (order.shipped(), order.returned());
    if !returned.within(&shipped) {
        let expected = format_args!("returned within shipped: {shipped}");
        findings.wrong(S7, about, &case.places(&order.returned), expected, &returned);
    }
    for accepted in &order.return_accepted {
        let ReturnAccepted { request, lines, .. } = &accepted.fact;
        let of_request = |moved: &&At<Moved>| moved.fact.request == *request;
        let taken: Vec<&At<Moved>> = order.returned.iter().filter(of_request).collect();
        let mut places: Vec<Place> = taken.iter().map(|moved| case.place(moved)).collect();
        places.push(case.place(accepted));
        match taken[..] {
            [] => findings.missing(S7, about, &places, format_args!("{} for {request}", InventoryReturned::KIND)),
            [moved] => {
                let (expected, found) = of_units(lines).apart(&of_stocked(&moved.fact.lines));
                if !expected.is_empty() || !found.is_empty() {
                    let expected = format_args!("taken back what was accepted for {request}: {expected}");
                    findings.wrong(S7, about, &places, expected, found);
                }
            }
            _ => findings.wrong(S7, about, &places, format_args!("{request} taken back once"), taken.len()),
        }
    }
    for moved in &order.returned {
        if !order.return_accepted.iter().any(|accepted| accepted.fact.request == moved.fact.request) {
            let found = format_args!("one for {}", moved.fact.request);
            findings.wrong(S7, about, &[case.place(moved)], "a return that was accepted", found);
        }
    }
}

/// The stock over all orders. Out: the units that are free at the end.
pub(crate) fn judge_all(log: &Log, cases: &[Case<'_>], findings: &mut Findings) -> i128 {
    let mut decisions: Vec<&Decision> = log.decisions.iter().collect();
    decisions.sort_by_key(|decision| (decision.number, log.place(decision.event)));
    judge_numbers(log, &decisions, findings);
    let free = judge_free(log, &decisions, findings);
    // An order that may be open may have something set aside.
    if !findings.allows_open() || !findings.any_open() {
        judge_on_hand(log, cases, &free, findings);
    }
    free.iter().sum()
}

/// Dense from 1, no number twice: or two have decided at once.
fn judge_numbers(log: &Log, decisions: &[&Decision], findings: &mut Findings) {
    let mut before: Option<&Decision> = None;
    for decision in decisions {
        let next = before.map_or(1, |before| before.number.saturating_add(1));
        let places: Vec<Place> = before.iter().chain([decision]).map(|decision| log.place(decision.event)).collect();
        let about = log.subject(log.event(decision.event).about);
        match decision.number.cmp(&next) {
            Ordering::Equal => {}
            Ordering::Less => {
                let (expected, found) = (format_args!("decision {next}"), format_args!("{} again", decision.number));
                findings.wrong(S7, &about, &places, expected, found);
            }
            Ordering::Greater => {
                findings.wrong(S7, &about, &places, format_args!("decision {next}"), decision.number);
            }
        }
        before = Some(decision);
    }
}

/// What is free of each code after every decision is never less than nothing.
fn judge_free(log: &Log, decisions: &[&Decision], findings: &mut Findings) -> Vec<i128> {
    let mut free = vec![0_i128; log.codes.len()];
    for decision in decisions {
        let event = log.event(decision.event);
        if let (Change::Updated(index), About::Code(code)) = (decision.change, event.about) {
            let update = &log.codes[code as usize].updated[index].fact;
            let now = &mut free[code as usize];
            let (asked, applied) = (i128::from(update.asked), i128::from(update.applied));
            let possible = asked.max(-(*now).max(0)).max(asked.min(0));
            if applied != possible {
                let expected = format_args!("{possible} applied of {asked} asked with {} free", *now);
                findings.wrong(S7, &log.subject(event.about), &[event.place], expected, applied);
            }
            *now += applied;
            if *now < 0 && applied < 0 {
                below(log, decision, code, *now, findings);
            }
            continue;
        }
        let Some((sign, moved)) = moved(log, decision) else { continue };
        for units in &moved.lines {
            let now = &mut free[units.code as usize];
            *now += sign * i128::from(units.units);
            if *now < 0 && sign < 0 && units.units > 0 {
                below(log, decision, units.code, *now, findings);
            }
        }
        judge_short(log, decision, moved, &free, findings);
    }
    free
}

/// A line is short when there was not enough of its code, also beside what the same order got of it: by then, and in
/// whatever order its lines were looked at.
fn judge_short(log: &Log, decision: &Decision, moved: &Moved, free: &[i128], findings: &mut Findings) {
    let event = log.event(decision.event);
    let About::Order(order) = event.about else { return };
    for line in moved.short.iter().filter_map(|line| log.orders[order as usize].line(*line)) {
        let (units, now) = (line.units, free[line.code as usize]);
        if now >= i128::from(units) {
            let code = &log.codes[line.code as usize].name;
            let expected = format_args!("line {} short with fewer than its {units} of {code} free", line.line);
            findings.wrong(S7, &log.subject(event.about), &[event.place], expected, format_args!("{now} free"));
        }
    }
}

fn below(log: &Log, decision: &Decision, code: CodeNumber, now: i128, findings: &mut Findings) {
    let event = log.event(decision.event);
    let code = &log.codes[code as usize].name;
    let expected = format_args!("at least 0 free of {code} after decision {}", decision.number);
    findings.wrong(S7, &log.subject(event.about), &[event.place], expected, now);
}

/// What an order's decision moves, and whether into what is free or out of it.
fn moved<'a>(log: &'a Log, decision: &Decision) -> Option<(i128, &'a Moved)> {
    let About::Order(order) = log.event(decision.event).about else { return None };
    let order = &log.orders[order as usize];
    match decision.change {
        Change::Reserved(index) => Some((-1, &order.reserved[index].fact)),
        Change::Released(index) => Some((1, &order.released[index].fact)),
        Change::Returned(index) => Some((1, &order.returned[index].fact)),
        Change::Rejected(index) => Some((-1, &order.rejected[index].fact)),
        Change::Updated(_) => None,
    }
}

/// When nothing is set aside any more, what is free is what is on hand: changes, less what was shipped, and what came
/// back.
fn judge_on_hand(log: &Log, cases: &[Case<'_>], free: &[i128], findings: &mut Findings) {
    let applied = |code: &Code| code.updated.iter().map(|update| i128::from(update.fact.applied)).sum();
    let mut on_hand: Vec<i128> = log.codes.iter().map(applied).collect();
    for case in cases {
        let (shipped, returned) = (case.order.shipped(), case.order.returned());
        for line in case.order.lines() {
            let kept = i128::from(shipped.units(line.line)) - i128::from(returned.units(line.line));
            on_hand[line.code as usize] -= kept;
        }
    }
    for (code, (on_hand, free)) in log.codes.iter().zip(on_hand.iter().zip(free)) {
        if on_hand != free {
            let about = Subject::Code(code.name.to_string());
            let places: Vec<Place> = code.updated.iter().map(|update| log.place(update.event)).collect();
            let expected = format_args!("{on_hand} on hand: changes less shipped and returned");
            findings.wrong(S7, &about, &places, expected, format_args!("{free} free and nothing set aside"));
        }
    }
}
