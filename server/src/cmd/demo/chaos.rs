//! What goes wrong in a run: processes are killed while they work, members are taken over and come and go, the gateway
//! misbehaves and goes away. A seed decides in which order; the run's length decides nothing: whatever is planned
//! happens or is missed, and what was missed is told.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde::Serialize;
use tillroll_client::saga::payload::group;
use tokio::sync::Semaphore;

use super::{
    process::Process,
    stage::{Setting, Stage},
};
use crate::cmd::{fail::Failure, saga::report::Report};

/// How long somebody may take to have work in flight, or to be taken over.
const WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(3);
/// How long a member that only visits stays, at the least.
const VISIT: Duration = Duration::from_millis(300);

/// How much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Nothing
    None,
    /// Every process is killed, each service is taken over, the gateway declines, is late and goes away
    Default,
    /// Each process is killed twenty times or more, and the run fails unless everything planned was reached
    Brutal,
}

/// What is planned.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// How the gateway behaves, as JSON.
    pub(super) behaviour: &'static str,
    /// SIGKILLs of each process but the broker.
    kills: u32,
    /// SIGKILLs of the broker.
    broker_kills: u32,
    /// Take-overs of each service.
    takeovers: u32,
    /// Visits of a second member to each service.
    visits: u32,
    /// How long the gateway is away, once.
    away: Duration,
    /// The time after which an undecided order is cancelled.
    pub(super) deadline: Duration,
    /// Orders come in waves, one for each thing that goes wrong, so that there is work in flight when it does;
    /// otherwise as fast as they go.
    pub(super) in_waves: bool,
}

impl Level {
    /// What it plans.
    pub(super) fn plan(self) -> Plan {
        match self {
            Self::None => Plan {
                behaviour: "{}",
                kills: 0,
                broker_kills: 0,
                takeovers: 0,
                visits: 0,
                away: Duration::ZERO,
                deadline: Duration::from_mins(10),
                in_waves: false,
            },
            Self::Default => Plan {
                behaviour: r#"{"decline":0.02,"late":0.02,"late_ms":[5,100],"pending":0.05,"report_doubled":0.3,
                    "report_out_of_order":0.3,"report_late":0.1,"time_out":0.003}"#,
                kills: 2,
                broker_kills: 2,
                takeovers: 1,
                visits: 1,
                away: Duration::from_secs(3),
                deadline: Duration::from_secs(5),
                in_waves: true,
            },
            Self::Brutal => Plan {
                behaviour: r#"{"decline":0.02,"late":0.02,"late_ms":[5,100],"pending":0.05,"report_doubled":0.3,
                    "report_out_of_order":0.3,"report_late":0.1,"time_out":0.004,"fall_over":0.0002}"#,
                kills: 22,
                // About one append is found in the log by its retry for each of these.
                broker_kills: 44,
                takeovers: 18,
                visits: 5,
                away: Duration::from_secs(6),
                deadline: Duration::from_secs(4),
                in_waves: true,
            },
        }
    }
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
enum Deed {
    KillBroker,
    KillGateway,
    /// By the place of the service in [`group::ALL`].
    Kill(usize),
    TakeOver(usize),
    Visit(usize),
    SendGatewayAway,
}

impl Plan {
    fn deeds(&self, dice: &mut StdRng) -> Vec<Deed> {
        let mut deeds = Vec::new();
        let times = |deeds: &mut Vec<Deed>, count, deed| deeds.extend(std::iter::repeat_n(deed, count as usize));
        times(&mut deeds, self.broker_kills, Deed::KillBroker);
        times(&mut deeds, self.kills, Deed::KillGateway);
        for service in 0..group::ALL.len() {
            times(&mut deeds, self.kills, Deed::Kill(service));
            times(&mut deeds, self.takeovers, Deed::TakeOver(service));
            times(&mut deeds, self.visits, Deed::Visit(service));
        }
        if self.away > Duration::ZERO {
            deeds.push(Deed::SendGatewayAway);
        }
        deeds.shuffle(dice);
        deeds
    }
}

