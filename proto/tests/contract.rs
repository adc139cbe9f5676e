//! The contract as others see it: its descriptors name every service and its
//! imports, a message survives the wire, and each reason has one spelling.

use bytes::Bytes;
use prost::Message as _;
use tillroll_proto::{FILE_DESCRIPTOR_SET, reason, v1};

fn descriptors() -> prost_types::FileDescriptorSet {
    prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("the build encoded it")
}

#[test]
fn descriptors_list_every_service_and_import() {
    let set = descriptors();
    let services: Vec<String> =
        set.file.iter().flat_map(|file| file.service.iter().map(|service| service.name().to_owned())).collect();
    for service in ["LogService", "TopicService", "GroupService", "OperatorService"] {
        assert!(services.iter().any(|name| name == service), "{service} is missing: {services:?}");
    }
    let files: Vec<&str> = set.file.iter().map(prost_types::FileDescriptorProto::name).collect();
    for file in ["google/rpc/status.proto", "google/protobuf/any.proto"] {
        assert!(files.contains(&file), "{file} is missing: {files:?}");
    }
}

#[test]
fn descriptors_carry_no_comments() {
    assert!(descriptors().file.iter().all(|file| file.source_code_info.is_none()));
}

#[test]
fn an_append_survives_the_wire() {
    let record = v1::Record {
        key: Some(Bytes::new()),
        value: Bytes::from_static(b"{\"total\":1999}"),
        headers: vec![v1::Header { name: "shop".into(), value: Bytes::from_static(b"7") }],
        event_time_us: Some(-1),
        id: "orders.csv#1".into(),
        ..v1::Record::default()
    };
    let request = v1::AppendRequest {
        batches: vec![v1::AppendBatch {
            topic: "orders".into(),
            partition: Some(0),
            content: Some(v1::append_batch::Content::Records(v1::RecordSet { records: vec![record] })),
            topic_id: String::new(),
        }],
        producer: Some(v1::ProducerStamp { sequence: 1, ..v1::ProducerStamp::default() }),
        ..v1::AppendRequest::default()
    };
    let wire = Bytes::from(request.encode_to_vec());
    assert_eq!(v1::AppendRequest::decode(wire).expect("it was just encoded"), request);
}

#[test]
fn a_refusal_in_a_stream_is_the_status_of_the_error_model() {
    let refused = tonic_types::pb::Status { code: 5, message: "gone".into(), details: vec![] };
    let outcome = v1::AppendOutcome { append_id: 1, result: Some(v1::append_outcome::Result::Refused(refused)) };
    let wire = outcome.encode_to_vec();
    assert_eq!(v1::AppendOutcome::decode(wire.as_slice()).expect("it was just encoded"), outcome);
}

#[test]
fn reasons_are_distinct_and_spelled_in_capitals() {
    let mut seen = std::collections::BTreeSet::new();
    for reason in reason::ALL {
        assert!(seen.insert(reason), "{reason} stands twice");
        assert!(reason.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{reason}");
    }
}
