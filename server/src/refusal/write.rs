//! Why a write was refused.

use tillroll_engine::{
    codec::CodecFault,
    engine::Engine,
    error::{FailedCheck, Refusal, Sized},
    id::TopicId,
    record::RecordFault,
};
use tillroll_proto::reason::key;

use super::{Facts, bad_field, group, no_group, required, shown, table, unsupported};

/// Checks that are named in the message; all that fit are in the details.
const LISTED_MAX: usize = 8;

/// The facts of what a ticket was refused for: a name that was not found is told with the closest one there is.
pub fn of_answer(engine: &Engine, refusal: Refusal) -> Facts {
    of_refusal(&engine.with_similar(refusal))
}

/// The facts of a refused write.
pub fn of_refusal(refusal: &Refusal) -> Facts {
    match refusal {
        Refusal::TopicNotFound { .. }
        | Refusal::PartitionNotFound { .. }
        | Refusal::TopicRecreated { .. }
        | Refusal::TopicExists { .. }
        | Refusal::GroupNotFound { .. }
        | Refusal::NameInvalid { .. }
        | Refusal::SettingOutOfRange { .. } => of_name(refusal),
        Refusal::ProducerUnknown { .. }
        | Refusal::ProducerFenced { .. }
        | Refusal::SequenceGap { .. }
        | Refusal::SequenceForgotten { .. }
        | Refusal::SequenceReused { .. } => of_producer(refusal),
        Refusal::TooLarge { what, batch, limit, actual } => too_large(*what, *batch, *limit, *actual),
        Refusal::Empty { batch } => {
            let place = batch.map_or_else(|| "batches".to_owned(), |batch| format!("batches[{batch}]"));
            let message = format!("{place} has nothing to append; send at least one record");
            let facts = Facts::new(&table::APPEND_EMPTY, message).with(key::FIELD, place);
            batch.iter().fold(facts, |facts, batch| facts.with(key::BATCH, batch))
        }
        Refusal::BadCrc { batch, expected, actual } => {
            let message =
                format!("batches[{batch}] came with crc32 {expected:08x}, its data has {actual:08x}; send it again");
            Facts::new(&table::BAD_CRC, message)
                .with(key::FIELD, format!("batches[{batch}].encoded.crc32"))
                .with(key::BATCH, batch)
                .with(key::EXPECTED, expected)
                .with(key::ACTUAL, actual)
        }
        Refusal::WrongCount { batch, field, expected, actual } => {
            let message = format!("batches[{batch}].encoded.{field} says {expected}, the data has {actual}");
            Facts::new(&table::BAD_ENCODING, message)
                .with(key::FIELD, format!("batches[{batch}].encoded.{field}"))
                .with(key::BATCH, batch)
                .with(key::EXPECTED, expected)
                .with(key::ACTUAL, actual)
        }
        Refusal::Undecodable { batch, fault } => undecodable(*batch, fault),
        Refusal::BadRecord { batch, fault } => bad_record(*batch, fault),
        Refusal::PartitionRequired { batch } => {
            let field = format!("batches[{batch}].partition");
            let message =
                format!("{field} is not set, and an encoded batch is not taken apart; set it, or send plain records");
            required(&field, message).with(key::BATCH, batch)
        }
        Refusal::ExpectedOffsetMismatch { checks } => mismatch(checks),
        Refusal::GroupExists { .. }
        | Refusal::GroupHasMembers { .. }
        | Refusal::GroupChanged { .. }
        | Refusal::GroupsFull { .. }
        | Refusal::GroupFull { .. }
        | Refusal::GroupRowsFull { .. }
        | Refusal::TakenOver { .. }
        | Refusal::GroupConfigInvalid { .. }
        | Refusal::StartRequired { .. }
        | Refusal::StartOutOfRange { .. }
        | Refusal::StartUnreadable { .. }
        | Refusal::CursorRefused { .. } => group::of_group(refusal),
        other => of_state(other),
    }
}

/// The name belongs to another topic than the pinned one.
pub fn of_pin(topic: &str, pinned: &str, current: TopicId) -> Facts {
    recreated(topic, pinned, Some(current))
}

fn recreated(topic: &str, pinned: &str, current: Option<TopicId>) -> Facts {
    let now = current.map_or_else(|| "is gone".to_owned(), |current| format!("has the id {} now", current.hex()));
    let message = format!("topic {} with the id {} was deleted: the name {now}", shown(topic), shown(pinned));
    let facts = Facts::new(&table::TOPIC_RECREATED, message).with(key::TOPIC, topic);
    current.iter().fold(facts, |facts, current| facts.with(key::TOPIC_ID, current.hex()))
}

