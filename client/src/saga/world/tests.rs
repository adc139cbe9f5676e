//! Goal: whatever order the partitions are read in, whatever is doubled, declined, cancelled, returned or late, every
//! order ends, money and stock balance, and a state that is made again from the log is the state that was there.
//!
//! Method: random orders and requests run through the world under a random schedule: which partition is read next, when
//! the storefront speaks, when a deadline fires. Every end is held against [`invariants`], and against the end of a
//! calm run of the same scenario, one storefront event after another: what no race can change is the same to the unit
//! and the penny. Small scenarios go through every schedule that there is. A failing case prints its scenario and seed.

mod compare;
mod invariants;
mod scenario;

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use self::scenario::{Ask, Plan, Scenario, Speech};
use super::*;
use crate::saga::{
    check::{self, FLOW, ways},
    payload::{OrderCancelling, PaymentDeclined},
    tests::log_of,
};

const DEADLINE: Duration = Duration::from_mins(1);

/// Numbers from a seed: the schedule of a run.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    /// Once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.roll(times) == 0
    }
}

fn world(scenario: &Scenario, partitions: usize) -> World {
    let declined: BTreeSet<String> = scenario.declined().collect();
    let mut world = World::new(partitions, DEADLINE, move |charge| match charge.operation {
        crate::saga::service::Operation::Authorize if declined.contains(&charge.order) => Charged::Declined,
        _ => Charged::Accepted,
    });
    for (code, units) in scenario.stock() {
        world.tell(&code, units);
    }
    world.run().unwrap();
    world
}

/// One storefront event after another, each to its end, and no deadline.
fn calm(scenario: &Scenario) -> World {
    let mut world = world(scenario, 1);
    for Speech { key, event } in scenario.speeches().into_iter().flatten() {
        world.tell(&key, event);
        world.run().unwrap();
    }
    world
}

/// How a run is disturbed.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// A deadline fires once in so many actions; 0 for never.
    deadlines: usize,
    /// A state is made again once in so many actions; 0 for never.
    rebuilds: usize,
    /// An event is delivered again once in so many actions; 0 for never.
    redeliveries: usize,
}

/// Everything in an order that the dice choose.
fn rough(scenario: &Scenario, seed: u64, partitions: usize, weather: Weather) -> World {
    let mut world = world(scenario, partitions);
    let (mut dice, mut trouble) = (Dice(seed), Dice(!seed));
    let mut speeches = scenario.speeches();
    for speech in &mut speeches {
        speech.reverse();
    }
    loop {
        speeches.retain(|of_order| !of_order.is_empty());
        let (ready, speakers) = (world.ready(), speeches.len());
        if ready.is_empty() && speakers == 0 {
            break;
        }
        if weather.deadlines > 0 && dice.once_in(weather.deadlines) {
            let timers = world.timers();
            if !timers.is_empty() {
                world.fire(&timers[dice.roll(timers.len())]).unwrap().expect("the timer is there");
            }
        }
        // The storefront is one voice among those that are ready, so that its events fall everywhere.
        let choice = dice.roll(ready.len() + speakers.min(1));
        if let Some(&ready) = ready.get(choice) {
            world.deliver(ready).unwrap();
        } else {
            let speaker = dice.roll(speakers);
            let Speech { key, event } = speeches[speaker].pop().unwrap();
            world.tell(&key, event);
        }
        if weather.rebuilds > 0 && trouble.once_in(weather.rebuilds) {
            world.rebuild(&mut trouble);
        }
        if weather.redeliveries > 0 && trouble.once_in(weather.redeliveries) {
            world.deliver_again(&mut trouble);
        }
    }
    world
}

impl World {
    /// Makes every state again from what was read and said, in an order that keeps no more than each partition's own,
    /// and goes on with it.
    fn rebuild(&mut self, dice: &mut Dice) {
        for part in 0..self.parts.len() {
            let group = self.parts[part].name().to_owned();
            let slots: BTreeSet<usize> = self.of_part(part).map(|subscription| subscription.slot).collect();
            for slot in slots {
                let read = self.of_part(part).filter(|subscription| subscription.slot == slot);
                let read = read.map(|of| (false, &self.log(of.topic, of.partition)[..of.cursor]));
                let said = self.logs.iter().flat_map(|log| log.iter().enumerate());
                let said = said.filter(|(partition, _)| group == group::INVENTORY || *partition == slot);
                let said = said.map(|(_, log)| (true, &log[..]));
                let mut queues: Vec<(bool, &[usize])> = read.chain(said).collect();
                let mut words = Vec::new();
                while !queues.is_empty() {
                    let queue = dice.roll(queues.len());
                    match queues[queue] {
                        (_, []) => _ = queues.swap_remove(queue),
                        (is_own, [first, rest @ ..]) => {
                            queues[queue].1 = rest;
                            let entry = &self.entries[*first];
                            if !is_own || entry.source == group {
                                words.push((entry, is_own));
                            }
                        }
                    }
                }
                self.parts[part].rebuild(slot, &mut words.into_iter()).unwrap();
            }
        }
    }

