use super::{
    super::good::{Said, World},
    Damage,
    Invariant::{S1, S2, S3, S4, S9, S10, S11},
    Payload, change, code, group, order,
};
use crate::saga::payload::{
    AddressChangeRefused, AddressChangeRequested, CancelReason, CancelRequested, InventoryRejected, InventoryReleased,
    InventoryReserved, InventoryUpdated, Notice, NotificationSent, OrderCancelled, OrderCancelling, OrderConfirmed,
    OrderFulfilled, OrderPlaced, PaymentAuthorized, PaymentCaptured, PaymentDeclined, PaymentVoided, PlacementRefused,
    RefusedReason, ReturnAccepted, ReturnRefused, ReturnRequested, StockChangeRequested, Units, topic,
};

pub(super) fn damages() -> Vec<Damage> {
    let families =
        [input(), input_beside_orders(), steps(), causes(), conditions(), decisions(), last_words(), reasons()];
    families.into_iter().chain([requests(), answers(), stock_requests(), told(), quiet()]).flatten().collect()
}

fn input() -> Vec<Damage> {
    vec![
        order(S1, "plain", "an order is lost", |world| world.lose("plain", OrderPlaced::KIND)),
        order(S1, "plain", "an order has another unit", |world| {
            change!(world, "plain", OrderPlaced, |fact| fact.lines[0].units += 1);
        }),
        order(S1, "plain", "a price is another one", |world| {
            change!(world, "plain", OrderPlaced, |fact| fact.lines[1].price_mills += 1);
        }),
        order(S1, "plain", "a description is another one", |world| {
            change!(world, "plain", OrderPlaced, |fact| fact.lines[0].description.push(' '));
        }),
        order(S1, "guest", "a guest has a name", |world| {
            change!(world, "guest", OrderPlaced, |fact| fact.customer = Some("1".into()));
        }),
        order(S1, "plain", "an address is another one", |world| {
            change!(world, "plain", OrderPlaced, |fact| fact.address.clear());
        }),
        order(S1, "plain", "a service is a product", |world| {
            change!(world, "plain", OrderPlaced, |fact| fact.lines[2].service = false);
        }),
        order(S1, "plain", "a line is lost", |world| {
            change!(world, "plain", OrderPlaced, |fact| fact.lines.truncate(2));
        }),
        order(S1, "stranger", "an order that nobody put in", |world| {
            world.twin_of("plain", OrderPlaced::KIND, "stranger");
        }),
        order(S1, "other", "another content is not refused", |world| world.lose("other", PlacementRefused::KIND)),
        order(S1, "twice", "the second content is another one", |world| {
            let second = world.second_click();
            if let Payload::OrderPlaced(fact) = &mut world.events[second].fact {
                fact.lines[1].units += 1;
            }
        }),
        order(S1, "other", "the first placement is refused", |world| {
            let first = world.id("other", OrderPlaced::KIND);
            if let Payload::PlacementRefused(fact) = &mut world.said("other", PlacementRefused::KIND).fact {
                fact.placement = first;
            }
        }),
        order(S1, "twice", "a placement of the same content is refused", |world| {
            let second = world.events[world.second_click()].id.clone();
            let said = world.twin("other", PlacementRefused::KIND);
            (said.key, said.correlation, said.causation) = ("twice".into(), "twice".into(), second.clone());
            if let Payload::PlacementRefused(fact) = &mut said.fact {
                fact.placement = second;
            }
        }),
    ]
}

fn input_beside_orders() -> Vec<Damage> {
    vec![
        order(S1, "part", "a request is lost", |world| world.lose("part", CancelRequested::KIND)),
        order(S1, "part", "a request is doubled", |world| {
            world.twin("part", CancelRequested::KIND);
        }),
        order(S1, "part", "a request is about another line", |world| {
            change!(world, "part", CancelRequested, |fact| fact.lines[0].line = 2);
        }),
        order(S1, "moved", "a request is about another address", |world| {
            change!(world, "moved", AddressChangeRequested, |fact| fact.address.push('!'));
        }),
        order(S1, "plain", "a request that nobody put in", |world| {
            world.twin_of("part", CancelRequested::KIND, "plain");
        }),
        code(S1, "BIRD", "a change of the stock is lost", |world| world.lose("BIRD", StockChangeRequested::KIND)),
        code(S1, "HEART", "a change of the stock is another one", |world| {
            change!(world, "HEART", StockChangeRequested, |fact| fact.units += 1);
        }),
        code(S1, "HEART", "a change of the stock that nobody put in", |world| {
            change!(world, "HEART", StockChangeRequested, |fact| fact.request.push('0'));
        }),
    ]
}

