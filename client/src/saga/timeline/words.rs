//! What an event says, in a few words: money in pounds, goods in units and lines, reasons as sentences.

use super::super::payload::{CancelReason, Event as Payload, Notice, RefusedReason, StockUnits, Units};

/// What an event says, in a few words.
pub(super) fn says(payload: &Payload) -> String {
    match payload {
        Payload::OrderPlaced(fact) => {
            let pence: u128 = fact.lines.iter().map(|line| u128::from(line.pence(line.units))).sum();
            let customer = fact.customer.as_deref().map_or_else(|| "a guest".into(), |name| format!("customer {name}"));
            let units: u128 = fact.lines.iter().map(|line| u128::from(line.units)).sum();
            format!(
                "{} for {customer}, {units} units of {}, to {}",
                pounds(pence),
                lines(fact.lines.len()),
                fact.address
            )
        }
        Payload::CancelRequested(fact) => format!("{}: {}", fact.request, units(&fact.lines)),
        Payload::ReturnRequested(fact) => format!("{}: {}", fact.request, units(&fact.lines)),
        Payload::AddressChangeRequested(fact) => format!("{}: to {}", fact.request, fact.address),
        Payload::PlacementRefused(fact) => format!("{}: {}", fact.placement, refused(fact.reason)),
        Payload::AddressChangeRefused(fact) => format!("{}: {}", fact.request, refused(fact.reason)),
        Payload::OrderConfirmed(fact) => {
            let contained = contained(&fact.requests);
            format!("{}, {}, to {}{contained}", pounds(fact.amount.into()), units(&fact.lines), fact.address)
        }
        Payload::OrderCancelling(fact) => format!("{}{}", cancelled(fact.reason), contained(&fact.requests)),
        Payload::OrderCancelled(fact) => cancelled(fact.reason).to_owned(),
        Payload::ReturnAccepted(fact) => {
            format!("{}: {}, {}", fact.request, units(&fact.lines), pounds(fact.amount.into()))
        }
        Payload::ReturnRefused(fact) => format!("{}: {}", fact.request, refused(fact.reason)),
        Payload::PaymentAuthorized(fact) => paid(fact.amount, fact.key.as_deref()),
        Payload::PaymentDeclined(fact) => paid(fact.amount, fact.key.as_deref()),
        Payload::PaymentCaptured(fact) => paid(fact.amount, fact.key.as_deref()),
        Payload::PaymentVoided(fact) => paid(fact.amount, fact.key.as_deref()),
        Payload::RefundProcessed(fact) => format!("{}: {}", fact.request, paid(fact.amount, fact.key.as_deref())),
        Payload::InventoryReserved(fact) => {
            let short =
                if fact.short.is_empty() { String::new() } else { format!(", {} short", lines(fact.short.len())) };
            format!("{}{short}", stocked(&fact.lines))
        }
        Payload::InventoryRejected(fact) => format!("{} short", lines(fact.short.len())),
        Payload::InventoryReleased(fact) => stocked(&fact.lines),
        Payload::InventoryReturned(fact) => format!("{}: {}", fact.request, stocked(&fact.lines)),
        Payload::InventoryUpdated(fact) => format!("{}: {:+} of {:+}", fact.request, fact.applied, fact.asked),
        Payload::OrderFulfilled(fact) => units(&fact.lines),
        Payload::NotificationSent(fact) => {
            let of = fact.request.as_deref().map(|request| format!(" {request}")).unwrap_or_default();
            format!("{}{of}", told(fact.notice))
        }
        Payload::StockChangeRequested(fact) => format!("{}: {:+}", fact.request, fact.units),
    }
}

fn pounds(pence: u128) -> String {
    format!("£{}.{:02}", pence / 100, pence % 100)
}

fn paid(amount: u64, key: Option<&str>) -> String {
    let asked = if key.is_none() { ", nobody asked" } else { "" };
    format!("{}{asked}", pounds(amount.into()))
}

fn lines(count: usize) -> String {
    format!("{count} {}", if count == 1 { "line" } else { "lines" })
}

fn units(units: &[Units]) -> String {
    amount(units.iter().map(|units| units.units), units.len())
}

fn stocked(units: &[StockUnits]) -> String {
    amount(units.iter().map(|units| units.units), units.len())
}

fn amount(units: impl Iterator<Item = u64>, count: usize) -> String {
    let sum: u128 = units.map(u128::from).sum();
    format!("{sum} {} of {}", if sum == 1 { "unit" } else { "units" }, lines(count))
}

fn contained(requests: &[String]) -> String {
    if requests.is_empty() { String::new() } else { format!(", with {}", requests.join(", ")) }
}

fn cancelled(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::PaymentDeclined => "the payment was declined",
        CancelReason::OutOfStock => "nothing of it is in stock",
        CancelReason::Requested => "the customer asked for it",
        CancelReason::Deadline => "it was not decided in time",
    }
}

fn refused(reason: RefusedReason) -> &'static str {
    match reason {
        RefusedReason::OrderCancelled => "the order is cancelled",
        RefusedReason::NothingToReturn => "nothing of it can be returned",
        RefusedReason::TooLate => "the order is decided",
        RefusedReason::OtherContent => "an order of this id has another content",
    }
}

fn told(notice: Notice) -> &'static str {
    match notice {
        Notice::Confirmed => "confirmed",
        Notice::Cancelled => "cancelled",
        Notice::Shipped => "on its way",
        Notice::Refunded => "refunded",
    }
}
