//! A broker as a process of its own: this very program, started as `serve`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
};

use crate::cmd::fail::Failure;

/// How long a broker may take until it takes requests.
const START_WITHIN: Duration = Duration::from_mins(1);

/// How often a start is tried again, and after how long.
const STARTS_MAX: u32 = 10;
const START_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// A running broker. Killed when it is dropped.
pub(super) struct Broker {
    /// Where it takes requests.
    pub(super) address: String,
    data: PathBuf,
    child: Child,
    pid: u32,
}

impl Broker {
    /// Starts one on this data, and waits until it takes requests.
    pub(super) async fn start(data: &Path, listen: &str) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::io("finding this program", &error))?;
        let mut child = Command::new(program)
            .arg("serve")
            .arg("--data")
            .arg(data.join("data"))
            .args(["--listen", listen])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::io("starting a broker", &error))?;
        let (Some(pid), Some(stderr)) = (child.id(), child.stderr.take()) else {
            return Err(Failure::plain("the broker ended at once"));
        };
        let address = tokio::time::timeout(START_WITHIN, listening(stderr)).await;
        let address =
            address.map_err(|_| Failure::plain(format!("the broker took more than {START_WITHIN:?} to start")))??;
        Ok(Self { address, data: data.to_owned(), child, pid })
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGKILL, and waits until the process is gone.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| Failure::io("killing the broker", &error))
    }

    /// Starts one on the same data at the same address. While it was down, anybody may have borrowed its port.
    pub(super) async fn start_again(&mut self) -> Result<(), Failure> {
        let mut tries = 0..STARTS_MAX;
        *self = loop {
            match Self::start(&self.data, &self.address).await {
                Err(_) if tries.next().is_some() => tokio::time::sleep(START_AGAIN_AFTER).await,
                started => break started?,
            }
        };
        Ok(())
    }
}

/// The address that it says. What it says later is read and dropped: a full pipe would hold it up.
async fn listening(stderr: ChildStderr) -> Result<String, Failure> {
    let mut lines = BufReader::new(stderr).lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.map_err(|error| Failure::io("reading from the broker", &error))? {
        if let Some(address) = line.strip_prefix("listening on ") {
            let address = address.to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(address);
        }
        said.push(line);
    }
    Err(Failure::plain(format!("the broker did not start: {}", said.join("; "))))
}
