use super::*;
use crate::saga::{
    payload::CancelReason,
    service::tests::{Story, confirmed, placed, units},
};

fn story(stock: &[(&str, i64)]) -> Story<Inventory> {
    let mut story = Story::new(Inventory);
    for (code, units) in stock {
        story.hear(code, change(&format!("open {code}"), *units));
    }
    story
}

fn change(request: &str, units: i64) -> Event {
    StockChangeRequested { request: request.into(), units }.into()
}

fn updated(decision: u64, request: &str, asked: i64, applied: i64) -> Event {
    InventoryUpdated { decision, request: request.into(), asked, applied }.into()
}

fn stock_units(lines: &[(u32, &str, u64)]) -> Vec<StockUnits> {
    lines.iter().map(|&(line, code, units)| StockUnits { line, code: code.into(), units }).collect()
}

fn reserved(decision: u64, lines: &[(u32, &str, u64)], short: &[u32]) -> Event {
    InventoryReserved { decision, lines: stock_units(lines), short: short.to_vec() }.into()
}

fn released(decision: u64, lines: &[(u32, &str, u64)], compensates: &str) -> Event {
    InventoryReleased { decision, lines: stock_units(lines), compensates: compensates.into() }.into()
}

fn cancelling() -> Event {
    OrderCancelling { reason: CancelReason::Deadline, requests: Vec::new() }.into()
}

fn returned(request: &str, lines: &[(u32, u64)]) -> Event {
    ReturnAccepted { request: request.into(), lines: units(lines), amount: 1, fulfilled: "f".into() }.into()
}

#[test]
fn a_line_is_set_aside_whole_or_is_short() {
    let mut story = story(&[("A", 10), ("B", 2)]);
    let order = placed(&[(1, "A", 4, 1), (2, "B", 3, 1), (3, "post", 1, 1), (4, "C", 1, 1), (5, "A", 6, 1)]);
    let answer = reserved(3, &[(1, "A", 4), (5, "A", 6)], &[2, 4]);
    assert_eq!(story.hear("1", order.clone()), [answer], "in the order of the lines, and no postage");
    assert_eq!((story.state.free("A"), story.state.free("B"), story.state.free("C")), (0, 2, 0));
    assert_eq!(story.hear("1", order), [], "once");
    assert_eq!(story.state.counts(), [("rejected", 0), ("lines_reserved", 2), ("lines_short", 2)]);
}

#[test]
fn a_code_that_repeats_finds_what_the_lines_before_left() {
    let mut story = story(&[("A", 10)]);
    let order = placed(&[(1, "A", 6, 1), (2, "A", 6, 1), (3, "A", 4, 1)]);
    assert_eq!(story.hear("1", order), [reserved(2, &[(1, "A", 6), (3, "A", 4)], &[2])]);
    assert_eq!(story.state.free("A"), 0);
}

#[test]
fn an_order_of_which_all_is_short_is_rejected() {
    let mut story = story(&[("A", 1)]);
    let rejected = |decision, short: &[u32]| Event::from(InventoryRejected { decision, short: short.to_vec() });
    let order = placed(&[(1, "A", 2, 1), (2, "post", 1, 1)]);
    assert_eq!(story.hear("1", order.clone()), [rejected(2, &[1])]);
    assert_eq!(story.hear("1", order), [], "once");
    assert_eq!(story.hear("1", cancelling()), []);
    assert_eq!(story.hear("2", placed(&[(1, "post", 1, 1)])), [reserved(3, &[], &[])], "services are never short");
    assert_eq!(story.hear("2", confirmed(&[], 1)), []);
}

