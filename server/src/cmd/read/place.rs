//! Where a reader starts, as it is written on the command line.

use jiff::Timestamp;
use tillroll_client::{Error, Position};

use crate::cmd::{fail::Failure, time};

/// `earliest`, `latest`, `offset:N`, `append-time:T` or `last:N`.
pub(in crate::cmd) fn parse(text: &str) -> Result<Position, String> {
    let number = |number: &str, what: &str| {
        number.parse::<u64>().map_err(|_| format!("{number:?} is no {what}: write {what}:17, counted from 0"))
    };
    match text.split_once(':') {
        None if text == "earliest" => Ok(Position::Earliest),
        None if text == "latest" => Ok(Position::Latest),
        Some(("offset", offset)) => number(offset, "offset").map(Position::Offset),
        Some(("last", count)) => {
            count.parse().map(Position::Last).map_err(|_| format!("{count:?} is no count: write last:10"))
        }
        Some(("append-time", at)) => time::parse_or_ago(at, Timestamp::now()).map(Position::AppendTime),
        Some(("time", at)) => Err(format!(
            "there are two times: append-time:{at} is the broker's and can be sought; event-time:{at} would be the \
             producer's, which no index knows: read from append-time:{at} and look at event_time"
        )),
        Some(("event-time", at)) => {
            Err(format!("event time is not indexed: read from append-time:{at} and look at event_time"))
        }
        _ => Err("it is earliest, latest, offset:N, append-time:T or last:N".to_owned()),
    }
}

/// As it is written.
pub(in crate::cmd) fn show(position: Position) -> String {
    match position {
        Position::Earliest => "earliest".to_owned(),
        Position::Latest => "latest".to_owned(),
        Position::Offset(offset) => format!("offset:{offset}"),
        Position::AppendTime(time_us) => format!("append-time:{}", time::show(time_us)),
        Position::Last(count) => format!("last:{count}"),
        _ => "unknown".to_owned(),
    }
}

/// Which partition it is that has no such offset: the same one goes to all of them. None for any other error.
pub(in crate::cmd) fn beyond_end(error: &Error, option: &str) -> Option<Failure> {
    if error.reason() != Some("OFFSET_BEYOND_END") {
        return None;
    }
    let (topic, partition) = (error.metadata().get("topic")?, error.number("partition")?);
    let (offset, end) = (error.number("offset")?, error.number("end")?);
    let message = format!("{topic}/{partition} ends at offset {end}, and has no offset {offset} yet");
    let hint = format!("name an offset that each has, or --partition; the end of each is {option} latest");
    Some(Failure::from(error.clone()).message(message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_one_spelling() {
        assert_eq!(parse("earliest"), Ok(Position::Earliest));
        assert_eq!(parse("latest"), Ok(Position::Latest));
        assert_eq!(parse("offset:17"), Ok(Position::Offset(17)));
        assert_eq!(parse("last:10"), Ok(Position::Last(10)));
        let at = Position::AppendTime(1_291_191_960_000_000);
        assert_eq!(parse("append-time:2010-12-01T08:26:00Z"), Ok(at));
        for place in ["earliest", "latest", "offset:17", "last:10", "append-time:2010-12-01T08:26:00Z"] {
            assert_eq!(parse(place).map(show).as_deref(), Ok(place));
        }
        for wrong in ["", "offset", "offset:-1", "last:x", "append-time:noon", "17"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bare_time_is_refused_with_both_spellings() {
        let refused = parse("time:2010-12-01").expect_err("ambiguous");
        assert!(refused.contains("append-time:2010-12-01"), "{refused}");
        assert!(refused.contains("event-time:2010-12-01"), "{refused}");
    }
}
