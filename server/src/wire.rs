//! From the wire's messages to the engine's requests and back. What is not set or not known is refused here.

use bytes::Bytes;
use prost::Message;
use tillroll_engine::{
    batch::Batch,
    codec::Codec,
    id::{Offset, Partition},
    request::{
        Append, AppendBatch, Appended, AppendedBatch, Check, Content, CursorCommit, HeldAssignment, ProducerOpened,
        ProducerView, RecentAppend, Stamp, Start, TopicConfig, TopicView,
    },
};
use tillroll_proto::{limits::measure, raw, reason::key, v1};

use crate::refusal::{Facts, bad_field, of_limits, required, table, undecodable, unsupported};

/// What a request may rely on by name.
pub const FEATURES: &[&str] = &[
    "append.checks.assignment",
    "append.checks.next_offset",
    "append.commits",
    "append.stream",
    "groups.explain",
    "groups.manual",
    "groups.members",
    "read.encoded",
    "read.group",
    "read.key",
];

/// An append as it came on a stream: measured, then decoded.
pub fn received(request: Bytes) -> Result<Append, Facts> {
    measure::<raw::AppendRequest>(&request).map_err(|fault| of_limits(&fault))?;
    append(raw::AppendRequest::decode(request).map_err(|error| undecodable(&error))?)
}

/// An append as the engine takes it. Payloads are passed on as they lie in the received message.
pub fn append(request: raw::AppendRequest) -> Result<Append, Facts> {
    if let Some(need) = request.needs.iter().find(|need| !FEATURES.contains(&need.as_str())) {
        return Err(unsupported(need));
    }
    let batches = request.batches.into_iter().enumerate().map(|(index, batch)| append_batch(index, batch));
    let checks = request.checks.into_iter().enumerate().map(|(index, check)| append_check(index, check));
    Ok(Append {
        batches: batches.collect::<Result<_, _>>()?,
        stamp: request.producer.map(|stamp| Stamp {
            producer: stamp.producer_id,
            epoch: stamp.epoch,
            sequence: stamp.sequence,
            answered_below: stamp.answered_below,
        }),
        checks: checks.collect::<Result<_, _>>()?,
        commits: request.commits.into_iter().map(cursor_commit).collect(),
    })
}

fn append_batch(index: usize, batch: raw::AppendBatch) -> Result<AppendBatch, Facts> {
    let field = format!("batches[{index}].content");
    let content = match batch.content {
        None => {
            return Err(required(&field, format!("{field} is not set, or of a kind that this broker does not know")));
        }
        Some(raw::append_batch::Content::Records(set)) => Content::Plain(set),
        Some(raw::append_batch::Content::Encoded(encoded)) => Content::Encoded(Batch {
            codec: codec(encoded.codec, &format!("batches[{index}].encoded.codec"))?.ok_or_else(|| {
                required(&format!("batches[{index}].encoded.codec"), "say how the data is compressed")
            })?,
            record_count: encoded.record_count,
            decoded_bytes: encoded.decoded_bytes,
            crc32: encoded.crc32,
            data: encoded.data,
        }),
    };
    let topic_id = (!batch.topic_id.is_empty()).then_some(batch.topic_id);
    Ok(AppendBatch { topic: batch.topic, topic_id, partition: batch.partition.map(Partition), content })
}

fn append_check(index: usize, check: v1::Check) -> Result<Check, Facts> {
    match check.kind {
        None => {
            let message = format!("checks[{index}] is of a kind that this broker does not know; it is never ignored");
            let facts = Facts::new(&table::UNKNOWN_CHECK, message);
            Err(facts.with(key::FIELD, format!("checks[{index}].kind")))
        }
        Some(v1::check::Kind::NextOffset(expected)) => Ok(Check::NextOffset {
            topic: expected.topic,
            partition: Partition(expected.partition),
            next_offset: Offset(expected.next_offset),
        }),
        Some(v1::check::Kind::Assignment(held)) => Ok(Check::HeldAssignment(HeldAssignment {
            group: held.group,
            topic: held.topic,
            partition: Partition(held.partition),
            epoch: held.assignment_epoch,
        })),
    }
}

/// A cursor commit as the engine takes it.
pub fn cursor_commit(commit: v1::CursorCommit) -> CursorCommit {
    CursorCommit {
        group: commit.group,
        topic: commit.topic,
        partition: Partition(commit.partition),
        next: Offset(commit.next_offset),
        epoch: commit.assignment_epoch,
        expected: commit.expected_offset.map(Offset),
        metadata: commit.metadata,
    }
}

/// A codec by its number; none when it is not set.
pub fn codec(number: i32, field: &str) -> Result<Option<Codec>, Facts> {
    match v1::Codec::try_from(number) {
        Ok(v1::Codec::Unspecified) => Ok(None),
        Ok(v1::Codec::None) => Ok(Some(Codec::None)),
        Ok(v1::Codec::Lz4) => Ok(Some(Codec::Lz4)),
        Ok(v1::Codec::Zstd) => Ok(Some(Codec::Zstd)),
        Err(_) => {
            let facts = bad_field(field, format!("{field} is {number}, which is no codec; none, lz4 and zstd are"));
            Err(facts.with(key::LIMIT, v1::Codec::Zstd as i32).with(key::ACTUAL, number))
        }
    }
}