#[test]
fn what_is_not_confirmed_is_released() {
    let mut story = story(&[("A", 10), ("B", 10)]);
    story.hear("1", placed(&[(1, "A", 6, 1), (2, "B", 5, 1), (3, "B", 1, 1)]));
    let rest = released(4, &[(1, "A", 2), (3, "B", 1)], "o3");
    assert_eq!(story.hear("1", confirmed(&[(1, 4), (2, 5)], 9)), [rest]);
    assert_eq!((story.state.free("A"), story.state.free("B")), (6, 5));
    assert_eq!(story.hear("1", confirmed(&[(1, 4), (2, 5)], 9)), [], "once");

    story.hear("2", placed(&[(1, "A", 6, 1)]));
    assert_eq!(story.hear("2", confirmed(&[(1, 6)], 6)), [], "all of it ships");
    assert_eq!((story.state.free("A"), story.state.decisions()), (0, 5));
}

#[test]
fn a_cancelled_order_gives_everything_back() {
    let mut story = story(&[("A", 10)]);
    story.hear("1", placed(&[(1, "A", 6, 1), (2, "A", 1, 1), (3, "B", 1, 1)]));
    assert_eq!(story.hear("1", cancelling()), [released(3, &[(1, "A", 6), (2, "A", 1)], "o2")]);
    assert_eq!(story.hear("1", cancelling()), []);
    assert_eq!(story.state.free("A"), 10);
}

#[test]
fn what_comes_back_is_in_stock_again() {
    let mut story = story(&[("A", 10), ("B", 10)]);
    story.hear("1", placed(&[(1, "A", 6, 1), (2, "B", 5, 1)]));
    story.hear("1", confirmed(&[(1, 6), (2, 5)], 9));
    let back = |decision, request: &str, lines| {
        let (request, lines) = (request.to_owned(), stock_units(lines));
        Event::from(InventoryReturned { decision, request, lines, compensates: "f".into() })
    };
    let first = back(4, "C1", &[(2, "B", 5), (1, "A", 1)]);
    assert_eq!(story.hear("1", returned("C1", &[(2, 5), (1, 1)])), [first]);
    assert_eq!(story.hear("1", returned("C1", &[(2, 5), (1, 1)])), [], "once per request");
    assert_eq!(story.hear("1", returned("C2", &[(1, 2)])), [back(5, "C2", &[(1, "A", 2)])]);
    assert_eq!((story.state.free("A"), story.state.free("B")), (7, 10));
    assert_eq!(story.hear("1", confirmed(&[(1, 6), (2, 5)], 9)), [], "and is not released");
}

#[test]
fn a_decrease_takes_what_is_free() {
    let mut story = story(&[("A", 10)]);
    story.hear("1", placed(&[(1, "A", 6, 1)]));
    assert_eq!(story.hear("A", change("D1", -3)), [updated(3, "D1", -3, -3)]);
    assert_eq!(story.hear("A", change("D2", -3)), [updated(4, "D2", -3, -1)]);
    assert_eq!(story.hear("A", change("D3", i64::MIN)), [updated(5, "D3", i64::MIN, 0)]);
    assert_eq!(story.hear("A", change("D2", -3)), [], "once per request");
    assert_eq!(story.hear("B", change("U1", 7)), [updated(6, "U1", 7, 7)]);
    assert_eq!((story.state.free("A"), story.state.free("B")), (0, 7));
}

#[test]
fn two_stocks_are_equal_whatever_order_their_codes_came_in() {
    let mut one = story(&[("A", 5), ("B", 6)]);
    let mut other = Story::new(Inventory);
    other.state.apply("B", "o2", &updated(2, "open B", 6, 6));
    other.state.apply("A", "o1", &updated(1, "open A", 5, 5));
    assert_eq!(one.state, other.state);
    one.state.apply("1", "o3", &reserved(3, &[(1, "A", 2), (2, "B", 2)], &[]));
    assert_ne!(one.state, other.state);
    let mut crossed = other.state.clone();
    other.state.apply("1", "o3", &reserved(3, &[(1, "A", 2), (2, "B", 2)], &[]));
    assert_eq!(one.state, other.state);
    crossed.apply("1", "o3", &reserved(3, &[(1, "B", 2), (2, "A", 2)], &[]));
    assert_ne!(one.state, crossed, "the same shelves in other lines");
}
