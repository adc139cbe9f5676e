//! `tillroll demo`: orders of a real shop, a cut of its year or all of it, go through a broker, a payment gateway and
//! five services, each a process of its own, while processes are killed and the gateway misbehaves; then everything is
//! proven from the log.
//!
//! [`stage`] is the processes, [`chaos`] what goes wrong, [`placing`] how the placements fared meanwhile, [`seen`] what
//! happened, [`ending`] what came of it, [`told`] what is said. The proof is that of `tillroll saga check`; when it
//! fails, or a brutal run did not reach what it must, the exit code is 1.

mod process;
mod stage;
mod chaos;
mod placing;
mod seen;
mod ending;
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
use tempfile::TempDir;
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
    saga::{
        self, check,
        storefront::{rate, stocked},
    },
    time,
};
use chaos::{Chaos, Level};
use ending::Ending;
use placing::Placements;
use seen::Seen;
use stage::{Setting, Stage};
use told::Told;

/// How often processes are looked at while orders come in.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `tillroll demo`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll demo                                       half a minute, with everything going wrong once or twice
  tillroll demo --chaos none
  tillroll demo --chaos brutal --data online-retail.csv.zst --seed 7
  tillroll demo --sequential -o json                  each invoice to its end before the next
  tillroll demo --chaos none --years 60 --rate 1000   a minute and a half of it, to measure
  tillroll demo --chaos none --rate 50 --gateway-down 10s

The orders are a cut of \"Online Retail\" (Chen, Sain and Guo, 2012; UCI Machine Learning Repository,
DOI 10.24432/C5BW33, CC BY 4.0); --data takes the whole file. Everything happens in a temporary directory, removed
afterwards, unless --keep names one.")]
pub(crate) struct Demo {
    /// The orders: a file in the form of "Online Retail", packed with zstd or not [default: the cut that is shipped]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// How much goes wrong
    #[arg(long, default_value = "default", conflicts_with = "sequential")]
    chaos: Level,
    /// What chances are drawn from; how processes meet in time is another matter, so no two runs are the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Each invoice to its end before the next, and nothing goes wrong
    #[arg(long)]
    sequential: bool,
    /// Orders that are placed a second, at most [default: as many as the log takes]
    #[arg(long, value_name = "ORDERS", value_parser = rate, conflicts_with = "sequential")]
    rate: Option<f64>,
    /// Play the orders so many times over, in further years under numbers of their own
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    years: u32,
    /// Send the gateway away for so long, once a third of the orders is placed: what happens to placements meanwhile?
    #[arg(long, value_name = "TIME", value_parser = time::span, conflicts_with = "sequential")]
    #[arg(allow_hyphen_values = true)]
    gateway_down: Option<Duration>,
    /// Keep the log and the ledger in this directory, which must not hold any yet
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Runs `tillroll demo`.
pub(crate) async fn run(demo: Demo, out: Out) -> Result<(), Failure> {
    let began = Instant::now();
    let level = demo.level()?;
    let shop = saga::shop(demo.data.as_deref())?.years(demo.years);
    let place = Place::new(demo.keep.as_deref())?;
    let plan = level.plan();
    // Orders wait for a gateway that is away instead of being cancelled meanwhile.
    let deadline = plan.deadline + demo.gateway_down.unwrap_or_default();
    let setting = Setting { behaviour: plan.behaviour.to_owned(), seed: demo.seed, deadline };
    let placements = Placements::default();
    let told = Told::new(out, demo.seed, &shop);
    let mut stage = Stage::set(place.path(), &setting).await?;
    told.begun(&stage)?;
    let mut chaos = Chaos::new(plan, setting, place.path(), |line| told.happened(line));
    let storefront = Box::pin(demo.storefront(&stage, chaos.in_waves(), &placements)).await?;
    let played = if demo.sequential {
        Box::pin(play_by_invoice(storefront, &shop, &mut stage, &told)).await?
    } else {
        Box::pin(play(&demo, storefront, &shop, (&mut stage, &mut chaos), (&told, &placements))).await?
    };
    told.placed(&played);
    come_to_rest(&mut stage, &mut chaos).await?;
    let verdict = prove(&stage, &shop).await?;
    let seen = Seen::read(&stage.client).await?;
    let counts = gateway_counts(&stage).await?;
    let ending = Ending {
        level,
        seconds: began.elapsed().as_secs_f64(),
        verdict,
        seen,
        placing: placements.taken(),
        counts,
        reports: stage.services.iter().map(process::Process::total).chain(chaos.others.iter().cloned()).collect(),
        injected: chaos.injected.clone(),
        missed: chaos.missed,
    };
    let cleared = stage.clear().await;
    if let Place::Kept(kept) = &place {
        let kept = kept.display();
        out.say(format!("kept in {kept}; look at it with: tillroll serve --data {kept}/data, and beside it"));
        out.say(format!("tillroll saga check --ledger {kept}/gateway.ledger, or tillroll saga timeline ORDER"));
    }
    told.end(&ending)?;
    cleared
}

impl Demo {
    fn level(&self) -> Result<Level, Failure> {
        let level = if self.sequential { Level::None } else { self.chaos };
        if self.gateway_down.is_some() && level != Level::None {
            let wrong = "with other things going wrong nobody could tell what the gateway's absence does";
            return Err(Failure::usage(wrong).hint("add --chaos none"));
        }
        Ok(level)
    }

