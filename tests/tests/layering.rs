//! Holds the arrows of the house: which crate may use which, which module of the engine may use which, where `unsafe`
//! may stand, and where files may be touched.
//!
//! Method: the sources are read as text. The order of the `mod` lines in `engine/src/lib.rs` is the rule; every
//! `crate::x` (and every `super` that climbs to the root) in a module must name one that stands above it. Code that is
//! built for tests alone may look anywhere. Each check is also shown an input that breaks it.

mod source;

use source::Source;

/// What each crate may use of the others. `tests` and `benches` may use all, and nothing may use them.
const ARROWS: [(&str, &[&str]); 4] =
    [("proto", &[]), ("engine", &[]), ("client", &["proto"]), ("server", &["proto", "engine", "client"])];

/// What the engine must never depend on, and its manifest therefore never name.
const NOT_IN_ENGINE: [&str; 8] = ["tokio", "tonic", "prost", "http", "hyper", "axum", "clap", "tower"];

/// Where `unsafe` may stand.
const UNSAFE: &str = "engine/src/segment/map.rs";

/// Where files may be touched; everything else in the engine goes through the trait `disk::Disk`.
const FILES: [&str; 3] = ["engine/src/disk/real.rs", "engine/src/disk/real/", UNSAFE];

#[test]
fn modules_of_the_engine_use_only_what_stands_above_them() {
    let files = source::files();
    let root = files.iter().find(|file| file.path == "engine/src/lib.rs").expect("the engine has a root");
    let order = modules(&root.text);
    assert!(order.len() > 10, "the order was not read: {order:?}");
    let engine = files.iter().filter(|file| file.path.starts_with("engine/src/") && !file.is_test());
    none(engine.filter(|file| file.path != root.path).flat_map(|file| edges_up(&order, file)));
}

#[test]
fn crates_depend_in_one_direction() {
    none(source::files().iter().flat_map(|file| crate_edges(&file.path, &file.text)));
}

#[test]
fn the_wire_of_the_server_knows_no_client() {
    let files = source::files();
    let rpc = files.iter().filter(|file| file.path.starts_with("server/src/rpc"));
    none(rpc.filter(|file| source::code(&file.text).contains("tillroll_client")).map(|file| file.path.clone()));
}

#[test]
fn unsafe_stands_in_one_module() {
    none(source::files().iter().filter(|file| file.is_rust()).flat_map(unsafe_outside));
}

#[test]
fn every_other_crate_forbids_unsafe() {
    let files = source::files();
    let roots: Vec<&Source> = files.iter().filter(|file| is_crate_root(&file.path)).collect();
    assert!(roots.len() >= 6, "crate roots were not found");
    none(roots.into_iter().filter(|file| !file.text.contains("#![forbid(unsafe_code)]")).map(|file| file.path.clone()));
}

#[test]
fn files_are_touched_through_the_disk_seam_alone() {
    none(source::files().iter().filter(|file| file.path.starts_with("engine/src/")).flat_map(files_touched));
}

fn none(violations: impl Iterator<Item = String>) {
    let violations: Vec<String> = violations.collect();
    assert!(violations.is_empty(), "{} violations:\n  {}", violations.len(), violations.join("\n  "));
}

/// The modules in the order of their declaration.
fn modules(text: &str) -> Vec<String> {
    let (rest, _) = source::divide(&source::code(text));
    let lines = rest.lines().map(|line| line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub "));
    lines.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)).collect()
}

/// Every use of a module that does not stand above the file's own.
fn edges_up(order: &[String], file: &Source) -> Vec<String> {
    let inner = file.path.strip_prefix("engine/src/").unwrap_or(&file.path);
    let own = inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs");
    let Some(place) = order.iter().position(|module| module == own) else {
        return vec![format!("{}: not declared in lib.rs", file.path)];
    };
    let (code, _) = source::divide(&source::code(&file.text));
    let depth = inner.trim_end_matches("/mod.rs").split('/').count();
    let mut found = Vec::new();
    for (at, name) in roots_named(&code, depth) {
        let line = source::line_of(&code, at);
        match order.iter().position(|module| *module == name) {
            Some(other) if other <= place => {}
            Some(_) => found.push(format!("{}:{line}: `{own}` uses `{name}`, which stands below it", file.path)),
            None => found.push(format!("{}:{line}: `crate::{name}` names no module of lib.rs", file.path)),
        }
    }
    found
}

