//! A range of the log that cannot be read: whoever consumes up to the end is told that the end was not reached, and the
//! group says so when nobody reads for it any more.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::shell::{Broker, Shell};

/// Records of the partition, in blocks of some 256 KiB.
const RECORDS: u64 = 4_000;

fn segments(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => segments(&path, found),
            path if path.extension().is_some_and(|end| end == "log") => found.push(path),
            _ => {}
        }
    }
}

/// A broker whose topic `orders` has rotten bytes in the middle of its one partition.
fn rotten() -> (Shell, Broker) {
    let (mut shell, broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1 --compression none");
    let lines: Vec<String> = (0..RECORDS).map(|number| format!("{number:0300}")).collect();
    let said = shell.run_with("tillroll append orders - -q", (lines.join("\n") + "\n").as_bytes());
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(broker.end("TERM").0, 0);
    let mut found = Vec::new();
    segments(&shell.folder().join("data/data"), &mut found);
    let largest = found.iter().max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len())).expect("a segment");
    let mut bytes = fs::read(largest).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xff);
    fs::write(largest, bytes).expect("it can be written");
    let broker = shell.broker(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
    shell.talk_to(&broker);
    (shell, broker)
}

fn cursor(shell: &Shell, group: &str) -> u64 {
    let group: Value =
        serde_json::from_str(&shell.ok(&format!("tillroll group describe {group} -o json"))).expect("json");
    group["cursors"][0]["next_offset"].as_u64().expect("a cursor")
}

#[test]
fn who_consumes_up_to_the_end_is_told_what_is_unread() {
    let (shell, _broker) = rotten();
    let said = shell.run("tillroll consume orders --group mailer --from earliest --until-caught-up --format '%o\\n'");
    assert_eq!(said.code, 7, "{}", said.stderr);
    let printed = said.stdout.lines().count() as u64;
    assert!(printed > 0 && printed < RECORDS, "{printed}");
    assert_eq!(cursor(&shell, "mailer"), printed, "what is printed is committed");
    let unread =
        format!("error: orders/0 is not read to its end: from offset {printed} on {} records", RECORDS - printed);
    let unread = unread.replace(&(RECORDS - printed).to_string(), &with_commas(RECORDS - printed));
    assert!(said.stderr.contains(&unread), "{unread}: {}", said.stderr);
    assert!(
        said.stderr.contains("hint: ") && said.stderr.contains("set-cursor mailer --topic orders"),
        "{}",
        said.stderr
    );
    // Since when they have been waiting stands in what cannot be read.
    let described = shell.ok("tillroll group describe mailer -o json");
    let group: Value = serde_json::from_str(&described).expect("json");
    assert_eq!((&group["lag_ms"], &group["cursors"][0]["lag_ms"]), (&Value::Null, &Value::Null), "{described}");
    let described = shell.ok("tillroll group describe mailer");
    assert!(described.contains(" waiting, the oldest that can be read for an unknown time\n"), "{described}");
    // Nobody is a member any more, which is not what holds it up.
    let told = shell.ok("tillroll group explain mailer");
    assert!(told.starts_with("group mailer: orders/0: offsets "), "{told}");
    assert!(told.contains("DATA_DAMAGED orders/0: offsets "), "{told}");
    assert!(told.contains("tillroll group set-cursor mailer --topic orders --partition 0 --to offset:"), "{told}");
    // What is advised works.
    let advised = told.lines().find_map(|line| line.split_once("tillroll group set-cursor ")).expect("advice").1;
    shell.ok(&format!("tillroll group set-cursor {advised} --yes"));
    shell.ok("tillroll append orders --value last -q");
    let said = shell.run("tillroll consume orders --group mailer --until-caught-up --format '%o\\n'");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(format!("\n{}", said.stdout).ends_with(&format!("\n{RECORDS}\n")), "{}", said.stderr);
}

/// 1,234 as the command writes it.
fn with_commas(number: u64) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

/// What was written before the output could take no more is printed; the rest comes again.
#[test]
fn an_output_that_takes_no_more_moves_the_cursor_to_what_it_took() {
    let (shell, _broker) = Shell::with_broker();
    shell.ok("tillroll topic create orders --partitions 1 --compression none");
    let lines: Vec<String> = (0..2_000).map(|number| format!("{number:0300}")).collect();
    let said = shell.run_with("tillroll append orders - -q", (lines.join("\n") + "\n").as_bytes());
    assert_eq!(said.code, 0, "{said:?}");
    // A limit of the file's size stops it in the middle of a line.
    let consume = "tillroll consume orders --group mailer --from earliest --format '%o %v\\n'";
    let said = shell.run(&format!("(trap '' XFSZ; ulimit -f 200; exec {consume} >printed)"));
    assert_eq!(said.code, 1, "{said:?}");
    let printed = fs::read(shell.folder().join("printed")).expect("a file");
    let whole = printed.split(|byte| *byte == b'\n').count() as u64 - 1;
    assert!(whole > 50 && !printed.ends_with(b"\n"), "it stopped within a line: {whole}");
    assert_eq!(cursor(&shell, "mailer"), whole);
    // Whoever looks at the first line alone has it, and the cursor is behind what its pipe took, as the help says.
    let help = shell.ok("tillroll consume --help");
    assert!(help.contains("What a\npipe took counts") && help.contains("take -n 1"), "{help}");
    shell.ok("tillroll consume orders --group first --from earliest --format '%o %v\\n' -q | head -1 >one");
    let at = cursor(&shell, "first");
    assert!(at > 0 && at < 2_000, "{at}");
    let rest = shell.ok("tillroll consume orders --group first --until-caught-up --format '%o\\n' -q");
    assert_eq!(rest.lines().next().map(str::to_owned), Some(at.to_string()));
    shell.ok("tillroll consume orders --group five --from earliest -n 5 -q");
    assert_eq!(cursor(&shell, "five"), 5);
}
