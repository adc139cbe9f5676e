//! `tillroll read`: where it starts, what it leaves out, and how records are written.

use std::{io::BufReader, process::Child};

use crate::{
    process::wait_for,
    shell::{Shell, end, printed, signal},
};
use serde_json::{Value, json};

/// Nine records in one append each, keys a, b, c in turn.
fn filled() -> (Shell, crate::shell::Broker) {
    let (shell, broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 3");
    for number in 0..9 {
        let key = ["a", "b", "c"][number % 3];
        shell.ok(&format!("tillroll append orders --key {key} --value {number} -q"));
    }
    (shell, broker)
}

fn values(shell: &Shell, rest: &str) -> Vec<String> {
    shell.ok(&format!("tillroll read orders --format '%v\\n' {rest}")).lines().map(str::to_owned).collect()
}

#[test]
fn where_it_starts_and_what_it_leaves_out() {
    let (shell, _broker) = filled();
    assert_eq!(values(&shell, "-n 4"), ["5", "6", "7", "8"], "the last ones by append time");
    assert_eq!(values(&shell, "-n 2 --key b"), ["4", "7"]);
    assert_eq!(values(&shell, "--key c"), ["2", "5", "8"]);
    assert_eq!(values(&shell, "--from latest"), [""; 0]);
    assert_eq!(values(&shell, "-n 0"), [""; 0]);
    assert_eq!(values(&shell, "-n 3 --from earliest").len(), 3);
    assert_eq!(values(&shell, "--from append-time:1h").len(), 9);
    let all = values(&shell, "");
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(sorted, ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    let place = shell.ok("tillroll read orders --key b --format '%p' -n 1");
    let of_partition = values(&shell, &format!("--partition {place}"));
    assert!(of_partition.iter().any(|value| value == "7") && of_partition.len() < 9 || of_partition.len() == 9);
    let said = shell.run(&format!("tillroll read orders --partition {place} --from offset:1000"));
    assert_eq!(said.code, 4, "{said:?}");
    // One offset is meant for all partitions, and one of them does not have it.
    let said = shell.run("tillroll read orders --from offset:9");
    assert_eq!((said.code, said.stdout.as_str()), (4, ""), "{said:?}");
    assert!(said.stderr.contains(" ends at offset ") && said.stderr.starts_with("error: orders/"), "{said:?}");
    let hint =
        "has no offset 9 yet\nhint: name an offset that each has, or --partition; the end of each is --from latest";
    assert!(said.stderr.contains(hint), "{said:?}");
}

#[test]
fn json_stays_json_text_stays_text_and_bytes_are_marked() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    for value in [r#"{"a": [1.50]}"#, "plain text", "42"] {
        shell.ok(&format!("tillroll append orders --value '{value}' -q"));
    }
    shell.run_with("tillroll append orders - -q", b"\xff\xfe\n");
    let said = shell.run("tillroll read orders --format '%o|%k|%i|%v\\n'");
    let expected = "0|-|-|{\"a\": [1.50]}\n1|-|-|plain text\n2|-|-|42\n3|-|stdin#1|base64://4=\n";
    assert_eq!(said.stdout, expected);
    assert_eq!(said.stderr, "4 records, 1 partition, at the end (-f follows)\n");

    let lines = shell.ok("tillroll read orders -o jsonl");
    assert!(lines.contains("\"value\":{\"a\": [1.50]}"), "a number keeps its digits: {lines}");
    let document: Value = serde_json::from_str(&shell.ok("tillroll read orders -o json")).expect("one document");
    let values: Vec<&Value> = document.as_array().expect("a list").iter().map(|record| &record["value"]).collect();
    assert_eq!(values[1..], [&json!("plain text"), &json!("42"), &Value::Null]);
    assert_eq!(document[3]["value_base64"], "//4=");
    assert_eq!(shell.ok("tillroll read orders -o json --from latest"), "[]\n");
}

#[test]
fn a_reader_of_the_output_may_leave() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    let input = "a line that fills the pipe\n".repeat(20_000);
    assert_eq!(shell.run_with("tillroll append orders - -q", input.as_bytes()).code, 0);
    let said = shell.run("(tillroll read orders; echo $? >code) | head -n 1; cat code");
    assert_eq!(said.stderr, "", "it is nobody's fault: {said:?}");
    assert!(said.stdout.ends_with("\n0\n"), "{said:?}");
}

