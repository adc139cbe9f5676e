//! `tillroll group` as an operator meets it: what it makes and shows, what it asks before it changes anything, and how
//! it refuses.

use serde_json::{Value, json};
use tillroll_client::partition_for_key;

use crate::{
    inside::Inside,
    shell::{Broker, Said, Shell},
};

/// Appends six records to each of two partitions.
fn fill() -> String {
    let of =
        |partition| (0..100).map(|key| key.to_string()).find(|key| partition_for_key(key.as_bytes(), 2) == partition);
    let keys = [of(0), of(1)].map(|key| key.expect("half of them")).join(" ");
    format!(
        "tillroll topic create orders --partitions 2 && for number in 1 2 3 4 5 6; do for key in {keys}; do \
         tillroll append orders --key $key --value $number -q || exit; done; done"
    )
}

/// A broker, a topic with records, and a manual group at the beginning.
fn filled() -> (Shell, Broker) {
    let (shell, broker) = Shell::with_broker();
    shell.ok(&fill());
    shell.ok("tillroll group create mailer --topic orders --from earliest --manual");
    (shell, broker)
}

fn object(shell: &Shell, line: &str) -> Value {
    serde_json::from_str(&shell.ok(line)).expect("one document")
}

/// Where the group stands in each partition.
fn places(shell: &Shell) -> Vec<u64> {
    let group = object(shell, "tillroll group describe mailer -o json");
    let cursors = group["cursors"].as_array().expect("a list").clone();
    cursors.iter().map(|cursor| cursor["next_offset"].as_u64().expect("an offset")).collect()
}

/// Types a line that is refused without a word on standard output.
fn refused(shell: &Shell, line: &str, code: i32, error: &str, hint: &str) {
    let said = shell.run(line);
    assert_eq!((said.code, said.stdout.as_str()), (code, ""), "{line}: {said:?}");
    assert!(said.stderr.contains(error), "{line}: {said:?}");
    assert!(said.stderr.contains(hint), "{line}: {said:?}");
}

#[test]
fn a_group_is_made_once_and_only_with_what_decides_what_it_sees() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 2 && tillroll topic create narrow --partitions 1");
    let create = "tillroll group create mailer --topic orders --from earliest --rule spread --session 15s";
    let settings = "spread, topic orders, from earliest, fail below the head, session 15s, drain 30s";
    assert_eq!(shell.ok(create), format!("group mailer created: {settings}\n"));
    assert_eq!(shell.ok(create), format!("group mailer is there already: {settings}\n"));
    let again = object(&shell, &format!("{create} -o json"));
    assert_eq!(
        (&again["created"], &again["rule"], &again["session_ms"]),
        (&json!(false), &json!("spread"), &json!(15_000))
    );

    let other = create.replace("spread", "single --below-head earliest");
    refused(&shell, &other, 6, "below_head", "hint: name the settings that it has");
    let create = "tillroll group create billing --topic orders";
    refused(&shell, &format!("{create} --rule spread"), 2, "--from <PLACE>", "Usage");
    refused(&shell, &format!("{create} --from earliest"), 2, "--rule", "--manual");
    refused(&shell, &format!("{create} --from earliest --rule spread --manual"), 2, "cannot be used with", "Usage");
    refused(&shell, &format!("{create} --from time:2026-01-01 --manual"), 2, "append-time:2026-01-01", "event-time");
    refused(&shell, &format!("{create} --from latest --rule spread --session 15"), 2, "no length of time", "15s");
    refused(&shell, &format!("{create} --from latest --rule spread --drain 0s"), 4, "drain", "leave it out");
    refused(&shell, &format!("{create} --from offset:9 --manual"), 4, "ends at 0, asked 9", "");
    let both = "tillroll group create billing --topic orders --topic narrow --from latest --rule co-partitioned";
    let unequal = "error: co-partitioned topics have equally many partitions: orders has 2, narrow has 1\n";
    refused(&shell, both, 4, unequal, "--rule spread");
    let twice = format!("{create} --topic orders --from latest --rule spread");
    refused(&shell, &twice, 2, "--topic orders is there twice", "");
    let short = "error: --session 1ms is too short: the least is 1s\n";
    refused(&shell, &format!("{create} --from latest --rule spread --session 1ms"), 4, short, "");
    refused(&shell, "tillroll group create billing --topic visits --from latest --manual", 3, "visits", "topic create");
    refused(&shell, "tillroll group create Mailer --topic orders --from latest --manual", 4, "Mailer", "names are");
    let said = shell.run("tillroll group list --topic narrow");
    let expected =
        "no groups; make one with: tillroll group create NAME --topic narrow --from earliest --rule spread\n";
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", expected));
}

