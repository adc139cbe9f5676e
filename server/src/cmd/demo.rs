//! `tillroll demo`: a year of a real shop's orders goes through a broker, a payment gateway and five services, each a
//! process of its own, while processes are killed and the gateway misbehaves; then everything is proven from the log.
//!
//! [`stage`] is the processes, [`chaos`] what goes wrong, [`seen`] what happened, [`told`] what is said of it. The
//! proof is that of `tillroll saga check`; when it fails, or a brutal run did not reach what it must, the exit code is
//! 1.

mod process;
mod stage;
mod chaos;
mod seen;
mod told;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use tillroll_client::saga::{
    check::Verdict,
    gateway,
    retail::Shop,
    storefront::{Played, Storefront},
};

use tokio::sync::Semaphore;

use crate::cmd::{
    fail::{Code, Failure},
    out::Out,
    saga::check,
};
use chaos::{Chaos, Level};
use seen::Seen;
use stage::{Setting, Stage};
use told::Told;

/// The cut of the orders that is shipped.
const CUT: &[u8] = include_bytes!("../../../client/data/retail-saga-cut.csv.zst");
/// How often processes are looked at while orders come in.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `tillroll demo`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll demo                                       under a minute, with everything going wrong once or twice
  tillroll demo --chaos none
  tillroll demo --chaos brutal --data online-retail.csv.zst --seed 7
  tillroll demo --sequential -o json                  each invoice to its end before the next

The orders are a cut of \"Online Retail\" (Chen, Sain and Guo, 2012; UCI Machine Learning Repository,
DOI 10.24432/C5BW33, CC BY 4.0); --data takes the whole file. Everything happens in a temporary directory, removed
afterwards, unless --keep names one.")]
pub(crate) struct Demo {
    /// The orders: a file in the form of \"Online Retail\", packed with zstd or not [default: the cut that is shipped]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// How much goes wrong
    #[arg(long, default_value = "default", conflicts_with = "sequential")]
    chaos: Level,
    /// What chances are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Each invoice to its end before the next, and nothing goes wrong
    #[arg(long)]
    sequential: bool,
    /// Orders that are placed a second; 0 means as many as the log takes
    #[arg(long, value_name = "ORDERS")]
    rate: Option<f64>,
    /// Keep the log and the ledger in this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Runs `tillroll demo`.
pub(crate) async fn run(demo: Demo, out: Out) -> Result<(), Failure> {
    let began = Instant::now();
    let shop = match &demo.data {
        Some(path) => Shop::read(path),
        None => Shop::read_from(CUT),
    };
    let shop = shop.map_err(|error| Failure::new(Code::Refused, error.to_string()))?;
    let temporary = match &demo.keep {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("tillroll-demo-")
                .tempdir()
                .map_err(|error| Failure::io("making a temporary directory", &error))?,
        ),
    };
    let directory = match (&demo.keep, &temporary) {
        (Some(keep), _) => {
            std::fs::create_dir_all(keep).map_err(|error| Failure::io(keep.display(), &error))?;
            keep.as_path()
        }
        (None, Some(temporary)) => temporary.path(),
        (None, None) => Path::new("."),
    };
    let level = if demo.sequential { Level::None } else { demo.chaos };
    let plan = level.plan();
    let setting = Setting { behaviour: plan.behaviour.to_owned(), seed: demo.seed, deadline: plan.deadline };
    let told = Told::new(out, demo.seed, &shop);
    let mut stage = Stage::set(directory, &setting).await?;
    told.begun(&stage)?;
    let mut chaos = Chaos::new(plan, setting, directory, |line| told.happened(line));
    let played = Box::pin(play(&demo, &shop, &mut stage, &mut chaos, &told)).await?;
    told.placed(&played);
    come_to_rest(&mut stage, &mut chaos).await?;
    let verdict = prove(&stage, &shop).await?;
    let seen = Seen::read(&stage.client).await?;
    let counts = gateway_counts(&stage).await?;
    let ending = told::Ending {
        level,
        seconds: began.elapsed().as_secs_f64(),
        verdict,
        seen,
        counts,
        reports: stage.services.iter().map(process::Process::total).chain(chaos.others.iter().cloned()).collect(),
        injected: chaos.injected.clone(),
        missed: chaos.missed,
    };
    let cleared = stage.clear().await;
    told.end(&ending)?;
    cleared
}

/// Places all orders, while what is planned goes wrong.
async fn play(
    demo: &Demo,
    shop: &Shop,
    stage: &mut Stage,
    chaos: &mut Chaos<'_>,
    told: &Told,
) -> Result<Played, Failure> {
    let mut storefront = Storefront::builder(&stage.client);
    if let Some(rate) = demo.rate.filter(|rate| *rate > 0.0 && !demo.sequential) {
        storefront = storefront.orders_per_s(rate);
    }
    let gate = Arc::new(Semaphore::new(0));
    if chaos.in_waves() {
        storefront = storefront.gate(gate.clone());
    }
    if !demo.sequential {
        storefront = storefront.doubled(demo.seed);
    }
    let storefront = storefront.open().await?;
    let client = stage.client.clone();
    let opening = shop.opening.len() as u64;
    let stocked = async { stage::stocked(&client, opening).await };
    if demo.sequential {
        let settled = |_| stage::at_rest(&client);
        let playing = Box::pin(storefront.play_by_invoice(shop, stocked, settled));
        return tokio::select! {
            played = playing => played,
            wrong = watch(stage, told) => Err(wrong),
        };
    }
    let is_over = AtomicBool::new(false);
    let playing = async {
        let played = Box::pin(storefront.play(shop, stocked)).await;
        is_over.store(true, Ordering::Relaxed);
        played
    };
    let wrong = async {
        chaos.run(stage, (&gate, shop.orders.len()), || is_over.load(Ordering::Relaxed)).await?;
        while !is_over.load(Ordering::Relaxed) {
            chaos.revive(stage).await?;
            told.show(stage);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    let (played, ()) = tokio::try_join!(playing, wrong)?;
    Ok(played)
}

/// Looks at the processes until one ends by itself.
async fn watch(stage: &mut Stage, told: &Told) -> Failure {
    loop {
        if let Err(wrong) = stage.check_running() {
            return wrong;
        }
        told.show(stage);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until nothing is left to do; a gateway that falls over meanwhile is started again.
async fn come_to_rest(stage: &mut Stage, chaos: &mut Chaos<'_>) -> Result<(), Failure> {
    loop {
        chaos.revive(stage).await?;
        match stage.come_to_rest().await {
            Err(_) if !stage.gateway.is_running() => {}
            rested => return rested,
        }
    }
}

/// What `tillroll saga check` says, with the input and the gateway's ledger.
async fn prove(stage: &Stage, shop: &Shop) -> Result<Verdict, Failure> {
    let reading = check::read(&stage.client).await?;
    let address = gateway_address(stage)?;
    let ledger = check::ledger_of(address).await?;
    Ok(check::judge(reading, Some(&check::expected(shop)), Some(&ledger), false))
}

fn gateway_address(stage: &Stage) -> Result<std::net::SocketAddr, Failure> {
    stage.gateway.address.parse().map_err(|_| Failure::plain("the gateway has no address"))
}

async fn gateway_counts(stage: &Stage) -> Result<gateway::Counts, Failure> {
    let client = gateway::Client::new(gateway_address(stage)?, gateway::ClientSettings::default());
    client.counts().await.map_err(|error| Failure::plain(format!("asking the gateway: {error}")))
}
