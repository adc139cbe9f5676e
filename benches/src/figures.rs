//! Numbers for people and for scripts: latencies, rates, medians. All are rounded here and nowhere else.

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;

/// An empty histogram of microseconds with three digits.
///
/// # Panics
///
/// Never: the bounds are constants in order.
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order")
}

/// Adds one latency; longer ones than two minutes count as that.
pub fn record(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
}

/// `{p50, p99, p999, max}`, in microseconds.
pub fn ack_us(latencies: &Histogram<u64>) -> Value {
    json!({
        "p50": latencies.value_at_quantile(0.5),
        "p99": latencies.value_at_quantile(0.99),
        "p999": latencies.value_at_quantile(0.999),
        "max": latencies.max(),
    })
}

/// `count` per second, rounded to one digit behind the point.
#[expect(clippy::cast_precision_loss, reason = "for people: far below 2^52")]
pub fn per_second(count: u64, elapsed: Duration) -> f64 {
    round(count as f64 / elapsed.as_secs_f64().max(1e-6), 10.0)
}

/// Millions of bytes per second.
#[expect(clippy::cast_precision_loss, reason = "for people: far below 2^52")]
pub fn mb_per_s(bytes: u64, elapsed: Duration) -> f64 {
    round(bytes as f64 / elapsed.as_secs_f64().max(1e-6) / 1e6, 10.0)
}

/// Rounded to a multiple of 1 / `parts`.
pub fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// The middle one, or the mean of the two in the middle; none of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count.is_multiple_of(2) => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

/// The number at `pointer`, such as `/ack_us/p50`.
///
/// # Errors
///
/// When there is none: the program that wrote the object is of another version.
pub fn number(object: &Value, pointer: &str) -> anyhow::Result<f64> {
    let found = object.pointer(pointer).and_then(Value::as_f64);
    found.with_context(|| format!("the object has no number there pointer={pointer} object={object}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn rates_are_of_millions_of_bytes() {
        let rate = mb_per_s(1_024_000, Duration::from_millis(500));
        assert!((rate - 2.0).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn a_number_is_found_by_its_pointer() {
        let object = json!({"ack_us": {"p50": 250}});
        assert!(number(&object, "/ack_us/p50").is_ok_and(|found| (found - 250.0).abs() < 1e-9));
        assert!(number(&object, "/ack_us/p99").is_err());
    }
}
