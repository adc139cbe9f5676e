//! The flow as one table: who emits each type of event, on which topic, because of what.
//!
//! An event's cause is the input of its step. Where several conditions have to be met it is the last of them, and
//! topics are not ordered against each other, so each of the conditions can be it. What a customer asked before may
//! have waited for the event that decides the order, or for its shipment; or it was read before the placement.

use super::super::payload::{
    AddressChangeRefused, AddressChangeRequested, CancelReason, CancelRequested, InventoryRejected, InventoryReleased,
    InventoryReserved, InventoryReturned, InventoryUpdated, Notice, NotificationSent, OrderCancelled, OrderCancelling,
    OrderConfirmed, OrderFulfilled, OrderPlaced, PaymentAuthorized, PaymentCaptured, PaymentDeclined, PaymentVoided,
    PlacementRefused, RefundProcessed, ReturnAccepted, ReturnRefused, ReturnRequested, StockChangeRequested, group,
    topic,
};

/// A type of event in the flow.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The type.
    pub(crate) kind: &'static str,
    /// The topic that it stands on.
    pub(crate) on: &'static str,
    /// The group that emits it, which is its source; or the storefront, which needs no cause.
    pub(crate) by: &'static str,
    /// What it may be caused by.
    pub(crate) causes: &'static [Cause],
}

