//! `tillroll saga run` by itself: a payload that is not what its type says stops it or is skipped, and is named either
//! way; where it listens; and what it does when nobody reads what it reports.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::{TcpListener, TcpStream},
    process::Child,
};

use serde_json::Value;

use crate::{
    process::{own_address, wait_for},
    shell::{Broker, Shell, end, signal},
};

/// The topics of the saga, and two payloads on `orders` that are none; the second one is at orders/0/1.
const SET: &str = "
for topic in orders payments inventory fulfilment notifications stock
do tillroll topic create $topic --partitions 1 -q; done
tillroll append orders --key 1 --type Unknown.v1 --value 'what nobody wants' -q
tillroll append orders --key 2 --type OrderPlaced.v1 --value '{\"order\":' -q";

fn set() -> (Shell, Broker) {
    let (shell, broker) = Shell::with_broker();
    shell.ok(SET);
    (shell, broker)
}

fn words(last: &[&'static str]) -> Vec<&'static str> {
    [&["saga", "run", "inventory", "-o", "jsonl"], last].concat()
}

/// Reads what it reports until a report is as it should be.
fn reported(child: &mut Child, is_so: impl Fn(&Value) -> bool) -> Value {
    let pid = child.id();
    let lines = BufReader::new(child.stdout.as_mut().expect("it is piped")).lines();
    let mut reports = lines.map(|line| serde_json::from_str::<Value>(&line.expect("text")).expect("a report"));
    wait_for("a report", pid, || reports.find(is_so)).expect("it ended before")
}

fn said(child: &mut Child) -> String {
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("text");
    said
}

#[test]
fn a_malformed_payload_stops_the_service_which_names_it() {
    let (shell, _broker) = set();
    let said = shell.run("tillroll saga run inventory -o jsonl");
    assert_eq!(said.code, 1, "{said:?}");
    let error = said.stderr.lines().find(|line| line.starts_with("error: ")).expect("it says why");
    for named in ["OrderPlaced.v1", "topic=orders", "partition=0", "offset=1"] {
        assert!(error.contains(named), "{error}");
    }
    assert!(
        said.stderr.contains("hint: look at it: tillroll read orders --partition 0 --from offset:1 -n 1"),
        "{said:?}"
    );
    let stands = shell.ok("tillroll group describe inventory -o json");
    let group: Value = serde_json::from_str(&stands).expect("an object");
    let cursor = group["cursors"].as_array().expect("a list").iter().find(|at| at["topic"] == "orders");
    assert_eq!(cursor.expect("it reads orders")["next_offset"], 1, "it stands before it: {group}");
}

/// Topics that are there are no reason to leave the others out, nor are five of the saga's own.
#[test]
fn topics_that_are_not_there_are_made_as_the_others_are() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 3 -q");
    let mut child = shell.spawn(&["saga", "run", "order"]);
    let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let mut lines = lines.map(|line| line.expect("text"));
    wait_for("it to be ready", child.id(), || lines.find(|line| line == "ready")).expect("it is ready");
    drop(lines);
    signal(&child, "TERM");
    assert!(end("the service's end", &mut child).success());
    let described = shell.ok("tillroll topic describe payments -o json");
    assert_eq!(serde_json::from_str::<Value>(&described).expect("an object")["partition_count"], 3, "{described}");
    // With unequal ones it cannot run, and says which.
    shell.ok("tillroll topic delete fulfilment --yes -q && tillroll topic create fulfilment --partitions 2 -q");
    let said = shell.run("tillroll saga run order");
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.stderr.contains("fulfilment has 2 partitions") && said.stderr.contains("hint: "), "{said:?}");
}

/// Where a gateway was, and another one can be: nobody else takes an address of its own.
fn gateway_address(shell: &Shell) -> String {
    let mut gateway = shell.spawn(&["saga", "gateway", "--ledger", "ledger", "--listen", &own_address()]);
    let mut lines = BufReader::new(gateway.stderr.take().expect("it is piped")).lines().map(|line| line.expect("text"));
    let listening = wait_for("it to listen", gateway.id(), || lines.find(|line| line.starts_with("listening on ")));
    signal(&gateway, "TERM");
    assert!(end("its end", &mut gateway).success());
    listening.expect("it listens")["listening on ".len()..].to_owned()
}

