use super::{
    Damage,
    Invariant::{S5, S6, S7, S8, S12},
    Payload, change, code, order,
};
use crate::saga::{
    check::{Operation, Outcome},
    payload::{
        InventoryRejected, InventoryReleased, InventoryReserved, InventoryReturned, InventoryUpdated, OrderConfirmed,
        OrderFulfilled, PaymentAuthorized, PaymentCaptured, PaymentDeclined, PaymentVoided, RefundProcessed,
        ReturnAccepted, StockChangeRequested, topic,
    },
};

pub(super) fn damages() -> Vec<Damage> {
    let families =
        [money(), returns(), money_in_all(), stock(), shortage(), goods(), names(), sums(), ledger(), keys()];
    families.into_iter().flatten().collect()
}

fn money() -> Vec<Damage> {
    vec![
        order(S5, "plain", "a penny more is authorised", |world| {
            change!(world, "plain", PaymentAuthorized, |fact| fact.amount += 1);
        }),
        order(S5, "declined", "a penny more is declined", |world| {
            change!(world, "declined", PaymentDeclined, |fact| fact.amount += 1);
        }),
        order(S5, "plain", "a penny less is captured", |world| {
            change!(world, "plain", PaymentCaptured, |fact| fact.amount -= 1);
        }),
        order(S5, "plain", "a penny more is captured", |world| {
            change!(world, "plain", PaymentCaptured, |fact| fact.amount += 1);
        }),
        order(S5, "plain", "a penny more is confirmed", |world| {
            change!(world, "plain", OrderConfirmed, |fact| fact.amount += 1);
        }),
        order(S5, "part", "a penny less is voided", |world| {
            change!(world, "part", PaymentVoided, |fact| fact.amount -= 1);
        }),
        order(S5, "part", "a penny is captured that is voided, too", |world| {
            change!(world, "part", PaymentVoided, |fact| fact.amount += 1);
        }),
        order(S5, "plain", "it is authorised twice", |world| {
            world.twin("plain", PaymentAuthorized::KIND);
        }),
        order(S5, "twice", "the second click is authorised, too", |world| {
            world.says_for_second_click(PaymentAuthorized::KIND);
        }),
        order(S5, "plain", "it is captured twice", |world| {
            world.twin("plain", PaymentCaptured::KIND);
        }),
        order(S5, "nothing", "it is authorised and declined", |world| {
            world.twin_of("late", PaymentDeclined::KIND, "nothing");
        }),
        order(S5, "plain", "what was shipped is not captured", |world| world.lose("plain", PaymentCaptured::KIND)),
        order(S5, "short", "the rest is not voided", |world| world.lose("short", PaymentVoided::KIND)),
        order(S5, "nothing", "a cancelled order is not voided", |world| world.lose("nothing", PaymentVoided::KIND)),
    ]
}

fn returns() -> Vec<Damage> {
    vec![
        order(S5, "parts", "a return comes to a penny more", |world| {
            change!(world, "parts", ReturnAccepted, |fact| fact.amount += 1);
        }),
        order(S5, "parts", "a penny less is given back", |world| {
            change!(world, "parts", RefundProcessed, |fact| fact.amount -= 1);
        }),
        order(S5, "parts", "more is taken back than was shipped", |world| {
            change!(world, "parts", ReturnAccepted, |fact| fact.lines[0].units += 3);
        }),
        order(S5, "slow", "more is given back than was captured", |world| {
            change!(world, "slow", RefundProcessed, |fact| fact.amount = 766);
        }),
        order(S5, "slow", "a return is not refunded", |world| world.lose("slow", RefundProcessed::KIND)),
        order(S5, "gift", "a return of nothing is not refunded", |world| world.lose("gift", RefundProcessed::KIND)),
        order(S5, "slow", "a return is refunded twice", |world| {
            world.twin("slow", RefundProcessed::KIND);
        }),
        order(S5, "slow", "a refund is for another request", |world| {
            change!(world, "slow", RefundProcessed, |fact| fact.request.push('0'));
        }),
    ]
}

fn money_in_all() -> Vec<Damage> {
    vec![
        order(S6, "plain", "the money in all is a penny short", |world| {
            change!(world, "plain", PaymentCaptured, |fact| fact.amount -= 1);
        }),
        order(S6, "slow", "the money in all is a penny too much", |world| {
            change!(world, "slow", RefundProcessed, |fact| fact.amount -= 1);
        }),
        order(S6, "eager", "goods came back and the money did not", |world| {
            world.lose("eager", RefundProcessed::KIND);
        }),
        order(S6, "eager", "money came back and the goods did not", |world| {
            world.lose("eager", InventoryReturned::KIND);
        }),
    ]
}

