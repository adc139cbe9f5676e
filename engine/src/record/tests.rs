//! Goal: what passes is what every protobuf library decodes, and every rule is named when it is broken. Method: sets
//! written by hand, field by field, and noise.

use bytes::Bytes;
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;

/// Appends a varint.
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field.
pub(crate) fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A `Record` message.
pub(crate) fn message(key: Option<&[u8]>, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(key) = key {
        field(&mut out, 1, key);
    }
    if !value.is_empty() {
        field(&mut out, 2, value);
    }
    out
}

/// A `RecordSet` of messages.
pub(crate) fn set(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        field(&mut out, 1, message);
    }
    out
}

fn check(messages: &[Vec<u8>], expected: Result<u32, RecordFault>) {
    let found = validate(&set(messages), &RecordLimits::default());
    assert_eq!(found.map(|counted| counted.records), expected);
}

fn full() -> Vec<u8> {
    let mut out = message(Some(b"key"), b"value");
    for (name, value) in [("trace", &b"\x00\xff"[..]), ("trace", b""), ("", b"x")] {
        let mut header = Vec::new();
        field(&mut header, 1, name.as_bytes());
        field(&mut header, 2, value);
        field(&mut out, 4, &header);
    }
    varint(&mut out, 5 << 3);
    varint(&mut out, (-5_i64).cast_unsigned());
    for (number, text) in (6..=12).zip(TEXT_NAMES) {
        field(&mut out, number, text.as_bytes());
    }
    out
}

#[test]
fn every_field_is_read() {
    let raw = full();
    let view = RecordView::parse(&raw).expect("well-formed");
    assert_eq!((view.key, view.value, view.tombstone), (Some(&b"key"[..]), &b"value"[..], false));
    assert_eq!((view.header_count, view.header_bytes, view.event_time_us), (3, 13, Some(-5)));
    let headers: Vec<_> = view.headers().collect();
    assert_eq!(headers, [("trace", &b"\x00\xff"[..]), ("trace", b""), ("", b"x")]);
    let texts = [Text::Id, Text::Type, Text::Source, Text::ContentType, Text::CorrelationId, Text::CausationId];
    assert!(texts.iter().zip(TEXT_NAMES).all(|(text, name)| view.text(*text) == name));
    assert_eq!(view.text(Text::Traceparent), "traceparent");
    check(&[raw], Ok(1));
}

#[test]
fn unknown_fields_pass_and_the_last_of_a_repeated_field_wins() {
    let mut raw = message(Some(b"first"), b"first");
    field(&mut raw, 13, b"reserved");
    field(&mut raw, 4_000, b"later");
    for (number, wire, bytes) in [(40_u64, 0_u64, &[1_u8][..]), (41, 1, &[0; 8]), (42, 5, &[0; 4])] {
        varint(&mut raw, number << 3 | wire);
        raw.extend_from_slice(bytes);
    }
    field(&mut raw, 1, b"last");
    field(&mut raw, 2, b"");
    let view = RecordView::parse(&raw).expect("well-formed");
    assert_eq!((view.key, view.value), (Some(&b"last"[..]), &b""[..]));
    check(&[raw, vec![]], Ok(2));
}

