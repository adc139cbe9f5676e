//! S10, told once: a customer is told of an order at most once of each kind; of refunds once for each.

use super::{
    super::payload::{Notice, NotificationSent, RefundProcessed},
    case::Case,
    facts::At,
    place::Place,
    verdict::{Findings, Invariant::S10},
};

pub(crate) fn judge(case: &Case<'_>, findings: &mut Findings) {
    let told = &case.order.told;
    for (index, sent) in told.iter().enumerate() {
        judge_subject(case, sent, findings);
        let same = |other: &&At<NotificationSent>| other.fact == sent.fact;
        if told[..index].iter().any(|other| same(&other)) {
            continue;
        }
        let all: Vec<Place> = told.iter().filter(same).map(|other| case.place(other)).collect();
        if all.len() > 1 {
            let NotificationSent { notice, request } = &sent.fact;
            let of = request.as_deref().unwrap_or("the order");
            let expected = format_args!("{notice:?} of {of} told at most once");
            findings.wrong(S10, case.about, &all, expected, all.len());
        }
    }
}

/// A refund is told of by its request, everything else by its order: another name would hide that it was told twice.
fn judge_subject(case: &Case<'_>, sent: &At<NotificationSent>, findings: &mut Findings) {
    let NotificationSent { notice, request } = &sent.fact;
    let fits = match (notice, request) {
        (Notice::Refunded, Some(request)) => case.order.refunded.iter().any(|refund| refund.fact.request == *request),
        (Notice::Refunded, None) => false,
        (_, request) => request.is_none(),
    };
    if !fits {
        let expected = match notice {
            Notice::Refunded => format!("the request of a {}", RefundProcessed::KIND),
            _ => format!("{notice:?} of the order"),
        };
        let found = request.as_deref().unwrap_or("no request");
        findings.wrong(S10, case.about, &[case.place(sent)], expected, found);
    }
}

/// How many events there are that the customer is told of, and was not told of.
pub(crate) fn untold(case: &Case<'_>) -> u64 {
    let order = case.order;
    let due = order.confirmed.len() + order.cancelled.len() + order.fulfilled.len() + order.refunded.len();
    due.saturating_sub(order.told.len()) as u64
}
