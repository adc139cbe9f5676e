//! `tillroll bench append`: producers that keep their streams full, or to a rate.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tillroll_client::{Append, Client, ProducerIdentity, SessionOutcomes, SessionSender, TopicInfo};
use tokio::sync::Semaphore;

use crate::cmd::{
    bench::{AppendPlan, payload::Payload, rates, verify},
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
    // The contract has no count of syncs yet; an invented one would be worse than none.
    object["syncs"] = Value::Null;
    object["appends"] = json!(appends.acked.len());
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
        let lane = Rc::new(Lane {
            topic: topic.name.clone(),
            partitions: plan.partitions,
            producer,
            batch_records: plan.batch_records,
            identity,
            room: Semaphore::new(window),
            state: RefCell::new(State { payload, unanswered: VecDeque::new(), answered: 0 }),
        });
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
    let mut all = Appends { acked: Vec::new(), latency_us: histogram(), elapsed };
    for (acked, latency_us) in ended {
        all.acked.extend(acked);
        all.latency_us.add(latency_us).map_err(|error| Failure::plain(format!("adding latencies: {error}")))?;
    }
    Ok(all)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order")
}

/// When an append is due, and when there are no more.
#[derive(Clone, Copy)]
struct Pace {
    start: Instant,
    every: Option<Duration>,
    until: Until,
}

impl Pace {
    /// Waits until this append is due and says when it counts from; `None` when it is over.
    async fn next(&self, append: u64) -> Option<Option<Instant>> {
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

/// One producer on its stream.
struct Lane {
    topic: String,
    partitions: u32,
    producer: u32,
    batch_records: u32,
    identity: ProducerIdentity,
    /// In bytes.
    room: Semaphore,
    state: RefCell<State>,
}

struct State {
    payload: Payload,
    unanswered: VecDeque<Unanswered>,
    answered: u64,
}

struct Unanswered {
    since: Instant,
    data: Bytes,
    partition: u32,
    first_number: u64,
}

impl Lane {
    async fn send(&self, mut sender: SessionSender, pace: Pace) -> Result<(), Failure> {
        let batch_bytes = self.state.borrow().payload.batch_bytes();
        let room_bytes = u32::try_from(batch_bytes).expect("a batch is checked to be below a server's limit");
        let mut append = 0;
        while let Some(due) = pace.next(append).await {
            let room = self.room.acquire_many(room_bytes).await.map_err(|_| Failure::plain("the stream broke"))?;
            room.forget();
            // Producers begin with different partitions.
            let partition = u32::try_from((append + u64::from(self.producer)) % u64::from(self.partitions))
                .expect("the rest is below a u32");
            let first_number = append * u64::from(self.batch_records);
            let request = {
                let mut state = self.state.borrow_mut();
                let batch = state.payload.batch(first_number);
                let data = batch.data.clone();
                let since = due.unwrap_or_else(Instant::now);
                state.unanswered.push_back(Unanswered { since, data, partition, first_number });
                let sequence = self.identity.next_sequence + append;
                let answered_below = self.identity.next_sequence + state.answered;
                Append::new()
                    .encoded(self.topic.as_str(), partition, batch)
                    .stamp(self.identity.stamp(sequence, answered_below))
            };
            sender.send(request).await?;
            append += 1;
        }
        Ok(())
    }

    async fn receive(&self, mut outcomes: SessionOutcomes) -> Result<(Vec<Acked>, Histogram<u64>), Failure> {
        let mut acked = Vec::new();
        let mut latency_us = histogram();
        let batch_bytes = self.state.borrow().payload.batch_bytes();
        loop {
            let outcome = match outcomes.next().await {
                Ok(Some(outcome)) => outcome,
                Ok(None) => return Ok((acked, latency_us)),
                Err(error) => {
                    self.room.close();
                    return Err(error.into());
                }
            };
            let mut state = self.state.borrow_mut();
            let Some(sent) = state.unanswered.pop_front() else {
                return Err(Failure::plain("an append was answered twice"));
            };
            state.answered += 1;
            latency_us.saturating_record(u64::try_from(sent.since.elapsed().as_micros()).unwrap_or(u64::MAX));
            let answer = outcome.result.inspect_err(|_| self.room.close())?;
            acked.extend(answer.batches.iter().map(|batch| Acked {
                partition: sent.partition,
                base_offset: batch.base_offset,
                producer: self.producer,
                first_number: sent.first_number,
                record_count: batch.record_count,
            }));
            state.payload.reclaim(sent.data);
            drop(state);
            self.room.add_permits(batch_bytes);
        }
    }
}
