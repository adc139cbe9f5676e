//! How placements fared: the time from handing an order to the log until it is known to be on disk, apart for the time
//! before something went away, while it was away, and afterwards, when what waited for it is made up for.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::Notify;

/// What is known so far, shared with whoever hears of placements.
#[derive(Clone, Default)]
pub(super) struct Placements {
    known: Arc<Mutex<Known>>,
    news: Arc<Notify>,
}

#[derive(Default)]
struct Known {
    is_disturbed: bool,
    undisturbed: Vec<Duration>,
    disturbed: Vec<Duration>,
    afterwards: Vec<Duration>,
}

/// Times of placements, in order of length.
#[derive(Default)]
pub(super) struct Taken {
    /// Before something went away.
    pub(super) undisturbed: Vec<Duration>,
    /// While it was away.
    pub(super) disturbed: Vec<Duration>,
    /// Once it was back.
    afterwards: Vec<Duration>,
}

impl Placements {
    /// Hears of each placement.
    pub(super) fn listener(&self) -> impl Fn(Duration) + Send + Sync + 'static {
        let placements = self.clone();
        move |took| {
            placements.change(|known| {
                let times = match (known.is_disturbed, known.disturbed.is_empty()) {
                    (true, _) => &mut known.disturbed,
                    (false, true) => &mut known.undisturbed,
                    (false, false) => &mut known.afterwards,
                };
                times.push(took);
            });
            placements.news.notify_waiters();
        }
    }

    /// Waits until so many are placed.
    pub(super) async fn until(&self, count: usize) {
        loop {
            let news = self.news.notified();
            if self.change(|known| known.undisturbed.len() + known.disturbed.len()) >= count {
                return;
            }
            news.await;
        }
    }

    /// From now on something is away.
    pub(super) fn disturb(&self) {
        self.change(|known| known.is_disturbed = true);
    }

    /// From now on everything is there.
    pub(super) fn calm(&self) {
        self.change(|known| known.is_disturbed = false);
    }

    /// What is known by now.
    pub(super) fn taken(&self) -> Taken {
        let in_order = |times: &[Duration]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            times
        };
        self.change(|known| Taken {
            undisturbed: in_order(&known.undisturbed),
            disturbed: in_order(&known.disturbed),
            afterwards: in_order(&known.afterwards),
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Taken {
    /// As objects of JSON.
    pub(super) fn object(&self) -> Value {
        let some = |times: &[Duration]| (!times.is_empty()).then(|| object(times));
        let (disturbed, afterwards) = (some(&self.disturbed), some(&self.afterwards));
        json!({ "undisturbed": object(&self.undisturbed), "gateway_down": disturbed, "afterwards": afterwards })
    }

    /// The time by which 99 % of the placements were on disk, in milliseconds, undisturbed and disturbed.
    pub(super) fn p99(&self) -> (f64, f64) {
        (ms(quantile(&self.undisturbed, 99)), ms(quantile(&self.disturbed, 99)))
    }
}

fn object(times: &[Duration]) -> Value {
    let (p50, p99) = (ms(quantile(times, 50)), ms(quantile(times, 99)));
    json!({ "count": times.len(), "p50": p50, "p99": p99 })
}

/// The time by which so many percent were done; 0 when there are none.
fn quantile(times: &[Duration], percent: usize) -> Duration {
    let rank = (times.len() * percent).div_ceil(100);
    rank.checked_sub(1).and_then(|index| times.get(index)).copied().unwrap_or_default()
}

/// Milliseconds, to a hundredth.
fn ms(time: Duration) -> f64 {
    let hundredths = u32::try_from(time.as_micros() / 10).unwrap_or(u32::MAX);
    f64::from(hundredths) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn times_are_kept_apart_and_in_order() {
        let placements = Placements::default();
        let listener = placements.listener();
        (1..=200).rev().for_each(|ms| listener(Duration::from_millis(ms)));
        placements.until(200).await;
        placements.disturb();
        listener(Duration::from_millis(7));
        placements.calm();
        listener(Duration::from_millis(300));
        let taken = placements.taken();
        assert_eq!((taken.undisturbed.len(), taken.disturbed.len(), taken.afterwards.len()), (200, 1, 1));
        assert_eq!(taken.p99(), (198.0, 7.0));
        assert_eq!(taken.object()["undisturbed"]["p50"], 100.0);
        assert_eq!(taken.object()["afterwards"]["p50"], 300.0);
        assert_eq!(Placements::default().taken().p99(), (0.0, 0.0));
        assert_eq!(Placements::default().taken().object()["gateway_down"], Value::Null);
    }
}
