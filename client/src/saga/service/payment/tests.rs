use std::sync::{Arc, Mutex};

use super::*;
use crate::{
    processor::Fact as _,
    saga::{
        payload::CancelReason,
        service::tests::{Story, confirmed, fulfilled, placed, units},
    },
};

/// A gateway that declines when it is told to, and remembers what it was asked.
#[derive(Clone, Default)]
struct Till {
    declines: bool,
    refuses: Option<&'static str>,
    asked: Arc<Mutex<Vec<(String, u64)>>>,
}

impl Gateway for Till {
    async fn charge(&self, charge: Charge) -> Result<Charged, Refused> {
        assert_eq!(charge.key.as_str().split(':').next(), Some(charge.operation.name()));
        self.asked.lock().unwrap().push((charge.key.to_string(), charge.amount));
        match &self.refuses {
            Some(wrong) => Err(Refused { key: charge.key, wrong: (*wrong).to_owned() }),
            None if self.declines => Ok(Charged::Declined),
            None => Ok(Charged::Accepted),
        }
    }
}

impl Till {
    fn asked(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn story(till: &Till) -> Story<Payment<Till>> {
    Story::new(Payment::new(till.clone()))
}

fn cancelling() -> Event {
    OrderCancelling { reason: CancelReason::Deadline, requests: Vec::new() }.into()
}

fn returned(request: &str, amount: u64) -> Event {
    ReturnAccepted { request: request.into(), lines: units(&[(1, 1)]), amount, fulfilled: "f".into() }.into()
}

fn authorized(amount: u64, key: Option<&str>) -> Event {
    PaymentAuthorized { amount, key: key.map(str::to_owned) }.into()
}

fn captured(amount: u64, key: Option<&str>) -> Event {
    PaymentCaptured { amount, key: key.map(str::to_owned) }.into()
}

fn voided(amount: u64, key: Option<&str>, compensates: &str) -> Event {
    PaymentVoided { amount, key: key.map(str::to_owned), compensates: compensates.into() }.into()
}

fn refunded(request: &str, amount: u64, key: Option<&str>, compensates: &str) -> Event {
    RefundProcessed { request: request.into(), amount, key: key.map(str::to_owned), compensates: compensates.into() }
        .into()
}

const LINES: &[(u32, &str, u64, u64)] = &[(1, "85123A", 6, 2_550), (2, "post", 1, 18_000)];

#[test]
fn the_whole_placed_amount_is_authorized_once() {
    let till = Till::default();
    let mut story = story(&till);
    assert_eq!(story.hear("1", placed(LINES)), [authorized(3_330, Some("authorize:1"))]);
    assert_eq!(story.hear("1", placed(&[(1, "85123A", 1, 1)])), [], "a second placement is not looked at");
    assert_eq!(till.asked(), [("authorize:1".to_owned(), 3_330)]);
}

#[test]
fn a_decline_is_said_and_nothing_follows() {
    let till = Till { declines: true, ..Till::default() };
    let mut story = story(&till);
    let declined = PaymentDeclined { amount: 3_330, key: Some("authorize:1".into()) };
    assert_eq!(story.hear("1", placed(LINES)), [declined.into()]);
    assert_eq!(story.hear("1", cancelling()), []);
    assert_eq!(till.asked().len(), 1);
    assert_eq!(story.state.counts()[0], ("declined", 1));
}

#[test]
fn nothing_is_asked_for_nothing() {
    let till = Till { declines: true, ..Till::default() };
    let mut story = story(&till);
    for order in ["1", "2"] {
        assert_eq!(story.hear(order, placed(&[(1, "85123A", 6, 0)])), [authorized(0, None)]);
    }
    story.hear("1", confirmed(&[(1, 6)], 0));
    assert_eq!(story.hear("1", fulfilled(&[(1, 6)])), [captured(0, None)], "and no rest is voided");
    assert_eq!(story.hear("1", returned("C1", 0)), [refunded("C1", 0, None, "o3")]);
    assert_eq!(story.hear("2", cancelling()), [voided(0, None, "o2")]);
    assert_eq!(till.asked(), []);
}

#[test]
fn what_ships_is_captured_and_the_rest_voided() {
    let till = Till::default();
    let mut story = story(&till);
    story.hear("1", placed(LINES));
    assert_eq!(story.hear("1", confirmed(&[(1, 4)], 2_820)), []);
    let both = [captured(2_820, Some("capture:1")), voided(510, Some("void:1"), "o1")];
    assert_eq!(story.hear("1", fulfilled(&[(1, 4)])), both);
    assert_eq!(till.asked()[1..], [("capture:1".to_owned(), 2_820), ("void:1".to_owned(), 510)]);

    story.hear("2", placed(LINES));
    assert_eq!(story.hear("2", fulfilled(&[(1, 6)])), [], "shipped, and not yet heard to be confirmed");
    assert_eq!(story.hear("2", confirmed(&[(1, 6)], 3_330)), [captured(3_330, Some("capture:2"))]);
    assert_eq!(story.hear("2", confirmed(&[(1, 6)], 3_330)), []);
    assert_eq!(story.state.counts()[1], ("captured_pence", 2_820 + 3_330));
}

#[test]
fn a_cancelled_order_is_voided_whole() {
    let till = Till::default();
    let mut story = story(&till);
    story.hear("1", placed(LINES));
    assert_eq!(story.hear("1", cancelling()), [voided(3_330, Some("void:1"), "o1")]);
    assert_eq!(story.hear("1", cancelling()), []);
}

#[test]
fn nobody_is_asked_for_the_money_of_an_order_that_is_being_cancelled() {
    let till = Till::default();
    let mut story = story(&till);
    assert_eq!(story.hear("1", cancelling()), []);
    let declined = PaymentDeclined { amount: 3_330, key: None };
    assert_eq!(story.hear("1", placed(LINES)), [declined.into()]);
    assert_eq!(till.asked(), []);
}

#[test]
fn a_return_is_refunded_once_after_the_capture() {
    let till = Till::default();
    let mut story = story(&till);
    story.hear("1", placed(LINES));
    story.hear("1", confirmed(&[(1, 6)], 3_330));
    story.hear("1", fulfilled(&[(1, 6)]));
    assert_eq!(story.hear("1", returned("C1", 255)), [refunded("C1", 255, Some("refund:1:C1"), "o2")]);
    assert_eq!(story.hear("1", returned("C1", 255)), []);
    assert_eq!(story.hear("1", returned("C2", 510)), [refunded("C2", 510, Some("refund:1:C2"), "o2")]);
    assert_eq!(story.state.counts()[2], ("refunded_pence", 765));
}

#[test]
fn a_return_that_is_heard_before_the_shipment_waits_for_the_capture() {
    let till = Till::default();
    let mut story = story(&till);
    story.hear("1", placed(LINES));
    story.hear("1", confirmed(&[(1, 4)], 2_820));
    assert_eq!(story.hear("1", returned("C1", 255)), []);
    assert_eq!(story.hear("1", returned("C2", 255)), []);
    let step = story.hear("1", fulfilled(&[(1, 4)]));
    let expected = [
        captured(2_820, Some("capture:1")),
        voided(510, Some("void:1"), "o1"),
        refunded("C1", 255, Some("refund:1:C1"), "o2"),
        refunded("C2", 255, Some("refund:1:C2"), "o2"),
    ];
    assert_eq!(step, expected, "the refunds name the capture of their own step");
    let asked: Vec<String> = till.asked().into_iter().map(|(key, _)| key).collect();
    assert_eq!(asked, ["authorize:1", "capture:1", "void:1", "refund:1:C1", "refund:1:C2"], "in the order of the step");
}

#[test]
fn a_gateway_that_declines_what_it_cannot_decline_fails_the_step() {
    let mut story = story(&Till::default());
    story.hear("1", placed(LINES));
    story.hear("1", confirmed(&[(1, 6)], 3_330));
    story.service = Payment::new(Till { declines: true, ..Till::default() });
    let failed = story.try_hear("f", "1", fulfilled(&[(1, 6)])).expect_err("a capture is not declined");
    assert!(failed.wrong.contains("operation=capture"), "{failed}");
    story.service = Payment::new(Till::default());
    assert_eq!(story.hear_as("f", "1", fulfilled(&[(1, 6)])), [captured(3_330, Some("capture:1"))], "tried again");
}

#[test]
fn answers_that_do_not_fit_the_charges_fail_the_step() {
    let service = Payment::new(Till::default());
    let mut state = Purses::default();
    let placed = Event::from(placed(LINES));
    let fact = Word::decode(placed.kind(), &placed.encode()).unwrap().unwrap();
    let told = Told { key: "1".into(), id: "i".into(), append_time_us: 1, fact };
    service.observe(&mut state, &told);
    for answers in [vec![], vec![Ok(Charged::Accepted); 2]] {
        assert!(service.decide(&state, &Trigger::Input(&told), &answers).is_err());
    }
}

#[test]
fn a_charge_that_is_refused_as_such_fails_the_step_and_names_it() {
    let refusing = Till { refuses: Some("the request is not understood"), ..Till::default() };
    let mut story = story(&refusing);
    let failed = story.try_hear("p", "1", placed(LINES)).expect_err("nothing is known of the money");
    assert_eq!(failed.wrong, "the gateway does not take the charge key=authorize:1: the request is not understood");
    story.service = Payment::new(Till::default());
    assert_eq!(story.hear_as("p", "1", placed(LINES)), [authorized(3_330, Some("authorize:1"))], "it was mended");
}

#[test]
fn an_order_whose_name_makes_no_key_fails_the_step_and_nobody_is_asked() {
    let till = Till::default();
    let mut story = story(&till);
    let long = "1".repeat(300);
    for order in ["a:b", "a b", "é", &long] {
        let failed = story.try_hear("p", order, placed(LINES)).expect_err("it has no key");
        assert!(failed.wrong.contains(&format!("order={order:?}")), "{failed}");
    }
    assert_eq!(
        story.hear("c:d", placed(&[(1, "85123A", 6, 0)])),
        [authorized(0, None)],
        "nothing is asked for nothing"
    );
    assert_eq!(till.asked(), []);
}
