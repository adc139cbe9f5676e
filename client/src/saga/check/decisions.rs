//! S4, one decision: an order is confirmed or being cancelled, once; what is confirmed is shipped, and of what is
//! cancelled nothing is shipped, captured or held when the last word is said.

use super::{
    super::payload::{OrderCancelled, OrderCancelling, OrderConfirmed, OrderFulfilled, PaymentCaptured},
    case::Case,
    facts::{At, Moved, of_stocked, of_units},
    place::Place,
    tally::Tally,
    verdict::{Findings, Invariant::S4, Listed},
};

pub(crate) fn judge(case: &Case<'_>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let mut decisions = case.places(&order.confirmed);
    decisions.extend(case.places(&order.cancelling));
    match decisions.len() {
        0 => {
            let expected = format_args!("{} or {}", OrderConfirmed::KIND, OrderCancelling::KIND);
            findings.missing(S4, about, &case.places(&order.placed), expected);
        }
        1 => {}
        count => findings.wrong(S4, about, &decisions, "one decision", count),
    }
    if order.placed.is_empty() && !decisions.is_empty() {
        findings.wrong(S4, about, &decisions, "a decision on an order that was placed", "no placement");
    }
    judge_inventory(case, findings);
    if let [confirmed, ..] = &order.confirmed[..] {
        judge_confirmed(case, confirmed, findings);
    }
    if let [cancelling, ..] = &order.cancelling[..] {
        judge_cancelling(case, cancelling, findings);
    }
}

/// What is reserved is of the order: each product line whole, or it is short.
fn judge_inventory(case: &Case<'_>, findings: &mut Findings) {
    let products = case.order.products();
    let short_units = |moved: &At<Moved>| -> Tally {
        moved.fact.short.iter().map(|line| (*line, products.units(*line).max(1))).collect()
    };
    for reserved in &case.order.reserved {
        let units = of_stocked(&reserved.fact.lines);
        let (expected, found) = products.apart(&units.plus(&short_units(reserved)));
        if (&expected, &found) != (&Tally::default(), &Tally::default()) {
            let expected = format_args!("each product line reserved as it was placed, or short: {expected}");
            let found = format_args!("reserved or short: {found}");
            findings.wrong(S4, case.about, &[case.place(reserved)], expected, found);
        }
    }
    for rejected in &case.order.rejected {
        let short = short_units(rejected);
        if short != products || products.is_empty() {
            let places = [case.place(rejected)];
            let expected = format_args!("a rejection of all product lines: {products}");
            findings.wrong(S4, case.about, &places, expected, format_args!("short: {short}"));
        }
    }
}

fn judge_confirmed(case: &Case<'_>, confirmed: &At<OrderConfirmed>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let here = case.place(confirmed);
    let units = of_units(&confirmed.fact.lines);
    if order.authorized.is_empty() || order.reserved.is_empty() {
        let found = (order.authorized.len(), order.reserved.len());
        let found = format_args!("{} authorisations, {} reservations", found.0, found.1);
        findings.wrong(S4, about, &[here], "a confirmation after both successes", found);
    }
    if !order.cancelled.is_empty() {
        let expected = format_args!("no {} of a confirmed order", OrderCancelled::KIND);
        findings.wrong(S4, about, &case.places(&order.cancelled), expected, order.cancelled.len());
    }
    let reserved = order.reserved();
    if !units.within(&reserved) {
        let mut places = vec![here];
        places.extend(case.places(&order.reserved));
        findings.wrong(S4, about, &places, format_args!("confirmed within reserved: {reserved}"), &units);
    }
    if units.is_empty() && !order.products().is_empty() {
        let expected = "an order that had product lines and has none left to be cancelled";
        findings.wrong(S4, about, &[here], expected, "confirmed");
    }
    match &order.fulfilled[..] {
        [] => findings.missing(S4, about, &[here], OrderFulfilled::KIND),
        [fulfilled] => {
            let (expected, found) = units.apart(&of_units(&fulfilled.fact.lines));
            if !expected.is_empty() || !found.is_empty() {
                let places = [case.place(fulfilled), here];
                findings.wrong(S4, about, &places, format_args!("shipped as confirmed: {expected}"), found);
            }
        }
        more => {
            let expected = format_args!("one {}", OrderFulfilled::KIND);
            findings.wrong(S4, about, &case.places(more), expected, more.len());
        }
    }
}

fn judge_cancelling(case: &Case<'_>, cancelling: &At<OrderCancelling>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let mut done = case.places(&order.fulfilled);
    done.extend(case.places(&order.captured));
    if !done.is_empty() {
        let expected =
            format_args!("no {} or {} of an order that was given up", OrderFulfilled::KIND, PaymentCaptured::KIND);
        findings.wrong(S4, about, &done, expected, done.len());
    }
    let cancelled = match &order.cancelled[..] {
        [] => return findings.missing(S4, about, &[case.place(cancelling)], OrderCancelled::KIND),
        [cancelled] => cancelled,
        more => {
            let expected = format_args!("one {}", OrderCancelled::KIND);
            return findings.wrong(S4, about, &case.places(more), expected, more.len());
        }
    };
    if cancelled.fact.reason != cancelling.fact.reason {
        let places = [case.place(cancelled), case.place(cancelling)];
        let (expected, found) = (cancelling.fact.reason, cancelled.fact.reason);
        findings.wrong(S4, about, &places, format_args!("the reason {expected:?}"), format_args!("{found:?}"));
    }
    judge_last_word(case, cancelled, findings);
}

/// Both have answered before, and nothing of theirs comes later.
fn judge_last_word(case: &Case<'_>, cancelled: &At<OrderCancelled>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let here = case.place(cancelled);
    let paid = [case.places(&order.authorized), case.places(&order.declined)].concat();
    let stocked = [case.places(&order.reserved), case.places(&order.rejected)].concat();
    if paid.is_empty() || stocked.is_empty() {
        let found = format_args!("payment {}, inventory {}", Listed(&paid), Listed(&stocked));
        findings.wrong(S4, about, &[here], "the last word after payment and inventory have answered", found);
    }
    let last = case.log.event(cancelled.event).time_us;
    let events = order.authorized.iter().map(|fact| fact.event);
    let events = events.chain(order.declined.iter().map(|fact| fact.event));
    let events = events.chain(order.voided.iter().map(|fact| fact.event));
    let moved = order.reserved.iter().chain(&order.rejected).chain(&order.released);
    let events = events.chain(moved.map(|fact| fact.event)).map(|number| case.log.event(number));
    let later: Vec<Place> = events.filter(|event| event.time_us > last).map(|event| event.place).collect();
    if !later.is_empty() {
        let expected = format_args!("nothing of payment and inventory after {here}");
        findings.wrong(S4, about, &later, expected, Listed(&later));
    }
}
