//! Times as people write them, to microseconds since 1970 UTC and back.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, civil, fmt::temporal::Pieces, tz::TimeZone};

/// What times count from.
const EPOCH: civil::DateTime = civil::date(1970, 1, 1).at(0, 0, 0, 0);
/// The last time that there is.
const LAST: &str = "9999-12-31T23:59:59.999999Z";

/// The time zone of this IANA name.
pub(crate) fn zone(name: &str) -> Result<TimeZone, String> {
    if name.eq_ignore_ascii_case("utc") {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| format!("no time zone is called {name}; use a name such as Europe/London"))
}

/// A point in time: with an offset (`2010-12-01T08:26:00Z`), or as a clock on the wall of that zone shows it
/// (`2010-12-01 08:26:00`, `2010-12-01`). An hour that the clock shows twice is taken as the first one.
///
/// Every time of the years -9999 to 9999 in UTC is one, also those of the last day, which data has for "never".
pub(crate) fn parse(text: &str, zone: &TimeZone) -> Result<i64, String> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant.as_microsecond());
    }
    let beyond = || format!("{text:?} is out of range: times are from -009999-01-01T00:00:00Z to {LAST}");
    let Ok(pieces) = Pieces::parse(text) else {
        return Err(if has_long_year(text) { beyond() } else { no_time(text) });
    };
    let wall = pieces.date().to_datetime(pieces.time().unwrap_or_else(civil::Time::midnight));
    let offset = match (pieces.to_numeric_offset(), pieces.time()) {
        (Some(offset), Some(_)) => offset,
        (Some(_), None) => return Err(no_time(text)),
        (None, _) => match wall.to_zoned(zone.clone()) {
            Ok(zoned) => return Ok(zoned.timestamp().as_microsecond()),
            // A day at either end of the calendar, where a zone has one offset.
            Err(_) if wall.year() > 0 => zone.to_offset(Timestamp::MAX),
            Err(_) => zone.to_offset(Timestamp::MIN),
        },
    };
    let since_1970 = wall.duration_since(EPOCH) - SignedDuration::from_secs(offset.seconds().into());
    match EPOCH.checked_add(since_1970) {
        Ok(_) => i64::try_from(since_1970.as_micros()).map_err(|_| beyond()),
        Err(_) => Err(beyond()),
    }
}

fn no_time(text: &str) -> String {
    format!("{text:?} is no time; write 2010-12-01 08:26:00, 2010-12-01T08:26:00Z or 2010-12-01T08:26:00+01:00")
}

/// Whether it begins with a year of more than four digits.
fn has_long_year(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    digits > 4 && text[digits..].starts_with('-')
}

/// A point in time, or how long ago it was (`90m`, `2h`).
pub(crate) fn parse_or_ago(text: &str, now: Timestamp) -> Result<i64, String> {
    let ago = text.trim().parse::<SignedDuration>().ok().filter(SignedDuration::is_positive);
    match ago.and_then(|ago| now.checked_sub(ago).ok()) {
        Some(then) => Ok(then.as_microsecond()),
        None => parse(text, &TimeZone::UTC).map_err(|wrong| format!("{wrong}, or how long ago: 90m")),
    }
}

/// How long something takes: `15s`, `1m 30s`, `500ms`, `30d`. A day has 24 hours.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let span = text.trim().parse::<Span>().ok();
    let span = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    span.and_then(|span| Duration::try_from(span).ok())
        .ok_or_else(|| format!("{text:?} is no length of time; write 15s, 2m or 500ms"))
}

/// As it is written, in whole milliseconds.
pub(crate) fn show_span(span: Duration) -> String {
    let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    format!("{:#}", SignedDuration::from_millis(millis))
}

