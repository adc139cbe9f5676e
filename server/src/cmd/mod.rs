//! The command `tillroll`: what a person or a script types. Each subcommand has its own room; [`out`] writes data,
//! [`fail`] says what went wrong.
//!
//! All but `dev`, `serve` and `demo` are clients: they use the SDK alone, as any other program would.

mod fail;
mod log;
mod out;
mod signals;
mod time;
mod confirm;
mod topic;
mod append;
mod read;
mod consume;
mod group;
mod status;
mod serve;
mod bench;
mod saga;
mod demo;

use std::{
    fmt::Display,
    future::Future,
    net::{SocketAddr, ToSocketAddrs as _},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use tillroll_client::{Client, ErrorKind};

use fail::{Code, Failure};
use out::Out;

/// What is said while the SDK tries again.
const TRIES_ON: &str = "trying again, for up to two minutes";

/// What `tillroll` alone prints: six lines to copy.
const START: &str = r#"start   tillroll dev
create  tillroll topic create orders
append  tillroll append orders --key 42 --value '{"total":1999}'
read    tillroll read orders
follow  tillroll read orders -f
demo    tillroll demo
"#;

/// Tillroll, a durable event log for commerce back ends
#[derive(Debug, Parser)]
#[command(
    name = "tillroll",
    version,
    after_help = "Examples:
  tillroll dev
  tillroll topic create orders
  tillroll append orders --key 42 --value '{\"total\":1999}'
  tillroll read orders -f

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 refused, 5 unavailable, 6 conflict, 7 data damaged, 130 Ctrl-C"
)]
struct Line {
    #[command(flatten)]
    out: Out,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a broker to try things with: port 7420, data in ./tillroll-data
    Dev(serve::Dev),
    /// Start a broker
    Serve(serve::Serve),
    /// Make, list, describe and delete topics
    Topic(topic::Topic),
    /// Append a record, a file, or standard input
    Append(append::Append),
    /// Read records, to the end or following
    Read(read::Read),
    /// Make, watch, pause and delete consumer groups, and set their cursors
    Group(group::Group),
    /// Consume as a member of a group: print, then commit
    Consume(consume::Consume),
    /// Show whether the broker answers, and what it is
    Status(status::Status),
    /// Measure appends or reads, on a topic of its own
    Bench(bench::Bench),
    /// Run the services of the order saga, and prove what they did
    Saga(saga::Saga),
    /// A year of real orders through five services while everything goes wrong, and the proof
    Demo(demo::Demo),
}

/// Where the broker is.
#[derive(Args, Clone, Debug)]
struct Connection {
    /// The broker
    #[arg(long, env = "TILLROLL_SERVER", value_name = "URL", default_value = "http://127.0.0.1:7420", global = true)]
    server: String,
}

impl Connection {
    async fn connect(&self) -> Result<Client, Failure> {
        let connected = Client::builder().name("tillroll").connect(&self.server).await;
        connected.map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => Failure::usage(error.message()).hint("such as http://127.0.0.1:7420"),
            _ => error.into(),
        })
    }
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    let line = Line::parse();
    match line.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

impl Line {
    fn run(self) -> Result<(), Failure> {
        let out = self.out;
        match self.command {
            None => Ok(std::io::Write::write_all(&mut std::io::stdout(), START.as_bytes())?),
            Some(Command::Dev(dev)) => serve::dev(&dev, out),
            Some(Command::Serve(serve)) => serve::run(&serve, out),
            Some(Command::Topic(topic)) => client(unless_interrupted(topic::run(topic, out))),
            Some(Command::Append(append)) => client(append::run(append, out)),
            Some(Command::Read(read)) => client(read::run(read, out)),
            Some(Command::Group(group)) => client(unless_interrupted(group::run(group, out))),
            Some(Command::Consume(consume)) => client(consume::run(consume, out)),
            Some(Command::Status(status)) => client(unless_interrupted(status::run(status, out))),
            Some(Command::Bench(bench)) => client(bench::run(bench, out)),
            Some(Command::Saga(saga)) => client(saga::run(saga, out)),
            Some(Command::Demo(demo)) => client(unless_interrupted(demo::run(demo, out))),
        }
    }
}

/// Runs a client's future: one thread is enough, and leaves the others to the broker beside it.
fn client(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("starting the runtime", &error))?;
    let done = runtime.block_on(work);
    // A thread that still waits for standard input would otherwise keep the process.
    runtime.shutdown_background();
    done
}

/// A host and a port. Of several addresses of a name the first of IPv4 is taken: programs that are told `127.0.0.1`
/// and `localhost` mean the same.
fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_err(|error| format!("{error}; write HOST:PORT, as in 127.0.0.1:7420"))?;
    let found: Vec<SocketAddr> = found.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| "the name has no address".to_owned())
}

/// An option that may be repeated has each value once.
fn each_once<T: PartialEq + Display>(what: &str, values: &[T]) -> Result<(), Failure> {
    let twice = values.iter().enumerate().find(|(index, value)| values[..*index].contains(value));
    twice.map_or(Ok(()), |(_, value)| {
        Err(Failure::usage(format!("--{what} {value} is there twice")).hint(format!("name each {what} once")))
    })
}

/// Ends the work at Ctrl-C, and when the process is asked to end: what it started is ended with it.
async fn unless_interrupted(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        done = work => done,
        () = interrupt() => Err(Failure::silent(Code::Interrupted)),
    }
}

/// Resolves at a signal that ends; never where none can be heard.
async fn interrupt() {
    match signals::Signals::new() {
        Ok(mut signals) => _ = signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn every_subcommand_has_examples() {
        fn check(command: &clap::Command, path: &str) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:") && help.contains(path), "{path} has no examples: {help:?}");
            for inner in command.get_subcommands() {
                check(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        check(&Line::command(), "tillroll");
    }

    #[test]
    fn alone_it_prints_six_lines_that_it_understands() {
        assert_eq!(START.lines().count(), 6);
        for line in START.lines() {
            let words = line.split_whitespace().skip(1).map(|word| word.trim_matches('\''));
            let parsed = Line::try_parse_from(words);
            assert!(parsed.is_ok_and(|line| line.command.is_some()), "{line}");
        }
    }
}
