//! Every fault that a gateway can be told to make, and a gateway that is away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tillroll_client::saga::gateway::{
    Behaviour, ClientSettings, DelayMs, Operation, QueryError, ServerSettings, Unknown, Verdict,
};

use crate::house::{House, PATIENCE, assert_once, authorize, authorize_all, counted, on_fall_over, quick, raw, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_keys_that_time_out_after_charging_are_charged_once_each() {
    let house = House::new().await;
    let server = house.gateway(11, Behaviour { time_out: 0.3, ..Behaviour::default() }).await;
    let client = house.client();
    let told = authorize_all(&client, 1_000).await;
    let injected = server.counts().injected;
    assert!((200..400).contains(&injected.timed_out), "{injected:?}");
    assert!(injected.timed_out_repeats > 0, "a second try can time out as well: {injected:?}");
    assert!(injected.repeated >= injected.timed_out, "{injected:?}");
    assert!(told.values().all(|outcome| outcome.verdict == Verdict::Accepted));
    assert!(told.values().filter(|outcome| outcome.repeated).count() as u64 >= injected.timed_out);
    assert_eq!(client.trouble(), []);
    server.stop().await;
    assert_once(&house.entries(), &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_at_once_ends_with_one_charge_a_key() {
    let house = House::new().await;
    let behaviour = Behaviour {
        decline: 0.1,
        late: 0.2,
        late_ms: DelayMs(1, 20),
        pending: 0.2,
        report_ms: DelayMs(1, 50),
        time_out: 0.05,
        fall_over: 0.05,
        ..Behaviour::default()
    };
    let server = house.gateway(12, behaviour).await;
    let client = house.client();
    let told = authorize_all(&client, 1_000).await;
    let counts = client.counts().await.unwrap();
    assert_eq!(counts.authorized + counts.declined, 1_000);
    let injected = &counts.injected;
    let made = [counts.declined, injected.late, injected.pending, injected.timed_out, injected.fell_over];
    assert!(made.iter().all(|count| *count > 20), "{counts:?}");
    server.stop().await;
    assert_once(&house.entries(), &told);
    // The counts of a gateway outlive it.
    let server = house.gateway(13, Behaviour::default()).await;
    assert!(!server.are_counts_lost());
    assert_eq!(server.counts().injected.timed_out, injected.timed_out);
    assert_eq!(server.counts().declined, counts.declined);
}

#[tokio::test]
async fn a_gateway_that_is_down_charges_nothing_and_nobody_takes_that_for_a_decline() {
    let house = House::new().await;
    let server = house.gateway(14, Behaviour { decline: 0.0, ..Behaviour::default() }).await;
    let client = house.client();
    let down = client.behave(&serde_json::json!({"down": true})).await.unwrap();
    assert!(down.down);
    let (asking, asker) = (client.clone(), client.clone());
    let waiting = tokio::spawn(async move { authorize(&asking, "536365", 100).await });
    counted(&client, |counts| counts.injected.unavailable >= 3).await;
    let [trouble] = &asker.trouble()[..] else { panic!("{:?}", asker.trouble()) };
    assert_eq!((trouble.operation, &*trouble.order, trouble.amount), (Operation::Authorize, "536365", 100));
    assert_eq!(trouble.key.as_str(), "authorize:536365");
    assert!(trouble.attempts >= 1, "{trouble:?}");
    assert!(matches!(trouble.last, Unknown::Status { status: 503, .. }), "{trouble:?}");
    let error = client.outcome(&trouble.key).await.unwrap_err();
    assert!(matches!(error, QueryError::Unknown(Unknown::Status { status: 503, .. })), "{error}");
    assert_eq!(raw(&house, "/livez", None, "").await, Some((200, "ok\n".to_owned())));
    assert_eq!(house.entries(), []);
    client.behave(&serde_json::json!({"down": false})).await.unwrap();
    let outcome = within("the outcome", waiting).await.unwrap();
    assert_eq!((outcome.verdict, outcome.repeated), (Verdict::Accepted, false));
    assert!(outcome.attempts >= 3, "{outcome:?}");
    assert_eq!(asker.trouble(), []);
    assert_eq!(server.counts().authorized, 1);
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_asked_until_it_is() {
    let house = House::new().await;
    let client = house.client();
    let asking = client.clone();
    let waiting = tokio::spawn(async move { authorize(&asking, "536365", 100).await });
    let asked = async {
        while client.trouble().iter().all(|trouble| trouble.attempts < 3) {
            tokio::task::yield_now().await;
        }
    };
    within("three tries", asked).await;
    let [trouble] = &client.trouble()[..] else { panic!("{:?}", client.trouble()) };
    assert!(matches!(trouble.last, Unknown::Unreachable { .. }), "{trouble:?}");
    let server = house.gateway(15, Behaviour::default()).await;
    assert_eq!(within("the outcome", waiting).await.unwrap().verdict, Verdict::Accepted);
    server.stop().await;
    assert_eq!(house.entries().len(), 1);
}

#[tokio::test]
async fn a_charge_that_is_dropped_midway_can_be_asked_again() {
    let house = House::new().await;
    let server = house.gateway(16, Behaviour { time_out: 1.0, ..Behaviour::default() }).await;
    let client = house.client_with(ClientSettings { try_timeout: PATIENCE, ..quick() });
    {
        let mut charging = std::pin::pin!(authorize(&client, "536365", 100));
        tokio::select! {
            outcome = &mut charging => panic!("{outcome:?}"),
            _ = counted(&client, |counts| counts.injected.timed_out == 1) => {}
        }
    }
    assert_eq!(client.trouble(), []);
    client.behave(&serde_json::json!({"time_out": 0})).await.unwrap();
    let outcome = authorize(&client, "536365", 100).await;
    assert_eq!((outcome.verdict, outcome.charge, outcome.repeated), (Verdict::Accepted, 1, true));
    server.stop().await;
    assert_eq!(house.entries().len(), 1);
}

#[tokio::test]
async fn no_more_tries_are_under_way_than_may_be() {
    let house = House::new().await;
    let server = house.gateway(17, Behaviour { time_out: 1.0, ..Behaviour::default() }).await;
    let client = house.client_with(ClientSettings { in_flight_max: 3, try_timeout: PATIENCE, ..quick() });
    let asking = client.clone();
    let all = tokio::spawn(async move { authorize_all(&asking, 10).await });
    counted(&client, |counts| counts.injected.timed_out == 3).await;
    // Whatever was sent before this question was counted before its answer.
    assert_eq!(client.counts().await.unwrap().authorized, 3);
    all.abort();
    drop(server);
    assert_eq!(house.entries().len(), 3);
}

#[tokio::test]
async fn a_late_answer_is_late_and_right() {
    let house = House::new().await;
    let server = house.gateway(18, Behaviour { late: 1.0, late_ms: DelayMs(40, 60), ..Behaviour::default() }).await;
    let client = house.client_with(ClientSettings { try_timeout: PATIENCE, ..quick() });
    let asked = Instant::now();
    let outcome = authorize(&client, "536365", 100).await;
    assert!(asked.elapsed() >= Duration::from_millis(40), "{:?}", asked.elapsed());
    assert_eq!((outcome.verdict, outcome.repeated, outcome.attempts), (Verdict::Accepted, false, 0));
    assert_eq!(server.counts().injected.late, 1);
}

#[tokio::test]
async fn a_gateway_that_falls_over_has_charged_before() {
    let house = House::new().await;
    let seed = 19;
    println!("seed={seed}");
    let (falls, entries) = (Arc::new(AtomicU64::new(0)), house.ledger());
    let counter = Arc::clone(&falls);
    let behaviour = Behaviour { fall_over: 1.0, ..Behaviour::default() };
    let settings = on_fall_over(ServerSettings { behaviour, seed, ..ServerSettings::default() }, move || {
        let entries = tillroll_client::saga::gateway::read_ledger(&entries).unwrap().entries;
        counter.fetch_add(entries.len() as u64, Ordering::SeqCst);
    });
    let server = house.start(settings).await;
    let outcome = authorize(&house.client(), "536365", 100).await;
    assert_eq!((outcome.verdict, outcome.repeated, outcome.attempts), (Verdict::Accepted, true, 1));
    assert_eq!(falls.load(Ordering::SeqCst), 1, "once, and with the charge in the ledger");
    let answer = raw(&house, "/v1/capture", None, r#"{"amount":5,"order":"536365"}"#).await;
    assert_eq!(answer, None, "it is hung up on");
    assert_eq!(server.counts().injected.fell_over, 2);
}

#[tokio::test]
async fn a_gateway_that_comes_back_meets_other_fates() {
    const ORDERS: u64 = 64;
    let house = House::new().await;
    let mut fates = Vec::new();
    for start in 0..2 {
        let server = house.gateway(23, Behaviour { decline: 0.5, ..Behaviour::default() }).await;
        let client = house.client_with(ClientSettings { try_timeout: PATIENCE, ..quick() });
        for order in 0..ORDERS {
            fates.push(authorize(&client, &format!("{start}-{order}"), 100).await.verdict);
        }
        server.stop().await;
    }
    assert_ne!(fates[..ORDERS as usize], fates[ORDERS as usize..]);
}

#[tokio::test]
async fn a_stop_answers_what_is_late_and_hangs_up_on_what_times_out() {
    let house = House::new().await;
    let hour = DelayMs(3_600_000, 3_600_000);
    let server = house.gateway(20, Behaviour { late: 1.0, late_ms: hour, ..Behaviour::default() }).await;
    let client = house.client_with(ClientSettings { try_timeout: PATIENCE, ..quick() });
    let asking = client.clone();
    let late = tokio::spawn(async move { authorize(&asking, "late", 100).await });
    counted(&client, |counts| counts.injected.late == 1).await;
    client.behave(&serde_json::json!({"late": 0, "time_out": 1})).await.unwrap();
    let asking = client.clone();
    let hung = tokio::spawn(async move { authorize(&asking, "hung", 100).await });
    counted(&client, |counts| counts.injected.timed_out == 1).await;
    server.stop().await;
    let outcome = within("what is late", late).await.unwrap();
    assert_eq!((outcome.repeated, outcome.attempts), (false, 0));
    let _server = house.gateway(21, Behaviour::default()).await;
    let outcome = within("what was hung up on", hung).await.unwrap();
    assert!(outcome.repeated && outcome.attempts > 0, "{outcome:?}");
    assert_eq!(house.entries().len(), 2);
}

#[tokio::test]
async fn a_behaviour_that_makes_no_sense_is_refused_and_nothing_changes() {
    let house = House::new().await;
    let _server = house.gateway(22, Behaviour { decline: 0.5, ..Behaviour::default() }).await;
    let client = house.client();
    let error = client.behave(&serde_json::json!({"declines": 1})).await.unwrap_err();
    assert!(matches!(&error, QueryError::Refused { what } if what.contains("`declines`")), "{error}");
    let behaviour = client.behave(&serde_json::json!({})).await.unwrap();
    assert_eq!(behaviour, Behaviour { decline: 0.5, ..Behaviour::default() });
    let (status, body) = raw(&house, "/v1/behaviour", None, "").await.unwrap();
    assert_eq!((status, serde_json::from_str(&body).unwrap()), (200, behaviour));
}