    /// Delivers an event again that was delivered: nothing is said and nothing changes.
    fn deliver_again(&mut self, dice: &mut Dice) {
        let subscription = dice.roll(self.subscriptions.len());
        let Subscription { part, slot, topic, partition, cursor } = self.subscriptions[subscription];
        if cursor == 0 {
            return;
        }
        let entry = &self.entries[self.log(topic, partition)[dice.roll(cursor)]];
        let before = self.parts[part].state(slot);
        let said = self.parts[part].hear(slot, entry, &mut |_| unreachable!("nothing is said again")).unwrap();
        assert!(said.is_empty(), "{} again: {said:?}", entry.kind);
        assert_eq!(self.parts[part].state(slot), before, "{} again", entry.kind);
    }

    fn of_part(&self, part: usize) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.iter().filter(move |subscription| subscription.part == part)
    }
}

const STILL: Weather = Weather { deadlines: 0, rebuilds: 0, redeliveries: 0 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_end_is_whole_and_what_no_race_can_change_is_the_same(
        scenario in scenario::plenty(), seed in any::<u64>(), partitions in 1_usize..4
    ) {
        let calm = calm(&scenario);
        invariants::check(&calm);
        let rough = rough(&scenario, seed, partitions, STILL);
        invariants::check(&rough);
        compare::ends(&scenario, &calm, &rough);
    }

    #[test]
    fn deadlines_and_short_stock_break_nothing(
        scenario in scenario::scarce(), seed in any::<u64>(), partitions in 1_usize..4, deadlines in 10_usize..100
    ) {
        let rough = rough(&scenario, seed, partitions, Weather { deadlines, ..STILL });
        invariants::check(&rough);
    }

    #[test]
    fn a_state_that_is_made_again_is_the_same_and_decides_the_same(
        scenario in scenario::scarce(), seed in any::<u64>(), partitions in 1_usize..4, deadlines in 10_usize..100
    ) {
        let weather = Weather { deadlines, ..STILL };
        let through = rough(&scenario, seed, partitions, weather);
        let again = rough(&scenario, seed, partitions, Weather { rebuilds: 8, ..weather });
        prop_assert_eq!(through.entries(), again.entries());
        let redelivered = rough(&scenario, seed, partitions, Weather { redeliveries: 2, ..weather });
        prop_assert_eq!(through.entries(), redelivered.entries());
    }
}

/// Goes through every schedule of a scenario in which all is placed and asked at once, and gives how many there are.
///
/// Left out are choices that nobody can tell: when an event is read that is not wanted, when the customer is told, and
/// when inventory and fulfilment read, which have one partition each to read orders from.
fn every_schedule(scenario: &Scenario, deadlines: bool, visit: impl FnMut(&World)) -> usize {
    let speeches: Vec<Speech> = scenario.speeches().into_iter().flatten().collect();
    every_schedule_of(scenario, &speeches, deadlines, visit)
}

/// The same, of what is said in this order.
fn every_schedule_of(
    scenario: &Scenario,
    speeches: &[Speech],
    deadlines: bool,
    mut visit: impl FnMut(&World),
) -> usize {
    let (mut choices, mut schedules): (Vec<(usize, usize)>, usize) = (Vec::new(), 0);
    loop {
        let mut world = world(scenario, 1);
        for Speech { key, event } in speeches {
            world.tell(key, event.clone());
        }
        let mut depth = 0;
        loop {
            let ready = world.choices();
            let timers = if deadlines { world.timers() } else { Vec::new() };
            let options = ready.len() + timers.len();
            if ready.is_empty() {
                break;
            }
            if depth == choices.len() {
                choices.push((0, options));
            }
            assert_eq!(choices[depth].1, options, "a schedule leads to the same place every time");
            match choices[depth].0 {
                choice if choice < ready.len() => _ = world.deliver(ready[choice]).unwrap(),
                choice => _ = world.fire(&timers[choice - ready.len()]).unwrap(),
            }
            depth += 1;
        }
        world.run().unwrap();
        visit(&world);
        schedules += 1;
        while let Some((choice, options)) = choices.pop() {
            if choice + 1 < options {
                choices.push((choice + 1, options));
                break;
            }
        }
        if choices.is_empty() {
            return schedules;
        }
    }
}

impl World {
    /// Partitions of which it matters when they are read, after all others were.
    fn choices(&mut self) -> Vec<Ready> {
        loop {
            let ready = self.ready();
            let is_free = |ready: &Ready| {
                let part = &self.parts[self.subscriptions[ready.subscription].part];
                let entry = &self.entries[self.next(ready.subscription).unwrap()];
                let is_single = [group::INVENTORY, group::FULFILMENT, group::NOTIFICATION].contains(&part.name());
                is_single || !part.wants(&entry.place.topic, entry.kind)
            };
            match ready.iter().find(|ready| is_free(ready)) {
                Some(&free) => _ = self.deliver(free).unwrap(),
                None => return ready,
            }
        }
    }
}

fn one_order(asks: Vec<Ask>, is_declined: bool) -> Scenario {
    let lines = vec![(0, 4, 2_550), (scenario::SERVICE, 1, 18_000)];
    Scenario::new([(0, 10)], vec![Plan { lines, is_declined, asks, ..Plan::default() }])
}

