//! The server: a ledger, a book of its keys, and the faults that it was told to make.
//!
//! A request is decided under one lock, in one go: what it is, what becomes of it, and its line of the ledger, so that
//! the lines stand in the order of their numbers and no key is charged twice. Then it waits for the sync, and only then
//! does its fate take its course.

mod routes;

use std::{
    fmt, io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use thiserror::Error;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    behaviour::{Behaviour, BehaviourFault, Dice, End, Fate},
    book::{Book, Decision, Known},
    charge::{Ask, Key, Operation, Standing, Verdict},
    counts::{Counts, Injected, Kept},
    entry::Entry,
    ledger::{Ledger, LedgerError, Opened},
    listen::Serving,
    reports::{Pending, Reports},
};

/// The content type of everything but the ledger.
pub(crate) const JSON: &str = "application/json";

/// Requests that are charged for at a time; more are turned away.
const REQUESTS_MAX: usize = 4_096;
/// How long requests under way may take once the gateway stops.
const DRAIN: Duration = Duration::from_secs(5);

/// What may be set of a gateway.
#[derive(Clone)]
pub struct ServerSettings {
    /// How it behaves at first.
    pub behaviour: Behaviour,
    /// What the fates of requests are drawn from, with the number of charges that the ledger has at the start.
    pub seed: u64,
    /// Called when the gateway falls over: a charge is in the ledger and not answered. A process of its own exits here.
    /// When it returns, the request is hung up on, and the gateway goes on.
    pub on_fall_over: Arc<dyn Fn() + Send + Sync>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self { behaviour: Behaviour::default(), seed: 0, on_fall_over: Arc::new(|| {}) }
    }
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { behaviour, seed, .. } = self;
        formatter
            .debug_struct("ServerSettings")
            .field("behaviour", behaviour)
            .field("seed", seed)
            .finish_non_exhaustive()
    }
}

