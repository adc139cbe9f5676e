//! S4, one decision: an order is confirmed or being cancelled, once; what is confirmed is shipped. What has to hold of
//! an order that is given up stands in `given_up`.

use super::{
    super::payload::{OrderCancelled, OrderCancelling, OrderConfirmed, OrderFulfilled},
    case::Case,
    facts::{At, Moved, of_stocked, of_units},
    given_up,
    tally::Tally,
    verdict::{Findings, Invariant::S4},
};

pub(crate) fn judge(case: &Case<'_>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let mut decisions = case.places(&order.confirmed);
    decisions.extend(case.places(&order.cancelling));
    match decisions.len() {
        // They share a partition: it will not come behind its own end.
        0 if !order.cancelled.is_empty() => {
            let expected = format_args!("{} before {}", OrderCancelling::KIND, OrderCancelled::KIND);
            findings.wrong(S4, about, &case.places(&order.cancelled), expected, "none");
        }
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
        given_up::judge(case, cancelling, findings);
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
    let authorized = case.before(&order.authorized, confirmed.event).count();
    let reserved = case.before(&order.reserved, confirmed.event).count();
    if authorized == 0 || reserved == 0 {
        let found = format_args!("{authorized} authorisations, {reserved} reservations before it");
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
