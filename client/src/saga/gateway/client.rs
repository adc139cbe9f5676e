//! The client of a payment service: asks until it knows.
//!
//! What must stay true: all tries of a charge carry one key; only an answer or a report of the gateway makes an
//! outcome, and nothing that goes wrong on the way does. So a charge ends accepted, declined, refused as a request, or
//! not at all.

mod trouble;
mod wire;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

pub use trouble::Trouble;
use trouble::{Place, Troubles};
pub use wire::{Refusal, Unknown};
use wire::{Tried, Wire, unexpected, unreachable, words};

use super::{
    behaviour::Behaviour,
    callbacks::{Callbacks, Expected, Told},
    charge::{Ask, Key, Operation, Standing, Verdict},
    counts::Counts,
    entry::Entry,
};

/// What may be set of a client.
#[derive(Clone, Copy, Debug)]
pub struct ClientSettings {
    /// How long a try may take.
    pub try_timeout: Duration,
    /// Tries at a time; more wait for their turn. A gateway that times out holds a place for `try_timeout`.
    pub in_flight_max: usize,
    /// The wait behind the first failed try. It doubles with each, and some chance is added.
    pub delay_min: Duration,
    /// The longest wait between tries.
    pub delay_max: Duration,
    /// How long a report is waited for, where there are callbacks, before a pending outcome is asked for again.
    pub report_patience: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            try_timeout: Duration::from_secs(2),
            in_flight_max: 512,
            delay_min: Duration::from_millis(20),
            delay_max: Duration::from_secs(2),
            report_patience: Duration::from_secs(1),
        }
    }
}

/// A charge to be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// What is asked.
    pub operation: Operation,
    /// The order's name.
    pub order: &'a str,
    /// The part of the order that it is for, such as a return.
    pub request: Option<&'a str>,
    /// Pence, more than 0.
    pub amount: u64,
}

impl Charge<'_> {
    /// The key that names it.
    ///
    /// **Errors**: when the names do not make a key.
    pub fn key(&self) -> Result<Key, super::KeyFault> {
        Key::new(self.operation, self.order, self.request)
    }
}

/// How a charge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Accepted or declined, for good.
    pub verdict: Verdict,
    /// The gateway's number of the charge.
    pub charge: u64,
    /// The answer came from the gateway's memory: the key had been asked with before, by this call or another one.
    pub repeated: bool,
    /// A report told it, not an answer.
    pub reported: bool,
    /// Tries that told nothing before.
    pub attempts: u32,
}

/// Why something about the gateway was not learnt. Nothing rests on it; try again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No answer, or one that says nothing.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// What was sent is refused.
    #[error("the gateway refuses it: {what}")]
    Refused {
        /// In the gateway's words.
        what: String,
    },
}

/// A gateway, as a payment service sees it. Cheap to clone; clones share connection, bounds and troubles.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use tillroll_client::saga::gateway::{Charge, Client, ClientSettings, Operation, Verdict};
/// let client = Client::new("127.0.0.1:7430".parse()?, ClientSettings::default());
/// let charge = Charge { operation: Operation::Authorize, order: "536365", request: None, amount: 13_912 };
/// let outcome = client.charge(&charge.key()?, charge).await?;
/// if outcome.verdict == Verdict::Accepted {
///     println!("held 139.12, charge {}", outcome.charge);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    wire: Wire,
    settings: ClientSettings,
    callbacks: Option<Callbacks>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    places: Semaphore,
    troubles: Troubles,
}

impl Client {
    /// A client of the gateway at this address. It connects when it is asked something.
    ///
    /// # Panics
    ///
    /// When nothing may be in flight.
    pub fn new(address: SocketAddr, settings: ClientSettings) -> Self {
        assert!(settings.in_flight_max > 0, "a try needs a place");
        let shared = Shared { places: Semaphore::new(settings.in_flight_max), troubles: Troubles::default() };
        Self { wire: Wire::new(address), settings, callbacks: None, shared: Arc::new(shared) }
    }