    async fn storefront(
        &self,
        stage: &Stage,
        in_waves: Option<Arc<Semaphore>>,
        placements: &Placements,
    ) -> Result<Storefront, Failure> {
        let mut storefront = Storefront::builder(&stage.client).on_placed(placements.listener());
        if let Some(rate) = self.rate {
            storefront = storefront.orders_per_s(rate);
        }
        if let Some(gate) = in_waves {
            // With a wave's end in between, who hesitates to cancel comes too late.
            storefront = storefront.gate(gate).hesitant(self.seed);
        }
        if !self.sequential {
            storefront = storefront.doubled(self.seed);
        }
        Ok(storefront.open().await?)
    }
}

/// Where everything of a run is kept.
enum Place {
    /// Until the end of the run.
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Place {
    fn new(keep: Option<&Path>) -> Result<Self, Failure> {
        let Some(keep) = keep else {
            let temporary = tempfile::Builder::new().prefix("tillroll-demo-").tempdir();
            return Ok(Self::Temporary(
                temporary.map_err(|error| Failure::io("making a temporary directory", &error))?,
            ));
        };
        if let Some(kept) = ["data", "gateway.ledger"].into_iter().map(|name| keep.join(name)).find(|it| it.exists()) {
            let wrong = format!("{} is there already, of a run before this one", kept.display());
            return Err(Failure::new(Code::Conflict, wrong).hint("take another directory, or remove this one"));
        }
        std::fs::create_dir_all(keep).map_err(|error| Failure::io(keep.display(), &error))?;
        Ok(Self::Kept(keep.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Kept(path) => path,
        }
    }
}

/// Places all orders, while what is planned goes wrong.
async fn play(
    demo: &Demo,
    storefront: Storefront,
    shop: &Shop,
    (stage, chaos): (&mut Stage, &mut Chaos<'_>),
    (told, placements): (&Told, &Placements),
) -> Result<Played, Failure> {
    let (client, orders) = (stage.client.clone(), shop.orders.len());
    let is_over = AtomicBool::new(false);
    let playing = async {
        let stocked = stocked(&client, shop.opening.len() as u64);
        let played = Box::pin(storefront.play(shop, stocked)).await;
        is_over.store(true, Ordering::Relaxed);
        played
    };
    let wrong = async {
        if let Some(time) = demo.gateway_down {
            placements.until(orders / 3).await;
            placements.disturb();
            chaos.gateway_down(stage, time).await?;
            placements.calm();
        } else {
            chaos.run(stage, orders, || is_over.load(Ordering::Relaxed)).await?;
        }
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

/// Places each invoice when everything that came of the one before is done.
async fn play_by_invoice(
    storefront: Storefront,
    shop: &Shop,
    stage: &mut Stage,
    told: &Told,
) -> Result<Played, Failure> {
    let client = stage.client.clone();
    let stocked = stocked(&client, shop.opening.len() as u64);
    let settled = |_| stage::at_rest(&client);
    let playing = Box::pin(storefront.play_by_invoice(shop, stocked, settled));
    tokio::select! {
        played = playing => played,
        wrong = watch(stage, told) => Err(wrong),
    }
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
