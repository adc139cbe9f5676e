use super::*;
use crate::saga::{
    payload::{
        AddressChangeRefused, AddressChangeRequested, CancelReason, CancelRequested, InventoryRejected,
        InventoryReleased, InventoryReserved, PaymentAuthorized, PaymentDeclined, PaymentVoided, RefusedReason,
        ReturnRefused, ReturnRequested, StockUnits,
    },
    service::tests::{Story, fulfilled, placed, units},
};

type Lines<'a> = &'a [(u32, u64)];

fn story() -> Story<Order> {
    Story::new(Order::new(Duration::from_mins(1)))
}

fn authorized(amount: u64) -> Event {
    PaymentAuthorized { amount, key: Some("authorize:1".into()) }.into()
}

fn declined() -> Event {
    PaymentDeclined { amount: 1, key: None }.into()
}

fn voided() -> Event {
    PaymentVoided { amount: 1, key: None, compensates: "p".into() }.into()
}

fn stock_units(lines: Lines<'_>) -> Vec<StockUnits> {
    lines.iter().map(|&(line, units)| StockUnits { line, code: format!("C{line}"), units }).collect()
}

fn reserved(lines: Lines<'_>, short: &[u32]) -> Event {
    InventoryReserved { decision: 1, lines: stock_units(lines), short: short.to_vec() }.into()
}

fn rejected() -> Event {
    InventoryRejected { decision: 1, short: vec![1] }.into()
}

fn released(lines: Lines<'_>) -> Event {
    InventoryReleased { decision: 2, lines: stock_units(lines), compensates: "r".into() }.into()
}

fn cancel(request: &str, lines: Lines<'_>) -> Event {
    CancelRequested { request: request.into(), lines: units(lines) }.into()
}

fn give_back(request: &str, lines: Lines<'_>) -> Event {
    ReturnRequested { request: request.into(), lines: units(lines) }.into()
}

fn move_to(request: &str, address: &str) -> Event {
    AddressChangeRequested { request: request.into(), address: address.into() }.into()
}

fn confirmed(lines: Lines<'_>, amount: u64, requests: &[&str]) -> Event {
    let requests = requests.iter().map(ToString::to_string).collect();
    OrderConfirmed { lines: units(lines), amount, address: "United Kingdom".into(), requests }.into()
}

fn cancelling(reason: CancelReason, requests: &[&str]) -> Event {
    OrderCancelling { reason, requests: requests.iter().map(ToString::to_string).collect() }.into()
}

fn cancelled(reason: CancelReason) -> Event {
    OrderCancelled { reason }.into()
}

fn accepted(request: &str, lines: Lines<'_>, amount: u64, fulfilled: &str) -> Event {
    let fulfilled = fulfilled.to_owned();
    ReturnAccepted { request: request.into(), lines: units(lines), amount, fulfilled }.into()
}

fn refused(request: &str, reason: RefusedReason) -> Event {
    ReturnRefused { request: request.into(), reason }.into()
}

/// Two product lines at 2.55 and 0.335, and postage of 18.00.
const LINES: &[(u32, &str, u64, u64)] = &[(1, "85123A", 6, 2_550), (2, "22752", 3, 335), (3, "post", 1, 18_000)];

/// An order that is confirmed whole and shipped; the shipment has the id `f`.
fn shipped() -> Story<Order> {
    let mut story = story();
    assert_eq!(story.hear("1", placed(LINES)), []);
    assert_eq!(story.hear("1", authorized(3_431)), []);
    assert_eq!(story.hear("1", reserved(&[(1, 6), (2, 3)], &[])), [confirmed(&[(1, 6), (2, 3)], 3_431, &[])]);
    assert_eq!(story.hear_as("f", "1", fulfilled(&[(1, 6), (2, 3)])), []);
    story
}

#[test]
fn an_order_is_confirmed_when_money_and_goods_are_there() {
    let story = shipped();
    assert_eq!(story.state.counts(), [("ignored", 0), ("refused", 0), ("confirmed", 1), ("cancelling", 0)]);
}

#[test]
fn what_is_heard_before_the_placement_counts_at_the_placement() {
    let mut story = story();
    assert_eq!(story.hear("1", reserved(&[(1, 6), (2, 3)], &[])), []);
    assert_eq!(story.hear("1", authorized(3_431)), []);
    assert_eq!(story.hear("1", placed(LINES)), [confirmed(&[(1, 6), (2, 3)], 3_431, &[])]);
}

