//! `tillroll consume`: what is printed is committed, what is committed does not come again, and nothing is left out.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    process::{Child, ChildStderr},
};

use crate::{
    process::wait_for,
    shell::{Broker, Shell, end, printed, signal},
};

/// Records 0 to 29 over three partitions.
fn filled() -> (Shell, Broker) {
    let (shell, broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 3");
    append(&shell, 0..30);
    (shell, broker)
}

fn append(shell: &Shell, numbers: std::ops::Range<u32>) {
    let lines: Vec<String> = numbers.map(|number| format!("{{\"key\":\"{}\",\"n\":{number}}}", number % 7)).collect();
    let input = lines.join("\n") + "\n";
    let said = shell.run_with("tillroll append orders - --format jsonl --key-column key -q", input.as_bytes());
    assert_eq!(said.code, 0, "{said:?}");
}

/// The numbers that were printed, each once.
fn numbers(printed: &str) -> BTreeSet<u32> {
    let number = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("a value");
        u32::try_from(value["n"].as_u64().expect("a number")).expect("a small one")
    };
    let all: Vec<u32> = printed.lines().map(number).collect();
    let once: BTreeSet<u32> = all.iter().copied().collect();
    assert_eq!(once.len(), all.len(), "each once: {all:?}");
    once
}

const CONSUME: &str = "tillroll consume orders --group mailer --format '%v\\n'";

#[test]
fn a_group_is_made_only_when_its_start_is_said() {
    let (shell, _broker) = filled();
    let said = shell.run(CONSUME);
    assert_eq!((said.code, said.stdout.as_str()), (3, ""), "{said:?}");
    assert!(said.stderr.contains("--from earliest"), "{said:?}");
    let said = shell.run(&format!("{CONSUME} --from latest --until-caught-up"));
    assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{said:?}");
    let said = shell.run("tillroll consume orders --group mailr");
    assert!(said.code == 3 && said.stderr.contains("hint: did you mean mailer? to make it, "), "{said:?}");
    append(&shell, 30..33);
    let said = shell.run(&format!("{CONSUME} --from earliest --until-caught-up"));
    assert_eq!(numbers(&said.stdout), (30..33).collect(), "it goes on at its cursors: {said:?}");
    let said = shell.run("tillroll consume orders payments --group mailer");
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("group mailer reads orders"), "{said:?}");
}

#[test]
fn who_cannot_be_a_member_is_told_before_anything_is_made() {
    let (shell, _broker) = filled();
    let said = shell.run(&format!("{CONSUME} --member 'Bad Name' --from earliest"));
    assert!(said.code == 2 && said.stderr.contains("names are 1 to 128 of a-z 0-9 . _ -"), "{said:?}");
    assert_eq!(shell.ok("tillroll group list -o json").trim(), "[]");
    shell.ok("tillroll group create mailer --topic orders --from earliest --manual");
    let said = shell.run(CONSUME);
    assert_eq!((said.code, said.stdout.as_str()), (4, ""), "{said:?}");
    assert!(said.stderr.starts_with("error: group mailer is manual: it has no members\n"), "{said:?}");
}

/// The next so many lines that it says to whoever watches.
fn said(child: &Child, stderr: &mut BufReader<ChildStderr>, count: usize) -> String {
    let lines = || stderr.lines().take(count).map(|line| line.expect("it is text") + "\n").collect();
    wait_for(&format!("{count} messages"), child.id(), lines)
}

#[test]
fn a_member_that_gets_nothing_says_why() {
    let (shell, _broker) = filled();
    shell.ok("tillroll group create mailer --topic orders --from earliest --rule single");
    shell.ok("tillroll group pause mailer --reason 'a sale'");
    let words = ["consume", "orders", "--group", "mailer", "--member", "first"];
    let mut first = shell.spawn(&words);
    let mut told = BufReader::new(first.stderr.take().expect("piped"));
    assert_eq!(said(&first, &mut told, 2), "got orders/0 orders/1 orders/2\npaused: a sale\n");
    shell.ok("tillroll group resume mailer");
    let mut output = BufReader::new(first.stdout.take().expect("piped"));
    printed(&first, &mut output, 30);

    let mut second = shell.spawn(&["consume", "orders", "--group", "mailer", "--member", "second"]);
    let mut stands_by = BufReader::new(second.stderr.take().expect("piped"));
    assert_eq!(said(&second, &mut stands_by, 1), "stands by: all partitions are with first\n");
    signal(&second, "TERM");
    assert_eq!(end("the second one's end", &mut second).code(), Some(0));

    let mut newer = shell.spawn(&words);
    assert_eq!(end("the older one's end", &mut first).code(), Some(6));
    let ending = said(&first, &mut told, 3);
    let lines: Vec<&str> = ending.lines().collect();
    let error = "error: member first of group mailer was taken over by another process, so this one ends";
    assert_eq!(lines[..2], ["30 records printed", error], "{ending}");
    assert!(lines[2].starts_with("hint: "), "{ending}");
    signal(&newer, "TERM");
    assert_eq!(end("the newer one's end", &mut newer).code(), Some(0));
}