    /// Has pending outcomes reported there.
    #[must_use]
    pub fn with_callbacks(self, callbacks: Callbacks) -> Self {
        Self { callbacks: Some(callbacks), ..self }
    }

    /// Charges, and returns when the outcome is known: asks again with the same key, for as long as it takes. The key
    /// should be [`Charge::key`]; it is taken apart from the charge so that whoever plants a wrong one can.
    ///
    /// **Cancelling**: when this future is dropped, it may have been charged or not; the same charge asked again, now
    /// or after a restart, tells. **Errors**: when the request as such is refused, which charged nothing. An outcome
    /// that is not known is no error, and never a decline.
    pub async fn charge(&self, key: &Key, charge: Charge<'_>) -> Result<Outcome, Refusal> {
        if charge.amount == 0 {
            return Err(Refusal::NoAmount);
        }
        // Expected before it is asked: a report may be faster than the answer.
        let callbacks = self.callbacks.as_ref();
        let mut expected = callbacks.map(|callbacks| callbacks.expect(key, charge.operation, charge.amount));
        let body = body(charge, callbacks.map(Callbacks::url));
        let mut trying = Trying {
            client: self,
            key,
            charge,
            since: SystemTime::now(),
            attempts: 0,
            delays: self.delays(),
            place: Place::new(&self.shared.troubles),
        };
        loop {
            let tried = tokio::select! {
                report = reported(&mut expected) => return Ok(trying.told(&report)),
                tried = self.try_once(charge.operation, key, body.clone()) => tried,
            };
            let unknown = match tried {
                Tried::Known { verdict, charge, is_repeated: repeated } => {
                    let attempts = trying.attempts;
                    return Ok(Outcome { verdict, charge, repeated, reported: false, attempts });
                }
                Tried::Refused(refusal) => return Err(refusal),
                Tried::Unknown(unknown) => unknown,
            };
            let delay = trying.failed(unknown);
            tokio::select! {
                report = reported(&mut expected) => return Ok(trying.told(&report)),
                () = sleep(delay) => {}
            }
        }
    }

    /// What is asked for again and again, oldest first.
    pub fn trouble(&self) -> Vec<Trouble> {
        self.shared.troubles.all()
    }

    /// What the gateway knows of a key; none when it has not charged under it.
    ///
    /// **Errors**: when it does not say.
    pub async fn outcome(&self, key: &Key) -> Result<Option<Standing>, QueryError> {
        #[derive(serde::Deserialize)]
        struct Known {
            outcome: Standing,
        }
        let path = format!("/v1/outcomes/{}", encoded(key.as_str()));
        let (status, body) = self.query(&path, None).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        read::<Known>(status, &body).map(|known| Some(known.outcome))
    }

    /// What the gateway has done so far.
    ///
    /// **Errors**: when it does not say.
    pub async fn counts(&self) -> Result<Counts, QueryError> {
        let (status, body) = self.query("/v1/counts", None).await?;
        read(status, &body)
    }

    /// Changes how the gateway behaves: the fields that are named, such as `{"down": true}`, and no others. Gives the
    /// whole behaviour.
    ///
    /// **Errors**: when it is refused, or the gateway does not say.
    pub async fn behave(&self, changes: &impl Serialize) -> Result<Behaviour, QueryError> {
        let refused = |error: serde_json::Error| QueryError::Refused { what: error.to_string() };
        let changes = serde_json::to_vec(changes).map_err(refused)?;
        let (status, body) = self.query("/v1/behaviour", Some(changes.into())).await?;
        read(status, &body)
    }

