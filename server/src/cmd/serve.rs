//! `tillroll serve` and `tillroll dev`: the engine on a directory, gRPC in front of it, until a signal.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tillroll_engine::{
    driver::threads::Running,
    open::{OpenError, OpenReport},
    settings::Settings,
};
use tillroll_server::{Server, ServerSettings, notices};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use crate::cmd::{
    address,
    fail::{Code, Failure, say},
    log,
    out::Out,
    signals::Signals,
};

/// Fewer descriptors than this are warned of.
const DESCRIPTORS_MIN: u64 = 4_096;
/// Threads for reads that go to the disk: more of them than a disk serves at a time only take memory.
const BLOCKING_THREADS_MAX: usize = 64;
/// Connections that wait to be accepted, at most; as many as the runtime's own listeners have.
const BACKLOG: u32 = 1_024;
/// Who may have its port, and what names another one.
const HAS_PORT: (&str, &str) = (", perhaps a broker,", "--listen");

/// `tillroll serve`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll serve --data /var/lib/tillroll
  tillroll serve --data ./data --listen 0.0.0.0:7420

Says `listening on ADDRESS` on standard error once it takes requests. SIGTERM or Ctrl-C ends it: what is in flight is
answered, then it exits with 0; a second signal ends it at once, with 143 or 130. However it ends, nothing that was
acked is lost.
TILLROLL_LOG sets what is logged, such as info or tillroll_server=debug.")]
pub(crate) struct Serve {
    /// The data directory; made when it is not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", value_parser = address, default_value = "127.0.0.1:7420")]
    listen: SocketAddr,
    #[command(flatten)]
    tuning: Tuning,
}

/// For measuring.
#[derive(Args, Clone, Copy, Debug)]
struct Tuning {
    /// No checkpoints before the end: a full journal refuses appends
    #[arg(long, hide = true)]
    hold_checkpoints: bool,
    /// Threads for connections; the engine has its own
    #[arg(long, hide = true, value_name = "COUNT", default_value_t = 1, value_parser = threads)]
    runtime_threads: usize,
}

fn threads(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| (1..=256).contains(count)).ok_or_else(|| "1 to 256".to_owned())
}

/// `tillroll dev`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll dev
  tillroll dev --data /tmp/try --listen 127.0.0.1:7421")]
pub(crate) struct Dev {
    /// The data directory; made when it is not there
    #[arg(long, value_name = "DIR", default_value = "tillroll-data")]
    data: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", value_parser = address, default_value = "127.0.0.1:7420")]
    listen: SocketAddr,
    #[command(flatten)]
    tuning: Tuning,
}

/// Runs `tillroll dev`.
pub(crate) fn dev(dev: &Dev, out: Out) -> Result<(), Failure> {
    broker(&dev.data, dev.listen, dev.tuning, out, |address| {
        let server = if address.port() == 7420 && address.ip().is_loopback() {
            String::new()
        } else {
            format!(" --server http://{address}")
        };
        out.say(format!("data in {}; Ctrl-C ends it, and the records stay", dev.data.display()));
        out.say("");
        out.say("in another terminal:");
        out.say(format!("  tillroll topic create orders{server}"));
        out.say(format!("  tillroll append orders --key 42 --value '{{\"total\":1999}}'{server}"));
        out.say(format!("  tillroll read orders -f{server}"));
    })
}

/// Runs `tillroll serve`.
pub(crate) fn run(serve: &Serve, out: Out) -> Result<(), Failure> {
    broker(&serve.data, serve.listen, serve.tuning, out, |_| {})
}

