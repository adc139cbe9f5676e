//! The storefront: tells the log what happens in a shop, once and in order, and goes on where it stood when it is
//! started again.
//!
//! What it says is a script, made of the shop and the settings alone. Each of its two topics has a producer with a
//! name, and the log knows how many records came under that name: a storefront that was killed leaves out as many of
//! its script. So it must be started again with the same shop and settings; only the ids of what was not in the log
//! yet are others.

mod line;
mod script;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{
    payload::{Event, group, topic},
    retail::{Happening, Scene, Shop},
};
use crate::{Client, Error, ErrorKind, ProducerBuilder, Record, processor::Fact as _};
use line::Line;
use script::{Cue, Habits, script};

/// The media type of all payloads.
const CONTENT_TYPE: &str = "application/json";

/// Is told how long each placement took.
type Acked = Arc<dyn Fn(Duration) + Send + Sync>;

/// Settings of a [`Storefront`].
pub struct StorefrontBuilder {
    client: Client,
    name: String,
    habits: Habits,
    orders_per_s: Option<f64>,
    gate: Option<Arc<Semaphore>>,
    acked: Option<Acked>,
    in_flight_bytes: usize,
    retry_for: Duration,
    ids: Box<dyn FnMut() -> String + Send>,
}

impl fmt::Debug for StorefrontBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("StorefrontBuilder");
        debug.field("name", &self.name).field("habits", &self.habits);
        debug.field("orders_per_s", &self.orders_per_s).finish_non_exhaustive()
    }
}

impl StorefrontBuilder {
    /// What its producers are called, before a point and the topic; `storefront` unless set.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// One in 50 orders is placed twice, chosen by this seed: the second placement is the first but for its id, and
    /// comes at once or after a few other events. Unless set, none is.
    #[must_use]
    pub fn doubled(mut self, seed: u64) -> Self {
        self.habits.doubled = Some(seed);
        self
    }

    /// Half of the wishes to cancel, chosen by this seed, come only behind up to a thousand other events, so that many
    /// find their order decided. Unless set, all come where the file has them.
    #[must_use]
    pub fn hesitant(mut self, seed: u64) -> Self {
        self.habits.hesitant = Some(seed);
        self
    }

    /// How many orders are placed each second, at most; as many as the log takes unless set. What was late is made up
    /// for.
    #[must_use]
    pub fn orders_per_s(mut self, rate: f64) -> Self {
        self.orders_per_s = Some(rate);
        self
    }

    /// Each order takes a permit of this and keeps it: whoever adds permits says when orders come. Unless set, they
    /// come by themselves.
    #[must_use]
    pub fn gate(mut self, gate: Arc<Semaphore>) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Is called for each placement that is on disk, with the time from handing it over until that was known.
    #[must_use]
    pub fn on_placed(mut self, acked: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        self.acked = Some(Arc::new(acked));
        self
    }

    /// The most bytes of each topic that wait or are unanswered; 2 MiB unless set.
    #[must_use]
    pub fn in_flight_bytes(mut self, bytes: usize) -> Self {
        self.in_flight_bytes = bytes;
        self
    }

    /// How long it tries without any success before it gives up; two minutes unless set.
    #[must_use]
    pub fn retry_for(mut self, budget: Duration) -> Self {
        self.retry_for = budget;
        self
    }

    /// Where the ids of events come from; UUIDv7 unless set.
    #[must_use]
    pub fn ids(mut self, ids: impl FnMut() -> String + Send + 'static) -> Self {
        self.ids = Box::new(ids);
        self
    }

