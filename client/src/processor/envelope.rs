//! A record of an input as it came, taken apart as far as a processor needs it: most records mean nothing to a service,
//! and are passed over by their type alone.

use bytes::Bytes;

use crate::{Error, decode::damaged};

/// Where a field is in the record.
type Span = std::ops::Range<usize>;

/// An encoded record and where its fields are. Nothing is copied.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    body: Bytes,
    key: Option<Span>,
    value: Span,
    id: Span,
    kind: Span,
    source: Span,
    correlation_id: Span,
}

impl Envelope {
    /// Finds the fields.
    ///
    /// **Errors**: `DataLoss` when the bytes are no record.
    pub(super) fn read(body: Bytes) -> Result<Self, Error> {
        let (mut key, mut fields) = (None, [0..0, 0..0, 0..0, 0..0, 0..0]);
        let mut at = 0;
        while at < body.len() {
            let (tag, next) = varint(&body, at)?;
            at = next;
            match tag & 7 {
                0 => at = varint(&body, at)?.1,
                1 => at = skip(&body, at, 8)?,
                5 => at = skip(&body, at, 4)?,
                2 => {
                    let (length, from) = varint(&body, at)?;
                    at = skip(&body, from, length)?;
                    let span = from..at;
                    match tag >> 3 {
                        1 => key = Some(span),
                        2 => fields[0] = span,
                        6 => fields[1] = span,
                        7 => fields[2] = span,
                        8 => fields[3] = span,
                        10 => fields[4] = span,
                        _ => {}
                    }
                }
                other => return Err(damaged(format!("a record with a field of wire type {other}"))),
            }
        }
        let [value, id, kind, source, correlation_id] = fields;
        Ok(Self { body, key, value, id, kind, source, correlation_id })
    }

    /// What it is about; none when it has no key, or one that is no text.
    pub(super) fn key(&self) -> Option<&str> {
        std::str::from_utf8(&self.body[self.key.clone()?]).ok()
    }

    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.body[self.value.clone()]
    }

    pub(super) fn id(&self) -> &str {
        self.text(&self.id)
    }

    pub(super) fn kind(&self) -> &str {
        self.text(&self.kind)
    }

    pub(super) fn source(&self) -> &str {
        self.text(&self.source)
    }

    pub(super) fn correlation_id(&self) -> &str {
        self.text(&self.correlation_id)
    }

    /// The server lets nothing but text into these fields.
    fn text(&self, span: &Span) -> &str {
        std::str::from_utf8(&self.body[span.clone()]).unwrap_or_default()
    }
}

fn varint(body: &[u8], at: usize) -> Result<(u64, usize), Error> {
    let (mut value, mut shift) = (0, 0);
    for (index, byte) in body[at..].iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value, at + index + 1));
        }
        shift += 7;
    }
    Err(damaged("a record with a number that does not end"))
}

fn skip(body: &[u8], at: usize, bytes: u64) -> Result<usize, Error> {
    let end = usize::try_from(bytes).ok().and_then(|bytes| at.checked_add(bytes));
    end.filter(|end| *end <= body.len()).ok_or_else(|| damaged("a record with a field beyond its end"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record;

    fn encoded(record: Record) -> Bytes {
        prost::Message::encode_to_vec(&record.into_wire()).into()
    }

    fn full() -> Record {
        let record =
            Record::new(vec![7; 300]).key("42").header("a", "b").event_time_us(-1).id("e-1").type_("Placed.v1");
        record.source("shop").content_type("application/json").correlation_id("c").causation_id("d").traceparent("t")
    }

    #[test]
    fn fields_are_found_where_they_are() {
        let envelope = Envelope::read(encoded(full())).expect("whole");
        assert_eq!((envelope.key(), envelope.value()), (Some("42"), &[7; 300][..]));
        assert_eq!((envelope.id(), envelope.kind(), envelope.source()), ("e-1", "Placed.v1", "shop"));
        assert_eq!(envelope.correlation_id(), "c");
        let empty = Envelope::read(encoded(Record::default())).expect("whole");
        assert_eq!((empty.key(), empty.value(), empty.kind()), (None, &[][..], ""));
    }

    #[test]
    fn a_key_that_is_no_text_is_none() {
        let envelope = Envelope::read(encoded(Record::new("x").key(vec![0xff]))).expect("whole");
        assert_eq!((envelope.key(), envelope.has_key()), (None, true));
    }

    #[test]
    fn a_record_that_is_cut_is_refused_or_read_without_what_is_missing() {
        let body = encoded(full());
        for end in 0..body.len() {
            // A cut between fields leaves a record with fewer of them; anywhere else is an error; never a panic.
            let _ = Envelope::read(body.slice(..end));
        }
        assert!(Envelope::read(body.slice(..body.len() - 1)).is_err());
    }
}
