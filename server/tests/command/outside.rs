//! What came from outside, on a terminal: no record, name, reason or argument moves its cursor, changes its colours or
//! begins a line of its own.
//!
//! Method: each of them has a text with an escape, a bell, a C1 introducer, a DEL, line breaks and a change of the
//! reading direction, and whatever the command writes is searched for what a terminal obeys.

use serde_json::Value;
use tillroll_client::{
    Client, Record,
    processor::Fact as _,
    saga::payload::{Event, Line, OrderPlaced, topic},
};

use crate::shell::{Said, Shell};

/// What a terminal obeys.
const WILD: &str = "a\x1b[2J\x07\u{9b}31m\x7f\nforged\r\u{202e}b";
/// The same as it is shown.
const SHOWN: &str = r"a\x1b[2J\x07\u{9b}31m\x7f\nforged\r\u{202e}b";
/// Sets it as a variable of the shell.
const SET: &str = r"W=$(printf 'a\033[2J\007\302\23331m\177\nforged\r\342\200\256b');";

fn tame(said: &Said) {
    for text in [&said.stdout, &said.stderr] {
        let obeyed = text.chars().find(|&c| c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}'));
        assert_eq!(obeyed, None, "{said:?}");
        assert!(!text.lines().any(|line| line.starts_with("forged")), "{said:?}");
    }
}

fn append(shell: &Shell, topic: &str, records: Vec<Record>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Client::connect(shell.server()).await.expect("a broker");
        let producer = client.producer(topic).build().await.expect("a topic");
        for record in records {
            producer.send(record).await.expect("room").await.expect("acked");
        }
        producer.close().await.expect("closed");
    });
}

#[test]
fn a_record_is_one_line_whatever_is_in_it() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    let mut record = Record::new(WILD).key(WILD).id(WILD).type_(WILD);
    record.source = WILD.to_owned();
    record.headers = vec![(WILD.to_owned(), WILD.into())];
    let json = "{\"a\":\"\x7f\u{9b}\u{202e}b\"}";
    append(&shell, "orders", vec![record, Record::new(json)]);
    for command in ["read orders", "consume orders --group g --from earliest --until-caught-up"] {
        let said = shell.run(&format!("tillroll {command} --format '%k|%v|%i|%y|%s\\n'"));
        assert_eq!(said.code, 0, "{said:?}");
        tame(&said);
        let json_shown = r#"-|{"a":"\u007f\u009b\u202eb"}|-|-|-"#;
        assert_eq!(said.stdout, format!("{SHOWN}|{SHOWN}|{SHOWN}|{SHOWN}|{SHOWN}\n{json_shown}\n"));
    }
    for command in ["read orders", "consume orders --group h --from earliest --until-caught-up"] {
        let said = shell.run(&format!("tillroll {command} -o jsonl"));
        tame(&said);
        let lines: Vec<Value> =
            said.stdout.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        assert_eq!((&lines[0]["key"], &lines[0]["value"], &lines[0]["id"]), (&WILD.into(), &WILD.into(), &WILD.into()));
        assert_eq!(lines[1]["value"]["a"], "\x7f\u{9b}\u{202e}b", "escapes change nothing of what it says");
    }
    // Whoever wants the bytes asks for them.
    for command in ["read orders -n 2", "consume orders --group i --from earliest -n 2"] {
        let raw = shell.ok(&format!("tillroll {command} -q --raw --format '%k|%v;'"));
        assert_eq!(raw, format!("{WILD}|{WILD};|{json};"));
    }
}

#[test]
fn a_reason_and_a_name_cannot_forge_a_line() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    shell.ok("tillroll group create mailer --topic orders --from earliest --rule spread");
    for command in [
        r#"group pause mailer --reason "$W""#,
        "group list",
        "group describe mailer",
        "group explain mailer",
        "group list -o json",
        "group explain mailer -o jsonl",
        "group resume mailer",
    ] {
        let said = shell.run(&format!("{SET} tillroll {command}"));
        assert_eq!(said.code, 0, "{command}: {said:?}");
        tame(&said);
        let is_shown = said.stdout.contains(SHOWN) || command.contains("-o") && said.stdout.contains(r"\u202e");
        assert!(is_shown, "{command}: {said:?}");
    }
}

#[test]
fn an_argument_is_told_back_as_a_text() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    for command in [
        r#""$W""#,
        r#"--"$W""#,
        r#"read "$W""#,
        r#"read orders --partition "$W""#,
        r#"read orders --from "$W""#,
        r#"read orders --format "%$W""#,
        r#"read orders "$W""#,
        r#"topic create "$W""#,
        r#"topic create "$W" --server"#,
        r#"topic create x --compression "$W""#,
        r#"topic delete "$W""#,
        r#"append orders "$W""#,
        r#"append orders --value x --producer "$W""#,
        r#"append orders /dev/null --time-zone "$W""#,
        r#"append orders /dev/null --format "$W""#,
        r#"group describe "$W""#,
        r#"consume "$W" --group x --from earliest"#,
        r#"consume orders --group x --member "$W""#,
        r#"saga timeline "$W""#,
        r#"serve --data "$W/x" --listen "$W""#,
        r#"status --server "$W""#,
        r#"status --server "http://$W""#,
    ] {
        let said = shell.run(&format!("{SET} tillroll {command}"));
        assert_ne!(said.code, 0, "{command}: {said:?}");
        tame(&said);
    }
}

#[test]
fn a_file_is_named_as_a_text() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    let said = shell.run(&format!("{SET} printf 'x\\n{{\\n' >\"$W.jsonl\"; tillroll append orders \"$W.jsonl\""));
    assert_ne!(said.code, 0, "{said:?}");
    tame(&said);
    assert!(said.stderr.contains(&format!("error: {SHOWN}.jsonl line 1: no JSON")), "{said:?}");
}

#[test]
fn a_story_has_a_line_for_each_event_and_no_other() {
    let (shell, _broker) = Shell::with_broker();
    for topic in topic::ALL {
        shell.ok(&format!("tillroll topic create {topic} --partitions 1 -q"));
    }
    let line =
        Line { line: 1, code: WILD.into(), description: WILD.into(), units: 1, price_mills: 1_000, service: false };
    let placed = OrderPlaced { customer: Some(WILD.into()), address: WILD.into(), lines: vec![line] };
    let placed = Record::new(Event::from(placed).encode()).key("1").id(WILD).type_(OrderPlaced::KIND);
    let unknown = Record::new("x").key("1").id(WILD).type_(WILD).causation_id(format!("{WILD}{WILD}"));
    append(&shell, topic::ORDERS, vec![placed, unknown]);
    let said = shell.run("tillroll saga timeline 1");
    tame(&said);
    assert_eq!((said.code, said.stdout.lines().count()), (0, 2), "{said:?}");
    assert!(said.stdout.contains(&format!("for customer {SHOWN}, ")), "{said:?}");
    assert!(said.stdout.contains(&format!("to {SHOWN}\n")), "{said:?}");
    assert!(said.stdout.contains(&format!("because {SHOWN}{SHOWN}")), "{said:?}");
    tame(&shell.run("tillroll saga timeline 1 -o json"));
}