#[test]
fn short_lines_are_not_confirmed_nor_charged() {
    let mut story = story();
    story.hear("1", placed(LINES));
    story.hear("1", reserved(&[(2, 3)], &[1]));
    assert_eq!(story.hear("1", authorized(3_431)), [confirmed(&[(2, 3)], 101 + 1_800, &[])]);
}

#[test]
fn an_order_of_services_is_confirmed_with_no_lines() {
    let mut story = story();
    story.hear("1", placed(&[(1, "post", 1, 18_000), (2, "m", 2, 5)]));
    story.hear("1", reserved(&[], &[]));
    assert_eq!(story.hear("1", authorized(1_801)), [confirmed(&[], 1_801, &[])]);
}

#[test]
fn the_first_refusal_cancels_and_the_last_word_waits_for_both() {
    let mut story = story();
    story.hear("1", placed(LINES));
    assert_eq!(story.hear("1", declined()), [cancelling(CancelReason::PaymentDeclined, &[])]);
    assert_eq!(story.hear("1", reserved(&[(1, 6)], &[2])), []);
    assert_eq!(story.hear("1", released(&[(1, 6)])), [cancelled(CancelReason::PaymentDeclined)]);

    story.hear("2", placed(LINES));
    assert_eq!(story.hear("2", rejected()), [cancelling(CancelReason::OutOfStock, &[])]);
    assert_eq!(story.hear("2", authorized(3_431)), []);
    assert_eq!(story.hear("2", voided()), [cancelled(CancelReason::OutOfStock)]);
}

#[test]
fn goods_that_were_never_set_aside_are_not_waited_for() {
    let mut story = story();
    story.hear("1", placed(&[(1, "post", 1, 18_000)]));
    story.hear("1", reserved(&[], &[]));
    let both = [cancelling(CancelReason::PaymentDeclined, &[]), cancelled(CancelReason::PaymentDeclined)];
    assert_eq!(story.hear("1", declined()), both);

    story.hear("2", declined());
    story.hear("2", rejected());
    assert_eq!(story.hear("2", placed(LINES)), both, "decision and last word in one step");
}

#[test]
fn a_deadline_cancels_what_is_not_decided() {
    let mut story = story();
    story.hear_as("p", "1", placed(LINES));
    let timer = Timer { name: DEADLINE, due_us: 60_000_000, since: "p".into() };
    assert_eq!(story.service.timer(&story.state, "1"), Some(timer.clone()));
    assert_eq!(story.service.timers(&story.state), [("1".to_owned(), timer)]);
    assert_eq!(story.fire("1", DEADLINE), [cancelling(CancelReason::Deadline, &[])]);
    assert_eq!(story.service.timer(&story.state, "1"), None);
    assert_eq!(story.service.timers(&story.state), []);
    assert_eq!(story.fire("1", DEADLINE), []);
    assert_eq!(story.hear("1", authorized(3_431)), []);
    assert_eq!(story.hear("1", reserved(&[(1, 6)], &[2])), []);
    assert_eq!(story.hear("1", voided()), []);
    assert_eq!(story.hear("1", released(&[(1, 6)])), [cancelled(CancelReason::Deadline)]);
}

#[test]
fn a_deadline_of_a_decided_or_unheard_order_does_nothing() {
    let mut story = shipped();
    assert_eq!(story.fire("1", DEADLINE), []);
    assert_eq!(story.fire("2", DEADLINE), []);
    story.hear("2", give_back("C1", &[(1, 1)]));
    assert_eq!(story.fire("2", DEADLINE), [], "asked about, and not placed");
    assert_eq!(story.service.timer(&story.state, "2"), None);
}

#[test]
fn a_cancel_before_the_decision_reduces_it() {
    let mut story = story();
    story.hear("1", placed(LINES));
    assert_eq!(story.hear("1", cancel("C1", &[(1, 2), (2, 9), (3, 1), (7, 1)])), []);
    assert_eq!(story.hear("1", cancel("C2", &[(1, 1)])), []);
    story.hear("1", reserved(&[(1, 6), (2, 3)], &[]));
    let decision = confirmed(&[(1, 3)], 765 + 1_800, &["C1", "C2"]);
    assert_eq!(story.hear("1", authorized(3_431)), [decision]);
    story.hear_as("f", "1", fulfilled(&[(1, 3)]));
    let late = accepted("C3", &[(1, 3)], 765, "f");
    assert_eq!(story.hear("1", give_back("C3", &[(1, 6), (2, 3)])), [late], "what was cancelled does not come back");
}

