//! Other programs as processes of their own: servers that say `listening on ADDRESS`, and programs that print one JSON
//! object and end.
//!
//! What must stay true: no process outlives the value that stands for it.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

/// How long a server may take until it listens.
const START_WITHIN: Duration = Duration::from_mins(1);
/// How long a server may take to end after SIGTERM: a broker writes its tail back first.
const STOP_WITHIN: Duration = Duration::from_mins(1);
/// Lines of a program that did not start that are shown.
const SAID_MAX: usize = 20;

/// A server that listens. Killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens, such as `127.0.0.1:40123`.
    pub address: String,
    child: Child,
}

impl Server {
    /// Starts it, and waits until it says on standard error where it listens. Its standard input stays open for as
    /// long as it is wanted.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends, or says nothing for a minute.
    pub async fn start(program: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting a server program={}", program.display()))?;
        let stderr = child.stderr.take().context("a server's standard error is a pipe")?;
        let address = timeout(START_WITHIN, listening(stderr)).await;
        let address = address.map_err(|_| anyhow!("a server did not listen within={START_WITHIN:?}"))??;
        Ok(Self { address, child })
    }

    /// Its process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it with SIGTERM and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it takes more than a minute; it is killed then.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let pid = pid.context("the server ended by itself")?;
        kill_process(pid, Signal::TERM).context("ending a server")?;
        if timeout(STOP_WITHIN, self.child.wait()).await.is_err() {
            self.child.kill().await.context("killing a server")?;
            bail!("a server did not end within={STOP_WITHIN:?}");
        }
        Ok(())
    }
}

/// The address that it says. What it says later is read and dropped: a full pipe would hold it up.
async fn listening(stderr: ChildStderr) -> anyhow::Result<String> {
    let mut lines = BufReader::new(stderr).lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.context("reading from a server")? {
        if let Some(address) = line.strip_prefix("listening on ") {
            let address = address.to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(address);
        }
        if said.len() < SAID_MAX {
            said.push(line);
        }
    }
    bail!("a server did not start: {}", said.join("; "))
}

/// Runs a program to its end and reads the JSON object that it prints.
///
/// # Errors
///
/// When it fails or takes longer than `within`, with what it said; and when what it printed is no JSON.
pub async fn object(program: &Path, arguments: &[&str], within: Duration) -> anyhow::Result<Value> {
    let running = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let named = || format!("program={} arguments={}", program.display(), arguments.join(" "));
    let output = timeout(within, running).await.map_err(|_| anyhow!("no end within={within:?} {}", named()))?;
    let output = output.with_context(|| format!("running {}", named()))?;
    if !output.status.success() {
        bail!("{} {}: {}", output.status, named(), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("reading what it printed {}", named()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SH: &str = "/bin/sh";

    #[tokio::test]
    async fn a_server_is_known_by_its_address_and_ends_when_told() {
        let script = "echo starting >&2; echo listening on 127.0.0.1:1 >&2; read line";
        let server = Server::start(Path::new(SH), &["-c", script]).await.expect("it listens");
        assert_eq!(server.address, "127.0.0.1:1");
        server.stop().await.expect("it ends");
    }

    #[tokio::test]
    async fn a_server_that_does_not_start_says_why() {
        let error = Server::start(Path::new(SH), &["-c", "echo no room >&2"]).await.expect_err("it ended");
        assert!(error.to_string().contains("no room"), "{error}");
    }

    #[tokio::test]
    async fn an_object_is_read_and_a_failure_is_told() {
        let within = Duration::from_secs(30);
        let found = object(Path::new(SH), &["-c", "echo '{\"a\":1}'"], within).await.expect("an object");
        assert_eq!(found, serde_json::json!({"a": 1}));
        let error = object(Path::new(SH), &["-c", "echo broken >&2; exit 3"], within).await.expect_err("it failed");
        assert!(error.to_string().contains("broken"), "{error}");
    }
}
