//! Waiting for partitions to have more: one waiter each, and only what woke is looked at again.

use std::{future::Future, pin::Pin, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tillroll_engine::{engine::Engine, id::Lane, id::Offset};

/// A partition that was said to have moved and had not is looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

type Woken = Pin<Box<dyn Future<Output = usize> + Send>>;

/// Partitions at their ends, by their place in the plan.
pub(super) struct Waiting {
    woken: FuturesUnordered<Woken>,
    /// Said to have moved, and not read since.
    is_claimed: Vec<bool>,
}

impl Waiting {
    pub(super) fn new(count: usize) -> Self {
        Self { woken: FuturesUnordered::new(), is_claimed: vec![false; count] }
    }

    /// Waits for a partition to have more than up to `end`. When it was woken for nothing just before (too many wait at
    /// the same partition, say), it is looked at from time to time instead.
    pub(super) fn add(&mut self, engine: &Engine, place: usize, lane: Lane, end: Offset) {
        if self.is_claimed[place] {
            self.woken.push(Box::pin(async move {
                tokio::time::sleep(LOOK_AGAIN).await;
                place
            }));
            return;
        }
        let moved = engine.moved(lane, end);
        self.woken.push(Box::pin(async move {
            moved.await;
            place
        }));
    }

    /// The partition had records: what wakes it next is believed again.
    pub(super) fn had_records(&mut self, place: usize) {
        self.is_claimed[place] = false;
    }

    /// The next partition that is worth a look; never when none waits.
    pub(super) async fn next(&mut self) -> usize {
        match self.woken.next().await {
            Some(place) => {
                self.is_claimed[place] = true;
                place
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tillroll_engine::{
        driver::threads::Running,
        id::{Partition, TopicId},
        settings::Settings,
    };

    use super::*;

    #[tokio::test]
    async fn a_wake_for_nothing_is_believed_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let running = Running::start(directory.path(), Settings::default()).expect("an engine");
        // A topic that is gone wakes everybody, again and again.
        let (engine, gone) = (&running.engine, Lane { topic: TopicId(99), partition: Partition(0) });
        let mut waiting = Waiting::new(1);
        assert_eq!(waiting.next().now_or_never(), None, "nothing waits");
        waiting.add(engine, 0, gone, Offset(0));
        assert_eq!(waiting.next().now_or_never(), Some(0));
        waiting.add(engine, 0, gone, Offset(0));
        assert_eq!(waiting.next().now_or_never(), None, "not at once again");
        assert_eq!(waiting.next().await, 0);
        waiting.had_records(0);
        waiting.add(engine, 0, gone, Offset(0));
        assert_eq!(waiting.next().now_or_never(), Some(0), "believed again");
        running.stop();
    }
}