/// Whoever runs it by hand sees why orders wait.
#[test]
fn a_gateway_that_is_not_there_is_told_of_and_so_is_its_coming() {
    let (shell, _broker) = Shell::with_broker();
    let address = gateway_address(&shell);
    let mut payment = shell.spawn(&["saga", "run", "payment", "--gateway", &address]);
    let payload = r#"{"customer":null,"address":"France","lines":[{"line":1,"code":"A","description":"","units":2,
        "price_mills":1500,"service":false}]}"#;
    let lines = BufReader::new(payment.stderr.take().expect("it is piped")).lines();
    let mut lines = lines.map(|line| line.expect("text"));
    wait_for("it to be ready", payment.id(), || lines.find(|line| line == "ready")).expect("it is ready");
    shell.ok(&format!("tillroll append orders --key 7 --type OrderPlaced.v1 --value '{payload}' -q"));
    let away = wait_for("its log", payment.id(), || lines.find(|line| line.contains("does not answer")));
    let away = away.expect("it tells of the gateway");
    assert!(away.contains(&address) && away.contains("order=7"), "{away}");
    let mut gateway = shell.spawn(&["saga", "gateway", "--ledger", "ledger", "--listen", &address]);
    let back = wait_for("its log", payment.id(), || lines.find(|line| line.contains("answers again")));
    assert!(back.is_some_and(|line| line.contains(&address)));
    drop(lines);
    for child in [&mut payment, &mut gateway] {
        signal(child, "TERM");
        assert!(end("its end", child).success());
    }
}

#[test]
fn a_malformed_payload_is_skipped_when_that_is_asked_for_and_counted_and_named() {
    let (shell, _broker) = set();
    let mut child = shell.spawn(&words(&["--skip-malformed"]));
    let report = reported(&mut child, |report| report["malformed"] == 1);
    assert_eq!(report["malformed_newest"]["topic"], "orders", "{report}");
    assert_eq!(report["malformed_newest"]["partition"], 0, "{report}");
    assert_eq!(report["malformed_newest"]["offset"], 1, "{report}");
    signal(&child, "TERM");
    assert!(end("the service's end", &mut child).success());
    let said = said(&mut child);
    let warned = said.lines().find(|line| line.contains("WARN")).expect("it is logged");
    for named in ["an input is skipped", "OrderPlaced.v1", "orders", "offset: 1"] {
        assert!(warned.contains(named), "{warned}");
    }
    assert!(!said.contains("Unknown.v1"), "what nobody wants is nothing to tell: {said}");
}

#[test]
fn a_reader_of_reports_that_goes_away_ends_nothing() {
    let (shell, _broker) = set();
    let mut child = shell.spawn(&words(&["--skip-malformed"]));
    reported(&mut child, |report| report["malformed"] == 1);
    drop(child.stdout.take());
    shell.ok("tillroll append orders --key 3 --type OrderPlaced.v1 --value '{' -q");
    let since = std::time::Instant::now();
    while !shell.ok("tillroll group describe inventory -o json").contains("\"next_offset\": 3") {
        assert!(since.elapsed() < std::time::Duration::from_mins(1), "it goes on");
    }
    signal(&child, "TERM");
    let status = end("the service's end", &mut child);
    assert!(status.success(), "{status}: {}", said(&mut child));
}

#[test]
fn payment_hears_reports_where_it_is_told_to() {
    let (shell, _broker) = set();
    // The port is free now, and nobody else has the address.
    let free = TcpListener::bind(own_address()).and_then(|listener| listener.local_addr());
    let address = free.expect("a free port").to_string();
    let words = ["saga", "run", "payment", "--gateway", "127.0.0.1:1", "--callbacks", &address];
    let mut child = shell.spawn(&[&words[..], &["--skip-malformed"]].concat());
    let pid = child.id();
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let ready = wait_for("ready", pid, || lines.find(|line| line.as_ref().is_ok_and(|line| line == "ready")));
    assert!(ready.is_some(), "it ended before");
    TcpStream::connect(&address).expect("it listens there");
    signal(&child, "TERM");
    assert!(end("the service's end", &mut child).success());
    let occupied = TcpListener::bind(&address).expect("it has let go of it");
    let said = shell.run(&format!("tillroll saga run payment --gateway 127.0.0.1:1 --callbacks {address}"));
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.stderr.contains(&format!("listening for reports on {address}")), "{said:?}");
    assert!(said.stderr.contains("hint: another program has the port: choose another with --callbacks\n"), "{said:?}");
    drop(occupied);
}
