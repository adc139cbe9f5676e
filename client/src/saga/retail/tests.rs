//! Goal: every rule of the mapping, and every kind of dirt, on files of a few lines; what is refused, and how; and the
//! counts of real files.
//!
//! Method: rows are written here without the columns that a test does not speak of. The numbers of the real files come
//! from the saga's page, and for what it does not say from a count of their own over the same lines.

mod refused;
mod year;

use super::*;
use crate::{processor::Fact as _, saga::payload::topic};

const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";
const DAY: i64 = 1_291_161_600_000_000;

/// Rows `invoice code units time price customer`, apart by blanks; `-` is no customer. All on the first day.
fn shop(rows: &[&str]) -> Shop {
    let row = |row: &&str| {
        let cells: Vec<&str> = row.split_whitespace().collect();
        let [invoice, code, units, time, price, customer] = cells[..] else { panic!("six cells: {row}") };
        let customer = if customer == "-" { "" } else { customer };
        format!("{invoice},{code},ABOUT {code},{units},2010-12-01 {time},{price},{customer},France\n")
    };
    let text = HEADER.to_owned() + &rows.iter().map(row).collect::<String>();
    Shop::read_from(text.as_bytes()).expect("it is well formed")
}

/// What is asked back, as `credit order line×units,…`.
fn asked(shop: &Shop) -> Vec<String> {
    let lines = |lines: &[Units]| lines.iter().map(|of| format!("{}x{}", of.line, of.units)).collect::<Vec<_>>();
    let words = |request: &Request| format!("{} {} {}", request.id, request.order, lines(&request.lines).join(","));
    shop.requests.iter().map(words).collect()
}

/// What is not sent, as `invoice/line units reason`.
fn left(shop: &Shop) -> Vec<String> {
    let words = |left: &Unsent| format!("{}/{} {} {:?}", left.invoice, left.line, left.units, left.reason);
    shop.unsent.iter().map(words).collect()
}

fn at(hour: i64, minute: i64) -> i64 {
    DAY + (hour * 60 + minute) * 60_000_000
}

#[test]
fn an_order_is_what_stands_on_its_invoice() {
    let text = [
        HEADER,
        "1,15056bl,\" A \"\"LARGE\"\" PARASOL, £5 \",2,2010-12-01 08:26:00,5.95,17850.0,EIRE\n",
        "1,post,,1,2010-12-01 08:27:00,0.001,17850,EIRE\n",
    ];
    let shop = Shop::read_from(text.concat().as_bytes()).expect("it is well formed");
    let [order] = &shop.orders[..] else { panic!("one order: {shop:?}") };
    assert_eq!((order.id.as_str(), order.time_us, order.file_line), ("1", at(8, 26), 2));
    let parasol = Line {
        line: 1,
        code: "15056BL".into(),
        description: " A \"LARGE\" PARASOL, £5 ".into(),
        units: 2,
        price_mills: 5_950,
        service: false,
    };
    let postage =
        Line { line: 2, code: "POST".into(), description: String::new(), units: 1, price_mills: 1, service: true };
    let (customer, address) = (Some("17850".into()), "EIRE".into());
    assert_eq!(order.placed, OrderPlaced { customer, address, lines: vec![parasol, postage] });
    let dirt = &shop.counts.dirt;
    assert_eq!((dirt.codes_as_written, dirt.codes), (1, 1));
    assert_eq!((dirt.service_lines, dirt.empty_descriptions, dirt.lines_rounded_to_nothing), (1, 1, 1));
}

#[test]
fn lines_are_gathered_over_the_whole_file_and_keep_their_numbers() {
    let shop = shop(&[
        "1 A 1 08:00:00 1.0 7",
        "C2 A -1 08:01:00 1.0 7",
        "1 K 1 08:01:00 1.0 7",
        "3 A 1 08:02:00 1.0 7",
        "1 A 4 08:03:00 1.0 7",
    ]);
    let lines: Vec<_> = shop.orders[0].placed.lines.iter().map(|line| (line.line, line.code.as_str())).collect();
    assert_eq!(lines, [(1, "A"), (2, "K"), (3, "A")]);
    assert_eq!(shop.orders.iter().map(|order| order.id.as_str()).collect::<Vec<_>>(), ["1", "3"]);
    // An order that a credit interrupts is earlier as a whole; its first line goes first.
    assert_eq!(asked(&shop), ["C2 1 1x1"]);
}

