//! The broker as a process of its own, on a directory and a port that outlive it.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStderr, Command, Stdio},
};

use tempfile::TempDir;
use tillroll_client::{Client, Compression, Producer, Received, Record, TopicOptions};
use tokio::time::timeout;

pub(crate) use crate::process::PATIENCE;
use crate::process::{own_address, wait_for};

/// Waits for something, no longer than anything may take, and names it when it does not come.
pub(crate) async fn within<T>(what: &str, coming: impl Future<Output = T>) -> T {
    timeout(PATIENCE, coming).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// How a broker ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// SIGKILL.
    Kill,
    /// SIGTERM, and an orderly stop.
    Terminate,
}

/// `tillroll serve` on a directory of its own; killed when it is dropped.
pub(crate) struct Broker {
    data: TempDir,
    /// Its own, with a free port at the first start; the same one from then on.
    address: String,
    process: Option<Process>,
}

struct Process {
    child: Child,
    /// What it said before it took requests.
    said: String,
    /// Kept, so that the broker can say what it likes.
    _stderr: BufReader<ChildStderr>,
}

impl Broker {
    /// Starts one on an empty directory and waits until it takes requests.
    pub(crate) fn start() -> Self {
        let mut broker =
            Self { data: tempfile::tempdir().expect("an empty directory"), address: own_address(), process: None };
        broker.spawn();
        broker
    }

    /// Ends it, and starts it again on the same directory and port.
    pub(crate) fn restart(&mut self, end: End) {
        self.end(end);
        self.spawn();
    }

    /// A copy of its data, made while it is stopped.
    pub(crate) fn copy(&mut self) -> TempDir {
        self.end(End::Terminate);
        let copy = tempfile::tempdir().expect("an empty directory");
        copy_all(self.data.path(), copy.path());
        self.spawn();
        copy
    }

    /// Puts an older copy in the place of its data.
    pub(crate) fn restore(&mut self, copy: &TempDir) {
        self.end(End::Terminate);
        self.data = tempfile::tempdir().expect("an empty directory");
        copy_all(copy.path(), self.data.path());
        self.spawn();
    }

    fn end(&mut self, end: End) {
        let mut process = self.process.take().expect("it runs");
        match end {
            End::Kill => process.child.kill().expect("it was started here"),
            End::Terminate => {
                let words = format!("kill -TERM {}", process.child.id());
                let sent = Command::new("sh").args(["-c", &words]).status();
                assert!(sent.is_ok_and(|status| status.success()), "{words}");
            }
        }
        let status = wait_for("the broker's end", process.child.id(), || process.child.wait());
        let status = status.expect("it was started here");
        assert!(matches!(end, End::Kill) || status.success(), "it did not stop in order: {status}");
    }

    fn spawn(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tillroll"));
        command.arg("serve").arg("--data").arg(self.data.path()).args(["--listen", &self.address]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the broker starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut said = String::new();
        self.address = wait_for("the broker's start", child.id(), || {
            loop {
                let before = said.len();
                stderr.read_line(&mut said).expect("it is text");
                assert!(said.len() > before, "the broker did not start: {said}");
                if let Some(address) = said[before..].strip_prefix("listening on ") {
                    return address.trim().to_owned();
                }
            }
        });
        self.process = Some(Process { child, said, _stderr: stderr });
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").child.id()
    }

    /// The memory that clients can take at most, as it says at its start.
    pub(crate) fn memory_max(&self) -> u64 {
        let said = &self.process.as_ref().expect("it runs").said;
        let stated = said.split_once(" clients can take at most ").and_then(|(_, rest)| rest.split_once(" MiB"));
        stated.and_then(|(number, _)| number.parse::<u64>().ok()).expect("it says so") << 20
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A client with connections of its own.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address).await.expect("the broker takes requests")
    }

    /// A client, and a topic of so many partitions.
    pub(crate) async fn topic(&self, name: &str, partitions: u32) -> Client {
        let client = self.client().await;
        let options = TopicOptions::default().partitions(partitions).compression(Compression::Lz4);
        let (_, created) = client.admin().create_topic(name, options).await.expect("a new topic");
        assert!(created);
        client
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended already.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("it has one").is_dir() {
            std::fs::create_dir(&target).expect("it is new");
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Sends records one append each, and gives their offsets.
pub(crate) async fn send_each(producer: &Producer, records: impl IntoIterator<Item = Record>) -> Vec<u64> {
    let mut offsets = Vec::new();
    for record in records {
        let placed = producer.send(record).await.expect("it has room").await.expect("accepted");
        offsets.push(placed.offset);
    }
    offsets
}

/// Everything that is in the topic now, partition by partition in order.
pub(crate) async fn read_all(client: &Client, topic: &str) -> Vec<Received> {
    let mut reader = client.reader(topic).open().await.expect("it can be read");
    let mut all = Vec::new();
    while let Some(received) = reader.next().await {
        all.push(received.expect("whole"));
    }
    assert!(reader.caught_up(), "it ends at the end");
    all.sort_by_key(|received| (received.partition, received.offset));
    all
}

/// The value of a record that is a number.
pub(crate) fn number(received: &Received) -> u64 {
    std::str::from_utf8(&received.record.value).ok().and_then(|text| text.parse().ok()).expect("a number")
}
