//! A client that sends prepared batches and takes the time until each is answered.

use std::{
    cell::RefCell,
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use futures_util::future;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tillroll_client::{EncodedBatch, channel::DECODED_MESSAGE_BYTES_MAX};
use tillroll_proto::v1::{
    self, AppendBatch, AppendRequest, AppendStreamRequest, AppendStreamResponse, append_batch::Content,
    append_outcome::Result as Outcome, append_stream_response::Event, log_service_client::LogServiceClient,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use super::settings::Settings;
use crate::{figures, payload};

/// Messages between the sender and the connection, as in the SDK.
const QUEUE: usize = 256;
/// Prepared batches at most. As many as are in flight, so that memory is as cold as the product's.
const BATCHES_MAX: usize = 256;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Records of a message, each with a value of 1 KiB.
    pub batch_records: u32,
    /// Unanswered bytes at most; one message always goes.
    pub in_flight_bytes: u32,
    /// Unary calls of one record instead of a stream: so many at a time.
    pub unary_calls: Option<u32>,
    /// How long.
    pub duration: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Run {
    messages: u64,
    records: u64,
    message_bytes: usize,
    elapsed: Duration,
    latencies: Histogram<u64>,
}

impl Run {
    /// Its figures. `mb_per_s` counts values in millions of bytes, as `tillroll bench append` does.
    pub fn object(&self, settings: Settings) -> Value {
        let mut object = settings.object();
        object["mb_per_s"] = json!(figures::mb_per_s(self.records * payload::RECORD_BYTES as u64, self.elapsed));
        object["messages_per_s"] = json!(figures::per_second(self.messages, self.elapsed));
        object["messages"] = json!(self.messages);
        object["message_bytes"] = json!(self.message_bytes);
        object["seconds"] = json!(figures::round(self.elapsed.as_secs_f64(), 1_000.0));
        object["ack_us"] = figures::ack_us(&self.latencies);
        object
    }
}

/// Connects to the bare server at `address` and runs the plan.
///
/// # Errors
///
/// When the connection or the stream fails: a bench does not retry.
pub async fn run(address: &str, settings: Settings, plan: &Plan) -> anyhow::Result<Run> {
    let endpoint = settings.client(Endpoint::from_shared(format!("http://{address}"))?);
    let channel = endpoint.connect().await.with_context(|| format!("connecting to {address}"))?;
    let client = LogServiceClient::new(channel).max_decoding_message_size(DECODED_MESSAGE_BYTES_MAX);
    match plan.unary_calls {
        Some(calls) => unary(client, calls, plan.duration).await,
        None => stream(client, plan).await,
    }
}

fn request(batch: &EncodedBatch) -> AppendRequest {
    let encoded = v1::EncodedBatch {
        codec: v1::Codec::None.into(),
        data: batch.data.clone(),
        crc32: batch.crc32,
        record_count: batch.record_count,
        decoded_bytes: batch.decoded_bytes,
    };
    let batch = AppendBatch {
        topic: "bench".to_owned(),
        partition: Some(0),
        content: Some(Content::Encoded(encoded)),
        topic_id: String::new(),
    };
    AppendRequest { batches: vec![batch], ..AppendRequest::default() }
}

async fn stream(mut client: LogServiceClient<Channel>, plan: &Plan) -> anyhow::Result<Run> {
    let first = payload::encoded(0, plan.batch_records, payload::RECORD_BYTES);
    let message_bytes = first.data.len();
    let window = (plan.in_flight_bytes as usize).max(message_bytes);
    let count = u64::try_from((window / message_bytes + 1).min(BATCHES_MAX)).unwrap_or(1);
    let more = (1..count).map(|seed| payload::encoded(seed, plan.batch_records, payload::RECORD_BYTES));
    let batches: Vec<EncodedBatch> = std::iter::once(first).chain(more).collect();

    let (requests, queue) = mpsc::channel(QUEUE);
    let opening = client.append_stream(ReceiverStream::new(queue)).await;
    let mut responses = opening.context("opening the stream")?.into_inner();
    let opened = responses.message().await.context("opening the stream")?.and_then(|message| message.event);
    ensure!(matches!(opened, Some(Event::Opened(_))), "the stream does not begin with its window");

    let flight = Flight { room: Semaphore::new(window), sent: RefCell::default(), message_bytes };
    let start = Instant::now();
    let sending = flight.send(requests, &batches, start, plan.duration);
    let ((), latencies) = future::try_join(sending, flight.receive(responses)).await?;
    let elapsed = start.elapsed();
    ensure!(elapsed >= plan.duration, "the server closed the stream early");
    let messages = latencies.len();
    Ok(Run { messages, records: messages * u64::from(plan.batch_records), message_bytes, elapsed, latencies })
}

/// What is unanswered.
struct Flight {
    /// In bytes.
    room: Semaphore,
    /// When each was handed over, oldest first, under its number.
    sent: RefCell<VecDeque<(u64, Instant)>>,
    message_bytes: usize,
}

impl Flight {
    /// Sends until the time is over. Ends early when the stream broke: the receiving half knows why.
    async fn send(
        &self,
        requests: mpsc::Sender<AppendStreamRequest>,
        batches: &[EncodedBatch],
        start: Instant,
        duration: Duration,
    ) -> anyhow::Result<()> {
        let bytes = u32::try_from(self.message_bytes).context("a message is too large")?;
        for (append_id, batch) in (1..).zip(batches.iter().cycle()) {
            if start.elapsed() >= duration {
                break;
            }
            self.room.acquire_many(bytes).await?.forget();
            self.sent.borrow_mut().push_back((append_id, Instant::now()));
            if requests.send(AppendStreamRequest { append_id, append: Some(request(batch)) }).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn receive(&self, mut responses: Streaming<AppendStreamResponse>) -> anyhow::Result<Histogram<u64>> {
        let mut latencies = figures::latencies();
        while let Some(message) = responses.message().await.context("reading outcomes")? {
            let Some(Event::Outcome(outcome)) = message.event else { continue };
            let (append_id, since) = self.sent.borrow_mut().pop_front().context("answered twice")?;
            ensure!(outcome.append_id == append_id, "out of order expected={append_id} actual={}", outcome.append_id);
            ensure!(matches!(outcome.result, Some(Outcome::Ok(_))), "refused append_id={append_id}");
            figures::record(&mut latencies, since.elapsed());
            self.room.add_permits(self.message_bytes);
        }
        let unanswered = self.sent.borrow().len();
        ensure!(unanswered == 0, "the stream ended unanswered={unanswered}");
        Ok(latencies)
    }
}

async fn unary(client: LogServiceClient<Channel>, calls: u32, duration: Duration) -> anyhow::Result<Run> {
    let batch = payload::encoded(0, 1, payload::RECORD_BYTES);
    let start = Instant::now();
    let callers = (0..calls).map(|_| {
        let (mut client, batch) = (client.clone(), &batch);
        async move {
            let mut latencies = figures::latencies();
            while start.elapsed() < duration {
                let since = Instant::now();
                let answer = client.append(request(batch)).await.context("appending")?.into_inner();
                if answer.batches.len() != 1 {
                    bail!("one batch was sent answered={}", answer.batches.len());
                }
                figures::record(&mut latencies, since.elapsed());
            }
            Ok(latencies)
        }
    });
    let ended = future::try_join_all(callers).await?;
    let elapsed = start.elapsed();
    let mut latencies = figures::latencies();
    for of_caller in &ended {
        latencies.add(of_caller).context("adding latencies")?;
    }
    let messages = latencies.len();
    Ok(Run { messages, records: messages, message_bytes: batch.data.len(), elapsed, latencies })
}
