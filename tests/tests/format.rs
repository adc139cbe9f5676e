//! Goal: `docs/format.md` and the code say the same. Method: the tables of the page are read; each covers its structure
//! without a hole, and a structure that the code encodes, with another value in every field, has each value where the
//! page says.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use tillroll_engine::{
    batch::Batch,
    codec::Codec,
    disk::aligned::AlignedBuf,
    group::LostWhy,
    header::{FILE_HEADER_BYTES, FILE_MAGIC, FILE_VERSION, FileHeader, FileKind},
    id::{GroupId, Incarnation, Lane, Lsn, Offset, Partition, ProducerId, SegmentId, TopicId, Uid},
    journal::{
        Identity, Tip,
        control::{Control, DIRECTORY_VERSION, WATERMARK_BYTES, Watermark},
        frame::{FRAME_HEADER_BYTES, FRAME_MAGIC, FRAME_VERSION, FrameHeader, flag},
        group_op::GroupOp,
        op::{BatchOp, OP_HEADER_BYTES, Op, ProducerOpenOp, StampOp, TopicCreateOp},
    },
    limits::ALIGN,
    request::TopicConfig,
    segment::{
        format::{
            BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, BLOCK_MAGIC, BLOCK_VERSION, BlockHeader, RUN_BYTES, RUNS_MAX, Run,
            SECTIONS_MAX, Section, section,
        },
        index::{ActiveIndex, ENTRIES_AT, ENTRY_BYTES, Entry},
    },
    table::{
        file::{Checkpoint, PATHS},
        group::GroupRow,
        row::{CountersRow, LaneRow, ProducerRow, Row, TopicRow},
    },
};

const PAGE: &str = include_str!("../../docs/format.md");

/// A structure as the page has it: its length, and its fields in order.
struct Layout {
    bytes: usize,
    fields: Vec<(String, Range<usize>)>,
}

fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split(" |").map(str::trim).collect()
}

/// The structures of the page, by the name in their heading: `### Name: N bytes`.
fn layouts() -> BTreeMap<&'static str, Layout> {
    let mut layouts = BTreeMap::new();
    for part in PAGE.split("\n### ").skip(1) {
        let (heading, rest) = part.split_once('\n').expect("a heading has a text");
        let (name, bytes) = heading.split_once(": ").expect("a structure's heading says its length");
        let bytes = bytes.strip_suffix(" bytes").expect("in bytes").parse().expect("a number");
        let rows = rest.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        let fields = rows.take_while(|line| line.starts_with('|')).map(|line| {
            let cells = cells(line);
            let number = |at: usize| cells[at].parse::<usize>().unwrap_or_else(|_| panic!("{name}: {line}"));
            (cells[2].trim_matches('`').to_owned(), number(0)..number(0) + number(1))
        });
        layouts.insert(name, Layout { bytes, fields: fields.collect() });
    }
    layouts
}

fn layout(name: &str) -> Layout {
    layouts().remove(name).unwrap_or_else(|| panic!("{name} is not on the page"))
}

/// Holds encoded bytes against the page: the named fields have these values, the fields called `zero` are zero.
fn check(name: &str, bytes: &[u8], fields: &[(&str, &[u8])]) {
    let layout = layout(name);
    assert!(bytes.len() >= layout.bytes, "{name} has {} bytes", bytes.len());
    for (field, value) in fields {
        let (_, range) =
            layout.fields.iter().find(|(other, _)| other == field).unwrap_or_else(|| panic!("{name}.{field}"));
        assert_eq!(&bytes[range.clone()], *value, "{name}.{field} at {range:?}");
    }
    for (field, range) in &layout.fields {
        let is_told = fields.iter().any(|(other, _)| other == field);
        assert!(
            is_told || bytes[range.clone()].iter().all(|byte| *byte == 0),
            "{name}.{field} at {range:?} is not zero"
        );
    }
}

