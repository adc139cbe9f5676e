//! Goal: every refusal has its row, says its facts under the documented keys, and fits into the headers it travels in.

use std::collections::BTreeSet;

use tillroll_engine::{
    codec::{Codec, CodecFault},
    error::{CursorFault, CursorPlace, CursorWhy, Difference, FailedCheck, ReadFault, Refusal, Sized},
    id::{Offset, TopicId},
    poison::Poisoned,
    record::RecordFault,
};
use tonic_types::RpcStatusExt;

use super::*;

/// What some clients take of headers in all.
const HEADERS_BYTES_MAX: usize = 8 << 10;

fn poisoned() -> Poisoned {
    Poisoned { action: "sync", file: "journal/1".into(), cause: "input/output error".into() }
}

fn check(index: usize) -> FailedCheck {
    let (expected, actual) = (Offset(1), Offset(2));
    FailedCheck { index, topic: "orders".into(), partition: Partition(3), expected, actual }
}

/// What is refused, its reason, and some facts that must be told.
type Case<T> = (T, &'static str, Vec<(&'static str, &'static str)>);

const ORDERS: (&str, &str) = (key::TOPIC, "orders");
const TILL: (&str, &str) = (key::PRODUCER, "till-1");
const BOUNDS: [(&str, &str); 2] = [(key::LIMIT, "10"), (key::ACTUAL, "11")];

fn of_names() -> Vec<Case<Refusal>> {
    let topic = String::from("orders");
    vec![
        (
            Refusal::TopicNotFound { topic: topic.clone(), similar: Some("order".into()) },
            reason::TOPIC_NOT_FOUND,
            vec![ORDERS, (key::SIMILAR, "order")],
        ),
        (
            Refusal::PartitionNotFound { topic: topic.clone(), partition: Partition(9), count: 8 },
            reason::PARTITION_NOT_FOUND,
            vec![ORDERS, (key::PARTITION, "9"), (key::COUNT, "8")],
        ),
        (
            Refusal::TopicRecreated { topic: topic.clone(), pinned: "1".into(), current: Some(TopicId(2)) },
            reason::TOPIC_RECREATED,
            vec![ORDERS, (key::TOPIC_ID, "0000000000000002")],
        ),
        (
            Refusal::TopicExists {
                topic,
                differences: vec![Difference { field: "partitions", has: "8".into(), asked: "4".into() }],
            },
            reason::TOPIC_EXISTS,
            vec![ORDERS, (key::DIFFERENCES, "partitions is 8, asked 4")],
        ),
        (
            Refusal::GroupNotFound { group: "g".into(), similar: Some("h".into()) },
            reason::GROUP_NOT_FOUND,
            vec![(key::GROUP, "g"), (key::SIMILAR, "h")],
        ),
        (
            Refusal::NameInvalid { field: "name", name: "A".into() },
            reason::NAME_INVALID,
            vec![(key::FIELD, "name"), (key::NAME, "A")],
        ),
        (
            Refusal::SettingOutOfRange { field: "partitions", min: 1, max: 10, actual: 11 },
            reason::FIELD_INVALID,
            vec![(key::FIELD, "partitions"), BOUNDS[0], BOUNDS[1]],
        ),
    ]
}

fn of_batches() -> Vec<Case<Refusal>> {
    let undecodable = |fault| Refusal::Undecodable { batch: 1, fault };
    let large = |what, batch| Refusal::TooLarge { what, batch, limit: 10, actual: 11 };
    vec![
        (large(Sized::BatchBytes, Some(1)), reason::BATCH_TOO_LARGE, vec![(key::BATCH, "1"), BOUNDS[0], BOUNDS[1]]),
        (large(Sized::DecodedBytes, Some(1)), reason::BATCH_TOO_LARGE, BOUNDS.to_vec()),
        (large(Sized::AppendBytes, None), reason::APPEND_TOO_LARGE, BOUNDS.to_vec()),
        (large(Sized::FrameBytes, None), reason::APPEND_TOO_LARGE, BOUNDS.to_vec()),
        (large(Sized::Parts, None), reason::APPEND_TOO_LARGE, BOUNDS.to_vec()),
        (large(Sized::RequestBytes, None), reason::REQUEST_TOO_LARGE, BOUNDS.to_vec()),
        (large(Sized::Batches, None), reason::APPEND_TOO_LARGE, vec![(key::FIELD, "batches")]),
        (large(Sized::Records, None), reason::APPEND_TOO_LARGE, BOUNDS.to_vec()),
        (Refusal::Empty { batch: Some(1) }, reason::APPEND_EMPTY, vec![(key::BATCH, "1")]),
        (Refusal::Empty { batch: None }, reason::APPEND_EMPTY, vec![(key::FIELD, "batches")]),
        (
            Refusal::BadCrc { batch: 1, expected: 5, actual: 6 },
            reason::BAD_CRC,
            vec![(key::FIELD, "batches[1].encoded.crc32"), (key::EXPECTED, "5"), (key::ACTUAL, "6")],
        ),
        (
            Refusal::WrongCount { batch: 1, field: "record_count", expected: 5, actual: 6 },
            reason::BAD_ENCODING,
            vec![(key::FIELD, "batches[1].encoded.record_count"), (key::EXPECTED, "5"), (key::ACTUAL, "6")],
        ),
        (undecodable(CodecFault::TooLarge { limit: 10 }), reason::BATCH_TOO_LARGE, vec![(key::LIMIT, "10")]),
        (
            undecodable(CodecFault::Trailing { codec: Codec::Lz4, bytes: 3 }),
            reason::BAD_ENCODING,
            vec![(key::FIELD, "batches[1].encoded.data"), (key::BATCH, "1")],
        ),
        (
            Refusal::PartitionRequired { batch: 1 },
            reason::FIELD_REQUIRED,
            vec![(key::FIELD, "batches[1].partition"), (key::BATCH, "1")],
        ),
    ]
}

fn of_records() -> Vec<Case<Refusal>> {
    let bad = |fault| Refusal::BadRecord { batch: 1, fault };
    vec![
        (
            bad(RecordFault::RecordTooLarge { index: 2, limit: 10, actual: 11 }),
            reason::RECORD_TOO_LARGE,
            vec![(key::FIELD, "batches[1].records[2]"), (key::RECORD, "2"), BOUNDS[0], BOUNDS[1]],
        ),
        (
            bad(RecordFault::KeyTooLarge { index: 2, limit: 10, actual: 11 }),
            reason::RECORD_TOO_LARGE,
            vec![(key::FIELD, "batches[1].records[2].key")],
        ),
        (
            bad(RecordFault::TooManyHeaders { index: 2, limit: 10, actual: 11 }),
            reason::RECORD_TOO_LARGE,
            vec![(key::FIELD, "batches[1].records[2].headers"), BOUNDS[0], BOUNDS[1]],
        ),
        (
            bad(RecordFault::BadUtf8 { index: 2, field: "type" }),
            reason::BAD_ENCODING,
            vec![(key::FIELD, "batches[1].records[2].type"), (key::RECORD, "2")],
        ),
        (
            bad(RecordFault::TombstoneWithValue { index: 2 }),
            reason::FIELD_INVALID,
            vec![(key::FIELD, "batches[1].records[2].value")],
        ),
        (
            bad(RecordFault::HeadersTooLarge { index: 2, limit: 10, actual: 11 }),
            reason::RECORD_TOO_LARGE,
            vec![(key::FIELD, "batches[1].records[2].headers")],
        ),
        (
            bad(RecordFault::TombstoneWithoutKey { index: 2 }),
            reason::FIELD_INVALID,
            vec![(key::FIELD, "batches[1].records[2].key")],
        ),
        (bad(RecordFault::TooManyRecords { limit: 10, actual: 11 }), reason::APPEND_TOO_LARGE, BOUNDS.to_vec()),
    ]
}

fn of_producers() -> Vec<Case<Refusal>> {
    let producer = String::from("till-1");
    vec![
        (
            Refusal::ExpectedOffsetMismatch { checks: vec![check(4)] },
            reason::EXPECTED_OFFSET_MISMATCH,
            vec![(key::FIELD, "checks[4]"), ORDERS, (key::PARTITION, "3"), (key::EXPECTED, "1"), (key::ACTUAL, "2")],
        ),
        (Refusal::ProducerUnknown { producer: producer.clone() }, reason::PRODUCER_UNKNOWN, vec![TILL]),
        (
            Refusal::ProducerFenced { producer: producer.clone(), epoch: 1, current: 2 },
            reason::PRODUCER_FENCED,
            vec![TILL, (key::EPOCH, "2"), (key::CURRENT, "2")],
        ),
        (
            Refusal::SequenceGap { producer: producer.clone(), sequence: 9, next: 7 },
            reason::SEQUENCE_GAP,
            vec![TILL, (key::SEQUENCE, "9"), (key::NEXT, "7")],
        ),
        (
            Refusal::SequenceForgotten { producer: producer.clone(), sequence: 1, oldest: 7 },
            reason::SEQUENCE_FORGOTTEN,
            vec![TILL, (key::SEQUENCE, "1"), (key::OLDEST, "7")],
        ),
        (
            Refusal::SequenceReused { producer: producer.clone(), sequence: 1 },
            reason::SEQUENCE_REUSED,
            vec![TILL, (key::SEQUENCE, "1")],
        ),
    ]
}

fn of_groups() -> Vec<Case<Refusal>> {
    let mailer = (key::GROUP, "mailer");
    let fault = |place, why| CursorFault {
        place,
        group: "mailer".into(),
        topic: "orders".into(),
        partition: Partition(3),
        why,
    };
    let fenced = CursorWhy::Fenced { epoch: 1, current: 2, holder: Some("m-1".into()) };
    let faults = vec![fault(CursorPlace::Check(4), fenced.clone()), fault(CursorPlace::Commit(0), fenced)];
    vec![
        (
            Refusal::CursorRefused { faults, checks: Vec::new() },
            reason::ASSIGNMENT_FENCED,
            vec![
                mailer,
                ORDERS,
                (key::PARTITION, "3"),
                (key::FIELD, "checks[4]"),
                (key::COUNT, "2"),
                (key::EPOCH, "1"),
                (key::CURRENT, "2"),
                (key::HOLDER, "m-1"),
            ],
        ),
        (
            Refusal::GroupHasMembers { group: "mailer".into(), members: vec!["m-0".into(), "m-1".into()] },
            reason::GROUP_HAS_MEMBERS,
            vec![mailer, (key::HOLDER, "m-0 m-1"), (key::COUNT, "2")],
        ),
        (Refusal::GroupsFull { limit: 10 }, reason::GROUPS_FULL, vec![BOUNDS[0]]),
        (Refusal::GroupFull { group: "mailer".into(), limit: 10 }, reason::GROUPS_FULL, vec![mailer, BOUNDS[0]]),
    ]
}

fn of_the_log() -> Vec<Case<Refusal>> {
    vec![
        (Refusal::ProducersFull { limit: 10 }, reason::PRODUCERS_FULL, vec![BOUNDS[0]]),
        (Refusal::TopicsFull { limit: 10 }, reason::TOPICS_FULL, vec![BOUNDS[0]]),
        (
            Refusal::TooManyInFlight { producer: "till-1".into(), limit: 10 },
            reason::TOO_MANY_IN_FLIGHT,
            vec![TILL, BOUNDS[0]],
        ),
        (Refusal::Overloaded { limit_bytes: 10 }, reason::TOO_MANY_IN_FLIGHT, vec![BOUNDS[0]]),
        (
            Refusal::DiskFull { unit: "bytes", free: 11, needed: 10 },
            reason::DISK_FULL,
            vec![(key::ACTUAL, "11"), (key::LIMIT, "10")],
        ),
        (Refusal::JournalFull { files: 11, limit: 10 }, reason::JOURNAL_FULL, BOUNDS.to_vec()),
        (Refusal::Poisoned(poisoned()), reason::LOG_POISONED, vec![(key::FILE, "journal/1")]),
        (Refusal::OutcomeUnknown(poisoned()), reason::OUTCOME_UNKNOWN, vec![(key::FILE, "journal/1")]),
        (Refusal::Stopping, reason::SHUTTING_DOWN, vec![]),
    ]
}

fn faults() -> Vec<Case<ReadFault>> {
    let place = [(key::TOPIC, "orders"), (key::PARTITION, "3")];
    let file = (key::FILE, "lanes/1");
    let with = |facts: &[(&'static str, &'static str)]| [&place[..], facts].concat();
    vec![
        (
            ReadFault::TopicNotFound { topic: TopicId(2) },
            reason::TOPIC_NOT_FOUND,
            vec![place[0], (key::TOPIC_ID, "0000000000000002")],
        ),
        (
            ReadFault::PartitionNotFound { partition: Partition(3), count: 2 },
            reason::PARTITION_NOT_FOUND,
            with(&[(key::COUNT, "2")]),
        ),
        (
            ReadFault::BelowHead { offset: Offset(1), head: Offset(2) },
            reason::OFFSET_BELOW_HEAD,
            with(&[(key::OFFSET, "1"), (key::HEAD, "2")]),
        ),
        (
            ReadFault::BeyondEnd { offset: Offset(9), end: Offset(2) },
            reason::OFFSET_BEYOND_END,
            with(&[(key::OFFSET, "9"), (key::END, "2")]),
        ),
        (
            ReadFault::Damaged {
                from: Offset(1),
                to: Offset(2),
                file: file.1.into(),
                position: 4_096,
                fault: "crc".into(),
            },
            reason::DATA_DAMAGED,
            with(&[(key::FROM, "1"), (key::TO, "2"), file]),
        ),
        (ReadFault::Poisoned(poisoned()), reason::LOG_POISONED, with(&[(key::FILE, "journal/1")])),
        (ReadFault::Io { file: file.1.into(), cause: "input/output error".into() }, reason::READ_FAILED, with(&[file])),
    ]
}

fn assert_facts(facts: &Facts, reason: &str, told: &[(&'static str, &str)]) {
    assert_eq!(facts.reason(), reason, "{}", facts.message);
    for (name, value) in told {
        let found = facts.metadata.iter().find(|(known, _)| known == name);
        assert_eq!(found.map(|(_, value)| value.as_str()), Some(*value), "{reason} {name}: {}", facts.message);
    }
    assert!(headers_bytes(facts) <= HEADERS_BYTES_MAX, "{reason}");
}

fn headers_bytes(facts: &Facts) -> usize {
    let mut headers = http::HeaderMap::new();
    facts.status().add_header(&mut headers).expect("a header");
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

#[test]
fn every_refused_write_has_its_reason_and_its_facts() {
    let all = [of_names(), of_batches(), of_records(), of_producers(), of_groups(), of_the_log()];
    for (refusal, reason, told) in all.into_iter().flatten() {
        assert_facts(&of_refusal(&refusal), reason, &told);
    }
}

#[test]
fn every_unanswered_read_has_its_reason_its_place_and_its_facts() {
    for (fault, reason, told) in faults() {
        assert_facts(&of_fault(&fault).at("orders", Some(Partition(3))), reason, &told);
    }
}

#[test]
fn the_table_has_each_reason_once_and_only_those_of_the_contract() {
    let rows: BTreeSet<&str> = table::ALL.iter().map(|row| row.reason).collect();
    assert_eq!(rows.len(), table::ALL.len());
    let known: BTreeSet<&str> = reason::ALL.iter().copied().collect();
    assert_eq!(rows, known);
}

#[test]
fn a_status_says_reason_domain_field_and_when_to_try_again() {
    let status = bad_field("heartbeat_ms", "heartbeat_ms is wrong").status();
    let details = status.get_error_details();
    let info = details.error_info().expect("always");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason::FIELD_INVALID, reason::DOMAIN));
    let violations = &details.bad_request().expect("a field").field_violations;
    let found: Vec<_> = violations.iter().map(|one| (one.field.as_str(), one.description.as_str())).collect();
    assert_eq!(found, [("heartbeat_ms", "heartbeat_ms is wrong")]);
    assert!(details.retry_info().is_none());
    let busy = of_refusal(&Refusal::Overloaded { limit_bytes: 1 }).status();
    assert!(busy.get_error_details().retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
}

#[test]
fn a_message_on_a_stream_says_the_same_as_a_status() {
    let facts = unsupported("topic.update");
    let (status, message) = (facts.status(), facts.message_status());
    assert_eq!((message.code, message.message.as_str()), (status.code() as i32, status.message()));
    let told = |details: ErrorDetails| details.error_info().map(|info| (info.reason.clone(), info.metadata.clone()));
    assert_eq!(told(message.get_error_details()), told(status.get_error_details()));
}

#[test]
fn every_failing_check_is_told_to_programs() {
    let checks: Vec<FailedCheck> = (0..5).map(check).collect();
    let status = of_refusal(&Refusal::ExpectedOffsetMismatch { checks }).status();
    let details = status.get_error_details();
    let violations = &details.precondition_failure().expect("checks").violations;
    assert_eq!(violations.len(), 5);
    for one in violations {
        assert_eq!(one.r#type, reason::EXPECTED_OFFSET_MISMATCH);
        assert_eq!((one.subject.as_str(), one.description.as_str()), ("orders/3", "expected=1 actual=2"));
    }
    assert_eq!(details.error_info().and_then(|info| info.metadata.get(key::COUNT)).map(String::as_str), Some("5"));
}

#[test]
fn a_violation_bears_the_reason_that_it_would_be_refused_for_alone() {
    let fault = |index, why| CursorFault {
        place: CursorPlace::Commit(index),
        group: "mailer".into(),
        topic: "orders".into(),
        partition: Partition(3),
        why,
    };
    let (current, asked) = (Offset(7), Offset(6));
    let faults = vec![fault(1, CursorWhy::EpochRequired), fault(0, CursorWhy::Backwards { asked, current })];
    let status = of_refusal(&Refusal::CursorRefused { faults, checks: vec![check(4)] }).status();
    let details = status.get_error_details();
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(reason::FIELD_REQUIRED));
    let violations = &details.precondition_failure().expect("all of them").violations;
    let told: Vec<_> = violations.iter().map(|one| (one.r#type.as_str(), one.subject.as_str())).collect();
    let expected = [
        (reason::FIELD_REQUIRED, "commits[1]"),
        (reason::CURSOR_BACKWARDS, "commits[0]"),
        (reason::EXPECTED_OFFSET_MISMATCH, "orders/3"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn whatever_a_client_sends_its_refusal_fits_into_the_headers() {
    let long = "\"é".repeat(1 << 20);
    let checks = (0..1_024).map(|index| FailedCheck { topic: "é".repeat(200), ..check(index) }).collect();
    let all = [
        of_refusal(&Refusal::NameInvalid { field: "name", name: long.clone() }),
        of_refusal(&Refusal::TopicNotFound { topic: long.clone(), similar: Some("orders".into()) }),
        of_refusal(&Refusal::ProducerUnknown { producer: long.clone() }),
        of_refusal(&Refusal::TopicRecreated { topic: "orders".into(), pinned: long.clone(), current: None }),
        of_refusal(&Refusal::ExpectedOffsetMismatch { checks }),
        no_group(&long, Some(&long)),
        unsupported(&long),
        bad_field("topic_id", long.clone()),
        of_transport(&Status::unimplemented(long.clone()), &long).expect("ours now"),
    ];
    for facts in all {
        assert!(facts.message.len() <= MESSAGE_BYTES_MAX, "{}", facts.reason());
        assert!(facts.metadata.iter().all(|(_, value)| value.len() <= VALUE_BYTES_MAX), "{}", facts.reason());
        assert!(headers_bytes(&facts) <= HEADERS_BYTES_MAX, "{} {}", facts.reason(), headers_bytes(&facts));
    }
}

#[test]
fn a_long_name_leaves_the_next_step_readable() {
    let facts = of_refusal(&Refusal::TopicNotFound { topic: "x".repeat(5_000), similar: None });
    assert!(facts.message.ends_with("create it with CreateTopic"), "{}", facts.message);
}