#[test]
fn a_listing_says_how_far_each_group_is_behind() {
    let (shell, _broker) = filled();
    shell.ok("tillroll group create billing --topic orders --from last:2 --rule single");
    shell.ok("tillroll group pause billing --reason 'stock count'");
    let table = shell.ok("tillroll group list");
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let head = "NAME MODE RULE TOPICS MEMBERS LAG RECORDS LAG MS PAUSED PAUSE REASON";
    assert_eq!(lines[0].join(" "), head, "{table}");
    assert_eq!(lines[1][..6], ["billing", "members", "single", "orders", "0", "4"], "{table}");
    assert_eq!(lines[1][7..], ["yes", "stock", "count"], "{table}");
    assert_eq!(lines[2][..6], ["mailer", "manual", "-", "orders", "0", "12"], "{table}");
    assert_eq!(lines[2][7..], ["-", "-"], "{table}");

    let listed = object(&shell, "tillroll group list -o json");
    assert_eq!(listed[0]["topics"], json!(["orders"]));
    assert_eq!((&listed[0]["paused"], &listed[0]["pause_reason"]), (&json!(true), &json!("stock count")));
    assert_eq!((&listed[1]["paused"], &listed[1]["rule"]), (&json!(false), &Value::Null));
    assert_eq!(shell.ok("tillroll group list --topic orders -o jsonl").lines().count(), 2);
    assert_eq!(object(&shell, "tillroll group list --topic visits -o json"), json!([]));
}

#[test]
fn a_description_has_settings_cursors_and_both_kinds_of_lag() {
    let (shell, _broker) = filled();
    shell.ok("tillroll group set-cursor mailer --topic orders --partition 1 --to latest --yes");
    let words = shell.ok("tillroll group describe mailer");
    let lines: Vec<&str> = words.lines().collect();
    let group = object(&shell, "tillroll group describe mailer -o json");
    let etag = group["etag"].as_str().expect("a group has one");
    let first = format!("group mailer (etag {etag}): manual, topic orders, from earliest, fail below the head");
    assert_eq!(lines[0], first);
    assert!(lines[1].starts_with("6 records waiting, the oldest for "), "{words}");
    assert_eq!(lines[3], "TOPIC   PARTITION  NEXT OFFSET  LAG RECORDS  LAG MS  COMMITTED", "{words}");
    let rows: Vec<Vec<&str>> = lines[4..].iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows[0][..4].join(" "), rows[1].join(" ")), ("orders 0 0 6".into(), "orders 1 6 0 0 -".into()));

    assert_eq!(
        (&group["mode"], &group["start"], &group["below_head"]),
        (&json!("manual"), &json!("earliest"), &json!("fail"))
    );
    assert!(group["lag_ms"].as_u64().is_some_and(|lag| lag > 0 && lag < 120_000), "{group}");
    assert_eq!(group["cursors"][0]["lag_ms"], group["lag_ms"], "it is the longest");
    assert_eq!(
        group["cursors"][1],
        json!({
            "topic": "orders", "partition": 1, "next_offset": 6, "lag_records": 0, "lag_ms": 0,
            "committed": null, "holder": null,
        })
    );
    assert_eq!(shell.ok("tillroll group describe mailer -o jsonl").lines().count(), 1);

    shell.ok("tillroll group set-cursor mailer --topic orders --to latest --yes");
    assert_eq!(shell.ok("tillroll group describe mailer").lines().nth(1), Some("caught up"));
    let instead = "hint: did you mean mailer? all groups are listed by: tillroll group list";
    for verb in ["describe", "explain", "resume", "pause --reason x", "delete --yes"] {
        refused(&shell, &format!("tillroll group {verb} mailr"), 3, "error: group mailr not found\n", instead);
    }
}

