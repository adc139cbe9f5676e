use std::sync::Arc;

use super::*;
use crate::{
    Record,
    saga::payload::{
        AddressChangeRequested, CancelReason, InventoryReserved, InventoryUpdated, Line, Notice, NotificationSent,
        OrderCancelled, OrderCancelling, OrderConfirmed, OrderPlaced, PaymentAuthorized, PaymentDeclined,
        RefundProcessed, ReturnAccepted, Units,
    },
};

/// An event with the letter as id, because of another letter, so many milliseconds after noon.
fn said(id: &str, because: &str, ms: i64, partition: u32, offset: u64, fact: impl Into<Payload>) -> Received {
    let fact = fact.into();
    let record = Record::new(fact.encode()).key("536365").id(id).type_(fact.kind()).causation_id(because);
    let topic = Arc::from(fact.topic());
    Received { topic, partition, offset, append_time_us: 1_700_000_000_000_000 + ms * 1_000, record }
}

fn story() -> Vec<Received> {
    let line = |line, units, price_mills| Line {
        line,
        code: "85123A".into(),
        description: "HEART".into(),
        units,
        price_mills,
        service: false,
    };
    let lines = vec![line(1, 4, 2_550), line(2, 1, 2_145)];
    let placed = OrderPlaced { customer: Some("17850".into()), address: "Bergen".into(), lines };
    let units = |line, units| vec![Units { line, units }];
    vec![
        said("a", "", 0, 3, 10, placed),
        said("b", "a", 12, 3, 17, PaymentAuthorized { amount: 1_234, key: Some("authorize:536365".into()) }),
        said("c", "a", 9, 3, 4, InventoryReserved { decision: 7, lines: Vec::new(), short: vec![2] }),
        said(
            "d",
            "b",
            20,
            3,
            11,
            OrderConfirmed { lines: units(1, 4), amount: 1_020, address: "Bergen".into(), requests: vec!["A1".into()] },
        ),
        // It was taken in by another partition before its cause, by a clock that was set.
        said("e", "d", 15, 3, 0, NotificationSent { notice: Notice::Confirmed, request: None }),
    ]
}

#[test]
fn a_story_is_told_as_a_person_tells_it() {
    let mut events = story();
    events.reverse();
    let timeline = Timeline::of("536365", events);
    let expected = "   \
   +0.000 s  orders 3:10       OrderPlaced  £12.35 for customer 17850, 5 units of 2 lines, to Bergen
    +0.009 s  inventory 3:4       InventoryReserved  0 units of 0 lines, 1 line short  because OrderPlaced
    +0.012 s  payments 3:17       PaymentAuthorized  £12.34  because OrderPlaced
    +0.020 s  orders 3:11           OrderConfirmed  £10.20, 4 units of 1 line, to Bergen, with A1  because \
        PaymentAuthorized
    +0.015 s  notifications 3:0       NotificationSent  confirmed  because OrderConfirmed";
    assert_eq!(without_blanks(&timeline.to_string()), without_blanks(expected));
    assert!(timeline.to_string().lines().all(|line| line.find("  ").is_some()));
    assert_eq!(Timeline::of("1", Vec::new()).to_string(), "no event of 1");
}

fn without_blanks(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn columns_stand_below_each_other_and_effects_are_indented() {
    let text = Timeline::of("536365", story()).to_string();
    let columns = |word: &str| text.lines().find_map(|line| line.find(word)).unwrap();
    let event = columns("OrderPlaced  £");
    assert_eq!(columns("InventoryReserved  0"), event + 2);
    assert_eq!(columns("PaymentAuthorized  £"), event + 2);
    assert_eq!(columns("OrderConfirmed  £"), event + 4);
    assert_eq!(columns("NotificationSent"), event + 6);
}

#[test]
fn causes_stand_first_in_whatever_order_events_come() {
    let told = Timeline::of("536365", story());
    let mut events = story();
    for _ in 0..events.len() {
        events.rotate_left(1);
        assert_eq!(Timeline::of("536365", events.clone()), told);
        events.swap(0, 2);
        assert_eq!(Timeline::of("536365", events.clone()), told);
    }
    let ids: Vec<&str> = told.moments.iter().map(|moment| moment.id.as_str()).collect();
    assert_eq!(ids, ["a", "c", "b", "d", "e"]);
}

#[test]
fn what_is_broken_is_shown_all_the_same() {
    let mut events = story();
    // A circle, a cause from elsewhere, a payload that is none and a type that nobody knows.
    events[1].record.causation_id = "d".into();
    events[2].record.causation_id = "elsewhere".into();
    events[2].record.value = "{".into();
    events[4].record.type_ = "Parcel.v1".into();
    let told = Timeline::of("536365", events);
    assert_eq!(told.moments.len(), 5);
    let by_id = |id: &str| told.moments.iter().find(|moment| moment.id == id).unwrap();
    assert_eq!(by_id("c").because.as_deref(), Some("elsewhere"));
    assert!(by_id("c").says.starts_with("cannot be read"), "{told}");
    assert_eq!(by_id("b").because.as_deref(), Some("OrderConfirmed"));
    assert_eq!(by_id("e").event, "Parcel");
    assert_eq!(by_id("e").depth, by_id("d").depth + 1);
}

#[test]
fn a_story_is_written_as_json() {
    let json = serde_json::to_value(Timeline::of("536365", story())).unwrap();
    assert_eq!(json["key"], "536365");
    let paid = &json["moments"][2];
    let expected = serde_json::json!({
        "after_us": 12_000,
        "append_time_us": 1_700_000_000_012_000_i64,
        "depth": 1,
        "topic": "payments",
        "partition": 3,
        "offset": 17,
        "id": "b",
        "event": "PaymentAuthorized",
        "says": "£12.34",
        "because": "OrderPlaced",
        "because_id": "a",
    });
    assert_eq!(*paid, expected);
}

#[test]
fn every_event_says_something() {
    let words = |fact: Payload| says(&fact);
    let check = |fact: Payload, expected: &str| assert_eq!(words(fact), expected);
    check(PaymentDeclined { amount: 500, key: None }.into(), "£5.00, nobody asked");
    check(OrderCancelled { reason: CancelReason::Deadline }.into(), "it was not decided in time");
    let cancelling = OrderCancelling { reason: CancelReason::Requested, requests: vec!["C1".into()] };
    check(cancelling.into(), "the customer asked for it, with C1");
    let updated = InventoryUpdated { decision: 1, request: "S1".into(), asked: -8, applied: -5 };
    check(updated.into(), "S1: -5 of -8");
    let lines = vec![Units { line: 1, units: 1 }];
    let accepted = ReturnAccepted { request: "R1".into(), lines, amount: 34, fulfilled: "f".into() };
    check(accepted.into(), "R1: 1 unit of 1 line, £0.34");
    let refund = RefundProcessed { request: "R1".into(), amount: 34, key: Some("k".into()), compensates: "c".into() };
    check(refund.into(), "R1: £0.34");
    let moved = AddressChangeRequested { request: "A1".into(), address: "Oslo".into() };
    check(moved.into(), "A1: to Oslo");
}
