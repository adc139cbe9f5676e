//! `tillroll saga`: the order saga's services as processes of their own, the gateway beside them, the proof, and the
//! story of one order.

mod run;
mod gateway;
pub(super) mod check;
mod timeline;
pub(super) mod storefront;
pub(super) mod report;
mod reports;
mod troubles;

use std::{error::Error as _, path::Path};

use clap::{Args, Subcommand};
use tillroll_client::{
    Client, Error, TopicOptions,
    saga::{
        payload::{group, topic},
        retail::Shop,
    },
};

use crate::cmd::{
    Connection,
    fail::{Code, Failure},
    out::Out,
};

/// `tillroll saga`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll saga gateway --ledger gateway.ledger
  tillroll saga run payment --gateway 127.0.0.1:7430
  tillroll saga storefront --rate 20
  tillroll saga check --gateway 127.0.0.1:7430
  tillroll saga timeline 539281

`tillroll demo` starts all of it. docs/saga.md tells how it works and how to write a service.")]
pub(crate) struct Saga {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run a service: order, payment, inventory, fulfilment or notification
    Run(run::Run),
    /// Pretend to be a payment provider, with a ledger
    Gateway(gateway::Gateway),
    /// Put the orders of a file in
    Storefront(storefront::Place),
    /// Prove the saga from its log, or name what does not hold
    Check(check::Check),
    /// Tell the story of one order, over all topics
    Timeline(timeline::Story),
}

impl Saga {
    /// Where its broker is; the gateway has none.
    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        Some(match &mut self.what {
            What::Run(run) => &mut run.connection,
            What::Gateway(_) => return None,
            What::Storefront(place) => &mut place.connection,
            What::Check(check) => &mut check.connection,
            What::Timeline(story) => &mut story.connection,
        })
    }
}

/// Runs `tillroll saga`.
pub(crate) async fn run(saga: Saga, out: Out) -> Result<(), Failure> {
    match saga.what {
        What::Run(run) => run::run(run, out).await,
        What::Gateway(gateway) => gateway::run(gateway, out).await,
        What::Storefront(place) => storefront::run(place, out).await,
        What::Check(check) => check::run(check, out).await,
        What::Timeline(story) => timeline::run(story, out).await,
    }
}

/// Why the saga cannot be looked at: before its services run, neither its topics nor its groups are there.
fn not_run(error: Error) -> Failure {
    if !matches!(error.reason(), Some("TOPIC_NOT_FOUND" | "GROUP_NOT_FOUND")) {
        return error.into();
    }
    let group = error.metadata().get("group").cloned();
    let failure = Failure::from(error);
    let missing = failure.to_string();
    match group {
        Some(service) if service != group::ORDER => failure
            .message(format!("the {service} service has not run here: {missing}"))
            .hint(format!("start it: tillroll saga run {service}")),
        _ => failure.message(format!("no saga has run here: {missing}")).hint(
            "start its services: tillroll saga run order, and the others as in docs/saga.md; or all of it, on a broker \
             of its own: tillroll demo",
        ),
    }
}

/// The cut of the orders that is shipped.
const CUT: &[u8] = include_bytes!("../../../client/data/retail-saga-cut.csv.zst");

/// The orders of a file, or of the cut that is shipped.
pub(super) fn shop(file: Option<&Path>) -> Result<Shop, Failure> {
    let shop = file.map_or_else(|| Shop::read_from(CUT), Shop::read);
    shop.map_err(|error| {
        let why = error.source().map(|source| format!(": {}", source.to_string().to_lowercase())).unwrap_or_default();
        Failure::plain(format!("{error}{why}"))
    })
}

/// Makes the topics of the saga, where they are not there.
///
/// Topics that are keyed by order have equally many partitions: as many as one of them has already, or else so many.
pub(super) async fn make_topics(client: &Client, partitions: u32) -> Result<(), Failure> {
    let there = client.admin().list_topics("").await?;
    let count_of = |name: &str| there.iter().find(|topic| topic.name == name).map(|topic| topic.partition_count);
    let keyed = || topic::ALL.into_iter().filter(|name| *name != topic::STOCK);
    let partitions = keyed().find_map(count_of).unwrap_or(partitions);
    for name in topic::ALL {
        let wanted = if name == topic::STOCK { 1 } else { partitions };
        match count_of(name) {
            None => _ = client.admin().create_topic(name, TopicOptions::default().partitions(wanted)).await?,
            Some(count) if count == wanted => {}
            Some(count) => {
                let wrong = format!("topic {name} has {count} partitions, and the saga needs {wanted}");
                return Err(Failure::new(Code::Conflict, wrong).hint(
                    "the topics that are keyed by order have equally many, stock has one; delete it, or take a broker \
                     of its own",
                ));
            }
        }
    }
    Ok(())
}
