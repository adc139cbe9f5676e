//! The one grammar of the names below `data/`: `<16-hex topic>/<partition>/<20-digit base>-<8-hex generation>.log`,
//! and `.index` beside it. What must stay true: a name that parses prints as it was.

use crate::id::{Lane, Offset, Partition, TopicId};

/// Where all segments are.
pub const DATA_DIR: &str = "data";

/// What a file of a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The blocks: `.log`.
    Log,
    /// Where they stand: `.index`.
    Index,
}

impl Part {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Index => "index",
        }
    }
}

/// The name of one file of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Topic and partition.
    pub lane: Lane,
    /// Offset of the first record.
    pub base: Offset,
    /// Rises with every replacement of the segment; the first is 0.
    pub generation: u32,
    /// Blocks or index.
    pub part: Part,
}

impl Name {
    /// The last part of the path.
    pub fn file(&self) -> String {
        format!("{:020}-{:08x}.{}", self.base.get(), self.generation, self.part.suffix())
    }

    /// The path below the data directory.
    pub fn path(&self) -> String {
        format!("{}/{}", lane_dir(self.lane), self.file())
    }

    /// The name of the other file of the same segment.
    #[must_use]
    pub const fn with(self, part: Part) -> Self {
        Self { part, ..self }
    }

    /// Reads what [`Name::file`] printed; none for any other name.
    pub fn parse_file(lane: Lane, file: &str) -> Option<Self> {
        let (stem, suffix) = file.split_once('.')?;
        let part = [Part::Log, Part::Index].into_iter().find(|part| part.suffix() == suffix)?;
        let (base, generation) = stem.split_once('-')?;
        let name = Self {
            lane,
            base: Offset(base.parse().ok()?),
            generation: u32::from_str_radix(generation, 16).ok()?,
            part,
        };
        (name.file() == file).then_some(name)
    }

    /// Reads what [`Name::path`] printed; none for any other path.
    pub fn parse(path: &str) -> Option<Self> {
        let (dir, file) = path.rsplit_once('/')?;
        Self::parse_file(parse_lane_dir(dir)?, file)
    }
}

/// The directory of a topic's partitions.
pub fn topic_dir(topic: TopicId) -> String {
    format!("{DATA_DIR}/{}", topic.hex())
}

/// The directory of a partition's segments.
pub fn lane_dir(lane: Lane) -> String {
    format!("{}/{}", topic_dir(lane.topic), lane.partition)
}

/// Reads the name of a topic's directory within [`DATA_DIR`].
pub fn parse_topic(name: &str) -> Option<TopicId> {
    TopicId::from_hex(name).filter(|topic| topic.hex() == name)
}

/// Reads the name of a partition's directory within its topic's.
pub fn parse_partition(name: &str) -> Option<Partition> {
    name.parse().ok().map(Partition).filter(|partition| partition.to_string() == name)
}

/// Reads what [`lane_dir`] printed.
pub fn parse_lane_dir(dir: &str) -> Option<Lane> {
    let (topic, partition) = dir.strip_prefix(DATA_DIR)?.strip_prefix('/')?.split_once('/')?;
    Some(Lane { topic: parse_topic(topic)?, partition: parse_partition(partition)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_look_as_documented() {
        let lane = Lane { topic: TopicId(0xabc), partition: Partition(7) };
        let name = Name { lane, base: Offset(1_234), generation: 0x1f, part: Part::Log };
        assert_eq!(name.path(), "data/0000000000000abc/7/00000000000000001234-0000001f.log");
        assert_eq!(name.with(Part::Index).file(), "00000000000000001234-0000001f.index");
        assert_eq!(
            (topic_dir(lane.topic), lane_dir(lane)),
            ("data/0000000000000abc".into(), "data/0000000000000abc/7".into())
        );
    }

    #[test]
    fn other_names_are_not_taken_for_ours() {
        for path in [
            "data/0000000000000abc/7/1234-0000001f.log",
            "data/0000000000000abc/7/00000000000000001234-0000001F.log",
            "data/0000000000000abc/7/00000000000000001234-1f.log",
            "data/0000000000000abc/7/00000000000000001234-0000001f.log.tmp",
            "data/0000000000000abc/7/+0000000000000001234-0000001f.log",
            "data/0000000000000abc/7/00000000000000001234-+000001f.log",
            "data/0000000000000abc/07/00000000000000001234-0000001f.log",
            "data/0000000000000ABC/7/00000000000000001234-0000001f.log",
            "data/+000000000000abc/7/00000000000000001234-0000001f.log",
            "data/abc/7/00000000000000001234-0000001f.log",
            "/0000000000000abc/7/00000000000000001234-0000001f.log",
            "00000000000000001234-0000001f.log",
            "",
        ] {
            assert_eq!(Name::parse(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_name_comes_back_as_it_was_printed(topic: u64, partition: u32, base: u64, generation: u32, log: bool) {
            let lane = Lane { topic: TopicId(topic), partition: Partition(partition) };
            let part = if log { Part::Log } else { Part::Index };
            let name = Name { lane, base: Offset(base), generation, part };
            prop_assert_eq!(Name::parse(&name.path()), Some(name));
            prop_assert_eq!(parse_lane_dir(&lane_dir(lane)), Some(lane));
        }
    }
}
