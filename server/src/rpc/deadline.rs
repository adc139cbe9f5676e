//! The deadline of a call, for those that go on behind their headers: tonic itself only guards the time until then.

use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tonic::{Status, metadata::MetadataMap};

/// The header that says how long a client waits.
const HEADER: &str = "grpc-timeout";
/// Digits that the protocol allows.
const DIGITS_MAX: usize = 8;
/// A deadline further away than this is none.
const FAR: Duration = Duration::from_hours(365 * 24);

/// When the client stops waiting; none when it does not say, or says what is no time.
pub(super) fn of(metadata: &MetadataMap) -> Option<Instant> {
    of_headers(metadata.as_ref())
}

/// As [`of`].
pub(crate) fn of_headers(headers: &http::HeaderMap) -> Option<Instant> {
    let timeout = parse(headers.get(HEADER)?.to_str().ok()?)?;
    (timeout < FAR).then(|| Instant::now() + timeout)
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_hours(count),
        "M" => Duration::from_mins(count),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Passes when the deadline does; never without one.
pub(crate) async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The same for those that poll it.
pub(super) fn timer(deadline: Option<Instant>) -> Option<std::pin::Pin<Box<Sleep>>> {
    deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)))
}

/// How such a call ends. It has no reason of ours: clients say the same of themselves, with as little known.
pub(crate) fn exceeded() -> Status {
    Status::deadline_exceeded("the call's deadline has passed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_at_most_eight_digits_and_a_unit() {
        let cases = [
            ("1H", Some(3_600_000_000_000)),
            ("2M", Some(120_000_000_000)),
            ("3S", Some(3_000_000_000)),
            ("99999999m", Some(99_999_999_000_000)),
            ("5u", Some(5_000)),
            ("6n", Some(6)),
            ("123456789n", None),
            ("", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("1s", None),
            ("1é", None),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse(text), nanos.map(Duration::from_nanos), "{text}");
        }
    }

    #[tokio::test]
    async fn a_year_is_no_deadline() {
        let mut metadata = MetadataMap::new();
        assert!(of(&metadata).is_none());
        metadata.insert(HEADER, "99999999H".parse().expect("a value"));
        assert!(of(&metadata).is_none());
        metadata.insert(HEADER, "1S".parse().expect("a value"));
        assert!(of(&metadata).is_some());
    }
}
