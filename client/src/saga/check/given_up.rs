//! S4 of an order that is given up: for a reason that is there, nothing of it is shipped or captured, and nothing is
//! held when the last word is said.

use super::{
    super::payload::{
        CancelReason, InventoryRejected, OrderCancelled, OrderCancelling, OrderFulfilled, PaymentCaptured,
        PaymentDeclined,
    },
    case::Case,
    facts::{Ask, At, of_units},
    log::Event,
    place::Place,
    tally::Tally,
    verdict::{Findings, Invariant::S4, Listed},
};

pub(crate) fn judge(case: &Case<'_>, cancelling: &At<OrderCancelling>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let mut done = case.places(&order.fulfilled);
    done.extend(case.places(&order.captured));
    if !done.is_empty() {
        let expected =
            format_args!("no {} or {} of an order that was given up", OrderFulfilled::KIND, PaymentCaptured::KIND);
        findings.wrong(S4, about, &done, expected, done.len());
    }
    judge_reason(case, cancelling, findings);
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
    judge_last_word(case, cancelling, cancelled, findings);
}

/// What is called the reason was there before. An order may have several; any of them will do.
fn judge_reason(case: &Case<'_>, cancelling: &At<OrderCancelling>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let here = case.place(cancelling);
    match cancelling.fact.reason {
        CancelReason::PaymentDeclined => {
            // A decline of which the gateway was not asked is what follows from giving up, never its reason.
            let mut declined = case.before(&order.declined, cancelling.event);
            if !declined.any(|declined| declined.fact.key.is_some()) {
                let expected = format_args!("a {} of the gateway before it", PaymentDeclined::KIND);
                findings.wrong(S4, about, &[here], expected, "none");
            }
        }
        CancelReason::OutOfStock => {
            if case.before(&order.rejected, cancelling.event).next().is_none() {
                let places = [vec![here], case.places(&order.reserved)].concat();
                let expected = format_args!("an {} before it", InventoryRejected::KIND);
                findings.wrong(S4, about, &places, expected, "none");
            }
        }
        CancelReason::Requested => judge_requested(case, cancelling, findings),
        // That it was the order's timer is its cause. How long a deadline is does not stand in the log.
        CancelReason::Deadline => {}
    }
}

/// The cancellations that the decision contains, and what is known to be short, leave nothing to ship.
fn judge_requested(case: &Case<'_>, cancelling: &At<OrderCancelling>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let contains = |request: &String| cancelling.fact.requests.contains(request);
    let asked = order.asked.iter().filter(|asked| asked.fact.ask == Ask::Cancel && contains(&asked.fact.request));
    let cancels: Vec<_> = asked.collect();
    let cancelled = of_units(cancels.iter().flat_map(|asked| &asked.fact.lines));
    let short: Vec<u32> =
        case.before(&order.reserved, cancelling.event).flat_map(|moved| &moved.fact.short).copied().collect();
    let products = order.products();
    let left: Tally = products.less(&cancelled).iter().filter(|(line, _)| !short.contains(line)).collect();
    if products.is_empty() || !left.is_empty() {
        let mut places = vec![case.place(cancelling)];
        places.extend(cancels.iter().map(|asked| case.place(asked)));
        places.extend(case.places(&order.reserved));
        let expected = "the requests that it contains to leave no product line";
        let found = if products.is_empty() { "an order without any".to_owned() } else { format!("{left} left") };
        findings.wrong(S4, about, &places, expected, found);
    }
}

/// Both have answered before, and nothing of theirs comes later.
fn judge_last_word(
    case: &Case<'_>,
    cancelling: &At<OrderCancelling>,
    cancelled: &At<OrderCancelled>,
    findings: &mut Findings,
) {
    let Case { order, about, .. } = *case;
    let here = case.place(cancelled);
    let paid = [case.places(&order.authorized), case.places(&order.declined)].concat();
    let stocked = [case.places(&order.reserved), case.places(&order.rejected)].concat();
    if paid.is_empty() || stocked.is_empty() {
        let found = format_args!("payment {}, inventory {}", Listed(&paid), Listed(&stocked));
        findings.wrong(S4, about, &[here], "the last word after payment and inventory have answered", found);
    }
    let decided = case.place(cancelling);
    if here < decided {
        findings.wrong(S4, about, &[here, decided], "the last word behind the decision", "before it");
    }
    let events = order.authorized.iter().map(|fact| fact.event);
    let events = events.chain(order.declined.iter().map(|fact| fact.event));
    let events = events.chain(order.voided.iter().map(|fact| fact.event));
    let moved = order.reserved.iter().chain(&order.rejected).chain(&order.released);
    let answers = events.chain(moved.map(|fact| fact.event)).map(|number| case.log.event(number));
    let unread = answers.filter(|answer| !may_be_read(case, cancelling, cancelled, answer));
    let later: Vec<Place> = unread.map(|answer| answer.place).collect();
    if !later.is_empty() {
        let expected = format_args!("nothing of payment and inventory after {here}");
        findings.wrong(S4, about, &later, expected, Listed(&later));
    }
}

/// Whether the step that said the last word can have known of an answer.
///
/// The topics are read at their own pace, so the cause of the last word is the answer that was *read* last, which need
/// not be the one that was written last. An append time is one of a whole frame and may be that of the next one, too.
/// At the same time it is decided by what the step names: it has not read what stands behind its cause in the same
/// partition; and when it is the step of the decision itself, it has read nothing that follows from the decision.
fn may_be_read(
    case: &Case<'_>,
    cancelling: &At<OrderCancelling>,
    cancelled: &At<OrderCancelled>,
    answer: &Event,
) -> bool {
    let (log, decision, last) = (case.log, case.log.event(cancelling.event), case.log.event(cancelled.event));
    if answer.time_us > last.time_us {
        return false;
    }
    let read_last = last.cause.as_ref().and_then(|id| log.ids.get(id)).map(|number| log.place(*number));
    if read_last.is_some_and(|read_last| read_last.is_before_in_partition(&answer.place)) {
        return false;
    }
    let step = |event: &Event| event.step.as_ref().map(|step| (step.group, step.answers.clone()));
    let is_one_step = step(decision).is_some() && step(decision) == step(last);
    !(is_one_step && answer.cause.is_some() && answer.cause == decision.id)
}
