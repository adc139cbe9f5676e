//! A producer, a reader and a member of a group as any shop has them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tillroll_client::{AssignmentRule, GroupMode, GroupOptions, Position, Record};
use tokio::{sync::watch, task::JoinHandle};

use crate::broker::{Broker, within};

/// The value of the record behind which all of them end.
const LAST: &str = "last";

/// All of them at work.
pub(crate) struct Good {
    count: watch::Receiver<u64>,
    /// What each append took since it was looked at last, in microseconds.
    took_us: Arc<Mutex<Vec<u64>>>,
    stop: Arc<AtomicBool>,
    producing: JoinHandle<()>,
    reading: JoinHandle<u64>,
    consuming: JoinHandle<u64>,
}

impl Good {
    /// One record after the other, each waited for; and all of them are read, and consumed and committed.
    pub(crate) async fn start(broker: &Broker) -> Self {
        let (took_us, stop) = (Arc::<Mutex<Vec<u64>>>::default(), Arc::default());
        let (appended, count) = watch::channel(0);
        let client = broker.topic("good", 1).await;
        let producer = client.producer("good").partition(0).build().await.expect("registered");
        let mut reader = client.reader("good").follow(true).open().await.expect("it can be read");
        let (took, stopped) = (took_us.clone(), Arc::<AtomicBool>::clone(&stop));
        let producing = tokio::spawn(async move {
            let mut is_last = false;
            while !is_last {
                is_last = stopped.load(Ordering::Relaxed);
                let began = Instant::now();
                let record = Record::new(if is_last { LAST } else { "good" });
                let ticket = producer.send(record).await.expect("it has room");
                ticket.await.expect("accepted");
                let us = u64::try_from(began.elapsed().as_micros()).expect("small");
                took.lock().expect("nobody panicked").push(us);
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
        let options = GroupOptions::new(["good"], GroupMode::Members(AssignmentRule::Spread), Position::Earliest);
        client.groups().create("shop", options).await.expect("a group");
        let mut consumer = client.consumer("shop").open().await.expect("it can be consumed");
        let consuming = tokio::spawn(async move {
            let mut done = 0;
            loop {
                let delivery = consumer.next().await.expect("it goes on").expect("whole");
                done += 1;
                let is_last = delivery.received.record.value == LAST.as_bytes();
                drop(delivery.commit());
                if is_last {
                    consumer.close().await.expect("committed");
                    return done;
                }
            }
        });
        Self { count, took_us, stop, producing, reading, consuming }
    }

    /// Appends that were acked.
    pub(crate) fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// What 99 of 100 appends took at most, since it was asked last.
    pub(crate) fn p99(&self) -> Duration {
        let mut took = std::mem::take(&mut *self.took_us.lock().expect("nobody panicked"));
        took.sort_unstable();
        Duration::from_micros(took.get(took.len() * 99 / 100).copied().expect("some appends"))
    }

    /// Waits for so many more.
    pub(crate) async fn appended(&self, more: u64) {
        let until = self.count() + more;
        let mut count = self.count.clone();
        let there = within("the good appends", count.wait_for(|count| *count >= until)).await;
        there.map(drop).expect("it goes on");
    }

    /// Ends all of them: everything that was acked was read and consumed.
    pub(crate) async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        within("the good producer", self.producing).await.expect("it goes on to the end");
        let read = within("the good reader", self.reading).await.expect("it goes on to the end");
        let consumed = within("the good member", self.consuming).await.expect("it goes on to the end");
        assert_eq!((read, consumed), (*self.count.borrow(), *self.count.borrow()));
    }
}
