//! The good log, order by order. Amounts are worked out by hand.

use super::{Shop, accepted, cancel, cancelling, confirmed, give_back, line, placed, refused};
use crate::saga::payload::{
    AddressChangeRefused, AddressChangeRequested, CancelReason, Notice, OrderCancelled, OrderPlaced, PaymentAuthorized,
    PaymentCaptured, PaymentDeclined, PlacementRefused, RefundProcessed, RefusedReason,
};

/// Something of everything.
pub(super) fn all(shop: &mut Shop) {
    stock(shop);
    plain(shop);
    short(shop);
    cancelled_in_part(shop);
    declined(shop);
    out_of_stock(shop);
    cancelled_by_the_customer(shop);
    cancelled_by_the_customer_and_short(shop);
    past_the_deadline(shop);
    charged_after_cancelling(shop);
    returned_in_parts(shop);
    returned_before_it_was_shipped(shop);
    cancelled_too_late(shop);
    moved_house(shop);
    gift(shop);
    services_alone(shop);
    placed_twice(shop);
    placed_twice_otherwise(shop);
    declined_at_once(shop);
    guest(shop);
}

/// 100 hearts, 40 lanterns; 5 birds come and 8 are to go, of which there are 5; 3 come again.
fn stock(shop: &mut Shop) {
    shop.stock("HEART", "opening-1", 100, 100);
    shop.stock("LANTERN", "opening-2", 40, 40);
    shop.stock("BIRD", "opening-3", 5, 5);
    shop.stock("BIRD", "536589", -8, -5);
    shop.stock("BIRD", "536600", 3, 3);
}

/// 6 × 2.55 + 3 × 0.335 + postage of 18 = 15.30 + 1.005 + 18.00, each rounded: 34.31.
fn plain(shop: &mut Shop) {
    let lines = [line(1, "HEART", 6, 2_550), line(2, "LANTERN", 3, 335), line(3, "POST", 1, 18_000)];
    let placed = shop.storefront("plain", placed(&lines));
    let authorized = shop.authorized("plain", 3_431);
    shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 6), (2, "LANTERN", 3)], &[]);
    shop.carried_out(reserved, "plain", &[(1, 6), (2, 3)], 3_431);
}

/// 2 × 2.55 are there, 10 × 1.00 are not.
fn short(shop: &mut Shop) {
    let placed = shop.storefront("short", placed(&[line(1, "HEART", 2, 2_550), line(2, "BIRD", 10, 1_000)]));
    shop.reserved(placed, &[(1, "HEART", 2)], &[2]);
    let authorized = shop.authorized("short", 1_510);
    let [authorized] = shop.payment(placed, [authorized]);
    let [confirmed] = shop.order(authorized, [confirmed(&[(1, 2)], 510, "Bergen", &[])]);
    shop.told(confirmed, Notice::Confirmed);
    let fulfilled = shop.fulfilled(confirmed, &[(1, 2)]);
    shop.told(fulfilled, Notice::Shipped);
    let rest = shop.id(authorized);
    let outputs = [shop.captured("short", 510), shop.voided("short", 1_000, rest)];
    shop.payment(fulfilled, outputs);
}

/// 4 × 2.55 + 2 × 0.335 = 10.87; one of the four is cancelled in time.
fn cancelled_in_part(shop: &mut Shop) {
    let placed = shop.storefront("part", placed(&[line(1, "HEART", 4, 2_550), line(2, "LANTERN", 2, 335)]));
    shop.storefront("part", cancel("C1", &[(1, 1)]));
    let authorized = shop.authorized("part", 1_087);
    let [authorized] = shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 4), (2, "LANTERN", 2)], &[]);
    let lines = [(1, 3), (2, 2)];
    let [confirmed] = shop.order(reserved, [confirmed(&lines, 832, "Bergen", &["C1"])]);
    shop.told(confirmed, Notice::Confirmed);
    shop.released(confirmed, &[(1, "HEART", 1)], reserved);
    let fulfilled = shop.fulfilled(confirmed, &lines);
    shop.told(fulfilled, Notice::Shipped);
    let rest = shop.id(authorized);
    let outputs = [shop.captured("part", 832), shop.voided("part", 255, rest)];
    shop.payment(fulfilled, outputs);
}

fn declined(shop: &mut Shop) {
    let placed = shop.storefront("declined", placed(&[line(1, "HEART", 2, 2_550)]));
    let reserved = shop.reserved(placed, &[(1, "HEART", 2)], &[]);
    let refusal = shop.declined("declined", 510);
    let [refusal] = shop.payment(placed, [refusal]);
    let [cancelling] = shop.order(refusal, [cancelling(CancelReason::PaymentDeclined, &[])]);
    let released = shop.released(cancelling, &[(1, "HEART", 2)], reserved);
    shop.cancelled(released, CancelReason::PaymentDeclined);
}