#[test]
fn each_invoice_is_of_one_kind() {
    let shop = shop(&[
        "1 A 2 08:00:00 1.5 -",
        "2 A 1 08:00:00 0.0 7",
        "3 A -5 08:00:00 0.0 -",
        "4 A 6 08:00:00 0.0 -",
        "5 AMAZONFEE 1 08:00:00 99.99 -",
        "A6 B 1 08:00:00 -7.77 -",
        "C7 A -1 08:00:00 1.5 -",
        // A fee beside goods is a line of an order, as any service.
        "8 A 1 08:00:00 1.0 -",
        "8 amazonfee 1 08:00:00 1.0 -",
    ]);
    let tally = |invoices, lines, units, pence| Tally { invoices, lines, units, pence };
    let counts = &shop.counts;
    assert_eq!(counts.orders, tally(3, 4, 5, 500));
    assert_eq!(counts.stock_down, tally(1, 1, -5, 0));
    assert_eq!(counts.stock_up, tally(1, 1, 6, 0));
    assert_eq!(counts.fees, tally(1, 1, 1, 9_999));
    assert_eq!(counts.bad_debts, tally(1, 1, 1, -777));
    assert_eq!(counts.credits, tally(1, 1, -1, -150));
    assert_eq!(counts.total(), tally(8, 9, 7, 9_572));
    assert_eq!(left(&shop), ["5/1 1 Fee", "A6/1 1 BadDebt", "C7/1 -1 GuestCredit"]);
    let tallies = by_reason(&shop.unsent);
    assert_eq!(tallies[&Reason::BadDebt], UnsentTally { lines: 1, units: 1, pence: -777 });
    assert_eq!(tallies.len(), 3);
}

#[test]
fn stock_changes_by_line_and_never_for_services() {
    let shop = shop(&[
        "4 a 6 08:00:00 0.0 -",
        "4 M 3 08:00:00 0.0 -",
        "4 a 1 08:01:00 0.0 -",
        "5 K -7 08:02:00 0.0 -",
        "6 POST -1 08:02:00 0.0 -",
    ]);
    let changes: Vec<_> = shop
        .stock_changes
        .iter()
        .map(|change| (change.change.request.as_str(), change.code.as_str(), change.change.units, change.time_us))
        .collect();
    let expected = [("4/1", "A", 6, at(8, 0)), ("4/3", "A", 1, at(8, 0)), ("5/1", "K", -7, at(8, 2))];
    assert_eq!(changes, expected);
    assert_eq!((shop.counts.stock_changes, shop.counts.stock_service_lines), (3, 2));
    assert_eq!(left(&shop), ["4/2 3 ServiceStock", "6/1 -1 ServiceStock"]);
}

#[test]
fn a_credit_takes_its_own_price_first_and_of_that_the_latest() {
    let bought = [
        "1 A 5 08:00:00 2.0 7",
        "2 A 5 08:01:00 2.0 7",
        "3 A 5 08:02:00 1.0 7",
        "3 A 5 08:02:00 1.0 7",
        // Of another customer, of another code, of nobody.
        "4 A 5 08:03:00 2.0 8",
        "4 K 5 08:03:00 2.0 8",
        "5 A 5 08:03:00 2.0 -",
    ];
    for (units, price, expected) in [
        ("-3", "2.0", "C6 2 1x3"),
        ("-6", "2.0", "C6 2 1x5|C6 1 1x1"),
        ("-16", "2.0", "C6 2 1x5|C6 1 1x5|C6 3 1x5,2x1"),
        ("-6", "1.0", "C6 3 1x5,2x1"),
        ("-6", "9.0", "C6 3 1x5,2x1"),
    ] {
        let credit = format!("C6 a {units} 08:04:00 {price} 7");
        let rows: Vec<&str> = bought.iter().copied().chain([credit.as_str()]).collect();
        assert_eq!(asked(&shop(&rows)).join("|"), expected, "{units} at {price}");
    }
}

#[test]
fn what_was_credited_is_not_credited_again() {
    let shop = shop(&[
        "1 A 5 08:00:00 2.0 7",
        "C2 A -3 08:01:00 2.0 7",
        "C3 A -4 08:02:00 2.0 7",
        "C3 A -1 08:02:00 2.0 7",
        "C4 A -1 08:03:00 2.0 7",
    ]);
    assert_eq!(asked(&shop), ["C2 1 1x3", "C3 1 1x2"]);
    assert_eq!(left(&shop), ["C3/1 -2 Cut", "C3/2 -1 NothingBought", "C4/1 -1 NothingBought"]);
    assert_eq!(shop.unsent[0].pence, -400);
    let expected = Credited {
        matched_lines: 1,
        cut_lines: 1,
        nothing_bought_lines: 2,
        requests: 2,
        cancel_requests: 2,
        units: 5,
        pence: 1_000,
        credits_with_requests: 2,
        credits_without_requests: 1,
        ..Credited::default()
    };
    assert_eq!(shop.counts.credited, expected);
}

