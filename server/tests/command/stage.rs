//! The stage of a saga: a broker, a gateway and services, each a process of its own, and a shop that is played on it.
//!
//! Nothing is waited for without a limit: what has not come within [`PATIENCE`] fails with its name, and with all that
//! was said.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use tillroll_client::{
    Client, Error,
    processor::FAIL_POINT_VARIABLE,
    saga::{
        payload::{InventoryUpdated, topic},
        retail::Shop,
        storefront::Storefront,
    },
};
use tokio::{runtime::Runtime, sync::Semaphore, task::JoinHandle, time::timeout};

use crate::shell::{Broker, Said, Shell};

/// Nothing takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// Partitions of the topics that are keyed by order.
pub(crate) const PARTITIONS: u64 = 2;
/// More than a test starts, so that no end waits until it is heard of.
const PROCESSES_MAX: usize = 64;

/// A process, killed when it is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// Where it listens, if it does.
    pub(crate) address: String,
    said: Arc<Mutex<String>>,
}

impl Process {
    /// Starts it and waits until it is ready, or has ended. Its name goes to `ends` when it does.
    fn start(mut command: Command, name: &str, ends: SyncSender<String>) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("it is piped");
        let said = Arc::<Mutex<String>>::default();
        let (ready, told) = sync_channel(1);
        let (name_sent, heard) = (name.to_owned(), Arc::clone(&said));
        std::thread::spawn(move || listen(stderr, &heard, &ready, name_sent, &ends));
        let mut process = Self { child, address: String::new(), said };
        match told.recv_timeout(PATIENCE) {
            Ok(address) => process.address = address,
            // Whoever waits for its end hears of it.
            Err(RecvTimeoutError::Disconnected) => {}
            Err(RecvTimeoutError::Timeout) => panic!("{name} is not ready: {}", process.said()),
        }
        process
    }

    /// What it said so far.
    fn said(&self) -> String {
        self.said.lock().expect("no panic").clone()
    }
}

/// Hears what a process says, until its end.
fn listen(
    stderr: ChildStderr,
    said: &Mutex<String>,
    ready: &SyncSender<String>,
    name: String,
    ends: &SyncSender<String>,
) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        said.lock().expect("no panic").extend([line.as_str(), "\n"]);
        let address = if line == "ready" { Some("") } else { line.strip_prefix("listening on ") };
        if let Some(address) = address {
            // Only the first one is waited for.
            let _ = ready.try_send(address.trim().to_owned());
        }
    }
    // The test may be over.
    let _ = ends.send(name);
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// See the head of this file.
pub(crate) struct Stage {
    services: BTreeMap<String, Process>,
    pub(crate) gateway: Process,
    pub(crate) client: Client,
    pub(crate) runtime: Runtime,
    deadline: &'static str,
    pub(crate) shop: Arc<Shop>,
    /// Names of processes that have ended.
    ends: (SyncSender<String>, Receiver<String>),
    pub(crate) broker: Broker,
    pub(crate) shell: Shell,
}

impl Stage {
    /// Without any service. `shop.csv` is in the folder; undecided orders are cancelled after the deadline.
    pub(crate) fn set(csv: &str, behaviour: &str, deadline: &'static str) -> Self {
        let (shell, broker) = Shell::with_broker();
        std::fs::write(shell.folder().join("shop.csv"), csv).expect("a file in the folder");
        let shop = Arc::new(Shop::read_from(csv.as_bytes()).expect("a shop"));
        let ends = sync_channel(PROCESSES_MAX);
        let mut command = program(&shell, &broker);
        command.args(["saga", "gateway", "--ledger", "gateway.ledger", "--listen", "127.0.0.1:0"]);
        command.args(["--behaviour", behaviour]);
        let gateway = Process::start(command, "gateway", ends.0.clone());
        assert!(!gateway.address.is_empty(), "the gateway ended: {}", gateway.said());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = wait(&runtime, "the broker answers", Client::connect(&broker.address)).expect("connected");
        Self { services: BTreeMap::new(), gateway, client, runtime, deadline, shop, ends, broker, shell }
    }

