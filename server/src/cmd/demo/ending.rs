//! What is known when a demo ends, and whether it did what it must: the proof holds, and a brutal run was brutal.

use serde_json::{Value, json};
use tillroll_client::saga::{check::Verdict, gateway::Counts};

use super::{
    chaos::{Injected, Level},
    placing::Taken,
    seen::Seen,
};
use crate::cmd::{fail::Failure, saga::report::Report};

/// Everything that is known at the end.
pub(super) struct Ending {
    pub(super) level: Level,
    /// Of the whole run.
    pub(super) seconds: f64,
    pub(super) verdict: Verdict,
    pub(super) seen: Seen,
    pub(super) placing: Taken,
    pub(super) counts: Counts,
    /// Of all services, those that were killed or taken over included.
    pub(super) reports: Vec<Report>,
    pub(super) injected: Injected,
    pub(super) missed: u64,
}

/// Something that a brutal run must have met.
struct Aim {
    what: &'static str,
    least: u64,
    met: u64,
}

impl Ending {
    /// What all processes of all services did.
    pub(super) fn total(&self) -> Report {
        self.reports.iter().fold(Report::default(), |mut sum, report| {
            sum.add(report);
            sum
        })
    }

    /// What a brutal run must have met, and what was met.
    fn aims(&self) -> Vec<Aim> {
        let (total, seen, counts) = (self.total(), &self.seen, &self.counts.injected);
        let kills = |name: &str| self.injected.kills.get(name).copied().unwrap_or(0);
        let aim = |what, least, met| Aim { what, least, met };
        let mut aims = vec![
            aim("kills of the broker", 20, kills("broker")),
            aim("kills of the gateway", 20, kills("gateway")),
            aim("kills of order", 20, kills("order-0")),
            aim("kills of payment", 20, kills("payment-0")),
            aim("kills of inventory", 20, kills("inventory-0")),
            aim("kills of fulfilment", 20, kills("fulfilment-0")),
            aim("kills of notification", 20, kills("notification-0")),
        ];
        aims.extend([
            aim("charges answered twice by key", 50, counts.repeated),
            aim("timeouts after charging", 50, counts.timed_out),
            aim("declines", 200, seen.declines),
            aim("successes after OrderCancelling", 20, seen.late_successes()),
            aim("cancels won", 20, seen.cancels_won()),
            aim("cancels lost", 20, seen.cancels_lost()),
            aim("captures below the authorisation", 1_000, seen.captures_below),
            aim("refunds", 1_000, seen.refunds),
            aim("double placements", 300, seen.placed_again),
            aim("appends answered as duplicates", 20, total.duplicates),
            aim("appends refused by a fence", 20, total.fenced),
            aim("rebalances", 50, self.injected.rebalances),
            aim("reports of the gateway that came late", 1, counts.reports_late),
            aim("reports of the gateway that came twice", 1, counts.reports_doubled),
            aim("reports of the gateway out of order", 1, counts.reports_out_of_order),
            aim("falls of the gateway", 1, counts.fell_over),
        ]);
        aims
    }

    fn missed_aims(&self) -> Vec<Aim> {
        let aims = if self.level == Level::Brutal { self.aims() } else { Vec::new() };
        aims.into_iter().filter(|aim| aim.met < aim.least).collect()
    }

    /// Whether the proof holds, and a brutal run met what it must.
    pub(super) fn outcome(&self) -> Result<(), Failure> {
        if !self.verdict.holds() {
            return Err(Failure::plain(format!("not proven: {}", self.verdict)));
        }
        let missed = self.missed_aims();
        if missed.is_empty() {
            return Ok(());
        }
        let missed: Vec<String> =
            missed.iter().map(|aim| format!("{}: {} of {}", aim.what, aim.met, aim.least)).collect();
        Err(Failure::plain(format!("the run did not reach what it must: {}", missed.join("; "))))
    }

    /// All of it as an object.
    pub(super) fn object(&self, seed: u64) -> Value {
        let (counts, met, total) = (&self.verdict.counts, &self.seen, self.total());
        let (decided, fulfilled) = met.times();
        json!({
            "seed": seed,
            "orders": { "whole": counts.whole, "partial": counts.partial, "cancelled": counts.cancelled },
            "captured_pence": pence(counts.captured_pence),
            "refunded_pence": pence(counts.refunded_pence),
            "returns": {
                "whole": counts.returns_whole,
                "partial": counts.returns_partial,
                "refused": counts.returns_refused,
            },
            "units_left": i64::try_from(counts.units_left).unwrap_or(i64::MAX),
            "injected": {
                "kills": self.injected.kills,
                "takeovers": self.injected.takeovers,
                "visits": self.injected.visits,
                "gateway_away": self.injected.gateway_away,
                "gateway_fell_over": self.injected.gateway_fell_over,
                "back_ms": self.injected.back_ms,
                "planned_and_missed": self.missed,
                "gateway": self.counts.injected,
                "declines": met.declines,
                "deadlines": met.deadlines,
                "late_successes": met.late_successes(),
                "cancels_won": met.cancels_won(),
                "cancels_lost": met.cancels_lost(),
                "captures_below_authorisation": met.captures_below,
                "refunds": met.refunds,
                "placed_again": met.placed_again,
                "duplicate_appends": total.duplicates,
                "fenced_appends": total.fenced,
                "rebalances": self.injected.rebalances,
                "rebuilds": total.rebuilds,
                "snapshots_used": total.snapshots_used,
            },
            "events": counts.events,
            "orders_per_s": met.orders_per_s(),
            "sustained": met.sustained().map(|(rate, seconds)| json!({ "orders_per_s": rate, "seconds": seconds })),
            "order_placed_ack_ms": self.placing.object(),
            "placed_to_decided_ms": decided,
            "placed_to_fulfilled_ms": fulfilled,
            "seconds": (self.seconds * 10.0).round() / 10.0,
            "missed": self.missed_aims().iter().map(|aim| json!({
                "what": aim.what, "least": aim.least, "met": aim.met
            })).collect::<Vec<_>>(),
            "proof": if self.verdict.holds() { json!("holds") } else { json!(self.verdict.findings) },
        })
    }
}

/// Pence as a number of JSON.
pub(super) fn pence(pence: u128) -> u64 {
    u64::try_from(pence).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
