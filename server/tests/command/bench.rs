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
