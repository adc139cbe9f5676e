//! What a start takes and a stop leaves: memory of a start on a full journal, and what is said when a stop is given up.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use tillroll_engine::{
    disk::real::RealDisk,
    engine,
    env::{Env, SystemEnv},
    id::Partition,
    request::{Append, AppendBatch, Content, TopicConfig},
    settings::Settings,
    stage::{Now, Step},
    ticket::Ticket,
};

use crate::shell::Shell;

/// Memory that a start may take, whatever the journal holds, in KiB: what the log keeps in memory while it replays, one
/// window over the journal, and the program itself.
const START_KIB_MAX: u64 = 160 << 10;
/// Journal files that are filled.
const FILES: u64 = 4;

/// A record set of one record of about a MiB.
fn record_set(number: u8) -> Bytes {
    let value = vec![number; (1 << 20) - 64];
    let varint = |mut number: usize| {
        let mut out = Vec::new();
        while number >= 0x80 {
            out.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
        out
    };
    let record = [&[0x12], &varint(value.len())[..], &value].concat();
    [&[0x0a], &varint(record.len())[..], &record].concat().into()
}

/// Fills journal files with frames that no checkpoint stands for, as a broker that is killed leaves them.
fn fill(dir: &Path) -> u64 {
    let disk = Arc::new(RealDisk::open(dir).expect("a directory"));
    let env = Arc::new(SystemEnv::default());
    // Nothing is flushed, so all of it stays in memory here.
    let settings = Settings {
        hold_checkpoints: true,
        ballast_bytes: 0,
        space_floor_bytes: 0,
        tail_bytes: 1 << 30,
        ..Settings::default()
    };
    let (engine, mut stages, _) = engine::open(disk, env.clone(), settings).expect("it opens");
    stages.retain(|stage| ["sequence", "write", "sync", "publish", "grow"].contains(&stage.name()));
    let mut step = || {
        let now = Now { wall_us: env.wall_us(), mono_us: env.mono_us() };
        stages.iter_mut().any(|stage| stage.step(now) == Step::Did)
    };
    let mut wait = |ticket: &dyn Fn() -> bool| while !ticket() && step() {};
    let config = TopicConfig { partitions: 4, ..TopicConfig::default() };
    let created = engine.create_topic("orders", config, false);
    wait(&|| created.try_take().is_some());
    let mut count = 0;
    while engine.status().journal_files < FILES {
        let send = |number: u8| -> Ticket<_> {
            let batch = AppendBatch {
                topic: "orders".to_owned(),
                topic_id: None,
                partition: Some(Partition(u32::from(number % 4))),
                content: Content::Plain(record_set(number)),
            };
            engine.try_append(Append { batches: vec![batch], ..Append::default() })
        };
        let tickets: Vec<_> = (0..8).map(send).collect();
        count += 8;
        for ticket in &tickets {
            wait(&|| ticket.try_take().is_some());
        }
    }
    count
}

/// The most memory that a process has had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is there");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

#[test]
fn a_start_on_a_full_journal_takes_no_more_memory_than_a_run() {
    let mut shell = Shell::new();
    let count = fill(&shell.folder().join("data"));
    let broker = shell.broker(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
    let peak = peak_kib(broker.pid());
    println!("{} {count} records, peak {peak} KiB", broker.before.trim());
    assert!(broker.before.contains("of the journal replayed in"), "{}", broker.before);
    assert!(peak < START_KIB_MAX, "the start took {peak} KiB, {START_KIB_MAX} are the limit");
    shell.talk_to(&broker);
    let line = "tillroll topic describe orders -o json";
    let ends = shell.ok(line);
    assert!(ends.contains("orders"), "{ends}");
}
