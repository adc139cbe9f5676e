//! `tillroll producer`: list and delete the producers that the broker remembers.

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};
use tillroll_client::{Client, ProducerInfo};
use tillroll_engine::admit::is_own_name;

use crate::cmd::{
    Connection, confirm, each_once,
    fail::Failure,
    out::{Format, Out, counted},
    time,
};

/// `tillroll producer`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll producer list
  tillroll producer list --prefix load- --idle 30d
  tillroll producer delete load-2024.csv --yes

A producer that has a name is kept until it is deleted, so that a retry is recognised however late it comes. The broker
keeps 100,000 of them.
A producer without one is given a name that begins with _p-, and is forgotten when it is idle: see list --all.")]
pub(crate) struct Producer {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the producers by name
    #[command(after_help = "Examples:
  tillroll producer list
  tillroll producer list --prefix load- --idle 30d -o jsonl")]
    List {
        /// Only names that begin so
        #[arg(long, default_value = "")]
        prefix: String,
        /// Only those that have appended nothing for this long, such as 30d
        #[arg(long, value_name = "SPAN", value_parser = time::span, allow_hyphen_values = true)]
        idle: Option<Duration>,
        /// Also those that were given a name, _p-…, since they have none of their own
        #[arg(long)]
        all: bool,
    },
    /// Delete producers that nobody uses any more; asks first
    #[command(after_help = "Examples:
  tillroll producer delete load-2024.csv
  tillroll producer delete load-1 load-2 --yes

What a deleted producer still sends is refused. An append that it never got an answer to is a new one when it is sent
again: delete only what has ended.")]
    Delete {
        /// The producers
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

const COLUMNS: [&str; 6] = ["name", "epoch", "next_sequence", "records", "kept", "last_append"];

/// Runs `tillroll producer`.
pub(crate) async fn run(producer: Producer, out: Out) -> Result<(), Failure> {
    let client = producer.connection.connect().await?;
    match producer.verb {
        Verb::List { prefix, idle, all } => list(&client, &prefix, (idle, all), out).await,
        Verb::Delete { names, yes } => delete(&client, &names, yes, out).await,
    }
}

async fn list(client: &Client, prefix: &str, (idle, all): (Option<Duration>, bool), out: Out) -> Result<(), Failure> {
    let now_us = Timestamp::now().as_microsecond();
    let is_meant = |info: &ProducerInfo| {
        let idle_us = u128::try_from(now_us.saturating_sub(info.last_append_time_us)).unwrap_or(0);
        idle.is_none_or(|idle| idle_us >= idle.as_micros())
    };
    let found = client.admin().list_producers(prefix).await?.into_iter().filter(is_meant);
    // Whoever asks for such names by their beginning wants them.
    let is_shown = |info: &ProducerInfo| all || prefix.starts_with('_') || !is_own_name(&info.name);
    let (shown, hidden): (Vec<_>, Vec<_>) = found.partition(is_shown);
    if shown.is_empty() && out.format == Format::Table {
        out.say("no such producers");
    } else {
        out.many(&COLUMNS, shown.iter().map(row).collect())?;
    }
    match hidden.len() as u64 {
        0 => {}
        1 => out.say("1 producer without a name of its own is not shown: --all shows it"),
        count => {
            let producers = counted(count, "producer");
            out.say(format!("{producers} without a name of their own are not shown: --all shows them"));
        }
    }
    Ok(())
}

fn row(info: &ProducerInfo) -> Vec<Value> {
    let kept = info.idle_expiry.map_or_else(|| "until it is deleted".to_owned(), time::show_span);
    let (records, last) = (info.accepted_records, time::show(info.last_append_time_us));
    vec![json!(info.name), json!(info.epoch), json!(info.next_sequence), json!(records), json!(kept), json!(last)]
}

async fn delete(client: &Client, names: &[String], yes: bool, out: Out) -> Result<(), Failure> {
    each_once("producer", names)?;
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        found.push(named(client, name).await?);
    }
    if !yes {
        let mut lines: Vec<String> = found.iter().map(shown).collect();
        if let Some(last) = lines.last_mut() {
            *last = format!("delete {last}");
        }
        confirm::by_name("deleting", lines, &found[found.len() - 1].name).await?;
    }
    for info in &found {
        // Whoever took it over meanwhile uses it.
        client.admin().delete_producer(&info.name, Some(info.epoch)).await.map_err(Failure::of_existing)?;
        let object = json!({"name": info.name, "epoch": info.epoch, "accepted_records": info.accepted_records});
        out.one(format!("producer {} deleted", info.name), &object)?;
    }
    Ok(())
}

fn shown(info: &ProducerInfo) -> String {
    let (records, last) = (counted(info.accepted_records, "record"), time::show(info.last_append_time_us));
    format!("producer {}, which appended {records}, last at {last}", info.name)
}

async fn named(client: &Client, name: &str) -> Result<ProducerInfo, Failure> {
    let found = client.admin().list_producers(name).await?;
    let exact = found.into_iter().find(|info| info.name == name);
    exact.ok_or_else(|| {
        Failure::new(crate::cmd::fail::Code::NotFound, format!("there is no producer {name}"))
            .hint("tillroll producer list has all of them")
    })
}
