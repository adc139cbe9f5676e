//! What the payment service makes of a charge that can never be made: its step fails, and the order is named.

use tillroll_client::{
    processor::{Fact as _, Failed, Output, Service, Told, Trigger},
    saga::{
        gateway::{Behaviour, Client},
        payload::{Event, Line, OrderPlaced, PaymentAuthorized},
        service::{Payment, Purses, Word},
    },
};

use crate::house::{House, PATIENCE, authorize, counted};

type Says = Result<Vec<Output<<Payment<Client> as Service>::Fact>>, Failed>;

/// The step for the placement of an order that costs so much.
async fn placed(client: &Client, order: &str, pence: u64) -> Says {
    let (code, description) = ("85123A".to_owned(), "WHITE HANGING HEART".to_owned());
    let line = Line { line: 1, code, description, units: 1, price_mills: pence * 10, service: false };
    let placed = Event::from(OrderPlaced { customer: None, address: "Bergen".to_owned(), lines: vec![line] });
    let fact = Word::decode(placed.kind(), &placed.encode()).expect("well formed").expect("it is heard");
    let told = Told { key: order.to_owned(), id: "p".to_owned(), append_time_us: 1, fact };
    let (service, mut purses) = (Payment::new(client.clone()), Purses::default());
    service.observe(&mut purses, &told);
    let mut answers = Vec::new();
    for call in service.calls(&purses, &told) {
        let answer = tokio::time::timeout(PATIENCE, service.perform(call)).await;
        answers.push(answer.expect("a charge that can never be made is not asked for ever"));
    }
    service.decide(&purses, &Trigger::Input(&told), &answers)
}

#[tokio::test]
async fn an_order_that_can_never_be_charged_for_fails_its_step() {
    let house = House::new().await;
    let server = house.gateway(11, Behaviour::default()).await;
    let client = house.client();
    let (long, longer) = ("1".repeat(101), "1".repeat(300));
    for (order, wrong) in [
        ("", "key=authorize:: the gateway does not take the request: a name is empty"),
        (&long, "a name is empty, longer than 100 bytes"),
        (&longer, "a key is too long"),
        ("5 36365", "not visible ASCII"),
        ("53636é", "not visible ASCII"),
        ("536:365", "the order of a key has a colon"),
    ] {
        let failed = placed(&client, order, 100).await.expect_err(order);
        assert!(failed.wrong.contains(wrong) && failed.wrong.contains(order), "{order:?}: {failed}");
    }
    assert_eq!(house.entries(), [], "nothing was charged");
    assert_eq!(server.counts().injected.malformed, 2, "each was asked once, if at all");
}

#[tokio::test]
async fn a_key_that_stands_for_another_charge_fails_the_step() {
    let house = House::new().await;
    let _server = house.gateway(12, Behaviour::default()).await;
    let client = house.client();
    authorize(&client, "536365", 99).await;
    let failed = placed(&client, "536365", 100).await.expect_err("the order was charged another amount");
    assert!(failed.wrong.contains("key=authorize:536365: the key stands for another charge"), "{failed}");
}

/// What is not known is asked until it is, however long the gateway is away.
#[tokio::test]
async fn an_outcome_that_is_not_known_fails_no_step() {
    let house = House::new().await;
    let server = house.gateway(13, Behaviour { down: true, ..Behaviour::default() }).await;
    let client = house.client();
    let asking = tokio::spawn({
        let client = client.clone();
        async move { placed(&client, "536365", 100).await }
    });
    counted(&house.client(), |counts| counts.injected.unavailable > 20).await;
    assert!(!asking.is_finished(), "it is not known");
    client.behave(&serde_json::json!({ "down": false })).await.expect("it comes back");
    let says = tokio::time::timeout(PATIENCE, asking).await.expect("it is known").expect("no panic").expect("a step");
    let authorized = Event::from(PaymentAuthorized { amount: 100, key: Some("authorize:536365".to_owned()) });
    assert_eq!(says.into_iter().map(|said| said.fact).collect::<Vec<_>>(), [Word::Said(authorized)]);
    assert_eq!(server.counts().authorized, 1);
}
