use serde_json::Value;

use super::{
    super::{Terms, judge},
    good::{Said, World},
    judge_whole,
};
use crate::{processor::Fact as _, saga::payload::Event as Payload};

/// Judged by the log alone, and with all that there is beside it.
fn unnoticed(world: &World) -> (bool, bool) {
    (judge(world.log(), &Terms::default()).holds(), judge_whole(world).holds())
}

fn name(said: &Said) -> String {
    format!("{} of {}", said.fact.kind().trim_end_matches(".v1"), said.key)
}

/// S10 says "at most one": a customer who is not told is counted, not found. A second click may be lost.
fn may_be_lost(good: &World, said: &Said) -> bool {
    let first_of_two = |other: &&Said| other.key == said.key && other.fact == said.fact && other.offset < said.offset;
    match &said.fact {
        Payload::NotificationSent(_) => true,
        Payload::OrderPlaced(_) => good.events.iter().any(|other| first_of_two(&other)),
        _ => false,
    }
}

#[test]
fn no_event_can_be_lost_unnoticed() {
    let good = World::good();
    for index in 0..good.events.len() {
        let mut world = good.clone();
        let said = world.events.remove(index);
        let lost = may_be_lost(&good, &said);
        assert_eq!(unnoticed(&world), (lost, lost), "lost: {}", name(&said));
    }
}

#[test]
fn no_event_can_stand_there_twice_unnoticed() {
    let good = World::good();
    for index in 0..good.events.len() {
        let mut world = good.clone();
        world.again(index);
        assert_eq!(unnoticed(&world), (false, false), "doubled: {}", name(&good.events[index]));
        // The same from a second attempt that did not know of the first.
        world.events.last_mut().unwrap().id = "0190a6f0-0000-7000-8002-000000000000".into();
        let expected = match &good.events[index].fact {
            // A second click is no second order: the first placement of each is that of the input.
            Payload::OrderPlaced(_) => [good.events[index].key != "other" || index == first_of(&good, "other"); 2],
            // Nor a second request, though the input has it once.
            Payload::CancelRequested(_) | Payload::ReturnRequested(_) | Payload::AddressChangeRequested(_) => {
                [true, false]
            }
            _ => [false; 2],
        };
        let (alone, whole) = unnoticed(&world);
        assert_eq!([alone, whole], expected, "said again: {}", name(&good.events[index]));
    }
}

fn first_of(world: &World, key: &str) -> usize {
    world.events.iter().position(|said| said.key == key).expect("it was placed")
}

#[test]
fn nothing_around_a_payload_can_be_another_one_unnoticed() {
    let good = World::good();
    for index in 0..good.events.len() {
        for (what, change) in around() {
            let mut world = good.clone();
            let said = &mut world.events[index];
            if !change(said) {
                continue;
            }
            assert_eq!(unnoticed(&world), (false, false), "{what}: {}", name(&good.events[index]));
        }
    }
}

/// A change around the payload; it says whether there was something to change.
type Change = fn(&mut Said) -> bool;

