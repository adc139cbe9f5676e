//! A payment service that asks under a new key at each try is caught by the ledger, and by nothing else.
//!
//! Method: the payment service runs here, as any program could run it, over a real broker and a real gateway that often
//! charges and never answers; the other services are processes. It is the same service each time, and the same road to
//! the gateway: only the keys are planted.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tillroll_client::{
    processor::{Processor, Rule},
    saga::{
        gateway::{Charge as Asked, Client, ClientSettings, Counts},
        payload::group,
        service::{Charge, Charged, Gateway, Payment, Refused, reads},
    },
};
use tokio::{sync::oneshot, time::timeout};

use crate::{saga::SHOP, shell::Said, stage::Stage};

/// A try is given up after so long.
const TRY: Duration = Duration::from_millis(200);
/// Charged, and nobody learns of it. Which ones follows from the gateway's seed, 0.
const OFTEN_SILENT: &str = r#"{"time_out":0.4}"#;

/// A gateway that is asked with keys of tries.
struct KeyPerTry {
    client: Client,
    /// The first try has the key of the charge, as it should: only who asks again does so under another one.
    is_first_right: bool,
    tries: Arc<AtomicU64>,
}

impl Gateway for KeyPerTry {
    async fn charge(&self, charge: Charge) -> Result<Charged, Refused> {
        let Charge { operation, key, order, request, amount } = charge;
        let asked = Asked { operation, order: &order, request: request.as_deref(), amount };
        let mut is_right = self.is_first_right;
        loop {
            let attempt = self.tries.fetch_add(1, Ordering::Relaxed);
            let key = if is_right { key.clone() } else { format!("{key}:{attempt}").parse().expect("a key") };
            if let Ok(outcome) = timeout(TRY, self.client.charge(&key, asked)).await {
                return Ok(outcome.expect("the gateway takes it").verdict.into());
            }
            is_right = false;
        }
    }
}

/// Plays the shop with this payment service. Gives what the check says at the end, and what the gateway did.
fn played<G: Gateway>(gateway: impl FnOnce(Client) -> G) -> (Value, Counts) {
    let mut stage = Stage::set(SHOP, OFTEN_SILENT, "60s");
    let others = group::ALL.into_iter().filter(|service| *service != group::PAYMENT);
    others.for_each(|service| stage.start(&format!("{service}-0"), None));
    let address: SocketAddr = stage.gateway.address.parse().expect("an address");
    let asking = Client::new(address, ClientSettings { try_timeout: TRY, ..ClientSettings::default() });
    let payment = Processor::builder(&stage.client, Payment::new(gateway(asking.clone())));
    let payment = payment.member("payment-0").inputs(reads(group::PAYMENT)).rule(Rule::CoPartitioned);
    let (stop, told) = oneshot::channel::<()>();
    let running = stage.runtime.spawn(payment.build().expect("it is set up").run(async {
        let _ = told.await;
    }));
    stage.play_all();
    let said = stage.check("--input shop.csv -o json", |said| {
        let verdict = verdict(said);
        let orders = verdict["counts"]["orders"].as_u64().expect("a count");
        orders == stage.shop.orders.len() as u64 && found(&verdict).is_subset(&BTreeSet::from(["S12".to_owned()]))
    });
    let counts = stage.wait("the gateway's counts", asking.counts()).expect("the gateway says");
    drop(stop);
    stage.wait("the payment service ends", running).expect("no panic").expect("it was told to");
    (verdict(&said), counts)
}

fn verdict(said: &Said) -> Value {
    let object: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("no object: {said:?}"));
    let verdict = object["verdict"].clone();
    assert_eq!(object["holds"], found(&verdict).is_empty(), "{said:?}");
    assert_eq!(said.code, i32::from(!found(&verdict).is_empty()), "{said:?}");
    verdict
}

/// The invariants that do not hold.
fn found(verdict: &Value) -> BTreeSet<String> {
    verdict["found"].as_object().expect("by invariant").keys().cloned().collect()
}

/// Plays with planted keys: findings are of the ledger alone, and one of them tells this of an order.
fn check_planted(is_first_right: bool, expected: &str, found_there: &str) {
    let tries = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&tries);
    let (verdict, counts) = played(|client| KeyPerTry { client, is_first_right, tries });
    let charges = counts.authorized + counts.captured + counts.voided + counts.refunded;
    let tries = counted.load(Ordering::Relaxed);
    println!("{tries} tries, {charges} charges, {} of them unheard of", counts.injected.timed_out);
    // A try that is given up early may not have come to the gateway.
    assert!(counts.injected.timed_out > 0 && counts.injected.repeated == 0 && charges <= tries, "{counts:?}");
    let findings = verdict["findings"].as_array().expect("a list");
    assert!(!findings.is_empty(), "{verdict}");
    let is_told = |finding: &Value| {
        let begins = |field: &str, words: &str| finding[field].as_str().is_some_and(|text| text.starts_with(words));
        begins("expected", expected) && begins("found", found_there) && finding["about"]["order"].is_string()
    };
    assert!(findings.iter().any(is_told), "{verdict}");
    assert!(findings.iter().all(|finding| finding["invariant"] == "S12"), "{verdict}");
}

#[test]
fn with_the_key_of_the_charge_at_each_try_the_ledger_holds() {
    let (verdict, counts) = played(|client| client);
    assert!(found(&verdict).is_empty(), "{verdict}");
    let Counts { authorized, injected, .. } = &counts;
    assert!(injected.timed_out > 0 && injected.repeated > 0, "{counts:?}");
    assert_eq!(*authorized, 4, "each order once: {counts:?}");
}

#[test]
fn with_a_key_of_its_own_for_each_try_no_event_has_its_charge() {
    check_planted(false, "in the ledger Authorize of ", "nothing");
}

#[test]
fn with_a_new_key_for_each_retry_charges_are_found_that_no_event_tells() {
    check_planted(true, "an event for the charge ", "none");
}