/// About topics, groups and settings by name.
fn of_name(refusal: &Refusal) -> Facts {
    match refusal {
        Refusal::TopicNotFound { topic, similar } => {
            let close = similar.as_ref().map_or_else(String::new, |similar| format!(" (there is {similar:?})"));
            let message = format!("topic {} not found{close}; create it with CreateTopic", shown(topic));
            let facts = Facts::new(&table::TOPIC_NOT_FOUND, message).with(key::TOPIC, topic);
            similar.iter().fold(facts, |facts, similar| facts.with(key::SIMILAR, similar))
        }
        Refusal::PartitionNotFound { topic, partition, count } => {
            let last = count.saturating_sub(1);
            let message = format!("topic {} has partitions 0 to {last}, not {partition}", shown(topic));
            Facts::new(&table::PARTITION_NOT_FOUND, message)
                .with(key::TOPIC, topic)
                .with(key::PARTITION, partition)
                .with(key::COUNT, count)
        }
        Refusal::TopicRecreated { topic, pinned, current } => recreated(topic, pinned, *current),
        Refusal::TopicExists { topic, differences } => {
            let different = differences.iter().map(|one| format!("{} is {}, asked {}", one.field, one.has, one.asked));
            let listed = different.collect::<Vec<_>>().join("; ");
            let message = format!("topic {} exists with another configuration: {listed}", shown(topic));
            Facts::new(&table::TOPIC_EXISTS, message).with(key::TOPIC, topic).with(key::DIFFERENCES, listed)
        }
        Refusal::GroupNotFound { group, similar } => no_group(group, similar.as_deref()),
        Refusal::NameInvalid { field, name } => {
            let message = format!("{field} {} is not a name: [a-z0-9][a-z0-9._-]{{0,127}} is", shown(name));
            Facts::new(&table::NAME_INVALID, message).with(key::FIELD, field).with(key::NAME, name)
        }
        Refusal::SettingOutOfRange { field, min, max, actual } => {
            bad_field(field, format!("{field} is {actual}, allowed are {min} to {max}"))
                .with(key::LIMIT, if actual > max { max } else { min })
                .with(key::ACTUAL, actual)
        }
        other => of_state(other),
    }
}

/// About a producer and its sequence.
fn of_producer(refusal: &Refusal) -> Facts {
    match refusal {
        Refusal::ProducerUnknown { producer } => {
            let message = format!("producer {} is not registered, or has expired; call InitProducer", shown(producer));
            Facts::new(&table::PRODUCER_UNKNOWN, message).with(key::PRODUCER, producer)
        }
        Refusal::ProducerFenced { producer, epoch, current } => {
            let message =
                format!("producer {} was taken over: epoch {epoch} is fenced, {current} counts", shown(producer));
            let facts = Facts::new(&table::PRODUCER_FENCED, message).with(key::PRODUCER, producer);
            facts.with(key::EPOCH, current).with(key::CURRENT, current)
        }
        Refusal::SequenceGap { producer, sequence, next } => {
            let message = format!("sequence {sequence} of producer {} leaves a gap; {next} is next", shown(producer));
            Facts::new(&table::SEQUENCE_GAP, message)
                .with(key::PRODUCER, producer)
                .with(key::SEQUENCE, sequence)
                .with(key::NEXT, next)
        }
        Refusal::SequenceForgotten { producer, sequence, oldest } => {
            let message = format!(
                "sequence {sequence} of producer {} is in the log; answers are remembered from {oldest} on",
                shown(producer)
            );
            Facts::new(&table::SEQUENCE_FORGOTTEN, message)
                .with(key::PRODUCER, producer)
                .with(key::SEQUENCE, sequence)
                .with(key::OLDEST, oldest)
        }
        Refusal::SequenceReused { producer, sequence } => {
            let message =
                format!("sequence {sequence} of producer {} was accepted with other content", shown(producer));
            let facts = Facts::new(&table::SEQUENCE_REUSED, message).with(key::PRODUCER, producer);
            facts.with(key::SEQUENCE, sequence)
        }
        other => of_state(other),
    }
}

