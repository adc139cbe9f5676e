use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use super::{
    super::{Charge, ExpectedInput, Log, Terms, judge},
    good::{Shop, accepted, cancel, confirmed, give_back},
};
use crate::saga::payload::{Line, Notice, OrderPlaced};

/// How many orders are judged; 20,000 are a year.
const ORDERS: &str = "TILLROLL_CHECK_ORDERS";
/// Codes of products.
const CODES: u64 = 3_804;

/// Orders of about 27 lines, one in five short of one of them, one in ten cancelled in part, one in five returned in
/// part, one in fifty placed twice. Each order's events are taken in and forgotten, as those of a broker are.
#[test]
fn a_log_is_judged_in_one_reading() {
    let orders: u64 = std::env::var(ORDERS).map_or(300, |count| count.parse().expect("a number of orders"));
    let (mut shop, mut log, mut taking, mut bytes) = (Shop::default(), Log::new(), Duration::ZERO, 0);
    for code in 0..CODES {
        shop.stock(&format!("C{code}"), &format!("opening-{code}"), 1_000_000, 1_000_000);
    }
    for number in 0..orders {
        order(&mut shop, number);
        bytes += take(&mut shop, &mut log, &mut taking);
    }
    let began = Instant::now();
    let ledger: Vec<Charge> = std::mem::take(&mut shop.ledger);
    let verdict = judge(log, &Terms { ledger: Some(&ledger), ..Terms::default() });
    let judging = began.elapsed();
    assert!(verdict.holds(), "{verdict}");
    assert_eq!(verdict.counts.orders, orders);
    println!(
        "{verdict}: {} MB of payloads, gathered in {taking:.2?}, judged in {judging:.2?}{}",
        bytes >> 20,
        peak_memory()
    );
}

fn take(shop: &mut Shop, log: &mut Log, taking: &mut Duration) -> usize {
    shop.before += shop.events.len();
    shop.input = ExpectedInput::default();
    let mut bytes = 0;
    for said in shop.events.drain(..) {
        let received = said.received();
        bytes += received.record.value.len();
        let began = Instant::now();
        log.take(&received);
        *taking += began.elapsed();
    }
    bytes
}

/// An order whose shape follows from its number.
fn order(shop: &mut Shop, number: u64) {
    let name = (536_365 + number).to_string();
    let (short, cancels, returns) = (number % 5 == 1, number % 10 == 3, number % 5 == 2);
    let mut lines: Vec<Line> = (1..=5 + number % 43).map(|line| bought(number, line as u32)).collect();
    if let Some(last) = lines.last_mut().filter(|_| short) {
        last.code = "NEVER".into();
    }
    let content = OrderPlaced { customer: None, address: "United Kingdom".into(), lines: lines.clone() };
    let amount: u64 = lines.iter().map(|line| line.pence(line.units)).sum();
    let placed = shop.storefront(&name, content.clone());
    if number.is_multiple_of(50) {
        shop.storefront(&name, content);
    }
    if cancels {
        shop.storefront(&name, cancel("C1", &[(1, lines[0].units)]));
    }
    let authorized = shop.authorized(&name, amount);
    let [authorized] = shop.payment(placed, [authorized]);
    let there = &lines[..lines.len() - usize::from(short)];
    let stocked: Vec<(u32, &str, u64)> = there.iter().map(|line| (line.line, line.code.as_str(), line.units)).collect();
    let missing: Vec<u32> = lines[there.len()..].iter().map(|line| line.line).collect();
    let reserved = shop.reserved(placed, &stocked, &missing);
    let sold = &there[usize::from(cancels)..];
    let units: Vec<(u32, u64)> = sold.iter().map(|line| (line.line, line.units)).collect();
    let paid: u64 = sold.iter().map(|line| line.pence(line.units)).sum();
    let requests: &[&str] = if cancels { &["C1"] } else { &[] };
    let [confirmed] = shop.order(reserved, [confirmed(&units, paid, "United Kingdom", requests)]);
    shop.told(confirmed, Notice::Confirmed);
    if cancels {
        shop.released(confirmed, &stocked[..1], reserved);
    }
    let fulfilled = shop.fulfilled(confirmed, &units);
    shop.told(fulfilled, Notice::Shipped);
    let captured = shop.captured(&name, paid);
    let captured = if paid < amount {
        let rest = shop.id(authorized);
        let outputs = [captured, shop.voided(&name, amount - paid, rest)];
        shop.payment(fulfilled, outputs)[0]
    } else {
        shop.payment(fulfilled, [captured])[0]
    };
    if returns {
        let back = &sold[0];
        let asked = shop.storefront(&name, give_back("R1", &[(back.line, back.units)]));
        let (shipped, bought) = (shop.id(fulfilled), shop.id(captured));
        let worth = back.pence(back.units);
        let [accepted] = shop.order(asked, [accepted("R1", &[(back.line, back.units)], worth, shipped)]);
        let refund = shop.refunded(&name, "R1", worth, bought);
        let [refund] = shop.payment(accepted, [refund]);
        shop.told(refund, Notice::Refunded);
        shop.returned(accepted, "R1", &[(back.line, &back.code, back.units)], fulfilled);
    }
}

fn bought(number: u64, line: u32) -> Line {
    let mixed = (number * 31 + u64::from(line)) * 2_654_435_761;
    Line {
        line,
        code: format!("C{}", mixed % CODES),
        description: "WHITE HANGING HEART T-LIGHT HOLDER".into(),
        units: 1 + mixed % 12,
        price_mills: 5 * (1 + mixed % 997),
        service: false,
    }
}

/// The most memory that the process has had, where the system says so.
fn peak_memory() -> String {
    let mut said = String::new();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
        write!(said, ", at most {} of memory", peak.trim()).expect("a text grows");
    }
    said
}
