//! `side`: the product beside the bare wire, by turns in one run: a machine that is slower for a minute is then slower
//! for both.
//!
//! Each round runs `bare` and then the product: `tillroll serve` as a process of its own, and `tillroll bench append`
//! against it. The broker is stopped before the next turn of `bare`, and started again on the same data, so that from
//! the second round on its journal files are recycled ones. Absolute figures stand beside every ratio.

#![forbid(unsafe_code)]

use std::{
    env::consts::EXE_SUFFIX,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use tillroll_benches::{
    bare::settings::Settings,
    figures, payload,
    process::{Server, object},
};

/// What a program may take beyond the time that it measures for.
const SLACK: Duration = Duration::from_mins(2);
/// What is compared: a name, and where it stands in either object.
const MEASURES: [(&str, &str); 4] = [
    ("mb_per_s", "/mb_per_s"),
    ("ack_us_p50", "/ack_us/p50"),
    ("ack_us_p99", "/ack_us/p99"),
    ("ack_us_p999", "/ack_us/p999"),
];

/// The product beside the bare wire, by turns
#[derive(Debug, Parser)]
#[command(
    name = "side",
    after_help = "Examples:
  cargo build --release && target/release/side
  target/release/side --batch-records 64 --in-flight-bytes 2097152 -o json

Ratios are the product's figure over the bare one's: throughput better when larger, latency when smaller. The median of
the ratios is not the ratio of the medians."
)]
struct Line {
    /// Unanswered bytes at most, of either
    #[arg(
        long, value_name = "BYTES", default_value_t = 16 << 20,
        value_parser = clap::value_parser!(u32).range(1..=16 << 20)
    )]
    in_flight_bytes: u32,
    /// Records of 1 KiB of one append
    #[arg(
        long, value_name = "COUNT", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=4_000)
    )]
    batch_records: u32,
    /// How long the product runs in a round, and each of the bare settings
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Rounds
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The product [default: `tillroll` beside this program]
    #[arg(long, value_name = "FILE")]
    tillroll: Option<PathBuf>,
    /// The bare wire [default: `bare` beside this program]
    #[arg(long, value_name = "FILE")]
    bare: Option<PathBuf>,
    /// Where the data directory is made, and removed again; not in memory [default: beside this program]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How the figures are written
    #[arg(short, long, default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people, a line as each round ends
    Table,
    /// One JSON object: every round whole, and the medians
    Json,
}