/// A codec's number.
pub fn codec_number(codec: Codec) -> i32 {
    match codec {
        Codec::None => v1::Codec::None as i32,
        Codec::Lz4 => v1::Codec::Lz4 as i32,
        Codec::Zstd => v1::Codec::Zstd as i32,
    }
}

/// Where a read starts.
pub fn start(start: Option<v1::StartPosition>, field: &str) -> Result<Start, Facts> {
    use v1::start_position::At;
    let not = |arm: &str| bad_field(field, format!("{field}.{arm} is false; leave it out, or set it to true"));
    match start.and_then(|start| start.at) {
        None => {
            Err(required(field, format!("{field} says where to start: earliest, latest, offset, append_time_us, …")))
        }
        Some(At::Earliest(true)) => Ok(Start::Earliest),
        Some(At::Latest(true)) => Ok(Start::Latest),
        Some(At::Earliest(false)) => Err(not("earliest")),
        Some(At::Latest(false)) => Err(not("latest")),
        Some(At::Offset(offset)) => Ok(Start::Offset(Offset(offset))),
        Some(At::AppendTimeUs(time)) => Ok(Start::AppendTime(time)),
        Some(At::LastRecords(count)) => Ok(Start::Last(count)),
        Some(At::Group(_)) => Err(bad_field(field, format!("{field}.group is a start of Read alone"))),
    }
}

/// A topic's configuration; what is not set has its default.
pub fn topic_config(config: Option<v1::TopicConfig>) -> Result<TopicConfig, Facts> {
    let (config, defaults) = (config.unwrap_or_default(), TopicConfig::default());
    Ok(TopicConfig {
        partitions: config.partitions.unwrap_or(defaults.partitions),
        codec: codec(config.codec.unwrap_or_default(), "config.codec")?.unwrap_or(defaults.codec),
        max_record_bytes: config.max_record_bytes.unwrap_or(defaults.max_record_bytes),
        segment_bytes: config.segment_bytes.unwrap_or(defaults.segment_bytes),
    })
}

/// A topic, without its partitions.
pub fn topic(view: TopicView) -> v1::Topic {
    v1::Topic {
        name: view.name,
        topic_id: view.id.hex(),
        config: Some(v1::TopicConfig {
            partitions: Some(view.config.partitions),
            codec: Some(codec_number(view.config.codec)),
            max_record_bytes: Some(view.config.max_record_bytes),
            segment_bytes: Some(view.config.segment_bytes),
        }),
        created_time_us: view.created_us,
        partitions: Vec::new(),
    }
}

/// The answer to an append.
pub fn appended(appended: Appended) -> v1::AppendResponse {
    v1::AppendResponse {
        batches: appended.batches.into_iter().map(appended_batch).collect(),
        duplicate: appended.duplicate,
        durability: v1::Durability::Fsync as i32,
        append_time_us: appended.append_time_us,
        next_sequence: appended.next_sequence,
    }
}

fn appended_batch(batch: AppendedBatch) -> v1::AppendedBatch {
    v1::AppendedBatch {
        batch_index: batch.batch_index,
        topic: batch.topic,
        partition: batch.lane.partition.0,
        base_offset: batch.base.0,
        record_count: batch.record_count,
        record_indexes: batch.record_indexes,
        topic_id: batch.lane.topic.hex(),
    }
}

/// An append that is remembered.
pub fn producer_append(recent: RecentAppend) -> v1::ProducerAppend {
    v1::ProducerAppend {
        sequence: recent.sequence,
        record_count: recent.appended.batches.iter().map(|batch| batch.record_count).sum(),
        batches: recent.appended.batches.into_iter().map(appended_batch).collect(),
    }
}

/// The answer to a producer's registration: its newest appends, and whether there are older ones.
pub fn producer(opened: ProducerOpened, newest: (Vec<RecentAppend>, bool)) -> v1::InitProducerResponse {
    let (recent, has_older) = newest;
    v1::InitProducerResponse {
        producer_id: opened.name,
        epoch: opened.epoch,
        next_sequence: opened.next_sequence,
        accepted_records: opened.accepted_records,
        has_older,
        recent: recent.into_iter().map(producer_append).collect(),
    }
}

/// A producer.
pub fn producer_view(view: ProducerView) -> v1::Producer {
    v1::Producer {
        producer_id: view.name,
        epoch: view.epoch,
        next_sequence: view.next_sequence,
        accepted_records: view.accepted_records,
        idle_expiry_ms: view.idle_expiry_ms,
        last_append_time_us: view.last_us,
        remembered_answers: view.answers,
    }
}

#[cfg(test)]
mod tests;