#[test]
fn every_schedule_of_an_order_ends_the_same() {
    let back = |units| Ask::Return(vec![(1, units)]);
    let cases = [
        (false, vec![]),
        (false, vec![back(3), back(3)]),
        (false, vec![Ask::Cancel(vec![(1, 1)]), back(9)]),
        (false, vec![Ask::Move, Ask::Cancel(vec![(1, 3)])]),
        (true, vec![back(1)]),
    ];
    for (is_declined, asks) in cases {
        let scenario = one_order(asks.clone(), is_declined);
        let calm = calm(&scenario);
        let schedules = every_schedule(&scenario, false, |world| {
            invariants::check(world);
            compare::ends(&scenario, &calm, world);
        });
        println!("{schedules} schedules of {asks:?}");
        assert!(schedules > 1, "{schedules} schedules of {asks:?}");
    }
}

#[test]
fn every_schedule_of_a_cancel_and_a_deadline_ends_well() {
    let (mut won, mut lost) = (0, 0);
    let schedules = every_schedule(&one_order(vec![Ask::Cancel(vec![(1, 4)])], false), false, |world| {
        invariants::check(world);
        let is_confirmed = world.entries().iter().any(|entry| entry.kind == "OrderConfirmed.v1");
        lost += usize::from(is_confirmed);
        won += usize::from(!is_confirmed);
    });
    println!("{schedules} schedules, {won} cancelled, {lost} returned");
    assert!(won > 0 && lost > 0, "{schedules} schedules, {won} cancelled, {lost} returned");

    let (mut late, mut found_after) = (0, 0);
    let schedules = every_schedule(&one_order(vec![Ask::Return(vec![(1, 1)])], false), true, |world| {
        invariants::check(world);
        let place = |kind| world.entries().iter().position(|entry| entry.kind == kind);
        if let Some(cancelling) = place("OrderCancelling.v1") {
            late += 1;
            found_after += usize::from(place("PaymentAuthorized.v1").is_some_and(|found| found > cancelling));
        }
    });
    println!("{schedules} schedules, {late} late, {found_after} with money found after");
    assert!(late > 0 && found_after > 0, "{schedules} schedules, {late} late, {found_after} with money found after");
}

/// What the checker allows is what the services do: whatever else an event came from would be a fault of theirs.
#[test]
fn every_way_of_the_flow_is_one_that_the_services_go() {
    let mut gone: Vec<(&str, check::Cause)> = Vec::new();
    let mut see = |world: &World| {
        invariants::check(world);
        for way in ways(&log_of(world)) {
            if !gone.contains(&way) {
                gone.push(way);
            }
        }
    };
    let (heart, missing, post) = ((0, 4, 2_550), (scenario::MISSING, 1, 1_000), (scenario::SERVICE, 1, 18_000));
    let (cancel, back) = (|units| Ask::Cancel(vec![(1, units)]), |units| Ask::Return(vec![(1, units)]));
    let plan = |lines: &[(usize, u64, u64)], is_declined, asks: Vec<Ask>| {
        let plan = Plan { lines: lines.to_vec(), is_declined, asks, ..Plan::default() };
        Scenario::new([(0, 10)], vec![plan])
    };
    let twice = Plan { lines: vec![heart], doubled: Some(true), ..Plan::default() };
    for (scenario, deadlines) in [
        (plan(&[heart], false, vec![cancel(1), back(9)]), false),
        (plan(&[heart], false, vec![back(4), back(4)]), false),
        (plan(&[heart], false, vec![back(1), cancel(4)]), false),
        (plan(&[heart], false, vec![Ask::Move]), false),
        (plan(&[heart], false, vec![back(1)]), true),
        (plan(&[heart], true, vec![back(1)]), false),
        (plan(&[missing], false, vec![back(1)]), false),
        (plan(&[missing], true, vec![]), false),
        (plan(&[heart, missing], false, vec![cancel(4), back(1)]), false),
        (plan(&[post], true, vec![]), false),
        (Scenario::new([(0, 10)], vec![twice]), false),
    ] {
        every_schedule(&scenario, deadlines, &mut see);
    }
    // A customer may ask before the order is placed.
    for (asks, is_declined) in [(vec![cancel(4)], false), (vec![back(1)], true)] {
        let scenario = plan(&[heart], is_declined, asks);
        let mut speeches: Vec<Speech> = scenario.speeches().into_iter().flatten().collect();
        speeches.reverse();
        every_schedule_of(&scenario, &speeches, false, &mut see);
    }
    let all = FLOW.iter().flat_map(|rule| rule.causes.iter().map(|cause| (rule.kind, *cause)));
    let never: Vec<(&str, check::Cause)> = all.filter(|way| !gone.contains(way)).collect();
    // A payment service that hears of the decision before it asked need not ask. The placement stands before the
    // decision in one partition, so the one that is here has always asked by then.
    let never_asked = (PaymentDeclined::KIND, check::Cause::InputToNothing(OrderCancelling::KIND));
    assert_eq!(never, [never_asked]);
}
