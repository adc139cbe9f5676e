//! Whatever a service does is caught: a panic of it is a failure like others, with words.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls the service.
///
/// **Errors**: it panicked. What it was given to change may be half changed then, and is not to be used any more.
pub(super) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| words(&*panic))
}

/// What a panic said.
pub(super) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "without a word".to_owned()))
}
