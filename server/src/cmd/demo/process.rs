//! The demo's processes: this very program, started as a broker, a gateway or a service, and killed when it is dropped.

use std::{
    ffi::OsString,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::oneshot,
};

use crate::cmd::{fail::Failure, lifetime, saga::report::Report};

/// How long a process may take until it is ready.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// How long a process that is asked to end may take.
const END_WITHIN: Duration = Duration::from_secs(30);
/// How often a start is tried again, and after how long: somebody may have borrowed the port meanwhile.
const STARTS_MAX: u32 = 20;
const START_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A report older than this says nothing of now.
const REPORT_IS_NEWS: Duration = Duration::from_secs(1);
/// Lines that are kept of what a process said, for whoever asks why it ended.
const SAID_MAX: usize = 20;

/// What is known of a process.
#[derive(Debug, Default)]
struct Known {
    /// The process that reports count of; what an older one said comes too late.
    pid: u32,
    /// The newest report, and when it came.
    report: Option<(Report, Instant)>,
    /// How many came.
    reports: u64,
    /// Reports of processes before this one, added up.
    past: Report,
    said: Vec<String>,
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    /// What it is called.
    pub(super) name: String,
    /// Where it listens; empty when it does not.
    pub(super) address: String,
    args: Vec<OsString>,
    child: Child,
    pid: u32,
    known: Arc<Mutex<Known>>,
}

impl Process {
    /// Starts it, and waits until it says `listening on` or `ready`.
    pub(super) async fn start(name: &str, args: Vec<OsString>) -> Result<Self, Failure> {
        Self::start_with(name, args, Arc::default()).await
    }

    async fn start_with(name: &str, args: Vec<OsString>, known: Arc<Mutex<Known>>) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::io("finding this program", &error))?;
        let mut child = Command::new(program)
            .args(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env(lifetime::PARENT_VARIABLE, std::process::id().to_string())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::io(format!("starting {name}"), &error))?;
        let (Some(pid), Some(stdout), Some(stderr)) = (child.id(), child.stdout.take(), child.stderr.take()) else {
            return Err(Failure::plain(format!("{name} ended at once")));
        };
        let (ready, is_ready) = oneshot::channel();
        tokio::spawn(hear(stderr, known.clone(), ready));
        lock(&known).pid = pid;
        tokio::spawn(take_reports(stdout, known.clone(), pid));
        let address = tokio::time::timeout(READY_WITHIN, is_ready).await;
        let address = address.map_err(|_| Failure::plain(format!("{name} took more than a minute to start")))?;
        let address = address.map_err(|_| {
            let said = lock(&known).said.join("; ");
            Failure::plain(format!("{name} did not start: {said}"))
        })?;
        Ok(Self { name: name.to_owned(), address, args, child, pid, known })
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The last lines that it said.
    pub(super) fn said(&self) -> String {
        lock(&self.known).said.join("; ")
    }

    /// Its newest report, when that is news.
    pub(super) fn report(&self) -> Option<Report> {
        let known = lock(&self.known);
        known.report.as_ref().filter(|(_, at)| at.elapsed() < REPORT_IS_NEWS).map(|(report, _)| report.clone())
    }

    /// The reports of this process and of those before it, added up.
    pub(super) fn total(&self) -> Report {
        let known = lock(&self.known);
        let mut total = known.past.clone();
        if let Some((report, _)) = &known.report {
            total.add(report);
        }
        total
    }

    /// How many reports came so far.
    pub(super) fn report_count(&self) -> u64 {
        lock(&self.known).reports
    }

    /// SIGSTOP: it stands still until it is told to go on.
    pub(super) fn pause(&self) -> Result<Paused, Failure> {
        self.signal(Signal::STOP)?;
        Ok(Paused { pid: self.pid, name: self.name.clone() })
    }

    /// SIGKILL, and waits until the process is gone.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        let killed = self.child.kill().await.map_err(|error| Failure::io(format!("killing {}", self.name), &error));
        self.close_book();
        killed
    }

    /// SIGTERM, and waits until the process is gone.
    pub(super) async fn end(&mut self) -> Result<(), Failure> {
        self.signal(Signal::TERM)?;
        let ended = tokio::time::timeout(END_WITHIN, self.child.wait()).await;
        self.close_book();
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::plain(format!("{} ended with {status}: {}", self.name, self.said()))),
            Ok(Err(error)) => Err(Failure::io(format!("ending {}", self.name), &error)),
            Err(_) => Err(Failure::plain(format!("{} did not end within {END_WITHIN:?}", self.name))),
        }
    }

    /// Starts another one in its place: the same program, and at the same address when it listens.
    pub(super) async fn start_again(&mut self) -> Result<(), Failure> {
        let mut args = self.args.clone();
        if !self.address.is_empty()
            && let Some(place) = args.iter().position(|arg| arg == "--listen")
        {
            args[place + 1] = self.address.clone().into();
        }
        let mut tries = 0..STARTS_MAX;
        let (name, known) = (self.name.clone(), self.known.clone());
        *self = loop {
            match Self::start_with(&name, args.clone(), known.clone()).await {
                Err(_) if tries.next().is_some() => tokio::time::sleep(START_AGAIN_AFTER).await,
                started => break started?,
            }
        };
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        send(self.pid, &self.name, signal)
    }

    /// The process is gone; what it reported last belongs to the past.
    fn close_book(&mut self) {
        let mut known = lock(&self.known);
        known.pid = 0;
        if let Some((report, _)) = known.report.take() {
            known.past.add(&report);
        }
    }
}

/// A process that stands still.
#[must_use = "it stands still until it is told to go on"]
pub(super) struct Paused {
    pid: u32,
    name: String,
}

impl Paused {
    /// SIGCONT.
    pub(super) fn go_on(self) -> Result<(), Failure> {
        send(self.pid, &self.name, Signal::CONT)
    }
}

fn send(pid: u32, name: &str, signal: Signal) -> Result<(), Failure> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::plain(format!("{name} has no process")))?;
    kill_process(pid, signal).map_err(|error| Failure::io(format!("signalling {name}"), &error.into()))
}

fn lock(known: &Mutex<Known>) -> std::sync::MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hears what it says on standard error. A full pipe would hold it up.
async fn hear(stderr: impl AsyncRead + Unpin, known: Arc<Mutex<Known>>, ready: oneshot::Sender<String>) {
    let mut lines = BufReader::new(stderr).lines();
    let mut ready = Some(ready);
    while let Ok(Some(line)) = lines.next_line().await {
        let address = match line.strip_prefix("listening on ") {
            None if line == "ready" => Some(""),
            address => address,
        };
        match (address, ready.take()) {
            // Nobody waits for it when the start took too long.
            (Some(address), Some(ready)) => drop(ready.send(address.to_owned())),
            (_, waits) => ready = waits,
        }
        let mut known = lock(&known);
        if known.said.len() == SAID_MAX {
            known.said.remove(0);
        }
        known.said.push(line);
    }
}

/// Takes its reports from standard output.
async fn take_reports(stdout: impl AsyncRead + Unpin, known: Arc<Mutex<Known>>, pid: u32) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut known = lock(&known);
        if let Ok(report) = serde_json::from_str(&line)
            && known.pid == pid
        {
            known.report = Some((report, Instant::now()));
            known.reports += 1;
        }
    }
}
