//! Holds the small rules of `docs/style.md` that no other tool holds: sizes, banned words, headings, names.
//!
//! Method: all text files of the repository are read; each rule is a function from one file to what it finds there, and
//! each is also shown a file that breaks it. The length of functions is clippy's (`too-many-lines-threshold`).

mod source;

use std::path::Path;

use source::Source;

/// Lines of a file that is not a test.
const FILE_LINES_MAX: usize = 600;

/// Characters of a line of code.
const LINE_CHARS_MAX: usize = 120;

/// Names that say nothing, as a file's or a folder's.
const EMPTY_NAMES: [&str; 8] = ["manager", "helper", "helpers", "util", "utils", "common", "misc", "info"];

/// What must not stand in Rust code, and why.
const BANNED: [(&str, &str); 6] = [
    ("todo!(", "say what is missing in the error instead"),
    ("unimplemented!(", "say what is missing in the error instead"),
    ("dbg!(", "left over"),
    ("#[ignore", "a test runs or goes"),
    ("#[allow(", "use #[expect(…, reason = \"…\")]"),
    ("#![allow(", "use #![expect(…, reason = \"…\")]"),
];

/// Where a lint may be allowed, with the reason.
const ALLOWED: [(&str, &str); 1] =
    [("proto/src/lib.rs", "generated code: which lints it meets changes with the generator")];

/// Where tests may run on demand alone, how many, and the reason.
const ON_DEMAND: [(&str, usize, &str); 3] = [
    ("client/src/saga/tests.rs", 1, "needs the whole year, which is not shipped"),
    ("client/src/saga/retail/tests/year.rs", 1, "needs the whole year, which is not shipped"),
    ("server/tests/command/demo.rs", 2, "needs the whole year, which is not shipped, and half an hour"),
];

/// How something is written to standard output or standard error. What came from outside must not be obeyed by a
/// terminal nor begin a line of its own, so that the command writes by one file alone.
const PRINTS: [&str; 6] = ["println!", "print!", "io::stdout", "io::stderr", "stderr()", "with_writer("];

/// Who may use which of them besides `server/src/cmd/terminal.rs`, and the reason.
const PRINTERS: [(&str, &str, &str); 7] = [
    ("server/src/cmd/log.rs", "with_writer(", "its fields are made safe by the same function"),
    ("server/src/cmd/log.rs", "stderr()", "whether it is a terminal"),
    ("server/src/cmd/demo/told.rs", "io::stderr", "whether it is a terminal"),
    ("server/src/cmd/demo/told.rs", "stderr()", "whether it is a terminal"),
    ("server/src/cmd/append/progress.rs", "io::stderr", "whether it is a terminal"),
    ("server/src/cmd/append/progress.rs", "stderr()", "a bar draws there; its texts are made safe"),
    ("client/src/processor/fail_point.rs", "println!", "one line with a name of our own"),
];

/// Tests that may sleep, with the reason: none waits in the hope that something has happened meanwhile.
const SLEEPERS: [(&str, &str); 0] = [];

#[test]
fn files_are_short_enough_to_be_read() {
    none(long_file);
}

#[test]
fn lines_fit_a_screen() {
    none(long_lines);
}

#[test]
fn files_say_what_they_are_for() {
    none(no_heading);
}

#[test]
fn names_say_something() {
    none(empty_name);
}

#[test]
fn nothing_unfinished_or_silenced_is_left() {
    none(banned_code);
}

#[test]
fn tests_do_not_sleep() {
    none(sleeping_test);
    let files = source::files();
    for (path, reason) in SLEEPERS {
        let sleeps = files.iter().any(|file| file.path == path && file.text.contains("sleep("));
        assert!(sleeps, "{path} does not sleep any more; drop it from the list ({reason})");
    }
}

#[test]
fn the_command_writes_by_one_file_alone() {
    none(print_elsewhere);
    let files = source::files();
    for (path, word, reason) in PRINTERS {
        let prints = files.iter().any(|file| file.path == path && file.text.contains(word));
        assert!(prints, "{path} has no `{word}` any more; drop it from the list ({reason})");
    }
}

#[test]
fn no_machine_and_no_registry_is_named() {
    none(foreign_places);
}

#[test]
fn lines_end_without_blanks_and_files_with_a_newline() {
    none(ragged_end);
}

