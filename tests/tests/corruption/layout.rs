//! A small reader of the layout that knows nothing of the engine's own: which byte of which file belongs to what.
//!
//! It follows `docs/format.md` by numbers and trusts the bytes, which are whole when it reads them. Every byte of every
//! file gets a class; a class says what damage of it may lead to.

use std::{collections::BTreeMap, ops::Range};

use tillroll_engine::{
    disk::sim::SimDisk,
    id::{Lane, Partition, TopicId},
};

/// What came of a damaged byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The open was refused, and the error names the damage.
    Refused,
    /// Reads of the affected records say so; all others are right.
    Damaged,
    /// The report of the open says so; all records are right.
    Reported,
    /// Nothing says so; all records are right.
    Silent,
}

use Outcome::{Damaged, Refused, Reported, Silent};

/// Bytes of which the same is true.
#[derive(Debug)]
pub(crate) struct Class {
    /// Its name; harmless ones are listed in `docs/format.md` by it.
    pub name: &'static str,
    /// What may come of damage.
    pub may: &'static [Outcome],
}

impl Class {
    /// Whether damage may stay unseen.
    pub(crate) fn is_harmless(&self) -> bool {
        self.may.contains(&Silent)
    }

    /// Whether nobody reads it while another copy is whole: any of its bytes may be anything.
    pub(crate) fn is_unread(&self) -> bool {
        self.may == [Silent]
    }

    /// Whether it is room that was taken ahead.
    pub(crate) fn is_room(&self) -> bool {
        [SEGMENT_BEHIND_END.name, SEGMENT_UNLISTED.name].contains(&self.name)
    }
}

macro_rules! classes {
    ($($id:ident $name:literal $may:expr;)*) => {
        $(const $id: Class = Class { name: $name, may: &$may };)*
        /// All of them.
        pub(crate) const CLASSES: &[Class] = &[$($id),*];
    };
}

classes! {
    CONTROL_SLOT "control-slot" [Reported, Silent];
    WATERMARK "watermark" [Silent];
    BALLAST "ballast" [Silent];
    QUARANTINE "quarantine" [Silent];
    TABLES_NEWER "tables-newer" [Refused, Reported];
    TABLES_OLDER "tables-older" [Reported];
    TABLES_BEHIND_END "tables-behind-end" [Silent];
    JOURNAL_HEADER "journal-header" [Refused];
    JOURNAL_UNUSED "journal-unused" [Reported, Silent];
    JOURNAL_BEFORE_CHECKPOINT "journal-before-checkpoint" [Silent];
    FRAME_HEADER "frame-header" [Refused];
    FRAME_BODY "frame-body" [Refused];
    GROUP_PADDING "group-padding" [Silent];
    JOURNAL_ZERO_BLOCK "journal-zero-block" [Reported, Silent];
    JOURNAL_BEHIND_END "journal-behind-end" [Silent];
    SEGMENT_HEADER "segment-header" [Damaged];
    BLOCK_HEADER "block-header" [Damaged];
    BLOCK_BODY "block-body" [Damaged];
    SEGMENT_BEHIND_END "segment-behind-end" [Silent];
    SEGMENT_UNLISTED "segment-unlisted" [Reported, Silent];
    INDEX "index" [Silent];
}

/// Neighbouring bytes of one class.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// Where in the file.
    pub range: Range<usize>,
    /// Of which class.
    pub class: &'static Class,
    /// The frame that it belongs to.
    pub lsn: Option<u64>,
    /// The lane that it holds records of, and the offsets that cannot be read when it is damaged.
    pub loses: Option<(Lane, Range<u64>)>,
}

fn span(range: Range<usize>, class: &'static Class) -> Span {
    Span { range, class, lsn: None, loses: None }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("test files are small")
}

