//! What is counted while judging: what became of the orders, the money and the goods.

use super::{case::Case, facts::of_units, told, verdict::Counts};

/// Adds what became of an order.
pub(crate) fn add(counts: &mut Counts, case: &Case<'_>) {
    let order = case.order;
    counts.orders += u64::from(!order.placed.is_empty());
    counts.placed_again += order.placed.len().saturating_sub(1) as u64;
    counts.cancelled += u64::from(!order.cancelled.is_empty());
    if !order.fulfilled.is_empty() {
        let whole = order.shipped() == order.products();
        counts.whole += u64::from(whole);
        counts.partial += u64::from(!whole);
    }
    let repeats = |index: usize| order.asked[..index].iter().any(|first| first.fact == order.asked[index].fact);
    counts.asked_again += (0..order.asked.len()).filter(|index| repeats(*index)).count() as u64;
    let contained = order.confirmed.iter().map(|fact| fact.fact.requests.len());
    let contained = contained.chain(order.cancelling.iter().map(|fact| fact.fact.requests.len()));
    counts.requests_in_time += contained.sum::<usize>() as u64;
    for accepted in &order.return_accepted {
        let asked = order.asked.iter().find(|asked| asked.fact.request == accepted.fact.request);
        let whole = asked.is_some_and(|asked| of_units(&asked.fact.lines) == of_units(&accepted.fact.lines));
        counts.returns_whole += u64::from(whole);
        counts.returns_partial += u64::from(!whole);
    }
    counts.returns_refused += order.return_refused.len() as u64;
    counts.captured_pence += order.captured.iter().map(|fact| u128::from(fact.fact.amount)).sum::<u128>();
    counts.refunded_pence += order.refunded.iter().map(|fact| u128::from(fact.fact.amount)).sum::<u128>();
    counts.untold += told::untold(case);
}