fn none(rule: impl Fn(&Source) -> Vec<String>) {
    let files = source::files();
    assert!(files.len() > 30, "the repository was not read");
    let found: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(found.is_empty(), "{} findings:\n  {}", found.len(), found.join("\n  "));
}

fn long_file(file: &Source) -> Vec<String> {
    let lines = file.text.lines().count();
    let long = file.is_rust() && !file.is_test() && lines > FILE_LINES_MAX;
    long.then(|| format!("{}: {lines} lines, at most {FILE_LINES_MAX}: two ideas?", file.path)).into_iter().collect()
}

fn long_lines(file: &Source) -> Vec<String> {
    let is_code = file.is_rust() || [".proto", ".py", ".ci/run"].iter().any(|end| file.path.ends_with(end));
    let lines = file.text.lines().enumerate().filter(|(_, line)| is_code && line.chars().count() > LINE_CHARS_MAX);
    lines.map(|(line, _)| format!("{}:{}: longer than {LINE_CHARS_MAX}", file.path, line + 1)).collect()
}

fn no_heading(file: &Source) -> Vec<String> {
    // Unit tests that stand in their own file belong to the file above.
    let headed = !file.is_rust() || file.is_test() && !file.path.starts_with("tests/") || file.text.starts_with("//!");
    (!headed).then(|| format!("{}: does not open with `//!`", file.path)).into_iter().collect()
}

fn empty_name(file: &Source) -> Vec<String> {
    let names = file.path.split('/').map(|part| part.split('.').next().unwrap_or(part));
    names
        .filter(|name| EMPTY_NAMES.contains(name))
        .map(|name| format!("{}: `{name}` says nothing", file.path))
        .collect()
}

fn banned_code(file: &Source) -> Vec<String> {
    if !file.is_rust() {
        return Vec::new();
    }
    let code = source::code(&file.text);
    let allowed = ALLOWED.iter().any(|(path, _)| file.path == *path);
    let on_demand = ON_DEMAND.iter().find(|(path, ..)| file.path == *path).map_or(0, |(_, count, _)| *count);
    let banned = BANNED.iter().filter(|(word, _)| !(allowed && word.contains("[allow(")));
    let may_stand = |word: &str| if word == "#[ignore" { on_demand } else { 0 };
    let found = banned
        .flat_map(|(word, why)| code.match_indices(word).skip(may_stand(word)).map(move |(at, _)| (at, word, why)));
    found.map(|(at, word, why)| format!("{}:{}: `{word}`: {why}", file.path, source::line_of(&code, at))).collect()
}

fn sleeping_test(file: &Source) -> Vec<String> {
    if !file.is_rust() || SLEEPERS.iter().any(|(path, _)| file.path == *path) {
        return Vec::new();
    }
    let code = source::code(&file.text);
    let tests = if file.is_test() { code } else { source::divide(&code).1 };
    let words = ["thread::sleep(", "time::sleep(", "sleep_until(", " sleep("];
    let found = words.iter().flat_map(|word| tests.match_indices(word));
    found.map(|(at, _)| format!("{}:{}: a test that sleeps", file.path, source::line_of(&tests, at))).collect()
}

fn print_elsewhere(file: &Source) -> Vec<String> {
    let is_told = ["server/src/", "client/src/"].iter().any(|root| file.path.starts_with(root));
    if !is_told || !file.is_rust() || file.is_test() || file.path == "server/src/cmd/terminal.rs" {
        return Vec::new();
    }
    let code = source::divide(&source::code(&file.text)).0;
    let may = |word: &str| PRINTERS.iter().any(|(path, allowed, _)| *path == file.path && *allowed == word);
    let found = PRINTS.iter().filter(|word| !may(word)).flat_map(|word| code.match_indices(word));
    found
        .map(|(at, word)| format!("{}:{}: `{word}`: write by cmd/terminal.rs", file.path, source::line_of(&code, at)))
        .collect()
}

