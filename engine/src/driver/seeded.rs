//! Simulation: all stages on one thread, the next one chosen by a seed among those that can move.
//!
//! The same seed gives the same order of steps, and with the simulated disk the same calls. The clock is the
//! simulation's own and moves only when somebody moves it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use crate::{
    env::Env,
    open::Stages,
    stage::{Now, Step},
};

/// A clock and entropy that are the same for the same seed.
#[derive(Debug)]
pub struct SimEnv {
    wall_us: AtomicI64,
    mono_us: AtomicU64,
    entropy: AtomicU64,
}

impl SimEnv {
    /// A clock that starts at a fixed day.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            wall_us: AtomicI64::new(1_700_000_000_000_000),
            mono_us: AtomicU64::new(1),
            entropy: AtomicU64::new(seed),
        })
    }

    /// Lets time pass.
    pub fn advance(&self, us: u64) {
        self.mono_us.fetch_add(us, Ordering::Relaxed);
        self.wall_us.fetch_add(i64::try_from(us).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Sets the wall clock, which may jump either way.
    pub fn jump(&self, wall_us: i64) {
        self.wall_us.store(wall_us, Ordering::Relaxed);
    }

    fn now(&self) -> Now {
        Now { wall_us: self.wall_us(), mono_us: self.mono_us() }
    }
}

impl Env for SimEnv {
    fn wall_us(&self) -> i64 {
        self.wall_us.load(Ordering::Relaxed)
    }

    fn mono_us(&self) -> u64 {
        self.mono_us.load(Ordering::Relaxed)
    }

    fn fill(&self, buffer: &mut [u8]) {
        for byte in buffer {
            *byte = draw(&self.entropy) as u8;
        }
    }
}

/// Splitmix64 (Steele, Lea and Flood, 2014).
fn draw(state: &AtomicU64) -> u64 {
    let mut z = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Steps stages in an order that a seed gives.
pub struct Seeded {
    stages: Stages,
    env: Arc<SimEnv>,
    dice: AtomicU64,
    steps: u64,
    trace: u64,
}

impl Seeded {
    /// Drives these stages by this clock.
    pub fn new(stages: Stages, env: Arc<SimEnv>, seed: u64) -> Self {
        Self { stages, env, dice: AtomicU64::new(seed), steps: 0, trace: 0xcbf2_9ce4_8422_2325 }
    }

    /// One step of one stage that can move; false when none can before something is asked or time passes.
    ///
    /// # Panics
    ///
    /// When a stage does: a promise inside the engine was broken.
    pub fn step(&mut self) -> bool {
        let mut left: Vec<usize> = (0..self.stages.len()).collect();
        while !left.is_empty() {
            let place = usize::try_from(draw(&self.dice) % left.len() as u64).expect("fewer stages than that");
            let number = left.swap_remove(place);
            if self.stages[number].step(self.env.now()) == Step::Did {
                self.steps += 1;
                // FNV-1a over which stage moved.
                self.trace = (self.trace ^ number as u64).wrapping_mul(0x0100_0000_01b3);
                return true;
            }
        }
        false
    }

    /// At most `count` steps.
    pub fn steps(&mut self, count: u64) {
        for _ in 0..count {
            if !self.step() {
                return;
            }
        }
    }

    /// Steps until nothing can move; at most `bound` steps, so that a stage that never rests is found.
    ///
    /// # Panics
    ///
    /// When the bound is reached.
    pub fn settle(&mut self, bound: u64) {
        for _ in 0..bound {
            if !self.step() {
                return;
            }
        }
        panic!("the stages did not come to rest within {bound} steps");
    }

    /// Which stages moved, in order, as one number: equal for equal seeds.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// Steps done.
    pub fn step_count(&self) -> u64 {
        self.steps
    }
}