/// What was injected, and what it cost.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Injected {
    /// SIGKILLs with work in flight, by process.
    pub(super) kills: std::collections::BTreeMap<String, u64>,
    /// Members that another process took over while they worked.
    pub(super) takeovers: u64,
    /// Second members that came and left.
    pub(super) visits: u64,
    /// Times that the gateway was away.
    pub(super) gateway_away: u64,
    /// Times that the gateway fell over by itself.
    pub(super) gateway_fell_over: u64,
    /// Milliseconds from a kill until the process took work again, in all.
    pub(super) down_ms: u64,
}

impl Injected {
    /// All kills.
    pub(super) fn kill_count(&self) -> u64 {
        self.kills.values().sum()
    }
}

/// Does what is planned while orders come in.
pub(super) struct Chaos<'a> {
    plan: Plan,
    setting: Setting,
    directory: &'a Path,
    dice: StdRng,
    /// Lets orders through when they come in waves.
    gate: Arc<Semaphore>,
    /// Reports of processes that were taken over or only visited.
    pub(super) others: Vec<Report>,
    pub(super) injected: Injected,
    /// Deeds that found nothing to do in time.
    pub(super) missed: u64,
    /// What is told of each deed.
    tell: Box<dyn Fn(&str) + 'a>,
}

impl<'a> Chaos<'a> {
    /// Nothing yet. `tell` gets a line for each deed.
    pub(super) fn new(plan: Plan, setting: Setting, directory: &'a Path, tell: impl Fn(&str) + 'a) -> Self {
        let dice = StdRng::seed_from_u64(setting.seed);
        Self {
            plan,
            setting,
            directory,
            dice,
            gate: Arc::new(Semaphore::new(0)),
            others: Vec::new(),
            injected: Injected::default(),
            missed: 0,
            tell: Box::new(tell),
        }
    }

    /// What orders have to pass when they come in waves.
    pub(super) fn in_waves(&self) -> Option<Arc<Semaphore>> {
        self.plan.in_waves.then(|| self.gate.clone())
    }

    /// Does everything, one thing after the other, until it is done or `over` says that no more orders come. Before
    /// each thing a wave of the orders is let through.
    pub(super) async fn run(
        &mut self,
        stage: &mut Stage,
        orders: usize,
        over: impl Fn() -> bool,
    ) -> Result<(), Failure> {
        let deeds = self.plan.deeds(&mut self.dice);
        let count = deeds.len() as u64;
        let wave = orders.div_ceil(deeds.len().max(1));
        for (done, deed) in deeds.into_iter().enumerate() {
            if over() {
                self.missed += count - done as u64;
                return Ok(());
            }
            self.revive(stage).await?;
            self.gate.add_permits(wave);
            let is_done = match deed {
                Deed::KillBroker => self.kill_broker(stage).await?,
                Deed::KillGateway => self.kill_gateway(stage).await?,
                Deed::Kill(service) => self.kill_service(stage, service).await?,
                Deed::TakeOver(service) => self.take_over(stage, service).await?,
                Deed::Visit(service) => self.visit(stage, service).await?,
                Deed::SendGatewayAway => self.send_gateway_away(stage).await?,
            };
            self.missed += u64::from(!is_done);
        }
        // Whatever is left comes at once.
        self.gate.add_permits(orders);
        Ok(())
    }

    /// The gateway may fall over by itself: that is one of its faults.
    pub(super) async fn revive(&mut self, stage: &mut Stage) -> Result<(), Failure> {
        if !stage.gateway.is_running() {
            stage.gateway.start_again().await?;
            self.injected.gateway_fell_over += 1;
        }
        stage.check_running()
    }

    async fn kill_broker(&mut self, stage: &mut Stage) -> Result<bool, Failure> {
        let services: &[Process] = &stage.services;
        let busy = |_: &Process| services.iter().any(|it| it.report().is_some_and(|it| it.appends_in_flight > 0));
        let killed = kill_when(&mut stage.broker, busy).await?;
        self.again(&mut stage.broker, killed).await
    }

    async fn kill_gateway(&mut self, stage: &mut Stage) -> Result<bool, Failure> {
        let payment = stage.services.iter().find(|it| it.name.starts_with(group::PAYMENT));
        let busy = |_: &Process| payment.and_then(Process::report).is_some_and(|it| it.calls_in_flight > 0);
        if !stage.gateway.is_running() {
            return Ok(false);
        }
        let killed = kill_when(&mut stage.gateway, busy).await?;
        self.again(&mut stage.gateway, killed).await
    }

