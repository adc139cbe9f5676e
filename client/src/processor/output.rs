//! What a step says, as records: encoded field by field, as the generated code would, without making messages.

use std::fmt::Write as _;

use super::{Cause, Fact, STEP_HEADER, Told, block};
use crate::{
    batch::{LENGTH, framed_bytes, put_field, put_tag, put_varint},
    partition_for_key,
};

/// The media type of payloads.
const CONTENT_TYPE: &str = "application/json";

/// A topic that a service writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutputTopic {
    pub(super) name: String,
    pub(super) partitions: u32,
    pub(super) record_bytes_max: usize,
}

/// What all outputs of a step have in common.
pub(super) struct Origin<'a> {
    /// The group, and the source.
    pub(super) service: &'a str,
    pub(super) cause: &'a Cause,
    pub(super) correlation_id: &'a str,
    pub(super) causation_id: &'a str,
}

/// Why an output cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unwritable {
    /// The service does not say that it writes to this topic.
    ForeignTopic(String),
    /// The record is larger than its topic takes.
    TooLarge { actual: usize, limit: usize },
}

/// Encodes the outputs of one step behind what is in `said`.
pub(super) fn encode<F: Fact>(
    outputs: &[Told<F>],
    origin: &Origin<'_>,
    topics: &[OutputTopic],
    said: &mut block::Said,
) -> Result<(), Unwritable> {
    let mut step = String::new();
    match origin.cause {
        Cause::Input { topic, partition, offset } => {
            let _ = write!(step, "{}/{topic}/{partition}/{offset}/", origin.service);
        }
        Cause::Timer { name } => {
            let _ = write!(step, "{}/timer/{name}/", origin.service);
        }
    }
    let prefix = step.len();
    for (k, output) in outputs.iter().enumerate() {
        step.truncate(prefix);
        let _ = write!(step, "{k}/{}", outputs.len());
        let name = output.fact.topic();
        let topic = topics.iter().position(|topic| topic.name == name);
        let topic = topic.ok_or_else(|| Unwritable::ForeignTopic(name.to_owned()))?;
        let start = said.bytes.len();
        let body_bytes = put(output, origin, &step, said);
        if body_bytes > topics[topic].record_bytes_max {
            return Err(Unwritable::TooLarge { actual: body_bytes, limit: topics[topic].record_bytes_max });
        }
        let partition = partition_for_key(output.key.as_bytes(), topics[topic].partitions);
        said.outputs.push(block::Output { topic, partition, range: start..said.bytes.len() });
    }
    Ok(())
}

/// Writes one record, framed; gives its size without the frame.
fn put<F: Fact>(output: &Told<F>, origin: &Origin<'_>, step: &str, said: &mut block::Said) -> usize {
    let value = output.fact.encode();
    let header = framed_bytes(STEP_HEADER.len()) + framed_bytes(step.len());
    let texts = [
        (6, output.id.as_str()),
        (7, output.fact.kind()),
        (8, origin.service),
        (9, CONTENT_TYPE),
        (10, origin.correlation_id),
        (11, origin.causation_id),
    ];
    let field = |bytes: usize| if bytes == 0 { 0 } else { framed_bytes(bytes) };
    let body_bytes = framed_bytes(output.key.len())
        + field(value.len())
        + framed_bytes(header)
        + texts.iter().map(|(_, text)| field(text.len())).sum::<usize>();
    let out = &mut said.bytes;
    out.reserve(framed_bytes(body_bytes));
    put_tag(out, 1, LENGTH);
    put_varint(out, body_bytes as u64);
    let start = out.len();
    put_field(out, 1, output.key.as_bytes());
    if !value.is_empty() {
        put_field(out, 2, &value);
    }
    put_tag(out, 4, LENGTH);
    put_varint(out, header as u64);
    put_field(out, 1, STEP_HEADER.as_bytes());
    put_field(out, 2, step.as_bytes());
    for (number, text) in texts {
        if !text.is_empty() {
            put_field(out, number, text.as_bytes());
        }
    }
    assert_eq!(out.len() - start, body_bytes, "a record is as long as it was measured");
    body_bytes
}

#[cfg(test)]
mod tests {
    use tillroll_proto::v1;

    use super::*;
    use crate::{Record, processor::Malformed};

    #[derive(Clone, Debug, PartialEq)]
    struct Word(&'static str);

    impl Fact for Word {
        fn kind(&self) -> &'static str {
            "Word.v1"
        }

        fn topic(&self) -> &'static str {
            self.0
        }

        fn encode(&self) -> Vec<u8> {
            self.0.into()
        }

        fn decode(_: &str, _: &[u8]) -> Result<Option<Self>, Malformed> {
            Ok(None)
        }
    }

    fn topics() -> Vec<OutputTopic> {
        let topic = |name: &str, partitions| OutputTopic { name: name.into(), partitions, record_bytes_max: 400 };
        vec![topic("words", 8), topic("other", 1)]
    }

    fn told(key: &str, topic: &'static str) -> Told<Word> {
        Told { key: key.into(), id: format!("id-{key}"), append_time_us: 0, fact: Word(topic) }
    }

    #[test]
    fn outputs_are_records_with_their_step_in_a_header() {
        let cause = Cause::Input { topic: "orders".into(), partition: 3, offset: 17 };
        let origin = Origin { service: "payment", cause: &cause, correlation_id: "42", causation_id: "e-1" };
        let mut said = block::Said::default();
        encode(&[told("42", "words"), told("", "other")], &origin, &topics(), &mut said).expect("they fit");
        let set: v1::RecordSet = prost::Message::decode(said.bytes.freeze()).expect("a set");
        let records: Vec<Record> = set.records.into_iter().map(Record::from_wire).collect();
        let expected = |key: &'static str, value: &'static str, k: u32| {
            let record = Record::new(value).key(key).id(format!("id-{key}")).type_("Word.v1").source("payment");
            let record = record.content_type("application/json").correlation_id("42").causation_id("e-1");
            record.header(STEP_HEADER, format!("payment/orders/3/17/{k}/2"))
        };
        assert_eq!(records, [expected("42", "words", 0), expected("", "other", 1)]);
        let places: Vec<(usize, u32)> = said.outputs.iter().map(|output| (output.topic, output.partition)).collect();
        assert_eq!(places, [(0, partition_for_key(b"42", 8)), (1, 0)]);
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let cause = Cause::Timer { name: "deadline:42".into() };
        let long = "x".repeat(300);
        let origin = Origin { service: "payment", cause: &cause, correlation_id: &long, causation_id: "" };
        let mut said = block::Said::default();
        let foreign = encode(&[told("1", "elsewhere")], &origin, &topics(), &mut said);
        assert_eq!(foreign, Err(Unwritable::ForeignTopic("elsewhere".into())));
        let large = encode(&[told("1", "words")], &origin, &topics(), &mut said);
        assert!(matches!(large, Err(Unwritable::TooLarge { limit: 400, .. })), "{large:?}");
    }
}
