//! `tillroll serve` as an operator meets it: how it starts, what it refuses to start on, and how it ends.

use std::io::Read as _;

use crate::shell::Shell;

#[test]
fn a_directory_and_a_port_have_one_broker() {
    let (shell, broker) = Shell::with_broker();
    let said = shell.run("tillroll serve --data data --listen 127.0.0.1:0");
    assert_eq!((said.code, said.stdout.as_str()), (6, ""), "{said:?}");
    assert!(said.stderr.starts_with("error: data: the data directory is in use by another broker\nhint: "), "{said:?}");
    let said = shell.run(&format!("tillroll serve --data other --listen {}", broker.address));
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.stderr.contains("hint: another program"), "{said:?}");
    assert_eq!(shell.run("tillroll status -q").code, 0, "the first one goes on");
}

#[test]
fn both_signals_end_it_in_order_and_followers_with_it() {
    for name in ["TERM", "INT"] {
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