    /// The whole ledger, as far as it is synced, in the order of charging.
    ///
    /// **Errors**: when it cannot be read to its end. **Cost**: all of it in memory, about 200 bytes a charge.
    pub async fn ledger(&self) -> Result<Vec<Entry>, QueryError> {
        let garbled = |error: serde_json::Error| Unknown::Garbled { what: error.to_string() };
        let mut body = self.wire.open("/v1/ledger").await?;
        let (mut entries, mut rest) = (Vec::new(), Vec::new());
        // Silence for the time of a try ends it; the whole may take longer.
        while let Some(frame) = self.within(body.frame()).await? {
            let frame = frame.map_err(|error| unreachable(&error))?;
            rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
            let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            for line in rest[..whole].split_inclusive(|byte| *byte == b'\n') {
                entries.push(serde_json::from_slice(line).map_err(garbled)?);
            }
            rest.drain(..whole);
        }
        if !rest.is_empty() {
            return Err(Unknown::Garbled { what: "the last line has no end".to_owned() }.into());
        }
        Ok(entries)
    }

    async fn query(&self, path: &str, body: Option<Bytes>) -> Result<(StatusCode, Bytes), Unknown> {
        self.within(self.wire.call(path, body)).await?
    }

    /// One try. Giving up on it ends it on the way, too.
    async fn try_once(&self, operation: Operation, key: &Key, body: Bytes) -> Tried {
        let _place = self.shared.places.acquire().await.expect("places are never closed");
        let tried = self.within(self.wire.charge(operation, Some(key), body)).await;
        tried.unwrap_or_else(Tried::Unknown)
    }

    async fn within<T>(&self, asking: impl Future<Output = T>) -> Result<T, Unknown> {
        let within = self.settings.try_timeout;
        timeout(within, asking).await.map_err(|_| Unknown::TimedOut { within })
    }

    fn delays(&self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.settings.delay_min)
            .with_max_delay(self.settings.delay_max)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times()
            .build()
    }
}

/// A charge under way.
struct Trying<'a> {
    client: &'a Client,
    key: &'a Key,
    charge: Charge<'a>,
    since: SystemTime,
    attempts: u32,
    delays: ExponentialBackoff,
    place: Place<'a>,
}

impl Trying<'_> {
    /// A try told nothing. How long to wait before the next.
    fn failed(&mut self, last: Unknown) -> Duration {
        let ClientSettings { delay_max, report_patience, .. } = self.client.settings;
        let is_reported = matches!(last, Unknown::Pending { .. }) && self.client.callbacks.is_some();
        self.attempts = self.attempts.saturating_add(1);
        let Charge { operation, order, amount, .. } = self.charge;
        let (key, order, attempts, since) = (self.key.clone(), order.to_owned(), self.attempts, self.since);
        self.place.set(Trouble { key, operation, order, amount, attempts, since, last });
        let delay = self.delays.next().unwrap_or(delay_max);
        if is_reported { delay.max(report_patience) } else { delay }
    }

    fn told(&self, report: &Told) -> Outcome {
        let Told { verdict, charge } = *report;
        Outcome { verdict, charge, repeated: false, reported: true, attempts: self.attempts }
    }
}

/// A report, when one comes; never without callbacks.
async fn reported(expected: &mut Option<Expected>) -> Told {
    match expected {
        Some(expected) => expected.told().await,
        None => std::future::pending().await,
    }
}

fn body(charge: Charge<'_>, callback_url: Option<&str>) -> Bytes {
    let Charge { order, request, amount, .. } = charge;
    let ask = Ask {
        amount,
        order: order.into(),
        request: request.map(Into::into),
        callback_url: callback_url.map(Into::into),
    };
    serde_json::to_vec(&ask).expect("names and numbers have a text").into()
}

fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, QueryError> {
    match status {
        StatusCode::OK => {
            serde_json::from_slice(body).map_err(|error| Unknown::Garbled { what: error.to_string() }.into())
        }
        StatusCode::BAD_REQUEST => Err(QueryError::Refused { what: words(body) }),
        _ => Err(unexpected(status, body).into()),
    }
}

/// A key as a part of a path.
fn encoded(key: &str) -> String {
    let mut path = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => path.push(char::from(byte)),
            _ => path.extend(['%', digit(byte >> 4), digit(byte & 0xF)]),
        }
    }
    path
}

fn digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}
