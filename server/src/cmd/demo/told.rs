//! What the demo tells: how it goes while it runs, and at the end what was injected, what it cost and what is proven.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tillroll_client::saga::{retail::Shop, storefront::Played};

use super::{
    chaos::Level,
    ending::{Ending, pence},
    seen::WARM_UP,
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
            self.out.one(words(ending), &Value::Null)?;
        } else {
            self.out.one("", &ending.object(self.seed))?;
        }
        ending.outcome()
    }
}

fn words(ending: &Ending) -> Vec<String> {
    let counts = &ending.verdict.counts;
    let (seen, total) = (&ending.seen, ending.total());
    let (decided, shipped) = seen.quantiles(0.5);
    let (decided_most, shipped_most) = seen.quantiles(0.99);
    let mut lines = Vec::new();
    if ending.level != Level::None {
        lines.extend(injected(ending, &total));
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
        "not proven: the proof does not hold".to_owned()
    };
    lines.push(proof);
    lines
}

/// What was injected, and what it cost.
fn injected(ending: &Ending, total: &Report) -> Vec<String> {
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
        row("deadlines", seen.deadlines, "orders cancelled".to_owned()),
        row("successes after a cancellation", seen.late_successes(), "given back".to_owned()),
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
