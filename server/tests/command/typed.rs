//! What people type: values that look like options, a broker's address in short, the option for it before the
//! subcommand, and an address where something else listens.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use crate::shell::{Said, Shell};

#[test]
fn a_value_may_begin_with_a_hyphen() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    shell.ok("tillroll append orders --value -5 --key -1 --type -t");
    assert_eq!(shell.ok("tillroll read orders --key -1 --format '%k %v %y\\n'"), "-1 -5 -t\n");
    shell.ok("tillroll group create mailer --topic orders --from earliest --manual");
    assert!(shell.ok("tillroll group pause mailer --reason '-- closed --'").contains("-- closed --"));
    for typed in ["read orders -n -1", "consume orders --group mailer -n -1", "read orders --partition -1"] {
        let said = shell.run(&format!("tillroll {typed}"));
        assert_eq!(said.code, 2, "{typed}: {said:?}");
        assert!(said.stderr.contains("'-1'") && said.stderr.contains("invalid"), "{typed}: {said:?}");
        assert!(!said.stderr.contains("unexpected argument"), "{typed}: {said:?}");
    }
    // An option is an option still.
    assert!(shell.ok("tillroll append orders --value x -q").is_empty());
}

#[test]
fn standard_input_is_named_by_whoever_forgets_it() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    let said = shell.run("echo x | tillroll append orders");
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("tillroll append orders -"), "{said:?}");
}

#[test]
fn the_broker_is_named_before_or_behind_the_subcommand_and_in_short() {
    let (shell, broker) = Shell::with_broker();
    let port = broker.address.rsplit_once(':').expect("a port").1;
    for server in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}/")] {
        for typed in [
            format!("tillroll --server {server} topic list -o json"),
            format!("tillroll topic --server {server} list -o json"),
            format!("tillroll topic list -o json --server {server}"),
        ] {
            assert_eq!(shell.ok(&format!("TILLROLL_SERVER=http://127.0.0.1:1 {typed}")), "[]\n", "{typed}");
        }
    }
    // Nobody is asked at port 80.
    for server in ["localhost", "http://localhost", "127.0.0.1", "[::1]"] {
        let said = shell.run(&format!("tillroll status --server '{server}'"));
        let host = server.trim_start_matches("http://");
        let is_asked = said.stderr.contains(&format!("http://{host}:7420")) || said.code == 0;
        assert!(is_asked, "{server}: {said:?}");
    }
    // Set to nothing is not set.
    let said = shell.run("TILLROLL_SERVER= tillroll status");
    assert!(said.code == 0 || said.stderr.contains("http://127.0.0.1:7420"), "{said:?}");
}

#[test]
fn an_address_that_cannot_be_one_is_told_what_is_wrong_with_it() {
    let shell = Shell::new();
    for (server, wrong) in [
        (":99999", "it has no host"),
        ("http://:7420", "it has no host"),
        ("localhost:99999", "its port 99999 is above 65535"),
        ("localhost:", "it has no port behind the colon"),
        ("localhost:seven", "its port seven is no number"),
        ("https://localhost:7420", "https:// is not served yet"),
        ("grpc://localhost", "grpc:// is not served"),
        ("http://localhost:7420/path", "it has a path"),
        ("::1", "an IPv6 address stands in brackets, as in [::1]:7420"),
        ("two words", "it has blanks"),
    ] {
        let said = shell.run(&format!("tillroll status --server '{server}'"));
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{server}: {said:?}");
        let expected = format!("error: --server {server}: {wrong}\nhint: ");
        assert!(said.stderr.starts_with(&expected), "{server}: {said:?}");
        assert!(said.stderr.contains("HOST:PORT, as in 127.0.0.1:7420"), "{server}: {said:?}");
    }
    let said = shell.run("TILLROLL_SERVER=:1 tillroll status");
    assert!(said.stderr.starts_with("error: TILLROLL_SERVER :1: it has no host\n"), "{said:?}");
}

#[test]
fn a_length_of_time_below_nothing_is_an_invalid_value() {
    let shell = Shell::new();
    let group = "group create mailer --topic orders --from earliest --rule spread";
    for typed in
        [format!("{group} --session -3s"), format!("{group} --drain -3s"), "producer list --idle -3s".to_owned()]
    {
        let said = shell.run(&format!("tillroll {typed}"));
        assert_eq!(said.code, 2, "{typed}: {said:?}");
        assert!(said.stderr.contains("invalid value '-3s'") && said.stderr.contains("write 15s"), "{typed}: {said:?}");
    }
}

#[test]
fn only_a_name_that_is_near_is_offered() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create cost && tillroll topic create customer-orders");
    for (typed, offered) in
        [("cots", None), ("mist", None), ("cos", Some("cost")), ("customerorder", Some("customer-orders"))]
    {
        let said = shell.run(&format!("tillroll topic describe {typed}"));
        let found = said.stderr.contains("did you mean ").then(|| said.stderr.split("did you mean ").nth(1)).flatten();
        let found = found.and_then(|rest| rest.split_once('?')).map(|(name, _)| name);
        assert_eq!((said.code, found), (3, offered), "{typed}: {said:?}");
    }
}

/// Something that hears the first bytes of each connection and answers them with this.
fn with_listener(answer: &'static [u8], look: impl Fn(&Shell, &str) -> Said) -> Said {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            // Whoever was here may be gone already.
            let _heard = stream.read_exact(&mut [0; 24]);
            let _answered = stream.write_all(answer);
            kept.push(stream);
        }
    });
    look(&Shell::new(), &address)
}

#[test]
fn a_port_where_something_else_listens_is_called_so() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
    ] {
        let said = with_listener(answer, |shell, address| shell.run(&format!("tillroll status --server {address}")));
        assert_eq!(said.code, 5, "{said:?}");
        assert!(said.stderr.contains("is no Tillroll broker"), "{said:?}");
        assert!(said.stderr.contains("hint: ") && said.stderr.contains("7420"), "{said:?}");
    }
}
