//! The first five minutes of somebody who has never seen Tillroll, word for word: what `tillroll` prints is typed, then
//! a few things that go wrong for everybody.
//!
//! Method: a real shell, the real binary, a real broker; only the port is another one, by `TILLROLL_SERVER`.

use std::io::{BufRead as _, BufReader, Read as _};

use crate::{
    process::wait_for,
    shell::{Said, Shell, end, signal},
};

/// The line of the first help that begins so, without its first word.
fn line(start: &str, name: &str) -> String {
    let line = start.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no line for {name} in {start}")).trim().to_owned()
}

#[test]
fn the_first_five_minutes() {
    let mut shell = Shell::new();

    let start = shell.ok("tillroll");
    assert_eq!(start.lines().count(), 6, "{start}");
    for name in ["start", "create", "append", "read", "follow", "demo"] {
        assert!(line(&start, name).starts_with("tillroll "), "{start}");
    }

    // Everybody forgets to start it.
    let said = shell.run(&line(&start, "create"));
    assert_eq!((said.code, said.stdout.as_str()), (5, ""), "{said:?}");
    assert!(said.stderr.starts_with("error: connect to http://127.0.0.1:"), "{said:?}");
    assert!(said.stderr.contains("hint: ") && said.stderr.contains("tillroll dev"), "{said:?}");

    assert_eq!(line(&start, "start"), "tillroll dev");
    let mut broker = shell.broker(&["dev", "--listen", "127.0.0.1:0"]);
    shell.talk_to(&broker);
    let hello = broker.lines(6);
    assert!(hello.starts_with("data in tillroll-data; Ctrl-C ends it, and the records stay\n"), "{hello}");
    assert_eq!(hello.matches("  tillroll ").count(), 3, "{hello}");

    let created = shell.ok(&line(&start, "create"));
    assert_eq!(created, "topic orders created: 8 partitions, lz4, records up to 1 MiB, segments of 128 MiB\n");
    let again = shell.ok(&line(&start, "create"));
    assert_eq!(again, created.replace("created:", "is there already:"));

    let acked = shell.ok(&line(&start, "append"));
    assert!(acked.starts_with("acked: orders partition ") && acked.ends_with(" offset 0\n"), "{acked}");

    let said = shell.run(&line(&start, "read"));
    assert_eq!(said.code, 0);
    assert!(said.stdout.ends_with(" 42 {\"total\":1999}\n"), "{said:?}");
    assert_eq!(said.stderr, "1 record, 8 partitions, at the end (-f follows)\n");

    follow(&shell, &line(&start, "follow"));
    mistakes(&shell);

    // The next day.
    let (code, _) = broker.end("INT");
    assert_eq!(code, 0, "Ctrl-C is how it ends");
    let broker = shell.broker(&["dev", "--listen", "127.0.0.1:0"]);
    assert_eq!(broker.before, "", "a clean stop leaves nothing to warn of");
    shell.talk_to(&broker);
    assert_eq!(shell.ok("tillroll read orders --format '%v\\n'"), "{\"total\":1999}\n{\"total\":2999}\n");

    assert_eq!(shell.ok("tillroll topic delete orders --yes"), "topic orders deleted, 2 records\n");
    assert_eq!(shell.run("tillroll topic list").stderr, "no topics; make one with: tillroll topic create orders\n");
}

/// A record shows up with whoever follows, and Ctrl-C ends it.
fn follow(shell: &Shell, typed: &str) {
    let words: Vec<&str> = typed.split_whitespace().skip(1).collect();
    let mut follower = shell.spawn(&words);
    let mut lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    let pid = follower.id();
    let mut next = || wait_for("a record", pid, || lines.next()).expect("it goes on").expect("it is text");
    assert!(next().ends_with(" 42 {\"total\":1999}"));
    shell.ok("tillroll append orders --key 42 --value '{\"total\":2999}'");
    assert!(next().ends_with(" 42 {\"total\":2999}"));
    signal(&follower, "INT");
    let mut said = String::new();
    follower.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    assert_eq!(end("the follower's end", &mut follower).code(), Some(130));
    assert_eq!(said, "2 records\n");
}

/// What everybody gets wrong once.
fn mistakes(shell: &Shell) {
    let check = |typed: &str, code: i32, error: &str, hint: &str| {
        let said: Said = shell.run(typed);
        assert_eq!((said.code, said.stdout.as_str()), (code, ""), "{typed}: {said:?}");
        assert!(said.stderr.starts_with("error: ") && said.stderr.contains(error), "{typed}: {said:?}");
        assert!(said.stderr.contains(hint), "{typed}: {said:?}");
    };
    check(
        "tillroll read order",
        3,
        "order",
        "hint: did you mean orders? or create it with: tillroll topic create order",
    );
    check("tillroll append visits --value x", 3, "visits", "hint: create it with: tillroll topic create visits");
    check("tillroll topic create Orders", 4, "Orders", "hint: names are");
    check("tillroll topic create orders --partitions 3", 6, "orders", "partitions");
    check("tillroll read orders --partition 8", 3, "8", "numbered from 0");
    check("tillroll read orders --from time:2010-12-01", 2, "append-time:2010-12-01", "event-time:2010-12-01");
    check("tillroll append orders", 2, "FILE", "hint: standard input is read by: tillroll append orders -");
    check("tillroll append orders no-such-file.csv", 1, "no-such-file.csv", "");
    check("tillroll topic delete orders", 2, "deleting asks", "hint: add --yes");
}