    /// Starts a service as this member, such as `order-0`, in place of one that has ended.
    pub(crate) fn start(&mut self, member: &str, fail_point: Option<&str>) {
        let (service, _) = member.split_once('-').expect("service and number");
        let mut command = program(&self.shell, &self.broker);
        command.args(["saga", "run", service, "--member", member, "--gateway", &self.gateway.address]);
        command.args(["--snapshots", "snapshots", "--deadline", self.deadline]);
        command.args(["--partitions", &PARTITIONS.to_string()]);
        if let Some(fail_point) = fail_point {
            command.env(FAIL_POINT_VARIABLE, fail_point);
        }
        let process = Process::start(command, member, self.ends.0.clone());
        self.services.insert(member.to_owned(), process);
    }

    /// Waits for something; names it when it does not come.
    pub(crate) fn wait<T>(&self, what: &str, event: impl Future<Output = T>) -> T {
        wait(&self.runtime, what, event)
    }

    pub(crate) fn service(&self, member: &str) -> &Process {
        &self.services[member]
    }

    /// The next process that ends within this time, how, and what it said.
    pub(crate) fn next_end(&mut self, within: Duration) -> Option<(String, ExitStatus, String)> {
        let name = self.ends.1.recv_timeout(within).ok()?;
        let process = self.services.get_mut(&name).unwrap_or(&mut self.gateway);
        let status = process.child.wait().expect("it was started here");
        Some((name, status, process.said()))
    }

    /// What all services said so far.
    pub(crate) fn words(&self) -> String {
        let words = self.services.iter().map(|(member, process)| format!("{member}: {}\n", process.said()));
        words.collect()
    }

    /// Begins to put the shop in: the orders as soon as their stock is there, and each when it gets a permit.
    pub(crate) fn play(&self, gate: &Arc<Semaphore>) -> JoinHandle<Result<(), Error>> {
        let (client, shop, gate) = (self.client.clone(), Arc::clone(&self.shop), Arc::clone(gate));
        let opening = Storefront::builder(&client).gate(gate).retry_for(PATIENCE).open();
        let storefront = self.wait("the storefront opens", opening).expect("the topics are there");
        self.runtime.spawn(async move {
            let stocked = stocked(&client, shop.opening.len());
            Box::pin(storefront.play(&shop, stocked)).await.map(|_| ())
        })
    }

    /// Waits until everything is put in.
    pub(crate) fn played(&self, playing: JoinHandle<Result<(), Error>>) {
        self.wait("the shop is put in", playing).expect("no panic").expect("everything is put in");
    }

    /// Puts all of the shop in.
    pub(crate) fn play_all(&self) {
        self.played(self.play(&Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))));
    }

    /// Runs the check with these words until what it says is as wanted.
    pub(crate) fn check(&self, words: &str, is_wanted: impl Fn(&Said) -> bool) -> Said {
        let line = format!("tillroll saga check --gateway {} {words}", self.gateway.address);
        let since = Instant::now();
        loop {
            let said = self.shell.run(&line);
            if is_wanted(&said) {
                return said;
            }
            assert!(since.elapsed() < PATIENCE, "{line}: {said:?}\n{}", self.words());
        }
    }

    /// Waits until so many orders are through, and the proof of everything holds.
    pub(crate) fn prove(&self, orders: usize) {
        let is_all = orders == self.shop.orders.len();
        let (words, judged) = if is_all { ("--input shop.csv", "(S1 ") } else { ("", "(S2 ") };
        let (orders, whole) = (format!("\n{orders} orders: "), format!("{judged}S"));
        let said = self.check(words, |said| said.code == 0 && said.stdout.contains(&orders));
        assert!(said.stdout.contains("it holds") && said.stdout.contains("S11 S12)"), "{said:?}");
        assert!(said.stdout.contains(&whole), "{said:?}");
    }
}

fn wait<T>(runtime: &Runtime, what: &str, event: impl Future<Output = T>) -> T {
    let come = runtime.block_on(async { timeout(PATIENCE, event).await });
    come.unwrap_or_else(|_| panic!("not in time: {what}"))
}

fn program(shell: &Shell, broker: &Broker) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tillroll"));
    command.current_dir(shell.folder()).env("TILLROLL_SERVER", format!("http://{}", broker.address));
    command.env_remove(FAIL_POINT_VARIABLE);
    command
}

/// Waits until so many changes of the stock are answered.
async fn stocked(client: &Client, changes: usize) -> Result<(), Error> {
    let mut reader = client.reader(topic::INVENTORY).follow(true).open().await?;
    let mut answered = 0;
    while answered < changes {
        let received = reader.next().await.expect("it follows")?;
        answered += usize::from(received.record.type_ == InventoryUpdated::KIND);
    }
    Ok(())
}
