//! A producer and a reader as any shop has them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tillroll_client::Record;
use tokio::{sync::watch, task::JoinHandle};

use crate::broker::{Broker, within};

/// The value of the record behind which both end.
const LAST: &str = "last";

/// Both at work.
pub(crate) struct Good {
    count: watch::Receiver<u64>,
    slowest_us: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    producing: JoinHandle<()>,
    reading: JoinHandle<u64>,
}

impl Good {
    /// One record after the other, each waited for; and all of them are read.
    pub(crate) async fn start(broker: &Broker) -> Self {
        let (slowest_us, stop) = (Arc::<AtomicU64>::default(), Arc::default());
        let (appended, count) = watch::channel(0);
        let client = broker.topic("good", 1).await;
        let producer = client.producer("good").partition(0).build().await.expect("registered");
        let mut reader = client.reader("good").follow(true).open().await.expect("it can be read");
        let (slow, stopped) = (slowest_us.clone(), Arc::<AtomicBool>::clone(&stop));
        let producing = tokio::spawn(async move {
            let mut is_last = false;
            while !is_last {
                is_last = stopped.load(Ordering::Relaxed);
                let began = Instant::now();
                let record = Record::new(if is_last { LAST } else { "good" });
                let ticket = producer.send(record).await.expect("it has room");
                ticket.await.expect("accepted");
                let took = u64::try_from(began.elapsed().as_micros()).expect("small");
                slow.fetch_max(took, Ordering::Relaxed);
                appended.send_modify(|count| *count += 1);
            }
        });
        let reading = tokio::spawn(async move {
            let mut read = 0;
            loop {
                let received = reader.next().await.expect("it goes on").expect("whole");
                read += 1;
                if received.record.value == LAST.as_bytes() {
                    return read;
                }
            }
        });
        Self { count, slowest_us, stop, producing, reading }
    }

    /// Appends that were acked.
    pub(crate) fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// The longest that one took.
    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest_us.load(Ordering::Relaxed))
    }

    /// Waits for so many more.
    pub(crate) async fn appended(&self, more: u64) {
        let until = self.count() + more;
        let mut count = self.count.clone();
        let there = within("the good appends", count.wait_for(|count| *count >= until)).await;
        there.map(drop).expect("it goes on");
    }

    /// Ends both: everything that was acked was read.
    pub(crate) async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        within("the good producer", self.producing).await.expect("it goes on to the end");
        let read = within("the good reader", self.reading).await.expect("it goes on to the end");
        assert_eq!(read, *self.count.borrow());
    }
}