#[test]
fn a_pause_has_a_reason_that_everybody_is_shown_until_it_is_over() {
    let (shell, _broker) = filled();
    shell.ok("tillroll group create billing --topic orders --from latest --rule spread");
    let said = shell.run("tillroll group pause billing --reason 'the gateway is down'");
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("group billing paused: the gateway is down\n", ""));
    let words = shell.ok("tillroll group describe billing");
    assert_eq!(words.lines().nth(1), Some("paused: the gateway is down"), "{words}");
    let over = "group billing resumed; it was paused: the gateway is down\n";
    assert_eq!(shell.ok("tillroll group resume billing"), over);
    let resumed = object(&shell, "tillroll group resume billing -o json");
    assert_eq!((&resumed["paused"], &resumed["pause_reason"]), (&json!(false), &Value::Null));
    assert_eq!(shell.ok("tillroll group resume billing"), "group billing was not paused\n");

    let said = shell.run("tillroll group pause mailer --reason x");
    assert!(said.code == 0 && said.stderr.starts_with("a manual group has no members to hold up"), "{said:?}");
    refused(&shell, "tillroll group pause billing", 2, "--reason", "Usage");
    for verb in ["pause nobody --reason x", "resume nobody"] {
        refused(&shell, &format!("tillroll group {verb}"), 3, "nobody", "hint: all groups are listed by: ");
    }
}

#[test]
fn cursors_are_set_only_by_whoever_says_yes_and_the_records_are_always_counted() {
    let (shell, _broker) = filled();
    let set = "tillroll group set-cursor mailer --topic orders";
    let looked = shell.ok(&format!("{set} --to offset:4 --dry-run"));
    let rows = "PARTITION  FROM OFFSET  TO OFFSET  SKIPPED RECORDS  REPEATED RECORDS\n        \
                0            0          4                4                 0\n        \
                1            0          4                4                 0\n";
    let would = "nothing is changed: group mailer would skip 8 records and repeat 0 records of orders\n\n";
    assert_eq!(looked, format!("{would}{rows}"));
    let asks = "having group mailer skip 8 records and repeat 0 records of orders asks, and nobody is there";
    refused(&shell, &format!("{set} --to offset:4"), 2, asks, "hint: add --yes");
    assert_eq!(places(&shell), [0, 0]);

    let done = shell.ok(&format!("{set} --to offset:4 --yes"));
    let words = "2 cursors of group mailer set, to skip 8 records and repeat 0 records of orders\n\n";
    assert_eq!(done, format!("{words}{rows}"));
    let back = object(&shell, &format!("{set} --partition 1 --to last:5 --reason 'a wrong template' --yes -o json"));
    let moved = json!({
        "partition": 1, "from_offset": 4, "to_offset": 1, "skipped_records": 0, "repeated_records": 3,
    });
    let expected = json!({
        "group": "mailer", "topic": "orders", "dry_run": false, "skipped_records": 0, "repeated_records": 3,
        "moves": [moved],
    });
    assert_eq!((back, places(&shell)), (expected, vec![4, 1]));
    let look = object(&shell, &format!("{set} --to append-time:1h --dry-run --yes -o json"));
    assert_eq!((&look["dry_run"], &look["repeated_records"], places(&shell)), (&json!(true), &json!(5), vec![4, 1]));

    shell.ok("tillroll topic create visits");
    for (rest, code, error, hint) in [
        ("mailer --topic orders --to offset:7", 4, "orders/0 ends at offset 6, and has no offset 7 yet", "--to latest"),
        ("mailer --topic orders --partition 2 --to latest", 3, "not 2", "numbered from 0"),
        ("mailer --topic visits --to latest", 4, "topic that is called visits now\n", "tillroll group describe mailer"),
        ("mailer --topic order --to latest", 3, "order", "did you mean orders?"),
        ("nobody --topic orders --to latest", 3, "nobody", "hint: all groups are listed by: tillroll group list"),
        ("mailer --topic orders", 2, "--to <PLACE>", "Usage"),
        ("mailer --topic orders --partition 0 --partition 0 --to latest", 2, "--partition 0 is there twice\n", "once"),
        ("mailer --topic orders --to 7", 2, "offset:N", ""),
    ] {
        refused(&shell, &format!("tillroll group set-cursor {rest} --yes"), code, error, hint);
    }
    assert_eq!(places(&shell), [4, 1]);
}