#[test]
fn only_what_was_bought_before_is_credited() {
    let shop = shop(&[
        "C1 A -1 08:00:00 2.0 7",
        "2 A 1 08:01:00 2.0 7",
        // In the same minute, and above it in the file: before.
        "C3 A -1 08:01:00 2.0 7",
        // Above it in a file that is out of order, and later by the clock.
        "4 K 1 09:00:00 2.0 7",
        "C5 K -1 08:59:59 2.0 7",
    ]);
    assert_eq!(asked(&shop), ["C3 2 1x1"]);
    assert_eq!(left(&shop), ["C1/1 -1 NothingBought", "C5/1 -1 NothingBought"]);
}

#[test]
fn a_credit_becomes_one_request_for_each_order_and_sums_up_its_lines() {
    let shop = shop(&[
        "1 A 5 08:00:00 2.0 7",
        "1 K 5 08:00:00 3.0 7",
        "2 K 1 08:30:00 4.0 7",
        "C3 K -1 09:00:01 3.0 7",
        "C3 A -1 09:00:01 2.0 7",
        "C3 K -1 09:00:01 4.0 7",
        "C3 K -2 09:00:01 3.0 7",
    ]);
    assert_eq!(asked(&shop), ["C3 1 1x1,2x3", "C3 2 1x1"]);
    let kinds: Vec<_> = shop.requests.iter().map(|request| request.event().kind()).collect();
    assert_eq!(kinds, [ReturnRequested::KIND, CancelRequested::KIND]);
    assert_eq!(shop.counts.credited.pence, 200 + 900 + 400);
}

#[test]
fn within_an_hour_it_is_a_cancellation_and_then_a_return() {
    for (time, cancels) in [("08:00:00", 1), ("08:59:59", 1), ("09:00:00", 1), ("09:00:01", 0)] {
        let credit = format!("C2 A -1 {time} 2.0 7");
        let counts = shop(&["1 A 5 08:00:00 2.0 7", &credit]).counts.credited;
        assert_eq!((counts.cancel_requests, counts.return_requests), (cancels, 1 - cancels), "{time}");
    }
}

#[test]
fn services_and_guests_are_not_credited() {
    let shop = shop(&[
        "1 A 5 08:00:00 2.0 -",
        "2 POST 1 08:00:00 2.0 7",
        "C3 A -1 08:01:00 2.0 -",
        "C3 POST -1 08:01:00 2.0 -",
        "C4 post -1 08:01:00 2.0 7",
        "C4 D -1 08:01:00 2.0 7",
    ]);
    assert_eq!(asked(&shop), Vec::<String>::new());
    let expected = ["C3/1 -1 GuestCredit", "C3/2 -1 ServiceCredit", "C4/1 -1 ServiceCredit", "C4/2 -1 ServiceCredit"];
    assert_eq!(left(&shop), expected);
    let counts = shop.counts.credited;
    assert_eq!((counts.guest_lines, counts.guest_service_lines, counts.service_lines), (1, 1, 2));
}

#[test]
fn the_opening_stock_is_most_of_what_is_ordered_and_at_least_the_largest_line() {
    let shop = shop(&[
        "1 K 10 08:00:00 2.0 7",
        "1 k 11 08:00:00 2.0 7",
        "2 A 30 08:00:00 2.0 7",
        "2 POST 9 08:00:00 2.0 7",
        "3 C -4 08:00:00 0.0 -",
    ]);
    let opening: Vec<_> = shop
        .opening
        .iter()
        .map(|opening| (opening.change.request.as_str(), opening.code.as_str(), opening.change.units))
        .collect();
    // 95 % of 21 is 19.95.
    assert_eq!(opening, [("opening/A", "A", 30), ("opening/K", "K", 20)]);
    assert_eq!(shop.counts.opening_units, 50);
    assert!(shop.opening.iter().all(|opening| opening.time_us == at(8, 0)));
}

#[test]
fn ninety_five_percent_are_rounded_up_and_do_not_overflow() {
    for (ordered, expected) in [(1, 1), (19, 19), (20, 19), (21, 20), (100, 95), (101, 96), (80_995, 76_946)] {
        assert_eq!(opening_units(ordered), expected, "{ordered}");
    }
    assert_eq!(u128::from(opening_units(u64::MAX)), (u128::from(u64::MAX) * 95).div_ceil(100));
}

