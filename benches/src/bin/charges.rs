//! `charges`: how many charges a second the payment gateway takes, and what each costs either side.
//!
//! The gateway is a process of its own with a ledger on a real disk; this program asks it for authorisations that are
//! all new and all accepted, so many at a time. The cost is what the system says that either process has used, and that
//! all of the machine has: the disk's and the network's own work is in the last alone.

#![forbid(unsafe_code)]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tillroll_benches::{figures, process};
use tillroll_client::saga::gateway::{Charge, Client, ClientSettings, Operation, Server, ServerSettings, Verdict};
use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinSet};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Charges a second
#[derive(Debug, Parser)]
#[command(
    name = "charges",
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  cargo build --release && target/release/charges
  target/release/charges --in-flight 256 --seconds 20

cpu_us is processor time a charge: of the gateway, of the client, and of the whole machine."
)]
struct Line {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The gateway, which this program starts by itself
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        ledger: PathBuf,
    },
}

#[derive(Args, Debug)]
struct Work {
    /// Charges at a time
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    in_flight: u32,
    /// How long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Where the ledger is made, and removed again; not in memory [default: beside this program]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let line = Line::parse();
    // One thread a side: what it costs, and not how it spreads, is asked.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.context("starting the runtime").and_then(|runtime| {
        runtime.block_on(async {
            match line.role {
                Some(Role::Serve { ledger }) => serve(&ledger).await,
                None => tokio::select! {
                    done = measure(&line.work) => done,
                    _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
                },
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until its standard input ends.
async fn serve(ledger: &Path) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
    let server = Server::start(listener, ledger, ServerSettings::default()).context("starting the gateway")?;
    eprintln!("listening on {}", server.address());
    // Whoever started this has ended.
    let _ = tokio::io::stdin().read(&mut [0]).await;
    server.stop().await;
    Ok(())
}

async fn measure(work: &Work) -> anyhow::Result<()> {
    let this = std::env::current_exe().context("finding this program")?;
    let dir = work.dir.as_deref().or(this.parent()).context("a program stands in a directory")?;
    let data = tempfile::Builder::new().prefix("charges-").tempdir_in(dir).context("making a directory")?;
    let ledger = data.path().join("ledger").into_os_string().into_string().ok().context("a path is text")?;
    let server = process::Server::start(&this, &["serve", "--ledger", &ledger]).await?;
    let settings = ClientSettings { in_flight_max: work.in_flight as usize, ..ClientSettings::default() };
    let client = Client::new(server.address.parse().context("the gateway says its address")?, settings);
    let gateway = server.id().context("the gateway ended by itself")?;

    // Connections, caches and pages are warm before it counts.
    charge_all(&client, work.in_flight, Duration::from_secs(1), "w").await?;
    let before = (used(Some(gateway))?, used(None)?, busy()?, client.counts().await?);
    let began = Instant::now();
    let (charges, latencies) = charge_all(&client, work.in_flight, Duration::from_secs(work.seconds), "m").await?;
    let elapsed = began.elapsed();
    let after = (used(Some(gateway))?, used(None)?, busy()?, client.counts().await?);

    // Time that the system says was used does not run backwards.
    let each = |before: Duration, after: Duration| {
        figures::round(1e6 / figures::per_second(charges, after.saturating_sub(before)), 10.0)
    };
    let syncs = after.3.syncs - before.3.syncs;
    let found = json!({
        "in_flight": work.in_flight,
        "charges_per_s": figures::per_second(charges, elapsed).round(),
        "charges_per_sync": charges / syncs.max(1),
        "answer_us": figures::ack_us(&latencies),
        "cpu_us": {
            "gateway": each(before.0, after.0), "client": each(before.1, after.1), "machine": each(before.2, after.2),
        },
    });
    println!("{found}");
    server.stop().await
}

/// Keeps so many charges in flight for a time.
async fn charge_all(
    client: &Client,
    in_flight: u32,
    time: Duration,
    name: &str,
) -> anyhow::Result<(u64, hdrhistogram::Histogram<u64>)> {
    let end = Instant::now() + time;
    let mut lanes = JoinSet::new();
    for lane in 0..in_flight {
        let (client, name) = (client.clone(), format!("{name}{lane}"));
        lanes.spawn(async move {
            let (mut charges, mut latencies) = (0_u64, figures::latencies());
            while Instant::now() < end {
                let (order, asked) = (format!("{name}-{charges}"), Instant::now());
                let charge = Charge { operation: Operation::Authorize, order: &order, request: None, amount: 1_999 };
                let outcome = client.charge(&charge.key()?, charge).await?;
                ensure!(outcome.verdict == Verdict::Accepted && !outcome.repeated, "{outcome:?}");
                figures::record(&mut latencies, asked.elapsed());
                charges += 1;
            }
            anyhow::Ok((charges, latencies))
        });
    }
    let (mut charges, mut latencies) = (0, figures::latencies());
    while let Some(lane) = lanes.join_next().await {
        let (more, of_lane) = lane.context("a lane ended")??;
        charges += more;
        latencies.add(of_lane).context("adding latencies")?;
    }
    Ok((charges, latencies))
}

/// Processor time of a process, or of this one.
fn used(process: Option<u32>) -> anyhow::Result<Duration> {
    let name = process.map_or_else(|| "self".to_owned(), |id| id.to_string());
    let text = std::fs::read_to_string(format!("/proc/{name}/stat")).context("asking for a process's time")?;
    // Behind the name in brackets: user and system time are the 12th and 13th.
    let fields = text.rsplit_once(") ").context("a process has a name")?.1.split(' ').skip(11).take(2);
    ticks(fields)
}

/// Processor time of the machine that was not idle, nor waiting for a disk.
fn busy() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat").context("asking for the machine's time")?;
    let fields = text.lines().next().context("the first line is of all processors")?.split_whitespace().skip(1);
    ticks(fields.enumerate().filter(|(place, _)| !matches!(place, 3 | 4 | 7..)).map(|(_, field)| field))
}

fn ticks<'a>(fields: impl Iterator<Item = &'a str>) -> anyhow::Result<Duration> {
    let ticks: Result<Vec<u64>, _> = fields.map(str::parse).collect();
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs(ticks.context("times are numbers")?.iter().sum()) / u32::try_from(per_second)?)
}
