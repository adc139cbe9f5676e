//! `Read`: one task a call, with no state that outlives it.
//!
//! The plan is made when the call begins: which partitions, from where, and where each of them ended. Then partitions
//! are served in turn; what is in memory is read at once, everything else on a thread that may block.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use futures_util::future::select_all;
use tillroll_engine::{
    engine::Engine,
    error::ReadFault,
    id::{Lane, Offset, Partition},
    limits,
    request::{ReadAnswer, TopicView},
};
use tillroll_proto::{
    reason::{self, key},
    v1::{self, read_response::Event},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::topic::lost;
use crate::{
    refusal::{Facts, bad_field, of_fault, of_refusal, required},
    wire,
};

mod cut;
mod send;

use send::Sender;

/// Responses between the reading task and the connection.
const RESPONSES_MAX: usize = 4;
const HEARTBEAT_MS_DEFAULT: u32 = super::HEARTBEAT_MS;

/// What was asked, checked.
struct Plan {
    topic: TopicView,
    cursors: Vec<Cursor>,
    follow: bool,
    /// Records that may still be sent; none without a limit.
    records_left: Option<u64>,
    response_bytes: usize,
    /// The client set the limit itself: then it is hard.
    is_hard: bool,
    encoded: bool,
    key: Option<Bytes>,
    heartbeat: Duration,
}

/// How far one partition is read.
#[derive(Clone, Copy)]
struct Cursor {
    lane: Lane,
    next: Offset,
    /// The visible end when the call began.
    end: Offset,
}

/// Checks a request and starts to answer it.
pub(super) async fn open(
    engine: Engine,
    request: v1::ReadRequest,
    stop: CancellationToken,
) -> Result<ReceiverStream<Result<v1::ReadResponse, Status>>, Status> {
    let planned = {
        let engine = engine.clone();
        // A start by time is looked up in segments.
        tokio::task::spawn_blocking(move || plan(&engine, request)).await.map_err(|_| lost())?
    };
    let plan = planned?;
    let (sender, receiver) = mpsc::channel(RESPONSES_MAX);
    tokio::spawn(async move {
        let closed = sender.clone();
        let sender = Sender::new(sender);
        tokio::select! {
            () = closed.closed() => {}
            () = stop.cancelled() => {
                let facts = Facts::new(reason::SHUTTING_DOWN, Code::Unavailable, "the broker is shutting down; read on later");
                sender.fail(facts).await;
            }
            ended = run(&engine, plan, &sender) => {
                if let Err(Some(facts)) = ended {
                    sender.fail(facts).await;
                }
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

fn plan(engine: &Engine, request: v1::ReadRequest) -> Result<Plan, Facts> {
    let follow = match v1::ReadStop::try_from(request.stop) {
        Ok(v1::ReadStop::AtEnd) => false,
        Ok(v1::ReadStop::Follow) => true,
        Ok(v1::ReadStop::Unspecified) => {
            return Err(required("stop", "say where to stop: READ_STOP_AT_END or READ_STOP_FOLLOW"));
        }
        Err(_) => return Err(bad_field("stop", format!("stop is {}, which this broker does not know", request.stop))),
    };
    let encoded = match v1::ReadFormat::try_from(request.format) {
        Ok(v1::ReadFormat::Unspecified | v1::ReadFormat::Records) => false,
        Ok(v1::ReadFormat::Encoded) => true,
        Err(_) => {
            return Err(bad_field("format", format!("format is {}, which this broker does not know", request.format)));
        }
    };
    let start = wire::start(request.start, "start")?;
    let topic = engine.topic(&request.topic).map_err(|refusal| of_refusal(&refusal))?;
    if !request.topic_id.is_empty() && request.topic_id != topic.id.hex() {
        let (name, pinned, current) = (topic.name, request.topic_id, Some(topic.id));
        return Err(of_refusal(&tillroll_engine::error::Refusal::TopicRecreated { topic: name, pinned, current }));
    }
    let mut partitions = request.partitions;
    partitions.sort_unstable();
    partitions.dedup();
    if partitions.is_empty() {
        partitions = (0..topic.config.partitions).collect();
    }
    let mut cursors = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let lane = Lane { topic: topic.id, partition: Partition(partition) };
        let resumed = request.resume.iter().find(|resume| resume.partition == partition);
        let start = resumed.map_or(start, |resume| tillroll_engine::request::Start::Offset(Offset(resume.next_offset)));
        let with_place =
            |fault: ReadFault| of_fault(&fault).with(key::TOPIC, &topic.name).with(key::PARTITION, partition);
        let next = engine.find(lane, start).map_err(with_place)?;
        let end = engine.extent(lane).map_err(with_place)?.end;
        cursors.push(Cursor { lane, next, end });
    }
    let is_hard = request.max_response_bytes > 0;
    let response_bytes = if is_hard { request.max_response_bytes } else { limits::RESPONSE_BYTES_DEFAULT };
    let heartbeat_ms = if request.heartbeat_ms == 0 { HEARTBEAT_MS_DEFAULT } else { request.heartbeat_ms.max(100) };
    Ok(Plan {
        topic,
        cursors,
        follow,
        records_left: (request.max_records > 0).then_some(request.max_records),
        response_bytes: (response_bytes as usize).min(crate::channel::RESPONSE_BYTES_MAX - (1 << 20)),
        is_hard,
        encoded,
        key: request.key,
        heartbeat: Duration::from_millis(heartbeat_ms.into()),
    })
}

/// Serves the plan. `Err(None)`: the client is gone.
async fn run(engine: &Engine, mut plan: Plan, sender: &Sender) -> Result<(), Option<Facts>> {
    let mut is_caught_up = false;
    let mut heartbeat_at = Instant::now() + plan.heartbeat;
    loop {
        let mut has_sent = false;
        for number in 0..plan.cursors.len() {
            if plan.records_left == Some(0) {
                return Ok(());
            }
            has_sent |= turn(engine, &mut plan, number, sender).await?;
        }
        if has_sent {
            heartbeat_at = Instant::now() + plan.heartbeat;
        }
        if !is_caught_up && plan.cursors.iter().all(|cursor| cursor.next >= cursor.end) {
            is_caught_up = true;
            let ends = plan.cursors.iter().map(|cursor| partition_end(engine, &plan.topic, *cursor, true)).collect();
            sender.send(Event::CaughtUp(v1::CaughtUp { ends })).await?;
        }
        if is_caught_up && !plan.follow {
            return Ok(());
        }
        if !has_sent {
            tokio::select! {
                () = moved(engine, &plan.cursors) => {}
                () = tokio::time::sleep_until(heartbeat_at) => {
                    let ends = plan.cursors.iter().map(|cursor| partition_end(engine, &plan.topic, *cursor, false)).collect();
                    sender.send(Event::Heartbeat(v1::Heartbeat { ends })).await?;
                    heartbeat_at = Instant::now() + plan.heartbeat;
                }
            }
            // A lane that moved because its topic is gone says so on the next read.
            if engine.topic(&plan.topic.name).is_ok_and(|topic| topic.id != plan.topic.id) {
                let fault = ReadFault::TopicNotFound { topic: plan.topic.id };
                return Err(Some(of_fault(&fault)));
            }
        }
    }
}

/// Waits until one of the lanes has more.
fn moved(engine: &Engine, cursors: &[Cursor]) -> impl Future<Output = ()> + Send {
    let all: Vec<_> = cursors.iter().map(|cursor| engine.moved(cursor.lane, cursor.next)).collect();
    async move {
        select_all(all).await;
    }
}

fn partition_end(engine: &Engine, topic: &TopicView, cursor: Cursor, at_begin: bool) -> v1::PartitionEnd {
    let extent = engine.extent(cursor.lane).unwrap_or_default();
    v1::PartitionEnd {
        topic: topic.name.clone(),
        partition: cursor.lane.partition.0,
        head_offset: extent.head.0,
        end_offset: if at_begin { cursor.end.0 } else { extent.end.0 },
    }
}

/// Sends one response's worth of one partition; whether there was any.
async fn turn(engine: &Engine, plan: &mut Plan, number: usize, sender: &Sender) -> Result<bool, Option<Facts>> {
    let cursor = plan.cursors[number];
    if !plan.follow && cursor.next >= cursor.end {
        return Ok(false);
    }
    let answer = read(engine, cursor, plan.response_bytes).await?;
    let answer = answer.map_err(|fault| {
        let facts = of_fault(&fault).with(key::TOPIC, &plan.topic.name);
        Some(facts.with(key::PARTITION, cursor.lane.partition))
    })?;
    if answer.chunks.is_empty() {
        return Ok(false);
    }
    // A bounded read ends where the lane ended when it began, whatever was merged or appended since.
    let until = if plan.follow { Offset(u64::MAX) } else { cursor.end };
    let next = if plan.encoded {
        send::encoded(plan, cursor, answer.chunks, until, sender).await?
    } else {
        send::records(plan, cursor, answer.chunks, until, sender).await?
    };
    plan.cursors[number].next = next;
    Ok(true)
}

/// Reads from memory at once, and from the disk on a thread that may block.
async fn read(engine: &Engine, cursor: Cursor, bytes: usize) -> Result<Result<ReadAnswer, ReadFault>, Option<Facts>> {
    if engine.is_in_memory(cursor.lane, cursor.next) {
        return Ok(engine.read(cursor.lane, cursor.next, bytes));
    }
    let engine = engine.clone();
    let reading = tokio::task::spawn_blocking(move || engine.read(cursor.lane, cursor.next, bytes));
    let failed = || Facts::new(reason::SHUTTING_DOWN, Code::Unavailable, "the read was given up; read on from here");
    reading.await.map_err(|_| Some(failed()))
}
