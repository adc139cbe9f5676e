//! Producers as an operator sees them: listed, and deleted when nobody uses them any more.

use crate::shell::Shell;

#[test]
fn producers_are_listed_and_deleted_by_name() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1");
    assert_eq!(shell.run("tillroll producer list").stderr, "no such producers\n");
    // A program that names itself nothing is given a name, which means nothing to an operator.
    shell.ok("tillroll append orders --value one -q");
    let said = shell.run("tillroll producer list");
    let hidden = "no such producers\n1 producer without a name of its own is not shown: --all shows it\n";
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", hidden), "{said:?}");
    assert_eq!(shell.ok("tillroll producer list -o json"), "[]\n");
    for line in ["tillroll producer list --all", "tillroll producer list --prefix _p-"] {
        assert!(shell.ok(line).contains("_p-"), "{line}");
    }
    for name in ["load-a", "load-b", "other"] {
        shell.ok(&format!("printf 'one\\ntwo\\n' | tillroll append orders - --producer {name} -q"));
    }
    let listed = shell.ok("tillroll producer list --prefix load- -o jsonl");
    let names: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((names.len(), &names[0]["name"], &names[1]["records"]), (2, &"load-a".into(), &2.into()), "{listed}");
    assert_eq!(shell.ok("tillroll producer list --idle 1d -o json"), "[]\n");
    let said = shell.run("tillroll producer delete load-a");
    assert!(said.code == 2 && said.stderr.contains("--yes"), "{said:?}");
    shell.ok("tillroll producer delete load-a other --yes");
    let left = shell.ok("tillroll producer list");
    assert!(left.contains("load-b") && !left.contains("load-a") && !left.contains("other"), "{left}");
    let said = shell.run("tillroll producer delete load-b load-a --yes");
    assert_eq!((said.code, said.stdout.as_str()), (3, ""), "nothing is deleted when one is not there: {said:?}");
    assert!(said.stderr.contains("there is no producer load-a"), "{said:?}");
    assert!(shell.ok("tillroll producer list").contains("load-b"));
}
