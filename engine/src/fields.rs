//! Fields of rows and operations as bytes: little-endian, in a fixed order, texts and lists behind their length.

use crate::id::{Lane, Partition, TopicId};

/// Fields being written.
#[derive(Debug, Default)]
pub struct FieldWriter {
    bytes: Vec<u8>,
}

impl FieldWriter {
    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.count(value.len());
        self.bytes.extend(value);
        self
    }

    /// A text that may be absent, which is not the same as empty.
    pub fn option(&mut self, text: Option<&str>) -> &mut Self {
        self.truth(text.is_some());
        match text {
            Some(text) => self.text(text),
            None => self,
        }
    }

    /// A truth, as one byte.
    pub fn truth(&mut self, value: bool) -> &mut Self {
        self.byte(u8::from(value))
    }

    /// A byte.
    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// Four bytes.
    pub fn word(&mut self, value: u32) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// Eight bytes.
    pub fn number(&mut self, value: u64) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// A time, in microseconds.
    pub fn time(&mut self, value: i64) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// A text behind its length.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// The length of what follows.
    ///
    /// # Panics
    ///
    /// When it does not fit four bytes: what is written is bounded far below.
    pub fn count(&mut self, value: usize) -> &mut Self {
        self.word(u32::try_from(value).expect("what is written is bounded"))
    }

    /// A topic's id and a partition.
    pub fn lane(&mut self, lane: Lane) -> &mut Self {
        self.number(lane.topic.0).word(lane.partition.0)
    }
}

/// Fields being read; every answer is none once the bytes do not suffice.
#[derive(Debug)]
pub struct FieldReader<'a> {
    bytes: &'a [u8],
}

impl<'a> FieldReader<'a> {
    /// Reads these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whether all bytes were read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.word()? as usize;
        let (bytes, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(bytes)
    }

    /// A text that may be absent.
    pub fn option(&mut self) -> Option<Option<String>> {
        if self.truth()? { self.text().map(Some) } else { Some(None) }
    }

    /// A truth, as one byte that is 0 or 1.
    pub fn truth(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*first)
    }

    /// A byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    /// Four bytes.
    pub fn word(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn number(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_le_bytes)
    }

    /// A time, in microseconds.
    pub fn time(&mut self) -> Option<i64> {
        self.fixed().map(i64::from_le_bytes)
    }

    /// A text behind its length.
    pub fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    /// A topic's id and a partition.
    pub fn lane(&mut self) -> Option<Lane> {
        Some(Lane { topic: TopicId(self.number()?), partition: Partition(self.word()?) })
    }

    /// A list behind its length. Nothing is allocated ahead for a length that the bytes cannot hold.
    pub fn list<T, L: FromIterator<T>>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<L> {
        let count = self.word()?;
        (0..count).map(|_| one(self)).collect()
    }
}
