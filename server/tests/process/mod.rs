//! What every suite with processes of its own needs: an address that nobody else takes, and waits that end.

use std::{
    sync::{
        atomic::{AtomicU8, Ordering},
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// No test needs as long for one thing.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// An address of this process alone: whoever takes a free port meanwhile, this test or a client that connects, does not
/// take the one that it comes back to.
pub(crate) fn own_address() -> String {
    static TAKEN: AtomicU8 = AtomicU8::new(0);
    let [low, high, ..] = std::process::id().to_le_bytes();
    format!("127.{}.{high}.{low}:0", 1 + TAKEN.fetch_add(1, Ordering::Relaxed) % 250)
}

/// Waits for a process: its end, or a line that it says. One that takes longer than any may is killed, which ends the
/// wait, and `what` was waited for is named.
///
/// `pid` is a process that is not waited for before, so that the number is still its own.
pub(crate) fn wait_for<T>(what: &str, pid: u32, wait: impl FnOnce() -> T) -> T {
    let (done, is_done) = sync_channel::<()>(0);
    let watching = thread::spawn(move || {
        let is_late = is_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        if is_late && let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It may have ended by now.
            let _ = kill_process(pid, Signal::KILL);
        }
        is_late
    });
    let waited = wait();
    drop(done);
    assert!(!watching.join().expect("no panic"), "{what}: not within {PATIENCE:?}");
    waited
}
