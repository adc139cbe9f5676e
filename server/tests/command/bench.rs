//! `tillroll bench`: it measures, proves, and cleans up after itself.

use crate::shell::Shell;
use serde_json::Value;

fn object(text: &str) -> Value {
    serde_json::from_str(text).expect("one object")
}

#[test]
fn a_bench_measures_proves_and_deletes_its_topic() {
    let (shell, _broker) = Shell::with_broker();
    let told = object(&shell.ok(
        "tillroll bench append --seconds 1 --partitions 2 --producers 2 --batch-records 100 --record-bytes 100 -o json",
    ));
    assert_eq!(told["verified"], true, "{told}");
    for name in ["records_per_s", "mb_per_s", "records", "appends"] {
        assert!(told[name].as_f64().is_some_and(|number| number > 0.0), "{name}: {told}");
    }
    let latency = &told["ack_us"];
    let quantile = |name: &str| latency[name].as_u64().unwrap_or_else(|| panic!("{name}: {told}"));
    assert!(quantile("p50") <= quantile("p99") && quantile("p99") <= quantile("p999"), "{told}");
    assert!(quantile("p999") <= quantile("max"), "{told}");

    let told = object(&shell.ok("tillroll bench append --seconds 1 --batch-records 1 --rate 200 --no-verify -o json"));
    assert_eq!(told["verified"], Value::Null);
    let records = told["records"].as_u64().expect("a count");
    assert!((100..=200).contains(&records), "200 a second for a second: {told}");

    let told = object(&shell.ok("tillroll bench read --seconds 1 --partitions 2 --fill-bytes 1000000 -o json"));
    assert!(told["rounds"].as_u64().is_some_and(|rounds| rounds > 0), "{told}");
    assert_eq!(shell.ok("tillroll topic list -o json"), "[]\n", "nothing is left behind");
}

#[test]
fn a_bench_of_impossible_batches_says_what_to_change() {
    let (shell, _broker) = Shell::with_broker();
    let said = shell.run("tillroll bench append --record-bytes 100000 --batch-records 1000");
    assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{said:?}");
    assert!(said.stderr.contains("hint: take fewer --batch-records"), "{said:?}");
    assert_eq!(shell.ok("tillroll topic list -o json"), "[]\n");
}

#[test]
fn a_bench_of_records_that_no_broker_takes_is_refused_before_anything_is_made() {
    let (shell, _broker) = Shell::with_broker();
    for (typed, hint) in [
        ("bench append --record-bytes 5000000", "--record-bytes"),
        ("bench append --record-bytes 5000000 --batch-records 1", "--record-bytes"),
        ("bench append --record-bytes 4294967295 --batch-records 4294967295", "--record-bytes"),
        ("bench append --record-bytes 16 --batch-records 4294967295", "--batch-records"),
        ("bench read --record-bytes 5000000", "--record-bytes"),
        ("bench append --partitions 4000000", "partition"),
    ] {
        let said = shell.run(&format!("tillroll {typed}"));
        assert!(matches!(said.code, 2 | 4), "{typed}: {said:?}");
        assert!(said.stderr.starts_with("error: ") && said.stderr.contains(hint), "{typed}: {said:?}");
        assert!(!said.stderr.contains("panicked"), "{typed}: {said:?}");
    }
    assert_eq!(shell.ok("tillroll topic list -o json"), "[]\n", "nothing is left behind");
}

/// Whoever ends a bench is not left with its topic.
#[test]
fn a_bench_that_is_asked_to_end_deletes_its_topic() {
    let (shell, broker) = Shell::with_broker();
    for name in ["INT", "TERM"] {
        let mut bench = shell.spawn(&["bench", "append", "--seconds", "60", "--no-verify"]);
        crate::process::wait_for("a topic", bench.id(), || while shell.ok("tillroll topic list -o json") == "[]\n" {});
        crate::shell::signal(&bench, name);
        crate::shell::end("the bench's end", &mut bench);
        assert_eq!(shell.ok("tillroll topic list -o json"), "[]\n", "nothing is left behind after {name}");
    }
    drop(broker);
}
