//! A gateway with a ledger and an address that outlive it, and what is asked of it.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tillroll_client::saga::gateway::{
    Behaviour, Charge, Client, ClientSettings, Counts, Entry, Operation, Outcome, Server, ServerSettings, read_ledger,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// No test needs as long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A directory and an address.
pub(crate) struct House {
    directory: TempDir,
    address: SocketAddr,
}

impl House {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().expect("an empty directory");
        // The port is free now, and nobody else has the address.
        let listener = TcpListener::bind(own_address()).await.expect("a free port");
        Self { directory, address: listener.local_addr().expect("it is bound") }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.directory.path().join("ledger")
    }

    /// Starts a gateway in this process.
    pub(crate) async fn gateway(&self, seed: u64, behaviour: Behaviour) -> Server {
        println!("seed={seed} {behaviour:?}");
        self.start(ServerSettings { seed, behaviour, ..ServerSettings::default() }).await
    }

    pub(crate) async fn start(&self, settings: ServerSettings) -> Server {
        let listener = within("an address that is ours", self.listen()).await;
        Server::start(listener, &self.ledger(), settings).expect("the ledger opens")
    }

    /// A gateway that was dropped lets go of the address when its tasks are looked at next.
    async fn listen(&self) -> TcpListener {
        loop {
            match TcpListener::bind(self.address).await {
                Err(error) if error.kind() == ErrorKind::AddrInUse => tokio::task::yield_now().await,
                listener => return listener.expect("the address is ours"),
            }
        }
    }

    /// A client that is in a hurry.
    pub(crate) fn client(&self) -> Client {
        self.client_with(quick())
    }

    pub(crate) fn client_with(&self, settings: ClientSettings) -> Client {
        Client::new(self.address, settings)
    }

    /// The ledger as it is on disk.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        read_ledger(&self.ledger()).expect("it is whole").entries
    }
}

/// Tries that are given up early, and asked again soon.
pub(crate) fn quick() -> ClientSettings {
    ClientSettings {
        try_timeout: Duration::from_millis(200),
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(20),
        ..ClientSettings::default()
    }
}

/// An address of this test alone: whoever takes a free port meanwhile does not take the one that a gateway comes back
/// to.
fn own_address() -> String {
    static TAKEN: AtomicU8 = AtomicU8::new(0);
    let [low, high, ..] = std::process::id().to_le_bytes();
    format!("127.{}.{high}.{low}:0", 1 + TAKEN.fetch_add(1, Ordering::Relaxed) % 250)
}

/// Waits for something, no longer than anything may take, and names it when it does not come.
pub(crate) async fn within<T>(what: &str, coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, coming).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Authorises an order.
pub(crate) async fn authorize(client: &Client, order: &str, amount: u64) -> Outcome {
    let charge = Charge { operation: Operation::Authorize, order, request: None, amount };
    let key = charge.key().expect("a key");
    within(&format!("the outcome of order {order}"), client.charge(&key, charge)).await.expect("a proper request")
}

/// Authorises orders 0 to `orders`, all at once, for amounts of their number and 1 p.
pub(crate) async fn authorize_all(client: &Client, orders: u64) -> BTreeMap<String, Outcome> {
    let mut asking = JoinSet::new();
    for number in 0..orders {
        let client = client.clone();
        asking.spawn(async move {
            let order = number.to_string();
            let outcome = authorize(&client, &order, number + 1).await;
            (order, outcome)
        });
    }
    let all = within("the outcomes of all orders", asking.join_all()).await;
    all.into_iter().collect()
}

/// The ledger has each of these orders once, and as it was told.
pub(crate) fn assert_once(entries: &[Entry], told: &BTreeMap<String, Outcome>) {
    let by_order: BTreeMap<&str, &Entry> = entries.iter().map(|entry| (&*entry.order, entry)).collect();
    assert_eq!(by_order.len(), entries.len(), "an order is there twice");
    assert_eq!(entries.len(), told.len(), "one charge an order");
    for (order, outcome) in told {
        let entry = by_order[&**order];
        assert_eq!((entry.number, entry.outcome), (outcome.charge, outcome.verdict), "{entry}");
        assert_eq!(entry.key.as_deref(), Some(&*format!("authorize:{order}")));
    }
}

/// Asks for counts until they are as they should be.
pub(crate) async fn counted(client: &Client, is_done: impl Fn(&Counts) -> bool) -> Counts {
    let counting = async {
        loop {
            if let Ok(counts) = client.counts().await
                && is_done(&counts)
            {
                return counts;
            }
        }
    };
    if let Ok(counts) = tokio::time::timeout(PATIENCE, counting).await {
        return counts;
    }
    panic!("it does not come to that: {:?}", client.counts().await);
}

/// One request of HTTP/1.1 as anybody would send it. Gives the status and the body; none when it is hung up on.
pub(crate) async fn raw(house: &House, path: &str, key: Option<&str>, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(house.address()).await.expect("it listens");
    let method = if body.is_empty() { "GET" } else { "POST" };
    let key = key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
    let bytes = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{key}Content-Length: {bytes}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let is_whole = head.to_lowercase().contains(&format!("content-length: {}", body.len()));
    is_whole.then(|| (status, body.to_owned()))
}

/// Something that happens while a gateway falls over.
pub(crate) fn on_fall_over(settings: ServerSettings, act: impl Fn() + Send + Sync + 'static) -> ServerSettings {
    ServerSettings { on_fall_over: Arc::new(act), ..settings }
}
