//! What a start takes and a stop leaves: memory of a start on a full journal, descriptors that clients cannot take, and
//! what is said when a stop is given up.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
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

/// A broker that can write no byte more to its files, and so no checkpoint.
#[test]
fn a_stop_that_is_given_up_says_what_is_left() {
    let mut shell = Shell::new();
    let heedless =
        format!("trap '' XFSZ; exec \"{}\" serve --data data --listen 127.0.0.1:0", env!("CARGO_BIN_EXE_tillroll"));
    let broker = shell.broker_by("sh", &["-c", &heedless]);
    shell.talk_to(&broker);
    shell.ok("tillroll topic create orders --partitions 2");
    let rows: Vec<String> = (0..100).map(|row| format!("{{\"n\":{row}}}")).collect();
    let rows = rows.join("\n") + "\n";
    let said = shell.run_with("tillroll append orders - --format jsonl --key-column n -q", rows.as_bytes());
    assert_eq!(said.code, 0, "{said:?}");
    let pid = i32::try_from(broker.pid()).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::Fsize, Rlimit { current: Some(0), maximum: Some(0) }).expect("it is ours");
    // The journal takes nothing any more, so there is nothing to wait for.
    assert_ne!(shell.run("tillroll topic create more").code, 0);
    for line in ["tillroll status", "tillroll status -o json"] {
        let said = shell.run(line);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.stdout.contains("OFF") && said.stderr.starts_with("error: appends are refused: writes are off "),
            "{said:?}"
        );
    }
    let (code, said) = broker.end("TERM");
    assert_eq!(code, 0, "{said}");
    let given_up = said.lines().find(|line| line.contains("the stop did not wait for the last checkpoint: "));
    let given_up = given_up.unwrap_or_else(|| panic!("nothing is said of what is left: {said}"));
    assert!(given_up.contains(" WARN tillroll::notice: ") && given_up.contains(", 2 partitions; "), "{given_up}");

    let broker = shell.broker(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
    assert!(broker.before.contains(" frames of the journal replayed in "), "{}", broker.before);
    shell.talk_to(&broker);
    assert_eq!(shell.ok("tillroll read orders --format '%v\\n'").lines().count(), 100, "nothing is lost");
}

/// Sockets take no descriptor that the log needs: half of what there are is its own.
#[test]
fn clients_leave_the_log_its_descriptors() {
    const DESCRIPTORS: usize = 128;
    let mut shell = Shell::new();
    let binary = env!("CARGO_BIN_EXE_tillroll");
    let line = format!("ulimit -n {DESCRIPTORS}; exec \"{binary}\" serve --data data --listen 127.0.0.1:0");
    let broker = shell.broker_by("sh", &["-c", &line]);
    assert!(broker.before.contains("only 128 files may be open, and half as many connections"), "{}", broker.before);
    shell.talk_to(&broker);
    let sockets = || std::net::TcpStream::connect(&broker.address).expect("the kernel takes it");
    let _open: Vec<_> = (0..DESCRIPTORS * 2).map(|_| sockets()).collect();
    shell.ok("tillroll topic create orders --partitions 64");
    let rows: Vec<String> = (0..500).map(|row| format!("{{\"n\":{row}}}")).collect();
    let rows = rows.join("\n") + "\n";
    let said = shell.run_with("tillroll append orders - --format jsonl --key-column n -q", rows.as_bytes());
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(shell.ok("tillroll read orders --format '%v\\n'").lines().count(), 500);
    let status: serde_json::Value = serde_json::from_str(&shell.ok("tillroll status -o json")).expect("JSON");
    assert_eq!(status["max_connections"], DESCRIPTORS / 2, "{status}");
}