    /// Registers its producers, which fences an older storefront of this name, and asks how far that one came.
    ///
    /// **Errors**: `InvalidInput` for a rate that is none; as for a producer otherwise.
    pub async fn open(self) -> Result<Storefront, Error> {
        if let Some(rate) = self.orders_per_s
            && !(rate.is_finite() && rate > 0.0)
        {
            let wrong = format!("orders per second are a number above 0 orders_per_s={rate}");
            return Err(Error::local(ErrorKind::InvalidInput, wrong));
        }
        let orders = Line::open(self.producer(topic::ORDERS)).await?;
        let stock = Line::open(self.producer(topic::STOCK)).await?;
        let pace = Pace { orders_per_s: self.orders_per_s, since: None, placed: 0, gate: self.gate };
        let (habits, ids, played) = (self.habits, self.ids, Played::default());
        Ok(Storefront { orders, stock, habits, pace, acked: self.acked, ids, has_opened: false, played })
    }

    fn producer(&self, topic: &str) -> ProducerBuilder {
        let producer = self.client.producer(topic).name(format!("{}.{topic}", self.name));
        producer.in_flight_bytes(self.in_flight_bytes).retry_for(self.retry_for)
    }
}

/// Says what happens in a shop. See the module.
pub struct Storefront {
    orders: Line,
    stock: Line,
    habits: Habits,
    pace: Pace,
    acked: Option<Acked>,
    ids: Box<dyn FnMut() -> String + Send>,
    has_opened: bool,
    played: Played,
}

impl fmt::Debug for Storefront {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Storefront").field("played", &self.played).finish_non_exhaustive()
    }
}

/// What a storefront said, in this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// Events that a run before it had said.
    pub already: u64,
    /// Changes that open the stock.
    pub opening: u64,
    /// Placements, without the second ones.
    pub orders: u64,
    /// Second placements.
    pub doubled: u64,
    /// Wishes to cancel or to return.
    pub requests: u64,
    /// Later changes of the stock.
    pub stock_changes: u64,
}

impl Storefront {
    /// A storefront over this client.
    pub fn builder(client: &Client) -> StorefrontBuilder {
        StorefrontBuilder {
            client: client.clone(),
            name: group::STOREFRONT.to_owned(),
            habits: Habits::default(),
            orders_per_s: None,
            gate: None,
            acked: None,
            in_flight_bytes: 2 << 20,
            retry_for: crate::retry::BUDGET,
            ids: Box::new(|| Uuid::now_v7().to_string()),
        }
    }

    /// Events that a storefront of this name has said before: this one leaves them out.
    pub fn already(&self) -> u64 {
        self.orders.left_out + self.stock.left_out
    }

    /// Says everything: the opening stock; then, when `stocked` is ready, the rest. `stocked` has to wait until every
    /// change of the opening stock is answered by its `InventoryUpdated`. It is polled when all of them are in the log,
    /// and not at all when an order is there already.
    ///
    /// **Durability**: when this returns `Ok`, everything is on disk.
    ///
    /// **Errors**: those of the producers, `Fenced` among them when another storefront has taken over; `Conflict` when
    /// the log has more than there is to say, so that another shop or other settings were before; and those of
    /// `stocked`. What was said before stays said: start again.
    pub async fn play<E: From<Error>>(
        self,
        shop: &Shop,
        stocked: impl Future<Output = Result<(), E>>,
    ) -> Result<Played, E> {
        self.run(shop, false, stocked, |_| std::future::ready(Ok(()))).await
    }

    /// The same invoice by invoice: after each, everything of it is on disk and `settled` is waited for, which gets
    /// what was said. A second placement comes before its invoice's end. After a restart the last invoice that was in
    /// the log already is waited for again.
    ///
    /// **Errors**: as [`Storefront::play`], and those of `settled`.
    pub async fn play_by_invoice<'a, E, Settling>(
        self,
        shop: &'a Shop,
        stocked: impl Future<Output = Result<(), E>>,
        settled: impl FnMut(Scene<'a>) -> Settling,
    ) -> Result<Played, E>
    where
        E: From<Error>,
        Settling: Future<Output = Result<(), E>>,
    {
        self.run(shop, true, stocked, settled).await
    }