/// A member that waits for ever would be taken for one that is caught up.
#[test]
fn a_member_whose_last_topic_is_deleted_ends_and_says_how_to_begin_anew() {
    let (shell, _broker) = filled();
    shell.ok("tillroll topic create payments --partitions 1");
    let words = ["consume", "orders", "payments", "--group", "mailer", "--from", "earliest"];
    let mut member = shell.spawn(&words);
    let mut told = BufReader::new(member.stderr.take().expect("piped"));
    said(&member, &mut told, 2);
    let mut output = BufReader::new(member.stdout.take().expect("piped"));
    printed(&member, &mut output, 30);
    shell.ok("tillroll topic delete orders --yes");
    let lost = "lost orders/0 orders/1 orders/2: the topic is deleted\n";
    assert_eq!(said(&member, &mut told, 1), lost);
    shell.ok("tillroll append payments --value paid -q");
    assert!(printed(&member, &mut output, 1).ends_with("paid\n"), "it goes on with the other one");
    shell.ok("tillroll topic delete payments --yes");
    assert_eq!(end("its end", &mut member).code(), Some(3));
    let ending = said(&member, &mut told, 4);
    let anew = "tillroll group delete mailer --yes && tillroll consume orders payments --group mailer --from earliest";
    let expected = format!(
        "lost payments/0: the topic is deleted\n31 records printed\nerror: group mailer reads nothing: orders payments \
         is gone; one that is made under its name is another topic\nhint: to begin anew: {anew}\n"
    );
    assert_eq!(ending, expected);
    shell.ok("tillroll topic create orders && tillroll topic create payments");
    shell.ok(&format!("{anew} --until-caught-up"));
}

#[test]
fn what_is_printed_is_committed_and_does_not_come_again() {
    let (shell, _broker) = filled();
    let first = shell.ok(&format!("{CONSUME} --from earliest -n 10"));
    let second = shell.ok(&format!("{CONSUME} -n 7"));
    let rest = shell.ok(&format!("{CONSUME} --until-caught-up"));
    let (first, second, rest) = (numbers(&first), numbers(&second), numbers(&rest));
    assert_eq!((first.len(), second.len(), rest.len()), (10, 7, 13));
    assert_eq!(first.iter().chain(&second).chain(&rest).count(), 30);
    assert_eq!(&(&first | &second) | &rest, (0..30).collect());
    let described = shell.ok("tillroll group describe mailer -o json");
    let group: serde_json::Value = serde_json::from_str(&described).expect("an object");
    assert_eq!(group["members"], serde_json::json!([]), "each left: {group}");
}

#[test]
fn two_share_the_partitions_and_a_signal_gives_them_to_the_one_that_is_left() {
    let (shell, _broker) = filled();
    shell.ok(&format!("{CONSUME} --from earliest --until-caught-up"));
    let words = ["consume", "orders", "--group", "mailer", "--format", "%v\\n", "-q"];
    let mut children = [shell.spawn(&words), shell.spawn(&words)];
    let mut outputs = children.each_mut().map(|child| BufReader::new(child.stdout.take().expect("piped")));
    let members = || {
        let described = shell.ok("tillroll group describe mailer -o json");
        let group: serde_json::Value = serde_json::from_str(&described).expect("an object");
        let members = group["members"].as_array().expect("a list").clone();
        members.iter().map(|member| member["assignments"].as_array().map_or(0, Vec::len)).collect::<Vec<_>>()
    };
    wait("both hold something", || {
        let held = members();
        held.len() == 2 && held.iter().all(|count| *count > 0) && held.iter().sum::<usize>() == 3
    });
    let [first, _] = &mut children;
    signal(first, "INT");
    assert_eq!(end("the first one's end", first).code(), Some(130));
    wait("the other one holds all", || members() == [3]);
    append(&shell, 30..50);
    let all = printed(&children[1], &mut outputs[1], 20);
    assert_eq!(numbers(&all), (30..50).collect());
    // How a supervisor ends it is no failure, and leaves the group as well.
    let [_, second] = &mut children;
    signal(second, "TERM");
    assert_eq!(end("the second one's end", second).code(), Some(0));
    assert!(members().is_empty(), "it has left when it is gone");
    assert_eq!(shell.ok(&format!("{CONSUME} --until-caught-up")), "", "all that was printed is committed");
}

/// Asks until it is so; each question is a command of its own, so there is no need to wait between them.
fn wait(what: &str, is_so: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !is_so() {
        assert!(since.elapsed() < std::time::Duration::from_mins(1), "{what}: not in time");
    }
}

#[test]
fn a_member_with_a_name_goes_on_after_a_kill() {
    let (shell, _broker) = filled();
    let words = ["consume", "orders", "--group", "mailer", "--from", "earliest", "--member", "m", "--format", "%v\\n"];
    let mut child = shell.spawn(&words);
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let first = printed(&child, &mut output, 30);
    assert_eq!(numbers(&first).len(), 30);
    child.kill().and_then(|()| child.wait()).expect("it was started here");
    append(&shell, 30..40);
    // Nothing that was printed is left out; what was printed and not committed any more may come again.
    let again = shell.ok(&format!("{CONSUME} --member m --until-caught-up"));
    let again = numbers(&again);
    assert!(again.is_superset(&(30..40).collect()), "{again:?}");
}