/// All files, and what their bytes are; every byte is in exactly one span.
pub(crate) fn files(disk: &SimDisk) -> BTreeMap<String, Vec<Span>> {
    let contents: BTreeMap<String, Vec<u8>> =
        disk.files().into_iter().map(|path| (path.clone(), disk.read_file(&path))).collect();
    let newest = ["tables-a", "tables-b"].into_iter().max_by_key(|path| number(&contents[*path], 16));
    let newest = newest.expect("there are two");
    let mut spans = segments(&contents, newest);
    spans.extend(journal(&contents, newest));
    for (path, bytes) in &contents {
        let found = match path.as_str() {
            "control" => vec![span(0..bytes.len(), &CONTROL_SLOT)],
            "watermark" => vec![span(0..bytes.len(), &WATERMARK)],
            "ballast" => vec![span(0..bytes.len(), &BALLAST)],
            "tables-a" | "tables-b" => {
                let end = 128 + size(number(bytes, 24));
                let class = if path == newest { &TABLES_NEWER } else { &TABLES_OLDER };
                vec![span(0..end, class), span(end..bytes.len(), &TABLES_BEHIND_END)]
            }
            other if other.starts_with("quarantine/") => vec![span(0..bytes.len(), &QUARANTINE)],
            other if other.starts_with("data/") && !spans.contains_key(path) => {
                vec![span(0..bytes.len(), &SEGMENT_UNLISTED)]
            }
            _ => continue,
        };
        spans.insert(path.clone(), found);
    }
    for (path, bytes) in &contents {
        let found = spans.get_mut(path).unwrap_or_else(|| panic!("{path} is a file of no known kind"));
        found.retain(|span| !span.range.is_empty());
        let mut at = 0;
        for span in &*found {
            assert_eq!(span.range.start, at, "{path} has a hole");
            at = span.range.end;
        }
        assert_eq!(at, bytes.len(), "{path} is not covered");
    }
    spans
}

/// Where the walk over frames stands.
struct Tip {
    lsn: u64,
    crc: u32,
    file_no: u64,
    at: usize,
}

/// The chain from the newest checkpoint on, and all other files of the journal.
fn journal(contents: &BTreeMap<String, Vec<u8>>, newest: &str) -> BTreeMap<String, Vec<Span>> {
    let tables = &contents[newest];
    let mut tip = Tip {
        lsn: number(tables, 40),
        crc: word(tables, 48),
        file_no: number(tables, 80),
        at: size(number(tables, 88)),
    };
    let files: Vec<(&String, &Vec<u8>)> = contents.iter().filter(|(path, _)| path.starts_with("journal/")).collect();
    let headed = || files.iter().filter(|(_, bytes)| bytes[..4] == *b"TLRF");
    let mut spans = BTreeMap::new();
    let mut current = headed().find(|(_, bytes)| number(bytes, 48) == tip.file_no);
    while let Some((path, bytes)) = current {
        spans.insert((*path).clone(), frames(bytes, &mut tip));
        current = headed().find(|(_, bytes)| {
            number(bytes, 56) == tip.lsn + 1 && word(bytes, 72) == tip.crc && number(bytes, 48) > tip.file_no
        });
        if let Some((_, bytes)) = current {
            (tip.file_no, tip.at) = (number(bytes, 48), 4_096);
        }
    }
    for (path, bytes) in files {
        spans.entry(path.clone()).or_insert_with(|| vec![span(0..bytes.len(), &JOURNAL_UNUSED)]);
    }
    spans
}

