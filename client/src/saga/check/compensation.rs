//! S8, compensation: what is taken back names what was given, of the same order and the right type, and is no more than
//! that; in a cancelled order it is exactly that, also of successes that came late.

use super::{
    super::payload::{
        InventoryReleased, InventoryReserved, InventoryReturned, OrderFulfilled, PaymentAuthorized, PaymentCaptured,
        PaymentVoided, RefundProcessed, ReturnAccepted,
    },
    case::Case,
    place::Place,
    tally::Tally,
    verdict::{Findings, Invariant::S8},
};

pub(crate) fn judge(case: &Case<'_>, findings: &mut Findings) {
    judge_names(case, findings);
    judge_sums(case, findings);
    if !case.order.cancelled.is_empty() {
        judge_given_up(case, findings);
    }
}

fn judge_names(case: &Case<'_>, findings: &mut Findings) {
    let order = case.order;
    for fact in &order.voided {
        names(case, case.place(fact), PaymentVoided::KIND, &fact.fact.compensates, PaymentAuthorized::KIND, findings);
    }
    for fact in &order.refunded {
        names(case, case.place(fact), RefundProcessed::KIND, &fact.fact.compensates, PaymentCaptured::KIND, findings);
    }
    for fact in &order.released {
        names(
            case,
            case.place(fact),
            InventoryReleased::KIND,
            &fact.fact.compensates,
            InventoryReserved::KIND,
            findings,
        );
    }
    for fact in &order.returned {
        names(case, case.place(fact), InventoryReturned::KIND, &fact.fact.compensates, OrderFulfilled::KIND, findings);
    }
    for fact in &order.return_accepted {
        names(case, case.place(fact), ReturnAccepted::KIND, &fact.fact.fulfilled, OrderFulfilled::KIND, findings);
    }
}

/// What is named is there, of the same order and of this type.
fn names(case: &Case<'_>, here: Place, what: &str, id: &str, original: &str, findings: &mut Findings) {
    let expected = format_args!("{what} to name a {original} of {}", case.about);
    match case.log.by_id(id) {
        None => findings.wrong(S8, case.about, &[here], expected, format_args!("no event {id:?}")),
        Some(event) => {
            let about = case.log.subject(event.about);
            if event.kind() != original || about != *case.about {
                let found = format_args!("a {} of {about}", event.kind());
                findings.wrong(S8, case.about, &[here, event.place], expected, found);
            }
        }
    }
}

fn judge_sums(case: &Case<'_>, findings: &mut Findings) {
    let order = case.order;
    let sum = |amounts: &mut dyn Iterator<Item = u64>| -> u128 { amounts.map(u128::from).sum() };
    let authorized = sum(&mut order.authorized.iter().map(|fact| fact.fact.amount));
    let captured = sum(&mut order.captured.iter().map(|fact| fact.fact.amount));
    let voided = sum(&mut order.voided.iter().map(|fact| fact.fact.amount));
    let refunded = sum(&mut order.refunded.iter().map(|fact| fact.fact.amount));
    let (voids, refunds) = (case.places(&order.voided), case.places(&order.refunded));
    for (what, original, compensated, places) in
        [("voided of", authorized, voided, voids), ("refunded of", captured, refunded, refunds)]
    {
        if compensated > original {
            let expected = format_args!("at most {original} p {what} {original} p");
            findings.wrong(S8, case.about, &places, expected, format_args!("{compensated} p"));
        }
    }
    let (releases, returns) = (case.places(&order.released), case.places(&order.returned));
    for (what, original, compensated, places) in [
        ("released of what was reserved", order.reserved(), order.released(), releases),
        ("returned of what was shipped", order.shipped(), order.returned(), returns),
    ] {
        if !compensated.within(&original) {
            let expected = format_args!("at most {original} {what}");
            findings.wrong(S8, case.about, &places, expected, &compensated);
        }
    }
    if !order.cancelled.is_empty() && voided != authorized {
        let places = [case.places(&order.authorized), case.places(&order.voided)].concat();
        let expected = format_args!("{authorized} p voided of a cancelled order");
        findings.wrong(S8, case.about, &places, expected, format_args!("{voided} p"));
    }
}

/// Nothing of a cancelled order stays set aside.
fn judge_given_up(case: &Case<'_>, findings: &mut Findings) {
    let order = case.order;
    let (expected, found) = order.reserved().apart(&order.released());
    if (&expected, &found) != (&Tally::default(), &Tally::default()) {
        let places = [case.places(&order.reserved), case.places(&order.released)].concat();
        let expected = format_args!("released of a cancelled order all that was reserved: {expected}");
        findings.wrong(S8, case.about, &places, expected, found);
    }
}