/// Why a gateway does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its ledger does not open.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Its behaviour makes no sense.
    #[error(transparent)]
    Behaviour(#[from] BehaviourFault),
    /// The counts beside the ledger do not open.
    #[error("opening the counts beside the ledger")]
    Counts(#[source] io::Error),
    /// The listener has no address.
    #[error("asking for the listener's address")]
    Listener(#[source] io::Error),
}

/// A gateway that takes requests.
///
/// Dropping it is like a kill of the process: connections are cut, and what was not synced is lost, which nobody was
/// told of. [`Server::stop`] ends it in order.
#[derive(Debug)]
pub struct Server {
    serving: Serving,
    gateway: Arc<Gateway>,
    opened: Opened,
    are_counts_lost: bool,
}

impl Server {
    /// Opens the ledger, makes it when it is not there, and takes requests on a listener. Must be called within a
    /// runtime.
    ///
    /// **Durability**: a charge that is answered is synced. **Errors**: when the ledger is damaged, foreign, or open
    /// elsewhere; nothing was changed then.
    pub fn start(listener: TcpListener, ledger: &Path, settings: ServerSettings) -> Result<Self, StartError> {
        settings.behaviour.check()?;
        let (ledger_open, entries, opened) = Ledger::open(ledger)?;
        let (kept, injected) = Kept::open(ledger).map_err(StartError::Counts)?;
        let are_counts_lost = injected.is_none();
        let mut counts = Counts { injected: injected.unwrap_or_default(), ..Counts::default() };
        for entry in &entries {
            counts.charge(entry);
        }
        let till = Till {
            book: Book::of(&entries),
            behaviour: settings.behaviour,
            // Whoever falls over at the n-th request must not fall at the n-th again, each time that it is started.
            dice: Dice::new(settings.seed.wrapping_add(opened.entries)),
            counts,
            kept,
        };
        let gateway = Arc::new(Gateway {
            till: Mutex::new(till),
            ledger: ledger_open,
            reports: Reports::new(),
            slots: Semaphore::new(REQUESTS_MAX),
            stop: CancellationToken::new(),
            on_fall_over: settings.on_fall_over,
        });
        let router = routes::router(&gateway);
        let serving = Serving::start(listener, router, gateway.stop.clone()).map_err(StartError::Listener)?;
        Ok(Self { serving, gateway, opened, are_counts_lost })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// What opening the ledger found.
    pub fn opened(&self) -> Opened {
        self.opened
    }

    /// The file beside the ledger did not read: what is not counted from the ledger is counted anew.
    pub fn are_counts_lost(&self) -> bool {
        self.are_counts_lost
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.gateway.counts()
    }

    /// Takes no more requests, answers those under way within five seconds, and closes the ledger. Those that were to
    /// time out are hung up on; reports that have not gone are not posted.
    pub async fn stop(self) {
        self.serving.stop(DRAIN).await;
        let gateway = Arc::clone(&self.gateway);
        // Blocks for a sync.
        if tokio::task::spawn_blocking(move || gateway.ledger.close()).await.is_err() {
            tracing::error!("the ledger was not closed in order");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.gateway.stop.cancel();
        self.gateway.ledger.kill();
    }
}

/// What the requests share.
pub(crate) struct Gateway {
    till: Mutex<Till>,
    pub(crate) ledger: Ledger,
    pub(crate) reports: Reports,
    slots: Semaphore,
    pub(crate) stop: CancellationToken,
    on_fall_over: Arc<dyn Fn() + Send + Sync>,
}

/// What changes from request to request.
pub(crate) struct Till {
    pub(crate) book: Book,
    behaviour: Behaviour,
    dice: Dice,
    counts: Counts,
    kept: Kept,
}

/// What a request has come to, before the sync.
enum Taken {
    Down,
    Closed(LedgerError),
    Mismatch(Known),
    /// Once the number is synced, this is its answer, or its end.
    Standing {
        number: u64,
        standing: Standing,
        is_repeated: bool,
        fate: Fate,
    },
}

impl Gateway {
    pub(crate) fn till(&self) -> MutexGuard<'_, Till> {
        self.till.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts something that is not in the ledger.
    pub(crate) fn count(&self, add: impl FnOnce(&mut Injected)) {
        self.till().count(add);
    }

    fn counts(&self) -> Counts {
        Counts { syncs: self.ledger.syncs(), ..self.till().counts.clone() }
    }

    /// Decides a request, and charges if there is something to charge.
    fn take(self: &Arc<Self>, operation: Operation, key: Option<&Key>, ask: &Ask<'_>) -> Taken {
        let mut guard = self.till();
        let till = &mut *guard;
        if till.behaviour.down {
            till.count(|injected| injected.unavailable += 1);
            return Taken::Down;
        }
        let fate = till.dice.fate(&till.behaviour);
        match till.book.decide(key, operation, &ask.order, ask.amount) {
            Decision::Mismatch(known) => {
                till.count(|injected| injected.mismatched += 1);
                Taken::Mismatch(known)
            }
            Decision::Repeat { number, standing } => {
                let end = if fate.end == End::TimeOut { End::TimeOut } else { End::Answer };
                Taken::Standing { number, standing, is_repeated: true, fate: Fate { end, ..fate } }
            }
            Decision::Charge { number } => self.charge(till, number, operation, key, ask, fate),
        }
    }

    fn charge(
        self: &Arc<Self>,
        till: &mut Till,
        number: u64,
        operation: Operation,
        key: Option<&Key>,
        ask: &Ask<'_>,
        mut fate: Fate,
    ) -> Taken {
        let is_declined = operation == Operation::Authorize && fate.is_declined;
        let outcome = if is_declined { Verdict::Declined } else { Verdict::Accepted };
        let entry = Entry {
            number,
            key: key.map(|key| key.as_str().to_owned()),
            operation,
            order: ask.order.clone().into_owned(),
            amount: ask.amount,
            outcome,
            time_us: now_us(),
        };
        if let Err(error) = self.ledger.append(&entry) {
            return Taken::Closed(error);
        }
        // Without a key nobody could ever learn the outcome.
        let room = if fate.end == End::Pending { key.and_then(|key| Some((key, self.reports.room()?))) } else { None };
        if fate.end == End::Pending && room.is_none() {
            fate.end = End::Answer;
        }
        till.book.enter(&entry, room.is_some());
        till.counts.charge(&entry);
        if let Some((key, room)) = room {
            till.count(|injected| injected.pending += 1);
            let callback = ask.callback_url.as_deref().and_then(|url| url.parse().ok());
            let pending = Pending { entry, key: key.to_string(), plan: fate.report, callback, _room: room };
            // A task of its own: whoever asked may be gone before the sync.
            tokio::spawn(pending.run(Arc::clone(self)));
            return Taken::Standing { number, standing: Standing::Pending, is_repeated: false, fate };
        }
        Taken::Standing { number, standing: outcome.into(), is_repeated: false, fate }
    }
}

impl Till {
    fn count(&mut self, add: impl FnOnce(&mut Injected)) {
        add(&mut self.counts.injected);
        self.kept.keep(&self.counts.injected);
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gateway").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
