use std::collections::BTreeMap;

use tillroll_client::saga::{check, gateway};

use super::*;

/// A brutal run that just met everything.
fn enough() -> Ending {
    let names = ["broker", "gateway", "order-0", "payment-0", "inventory-0", "fulfilment-0", "notification-0"];
    let kills = names.into_iter().map(|name| (name.to_owned(), 20)).collect();
    let mut counts = gateway::Counts::default();
    (counts.injected.repeated, counts.injected.timed_out, counts.injected.fell_over) = (50, 50, 1);
    let reports = &mut counts.injected;
    (reports.reports_late, reports.reports_doubled, reports.reports_out_of_order) = (1, 1, 1);
    let mut seen = Seen::of_cancels(20, 20, 20);
    (seen.declines, seen.captures_below, seen.refunds, seen.placed_again) = (200, 1_000, 1_000, 300);
    Ending {
        level: Level::Brutal,
        seconds: 1.0,
        verdict: Verdict {
            judged: check::Invariant::ALL.to_vec(),
            findings: Vec::new(),
            found: BTreeMap::new(),
            open: Vec::new(),
            open_count: 0,
            counts: check::Counts::default(),
        },
        seen,
        placing: Taken::default(),
        counts,
        // What one process did counts with what the others did.
        reports: vec![
            Report { duplicates: 19, fenced: 1, ..Report::default() },
            Report { duplicates: 1, fenced: 19, ..Report::default() },
        ],
        injected: Injected { kills, rebalances: 50, ..Injected::default() },
        missed: 0,
    }
}

/// An aim, and what takes one from what met it.
type Short = (&'static str, fn(&mut Ending));

const SHORT: [Short; 23] = [
    ("kills of the broker: 19 of 20", |it| kill_less(it, "broker")),
    ("kills of the gateway: 19 of 20", |it| kill_less(it, "gateway")),
    ("kills of order: 19 of 20", |it| kill_less(it, "order-0")),
    ("kills of payment: 19 of 20", |it| kill_less(it, "payment-0")),
    ("kills of inventory: 19 of 20", |it| kill_less(it, "inventory-0")),
    ("kills of fulfilment: 19 of 20", |it| kill_less(it, "fulfilment-0")),
    ("kills of notification: 19 of 20", |it| kill_less(it, "notification-0")),
    ("charges answered twice by key: 49 of 50", |it| it.counts.injected.repeated -= 1),
    ("timeouts after charging: 49 of 50", |it| it.counts.injected.timed_out -= 1),
    ("declines: 199 of 200", |it| it.seen.declines -= 1),
    ("successes after OrderCancelling: 19 of 20", |it| with_cancels(it, [19, 20, 20])),
    ("cancels won: 19 of 20", |it| with_cancels(it, [20, 19, 20])),
    ("cancels lost: 19 of 20", |it| with_cancels(it, [20, 20, 19])),
    ("captures below the authorisation: 999 of 1000", |it| it.seen.captures_below -= 1),
    ("refunds: 999 of 1000", |it| it.seen.refunds -= 1),
    ("double placements: 299 of 300", |it| it.seen.placed_again -= 1),
    ("appends answered as duplicates: 19 of 20", |it| it.reports[0].duplicates -= 1),
    ("appends refused by a fence: 19 of 20", |it| it.reports[1].fenced -= 1),
    ("rebalances: 49 of 50", |it| it.injected.rebalances -= 1),
    ("reports of the gateway that came late: 0 of 1", |it| it.counts.injected.reports_late = 0),
    ("reports of the gateway that came twice: 0 of 1", |it| it.counts.injected.reports_doubled = 0),
    ("reports of the gateway out of order: 0 of 1", |it| it.counts.injected.reports_out_of_order = 0),
    ("falls of the gateway: 0 of 1", |it| it.counts.injected.fell_over = 0),
];

fn kill_less(ending: &mut Ending, name: &str) {
    *ending.injected.kills.get_mut(name).expect("it was killed") -= 1;
}

fn with_cancels(ending: &mut Ending, [late, won, lost]: [usize; 3]) {
    let before = std::mem::replace(&mut ending.seen, Seen::of_cancels(late, won, lost));
    (ending.seen.declines, ending.seen.captures_below) = (before.declines, before.captures_below);
    (ending.seen.refunds, ending.seen.placed_again) = (before.refunds, before.placed_again);
}

fn said(ending: &Ending) -> String {
    ending.outcome().map_or_else(|failure| failure.to_string(), |()| "good".to_owned())
}

#[test]
fn a_brutal_run_fails_for_each_aim_that_it_missed_by_one() {
    assert_eq!(said(&enough()), "good");
    assert_eq!(enough().aims().len(), SHORT.len(), "each aim has its row here");
    for (missed, take_one) in SHORT {
        let mut ending = enough();
        take_one(&mut ending);
        assert_eq!(said(&ending), format!("the run did not reach what it must: {missed}"));
        ending.level = Level::Default;
        assert_eq!(said(&ending), "good", "{missed}: nothing else has aims");
    }
}

#[test]
fn a_proof_that_does_not_hold_fails_every_run() {
    for level in [Level::None, Level::Default, Level::Brutal] {
        let mut ending = enough();
        ending.level = level;
        ending.verdict.found.insert(check::Invariant::S5, 1);
        assert!(said(&ending).starts_with("not proven: "), "{}", said(&ending));
        assert_ne!(ending.object(1)["proof"], "holds");
    }
}
