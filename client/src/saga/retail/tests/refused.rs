//! What is no file of orders is refused, with its line, its column, what stands there and what should.

use std::io::{self, Read};

use super::*;

/// The error of a file of the header and these rows.
fn refused(rows: &str) -> RetailError {
    Shop::read_from([HEADER, rows].concat().as_bytes()).expect_err("it is refused")
}

#[test]
fn a_wrong_cell_is_named_with_what_is_expected() {
    for (row, column, value, expected) in [
        ("X1,A,,1,2010-12-01 08:00:00,1.0,7,France", "InvoiceNo", "X1", "digits, or C (credit) or A (bad debt)"),
        ("C,A,,1,2010-12-01 08:00:00,1.0,7,France", "InvoiceNo", "C", "digits"),
        ("c1,A,,1,2010-12-01 08:00:00,1.0,7,France", "InvoiceNo", "c1", "digits"),
        (",A,,1,2010-12-01 08:00:00,1.0,7,France", "InvoiceNo", "", "digits"),
        ("é1,A,,1,2010-12-01 08:00:00,1.0,7,France", "InvoiceNo", "é1", "digits"),
        ("1,,,1,2010-12-01 08:00:00,1.0,7,France", "StockCode", "", "the code of a product"),
        ("1,A,,1.5,2010-12-01 08:00:00,1.0,7,France", "Quantity", "1.5", "a whole number other than 0"),
        ("1,A,,0,2010-12-01 08:00:00,1.0,7,France", "Quantity", "0", "a whole number other than 0"),
        ("1,A,,99999999999999999999,2010-12-01 08:00:00,1.0,7,France", "Quantity", "99999999999999999999", "whole"),
        ("C1,A,,1,2010-12-01 08:00:00,1.0,7,France", "Quantity", "1", "negative"),
        ("1,A,,1,12/1/2010 8:26,1.0,7,France", "InvoiceDate", "12/1/2010 8:26", "2010-12-01 08:26:00"),
        ("1,A,,1,2010-13-01 08:00:00,1.0,7,France", "InvoiceDate", "2010-13-01 08:00:00", "2010-12-01 08:26:00"),
        ("1,A,,1,2010-12-01 08:00:00,1.0001,7,France", "UnitPrice", "1.0001", "at most three digits"),
        ("1,A,,1,2010-12-01 08:00:00,free,7,France", "UnitPrice", "free", "in pounds"),
        ("1,A,,1,2010-12-01 08:00:00,-1.5,7,France", "UnitPrice", "-1.500", "0 or more"),
        ("C1,A,,-1,2010-12-01 08:00:00,-1.5,7,France", "UnitPrice", "-1.500", "0 or more"),
        ("1,A,,1,2010-12-01 08:00:00,1.0,Smith,France", "CustomerID", "Smith", "a customer's number"),
    ] {
        let good = "9,A,\"two\nlines\",1,2010-12-01 08:00:00,1.0,7,France\n";
        let error = refused(&format!("{good}{row}\n"));
        let RetailError::Cell { line, column: at, value: found, expected: words } = &error else {
            panic!("{row}: {error}")
        };
        // The row before it has a line end in a cell.
        assert_eq!((*line, *at, found.as_str()), (4, column, value), "{row}");
        assert!(words.contains(expected), "{row}: {words}");
        assert_eq!(error.line(), Some(4));
        for part in ["line=4".to_owned(), format!("column={column}"), format!("value={value:?}")] {
            assert!(error.to_string().contains(&part), "{error} lacks {part}");
        }
    }
}

#[test]
fn the_first_row_may_be_wrong_too() {
    let error = refused("1,A,,1,,1.0,7,France\n");
    assert!(matches!(error, RetailError::Cell { line: 2, column: "InvoiceDate", .. }), "{error}");
}

#[test]
fn a_long_value_is_said_by_its_beginning() {
    let price = "9".repeat(10_000);
    let error = refused(&format!("1,A,,1,2010-12-01 08:00:00,{price},7,France\n"));
    assert!(error.to_string().len() < 300, "{error}");
}

