//! The stage of a run: a broker, a gateway and five services, each a process of its own, in a directory of the run.

use std::{
    ffi::OsString,
    path::Path,
    time::{Duration, Instant},
};

use tillroll_client::{Client, saga::payload::group};

use super::process::Process;
use crate::cmd::{fail::Failure, saga};

/// Partitions of the topics that are keyed by order.
pub(super) const PARTITIONS: u32 = 8;
/// How long a group may stand still while it has something to read.
const STUCK_AFTER: Duration = Duration::from_mins(2);
/// How often groups are looked at between two invoices.
const REST_EVERY: Duration = Duration::from_millis(1);
/// How often groups are looked at while the run comes to rest.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How services are started.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// How the gateway behaves, as JSON.
    pub(super) behaviour: String,
    /// What chances are drawn from.
    pub(super) seed: u64,
    /// The time after which an undecided order is cancelled.
    pub(super) deadline: Duration,
}

/// All processes of a run.
pub(super) struct Stage {
    pub(super) broker: Process,
    pub(super) gateway: Process,
    /// In the order of [`group::ALL`].
    pub(super) services: Vec<Process>,
    /// The demo's own connection.
    pub(super) client: Client,
}

impl Stage {
    /// Starts everything, in the directory.
    pub(super) async fn set(directory: &Path, setting: &Setting) -> Result<Self, Failure> {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let mut args = words(&["serve", "--listen", "127.0.0.1:0", "--data"]);
        args.push(directory.join("data").into());
        let broker = Process::start("broker", args).await?;
        let mut args = words(&["saga", "gateway", "--listen", "127.0.0.1:0", "--behaviour", &setting.behaviour]);
        args.extend(words(&["--seed", &setting.seed.to_string(), "--ledger"]));
        args.push(directory.join("gateway.ledger").into());
        let gateway = Process::start("gateway", args).await?;
        let client = Client::builder().name("demo").connect(&broker.address).await?;
        saga::make_topics(&client, PARTITIONS).await?;
        let mut stage = Self { broker, gateway, services: Vec::new(), client };
        for service in group::ALL {
            let started = stage.start_service(directory, setting, service, &format!("{service}-0")).await?;
            stage.services.push(started);
        }
        Ok(stage)
    }

    /// Starts a service as this member of its group.
    pub(super) async fn start_service(
        &self,
        directory: &Path,
        setting: &Setting,
        service: &str,
        member: &str,
    ) -> Result<Process, Failure> {
        let deadline = format!("{}ms", setting.deadline.as_millis());
        let server = format!("http://{}", self.broker.address);
        let words = [
            "saga",
            "run",
            service,
            "--member",
            member,
            "--server",
            &server,
            "--gateway",
            &self.gateway.address,
            "--deadline",
            &deadline,
            "-o",
            "jsonl",
            "--snapshots",
        ];
        let mut args: Vec<OsString> = words.iter().map(OsString::from).collect();
        args.push(directory.join("snapshots").into());
        Process::start(member, args).await
    }

    /// Waits until every group has read everything, and nothing new comes of it.
    pub(super) async fn come_to_rest(&mut self) -> Result<(), Failure> {
        let (mut before, mut moved) = (None, Instant::now());
        loop {
            self.check_running()?;
            let standing = standing(&self.client).await?;
            let is_at_rest = standing.iter().all(|(_, lag)| *lag == 0);
            let cursors: Vec<u64> = standing.into_iter().map(|(next, _)| next).collect();
            if before.as_ref() == Some(&cursors) {
                if is_at_rest && self.services.iter().all(|service| service.report().is_none_or(|it| it.timers == 0)) {
                    return Ok(());
                }
                if moved.elapsed() > STUCK_AFTER {
                    let said: Vec<String> =
                        self.services.iter().map(|it| format!("{}: {}", it.name, it.said())).collect();
                    return Err(Failure::plain(format!("the services stand still: {}", said.join("; "))));
                }
            } else {
                moved = Instant::now();
            }
            before = Some(cursors);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A process that has ended by itself ends the run, and says why.
    pub(super) fn check_running(&mut self) -> Result<(), Failure> {
        let all = [&mut self.broker, &mut self.gateway].into_iter().chain(&mut self.services);
        for process in all {
            if !process.is_running() {
                return Err(Failure::plain(format!("{} has ended: {}", process.name, process.said())));
            }
        }
        Ok(())
    }

    /// Ends all services in order, then the gateway and the broker.
    pub(super) async fn clear(mut self) -> Result<(), Failure> {
        for service in &mut self.services {
            service.end().await?;
        }
        self.gateway.end().await?;
        self.broker.end().await
    }
}

/// Where every group stands in each of its partitions, and how much it has not read.
async fn standing(client: &Client) -> Result<Vec<(u64, u64)>, Failure> {
    let mut standing = Vec::new();
    for name in group::ALL {
        let group = client.groups().get(name).await?;
        standing.extend(group.cursors.iter().map(|cursor| (cursor.next_offset, cursor.lag_records)));
    }
    Ok(standing)
}

/// How much a group has not done.
pub(super) async fn lag(client: &Client, name: &str) -> Result<u64, Failure> {
    Ok(client.groups().get(name).await?.cursors.iter().map(|cursor| cursor.lag_records).sum())
}

/// Waits until every group has read everything, and nothing new comes of it.
pub(super) async fn at_rest(client: &Client) -> Result<(), Failure> {
    let mut before = None;
    loop {
        let standing = standing(client).await?;
        let is_at_rest = standing.iter().all(|(_, lag)| *lag == 0);
        let cursors: Vec<u64> = standing.into_iter().map(|(next, _)| next).collect();
        // Groups are not asked at one moment: only what stands twice stands.
        if is_at_rest && before.as_ref() == Some(&cursors) {
            return Ok(());
        }
        before = Some(cursors);
        tokio::time::sleep(REST_EVERY).await;
    }
}
