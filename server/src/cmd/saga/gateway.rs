//! `tillroll saga gateway`: the payment provider of the saga, as a process of its own.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use clap::Args;
use tillroll_client::saga::gateway::{Behaviour, LedgerError, Server, ServerSettings, StartError};
use tokio::net::TcpListener;

use crate::cmd::{
    address,
    fail::{Code, Failure, say},
    log,
    out::{Out, counted},
    signals::Signals,
};

/// `tillroll saga gateway`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll saga gateway --ledger gateway.ledger
  tillroll saga gateway --ledger gateway.ledger --behaviour '{\"decline\":0.02,\"time_out\":0.003}' --seed 7

What is charged stands in the ledger and is synced before it is answered. GET /v1/counts says what it did,
GET /v1/ledger what it charged, and POST /v1/behaviour changes how it behaves: fields that are not named stay as they
are, so {\"down\":true} takes it away, {\"down\":false} brings it back, and {} changes nothing.
fall_over ends the process once a charge is in the ledger, before it is answered: something has to start it again.
Chances are from 0 to 1: decline, late, pending, report_late, report_doubled, report_out_of_order, time_out, fall_over;
ranges are milliseconds: late_ms, report_ms, report_late_ms.
TILLROLL_LOG sets what is logged on standard error, such as info; warnings are unless it says otherwise.")]
pub(crate) struct Gateway {
    /// Where its ledger is; made when it is not there
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", value_parser = address, default_value = "127.0.0.1:7430")]
    listen: SocketAddr,
    /// How it misbehaves, as JSON; without it everything is accepted at once
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = behaviour)]
    behaviour: Behaviour,
    /// What its faults are drawn from
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn behaviour(text: &str) -> Result<Behaviour, String> {
    Behaviour::default().changed(text.as_bytes()).map_err(|fault| fault.to_string())
}

/// Runs `tillroll saga gateway`.
pub(crate) async fn run(gateway: Gateway, out: Out) -> Result<(), Failure> {
    log::start();
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(gateway.listen).await;
    let listener = listener.map_err(|error| {
        Failure::listening(format!("listening on {}", gateway.listen), &error, (", perhaps a gateway,", "--listen"))
    })?;
    let settings = ServerSettings {
        behaviour: gateway.behaviour.clone(),
        seed: gateway.seed,
        // As a process that crashes: nothing is said, nothing is closed.
        on_fall_over: Arc::new(|| std::process::abort()),
    };
    let server = Server::start(listener, &gateway.ledger, settings).map_err(|error| refused(&error))?;
    let opened = server.opened();
    out.say(format!("{} in {}", counted(opened.entries, "charge"), gateway.ledger.display()));
    if opened.torn_bytes > 0 {
        say(&format!("warning: {} of an unanswered charge are dropped", counted(opened.torn_bytes, "byte")));
    }
    // Others wait for this line, so it is written even when quiet.
    say(&format!("listening on {}", server.address()));
    signals.next().await;
    out.say("stopping: what is under way is answered");
    server.stop().await;
    Ok(())
}

/// Why the gateway does not start.
fn refused(error: &StartError) -> Failure {
    match error {
        StartError::Ledger(error) => unopened(error),
        StartError::Counts(source) | StartError::Listener(source) => Failure::io(error, source),
        _ => Failure::plain(error.to_string()),
    }
}

/// Why a ledger was not opened, or not read.
pub(super) fn unopened(error: &LedgerError) -> Failure {
    match error {
        LedgerError::Io { source, .. } => Failure::io(error, source),
        LedgerError::Locked { .. } => {
            Failure::new(Code::Conflict, error.to_string()).hint("each gateway has a ledger of its own: --ledger")
        }
        LedgerError::Foreign { .. } => Failure::new(Code::Refused, error.to_string()),
        LedgerError::Damaged { .. } => Failure::new(Code::Damaged, error.to_string()),
        _ => Failure::plain(error.to_string()),
    }
}