#[test]
fn a_missing_or_doubled_column_is_named() {
    let text = HEADER.replace("UnitPrice,", "Price,");
    let error = Shop::read_from(text.as_bytes()).expect_err("it lacks a column");
    let said = "the orders have no column UnitPrice; they have: InvoiceNo, StockCode, Description, Quantity, \
                InvoiceDate, Price, CustomerID, Country";
    assert_eq!(error.to_string(), said);
    let text = HEADER.replace("Country", "Country,UnitPrice");
    let error = Shop::read_from(text.as_bytes()).expect_err("it has one twice");
    assert!(matches!(error, RetailError::TwoColumns { column: "UnitPrice" }), "{error}");
    let error = Shop::read_from(&b""[..]).expect_err("it has none");
    assert!(matches!(error, RetailError::NoColumn { column: "InvoiceNo", .. }), "{error}");
}

#[test]
fn columns_may_stand_anywhere_and_beside_others() {
    let text = "\u{feff}Country,Note,InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID\n\
                France,,1,A,X,2,2010-12-01 08:00:00,1.0,7\n";
    let shop = Shop::read_from(text.as_bytes()).expect("it has all columns");
    let placed = &shop.orders[0].placed;
    assert_eq!((placed.address.as_str(), placed.lines[0].units), ("France", 2));
}

#[test]
fn a_row_of_another_length_is_refused() {
    let error = refused("1,A,,1,2010-12-01 08:00:00,1.0,7\n");
    assert!(matches!(error, RetailError::Cells { line: 2, expected: 8, found: 7 }), "{error}");
}

#[test]
fn a_quote_that_is_never_closed_is_refused() {
    let rest = "1,A,,1,2010-12-01 08:00:00,1.0,7,France\n".repeat(3);
    let error = refused(&format!("{rest}1,A,,1,2010-12-01 08:00:00,1.0,7,\"France\n{rest}"));
    assert!(matches!(error, RetailError::OpenQuote { line: 5 }), "{error}");
    let error = refused(&format!("{rest}1,A,\"X,1,2010-12-01 08:00:00,1.0,7,France\n{rest}"));
    assert!(matches!(error, RetailError::Cells { line: 5, .. }), "{error}");
    let long = "1,A,,1,2010-12-01 08:00:00,1.0,7,France\n".repeat(60_000);
    let error = refused(&format!("{rest}1,A,\"X,1,2010-12-01 08:00:00,1.0,7,France\n{long}"));
    assert!(matches!(error, RetailError::Read { line: 5, .. }), "{error}");
}

#[test]
fn what_is_not_text_is_refused_with_its_cell() {
    let bytes = [HEADER.as_bytes(), b"1,A,\xa35,1,2010-12-01 08:00:00,1.0,7,France\n"].concat();
    let error = Shop::read_from(&bytes[..]).expect_err("it is Latin-1");
    assert!(matches!(error, RetailError::NotText { line: 2, cell: 3 }), "{error}");
}

#[test]
fn an_invoice_of_two_customers_or_countries_is_refused() {
    let first = "1,A,,1,2010-12-01 08:00:00,1.0,7,France\n";
    for (second, column) in [
        ("1,A,,1,2010-12-01 08:00:00,1.0,8,France\n", "CustomerID"),
        ("1,A,,1,2010-12-01 08:00:00,1.0,,France\n", "CustomerID"),
        ("1,A,,1,2010-12-01 08:00:00,1.0,7,Spain\n", "Country"),
    ] {
        let error = refused(&[first, second].concat());
        assert!(matches!(&error, RetailError::Differs { line: 3, column: at, .. } if *at == column), "{error}");
    }
}

