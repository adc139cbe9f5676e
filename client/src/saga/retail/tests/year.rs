//! The counts of real files: of the cut in `tests/data` always; of the whole year, with the rule of the cut that is
//! shipped, on demand (`-- --ignored`), and `TILLROLL_RETAIL` names it.

use std::{collections::HashSet, path::PathBuf, time::Instant};

use super::*;

#[test]
fn the_first_weeks_come_to_what_was_counted_elsewhere() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/retail-cut.csv.zst");
    let shop = Shop::read(path).expect("it is well formed");
    let counts = &shop.counts;
    assert_eq!(
        kinds(counts),
        [
            (2_106, 58_773, 115_413_815),
            (101, 101, 0),
            (86, 86, 0),
            (1, 1, 1_354_133),
            (0, 0, 0),
            (446, 1_039, -11_717_048),
            (2_740, 60_000, 105_050_900),
        ]
    );
    assert_eq!((counts.stock_down.units, counts.stock_up.units), (-10_418, 4_107));
    assert_eq!((counts.stock_changes, counts.stock_service_lines, counts.opening_units), (186, 1, 508_742));
    let dirt = Dirt {
        lines_without_customer: 21_951,
        guest_orders: 203,
        service_lines: 231,
        orders_without_products: 6,
        codes_as_written: 2_904,
        codes: 2_843,
        orders_repeating_a_code: 321,
        orders_with_two_prices: 30,
        doubled_lines: 603,
        gift_lines: 143,
        orders_of_nothing: 0,
        lines_rounded_to_nothing: 0,
        empty_descriptions: 161,
        customers_of_several_countries: 1,
        lines_max: 675,
        longest_order: Some("537434".into()),
    };
    assert_eq!(counts.dirt, dirt);
    let credited = Credited {
        matched_lines: 496,
        cut_lines: 2,
        nothing_bought_lines: 471,
        guest_lines: 26,
        service_lines: 25,
        guest_service_lines: 19,
        requests: 260,
        cancel_requests: 30,
        return_requests: 230,
        units: 4_745,
        pence: 1_308_264,
        credits_with_requests: 234,
        credits_without_requests: 212,
    };
    assert_eq!(counts.credited, credited);
    hold_together(&shop);
}

#[test]
#[ignore = "needs TILLROLL_RETAIL"]
fn the_whole_year_comes_to_every_count_of_the_page() {
    let path = PathBuf::from(std::env::var_os("TILLROLL_RETAIL").expect("TILLROLL_RETAIL names the whole year"));
    let since = Instant::now();
    let shop = Shop::read(&path).expect("it is well formed");
    eprintln!("read and mapped in {:?}", since.elapsed());
    let counts = &shop.counts;
    assert_eq!(
        kinds(counts),
        [
            (19_961, 530_508, 1_064_186_139),
            (1_336, 1_336, 0),
            (762, 772, 0),
            (2, 2, 1_376_109),
            (3, 3, -1_106_206),
            (3_836, 9_288, -89_681_249),
            (25_900, 541_909, 974_774_793),
        ]
    );
    assert_eq!((counts.stock_down.units, counts.stock_up.units), (-206_957, 57_447));
    assert_eq!((counts.stock_changes, counts.stock_service_lines, counts.opening_units), (2_101, 7, 5_318_574));
    let dirt = Dirt {
        lines_without_customer: 135_080,
        guest_orders: 1_425,
        service_lines: 2_316,
        orders_without_products: 176,
        codes_as_written: 3_913,
        codes: 3_804,
        orders_repeating_a_code: 2_793,
        orders_with_two_prices: 200,
        doubled_lines: 5_231,
        gift_lines: 407,
        orders_of_nothing: 4,
        lines_rounded_to_nothing: 4,
        empty_descriptions: 1_454,
        customers_of_several_countries: 8,
        lines_max: 1_114,
        longest_order: Some("573585".into()),
    };
    assert_eq!(counts.dirt, dirt);
    let credited = Credited {
        matched_lines: 7_432,
        cut_lines: 51,
        nothing_bought_lines: 1_056,
        guest_lines: 165,
        service_lines: 366,
        guest_service_lines: 218,
        requests: 3_807,
        cancel_requests: 204,
        return_requests: 3_603,
        units: 250_677,
        pence: 45_052_606,
        credits_with_requests: 3_069,
        credits_without_requests: 767,
    };
    assert_eq!(counts.credited, credited);
    hold_together(&shop);
    giants(&shop);
    interrupted(&shop);
    sizes(&shop);
    the_shipped_cut(&path);
}

/// Invoices, lines and pence of each kind, and of all.
fn kinds(counts: &Counts) -> [(u64, u64, i64); 7] {
    let kinds = [
        counts.orders,
        counts.stock_down,
        counts.stock_up,
        counts.fees,
        counts.bad_debts,
        counts.credits,
        counts.total(),
    ];
    kinds.map(|kind| (kind.invoices, kind.lines, kind.pence))
}

