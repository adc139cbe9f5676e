//! Where an event stands and how it is called, in few bytes: the judge keeps one of each for every event of a year.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use uuid::Uuid;

use super::super::payload::topic;

/// A place in one of the saga's topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    topic: u8,
    partition: u32,
    offset: u64,
}

impl Place {
    /// A place; none in a topic that is not of the saga.
    pub fn new(topic: &str, partition: u32, offset: u64) -> Option<Self> {
        let topic = topic::ALL.iter().position(|known| *known == topic)?;
        Some(Self { topic: topic as u8, partition, offset })
    }

    /// The topic's name.
    pub fn topic(&self) -> &'static str {
        topic::ALL[usize::from(self.topic)]
    }

    /// The partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The offset.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the other stands behind it in the same partition.
    pub(crate) fn is_before_in_partition(&self, other: &Self) -> bool {
        (self.topic, self.partition) == (other.topic, other.partition) && self.offset < other.offset
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}:{}", self.topic(), self.partition, self.offset)
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut place = serializer.serialize_struct("Place", 3)?;
        place.serialize_field("topic", self.topic())?;
        place.serialize_field("partition", &self.partition)?;
        place.serialize_field("offset", &self.offset)?;
        place.end()
    }
}

/// An event's id: a UUID as a number, anything else as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EventId {
    Uuid(Uuid),
    Text(Box<str>),
}

impl EventId {
    /// The id that is written so; none when nothing is written. Two ids are equal exactly when their texts are.
    pub(crate) fn of(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        // Only the usual form is read as a number: others of the same UUID are other texts.
        let usual = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let uuid = usual.then(|| Uuid::try_parse(text).ok()).flatten();
        Some(uuid.map_or_else(|| Self::Text(text.into()), Self::Uuid))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid.fmt(formatter),
            Self::Text(text) => formatter.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_equal_exactly_when_their_texts_are() {
        let texts = [
            "0190a6f0-0000-7000-8000-000000000001",
            "0190A6F0-0000-7000-8000-000000000001",
            "0190a6f0000070008000000000000001",
            "0190a6f0-0000-7000-8000-000000000002",
            "536365",
        ];
        for (one, text) in texts.iter().enumerate() {
            let id = EventId::of(text).unwrap();
            assert_eq!(id.to_string(), *text);
            for (other, same) in texts.iter().enumerate() {
                assert_eq!(EventId::of(same).unwrap() == id, one == other, "{text} {same}");
            }
        }
        assert_eq!(EventId::of(""), None);
    }

    #[test]
    fn a_place_is_named_as_a_person_names_it() {
        let place = Place::new(topic::PAYMENTS, 3, 17).unwrap();
        assert_eq!(place.to_string(), "payments 3:17");
        assert_eq!(serde_json::to_string(&place).unwrap(), r#"{"topic":"payments","partition":3,"offset":17}"#);
        assert_eq!(Place::new("elsewhere", 0, 0), None);
    }
}