/// What may cause an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An event of this type.
    Input(&'static str),
    /// An event of this type, to an effect that moves nothing: a decline of which the gateway was not asked.
    InputToNothing(&'static str),
    /// An event of this type that moves nothing: a reservation of no lines.
    InputOfNothing(&'static str),
    /// An event of this type, for which an order is given up so. It does not move nothing: a decline is one that the
    /// gateway gave.
    GivesUp(&'static str, CancelReason),
    /// An event of this type, of which the customer is told so.
    Told(&'static str, Notice),
    /// The order's deadline, counted from its placement.
    Deadline,
}

impl Cause {
    /// The type of the causing event.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Input(kind)
            | Self::InputToNothing(kind)
            | Self::InputOfNothing(kind)
            | Self::GivesUp(kind, _)
            | Self::Told(kind, _) => kind,
            Self::Deadline => OrderPlaced::KIND,
        }
    }
}

use Cause::{Deadline, GivesUp, Input, InputOfNothing, InputToNothing, Told};

/// The whole flow.
pub(crate) static FLOW: [Rule; 24] = [
    row(OrderPlaced::KIND, topic::ORDERS, group::STOREFRONT, &[]),
    row(CancelRequested::KIND, topic::ORDERS, group::STOREFRONT, &[]),
    row(ReturnRequested::KIND, topic::ORDERS, group::STOREFRONT, &[]),
    row(AddressChangeRequested::KIND, topic::ORDERS, group::STOREFRONT, &[]),
    row(StockChangeRequested::KIND, topic::STOCK, group::STOREFRONT, &[]),
    // The order service: the answers to what was asked, and the decision.
    row(PlacementRefused::KIND, topic::ORDERS, group::ORDER, &[Input(OrderPlaced::KIND)]),
    row(AddressChangeRefused::KIND, topic::ORDERS, group::ORDER, &[Input(AddressChangeRequested::KIND)]),
    row(
        OrderConfirmed::KIND,
        topic::ORDERS,
        group::ORDER,
        // The placement itself is read last when its topic is behind.
        &[Input(PaymentAuthorized::KIND), Input(InventoryReserved::KIND), Input(OrderPlaced::KIND)],
    ),
    row(
        OrderCancelling::KIND,
        topic::ORDERS,
        group::ORDER,
        &[
            GivesUp(PaymentDeclined::KIND, CancelReason::PaymentDeclined),
            GivesUp(InventoryRejected::KIND, CancelReason::OutOfStock),
            GivesUp(CancelRequested::KIND, CancelReason::Requested),
            // A request was there before and takes what is in stock.
            GivesUp(InventoryReserved::KIND, CancelReason::Requested),
            // The placement is read last.
            GivesUp(OrderPlaced::KIND, CancelReason::PaymentDeclined),
            GivesUp(OrderPlaced::KIND, CancelReason::OutOfStock),
            GivesUp(OrderPlaced::KIND, CancelReason::Requested),
            Deadline,
        ],
    ),
    row(
        OrderCancelled::KIND,
        topic::ORDERS,
        group::ORDER,
        &[
            Input(PaymentVoided::KIND),
            Input(PaymentDeclined::KIND),
            Input(InventoryReleased::KIND),
            Input(InventoryRejected::KIND),
            InputOfNothing(InventoryReserved::KIND),
            Input(OrderPlaced::KIND),
        ],
    ),
    row(
        ReturnAccepted::KIND,
        topic::ORDERS,
        group::ORDER,
        &[Input(ReturnRequested::KIND), Input(CancelRequested::KIND), Input(OrderFulfilled::KIND)],
    ),
    row(
        ReturnRefused::KIND,
        topic::ORDERS,
        group::ORDER,
        &[
            Input(ReturnRequested::KIND),
            Input(CancelRequested::KIND),
            Input(OrderFulfilled::KIND),
            // It waited for the decision, which is that the order is given up.
            Input(PaymentDeclined::KIND),
            Input(InventoryRejected::KIND),
            Input(InventoryReserved::KIND),
            Input(OrderPlaced::KIND),
            Deadline,
        ],
    ),
    // The payment service.
    row(PaymentAuthorized::KIND, topic::PAYMENTS, group::PAYMENT, &[Input(OrderPlaced::KIND)]),
    row(
        PaymentDeclined::KIND,
        topic::PAYMENTS,
        group::PAYMENT,
        &[Input(OrderPlaced::KIND), InputToNothing(OrderCancelling::KIND)],
    ),
    row(
        PaymentCaptured::KIND,
        topic::PAYMENTS,
        group::PAYMENT,
        // The confirmation comes last when the shipment was read before it.
        &[Input(OrderFulfilled::KIND), Input(OrderConfirmed::KIND)],
    ),
    row(
        PaymentVoided::KIND,
        topic::PAYMENTS,
        group::PAYMENT,
        &[
            // Also of an authorisation that was found after the order was being cancelled: the step for the decision
            // waits for it.
            Input(OrderCancelling::KIND),
            Input(OrderFulfilled::KIND),
            Input(OrderConfirmed::KIND),
        ],
    ),
    row(
        RefundProcessed::KIND,
        topic::PAYMENTS,
        group::PAYMENT,
        &[Input(ReturnAccepted::KIND), Input(OrderFulfilled::KIND)],
    ),
    // The inventory service.
    row(InventoryReserved::KIND, topic::INVENTORY, group::INVENTORY, &[Input(OrderPlaced::KIND)]),
    row(InventoryRejected::KIND, topic::INVENTORY, group::INVENTORY, &[Input(OrderPlaced::KIND)]),
    row(
        InventoryReleased::KIND,
        topic::INVENTORY,
        group::INVENTORY,
        &[Input(OrderConfirmed::KIND), Input(OrderCancelling::KIND)],
    ),
    row(InventoryReturned::KIND, topic::INVENTORY, group::INVENTORY, &[Input(ReturnAccepted::KIND)]),
    row(InventoryUpdated::KIND, topic::INVENTORY, group::INVENTORY, &[Input(StockChangeRequested::KIND)]),
    // Fulfilment and notification.
    row(OrderFulfilled::KIND, topic::FULFILMENT, group::FULFILMENT, &[Input(OrderConfirmed::KIND)]),
    row(
        NotificationSent::KIND,
        topic::NOTIFICATIONS,
        group::NOTIFICATION,
        &[
            Told(OrderConfirmed::KIND, Notice::Confirmed),
            Told(OrderCancelled::KIND, Notice::Cancelled),
            Told(OrderFulfilled::KIND, Notice::Shipped),
            Told(RefundProcessed::KIND, Notice::Refunded),
        ],
    ),
];

const fn row(kind: &'static str, on: &'static str, by: &'static str, causes: &'static [Cause]) -> Rule {
    Rule { kind, on, by, causes }
}

/// The rule of a type; none when the flow does not know it.
pub(crate) fn rule(kind: &str) -> Option<&'static Rule> {
    FLOW.iter().find(|rule| rule.kind == kind)
}

/// The topics that a group has to read, or it would miss a cause of what it emits.
pub(crate) fn topics_read(group: &str) -> Vec<&'static str> {
    let causes = FLOW.iter().filter(|rule| rule.by == group).flat_map(|rule| rule.causes);
    let mut topics: Vec<&'static str> = causes.filter_map(|cause| rule(cause.kind())).map(|rule| rule.on).collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saga::payload::Event;

    #[test]
    fn every_type_has_one_rule_and_every_cause_a_type() {
        for kind in Event::KINDS {
            assert_eq!(FLOW.iter().filter(|rule| rule.kind == *kind).count(), 1, "{kind}");
        }
        assert_eq!(FLOW.len(), Event::KINDS.len());
        for rule in &FLOW {
            assert_eq!(rule.causes.is_empty(), rule.by == group::STOREFRONT, "{}", rule.kind);
            assert!(topic::ALL.contains(&rule.on), "{}", rule.kind);
            for cause in rule.causes {
                assert!(super::rule(cause.kind()).is_some(), "{} because of {}", rule.kind, cause.kind());
            }
        }
    }

    #[test]
    fn a_group_reads_what_its_events_come_from() {
        let check = |group, topics: &[&str]| assert_eq!(topics_read(group), topics, "{group}");
        check(group::ORDER, &[topic::FULFILMENT, topic::INVENTORY, topic::ORDERS, topic::PAYMENTS]);
        check(group::PAYMENT, &[topic::FULFILMENT, topic::ORDERS]);
        check(group::INVENTORY, &[topic::ORDERS, topic::STOCK]);
        check(group::FULFILMENT, &[topic::ORDERS]);
        check(group::NOTIFICATION, &[topic::FULFILMENT, topic::ORDERS, topic::PAYMENTS]);
    }
}
