//! Goal: the judge reads what a broker holds, to the ends that were there, also while others append; and an order's
//! story is read by its key.
//!
//! Method: a server on a directory of its own; orders are written by hand, event by event, as the services would. That
//! judge and services know nothing of each other is read in the sources.

mod source;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use tillroll_client::{
    Client, Error, Placed, Producer, Record, TopicOptions,
    processor::{Fact as _, STEP_HEADER},
    saga::{
        check::{Cursor, End, Invariant, Subject, Terms, judge, read},
        payload::{
            Event, InventoryReserved, InventoryUpdated, Line, Notice, NotificationSent, OrderConfirmed, OrderFulfilled,
            OrderPlaced, PaymentAuthorized, PaymentCaptured, StockChangeRequested, StockUnits, Units, group, topic,
        },
        timeline::Timeline,
    },
};
use tillroll_engine::{driver::threads::Running, settings::Settings};
use tillroll_server::{Server, ServerSettings};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A broker with the topics of the saga.
struct Road {
    client: Client,
    stop: CancellationToken,
    serving: JoinHandle<bool>,
    running: Running,
    _directory: tempfile::TempDir,
}

impl Road {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let running = Running::start(directory.path(), Settings::default()).expect("an engine");
        let any = "127.0.0.1:0".parse().expect("an address");
        let server = Server::bind(any, running.engine.clone(), ServerSettings::default()).await.expect("a port");
        let address = server.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serving = tokio::spawn(async move { server.serve(stopped).await.is_ok() });
        let client = Client::connect(&address.to_string()).await.expect("served");
        for name in topic::ALL {
            let partitions = if name == topic::STOCK { 1 } else { 3 };
            let options = TopicOptions::default().partitions(partitions);
            client.admin().create_topic(name, options).await.expect("created");
        }
        Self { client, stop, serving, running, _directory: directory }
    }

    async fn end(self) {
        self.stop.cancel();
        drop(self.client);
        assert!(self.serving.await.expect("no panic"));
        self.running.stop();
    }
}

/// An event that was written.
struct Said {
    id: String,
    topic: &'static str,
    placed: Placed,
}

/// Writes what the services would write.
struct Shop {
    producers: HashMap<&'static str, Producer>,
    events: AtomicU64,
    decisions: u64,
}

impl Shop {
    async fn open(client: &Client) -> Self {
        let mut producers = HashMap::new();
        for name in topic::ALL {
            producers.insert(name, client.producer(name).build().await.expect("a producer"));
        }
        Self { producers, events: AtomicU64::new(0), decisions: 0 }
    }

    async fn say(&self, source: &str, key: &str, cause: Option<&Said>, fact: impl Into<Event>) -> Said {
        let fact = fact.into();
        let number = self.events.fetch_add(1, Ordering::Relaxed);
        let id = format!("0190a6f0-0000-7000-8000-{number:012x}");
        let mut record = Record::new(fact.encode()).key(key.to_owned()).id(id.clone()).type_(fact.kind());
        record = record.source(source).correlation_id(key);
        if let Some(Said { id, topic, placed }) = cause {
            let step = format!("{source}/{topic}/{}/{}/0/1", placed.partition, placed.offset);
            record = record.causation_id(id.clone()).header(STEP_HEADER, step);
        }
        let topic = fact.topic();
        let ticket = self.producers[topic].send(record).await.expect("it has room");
        Said { id, topic, placed: ticket.await.expect("on disk") }
    }

    async fn stock(&mut self, units: i64) {
        self.decisions += 1;
        let (decision, request) = (self.decisions, "opening".to_owned());
        let change = StockChangeRequested { request: request.clone(), units };
        let change = self.say(group::STOREFRONT, "HEART", None, change).await;
        let update = InventoryUpdated { decision, request, asked: units, applied: units };
        self.say(group::INVENTORY, "HEART", Some(&change), update).await;
    }

