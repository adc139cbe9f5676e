//! Goal: whatever clients do, the broker's memory stays below the bound that it states, nothing of what they did is
//! left behind when they are gone, and good clients go on.
//!
//! Method: a real broker as a process; hostile clients speak HTTP/2 by hand ([`wire`]), a hundred connections of a
//! kind; meanwhile a good producer appends and a good reader follows, both with the SDK.

mod good;
mod kinds;
mod wire;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use good::Good;
use kinds::Kind;

use crate::broker::{Broker, within};

/// Hostile clients of each kind.
const CLIENTS: usize = 100;
/// How long each kind goes on.
const LASTS: Duration = Duration::from_secs(4);

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
fn grows_by_at_most() -> u64 {
    use tillroll_server::connections::{UNDECODED_BYTES_MAX, UNREAD_BYTES_MAX, window_bytes};
    let connections = CLIENTS as u64 * (tillroll_server::connections::UNDECODED_BYTES_OWN + (256 << 10));
    (UNDECODED_BYTES_MAX + UNREAD_BYTES_MAX + window_bytes(CLIENTS) + connections) * 3 / 2
}

async fn attacked_by(kind: Kind) {
    let broker = Broker::start();
    let client = broker.topic("orders", 4).await;
    kinds::fill(&client).await;
    let good = Good::start(&broker).await;
    good.appended(20).await;
    let before = footprint(broker.pid());
    let attack = kinds::attack(kind, broker.address(), CLIENTS).await;
    let (began, mut peak) = (Instant::now(), before.resident);
    let mut done = good.count();
    while began.elapsed() < LASTS {
        good.appended(10).await;
        peak = peak.max(footprint(broker.pid()).resident);
    }
    done = good.count() - done;
    let grown = peak.saturating_sub(before.resident);
    println!("{kind:?}: {done} good appends, slowest {:?}, memory grew by {} MiB", good.slowest(), grown >> 20);
    assert!(grown <= grows_by_at_most(), "{kind:?}: {grown} bytes, bound {}", grows_by_at_most());
    drop(attack);
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
    good.end().await;
    assert!(left.threads <= before.threads + 20, "{before:?} {left:?}");
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
