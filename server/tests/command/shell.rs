//! A person at a terminal: types commands as they stand in the documents, in an empty folder, beside a broker.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
};

use tempfile::TempDir;

use crate::process::{own_address, wait_for};

/// An empty folder, and where the broker is.
pub(crate) struct Shell {
    folder: TempDir,
    server: String,
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Shell {
    /// Without a broker: nobody is given this port.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("an empty folder"), server: "http://127.0.0.1:1".to_owned() }
    }

    /// With a broker, which is told of to all commands.
    pub(crate) fn with_broker() -> (Self, Broker) {
        let mut shell = Self::new();
        let broker = shell.broker(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
        shell.server = format!("http://{}", broker.address);
        (shell, broker)
    }

    /// With a broker that is to come back at its address.
    pub(crate) fn with_broker_of_its_own() -> (Self, Broker) {
        let mut shell = Self::new();
        let broker = shell.broker(&["serve", "--data", "data", "--listen", &own_address()]);
        shell.talk_to(&broker);
        (shell, broker)
    }

    /// All commands after this talk to that broker.
    pub(crate) fn talk_to(&mut self, broker: &Broker) {
        self.server = format!("http://{}", broker.address);
    }

    /// Where the broker is.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Types a line and waits for its end.
    pub(crate) fn run(&self, line: &str) -> Said {
        self.run_with(line, b"")
    }

    /// The same with something on standard input.
    pub(crate) fn run_with(&self, line: &str, input: &[u8]) -> Said {
        let path = self.folder().join("standard-input");
        std::fs::write(&path, input).expect("a file in the folder");
        // A command that hangs fails its test instead of holding up all of them.
        let mut command = self.command("timeout", &["120", "sh", "-c", line]);
        command.stdin(std::fs::File::open(path).expect("the file is there"));
        let output = command.output().expect("sh runs");
        Said {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("the output is text"),
            stderr: String::from_utf8(output.stderr).expect("the output is text"),
        }
    }

    /// Types a line that has to work, and gives its standard output.
    pub(crate) fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 0, "{line}: {said:?}");
        said.stdout
    }

    /// Starts the program without a shell, so that signals reach it.
    pub(crate) fn spawn(&self, words: &[&str]) -> Child {
        self.spawn_by(env!("CARGO_BIN_EXE_tillroll"), words)
    }

    fn spawn_by(&self, program: &str, words: &[&str]) -> Child {
        let mut command = self.command(program, words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program starts")
    }

    /// Starts a broker and waits until it takes requests.
    pub(crate) fn broker(&self, words: &[&str]) -> Broker {
        self.broker_by(env!("CARGO_BIN_EXE_tillroll"), words)
    }

    /// The same through another program that becomes it.
    pub(crate) fn broker_by(&self, program: &str, words: &[&str]) -> Broker {
        let mut child = self.spawn_by(program, words);
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut broker = Broker { address: String::new(), before: String::new(), child, stderr };
        while broker.address.is_empty() {
            let line = broker.lines(1);
            assert!(!line.is_empty(), "the broker did not start: {}", broker.before);
            match line.strip_prefix("listening on ") {
                Some(address) => address.trim().clone_into(&mut broker.address),
                // What every start says.
                None if line.contains(" clients can take at most ") => {}
                None => broker.before.push_str(&line),
            }
        }
        broker
    }

    fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut path =
            OsString::from(PathBuf::from(env!("CARGO_BIN_EXE_tillroll")).parent().expect("it is in a folder"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command.args(words).current_dir(self.folder()).env("PATH", path).env("TILLROLL_SERVER", &self.server);
        command
    }
}

/// A broker as a process of its own; killed when it is dropped.
pub(crate) struct Broker {
    pub(crate) address: String,
    /// What it said before it took requests.
    pub(crate) before: String,
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Broker {
    /// The next so many lines that it says.
    pub(crate) fn lines(&mut self, count: usize) -> String {
        let mut said = String::new();
        wait_for("what the broker says next", self.child.id(), || {
            for _ in 0..count {
                self.stderr.read_line(&mut said).expect("it is text");
            }
        });
        said
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Sends a signal by name and waits for the end: its exit code, and what it said meanwhile.
    pub(crate) fn end(mut self, name: &str) -> (i32, String) {
        self.signal(name);
        let mut said = String::new();
        let status = wait_for("the broker's end", self.child.id(), || {
            self.stderr.read_to_string(&mut said).expect("it is text");
            self.child.wait().expect("it was started here")
        });
        (status.code().unwrap_or(-1), said)
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it was started here");
        self.child.wait().expect("it was started here");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to one process.
pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
}

/// A process's end.
pub(crate) fn end(what: &str, child: &mut Child) -> ExitStatus {
    wait_for(what, child.id(), || child.wait()).expect("it was started here")
}

/// The next so many lines that a process prints.
pub(crate) fn printed(child: &Child, output: &mut BufReader<ChildStdout>, count: usize) -> String {
    let mut lines = String::new();
    wait_for(&format!("{count} lines"), child.id(), || {
        for _ in 0..count {
            output.read_line(&mut lines).expect("it is text");
        }
    });
    lines
}