/// Names that paths from the root begin with, and where: of `crate::a`, `crate::{a, b::c}` and enough `super::`.
fn roots_named(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if !in_word(code, at) {
            first_names(&code[at + "crate::".len()..], at, &mut found);
        }
    }
    let mut end = 0;
    for (at, _) in code.match_indices("super::") {
        if at < end || in_word(code, at) {
            continue;
        }
        end = at;
        while code[end..].starts_with("super::") {
            end += "super::".len();
        }
        let climbs = (end - at) / "super::".len();
        if climbs >= depth + inline_depth(code, at) {
            first_names(&code[end..], at, &mut found);
        }
    }
    found
}

fn in_word(code: &str, at: usize) -> bool {
    code[..at].ends_with(|char: char| char.is_alphanumeric() || char == '_')
}

/// The first name of a path, or of each path of a group.
fn first_names(tree: &str, at: usize, found: &mut Vec<(usize, String)>) {
    let name =
        |text: &str| -> String { text.chars().take_while(|&char| char.is_alphanumeric() || char == '_').collect() };
    let Some(group) = tree.trim_start().strip_prefix('{') else {
        let name = if tree.starts_with('*') { "*".to_owned() } else { name(tree) };
        found.extend((!name.is_empty()).then_some((at, name)));
        return;
    };
    let mut nested = 0_usize;
    let mut expects = true;
    for (step, char) in group.char_indices() {
        match char {
            '{' => nested += 1,
            '}' if nested == 0 => break,
            '}' => nested -= 1,
            ',' if nested == 0 => expects = true,
            _ if expects && !char.is_whitespace() => {
                found.push((at, name(&group[step..])));
                expects = false;
            }
            _ => {}
        }
    }
}

/// How many `mod x { … }` of the file enclose a place.
fn inline_depth(code: &str, at: usize) -> usize {
    let mut open = Vec::new();
    for (place, char) in code[..at].char_indices() {
        match char {
            '{' => {
                let head = code[..place].rsplit([';', '{', '}']).next().unwrap_or_default();
                open.push(head.split_whitespace().rev().nth(1) == Some("mod"));
            }
            '}' => {
                open.pop();
            }
            _ => {}
        }
    }
    open.into_iter().filter(|&is_mod| is_mod).count()
}

/// Dependencies that a manifest must not have.
fn crate_edges(path: &str, text: &str) -> Vec<String> {
    let Some(own) = path.strip_suffix("/Cargo.toml") else { return Vec::new() };
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == own) else { return Vec::new() };
    let mut section = "";
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header;
        }
        if !section.contains("dependencies") {
            continue;
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if name.strip_prefix("tillroll-").is_some_and(|other| !allowed.contains(&other)) {
            found.push(format!("{path}: {own} must not depend on {name}"));
        }
        let wire = NOT_IN_ENGINE.iter().any(|word| name == *word || name.starts_with(&format!("{word}-")));
        if own == "engine" && wire {
            found.push(format!("{path}: the engine must not depend on {name}"));
        }
    }
    found
}

fn unsafe_outside(file: &Source) -> Vec<String> {
    if file.path == UNSAFE {
        return Vec::new();
    }
    let code = source::code(&file.text);
    let words = code.match_indices("unsafe").filter(|&(at, word)| {
        !in_word(&code, at) && !code[at + word.len()..].starts_with(|char: char| char == '_' || char.is_alphanumeric())
    });
    words.map(|(at, _)| format!("{}:{}: unsafe outside {UNSAFE}", file.path, source::line_of(&code, at))).collect()
}

fn is_crate_root(path: &str) -> bool {
    let mut parts = path.splitn(3, '/');
    let (Some(own), Some("src"), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return false };
    own != "engine" && (rest == "lib.rs" || rest == "main.rs" || rest.starts_with("bin/"))
}

fn files_touched(file: &Source) -> Vec<String> {
    if file.is_test() || FILES.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    let (code, _) = source::divide(&source::code(&file.text));
    let words = ["std::fs", "fs::File", "OpenOptions", "rustix::fs", "memmap2::"];
    let found = words.iter().flat_map(|word| code.match_indices(word));
    found
        .map(|(at, word)| format!("{}:{}: `{word}` past the disk seam", file.path, source::line_of(&code, at)))
        .collect()
}

