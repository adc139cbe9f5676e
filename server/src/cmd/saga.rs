//! `tillroll saga`: the order saga's services as processes of their own, the gateway beside them, the proof, and the
//! story of one order.

mod run;
mod gateway;
pub(super) mod check;
mod timeline;
pub(super) mod report;
mod reports;

use clap::{Args, Subcommand};
use tillroll_client::{Client, TopicOptions, saga::payload::topic};

use crate::cmd::{fail::Failure, out::Out};

/// `tillroll saga`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll saga gateway --ledger gateway.ledger
  tillroll saga run payment --gateway 127.0.0.1:7430
  tillroll saga check --gateway 127.0.0.1:7430
  tillroll saga timeline 536365

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
    /// Prove the saga from its log, or name what does not hold
    Check(check::Check),
    /// Tell the story of one order, over all topics
    Timeline(timeline::Story),
}

/// Runs `tillroll saga`.
pub(crate) async fn run(saga: Saga, out: Out) -> Result<(), Failure> {
    match saga.what {
        What::Run(run) => run::run(run, out).await,
        What::Gateway(gateway) => gateway::run(gateway, out).await,
        What::Check(check) => check::run(check, out).await,
        What::Timeline(story) => timeline::run(story, out).await,
    }
}

/// Makes the topics of the saga, where they are not there.
pub(super) async fn make_topics(client: &Client, partitions: u32) -> Result<(), Failure> {
    for name in topic::ALL {
        let count = if name == topic::STOCK { 1 } else { partitions };
        client.admin().create_topic(name, TopicOptions::default().partitions(count)).await?;
    }
    Ok(())
}
