//! The proof of the order saga: judges the log of all topics by the invariants S1 to S12, or names invariant, order,
//! places, what was expected and what is there.
//!
//! It shares the payloads with the services, and with the processor how a step's name is written, and nothing else:
//! what they compute is computed here once more, from the words of `docs/saga.md`. In come the events ([`Log::take`],
//! or [`read`] from a broker) and, where they are at hand, the input, the groups' cursors and the gateway's ledger
//! ([`Terms`]); out comes a [`Verdict`].
//!
//! Something that must not be there, or is there with another content, is a finding. Something that is not there yet
//! leaves its order open; that is a finding, too, unless open orders are allowed. So a log is judged while it grows.

mod place;
mod tally;
mod verdict;
mod facts;
mod flow;
mod log;
mod case;
mod steps;
mod causes;
mod decisions;
mod given_up;
mod money;
mod stock;
mod compensation;
mod requests;
mod returns;
mod told;
mod input;
mod quiet;
mod ledger;
mod counts;
mod whole;
mod read;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use causes::ways;
#[cfg(test)]
pub(crate) use flow::{Cause, FLOW};
pub use input::ExpectedInput;
pub use ledger::{Charge, Operation, Outcome};
pub use log::Log;
pub use place::Place;
pub use quiet::{Cursor, End};
pub use read::{Reading, read};
pub use verdict::{Counts, FINDINGS_MAX, Finding, Invariant, OPEN_MAX, Open, Subject, Verdict};

use case::Case;
use verdict::Findings;

/// By what a log is judged, beside itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// What was put in; without it S1 judges second placements alone, and that there are orders.
    pub input: Option<&'a ExpectedInput>,
    /// The published ends and the groups' cursors; without them S11 is not judged.
    pub standing: Option<(&'a [End], &'a [Cursor])>,
    /// The gateway's ledger, read after the log; without it S12 is not judged.
    pub ledger: Option<&'a [Charge]>,
    /// Orders may be open.
    pub allow_open: bool,
}

/// Judges a log.
///
/// **Cost**: time and memory in proportion to the log; a year of orders (about 350,000 events) takes seconds.
pub fn judge(mut log: Log, terms: &Terms<'_>) -> Verdict {
    let mut findings = std::mem::replace(&mut log.findings, Findings::new());
    findings.allow_open(terms.allow_open);
    let subjects: Vec<Subject> =
        (0..log.orders.len() as u32).map(|order| Subject::Order(log.order_name(order).to_owned())).collect();
    let orders = log.orders.iter().zip(&subjects).enumerate();
    let cases: Vec<Case<'_>> = orders
        .map(|(number, (order, about))| Case { log: &log, order, name: log.order_name(number as u32), about })
        .collect();
    let mut counts = Counts { events: log.events.len() as u64, ..Counts::default() };
    steps::judge(&log, &mut findings);
    causes::judge(&log, &mut findings);
    for case in &cases {
        input::judge(case, &mut findings);
        decisions::judge(case, &mut findings);
        money::judge(case, &mut findings);
        stock::judge(case, &mut findings);
        compensation::judge(case, &mut findings);
        requests::judge(case, &mut findings);
        told::judge(case, &mut findings);
        counts::add(&mut counts, case);
    }
    requests::judge_stock(&log, &mut findings);
    // What holds at the end alone is judged when it is known which orders are at their end.
    money::judge_all(&log, &cases, &mut findings);
    counts.units_left = stock::judge_all(&log, &cases, &mut findings);
    if let Some(expected) = terms.input {
        input::judge_expected(&log, &cases, expected, &mut findings);
    }
    if let Some((ends, cursors)) = terms.standing {
        counts.unread = quiet::judge(ends, cursors, terms.allow_open, &mut findings);
    }
    if let Some(ledger) = terms.ledger {
        ledger::judge(&cases, ledger, &mut findings);
    }
    if counts.orders == 0 {
        // Whatever is said of no orders is true, and says nothing.
        findings.missing(Invariant::S1, &Subject::Log, &[], "an order, without which nothing is proven");
    }
    let judged = Invariant::ALL.into_iter().filter(|invariant| match invariant {
        Invariant::S1 => terms.input.is_some(),
        Invariant::S11 => terms.standing.is_some(),
        Invariant::S12 => terms.ledger.is_some(),
        _ => true,
    });
    findings.verdict(judged.collect(), counts)
}
