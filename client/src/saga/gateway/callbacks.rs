//! The callback listener of a payment service: takes reports of outcomes, and wakes whoever waits for them.
//!
//! A report may come late, twice, out of order, or for a key that nobody here asked with. It is believed only when
//! somebody waits for its key with the same operation and amount; everything else is counted, and harmless. What must
//! stay true: a report is never needed, as asking again tells the same.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use http::StatusCode;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    charge::{Key, Operation, Report, Verdict},
    listen::Serving,
};

/// Keys that were waited for and are remembered, so that a late report is told from an unknown one.
const SETTLED_MAX: usize = 65_536;
/// How long reports under way may take once the listener stops.
const DRAIN: Duration = Duration::from_secs(1);

/// A listener for reports. Cheap to clone; dropping the last clone closes it.
#[derive(Clone, Debug)]
pub struct Callbacks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    serving: Serving,
    url: String,
    desk: Arc<Desk>,
}

/// What became of the reports that came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallbackCounts {
    /// Told somebody what he waited for.
    pub used: u64,
    /// Came when the outcome was known already, or was not waited for any more.
    pub late: u64,
    /// Came again.
    pub doubled: u64,
    /// Of a key that was not asked with here, as far as is remembered.
    pub unknown: u64,
    /// Of a key that is waited for, but of another operation or amount. Not believed.
    pub mismatched: u64,
    /// Not understood.
    pub malformed: u64,
    /// Of all these, those that came behind the report of a later charge.
    pub out_of_order: u64,
}

/// What a report told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) verdict: Verdict,
    pub(crate) charge: u64,
}

/// Where those that wait are found.
#[derive(Debug, Default)]
struct Desk {
    state: Mutex<Waitlist>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Waitlist {
    waiting: HashMap<Key, Vec<Waiting>>,
    /// By the hash of its key, whether a report of it came.
    settled: HashMap<u64, bool>,
    /// The same, oldest first.
    ages: VecDeque<u64>,
    /// The highest number of a charge that was reported.
    newest: u64,
    counts: CallbackCounts,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    operation: Operation,
    amount: u64,
    teller: oneshot::Sender<Told>,
}

impl Callbacks {
    /// Takes reports on a listener, whose address the gateway must be able to reach. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// When the listener has no address.
    pub fn start(listener: TcpListener) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let router = Router::new().route("/v1/reports", post(take)).with_state(Arc::clone(&desk));
        let serving = Serving::start(listener, router, CancellationToken::new())?;
        let url = format!("http://{}/v1/reports", serving.address());
        Ok(Self { inner: Arc::new(Inner { serving, url, desk }) })
    }

    /// Where reports are posted.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// What became of the reports so far.
    pub fn counts(&self) -> CallbackCounts {
        self.inner.desk.lock().counts.clone()
    }

    /// Takes no more reports. Whoever waits for one goes on asking.
    pub async fn stop(&self) {
        self.inner.serving.stop(DRAIN).await;
    }

    /// From now on a report of this key is for the holder of what this gives.
    pub(crate) fn expect(&self, key: &Key, operation: Operation, amount: u64) -> Expected {
        let desk = Arc::clone(&self.inner.desk);
        let id = desk.next.fetch_add(1, Ordering::Relaxed);
        let (teller, told) = oneshot::channel();
        desk.lock().waiting.entry(key.clone()).or_default().push(Waiting { id, operation, amount, teller });
        Expected { desk, key: key.clone(), id, told }
    }
}

/// Somebody who waits for a report. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Expected {
    desk: Arc<Desk>,
    key: Key,
    id: u64,
    told: oneshot::Receiver<Told>,
}