#[test]
fn a_topic_that_is_gone_is_told_wherever_its_groups_are_looked_at() {
    let (shell, _broker) = filled();
    shell.ok("tillroll group create billing --topic orders --from earliest --rule spread");
    let said = at_a_terminal(&shell, "tillroll topic delete orders", "no");
    let question = "delete topic orders with 12 records, which is read by group billing, mailer? type orders";
    assert!(said.stdout.contains(question), "{said:?}");
    let asks = "deleting what group billing, mailer reads asks";
    refused(&shell, "tillroll topic delete orders", 2, asks, "hint: add --yes");
    let said = shell.run("tillroll topic delete orders --yes");
    assert!(said.stderr.starts_with("it was read by group billing, mailer: "), "{said:?}");

    shell.ok("tillroll topic create orders");
    let words = shell.ok("tillroll group describe mailer");
    let gone = "topic orders is gone; one that is made under its name is another one";
    assert_eq!(words.lines().skip(1).collect::<Vec<_>>(), ["no topic: nothing is read", gone], "{words}");
    let said = object(&shell, "tillroll group describe mailer -o json");
    assert_eq!((&said["topics_gone"], &said["lag_records"]), (&json!(["orders"]), &Value::Null), "not caught up");
    let listed = shell.ok("tillroll group list");
    assert!(listed.lines().skip(1).all(|line| line.contains("orders (gone)") && line.contains(" - ")), "{listed}");
    let explained = shell.ok("tillroll group explain billing");
    assert!(explained.contains("TOPIC_DELETED orders: ") && !explained.contains("CAUGHT_UP"), "{explained}");
    let next = "  next: once the topic is there again: ";
    let next = explained.lines().find_map(|line| line.strip_prefix(next)).expect("it is there again");
    let error = "error: group billing reads nothing: orders is gone";
    let anew = "hint: to begin anew: tillroll group delete billing --yes && tillroll consume orders --group billing";
    refused(&shell, "tillroll consume orders --group billing -n 1", 3, error, anew);
    let said = shell.run("tillroll topic delete orders --yes");
    assert_eq!(said.stderr, "", "nobody reads this one");
    // What is advised can be copied and works.
    shell.ok(&format!("tillroll topic create orders && {next}"));
    assert_eq!(object(&shell, "tillroll group describe billing -o json")["topics_gone"], json!([]), "{next}");
    shell.ok("tillroll group delete billing --yes && tillroll topic delete orders --yes");
    refused(&shell, "tillroll topic delete order --yes", 3, "error: topic order not found\n", "tillroll topic list");
}

#[test]
fn a_group_is_deleted_only_by_whoever_says_yes() {
    let (shell, _broker) = filled();
    refused(&shell, "tillroll group delete mailer", 2, "deleting asks, and nobody is there", "hint: add --yes");
    assert_eq!(shell.ok("tillroll group delete mailer --yes"), "group mailer deleted, 2 cursors\n");
    refused(&shell, "tillroll group delete mailer --yes", 3, "mailer", "hint: all groups are listed by: ");
    shell.ok("tillroll group create mailer --topic orders --from latest --manual");
    let gone = object(&shell, "tillroll group delete mailer --yes -o json");
    assert_eq!(gone, json!({"name": "mailer", "deleted_cursors": 2, "members": 0}));
}

/// Types a line at a terminal, and then an answer to what it asks.
fn at_a_terminal(shell: &Shell, line: &str, answer: &str) -> Said {
    shell.run_with(&format!("script -qec '{line}' /dev/null"), format!("{answer}\n").as_bytes())
}