    async fn run<'a, E, Settling>(
        mut self,
        shop: &'a Shop,
        by_invoice: bool,
        stocked: impl Future<Output = Result<(), E>>,
        mut settled: impl FnMut(Scene<'a>) -> Settling,
    ) -> Result<Played, E>
    where
        E: From<Error>,
        Settling: Future<Output = Result<(), E>>,
    {
        let mut stocked = Some(stocked);
        // The last invoice of a run before this one: nobody knows whether it had settled.
        let mut unsettled: Option<Scene<'a>> = None;
        let mut has_said = false;
        for cue in script(shop, self.habits, by_invoice) {
            match cue {
                Cue::Say { told, again } => {
                    if self.was_said(&told) {
                        continue;
                    }
                    if let Some(scene) = unsettled.take() {
                        settled(scene).await?;
                    }
                    self.say(&told, again).await?;
                    has_said = true;
                }
                Cue::Opened => {
                    self.stock.settle().await?;
                    if let Some(stocked) = stocked.take().filter(|_| self.orders.left_out == 0) {
                        stocked.await?;
                    }
                    self.has_opened = true;
                    has_said = false;
                }
                Cue::Settled(scene) if has_said => {
                    self.settle().await?;
                    settled(scene).await?;
                    has_said = false;
                }
                Cue::Settled(scene) => unsettled = Some(scene),
            }
        }
        if let Some(scene) = unsettled {
            settled(scene).await?;
        }
        self.settle().await?;
        for line in [&self.orders, &self.stock] {
            line.is_through()?;
        }
        Ok(self.played)
    }

    /// Whether a run before this one said it; counts it then.
    fn was_said(&mut self, told: &Happening<'_>) -> bool {
        let line = if told.topic() == topic::STOCK { &mut self.stock } else { &mut self.orders };
        let was_said = line.left_out > 0;
        line.left_out -= u64::from(was_said);
        self.played.already += u64::from(was_said);
        was_said
    }

    async fn say(&mut self, told: &Happening<'_>, again: bool) -> Result<(), Error> {
        let played = &mut self.played;
        let (line, count) = match &told.event {
            Event::OrderPlaced(_) if again => (&mut self.orders, &mut played.doubled),
            Event::OrderPlaced(_) => (&mut self.orders, &mut played.orders),
            Event::StockChangeRequested(_) if self.has_opened => (&mut self.stock, &mut played.stock_changes),
            Event::StockChangeRequested(_) => (&mut self.stock, &mut played.opening),
            _ => (&mut self.orders, &mut played.requests),
        };
        *count += 1;
        let is_placed = matches!(told.event, Event::OrderPlaced(_)) && !again;
        if is_placed {
            self.pace.wait().await;
        }
        let record = record(told, (self.ids)());
        line.say(record, self.acked.as_ref().filter(|_| is_placed)).await
    }

    async fn settle(&mut self) -> Result<(), Error> {
        self.orders.settle().await?;
        self.stock.settle().await
    }
}

/// A happening as it is appended, under this id.
pub fn record(told: &Happening<'_>, id: String) -> Record {
    Record::new(told.event.encode())
        .key(told.key.to_owned())
        .id(id)
        .type_(told.event.kind())
        .source(group::STOREFRONT)
        .content_type(CONTENT_TYPE)
        .correlation_id(told.key)
        .event_time_us(told.time_us)
}

/// Places orders no faster than at a rate, and when somebody lets them come.
struct Pace {
    orders_per_s: Option<f64>,
    since: Option<Instant>,
    placed: u32,
    gate: Option<Arc<Semaphore>>,
}

impl Pace {
    /// Waits until the next order is due. The first one is at once.
    async fn wait(&mut self) {
        if let Some(gate) = &self.gate
            && let Ok(permit) = gate.acquire().await
        {
            permit.forget();
        }
        let Some(rate) = self.orders_per_s else { return };
        let since = *self.since.get_or_insert_with(Instant::now);
        // A rate so small that the next order is due beyond all time is never due.
        let Ok(after) = Duration::try_from_secs_f64(f64::from(self.placed) / rate) else {
            return std::future::pending().await;
        };
        self.placed = self.placed.saturating_add(1);
        match since.checked_add(after) {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}
