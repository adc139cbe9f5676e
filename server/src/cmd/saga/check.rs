//! `tillroll saga check`: proves the order saga from its log, or names what does not hold.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use serde_json::json;
use tillroll_client::{
    Client,
    saga::{
        check::{self, Charge, Cursor, ExpectedInput, Invariant, Outcome, Reading, Terms, Verdict},
        gateway::{self, Entry},
        payload::Event,
        retail::Shop,
    },
};

use super::{gateway::unopened, not_run, shop};
use crate::cmd::{
    Connection, address,
    fail::{Code, Failure},
    out::{Format, Out, count},
};

/// `tillroll saga check`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll saga check
  tillroll saga check --input client/data/retail-saga-cut.csv.zst --gateway 127.0.0.1:7430
  tillroll saga check --ledger gateway.ledger --allow-open

What is proven stands in docs/saga.md: S1 needs the file that was put in, S12 the gateway or its ledger; what was not
checked is said. A storefront without --data puts the file above in, which stands in the project's sources. Each finding
names the invariant, the order, what was expected, what was found, and where. Exit code 1 when something does not
hold.")]
pub(crate) struct Check {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// The file whose orders were put in
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The gateway, whose ledger must say the same as the log
    #[arg(long, value_name = "HOST:PORT", value_parser = address, conflicts_with = "ledger")]
    gateway: Option<SocketAddr>,
    /// The gateway's ledger, when no gateway runs
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Orders may still be open
    #[arg(long)]
    allow_open: bool,
}

/// Runs `tillroll saga check`.
pub(crate) async fn run(check: Check, out: Out) -> Result<(), Failure> {
    let client = check.connection.connect().await?;
    let input = check.input.as_deref().map(|file| shop(Some(file))).transpose()?.map(|shop| expected(&shop));
    let reading = read(&client).await?;
    // The ledger is read after the log: what it knows by then may be more, never less.
    let ledger = match (check.gateway, &check.ledger) {
        (Some(address), _) => Some(ledger_of(address).await?),
        (None, Some(path)) => {
            let whole = gateway::read_ledger(path).map_err(|error| unopened(&error))?;
            Some(whole.entries.iter().map(charge).collect())
        }
        (None, None) => None,
    };
    let verdict = judge(reading, input.as_ref(), ledger.as_deref(), check.allow_open);
    tell(&verdict, out)
}

/// Reads the log of the saga, and where its groups stand.
pub(crate) async fn read(client: &Client) -> Result<Reading, Failure> {
    let cursors = |group: &'static str| async move {
        let found = client.groups().get(group).await?;
        let cursor = |cursor: tillroll_client::CursorInfo| Cursor {
            group: group.to_owned(),
            topic: cursor.topic,
            partition: cursor.partition,
            next_offset: cursor.next_offset,
        };
        Ok(found.cursors.into_iter().map(cursor).collect())
    };
    check::read(client, cursors).await.map_err(not_run)
}

/// Judges what was read.
pub(crate) fn judge(
    reading: Reading,
    input: Option<&ExpectedInput>,
    ledger: Option<&[Charge]>,
    allow_open: bool,
) -> Verdict {
    let Reading { log, ends, cursors } = reading;
    check::judge(log, &Terms { input, standing: Some((&ends, &cursors)), ledger, allow_open })
}

/// What the log must hold when this shop was put in.
pub(crate) fn expected(shop: &Shop) -> ExpectedInput {
    let mut input = ExpectedInput::default();
    for order in &shop.orders {
        input.orders.insert(order.id.clone(), order.placed.clone());
    }
    for request in &shop.requests {
        let requests: &mut Vec<Event> = input.requests.entry(request.order.clone()).or_default();
        requests.push(request.event());
    }
    let changes = shop.opening.iter().chain(&shop.stock_changes);
    input.stock = changes.map(|change| (change.code.clone(), change.change.clone())).collect();
    input
}

/// The ledger of a gateway that runs.
pub(crate) async fn ledger_of(address: SocketAddr) -> Result<Vec<Charge>, Failure> {
    let client = gateway::Client::new(address, gateway::ClientSettings::default());
    let entries = client.ledger().await;
    let entries = entries.map_err(|error| Failure::new(Code::Unavailable, format!("gateway {address}: {error}")))?;
    Ok(entries.iter().map(charge).collect())
}

fn charge(entry: &Entry) -> Charge {
    Charge {
        key: entry.key.as_ref().map(ToString::to_string),
        operation: match entry.operation {
            gateway::Operation::Authorize => check::Operation::Authorize,
            gateway::Operation::Capture => check::Operation::Capture,
            gateway::Operation::Void => check::Operation::Void,
            gateway::Operation::Refund => check::Operation::Refund,
        },
        order: entry.order.clone(),
        amount: entry.amount,
        outcome: match entry.outcome {
            gateway::Verdict::Accepted => Outcome::Accepted,
            gateway::Verdict::Declined => Outcome::Declined,
        },
    }
}

/// A line with what was not judged, and what it would have taken; none when everything was.
fn not_checked(verdict: &Verdict) -> Option<String> {
    let takes = [(Invariant::S1, "--input"), (Invariant::S12, "--gateway or --ledger")];
    let left_out = takes.iter().filter(|(invariant, _)| !verdict.judged.contains(invariant));
    let named: Vec<String> = left_out.map(|(invariant, option)| format!("{invariant:?} ({option})")).collect();
    (!named.is_empty()).then(|| format!("not checked: {}", named.join(", ")))
}

/// Says what was found; a failure when something was.
fn tell(verdict: &Verdict, out: Out) -> Result<(), Failure> {
    let holds = verdict.holds();
    if out.format == Format::Table {
        let counts = &verdict.counts;
        let orders = format!(
            "{} orders: {} whole, {} in part, {} cancelled; {} open",
            count(counts.orders),
            count(counts.whole),
            count(counts.partial),
            count(counts.cancelled),
            count(verdict.open_count)
        );
        let holds = if holds { "it holds" } else { "it does not hold" };
        let mut words = verdict.lines();
        words.extend([orders, holds.to_owned()].into_iter().chain(not_checked(verdict)));
        out.one(words, &json!(null))?;
    } else {
        out.one("", &json!({ "holds": holds, "verdict": verdict }))?;
    }
    if holds { Ok(()) } else { Err(Failure::silent(Code::Failure)) }
}
