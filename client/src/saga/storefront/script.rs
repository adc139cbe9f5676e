//! What a storefront says and when it waits, as a plain sequence: the same for the same shop and settings, however
//! often it is made.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::saga::{
    payload::Event,
    retail::{Happening, Scene, Shop},
};

/// One in so many orders is placed twice.
const ORDERS_PER_DOUBLE: u64 = 50;
/// The second placement comes behind fewer other events than this.
const EVENTS_BETWEEN_MAX: u64 = 16;
/// One in so many customers hesitates to cancel.
const CANCELS_PER_LATE: u64 = 2;
/// Who hesitates cancels behind fewer other events than this.
const HESITATION_MAX: u64 = 1_024;

/// What customers do beside what the file says, each by a seed: the choice is the order's own, and does not depend on
/// what else is in the shop.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Habits {
    /// One in 50 orders is placed twice.
    pub(super) doubled: Option<u64>,
    /// Half of the wishes to cancel come later.
    pub(super) hesitant: Option<u64>,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cue<'a> {
    /// Say it.
    Say {
        /// What.
        told: Happening<'a>,
        /// It is the second placement of an order.
        again: bool,
    },
    /// The opening stock was said: wait until it is answered.
    Opened,
    /// Everything of an invoice was said: wait until it has settled.
    Settled(Scene<'a>),
}

/// Everything that is said about this shop, by these habits. By invoice: with a wait behind each.
pub(super) fn script(shop: &Shop, habits: Habits, by_invoice: bool) -> impl Iterator<Item = Cue<'_>> {
    let opening = shop.opening_events().map(|told| Cue::Say { told, again: false });
    let mut later = Later { habits, said: 0, due: BTreeMap::new() };
    let scenes = shop.scenes().map(Some).chain([None]);
    let rest = scenes.flat_map(move |scene| {
        let Some(scene) = scene else { return later.all() };
        let mut cues = Vec::new();
        for told in &scene.events {
            later.say(told, &mut cues);
        }
        if by_invoice {
            cues.extend(later.all());
            cues.push(Cue::Settled(scene));
        }
        cues
    });
    opening.chain([Cue::Opened]).chain(rest)
}

/// What is still to come behind other events: second placements, and wishes of those who hesitate.
struct Later<'a> {
    habits: Habits,
    /// Events of the file so far.
    said: u64,
    /// By the number of events that have to be said before, and then in their order.
    due: BTreeMap<(u64, u64), Cue<'a>>,
}

impl<'a> Later<'a> {
    /// An event of the file, and what is due behind it.
    fn say(&mut self, told: &Happening<'a>, cues: &mut Vec<Cue<'a>>) {
        self.said += 1;
        let once = Cue::Say { told: told.clone(), again: false };
        if let Some(between) = self.hesitation(told) {
            self.due.insert((self.said + between, self.said), once);
        } else {
            cues.push(once);
        }
        if let Some(between) = self.until_doubled(told) {
            self.due.insert((self.said + between, self.said), Cue::Say { told: told.clone(), again: true });
        }
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= self.said) {
            cues.push(entry.remove());
        }
    }

    /// Behind how many other events an order is placed again, if it is.
    fn until_doubled(&self, told: &Happening<'_>) -> Option<u64> {
        let seed = self.habits.doubled.filter(|_| matches!(told.event, Event::OrderPlaced(_)))?;
        draw(told.key, seed, ORDERS_PER_DOUBLE, EVENTS_BETWEEN_MAX)
    }

    /// Behind how many other events somebody cancels who hesitates.
    fn hesitation(&self, told: &Happening<'_>) -> Option<u64> {
        let seed = self.habits.hesitant.filter(|_| matches!(told.event, Event::CancelRequested(_)))?;
        draw(told.key, seed, CANCELS_PER_LATE, HESITATION_MAX)
    }

    /// All that is still to come.
    fn all(&mut self) -> Vec<Cue<'a>> {
        std::mem::take(&mut self.due).into_values().collect()
    }
}

