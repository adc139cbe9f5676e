//! `tillroll serve` as an operator meets it: how it starts, what it refuses to start on, and how it ends.

use std::io::Read as _;

use crate::shell::{Broker, Shell};
use tillroll_proto::v1;
use tokio::{runtime::Runtime, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

/// The bytes of one slot of `control`.
const SLOT_BYTES: usize = 4_096;

/// A call that its client does not end, and that the broker knows nothing of: it keeps a broker that is told to stop.
struct Held {
    _runtime: Runtime,
    _requests: mpsc::Sender<v1::GetServerRequest>,
    _answers: Streaming<v1::GetServerResponse>,
}

impl Held {
    fn new(broker: &Broker) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (requests, pending) = mpsc::channel(1);
        let answers = runtime.block_on(async {
            let channel = Channel::from_shared(format!("http://{}", broker.address)).expect("a uri");
            let mut grpc = Grpc::new(channel.connect().await.expect("it takes requests"));
            grpc.ready().await.expect("connected");
            let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".parse().expect("a path");
            let codec = ProstCodec::<v1::GetServerRequest, v1::GetServerResponse>::default();
            grpc.streaming(Request::new(ReceiverStream::new(pending)), path, codec).await.expect("opened").into_inner()
        });
        Self { _runtime: runtime, _requests: requests, _answers: answers }
    }
}

#[test]
fn a_directory_and_a_port_have_one_broker() {
    let (shell, broker) = Shell::with_broker();
    // There is no file whose removal would let a second one in.
    assert!(!shell.folder().join("data/lock").exists());
    let said = shell.run("tillroll serve --data data --listen 127.0.0.1:0");
    assert_eq!((said.code, said.stdout.as_str()), (6, ""), "{said:?}");
    assert!(said.stderr.starts_with("error: data: the data directory is in use by another broker\nhint: "), "{said:?}");
    let said = shell.run(&format!("tillroll serve --data other --listen {}", broker.address));
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.stderr.contains("hint: another program"), "{said:?}");
    assert_eq!(shell.run("tillroll status -q").code, 0, "the first one goes on");
}

/// A directory that nobody asked for would be taken for a log that lost its records.
#[test]
fn a_port_that_is_taken_leaves_no_directory_behind() {
    let shell = Shell::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    for verb in ["serve", "dev"] {
        let said = shell.run(&format!("tillroll {verb} --data data --listen {address}"));
        assert_eq!((said.code, said.stdout.as_str()), (6, ""), "{said:?}");
        assert!(said.stderr.contains("hint: another program"), "{said:?}");
        assert!(!shell.folder().join("data").exists(), "{verb} made the directory");
    }
}

#[test]
fn an_address_may_be_a_host_by_its_name() {
    let mut shell = Shell::new();
    let broker = shell.broker(&["serve", "--data", "data", "--listen", "localhost:0"]);
    shell.talk_to(&broker);
    assert_eq!(shell.run("tillroll status -q").code, 0);
    let said = shell.run("tillroll serve --data other --listen 7420");
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("write HOST:PORT, as in 127.0.0.1:7420"), "{said:?}");
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let shell = Shell::new();
    std::fs::create_dir(shell.folder().join("home")).expect("a new one");
    std::fs::write(shell.folder().join("home/letter.txt"), "dear").expect("a file");
    let said = shell.run("tillroll serve --data home --listen 127.0.0.1:0; code=$?; ls home; exit $code");
    assert_eq!((said.code, said.stdout.as_str()), (4, "letter.txt\n"), "{said:?}");
    let expected = "error: home: the directory holds letter.txt, which is no log's\nhint: choose an empty one";
    assert!(said.stderr.starts_with(expected), "{said:?}");
}

