use std::{path::Path, time::Duration};

use super::{
    check::{Charge, Counts, ExpectedInput, Log, Operation, Outcome, Terms, Verdict, judge},
    payload::group,
    retail::Shop,
    service,
    world::World,
};
use crate::{Received, Record, processor::STEP_HEADER};

/// What the services make of a shop, invoice by invoice, and what the checker says of it.
fn told_one_by_one(shop: &Shop) -> Counts {
    let mut world = World::new(8, Duration::from_mins(1), |_| service::Charged::Accepted);
    for opening in shop.opening_events() {
        world.tell(opening.key, opening.event);
    }
    world.run().expect("nothing is in the way");
    for scene in shop.scenes() {
        for told in scene.events {
            world.tell(told.key, told.event);
        }
        world.run().expect("nothing is in the way");
    }
    let mut input = ExpectedInput::default();
    for order in &shop.orders {
        input.orders.insert(order.id.clone(), order.placed.clone());
    }
    for request in &shop.requests {
        input.requests.entry(request.order.clone()).or_default().push(request.event());
    }
    let changes = shop.opening.iter().chain(&shop.stock_changes);
    input.stock = changes.map(|change| (change.code.clone(), change.change.clone())).collect();
    let verdict = judged(&world, Some(&input));
    assert!(verdict.holds(), "{verdict}");
    assert_eq!(group::ALL.len(), 5);
    verdict.counts
}

/// The log of a world, as the checker takes it in.
pub(super) fn log_of(world: &World) -> Log {
    let mut log = Log::new();
    for entry in world.entries() {
        let mut record = Record::new(entry.payload.clone()).key(entry.key.clone()).id(entry.id.clone());
        record = record.type_(entry.kind).source(entry.source.clone()).correlation_id(entry.key.clone());
        record = record.causation_id(entry.causation.clone().unwrap_or_default());
        if let Some(step) = &entry.step {
            record = record.header(STEP_HEADER, step.to_string());
        }
        let (topic, partition, offset) = (entry.place.topic.clone(), entry.place.partition, entry.place.offset);
        log.take(&Received { topic, partition, offset, append_time_us: entry.append_time_us, record });
    }
    log
}

/// What the checker says of a world, and of what its gateway was asked.
pub(super) fn judged(world: &World, input: Option<&ExpectedInput>) -> Verdict {
    let charge = |(charge, charged): (service::Charge, service::Charged)| Charge {
        key: Some(charge.key.to_string()),
        operation: match charge.operation {
            service::Operation::Authorize => Operation::Authorize,
            service::Operation::Capture => Operation::Capture,
            service::Operation::Void => Operation::Void,
            service::Operation::Refund => Operation::Refund,
        },
        order: charge.order.clone(),
        amount: charge.amount,
        outcome: match charged {
            service::Charged::Accepted => Outcome::Accepted,
            service::Charged::Declined => Outcome::Declined,
        },
    };
    let ledger: Vec<Charge> = world.charges().into_iter().map(charge).collect();
    judge(log_of(world), &Terms { input, ledger: Some(&ledger), ..Terms::default() })
}

/// Orders whole, in part, cancelled; pence captured, refunded; returns whole, in part, refused; units left.
fn check(shop: &Shop, orders: [u64; 3], pence: [u128; 2], returns: [u64; 3], units_left: i128) {
    let counts = told_one_by_one(shop);
    assert_eq!([counts.whole, counts.partial, counts.cancelled], orders);
    assert_eq!([counts.captured_pence, counts.refunded_pence], pence);
    assert_eq!([counts.returns_whole, counts.returns_partial, counts.returns_refused], returns);
    assert_eq!(counts.units_left, units_left);
}

/// The figures are those of `tests/python/saga_model.py`, which knows the page on the saga and nothing of this code.
#[test]
fn the_services_make_of_a_shop_what_the_independent_model_says() {
    let cut = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/retail-saga-cut.csv.zst");
    let shop = Shop::read(cut).expect("the cut is whole");
    check(&shop, [1_078, 639, 21], [125_146_049, 25_855_882], [345, 13, 12], 207_513);
}

#[test]
#[ignore = "needs TILLROLL_RETAIL"]
fn the_whole_year_comes_out_as_the_independent_model_says() {
    let file = std::env::var_os("TILLROLL_RETAIL").expect("TILLROLL_RETAIL names the whole year");
    let shop = Shop::read(file).expect("the file is whole");
    check(&shop, [14_330, 5_505, 126], [1_009_202_428, 44_126_038], [3_662, 70, 75], 251_012);
}
