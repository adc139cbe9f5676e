//! The seam to clock and entropy. The engine asks nobody else what time it is.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Clock and entropy, handed in by the constructor. No decision about order, duplicates or fencing rests on it.
pub trait Env: Send + Sync + 'static {
    /// Microseconds since 1970-01-01 UTC. May jump either way; frames clamp it to never fall.
    fn wall_us(&self) -> i64;

    /// Microseconds since some start, never falling: for waiting only.
    fn mono_us(&self) -> u64;

    /// Fills `buffer` with unpredictable bytes: for identities only.
    fn fill(&self, buffer: &mut [u8]);
}

/// The machine's own clock and entropy.
#[derive(Debug)]
pub struct SystemEnv {
    start: Instant,
}

impl Default for SystemEnv {
    #[expect(clippy::disallowed_methods, reason = "this is the seam that the rule points to")]
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Env for SystemEnv {
    #[expect(clippy::disallowed_methods, reason = "this is the seam that the rule points to")]
    fn wall_us(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    fn mono_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn fill(&self, buffer: &mut [u8]) {
        // The kernel's generator never fails for buffers up to 256 bytes once it is seeded, which it is before any
        // user process runs; larger identities are not drawn.
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the kernel gave no entropy: {error}"),
            }
        }
    }
}