#[test]
fn few_descriptors_are_enough_for_many_partitions() {
    let mut shell = Shell::new();
    let limited =
        format!("ulimit -n 600; exec \"{}\" serve --data data --listen 127.0.0.1:0", env!("CARGO_BIN_EXE_tillroll"));
    let broker = shell.broker_by("sh", &["-c", &limited]);
    assert!(broker.before.contains("only 600 files may be open"), "{}", broker.before);
    shell.talk_to(&broker);
    shell.ok("tillroll topic create wide --partitions 1000");
    // Keys reach every partition, or nearly.
    let rows: Vec<String> = (0..6_000).map(|row| row.to_string()).collect();
    std::fs::write(shell.folder().join("rows.csv"), format!("n\n{}\n", rows.join("\n"))).expect("a file");
    shell.ok("tillroll append wide rows.csv --key-column n -q");
    let (code, said) = broker.end("TERM");
    assert_eq!(code, 0, "{said}");
    let broker = shell.broker(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
    assert_eq!(broker.before, "", "everything is in segments");
    shell.talk_to(&broker);
    assert_eq!(shell.ok("tillroll read wide --format '%v\\n'").lines().count(), 6_000);
}

#[test]
fn both_signals_end_it_in_order_and_followers_with_it() {
    for name in ["TERM", "INT", "HUP"] {
        let (mut shell, broker) = Shell::with_broker();
        shell.ok("tillroll topic create orders --partitions 1");
        shell.ok("tillroll append orders --value kept -q");
        let mut follower = shell.spawn(&["read", "orders", "-f", "--format", "%v\\n"]);
        let mut first = [0; 5];
        follower.stdout.as_mut().expect("it is piped").read_exact(&mut first).expect("it follows");
        assert_eq!(&first, b"kept\n");
        let (code, said) = broker.end(name);
        assert_eq!(code, 0, "{said}");
        assert!(said.starts_with("stopping: "), "{said}");
        follower.kill().and_then(|()| follower.wait()).expect("it was started here");

        let broker = shell.broker(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
        assert_eq!(broker.before, "", "a clean stop leaves nothing to warn of");
        shell.talk_to(&broker);
        assert_eq!(shell.ok("tillroll read orders --format '%v\\n'"), "kept\n");
    }
}

#[test]
fn a_directory_without_its_control_file_is_not_believed() {
    let (shell, broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders");
    broker.kill();
    std::fs::remove_file(shell.folder().join("data/control")).expect("it is there");
    let said = shell.run("tillroll serve --data data --listen 127.0.0.1:0");
    assert_eq!(said.code, 7, "{said:?}");
    assert!(said.stderr.contains("there is no control file"), "{said:?}");
}

#[test]
fn a_closed_standard_error_stops_nobody() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders");
    let said = shell.run("(tillroll read orders; echo $? >code) 2>&1 | true; cat code");
    assert_eq!(said.stdout, "0\n", "{said:?}");
    let said = shell.run("tillroll read orders 2>&-; tillroll read visits 2>&-; echo $?");
    assert_eq!(said.stdout, "3\n", "{said:?}");
}

#[test]
fn a_second_signal_ends_it_at_once_and_loses_nothing() {
    for (name, expected) in [("TERM", 143), ("INT", 130)] {
        let (mut shell, mut broker) = Shell::with_broker();
        shell.ok("tillroll topic create orders --partitions 1");
        let _held = Held::new(&broker);
        shell.ok("tillroll append orders --value kept -q");
        broker.signal(name);
        assert!(broker.lines(1).starts_with("stopping: "), "the first one lets calls in flight end");
        let (code, said) = broker.end(name);
        assert_eq!(code, expected, "{said}");

        let broker = shell.broker(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
        assert!(
            broker.before.contains(" INFO tillroll::notice: 3 frames of the journal replayed in "),
            "{}",
            broker.before
        );
        shell.talk_to(&broker);
        assert_eq!(shell.ok("tillroll read orders --format '%v\\n'"), "kept\n");
    }
}

#[test]
fn what_a_start_finds_is_logged_before_it_listens() {
    let (shell, broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    assert_eq!(broker.end("TERM").0, 0);
    // The first checkpoint went to the second file, so this one holds nothing that is needed.
    std::fs::write(shell.folder().join("data/tables-a"), [0x5a; 4_096]).expect("a damaged file");
    let broker = shell.broker(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
    assert!(broker.before.contains(" WARN tillroll::notice: tables-a is not believed: "), "{}", broker.before);
}

#[test]
fn a_directory_of_a_newer_format_is_refused_and_left_as_it_is() {
    let (shell, broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders");
    broker.kill();
    let path = shell.folder().join("data/control");
    let written = std::fs::read(&path).expect("it is there");
    let mut newer = written.clone();
    // As docs/format.md has it: the version at 4, the CRC over the slot with zeros in its place at 8.
    for slot in newer.chunks_mut(SLOT_BYTES).filter(|slot| slot.starts_with(b"TLRC")) {
        slot[4..6].copy_from_slice(&2_u16.to_le_bytes());
        slot[8..12].fill(0);
        let crc = crc32fast::hash(slot);
        slot[8..12].copy_from_slice(&crc.to_le_bytes());
    }
    assert_ne!(newer, written);
    std::fs::write(&path, &newer).expect("it can be written");
    let said = shell.run("tillroll serve --data data --listen 127.0.0.1:0");
    assert_eq!((said.code, said.stdout.as_str()), (4, ""), "{said:?}");
    assert!(said.stderr.starts_with("error: data: the data directory is of a newer format ("), "{said:?}");
    assert!(said.stderr.contains("hint: start the version that wrote it"), "{said:?}");
    assert_eq!(std::fs::read(&path).expect("it is there"), newer, "not a byte was changed");
}

#[test]
fn the_status_says_whether_writes_are_on_and_what_is_in_use() {
    let (shell, _broker) = Shell::with_broker();
    let said = shell.run("tillroll status -o json");
    let status: serde_json::Value = serde_json::from_str(&said.stdout).expect("an object");
    assert_eq!((said.code, status["write_state"].as_str()), (0, Some("ON")), "{said:?}");
    assert!(status["data_directory"].as_str().is_some_and(|path| path.ends_with("/data")), "{said:?}");
    assert!(status["memory_budgets"].as_array().is_some_and(|budgets| budgets.len() >= 3), "{said:?}");
    let words = shell.run("tillroll status").stdout;
    assert!(words.contains("\nwrites       ON\n") && words.contains("memory       tail"), "{words}");
}
