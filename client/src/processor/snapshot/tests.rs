use super::*;

fn snapshot() -> Snapshot {
    let edge = |topic: &str, partition, next_offset, append_time_us| Edge {
        topic: topic.into(),
        partition,
        next_offset,
        append_time_us,
    };
    let head = Head {
        service: "payment".into(),
        unit: 3,
        node_id: "0123456789abcdef".into(),
        incarnation: 7,
        inputs: vec![edge("orders", 3, 1_000, Some(1_700_000_000_000_001)), edge("fulfilment", 3, 0, None)],
        outputs: vec![edge("payments", 3, 42, Some(1_700_000_000_000_000))],
        newest_id: Some("018bcfe5-6800-7000-8000-000000000000".into()),
    };
    Snapshot { head, state: br#"{"orders":{"536365":"captured"}}"#.to_vec() }
}

/// What format 1 looks like, for good.
const GOLDEN: [u8; FIXED_BYTES] = *b"tillsnap\x01\0\0\0\x3a\xad\x51\xaf";

#[test]
fn a_snapshot_reads_as_it_was_written() {
    assert_eq!(Snapshot::decode(&snapshot().encode()), Ok(snapshot()));
    let empty = Snapshot { state: Vec::new(), ..snapshot() };
    assert_eq!(Snapshot::decode(&empty.encode()), Ok(empty));
}

#[test]
fn format_1_stays_as_it_is() {
    let bytes = snapshot().encode();
    assert_eq!(bytes[..FIXED_BYTES], GOLDEN);
    assert_eq!(bytes[FIXED_BYTES..], *include_bytes!("golden.bin"), "behind the CRC");
}

#[test]
fn every_wrong_byte_and_every_cut_is_noticed() {
    let bytes = snapshot().encode();
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut wrong = bytes.clone();
            wrong[at] ^= flip;
            let read = Snapshot::decode(&wrong);
            assert!(matches!(read, Err(Unusable::Damaged | Unusable::Foreign)), "byte {at}: {read:?}");
        }
        assert!(Snapshot::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(Snapshot::decode(&longer), Err(Unusable::Damaged));
}

#[test]
fn a_head_that_claims_more_than_there_is_is_damaged() {
    let mut bytes = snapshot().encode();
    bytes[FIXED_BYTES..FIXED_BYTES + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    let crc32 = crc32fast::hash(&bytes[FIXED_BYTES..]);
    bytes[12..FIXED_BYTES].copy_from_slice(&crc32.to_le_bytes());
    assert_eq!(Snapshot::decode(&bytes), Err(Unusable::Damaged));
}

#[test]
fn the_older_file_stays_until_the_new_one_is_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = path(directory.path(), "payment", 3);
    assert_eq!(Snapshot::read(&path), Err(Unusable::Absent));
    snapshot().write(&path).expect("written");
    assert_eq!(Snapshot::read(&path), Ok(snapshot()));
    fs::write(path.with_extension("unfinished"), b"half of a").expect("written");
    assert_eq!(Snapshot::read(&path), Ok(snapshot()));
    let newer = Snapshot { state: b"{}".to_vec(), ..snapshot() };
    newer.write(&path).expect("what was left over is overwritten");
    assert_eq!(Snapshot::read(&path), Ok(newer));
}

#[test]
fn a_snapshot_of_another_owner_or_of_a_newer_broker_is_not_used() {
    let Head { service, unit, node_id, incarnation, .. } = snapshot().head;
    let check =
        |service: &str, unit, node: &str, incarnation| snapshot().head.check_owner(service, unit, node, incarnation);
    assert_eq!(check(&service, unit, &node_id, incarnation), Ok(()));
    assert_eq!(check(&service, unit, &node_id, incarnation + 5), Ok(()));
    assert_eq!(check("order", unit, &node_id, incarnation), Err(Unusable::OfOther("service")));
    assert_eq!(check(&service, 4, &node_id, incarnation), Err(Unusable::OfOther("unit")));
    assert_eq!(check(&service, unit, "other", incarnation), Err(Unusable::OfOther("broker")));
    let ahead = Unusable::AheadOfBroker { snapshot: 7, broker: 6 };
    assert_eq!(check(&service, unit, &node_id, 6), Err(ahead));
}