#[test]
fn at_a_terminal_the_name_is_asked_for_before_anything_changes() {
    let (shell, _broker) = filled();
    let set = "tillroll group set-cursor mailer --topic orders --to latest";
    let said = at_a_terminal(&shell, set, "orders");
    assert_eq!(said.code, 1, "{said:?}");
    for words in [
        "SKIPPED RECORDS",
        "have group mailer skip 12 records and repeat 0 records of orders? type mailer to go on: ",
        "another name was typed: nothing is changed",
    ] {
        assert!(said.stdout.contains(words), "no {words:?}: {said:?}");
    }
    assert_eq!(places(&shell), [0, 0]);
    let said = at_a_terminal(&shell, set, "mailer");
    assert!(said.code == 0 && said.stdout.contains("2 cursors of group mailer set"), "{said:?}");
    assert_eq!(places(&shell), [6, 6]);
    let said = at_a_terminal(&shell, "tillroll group delete mailer", "mailer");
    assert!(said.code == 0 && said.stdout.contains("delete group mailer with 2 cursors? type mailer"), "{said:?}");
    assert_eq!(shell.run("tillroll group describe mailer").code, 3);
}

#[test]
fn members_are_shown_with_what_they_hold_and_never_robbed_unasked() {
    let (shell, broker) = (Shell::new(), Inside::start());
    let on = |line: &str| format!("export TILLROLL_SERVER=http://{}; {line}", broker.address);
    shell.ok(&on(&fill()));
    shell.ok(&on("tillroll group create mailer --topic orders --from offset:1 --rule spread"));
    assert!(shell.ok(&on("tillroll group describe mailer")).contains("\n0 members, 10 records waiting, "));
    broker.join("mailer", "mailer-0");

    let words = shell.ok(&on("tillroll group describe mailer"));
    let lines: Vec<String> = words.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(lines[1].starts_with("1 member, 10 records waiting, the oldest for "), "{words}");
    assert_eq!(lines[3], "MEMBER ID INSTANCE ID CLIENT JOINED CONNECTED PARTITIONS", "{words}");
    assert!(lines[4].starts_with("mailer-0 mailer-0-a mailer 1.0 20") && lines[4].ends_with(" 2"), "{words}");
    assert_eq!(lines[6], "TOPIC PARTITION NEXT OFFSET LAG RECORDS LAG MS COMMITTED HOLDER EPOCH", "{words}");
    let group = object(&shell, &on("tillroll group describe mailer -o json"));
    let epoch = &group["members"][0]["assignments"][0]["assignment_epoch"];
    assert!(epoch.as_u64().is_some_and(|epoch| epoch > 0), "{group}");
    let held_by = format!(" - mailer-0 {epoch}");
    assert!(lines[7].starts_with("orders 0 1 5 ") && lines[7].ends_with(&held_by), "{words}");
    assert_eq!(group["cursors"][1]["holder"], "mailer-0");
    assert_eq!(group["members"][0]["instance_id"], "mailer-0-a");
    let held = json!({"topic": "orders", "partition": 1, "assignment_epoch": epoch, "next_offset": 1});
    assert_eq!(group["members"][0]["assignments"][1], held);

    let set = on("tillroll group set-cursor mailer --topic orders --to latest --yes");
    let asks = set.replace(" --yes", "");
    for line in [&set, &asks, &on("tillroll group delete mailer --yes")] {
        let error = "error: group mailer has members: mailer-0\n";
        refused(&shell, line, 6, error, "hint: stop its members first, or add --with-members");
    }
    let said = shell.run(&format!("{set} --dry-run"));
    assert!(said.code == 0 && said.stdout.starts_with("nothing is changed: group mailer would skip 10 "), "{said:?}");
    let warned =
        "group mailer has members: mailer-0; to set its cursors, stop its members first, or add --with-members";
    assert!(said.stderr.starts_with(warned), "{said:?}");
    assert_eq!(shell.run(&format!("{set} --dry-run --with-members")).stderr, "");
    assert_eq!(object(&shell, &format!("{set} --with-members -o json"))["skipped_records"], 10);
    let deleted = shell.ok(&on("tillroll group delete mailer --with-members --yes"));
    assert_eq!(deleted, "group mailer deleted, 2 cursors\n");
}
