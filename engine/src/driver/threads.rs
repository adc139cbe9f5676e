//! Production: a few threads, each stepping its stages until there is nothing to do, then parked until a bell rings.
//!
//! Stages that hand on to each other without waiting for the disk share a thread: that saves a switch on the way of
//! every append, and the write of one group still overlaps the sync of the one before.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    disk::real::RealDisk,
    engine::{self, Engine, Left},
    env::{Env, SystemEnv},
    notice::Notice,
    open::{OpenError, OpenReport, Stages},
    settings::Settings,
    stage::{Bell, Now, Step},
};

/// Which stages share a thread, by name.
const THREADS: [(&str, &[&str]); 4] = [
    ("write", &["sequence", "write"]),
    ("sync", &["sync", "publish"]),
    ("flush", &["flush"]),
    ("keep", &["checkpoint", "grow", "ballast"]),
];

/// A stop waits for the checkpoint at most this long; a start after it replays what is left.
const STOP_WITHIN_US: u64 = 10_000_000;

/// A running engine: the handle and its threads.
pub struct Running {
    /// The handle.
    pub engine: Engine,
    /// What opening found.
    pub report: OpenReport,
    stop: Arc<AtomicBool>,
    threads: Vec<(Vec<Bell>, JoinHandle<()>)>,
}

impl Running {
    /// Opens (or makes) a data directory and starts the threads. Blocks until what the journal holds is replayed.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: what was found, and the next step.
    pub fn start(dir: &Path, settings: Settings) -> Result<Self, OpenError> {
        let disk = RealDisk::open(dir).map_err(|source| {
            let action = format!("opening the data directory {}", dir.display());
            OpenError::Io { action, source }
        })?;
        let env: Arc<dyn Env> = Arc::new(SystemEnv::default());
        let (engine, stages, report) = engine::open(Arc::new(disk), env.clone(), settings)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (name, stages) in grouped(stages) {
            let bells = stages.iter().map(|stage| stage.bell().clone()).collect();
            let (stop, env) = (stop.clone(), env.clone());
            let thread = spawn(name, move || run(stages, &*env, &stop));
            let thread = thread.map_err(|source| OpenError::Io { action: "starting a thread".into(), source })?;
            threads.push((bells, thread));
        }
        Ok(Self { engine, report, stop, threads })
    }

    /// Refuses new writes, answers those in flight, checkpoints, ends the threads and writes the clean mark. Blocks for
    /// at most some 10 seconds. Returns what is not checkpointed by then: nothing is lost, the next start replays it.
    pub fn stop(mut self) -> Option<Left> {
        self.engine.refuse_writes();
        let env = self.engine.env().clone();
        let until = env.mono_us() + STOP_WITHIN_US;
        while !self.engine.is_at_rest() && !self.engine.is_poisoned() && env.mono_us() < until {
            self.engine.ask_checkpoint();
            std::thread::park_timeout(Duration::from_millis(2));
        }
        self.end_threads();
        if self.engine.is_at_rest() && !self.engine.is_poisoned() {
            let last = self.engine.marks().durable.get();
            // Without the mark the next start takes the stop for a kill, and loses nothing.
            let _unmarked = self.engine.mark_clean(last);
            return None;
        }
        let left = self.engine.left();
        let Left { frames, durable, partitions } = left;
        self.engine.notices().push(Notice::StopGivenUp { frames, durable, partitions });
        Some(left)
    }

    fn end_threads(&mut self) {
        self.stop.store(true, Ordering::Release);
        for (bells, thread) in self.threads.drain(..) {
            bells.iter().for_each(Bell::ring);
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// A stage that panics has broken a promise: the process ends before anybody builds on it.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// The stages of each thread.
///
/// # Panics
///
/// When a stage has no thread: then nothing would ever step it.
fn grouped(stages: Stages) -> Vec<(&'static str, Stages)> {
    let mut groups: Vec<(&'static str, Stages)> = THREADS.iter().map(|(name, _)| (*name, Stages::new())).collect();
    for stage in stages {
        let place = THREADS.iter().position(|(_, names)| names.contains(&stage.name()));
        groups[place.expect("every stage has a thread")].1.push(stage);
    }
    groups
}

#[expect(clippy::disallowed_methods, reason = "this is the driver")]
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("tillroll-{name}")).spawn(body)
}

fn run(mut stages: Stages, env: &dyn Env, stop: &AtomicBool) {
    let _guard = AbortOnPanic;
    for stage in &stages {
        stage.bell().listen_here();
    }
    while !stop.load(Ordering::Acquire) {
        let now = Now { wall_us: env.wall_us(), mono_us: env.mono_us() };
        let (mut has_moved, mut until) = (false, u64::MAX);
        for stage in &mut stages {
            match stage.step(now) {
                Step::Did => has_moved = true,
                Step::Until(at) => until = until.min(at),
                Step::Idle | Step::Poisoned => {}
            }
        }
        // A ring between the steps and here makes the park return at once.
        match until {
            _ if has_moved => {}
            u64::MAX => std::thread::park(),
            at => std::thread::park_timeout(Duration::from_micros(at.saturating_sub(now.mono_us))),
        }
    }
}

#[cfg(test)]
mod tests;
