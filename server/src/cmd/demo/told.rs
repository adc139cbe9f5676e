//! What the demo tells: how it goes while it runs, and at the end what was injected, what it cost and what is proven.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tillroll_client::saga::{check::Verdict, gateway::Counts, retail::Shop, storefront::Played};

use super::{
    chaos::{Injected, Level},
    placing::Taken,
    seen::{Seen, WARM_UP},
    stage::Stage,
};
use crate::cmd::{
    fail::Failure,
    out::{Format, Out, count, table},
    saga::report::Report,
};

/// How often a bar moves.
const TICK: Duration = Duration::from_millis(100);

/// What is told, and to whom.
pub(super) struct Told {
    out: Out,
    seed: u64,
    orders: u64,
    lines: u64,
    bar: Option<ProgressBar>,
}

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
    fn total(&self) -> Report {
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

    fn proof(&self) -> String {
        if self.verdict.holds() { "holds".to_owned() } else { "does not hold".to_owned() }
    }

    fn object(&self, seed: u64) -> Value {
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
fn pence(pence: u128) -> u64 {
    u64::try_from(pence).unwrap_or(u64::MAX)
}

impl Told {
    /// For a run over this shop.
    pub(super) fn new(out: Out, seed: u64, shop: &Shop) -> Self {
        let orders = shop.orders.len() as u64;
        let lines = shop.orders.iter().map(|order| order.placed.lines.len() as u64).sum();
        let bar = (!out.quiet && io::stderr().is_terminal()).then(|| bar(orders));
        Self { out, seed, orders, lines, bar }
    }

    /// The stage is set.
    pub(super) fn begun(&self, stage: &Stage) -> Result<(), Failure> {
        let services: Vec<String> = stage.services.iter().map(|it| format!("{} {}", it.name, it.pid())).collect();
        self.tell(&format!(
            "shop      {} orders with {} lines of a real shop; seed {}",
            count(self.orders),
            count(self.lines),
            self.seed
        ))?;
        self.tell(&format!(
            "stage     broker pid {}, gateway {}, {}",
            stage.broker.pid(),
            stage.gateway.pid(),
            services.join(", ")
        ))
    }

    /// Something went wrong, as planned.
    pub(super) fn happened(&self, line: &str) {
        // A story that cannot be told does not stop the run; its end would say so.
        let _untold = self.tell(line);
    }

    /// How far it is.
    pub(super) fn show(&self, stage: &Stage) {
        if let Some(bar) = &self.bar {
            let shipped = stage.services.iter().find(|it| it.name.starts_with("fulfilment"));
            bar.set_position(shipped.map_or(0, |it| it.total().outputs).min(self.orders));
        }
    }

    /// All orders are placed.
    pub(super) fn placed(&self, played: &Played) {
        self.happened(&format!(
            "placed    {} orders, {} of them twice, {} requests, {} changes of the stock",
            count(played.orders),
            count(played.doubled),
            count(played.requests),
            count(played.stock_changes)
        ));
    }

    fn tell(&self, line: &str) -> Result<(), Failure> {
        match &self.bar {
            Some(bar) if self.out.format == Format::Table => bar.suspend(|| self.out.tell(line)),
            _ => self.out.tell(line),
        }
    }

    /// The end: a table of what was injected, the times, and the proof.
    pub(super) fn end(&self, ending: &Ending) -> Result<(), Failure> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.out.format == Format::Table {
            self.out.one(&words(ending), &Value::Null)?;
        } else {
            self.out.one("", &ending.object(self.seed))?;
        }
        let missed = ending.missed_aims();
        if !ending.verdict.holds() {
            return Err(Failure::plain(format!("not proven: {}", ending.verdict)));
        }
        if !missed.is_empty() {
            let missed: Vec<String> =
                missed.iter().map(|aim| format!("{}: {} of {}", aim.what, aim.met, aim.least)).collect();
            return Err(Failure::plain(format!("the run did not reach what it must: {}", missed.join("; "))));
        }
        Ok(())
    }
}

fn words(ending: &Ending) -> String {
    let counts = &ending.verdict.counts;
    let (seen, total) = (&ending.seen, ending.total());
    let (decided, shipped) = seen.quantiles(0.5);
    let (decided_most, shipped_most) = seen.quantiles(0.99);
    let mut lines = Vec::new();
    if ending.level != Level::None {
        lines.push(injected(ending, &total));
    }
    lines.push(format!(
        "orders    {} whole, {} in part, {} cancelled; {} of {} pence given back",
        count(counts.whole),
        count(counts.partial),
        count(counts.cancelled),
        count(pence(counts.refunded_pence)),
        count(pence(counts.captured_pence))
    ));
    lines.push(format!(
        "times     {} orders/s; placed to decided {decided} ms (p99 {decided_most}), to fulfilled {shipped} ms (p99 \
         {shipped_most})",
        seen.orders_per_s()
    ));
    // Where orders come in waves, or wait for somebody who is away, it says nothing about speed.
    let is_steady = ending.level == Level::None && ending.placing.disturbed.is_empty();
    if let Some((rate, seconds)) = seen.sustained().filter(|_| is_steady) {
        lines.push(format!("sustained {rate} orders/s over {seconds} s, without the first {} s", WARM_UP.as_secs()));
    }
    if !ending.placing.disturbed.is_empty() {
        let (calm, down) = ending.placing.p99();
        lines.push(format!(
            "placing   {down} ms p99 for {} orders while the gateway was away, {calm} ms p99 for {} before",
            count(ending.placing.disturbed.len() as u64),
            count(ending.placing.undisturbed.len() as u64)
        ));
    }
    let judged = ending.verdict.judged.len();
    let proof = if ending.verdict.holds() {
        format!(
            "proven    {judged} invariants over {} events in {:.1} s: every order decided once, every penny and every \
             unit accounted for",
            count(counts.events),
            ending.seconds
        )
    } else {
        format!("not proven: {}", ending.proof())
    };
    lines.push(proof);
    lines.join("\n")
}

/// What was injected, and what it cost.
fn injected(ending: &Ending, total: &Report) -> String {
    let (injected, gateway, seen) = (&ending.injected, &ending.counts.injected, &ending.seen);
    let mean_ms = injected.back_ms / injected.kill_count().max(1);
    let misreports = gateway.reports_late + gateway.reports_doubled + gateway.reports_out_of_order;
    let row = |what: &str, met: u64, cost: String| vec![json!(what), json!(met), json!(cost)];
    let rows = vec![
        row("SIGKILLs with work in flight", injected.kill_count(), format!("{mean_ms} ms from start to work")),
        row("members taken over", injected.takeovers, format!("{} appends fenced", count(total.fenced))),
        row("second members", injected.visits, format!("{} rebalances", count(injected.rebalances))),
        row("gateway away", injected.gateway_away + injected.gateway_fell_over, "payments wait".to_owned()),
        row("timeouts after charging", gateway.timed_out, format!("{} asked again by key", count(gateway.repeated))),
        row("reports late, twice or out of order", misreports, "taken as they come".to_owned()),
        row("declines", seen.declines, "orders cancelled".to_owned()),
        row("deadlines", seen.deadlines, format!("{} successes came too late", count(seen.late_successes()))),
        row("appends of unknown outcome", total.duplicates, "found in the log by their retry".to_owned()),
        row("orders placed twice", seen.placed_again, "nothing happened twice".to_owned()),
    ];
    table(&["injected", "times", "cost"], &rows)
}

fn bar(orders: u64) -> ProgressBar {
    let bar = ProgressBar::new(orders);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} fulfilled, {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(TICK);
    bar
}