/// About room, and the state of the whole log.
fn of_state(refusal: &Refusal) -> Facts {
    match refusal {
        Refusal::ProducersFull { limit } => {
            let message = format!("{limit} producers are registered, no more may be; delete some, or use names again");
            Facts::new(&table::PRODUCERS_FULL, message).with(key::LIMIT, limit)
        }
        Refusal::TopicsFull { limit } => {
            let message = format!("there were {limit} topics, no more may be; use fewer with more partitions");
            Facts::new(&table::TOPICS_FULL, message).with(key::LIMIT, limit)
        }
        Refusal::AnswersFull { producer, limit, actual } => {
            let message = format!(
                "answers that producer {} has not confirmed would take {actual} bytes, it may have {limit} now; set \
                 answered_below in its stamp, or append to fewer partitions at a time",
                shown(producer)
            );
            let facts = Facts::new(&table::ANSWERS_FULL, message).with(key::PRODUCER, producer);
            facts.with(key::LIMIT, limit).with(key::ACTUAL, actual)
        }
        Refusal::PartitionsFull { limit, actual } => {
            let message = format!("topics would have {actual} partitions in all, the limit is {limit}; use fewer");
            Facts::new(&table::PARTITIONS_FULL, message).with(key::LIMIT, limit).with(key::ACTUAL, actual)
        }
        Refusal::TooManyInFlight { producer, limit } => {
            let message = format!("producer {} has {limit} appends unanswered; wait for an answer", shown(producer));
            let facts = Facts::new(&table::TOO_MANY_IN_FLIGHT, message).with(key::PRODUCER, producer);
            facts.with(key::LIMIT, limit)
        }
        Refusal::Overloaded { limit_bytes } => {
            let message = format!("the broker has as much unanswered as it may, {limit_bytes} bytes; try again");
            Facts::new(&table::TOO_MANY_IN_FLIGHT, message).with(key::LIMIT, limit_bytes)
        }
        Refusal::Lacking => {
            let message = "the system lacks descriptors, memory or space for a file that appends wait for; it is tried \
                           again: see the broker's log";
            Facts::new(&table::DISK_FULL, message)
        }
        Refusal::DiskFull { unit, free, needed } => {
            let message = format!("{free} {unit} are free on the disk and appends need {needed}; free some");
            Facts::new(&table::DISK_FULL, message).with(key::ACTUAL, free).with(key::LIMIT, needed)
        }
        Refusal::JournalFull { files, limit } => {
            let message = format!("{files} journal files wait to be flushed, appends may use {limit}; try again");
            Facts::new(&table::JOURNAL_FULL, message).with(key::ACTUAL, files).with(key::LIMIT, limit)
        }
        Refusal::Poisoned(poisoned) => {
            let message = format!("writes are off since {poisoned}; nothing of this was written; restart the broker");
            Facts::new(&table::LOG_POISONED, message).with(key::FILE, &poisoned.file)
        }
        Refusal::OutcomeUnknown(poisoned) => {
            let message = format!(
                "this may have been written or not: {poisoned}; restart the broker and retry with the same stamp"
            );
            Facts::new(&table::OUTCOME_UNKNOWN, message).with(key::FILE, &poisoned.file)
        }
        Refusal::Stopping => {
            Facts::new(&table::SHUTTING_DOWN, "the broker is stopping; nothing of this was written, try again")
        }
        other => unsupported(&other.to_string()),
    }
}

fn mismatch(checks: &[FailedCheck]) -> Facts {
    let listed = checks.iter().take(LISTED_MAX).map(mismatched).collect::<Vec<_>>().join("; ");
    let message = format!("expected offset does not hold: {listed}; read again and decide anew");
    let facts = Facts::new(&table::EXPECTED_OFFSET_MISMATCH, message).with(key::COUNT, checks.len());
    let facts = checks.first().into_iter().fold(facts, |facts, check| {
        facts
            .with(key::FIELD, format!("checks[{}]", check.index))
            .with(key::TOPIC, &check.topic)
            .with(key::PARTITION, check.partition)
            .with(key::EXPECTED, check.expected)
            .with(key::ACTUAL, check.actual)
    });
    violated(facts, checks)
}

/// An expected offset that does not hold, for people.
pub(super) fn mismatched(check: &FailedCheck) -> String {
    let FailedCheck { topic, partition, actual, expected, .. } = check;
    format!("{topic}/{partition} is at {actual}, not {expected}")
}

/// The same for programs, each one.
pub(super) fn violated(facts: Facts, checks: &[FailedCheck]) -> Facts {
    checks.iter().fold(facts, |facts, check| {
        let subject = format!("{}/{}", check.topic, check.partition);
        let found = format!("expected={} actual={}", check.expected, check.actual);
        facts.violating(table::EXPECTED_OFFSET_MISMATCH.reason, subject, found)
    })
}

