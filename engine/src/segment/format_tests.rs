//! Goal: the header of a block is the golden one, and no byte of it can change unseen. Method: one header with a
//! value of its own in every field, and forged ones whose CRC is right.

use super::*;
use crate::header::golden;

fn sample() -> BlockHeader {
    let mut sections = [Section::default(); SECTIONS_MAX];
    sections[0] = Section { kind: section::RECORDS, flags: 0, stored: 9_000, raw: 0x0002_0304, crc: 0xa1a2_a3a4 };
    sections[1] = Section { kind: section::RUNS, flags: 0, stored: 64, raw: 64, crc: 0xb1b2_b3b4 };
    BlockHeader {
        compatible_flags: 0x8001,
        block_len: 12_288,
        body_len: 9_064,
        body_crc: 0x0102_0304,
        prev_crc: 0x1112_1314,
        first_lsn: Lsn(0x2122_2324_2526_2728),
        last_lsn: Lsn(0x3132_3334_3536_3738),
        incarnation: Incarnation(0x4142_4344_4546_4748),
        first_time_us: 0x5152_5354_5556_5758,
        last_time_us: 0x6162_6364_6566_6768,
        base: Offset(0x0102_0304_0506_0708),
        end: Offset(0x0102_0304_0506_0708 + 77),
        lane: Lane { topic: TopicId(0x7172_7374_7576_7778), partition: Partition(0x0a0b_0c0d) },
        segment: SegmentId(0x1a1b_1c1d_1e1f_2021),
        count: 77,
        codec: Codec::Zstd,
        key_id: 0x2a2b_2c2d,
        chain: std::array::from_fn(|at| 0x80 + at as u8),
        tag: std::array::from_fn(|at| 0xc0 + at as u8),
        sections,
    }
}

/// A header with some bytes changed and its CRC made right again.
fn forged(at: usize, bytes: &[u8]) -> [u8; BLOCK_HEADER_BYTES] {
    let (mut out, _) = sample().encode();
    out[at..at + bytes.len()].copy_from_slice(bytes);
    put(&mut out, HEADER_CRC, [0; 4]);
    let crc = crc32fast::hash(&out);
    put(&mut out, HEADER_CRC, crc.to_le_bytes());
    out
}

#[test]
fn a_header_comes_back_as_it_went_in() {
    let (bytes, crc) = sample().encode();
    assert_eq!(BlockHeader::decode(&bytes), Ok((sample(), crc)));
    assert_eq!(sample().section(section::RUNS), Some((9_384..9_448, sample().sections[1])));
    assert_eq!(sample().section(section::BLOOM), None);
    let run = Run { lsn: Lsn(1), position: 2, time_us: -3, count: 4 };
    assert_eq!(Run::decode(&run.encode()), Some(run));
}

#[test]
fn the_format_is_the_golden_one() {
    golden::check("block-header", &sample().encode().0);
    let run = Run { lsn: Lsn(0x0102_0304_0506_0708), position: 0x1112_1314_1516_1718, time_us: -2, count: 0x2122_2324 };
    golden::check("block-run", &run.encode());
}

#[test]
fn every_flipped_byte_of_the_header_is_found() {
    let (good, _) = sample().encode();
    for at in 0..good.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bad = good;
            bad[at] ^= mask;
            let fault = BlockHeader::decode(&bad).expect_err("a flipped byte must not pass");
            let magic = matches!(fault, BlockFault::BadMagic { .. });
            assert!(magic == (at < 4) && (magic || matches!(fault, BlockFault::BadHeaderCrc { .. })), "{at} {fault}");
        }
    }
}

#[test]
fn what_was_written_on_purpose_is_told_from_damage() {
    let refused = |at, bytes: &[u8]| BlockHeader::decode(&forged(at, bytes)).expect_err("refused");
    assert_eq!(refused(VERSION, &[2]), BlockFault::NewerVersion { found: 2 });
    assert_eq!(refused(INCOMPATIBLE, &[8]), BlockFault::IncompatibleFlags { found: 8 });
    for at in [ZERO_CODEC, KEY_ID - 1, ZERO_TAIL, BLOCK_HEADER_BYTES - 1] {
        assert_eq!(refused(at, &[1]), BlockFault::NonZeroPadding { at });
    }
    for (at, bytes, field) in [
        (HEADER_LEN, &[0, 1][..], "header_len"),
        (CODEC, &[4], "codec"),
        (BODY_LEN, &[0], "body_len"),
        (BLOCK_LEN, &[0, 0x20], "block_len"),
        (SECTIONS + SECTION_BYTES, &[1], "section_kind"),
        (SECTIONS + SECTION_BYTES * 2 + 2, &[1], "sections"),
        (SECTIONS + 8, &[0xff, 0xff, 0xff, 0xff], "records_raw"),
        (SECTIONS + SECTION_BYTES, &[3], "runs_stored"),
        (END, &[0; 8], "end"),
        (COUNT, &[78], "count"),
        (LAST_LSN, &[0; 8], "last_lsn"),
        (LAST_TIME, &[0; 8], "last_time_us"),
    ] {
        let fault = refused(at, bytes);
        assert!(matches!(fault, BlockFault::Contradiction { field: found, .. } if found == field), "{field}: {fault}");
    }
    let fault = BlockHeader::decode(&[0; 383]);
    assert_eq!(fault, Err(BlockFault::Short { expected: 384, found: 383 }));
}
