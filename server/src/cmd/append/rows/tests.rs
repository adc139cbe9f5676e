use super::*;

fn plan(key: Option<&str>, time: Option<&str>) -> Plan {
    Plan {
        source: "shop.csv".into(),
        key_column: key.map(Into::into),
        time_column: time.map(Into::into),
        zone: TimeZone::UTC,
        type_: "OrderPlaced".into(),
    }
}

fn rows(text: &str, format: Format, plan: Plan) -> Result<Vec<Record>, Failure> {
    let mut rows = Rows::new(Box::new(std::io::Cursor::new(text.to_owned())), format, plan)?;
    let mut records = Vec::new();
    while let Some(record) = rows.next()? {
        records.push(record);
    }
    Ok(records)
}

fn values(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| std::str::from_utf8(&record.value).expect("text")).collect()
}

#[test]
fn a_row_is_an_object_of_strings_in_the_order_of_the_columns() {
    let text = "Invoice,What,When\n536365,\"HEART, WHITE \"\"T\"\"\",2010-12-01 08:26:00\n,,\n";
    let records = rows(text, Format::Csv, plan(Some("Invoice"), Some("When"))).expect("two rows");
    assert_eq!(
        values(&records),
        [
            r#"{"Invoice":"536365","What":"HEART, WHITE \"T\"","When":"2010-12-01 08:26:00"}"#,
            r#"{"Invoice":"","What":"","When":""}"#,
        ]
    );
    assert_eq!(records[0].key.as_deref(), Some(&b"536365"[..]));
    assert_eq!(records[0].event_time_us, Some(1_291_191_960_000_000));
    assert_eq!((records[1].key.clone(), records[1].event_time_us), (None, None));
    assert_eq!((records[0].id.as_str(), records[1].id.as_str()), ("shop.csv#1", "shop.csv#2"));
    assert_eq!((records[0].source.as_str(), records[0].type_.as_str()), ("shop.csv", "OrderPlaced"));
}

