//! Goal: what is not set or not known is refused with the path of its field, and all else arrives as it was sent.

use tillroll_proto::reason;

use super::*;

/// What becomes of a request of the contract, as it comes on the wire.
fn append(request: &v1::AppendRequest) -> Result<Append, Facts> {
    received(request.encode_to_vec().into())
}

fn batch() -> v1::AppendBatch {
    let record = v1::Record { value: "v".into(), ..v1::Record::default() };
    let set = v1::RecordSet { records: vec![record] };
    v1::AppendBatch {
        topic: "orders".into(),
        content: Some(v1::append_batch::Content::Records(set)),
        ..v1::AppendBatch::default()
    }
}

fn encoded(codec: i32) -> v1::AppendBatch {
    let encoded = v1::EncodedBatch { codec, ..v1::EncodedBatch::default() };
    v1::AppendBatch { content: Some(v1::append_batch::Content::Encoded(encoded)), ..batch() }
}

fn request(batches: Vec<v1::AppendBatch>) -> v1::AppendRequest {
    v1::AppendRequest { batches, ..v1::AppendRequest::default() }
}

fn fact<'a>(facts: &'a Facts, name: &str) -> Option<&'a str> {
    facts.metadata.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

#[test]
fn what_is_not_set_or_not_known_is_refused_with_its_field() {
    let count = tillroll_engine::limits::APPEND_BATCHES_MAX + 1;
    let plain = || request(vec![batch()]);
    let none = v1::AppendBatch { content: None, ..batch() };
    let cases = [
        (v1::AppendRequest { needs: vec!["time.travel".into()], ..plain() }, reason::UNSUPPORTED_FEATURE, None),
        (request(vec![batch(), none]), reason::FIELD_REQUIRED, Some("batches[1].content")),
        (request(vec![encoded(0)]), reason::FIELD_REQUIRED, Some("batches[0].encoded.codec")),
        (request(vec![encoded(99)]), reason::FIELD_INVALID, Some("batches[0].encoded.codec")),
        (
            v1::AppendRequest { checks: vec![v1::Check { kind: None }], ..plain() },
            reason::UNKNOWN_CHECK,
            Some("checks[0].kind"),
        ),
        (
            v1::AppendRequest { checks: vec![v1::Check { kind: None }; count], ..plain() },
            reason::APPEND_TOO_LARGE,
            Some("checks"),
        ),
        (
            v1::AppendRequest { commits: vec![v1::CursorCommit::default(); count], ..plain() },
            reason::APPEND_TOO_LARGE,
            Some("commits"),
        ),
    ];
    for (request, reason, field) in cases {
        let facts = append(&request).expect_err(reason);
        assert_eq!(facts.reason(), reason, "{}", facts.message);
        assert_eq!(fact(&facts, key::FIELD), field, "{}", facts.message);
    }
}

#[test]
fn too_many_checks_are_told_with_limit_and_number() {
    let checks = vec![v1::Check { kind: None }; tillroll_engine::limits::APPEND_BATCHES_MAX + 1];
    let facts = append(&v1::AppendRequest { checks, ..request(vec![batch()]) }).expect_err("too many");
    assert_eq!(fact(&facts, key::LIMIT), Some("1024"));
    assert_eq!(fact(&facts, key::ACTUAL), Some("1025"));
}

#[test]
fn an_append_arrives_as_it_was_sent() {
    let stamp = v1::ProducerStamp { producer_id: "till-1".into(), epoch: 2, sequence: 3, answered_below: 1 };
    let expected = v1::ExpectedNextOffset { topic: "orders".into(), partition: 1, next_offset: 7 };
    let sent = v1::AppendRequest {
        producer: Some(stamp),
        checks: vec![v1::Check { kind: Some(v1::check::Kind::NextOffset(expected)) }],
        needs: FEATURES.iter().map(|feature| (*feature).to_owned()).collect(),
        ..request(vec![v1::AppendBatch { partition: Some(1), ..batch() }, encoded(v1::Codec::Lz4 as i32)])
    };
    let append = append(&sent).expect("all of it is known");
    assert_eq!(append.batches[0].partition, Some(Partition(1)));
    assert_eq!(append.batches[0].topic_id, None);
    assert!(matches!(&append.batches[1].content, Content::Encoded(batch) if batch.codec == Codec::Lz4));
    let stamp = append.stamp.expect("as sent");
    assert_eq!((stamp.epoch, stamp.sequence, stamp.answered_below), (2, 3, 1));
    assert!(matches!(&append.checks[0], Check::NextOffset { next_offset: Offset(7), .. }));
}

#[test]
fn a_start_is_what_it_says_or_refused() {
    use v1::start_position::At;
    let of = |at| start(Some(v1::StartPosition { at }), "start");
    assert_eq!(of(Some(At::Earliest(true))), Ok(Start::Earliest));
    assert_eq!(of(Some(At::Latest(true))), Ok(Start::Latest));
    assert_eq!(of(Some(At::Offset(5))), Ok(Start::Offset(Offset(5))));
    assert_eq!(of(Some(At::AppendTimeUs(5))), Ok(Start::AppendTime(5)));
    assert_eq!(of(Some(At::LastRecords(5))), Ok(Start::Last(5)));
    for (at, reason) in [
        (None, reason::FIELD_REQUIRED),
        (Some(At::Earliest(false)), reason::FIELD_INVALID),
        (Some(At::Latest(false)), reason::FIELD_INVALID),
        (Some(At::Group("billing".into())), reason::FIELD_INVALID),
    ] {
        assert_eq!(of(at).expect_err(reason).reason(), reason);
    }
}

#[test]
fn codecs_keep_their_numbers_both_ways() {
    for known in [Codec::None, Codec::Lz4, Codec::Zstd] {
        assert_eq!(codec(codec_number(known), "codec"), Ok(Some(known)));
    }
    assert_eq!(codec(0, "codec"), Ok(None));
    assert_eq!(codec(-1, "codec").expect_err("no codec").reason(), reason::FIELD_INVALID);
}

#[test]
fn a_topic_that_does_not_say_has_the_defaults() {
    assert_eq!(topic_config(None), Ok(TopicConfig::default()));
    let asked = v1::TopicConfig { partitions: Some(3), ..v1::TopicConfig::default() };
    assert_eq!(topic_config(Some(asked)), Ok(TopicConfig { partitions: 3, ..TopicConfig::default() }));
    let unknown = v1::TopicConfig { codec: Some(99), ..v1::TopicConfig::default() };
    assert_eq!(topic_config(Some(unknown)).expect_err("no codec").reason(), reason::FIELD_INVALID);
}
