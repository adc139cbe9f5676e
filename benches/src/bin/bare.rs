//! `bare`: how fast the wire is without a log. The ceiling that the product is held against, in the same run.
//!
//! The server is a process of its own on a free port of the loopback; it answers every append at once. Three sets of
//! channel settings are tried, so that the ceiling is not one of our own making.

#![forbid(unsafe_code)]

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tillroll_benches::{
    bare::{
        client::{self, Plan},
        server,
        settings::Settings,
    },
    figures, payload,
    process::Server,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The wire without a log
#[derive(Debug, Parser)]
#[command(
    name = "bare",
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  bare
  bare --message-bytes 65536 --in-flight-bytes 2097152 -o json
  bare --message-bytes 1024 --in-flight-bytes 1
  bare --unary

mb_per_s counts values in millions of bytes. Latency is from handing a message over to its answer."
)]
struct Line {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The server's side, which this program starts by itself
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        settings: Settings,
    },
}

#[derive(Args, Debug)]
struct Work {
    /// A message, filled with records of 1 KiB; at least one
    #[arg(
        long, value_name = "BYTES", default_value_t = 1 << 20,
        value_parser = clap::value_parser!(u32).range(1..=4 << 20)
    )]
    message_bytes: u32,
    /// Records of a message, instead of its bytes
    #[arg(
        long, value_name = "COUNT", conflicts_with = "message_bytes",
        value_parser = clap::value_parser!(u32).range(1..=4_000)
    )]
    batch_records: Option<u32>,
    /// Unanswered bytes at most; one message always goes
    #[arg(
        long, value_name = "BYTES", default_value_t = 16 << 20,
        value_parser = clap::value_parser!(u32).range(1..=1 << 30)
    )]
    in_flight_bytes: u32,
    /// How long, all settings together
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Channel settings
    #[arg(long, default_value = "best")]
    settings: Choice,
    /// Unary appends of one record instead of a stream
    #[arg(long, conflicts_with_all = ["message_bytes", "batch_records", "in_flight_bytes"])]
    unary: bool,
    /// Unary appends at a time
    #[arg(
        long, value_name = "COUNT", requires = "unary", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1_024)
    )]
    calls: u32,
    /// How the figures are written
    #[arg(short, long, default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Choice {
    /// The product's own
    #[value(name = "1", alias = "tuned")]
    Tuned,
    /// Large frames and windows
    #[value(name = "2", alias = "large")]
    Large,
    /// What tonic does by itself
    #[value(name = "3", alias = "untuned")]
    Untuned,
    /// Each of them for a third of the time
    Best,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One JSON object: the best run, and all of them as `runs`
    Json,
}

impl Choice {
    fn all(self) -> Vec<Settings> {
        match self {
            Self::Tuned => vec![Settings::Tuned],
            Self::Large => vec![Settings::Large],
            Self::Untuned => vec![Settings::Untuned],
            Self::Best => Settings::ALL.to_vec(),
        }
    }
}

fn main() -> ExitCode {
    let line = Line::parse();
    let done = match line.role {
        Some(Role::Serve { settings }) => server::run(settings),
        None => work(&line.work),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(work: &Work) -> anyhow::Result<()> {
    let chosen = work.settings.all();
    let plan = Plan {
        batch_records: work
            .batch_records
            .unwrap_or_else(|| payload::records_in(work.message_bytes as usize, payload::RECORD_BYTES)),
        in_flight_bytes: work.in_flight_bytes,
        unary_calls: work.unary.then_some(work.calls),
        duration: Duration::from_secs(work.seconds) / u32::try_from(chosen.len()).unwrap_or(1),
    };
    // As `tillroll bench` makes it: one thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let runs = runtime.block_on(async {
        let mut runs = Vec::new();
        for settings in chosen {
            runs.push(measure(settings, &plan).await.with_context(|| format!("settings={settings}"))?);
        }
        anyhow::Ok(runs)
    })?;
    let object = best(runs, &plan)?;
    match work.output {
        Format::Json => println!("{object:#}"),
        Format::Table => print(&object)?,
    }
    Ok(())
}

/// One run against a server of its own.
async fn measure(settings: Settings, plan: &Plan) -> anyhow::Result<Value> {
    let program = std::env::current_exe().context("finding this program")?;
    let server = Server::start(&program, &["serve", "--settings", settings.number()]).await?;
    let run = client::run(&server.address, settings, plan).await?;
    server.stop().await?;
    Ok(run.object(settings))
}

/// The run with the most messages a second, and all runs beside it.
fn best(runs: Vec<Value>, plan: &Plan) -> anyhow::Result<Value> {
    let mut best = runs.first().context("there is at least one run")?;
    for run in &runs {
        if figures::number(run, "/messages_per_s")? > figures::number(best, "/messages_per_s")? {
            best = run;
        }
    }
    let mut object = best.clone();
    if let Some(calls) = plan.unary_calls {
        object["calls"] = json!(calls);
    } else {
        object["batch_records"] = json!(plan.batch_records);
        object["in_flight_bytes"] = json!(plan.in_flight_bytes);
    }
    object["runs"] = Value::Array(runs);
    Ok(object)
}

fn print(object: &Value) -> anyhow::Result<()> {
    let runs = object["runs"].as_array().context("there are runs")?;
    println!(
        "{:10} {:>10} {:>12} {:>9} {:>9} {:>9} {:>9}",
        "settings", "mb_per_s", "messages/s", "p50 us", "p99 us", "p999 us", "max us"
    );
    for run in runs {
        let number = |pointer| figures::number(run, pointer);
        println!(
            "{:10} {:>10.1} {:>12.1} {:>9} {:>9} {:>9} {:>9}",
            run["settings"].as_str().unwrap_or("?"),
            number("/mb_per_s")?,
            number("/messages_per_s")?,
            number("/ack_us/p50")?,
            number("/ack_us/p99")?,
            number("/ack_us/p999")?,
            number("/ack_us/max")?,
        );
    }
    println!("best       {}", object["settings"].as_str().unwrap_or("?"));
    Ok(())
}
