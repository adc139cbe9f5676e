//! Real orders through kills: `tillroll append` loads a file while the broker is killed again and again, once with the
//! loader killed as well, and every line is read back, once, in order, equal to the file.
//!
//! Method: SIGKILL whenever the log has grown by another slice of the file, so that kills are spread over the run and
//! always hit a load that is going on. The file is parsed here by its own; exact duplicates of lines are told apart by
//! their number. `TILLROLL_RETAIL=FILE` takes another file than the cut, such as the whole year. With
//! `TILLROLL_READ_BACK=DIR` what was read is left there, as JSON lines: `tests/python/verify_lines.py` proves it again.

use std::{
    collections::HashMap,
    path::PathBuf,
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use serde_json::Value;
use tillroll_client::Client;
use tokio::runtime::Runtime;

use crate::{
    process::wait_for,
    shell::{Broker, Shell},
};

const KILLS: u64 = 12;
/// For one slice of the file.
const PROGRESS_WITHIN: Duration = Duration::from_mins(1);

fn file() -> PathBuf {
    let cut = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/retail-cut.csv.zst"));
    std::env::var_os("TILLROLL_RETAIL").map_or_else(cut, PathBuf::from)
}

/// Header and lines of the file.
fn parsed() -> (Vec<String>, Vec<Vec<String>>) {
    let packed = std::fs::File::open(file()).expect("the file is there");
    let mut rows = csv::Reader::from_reader(zstd::Decoder::new(packed).expect("it is packed"));
    let texts = |row: &csv::StringRecord| row.iter().map(str::to_owned).collect::<Vec<_>>();
    let header = texts(rows.headers().expect("it has a header"));
    (header, rows.records().map(|row| texts(&row.expect("it is CSV"))).collect())
}

/// A load that goes on.
struct Storm {
    shell: Shell,
    broker: Option<Broker>,
    address: String,
    runtime: Runtime,
}

impl Storm {
    fn new() -> Self {
        let (shell, broker) = Shell::with_broker_of_its_own();
        shell.ok("tillroll topic create orders --partitions 8");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { shell, address: broker.address.clone(), broker: Some(broker), runtime }
    }

    fn load(&self) -> Child {
        let file = file();
        let file = file.to_str().expect("the path is text");
        // Small appends and a small window: many are unanswered at any time, and no kill takes the whole file.
        let tuning = ["--batch-bytes", "16384", "--in-flight-bytes", "131072", "--producer", "retail", "-q"];
        let mut words = vec!["append", "orders", file, "--format", "csv"];
        words.extend(["--key-column", "InvoiceNo", "--time-column", "InvoiceDate"]);
        words.extend(tuning);
        self.shell.spawn(&words)
    }

    /// Waits until the log has so many lines, or the loader has ended.
    fn grown_to(&self, lines: u64, loader: &mut Child) -> Option<ExitStatus> {
        let since = Instant::now();
        self.runtime.block_on(async {
            let client = Client::connect(&self.address).await.expect("the broker takes requests");
            loop {
                let topic = client.admin().get_topic("orders").await.expect("the topic is there");
                let ended = loader.try_wait().expect("it was started here");
                if ended.is_some() || topic.partitions.iter().map(|held| held.end_offset).sum::<u64>() >= lines {
                    return ended;
                }
                assert!(since.elapsed() < PROGRESS_WITHIN, "the load does not go on at {lines} lines");
            }
        })
    }

    fn kill_broker(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.kill();
        }
        self.broker = Some(self.shell.broker(&["serve", "--data", "data", "--listen", &self.address]));
    }

    /// Every line of the file, once, equal, offsets dense, the lines of an invoice rising in one partition.
    fn prove(&self, name: &str, header: &[String], lines: &[Vec<String>]) {
        let text = self.shell.ok("tillroll read orders -o jsonl");
        if let Some(dir) = std::env::var_os("TILLROLL_READ_BACK") {
            std::fs::write(PathBuf::from(dir).join(name), &text).expect("the directory is there");
        }
        let mut found = vec![false; lines.len()];
        let mut ends: HashMap<u64, u64> = HashMap::new();
        let mut last: HashMap<String, (u64, usize)> = HashMap::new();
        for record in text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is an object")) {
            let number = |name: &str| record[name].as_u64().expect("a number");
            let (partition, end) = (number("partition"), ends.entry(number("partition")).or_default());
            assert_eq!(number("offset"), *end, "partition {partition}: offsets are dense");
            *end += 1;
            let id = record["id"].as_str().and_then(|id| id.rsplit_once('#')).expect("an id ends in its line");
            let line: usize = id.1.parse().expect("a number");
            assert!(!std::mem::replace(&mut found[line - 1], true), "line {line} is there twice");
            let fields = header.iter().map(|name| record["value"][name].as_str().expect("a text").to_owned());
            assert_eq!(fields.collect::<Vec<_>>(), lines[line - 1], "line {line}");
            let invoice = lines[line - 1][0].clone();
            assert_eq!(record["key"], invoice.as_str());
            if let Some((home, before)) = last.insert(invoice, (partition, line)) {
                assert!(home == partition && before < line, "line {line} comes behind line {before}");
            }
        }
        let missing = found.iter().position(|found| !found).map(|index| index + 1);
        assert_eq!(missing, None, "a line is not there");
    }
}

#[test]
fn every_line_survives_kills_of_the_broker() {
    let (header, lines) = parsed();
    let mut storm = Storm::new();
    let mut loader = storm.load();
    let mut kills = 0;
    for slice in 1..=KILLS {
        if storm.grown_to(lines.len() as u64 * slice / (KILLS + 1), &mut loader).is_some() {
            break;
        }
        storm.kill_broker();
        kills += 1;
    }
    let output = wait_for("the end of the load", loader.id(), || loader.wait_with_output());
    let output = output.expect("it was started here");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(kills >= 10, "only {kills} kills hit the load");
    storm.prove("broker-killed.jsonl", &header, &lines);
}

#[test]
fn every_line_survives_kills_of_the_broker_and_of_its_loader() {
    let (header, lines) = parsed();
    let mut storm = Storm::new();
    let mut loader = storm.load();
    let mut kills = 0;
    for slice in 1..=KILLS {
        if storm.grown_to(lines.len() as u64 * slice / (KILLS + 1), &mut loader).is_some() {
            break;
        }
        kills += 1;
        if slice % 3 == 0 {
            loader.kill().and_then(|()| loader.wait()).expect("it was started here");
            storm.kill_broker();
            loader = storm.load();
        } else {
            storm.kill_broker();
        }
    }
    let output = wait_for("the end of the load", loader.id(), || loader.wait_with_output());
    let output = output.expect("it was started here");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(kills >= 10, "only {kills} kills hit the load");
    storm.prove("loader-killed.jsonl", &header, &lines);
}
