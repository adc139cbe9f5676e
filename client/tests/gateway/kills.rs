//! Kills of the gateway under load: dropped in this process, and as a process of its own that gets SIGKILL or exits
//! between charging and answering.

use std::{collections::BTreeMap, process::Stdio};

use tillroll_client::saga::gateway::{Behaviour, Client, DelayMs, Outcome, Server, ServerSettings};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
};

use crate::house::{House, assert_once, authorize, counted, on_fall_over};

const ORDERS: u64 = 2_000;
const LANES: u64 = 32;
const KILLS: u64 = 10;

/// Authorises all orders, a few at a time, and says how many are done.
async fn work(client: Client, done: watch::Sender<u64>) -> BTreeMap<String, Outcome> {
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let (client, done) = (client.clone(), done.clone());
        lanes.spawn(async move {
            let mut told = Vec::new();
            for number in (0..ORDERS).filter(|number| number % LANES == lane) {
                let order = number.to_string();
                told.push((order.clone(), authorize(&client, &order, number + 1).await));
                done.send_modify(|done| *done += 1);
            }
            told
        });
    }
    lanes.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_dropped_under_load_forgets_nothing_that_it_told() {
    let house = House::new().await;
    let mut server = house.gateway(41, Behaviour { decline: 0.1, ..Behaviour::default() }).await;
    let (done, mut progress) = watch::channel(0);
    let working = tokio::spawn(work(house.client(), done));
    for kill in 1..=KILLS {
        progress.wait_for(|done| *done >= kill * ORDERS / (KILLS + 1)).await.expect("there is more to do");
        drop(server);
        let told = *progress.borrow();
        server = house.gateway(41 + kill, Behaviour { decline: 0.1, ..Behaviour::default() }).await;
        assert!(server.opened().entries >= told, "{told} were told, {:?}", server.opened());
    }
    let told = working.await.unwrap();
    server.stop().await;
    assert_once(&house.entries(), &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_gets_sigkill_or_falls_over_under_load_charges_every_key_once() {
    let house = House::new().await;
    let client = house.client();
    let (done, mut progress) = watch::channel(0);
    let mut working = tokio::spawn(work(client.clone(), done));
    let (mut kills, mut falls) = (0, 0);
    let mut gateway = spawn(&house, 51);
    let told = loop {
        let next_kill = (kills + 1) * ORDERS / (KILLS + 1);
        tokio::select! {
            told = &mut working => break told.expect("every outcome is known in the end"),
            status = gateway.wait() => {
                assert_eq!(status.expect("it is ours").code(), Some(FELL_OVER));
                falls += 1;
            }
            is_more = progress.wait_for(|done| *done >= next_kill), if kills < KILLS => {
                is_more.expect("there is more to do");
                gateway.kill().await.expect("it is ours");
                kills += 1;
            }
        }
        gateway = spawn(&house, 51 + kills + falls);
    };
    // It may have been started a moment ago.
    let counts = counted(&client, |_| true).await;
    println!("{kills} kills, {falls} falls, {} answered again", counts.injected.repeated);
    assert_eq!(kills, KILLS);
    assert!(counts.injected.fell_over >= falls, "{counts:?}");
    assert!(counts.injected.repeated > 0, "a kill leaves charges that were not answered: {counts:?}");
    gateway.kill().await.expect("it is ours");
    assert_once(&house.entries(), &told);
}

/// The code that a gateway exits with when it falls over.
const FELL_OVER: i32 = 70;

/// Starts a gateway as a process of its own, which is killed when it is dropped.
fn spawn(house: &House, seed: u64) -> Child {
    let this = std::env::current_exe().expect("a test is a program");
    Command::new(this)
        .args(["--exact", "kills::gateway_of_its_own", "--nocapture"])
        .env("TILLROLL_TEST_LEDGER", house.ledger())
        .env("TILLROLL_TEST_ADDRESS", house.address().to_string())
        .env("TILLROLL_TEST_SEED", seed.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("a test can be started again")
}

/// No test by itself: what [`spawn`] runs.
#[test]
fn gateway_of_its_own() {
    let (Ok(ledger), Ok(address), Ok(seed)) = (
        std::env::var("TILLROLL_TEST_LEDGER"),
        std::env::var("TILLROLL_TEST_ADDRESS"),
        std::env::var("TILLROLL_TEST_SEED"),
    ) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let behaviour =
            Behaviour { decline: 0.1, late: 0.1, late_ms: DelayMs(1, 20), fall_over: 0.005, ..Behaviour::default() };
        let seed: u64 = seed.parse().expect("a number");
        let settings = ServerSettings { behaviour, seed, ..ServerSettings::default() };
        let settings = on_fall_over(settings, || std::process::exit(FELL_OVER));
        let listener = TcpListener::bind(&address).await.expect("the address is ours");
        let server = Server::start(listener, ledger.as_ref(), settings).expect("the ledger opens");
        println!("seed={seed} opened {:?}", server.opened());
        std::future::pending::<()>().await;
    });
}