#[test]
fn a_reader_of_the_output_may_leave_while_nothing_comes() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    let said = shell.run("(tillroll read orders -f; echo $? >code) | true; cat code");
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("0\n", ""), "before the first record: {said:?}");
    shell.ok("tillroll append orders --value first -q");
    let said = shell.run("(tillroll read orders -f --format '%v\\n'; echo $? >code) | head -n 1; cat code");
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("first\n0\n", ""), "no second one came: {said:?}");
}

#[test]
fn a_command_that_a_signal_cuts_short_ends_with_the_number_of_the_signal() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    shell.ok("tillroll append orders --value first -q");
    for (name, expected) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut follower = shell.spawn(&["read", "orders", "-f", "--format", "%v\\n"]);
        let mut records = BufReader::new(follower.stdout.take().expect("it is piped"));
        assert_eq!(printed(&follower, &mut records, 1), "first\n");
        signal(&follower, name);
        assert_eq!(end("the follower's end", &mut follower).code(), Some(expected), "{name}");
    }
}

#[test]
fn what_fails_before_the_first_record_writes_no_document() {
    let (shell, _broker) = Shell::with_broker();
    for line in ["tillroll read nope -o json", "tillroll consume nope --group nope --from earliest -n 1 -o json"] {
        let said = shell.run(line);
        assert_eq!((said.code, said.stdout.as_str()), (3, ""), "{line}: {said:?}");
        assert!(said.stderr.starts_with("error: topic nope not found"), "{line}: {said:?}");
    }
}

#[test]
fn a_partition_that_is_named_twice_is_refused() {
    let (shell, _broker) = filled();
    let said = shell.run("tillroll read orders --partition 1 --partition 1");
    assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{said:?}");
    let expected = "error: --partition 1 is there twice\nhint: name each partition once\n";
    assert_eq!(said.stderr, expected);
    let said = Shell::new().run("tillroll read orders --partition 1 --partition 1");
    assert_eq!((said.code, said.stderr.as_str()), (2, expected), "no server is asked");
}

/// What a command says, line by line, until one begins so.
fn until(pid: u32, said: &mut impl std::io::BufRead, start: &str) {
    let mut lines = String::new();
    wait_for(start, pid, || {
        loop {
            let before = lines.len();
            said.read_line(&mut lines).expect("it is text");
            assert!(lines.len() > before, "it ended without {start:?}: {lines}");
            if lines[before..].starts_with(start) {
                return;
            }
        }
    });
}

fn stderr(child: &mut Child) -> BufReader<std::process::ChildStderr> {
    BufReader::new(child.stderr.take().expect("it is piped"))
}

#[test]
fn whoever_waits_for_a_broker_that_is_gone_is_told() {
    let (shell, broker) = Shell::with_broker_of_its_own();
    shell.ok("tillroll topic create orders");
    let mut follower = shell.spawn(&["read", "orders", "-f", "--format", "%v\\n"]);
    let mut records = BufReader::new(follower.stdout.take().expect("it is piped"));
    shell.ok("tillroll append orders --value first -q");
    until(follower.id(), &mut records, "first");
    let address = broker.address.clone();
    broker.kill();
    let mut follower_says = stderr(&mut follower);
    until(follower.id(), &mut follower_says, "interrupted: ");
    let _broker = shell.broker(&["serve", "--data", "data", "--listen", &address]);
    until(follower.id(), &mut follower_says, "connected again");
    shell.ok("tillroll append orders --value second -q");
    until(follower.id(), &mut records, "second");
    follower.kill().and_then(|()| follower.wait()).expect("it was started here");
}