    /// Two hearts at 2.55 are bought, shipped and paid.
    async fn order(&mut self, name: &str) {
        self.decisions += 1;
        let line = Line {
            line: 1,
            code: "HEART".into(),
            description: "WHITE HANGING HEART".into(),
            units: 2,
            price_mills: 2_550,
            service: false,
        };
        let placed = OrderPlaced { customer: None, address: "Bergen".into(), lines: vec![line] };
        let placed = self.say(group::STOREFRONT, name, None, placed).await;
        let key = |operation: &str| Some(format!("{operation}:{name}"));
        let authorized = PaymentAuthorized { amount: 510, key: key("authorize") };
        self.say(group::PAYMENT, name, Some(&placed), authorized).await;
        let lines = vec![StockUnits { line: 1, code: "HEART".into(), units: 2 }];
        let reserved = InventoryReserved { decision: self.decisions, lines, short: Vec::new() };
        let reserved = self.say(group::INVENTORY, name, Some(&placed), reserved).await;
        let lines = vec![Units { line: 1, units: 2 }];
        let confirmed =
            OrderConfirmed { lines: lines.clone(), amount: 510, address: "Bergen".into(), requests: Vec::new() };
        let confirmed = self.say(group::ORDER, name, Some(&reserved), confirmed).await;
        let fulfilled = self.say(group::FULFILMENT, name, Some(&confirmed), OrderFulfilled { lines }).await;
        let told = NotificationSent { notice: Notice::Shipped, request: None };
        self.say(group::NOTIFICATION, name, Some(&fulfilled), told).await;
        let captured = PaymentCaptured { amount: 510, key: key("capture") };
        self.say(group::PAYMENT, name, Some(&fulfilled), captured).await;
    }
}