/// For one in so many keys, a number below `max`.
fn draw(key: &str, seed: u64, one_in: u64, max: u64) -> Option<u64> {
    let drawn = xxh3_64_with_seed(key.as_bytes(), seed);
    drawn.is_multiple_of(one_in).then_some(drawn / one_in % max)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// A shop of so many orders, every tenth of which is cancelled at once, and a change of the stock.
    fn shop(orders: u32) -> Shop {
        let mut text = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n".to_owned();
        for number in 1..=orders {
            let _ = writeln!(text, "{number},A{},X,2,2010-12-01 08:26:00,1.0,7,France", number % 7);
            if number % 10 == 0 {
                let _ = writeln!(text, "C{number},A{},X,-1,2010-12-01 08:26:00,1.0,7,France", number % 7);
            }
        }
        let _ = writeln!(text, "{},A1,,-1,2010-12-01 08:26:00,0.0,,France", orders + 1);
        Shop::read_from(text.as_bytes()).expect("it is well formed")
    }

    fn doubling(seed: u64) -> Habits {
        Habits { doubled: Some(seed), ..Habits::default() }
    }

    fn first<'a>(cues: &[Cue<'a>]) -> Vec<Happening<'a>> {
        let first = |cue: &Cue<'a>| match cue {
            Cue::Say { told, again: false } => Some(told.clone()),
            _ => None,
        };
        cues.iter().filter_map(first).collect()
    }

    #[test]
    fn without_second_placements_it_is_the_shop_itself_with_a_wait_behind_the_opening_stock() {
        let shop = shop(40);
        let cues: Vec<_> = script(&shop, Habits::default(), false).collect();
        assert_eq!(first(&cues), shop.events().collect::<Vec<_>>());
        assert_eq!(cues.len(), shop.events().count() + 1);
        assert_eq!(cues[shop.opening.len()], Cue::Opened);
    }

    #[test]
    fn one_in_fifty_orders_is_placed_again_soon_and_the_same() {
        let shop = shop(5_000);
        for seed in [1, 2] {
            let cues: Vec<_> = script(&shop, doubling(seed), false).collect();
            assert_eq!(first(&cues), shop.events().collect::<Vec<_>>(), "seed {seed}");
            let mut at_once = 0;
            let mut doubled = Vec::new();
            for (place, cue) in cues.iter().enumerate() {
                let Cue::Say { told, again: true } = cue else { continue };
                let before =
                    cues[..place].iter().rposition(|cue| *cue == Cue::Say { told: told.clone(), again: false });
                let between = place - before.expect("it was placed before") - 1;
                // Second placements of other orders may stand between as well.
                assert!(between < 2 * EVENTS_BETWEEN_MAX as usize, "seed {seed}: {between} events between");
                at_once += usize::from(between == 0);
                doubled.push(told.key);
            }
            assert!((60..140).contains(&doubled.len()), "seed {seed}: {} of 5,000", doubled.len());
            assert!(at_once > 0, "seed {seed}");
            assert_eq!(cues, script(&shop, doubling(seed), false).collect::<Vec<_>>(), "seed {seed}");
        }
        assert_ne!(
            script(&shop, doubling(1), false).collect::<Vec<_>>(),
            script(&shop, doubling(2), false).collect::<Vec<_>>()
        );
    }

    #[test]
    fn half_of_those_who_cancel_hesitate_and_nothing_else_changes_its_place() {
        let shop = shop(5_000);
        let habits = Habits { hesitant: Some(5), ..Habits::default() };
        let cues: Vec<_> = script(&shop, habits, false).collect();
        let is_cancel = |told: &Happening<'_>| matches!(told.event, Event::CancelRequested(_));
        let (said, file) = (first(&cues), shop.events().collect::<Vec<_>>());
        assert!(said.iter().filter(|told| !is_cancel(told)).eq(file.iter().filter(|told| !is_cancel(told))));
        let place = |of: &[Happening<'_>], wanted: &Happening<'_>| of.iter().position(|told| told == wanted);
        let (mut late, mut at_once) = (0, 0);
        for wish in file.iter().filter(|told| is_cancel(told)) {
            let (before, after) = (place(&file, wish).expect("it is there"), place(&said, wish).expect("it is said"));
            assert!(after.abs_diff(before) <= HESITATION_MAX as usize, "{before} to {after}");
            // Others that hesitate let it come up a little.
            if after > before + 50 { late += 1 } else { at_once += 1 }
        }
        assert!(late > 150 && at_once > 150, "{late} late, {at_once} at once");
    }

    #[test]
    fn by_invoice_everything_of_one_is_said_before_its_wait() {
        let shop = shop(500);
        let mut scenes = shop.scenes();
        let mut said = Vec::new();
        let mut doubled = 0;
        for cue in script(&shop, doubling(3), true).skip(shop.opening.len() + 1) {
            match cue {
                Cue::Say { told, again } if again => {
                    doubled += 1;
                    assert_eq!(said.last(), Some(&told));
                }
                Cue::Say { told, .. } => said.push(told),
                Cue::Settled(scene) => {
                    assert_eq!(scene.events, std::mem::take(&mut said));
                    assert_eq!(Some(scene), scenes.next());
                }
                Cue::Opened => panic!("it is open"),
            }
        }
        assert!(scenes.next().is_none() && said.is_empty() && doubled > 0);
    }
}
