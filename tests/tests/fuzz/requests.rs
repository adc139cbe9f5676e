//! Random requests of every method, through the real service stack.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes};
use tillroll_client::{Client, GroupMode, GroupOptions, Position, Record, TopicOptions};
use tillroll_engine::{driver::threads::Running, settings::Settings};
use tillroll_server::{Server, ServerSettings};
use tillroll_tests::dice::Dice;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use crate::{
    Inputs, KEEPS_PANICS,
    message::{Contract, Method, spoil},
};

/// An answer takes no longer, however large the request.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a stream that may go on for ever is listened to.
const LISTEN: Duration = Duration::from_millis(20);
/// After so many inputs a good client looks whether it is served.
const LOOK_EVERY: u64 = 25;
/// After so many, what requests name is made again where it was deleted.
const MAKE_EVERY: u64 = 3;
/// Methods that may refuse all random requests, such as those that ask for an id that nobody can guess.
const NEVER_ACCEPTED_MAX: usize = 4;

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A server, with a topic and a group that requests may name.
struct Target {
    channel: Channel,
    good: Client,
    appended: u64,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<bool>,
    running: Running,
    _directory: tempfile::TempDir,
}

impl Target {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let running = Running::start(directory.path(), Settings::default()).expect("an engine");
        let any = "127.0.0.1:0".parse().expect("an address");
        let server = Server::bind(any, running.engine.clone(), ServerSettings::default()).await.expect("a port");
        let url = format!("http://{}", server.local_addr().expect("bound"));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serving = tokio::spawn(async move { server.serve(stopped).await.is_ok() });
        let good = Client::connect(&url).await.expect("served");
        let channel = Channel::from_shared(url).expect("a URL").connect().await.expect("served");
        let target = Self { channel, good, appended: 0, stop, serving, running, _directory: directory };
        target.make().await;
        target
    }

    /// Makes what requests name, as far as others have not deleted it or made another.
    async fn make(&self) {
        for topic in ["orders", "good"] {
            let options = TopicOptions::default().partitions(2);
            let _made = self.good.admin().create_topic(topic, options).await;
        }
        let options = GroupOptions::new(["orders"], GroupMode::Manual, Position::Earliest);
        let _made = self.good.groups().create("mailer", options).await;
    }

    /// Sends one call; whatever is answered is fine, as long as something is. Whether it was accepted.
    async fn call(&self, method: &Method, messages: Vec<Vec<u8>>) -> bool {
        let mut grpc = Grpc::new(self.channel.clone());
        timeout(PATIENCE, grpc.ready()).await.expect("the connection is there").expect("the connection works");
        let requests = tokio_stream::iter(messages.into_iter().map(Bytes::from).collect::<Vec<_>>());
        let path = method.path.parse().expect("a path");
        let opened = timeout(PATIENCE, grpc.streaming(Request::new(requests), path, Raw)).await;
        let Ok(answer) = opened.unwrap_or_else(|_| panic!("{} is not answered", method.path)) else { return false };
        let mut answers = answer.into_inner();
        if method.gives_many {
            let mut count = 0;
            while let Ok(Ok(Some(_))) = timeout(LISTEN, answers.message()).await {
                count += 1;
            }
            return count > 0;
        }
        let answered = timeout(PATIENCE, answers.message()).await;
        matches!(answered.unwrap_or_else(|_| panic!("{} is not answered", method.path)), Ok(Some(_)))
    }

    /// A good client appends and reads on.
    async fn look(&mut self) {
        let work = async {
            // Whoever deletes the topic has asked for it, by its name and id; nobody knows its id.
            let producer = self.good.producer("good").partition(0).build().await.expect("registered");
            producer.send(Record::new("good")).await.expect("it has room").await.expect("accepted");
            producer.close().await.expect("answered");
            let mut reader = self.good.reader("good").open().await.expect("it reads");
            let mut read = 0;
            while let Some(received) = reader.next().await {
                received.expect("whole");
                read += 1;
            }
            read
        };
        let read: u64 = timeout(PATIENCE, work).await.expect("a good client is served");
        assert!(read > self.appended, "{read} records are there, {} were before", self.appended);
        self.appended = read;
    }

    async fn end(self) {
        self.stop.cancel();
        assert!(timeout(PATIENCE, self.serving).await.expect("in time").expect("no panic"));
        self.running.stop();
    }
}

/// Panics of tasks end nobody else: they are counted. Those of the other target, which runs in the same process, are
/// not.
fn count_panics() -> &'static AtomicUsize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(usize::from(!KEEPS_PANICS.get()), Ordering::Relaxed);
            usual(info);
        }));
    });
    &PANICS
}

#[test]
fn panics_of_the_other_target_are_not_counted() {
    let panics = count_panics();
    let before = panics.load(Ordering::Relaxed);
    let other = std::thread::spawn(|| {
        crate::keep_panics();
        panic!("it found something");
    });
    assert!(other.join().is_err());
    assert_eq!(panics.load(Ordering::Relaxed), before);
}

/// The requests of the corpus, by method.
fn corpus(contract: &Contract) -> Vec<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/requests");
    let of = |method: &Method| {
        let name = method.path.trim_start_matches("/tillroll.v1.").replace('/', ".");
        let Ok(entries) = std::fs::read_dir(folder.join(name)) else { return Vec::new() };
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
        // A seed means the same on every file system.
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).expect("a file")).collect()
    };
    contract.methods.iter().map(of).collect()
}

/// A request: one of the corpus, spoiled, or a random one.
fn request(contract: &Contract, method: &Method, corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    if corpus.is_empty() || dice.one_in(2) {
        return contract.message(dice, &method.input);
    }
    let mut bytes = corpus[usize::try_from(dice.below(corpus.len() as u64)).expect("small")].clone();
    if !dice.one_in(8) {
        spoil(dice, &mut bytes);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_the_next_one_is_served() {
    let (contract, panics) = (Contract::new(), count_panics());
    let mut target = Target::new().await;
    let (mut count, mut accepted) = (0_u64, BTreeSet::new());
    let corpus = corpus(&contract);
    for (method, requests) in contract.methods.iter().zip(&corpus) {
        for request in requests {
            if target.call(method, vec![request.clone()]).await {
                accepted.insert(&method.path);
            }
            count += 1;
        }
    }
    assert!(count > 10, "the corpus is there");
    for seed in Inputs::of_environment() {
        for (number, method) in (0..).zip(&contract.methods) {
            let mut dice = Dice::new(seed * 1_000 + number);
            let messages = if method.takes_many { dice.between(1, 6) } else { 1 };
            let own = &corpus[usize::try_from(number).expect("small")];
            let messages = (0..messages).map(|_| request(&contract, method, own, &mut dice)).collect();
            if target.call(method, messages).await {
                accepted.insert(&method.path);
            }
            count += 1;
            assert_eq!(panics.load(Ordering::Relaxed), 0, "{} seed={seed}", method.path);
        }
        if seed % MAKE_EVERY == 0 {
            target.make().await;
        }
        if seed % LOOK_EVERY == 0 {
            target.look().await;
        }
    }
    target.look().await;
    println!("{count} requests over {} methods", contract.methods.len());
    // Requests that are all refused at the door would find nothing behind it.
    let refused: Vec<_> = contract.methods.iter().filter(|method| !accepted.contains(&method.path)).collect();
    let refused: Vec<_> = refused.iter().map(|method| method.path.as_str()).collect();
    println!("never accepted: {refused:?}");
    assert!(refused.len() <= NEVER_ACCEPTED_MAX, "{refused:?}");
    target.end().await;
    assert_eq!(panics.load(Ordering::Relaxed), 0);
}