fn around() -> [(&'static str, Change); 9] {
    [
        ("another source", |said| {
            said.source = if said.source == "order" { "payment".into() } else { "order".into() };
            true
        }),
        ("another correlation", |said| {
            said.correlation.push('0');
            true
        }),
        ("another key", |said| {
            said.key.push('0');
            true
        }),
        ("no id", |said| {
            said.id.clear();
            true
        }),
        ("another cause", |said| {
            // The event before it, or itself.
            let number = said.causation.pop();
            said.causation.push(if number == Some('1') { '2' } else { '1' });
            number.is_some()
        }),
        ("no step", |said| said.step.take().is_some()),
        ("a step of another group", |said| {
            let other = if said.source == "order" { "payment" } else { "order" };
            said.step = said.step.take().map(|step| step.replacen(&said.source, other, 1));
            said.step.is_some()
        }),
        ("a step for another input", |said| {
            said.step = said.step.take().map(|step| match step.split('/').collect::<Vec<_>>()[..] {
                [group, topic, partition, offset, k, n] => format!("{group}/{topic}/{partition}/1{offset}/{k}/{n}"),
                [group, timer, name, k, n] => format!("{group}/{timer}/{name}0/{k}/{n}"),
                _ => panic!("{step} is no step"),
            });
            said.step.is_some()
        }),
        ("a step with one output more", |said| {
            said.step = said.step.take().map(|step| {
                let (rest, n) = step.rsplit_once('/').expect("a step has n");
                format!("{rest}/{}", n.parse::<u32>().expect("n is a number") + 1)
            });
            said.step.is_some()
        }),
    ]
}

/// What no invariant speaks of: the reasons of refusals other than those of returns, the amount of a decline of which
/// nobody was asked, and what a placement says that is refused, as long as it is not what the first one says.
fn is_free(good: &World, said: &Said, path: &str, changed: &Payload) -> bool {
    let first = &good.events[first_of(good, &said.key)];
    match &said.fact {
        Payload::OrderPlaced(_) => first.fact != said.fact && first.fact != *changed,
        Payload::PlacementRefused(_) | Payload::AddressChangeRefused(_) => path == "/reason",
        Payload::PaymentDeclined(fact) => path == "/amount" && fact.key.is_none(),
        _ => false,
    }
}

#[test]
fn no_value_of_a_payload_can_be_another_one_unnoticed() {
    let good = World::good();
    let mut changes = 0;
    let mut missed = Vec::new();
    for (index, said) in good.events.iter().enumerate() {
        let whole: Value = serde_json::from_slice(&said.fact.encode()).expect("a payload is JSON");
        let mut all = Vec::new();
        variants(&whole, String::new(), &mut |path, change| all.push((path, change)));
        for (path, change) in all {
            let mut payload = whole.clone();
            *payload.pointer_mut(&path).expect("the path was walked") = change.clone();
            let encoded = serde_json::to_vec(&payload).expect("JSON");
            let Ok(Some(fact)) = Payload::decode(said.fact.kind(), &encoded) else { continue };
            let mut world = good.clone();
            let free = is_free(&good, said, &path, &fact);
            world.events[index].fact = fact;
            changes += 1;
            if judge_whole(&world).holds() != free {
                missed.push(format!("{}: {path} = {change}", name(said)));
            }
        }
    }
    assert!(changes > 1_000, "{changes} changes are too few to say so");
    assert!(missed.is_empty(), "{} of {changes}:\n{}", missed.len(), missed.join("\n"));
}

/// Every value that is one step away: numbers by one, texts by a letter, words by another of their kind, lists by an
/// element less or twice.
fn variants(value: &Value, path: String, each: &mut impl FnMut(String, Value)) {
    const WORDS: [&str; 12] = [
        "PAYMENT_DECLINED",
        "OUT_OF_STOCK",
        "REQUESTED",
        "DEADLINE",
        "ORDER_CANCELLED",
        "NOTHING_TO_RETURN",
        "TOO_LATE",
        "OTHER_CONTENT",
        "CONFIRMED",
        "CANCELLED",
        "SHIPPED",
        "REFUNDED",
    ];
    match value {
        Value::Null => each(path, "x".into()),
        Value::Bool(is) => each(path, (!is).into()),
        Value::Number(number) => {
            let number = number.as_i64().expect("payloads have whole numbers");
            each(path.clone(), (number + 1).into());
            each(path, (number - 1).into());
        }
        Value::String(text) if WORDS.contains(&text.as_str()) => {
            for word in WORDS.iter().filter(|word| *word != text) {
                each(path.clone(), (*word).into());
            }
        }
        Value::String(text) => {
            each(path.clone(), format!("{text}x").into());
            each(path, Value::Null);
        }
        Value::Array(items) => {
            for index in 0..items.len() {
                let (mut less, mut twice) = (items.clone(), items.clone());
                less.remove(index);
                twice.insert(index, items[index].clone());
                each(path.clone(), less.into());
                each(path.clone(), twice.into());
                variants(&items[index], format!("{path}/{index}"), each);
            }
        }
        Value::Object(fields) => {
            for (field, value) in fields {
                variants(value, format!("{path}/{field}"), each);
            }
        }
    }
}
