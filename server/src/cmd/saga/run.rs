//! `tillroll saga run`: one service of the saga, as a process of its own.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use tillroll_client::{
    Client,
    processor::{OnMalformed, Processor, ProcessorError, Rule, Service, Statistics},
    saga::{
        gateway::{self, Callbacks, ClientSettings},
        payload::group,
        service::{Fulfilment, Inventory, Notification, Order, Payment, reads},
    },
};
use tillroll_proto::reason;
use tokio::net::TcpListener;

use super::{
    report::{Named, Report},
    reports::Reports,
    troubles,
};
use crate::cmd::{
    Connection, address,
    fail::{Code, Failure, say},
    log,
    out::{Format, Out, count},
    signals::Signals,
    time,
};

/// `tillroll saga run`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll saga run order
  tillroll saga run payment --gateway 127.0.0.1:7430
  tillroll saga run payment --gateway 10.0.0.5:7430 --callbacks 10.0.0.7:7440
  tillroll saga run fulfilment --member fulfilment-1 --snapshots /var/lib/shop

Makes its group, and the topics of the saga, when they are not there. Started again under its --member name it takes
over at once; under another one the partitions are shared, but for inventory's: its second member stands by. SIGTERM
finishes what is in hand and leaves the group. With -o jsonl it writes how it stands, one object a line, up to fifty
times a second, and the last one at its end.
TILLROLL_LOG sets what is logged on standard error, such as info; warnings are unless it says otherwise.")]
pub(crate) struct Run {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// Which service
    service: Name,
    /// The member's name in its group, the same after a restart [default: SERVICE-0]
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// The payment gateway; the payment service needs one
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    gateway: Option<SocketAddr>,
    /// Where the payment service listens for the gateway's reports, as the gateway reaches it; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", value_parser = address, default_value = "127.0.0.1:0")]
    callbacks: SocketAddr,
    /// The time after which the order service cancels an order that is not decided
    #[arg(long, value_name = "TIME", value_parser = time::span, allow_hyphen_values = true, default_value = "60s")]
    deadline: Duration,
    /// Keep snapshots of the state in this directory, so that a restart does not read the whole log
    #[arg(long, value_name = "DIR")]
    snapshots: Option<PathBuf>,
    /// Partitions of the topics, when they have to be made
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    partitions: u32,
    /// Skip payloads that are not what their type says, and count them, instead of stopping
    #[arg(long)]
    skip_malformed: bool,
}

/// A service of the saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Decides
    Order,
    /// Moves the money
    Payment,
    /// Keeps the stock
    Inventory,
    /// Ships
    Fulfilment,
    /// Tells the customer
    Notification,
}

/// Runs `tillroll saga run`.
pub(crate) async fn run(run: Run, out: Out) -> Result<(), Failure> {
    log::start();
    let client = run.connection.connect().await?;
    super::make_topics(&client, run.partitions).await?;
    match run.service {
        Name::Order => serve(&run, &client, Order::new(run.deadline), group::ORDER, out).await,
        Name::Inventory => serve(&run, &client, Inventory, group::INVENTORY, out).await,
        Name::Fulfilment => serve(&run, &client, Fulfilment, group::FULFILMENT, out).await,
        Name::Notification => serve(&run, &client, Notification, group::NOTIFICATION, out).await,
        Name::Payment => {
            let Some(address) = run.gateway else {
                return Err(Failure::usage("the payment service needs a gateway")
                    .hint("start one with: tillroll saga gateway --ledger gateway.ledger, and name it: --gateway"));
            };
            let listener = TcpListener::bind(run.callbacks).await.and_then(Callbacks::start);
            let callbacks = listener.map_err(|error| {
                let attempted = format!("listening for reports on {}", run.callbacks);
                Failure::listening(attempted, &error, ("", "--callbacks"))
            })?;
            let gateway = gateway::Client::new(address, ClientSettings::default()).with_callbacks(callbacks);
            let troubles = tokio::spawn(troubles::watch_gateway(gateway.clone(), address));
            let served = serve(&run, &client, Payment::new(gateway), group::PAYMENT, out).await;
            troubles.abort();
            served
        }
    }
}