/// What must be true of any file, counted again from what is sent.
fn hold_together(shop: &Shop) {
    let placed: HashMap<&str, &Order> = shop.orders.iter().map(|order| (order.id.as_str(), order)).collect();
    let lines = || shop.orders.iter().flat_map(|order| &order.placed.lines);
    assert_eq!(lines().map(|line| line.pence(line.units).cast_signed()).sum::<i64>(), shop.counts.orders.pence);
    let mut left: HashMap<(&str, u32), u64> = HashMap::new();
    for order in &shop.orders {
        assert!(order.placed.lines.iter().zip(1..).all(|(line, number)| line.line == number));
        left.extend(order.placed.lines.iter().map(|line| ((order.id.as_str(), line.line), line.units)));
    }
    let mut ids = HashSet::new();
    for request in &shop.requests {
        assert!(ids.insert((&request.id, &request.order)), "{request:?} is there twice");
        let order = placed[request.order.as_str()];
        assert!(order.time_us <= request.time_us && order.file_line < request.file_line, "{request:?} came before");
        assert!(request.lines.is_sorted_by(|one, next| one.line < next.line), "{request:?}");
        for asked in &request.lines {
            assert!(!order.placed.lines[asked.line as usize - 1].service, "{request:?} is about a service");
            let left = left.get_mut(&(request.order.as_str(), asked.line)).expect("the line is there");
            *left = left.checked_sub(asked.units).expect("no more is asked back than was bought");
        }
    }
    let changes: HashSet<&str> = shop.stock_changes.iter().map(|change| change.change.request.as_str()).collect();
    assert_eq!(changes.len(), shop.stock_changes.len());
    let sent = shop.counts.orders.lines + shop.counts.stock_changes + shop.counts.credited.matched_lines;
    assert_eq!(sent + shop.unsent.len() as u64, shop.counts.total().lines, "a line is neither sent nor listed");
    let events = shop.opening.len() + shop.stock_changes.len() + shop.orders.len() + shop.requests.len();
    let mut times = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    for told in shop.events() {
        times.push(told.time_us);
        match &told.event {
            Event::OrderPlaced(_) => assert!(seen.insert(told.key)),
            Event::CancelRequested(_) | Event::ReturnRequested(_) => assert!(seen.contains(told.key)),
            _ => assert_eq!(told.topic(), topic::STOCK),
        }
    }
    assert_eq!(times.len(), events);
    assert!(times.is_sorted(), "the file is in the order of its times");
}

/// The two largest orders, cancelled after 12 and 16 minutes.
fn giants(shop: &Shop) {
    for (order, request, units, minutes) in [("581483", "C581484", 80_995, 12), ("541431", "C541433", 74_215, 16)] {
        let placed = shop.orders.iter().find(|placed| placed.id == order).expect("it is placed");
        let asked = shop.requests.iter().find(|asked| asked.order == order).expect("it is asked back");
        assert_eq!((asked.id.as_str(), &asked.lines[..]), (request, &[Units { line: 1, units }][..]));
        assert!(asked.within_hour);
        assert_eq!((asked.time_us - placed.time_us) / 60_000_000, minutes);
    }
}

/// The order in whose lines a credit stands is one order.
fn interrupted(shop: &Shop) {
    let orders: Vec<&Order> = shop.orders.iter().filter(|order| order.id == "542806").collect();
    let [order] = orders[..] else { panic!("{} orders", orders.len()) };
    let line = |number: usize| (order.placed.lines[number - 1].line, order.placed.lines[number - 1].code.as_str());
    assert_eq!((line(4), line(5), order.placed.lines.len()), ((4, "48188"), (5, "22692"), 39));
}

/// Payloads of orders have about the sizes of the page: p50 1.7 KB, p99 23 KB, the largest 117 KB.
fn sizes(shop: &Shop) {
    let mut bytes: Vec<usize> = shop.orders.iter().map(|order| order.happening().event.encode().len()).collect();
    bytes.sort_unstable();
    let found = [50, 99].map(|percent| bytes[bytes.len() * percent / 100]);
    for (found, page) in [(found[0], 1_700), (found[1], 23_000), (bytes[bytes.len() - 1], 117_000)] {
        assert!((page * 9 / 10..=page * 11 / 10).contains(&found), "{found} bytes instead of {page}");
    }
}

/// The rule of the cut that is shipped, applied to the whole year.
fn the_shipped_cut(path: &PathBuf) {
    let packed = std::fs::File::open(path).expect("it was read before");
    let mut rows = csv::Reader::from_reader(zstd::Decoder::new(packed).expect("it is packed"));
    let mut cut = csv::Writer::from_writer(Vec::new());
    cut.write_record(rows.headers().expect("it has a header")).expect("written to memory");
    for row in rows.records() {
        let row = row.expect("it is CSV");
        let (invoice, customer) = (&row[0], row[6].trim_end_matches(".0"));
        let number: u32 = invoice.trim_start_matches(['A', 'C']).parse().expect("a number");
        let guest = customer.is_empty() && number % 20 == 6;
        if invoice.starts_with('A') || customer.ends_with('6') || guest {
            cut.write_record(&row).expect("written to memory");
        }
    }
    let shop = Shop::read_from(&cut.into_inner().expect("written to memory")[..]).expect("it is well formed");
    let (total, credited) = (shop.counts.total(), shop.counts.credited);
    assert_eq!((total.invoices, total.lines, shop.counts.orders.invoices), (2_219, 51_836, 1_738));
    assert_eq!((credited.requests, credited.cancel_requests), (370, 24));
    assert_eq!((credited.units, credited.pence, shop.counts.opening_units), (160_624, 25_894_683, 769_721));
    hold_together(&shop);
    giants(&shop);
}