#[test]
fn a_cancel_that_leaves_nothing_to_ship_cancels() {
    let mut story = story();
    story.hear("1", placed(LINES));
    assert_eq!(story.hear("1", cancel("C1", &[(1, 6)])), []);
    let decision = cancelling(CancelReason::Requested, &["C1", "C2"]);
    assert_eq!(story.hear("1", cancel("C2", &[(2, 3)])), [decision]);

    story.hear("2", placed(LINES));
    story.hear("2", cancel("C1", &[(1, 6)]));
    let decision = cancelling(CancelReason::Requested, &["C1"]);
    assert_eq!(story.hear("2", reserved(&[(1, 6)], &[2])), [decision], "the rest of it is short");

    story.hear("3", placed(&[(1, "post", 1, 18_000)]));
    assert_eq!(story.hear("3", cancel("C1", &[(1, 1)])), [], "an order of services has nothing to lose");
    story.hear("3", reserved(&[], &[]));
    assert_eq!(story.hear("3", authorized(1_800)), [confirmed(&[], 1_800, &["C1"])]);
}

#[test]
fn a_cancel_after_the_decision_is_a_return_once_the_goods_are_on_their_way() {
    let mut story = story();
    story.hear("1", placed(LINES));
    story.hear("1", authorized(3_431));
    story.hear("1", reserved(&[(1, 6), (2, 3)], &[]));
    assert_eq!(story.hear("1", cancel("C1", &[(1, 4)])), []);
    assert_eq!(story.hear("1", give_back("C2", &[(1, 4)])), []);
    let answers = [accepted("C1", &[(1, 4)], 1_020, "f"), accepted("C2", &[(1, 2)], 510, "f")];
    assert_eq!(story.hear_as("f", "1", fulfilled(&[(1, 6), (2, 3)])), answers);
}

#[test]
fn returns_are_cut_to_what_the_customer_has() {
    let mut story = shipped();
    let first = accepted("C1", &[(1, 6), (2, 1)], 1_530 + 34, "f");
    assert_eq!(story.hear("1", give_back("C1", &[(1, 9), (2, 1), (3, 1), (8, 1)])), [first]);
    let nothing = |request| [refused(request, RefusedReason::NothingToReturn)];
    assert_eq!(story.hear("1", give_back("C2", &[(1, 1)])), nothing("C2"));
    assert_eq!(story.hear("1", give_back("C3", &[(2, 1)])), [accepted("C3", &[(2, 1)], 33, "f")]);
    assert_eq!(story.hear("1", give_back("C4", &[(2, 1)])), [accepted("C4", &[(2, 1)], 34, "f")]);
    assert_eq!(34 + 33 + 34, 101, "what comes back in parts comes to what was captured");
    assert_eq!(story.hear("1", give_back("C5", &[(1, 1), (2, 1)])), nothing("C5"));
}

#[test]
fn a_line_that_is_named_twice_comes_back_once() {
    let mut story = shipped();
    assert_eq!(
        story.hear("1", give_back("C1", &[(1, 4), (2, 1), (1, 4)])),
        [accepted("C1", &[(1, 6), (2, 1)], 1_530 + 34, "f")]
    );
}

#[test]
fn a_return_before_the_decision_waits_for_it() {
    let mut story = story();
    story.hear("1", placed(LINES));
    assert_eq!(story.hear("1", give_back("C1", &[(1, 1)])), []);
    story.hear("1", authorized(3_431));
    let decision = confirmed(&[(1, 6), (2, 3)], 3_431, &[]);
    assert_eq!(story.hear("1", reserved(&[(1, 6), (2, 3)], &[])), [decision]);
    let answer = accepted("C1", &[(1, 1)], 255, "f");
    assert_eq!(story.hear_as("f", "1", fulfilled(&[(1, 6), (2, 3)])), [answer]);

    story.hear("2", placed(LINES));
    story.hear("2", give_back("C1", &[(1, 1)]));
    story.hear("2", cancel("C2", &[(1, 1)]));
    let answers = [cancelling(CancelReason::PaymentDeclined, &["C2"]), refused("C1", RefusedReason::OrderCancelled)];
    assert_eq!(story.hear("2", declined()), answers);
}

