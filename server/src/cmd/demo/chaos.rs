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
    process::{Paused, Process},
    stage::{self, Setting, Stage},
};
use crate::cmd::{fail::Failure, saga::report::Report};

/// How long somebody may take to have work in flight.
const WITHIN: Duration = Duration::from_secs(5);
/// How long somebody may take to get partitions, or to notice that they are gone.
const MOVED_WITHIN: Duration = Duration::from_mins(1);
/// How long those who wait for a process that stands still may take to say so.
const SAID_WITHIN: Duration = Duration::from_millis(200);
/// Orders that are let through when nobody has work in flight for a while.
const TRICKLE: usize = 4;
const TRICKLE_EVERY: Duration = Duration::from_millis(40);
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
                takeovers: 22,
                visits: 8,
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
    /// Times that partitions moved from one member to another.
    pub(super) rebalances: u64,
    /// Times that the gateway was away.
    pub(super) gateway_away: u64,
    /// Times that the gateway fell over by itself.
    pub(super) gateway_fell_over: u64,
    /// Milliseconds from the start after a kill until the process listened, or held partitions, in all.
    pub(super) back_ms: u64,
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
        // Half of the orders come in waves, and some more while one thing or the other finds nobody with work.
        let wave = orders.div_ceil(2 * deeds.len().max(1));
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
        let killed = kill_when(&mut stage.broker, &stage.services, |it| it.appends_in_flight > 0).await?;
        if killed {
            let since = self.start_again(&mut stage.broker).await?;
            self.is_back(&stage.broker, since);
        }
        Ok(killed)
    }

    async fn kill_gateway(&mut self, stage: &mut Stage) -> Result<bool, Failure> {
        let payment = stage.services.iter().position(|it| it.name.starts_with(group::PAYMENT));
        let Some(payment) = payment.filter(|_| stage.gateway.is_running()) else { return Ok(false) };
        let payment = std::slice::from_ref(&stage.services[payment]);
        let killed = kill_when(&mut stage.gateway, payment, |it| it.calls_in_flight > 0).await?;
        if killed {
            let since = self.start_again(&mut stage.gateway).await?;
            self.is_back(&stage.gateway, since);
        }
        Ok(killed)
    }

    async fn kill_service(&mut self, stage: &mut Stage, service: usize) -> Result<bool, Failure> {
        let Some(_stands_still) = self.pause_at_work(stage, service).await? else { return Ok(false) };
        let process = &mut stage.services[service];
        process.kill().await?;
        let since = self.start_again(process).await?;
        let process = &stage.services[service];
        until(MOVED_WITHIN, || process.report().is_some_and(|it| it.moves > 0)).await;
        self.is_back(process, since);
        Ok(true)
    }

    /// Stops a service with inputs in hand: the log says, after it was stopped, that they are not done.
    async fn pause_at_work(&self, stage: &Stage, service: usize) -> Result<Option<Paused>, Failure> {
        let begun = Instant::now();
        while self.is_busy(stage, service, begun).await {
            let paused = stage.services[service].pause()?;
            if stage::lag(&stage.client, group::ALL[service]).await? > 0 {
                return Ok(Some(paused));
            }
            paused.go_on()?;
            self.gate.add_permits(TRICKLE);
        }
        Ok(None)
    }

    /// Waits until a service says that it has work, and lets orders through meanwhile; false when there is none within
    /// some time from then.
    async fn is_busy(&self, stage: &Stage, service: usize, begun: Instant) -> bool {
        let is_busy = || stage.services[service].report().is_some_and(|it| it.is_busy());
        while begun.elapsed() < WITHIN {
            if until(TRICKLE_EVERY, is_busy).await {
                return true;
            }
            self.gate.add_permits(TRICKLE);
        }
        false
    }

    /// Starts a process again a little later; gives when.
    async fn start_again(&mut self, process: &mut Process) -> Result<Instant, Failure> {
        tokio::time::sleep(Duration::from_millis(self.dice.random_range(0..200))).await;
        let since = Instant::now();
        process.start_again().await?;
        Ok(since)
    }

    fn is_back(&mut self, process: &Process, since: Instant) {
        let ms = since.elapsed().as_millis();
        *self.injected.kills.entry(process.name.clone()).or_default() += 1;
        self.injected.back_ms += u64::try_from(ms).unwrap_or(u64::MAX);
        (self.tell)(&format!("SIGKILL   {}, back {ms} ms after its start as pid {}", process.name, process.pid()));
    }

    /// Another process joins as the same member while the old one stands still with work in hand, as in a long pause.
    /// Then the old one goes on, for as long as it does not know; what it appends is refused, and it ends by itself.
    async fn take_over(&mut self, stage: &mut Stage, service: usize) -> Result<bool, Failure> {
        let name = stage.services[service].name.clone();
        let Some(paused) = self.pause_at_work(stage, service).await? else { return Ok(false) };
        let newer = stage.start_service(self.directory, &self.setting, group::ALL[service], &name).await?;
        let has_come = until(MOVED_WITHIN, || newer.report().is_some_and(|it| it.moves > 0)).await;
        paused.go_on()?;
        let mut older = std::mem::replace(&mut stage.services[service], newer);
        let ended = until(MOVED_WITHIN, || !older.is_running()).await;
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
        let came = is_shared && until(MOVED_WITHIN, || guest.report().is_some_and(|it| it.moves > 0)).await;
        tokio::time::sleep(VISIT + Duration::from_millis(self.dice.random_range(0..300))).await;
        let host = &stage.services[service];
        let before = host.total().moves;
        guest.end().await?;
        self.others.push(guest.total());
        self.injected.visits += 1;
        if came {
            let is_back = until(MOVED_WITHIN, || host.total().moves > before).await;
            self.injected.rebalances += 1 + u64::from(is_back);
        }
        (self.tell)(&format!("visit     {member} came and left"));
        Ok(came || !is_shared)
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

/// Stops a process that others wait for, and kills it when one of them says after that that it waits; false when there
/// was no such moment in time.
async fn kill_when(
    process: &mut Process,
    others: &[Process],
    waits: impl Fn(&Report) -> bool,
) -> Result<bool, Failure> {
    let begun = Instant::now();
    let is_waiting = |it: &Process| it.report().is_some_and(|report| waits(&report));
    while begun.elapsed() < WITHIN {
        if others.iter().any(is_waiting) {
            let paused = process.pause()?;
            let before: Vec<u64> = others.iter().map(Process::report_count).collect();
            // The first one after the stop may have been written before it.
            let has_news = |(it, before): (&Process, &u64)| it.report_count() > before + 1 && is_waiting(it);
            if until(SAID_WITHIN, || others.iter().zip(&before).any(has_news)).await {
                process.kill().await?;
                return Ok(true);
            }
            paused.go_on()?;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(false)
}

/// Waits until something is so; false when it is not in time.
async fn until(within: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < within {
        if is_so() {
            return true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    false
}
