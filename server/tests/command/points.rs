//! A service of the saga dies between any two of its steps, as a process of its own, and the proof holds.
//!
//! Method: for each fail point that the code lists there is a stage where every service that passes the point is armed
//! at it, the first time or a later one. A shop is played, and what else leads to the point is done, until all of them
//! have died there; each is started again at once and goes on where the log stands. At the end `tillroll saga check`
//! has to hold, with the input and the gateway's ledger. A point that is not reached fails by name, and so does a point
//! that nothing is known of here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    os::unix::process::ExitStatusExt as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tillroll_client::{
    Append,
    processor::{FAIL_POINTS, FailPoint},
    saga::{
        payload::{group, topic},
        storefront::record,
    },
};
use tokio::sync::Semaphore;

use crate::{
    shell::signal,
    stage::{PARTITIONS, PATIENCE, Stage},
};

const ORDERS: usize = 40;
/// Orders that are through before a service is told to end or to give something back.
const FIRST_ORDERS: usize = 8;
/// How long a death is waited for before something is done again that leads to it.
const ROUND: Duration = Duration::from_millis(100);
/// Stages at a time.
const STAGES: usize = 2;
/// Stages for each point, with other counts.
const TIMES: usize = 2;
const SIGABRT: i32 = 6;

/// Orders of two products each, some with a service beside, some cancelled or returned in part.
fn shop() -> String {
    let mut csv = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n".to_owned();
    let mut line = |id: String, code: String, units: i64, time: String, price: &str, customer: usize| {
        writeln!(csv, "{id},{code},thing {code},{units},2011-01-01 {time}:00,{price},{customer},France")
            .expect("it is memory");
    };
    for n in 1..=ORDERS {
        let units = i64::try_from(1 + n % 4).expect("small");
        line(n.to_string(), format!("P{}", n % 5), units, format!("08:{n:02}"), "1.50", 100 + n);
        line(n.to_string(), format!("Q{}", n % 3), 2, format!("08:{n:02}"), "0.25", 100 + n);
        if n % 6 == 0 {
            line(n.to_string(), "POST".to_owned(), 1, format!("08:{n:02}"), "4.00", 100 + n);
        }
    }
    for (every, time) in [(5, "08:50"), (4, "12:00")] {
        for n in (1..=ORDERS).filter(|n| n % every == 0) {
            line(format!("C{}", 100 * every + n), format!("P{}", n % 5), -1, time.to_owned(), "1.50", 100 + n);
        }
    }
    csv
}

/// Whether a service passes a point at all.
fn is_passed(point: FailPoint, service: &str) -> bool {
    use FailPoint as P;
    match point {
        P::BeforeLoad
        | P::AfterLoad
        | P::AfterObserve
        | P::BeforeDecide
        | P::AfterDecide
        | P::AfterApply
        | P::BeforeAppend
        | P::AfterAppend
        | P::AfterAck
        | P::BeforeCursors
        | P::BeforeTakeOver
        | P::AfterTakeOver
        | P::BeforeRename
        | P::AfterRename
        | P::BeforeLeave => true,
        // The calls of the others are of a type without values.
        P::BeforeCall | P::AfterCall => service == group::PAYMENT,
        // The others leave `Service::timer` as it is, which sets none.
        P::TimerDue => service == group::ORDER,
        // A group asks back what a member has beyond its share. All of inventory is one unit, so nobody ever has more
        // than a share: who holds it keeps it until it leaves or is gone, and then there is nobody to be asked.
        P::AfterRevoking | P::BeforeRelease => service != group::INVENTORY,
        other => panic!("{other} is a new point: say here who passes it, and below what leads there and how often"),
    }
}

/// At which passing of a point a service dies: at none that it might not come to in one life.
fn count(point: FailPoint, service: &str, dice: &mut StdRng) -> u64 {
    use FailPoint as P;
    let most = match point {
        // Once for each unit.
        P::BeforeLoad | P::AfterLoad | P::BeforeRename | P::AfterRename if service == group::INVENTORY => 1,
        P::BeforeLoad | P::AfterLoad | P::BeforeRename | P::AfterRename => PARTITIONS,
        // One unit of two goes to the other member, at once.
        P::AfterRevoking | P::BeforeRelease | P::BeforeLeave => 1,
        // Orders are many more, and few of them are out of stock.
        P::AfterObserve
        | P::BeforeCall
        | P::AfterCall
        | P::BeforeDecide
        | P::AfterDecide
        | P::AfterApply
        | P::TimerDue => 12,
        // Every round leads there once more.
        _ => 3,
    };
    dice.random_range(1..=most)
}

/// Whether a service is told to end or to give something back, while it surely has something.
fn comes_later(point: FailPoint) -> bool {
    use FailPoint as P;
    matches!(point, P::BeforeRename | P::AfterRename | P::BeforeLeave | P::AfterRevoking | P::BeforeRelease)
}