/// The CRC of bytes whose field at `at` counts as zeros, with something in front.
fn crc(front: &[u8], bytes: &[u8], at: usize) -> [u8; 4] {
    let mut all = [front, bytes].concat();
    all[front.len() + at..front.len() + at + 4].fill(0);
    crc32fast::hash(&all).to_le_bytes()
}

#[test]
fn every_structure_is_covered_without_a_hole() {
    let layouts = layouts();
    assert!(layouts.len() >= 17, "structures are missing: {:?}", layouts.keys());
    for (name, layout) in layouts {
        let mut at = 0;
        for (field, range) in layout.fields {
            assert_eq!(range.start, at, "{name}: a hole or an overlap before {field}");
            at = range.end;
        }
        assert_eq!(at, layout.bytes, "{name}: its fields end elsewhere than it does");
    }
}

#[test]
fn lengths_are_those_of_the_code() {
    for (name, bytes) in [
        ("File header", FILE_HEADER_BYTES),
        ("Frame header", FRAME_HEADER_BYTES),
        ("Operation header", OP_HEADER_BYTES),
        ("Control slot", ALIGN),
        ("Watermark", WATERMARK_BYTES),
        ("Block header", BLOCK_HEADER_BYTES),
        ("Run", RUN_BYTES),
        ("Index head", ENTRIES_AT - FILE_HEADER_BYTES),
        ("Index entry", ENTRY_BYTES),
    ] {
        assert_eq!(layout(name).bytes, bytes, "{name}");
    }
    let sections =
        layout("Block header").fields.into_iter().find(|(field, _)| field == "sections").expect("it has some");
    assert_eq!(sections.1.len(), SECTIONS_MAX * layout("Section row").bytes);
    let grouped = |number: usize| format!("{},{:03},{:03}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000);
    assert!(PAGE.contains(&format!("at most {}", grouped(BLOCK_BYTES_MAX))));
    assert!(PAGE.contains(&format!("Runs, at most {RUNS_MAX}")));
}

#[test]
fn magics_and_versions_are_those_of_the_code() {
    let (control, watermark) =
        (Control::default().encode(), Watermark { durable_lsn: Lsn(0), incarnation: Incarnation(0) });
    let tables = Checkpoint::default().encode(Uid::default());
    let version = |bytes: &[u8]| u16::from_le_bytes([bytes[4], bytes[5]]);
    let rows = [
        ("data directory (`control`)", &control[..4], Some(DIRECTORY_VERSION)),
        ("file header", &FILE_MAGIC[..], Some(FILE_VERSION)),
        ("frame", &FRAME_MAGIC[..], Some(FRAME_VERSION)),
        ("block", &BLOCK_MAGIC[..], Some(BLOCK_VERSION)),
        ("tables", &tables[..4], Some(version(&tables))),
        ("watermark", &watermark.encode()[..4], None),
    ];
    for (name, magic, version) in rows {
        let magic = std::str::from_utf8(magic).expect("magics are letters");
        let version = version.map_or("–".to_owned(), |version| version.to_string());
        assert!(PAGE.contains(&format!("\n| {name} | `{magic}` | {version} |\n")), "{name} {magic} {version}");
    }
}

#[test]
fn a_file_header_has_its_fields_where_the_page_says() {
    let header = FileHeader {
        kind: FileKind::Index,
        compatible_flags: 0x0708,
        cluster: Uid(*b"cluster-identity"),
        node: Uid(*b"identity-of-node"),
        shard: 0x0203,
        number: 0x1112,
        first_lsn: Lsn(0x2122),
        prev_crc: 0x3132,
        incarnation: Incarnation(0x4142),
    };
    let bytes = header.encode();
    check(
        "File header",
        &bytes,
        &[
            ("magic", b"TLRF"),
            ("version", &[1, 0]),
            ("kind", &[3, 0]),
            ("compatible_flags", &[8, 7]),
            ("crc", &crc(b"", &bytes, 12)),
            ("cluster", b"cluster-identity"),
            ("node", b"identity-of-node"),
            ("number", &0x1112_u64.to_le_bytes()),
            ("first_lsn", &0x2122_u64.to_le_bytes()),
            ("incarnation", &0x4142_u64.to_le_bytes()),
            ("prev_crc", &0x3132_u32.to_le_bytes()),
            ("shard", &[3, 2]),
        ],
    );
    let kinds = [(FileKind::Journal, "1 journal"), (FileKind::Segment, "2 segment"), (FileKind::Index, "3 index")];
    for (kind, text) in kinds {
        assert!(text.starts_with(&(kind as u16).to_string()) && PAGE.contains(text), "{kind:?}");
    }
}

#[test]
fn a_frame_header_has_its_fields_where_the_page_says() {
    let header = FrameHeader {
        flags: flag::FIRST | flag::LAST,
        header_crc: 0,
        frame_len: 4_096,
        body_len: 96,
        body_crc: 0x0102,
        prev_crc: 0x0304,
        lsn: Lsn(0x0506),
        epoch: 0x0708,
        incarnation: Incarnation(0x090a),
        durable_lsn: Lsn(0x0b0c),
        time_us: 0x0d0e,
        position: 0x0f10,
        shard: 0x1112,
        op_count: 0x1314,
    };
    let identity = Identity { cluster: Uid(*b"cluster-identity"), ..Identity::default() };
    let (bytes, _) = header.encode(identity.seed());
    check(
        "Frame header",
        &bytes,
        &[
            ("magic", b"TLRJ"),
            ("version", &[1, 0]),
            ("header_len", &160_u16.to_le_bytes()),
            ("incompatible_flags", &[3, 0]),
            ("header_crc", &crc(b"cluster-identity", &bytes, 12)),
            ("frame_len", &4_096_u32.to_le_bytes()),
            ("body_len", &96_u32.to_le_bytes()),
            ("body_crc", &0x0102_u32.to_le_bytes()),
            ("prev_crc", &0x0304_u32.to_le_bytes()),
            ("lsn", &0x0506_u64.to_le_bytes()),
            ("epoch", &0x0708_u64.to_le_bytes()),
            ("incarnation", &0x090a_u64.to_le_bytes()),
            ("durable_lsn", &0x0b0c_u64.to_le_bytes()),
            ("time_us", &0x0d0e_u64.to_le_bytes()),
            ("position", &0x0f10_u64.to_le_bytes()),
            ("shard", &0x1112_u16.to_le_bytes()),
            ("op_count", &0x1314_u32.to_le_bytes()),
        ],
    );
    let flags = [
        (flag::FIRST, "FIRST"),
        (flag::LAST, "LAST"),
        (flag::ENCRYPTED, "ENCRYPTED"),
        (flag::COMPRESSED, "COMPRESSED"),
    ];
    for (flag, name) in flags {
        assert!(PAGE.contains(&format!("{flag} {name}")), "{name}");
    }
}

/// An operation's kind, and its own bytes.
fn encoded(op: &Op) -> (u16, Vec<u8>) {
    let mut out = AlignedBuf::with_capacity(4_096);
    op.encode(&mut out);
    let bytes = out.as_slice();
    let len = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")) as usize;
    check("Operation header", bytes, &[("kind", &bytes[0..2]), ("len", &bytes[4..8])]);
    (u16::from_le_bytes([bytes[0], bytes[1]]), bytes[OP_HEADER_BYTES..OP_HEADER_BYTES + len].to_vec())
}

fn check_op(op: &Op, name: &str, fields: &[(&str, &[u8])], rest: &[u8]) {
    let (kind, bytes) = encoded(op);
    assert!(PAGE.contains(&format!("\n| {kind} | {name} |\n")), "{kind} {name}");
    let heading = format!("Operation {kind}, {name}");
    check(&heading, &bytes, fields);
    assert_eq!(&bytes[layout(&heading).bytes..], rest, "{heading}: what follows the fixed part");
}

#[test]
fn operations_have_their_fields_where_the_page_says() {
    let data = Bytes::from_static(b"data");
    let batch = Batch { codec: Codec::Zstd, record_count: 0x0102, decoded_bytes: 0x0304, crc32: 0x0506, data };
    let lane = Lane { topic: TopicId(0x0708), partition: Partition(0x090a) };
    let batch = Op::Batch(BatchOp { lane, batch_index: 0x0b0c, base: Offset(0x0d0e), batch });
    let fields: &[(&str, &[u8])] = &[
        ("topic_id", &0x0708_u64.to_le_bytes()),
        ("partition", &0x090a_u32.to_le_bytes()),
        ("batch_index", &0x0b0c_u32.to_le_bytes()),
        ("base", &0x0d0e_u64.to_le_bytes()),
        ("record_count", &0x0102_u32.to_le_bytes()),
        ("decoded_bytes", &0x0304_u32.to_le_bytes()),
        ("crc32", &0x0506_u32.to_le_bytes()),
        ("codec", &[3]),
    ];
    check_op(&batch, "batch", fields, b"data");
    let (producer, words) = (ProducerId(1), [1, 2, 3, 4, 5].map(u64::to_le_bytes));
    let stamp = StampOp { producer, epoch: 2, sequence: 3, answered_below: 4, content_hash: 5 };
    let names = ["producer_id", "epoch", "sequence", "answered_below", "content_hash"];
    let fields: Vec<(&str, &[u8])> = names.into_iter().zip(words.iter().map(|word| &word[..])).collect();
    check_op(&Op::Stamp(stamp), "stamp", &fields, b"");
    let open = ProducerOpenOp { producer, epoch: 2, idle_expiry_us: 3, name: "name".to_owned() };
    let fields: &[(&str, &[u8])] = &[("producer_id", &words[0]), ("epoch", &words[1]), ("idle_expiry_us", &words[2])];
    check_op(&Op::ProducerOpen(open), "producer open", fields, b"name");
    check_op(&Op::ProducerExpire(producer), "producer expire", &[("producer_id", &words[0])], b"");
    let config = TopicConfig { partitions: 2, codec: Codec::Lz4, max_record_bytes: 3, segment_bytes: 4 };
    let create = TopicCreateOp { topic: TopicId(1), config, name: "name".to_owned() };
    let fields: &[(&str, &[u8])] = &[
        ("topic_id", &words[0]),
        ("partitions", &words[1][..4]),
        ("max_record_bytes", &words[2][..4]),
        ("segment_bytes", &words[3][..4]),
        ("codec", &[2]),
    ];
    check_op(&Op::TopicCreate(create), "topic create", fields, b"name");
    check_op(&Op::TopicDelete(TopicId(1)), "topic delete", &[("topic_id", &words[0])], b"");
    check_op(&Op::TopicForget(TopicId(1)), "topic forget", &[("topic_id", &words[0])], b"");
    for codec in [(Codec::None, "1 none"), (Codec::Lz4, "2 one LZ4"), (Codec::Zstd, "3 one zstd")] {
        assert!(codec.1.starts_with(&codec.0.number().to_string()) && PAGE.contains(codec.1), "{codec:?}");
    }
}

/// Takes bytes apart by the types that the page names for an operation's fields.
fn walk(kind: u16, bytes: &[u8]) -> Vec<String> {
    let row = PAGE.lines().find(|line| line.starts_with(&format!("| {kind} | `"))).expect("it is on the page");
    let mut left = bytes;
    let mut take = |count: usize| {
        let (taken, rest) = left.split_at(count);
        left = rest;
        taken.to_vec()
    };
    let text = |take: &mut dyn FnMut(usize) -> Vec<u8>| {
        let count = u32::from_le_bytes(take(4).try_into().expect("four bytes"));
        String::from_utf8(take(count as usize)).expect("a text")
    };
    let mut values = vec![u64::from_le_bytes(take(8).try_into().expect("eight bytes")).to_string()];
    for field in row.trim_end_matches(" |").rsplit_once("| ").expect("it has fields").1.split(", ") {
        values.push(match field.rsplit_once(' ').expect("it has a type").1 {
            "u64" => u64::from_le_bytes(take(8).try_into().expect("eight bytes")).to_string(),
            "u32" => u32::from_le_bytes(take(4).try_into().expect("four bytes")).to_string(),
            "u8" => take(1)[0].to_string(),
            "option" if take(1) == [0] => "none".to_owned(),
            "text" | "bytes" | "option" => text(&mut take),
            other => panic!("{other} is explained nowhere"),
        });
    }
    assert_eq!(left, b"", "operation {kind}: more than its fields");
    values
}

#[test]
fn operations_of_groups_have_their_fields_where_the_page_says() {
    let (group, lane) = (GroupId(9), Lane { topic: TopicId(7), partition: Partition(3) });
    let text = str::to_owned;
    let ops = [
        (
            "cursor commit",
            GroupOp::Commit { group, lane, next: Offset(5), metadata: Bytes::from_static(b"m") },
            vec!["9", "7", "3", "5", "m"],
        ),
        (
            "cursor set",
            GroupOp::Set { group, lane, next: Offset(5), epoch: 2, reason: text("why") },
            vec!["9", "7", "3", "5", "2", "why"],
        ),
        (
            "member",
            GroupOp::Member { group, member: text("a"), instance: text("b"), client: text("c") },
            vec!["9", "a", "b", "c"],
        ),
        ("member gone", GroupOp::MemberGone { group, member: text("a") }, vec!["9", "a"]),
        (
            "assign",
            GroupOp::Assign {
                group,
                lane,
                epoch: 2,
                holder: Some(text("a")),
                is_draining: true,
                lost: Some(LostWhy::CursorSet),
            },
            vec!["9", "7", "3", "2", "a", "1", "5"],
        ),
    ];
    for (name, op, values) in ops {
        let (kind, bytes) = encoded(&Op::Group(op));
        assert!(PAGE.contains(&format!("\n| {kind} | {name} |\n")), "{kind} {name}");
        assert_eq!(walk(kind, &bytes), values, "{name}");
    }
    let (kind, bytes) = encoded(&Op::Group(GroupOp::Delete(group)));
    assert_eq!((kind, bytes), (17, 9_u64.to_le_bytes().to_vec()));
}

#[test]
fn control_and_watermark_have_their_fields_where_the_page_says() {
    let control = Control {
        generation: 0x0102,
        cluster: Uid(*b"cluster-identity"),
        node: Uid(*b"identity-of-node"),
        shard_count: 0x0304,
        incarnation: Incarnation(0x0506),
        clean_lsn: Lsn(0x0708),
    };
    let bytes = control.encode();
    check(
        "Control slot",
        &bytes,
        &[
            ("magic", b"TLRC"),
            ("version", &[1, 0]),
            ("shard_count", &[4, 3]),
            ("crc", &crc(b"", &bytes, 8)),
            ("generation", &0x0102_u64.to_le_bytes()),
            ("cluster", b"cluster-identity"),
            ("node", b"identity-of-node"),
            ("incarnation", &0x0506_u64.to_le_bytes()),
            ("clean_lsn", &0x0708_u64.to_le_bytes()),
        ],
    );
    let bytes = Watermark { durable_lsn: Lsn(0x0102), incarnation: Incarnation(0x0304) }.encode();
    check(
        "Watermark",
        &bytes,
        &[
            ("magic", b"TLRW"),
            ("crc", &crc(b"", &bytes, 4)),
            ("durable_lsn", &0x0102_u64.to_le_bytes()),
            ("incarnation", &0x0304_u64.to_le_bytes()),
        ],
    );
}

#[test]
fn tables_have_their_fields_where_the_page_says() {
    let tip = Tip {
        lsn: Lsn(0x0102),
        crc: 0x0304,
        time_us: 0x0506,
        position: 0x0708,
        incarnation: Incarnation(0x090a),
        file_no: 0x0b0c,
        at: 0x0d0e,
    };
    let checkpoint = Checkpoint { generation: 3, tip, ..Checkpoint::default() };
    let bytes = checkpoint.encode(Uid(*b"cluster-identity"));
    let rows = &bytes[128..];
    check(
        "Tables header",
        &bytes,
        &[
            ("magic", b"TLRT"),
            ("version", &[2, 0]),
            ("header_crc", &crc(b"", &bytes[..128], 8)),
            ("body_crc", &crc32fast::hash(rows).to_le_bytes()),
            ("generation", &3_u64.to_le_bytes()),
            ("body_len", &(rows.len() as u64).to_le_bytes()),
            ("row_count", &1_u64.to_le_bytes()),
            ("lsn", &0x0102_u64.to_le_bytes()),
            ("frame_crc", &0x0304_u32.to_le_bytes()),
            ("time_us", &0x0506_u64.to_le_bytes()),
            ("position", &0x0708_u64.to_le_bytes()),
            ("incarnation", &0x090a_u64.to_le_bytes()),
            ("file_no", &0x0b0c_u64.to_le_bytes()),
            ("at", &0x0d0e_u64.to_le_bytes()),
            ("cluster", b"cluster-identity"),
        ],
    );
    let row = CountersRow::default().encode();
    let row_crc = crc32fast::hash(&[&[CountersRow::TABLE], &row[..]].concat()).to_le_bytes();
    check("Row header", rows, &[("table", &[1]), ("len", &32_u32.to_le_bytes()), ("crc", &row_crc)]);
    assert_eq!(&rows[12..], row);
    let numbers = [CountersRow::TABLE, TopicRow::TABLE, ProducerRow::TABLE, LaneRow::TABLE, GroupRow::TABLE];
    let names = ["counters, one", "topics", "producers", "lanes", "consumer groups"];
    for (number, name) in numbers.into_iter().zip(names) {
        assert!(PAGE.contains(&format!("\n| {number} | {name} | ")), "{number} {name}");
    }
    assert_eq!((checkpoint.path(), PATHS), ("tables-b", ["tables-a", "tables-b"]), "odd ones stand in the second file");
}

fn block() -> BlockHeader {
    let row = |kind, stored, raw, crc| Section { kind, flags: 0, stored, raw, crc };
    let mut sections = [Section::default(); SECTIONS_MAX];
    sections[0] = row(section::RECORDS, 0x0102, 0x0304, 0x0506);
    sections[1] = row(section::RUNS, 32, 32, 0x0708);
    BlockHeader {
        compatible_flags: 0x1516,
        block_len: 4_096,
        body_len: 0x0122,
        body_crc: 0x1718,
        prev_crc: 0x191a,
        first_lsn: Lsn(0x1b1c),
        last_lsn: Lsn(0x1d1e),
        incarnation: Incarnation(0x2122),
        first_time_us: 0x2324,
        last_time_us: 0x2526,
        base: Offset(0x2728),
        end: Offset(0x292a),
        lane: Lane { topic: TopicId(0x2b2c), partition: Partition(0x2d2e) },
        segment: SegmentId(0x2f30),
        count: 0x0202,
        codec: Codec::Zstd,
        key_id: 0x3132,
        chain: [0x33; 32],
        tag: [0x34; 16],
        sections,
    }
}

#[test]
fn a_block_header_has_its_fields_where_the_page_says() {
    let (bytes, _) = block().encode();
    check(
        "Block header",
        &bytes,
        &[
            ("magic", b"TLRB"),
            ("version", &[1, 0]),
            ("header_len", &384_u16.to_le_bytes()),
            ("compatible_flags", &0x1516_u16.to_le_bytes()),
            ("header_crc", &crc(b"", &bytes, 12)),
            ("block_len", &4_096_u32.to_le_bytes()),
            ("body_len", &0x0122_u32.to_le_bytes()),
            ("body_crc", &0x1718_u32.to_le_bytes()),
            ("prev_crc", &0x191a_u32.to_le_bytes()),
            ("first_lsn", &0x1b1c_u64.to_le_bytes()),
            ("last_lsn", &0x1d1e_u64.to_le_bytes()),
            ("incarnation", &0x2122_u64.to_le_bytes()),
            ("first_time_us", &0x2324_u64.to_le_bytes()),
            ("last_time_us", &0x2526_u64.to_le_bytes()),
            ("base", &0x2728_u64.to_le_bytes()),
            ("end", &0x292a_u64.to_le_bytes()),
            ("topic_id", &0x2b2c_u64.to_le_bytes()),
            ("segment_id", &0x2f30_u64.to_le_bytes()),
            ("partition", &0x2d2e_u32.to_le_bytes()),
            ("count", &0x0202_u32.to_le_bytes()),
            ("codec", &[3]),
            ("key_id", &0x3132_u32.to_le_bytes()),
            ("chain", &[0x33; 32]),
            ("tag", &[0x34; 16]),
            ("sections", &bytes[168..264]),
        ],
    );
    let parts: [(&str, &[u8]); 4] = [
        ("kind", &[1, 0]),
        ("stored", &0x0102_u32.to_le_bytes()),
        ("raw", &0x0304_u32.to_le_bytes()),
        ("crc", &0x0506_u32.to_le_bytes()),
    ];
    check("Section row", &bytes[168..184], &parts);
    let kinds = [
        (section::RECORDS, "records"),
        (section::RUNS, "runs"),
        (section::OFFSET_DELTAS, "offset deltas"),
        (section::KEY_REVISIONS, "key revisions"),
        (section::KEY_PREVIOUS, "previous offset of the key"),
        (section::BLOOM, "bloom"),
    ];
    for (kind, name) in kinds {
        assert!(PAGE.contains(&format!("{kind} {name}")), "{kind} {name}");
    }
}

#[test]
fn runs_and_indexes_have_their_fields_where_the_page_says() {
    let run = Run { lsn: Lsn(0x0102), position: 0x0304, time_us: 0x0506, count: 0x0708 };
    check(
        "Run",
        &run.encode(),
        &[
            ("lsn", &0x0102_u64.to_le_bytes()),
            ("position", &0x0304_u64.to_le_bytes()),
            ("time_us", &0x0506_u64.to_le_bytes()),
            ("count", &0x0708_u32.to_le_bytes()),
        ],
    );
    let mut index = ActiveIndex::default();
    index.push(Entry { base: Offset(0), position: 0, first_time_us: 1, last_time_us: 2 }, Offset(0x0102), 0x3000);
    index.push(
        Entry { base: Offset(0x0102), position: 0x3000, first_time_us: 3, last_time_us: 4 },
        Offset(0x0304),
        0x5000,
    );
    let header = FileHeader {
        kind: FileKind::Segment,
        compatible_flags: 0,
        cluster: Uid::default(),
        node: Uid::default(),
        shard: 0,
        number: 9,
        first_lsn: Lsn(0),
        prev_crc: 0,
        incarnation: Incarnation(1),
    };
    let bytes = index.encode(&header);
    let head = &bytes[FILE_HEADER_BYTES..];
    check(
        "Index head",
        head,
        &[
            ("count", &2_u32.to_le_bytes()),
            ("crc", &crc(b"", head, 4)),
            ("end", &0x0304_u64.to_le_bytes()),
            ("data_end", &0x5000_u64.to_le_bytes()),
        ],
    );
    check(
        "Index entry",
        &bytes[ENTRIES_AT + ENTRY_BYTES..],
        &[
            ("base", &0x0102_u64.to_le_bytes()),
            ("position", &0x3000_u64.to_le_bytes()),
            ("first_time_us", &3_u64.to_le_bytes()),
            ("last_time_us", &4_u64.to_le_bytes()),
        ],
    );
}
