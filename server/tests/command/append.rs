//! `tillroll append`: what becomes of a file, how a load goes on after it was stopped, and what is refused.

use std::io::BufReader;

use crate::{
    process::wait_for,
    shell::{Shell, printed, signal},
};
use serde_json::{Value, json};

const SHOP: &str = "Invoice,What,When\n\
    536365,\"HEART, WHITE\",2010-12-01 08:26:00\n\
    536365,\"HEART, WHITE\",2010-12-01 08:26:00\n\
    ,,\n";

fn records(shell: &Shell, topic: &str) -> Vec<Value> {
    let lines = shell.ok(&format!("tillroll read {topic} -o jsonl"));
    lines.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect()
}

fn write(shell: &Shell, name: &str, bytes: &[u8]) {
    std::fs::write(shell.folder().join(name), bytes).expect("a file in the folder");
}

#[test]
fn a_csv_row_is_an_object_with_key_time_and_id() {
    let (shell, _broker) = Shell::with_broker();
    let packed = zstd::encode_all(SHOP.as_bytes(), 3).expect("it packs");
    write(&shell, "shop.csv.zst", &packed);
    shell.ok("tillroll topic create orders --partitions 1");
    let said = shell.run(
        "tillroll append orders shop.csv.zst --key-column Invoice --time-column When --time-zone UTC --type Sold \
         -o json",
    );
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.starts_with("3 records acked in orders (1 partition), "), "{said:?}");
    let told: Value = serde_json::from_str(&said.stdout).expect("one object");
    assert_eq!((&told["records_acked"], &told["complete"]), (&json!(3), &json!(true)));

    let found = records(&shell, "orders");
    assert_eq!(found.len(), 3);
    let mut first = found[0].clone();
    first.as_object_mut().expect("an object").remove("append_time");
    assert_eq!(
        first,
        json!({
            "topic": "orders", "partition": 0, "offset": 0, "key": "536365", "id": "shop.csv.zst#1", "type": "Sold",
            "source": "shop.csv.zst", "event_time": "2010-12-01T08:26:00Z",
            "value": {"Invoice": "536365", "What": "HEART, WHITE", "When": "2010-12-01 08:26:00"},
        })
    );
    assert_eq!(found[1]["id"], "shop.csv.zst#2");
    assert_eq!((&found[2]["key"], &found[2]["value"]["What"]), (&Value::Null, &json!("")));
}

#[test]
fn what_would_be_left_out_in_silence_is_refused() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders");
    write(&shell, "rows.csv", b"a,b\n1,2\n");
    write(&shell, "rows.csv.gz", b"\x1f\x8b\x08 and more");
    let lines = [
        ("tillroll append orders rows.csv --key 42", 2),
        ("tillroll append orders --value 1 --producer retail", 2),
        ("tillroll append orders rows.csv.gz", 1),
    ];
    for (line, code) in lines {
        let said = shell.run(line);
        assert_eq!(said.code, code, "{line}: {said:?}");
    }
    assert!(records(&shell, "orders").is_empty());
}

#[test]
fn a_record_that_is_too_large_is_named_by_its_line_and_what_came_before_it_stays() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders");
    write(&shell, "huge.txt", format!("first\nsecond\n{}\n", "x".repeat((1 << 20) + 1)).as_bytes());
    let said = shell.run("tillroll append orders huge.txt");
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.stderr.contains("huge.txt line 3: the record is too large"), "{}", said.stderr);
    assert!(said.stderr.contains("2 records acked") && said.stderr.contains("--skip 2"), "{}", said.stderr);
    assert_eq!(records(&shell, "orders").len(), 2);
    write(&shell, "huge.csv", format!("a,b\n1,\"x\ny\"\n2,{}\n", "x".repeat((1 << 20) + 1)).as_bytes());
    let said = shell.run("tillroll append orders huge.csv");
    assert!(said.stderr.contains("error: huge.csv line 4: the record is too large"), "{}", said.stderr);
}