fn main() -> ExitCode {
    let line = Line::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.context("starting the runtime").and_then(|runtime| {
        runtime.block_on(async {
            // Dropping the work ends the processes and removes the data.
            tokio::select! {
                done = run(&line) => done,
                _ = tokio::signal::ctrl_c() => bail!("interrupted"),
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

/// The programs and the place.
struct Sides {
    tillroll: PathBuf,
    bare: PathBuf,
    data: tempfile::TempDir,
}

impl Sides {
    fn find(line: &Line) -> anyhow::Result<Self> {
        let this = std::env::current_exe().context("finding this program")?;
        let beside = this.parent().context("a program stands in a directory")?;
        let program = |given: &Option<PathBuf>, name: &str| {
            let path = given.clone().unwrap_or_else(|| beside.join(format!("{name}{EXE_SUFFIX}")));
            if path.is_file() {
                return Ok(path);
            }
            bail!("there is no program path={}; build it, or say where it is with --{name}", path.display())
        };
        let (tillroll, bare) = (program(&line.tillroll, "tillroll")?, program(&line.bare, "bare")?);
        let dir = line.dir.as_deref().unwrap_or(beside);
        let data = tempfile::Builder::new().prefix("side-").tempdir_in(dir);
        Ok(Self { tillroll, bare, data: data.with_context(|| format!("making data in {}", dir.display()))? })
    }
}

async fn run(line: &Line) -> anyhow::Result<()> {
    let sides = Sides::find(line)?;
    let is_table = line.output == Format::Table;
    if is_table {
        println!(
            "1 KiB records, {} an append, {} bytes in flight, {} s a turn",
            line.batch_records, line.in_flight_bytes, line.seconds
        );
        println!("{:>6}  {:12} {:>10} {:>10} {:>7}  {:>8}", "round", "figure", "bare", "product", "ratio", "settings");
    }
    let mut rounds = Vec::new();
    for number in 1..=line.rounds {
        let bare = bare(line, &sides.bare).await.with_context(|| format!("round={number} bare"))?;
        let product = product(line, &sides).await.with_context(|| format!("round={number} product"))?;
        let mut round = json!({"round": number});
        for (name, pointer) in MEASURES {
            round[name] = compared(figures::number(&bare, pointer)?, figures::number(&product, pointer)?);
        }
        if is_table {
            print(&number.to_string(), &round, bare["settings"].as_str().unwrap_or("?"))?;
        }
        (round["bare"], round["product"]) = (bare, product);
        rounds.push(round);
    }
    let median = medians(&rounds)?;
    if is_table {
        return print("median", &median, "");
    }
    let object = json!({
        "record_bytes": payload::RECORD_BYTES,
        "batch_records": line.batch_records,
        "in_flight_bytes": line.in_flight_bytes,
        "seconds": line.seconds,
        "median": median,
        "rounds": rounds,
    });
    println!("{object:#}");
    Ok(())
}

async fn bare(line: &Line, program: &Path) -> anyhow::Result<Value> {
    let seconds = line.seconds * Settings::ALL.len() as u64;
    let arguments = [
        "--output",
        "json",
        "--settings",
        "best",
        "--batch-records",
        &line.batch_records.to_string(),
        "--in-flight-bytes",
        &line.in_flight_bytes.to_string(),
        "--seconds",
        &seconds.to_string(),
    ];
    object(program, &arguments, Duration::from_secs(seconds) + SLACK).await
}

async fn product(line: &Line, sides: &Sides) -> anyhow::Result<Value> {
    let data = sides.data.path().to_str().context("the data directory's path is not text")?;
    let broker = Server::start(&sides.tillroll, &["serve", "--data", data, "--listen", "127.0.0.1:0"]).await?;
    let arguments = [
        "bench",
        "append",
        "--output",
        "json",
        "--server",
        &format!("http://{}", broker.address),
        "--partitions",
        "1",
        "--producers",
        "1",
        "--record-bytes",
        &payload::RECORD_BYTES.to_string(),
        "--batch-records",
        &line.batch_records.to_string(),
        "--in-flight-bytes",
        &line.in_flight_bytes.to_string(),
        "--seconds",
        &line.seconds.to_string(),
        "--no-verify",
    ];
    let figures = object(&sides.tillroll, &arguments, Duration::from_secs(line.seconds) + SLACK).await?;
    broker.stop().await?;
    Ok(figures)
}

fn compared(bare: f64, product: f64) -> Value {
    json!({"bare": bare, "product": product, "ratio": figures::round(product / bare.max(1e-9), 1_000.0)})
}

/// Of each figure, and of the rounds' ratios, the median.
fn medians(rounds: &[Value]) -> anyhow::Result<Value> {
    let mut medians = json!({});
    for (name, _) in MEASURES {
        for part in ["bare", "product", "ratio"] {
            let pointer = format!("/{name}/{part}");
            let values: Vec<f64> =
                rounds.iter().map(|round| figures::number(round, &pointer)).collect::<anyhow::Result<_>>()?;
            medians[name][part] = json!(figures::median(values));
        }
    }
    Ok(medians)
}

fn print(title: &str, figures: &Value, settings: &str) -> anyhow::Result<()> {
    for (name, _) in MEASURES {
        let number = |part: &str| figures::number(figures, &format!("/{name}/{part}"));
        println!(
            "{title:>6}  {name:12} {:>10.1} {:>10.1} {:>7.3}  {settings:>8}",
            number("bare")?,
            number("product")?,
            number("ratio")?
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_ratios_stands_beside_those_of_the_figures() {
        let of = |bare, product| {
            let figure = compared(bare, product);
            json!({"mb_per_s": figure, "ack_us_p50": figure, "ack_us_p99": figure, "ack_us_p999": figure})
        };
        let medians = medians(&[of(1_000.0, 500.0), of(2_000.0, 800.0), of(500.0, 450.0)]).expect("whole rounds");
        assert_eq!(medians["mb_per_s"], json!({"bare": 1_000.0, "product": 500.0, "ratio": 0.5}));
    }
}
