//! Goal: whatever the limits, responses hold each wanted record once, in order, and none is larger than asked.

use std::collections::BTreeMap;

use bytes::Bytes;
use tillroll_engine::{
    codec::{Codec, compress},
    id::{Lane, Partition, TopicId},
};
use tillroll_proto::{
    reason,
    reason::key,
    v1::{ReadResponse, read_response::Event},
};

use super::{super::plan::Limit, *};

fn order(is_encoded: bool, bytes: usize) -> Order {
    let limit = Limit { bytes, is_hard: true };
    Order { topic: "orders".into(), topic_id: TopicId(7).hex(), is_encoded, key: None, limit }
}

fn cursor(next: u64) -> Cursor {
    Cursor { lane: Lane { topic: TopicId(7), partition: Partition(3) }, next: Offset(next), end: Offset(u64::MAX) }
}

fn value(offset: u64) -> Bytes {
    vec![offset as u8; (offset as usize * 7) % 40].into()
}

/// Every third record has the key `k`.
fn record(offset: u64) -> v1::Record {
    let key = offset.is_multiple_of(3).then(|| Bytes::from_static(b"k"));
    v1::Record { key, value: value(offset), ..v1::Record::default() }
}

fn chunk(base: u64, end: u64, codec: Codec) -> Chunk {
    let set = v1::RecordSet { records: (base..end).map(record).collect() }.encode_to_vec();
    let record_count = (end - base) as u32;
    let data: Bytes = if codec == Codec::None { set.clone().into() } else { compress(codec, &set).into() };
    let (decoded_bytes, crc32) = (set.len() as u32, crc32fast::hash(&data));
    let batch = Batch { codec, record_count, decoded_bytes, crc32, data };
    let times = vec![TimeRun { record_count, append_time_us: base.cast_signed() }];
    let kept_bytes = batch.data.len();
    Chunk { base: Offset(base), end: Offset(end), batch, times, kept_bytes }
}

fn chunks() -> Vec<Chunk> {
    let bounds = [(0, 5, Codec::Lz4), (5, 6, Codec::None), (6, 7, Codec::None), (7, 30, Codec::Zstd)];
    bounds.iter().map(|&(base, end, codec)| chunk(base, end, codec)).collect()
}

fn size(batch: &v1::Batch) -> usize {
    ReadResponse { event: Some(Event::Batch(batch.clone())) }.encoded_len()
}

/// The records of batches in either form, by offset.
fn found(batches: &[v1::Batch]) -> BTreeMap<u64, v1::Record> {
    let mut found = BTreeMap::new();
    for batch in batches {
        for record in &batch.records {
            assert!(found.insert(record.offset, record.record.clone().expect("set")).is_none());
            assert!(record.offset < batch.next_offset);
        }
        let Some(range) = &batch.encoded else { continue };
        let encoded = range.batch.as_ref().expect("set");
        let codec = wire::codec(encoded.codec, "codec").expect("known").expect("set");
        let plain = Batch {
            codec,
            record_count: encoded.record_count,
            decoded_bytes: encoded.decoded_bytes,
            crc32: encoded.crc32,
            data: encoded.data.clone(),
        };
        plain.verify().expect("the checksum holds");
        let set = v1::RecordSet::decode(plain.decode().expect("decodes")).expect("a set");
        assert_eq!(range.times.iter().map(|run| run.record_count).sum::<u32>(), encoded.record_count);
        for (place, record) in set.records.into_iter().enumerate() {
            let delta = range.offset_deltas.get(place).copied().unwrap_or(place as u32);
            assert!(found.insert(range.base_offset + u64::from(delta), record).is_none());
        }
    }
    found
}

fn expected(from: u64, until: u64) -> BTreeMap<u64, v1::Record> {
    (from..until).map(|offset| (offset, record(offset))).collect()
}

fn is_sorted(batches: &[v1::Batch]) -> bool {
    batches.is_sorted_by(|one, next| one.next_offset < next.next_offset)
}

#[test]
fn records_come_once_in_order_and_no_response_is_larger_than_asked() {
    for bytes in 140..700 {
        for (from, until) in [(0, 30), (2, 29), (6, 7)] {
            let order = order(false, bytes);
            let packed = Packer::new(&order, cursor(from), Offset(until), None).pack(chunks());
            assert_eq!(packed.refusal, None, "{bytes}");
            assert!(packed.batches.iter().all(|batch| size(batch) <= bytes), "{bytes}");
            assert_eq!(found(&packed.batches), expected(from, until), "{bytes}");
            assert!(is_sorted(&packed.batches));
            assert_eq!(packed.batches.last().map(|batch| batch.next_offset), Some(until));
            assert_eq!(packed.records, until - from);
        }
    }
}

