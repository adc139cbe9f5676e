//! Goal: whatever clients do, the broker's memory stays below the bound that it states, nothing of what they did is
//! left behind when they are gone, and good clients go on, hardly slower than beside as many clients that behave.
//!
//! Method: a real broker as a process; hostile clients speak HTTP/2 by hand ([`wire`]), a hundred connections of a
//! kind; meanwhile a good producer appends and a good reader follows, both with the SDK. Before that, as many clients
//! that behave do what they can, and the good ones are measured beside them.

mod good;
mod kinds;
mod requests;
mod wire;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use good::Good;
use kinds::{Kind, Takes};

use tillroll_client::{Client, Record};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Mutex,
};

use crate::broker::{Broker, within};

/// Hostile clients of each kind.
const CLIENTS: usize = 100;
/// How long each kind goes on.
const LASTS: Duration = Duration::from_secs(2);
/// How long as many clients that behave do.
const BEHAVING: Duration = Duration::from_secs(1);
/// Good appends that are measured at least, of which the slowest one does not count.
const APPENDS_MIN: u64 = 120;
/// How much slower the good ones may be beside hostile clients than beside those that behave.
const SLOWER_MAX: u32 = 5;
/// Below this nobody is slow: on a machine that does other things, a process may wait so long for its turn.
const SLOW: Duration = Duration::from_millis(20);

/// One attack at a time: what is measured is not that of another one.
static ALONE: Mutex<()> = Mutex::const_new(());
/// What is counted of clients alone: it goes with them.
const OF_CLIENTS: [&str; 7] = [
    "requests that are not whole",
    "responses that are not read",
    "outcomes that are not read",
    "long answers",
    "appends that wait for room",
    "commands in flight",
    "open calls",
];

/// Memory, threads and sockets of a process.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    resident: u64,
    threads: u64,
    sockets: usize,
}

fn footprint(pid: u32) -> Footprint {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells");
        line.trim_start_matches(':').split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    };
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    let is_socket =
        |path: PathBuf| std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
    let sockets = links.filter(|link| is_socket(link.path())).count();
    Footprint { resident: field("VmRSS") << 10, threads: field("Threads"), sockets }
}

/// What memory may grow by under one kind: the budgets for what is not whole and what is not read, and what the windows
/// of so many connections hold, with half as much again for what an allocator keeps.
fn grows_by_at_most(kind: Kind, stated: u64) -> u64 {
    use tillroll_server::connections::{
        STREAMS_MAX, UNDECODED_BYTES_MAX, UNDECODED_BYTES_OWN, UNREAD_BYTES_MAX, window_bytes,
    };
    const CALL_BYTES: u64 = 16 << 10;
    let calls = match kind.takes() {
        Takes::Nothing => 0,
        Takes::Calls => STREAMS_MAX as u64 * CALL_BYTES,
        Takes::Appends => return stated,
    };
    let connections = CLIENTS as u64 * (UNDECODED_BYTES_OWN + (256 << 10));
    (UNDECODED_BYTES_MAX + UNREAD_BYTES_MAX + window_bytes(CLIENTS) + connections + calls) * 3 / 2
}

/// What one kind did to the broker and to the good ones.
struct Done {
    grown: u64,
    p99: Duration,
    appends: u64,
}

/// Whoever comes meanwhile registers, appends and reads, if not at the first try.
async fn newcomer(broker: &Broker) {
    loop {
        let Ok(client) = Client::connect(broker.address()).await else { continue };
        let producer = client.producer("wide").partition(7).build().await.expect("registered");
        let sent = producer.send(Record::new("newcomer")).await.expect("it has room");
        let offset = sent.await.expect("accepted").offset;
        let mut reader = client.reader("wide").partitions([7]).open().await.expect("it can be read");
        while let Some(received) = reader.next().await {
            if received.expect("whole").offset == offset {
                return;
            }
        }
        panic!("what was acked is not there");
    }
}

