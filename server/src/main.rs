//! The one binary: the broker, and the command to work with it.

#![forbid(unsafe_code)]

mod cmd;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cmd::run()
}
