//! S5, money per order, and S6, money in all: what was set aside was captured or voided, what was captured is what was
//! shipped, and what was given back is what came back, at the price bought.

use super::{
    super::payload::{PaymentAuthorized, PaymentCaptured, PaymentVoided, RefundProcessed, ReturnAccepted},
    case::Case,
    facts::{At, of_units},
    log::Log,
    place::Place,
    tally::Tally,
    verdict::{
        Findings,
        Invariant::{S5, S6},
    },
};

pub(crate) fn judge(case: &Case<'_>, findings: &mut Findings) {
    let order = case.order;
    case.at_most_one(S5, PaymentAuthorized::KIND, &order.authorized, findings);
    case.at_most_one(S5, PaymentCaptured::KIND, &order.captured, findings);
    let answers = [case.places(&order.authorized), case.places(&order.declined)].concat();
    if answers.len() > 1 && order.authorized.len() < 2 {
        findings.wrong(S5, case.about, &answers, "one answer to the authorisation", answers.len());
    }
    judge_authorized(case, findings);
    judge_captured(case, findings);
    judge_divided(case, findings);
    judge_returns(case, findings);
}

/// What was asked of the gateway is what was placed.
fn judge_authorized(case: &Case<'_>, findings: &mut Findings) {
    let placed = case.order.placed_pence();
    let authorized = case.order.authorized.iter().map(|fact| (case.place(fact), fact.fact.amount));
    let asked = case.order.declined.iter().filter(|fact| fact.fact.key.is_some());
    let declined = asked.map(|fact| (case.place(fact), fact.fact.amount));
    for (place, amount) in authorized.chain(declined) {
        same(case, &[place], "the whole amount that was placed", placed, u128::from(amount), findings);
    }
}

/// What is confirmed costs what its lines and the service lines cost; so does what is captured.
fn judge_captured(case: &Case<'_>, findings: &mut Findings) {
    let order = case.order;
    for confirmed in &order.confirmed {
        let lines = order.pence(&of_units(&confirmed.fact.lines)) + order.services_pence();
        let places = [case.place(confirmed)];
        same(case, &places, "the amount of what is confirmed", lines, u128::from(confirmed.fact.amount), findings);
    }
    let services = if order.confirmed.is_empty() { 0 } else { order.services_pence() };
    if !order.captured.is_empty() {
        let places = [case.places(&order.captured), case.places(&order.fulfilled)].concat();
        let shipped = order.pence(&order.shipped()) + services;
        same(case, &places, "captured what was shipped", shipped, captured(case), findings);
    } else if !order.fulfilled.is_empty() {
        findings.missing(S5, case.about, &case.places(&order.fulfilled), PaymentCaptured::KIND);
    }
}

/// What was set aside is captured or voided, and no more is given back than was captured.
fn judge_divided(case: &Case<'_>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let authorized: u128 = order.authorized.iter().map(|fact| u128::from(fact.fact.amount)).sum();
    let voided: u128 = order.voided.iter().map(|fact| u128::from(fact.fact.amount)).sum();
    let captured = captured(case);
    let places = || [case.places(&order.authorized), case.places(&order.captured), case.places(&order.voided)].concat();
    let all_said = !order.voided.is_empty() || captured > authorized;
    if all_said {
        same(case, &places(), "captured and voided what was authorised", authorized, captured + voided, findings);
    } else if captured < authorized && !(order.captured.is_empty() && order.cancelling.is_empty()) {
        let expected = format_args!("{} of {} p", PaymentVoided::KIND, authorized - captured);
        findings.missing(S5, about, &places(), expected);
    }
    let refunded = refunded(case);
    if refunded > captured {
        let places = [case.places(&order.refunded), case.places(&order.captured)].concat();
        let expected = format_args!("at most {captured} p given back, which were captured");
        findings.wrong(S5, about, &places, expected, format_args!("{refunded} p"));
    }
}

