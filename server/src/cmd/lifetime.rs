//! A process that was started by another one of ours ends with it, also when that one is killed and can end nobody.

use std::process::ExitCode;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The number of the process that starts this one and that this one must not outlive.
pub(crate) const PARENT_VARIABLE: &str = "TILLROLL_PARENT";

/// From now on the system kills this process when the thread that started it ends. Without the variable, nothing.
///
/// **Errors**: the code to end with: the parent was gone before that was asked for, or the system does not do it.
pub(crate) fn ends_with_parent() -> Result<(), ExitCode> {
    let Some(parent) = std::env::var_os(PARENT_VARIABLE) else { return Ok(()) };
    let parent = parent.to_str().and_then(|parent| parent.parse().ok()).and_then(Pid::from_raw);
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err() || parent.is_none() || getppid() != parent {
        return Err(ExitCode::FAILURE);
    }
    Ok(())
}