#[test]
fn a_request_for_a_cancelled_order_is_refused() {
    let mut story = story();
    story.hear("1", placed(LINES));
    story.hear("1", declined());
    let refused = |request| refused(request, RefusedReason::OrderCancelled);
    assert_eq!(story.hear("1", cancel("C1", &[(1, 1)])), [refused("C1")]);
    assert_eq!(story.hear("1", rejected()), [cancelled(CancelReason::PaymentDeclined)]);
    assert_eq!(story.hear("1", give_back("C2", &[(1, 1)])), [refused("C2")]);
    let late = AddressChangeRefused { request: "A1".into(), reason: RefusedReason::TooLate };
    assert_eq!(story.hear("1", move_to("A1", "France")), [late.into()]);
}

#[test]
fn an_address_changes_before_the_decision_and_not_after() {
    let mut story = story();
    story.hear("1", placed(LINES));
    story.hear("1", move_to("A1", "France"));
    story.hear("1", move_to("A2", "EIRE"));
    story.hear("1", authorized(3_431));
    let requests = vec!["A1".into(), "A2".into()];
    let (lines, address) = (units(&[(1, 6), (2, 3)]), "EIRE".into());
    let decision = OrderConfirmed { lines, amount: 3_431, address, requests };
    assert_eq!(story.hear("1", reserved(&[(1, 6), (2, 3)], &[])), [decision.into()]);
    let late = AddressChangeRefused { request: "A3".into(), reason: RefusedReason::TooLate };
    assert_eq!(story.hear("1", move_to("A3", "Spain")), [late.into()]);
}

#[test]
fn a_request_that_comes_twice_is_ignored_and_counted() {
    let mut story = shipped();
    assert_eq!(story.hear("1", give_back("C1", &[(1, 1)])), [accepted("C1", &[(1, 1)], 255, "f")]);
    assert_eq!(story.hear("1", give_back("C1", &[(1, 1)])), []);
    assert_eq!(story.hear("1", cancel("C1", &[(2, 1)])), []);
    story.hear_as("again", "1", move_to("C1", "France"));
    story.hear_as("again", "1", move_to("C1", "France"));
    assert_eq!(story.state.counts()[0], ("ignored", 3));
    story.hear("2", give_back("C1", &[(1, 1)]));
    assert_eq!(story.state.counts()[0], ("ignored", 3), "the same number in another order is another request");
}

#[test]
fn a_second_placement_is_ignored_or_refused_by_its_content() {
    let mut story = story();
    story.hear_as("p", "1", placed(LINES));
    assert_eq!(story.hear_as("p", "1", placed(LINES)), [], "the same event, heard again");
    assert_eq!(story.state.counts()[0], ("ignored", 0));
    assert_eq!(story.hear("1", placed(LINES)), []);
    assert_eq!(story.state.counts()[0], ("ignored", 1));

    let changes: [fn(&mut crate::saga::payload::OrderPlaced); 7] = [
        |placed| placed.customer = None,
        |placed| placed.address = "France".into(),
        |placed| placed.lines[0].description = "RED".into(),
        |placed| placed.lines[0].units += 1,
        |placed| placed.lines[0].price_mills += 1,
        |placed| placed.lines[1].service = true,
        |placed| _ = placed.lines.pop(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other = placed(LINES);
        change(&mut other);
        let id = format!("other{number}");
        let refused = PlacementRefused { placement: id.clone(), reason: RefusedReason::OtherContent };
        assert_eq!(story.hear_as(&id, "1", other.clone()), [refused.into()]);
        assert_eq!(story.hear_as(&id, "1", other), [], "once");
    }
    assert_eq!(story.state.counts()[..2], [("ignored", 1), ("refused", 7)]);
    story.hear("1", authorized(3_431));
    let decision = confirmed(&[(1, 6), (2, 3)], 3_431, &[]);
    assert_eq!(story.hear("1", reserved(&[(1, 6), (2, 3)], &[])), [decision], "the first one holds");
}
