//! Production: one thread a stage, each stepping until there is nothing to do, then parked until its bell rings.

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
    engine::{self, Engine},
    env::{Env, SystemEnv},
    open::{OpenError, OpenReport},
    settings::Settings,
    stage::{Bell, Now, Stage, Step},
};

/// A stop waits for the checkpoint at most this long; a start after it replays what is left.
const STOP_WITHIN_US: u64 = 10_000_000;

/// A running engine: the handle and its threads.
pub struct Running {
    /// The handle.
    pub engine: Engine,
    /// What opening found.
    pub report: OpenReport,
    stop: Arc<AtomicBool>,
    threads: Vec<(Bell, JoinHandle<()>)>,
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
        let start = |stage: Box<dyn Stage>| {
            let (bell, name) = (stage.bell().clone(), format!("tillroll-{}", stage.name()));
            let (stop, env) = (stop.clone(), env.clone());
            let thread = std::thread::Builder::new().name(name).spawn(move || run(stage, &*env, &stop));
            thread.map(|thread| (bell, thread)).map_err(|source| OpenError::Io { action: "starting a thread".into(), source })
        };
        let threads = stages.into_iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self { engine, report, stop, threads })
    }

    /// Refuses new writes, answers those in flight, checkpoints, ends the threads and writes the clean mark. Blocks for
    /// at most some 10 seconds; what is not checkpointed by then is replayed by the next start.
    pub fn stop(mut self) {
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
        }
    }

    fn end_threads(&mut self) {
        self.stop.store(true, Ordering::Release);
        for (bell, thread) in self.threads.drain(..) {
            bell.ring();
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

fn run(mut stage: Box<dyn Stage>, env: &dyn Env, stop: &AtomicBool) {
    let _guard = AbortOnPanic;
    stage.bell().listen_here();
    while !stop.load(Ordering::Acquire) {
        let now = Now { wall_us: env.wall_us(), mono_us: env.mono_us() };
        match stage.step(now) {
            Step::Did => {}
            // A ring between the step and here makes the park return at once.
            Step::Idle | Step::Poisoned => std::thread::park(),
            Step::Until(until) => std::thread::park_timeout(Duration::from_micros(until.saturating_sub(now.mono_us))),
        }
    }
}

#[cfg(test)]
mod tests;
