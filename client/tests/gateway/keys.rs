//! What a key promises.

use tillroll_client::saga::gateway::{Behaviour, Charge, Key, Operation, Outcome, Refusal, Standing, Verdict};

use crate::house::{House, assert_once, authorize, authorize_all, counted, raw};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_with_one_key_at_once_charge_once() {
    let house = House::new().await;
    let server = house.gateway(1, Behaviour::default()).await;
    let (one, other) = (house.client(), house.client());
    let (first, second) = tokio::join!(authorize_all(&one, 500), authorize_all(&other, 500));
    for (order, outcome) in &first {
        let again = second[order];
        assert_eq!((outcome.verdict, outcome.charge), (again.verdict, again.charge), "{order}");
        if outcome.attempts + again.attempts == 0 {
            assert_ne!(outcome.repeated, again.repeated, "one of them charged order {order}");
        }
    }
    server.stop().await;
    assert_once(&house.entries(), &first);
}

#[tokio::test]
async fn without_a_key_every_request_charges() {
    let house = House::new().await;
    let server = house.gateway(2, Behaviour::default()).await;
    for charge in 1..=3 {
        let answer = raw(&house, "/v1/capture", None, r#"{"amount":5,"order":"536365"}"#).await;
        assert_eq!(answer, Some((200, format!(r#"{{"outcome":"accepted","charge":{charge},"repeated":false}}"#))));
    }
    assert_eq!((server.counts().captured, server.counts().keyless), (3, 3));
    assert!(house.entries().iter().all(|entry| entry.key.is_none() && entry.amount == 5));
}

#[tokio::test]
async fn a_key_that_stands_for_another_charge_is_refused_and_nothing_is_charged() {
    let house = House::new().await;
    let server = house.gateway(3, Behaviour::default()).await;
    let client = house.client();
    authorize(&client, "536365", 100).await;
    let key: Key = "authorize:536365".parse().unwrap();
    let charge = Charge { operation: Operation::Authorize, order: "536365", request: None, amount: 100 };
    for other in [
        Charge { amount: 101, ..charge },
        Charge { operation: Operation::Capture, ..charge },
        Charge { order: "536366", ..charge },
    ] {
        match client.charge(&key, other).await {
            Err(Refusal::Mismatch { what }) => assert!(what.ends_with("order=536365 amount=100"), "{what}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.charge(&key, Charge { amount: 0, ..charge }).await, Err(Refusal::NoAmount));
    let answer = raw(&house, "/v1/void", Some(key.as_str()), r#"{"amount":100,"order":"536365"}"#).await;
    assert_eq!(answer.map(|(status, _)| status), Some(422));
    assert_eq!(server.counts().injected.mismatched, 4);
    assert_eq!(house.entries().len(), 1);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_nothing_is_charged() {
    async fn check(house: &House, key: Option<&str>, body: &str, expected: &str) {
        let (status, words) = raw(house, "/v1/authorize", key, body).await.expect("an answer");
        assert_eq!(status, 400, "{body}");
        assert!(words.contains(expected), "{words}");
    }
    let house = House::new().await;
    let server = house.gateway(4, Behaviour::default()).await;
    check(&house, None, "{}", "missing field `amount`").await;
    check(&house, None, r#"{"amount":0,"order":"a"}"#, "an amount of 0").await;
    check(&house, None, r#"{"amount":-5,"order":"a"}"#, "invalid value").await;
    check(&house, None, "amount=5", "expected value").await;
    check(&house, Some("a b"), r#"{"amount":5,"order":"a"}"#, "not visible ASCII").await;
    check(&house, Some(""), r#"{"amount":5,"order":"a"}"#, "a key is empty").await;
    check(&house, Some(&"a".repeat(300)), r#"{"amount":5,"order":"a"}"#, "a key is too long").await;
    check(&house, None, &format!(r#"{{"amount":5,"order":"a","request":"{}"}}"#, "a".repeat(70_000)), "too long").await;
    assert_eq!(raw(&house, "/v1/authorize", None, "").await.map(|(status, _)| status), Some(405));
    assert_eq!(raw(&house, "/v1/charge", None, "{}").await.map(|(status, _)| status), Some(404));
    assert_eq!(server.counts().injected.malformed, 8);
    assert_eq!(house.entries(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decline_stays_a_decline_under_its_key_and_over_restarts() {
    let house = House::new().await;
    let declining = Behaviour { decline: 0.4, ..Behaviour::default() };
    let server = house.gateway(5, declining.clone()).await;
    let first = authorize_all(&house.client(), 200).await;
    let declined = first.values().filter(|outcome| outcome.verdict == Verdict::Declined).count();
    assert!((40..120).contains(&declined), "{declined} of 200");
    assert_eq!(server.counts().declined, declined as u64);
    server.stop().await;
    // Another stream of fates decides nothing that was decided.
    let server = house.gateway(6, declining).await;
    assert_eq!((server.opened().entries, server.opened().torn_bytes), (200, 0));
    assert_eq!(server.counts().declined, declined as u64);
    let second = authorize_all(&house.client(), 200).await;
    for (order, outcome) in &first {
        let Outcome { verdict, charge, repeated, .. } = second[order];
        assert_eq!((verdict, charge, repeated), (outcome.verdict, outcome.charge, true), "{order}");
    }
    server.stop().await;
    assert_once(&house.entries(), &first);
}

#[tokio::test]
async fn only_authorisations_are_declined() {
    let house = House::new().await;
    let server = house.gateway(7, Behaviour { decline: 1.0, ..Behaviour::default() }).await;
    let client = house.client();
    for operation in Operation::ALL {
        let charge = Charge { operation, order: "536365", request: None, amount: 100 };
        let outcome = client.charge(&charge.key().unwrap(), charge).await.unwrap();
        assert_eq!(outcome.verdict == Verdict::Declined, operation == Operation::Authorize, "{operation}");
    }
    let counts = server.counts();
    assert_eq!((counts.authorized, counts.captured, counts.voided, counts.refunded, counts.declined), (0, 1, 1, 1, 1));
}

#[tokio::test]
async fn what_is_known_of_a_key_can_be_asked() {
    let house = House::new().await;
    let _server = house.gateway(8, Behaviour::default()).await;
    let client = house.client();
    // Signs that mean something in a path.
    let key: Key = "refund:536365:C/5?a=%41#".parse().unwrap();
    assert_eq!(client.outcome(&key).await.unwrap(), None);
    let charge = Charge { operation: Operation::Refund, order: "536365", request: Some("C/5"), amount: 5 };
    client.charge(&key, charge).await.unwrap();
    assert_eq!(client.outcome(&key).await.unwrap(), Some(Standing::Accepted));
    let (status, body) = raw(&house, "/v1/outcomes/refund:536365:C%2F5%3Fa=%2541%23", None, "").await.unwrap();
    assert_eq!(status, 200);
    let expected = r#""operation":"refund","order":"536365","amount":5,"outcome":"accepted","charge":1}"#;
    assert!(body.ends_with(expected), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_reads_the_same_from_the_gateway_and_from_its_file() {
    let house = House::new().await;
    let server = house.gateway(9, Behaviour { decline: 0.1, ..Behaviour::default() }).await;
    let client = house.client();
    assert_eq!(client.ledger().await.unwrap(), []);
    // More than fits a piece.
    let told = authorize_all(&client, 3_000).await;
    let entries = client.ledger().await.unwrap();
    assert_once(&entries, &told);
    assert_eq!(entries, house.entries());
    let counts = counted(&client, |counts| counts.authorized + counts.declined == 3_000).await;
    assert!(counts.syncs < 3_000, "requests share a sync: {counts:?}");
    server.stop().await;
    assert_eq!(entries, house.entries());
}