fn out_of_stock(shop: &mut Shop) {
    let placed = shop.storefront("nothing", placed(&[line(1, "BIRD", 9, 1_000)]));
    let authorized = shop.authorized("nothing", 900);
    let [authorized] = shop.payment(placed, [authorized]);
    let rejected = shop.rejected(placed, &[1]);
    let [cancelling] = shop.order(rejected, [cancelling(CancelReason::OutOfStock, &[])]);
    let rest = shop.id(authorized);
    let voided = shop.voided("nothing", 900, rest);
    let [voided] = shop.payment(cancelling, [voided]);
    shop.cancelled(voided, CancelReason::OutOfStock);
}

/// Everything is cancelled; the goods are set aside only afterwards.
fn cancelled_by_the_customer(shop: &mut Shop) {
    let placed = shop.storefront("regretted", placed(&[line(1, "HEART", 5, 2_550)]));
    let request = shop.storefront("regretted", cancel("C2", &[(1, 5)]));
    let authorized = shop.authorized("regretted", 1_275);
    let [authorized] = shop.payment(placed, [authorized]);
    let [cancelling] = shop.order(request, [cancelling(CancelReason::Requested, &["C2"])]);
    let rest = shop.id(authorized);
    let voided = shop.voided("regretted", 1_275, rest);
    shop.payment(cancelling, [voided]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 5)], &[]);
    let released = shop.released(cancelling, &[(1, "HEART", 5)], reserved);
    shop.cancelled(released, CancelReason::Requested);
}

/// One line is cancelled and the other is short: nothing is left of it.
fn cancelled_by_the_customer_and_short(shop: &mut Shop) {
    let placed = shop.storefront("unlucky", placed(&[line(1, "HEART", 1, 2_550), line(2, "BIRD", 4, 1_000)]));
    shop.storefront("unlucky", cancel("C3", &[(1, 1)]));
    let reserved = shop.reserved(placed, &[(1, "HEART", 1)], &[2]);
    let [cancelling] = shop.order(reserved, [cancelling(CancelReason::Requested, &["C3"])]);
    shop.released(cancelling, &[(1, "HEART", 1)], reserved);
    let authorized = shop.authorized("unlucky", 655);
    let [authorized] = shop.payment(placed, [authorized]);
    let rest = shop.id(authorized);
    let voided = shop.voided("unlucky", 655, rest);
    let [voided] = shop.payment(cancelling, [voided]);
    shop.cancelled(voided, CancelReason::Requested);
}

/// The gateway is never asked; a return that was asked meanwhile is refused by the same timer.
fn past_the_deadline(shop: &mut Shop) {
    let placed = shop.storefront("late", placed(&[line(1, "LANTERN", 7, 335)]));
    let reserved = shop.reserved(placed, &[(1, "LANTERN", 7)], &[]);
    shop.storefront("late", give_back("R1", &[(1, 7)]));
    let outputs = [cancelling(CancelReason::Deadline, &[]), refused("R1", RefusedReason::OrderCancelled)];
    let [cancelling, _] = shop.deadline(placed, outputs);
    shop.released(cancelling, &[(1, "LANTERN", 7)], reserved);
    let [refusal] = shop.payment(cancelling, [PaymentDeclined { amount: 235, key: None }.into()]);
    shop.cancelled(refusal, CancelReason::Deadline);
}

/// The gateway's answer comes when the order is being cancelled already.
fn charged_after_cancelling(shop: &mut Shop) {
    let placed = shop.storefront("charged", placed(&[line(1, "BIRD", 6, 1_000)]));
    let rejected = shop.rejected(placed, &[1]);
    let [cancelling] = shop.order(rejected, [cancelling(CancelReason::OutOfStock, &[])]);
    let authorized = shop.authorized("charged", 600);
    let [authorized] = shop.payment(placed, [authorized]);
    let rest = shop.id(authorized);
    let voided = shop.voided("charged", 600, rest);
    let [voided] = shop.payment(cancelling, [voided]);
    shop.cancelled(voided, CancelReason::OutOfStock);
}

