//! Tells the customer: `NotificationSent`, one per order and notice, and one per refund.
//!
//! What it said is all that it keeps, and of most of its inputs it reads nothing but the type. A mail is no part of the
//! log: whoever sends mails for these events sends one twice when it falls over in between.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::{ByKey, Hear, Word, hears, read, say};
use crate::{
    processor::{Failed, Malformed, Output, Service, Told, Trigger},
    saga::payload::{
        Event, Notice, NotificationSent, OrderCancelled, OrderConfirmed, OrderFulfilled, RefundProcessed, group, topic,
    },
};

/// The service that tells the customer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notification;

/// What it hears: a reason to tell the customer something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    notice: Notice,
    request: Option<Box<str>>,
}

impl Hear for Reason {
    const HEARS: &'static [(&'static str, &'static [&'static str])] = &[
        (topic::ORDERS, &[OrderConfirmed::KIND, OrderCancelled::KIND]),
        (topic::PAYMENTS, &[RefundProcessed::KIND]),
        (topic::FULFILMENT, &[OrderFulfilled::KIND]),
    ];

    fn hear(kind: &str, payload: &[u8]) -> Result<Option<Self>, Malformed> {
        #[derive(Deserialize)]
        struct Refund {
            request: Box<str>,
        }

        let (notice, request) = match kind {
            OrderConfirmed::KIND => (Notice::Confirmed, None),
            OrderCancelled::KIND => (Notice::Cancelled, None),
            OrderFulfilled::KIND => (Notice::Shipped, None),
            RefundProcessed::KIND => (Notice::Refunded, Some(read::<Refund>(kind, payload)?.request)),
            _ => return Ok(None),
        };
        Ok(Some(Self { notice, request }))
    }
}

/// What customers were told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notices {
    orders: ByKey<Sent>,
    sent: u64,
}

/// What was told about an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    /// A bit for each notice about the order.
    notices: u8,
    /// Requests whose refunds were told.
    refunds: Vec<Box<str>>,
}

impl Notices {
    /// How many notices were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }
}

impl Sent {
    fn has(&self, notice: Notice, request: Option<&str>) -> bool {
        match request {
            Some(request) => self.refunds.iter().any(|told| **told == *request),
            None => self.notices & bit(notice) != 0,
        }
    }
}

fn bit(notice: Notice) -> u8 {
    match notice {
        Notice::Confirmed => 1,
        Notice::Cancelled => 2,
        Notice::Shipped => 4,
        Notice::Refunded => 8,
    }
}

impl Service for Notification {
    type Fact = Word<Reason>;
    type State = Notices;
    type Call = Infallible;
    type Answer = Infallible;

    fn name(&self) -> &str {
        group::NOTIFICATION
    }

    fn writes(&self) -> &[&'static str] {
        &[topic::NOTIFICATIONS]
    }

    fn wants(&self, topic: &str, kind: &str) -> bool {
        hears::<Reason>(topic, kind)
    }

    fn observe(&self, _: &mut Notices, _: &Told<Self::Fact>) {}

    async fn perform(&self, call: Infallible) -> Infallible {
        call
    }

    fn decide(
        &self,
        state: &Notices,
        trigger: &Trigger<'_, Self::Fact>,
        _: &[Infallible],
    ) -> Result<Vec<Output<Self::Fact>>, Failed> {
        let Trigger::Input(Told { key, fact: Word::Heard(_, Reason { notice, request }), .. }) = trigger else {
            return Ok(Vec::new());
        };
        if state.orders.get(key).is_some_and(|sent| sent.has(*notice, request.as_deref())) {
            return Ok(Vec::new());
        }
        Ok(vec![say(key, NotificationSent { notice: *notice, request: request.as_deref().map(str::to_owned) })])
    }

    fn apply(&self, state: &mut Notices, output: &Told<Self::Fact>) {
        let Word::Said(Event::NotificationSent(NotificationSent { notice, request })) = &output.fact else {
            return;
        };
        let sent = state.orders.of(&output.key);
        if sent.has(*notice, request.as_deref()) {
            return;
        }
        match request {
            Some(request) => sent.refunds.push(request.as_str().into()),
            None => sent.notices |= bit(*notice),
        }
        state.sent += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saga::{
        payload::CancelReason,
        service::tests::{Story, confirmed, fulfilled},
    };

    fn refund(request: &str) -> Event {
        RefundProcessed { request: request.into(), amount: 1, key: None, compensates: "e1".into() }.into()
    }

    fn sent(notice: Notice, request: Option<&str>) -> Event {
        NotificationSent { notice, request: request.map(str::to_owned) }.into()
    }

    #[test]
    fn each_notice_is_sent_once_per_order() {
        let mut story = Story::new(Notification);
        for _ in 0..2 {
            story.hear("1", confirmed(&[(1, 1)], 5));
            story.hear("1", fulfilled(&[(1, 1)]));
            story.hear("2", OrderCancelled { reason: CancelReason::Deadline });
        }
        let about_1 = [sent(Notice::Confirmed, None), sent(Notice::Shipped, None)];
        assert_eq!(story.about("1"), about_1);
        assert_eq!(story.about("2"), [sent(Notice::Cancelled, None)]);
        assert_eq!(story.state.sent(), 3);
    }

    #[test]
    fn a_refund_is_told_once_per_request() {
        let mut story = Story::new(Notification);
        assert_eq!(story.hear("1", refund("C1")), [sent(Notice::Refunded, Some("C1"))]);
        assert_eq!(story.hear("1", refund("C1")), []);
        assert_eq!(story.hear("1", refund("C2")), [sent(Notice::Refunded, Some("C2"))]);
        assert_eq!(story.hear("2", refund("C1")), [sent(Notice::Refunded, Some("C1"))]);
    }
}