fn broker(
    data: &Path,
    listen: SocketAddr,
    tuning: Tuning,
    out: Out,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), Failure> {
    log::start();
    let descriptors = descriptors();
    let not_had = |error: io::Error| Failure::listening(format!("listening on {listen}"), &error, HAS_PORT);
    // A port that is taken must not leave a fresh directory behind.
    let socket = bind(listen).map_err(not_had)?;
    let settings = Settings { hold_checkpoints: tuning.hold_checkpoints, ..Settings::default() };
    let running = Running::start(data, settings).map_err(|error| refused(data, &error))?;
    let told = Arc::new(notices::Log::new(running.engine.clone()));
    told.now();
    let OpenReport { incarnation, frames_replayed, dropped_bytes, .. } = running.report;
    tracing::info!(data = %data.display(), incarnation, frames_replayed, dropped_bytes, "opened");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(tuning.runtime_threads)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("starting the runtime", &error))?;
    let served = runtime.block_on(async {
        let signals = Signals::new()?;
        let settings = ServerSettings { data_directory: absolute(data), ..ServerSettings::default() };
        let settings = settings.within(descriptors);
        let listener = socket.listen(BACKLOG).map_err(not_had)?;
        let server = Server::on(listener, running.engine.clone(), settings);
        let address = server.local_addr().map_err(|error| Failure::io("asking for the address", &error))?;
        server.announce();
        // Others wait for this line, so it is written even when quiet.
        say(&format!("listening on {address}"));
        listening(address);
        let stop = CancellationToken::new();
        tokio::spawn(end_on_signals(signals, stop.clone(), out));
        let following = told.clone();
        tokio::spawn(async move { following.follow().await });
        server.serve(stop).await.map_err(|error| Failure::plain(format!("serving: {error}")))?;
        // Blocks for some seconds at most, and must not hold up the second signal.
        let stopped = tokio::task::spawn_blocking(move || running.stop()).await;
        told.end();
        stopped.map(|_| ()).map_err(|_| Failure::plain("the engine did not stop in order"))
    });
    runtime.shutdown_background();
    served
}

/// Takes the address. Nobody can connect yet: a client of a broker that still replays its journal is refused at once,
/// and tries again.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of the broker before this one may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// The directory as the status tells it: whoever asks may be in another one.
fn absolute(data: &Path) -> PathBuf {
    // Without a current directory, what was typed is all that is known.
    std::path::absolute(data).unwrap_or_else(|_| data.to_owned())
}

/// The first signal ends the server in order, the second one at once.
async fn end_on_signals(mut signals: Signals, stop: CancellationToken, out: Out) {
    signals.next().await;
    out.say("stopping: what is in flight is answered; a second signal ends it at once");
    stop.cancel();
    let second = signals.next().await;
    std::process::exit(Code::cut_short(second) as i32);
}

/// Segments and connections take descriptors: as many as the system lets this process have.
fn descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // What the system does not grant is told below.
    let _granted = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let count = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if count < DESCRIPTORS_MIN {
        say(&format!(
            "warning: only {count} files may be open, and half as many connections; many topics and clients need \
             {DESCRIPTORS_MIN}: see ulimit -Hn"
        ));
    }
    count
}

/// Why the directory was not opened.
fn refused(data: &Path, error: &OpenError) -> Failure {
    let code = match error {
        OpenError::Locked => Code::Conflict,
        OpenError::Newer { .. } | OpenError::NotEmpty { .. } | OpenError::NotADirectory { .. } => Code::Refused,
        OpenError::Rotten { .. }
        | OpenError::TablesDamaged { .. }
        | OpenError::FlushedBeyondEnd { .. }
        | OpenError::EndBeyondHeld { .. }
        | OpenError::Misfit { .. }
        | OpenError::Control { .. }
        | OpenError::ControlMissing { .. }
        | OpenError::Tables { .. }
        | OpenError::Journal(_) => Code::Damaged,
        _ => Code::Failure,
    };
    // The part behind the semicolon says what to do.
    let text = format!("{}: {error}", data.display());
    match text.split_once("; ") {
        Some((what, next)) => Failure::new(code, what).hint(next),
        None => Failure::new(code, text),
    }
}