/// RFC 3339 in UTC, with microseconds when there are any. A time beyond the year 9999 stays a number.
pub(crate) fn show(time_us: i64) -> String {
    match EPOCH.checked_add(SignedDuration::from_micros(time_us)) {
        Ok(utc) if time_us % 1_000_000 == 0 => format!("{utc}Z"),
        Ok(utc) => format!("{utc:.6}Z"),
        Err(_) => time_us.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: i64 = 1_291_191_960_000_000;

    #[test]
    fn a_wall_clock_is_read_in_its_zone() {
        for (text, expected) in [
            ("2010-12-01 08:26:00", LINE),
            ("2010-12-01T08:26:00Z", LINE),
            ("2010-12-01T09:26:00+01:00", LINE),
            ("2010-12-01 08:26:00.25", LINE + 250_000),
            ("2010-12-01", LINE - (8 * 3_600 + 26 * 60) * 1_000_000),
        ] {
            assert_eq!(parse(text, &TimeZone::UTC), Ok(expected), "{text}");
        }
        let five_east = TimeZone::fixed(jiff::tz::offset(5));
        assert_eq!(parse("2010-12-01 13:26:00", &five_east), Ok(LINE));
        assert!(parse("yesterday", &TimeZone::UTC).is_err_and(|wrong| wrong.contains("is no time")));
    }

    #[test]
    fn a_time_is_shown_as_it_can_be_read_again() {
        assert_eq!(show(LINE), "2010-12-01T08:26:00Z");
        assert_eq!(show(LINE + 1), "2010-12-01T08:26:00.000001Z");
        assert_eq!(show(i64::MAX), i64::MAX.to_string());
        assert_eq!(parse(&show(LINE + 1), &TimeZone::UTC), Ok(LINE + 1));
    }

    #[test]
    fn the_ends_of_the_calendar_are_times() {
        let one_east = TimeZone::fixed(jiff::tz::offset(1));
        for (text, zone, shown) in [
            ("9999-12-31T23:59:59Z", &TimeZone::UTC, "9999-12-31T23:59:59Z"),
            ("9999-12-31 23:59:59.5", &TimeZone::UTC, "9999-12-31T23:59:59.500000Z"),
            ("9999-12-31", &TimeZone::UTC, "9999-12-31T00:00:00Z"),
            ("9999-12-31T23:00:00+01:00", &TimeZone::UTC, "9999-12-31T22:00:00Z"),
            ("9999-12-31 23:00:00", &one_east, "9999-12-31T22:00:00Z"),
            ("9999-12-30T22:00:00Z", &TimeZone::UTC, "9999-12-30T22:00:00Z"),
            ("-009999-01-01T00:00:00Z", &TimeZone::UTC, "-009999-01-01T00:00:00Z"),
            (LAST, &TimeZone::UTC, LAST),
        ] {
            let time_us = parse(text, zone);
            assert_eq!(time_us.map(show).as_deref(), Ok(shown), "{text}");
        }
        let beyond =
            ["9999-12-31T23:59:59-01:00", "12010-12-01", "+012010-12-01T00:00:00Z", "-009999-01-01T00:00:00+01:00"];
        for text in beyond {
            assert!(parse(text, &TimeZone::UTC).is_err_and(|wrong| wrong.contains("is out of range")), "{text}");
        }
        assert!(parse("2010-12-01+01:00", &TimeZone::UTC).is_err());
        assert!(parse("20101-x", &TimeZone::UTC).is_err());
    }

    #[test]
    fn a_time_may_be_so_long_ago() {
        let now = Timestamp::from_microsecond(LINE).expect("in range");
        assert_eq!(parse_or_ago("90m", now), Ok(LINE - 5_400_000_000));
        assert_eq!(parse_or_ago("2010-12-01T08:26:00Z", now), Ok(LINE));
        assert!(parse_or_ago("-90m", now).is_err());
    }

    #[test]
    fn a_length_of_time_is_shown_as_it_can_be_read_again() {
        for (text, millis, shown) in [
            ("15s", 15_000, "15s"),
            ("90s", 90_000, "1m 30s"),
            ("1m 30s", 90_000, "1m 30s"),
            ("500ms", 500, "500ms"),
            ("2h", 7_200_000, "2h"),
            ("30d", 2_592_000_000, "720h"),
            ("0s", 0, "0s"),
        ] {
            let span = span(text).expect(text);
            assert_eq!((span, show_span(span).as_str()), (Duration::from_millis(millis), shown));
        }
        for wrong in ["", "15", "-15s", "soon"] {
            assert!(span(wrong).is_err_and(|said| said.contains("write 15s")), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_zone_is_refused_by_name() {
        assert!(zone("Mars/Olympus").is_err_and(|wrong| wrong.contains("Mars/Olympus")));
        assert_eq!(zone("UTC"), Ok(TimeZone::UTC));
    }
}