/// Cursors of groups that have read everything, all topics included.
async fn at_the_ends(client: &Client, group: &str) -> Result<Vec<Cursor>, Error> {
    let mut cursors = Vec::new();
    for topic in topic::ALL {
        for held in client.admin().get_topic(topic).await?.partitions {
            let (group, topic) = (group.to_owned(), topic.to_owned());
            cursors.push(Cursor { group, topic, partition: held.partition, next_offset: held.end_offset });
        }
    }
    Ok(cursors)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_read_to_its_ends_and_judged() {
    let road = Road::new().await;
    let client = &road.client;
    let mut shop = Shop::open(client).await;
    shop.stock(100).await;
    for number in 0..20 {
        shop.order(&format!("{}", 536_365 + number)).await;
    }
    let reading = read(client, |group| at_the_ends(client, group)).await.expect("read");
    let ends: u64 = reading.ends.iter().map(|End { end_offset, .. }| end_offset).sum();
    assert_eq!(ends, 2 + 20 * 7);
    let cursors = reading.cursors;
    let terms = Terms { standing: Some((&reading.ends, &cursors)), ..Terms::default() };
    let verdict = judge(reading.log, &terms);
    assert!(verdict.holds(), "{verdict}");
    assert_eq!((verdict.counts.events, verdict.counts.orders, verdict.counts.units_left), (ends, 20, 60));

    // A step that was made twice is found where it stands, and a group that has not read it, too.
    let key = Some("capture:536370".to_owned());
    let twice = shop.say(group::PAYMENT, "536370", None, PaymentCaptured { amount: 510, key }).await;
    let reading = read(client, |_| std::future::ready(Ok(cursors.clone()))).await.expect("read");
    let terms = Terms { standing: Some((&reading.ends, &cursors)), ..Terms::default() };
    let verdict = judge(reading.log, &terms);
    let of = |invariant| verdict.findings.iter().find(|finding| finding.invariant == invariant);
    let found = of(Invariant::S5).expect("it is captured twice");
    assert_eq!(found.about, Subject::Order("536370".into()));
    let places = found.places.iter().map(|place| (place.partition(), place.offset()));
    assert!(places.into_iter().any(|place| place == (twice.placed.partition, twice.placed.offset)), "{found}");
    assert_eq!(of(Invariant::S11).expect("a group has to read it").about, Subject::Group("order".into()));
    road.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_grows_is_judged_as_it_was_at_one_moment() {
    let road = Road::new().await;
    let mut shop = Shop::open(&road.client).await;
    shop.stock(1_000_000).await;
    let enough = std::sync::Arc::new(AtomicBool::new(false));
    let (client, stopped) = (road.client.clone(), enough.clone());
    let growing = tokio::spawn(async move {
        let mut orders = 0;
        while !stopped.load(Ordering::Relaxed) {
            shop.order(&orders.to_string()).await;
            orders += 1;
        }
        orders
    });
    let mut seen = 0;
    for _ in 0..40 {
        let reading = read(&client, |group| at_the_ends(&client, group)).await.expect("read");
        let terms = Terms { standing: Some((&reading.ends, &reading.cursors)), allow_open: true, ..Terms::default() };
        let verdict = judge(reading.log, &terms);
        assert!(verdict.holds(), "{verdict}");
        // A log without any order waits for one, beside whatever is being written.
        let waits = 1 + u64::from(verdict.counts.orders == 0);
        assert!(verdict.open_count <= waits, "one order after the other is written: {verdict}");
        // A log that stood still was read whole; one that has moved since is cut just below what was its last event.
        assert!(verdict.counts.orders + 1 >= seen, "{} orders after {seen}", verdict.counts.orders);
        seen = seen.max(verdict.counts.orders);
    }
    enough.store(true, Ordering::Relaxed);
    let orders: u64 = growing.await.expect("no panic");
    let reading = read(&client, |_| std::future::ready(Ok(Vec::new()))).await.expect("read");
    let verdict = judge(reading.log, &Terms::default());
    assert!(verdict.holds() && verdict.counts.orders == orders, "{verdict} of {orders}");
    drop(client);
    road.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_story_is_read_by_its_key() {
    let road = Road::new().await;
    let mut shop = Shop::open(&road.client).await;
    shop.stock(10).await;
    for name in ["536365", "536366", "5363"] {
        shop.order(name).await;
    }
    let story = Timeline::read(&road.client, "536366").await.expect("read");
    let events: Vec<&str> = story.moments.iter().map(|moment| moment.event.as_str()).collect();
    let expected = [
        "OrderPlaced",
        "PaymentAuthorized",
        "InventoryReserved",
        "OrderConfirmed",
        "OrderFulfilled",
        "NotificationSent",
        "PaymentCaptured",
    ];
    assert_eq!(events, expected, "{story}");
    let depths: Vec<u32> = story.moments.iter().map(|moment| moment.depth).collect();
    assert_eq!(depths, [0, 1, 1, 2, 3, 4, 4]);
    let stock = Timeline::read(&road.client, "HEART").await.expect("read");
    assert_eq!(stock.moments.len(), 2, "{stock}");
    assert!(Timeline::read(&road.client, "nobody").await.expect("read").moments.is_empty());
    road.end().await;
}

/// What the judge may name of the processor: the names of steps.
const OF_THE_PROCESSOR: [&str; 5] = ["Cause", "Fact", "Malformed", "STEP_HEADER", "StepName"];

#[test]
fn the_judge_and_the_services_know_nothing_of_each_other() {
    let files = source::files();
    let saga = files.iter().find(|file| file.path == "client/src/saga.rs").expect("the saga has a root");
    let rooms = source::code(&saga.text).replace("pub ", "");
    let rooms = rooms.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let rooms: Vec<String> = rooms.filter(|room| !["payload", "check"].contains(room)).map(str::to_owned).collect();
    assert!(rooms.contains(&"timeline".to_owned()), "the rooms were not read: {rooms:?}");
    let saga = files.iter().filter(|file| file.is_rust() && file.path.starts_with("client/src/saga/"));
    let mut judged = 0;
    for file in saga.filter(|file| !file.is_test()) {
        let (code, _) = source::divide(&source::code(&file.text));
        let is_judge = file.path.starts_with("client/src/saga/check");
        judged += usize::from(is_judge);
        let found = if is_judge { foreign(&code, &rooms) } else { foreign(&code, &["check".to_owned()]) };
        assert!(found.is_empty(), "{}: {}", file.path, found.join(", "));
    }
    assert!(judged > 15, "the judge was not read");
}

/// The rooms of the saga, and the items of the processor beside the names of steps, that code names.
fn foreign(code: &str, rooms: &[String]) -> Vec<String> {
    let ways = rooms.iter().flat_map(|room| [format!("super::{room}"), format!("saga::{room}")]);
    let mut found: Vec<String> = ways.filter(|way| code.contains(way.as_str())).collect();
    if rooms.iter().any(|room| room == "check") {
        return found;
    }
    for (at, way) in code.match_indices("processor::") {
        let behind = &code[at + way.len()..];
        let end = if behind.starts_with('{') { behind.find('}') } else { behind.find([';', ',', '(']) };
        let items = behind[..end.unwrap_or(behind.len())].trim_start_matches('{').split(',');
        let names = items.filter_map(|item| item.split_whitespace().next());
        found.extend(names.filter(|name| !OF_THE_PROCESSOR.contains(name)).map(str::to_owned));
    }
    found
}

#[test]
fn a_judge_that_looks_at_a_service_is_seen() {
    let check = |code: &str, found: &[&str]| assert_eq!(foreign(code, &["payment".to_owned()]), found, "{code}");
    check("use super::{super::payload::{a}, case::Case};", &[]);
    check("use super::{super::payment::decide, case::Case};", &["super::payment"]);
    check("use crate::saga::payment::decide;", &["saga::payment"]);
    check("use crate::{Received, processor::{Cause, Fact as _}};", &[]);
    check("use crate::{Received, processor::{Cause, Service as _}};", &["Service"]);
    assert_eq!(foreign("use super::check::judge;", &["check".to_owned()]), ["super::check"]);
}