fn steps() -> Vec<Damage> {
    vec![
        order(S2, "plain", "an event stands there twice", |world| {
            let at = world.at("plain", PaymentCaptured::KIND);
            world.again(at);
        }),
        order(S2, "plain", "an event was written by two attempts", |world| {
            let step = world.said("plain", PaymentCaptured::KIND).step.clone();
            world.twin("plain", PaymentCaptured::KIND).step = step;
        }),
        order(S2, "short", "a step is written in part", |world| world.lose("short", PaymentVoided::KIND)),
        order(S2, "short", "a step has another number of outputs", |world| {
            world.step("short", PaymentCaptured::KIND, "/0/2", "/0/3");
        }),
        order(S2, "short", "an output has the number of another", |world| {
            world.step("short", PaymentVoided::KIND, "/1/2", "/0/2");
        }),
        order(S2, "plain", "an event has no id", |world| world.said("plain", OrderFulfilled::KIND).id.clear()),
        order(S2, "late", "a timer's step is written in part", |world| world.lose("late", ReturnRefused::KIND)),
    ]
}

fn causes() -> Vec<Damage> {
    vec![
        order(S3, "plain", "a cause is not there", |world| world.lose("plain", OrderConfirmed::KIND)),
        order(S3, "plain", "no cause is named", |world| world.said("plain", OrderFulfilled::KIND).causation.clear()),
        order(S3, "plain", "no step is named", |world| world.said("plain", OrderFulfilled::KIND).step = None),
        order(S3, "plain", "a step's name is none", |world| {
            world.said("plain", OrderFulfilled::KIND).step = Some("fulfilment/orders".into());
        }),
        order(S3, "plain", "the causes of two events are swapped", |world| {
            let other = world.said("part", OrderFulfilled::KIND).causation.clone();
            let own = std::mem::replace(&mut world.said("plain", OrderFulfilled::KIND).causation, other);
            world.said("part", OrderFulfilled::KIND).causation = own;
        }),
        order(S3, "plain", "a cause is of a type that the flow does not have", |world| {
            world.said("plain", OrderFulfilled::KIND).causation = world.id("plain", OrderPlaced::KIND);
        }),
        order(S3, "plain", "a step is that for another input", |world| {
            world.said("plain", OrderFulfilled::KIND).step = world.said("part", OrderFulfilled::KIND).step.clone();
        }),
        order(S3, "plain", "a step is that of another group", |world| {
            world.step("plain", OrderFulfilled::KIND, "fulfilment", "payment");
        }),
        order(S3, "plain", "a step is that of no group of the saga", |world| {
            world.step("plain", OrderFulfilled::KIND, "fulfilment", "post");
        }),
        order(S3, "plain", "a step is for a foreign topic", |world| {
            world.said("plain", OrderFulfilled::KIND).step = Some("fulfilment/parcels/0/1/0/1".into());
        }),
        order(S3, "plain", "an event comes from another source", |world| {
            world.said("plain", PaymentCaptured::KIND).source = "inventory".into();
        }),
        order(S3, "plain", "an order comes from a service", |world| {
            world.said("plain", OrderPlaced::KIND).source = "order".into();
        }),
        order(S3, "plain", "a correlation is that of another order", |world| {
            world.said("plain", PaymentCaptured::KIND).correlation = "part".into();
        }),
        order(S3, "plain", "an event stands on another topic", |world| {
            world.said("plain", OrderFulfilled::KIND).topic = topic::PAYMENTS.into();
        }),
        order(S3, "plain", "events cause each other", |world| {
            world.said("plain", OrderConfirmed::KIND).causation = world.id("plain", OrderFulfilled::KIND);
        }),
        order(S3, "plain", "an event causes itself", |world| {
            world.said("plain", OrderFulfilled::KIND).causation = world.id("plain", OrderFulfilled::KIND);
        }),
        code(S3, "BIRD", "a change of the stock is caused by that of another code", |world| {
            world.said("BIRD", InventoryUpdated::KIND).causation = world.id("HEART", StockChangeRequested::KIND);
        }),
    ]
}