#[test]
fn a_record_is_refused_exactly_when_its_response_would_be_too_large() {
    let order_of = |bytes| order(false, bytes);
    let whole = order_of(10_000);
    let alone = Packer::new(&whole, cursor(5), Offset(6), None).pack(chunks());
    let needed = size(&alone.batches[0]);
    let fitting = order_of(needed);
    assert_eq!(Packer::new(&fitting, cursor(5), Offset(6), None).pack(chunks()).refusal, None);
    let tight = order_of(needed - 1);
    let refused = Packer::new(&tight, cursor(5), Offset(6), None).pack(chunks());
    let facts = refused.refusal.expect("too large");
    assert_eq!(facts.reason(), reason::RESPONSE_LIMIT);
    for (name, value) in [
        (key::TOPIC, "orders".to_owned()),
        (key::PARTITION, "3".to_owned()),
        (key::OFFSET, "5".to_owned()),
        (key::SIZE, needed.to_string()),
        (key::LIMIT, (needed - 1).to_string()),
    ] {
        assert!(facts.metadata.contains(&(name, value)), "{name} {:?}", facts.metadata);
    }
    assert!(refused.batches.is_empty());
}

#[test]
fn what_fits_before_a_record_that_does_not_is_sent_first() {
    let mut all = vec![chunk(0, 2, Codec::None)];
    let large = v1::Record { value: vec![1; 5_000].into(), ..v1::Record::default() };
    let set = v1::RecordSet { records: vec![large] }.encode_to_vec();
    let mut behind = chunk(2, 3, Codec::None);
    behind.batch =
        Batch { decoded_bytes: set.len() as u32, crc32: crc32fast::hash(&set), data: set.into(), ..behind.batch };
    all.push(behind);
    for is_encoded in [false, true] {
        let hard = order(is_encoded, 1_000);
        let packed = Packer::new(&hard, cursor(0), Offset(3), None).pack(all.clone());
        assert_eq!(packed.refusal.map(|facts| facts.reason()), Some(reason::RESPONSE_LIMIT));
        assert_eq!(found(&packed.batches), expected(0, 2));
        let soft = Order { limit: Limit { bytes: 1_000, is_hard: false }, ..hard };
        let packed = Packer::new(&soft, cursor(0), Offset(3), None).pack(all.clone());
        assert_eq!((packed.refusal, packed.batches.len()), (None, 2));
    }
}

#[test]
fn a_record_limit_is_exact_and_nothing_behind_it_is_decoded() {
    for is_encoded in [false, true] {
        let order = order(is_encoded, 10_000);
        for left in 1..30 {
            let packed = Packer::new(&order, cursor(0), Offset(30), Some(left)).pack(chunks());
            assert_eq!(found(&packed.batches), expected(0, left), "{left}");
            assert_eq!(packed.records, left);
        }
        let mut broken = chunks();
        broken[3].batch.data = Bytes::from_static(b"not zstd");
        let packed = Packer::new(&order, cursor(0), Offset(29), Some(7)).pack(broken);
        assert_eq!((packed.refusal, packed.records), (None, 7));
    }
}

#[test]
fn encoded_batches_come_once_cut_at_the_end_and_small_ones_in_one() {
    let order = order(true, 10_000);
    let packed = Packer::new(&order, cursor(0), Offset(29), None).pack(chunks());
    assert_eq!(found(&packed.batches), expected(0, 29));
    assert_eq!(packed.batches.len(), 3, "the two single appends are one batch");
    assert!(is_sorted(&packed.batches));
    assert_eq!(packed.refusal, None);
}

#[test]
fn merging_makes_no_batch_too_large() {
    let singles: Vec<Chunk> = (0..400).map(|base| chunk(base, base + 1, Codec::None)).collect();
    for bytes in (1_000..3_000).step_by(37) {
        let order = order(true, bytes);
        let packed = Packer::new(&order, cursor(0), Offset(400), None).pack(singles.clone());
        assert_eq!(packed.refusal, None, "{bytes}");
        assert!(packed.batches.iter().all(|batch| size(batch) <= bytes), "{bytes}");
        assert_eq!(found(&packed.batches), expected(0, 400));
    }
}