#[test]
fn what_is_not_protobuf_is_refused_where_it_is() {
    let bad = |at, cause| Err(RecordFault::BadEncoding { at, cause });
    for (record, at, cause) in [
        (vec![0x0b], 3, Broken::BadWireType),
        (vec![0x0c], 3, Broken::BadWireType),
        (vec![0x6b], 3, Broken::BadWireType),
        (vec![0x6f], 3, Broken::BadWireType),
        (vec![0x08, 1], 3, Broken::BadWireType),
        (vec![0x02, 0], 3, Broken::BadFieldNumber),
        (vec![0x0a], 3, Broken::Truncated),
        (vec![0x0a, 2, 1], 4, Broken::Truncated),
        (vec![0x80], 2, Broken::Truncated),
        (vec![0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], 3, Broken::BadVarint),
        (vec![0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 3, Broken::BadVarint),
        (vec![0x22, 2, 0x0a, 1], 6, Broken::Truncated),
        (vec![0x22, 2, 0x08, 1], 6, Broken::BadWireType),
    ] {
        check(&[record], bad(at, cause));
    }
    for (bytes, at) in [(&b"\x12\x00"[..], 0), (b"\x0a\x00\x00", 2), (b"{\"a\":1}", 0), (b"\x8a\x00\x00", 0)] {
        let found = validate(bytes, &RecordLimits::default());
        assert_eq!(found.map(|_| 0), bad(at, Broken::NotARecordSet));
    }
}

#[test]
fn a_set_that_ends_anywhere_but_between_records_is_refused() {
    let whole = set(&[full(), message(None, b"two")]);
    let ends: Vec<_> = split(&whole).expect("well-formed").iter().map(|range| range.end).collect();
    for end in 1..whole.len() {
        let found = validate(&whole[..end], &RecordLimits::default());
        assert_eq!(found.is_ok(), ends.contains(&end), "cut at {end}");
        assert_eq!(count(&whole[..end]).is_ok(), ends.contains(&end));
    }
    assert_eq!(validate(b"", &RecordLimits::default()), Ok(Counted { records: 0 }));
}

#[test]
fn every_rule_names_the_record_and_the_numbers() {
    let limits = RecordLimits::default();
    let good = message(None, b"");
    let exact = |bytes: usize| message(None, &vec![7; bytes - 4]);
    check(&[exact(1 << 20)], Ok(1));
    let large = RecordFault::RecordTooLarge { index: 1, limit: 1 << 20, actual: (1 << 20) + 1 };
    check(&[good.clone(), exact((1 << 20) + 1)], Err(large));
    check(&[message(Some(&[1; 1_024]), b"")], Ok(1));
    let key = RecordFault::KeyTooLarge { index: 0, limit: 1_024, actual: 1_025 };
    check(&[message(Some(&[1; 1_025]), b"")], Err(key));
    let headers = |count: usize, bytes: usize| {
        let (mut header, mut out) = (Vec::new(), Vec::new());
        field(&mut header, 2, &vec![0; bytes]);
        (0..count).for_each(|_| field(&mut out, 4, &header));
        out
    };
    check(&[headers(64, 512)], Ok(1));
    let many = RecordFault::TooManyHeaders { index: 0, limit: 64, actual: 65 };
    check(&[headers(65, 0)], Err(many));
    let wide = RecordFault::HeadersTooLarge { index: 0, limit: 32_768, actual: 64 * 513 };
    check(&[headers(64, 513)], Err(wide));
    let tombstone = |key, value| [message(key, value), vec![3 << 3, 1]].concat();
    check(&[tombstone(Some(&b""[..]), b"")], Ok(1));
    check(&[good.clone(), tombstone(None, b"")], Err(RecordFault::TombstoneWithoutKey { index: 1 }));
    check(&[tombstone(Some(b"k"), b"v")], Err(RecordFault::TombstoneWithValue { index: 0 }));
    let (mut text, mut named, mut header) = (Vec::new(), Vec::new(), Vec::new());
    field(&mut text, 9, b"\xff");
    field(&mut header, 1, b"\xc3\x28");
    field(&mut named, 4, &header);
    check(&[good.clone(), text], Err(RecordFault::BadUtf8 { index: 1, field: "content_type" }));
    check(&[named], Err(RecordFault::BadUtf8 { index: 0, field: "headers.name" }));
    let few = RecordLimits { records: 2, ..limits };
    let fault = validate(&set(&[good.clone(), good.clone(), good.clone()]), &few);
    assert_eq!(fault, Err(RecordFault::TooManyRecords { limit: 2, actual: 3 }));
}

#[test]
fn a_set_is_cut_between_records() {
    let whole = set(&[full(), message(None, b"two"), message(Some(b"k"), &[1; 300])]);
    let ranges = split(&whole).expect("well-formed");
    assert_eq!((count(&whole), ranges.len()), (Ok(3), 3));
    for (index, range) in (0..).zip(&ranges) {
        assert_eq!(position_of(&whole, index), Ok(range.start));
        assert_eq!(count(&whole[range.start..]), Ok(3 - index));
        assert_eq!(count(&whole[range.clone()]), Ok(1));
    }
    assert_eq!(position_of(&whole, 3), Ok(whole.len()));
    assert_eq!(position_of(&whole, 9), Ok(whole.len()));
}

#[test]
fn keyed_records_go_by_their_key_and_keyless_ones_together() {
    let keys: Vec<Vec<u8>> = (0..50_u8).map(|key| vec![b'k', key % 20]).collect();
    let mut messages: Vec<_> = keys.iter().map(|key| message(Some(key), b"v")).collect();
    let loose = [message(None, b"a"), message(None, b""), message(None, b"c")];
    messages.splice(10..10, loose.iter().cloned());
    let whole = Bytes::from(set(&messages));
    let routed = route(&whole, 8).expect("well-formed");
    assert_eq!(routed, route(&whole.to_vec().into(), 8).expect("well-formed"), "a retry goes the same way");
    let together = (xxh3_64(&loose.concat()) % 8) as u32;
    let mut seen = Vec::new();
    for part in &routed {
        assert!(part.indexes.is_sorted());
        let found: Vec<_> = RecordSet::new(&part.set).iter().map(|record| record.expect("a set").1).collect();
        assert_eq!(found.len(), part.indexes.len());
        for (view, index) in found.iter().zip(&part.indexes) {
            assert_eq!(view.raw, &messages[*index as usize][..]);
            assert_eq!(part.partition, view.key.map_or(together, |key| (xxh3_64(key) % 8) as u32));
            seen.push(*index);
        }
    }
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..53), "every record goes to one place");
    assert!(routed.is_sorted_by_key(|part| part.partition));
}

#[test]
fn records_of_one_partition_are_not_copied() {
    let whole = Bytes::from(set(&[message(None, b"a"), message(None, b"b")]));
    let routed = route(&whole, 8).expect("well-formed");
    assert_eq!((routed.len(), routed[0].set.as_ptr()), (1, whole.as_ptr()));
    assert_eq!(route(&Bytes::new(), 8), Ok(vec![]));
}

proptest! {
    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..64)) {
        let framed = set(std::slice::from_ref(&noise));
        for bytes in [&noise, &framed] {
            let passed = validate(bytes, &RecordLimits::default()).is_ok();
            if passed {
                let walked: Result<Vec<_>, _> = RecordSet::new(bytes).iter().collect();
                prop_assert_eq!(walked.map(|records| records.len() as u32), count(bytes));
                prop_assert!(route(&bytes.clone().into(), 3).is_ok());
            }
        }
    }
}