/// Attacks by these kinds at the same time, and sees that nothing is left of it.
async fn attack(broker: &Broker, good: &Good, kinds: &[Kind]) -> Done {
    let before = footprint(broker.pid());
    let mut attacks = Vec::new();
    let _before = good.p99();
    for kind in kinds {
        attacks.push(kinds::attack(*kind, broker.address(), CLIENTS).await);
    }
    let (began, mut peak, done) = (Instant::now(), before.resident, good.count());
    while began.elapsed() < LASTS || good.count() - done < APPENDS_MIN {
        good.appended(10).await;
        peak = peak.max(footprint(broker.pid()).resident);
    }
    // Who comes now is served as well.
    within("a newcomer's record", newcomer(broker)).await;
    let (appends, p99, grown) = (good.count() - done, good.p99(), peak.saturating_sub(before.resident));
    drop(attacks);
    // Nothing of it stays: neither threads nor sockets, and the memory serves those who come next.
    let left = within("the connections' end", async {
        loop {
            let left = footprint(broker.pid());
            if left.sockets <= before.sockets + 8 {
                return left;
            }
            good.appended(10).await;
        }
    });
    let left = left.await;
    assert!(left.threads <= before.threads + 20, "{before:?} {left:?}");
    let client = broker.client().await;
    let status = client.admin().server_status().await.expect("told");
    let held = status.memory_budgets.iter().filter(|budget| OF_CLIENTS.contains(&budget.name.as_str()));
    let held: Vec<(&str, u64)> = held.map(|budget| (budget.name.as_str(), budget.used_bytes)).collect();
    assert!(held.len() == OF_CLIENTS.len() && held.iter().all(|(_, bytes)| *bytes < 4 << 20), "{held:?}");
    Done { grown, p99, appends }
}

async fn attacked_by(kind: Kind) {
    let _alone = ALONE.lock().await;
    let broker = Broker::start();
    let client = broker.topic("orders", 4).await;
    requests::fill(broker.address(), &client).await;
    let good = Good::start(&broker).await;
    good.appended(20).await;
    let Done { grown, p99, appends } = attack(&broker, &good, &[kind]).await;
    let behaving = kinds::behave(kind, broker.address(), CLIENTS).await;
    good.appended(1).await;
    let _before = good.p99();
    let (began, done) = (Instant::now(), good.count());
    while began.elapsed() < BEHAVING || good.count() - done < APPENDS_MIN {
        good.appended(5).await;
    }
    let beside_good = good.p99();
    drop(behaving);
    println!(
        "{kind:?}: {appends} good appends, p99 {p99:?} (beside clients that behave {beside_good:?}), \
         memory grew by {} MiB",
        grown >> 20
    );
    let slow = beside_good.max(SLOW) * SLOWER_MAX;
    assert!(p99 <= slow, "{kind:?}: 99 of 100 good appends took up to {p99:?}, more than {slow:?}");
    let bound = grows_by_at_most(kind, broker.memory_max());
    assert!(grown <= bound, "{kind:?}: {grown} bytes, bound {bound}");
    good.end().await;
}

/// All of them together stay below what the broker states at its start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_at_the_same_time() {
    let _alone = ALONE.lock().await;
    let broker = Broker::start();
    let client = broker.topic("orders", 4).await;
    requests::fill(broker.address(), &client).await;
    let good = Good::start(&broker).await;
    good.appended(20).await;
    let Done { grown, p99, appends } = attack(&broker, &good, &Kind::ALL).await;
    let stated = broker.memory_max();
    println!("all kinds: {appends} good appends, p99 {p99:?}, memory grew by {} of {} MiB", grown >> 20, stated >> 20);
    assert!(grown < stated, "{grown} bytes, stated are {stated}");
    good.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_announce_much_and_send_nothing() {
    attacked_by(Kind::Announced).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_lack_their_last_byte() {
    attacked_by(Kind::OneByteShort).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_requests_whose_end_is_not_said() {
    attacked_by(Kind::Unended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_do_not_read() {
    attacked_by(Kind::Unread).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_say_nothing() {
    attacked_by(Kind::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_a_million_empty_entries() {
    attacked_by(Kind::Expanding).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_appends_whose_outcomes_are_not_read() {
    attacked_by(Kind::UnreadOutcomes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_request_behind_outcomes_that_are_not_read() {
    attacked_by(Kind::HalfBehindUnread).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_read() {
    attacked_by(Kind::UnreadAnswers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_of_wide_appends_that_are_not_read() {
    attacked_by(Kind::WideOutcomes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_cursor_commits_whose_answers_are_not_read() {
    attacked_by(Kind::LargeCommits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_take_a_byte_now_and_then() {
    attacked_by(Kind::Trickling).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_do_not_read() {
    attacked_by(Kind::UnreadMembers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_that_are_as_large_as_may_be() {
    attacked_by(Kind::WholeLarge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_a_word() {
    attacked_by(Kind::IdleCalls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_a_call() {
    attacked_by(Kind::IdleConnections).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_without_a_greeting_is_closed() {
    let broker = Broker::start();
    let half: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM";
    let mut sockets = Vec::new();
    for said in [b"".as_slice(), half] {
        let address = broker.address().trim_start_matches("http://");
        let mut socket = TcpStream::connect(address).await.expect("the broker listens");
        socket.write_all(said).await.expect("it takes it");
        sockets.push(socket);
    }
    for mut socket in sockets {
        let mut answer = Vec::new();
        // It may be told why, or see a connection that broke.
        let _closed = within("the socket's end", socket.read_to_end(&mut answer)).await;
    }
}