#[test]
fn sums_that_are_too_large_are_refused_and_never_wrap() {
    let line = |units: &str, price: &str| format!("1,A,,{units},2010-12-01 08:00:00,{price},7,France\n");
    let most = i64::MAX.to_string();
    for (rows, line, what) in [
        (line(&most, "0.001"), 2, "quantity x price"),
        (line("9000000000", "9000000000.0"), 2, "quantity x price"),
        ([line(&most, "0.0"), line("1", "0.0")].concat(), 3, "units of all lines"),
        (line("1", "9000000000000000.0").repeat(11), 12, "pence of all lines"),
    ] {
        let error = refused(&rows);
        let RetailError::TooLarge { line: at, what: sum } = error else { panic!("{error}") };
        assert_eq!((at, sum), (line, what));
    }
}

#[test]
fn packed_and_plain_files_say_the_same() {
    let text = [HEADER, "1,A,X,2,2010-12-01 08:00:00,1.0,7,France\n"].concat();
    let packed = zstd::encode_all(text.as_bytes(), 3).expect("it packs");
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    for (name, bytes) in [("orders.csv", text.as_bytes()), ("orders.csv.zst", &packed)] {
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("it is written");
        assert_eq!(Shop::read(&path).expect("it is well formed").orders.len(), 1, "{name}");
    }
    let error = Shop::read(folder).expect_err("a folder");
    assert!(matches!(error, RetailError::Open { .. }), "{error}");
    let error = Shop::read(folder.join("absent.csv")).expect_err("it is not there");
    assert!(error.to_string().contains("absent.csv"), "{error}");
}

#[test]
fn a_broken_package_is_refused() {
    let text = [HEADER, &"1,A,X,2,2010-12-01 08:00:00,1.0,7,France\n".repeat(10_000)].concat();
    let packed = zstd::encode_all(text.as_bytes(), 3).expect("it packs");
    let mut flipped = packed.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    for (bytes, what) in [(&packed[..packed.len() - 5], "cut off"), (&flipped[..], "damaged")] {
        let error = Shop::read_from(bytes).expect_err(what);
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert!(matches!(error, RetailError::Read { line: 1.., .. }) && source.is_some(), "{what}: {error}");
    }
    let error = Shop::read_from(&b"\x1f\x8b\x08more"[..]).expect_err("gzip");
    assert!(error.to_string().contains("gzip"), "{error}");
}

#[test]
fn a_reader_that_fails_is_told_with_its_line() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let rows = [HEADER, "1,A,X,2,2010-12-01 08:00:00,1.0,7,France\n"].concat();
    let error = Shop::read_from(rows.as_bytes().chain(Failing)).expect_err("it fails");
    assert!(matches!(error, RetailError::Read { line: 3, .. }), "{error}");
}

/// Every byte of a small file replaced by others: what is read then is another shop or an error, never a panic.
#[test]
fn a_changed_byte_gives_another_shop_or_an_error() {
    let rows = "1,A,X,5,2010-12-01 08:00:00,2.0,7.0,France\n\
                1,POST,\"a, b\",1,2010-12-01 08:00:00,0.001,7.0,France\n\
                C2,A,X,-3,2010-12-01 08:01:00,2.0,7.0,France\n\
                3,A,,-1,2010-12-01 08:02:00,0.0,,France\n\
                A4,B,,1,2010-12-01 08:02:00,-9.99,,France\n";
    let bytes = [HEADER, rows].concat().into_bytes();
    let (mut refused, mut taken) = (0, 0);
    for place in 0..bytes.len() {
        for other in *b"\",\n-.90CA \0\xff" {
            let mut changed = bytes.clone();
            changed[place] = other;
            match Shop::read_from(&changed[..]) {
                Ok(shop) => {
                    taken += 1;
                    let sent =
                        shop.counts.orders.lines + shop.counts.stock_changes + shop.counts.credited.matched_lines;
                    assert_eq!(sent + shop.unsent.len() as u64, shop.counts.total().lines, "{place} {other}");
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
    assert!(refused > 1_000 && taken > 500, "{refused} refused, {taken} taken");
}
