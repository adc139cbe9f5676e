//! `tillroll demo`: real orders through real processes, with and without everything going wrong, and the proof.
//!
//! The cut that is shipped runs every time; `TILLROLL_RETAIL=FILE` takes the whole year, and then also asks for
//! everything that a brutal run must reach.

use serde_json::{Value, json};

use crate::shell::Shell;

fn object(stdout: &str) -> Value {
    serde_json::from_str(stdout).unwrap_or_else(|_| panic!("no object: {stdout}"))
}

/// Nothing but the empty standard input is left in the folder.
fn check_clean(shell: &Shell) {
    let left: Vec<_> = std::fs::read_dir(shell.folder()).expect("it is there").flatten().collect();
    assert!(left.len() <= 1, "{left:?}");
}

#[test]
fn everything_goes_wrong_and_the_proof_holds() {
    let shell = Shell::new();
    let told = object(&shell.ok("tillroll demo --seed 3 -o json"));
    assert_eq!(told["proof"], "holds", "{told}");
    let orders = &told["orders"];
    let sum: u64 = ["whole", "partial", "cancelled"].iter().filter_map(|kind| orders[kind].as_u64()).sum();
    assert_eq!(sum, 1_738, "{told}");
    let injected = &told["injected"];
    let kills = injected["kills"].as_object().expect("by process");
    assert_eq!(kills.len(), 7, "every process was killed: {told}");
    for what in ["takeovers", "visits", "rebalances", "placed_again", "declines", "captures_below_authorisation"] {
        assert!(injected[what].as_u64().is_some_and(|count| count > 0), "{what}: {told}");
    }
    check_clean(&shell);
}

/// The figures are those of `tests/python/saga_model.py` over the same cut.
#[test]
fn one_invoice_after_the_other_it_comes_to_what_the_model_says() {
    let shell = Shell::new();
    let told = object(&shell.ok("tillroll demo --sequential -o json"));
    assert_eq!(told["proof"], "holds", "{told}");
    assert_eq!(told["orders"], json!({ "whole": 1_078, "partial": 639, "cancelled": 21 }));
    assert_eq!(told["captured_pence"], 125_146_049);
    assert_eq!(told["refunded_pence"], 25_855_882);
    assert_eq!(told["returns"], json!({ "whole": 345, "partial": 13, "refused": 12 }));
    assert_eq!(told["units_left"], 207_513);
    check_clean(&shell);
}

#[test]
fn what_makes_no_sense_is_refused_at_once() {
    let shell = Shell::new();
    assert_eq!(shell.run("tillroll demo --sequential --chaos brutal").code, 2);
    let said = shell.run("tillroll demo --data nowhere.csv");
    assert_eq!((said.code, said.stdout.as_str()), (4, ""), "{said:?}");
    assert!(said.stderr.contains("nowhere.csv"), "{said:?}");
}

#[test]
fn a_brutal_run_over_the_year_reaches_what_it_must() {
    let Some(file) = std::env::var_os("TILLROLL_RETAIL") else { return };
    let shell = Shell::new();
    let line = format!("tillroll demo --chaos brutal --seed 5 -o json --data '{}'", file.display());
    let told = object(&shell.ok(&line));
    assert_eq!((&told["proof"], &told["missed"]), (&json!("holds"), &json!([])), "{told}");
}
