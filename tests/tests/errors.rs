//! Goal: `docs/errors.md` says what the server can send, no more and no less. Method: the page's table is made from the
//! server's rows and held against the page; `TILLROLL_BLESS=1` writes it anew.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use tillroll_proto::{limits::ROWS, reason};
use tillroll_server::refusal::table;

const BEGIN: &str = "| reason | code | retry | same sequence | metadata | what to do |\n|---|---|---|---|---|---|\n";

fn rows() -> String {
    let mut text = BEGIN.to_owned();
    for row in table::ALL {
        let keys: Vec<String> = row.keys.iter().map(|key| format!("`{key}`")).collect();
        let code = format!("{:?}", row.code);
        let cells = [row.reason, &code, row.retry, row.sequence, &keys.join(" "), row.next];
        writeln!(text, "| {} |", cells.join(" | ")).expect("a string takes all");
    }
    text
}

#[test]
fn the_page_has_the_rows_that_the_server_sends() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    let page = fs::read_to_string(&path).expect("the page is there");
    let start = page.find(BEGIN).expect("the page has the table");
    let end = page[start..].find("\n\n").map_or(page.len(), |at| start + at + 1);
    if std::env::var_os("TILLROLL_BLESS").is_some() {
        fs::write(&path, format!("{}{}{}", &page[..start], rows(), &page[end..])).expect("the page can be written");
    } else {
        assert_eq!(page[start..end], rows(), "TILLROLL_BLESS=1 writes the page's table anew");
    }
}

const LIMITS_BEGIN: &str = "| field | entries | bytes of one | reason |\n|---|---|---|---|\n";

fn limits() -> String {
    let mut text = LIMITS_BEGIN.to_owned();
    for row in ROWS {
        let cell = |limit: Option<u64>| limit.map_or_else(|| "–".to_owned(), |limit| limit.to_string());
        let field = format!("`{}.{}`", row.message, row.field);
        let cells = [field, cell(row.entries), cell(row.bytes), row.reason.to_owned()];
        writeln!(text, "| {} |", cells.join(" | ")).expect("a string takes all");
    }
    text
}

#[test]
fn the_page_has_the_limits_that_requests_are_held_against() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    let page = fs::read_to_string(&path).expect("the page is there");
    let start = page.find(LIMITS_BEGIN).expect("the page has the table");
    let end = page[start..].find("\n\n").map_or(page.len(), |at| start + at + 1);
    if std::env::var_os("TILLROLL_BLESS").is_some() {
        fs::write(&path, format!("{}{}{}", &page[..start], limits(), &page[end..])).expect("the page can be written");
    } else {
        assert_eq!(page[start..end], limits(), "TILLROLL_BLESS=1 writes the page's table anew");
    }
}

#[test]
fn every_reason_of_the_contract_is_sent() {
    let sent: BTreeSet<&str> = table::ALL.iter().map(|row| row.reason).collect();
    let known: BTreeSet<&str> = reason::ALL.iter().copied().collect();
    assert_eq!(sent, known);
}
