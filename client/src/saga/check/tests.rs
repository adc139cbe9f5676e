//! Goal: the judge finds a good log good, and names invariant and order of whatever is wrong with it.
//!
//! Method: one log, written out by hand in `good`. `damage` damages it by a table, which has something for every
//! invariant; `every` drops, doubles and changes every event of it and every value in it, one at a time.

mod damage;
mod every;
mod good;
mod large;

use super::{Invariant, Log, Subject, Terms, Verdict, judge};
use crate::{Record, processor::Fact as _, saga::payload};
use good::World;

/// Judges with all that there is beside the log.
fn judge_whole(world: &World) -> Verdict {
    judge(world.log(), &world.terms())
}

/// What is found, for a test's message.
fn named(verdict: &Verdict) -> String {
    verdict.to_string()
}

#[test]
fn a_good_log_is_found_good_and_counted() {
    let world = World::good();
    let verdict = judge_whole(&world);
    assert!(verdict.holds(), "{}", named(&verdict));
    assert_eq!(verdict.judged, Invariant::ALL);
    assert_eq!((verdict.open_count, verdict.open.len()), (0, 0));
    let counts = &verdict.counts;
    assert_eq!(counts.events, world.events.len() as u64);
    let orders = (counts.orders, counts.whole, counts.partial, counts.cancelled);
    assert_eq!(orders, (19, 10, 2, 7), "{counts:?}");
    assert_eq!(counts.placed_again, 2);
    assert_eq!(counts.requests_in_time, 4);
    assert_eq!((counts.returns_whole, counts.returns_partial, counts.returns_refused), (5, 1, 3));
    assert_eq!((counts.untold, counts.unread), (0, 0));
    assert_eq!((counts.captured_pence, counts.refunded_pence), (8_179, 1_376));
    assert_eq!(counts.units_left, 119);
}

#[test]
fn what_is_not_judged_is_not_said_to_hold() {
    let world = World::good();
    let verdict = judge(world.log(), &Terms::default());
    assert!(verdict.holds(), "{}", named(&verdict));
    for invariant in [Invariant::S1, Invariant::S11, Invariant::S12] {
        assert!(!verdict.judged.contains(&invariant));
    }
    assert_eq!(verdict.judged.len(), 9);
}

/// What was there of a log without orders is fine, and nobody is told that it is proven.
#[test]
fn a_log_without_orders_proves_nothing() {
    let mut stock_alone = World::good();
    stock_alone.events.retain(|said| matches!(said.key.as_str(), "HEART" | "LANTERN" | "BIRD"));
    for log in [Log::new(), stock_alone.log()] {
        let verdict = judge(log, &Terms::default());
        assert_eq!(verdict.found.into_iter().collect::<Vec<_>>(), [(Invariant::S1, 1)]);
        let said = "S1 input: the log: expected an order, without which nothing is proven, found none";
        assert_eq!(verdict.findings[0].to_string(), said);
    }
    let growing = judge(Log::new(), &Terms { allow_open: true, ..Terms::default() });
    assert!(growing.holds());
    assert_eq!((growing.open_count, &growing.open[0].about), (1, &Subject::Log));
}

/// A log while it grows: what was there at each moment.
#[test]
fn every_beginning_of_a_good_log_is_good_but_open() {
    let good = World::good();
    let mut open = 0;
    for last in 0..good.events.len() {
        let mut world = good.clone();
        let until = good.events[last].time_us;
        world.events.retain(|said| said.time_us <= until);
        let terms = Terms { ledger: Some(&good.ledger), allow_open: true, ..Terms::default() };
        let verdict = judge(world.log(), &terms);
        assert!(verdict.holds(), "until event {last}:\n{verdict}");
        let strict = judge(world.log(), &Terms { ledger: None, allow_open: false, ..terms });
        let alone = judge(world.log(), &Terms { ledger: None, ..terms });
        assert_eq!(strict.holds(), alone.open_count == 0, "until event {last}:\n{strict}");
        assert_eq!(strict.open, alone.open);
        open += u64::from(alone.open_count > 0);
    }
    assert!(open > 100, "{open} moments with an open order are too few to say so");
}

#[test]
fn an_open_order_is_named_with_what_it_waits_for() {
    let mut world = World::good();
    world.events.retain(|said| !(said.key == "guest" && said.topic == "payments"));
    let until = world.events.iter().filter(|said| said.key == "guest").map(|said| said.time_us).min().unwrap();
    world.events.retain(|said| said.time_us <= until);
    let verdict = judge(world.log(), &Terms { allow_open: true, ..Terms::default() });
    assert_eq!(verdict.open_count, 1);
    assert_eq!(verdict.open[0].about, Subject::Order("guest".into()));
    assert_eq!(verdict.open[0].waits_for, "OrderConfirmed.v1 or OrderCancelling.v1");
}

/// The last word stands behind the decision in one partition, so a decision that is not there will not come.
#[test]
fn a_last_word_without_a_decision_is_wrong_also_while_orders_are_open() {
    let mut world = World::good();
    world.events.retain(|said| {
        said.key != "declined" || !matches!(said.fact.kind(), "OrderCancelling.v1" | "InventoryReleased.v1")
    });
    let is = |kind: &'static str| move |said: &&mut good::Said| said.key == "declined" && said.fact.kind() == kind;
    let refusal = world.events.iter_mut().find(is("PaymentDeclined.v1")).expect("it is declined").id.clone();
    world.events.iter_mut().find(is("OrderCancelled.v1")).expect("it is cancelled").causation = refusal;
    let verdict = judge(world.log(), &Terms { allow_open: true, ..Terms::default() });
    assert_eq!(verdict.found.get(&Invariant::S4), Some(&1), "{verdict}");
    let said = "S4 one decision: order declined: expected OrderCancelling.v1 before OrderCancelled.v1, found none";
    assert!(verdict.to_string().contains(said), "{verdict}");
}

#[test]
fn what_is_no_event_of_the_saga_is_found() {
    let good = World::good();
    let first = good.events[good.events.len() / 2].received();
    let records: [fn(&mut Record); 3] =
        [|record| record.type_ = "Parcel.v1".into(), |record| record.value = "{".into(), |record| record.key = None];
    for (number, change) in records.into_iter().enumerate() {
        let mut received = first.clone();
        change(&mut received.record);
        (received.partition, received.offset) = (9, 0);
        let mut log = good.log();
        log.take(&received);
        let verdict = judge(log, &good.terms());
        assert_eq!(verdict.found.get(&Invariant::S3), Some(&1), "record {number}: {verdict}");
        assert_eq!(verdict.findings[0].places[0].partition(), 9);
    }
    let mut elsewhere = first;
    elsewhere.topic = "parcels".into();
    let mut log = good.log();
    log.take(&elsewhere);
    assert!(judge(log, &good.terms()).holds(), "other topics are nobody's business");
    assert_eq!(payload::topic::ALL.len(), 6);
}
