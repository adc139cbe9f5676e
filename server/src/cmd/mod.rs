//! The command `tillroll`: what a person or a script types. Each subcommand has its own room; [`out`] writes data,
//! [`fail`] says what went wrong, and [`terminal`] is the only way out for both.
//!
//! All but `dev`, `serve` and `demo` are clients: they use the SDK alone, as any other program would.

mod terminal;
mod fail;
mod log;
mod out;
mod signals;
mod lifetime;
mod server;
mod time;
mod confirm;
mod topic;
mod producer;
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
    ffi::{OsStr, OsString},
    fmt::Display,
    future::Future,
    net::{SocketAddr, ToSocketAddrs as _},
    process::ExitCode,
};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
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

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 refused, 5 unavailable, 6 conflict, 7 data damaged; cut short:
130 by Ctrl-C, 143 by SIGTERM. What ends in good order at a signal says so in its help: serve, consume, saga run"
)]
struct Line {
    #[command(flatten)]
    out: Out,
    /// The broker, for all subcommands that talk to one
    #[arg(id = "broker", long = "server", value_name = "URL")]
    server: Option<String>,
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
    /// List and delete the producers that the broker remembers
    Producer(producer::Producer),
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

/// The variable that names the broker.
const SERVER_VARIABLE: &str = "TILLROLL_SERVER";
/// The broker when nobody names one.
const SERVER: &str = "http://127.0.0.1:7420";

impl Command {
    /// Where its broker is; none of what is one itself, or starts one.
    fn connection(&mut self) -> Option<&mut Connection> {
        Some(match self {
            Self::Topic(topic) => &mut topic.connection,
            Self::Producer(producer) => &mut producer.connection,
            Self::Append(append) => &mut append.connection,
            Self::Read(read) => &mut read.connection,
            Self::Group(group) => &mut group.connection,
            Self::Consume(consume) => &mut consume.connection,
            Self::Status(status) => &mut status.connection,
            Self::Bench(bench) => &mut bench.connection,
            Self::Saga(saga) => return saga.connection(),
            Self::Dev(_) | Self::Serve(_) | Self::Demo(_) => return None,
        })
    }
}

/// Where the broker is.
#[derive(Args, Clone, Debug)]
struct Connection {
    /// The broker: HOST, HOST:PORT or a URL [env: TILLROLL_SERVER] [default: http://127.0.0.1:7420]
    #[arg(long, value_name = "URL", global = true)]
    server: Option<String>,
}

impl Connection {
    /// The broker's address: the option, the variable unless it is empty, or the usual one.
    fn server(&self) -> String {
        self.server.clone().or_else(Self::variable).unwrap_or_else(|| SERVER.to_owned())
    }

    fn variable() -> Option<String> {
        std::env::var(SERVER_VARIABLE).ok().filter(|url| !url.is_empty())
    }

    async fn connect(&self) -> Result<Client, Failure> {
        server::check(&self.server()).map_err(|wrong| {
            let named_by = if self.server.is_some() { "--server" } else { SERVER_VARIABLE };
            Failure::usage(format!("{named_by} {}: {wrong}", self.server())).hint(server::HINT)
        })?;
        let connected = Client::builder().name("tillroll").connect(&self.server()).await;
        connected.map_err(|error| match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::Unsupported if error.reason().is_none() => {
                Failure::usage(error.message()).hint(server::HINT)
            }
            _ => error.into(),
        })
    }
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    if let Err(code) = lifetime::ends_with_parent() {
        return code;
    }
    let line = Line::read(std::env::args_os()).unwrap_or_else(|error| not_understood(&error));
    match line.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Says what is wrong with the command line, or what help or version was asked for. The parser tells arguments back as
/// they were given, so it is asked again with arguments that can be shown.
fn not_understood(error: &clap::Error) -> ! {
    let shown: Vec<String> =
        std::env::args_os().map(|word| terminal::line(&word.to_string_lossy()).into_owned()).collect();
    if std::env::args_os().eq(shown.iter().map(OsStr::new)) {
        error.exit();
    }
    if let Err(error) = Line::read(&shown) {
        error.exit();
    }
    Failure::usage("an argument has characters that cannot be shown, and makes no sense with them").report();
    std::process::exit(Code::Usage as i32)
}

/// Numbers may be negative on the command line, so that what is wrong with one is that, and not that it is no option.
fn with_numbers(command: clap::Command) -> clap::Command {
    let numbers = |arg: clap::Arg| {
        let takes = arg.get_action().takes_values() && !arg.is_positional() && !arg.is_allow_hyphen_values_set();
        if takes { arg.allow_negative_numbers(true) } else { arg }
    };
    let inner: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    inner.into_iter().fold(command.mut_args(numbers), |command, name| command.mut_subcommand(name, with_numbers))
}

impl Line {
    /// Reads a command line.
    fn read<I: IntoIterator<Item: Into<OsString> + Clone>>(words: I) -> Result<Self, clap::Error> {
        let mut command = with_numbers(Self::command());
        let matches = command.try_get_matches_from_mut(words)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }

    fn run(mut self) -> Result<(), Failure> {
        let out = self.out;
        if let Some(server) = self.server {
            let Some(connection) = self.command.as_mut().and_then(Command::connection) else {
                return Err(Failure::usage("--server names a broker to talk to, and nobody talks here")
                    .hint("leave it out; a broker's own address is --listen"));
            };
            connection.server.get_or_insert(server);
        }
        match self.command {
            None => Ok(terminal::print(START.lines().map(str::to_owned).collect::<Vec<_>>())?),
            Some(Command::Dev(dev)) => serve::dev(&dev, out),
            Some(Command::Serve(serve)) => serve::run(&serve, out),
            Some(Command::Topic(topic)) => client(unless_interrupted(topic::run(topic, out))),
            Some(Command::Producer(producer)) => client(unless_interrupted(producer::run(producer, out))),
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
        code = interrupt() => Err(Failure::silent(code)),
    }
}

/// Resolves at a signal that ends, with the code of a command that it cuts short; never where none can be heard.
async fn interrupt() -> Code {
    match signals::Signals::new() {
        Ok(mut signals) => Code::cut_short(signals.next().await),
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        with_numbers(Line::command()).debug_assert();
    }

    /// `unexpected argument '-1'` would be wrong of each of them.
    #[test]
    fn an_option_with_a_value_takes_a_negative_number_for_one() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values() && !arg.is_positional()) {
                let takes = arg.is_allow_hyphen_values_set() || arg.is_allow_negative_numbers_set();
                assert!(takes, "{}: {}", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&with_numbers(Line::command()));
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