fn too_large(what: Sized, batch: Option<usize>, limit: u64, actual: u64) -> Facts {
    let (row, field, words) = match what {
        Sized::BatchBytes => (&table::BATCH_TOO_LARGE, ".encoded.data", "bytes as sent"),
        Sized::DecodedBytes => (&table::BATCH_TOO_LARGE, ".encoded.decoded_bytes", "bytes decoded"),
        Sized::AppendBytes => (&table::APPEND_TOO_LARGE, "", "bytes"),
        Sized::FrameBytes => (&table::APPEND_TOO_LARGE, "", "bytes in the journal"),
        Sized::Parts => (&table::APPEND_TOO_LARGE, "", "parts, one for each partition of each batch"),
        Sized::RequestBytes => (&table::REQUEST_TOO_LARGE, "", "bytes in the journal"),
        Sized::Batches => (&table::APPEND_TOO_LARGE, "", "batches"),
        Sized::Records => (&table::APPEND_TOO_LARGE, "", "records"),
        Sized::Commits => (&table::APPEND_TOO_LARGE, "", "cursor commits"),
        Sized::CursorMetadata => (&table::APPEND_TOO_LARGE, "", "bytes of metadata in one of them"),
    };
    let whole = match what {
        Sized::Commits | Sized::CursorMetadata => "commits",
        Sized::RequestBytes => "request",
        _ => "batches",
    };
    let place = batch.map_or_else(|| whole.to_owned(), |batch| format!("batches[{batch}]{field}"));
    let message = format!("{place} has {actual} {words}, the limit is {limit}; split it");
    let facts = Facts::new(row, message).with(key::FIELD, place).with(key::LIMIT, limit).with(key::ACTUAL, actual);
    batch.iter().fold(facts, |facts, batch| facts.with(key::BATCH, batch))
}

fn undecodable(batch: usize, fault: &CodecFault) -> Facts {
    let place = format!("batches[{batch}].encoded.data");
    let facts = match fault {
        CodecFault::TooLarge { limit } => {
            let message = format!("{place} decodes to more than {limit} bytes; split it");
            Facts::new(&table::BATCH_TOO_LARGE, message).with(key::LIMIT, limit)
        }
        other => Facts::new(&table::BAD_ENCODING, format!("{place} does not decode: {other}; mend the encoder")),
    };
    facts.with(key::FIELD, place).with(key::BATCH, batch)
}

fn bad_record(batch: usize, fault: &RecordFault) -> Facts {
    let (row, index, field, bound) = match *fault {
        RecordFault::BadEncoding { .. } => (&table::BAD_ENCODING, None, "", None),
        RecordFault::BadUtf8 { index, field } => (&table::BAD_ENCODING, Some(index), field, None),
        RecordFault::RecordTooLarge { index, limit, actual } => {
            (&table::RECORD_TOO_LARGE, Some(index), "", Some((limit, actual)))
        }
        RecordFault::KeyTooLarge { index, limit, actual } => {
            (&table::RECORD_TOO_LARGE, Some(index), "key", Some((limit, actual)))
        }
        RecordFault::TooManyHeaders { index, limit, actual }
        | RecordFault::HeadersTooLarge { index, limit, actual } => {
            (&table::RECORD_TOO_LARGE, Some(index), "headers", Some((limit, actual)))
        }
        RecordFault::TombstoneWithoutKey { index } => (&table::FIELD_INVALID, Some(index), "key", None),
        RecordFault::TombstoneWithValue { index } => (&table::FIELD_INVALID, Some(index), "value", None),
        RecordFault::TooManyRecords { limit, actual } => {
            (&table::APPEND_TOO_LARGE, None, "", Some((limit as usize, actual as usize)))
        }
    };
    let record = index.map_or_else(String::new, |index| format!(".records[{index}]"));
    let dot = if field.is_empty() { "" } else { "." };
    let place = format!("batches[{batch}]{record}{dot}{field}");
    let facts = Facts::new(row, format!("{place}: {fault}")).with(key::FIELD, place).with(key::BATCH, batch);
    let facts = index.iter().fold(facts, |facts, index| facts.with(key::RECORD, index));
    bound.iter().fold(facts, |facts, (limit, actual)| facts.with(key::LIMIT, limit).with(key::ACTUAL, actual))
}
