use super::{
    super::good::{Said, World},
    Damage,
    Invariant::{S9, S10, S11},
    Payload, change, code, group, order,
};
use crate::saga::payload::{
    AddressChangeRefused, CancelRequested, InventoryUpdated, NotificationSent, OrderCancelling, OrderConfirmed,
    RefusedReason, ReturnAccepted, ReturnRefused, ReturnRequested, StockChangeRequested,
};

pub(super) fn damages() -> Vec<Damage> {
    [requests(), answers(), stock_requests(), told(), quiet()].into_iter().flatten().collect()
}

fn requests() -> Vec<Damage> {
    vec![
        order(S9, "moved", "a request has no answer", |world| world.lose("moved", AddressChangeRefused::KIND)),
        order(S9, "parts", "a return has no answer", |world| world.lose("parts", ReturnRefused::KIND)),
        order(S9, "parts", "an answer has no request", |world| world.lose("parts", ReturnRequested::KIND)),
        order(S9, "part", "a request is not contained", |world| {
            change!(world, "part", OrderConfirmed, |fact| fact.requests.clear());
        }),
        order(S9, "part", "a request is contained and not carried out", |world| {
            change!(world, "part", OrderConfirmed, |fact| fact.lines[0].units += 1);
        }),
        order(S9, "plain", "a line is not confirmed that nobody cancelled", |world| {
            change!(world, "plain", OrderConfirmed, |fact| fact.lines.truncate(1));
        }),
        order(S9, "moved", "the address is the old one", |world| {
            change!(world, "moved", OrderConfirmed, |fact| fact.address = "Bergen".into());
        }),
        order(S9, "slow", "a request is answered twice", |world| {
            world.twin("slow", ReturnAccepted::KIND);
        }),
        order(S9, "slow", "a request is contained and answered", |world| {
            change!(world, "slow", OrderConfirmed, |fact| fact.requests.push("C1".into()));
        }),
        order(S9, "plain", "a decision contains a request that is none", |world| {
            change!(world, "plain", OrderConfirmed, |fact| fact.requests.push("C9".into()));
        }),
        order(S9, "parts", "an answer is to another request", |world| {
            change!(world, "parts", ReturnRefused, |fact| fact.request = "R9".into());
        }),
        order(S9, "moved", "an answer is to a request of another kind", |world| {
            change!(world, "moved", AddressChangeRefused, |fact| fact.request = "A1".into());
            world.twin_of("slow", CancelRequested::KIND, "moved");
            change!(world, "moved", AddressChangeRefused, |fact| fact.request = "C1".into());
        }),
        order(S9, "eager", "a return is contained in a confirmation", |world| {
            change!(world, "eager", OrderConfirmed, |fact| fact.requests.push("R1".into()));
        }),
        order(S9, "slow", "more is taken back than was asked", |world| {
            change!(world, "slow", ReturnAccepted, |fact| fact.lines[0].units = 3);
        }),
        order(S9, "part", "two requests have one number", |world| {
            if let Payload::CancelRequested(fact) = &mut world.twin("part", CancelRequested::KIND).fact {
                fact.lines[0].units += 1;
            }
        }),
        order(S9, "regretted", "a cancellation contains no request", |world| {
            change!(world, "regretted", OrderCancelling, |fact| fact.requests.clear());
        }),
        order(S9, "part", "a decision contains what was asked later", |world| {
            let decided = world.said("part", OrderConfirmed::KIND).offset;
            world.said("part", CancelRequested::KIND).offset = decided + 100;
        }),
    ]
}

/// A return is refused.
fn refuse(world: &mut World, order: &str) {
    let said = world.said(order, ReturnAccepted::KIND);
    if let Payload::ReturnAccepted(ReturnAccepted { request, .. }) = &said.fact {
        let (request, reason) = (request.clone(), RefusedReason::NothingToReturn);
        said.fact = ReturnRefused { request, reason }.into();
    }
}

