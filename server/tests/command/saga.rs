//! `tillroll saga`: services, gateway, proof and timeline as processes of their own.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStderr},
};

use serde_json::Value;
use tillroll_client::saga::payload::group;

use crate::{
    process::{own_address, wait_for},
    shell::{Shell, end, signal},
    stage::Stage,
};

/// A few invoices of the file, with a return.
pub(crate) const SHOP: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
1,A,one,3,2011-01-01 08:00:00,1.50,7,France
1,POST,postage,1,2011-01-01 08:00:00,4.00,7,France
2,A,one,2,2011-01-01 08:01:00,1.50,8,France
2,B,two,5,2011-01-01 08:01:00,0.25,8,France
3,B,two,1,2011-01-01 08:02:00,0.25,9,Spain
C4,A,one,-1,2011-01-01 12:00:00,1.50,7,France
5,B,two,40,2011-01-01 12:01:00,0.25,9,Spain
C6,B,two,-2,2011-01-01 14:00:00,0.25,8,France
";

#[test]
fn the_story_of_an_order_is_told_and_a_damaged_proof_fails() {
    let mut stage = Stage::set(SHOP, "{}", "60s");
    for service in group::ALL {
        stage.start(&format!("{service}-0"), None);
    }
    stage.play_all();
    stage.prove(stage.shop.orders.len());
    let story = stage.shell.ok("tillroll saga timeline 1");
    let told = ["OrderPlaced", "PaymentAuthorized", "InventoryReserved", "OrderConfirmed", "RefundProcessed"];
    assert!(told.iter().all(|event| story.contains(event)), "{story}");
    let story: Value = serde_json::from_str(&stage.shell.ok("tillroll saga timeline 1 -o json")).expect("an object");
    assert_eq!(story["moments"][0]["event"], "OrderPlaced");
    assert_eq!(stage.shell.run("tillroll saga timeline nobody").code, 3);
    let proof = stage.shell.ok("tillroll saga check");
    assert!(proof.ends_with("\nit holds\nnot checked: S1 (--input), S12 (--gateway or --ledger)\n"), "{proof}");
    let proof = stage.shell.ok(&format!("tillroll saga check --input shop.csv --gateway {}", stage.gateway.address));
    assert!(proof.ends_with("\nit holds\n"), "{proof}");
    let said = stage.shell.run("tillroll saga check --ledger nowhere");
    let error = "error: reading the ledger file=nowhere: no such file or directory";
    assert!(said.code == 1 && said.stderr.starts_with(error), "{said:?}");
    // A charge that no event knows: the ledger says more than the log.
    stage.shell.ok(
        "tillroll append payments --key 1 --value '{\"amount\":1,\"key\":null}' -q && tillroll read payments -n 1 -q",
    );
    let line = format!("tillroll saga check --gateway {} -o json", stage.gateway.address);
    let said = stage.shell.run(&line);
    assert_eq!(said.code, 1, "{said:?}");
    let verdict: Value = serde_json::from_str(&said.stdout).expect("an object");
    assert_eq!(verdict["holds"], false, "{verdict}");
}

/// Types a line that is refused.
fn refused(shell: &Shell, line: &str, code: i32, words: &str) {
    let said = shell.run(line);
    assert_eq!((said.code, said.stdout.as_str()), (code, ""), "{line}: {said:?}");
    assert!(said.stderr.contains(words), "{line}: {said:?}");
}

#[test]
fn before_its_services_ran_there_is_no_saga_to_look_at() {
    let (shell, _broker) = Shell::with_broker();
    let none = "error: no saga has run here: topic orders not found\nhint: start its services: tillroll saga run order";
    refused(&shell, "tillroll saga check", 3, none);
    refused(&shell, "tillroll saga timeline 1", 3, none);
    let topics = "orders payments inventory fulfilment notifications stock";
    shell.ok(&format!("for topic in {topics}; do tillroll topic create $topic --partitions 1 -q || exit; done"));
    refused(&shell, "tillroll saga check", 3, &none.replace("topic orders", "group order"));
    shell.ok("tillroll group create order --topic orders --from earliest --manual");
    let one = "error: the payment service has not run here: group payment not found\nhint: start it: tillroll saga run";
    refused(&shell, "tillroll saga check", 3, one);
}

type Lines = std::io::Lines<BufReader<ChildStderr>>;

/// Starts it and hears what it says, up to a line that begins so.
fn started(shell: &Shell, words: &[&str], until: &str) -> (Child, Lines, String) {
    let mut child = shell.spawn(words);
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let line = heard(&child, &mut lines, until);
    (child, lines, line)
}

/// The next line that begins so.
fn heard(child: &Child, lines: &mut Lines, start: &str) -> String {
    let found = || lines.map(|line| line.expect("text")).find(|line| line.starts_with(start));
    wait_for(start, child.id(), found).unwrap_or_else(|| panic!("it ended without {start:?}"))
}