#[test]
fn a_line_break_in_quotes_is_one_row() {
    let records = rows("a,b\n1,\"x\ny\"\n2,z\n", Format::Csv, plan(None, None)).expect("two rows");
    assert_eq!(values(&records), [r#"{"a":"1","b":"x\ny"}"#, r#"{"a":"2","b":"z"}"#]);
    assert_eq!(records[1].id, "shop.csv#2");
}

#[test]
fn a_quote_that_is_never_closed_swallows_nothing() {
    let wrong = rows("a,b\n1,2\n3,\"x\n4,y\n", Format::Csv, plan(None, None)).expect_err("it is open");
    assert_eq!(wrong.to_string(), "shop.csv line 3: a quote that begins in this row is never closed");
    let long = format!("a,b\n3,\"x\n{}", "4,y\n".repeat(2 << 20));
    let wrong = rows(&long, Format::Csv, plan(None, None)).expect_err("it is too long");
    assert!(wrong.to_string().contains("line 2: it is longer than 4194304 bytes; is a quote left open?"), "{wrong}");
    let records = rows("a,b\n1,\"x\ny\"", Format::Csv, plan(None, None)).expect("it is closed");
    assert_eq!(values(&records), [r#"{"a":"1","b":"x\ny"}"#]);
}

#[test]
fn a_quote_of_the_header_that_is_never_closed_leaves_no_empty_file() {
    for (text, line) in [("\"a\n1,x\n2,y\n", 1), ("a,\"b\nc\",\"d\n1,2,3\n", 2)] {
        let wrong = rows(text, Format::Csv, plan(None, None)).expect_err("it is open");
        assert_eq!(wrong.to_string(), format!("shop.csv header: a quote that begins in line {line} is never closed"));
    }
    let records = rows("\"a\nb\"\n1\n", Format::Csv, plan(None, None)).expect("it is closed");
    assert_eq!(values(&records), [r#"{"a\nb":"1"}"#]);
    assert!(rows("\"a\n", Format::Csv, plan(None, None)).is_err(), "a header alone");
}

#[test]
fn a_bad_row_is_named_by_its_line() {
    let wrong = rows("a,b\n1,2\n3\n", Format::Csv, plan(None, None)).expect_err("a field is missing");
    assert_eq!(wrong.to_string(), "shop.csv line 3: it has 1 fields, the header has 2");
    let wrong = rows("a\nnoon\n", Format::Csv, plan(None, Some("a"))).expect_err("no time");
    assert!(wrong.to_string().starts_with("shop.csv line 2: \"noon\" is no time"), "{wrong}");
    let wrong = rows("{}\n\n{\n", Format::Jsonl, plan(None, None)).expect_err("no JSON");
    assert!(wrong.to_string().starts_with("shop.csv line 3: no JSON"), "{wrong}");
}

/// Blank lines and line breaks in quotes count as an editor counts them, however a line ends.
#[test]
fn a_bad_row_is_named_by_the_line_that_an_editor_shows() {
    for (text, line) in [
        ("a,b\n1,\"x\ny\"\n3\n", 4),
        ("a,b\n\n1,2\n\n\n3\n", 6),
        ("a,b\n1,2\n3", 3),
        ("\"a\nc\",b\n1,2\n3\n5,6\n", 4),
        ("a,b\n1,2\n\"x\ny\"\n", 3),
        ("a,b\r\n1,2\r\n3\r\n", 3),
        ("a,b\r\n\r\n1,\"x\r\ny\"\r\n3\r\n4,5\r\n", 5),
        ("a,b\r\n1,2\r\n3", 3),
        ("\n\na,b\n3\n", 4),
    ] {
        let wrong = rows(text, Format::Csv, plan(None, None)).expect_err("a field is missing");
        let expected = format!("shop.csv line {line}: it has 1 fields, the header has 2");
        assert_eq!(wrong.to_string(), expected, "{text:?}");
    }
    let many = "1,\"x\ny\"\n\n".repeat(20_000);
    let wrong = rows(&format!("a,b\n{many}3\n"), Format::Csv, plan(None, None)).expect_err("a field is missing");
    assert!(wrong.to_string().starts_with("shop.csv line 60002: "), "{wrong}");
    let wrong = rows("a,b\n\n1,\"x\ny\"\n\n,noon\n", Format::Csv, plan(None, Some("b"))).expect_err("no time");
    assert!(wrong.to_string().starts_with("shop.csv line 3: "), "the first row with a bad time: {wrong}");
}

#[test]
fn columns_must_be_there_once() {
    assert!(rows("a,b\n", Format::Csv, plan(Some("c"), None)).is_err());
    assert!(rows("a,a\n", Format::Csv, plan(None, None)).is_err());
    assert!(rows("a\n", Format::Lines, plan(Some("a"), None)).is_err());
}

#[test]
fn lines_are_values_as_they_stand() {
    let records = rows("one\r\n\ntwo", Format::Lines, plan(None, None)).expect("three lines");
    assert_eq!(values(&records), ["one", "", "two"]);
    assert_eq!(records[2].id, "shop.csv#3");
}

#[test]
fn fields_of_json_lines_are_keys_and_times() {
    let text = "{\"order\":7,\"at\":\"2010-12-01T08:26:00Z\"}\n\n{\"order\":null,\"at\":\"\"}\n";
    let records = rows(text, Format::Jsonl, plan(Some("order"), Some("at"))).expect("two objects");
    assert_eq!(records[0].key.as_deref(), Some(&b"7"[..]));
    assert_eq!(records[0].event_time_us, Some(1_291_191_960_000_000));
    assert_eq!((records[1].key.clone(), records[1].event_time_us), (None, None));
    assert_eq!(records[1].id, "shop.csv#3");
    let wrong = rows(text, Format::Jsonl, plan(Some("Order"), None)).expect_err("a mistyped name");
    let said = "shop.csv line 1: it has no field `Order`, which --key-column names; null says that there is none";
    assert_eq!(wrong.to_string(), said);
    assert!(rows("7\n", Format::Jsonl, plan(None, Some("at"))).is_err(), "no object has no fields");
}