/// 3 × 0.335 come back one by one: 1.01 in all, which is 0.34 + 0.33 + 0.34; with the last a heart of 2.55.
fn returned_in_parts(shop: &mut Shop) {
    let placed = shop.storefront("parts", placed(&[line(1, "LANTERN", 3, 335), line(2, "HEART", 1, 2_550)]));
    let authorized = shop.authorized("parts", 356);
    shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "LANTERN", 3), (2, "HEART", 1)], &[]);
    let (fulfilled, captured) = shop.carried_out(reserved, "parts", &[(1, 3), (2, 1)], 356);
    let bought = shop.id(captured);
    for (request, asked, lines, amount) in [
        ("R1", &[(1, 1)][..], &[(1, "LANTERN", 1)][..], 34),
        ("R2", &[(1, 1)], &[(1, "LANTERN", 1)], 33),
        ("R3", &[(1, 2), (2, 1)], &[(1, "LANTERN", 1), (2, "HEART", 1)], 289),
    ] {
        let asked = shop.storefront("parts", give_back(request, asked));
        let taken: Vec<(u32, u64)> = lines.iter().map(|(line, _, units)| (*line, *units)).collect();
        let shipped = shop.id(fulfilled);
        let [accepted] = shop.order(asked, [accepted(request, &taken, amount, shipped)]);
        let refund = shop.refunded("parts", request, amount, bought.clone());
        let [refund] = shop.payment(accepted, [refund]);
        shop.told(refund, Notice::Refunded);
        shop.returned(accepted, request, lines, fulfilled);
    }
    let asked = shop.storefront("parts", give_back("R4", &[(2, 1)]));
    shop.order(asked, [refused("R4", RefusedReason::NothingToReturn)]);
}

/// The return waits for the shipment, and the refund for the capture.
fn returned_before_it_was_shipped(shop: &mut Shop) {
    let placed = shop.storefront("eager", placed(&[line(1, "HEART", 2, 2_550)]));
    let authorized = shop.authorized("eager", 510);
    shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 2)], &[]);
    let [confirmed] = shop.order(reserved, [confirmed(&[(1, 2)], 510, "Bergen", &[])]);
    shop.told(confirmed, Notice::Confirmed);
    shop.storefront("eager", give_back("R1", &[(1, 2)]));
    let fulfilled = shop.fulfilled(confirmed, &[(1, 2)]);
    shop.told(fulfilled, Notice::Shipped);
    let shipped = shop.id(fulfilled);
    let [accepted] = shop.order(fulfilled, [accepted("R1", &[(1, 2)], 510, shipped)]);
    let captured = shop.captured("eager", 510);
    let next = format!("0190a6f0-0000-7000-8000-{:012x}", shop.events.len());
    let refund = shop.refunded("eager", "R1", 510, next);
    let [_, refund] = shop.payment(fulfilled, [captured, refund]);
    shop.told(refund, Notice::Refunded);
    shop.returned(accepted, "R1", &[(1, "HEART", 2)], fulfilled);
}

/// The cancellation comes after the decision and is carried out as a return.
fn cancelled_too_late(shop: &mut Shop) {
    let placed = shop.storefront("slow", placed(&[line(1, "HEART", 3, 2_550)]));
    let authorized = shop.authorized("slow", 765);
    shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 3)], &[]);
    let (fulfilled, captured) = shop.carried_out(reserved, "slow", &[(1, 3)], 765);
    let asked = shop.storefront("slow", cancel("C1", &[(1, 2)]));
    let (shipped, bought) = (shop.id(fulfilled), shop.id(captured));
    let [accepted] = shop.order(asked, [accepted("C1", &[(1, 2)], 510, shipped)]);
    let refund = shop.refunded("slow", "C1", 510, bought);
    let [refund] = shop.payment(accepted, [refund]);
    shop.told(refund, Notice::Refunded);
    shop.returned(accepted, "C1", &[(1, "HEART", 2)], fulfilled);
}

/// The first change of the address comes in time, the second does not.
fn moved_house(shop: &mut Shop) {
    let placed = shop.storefront("moved", placed(&[line(1, "HEART", 1, 2_550)]));
    shop.storefront("moved", AddressChangeRequested { request: "A1".into(), address: "Oslo".into() });
    let authorized = shop.authorized("moved", 255);
    shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 1)], &[]);
    let [confirmed] = shop.order(reserved, [confirmed(&[(1, 1)], 255, "Oslo", &["A1"])]);
    shop.told(confirmed, Notice::Confirmed);
    let late = shop.storefront("moved", AddressChangeRequested { request: "A2".into(), address: "Rome".into() });
    shop.order(late, [AddressChangeRefused { request: "A2".into(), reason: RefusedReason::TooLate }.into()]);
    let fulfilled = shop.fulfilled(confirmed, &[(1, 1)]);
    shop.told(fulfilled, Notice::Shipped);
    let captured = shop.captured("moved", 255);
    shop.payment(fulfilled, [captured]);
}

