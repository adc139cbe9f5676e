//! One table from what the engine says to what goes over the wire: reason, code, facts, and the next step in words.
//!
//! `docs/errors.md` is its public form; a test holds the two equal. Clients decide by the reason; the code only says
//! it to programs that know nothing of Tillroll.

use std::{fmt::Display, time::Duration};

use tillroll_engine::{
    error::{ReadFault, Refusal, Sized},
    record::RecordFault,
};
use tillroll_proto::reason::{self, key};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt, pb};

/// A refused call may be tried again after this long, when trying again can help.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Details travel in a header, and some clients take no more than 8 KiB of them.
const VALUE_CHARS_MAX: usize = 512;
/// See [`VALUE_CHARS_MAX`].
const MESSAGE_CHARS_MAX: usize = 1_024;

/// Everything that is said of one refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// One of [`reason::ALL`].
    pub reason: &'static str,
    /// What a generic client goes by.
    pub code: Code,
    /// What, where, the limit, the next step: for people.
    pub message: String,
    /// The same for programs.
    pub metadata: Vec<(&'static str, String)>,
    /// Trying the same again may help.
    pub is_retryable: bool,
}

impl Facts {
    /// A refusal with no facts yet.
    pub fn new(reason: &'static str, code: Code, message: impl Into<String>) -> Self {
        // Names that clients made up stand in messages, and a message travels in a header.
        let message = message.into().chars().take(MESSAGE_CHARS_MAX).collect();
        Self { reason, code, message, metadata: Vec::new(), is_retryable: false }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Display) -> Self {
        let value: String = value.to_string().chars().take(VALUE_CHARS_MAX).collect();
        self.metadata.push((key, value));
        self
    }

    fn retryable(mut self) -> Self {
        self.is_retryable = true;
        self
    }