#[test]
fn everything_is_told_in_the_order_of_the_file_behind_the_opening_stock() {
    let shop = shop(&[
        "1 A 1 08:00:00 1.0 7",
        "2 A 1 08:01:00 1.0 7",
        "3 A 9 08:02:00 0.0 -",
        "3 K 9 08:02:00 0.0 -",
        "C4 A -2 08:03:00 1.0 7",
        "C5 Z -2 08:03:00 1.0 7",
        "1 A 1 08:04:00 1.0 7",
        "6 A 1 08:04:00 1.0 7",
    ]);
    let words = |told: Happening<'_>| format!("{} {} {}", told.topic(), told.event.kind(), told.key);
    let told: Vec<String> = shop.events().map(words).collect();
    let expected = [
        "stock StockChangeRequested.v1 A",
        "orders OrderPlaced.v1 1",
        "orders OrderPlaced.v1 2",
        "stock StockChangeRequested.v1 A",
        "stock StockChangeRequested.v1 K",
        // The latest first: line 2 of order 1 stands below order 2 in the file, but the order is the earlier one.
        "orders CancelRequested.v1 2",
        "orders CancelRequested.v1 1",
        "orders OrderPlaced.v1 6",
    ];
    assert_eq!(told, expected);
    let scenes: Vec<_> = shop.scenes().map(|scene| (scene.invoice, scene.events.len())).collect();
    assert_eq!(scenes, [("1", 1), ("2", 1), ("3", 2), ("C4", 2), ("6", 1)]);
    let times: Vec<i64> = shop.events().map(|told| told.time_us).collect();
    assert!(times.is_sorted());
    assert!(shop.events().all(|told| [topic::ORDERS, topic::STOCK].contains(&told.topic())));
}

#[test]
fn dirt_is_counted_and_kept() {
    let text = [
        HEADER,
        "1,A,X,1,2010-12-01 08:00:00,1.0,7.0,France\n",
        // To the letter; in another spelling; at another price.
        "1,A,X,1,2010-12-01 08:00:00,1.0,7.0,France\n",
        "1,a,X,1,2010-12-01 08:00:00,1.0,7.0,France\n",
        "1,A,X,1,2010-12-01 08:00:00,2.0,7.0,France\n",
        "2,K,,1,2010-12-01 08:00:00,0.0,7.0,Spain\n",
        "3,C2,,1,2010-12-01 08:00:00,3.0,,Spain\n",
        "3,C2,  ,1,2010-12-01 08:00:00,4.0,,Spain\n",
        "4,D1,,1,2010-12-01 08:00:00,0.0,,Spain\n",
    ];
    let dirt = Shop::read_from(text.concat().as_bytes()).expect("it is well formed").counts.dirt;
    let expected = Dirt {
        lines_without_customer: 3,
        guest_orders: 1,
        service_lines: 2,
        orders_without_products: 1,
        codes_as_written: 3,
        codes: 2,
        orders_repeating_a_code: 2,
        orders_with_two_prices: 1,
        doubled_lines: 1,
        gift_lines: 1,
        orders_of_nothing: 1,
        lines_rounded_to_nothing: 0,
        empty_descriptions: 3,
        customers_of_several_countries: 1,
        lines_max: 4,
        longest_order: Some("1".into()),
    };
    assert_eq!(dirt, expected);
}

#[test]
fn every_service_is_known_in_any_case() {
    let codes = ["POST", "DOT", "C2", "M", "D", "S", "B", "BANK CHARGES", "AMAZONFEE", "CRUK"];
    for code in codes {
        for written in [code.to_owned(), code.to_lowercase()] {
            let text = format!(
                "{HEADER}1,{written},,1,2010-12-01 08:00:00,1.0,7,France\n1,A,,1,2010-12-01 08:00:00,1.0,7,France\n"
            );
            let shop = Shop::read_from(text.as_bytes()).expect("it is well formed");
            let lines = &shop.orders[0].placed.lines;
            assert!(lines[0].service && lines[0].code == code && !lines[1].service, "{written}");
            assert_eq!(shop.opening.len(), 1, "{written}");
        }
    }
}

#[test]
fn a_file_without_rows_is_a_shop_where_nothing_happened() {
    let shop = Shop::read_from(HEADER.as_bytes()).expect("it is well formed");
    assert_eq!((shop.events().count(), shop.counts), (0, Counts::default()));
}