#[test]
fn a_named_load_goes_on_where_the_log_stands() {
    let (shell, broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    write(&shell, "a.txt", b"1\n2\n");
    shell.ok("tillroll append orders a.txt --producer loader");
    write(&shell, "a.txt", b"1\n2\n3\n4\n");
    let said = shell.run("tillroll append orders a.txt --producer loader");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.starts_with("loader has acked 2 records of a.txt: going on behind them\n2 records acked"));
    // A restart of the broker changes nothing of it.
    broker.kill();
    let broker = shell.broker(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
    let mut shell = shell;
    shell.talk_to(&broker);
    let said = shell.run("tillroll append orders a.txt --producer loader");
    assert!(said.stderr.contains("\n0 records acked"), "{said:?}");
    let values: Vec<Value> = records(&shell, "orders").into_iter().map(|record| record["value"].clone()).collect();
    assert_eq!(values, ["1", "2", "3", "4"]);
}

#[test]
fn a_name_is_not_taken_for_another_file_or_topic() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders && tillroll topic create visits");
    write(&shell, "a.txt", b"1\n2\n");
    write(&shell, "b.txt", b"3\n4\n5\n");
    shell.ok("tillroll append orders a.txt --producer loader");
    for (typed, named) in [
        ("tillroll append orders b.txt --producer loader", "appended a.txt before, not b.txt"),
        ("tillroll append visits a.txt --producer loader", "appended to topic orders before, not to visits"),
    ] {
        let said = shell.run(typed);
        assert_eq!(said.code, 6, "{said:?}");
        assert!(said.stderr.contains(named) && said.stderr.contains("hint: give every file"), "{said:?}");
    }
    write(&shell, "a.txt", b"1\n");
    let said = shell.run("tillroll append orders a.txt --producer loader");
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.stderr.contains("a.txt has 1 record, fewer than the 2 that are left out"), "{said:?}");
    assert_eq!(records(&shell, "orders").len(), 2);
}

/// Once a file of the same name, as of the next day, went on behind the records of the one before.
#[test]
fn a_name_is_not_taken_for_another_file_of_that_name_or_another_topic_of_that_name() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders");
    write(&shell, "a.csv", b"id,day\n1,one\n2,one\n3,one\n");
    shell.ok("tillroll append orders a.csv --key-column id --producer loader");
    write(&shell, "a.csv", b"id,day\n1,two\n2,two\n3,two\n4,two\n");
    let said = shell.run("tillroll append orders a.csv --key-column id --producer loader");
    assert_eq!(said.code, 6, "{said:?}");
    let wrong = "a.csv is another file than the one before: line 4 is not what was appended";
    assert!(said.stderr.contains(wrong) && said.stderr.contains("hint: give every file"), "{said:?}");
    assert_eq!(records(&shell, "orders").len(), 3);

    shell.ok("tillroll topic delete orders --yes && tillroll topic create orders");
    write(&shell, "b.csv", b"id\n1\n2\n3\n");
    shell.ok("tillroll append orders b.csv --key-column id --producer other");
    let said = shell.run("tillroll append orders a.csv --key-column id --producer loader");
    assert_eq!(said.code, 6, "{said:?}");
    let wrong = "the topic that producer loader appended to was deleted since";
    assert!(said.stderr.contains(wrong) && said.stderr.contains("hint: to load it anew, give"), "{said:?}");
    assert_eq!(records(&shell, "orders").len(), 3);
}

/// What stands in the log stays there: an edit of what was loaded before is told, not left out.
#[test]
fn a_file_that_was_edited_in_the_middle_is_told_apart() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 4");
    let rows = |edited: &str| {
        let row = |row: u32| if row == 1_234 { format!("{row},{edited}") } else { format!("{row},same") };
        format!("id,day\n{}\n", (1..=3_000).map(row).collect::<Vec<_>>().join("\n"))
    };
    write(&shell, "a.csv", rows("one").as_bytes());
    let load = "tillroll append orders a.csv --key-column id --producer loader";
    shell.ok(load);
    assert_eq!(shell.run(load).code, 0, "the same once more is fine");
    write(&shell, "a.csv", rows("two").as_bytes());
    let said = shell.run(load);
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.stderr.contains("error: a.csv#1234 is not what was appended under this name"), "{said:?}");
    assert!(said.stderr.contains("hint: "), "{said:?}");
    assert_eq!(records(&shell, "orders").len(), 3_000, "nothing was added");
}

/// A name is known for ever, and one that is registered for a mistyped column stays for nothing.
#[test]
fn a_mistyped_column_registers_no_producer() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    write(&shell, "a.csv", b"id,day\n1,one\n");
    write(&shell, "a.jsonl", b"{\"id\":1}\n");
    write(&shell, "a.txt", b"1\n");
    for (file, code) in [("a.csv", 2), ("a.jsonl", 1), ("a.txt", 2)] {
        let said = shell.run(&format!("tillroll append orders {file} --key-column idd --producer loader"));
        assert_eq!(said.code, code, "{said:?}");
        assert!(!said.stderr.contains("run it again"), "{said:?}");
        assert_eq!(shell.ok("tillroll producer list -o json"), "[]\n", "{file}");
    }
    shell.ok("tillroll append orders a.csv --key-column id --producer loader");
    shell.ok("tillroll append orders a.jsonl --key-column id --producer other");
    assert_eq!(records(&shell, "orders").len(), 2, "the first record is not left out");
}