/// Each return that was accepted is refunded once: what its units left before cost less what is left after.
fn judge_returns(case: &Case<'_>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let mut left = order.shipped();
    for accepted in &order.return_accepted {
        let ReturnAccepted { request, lines, amount, .. } = &accepted.fact;
        let units = of_units(lines);
        let here = case.place(accepted);
        if !units.within(&left) {
            let expected = format_args!("{request} to take back of what was shipped and paid, which is {left}");
            findings.wrong(S5, about, &[here], expected, &units);
        }
        let after = left.less(&units);
        let worth = order.pence(&left) - order.pence(&after);
        same(case, &[here], "the price bought for what is taken back", worth, u128::from(*amount), findings);
        left = after;
        judge_refund(case, accepted, findings);
    }
    for refund in &order.refunded {
        let request = &refund.fact.request;
        if !order.return_accepted.iter().any(|accepted| accepted.fact.request == *request) {
            let expected = "a refund for a return that was accepted";
            findings.wrong(S5, about, &[case.place(refund)], expected, format_args!("one for {request}"));
        }
    }
}

fn judge_refund(case: &Case<'_>, accepted: &At<ReturnAccepted>, findings: &mut Findings) {
    let Case { order, about, .. } = *case;
    let ReturnAccepted { request, amount, .. } = &accepted.fact;
    let refunds = order.refunded.iter().filter(|refund| refund.fact.request == *request);
    let refunds: Vec<(Place, u64)> = refunds.map(|refund| (case.place(refund), refund.fact.amount)).collect();
    match refunds[..] {
        [] => {
            let expected = format_args!("{} of {amount} p for {request}", RefundProcessed::KIND);
            findings.missing(S5, about, &[case.place(accepted)], expected);
        }
        [(place, refunded)] => {
            let places = [place, case.place(accepted)];
            let what = "given back what the return came to";
            same(case, &places, what, u128::from(*amount), u128::from(refunded), findings);
        }
        _ => {
            let places: Vec<Place> = refunds.iter().map(|(place, _)| *place).collect();
            findings.wrong(S5, about, &places, format_args!("one refund for {request}"), refunds.len());
        }
    }
}

fn same(case: &Case<'_>, places: &[Place], what: &str, expected: u128, found: u128, findings: &mut Findings) {
    if expected != found {
        let expected = format_args!("{what}: {expected} p");
        findings.wrong(S5, case.about, places, expected, format_args!("{found} p"));
    }
}

fn captured(case: &Case<'_>) -> u128 {
    case.order.captured.iter().map(|fact| u128::from(fact.fact.amount)).sum()
}

fn refunded(case: &Case<'_>) -> u128 {
    case.order.refunded.iter().map(|fact| u128::from(fact.fact.amount)).sum()
}

/// What an order brought in, and what it should have.
#[derive(Clone, Copy, Debug, Default)]
struct Income {
    captured: u128,
    refunded: u128,
    /// Of what was shipped and did not come back, and of the services.
    worth: u128,
}

impl Income {
    fn of(case: &Case<'_>) -> Self {
        let order = case.order;
        let kept: Tally = order.shipped().less(&order.returned());
        let services = if order.confirmed.is_empty() { 0 } else { order.services_pence() };
        Self { captured: captured(case), refunded: refunded(case), worth: order.pence(&kept) + services }
    }

    fn is_even(self) -> bool {
        self.captured == self.refunded + self.worth
    }
}

/// S6: over all orders that are closed, what was taken and not given back is what was shipped and did not come back.
/// When it is not, the orders are named of which it does not hold.
pub(crate) fn judge_all(log: &Log, cases: &[Case<'_>], findings: &mut Findings) {
    let closed = cases.iter().filter(|case| !findings.is_open(case.about) || !findings.allows_open());
    let incomes: Vec<(Case<'_>, Income)> = closed.map(|case| (*case, Income::of(case))).collect();
    let sum = |part: fn(&Income) -> u128| -> u128 { incomes.iter().map(|(_, income)| part(income)).sum() };
    let all = Income {
        captured: sum(|income| income.captured),
        refunded: sum(|income| income.refunded),
        worth: sum(|income| income.worth),
    };
    if all.is_even() {
        return;
    }
    for (case, income) in incomes.iter().filter(|(_, income)| !income.is_even()) {
        let Income { captured, refunded, worth } = income;
        let places = [case.places(&case.order.captured), case.places(&case.order.refunded)].concat();
        let places =
            if places.is_empty() { case.order.placed.iter().map(|at| log.place(at.event)).collect() } else { places };
        let expected =
            format_args!("{worth} p for what was shipped and kept ({} p of all {} orders)", all.worth, incomes.len());
        let found = format_args!(
            "{captured} p captured less {refunded} p given back ({} p less {} p)",
            all.captured, all.refunded
        );
        findings.wrong(S6, case.about, &places, expected, found);
    }
}