    /// The status of a call.
    pub fn status(&self) -> Status {
        let metadata = self.metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        let mut details = ErrorDetails::new();
        details.set_error_info(self.reason, reason::DOMAIN, metadata.collect::<std::collections::HashMap<_, _>>());
        if let Some((_, field)) = self.metadata.iter().find(|(name, _)| *name == key::FIELD) {
            details.add_bad_request_violation(field.clone(), self.message.clone());
        }
        if self.is_retryable {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Status::with_error_details(self.code, self.message.clone(), details)
    }

    /// The same as a message, for outcomes on a stream.
    pub fn message_status(&self) -> pb::Status {
        to_message(&self.status())
    }
}

/// A status as a message.
pub fn to_message(status: &Status) -> pb::Status {
    let bare = || pb::Status { code: status.code() as i32, message: status.message().to_owned(), details: Vec::new() };
    prost::Message::decode(status.details()).ok().filter(|_| !status.details().is_empty()).unwrap_or_else(bare)
}

impl From<Facts> for Status {
    fn from(facts: Facts) -> Self {
        facts.status()
    }
}

/// A field that has no valid value.
pub fn bad_field(field: &str, what: impl Into<String>) -> Facts {
    Facts::new(reason::FIELD_INVALID, Code::InvalidArgument, what).with(key::FIELD, field)
}

/// A field that must be set.
pub fn required(field: &str, what: impl Into<String>) -> Facts {
    Facts::new(reason::FIELD_REQUIRED, Code::InvalidArgument, what).with(key::FIELD, field)
}

/// A group that does not exist; today none does.
pub fn no_group(group: &str) -> Facts {
    let message = format!("group {group:?} not found: consumer groups are not served by this broker");
    Facts::new(reason::GROUP_NOT_FOUND, Code::NotFound, message).with(key::GROUP, group)
}

/// A feature that this broker does not have.
pub fn unsupported(feature: &str) -> Facts {
    let message = format!("feature {feature:?} is not supported by this broker; GetServer lists what is");
    Facts::new(reason::UNSUPPORTED_FEATURE, Code::Unimplemented, message).with(key::FEATURE, feature)
}

/// An offset that is not there (any more).
fn out_of_range(reason: &'static str, message: String) -> Facts {
    Facts::new(reason, Code::OutOfRange, message)
}

fn invalid(reason: &'static str, message: String) -> Facts {
    Facts::new(reason, Code::InvalidArgument, message)
}

fn precondition(reason: &'static str, message: String) -> Facts {
    Facts::new(reason, Code::FailedPrecondition, message)
}

fn exhausted(reason: &'static str, message: String) -> Facts {
    Facts::new(reason, Code::ResourceExhausted, message).retryable()
}

/// The facts of a refused write.
pub fn of_refusal(refusal: &Refusal) -> Facts {
    match refusal {
        Refusal::TopicNotFound { topic, similar } => {
            let close = similar.as_ref().map_or_else(String::new, |similar| format!("; there is {similar:?}"));
            let facts = Facts::new(
                reason::TOPIC_NOT_FOUND,
                Code::NotFound,
                format!("topic {topic:?} not found{close}; create it with CreateTopic"),
            );
            let facts = facts.with(key::TOPIC, topic);
            similar.iter().fold(facts, |facts, similar| facts.with(key::SIMILAR, similar))
        }
        Refusal::PartitionNotFound { topic, partition, count } => Facts::new(
            reason::PARTITION_NOT_FOUND,
            Code::NotFound,
            format!("topic {topic:?} has partitions 0 to {}, not {partition}", count.saturating_sub(1)),
        )
        .with(key::TOPIC, topic)
        .with(key::PARTITION, partition)
        .with(key::COUNT, count),
        Refusal::TopicRecreated { topic, pinned, current } => {
            let message = format!("topic {topic:?} no longer has the id {pinned}: it was deleted or made anew");
            let id = current.map_or_else(String::new, tillroll_engine::id::TopicId::hex);
            precondition(reason::TOPIC_RECREATED, message).with(key::TOPIC, topic).with(key::TOPIC_ID, id)
        }
        Refusal::TopicExists { topic, differences } => {
            let listed: Vec<String> =
                differences.iter().map(|one| format!("{} is {}, asked {}", one.field, one.has, one.asked)).collect();
            let listed = listed.join("; ");
            let message = format!("topic {topic:?} exists with another configuration: {listed}");
            Facts::new(reason::TOPIC_EXISTS, Code::AlreadyExists, message)
                .with(key::TOPIC, topic)
                .with(key::DIFFERENCES, listed)
        }
        Refusal::GroupNotFound { group } => no_group(group),
        Refusal::NameInvalid { field, name } => {
            let message = format!("{field} {name:?} is not a name: [a-z0-9][a-z0-9._-]{{0,127}}");
            invalid(reason::NAME_INVALID, message).with(key::FIELD, field).with(key::NAME, name)
        }
        Refusal::SettingOutOfRange { field, min, max, actual } => {
            bad_field(field, format!("{field} is {actual}, allowed are {min} to {max}"))
                .with(key::LIMIT, if actual > max { max } else { min })
                .with(key::ACTUAL, actual)
        }
        Refusal::ExpectedOffsetMismatch { checks } => mismatch(checks),
        Refusal::ProducerUnknown { .. }
        | Refusal::ProducerFenced { .. }
        | Refusal::SequenceGap { .. }
        | Refusal::SequenceForgotten { .. }
        | Refusal::SequenceReused { .. } => of_producer(refusal),
        other => of_batch(other).unwrap_or_else(|| of_state(refusal)),
    }
}

/// Refusals of what was sent; none for others.
fn of_batch(refusal: &Refusal) -> Option<Facts> {
    Some(match refusal {
        Refusal::TooLarge { what, batch, limit, actual } => too_large(*what, *batch, *limit, *actual),
        Refusal::Empty { batch } => {
            let place = batch.map_or_else(|| "append".to_owned(), |batch| format!("batches[{batch}]"));
            let message = format!("{place} has no records; send at least one");
            let facts = invalid(reason::APPEND_EMPTY, message).with(key::FIELD, place);
            batch.iter().fold(facts, |facts, batch| facts.with(key::BATCH, batch))
        }
        Refusal::BadCrc { batch, expected, actual } => {
            let message = format!("batches[{batch}] has crc32 {actual:08x}, not {expected:08x} as sent; send it again");
            invalid(reason::BAD_CRC, message)
                .with(key::FIELD, format!("batches[{batch}].encoded.crc32"))
                .with(key::BATCH, batch)
                .with(key::EXPECTED, expected)
                .with(key::ACTUAL, actual)
        }
        Refusal::WrongCount { batch, field, expected, actual } => {
            let message = format!("batches[{batch}].encoded.{field} says {expected}, the data has {actual}");
            invalid(reason::BAD_ENCODING, message)
                .with(key::FIELD, format!("batches[{batch}].encoded.{field}"))
                .with(key::BATCH, batch)
                .with(key::EXPECTED, expected)
                .with(key::ACTUAL, actual)
        }
        Refusal::Undecodable { batch, fault } => undecodable(*batch, fault),
        Refusal::BadRecord { batch, fault } => bad_record(*batch, fault),
        Refusal::PartitionRequired { batch } => required(
            &format!("batches[{batch}].partition"),
            format!(
                "batches[{batch}] is encoded, so it must name its partition; send plain records to have them routed"
            ),
        )
        .with(key::BATCH, batch),
        _ => return None,
    })
}

fn mismatch(checks: &[tillroll_engine::error::FailedCheck]) -> Facts {
    let listed: Vec<String> = checks
        .iter()
        .map(|check| format!("{}/{} is at {}, not {}", check.topic, check.partition, check.actual, check.expected))
        .collect();
    let message = format!("expected offsets do not hold: {}; read again and decide anew", listed.join("; "));
    let facts = Facts::new(reason::EXPECTED_OFFSET_MISMATCH, Code::Aborted, message);
    checks.first().map_or(facts.clone(), |check| {
        facts
            .with(key::FIELD, format!("checks[{}]", check.index))
            .with(key::TOPIC, &check.topic)
            .with(key::PARTITION, check.partition)
            .with(key::EXPECTED, check.expected)
            .with(key::ACTUAL, check.actual)
            .with(key::COUNT, checks.len())
    })
}

/// Refusals that rest on what is known of a producer.
fn of_producer(refusal: &Refusal) -> Facts {
    match refusal {
        Refusal::ProducerUnknown { producer } => {
            let message = format!("producer {producer:?} is not registered (any more); call InitProducer");
            precondition(reason::PRODUCER_UNKNOWN, message).with(key::PRODUCER, producer)
        }
        Refusal::ProducerFenced { producer, epoch, current } => {
            let message = format!("producer {producer:?} was taken over: epoch {epoch} is fenced, {current} counts");
            precondition(reason::PRODUCER_FENCED, message)
                .with(key::PRODUCER, producer)
                .with(key::EPOCH, epoch)
                .with(key::CURRENT, current)
        }
        Refusal::SequenceGap { producer, sequence, next } => {
            let message = format!("sequence {sequence} of producer {producer:?} leaves a gap; {next} is next");
            precondition(reason::SEQUENCE_GAP, message)
                .with(key::PRODUCER, producer)
                .with(key::SEQUENCE, sequence)
                .with(key::NEXT, next)
        }
        Refusal::SequenceForgotten { producer, sequence, oldest } => {
            let message = format!(
                "sequence {sequence} of producer {producer:?} is in the log; its offsets are remembered from {oldest} on"
            );
            Facts::new(reason::SEQUENCE_FORGOTTEN, Code::AlreadyExists, message)
                .with(key::PRODUCER, producer)
                .with(key::SEQUENCE, sequence)
                .with(key::OLDEST, oldest)
        }
        Refusal::SequenceReused { producer, sequence } => {
            let message = format!("sequence {sequence} of producer {producer:?} was accepted with other content");
            precondition(reason::SEQUENCE_REUSED, message).with(key::PRODUCER, producer).with(key::SEQUENCE, sequence)
        }
        other => of_state(other),
    }
}

/// Refusals that rest on limits, the log or the disk.
fn of_state(refusal: &Refusal) -> Facts {
    match refusal {
        Refusal::ProducersFull { limit } => {
            exhausted(reason::PRODUCERS_FULL, format!("{limit} producers are registered, no more fit"))
                .with(key::LIMIT, limit)
        }
        Refusal::TopicsFull { limit } => {
            exhausted(reason::TOPICS_FULL, format!("{limit} topics exist, no more fit")).with(key::LIMIT, limit)
        }
        Refusal::TooManyInFlight { producer, limit } => {
            let message = format!("producer {producer:?} has {limit} appends unanswered; wait for an answer");
            exhausted(reason::TOO_MANY_IN_FLIGHT, message).with(key::PRODUCER, producer).with(key::LIMIT, limit)
        }
        Refusal::Overloaded { limit_bytes } => {
            let message = format!("{limit_bytes} bytes of appends are unanswered; wait and try again");
            exhausted(reason::TOO_MANY_IN_FLIGHT, message).with(key::LIMIT, limit_bytes)
        }
        Refusal::DiskFull { free, needed } => {
            let message = format!("{free} bytes are free on the disk and appends need {needed}; free some space");
            exhausted(reason::DISK_FULL, message).with(key::ACTUAL, free).with(key::LIMIT, needed)
        }
        Refusal::JournalFull { files, limit } => {
            let message = format!("{files} journal files wait to be flushed, appends may use {limit}; try again");
            exhausted(reason::JOURNAL_FULL, message).with(key::ACTUAL, files).with(key::LIMIT, limit)
        }
        Refusal::Poisoned(poisoned) => Facts::new(
            reason::LOG_POISONED,
            Code::Unavailable,
            format!("writes are off since {poisoned}; nothing of this was written; restart the broker"),
        )
        .with(key::FILE, &poisoned.file)
        .retryable(),
        Refusal::OutcomeUnknown(poisoned) => Facts::new(
            reason::OUTCOME_UNKNOWN,
            Code::Unavailable,
            format!("nobody knows whether this was written: {poisoned}; retry with the same stamp after a restart"),
        )
        .with(key::FILE, &poisoned.file)
        .retryable(),
        Refusal::Stopping => {
            let message = "the broker is shutting down; nothing of this was written, try again";
            Facts::new(reason::SHUTTING_DOWN, Code::Unavailable, message).retryable()
        }
        other => Facts::new(reason::UNSUPPORTED_FEATURE, Code::Unimplemented, other.to_string()),
    }
}

fn too_large(what: Sized, batch: Option<usize>, limit: u64, actual: u64) -> Facts {
    let (reason, field, words) = match what {
        Sized::BatchBytes => (reason::BATCH_TOO_LARGE, "data", "bytes as sent"),
        Sized::DecodedBytes => (reason::BATCH_TOO_LARGE, "decoded_bytes", "bytes decoded"),
        Sized::AppendBytes => (reason::APPEND_TOO_LARGE, "batches", "bytes"),
        Sized::FrameBytes => (reason::APPEND_TOO_LARGE, "batches", "bytes in the journal"),
        Sized::Batches => (reason::APPEND_TOO_LARGE, "batches", "batches"),
        Sized::Records => (reason::APPEND_TOO_LARGE, "batches", "records"),
    };
    let place = batch.map_or_else(|| field.to_owned(), |batch| format!("batches[{batch}].{field}"));
    let message = format!("{place} has {actual} {words}, the limit is {limit}; split it");
    let facts = invalid(reason, message).with(key::FIELD, place).with(key::LIMIT, limit).with(key::ACTUAL, actual);
    batch.iter().fold(facts, |facts, batch| facts.with(key::BATCH, batch))
}

fn undecodable(batch: usize, fault: &tillroll_engine::codec::CodecFault) -> Facts {
    let place = format!("batches[{batch}].encoded.data");
    match fault {
        tillroll_engine::codec::CodecFault::TooLarge { limit } => {
            let message = format!("{place} decodes to more than {limit} bytes; split it");
            invalid(reason::BATCH_TOO_LARGE, message).with(key::LIMIT, limit)
        }
        other => invalid(reason::BAD_ENCODING, format!("{place} does not decode: {other}")),
    }
    .with(key::FIELD, place)
    .with(key::BATCH, batch)
}

fn bad_record(batch: usize, fault: &RecordFault) -> Facts {
    let (reason, index, field, bound) = match *fault {
        RecordFault::BadEncoding { .. } => (reason::BAD_ENCODING, None, "", None),
        RecordFault::BadUtf8 { index, field } => (reason::BAD_ENCODING, Some(index), field, None),
        RecordFault::RecordTooLarge { index, limit, actual } => {
            (reason::RECORD_TOO_LARGE, Some(index), "", Some((limit, actual)))
        }
        RecordFault::KeyTooLarge { index, limit, actual } => {
            (reason::RECORD_TOO_LARGE, Some(index), "key", Some((limit, actual)))
        }
        RecordFault::TooManyHeaders { index, limit, actual }
        | RecordFault::HeadersTooLarge { index, limit, actual } => {
            (reason::RECORD_TOO_LARGE, Some(index), "headers", Some((limit, actual)))
        }
        RecordFault::TombstoneWithoutKey { index } => (reason::FIELD_INVALID, Some(index), "key", None),
        RecordFault::TombstoneWithValue { index } => (reason::FIELD_INVALID, Some(index), "value", None),
        RecordFault::TooManyRecords { limit, actual } => {
            (reason::APPEND_TOO_LARGE, None, "", Some((limit as usize, actual as usize)))
        }
    };
    let record = index.map_or_else(String::new, |index| format!(".records[{index}]"));
    let dot = if field.is_empty() { "" } else { "." };
    let place = format!("batches[{batch}]{record}{dot}{field}");
    let facts = invalid(reason, format!("{place}: {fault}")).with(key::FIELD, place).with(key::BATCH, batch);
    let facts = index.iter().fold(facts, |facts, index| facts.with(key::RECORD, index));
    bound.iter().fold(facts, |facts, (limit, actual)| facts.with(key::LIMIT, limit).with(key::ACTUAL, actual))
}

/// The facts of a read that was not answered.
pub fn of_fault(fault: &ReadFault) -> Facts {
    match fault {
        ReadFault::TopicNotFound { topic } => {
            let message = format!("the topic with id {} is gone", topic.hex());
            Facts::new(reason::TOPIC_NOT_FOUND, Code::NotFound, message).with(key::TOPIC_ID, topic.hex())
        }
        ReadFault::PartitionNotFound { partition, count } => {
            let message = format!("the topic has partitions 0 to {}, not {partition}", count.saturating_sub(1));
            Facts::new(reason::PARTITION_NOT_FOUND, Code::NotFound, message)
                .with(key::PARTITION, partition)
                .with(key::COUNT, count)
        }
        ReadFault::BelowHead { offset, head } => {
            let message = format!("offset {offset} is gone, the log begins at {head}; read from there");
            out_of_range(reason::OFFSET_BELOW_HEAD, message).with(key::OFFSET, offset).with(key::HEAD, head)
        }
        ReadFault::BeyondEnd { offset, end } => {
            let message = format!("offset {offset} does not exist yet, the log ends at {end}; read from there");
            out_of_range(reason::OFFSET_BEYOND_END, message).with(key::OFFSET, offset).with(key::END, end)
        }
        ReadFault::Damaged { from, to, file, position, fault } => Facts::new(
            reason::DATA_DAMAGED,
            Code::DataLoss,
            format!("offsets {from} to {to} are damaged: {file} at byte {position}: {fault}; read on from {to}"),
        )
        .with(key::FROM, from)
        .with(key::TO, to)
        .with(key::FILE, file),
        ReadFault::Poisoned(poisoned) => Facts::new(
            reason::LOG_POISONED,
            Code::Unavailable,
            format!("this range cannot be read since {poisoned}; restart the broker"),
        )
        .with(key::FILE, &poisoned.file)
        .retryable(),
        ReadFault::Io { file, cause } => {
            let message = format!("the disk failed to read {file}: {cause}; try again, or look after the disk");
            Facts::new(reason::LOG_POISONED, Code::Unavailable, message).with(key::FILE, file).retryable()
        }
        other => Facts::new(reason::UNSUPPORTED_FEATURE, Code::Unimplemented, other.to_string()),
    }
}

impl From<&Refusal> for Facts {
    fn from(refusal: &Refusal) -> Self {
        of_refusal(refusal)
    }
}