/// It costs nothing and comes back: nobody asks the gateway.
fn gift(shop: &mut Shop) {
    let placed = shop.storefront("gift", placed(&[line(1, "HEART", 1, 0)]));
    shop.payment(placed, [PaymentAuthorized { amount: 0, key: None }.into()]);
    let reserved = shop.reserved(placed, &[(1, "HEART", 1)], &[]);
    let [confirmed] = shop.order(reserved, [confirmed(&[(1, 1)], 0, "Bergen", &[])]);
    shop.told(confirmed, Notice::Confirmed);
    let fulfilled = shop.fulfilled(confirmed, &[(1, 1)]);
    shop.told(fulfilled, Notice::Shipped);
    let [captured] = shop.payment(fulfilled, [PaymentCaptured { amount: 0, key: None }.into()]);
    let asked = shop.storefront("gift", give_back("R1", &[(1, 1)]));
    let (shipped, bought) = (shop.id(fulfilled), shop.id(captured));
    let [accepted] = shop.order(asked, [accepted("R1", &[(1, 1)], 0, shipped)]);
    let refund = RefundProcessed { request: "R1".into(), amount: 0, key: None, compensates: bought };
    let [refund] = shop.payment(accepted, [refund.into()]);
    shop.told(refund, Notice::Refunded);
    shop.returned(accepted, "R1", &[(1, "HEART", 1)], fulfilled);
}

/// Nothing to reserve and nothing to ship.
fn services_alone(shop: &mut Shop) {
    let placed = shop.storefront("postage", placed(&[line(1, "POST", 1, 5_000)]));
    let reserved = shop.reserved(placed, &[], &[]);
    let authorized = shop.authorized("postage", 500);
    let [authorized] = shop.payment(placed, [authorized]);
    assert!(reserved < authorized);
    shop.carried_out(authorized, "postage", &[], 500);
}

/// A second click with the same content does nothing.
fn placed_twice(shop: &mut Shop) {
    let content = placed(&[line(1, "HEART", 1, 2_550), line(2, "HEART", 1, 2_100)]);
    let first = shop.storefront("twice", content.clone());
    shop.storefront("twice", content);
    let authorized = shop.authorized("twice", 465);
    shop.payment(first, [authorized]);
    let reserved = shop.reserved(first, &[(1, "HEART", 1), (2, "HEART", 1)], &[]);
    shop.carried_out(reserved, "twice", &[(1, 1), (2, 1)], 465);
}

/// One with another content is refused.
fn placed_twice_otherwise(shop: &mut Shop) {
    let first = shop.storefront("other", placed(&[line(1, "HEART", 1, 2_550)]));
    let second = shop.storefront("other", placed(&[line(1, "HEART", 2, 2_550)]));
    let refusal = PlacementRefused { placement: shop.id(second), reason: RefusedReason::OtherContent };
    shop.order(second, [refusal.into()]);
    let authorized = shop.authorized("other", 255);
    shop.payment(first, [authorized]);
    let reserved = shop.reserved(first, &[(1, "HEART", 1)], &[]);
    shop.carried_out(reserved, "other", &[(1, 1)], 255);
}

/// There is nothing to release, so the last word is said in the step of the decision.
fn declined_at_once(shop: &mut Shop) {
    let placed = shop.storefront("poor", placed(&[line(1, "POST", 2, 5_000)]));
    shop.reserved(placed, &[], &[]);
    shop.storefront("poor", give_back("R1", &[(1, 2)]));
    let refusal = shop.declined("poor", 1_000);
    let [refusal] = shop.payment(placed, [refusal]);
    let reason = CancelReason::PaymentDeclined;
    let outputs =
        [cancelling(reason, &[]), refused("R1", RefusedReason::OrderCancelled), OrderCancelled { reason }.into()];
    let [_, _, cancelled] = shop.order(refusal, outputs);
    shop.told(cancelled, Notice::Cancelled);
}

/// Nobody is known to have bought it.
fn guest(shop: &mut Shop) {
    let content = OrderPlaced { customer: None, ..placed(&[line(1, "BIRD", 3, 1_000)]) };
    let placed = shop.storefront("guest", content);
    let authorized = shop.authorized("guest", 300);
    shop.payment(placed, [authorized]);
    let reserved = shop.reserved(placed, &[(1, "BIRD", 3)], &[]);
    shop.carried_out(reserved, "guest", &[(1, 3)], 300);
}
