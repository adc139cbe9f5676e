//! `tillroll saga`: services, gateway, proof and timeline as processes of their own; and a service that dies between
//! any two of its steps.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tillroll_client::{
    Client,
    processor::{FAIL_POINT_VARIABLE, FAIL_POINTS, FailPoint},
    saga::{
        payload::{InventoryUpdated, group, topic},
        retail::Shop,
        storefront::Storefront,
    },
};

use crate::shell::{Broker, Shell, signal};

/// A few invoices of the file, with a return.
const SHOP: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
1,A,one,3,2011-01-01 08:00:00,1.50,7,France
1,POST,postage,1,2011-01-01 08:00:00,4.00,7,France
2,A,one,2,2011-01-01 08:01:00,1.50,8,France
2,B,two,5,2011-01-01 08:01:00,0.25,8,France
3,B,two,1,2011-01-01 08:02:00,0.25,9,Spain
C4,A,one,-1,2011-01-01 12:00:00,1.50,7,France
5,B,two,40,2011-01-01 12:01:00,0.25,9,Spain
C6,B,two,-2,2011-01-01 14:00:00,0.25,8,France
";

/// A process of the saga, killed when it is dropped.
struct Process {
    child: Child,
    said: BufReader<std::process::ChildStderr>,
    address: String,
}