    async fn kill_service(&mut self, stage: &mut Stage, service: usize) -> Result<bool, Failure> {
        let process = &mut stage.services[service];
        let killed = kill_when(process, |it| it.report().is_some_and(|report| report.is_busy())).await?;
        self.again(process, killed).await
    }

    async fn again(&mut self, process: &mut Process, killed: bool) -> Result<bool, Failure> {
        if killed {
            let (pid, since) = (process.pid(), Instant::now());
            tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..200))).await;
            process.start_again().await?;
            let down = since.elapsed();
            *self.injected.kills.entry(process.name.clone()).or_default() += 1;
            self.injected.down_ms += u64::try_from(down.as_millis()).unwrap_or(u64::MAX);
            (self.tell)(&format!("SIGKILL   {} pid {pid}, back after {} ms", process.name, down.as_millis()));
        }
        Ok(killed)
    }

    /// Another process joins as the same member while the old one stands still with work in hand, as in a long pause.
    /// Then the old one goes on, for as long as it does not know; what it appends is refused, and it ends by itself.
    async fn take_over(&mut self, stage: &mut Stage, service: usize) -> Result<bool, Failure> {
        let name = stage.services[service].name.clone();
        if !until(|| stage.services[service].report().is_some_and(|it| it.is_busy())).await {
            return Ok(false);
        }
        let begun = stage.services[service].pause()?;
        let newer = stage.start_service(self.directory, &self.setting, group::ALL[service], &name).await?;
        let has_come = until(|| newer.report().is_some_and(|it| it.assignments > 0)).await;
        begun.go_on()?;
        let mut older = std::mem::replace(&mut stage.services[service], newer);
        let ended = until(|| !older.is_running()).await;
        self.others.push(older.total());
        self.injected.takeovers += u64::from(ended && has_come);
        if !ended {
            return Err(Failure::plain(format!("{name} was taken over and goes on: {}", older.said())));
        }
        (self.tell)(&format!("taken over {name}, by pid {}", stage.services[service].pid()));
        Ok(true)
    }

    /// A second member comes, gets its share, and leaves.
    async fn visit(&mut self, stage: &mut Stage, service: usize) -> Result<bool, Failure> {
        let member = format!("{}-1", group::ALL[service]);
        let mut guest = stage.start_service(self.directory, &self.setting, group::ALL[service], &member).await?;
        // The inventory has one member that works; a second one stands by.
        let is_shared = group::ALL[service] != group::INVENTORY;
        let came = !is_shared || until(|| guest.report().is_some_and(|it| it.assignments > 0)).await;
        tokio::time::sleep(VISIT + Duration::from_millis(self.dice.random_range(0..300))).await;
        guest.end().await?;
        self.others.push(guest.total());
        self.injected.visits += u64::from(came);
        (self.tell)(&format!("visit     {member} came and left"));
        Ok(came)
    }

    async fn send_gateway_away(&mut self, stage: &mut Stage) -> Result<bool, Failure> {
        if !stage.gateway.is_running() {
            return Ok(false);
        }
        self.gateway_down(stage, self.plan.away).await?;
        Ok(true)
    }

    /// Kills the gateway and starts it again after this time.
    pub(super) async fn gateway_down(&mut self, stage: &mut Stage, time: Duration) -> Result<(), Failure> {
        stage.gateway.kill().await?;
        (self.tell)(&format!("gateway   is away for {} s", time.as_secs_f64()));
        tokio::time::sleep(time).await;
        stage.gateway.start_again().await?;
        (self.tell)("gateway   is back");
        self.injected.gateway_away += 1;
        Ok(())
    }
}

/// Kills a process at a moment when it has work in flight; false when there was no such moment in time.
async fn kill_when(process: &mut Process, is_busy: impl Fn(&Process) -> bool) -> Result<bool, Failure> {
    let since = Instant::now();
    while since.elapsed() < WITHIN {
        if is_busy(process) && process.kill_if(&is_busy).await? {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(false)
}

/// Waits until something is so; false when it is not in time.
async fn until(mut is_so: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    while since.elapsed() < WITHIN {
        if is_so() {
            return true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    false
}
