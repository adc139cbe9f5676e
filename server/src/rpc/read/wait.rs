//! Waiting for partitions to have more: one waiter each, and only what woke is looked at again.

use std::{collections::BTreeSet, future::Future, pin::Pin, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tillroll_engine::{engine::Engine, id::Lane, id::Offset};

/// A partition that was said to have moved and had not is looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

type Woken<K> = Pin<Box<dyn Future<Output = K> + Send>>;

/// Partitions at their ends, by the name that their reader has for them.
pub(in crate::rpc) struct Waiting<K> {
    woken: FuturesUnordered<Woken<K>>,
    /// Said to have moved, and not read since.
    claimed: BTreeSet<K>,
}

impl<K> Default for Waiting<K> {
    fn default() -> Self {
        Self { woken: FuturesUnordered::new(), claimed: BTreeSet::new() }
    }
}

impl<K: Copy + Ord + Send + 'static> Waiting<K> {
    /// Waits for a partition to have more than up to `end`. When it was woken for nothing just before (too many wait at
    /// the same partition, say), it is looked at from time to time instead.
    pub(in crate::rpc) fn add(&mut self, engine: &Engine, name: K, lane: Lane, end: Offset) {
        if self.claimed.contains(&name) {
            return self.add_later(name, LOOK_AGAIN);
        }
        let moved = engine.moved(lane, end);
        self.woken.push(Box::pin(async move {
            moved.await;
            name
        }));
    }

    /// Looks at a partition again after this long.
    pub(in crate::rpc) fn add_later(&mut self, name: K, after: Duration) {
        self.woken.push(Box::pin(async move {
            tokio::time::sleep(after).await;
            name
        }));
    }

    /// The partition had records: what wakes it next is believed again.
    pub(in crate::rpc) fn had_records(&mut self, name: K) {
        self.claimed.remove(&name);
    }

    /// The next partition that is worth a look; never when none waits.
    pub(in crate::rpc) async fn next(&mut self) -> K {
        match self.woken.next().await {
            Some(name) => {
                self.claimed.insert(name);
                name
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
        let mut waiting = Waiting::default();
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