impl Process {
    /// Starts it and waits until it is ready, or has ended.
    fn start(shell: &Shell, broker: &Broker, words: &[&str], fail_point: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tillroll"));
        command.args(words).current_dir(shell.folder()).env("TILLROLL_SERVER", format!("http://{}", broker.address));
        if let Some(fail_point) = fail_point {
            command.env(FAIL_POINT_VARIABLE, fail_point);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let said = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut process = Self { child, said, address: String::new() };
        let mut line = String::new();
        while process.said.read_line(&mut line).expect("text") > 0 {
            if let Some(address) = line.strip_prefix("listening on ") {
                process.address = address.trim().to_owned();
                return process;
            }
            if line.trim() == "ready" {
                return process;
            }
            line.clear();
        }
        process
    }

    fn service(shell: &Shell, broker: &Broker, name: &str, gateway: &str, fail_point: Option<&str>) -> Self {
        let member = format!("{name}-0");
        let words = ["saga", "run", name, "--gateway", gateway, "--member", &member, "--snapshots", "snapshots"];
        let words = [&words[..], &["--deadline", "2s", "--partitions", "2"]].concat();
        Self::start(shell, broker, &words, fail_point)
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it was started here").is_some()
    }

    /// What it said until its end.
    fn last_words(&mut self) -> String {
        let mut said = String::new();
        while self.said.read_line(&mut said).expect("text") > 0 {}
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that a saga needs, but for one service.
struct Stage {
    shell: Shell,
    broker: Broker,
    gateway: Process,
    services: Vec<Process>,
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Stage {
    /// All services but this one.
    fn without(left_out: &str) -> Self {
        let (shell, broker) = Shell::with_broker();
        let words = ["saga", "gateway", "--ledger", "gateway.ledger", "--listen", "127.0.0.1:0"];
        let gateway = Process::start(&shell, &broker, &words, None);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = runtime.block_on(Client::connect(&broker.address)).expect("connected");
        let mut stage = Self { shell, broker, gateway, services: Vec::new(), runtime, client };
        for name in group::ALL.into_iter().filter(|name| *name != left_out) {
            let service = stage.service(name, None);
            stage.services.push(service);
        }
        stage
    }

    fn service(&self, name: &str, fail_point: Option<&str>) -> Process {
        Process::service(&self.shell, &self.broker, name, &self.gateway.address, fail_point)
    }

    /// Puts the shop in, as soon as its stock is there.
    fn play(&self, shop: &Shop) {
        let client = self.client.clone();
        let stocked = async {
            let mut reader = client.reader(topic::INVENTORY).follow(true).open().await?;
            let mut answered = 0;
            while answered < shop.opening.len() {
                let received = reader.next().await.expect("it follows")?;
                answered += usize::from(received.record.type_ == InventoryUpdated::KIND);
            }
            Ok::<(), tillroll_client::Error>(())
        };
        let playing = async {
            let storefront = Storefront::builder(&self.client).open().await?;
            Box::pin(storefront.play(shop, stocked)).await
        };
        self.runtime.block_on(playing).expect("everything is put in");
    }

    /// Waits until the proof holds.
    fn prove(&self, what: &str) {
        std::fs::write(self.shell.folder().join("shop.csv"), SHOP).expect("a file in the folder");
        let line = format!("tillroll saga check --input shop.csv --gateway {}", self.gateway.address);
        let since = std::time::Instant::now();
        loop {
            let said = self.shell.run(&line);
            if said.code == 0 {
                assert!(said.stdout.contains("S12") && said.stdout.contains("it holds"), "{said:?}");
                return;
            }
            assert!(since.elapsed() < std::time::Duration::from_mins(1), "{what}: {said:?}");
        }
    }
}

fn shop() -> Shop {
    Shop::read_from(SHOP.as_bytes()).expect("a shop")
}

/// Which points a service passes: only payment makes calls, only order has timers.
fn is_passed(point: FailPoint, service: &str) -> bool {
    match point {
        FailPoint::BeforeCall | FailPoint::AfterCall => service == group::PAYMENT,
        FailPoint::TimerDue => service == group::ORDER,
        _ => true,
    }
}

/// What brings a service to a point beside its daily work.
fn provoke(stage: &Stage, point: FailPoint, service: &str, process: &mut Process) {
    match point {
        // A clean stop writes a snapshot and leaves.
        FailPoint::BeforeRename | FailPoint::AfterRename | FailPoint::BeforeLeave => signal(&process.child, "TERM"),
        // Somebody sets a cursor, and the next append is refused.
        FailPoint::BeforeTakeOver | FailPoint::AfterTakeOver => {
            let line = format!("tillroll group set-cursor {service} --topic orders --to earliest --with-members --yes");
            stage.shell.run(&line);
        }
        _ => {}
    }
}

#[test]
fn a_service_may_die_between_any_two_of_its_steps() {
    // Points that need a second member, or a refusal at the right moment, are reached in `client/tests` over a socket.
    let elsewhere = [
        FailPoint::AfterRevoking,
        FailPoint::BeforeRelease,
        FailPoint::BeforeTakeOver,
        FailPoint::AfterTakeOver,
        FailPoint::TimerDue,
    ];
    for point in FAIL_POINTS.iter().copied().filter(|point| !elsewhere.contains(point)) {
        for service in [group::PAYMENT, group::ORDER] {
            if is_passed(point, service) {
                die_at(point, service);
            }
        }
    }
}

fn die_at(point: FailPoint, service: &str) {
    let what = format!("{service} at {point}");
    let stage = Stage::without(service);
    let mut process = stage.service(service, Some(&format!("{point}:1")));
    std::thread::scope(|scope| {
        let playing = scope.spawn(|| stage.play(&shop()));
        if matches!(point, FailPoint::BeforeRename | FailPoint::AfterRename | FailPoint::BeforeLeave) {
            playing.join().expect("everything is put in");
        }
        provoke(&stage, point, service, &mut process);
        let said = process.last_words();
        assert!(said.contains(&format!("fail point {point} reached")), "{what} was not reached: {said}");
        assert!(process.child.wait().is_ok_and(|status| !status.success()), "{what}");
    });
    // Started again it goes on where the log stands.
    let mut again = stage.service(service, None);
    stage.prove(&what);
    assert!(!again.has_ended(), "{what}: {}", again.last_words());
}

#[test]
fn the_story_of_an_order_is_told_and_a_damaged_proof_fails() {
    let stage = Stage::without("nobody");
    stage.play(&shop());
    stage.prove("the shop");
    let story = stage.shell.ok("tillroll saga timeline 1");
    let told = ["OrderPlaced", "PaymentAuthorized", "InventoryReserved", "OrderConfirmed", "RefundProcessed"];
    assert!(told.iter().all(|event| story.contains(event)), "{story}");
    let story: Value = serde_json::from_str(&stage.shell.ok("tillroll saga timeline 1 -o json")).expect("an object");
    assert_eq!(story["moments"][0]["event"], "OrderPlaced");
    assert_eq!(stage.shell.run("tillroll saga timeline nobody").code, 3);
    // A charge that no event knows: the ledger says more than the log.
    stage.shell.ok(
        "tillroll append payments --key 1 --value '{\"amount\":1,\"key\":null}' -q && tillroll read payments -n 1 -q",
    );
    let line = format!("tillroll saga check --gateway {} -o json", stage.gateway.address);
    let said = stage.shell.run(&line);
    assert_eq!(said.code, 1, "{said:?}");
    let verdict: Value = serde_json::from_str(&said.stdout).expect("an object");
    assert_eq!(verdict["holds"], false, "{verdict}");
}
