//! One cell of a row becomes a number, a time or a name. Exact: no number goes through a float.

use jiff::{civil::DateTime, tz::TimeZone};

/// What a code is.
pub(super) const CODE: &str = "the code of a product or a service";
/// What a quantity is.
pub(super) const QUANTITY: &str = "a whole number other than 0";
/// What a price is.
pub(super) const PRICE: &str = "a price in pounds with at most three digits behind the point";
/// What a time is.
pub(super) const TIME: &str = "a time such as 2010-12-01 08:26:00";
/// What a customer is.
pub(super) const CUSTOMER: &str = "a customer's number such as 17850 or 17850.0, or empty";

/// Anything but nothing: it becomes a key.
pub(super) fn code(text: &str) -> Option<&str> {
    Some(text).filter(|code| !code.is_empty())
}

/// Units; never 0, which would be a line about nothing.
pub(super) fn quantity(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !is_number(digits) {
        return None;
    }
    text.parse().ok().filter(|units| *units != 0)
}

/// Pounds to mills, thousandths of a pound.
pub(super) fn mills(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (pounds, behind) = digits.split_once('.').unwrap_or((digits, "0"));
    if !is_number(pounds) || !is_number(behind) || behind.len() > 3 {
        return None;
    }
    let shift = [100, 10, 1][behind.len() - 1];
    let behind: i64 = behind.parse().ok()?;
    pounds.parse::<i64>().ok()?.checked_mul(1_000)?.checked_add(behind * shift)?.checked_mul(sign)
}

/// A clock on the wall, taken as UTC, to microseconds since 1970.
pub(super) fn time_us(text: &str) -> Option<i64> {
    let wall: DateTime = text.parse().ok()?;
    // The parser knows more ways to write a time, and takes a leap second for the one before.
    if text != wall.strftime("%Y-%m-%d %H:%M:%S").to_string() {
        return None;
    }
    Some(wall.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

/// The customer's number without the `.0` that a spreadsheet once put behind it; empty for a guest.
pub(super) fn customer(text: &str) -> Option<&str> {
    let number = text.strip_suffix(".0").unwrap_or(text);
    (text.is_empty() || is_number(number)).then_some(number)
}

/// Digits and nothing else.
pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact() {
        for (text, expected) in [
            ("2.55", Some(2_550)),
            ("0.001", Some(1)),
            ("0.1", Some(100)),
            ("7", Some(7_000)),
            ("0.0", Some(0)),
            ("38970.0", Some(38_970_000)),
            ("-11062.06", Some(-11_062_060)),
            ("9223372036854775.807", Some(i64::MAX)),
            ("9223372036854775.808", None),
            ("99999999999999999999", None),
            ("1.2345", None),
            ("1.", None),
            (".5", None),
            ("1e3", None),
            ("+1", None),
            ("1,5", None),
            ("1.-5", None),
            ("--1", None),
            ("", None),
        ] {
            assert_eq!(mills(text), expected, "{text:?}");
        }
    }

    #[test]
    fn quantities_are_whole_and_never_nothing() {
        for (text, expected) in [
            ("6", Some(6)),
            ("-80995", Some(-80_995)),
            ("0", None),
            ("-0", None),
            ("6.0", None),
            ("+6", None),
            ("", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(quantity(text), expected, "{text:?}");
        }
    }

    #[test]
    fn times_are_those_of_the_wall_in_utc() {
        for (text, expected) in [
            ("2010-12-01 08:26:00", Some(1_291_191_960_000_000)),
            ("2010-12-01T08:26:00", None),
            ("2010-12-01 08:26", None),
            ("2010-12-01 08:26:60", None),
            ("2010-02-30 08:26:00", None),
            ("01/12/2010 08:26", None),
            ("", None),
        ] {
            assert_eq!(time_us(text), expected, "{text:?}");
        }
    }

    #[test]
    fn customers_lose_what_a_spreadsheet_put_behind_them() {
        for (text, expected) in [
            ("17850.0", Some("17850")),
            ("17850", Some("17850")),
            ("", Some("")),
            ("17850.5", None),
            (".0", None),
            ("Smith", None),
        ] {
            assert_eq!(customer(text), expected, "{text:?}");
        }
    }
}