/// Does what leads to a point beside the daily work.
fn lead_to(point: FailPoint, stage: &mut Stage, members: &BTreeSet<String>, round: usize, is_played: bool) {
    use FailPoint as P;
    match point {
        // A clean stop writes a snapshot of each unit and leaves.
        P::BeforeRename | P::AfterRename | P::BeforeLeave if round == 0 => {
            for member in members {
                signal(&stage.service(member).child, "TERM");
            }
        }
        // Another member has a share coming to it.
        P::AfterRevoking | P::BeforeRelease if round == 0 => {
            for member in members {
                stage.start(&member.replace("-0", "-1"), None);
            }
        }
        P::BeforeTakeOver | P::AfterTakeOver => fence(stage),
        _ => {}
    }
    // There is always something to read, also when the shop is at its end: with it comes nothing to say, so that
    // cursors are moved alone.
    if is_played && !comes_later(point) {
        place_again(stage, round);
    }
}

/// Takes over every producer that has a made-up name: those of the services are among them. What they append next is
/// refused.
fn fence(stage: &Stage) {
    let producer = |name: Option<String>| {
        let client = stage.client.clone();
        async move { client.init_producer(name.as_deref(), PATIENCE).await }
    };
    stage.wait("producers are taken over", async {
        let newest = producer(None).await.expect("registered");
        let number = u64::from_str_radix(&newest.producer_id["_p-".len()..], 16).expect("a made-up name");
        for number in 1..number {
            // Some numbers are other things.
            let _ = producer(Some(format!("_p-{number:016x}"))).await;
        }
    });
}

/// Places an order once more, which changes nothing. Everybody reads it.
fn place_again(stage: &Stage, round: usize) {
    let order = &stage.shop.orders[round % ORDERS];
    let record = record(&order.happening(), format!("again-{round}"));
    let appended = stage.client.append(Append::new().records(topic::ORDERS, [record]));
    stage.wait("an order is placed again", appended).expect("the broker takes it");
}

/// One stage: every service that passes the point dies there.
fn all_die_at(point: FailPoint, mut dice: StdRng) {
    let began = Instant::now();
    let passing = group::ALL.into_iter().filter(|service| is_passed(point, service));
    let armed: BTreeMap<String, String> =
        passing.map(|name| (format!("{name}-0"), format!("{point}:{}", count(point, name, &mut dice)))).collect();
    let is_late = |service: &str| point == FailPoint::TimerDue && service == group::PAYMENT;
    let mut stage = Stage::set(&shop(), "{}", if point == FailPoint::TimerDue { "2s" } else { "60s" });
    for service in group::ALL.into_iter().filter(|service| !is_late(service)) {
        let member = format!("{service}-0");
        stage.start(&member, armed.get(&member).map(String::as_str));
    }
    let gate = Arc::new(Semaphore::new(if comes_later(point) { FIRST_ORDERS } else { ORDERS }));
    let playing = stage.play(&gate);
    if comes_later(point) {
        stage.prove(FIRST_ORDERS);
    }
    let (since, mut round) = (Instant::now(), 0);
    let mut left: BTreeSet<String> = armed.keys().cloned().collect();
    while !left.is_empty() {
        assert!(since.elapsed() < PATIENCE, "{point} is not reached by {left:?}: {armed:?}\n{}", stage.words());
        lead_to(point, &mut stage, &left, round, playing.is_finished());
        gate.add_permits(ORDERS);
        round += 1;
        while let Some((member, status, said)) = stage.next_end(ROUND) {
            assert!(left.remove(&member), "{member} ended by itself, {point}: {status}: {said}");
            assert_eq!(status.signal(), Some(SIGABRT), "{member} at {}: {status}: {said}", armed[&member]);
            assert!(said.contains(&format!("fail point {point} reached")), "{said}");
            stage.start(&member, None);
        }
    }
    let died = since.elapsed();
    group::ALL.into_iter().filter(|service| is_late(service)).for_each(|late| stage.start(&format!("{late}-0"), None));
    stage.played(playing);
    stage.prove(ORDERS);
    assert_eq!(stage.next_end(Duration::ZERO), None, "{point}: it ended by itself");
    let all = armed.iter().map(|(member, at)| format!("{member}:{}", at.rsplit(':').next().unwrap_or_default()));
    println!("{point}: {:?}, died {died:?}, {:?} in all", all.collect::<Vec<_>>(), began.elapsed());
}

#[test]
fn every_service_may_die_between_any_two_of_its_steps() {
    let given = std::env::var("TILLROLL_SEED").ok().map(|text| text.parse().expect("TILLROLL_SEED is a number"));
    let seed: u64 = given.unwrap_or(73);
    println!("seed {seed}; TILLROLL_SEED={seed} repeats it");
    let (next, stages) = (AtomicUsize::new(0), FAIL_POINTS.len() * TIMES);
    std::thread::scope(|scope| {
        for _ in 0..STAGES {
            scope.spawn(|| {
                let places = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|place| *place < stages);
                for place in std::iter::from_fn(places) {
                    all_die_at(FAIL_POINTS[place / TIMES], StdRng::seed_from_u64(seed.wrapping_add(place as u64)));
                }
            });
        }
    });
}
