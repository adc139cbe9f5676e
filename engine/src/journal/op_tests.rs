use super::*;
use crate::{
    group::{BelowHead, GroupConfig, LostWhy, Mode, Rule},
    header::golden,
    id::GroupId,
    journal::group_op::{GroupCreate, GroupSettings},
    request::Start,
};

fn batch() -> Op {
    // A `RecordSet` of one record: key "k", value "value".
    let data = Bytes::from_static(b"\x0a\x0a\x0a\x01k\x12\x05value");
    let lane = Lane { topic: TopicId(0x0102), partition: Partition(3) };
    let (record_count, decoded_bytes) = (1, u32::try_from(data.len()).expect("small"));
    let batch = Batch { codec: Codec::None, record_count, decoded_bytes, crc32: crc32fast::hash(&data), data };
    Op::Batch(BatchOp { lane, batch_index: 4, base: Offset(0x0506), batch })
}

/// One of each kind, in the order of their numbers.
fn one_of_each() -> Vec<Op> {
    let config = TopicConfig { partitions: 8, codec: Codec::Zstd, max_record_bytes: 1 << 20, segment_bytes: 128 << 20 };
    vec![
        batch(),
        Op::Stamp(StampOp { producer: ProducerId(1), epoch: 2, sequence: 3, answered_below: 1, content_hash: 0xaabb }),
        Op::ProducerOpen(ProducerOpenOp {
            producer: ProducerId(1),
            epoch: 2,
            idle_expiry_us: 5,
            name: "loader".into(),
        }),
        Op::ProducerExpire(ProducerId(6)),
        Op::TopicCreate(TopicCreateOp { topic: TopicId(7), config, name: "orders".into() }),
        Op::TopicDelete(TopicId(8)),
        Op::TopicForget(TopicId(9)),
    ]
    .into_iter()
    .chain(of_groups().into_iter().map(Op::Group))
    .collect()
}

fn of_groups() -> Vec<GroupOp> {
    let (group, lane) = (GroupId(10), Lane { topic: TopicId(7), partition: Partition(3) });
    let config = GroupConfig {
        mode: Mode::Members,
        rule: Some(Rule::CoPartitioned),
        start: Start::AppendTime(-5),
        below_head: BelowHead::Fail,
        session_ms: 10_000,
        drain_ms: 30_000,
    };
    let (name, topics, cursors) = ("mailer".into(), vec![(TopicId(7), "orders".into())], vec![(lane, Offset(4))]);
    vec![
        GroupOp::Create(GroupCreate { group, name, config, topics, cursors }),
        GroupOp::Delete(group),
        GroupOp::Change(GroupSettings {
            group,
            paused: Some("stocktaking".into()),
            below_head: BelowHead::Earliest,
            topics: vec![(TopicId(8), "returns".into(), 8)],
        }),
        GroupOp::Commit { group, lane, next: Offset(5), metadata: Bytes::from_static(b"m") },
        GroupOp::Set { group, lane, next: Offset(1), epoch: 3, reason: "again".into() },
        GroupOp::Member { group, member: "m-0".into(), instance: "i-1".into(), client: "test".into() },
        GroupOp::MemberGone { group, member: "m-0".into() },
        GroupOp::Assign {
            group,
            lane,
            epoch: 4,
            holder: Some("m-0".into()),
            is_draining: true,
            lost: Some(LostWhy::SessionExpired),
        },
    ]
}

fn encoded(ops: &[Op]) -> Vec<u8> {
    let mut out = AlignedBuf::with_capacity(4_096);
    for op in ops {
        let place = op.encode(&mut out);
        let data = place.map(|place| out.as_slice()[place].to_vec());
        let Op::Batch(batch) = op else {
            assert_eq!(data, None, "only batches are shared with the tail");
            continue;
        };
        assert_eq!(data.as_deref(), Some(&batch.batch.data[..]), "the tail gets the bytes that were written");
    }
    assert_eq!(out.len(), ops.iter().map(Op::encoded_bytes).sum::<usize>());
    out.as_slice().to_vec()
}

#[test]
fn a_batch_matches_its_golden_bytes() {
    golden::check("batch", &encoded(&[batch()]));
}

#[test]
fn every_kind_reads_back_and_matches_its_golden_bytes() {
    let (ops, body) = (one_of_each(), encoded(&one_of_each()));
    golden::check("operations", &body);
    let kinds: Vec<u16> = ops.iter().map(Op::kind).collect();
    assert_eq!(kinds, kind::ALL, "none is left out");
    assert_eq!(check(&body, 15), Ok(()));
    assert_eq!(decode(&body.into(), 15), Ok(ops));
}

#[test]
fn a_cut_body_or_a_wrong_count_is_refused() {
    let body = encoded(&one_of_each());
    for cut in 0..body.len() {
        assert!(check(&body[..cut], 15).is_err(), "cut at {cut}");
        assert!(decode(&Bytes::copy_from_slice(&body[..cut]), 15).is_err(), "cut at {cut}");
    }
    assert_eq!(
        check(&body, 14),
        Err(OpFault::Malformed { kind: 0, at: body.len() - one_of_each()[14].encoded_bytes() })
    );
    assert_eq!(check(&body, 16), Err(OpFault::Malformed { kind: 0, at: body.len() }));
}

#[test]
fn an_unknown_kind_or_flag_is_refused_before_it_is_read() {
    let mut body = encoded(&[Op::TopicDelete(TopicId(8))]);
    body[0] = 31;
    assert_eq!(check(&body, 1), Err(OpFault::Unknown { kind: 31, flags: 0 }));
    (body[0], body[2]) = (6, 1);
    assert_eq!(check(&body, 1), Err(OpFault::Unknown { kind: 6, flags: 1 }));
}
