//! Reports: outcomes that were pending, posted to whoever asked, as late, doubled and out of order as it was drawn.
//!
//! A report may come more often than it was meant to, as its answer can be lost; and it may be lost itself, with the
//! process or with the callback. The ledger has the outcome, and asking again finds it. What must stay true: nothing is
//! told before its line is synced.

use std::{sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use http::{Request, Uri, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use super::{
    behaviour::Plan,
    charge::Report,
    entry::Entry,
    server::{Gateway, JSON},
};

/// Outcomes that are pending at a time. What would be one more is answered at once.
const PENDING_MAX: usize = 10_000;
/// How often a report is posted until a callback takes it.
const TRIES_MAX: usize = 5;
/// How long a callback may take to take one.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a report waits to be overtaken.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(2);

/// The way out.
#[derive(Debug)]
pub(crate) struct Reports {
    client: Client<HttpConnector, Full<Bytes>>,
    room: Arc<Semaphore>,
    /// The highest number of a charge that was reported.
    newest: watch::Sender<u64>,
}

impl Reports {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Self { client, room: Arc::new(Semaphore::new(PENDING_MAX)), newest: watch::Sender::new(0) }
    }

    /// Room for one more pending outcome.
    pub(crate) fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    /// Posts a report until the callback has taken it, or it is given up.
    async fn post(&self, url: &Uri, body: &Bytes) -> bool {
        let post = || async {
            let request = Request::post(url).header(CONTENT_TYPE, JSON).body(Full::new(body.clone())).map_err(drop)?;
            let response = timeout(TRY_TIMEOUT, self.client.request(request)).await.map_err(drop)?;
            if response.map_err(drop)?.status().is_success() { Ok(()) } else { Err(()) }
        };
        let delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_times(TRIES_MAX - 1)
            .with_jitter();
        post.retry(delays).await.is_ok()
    }
}

/// A pending charge until its outcome is known, and reported where there is somebody to report to.
pub(crate) struct Pending {
    pub(crate) entry: Entry,
    pub(crate) key: String,
    pub(crate) plan: Plan,
    pub(crate) callback: Option<Uri>,
    pub(crate) _room: OwnedSemaphorePermit,
}

impl Pending {
    /// Sees it through. Ends early when the gateway stops.
    pub(crate) async fn run(self, gateway: Arc<Gateway>) {
        tokio::select! {
            () = gateway.stop.cancelled() => {}
            () = self.settle(&gateway) => {}
        }
    }

    async fn settle(&self, gateway: &Gateway) {
        if gateway.ledger.synced(self.entry.number).await.is_err() {
            return;
        }
        sleep(self.plan.due).await;
        gateway.till().book.settle(&self.key);
        if let Some(callback) = &self.callback {
            self.report(gateway, callback).await;
        }
    }

    async fn report(&self, gateway: &Gateway, callback: &Uri) {
        let (reports, number) = (&gateway.reports, self.entry.number);
        if let Some(late) = self.plan.late {
            sleep(late).await;
        }
        let is_overtaken = self.plan.is_out_of_order
            && timeout(OVERTAKEN_WITHIN, reports.newest.subscribe().wait_for(|newest| *newest > number)).await.is_ok();
        let body = self.body();
        for copy in 0..=u8::from(self.plan.is_doubled) {
            let is_taken = reports.post(callback, &body).await;
            reports
                .newest
                .send_if_modified(|newest| is_taken && std::mem::replace(newest, number.max(*newest)) < number);
            gateway.count(|injected| {
                injected.reports_failed += u64::from(!is_taken);
                injected.reports += u64::from(is_taken);
                injected.reports_late += u64::from(is_taken && self.plan.late.is_some());
                injected.reports_doubled += u64::from(is_taken && copy > 0);
                injected.reports_out_of_order += u64::from(is_taken && is_overtaken && copy == 0);
            });
        }
    }

    fn body(&self) -> Bytes {
        let report = Report {
            key: self.key.as_str().into(),
            operation: self.entry.operation,
            amount: self.entry.amount,
            outcome: self.entry.outcome,
            charge: self.entry.number,
        };
        serde_json::to_vec(&report).expect("names and numbers have a text").into()
    }
}