fn stock() -> Vec<Damage> {
    vec![
        order(S7, "short", "a decision's number is given twice", |world| {
            change!(world, "short", InventoryReserved, |fact| fact.decision -= 1);
        }),
        order(S7, "plain", "two have decided at once", |world| {
            world.twin("plain", InventoryReserved::KIND);
        }),
        order(S7, "twice", "goods are set aside for the second click, too", |world| {
            let decisions = world.events.iter().filter(|said| said.topic == topic::INVENTORY).count() as u64;
            if let Payload::InventoryReserved(fact) = &mut world.says_for_second_click(InventoryReserved::KIND).fact {
                fact.decision = decisions + 1;
            }
        }),
        order(S7, "short", "the decision before is lost", |world| world.lose("plain", InventoryReserved::KIND)),
        code(S7, "HEART", "decisions begin with another number", |world| {
            change!(world, "HEART", InventoryUpdated, |fact| fact.decision = 0);
        }),
        order(S7, "guest", "birds are sold that are not there", |world| {
            change!(world, "guest", InventoryReserved, |fact| fact.lines[0].units = 9);
        }),
        code(S7, "BIRD", "less comes than was asked", |world| {
            change!(world, "BIRD", InventoryUpdated, |fact| fact.applied -= 1);
        }),
        code(S7, "HEART", "a unit appears", |world| {
            change!(world, "HEART", InventoryUpdated, |fact| fact.applied += 1);
        }),
        code(S7, "BIRD", "more goes than is there", |world| {
            let updates = world.events.iter_mut().map(|said| &mut said.fact);
            let down = updates.filter_map(|fact| match fact {
                Payload::InventoryUpdated(fact) if fact.asked < 0 => Some(fact),
                _ => None,
            });
            down.for_each(|fact| fact.applied = fact.asked);
        }),
        code(S7, "HEART", "more is on hand than came", |world| {
            change!(world, "HEART", StockChangeRequested, |fact| fact.units += 1);
            change!(world, "HEART", InventoryUpdated, |fact| (fact.asked, fact.applied) = (101, 101));
            change!(world, "plain", InventoryReserved, |fact| fact.lines[0].units += 1);
        }),
    ]
}

fn shortage() -> Vec<Damage> {
    vec![
        order(S7, "plain", "a line is short of which there is enough", |world| {
            change!(world, "plain", InventoryReserved, |fact| {
                fact.lines.pop();
                fact.short.push(2);
            });
        }),
        order(S7, "plain", "an order is rejected of which there is enough", |world| {
            let said = world.said("plain", InventoryReserved::KIND);
            if let Payload::InventoryReserved(InventoryReserved { decision, .. }) = said.fact {
                said.fact = InventoryRejected { decision, short: vec![1, 2] }.into();
            }
        }),
        order(S7, "short", "there was enough of what is short", |world| {
            change!(world, "BIRD", StockChangeRequested, |fact| fact.units += 7);
            change!(world, "BIRD", InventoryUpdated, |fact| (fact.asked, fact.applied) = (12, 12));
            let updates = world.events.iter_mut().map(|said| &mut said.fact);
            updates.for_each(|fact| match fact {
                Payload::InventoryUpdated(fact) if fact.asked < 0 => fact.applied = -8,
                Payload::InventoryUpdated(fact) if fact.request == "536600" => (fact.asked, fact.applied) = (6, 6),
                Payload::StockChangeRequested(fact) if fact.request == "536600" => fact.units = 6,
                _ => {}
            });
        }),
    ]
}

fn goods() -> Vec<Damage> {
    vec![
        order(S7, "part", "the rest is not released", |world| world.lose("part", InventoryReleased::KIND)),
        order(S7, "part", "a unit more is released", |world| {
            change!(world, "part", InventoryReleased, |fact| fact.lines[0].units += 1);
        }),
        order(S7, "declined", "a unit less is released", |world| {
            change!(world, "declined", InventoryReleased, |fact| fact.lines[0].units -= 1);
        }),
        order(S7, "plain", "another code is reserved", |world| {
            change!(world, "plain", InventoryReserved, |fact| fact.lines[0].code = "LANTERN".into());
        }),
        code(S7, "HEART", "what is on hand is of another code", |world| {
            change!(world, "plain", InventoryReserved, |fact| fact.lines[0].code = "LANTERN".into());
        }),
        order(S7, "slow", "a return is not taken into stock", |world| world.lose("slow", InventoryReturned::KIND)),
        order(S7, "slow", "a return is taken into stock twice", |world| {
            world.twin("slow", InventoryReturned::KIND);
        }),
        order(S7, "slow", "another unit is taken into stock", |world| {
            change!(world, "slow", InventoryReturned, |fact| fact.lines[0].units -= 1);
        }),
        order(S7, "slow", "more comes back than was shipped", |world| {
            change!(world, "slow", InventoryReturned, |fact| fact.lines[0].units += 2);
        }),
        order(S7, "slow", "what comes back is of another request", |world| {
            change!(world, "slow", InventoryReturned, |fact| fact.request.push('0'));
        }),
    ]
}