#[test]
fn a_csv_header_with_an_open_quote_is_no_empty_file() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    let said = shell.run("printf '\"a\\n1,x\\n2,y\\n' >a.csv; tillroll append orders a.csv");
    assert_eq!(said.code, 1, "{said:?}");
    let wrong = "error: a.csv header: a quote that begins in line 1 is never closed";
    assert!(said.stderr.contains(wrong), "{said:?}");
}

/// Data has such times as "for ever".
#[test]
fn every_time_up_to_the_end_of_the_year_9999_is_one_and_what_lies_beyond_names_its_line() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    write(&shell, "a.csv", b"id,until\n1,9999-12-31T23:59:59Z\n2,9999-12-31 23:59:59.5\n3,9999-12-31T23:00:00+01:00\n");
    shell.ok("tillroll append orders a.csv --time-column until");
    let times: Vec<Value> = records(&shell, "orders").into_iter().map(|record| record["event_time"].clone()).collect();
    assert_eq!(times, ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.500000Z", "9999-12-31T22:00:00Z"]);
    for beyond in ["12010-12-01T00:00:00Z", "+012010-12-01 08:00:00", "9999-12-31T23:59:59-01:00"] {
        write(&shell, "b.csv", format!("id,until\n1,2010-12-01\n2,{beyond}\n").as_bytes());
        let said = shell.run("tillroll append orders b.csv --time-column until");
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stderr.contains(&format!("error: b.csv line 3: \"{beyond}\" is out of range")), "{said:?}");
        assert!(said.stderr.contains("9999-12-31T23:59:59.999999Z"), "{said:?}");
    }
}

#[test]
fn a_bad_line_ends_the_load_and_what_came_before_it_stays() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    write(&shell, "a.csv", b"x,y\n1,2\n3\n5,6\n");
    let said = shell.run("tillroll append orders a.csv");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("1 record acked"), "{said:?}");
    assert!(said.stderr.contains("to go on behind them: "), "{said:?}");
    assert!(said.stderr.contains("append orders a.csv --skip 1\n"), "{said:?}");
    assert!(said.stderr.contains("error: a.csv line 3: it has 1 fields, the header has 2"), "{said:?}");
    write(&shell, "a.csv", b"x,y\n1,2\n3,4\n5,6\n");
    shell.ok("tillroll append orders a.csv --skip 1");
    let ids: Vec<Value> = records(&shell, "orders").into_iter().map(|record| record["id"].clone()).collect();
    assert_eq!(ids, ["a.csv#1", "a.csv#2", "a.csv#3"]);
}

#[test]
fn standard_input_is_sent_line_by_line() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    let said = shell.run_with("cat | tillroll append orders - -q", b"one\ntwo\n");
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let packed = zstd::encode_all(&b"{\"a\":1}\n"[..], 3).expect("it packs");
    let said = shell.run_with("tillroll append orders - --format jsonl --key-column a", &packed);
    assert_eq!(said.code, 0, "{said:?}");
    let found = records(&shell, "orders");
    let seen: Vec<(&Value, &Value)> = found.iter().map(|record| (&record["id"], &record["value"])).collect();
    assert_eq!(
        seen,
        [(&json!("stdin#1"), &json!("one")), (&json!("stdin#2"), &json!("two")), (&json!("stdin#1"), &json!({"a": 1})),]
    );
}

#[test]
fn an_interrupted_load_says_how_to_go_on() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        interrupted_load(name, code);
    }
}

fn interrupted_load(name: &str, code: i32) {
    let (shell, broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    // A pipe that stays open holds the load up behind its first record.
    let made = std::process::Command::new("mkfifo").arg(shell.folder().join("slow.txt")).status();
    assert!(made.is_ok_and(|status| status.success()));
    let loader = shell.spawn(&["append", "orders", "slow.txt", "--server", &format!("http://{}", broker.address)]);
    let mut pipe =
        std::fs::OpenOptions::new().write(true).open(shell.folder().join("slow.txt")).expect("the loader reads it");
    std::io::Write::write_all(&mut pipe, b"first\n").expect("the loader reads it");
    // It is acked when somebody who follows has seen it.
    let mut follower = shell.spawn(&["read", "orders", "-f"]);
    let mut output = BufReader::new(follower.stdout.take().expect("it is piped"));
    let line = printed(&follower, &mut output, 1);
    assert!(line.contains("first"), "{line}");
    follower.kill().and_then(|()| follower.wait()).expect("it was started here");
    signal(&loader, name);
    let output = wait_for("the loader's end", loader.id(), || loader.wait_with_output());
    let output = output.expect("it was started here");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains("1 record acked in orders"), "{said}");
    assert!(said.contains("--skip 1\n"), "{said}");
}
