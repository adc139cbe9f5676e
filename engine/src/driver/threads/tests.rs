//! The road on threads and a real disk: what was acked is read back, before and after a restart.

use bytes::Bytes;

use super::*;
use crate::{
    error::Refusal,
    id::{Lane, Offset, Partition, TopicId},
    record::RecordSet,
    request::{Append, AppendBatch, Appended, Check, Content, InitProducer, Stamp, TopicConfig},
};

fn settings() -> Settings {
    Settings { journal_file_bytes: 1 << 20, space_floor_bytes: 0, ballast_bytes: 0, ..Settings::default() }
}

/// A set of records, each with a value only.
fn set(values: &[String]) -> Bytes {
    let mut out = Vec::new();
    for value in values {
        let mut record = vec![0x12, u8::try_from(value.len()).expect("short values")];
        record.extend(value.as_bytes());
        out.extend([0x0a, u8::try_from(record.len()).expect("short values")]);
        out.extend(record);
    }
    out.into()
}

fn append(topic: &str, partition: u32, values: &[String], stamp: Option<Stamp>) -> Append {
    let content = Content::Plain(set(values));
    let batch = AppendBatch { topic: topic.into(), topic_id: None, partition: Some(Partition(partition)), content };
    Append { batches: vec![batch], stamp, ..Append::default() }
}

fn write(engine: &Engine, append: Append) -> Result<Appended, Refusal> {
    engine.try_append(append).wait()
}

fn values(engine: &Engine, lane: Lane) -> Vec<String> {
    let (mut next, mut out) = (Offset(0), Vec::new());
    loop {
        let answer = engine.read(lane, next, 1 << 20).expect("a lane reads");
        if answer.chunks.is_empty() {
            return out;
        }
        for chunk in &answer.chunks {
            let plain = chunk.batch.decode().expect("a batch decodes");
            let skip = usize::try_from(next.since(chunk.base)).expect("small");
            let records = RecordSet::new(&plain).iter().map(|record| record.expect("well-formed").1);
            out.extend(records.skip(skip).map(|view| String::from_utf8(view.value.to_vec()).expect("text")));
        }
        next = answer.next;
    }
}

#[test]
fn what_was_acked_is_read_back_before_and_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let lane = Lane { topic: TopicId(1), partition: Partition(0) };
    let all: Vec<String> = (0..5_000).map(|number| format!("value {number}")).collect();
    let stamp = |epoch, sequence| Some(Stamp { producer: "loader".into(), epoch, sequence, answered_below: 0 });
    let epoch = {
        let running = Running::start(dir.path(), settings()).expect("a new directory opens");
        let engine = running.engine.clone();
        let config = TopicConfig { partitions: 1, segment_bytes: 64 << 10, ..TopicConfig::default() };
        engine.create_topic("orders", config, false).wait().expect("created");
        let init = InitProducer { name: Some("loader".into()), idle_expiry_ms: 0, ..InitProducer::default() };
        let opened = engine.init_producer(init).wait().expect("registered");
        let (epoch, next_sequence) = (opened.epoch, opened.next_sequence);
        assert_eq!(next_sequence, 1);
        let tickets: Vec<_> = (1..)
            .zip(all.chunks(50))
            .map(|(sequence, chunk)| engine.try_append(append("orders", 0, chunk, stamp(epoch, sequence))))
            .collect();
        for (number, ticket) in tickets.into_iter().enumerate() {
            let appended = ticket.wait().expect("accepted");
            assert_eq!(appended.batches[0].base, Offset(number as u64 * 50));
        }
        assert_eq!(values(&engine, lane), all);
        let duplicate =
            write(&engine, append("orders", 0, &all[4_950..], stamp(epoch, 100))).expect("a retry is answered");
        assert!(duplicate.duplicate && duplicate.batches[0].base == Offset(4_950));
        running.stop();
        epoch
    };
    let running = Running::start(dir.path(), settings()).expect("it opens again");
    assert_eq!(running.report.frames_replayed, 0, "a clean stop leaves nothing to replay: {:?}", running.report);
    assert_eq!(running.report.findings, Vec::<String>::new());
    assert_eq!(values(&running.engine, lane), all);
    let duplicate = write(&running.engine, append("orders", 0, &all[4_950..], stamp(epoch, 100))).expect("answered");
    assert!(duplicate.duplicate && duplicate.batches[0].base == Offset(4_950));
    let check = Check::NextOffset { topic: "orders".into(), partition: Partition(0), next_offset: Offset(7) };
    let unwanted = Append { checks: vec![check], ..append("orders", 0, &all[..1], None) };
    assert!(matches!(write(&running.engine, unwanted), Err(Refusal::ExpectedOffsetMismatch { .. })));
    let next = write(&running.engine, append("orders", 0, &all[..1], None)).expect("accepted");
    assert_eq!(next.batches[0].base, Offset(5_000));
    drop(running);
}