/// Runs a service until a signal.
async fn serve<S: Service>(run: &Run, client: &Client, service: S, name: &str, out: Out) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let member = run.member.clone().unwrap_or_else(|| format!("{name}-0"));
    let rule = if name == group::INVENTORY { Rule::Single } else { Rule::CoPartitioned };
    let mut builder = Processor::builder(client, service).member(&member).inputs(reads(name)).rule(rule);
    if let Some(directory) = &run.snapshots {
        // The directory is one member's alone. One that cannot be made is told now, not when it is needed.
        let directory = directory.join(&member);
        std::fs::create_dir_all(&directory).map_err(|error| Failure::io(directory.display(), &error))?;
        builder = builder.snapshots(directory);
    }
    if run.skip_malformed {
        builder = builder.on_malformed(OnMalformed::Skip);
    }
    let processor = builder.build().map_err(|error| stopped(&error))?;
    let watch = processor.watch();
    let reports = (out.format == Format::Jsonl).then(|| {
        let (service, watch) = (name.to_owned(), watch.clone());
        Reports::start(move || line(&service, &member, &watch.read()))
    });
    let troubles = tokio::spawn(troubles::watch_broker(watch.clone()));
    // Others wait for this line, so it is written even when quiet.
    say("ready");
    let stop = async move {
        signals.next().await;
    };
    let ended = processor.run(stop).await;
    troubles.abort();
    if let Some(reports) = reports {
        reports.end().await;
    }
    let done = ended.map_err(|error| stopped(&error))?.statistics;
    out.say(format!("{} steps, {} events, {} appends", count(done.steps), count(done.outputs), count(done.appends)));
    Ok(())
}

/// How a service stands.
fn line(service: &str, member: &str, done: &Statistics) -> String {
    let is_fence = |reason: &str| reason == reason::ASSIGNMENT_FENCED;
    let report = Report {
        service: service.to_owned(),
        member: member.to_owned(),
        steps: done.steps,
        outputs: done.outputs,
        appends: done.appends,
        duplicates: done.duplicates,
        fenced: done.refusals.iter().filter(|(reason, _)| is_fence(reason)).map(|(_, count)| count).sum(),
        refused: done.refusals.iter().filter(|(reason, _)| !is_fence(reason)).map(|(r, n)| (r.clone(), *n)).collect(),
        rebuilds: done.rebuilds,
        moves: done.rebalances,
        timers_fired: done.timers_fired,
        timers: done.timers,
        steps_in_flight: done.steps_in_flight,
        appends_in_flight: done.appends_in_flight,
        calls_in_flight: done.calls_in_flight,
        snapshots_used: done.snapshots_used,
        snapshots_refused: done.snapshots_thrown_away,
        malformed: done.malformed_skipped,
        malformed_newest: done.malformed.last().map(|place| Named {
            topic: place.topic.to_string(),
            partition: place.partition,
            offset: place.offset,
        }),
    };
    serde_json::to_string(&report).unwrap_or_default()
}

/// Why it stopped.
fn stopped(error: &ProcessorError) -> Failure {
    let failure = |code| Failure::new(code, error.to_string());
    match error {
        ProcessorError::Broker { error, .. } => failure(Failure::from(error.clone()).code()),
        ProcessorError::TakenOver { .. } => failure(Code::Conflict),
        ProcessorError::Misconfigured { .. } => failure(Code::Usage),
        ProcessorError::Malformed { place, .. } => failure(Code::Failure).hint(format!(
            "look at it: tillroll read {} --partition {} --from offset:{} -n 1; --skip-malformed leaves such payloads \
             out, and names them",
            place.topic, place.partition, place.offset
        )),
        _ => failure(Code::Failure),
    }
}
