//! Outcomes that are pending, and the reports of them.

use std::time::Duration;

use tillroll_client::saga::gateway::{Behaviour, Callbacks, ClientSettings, DelayMs, Key, Standing, Verdict};
use tokio::net::TcpListener;

use crate::house::{House, PATIENCE, assert_once, authorize, authorize_all, counted, quick, within};

/// Everything is pending, and known soon.
fn pending() -> Behaviour {
    Behaviour { pending: 1.0, report_ms: DelayMs(0, 20), report_late_ms: DelayMs(1, 60), ..Behaviour::default() }
}

async fn callbacks() -> Callbacks {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    Callbacks::start(listener).expect("it is bound")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_that_are_late_doubled_and_out_of_order_tell_every_outcome_once() {
    let house = House::new().await;
    let behaviour =
        Behaviour { decline: 0.2, report_late: 0.3, report_doubled: 1.0, report_out_of_order: 0.3, ..pending() };
    let server = house.gateway(31, behaviour).await;
    let callbacks = callbacks().await;
    // Whoever hears of no outcome asks no more in this test's time: the reports alone tell.
    let settings = ClientSettings { report_patience: PATIENCE, try_timeout: PATIENCE, ..quick() };
    let client = house.client_with(settings).with_callbacks(callbacks.clone());
    let told = authorize_all(&client, 500).await;
    assert!(told.values().all(|outcome| outcome.reported && !outcome.repeated));
    let declined = told.values().filter(|outcome| outcome.verdict == Verdict::Declined).count();
    assert!((50..150).contains(&declined), "{declined} of 500");
    // Some second ones are still on their way when the last outcome is known.
    let injected = counted(&client, |counts| counts.injected.reports == 1_000).await.injected;
    assert!(injected.reports_late > 200 && injected.reports_doubled == 500, "{injected:?}");
    assert!(injected.reports_out_of_order > 50, "{injected:?}");
    assert_eq!((injected.pending, injected.reports_failed, injected.repeated), (500, 0, 0));
    // A report whose answer was lost on the way comes once more.
    let counts = callbacks.counts();
    assert!(counts.used == 500 && counts.doubled >= 500, "{counts:?}");
    assert!(counts.out_of_order >= injected.reports_out_of_order, "{counts:?}");
    assert_eq!((counts.unknown, counts.mismatched, counts.malformed), (0, 0, 0), "{counts:?}");
    server.stop().await;
    assert_once(&house.entries(), &told);
}

#[tokio::test]
async fn a_report_that_is_too_late_is_counted_and_harmless() {
    let house = House::new().await;
    let late = Behaviour { report_late: 1.0, report_late_ms: DelayMs(1_000, 1_000), report_doubled: 1.0, ..pending() };
    let _server = house.gateway(32, Behaviour { report_ms: DelayMs(0, 0), ..late }).await;
    let callbacks = callbacks().await;
    let settings = ClientSettings { report_patience: Duration::from_millis(1), ..quick() };
    let client = house.client_with(settings).with_callbacks(callbacks.clone());
    let outcome = authorize(&client, "536365", 100).await;
    assert!(outcome.repeated && !outcome.reported && outcome.attempts >= 1, "asked again meanwhile: {outcome:?}");
    counted(&client, |counts| counts.injected.reports == 2).await;
    let counts = callbacks.counts();
    assert_eq!((counts.used, counts.late, counts.doubled), (0, 1, 1), "{counts:?}");
}

#[tokio::test]
async fn a_report_can_overtake_the_answer() {
    let house = House::new().await;
    let hour = DelayMs(3_600_000, 3_600_000);
    let _server = house.gateway(33, Behaviour { late: 1.0, late_ms: hour, ..pending() }).await;
    let callbacks = callbacks().await;
    let settings = ClientSettings { try_timeout: PATIENCE, ..quick() };
    let client = house.client_with(settings).with_callbacks(callbacks.clone());
    let outcome = authorize(&client, "536365", 100).await;
    assert!(outcome.reported && outcome.attempts == 0, "{outcome:?}");
    assert_eq!((callbacks.counts().used, client.trouble().len()), (1, 0));
}

#[tokio::test]
async fn a_pending_outcome_is_learnt_by_asking_again_without_callbacks() {
    let house = House::new().await;
    let server = house.gateway(34, Behaviour { report_ms: DelayMs(30, 30), ..pending() }).await;
    let client = house.client();
    let key: Key = "authorize:536365".parse().unwrap();
    let mut charging = std::pin::pin!(authorize(&client, "536365", 100));
    tokio::select! {
        outcome = &mut charging => panic!("it was pending: {outcome:?}"),
        _ = counted(&client, |counts| counts.injected.pending == 1) => {}
    }
    let outcome = within("the outcome", charging).await;
    assert!(outcome.repeated && !outcome.reported && outcome.attempts >= 1, "{outcome:?}");
    assert_eq!(client.outcome(&key).await.unwrap(), Some(Standing::Accepted));
    assert_eq!(server.counts().injected.reports, 0);
}

#[tokio::test]
async fn a_callback_that_is_gone_costs_reports_and_no_outcome() {
    let house = House::new().await;
    let _server = house.gateway(35, pending()).await;
    let callbacks = callbacks().await;
    let settings = ClientSettings { report_patience: Duration::from_millis(5), ..quick() };
    let client = house.client_with(settings).with_callbacks(callbacks.clone());
    callbacks.stop().await;
    let outcome = authorize(&client, "536365", 100).await;
    assert!(outcome.repeated && !outcome.reported, "{outcome:?}");
    counted(&client, |counts| counts.injected.reports_failed == 1).await;
}

#[tokio::test]
async fn what_was_pending_when_a_gateway_was_killed_is_known_afterwards() {
    let house = House::new().await;
    let hour = DelayMs(3_600_000, 3_600_000);
    let server = house.gateway(36, Behaviour { report_ms: hour, ..pending() }).await;
    let client = house.client();
    let asking = client.clone();
    let waiting = tokio::spawn(async move { authorize(&asking, "536365", 100).await });
    counted(&client, |counts| counts.injected.pending_repeats >= 1).await;
    let key: Key = "authorize:536365".parse().unwrap();
    assert_eq!(client.outcome(&key).await.unwrap(), Some(Standing::Pending));
    drop(server);
    let _server = house.gateway(37, Behaviour::default()).await;
    let outcome = within("the outcome", waiting).await.unwrap();
    assert_eq!((outcome.verdict, outcome.charge, outcome.repeated), (Verdict::Accepted, 1, true));
}
