//! `tillroll demo`: a broker of its own is killed in the middle of a real shop's orders, started again, and every line
//! is read back. What is said at the end was proven by comparing with the file ([`proof`]); when it could not be, the
//! exit code is 1.

mod broker;
mod day;
mod proof;

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tillroll_client::{Client, Position, Producer, ProducerStatistics, TopicOptions};

use crate::cmd::{
    fail::Failure,
    out::{Format, Out, count, counted},
};
use broker::Broker;
use day::Day;
use proof::{Proof, Seen};

const TOPIC: &str = "orders";
/// Small appends, so that there are many: the whole day would fit into two.
const BATCH_BYTES: usize = 4 << 10;
const IN_FLIGHT_BYTES: usize = 128 << 10;
/// How often the broker is killed at most, until a kill leaves an append unanswered.
const KILLS_MAX: u32 = 10;
/// How long the client may take to see that the broker is gone.
const NOTICE_WITHIN: Duration = Duration::from_secs(10);

/// `tillroll demo`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tillroll demo
  tillroll demo -o json

The orders are the first day of \"Online Retail\" (Chen, Sain and Guo, 2012; UCI Machine Learning Repository,
DOI 10.24432/C5BW33, CC BY 4.0). Everything happens in a temporary directory that is removed afterwards.")]
pub(crate) struct Demo {}

/// What was unanswered when the broker was killed.
#[derive(Clone, Copy, Debug)]
struct Kill {
    pid: u32,
    acked_lines: u64,
    unanswered_appends: u64,
    unanswered_lines: u64,
    /// From starting it again until it took requests.
    restart: Duration,
}

/// Runs `tillroll demo`.
pub(crate) async fn run(_demo: Demo, out: Out) -> Result<(), Failure> {
    let started = Instant::now();
    let day = Day::unpack()?;
    let folder = tempfile::Builder::new()
        .prefix("tillroll-demo-")
        .tempdir()
        .map_err(|error| Failure::io("making a temporary directory", &error))?;
    let mut broker = Broker::start(folder.path(), "127.0.0.1:0").await?;
    out.tell(&format!(
        "broker    pid {} takes {} order lines of a real shop, {} invoices, 8 partitions",
        broker.pid(),
        count(day.lines.len() as u64),
        day.invoices()
    ))?;
    let client = Client::connect(&broker.address).await?;
    client.admin().create_topic(TOPIC, TopicOptions::default().partitions(8)).await?;
    let producer = client.producer(TOPIC).name("demo").batch_bytes(BATCH_BYTES).in_flight_bytes(IN_FLIGHT_BYTES);
    let producer = producer.build().await?;
    let kill = append_through_a_kill(&producer, &day, &mut broker, out).await?;
    producer.close().await?;
    let statistics = producer.statistics();
    let resent = statistics.duplicate_appends;
    out.tell(&format!(
        "restart   pid {} on the same data, {} ms; sent again: {}, {} of them on disk already",
        broker.pid(),
        kill.restart.as_millis(),
        counted(kill.unanswered_appends, "append"),
        resent,
    ))?;

    let mut proof = Proof::new(&day);
    let mut reader = client.reader(TOPIC).from(Position::Earliest).open().await?;
    while let Some(received) = reader.next().await {
        proof.take(&Seen::from(received?));
    }
    let proven = proof.end();
    broker.kill().await?;
    let seconds = started.elapsed().as_secs_f64();
    let object = json!({
        "proven": proven.is_ok(),
        "wrong": proven.as_ref().err(),
        "lines": day.lines.len(),
        "lines_found_once": proven.as_ref().ok(),
        "invoices": day.invoices(),
        "signal": "SIGKILL",
        "killed_pid": kill.pid,
        "acked_lines_at_kill": kill.acked_lines,
        "unanswered_appends_at_kill": kill.unanswered_appends,
        "unanswered_lines_at_kill": kill.unanswered_lines,
        "appends_found_on_disk_by_retry": resent,
        "restart_ms": kill.restart.as_millis() as u64,
        "seconds": (seconds * 1_000.0).round() / 1_000.0,
    });
    let lines = match proven {
        Ok(lines) => lines,
        Err(wrong) => {
            if out.format != Format::Table {
                out.one("", &object)?;
            }
            return Err(Failure::plain(format!("not proven: {wrong}")));
        }
    };
    let words = format!(
        "read back {} lines: each once, in order within its invoice, equal to the file\n\
         proven    in {seconds:.1} s: nothing acked was lost, nothing was written twice",
        count(lines)
    );
    out.one(&words, &object)
}

/// Appends all lines; kills the broker when a third is acked and an append is unanswered, and starts it again.
async fn append_through_a_kill(producer: &Producer, day: &Day, broker: &mut Broker, out: Out) -> Result<Kill, Failure> {
    let third = day.lines.len() as u64 / 3;
    let (mut kill, mut kills, mut sent) = (None, 0, 0);
    for record in &day.records {
        drop(producer.send(record.clone()).await?);
        sent += 1;
        if kill.is_some() || producer.statistics().accepted_records < third || kills == KILLS_MAX {
            continue;
        }
        // Whatever can be sent goes out, through the producer's task and the connection's, and answers come in.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        let before = producer.statistics();
        if before.unanswered_appends == 0 {
            continue;
        }
        kills += 1;
        let pid = broker.pid();
        broker.kill().await?;
        let at_kill = noticed(producer, &before).await?;
        let started = Instant::now();
        broker.start_again().await?;
        if at_kill.unanswered_appends > 0 {
            let acked_lines = at_kill.accepted_records;
            let unanswered_lines = sent - acked_lines;
            let unanswered_appends = at_kill.unanswered_appends;
            let restart = started.elapsed();
            out.tell(&format!(
                "SIGKILL   pid {pid} with {} acked, {} unanswered ({} on their way)",
                counted(acked_lines, "line"),
                counted(unanswered_appends, "append"),
                counted(unanswered_lines, "line"),
            ))?;
            kill = Some(Kill { pid, acked_lines, unanswered_appends, unanswered_lines, restart });
        }
    }
    kill.ok_or_else(|| Failure::plain(format!("not proven: none of {kills} kills left an append unanswered")))
}

/// Waits until the client has heard the last answer that there was, and has seen the connection break.
async fn noticed(producer: &Producer, before: &ProducerStatistics) -> Result<ProducerStatistics, Failure> {
    let since = Instant::now();
    loop {
        let now = producer.statistics();
        if now.broken_streams > before.broken_streams || now.unanswered_appends == 0 {
            return Ok(now);
        }
        if since.elapsed() > NOTICE_WITHIN {
            return Err(Failure::plain("the client did not see that the broker was killed"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