#[test]
fn a_key_leaves_out_the_others_and_progress_is_told_once() {
    for is_encoded in [false, true] {
        let keyed = Order { key: Some(Bytes::from_static(b"k")), ..order(is_encoded, 10_000) };
        let packed = Packer::new(&keyed, cursor(0), Offset(30), None).pack(chunks());
        let keys: Vec<u64> = found(&packed.batches).into_keys().collect();
        assert_eq!(keys, (0..30).step_by(3).collect::<Vec<_>>());
        assert_eq!(packed.batches.last().map(|batch| batch.next_offset), Some(30));
        let none = Order { key: Some(Bytes::from_static(b"absent")), ..keyed };
        let packed = Packer::new(&none, cursor(0), Offset(30), None).pack(chunks());
        assert_eq!(packed.batches.len(), 1, "one batch without records");
        assert_eq!((packed.batches[0].next_offset, packed.records), (30, 0));
    }
}

#[test]
fn what_does_not_decode_is_damage_with_both_ends() {
    let mut short = chunk(7, 30, Codec::Zstd);
    short.end = Offset(31);
    let mut garbled = chunk(7, 30, Codec::Lz4);
    garbled.batch.data = Bytes::from_static(b"not lz4");
    for (broken, end) in [(short, 31), (garbled, 30)] {
        for is_encoded in [false, true] {
            let keyed = Order { key: Some(Bytes::from_static(b"k")), ..order(is_encoded, 10_000) };
            let packed = Packer::new(&keyed, cursor(8), Offset(40), None).pack(vec![broken.clone()]);
            let facts = packed.refusal.expect("damage");
            assert_eq!(facts.reason(), reason::DATA_DAMAGED);
            assert!(facts.metadata.contains(&(key::TO, end.to_string())), "{:?}", facts.metadata);
            assert!(facts.metadata.contains(&(key::TOPIC, "orders".to_owned())), "{:?}", facts.metadata);
        }
    }
}

#[test]
fn an_encoded_batch_that_no_generic_client_takes_is_cut_where_no_limit_was_asked() {
    let record = |number: u8| v1::Record { value: vec![number; 1 << 20].into(), ..v1::Record::default() };
    let set = v1::RecordSet { records: (0..4).map(record).collect() }.encode_to_vec();
    assert!(set.len() > UNASKED_BYTES_MAX);
    let mut large = chunk(0, 4, Codec::None);
    large.batch =
        Batch { decoded_bytes: set.len() as u32, crc32: crc32fast::hash(&set), data: set.into(), ..large.batch };
    let soft = Order { limit: Limit { bytes: 1 << 20, is_hard: false }, ..order(true, 1) };
    let packed = Packer::new(&soft, cursor(0), Offset(4), None).pack(vec![large.clone()]);
    assert_eq!((packed.refusal.is_none(), packed.records), (true, 4));
    assert!(packed.batches.iter().all(|batch| framed(batch.encoded_len()) <= UNASKED_BYTES_MAX));
    let ends: Vec<u64> = packed.batches.iter().map(|batch| batch.next_offset).collect();
    assert_eq!(ends, [1, 2, 3, 4]);
    let asked = Order { limit: Limit { bytes: 8 << 20, is_hard: true }, ..soft };
    let packed = Packer::new(&asked, cursor(0), Offset(4), None).pack(vec![large]);
    assert_eq!(packed.batches.len(), 1, "as it is stored");
}

/// What is unpacked is so on a thread that may block.
#[test]
fn only_whole_batches_without_a_key_stand_as_they_are() {
    let (whole, all) = (order(true, 1 << 20), Offset(u64::MAX));
    assert!(stand_as_they_are(&whole, all, None, &chunks()));
    assert!(!stand_as_they_are(&order(false, 1 << 20), all, None, &chunks()), "record by record");
    assert!(!stand_as_they_are(&Order { key: Some("k".into()), ..whole.clone() }, all, None, &chunks()), "a key");
    assert!(!stand_as_they_are(&whole, Offset(29), None, &chunks()), "the last one is cut");
    assert!(!stand_as_they_are(&whole, all, Some(1_000), &chunks()), "it may be cut");
}