fn names() -> Vec<Damage> {
    vec![
        order(S8, "part", "a void is of another order", |world| {
            let other = world.id("short", PaymentAuthorized::KIND);
            if let Payload::PaymentVoided(fact) = &mut world.said("part", PaymentVoided::KIND).fact {
                fact.compensates = other;
            }
        }),
        order(S8, "part", "a void is of a capture", |world| {
            let other = world.id("part", PaymentCaptured::KIND);
            if let Payload::PaymentVoided(fact) = &mut world.said("part", PaymentVoided::KIND).fact {
                fact.compensates = other;
            }
        }),
        order(S8, "part", "a void is of nothing", |world| {
            change!(world, "part", PaymentVoided, |fact| fact.compensates.clear());
        }),
        order(S8, "slow", "a refund is of nothing", |world| {
            change!(world, "slow", RefundProcessed, |fact| fact.compensates.push('0'));
        }),
        order(S8, "part", "a release is of another order", |world| {
            let other = world.id("plain", InventoryReserved::KIND);
            if let Payload::InventoryReleased(fact) = &mut world.said("part", InventoryReleased::KIND).fact {
                fact.compensates = other;
            }
        }),
        order(S8, "slow", "a return is of another order", |world| {
            let other = world.id("plain", OrderFulfilled::KIND);
            if let Payload::InventoryReturned(fact) = &mut world.said("slow", InventoryReturned::KIND).fact {
                fact.compensates = other;
            }
        }),
        order(S8, "slow", "a return is accepted of another order", |world| {
            let other = world.id("plain", OrderFulfilled::KIND);
            if let Payload::ReturnAccepted(fact) = &mut world.said("slow", ReturnAccepted::KIND).fact {
                fact.fulfilled = other;
            }
        }),
    ]
}

fn sums() -> Vec<Damage> {
    vec![
        order(S8, "nothing", "a penny of a cancelled order stays set aside", |world| {
            change!(world, "nothing", PaymentVoided, |fact| fact.amount -= 1);
        }),
        order(S8, "charged", "a charge that came late stays set aside", |world| {
            world.lose("charged", PaymentVoided::KIND);
        }),
        order(S8, "regretted", "goods of a cancelled order stay set aside", |world| {
            world.lose("regretted", InventoryReleased::KIND);
        }),
        order(S8, "slow", "more is given back than was captured", |world| {
            change!(world, "slow", RefundProcessed, |fact| fact.amount = 766);
        }),
        order(S8, "part", "more is voided than was authorised", |world| {
            change!(world, "part", PaymentVoided, |fact| fact.amount = 1_088);
        }),
        order(S8, "part", "more is released than was reserved", |world| {
            change!(world, "part", InventoryReleased, |fact| fact.lines[0].units = 5);
        }),
        order(S8, "slow", "more is returned than was shipped", |world| {
            change!(world, "slow", InventoryReturned, |fact| fact.lines[0].units = 4);
        }),
    ]
}

fn ledger() -> Vec<Damage> {
    vec![
        order(S12, "plain", "a charge is not in the ledger", |world| {
            world.ledger.retain(|charge| charge.key.as_deref() != Some("capture:plain"));
        }),
        order(S12, "plain", "a charge is not in the log", |world| world.lose("plain", PaymentCaptured::KIND)),
        order(S12, "plain", "a charge has another amount", |world| world.charge("capture:plain").amount += 1),
        order(S12, "plain", "a charge is another operation", |world| {
            world.charge("capture:plain").operation = Operation::Void;
        }),
        order(S12, "plain", "a charge is of another order", |world| {
            world.charge("capture:plain").order = "part".into();
        }),
        order(S12, "plain", "what was accepted is declined", |world| {
            world.charge("authorize:plain").outcome = Outcome::Declined;
        }),
        order(S12, "declined", "what was declined is accepted", |world| {
            world.charge("authorize:declined").outcome = Outcome::Accepted;
        }),
    ]
}

fn keys() -> Vec<Damage> {
    vec![
        order(S12, "plain", "a key was charged twice", |world| {
            let twice = world.charge("capture:plain").clone();
            world.ledger.push(twice);
        }),
        order(S12, "plain", "an attempt had a key of its own", |world| {
            let mut attempt = world.charge("authorize:plain").clone();
            attempt.key = Some("authorize:0190a6f0".into());
            world.ledger.push(attempt);
        }),
        order(S12, "plain", "the only attempt had a key of its own", |world| {
            world.charge("authorize:plain").key = Some("authorize:0190a6f0".into());
            change!(world, "plain", PaymentAuthorized, |fact| fact.key = Some("authorize:0190a6f0".into()));
        }),
        order(S12, "plain", "a charge has no key", |world| world.charge("capture:plain").key = None),
        order(S12, "plain", "a payment has no key", |world| {
            change!(world, "plain", PaymentCaptured, |fact| fact.key = None);
        }),
        order(S12, "gift", "nothing is asked of the gateway", |world| {
            change!(world, "gift", PaymentCaptured, |fact| fact.key = Some("capture:gift".into()));
        }),
        order(S12, "plain", "a capture has the key of another operation, and the gateway took it", |world| {
            world.charge("capture:plain").key = Some("void:plain".into());
            change!(world, "plain", PaymentCaptured, |fact| fact.key = Some("void:plain".into()));
        }),
        order(S12, "slow", "a refund has the key of another request", |world| {
            change!(world, "slow", RefundProcessed, |fact| fact.key = Some("refund:slow:C2".into()));
        }),
        order(S12, "plain", "two payments have one key", |world| {
            world.twin("plain", PaymentCaptured::KIND);
        }),
    ]
}