/// Asks the gateway, and gives its answer's body; none when it hangs up.
fn asked(address: &str, path: &str, body: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).expect("it is asked");
    let mut answer = String::new();
    // It may fall over in the middle.
    let _ = stream.read_to_string(&mut answer);
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

#[test]
fn a_gateway_that_has_not_its_ledger_or_its_port_says_why() {
    let shell = Shell::new();
    let start = |ledger: &str| format!("tillroll saga gateway --listen 127.0.0.1:0 --ledger {ledger}");
    let nowhere = "error: opening the ledger file=nowhere/ledger: no such file or directory";
    refused(&shell, &start("nowhere/ledger"), 1, nowhere);
    shell.ok("printf 'a list\\n' >list; printf 'tillroll gateway ledger 1\\nno line\\nof it\\n' >damaged");
    refused(&shell, &start("list"), 4, "the file is no ledger of this version file=list");
    refused(&shell, &start("damaged"), 7, "the ledger is damaged file=damaged position=26 line=2");

    let words = ["saga", "gateway", "--ledger", "ledger", "--listen", &own_address()];
    let (mut gateway, _lines, line) = started(&shell, &words, "listening on ");
    let address = &line["listening on ".len()..];
    let open = "error: another process has the ledger open file=ledger\nhint: each gateway has a ledger of its own";
    refused(&shell, &start("ledger"), 6, open);
    let other = start("other").replace("127.0.0.1:0", address);
    refused(
        &shell,
        &other,
        6,
        "hint: another program, perhaps a gateway, has the port: choose another with --listen\n",
    );
    signal(&gateway, "TERM");
    assert!(end("its end", &mut gateway).success());
}

/// What the help says of it.
#[test]
fn a_gateways_behaviour_stays_but_for_what_is_named_and_falling_over_ends_it() {
    let shell = Shell::new();
    let words = ["saga", "gateway", "--ledger", "ledger", "--listen", &own_address(), "--behaviour"];
    let (mut gateway, _lines, line) = started(&shell, &[&words[..], &[r#"{"decline":0.5}"#]].concat(), "listening on ");
    let address = &line["listening on ".len()..];
    for (changes, is_down) in [(r#"{"down":true}"#, true), ("{}", true), (r#"{"down":false}"#, false)] {
        let now = asked(address, "/v1/behaviour", changes).expect("an object");
        assert_eq!((&now["down"], &now["decline"]), (&is_down.into(), &0.5.into()), "{changes}");
    }
    asked(address, "/v1/behaviour", r#"{"fall_over":1}"#).expect("an object");
    assert_eq!(asked(address, "/v1/authorize", r#"{"amount":100,"order":"1"}"#), None);
    assert!(!end("its end", &mut gateway).success());
    let (mut gateway, _lines, _) = started(&shell, &[&words[..], &["{}"]].concat(), "1 charge in ledger");
    signal(&gateway, "TERM");
    assert!(end("its end", &mut gateway).success());
}

#[test]
fn a_storefront_says_what_it_waits_for_and_goes_on_behind_what_it_placed() {
    let (shell, _broker) = Shell::with_broker();
    std::fs::write(shell.folder().join("shop.csv"), SHOP).expect("a file in the folder");
    for rate in ["0", "-0.5", "inf", "many"] {
        refused(&shell, &format!("tillroll saga storefront --rate={rate}"), 2, "it is a number above 0");
    }
    let words = ["saga", "storefront", "--data", "shop.csv", "--rate", "0.001"];
    let waits = "waiting for the inventory service to take the opening stock in";
    let (mut storefront, mut lines, _) = started(&shell, &words, waits);
    let (mut inventory, _lines, _) = started(&shell, &["saga", "run", "inventory"], "ready");
    heard(&storefront, &mut lines, "the opening stock is in: placing orders");
    // The first order is placed at once, and the next one would be in a thousand seconds.
    let placed = || shell.ok("tillroll read orders -q --format '%k %y\\n'");
    wait_for("the first order", storefront.id(), || while !placed().contains("OrderPlaced") {});
    signal(&storefront, "TERM");
    let said = heard(&storefront, &mut lines, "placed ");
    assert_eq!(end("its end", &mut storefront).code(), Some(143));
    // It may have been stopped before it heard that the order is on disk.
    let expected = ["0 orders", "1 order"].map(|placed| format!("placed {placed} in this run; "));
    assert!(expected.iter().any(|start| said.starts_with(start)), "{said}");
    assert!(said.ends_with("; the same command goes on behind them"), "{said}");

    let said = shell.run("tillroll saga storefront --data shop.csv");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.starts_with("going on behind ") && !said.stderr.contains("waiting"), "{said:?}");
    let all = placed();
    let mut orders: Vec<&str> = all.lines().filter_map(|line| line.strip_suffix(" OrderPlaced.v1")).collect();
    orders.sort_unstable();
    assert_eq!(orders, ["1", "2", "3", "5"], "each once");
    signal(&inventory, "TERM");
    assert!(end("the service's end", &mut inventory).success());
}