fn foreign_places(file: &Source) -> Vec<String> {
    // In pieces, so that this file does not name them itself.
    let hosts = [
        concat!("index.crates", ".io"),
        concat!("static.crates", ".io"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("registry.npmjs", ".org"),
        concat!("deb.debian", ".org"),
    ];
    let machine = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let documents =
        if Path::new(&file.path).extension().is_some_and(|extension| extension == "md") { &["/tmp/"][..] } else { &[] };
    let words = hosts.iter().chain(&machine).chain(documents);
    let found = words.flat_map(|word| file.text.match_indices(word));
    found.map(|(at, word)| format!("{}:{}: names `{word}`", file.path, source::line_of(&file.text, at))).collect()
}

fn ragged_end(file: &Source) -> Vec<String> {
    let lines = file.text.lines().enumerate().filter(|(_, line)| line.ends_with([' ', '\t', '\r']));
    let mut found: Vec<String> =
        lines.map(|(line, _)| format!("{}:{}: blanks at the end", file.path, line + 1)).collect();
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        found.push(format!("{}: no newline at the end", file.path));
    }
    found
}

/// Applies one rule to a made-up file; it must find so much.
fn check(rule: impl Fn(&Source) -> Vec<String>, path: &str, text: &str, expected: usize) {
    let found = rule(&Source { path: path.to_owned(), text: text.to_owned() });
    assert_eq!(found.len(), expected, "{path}: {found:?}");
}

#[test]
fn what_is_untidy_is_found() {
    check(long_file, "engine/src/a.rs", &"\n".repeat(601), 1);
    check(long_file, "engine/src/a/tests.rs", &"\n".repeat(601), 0);
    check(long_lines, "engine/src/a.rs", &format!("a\n{}\n{}", "é".repeat(120), "b".repeat(121)), 1);
    check(long_lines, "README.md", &"b".repeat(121), 0);
    check(no_heading, "engine/src/a.rs", "use a;", 1);
    check(no_heading, "tests/tests/a.rs", "use a;", 1);
    check(no_heading, "engine/src/a/tests.rs", "use super::*;", 0);
    check(empty_name, "client/src/utils/a.rs", "", 1);
    check(empty_name, "client/src/util.rs", "", 1);
    check(banned_code, "engine/src/a.rs", "fn a() { todo!() } // dbg!()", 1);
    check(banned_code, "engine/src/a.rs", "#[allow(dead_code)]\n#[ignore = \"x\"]\nfn a() {}", 2);
    check(banned_code, "client/src/saga/tests.rs", "#[ignore = \"x\"]\n#[allow(dead_code)]\nfn a() {}", 1);
    check(banned_code, "client/src/saga/tests.rs", "#[ignore = \"x\"]\n#[ignore = \"y\"]\nfn a() {}", 1);
    check(banned_code, "proto/src/lib.rs", "#[allow(dead_code)]\nmod a { dbg!(1) }", 1);
    check(foreign_places, "docs/a.md", "see /tmp/x", 1);
    check(foreign_places, "tests/tests/a.rs", "see /tmp/x", 0);
    check(foreign_places, ".ci/run", concat!("curl pypi", ".org and /wo", "rk/a"), 2);
    check(ragged_end, "docs/a.md", "a \nb", 2);
}

#[test]
fn a_print_beside_the_one_way_out_is_found() {
    for text in [
        "fn a() { println!(\"{key}\"); }",
        "fn a() { eprintln!(\"{key}\"); }",
        "fn a() { print!(\"{key}\"); }",
        "fn a() { writeln!(io::stdout(), \"{key}\"); }",
        "fn a() { std::io::stderr().write_all(key); }",
    ] {
        let rule = |file: &Source| print_elsewhere(file).into_iter().take(1).collect();
        check(rule, "server/src/cmd/read.rs", text, 1);
        check(rule, "client/src/reader.rs", text, 1);
        check(rule, "server/src/cmd/terminal.rs", text, 0);
        check(rule, "server/tests/command/read.rs", text, 0);
        check(rule, "server/src/cmd/read.rs", &format!("#[cfg(test)]\nmod tests {{ {text} }}"), 0);
    }
}

#[test]
fn a_test_that_sleeps_is_found() {
    check(sleeping_test, "tests/tests/a.rs", "fn a() { std::thread::sleep(b); }", 1);
    check(sleeping_test, "tests/tests/a.rs", "async fn a() { tokio::time::sleep(b).await; }", 1);
    check(sleeping_test, "client/src/retry.rs", "async fn a() { tokio::time::sleep(b).await; }", 0);
    check(sleeping_test, "client/src/retry.rs", "#[cfg(test)]\nmod tests { fn a() { thread::sleep(b) } }", 1);
}