fn conditions() -> Vec<Damage> {
    vec![
        order(S3, "late", "a deadline is another order's", |world| {
            world.step("late", OrderCancelling::KIND, "deadline:late", "deadline:plain");
        }),
        order(S3, "plain", "an event stands before its cause", |world| {
            let confirmed = world.said("plain", OrderConfirmed::KIND).time_us;
            world.said("plain", OrderFulfilled::KIND).time_us = confirmed - 1;
        }),
        order(S3, "nothing", "a rejection gives up an order for its money", |world| {
            change!(world, "nothing", OrderCancelling, |fact| fact.reason = CancelReason::PaymentDeclined);
        }),
        order(S3, "late", "a timer is no deadline", |world| {
            world.step("late", OrderCancelling::KIND, "deadline:late", "reminder:late");
        }),
        order(S3, "late", "a deadline is met without a timer", |world| {
            let Said { topic, partition, offset, .. } = world.said("late", OrderPlaced::KIND).clone();
            for kind in [OrderCancelling::KIND, ReturnRefused::KIND] {
                world.step("late", kind, "timer/deadline:late", &format!("{topic}/{partition}/{offset}"));
            }
        }),
        order(S3, "nothing", "a refusal is called a deadline", |world| {
            change!(world, "nothing", OrderCancelling, |fact| fact.reason = CancelReason::Deadline);
            change!(world, "nothing", OrderCancelled, |fact| fact.reason = CancelReason::Deadline);
        }),
        order(S3, "late", "a deadline is called a refusal", |world| {
            change!(world, "late", OrderCancelling, |fact| fact.reason = CancelReason::OutOfStock);
            change!(world, "late", OrderCancelled, |fact| fact.reason = CancelReason::OutOfStock);
        }),
        order(S3, "twice", "a deadline runs from the second placement", |world| {
            let second = world.events[world.second_click()].id.clone();
            let said = world.twin("late", OrderCancelling::KIND);
            (said.key, said.correlation, said.causation) = ("twice".into(), "twice".into(), second);
            said.step = Some("order/timer/deadline:twice/0/1".into());
        }),
        order(S3, "declined", "a decline of which nobody was asked decides", |world| {
            change!(world, "declined", PaymentDeclined, |fact| fact.key = None);
        }),
        order(S3, "late", "a decline of a cancelled order has a key", |world| {
            change!(world, "late", PaymentDeclined, |fact| fact.key = Some("authorize:late".into()));
        }),
        order(S3, "plain", "a customer is told of something else", |world| {
            change!(world, "plain", NotificationSent, |fact| fact.notice = Notice::Cancelled);
        }),
    ]
}

fn decisions() -> Vec<Damage> {
    vec![
        order(S4, "plain", "there is no decision", |world| world.lose("plain", OrderConfirmed::KIND)),
        order(S4, "plain", "there is no placement", |world| world.lose("plain", OrderPlaced::KIND)),
        order(S4, "plain", "there are two decisions", |world| {
            world.twin("plain", OrderConfirmed::KIND);
        }),
        order(S4, "plain", "there are both decisions", |world| {
            world.twin_of("nothing", OrderCancelling::KIND, "plain");
        }),
        order(S4, "plain", "nothing is shipped", |world| world.lose("plain", OrderFulfilled::KIND)),
        order(S4, "plain", "it is shipped twice", |world| {
            world.twin("plain", OrderFulfilled::KIND);
        }),
        order(S4, "plain", "another unit is shipped", |world| {
            change!(world, "plain", OrderFulfilled, |fact| fact.lines[0].units += 1);
        }),
        order(S4, "short", "more is confirmed than reserved", |world| {
            change!(world, "short", OrderConfirmed, |fact| fact.lines.push(Units { line: 2, units: 1 }));
        }),
        order(S4, "plain", "a line is reserved in part", |world| {
            change!(world, "plain", InventoryReserved, |fact| fact.lines[0].units -= 1);
        }),
        order(S4, "plain", "a service line is short", |world| {
            change!(world, "plain", InventoryReserved, |fact| fact.short.push(3));
        }),
        order(S4, "nothing", "a line is rejected that it has not", |world| {
            change!(world, "nothing", InventoryRejected, |fact| fact.short.push(2));
        }),
        order(S4, "short", "it is confirmed and nothing is left of it", |world| {
            change!(world, "short", OrderConfirmed, |fact| fact.lines.clear());
        }),
        order(S4, "plain", "it is confirmed before it is paid", |world| world.lose("plain", PaymentAuthorized::KIND)),
        order(S4, "plain", "it is confirmed, and authorised only then", |world| {
            let confirmed = world.said("plain", OrderConfirmed::KIND).time_us;
            world.said("plain", PaymentAuthorized::KIND).time_us = confirmed + 1;
        }),
        order(S4, "plain", "a confirmed order is cancelled", |world| {
            world.twin_of("nothing", OrderCancelled::KIND, "plain");
        }),
    ]
}

