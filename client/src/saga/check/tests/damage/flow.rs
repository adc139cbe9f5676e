use super::{
    super::good::{Said, World},
    Damage,
    Invariant::{S1, S2, S3, S4},
    Payload, change, code, order,
};
use crate::saga::payload::{
    AddressChangeRequested, CancelReason, CancelRequested, InventoryRejected, InventoryReleased, InventoryReserved,
    InventoryUpdated, Notice, NotificationSent, OrderCancelled, OrderCancelling, OrderConfirmed, OrderFulfilled,
    OrderPlaced, PaymentAuthorized, PaymentCaptured, PaymentDeclined, PaymentVoided, PlacementRefused, ReturnRefused,
    StockChangeRequested, Units, topic,
};

pub(super) fn damages() -> Vec<Damage> {
    let families = [input(), input_beside_orders(), steps(), causes(), conditions()];
    families.into_iter().chain([decisions(), last_words(), reasons()]).flatten().collect()
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
            world.swap(decided, last);
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
