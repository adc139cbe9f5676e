//! A record as a program sees it, and its two roads to and from the wire.

use bytes::Bytes;
use tillroll_proto::{reason, v1};

use crate::{Error, ErrorKind};

/// The most headers of one record.
const HEADERS_MAX: usize = 64;
/// Names and values of one record's headers together.
const HEADER_BYTES_MAX: usize = 32 << 10;

/// One event. Everything but the value is optional and costs nothing when it is
/// absent; an empty string counts as absent.
///
/// ```
/// use tillroll_client::Record;
/// let record = Record::new("{}").key("42").type_("OrderPlaced").header("shop", "7");
/// assert_eq!(record.key.as_deref(), Some(&b"42"[..]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What the record is about; decides its partition. Absent is not the same
    /// as empty. At most 1 KiB.
    pub key: Option<Bytes>,
    /// The event itself. May be empty.
    pub value: Bytes,
    /// The key is deleted. Needs a key and an empty value.
    pub tombstone: bool,
    /// Named values beside the value, in order. At most 64, 32 KiB together.
    pub headers: Vec<(String, Bytes)>,
    /// When it happened, as the producer claims, in microseconds since 1970 UTC.
    pub event_time_us: Option<i64>,
    /// The event's own id.
    pub id: String,
    /// What kind of event it is.
    pub type_: String,
    /// Where it comes from.
    pub source: String,
    /// The media type of the value.
    pub content_type: String,
    /// The business operation that it belongs to.
    pub correlation_id: String,
    /// The id of what caused it.
    pub causation_id: String,
    /// W3C trace context.
    pub traceparent: String,
}

impl Record {
    /// A keyless record with this value.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), ..Self::default() }
    }

    /// A record that deletes this key under compaction.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), tombstone: true, ..Self::default() }
    }

    /// The same record with this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same record with one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same record with this event time, in microseconds since 1970 UTC.
    #[must_use]
    pub fn event_time_us(mut self, time: i64) -> Self {
        self.event_time_us = Some(time);
        self
    }

    /// The same record with this id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// The same record with this type.
    #[must_use]
    pub fn type_(mut self, name: impl Into<String>) -> Self {
        self.type_ = name.into();
        self
    }

    /// The same record with this source.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// The same record with this media type.
    #[must_use]
    pub fn content_type(mut self, media: impl Into<String>) -> Self {
        self.content_type = media.into();
        self
    }

    /// The same record with this correlation id.
    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = id.into();
        self
    }

    /// The same record with this causation id.
    #[must_use]
    pub fn causation_id(mut self, id: impl Into<String>) -> Self {
        self.causation_id = id.into();
        self
    }

    /// The same record with this trace context.
    #[must_use]
    pub fn traceparent(mut self, trace: impl Into<String>) -> Self {
        self.traceparent = trace.into();
        self
    }

    pub(crate) fn from_wire(wire: v1::Record) -> Self {
        Self {
            key: wire.key,
            value: wire.value,
            tombstone: wire.tombstone,
            headers: wire.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            event_time_us: wire.event_time_us,
            id: wire.id,
            type_: wire.r#type,
            source: wire.source,
            content_type: wire.content_type,
            correlation_id: wire.correlation_id,
            causation_id: wire.causation_id,
            traceparent: wire.traceparent,
        }
    }

    pub(crate) fn into_wire(self) -> v1::Record {
        v1::Record {
            key: self.key,
            value: self.value,
            tombstone: self.tombstone,
            headers: self.headers.into_iter().map(|(name, value)| v1::Header { name, value }).collect(),
            event_time_us: self.event_time_us,
            id: self.id,
            r#type: self.type_,
            source: self.source,
            content_type: self.content_type,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            traceparent: self.traceparent,
        }
    }

    /// Refuses what the server would refuse. A producer puts many records into
    /// one append, so a bad one has to fail before it can take others with it.
    pub(crate) fn check(&self, encoded_bytes: usize, record_bytes_max: u32, key_bytes_max: u32) -> Result<(), Error> {
        let header_bytes: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let key_bytes = self.key.as_ref().map_or(0, Bytes::len);
        for (field, actual, limit) in [
            ("record", encoded_bytes, record_bytes_max as usize),
            ("record.key", key_bytes, key_bytes_max as usize),
            ("record.headers", self.headers.len(), HEADERS_MAX),
            ("record.headers", header_bytes, HEADER_BYTES_MAX),
        ] {
            if actual > limit {
                return Err(too_large(field, actual, limit));
            }
        }
        if self.tombstone && (self.key.is_none() || !self.value.is_empty()) {
            return Err(Error::refused(
                ErrorKind::InvalidInput,
                reason::BAD_ENCODING,
                "a tombstone needs a key and an empty value",
                &[(reason::key::FIELD, "record.tombstone".into())],
            ));
        }
        Ok(())
    }
}

impl<T: Into<Bytes>> From<T> for Record {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

fn too_large(field: &str, actual: usize, limit: usize) -> Error {
    Error::refused(
        ErrorKind::InvalidInput,
        reason::RECORD_TOO_LARGE,
        format!("the record is too large field={field} actual={actual} limit={limit}"),
        &[
            (reason::key::FIELD, field.into()),
            (reason::key::ACTUAL, actual.to_string()),
            (reason::key::LIMIT, limit.to_string()),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_needs_a_key_and_no_value() {
        let check = |record: &Record| record.check(10, 1 << 20, 1 << 10).is_ok();
        assert!(check(&Record::tombstone("42")));
        assert!(!check(&Record { tombstone: true, ..Record::default() }));
        assert!(!check(&Record { value: "x".into(), ..Record::tombstone("42") }));
    }

    #[test]
    fn each_limit_is_refused_with_field_limit_and_actual() {
        let mut wide = Record::new("x");
        for _ in 0..65 {
            wide = wide.header("h", "");
        }
        for (record, encoded, field, limit) in [
            (Record::new("x"), 101, "record", "100"),
            (Record::new("x").key(vec![0; 11]), 50, "record.key", "10"),
            (wide, 50, "record.headers", "64"),
            (Record::new("x").header("h", vec![0; 32 << 10]), 50, "record.headers", "32768"),
        ] {
            let error = record.check(encoded, 100, 10).expect_err("above the limit");
            assert_eq!(error.reason(), Some(reason::RECORD_TOO_LARGE));
            assert_eq!(error.metadata()["field"], field);
            assert_eq!(error.metadata()["limit"], limit);
        }
    }
}
