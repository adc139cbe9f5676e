//! `tillroll bench append`: producers that keep their streams full, or to a rate.

use std::time::{Duration, Instant};

use futures_util::future;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tillroll_client::{Client, TopicInfo};

use crate::cmd::{
    bench::{AppendPlan, lane::Lane, payload::Payload, rates, verify},
    fail::Failure,
    out::{Out, counted},
};

/// The longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;
/// A timer may be late by so much; what waits longer waited for the broker.
const TIMER_SLACK: Duration = Duration::from_millis(2);
/// A nameless producer of a bench is forgotten after so long.
const IDLE_EXPIRY: Duration = Duration::from_mins(10);

/// A batch that is on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acked {
    pub(super) partition: u32,
    pub(super) base_offset: u64,
    pub(super) producer: u32,
    pub(super) first_number: u64,
    pub(super) record_count: u32,
}

/// When producers stop.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// After so long.
    Elapsed(Duration),
    /// After so many appends each.
    Appends(u64),
}

/// What producers did.
pub(super) struct Appends {
    pub(super) acked: Vec<Acked>,
    refused: u64,
    latency_us: Histogram<u64>,
    elapsed: Duration,
}

/// Measures, then proves.
pub(super) async fn bench(
    client: &Client,
    server: &str,
    topic: &TopicInfo,
    plan: &AppendPlan,
    out: Out,
) -> Result<(Value, Option<Failure>), Failure> {
    let syncs_before = syncs(server).await?;
    let appends = run(server, topic, plan, Until::Elapsed(Duration::from_secs(plan.seconds))).await?;
    let records: u64 = appends.acked.iter().map(|batch| u64::from(batch.record_count)).sum();
    let mut object = rates(records, records * u64::from(plan.record_bytes), appends.elapsed);
    let latency = &appends.latency_us;
    object["ack_us"] = json!({
        "p50": latency.value_at_quantile(0.5),
        "p99": latency.value_at_quantile(0.99),
        "p999": latency.value_at_quantile(0.999),
        "max": latency.max(),
    });
    // Of the whole broker: what others append meanwhile is in it.
    object["syncs"] = json!(syncs(server).await?.saturating_sub(syncs_before));
    object["appends"] = json!(appends.acked.len());
    // Answered "not now", and appended a little later.
    object["refused_for_now"] = json!(appends.refused);
    let mut failure = None;
    if plan.no_verify {
        object["verified"] = Value::Null;
    } else {
        out.say(format!("reading {} back", counted(records, "record")));
        let wrong = verify::verify(client, &topic.name, appends.acked).await?;
        object["verified"] = json!(wrong.is_none());
        failure = wrong.map(Failure::plain);
    }
    for (name, value) in [
        ("partitions", plan.partitions),
        ("producers", plan.producers),
        ("record_bytes", plan.record_bytes),
        ("batch_records", plan.batch_records),
        ("in_flight_bytes", plan.in_flight_bytes),
    ] {
        object[name] = json!(value);
    }
    object["rate"] = json!(plan.rate);
    Ok((object, failure))
}

/// Syncs of the broker's journal so far.
async fn syncs(server: &str) -> Result<u64, Failure> {
    let client = Client::builder().name("tillroll-bench").connect(server).await?;
    Ok(client.server().journal_syncs)
}

/// Runs the producers to their end.
pub(super) async fn run(server: &str, topic: &TopicInfo, plan: &AppendPlan, until: Until) -> Result<Appends, Failure> {
    let mut lanes = Vec::new();
    for producer in 0..plan.producers {
        let client = Client::builder().name("tillroll-bench").connect(server).await?;
        let payload = Payload::new(producer, plan.record_bytes, plan.batch_records);
        let (batch_bytes, limit) = (payload.batch_bytes(), client.server().limits.max_batch_bytes);
        if batch_bytes > limit as usize {
            return Err(Failure::usage(format!("a batch would have {batch_bytes} bytes, the server takes {limit}"))
                .hint("take fewer --batch-records"));
        }
        let identity = client.init_producer(None, IDLE_EXPIRY).await?;
        let (sender, outcomes) = client.append_session().await?.split();
        let window = (plan.in_flight_bytes as usize).max(batch_bytes);
        let lane = Lane::new(topic, plan.partitions, producer, identity, payload, window);
        lanes.push((lane, sender, outcomes, client));
    }
    let every = plan.rate.map(|rate| {
        Duration::from_secs_f64(f64::from(plan.batch_records) * f64::from(plan.producers) / f64::from(rate))
    });
    let start = Instant::now();
    let work = lanes.into_iter().map(|(lane, sender, outcomes, client)| async move {
        let sending = lane.send(sender, Pace { start, every, until });
        let (sent, received) = future::join(sending, lane.receive(outcomes)).await;
        drop(client);
        // When the stream breaks, the outcomes know why.
        let received = received?;
        sent.map(|()| received)
    });
    let ended = future::try_join_all(work).await?;
    let elapsed = start.elapsed();
    let mut all = Appends { acked: Vec::new(), refused: 0, latency_us: histogram(), elapsed };
    for ended in ended {
        all.acked.extend(ended.acked);
        all.refused += ended.refused;
        all.latency_us.add(ended.latency_us).map_err(|error| Failure::plain(format!("adding latencies: {error}")))?;
    }
    Ok(all)
}

pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order")
}

/// When an append is due, and when there are no more.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    start: Instant,
    every: Option<Duration>,
    until: Until,
}

impl Pace {
    /// Waits until this append is due and says when it counts from; `None` when it is over.
    pub(super) async fn next(&self, append: u64) -> Option<Option<Instant>> {
        let over = match self.until {
            Until::Elapsed(elapsed) => self.start.elapsed() >= elapsed,
            Until::Appends(count) => append >= count,
        };
        if over {
            return None;
        }
        let Some(every) = self.every else { return Some(None) };
        let due = self.start + every.mul_f64(f64::from(u32::try_from(append).unwrap_or(u32::MAX)));
        if let Until::Elapsed(elapsed) = self.until
            && due >= self.start + elapsed
        {
            return None;
        }
        tokio::time::sleep_until(due.into()).await;
        Some((due.elapsed() > TIMER_SLACK).then_some(due))
    }
}