/// Checks the text of module `path` in an engine of the modules `low`, `own`, `high`.
fn check(path: &str, text: &str, expected: &[&str]) {
    let order = modules("pub mod low;\n#[cfg(unix)]\nmod own; // here\n#[cfg(test)]\nmod tests;\npub(crate) mod high;");
    assert_eq!(order, ["low", "own", "high"]);
    let file = Source { path: format!("engine/src/{path}"), text: text.to_owned() };
    let found = edges_up(&order, &file);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (violation, part) in found.iter().zip(expected) {
        assert!(violation.contains(part), "{violation} lacks {part}");
    }
}

#[test]
fn an_arrow_that_runs_back_is_found() {
    check("own.rs", "use crate::low::A;\nuse crate::own::B;", &[]);
    check("own.rs", "use crate::low::A;\nuse crate::high::B;", &["engine/src/own.rs:2: `own` uses `high`"]);
    check("own.rs", "use crate::{low::{A, high}, own::b};", &[]);
    check("own.rs", "use crate::{\n    low::{A, B},\n    high::C,\n};", &["uses `high`"]);
    check("own/part.rs", "fn a() { crate::high::b() }", &["uses `high`"]);
    check("own/mod.rs", "use super::high::A;", &["uses `high`"]);
    check("own/part.rs", "use super::{high, other};", &[]);
    check("own/part.rs", "use super::super::{high, low};", &["uses `high`"]);
    check("own.rs", "mod inner { use super::high; }", &[]);
    check("own.rs", "mod inner { use super::super::high; }", &["uses `high`"]);
    check("own.rs", "use crate::Root;", &["names no module"]);
    check("own.rs", "use crate::*;", &["names no module"]);
    check("stray.rs", "", &["not declared"]);
}

#[test]
fn comments_and_test_code_may_look_anywhere() {
    check("own.rs", "//! See [`crate::high`].\nconst A: &str = \"crate::high\";", &[]);
    check("own.rs", "#[cfg(test)]\nmod tests { use crate::high::A; }", &[]);
    check("own.rs", "#[cfg(feature = \"sim\")]\nmod sim { use crate::high::A; }", &["uses `high`"]);
}

#[test]
fn a_dependency_the_wrong_way_is_found() {
    let manifest =
        "[dependencies]\ntillroll-proto.workspace = true\ntillroll-engine = { path = \"x\" }\ntokio.workspace = true";
    assert_eq!(
        crate_edges("client/Cargo.toml", manifest),
        ["client/Cargo.toml: client must not depend on tillroll-engine"]
    );
    assert_eq!(crate_edges("engine/Cargo.toml", manifest).len(), 3);
    assert_eq!(crate_edges("tests/Cargo.toml", manifest).len(), 0);
    assert_eq!(crate_edges("server/Cargo.toml", "[dev-dependencies]\ntillroll-tests.workspace = true").len(), 1);
    assert_eq!(crate_edges("proto/Cargo.toml", "[package]\ntillroll-engine = 1").len(), 0);
}

#[test]
fn unsafe_and_files_elsewhere_are_found() {
    let file = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let text = "#![forbid(unsafe_code)]\n// unsafe\nfn a() { unsafe { b() } }";
    assert_eq!(unsafe_outside(&file("client/src/a.rs", text)), [format!("client/src/a.rs:3: unsafe outside {UNSAFE}")]);
    assert_eq!(unsafe_outside(&file(UNSAFE, text)).len(), 0);
    assert_eq!(files_touched(&file("engine/src/a.rs", "use std::fs;")).len(), 1);
    assert_eq!(files_touched(&file("engine/src/disk/real.rs", "use std::fs;")).len(), 0);
    assert_eq!(files_touched(&file("engine/src/a.rs", "#[cfg(test)]\nmod tests { use std::fs; }")).len(), 0);
    assert!(is_crate_root("server/src/bin/x.rs") && is_crate_root("proto/src/lib.rs"));
    assert!(!is_crate_root("engine/src/lib.rs") && !is_crate_root("server/src/rpc/lib.rs"));
}