fn last_words() -> Vec<Damage> {
    vec![
        order(S4, "nothing", "the last word is not said", |world| world.lose("nothing", OrderCancelled::KIND)),
        order(S4, "nothing", "the last word is said twice", |world| {
            world.twin("nothing", OrderCancelled::KIND);
        }),
        order(S4, "nothing", "the last word has another reason", |world| {
            change!(world, "nothing", OrderCancelled, |fact| fact.reason = CancelReason::Requested);
        }),
        order(S4, "nothing", "the last word comes before a compensation", |world| {
            let voided = world.said("nothing", PaymentVoided::KIND).time_us;
            world.said("nothing", OrderCancelled::KIND).time_us = voided - 1;
        }),
        order(S4, "nothing", "the last word comes at the moment of a compensation that it has not read", |world| {
            let last = world.said("nothing", OrderCancelled::KIND).time_us;
            world.twin("nothing", PaymentVoided::KIND).time_us = last;
        }),
        order(
            S4,
            "declined",
            "the last word is said with the decision, at the moment of what follows from it",
            |world| {
                let Said { causation, step, time_us, .. } = world.said("declined", OrderCancelling::KIND).clone();
                let cancelled = world.said("declined", OrderCancelled::KIND);
                (cancelled.causation, cancelled.step, cancelled.time_us) = (causation, step, time_us);
                world.step("declined", OrderCancelling::KIND, "/0/1", "/0/2");
                world.step("declined", OrderCancelled::KIND, "/0/1", "/1/2");
                world.said("declined", InventoryReleased::KIND).time_us = time_us;
            },
        ),
        order(S4, "nothing", "the last word stands before the decision", |world| {
            let (decided, last) =
                (world.at("nothing", OrderCancelling::KIND), world.at("nothing", OrderCancelled::KIND));
            swap(world, decided, last);
        }),
        order(S4, "poor", "the last word comes before the inventory answers", |world| {
            world.lose("poor", InventoryReserved::KIND);
        }),
        order(S4, "nothing", "something cancelled is shipped", |world| {
            world.twin_of("plain", OrderFulfilled::KIND, "nothing");
        }),
        order(S4, "nothing", "something cancelled is captured", |world| {
            world.twin_of("gift", PaymentCaptured::KIND, "nothing");
        }),
    ]
}

/// An order is given up with this reason, and nothing else is another.
fn give_up(world: &mut World, order: &str, reason: CancelReason) {
    for said in world.events.iter_mut().filter(|said| said.key == order) {
        match &mut said.fact {
            Payload::OrderCancelling(fact) => fact.reason = reason,
            Payload::OrderCancelled(fact) => fact.reason = reason,
            _ => {}
        }
    }
}

fn reasons() -> Vec<Damage> {
    vec![
        order(S4, "declined", "an order is out of stock of which all is set aside", |world| {
            give_up(world, "declined", CancelReason::OutOfStock);
        }),
        order(S4, "nothing", "an order is declined whose money is set aside", |world| {
            give_up(world, "nothing", CancelReason::PaymentDeclined);
        }),
        order(S4, "declined", "an order is declined before the gateway is asked", |world| {
            change!(world, "declined", PaymentDeclined, |fact| fact.key = None);
        }),
        order(S4, "declined", "a decline comes after it was the reason", |world| {
            let cancelling = world.said("declined", OrderCancelling::KIND).time_us;
            world.said("declined", PaymentDeclined::KIND).time_us = cancelling + 1;
        }),
        order(S4, "nothing", "a rejection comes after it was the reason", |world| {
            let cancelling = world.said("nothing", OrderCancelling::KIND).time_us;
            world.said("nothing", InventoryRejected::KIND).time_us = cancelling + 1;
        }),
        order(S4, "nothing", "an order is given up at the request of nobody", |world| {
            give_up(world, "nothing", CancelReason::Requested);
        }),
        order(S4, "regretted", "a request leaves something to ship", |world| {
            change!(world, "regretted", CancelRequested, |fact| fact.lines[0].units -= 1);
        }),
        order(S4, "unlucky", "what a request leaves is in stock", |world| {
            change!(world, "unlucky", InventoryReserved, |fact| fact.short.clear());
        }),
        order(S4, "unlucky", "what a request leaves was not yet short", |world| {
            let cancelling = world.said("unlucky", OrderCancelling::KIND).time_us;
            world.said("unlucky", InventoryReserved::KIND).time_us = cancelling + 1;
        }),
        order(S4, "poor", "an order of services is given up at a request", |world| {
            give_up(world, "poor", CancelReason::Requested);
            change!(world, "poor", OrderCancelling, |fact| fact.requests.push("R1".into()));
        }),
    ]
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

/// Two events of an order's partition change places.
fn swap(world: &mut World, one: usize, other: usize) {
    let offset = world.events[one].offset;
    world.events[one].offset = std::mem::replace(&mut world.events[other].offset, offset);
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
            swap(world, accepted, refused);
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
            swap(world, decided, refused);
        }),
        order(S9, "slow", "a return is accepted before the decision", |world| {
            let (decided, accepted) = (world.at("slow", OrderConfirmed::KIND), world.at("slow", ReturnAccepted::KIND));
            swap(world, decided, accepted);
        }),
        order(S9, "moved", "an address stays before the decision", |world| {
            let decided = world.at("moved", OrderConfirmed::KIND);
            let refused = world.at("moved", AddressChangeRefused::KIND);
            swap(world, decided, refused);
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