fn answers() -> Vec<Damage> {
    vec![
        order(S9, "slow", "a return is refused of which all is there", |world| refuse(world, "slow")),
        order(S9, "gift", "a return of a gift is refused", |world| refuse(world, "gift")),
        order(S9, "slow", "less is taken back than was asked and is there", |world| {
            change!(world, "slow", ReturnAccepted, |fact| fact.lines[0].units = 1);
        }),
        order(S9, "parts", "a line is not taken back that was asked and is there", |world| {
            let accepted = world.events.iter_mut().filter(|said| said.key == "parts").map(|said| &mut said.fact);
            let last = accepted.filter_map(|fact| match fact {
                Payload::ReturnAccepted(fact) => Some(fact),
                _ => None,
            });
            last.last().expect("R3 is accepted").lines.truncate(1);
        }),
        order(S9, "parts", "a return is refused as long as there is something to return", |world| {
            let refused = world.at("parts", ReturnRefused::KIND);
            let is_accepted = |said: &Said| said.key == "parts" && matches!(said.fact, Payload::ReturnAccepted(_));
            let accepted = world.events.iter().rposition(is_accepted).expect("R3 is accepted");
            world.swap(accepted, refused);
        }),
        order(S9, "slow", "nothing is taken back of what was accepted", |world| {
            change!(world, "slow", ReturnAccepted, |fact| fact.lines.clear());
        }),
        order(S9, "parts", "a refusal has the reason of an order that is given up", |world| {
            change!(world, "parts", ReturnRefused, |fact| fact.reason = RefusedReason::OrderCancelled);
        }),
        order(S9, "late", "a refusal has the reason of an order that is shipped", |world| {
            change!(world, "late", ReturnRefused, |fact| fact.reason = RefusedReason::NothingToReturn);
        }),
        order(S9, "poor", "a return is refused before the decision", |world| {
            let (decided, refused) = (world.at("poor", OrderCancelling::KIND), world.at("poor", ReturnRefused::KIND));
            world.swap(decided, refused);
        }),
        order(S9, "slow", "a return is accepted before the decision", |world| {
            let (decided, accepted) = (world.at("slow", OrderConfirmed::KIND), world.at("slow", ReturnAccepted::KIND));
            world.swap(decided, accepted);
        }),
        order(S9, "moved", "an address stays before the decision", |world| {
            let decided = world.at("moved", OrderConfirmed::KIND);
            let refused = world.at("moved", AddressChangeRefused::KIND);
            world.swap(decided, refused);
        }),
        order(S9, "moved", "an address stays without a decision", |world| world.lose("moved", OrderConfirmed::KIND)),
    ]
}

fn stock_requests() -> Vec<Damage> {
    vec![
        code(S9, "LANTERN", "a change of the stock has no answer", |world| {
            world.lose("LANTERN", InventoryUpdated::KIND);
        }),
        code(S9, "LANTERN", "a change of the stock has two answers", |world| {
            world.twin("LANTERN", InventoryUpdated::KIND);
        }),
        code(S9, "LANTERN", "a change of the stock is another than asked", |world| {
            change!(world, "LANTERN", InventoryUpdated, |fact| (fact.asked, fact.applied) = (41, 41));
        }),
        code(S9, "LANTERN", "an answer is to no change of the stock", |world| {
            change!(world, "LANTERN", InventoryUpdated, |fact| fact.request.push('0'));
        }),
        code(S9, "LANTERN", "two changes of the stock have one number", |world| {
            change!(world, "LANTERN", StockChangeRequested, |fact| fact.request = "opening-1".into());
        }),
    ]
}

fn told() -> Vec<Damage> {
    vec![
        order(S10, "plain", "a customer is told twice", |world| {
            world.twin("plain", NotificationSent::KIND);
        }),
        order(S10, "slow", "a refund is told of by another request", |world| {
            let told = world.events.iter_mut().filter(|said| said.key == "slow").map(|said| &mut said.fact);
            let refund = told.filter_map(|fact| match fact {
                Payload::NotificationSent(fact) if fact.request.is_some() => Some(fact),
                _ => None,
            });
            refund.for_each(|fact| fact.request = Some("C2".into()));
        }),
        order(S10, "plain", "an order is told of by a request", |world| {
            change!(world, "plain", NotificationSent, |fact| fact.request = Some("C1".into()));
        }),
    ]
}

fn quiet() -> Vec<Damage> {
    vec![
        group(S11, "payment", "a group has one more to read", |world| {
            world.cursor("payment", "orders").next_offset -= 1;
        }),
        group(S11, "order", "a group has read past the end", |world| {
            world.cursor("order", "payments").next_offset += 1;
        }),
        group(S11, "notification", "a group has never read a topic", |world| {
            world.cursors.retain(|cursor| cursor.group != "notification" || cursor.topic != "payments");
        }),
        group(S11, "fulfilment", "a group is not there", |world| {
            world.cursors.retain(|cursor| cursor.group != "fulfilment");
        }),
        group(S11, "fulfilment", "a group has left something of a topic that it need not read", |world| {
            let mut cursor = world.cursor("notification", "payments").clone();
            (cursor.group, cursor.next_offset) = ("fulfilment".into(), 0);
            world.cursors.push(cursor);
        }),
    ]
}