impl Expected {
    /// The report. Can be dropped and called again until it has come.
    pub(crate) async fn told(&mut self) -> Told {
        match (&mut self.told).await {
            Ok(told) => told,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut list = self.desk.lock();
        if let Some(all) = list.waiting.get_mut(&self.key) {
            all.retain(|waiting| waiting.id != self.id);
            if all.is_empty() {
                list.waiting.remove(&self.key);
            }
        }
        list.settle(&self.key, false);
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Waitlist> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waitlist {
    /// Remembers a key, and whether a report of it came.
    fn settle(&mut self, key: &Key, is_reported: bool) {
        let hash = xxh3_64(key.as_str().as_bytes());
        if let Some(known) = self.settled.get_mut(&hash) {
            *known |= is_reported;
            return;
        }
        if self.ages.len() == SETTLED_MAX
            && let Some(oldest) = self.ages.pop_front()
        {
            self.settled.remove(&oldest);
        }
        self.settled.insert(hash, is_reported);
        self.ages.push_back(hash);
    }

    fn report(&mut self, key: &Key, report: &Report<'_>) {
        self.counts.out_of_order += u64::from(report.charge < self.newest);
        self.newest = self.newest.max(report.charge);
        if let Some(all) = self.waiting.remove(key) {
            let is_same = |waiting: &Waiting| (waiting.operation, waiting.amount) == (report.operation, report.amount);
            let (right, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_same);
            if right.is_empty() {
                self.counts.mismatched += 1;
            } else {
                self.counts.used += 1;
                self.settle(key, true);
            }
            for waiting in right {
                // He may have learnt it otherwise in this moment.
                let _ = waiting.teller.send(Told { verdict: report.outcome, charge: report.charge });
            }
            if !others.is_empty() {
                self.waiting.insert(key.clone(), others);
            }
            return;
        }
        match self.settled.get(&xxh3_64(key.as_str().as_bytes())) {
            None => self.counts.unknown += 1,
            Some(false) => {
                self.counts.late += 1;
                self.settle(key, true);
            }
            Some(true) => self.counts.doubled += 1,
        }
    }
}

async fn take(State(desk): State<Arc<Desk>>, body: Bytes) -> (StatusCode, &'static str) {
    let report = serde_json::from_slice::<Report<'_>>(&body).ok();
    let read = report.and_then(|report| Some((report.key.parse::<Key>().ok()?, report)));
    let mut list = desk.lock();
    let Some((key, report)) = read else {
        list.counts.malformed += 1;
        return (StatusCode::BAD_REQUEST, r#"{"error":"the report is not what is expected"}"#);
    };
    list.report(&key, &report);
    (StatusCode::OK, "{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn callbacks() -> Callbacks {
        Callbacks::start(TcpListener::bind("127.0.0.1:0").await.unwrap()).unwrap()
    }

    fn report(key: &Key, amount: u64, charge: u64) -> Report<'_> {
        let (operation, outcome) = (Operation::Capture, Verdict::Accepted);
        Report { key: key.as_str().into(), operation, amount, outcome, charge }
    }

    #[tokio::test]
    async fn a_report_wakes_all_that_wait_for_its_key_and_only_those() {
        let callbacks = callbacks().await;
        let (key, other): (Key, Key) = ("capture:1".parse().unwrap(), "capture:2".parse().unwrap());
        let mut first = callbacks.expect(&key, Operation::Capture, 100);
        let mut second = callbacks.expect(&key, Operation::Capture, 100);
        let mut stranger = callbacks.expect(&other, Operation::Capture, 100);
        callbacks.inner.desk.lock().report(&key, &report(&key, 100, 7));
        let told = Told { verdict: Verdict::Accepted, charge: 7 };
        assert_eq!((first.told().await, second.told().await), (told, told));
        assert!(stranger.told.try_recv().is_err());
        assert_eq!(callbacks.counts(), CallbackCounts { used: 1, ..CallbackCounts::default() });
    }

    #[tokio::test]
    async fn reports_that_nobody_waits_for_are_told_apart() {
        let callbacks = callbacks().await;
        let key: Key = "capture:1".parse().unwrap();
        let list = || callbacks.inner.desk.lock();
        list().report(&key, &report(&key, 100, 5));
        assert_eq!(callbacks.counts(), CallbackCounts { unknown: 1, ..CallbackCounts::default() });
        let mut expected = callbacks.expect(&key, Operation::Capture, 100);
        list().report(&key, &report(&key, 101, 6));
        assert!(expected.told.try_recv().is_err(), "another amount is not believed");
        drop(expected);
        list().report(&key, &report(&key, 100, 4));
        list().report(&key, &report(&key, 100, 4));
        let expected =
            CallbackCounts { unknown: 1, mismatched: 1, late: 1, doubled: 1, out_of_order: 2, ..Default::default() };
        assert_eq!(callbacks.counts(), expected);
        assert!(list().waiting.is_empty());
    }

    #[tokio::test]
    async fn the_memory_of_settled_keys_is_bounded() {
        let callbacks = callbacks().await;
        for number in 0..SETTLED_MAX + 10 {
            drop(callbacks.expect(&format!("capture:{number}").parse().unwrap(), Operation::Capture, 1));
        }
        let list = callbacks.inner.desk.lock();
        assert_eq!((list.settled.len(), list.ages.len(), list.waiting.len()), (SETTLED_MAX, SETTLED_MAX, 0));
    }
}