/// One file of the chain, from the tip on.
fn frames(bytes: &[u8], tip: &mut Tip) -> Vec<Span> {
    let mut found = vec![span(4_096..tip.at, &JOURNAL_BEFORE_CHECKPOINT)];
    let before = tip.lsn;
    while bytes.get(tip.at..tip.at + 4) == Some(b"TLRJ")
        && number(bytes, tip.at + 32) == tip.lsn + 1
        && word(bytes, tip.at + 28) == tip.crc
    {
        let start = tip.at;
        let body = start + 160;
        let body_end = body + word(bytes, start + 20) as usize;
        tip.lsn += 1;
        tip.crc = word(bytes, start + 12);
        tip.at = start + word(bytes, start + 16) as usize;
        let parts = [(start..body, &FRAME_HEADER), (body..body_end, &FRAME_BODY), (body_end..tip.at, &GROUP_PADDING)];
        found.extend(parts.map(|(range, class)| Span { lsn: Some(tip.lsn), ..span(range, class) }));
    }
    let zeros = bytes.len().min(tip.at + 4_096);
    found.extend([span(tip.at..zeros, &JOURNAL_ZERO_BLOCK), span(zeros..bytes.len(), &JOURNAL_BEHIND_END)]);
    let header = if tip.lsn > before {
        Span { lsn: Some(before + 1), ..span(0..4_096, &JOURNAL_HEADER) }
    } else {
        span(0..4_096, &JOURNAL_UNUSED)
    };
    found.insert(0, header);
    found
}

/// Goes through the bytes of a row.
struct Row<'a>(&'a [u8]);

impl Row<'_> {
    fn take(&mut self, count: usize) -> u64 {
        let (first, rest) = self.0.split_at(count);
        self.0 = rest;
        first.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

/// The segments that the newest tables list, with their indexes.
fn segments(contents: &BTreeMap<String, Vec<u8>>, newest: &str) -> BTreeMap<String, Vec<Span>> {
    let tables = &contents[newest];
    let end = 128 + size(number(tables, 24));
    let (mut at, mut spans) = (128, BTreeMap::new());
    while at < end {
        let len = word(tables, at + 4) as usize;
        if tables[at] == 4 {
            lane(contents, Row(&tables[at + 12..at + 12 + len]), &mut spans);
        }
        at += 12 + len;
    }
    spans
}

fn lane(contents: &BTreeMap<String, Vec<u8>>, mut row: Row<'_>, spans: &mut BTreeMap<String, Vec<Span>>) {
    let (topic, partition) = (row.take(8), row.take(4));
    let lane = Lane { topic: TopicId(topic), partition: Partition(u32::try_from(partition).expect("four bytes")) };
    let [_head, _end, _last_time, _flushed] = [(); 4].map(|()| row.take(8));
    for _ in 0..row.take(4) {
        let [_id, base, end] = [(); 3].map(|()| row.take(8));
        let (generation, _sealed, _last_lsn) = (row.take(4), row.take(1), row.take(8));
        let data_end = size(row.take(8));
        let [_last_crc, _first_time, _last_time] = [4, 8, 8].map(|count| row.take(count));
        let stem = format!("data/{topic:016x}/{partition}/{base:020}-{generation:08x}");
        let path = format!("{stem}.log");
        let index = format!("{stem}.index");
        spans.insert(path.clone(), blocks(&contents[&path], lane, base..end, data_end));
        if let Some(bytes) = contents.get(&index) {
            spans.insert(index, vec![Span { loses: Some((lane, 0..0)), ..span(0..bytes.len(), &INDEX) }]);
        }
    }
}

/// The blocks of one segment.
fn blocks(bytes: &[u8], lane: Lane, offsets: Range<u64>, data_end: usize) -> Vec<Span> {
    let with =
        |range: Range<usize>, class, loses: Range<u64>| Span { loses: Some((lane, loses)), ..span(range, class) };
    let mut found = vec![with(0..4_096, &SEGMENT_HEADER, offsets)];
    let mut at = 4_096;
    while at < data_end {
        assert_eq!(&bytes[at..at + 4], b"TLRB", "a block begins here");
        let block = number(bytes, at + 72)..number(bytes, at + 80);
        let behind = at + word(bytes, at + 16) as usize;
        found.push(with(at..at + 384, &BLOCK_HEADER, block.clone()));
        found.push(with(at + 384..behind, &BLOCK_BODY, block));
        at = behind;
    }
    assert_eq!(at, data_end, "blocks end where the tables say");
    found.push(with(at..bytes.len(), &SEGMENT_BEHIND_END, 0..0));
    found
}
