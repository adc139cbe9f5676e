//! What a read asks for, held against what there is: fields first, then the topic, then where each partition starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use tillroll_engine::{
    engine::Engine,
    error::Refusal,
    id::{Lane, Offset, Partition},
    limits,
    request::{Start, TopicView},
};
use tillroll_proto::{
    reason::key,
    v1::{self, start_position::At},
};

use crate::{
    channel,
    refusal::{Facts, bad_field, of_fault, of_refusal, required},
    rpc::HEARTBEAT_MS,
    wire,
};

/// Signs of life more often than this would be a load of their own.
const HEARTBEAT_MS_MIN: u32 = 100;

/// The tag and length of a message in a message, at most.
const FRAME_BYTES: usize = 6;

/// What was asked, checked.
#[derive(Clone, Debug)]
pub(in crate::rpc) struct Plan {
    /// The same for all partitions and looks.
    pub(in crate::rpc) order: Arc<Order>,
    pub(in crate::rpc) cursors: Vec<Cursor>,
    pub(in crate::rpc) is_following: bool,
    /// Records to send; none without a limit.
    pub(in crate::rpc) records_max: Option<u64>,
    pub(in crate::rpc) heartbeat: Duration,
}

/// How far one partition is read.
#[derive(Clone, Copy, Debug)]
pub(in crate::rpc) struct Cursor {
    pub(in crate::rpc) lane: Lane,
    pub(in crate::rpc) next: Offset,
    /// The visible end when the call began.
    pub(in crate::rpc) end: Offset,
}

/// What the responses look like.
#[derive(Clone, Debug)]
pub(in crate::rpc) struct Order {
    /// The topic's name.
    pub(in crate::rpc) topic: String,
    /// Its id in hex.
    pub(in crate::rpc) topic_id: String,
    /// As batches, not record by record.
    pub(in crate::rpc) is_encoded: bool,
    /// Only records with this key.
    pub(in crate::rpc) key: Option<Bytes>,
    pub(in crate::rpc) limit: Limit,
}

/// How large a response may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rpc) struct Limit {
    /// Of the whole encoded `ReadResponse`.
    pub(in crate::rpc) bytes: usize,
    /// The client set it: what does not fit is refused. Otherwise it is sent alone.
    pub(in crate::rpc) is_hard: bool,
}

impl Plan {
    /// Reads a request. Blocks on the disk when it starts at a time.
    pub(in crate::rpc) fn of(engine: &Engine, request: v1::ReadRequest) -> Result<Self, Facts> {
        let is_following = is_following(request.stop)?;
        let is_encoded = is_encoded(request.format)?;
        let (start, group) = match request.start {
            // Where a group stands is looked up once its topic is known.
            Some(v1::StartPosition { at: Some(At::Group(group)) }) => (Start::Earliest, Some(group)),
            start => (wire::start(start, "start")?, None),
        };
        let limit = limit(request.max_response_bytes)?;
        let heartbeat = heartbeat(request.heartbeat_ms)?;
        let topic = engine.topic(&request.topic).map_err(|refusal| of_refusal(&refusal))?;
        if !request.topic_id.is_empty() && request.topic_id != topic.id.hex() {
            let (name, pinned, current) = (topic.name, request.topic_id, Some(topic.id));
            return Err(of_refusal(&Refusal::TopicRecreated { topic: name, pinned, current }));
        }
        let mut starts = starts(&request.partitions, &request.resume, start, &topic)?;
        if let Some(group) = &group {
            starts = at_cursors(engine, group, &topic, &request.resume, starts)?;
        }
        let mut cursors = Vec::new();
        for (partition, start) in starts {
            let lane = Lane { topic: topic.id, partition };
            let found = engine.find(lane, start).and_then(|next| Ok((next, engine.extent(lane)?.end)));
            let (next, end) = found.map_err(|fault| of_fault(&fault).at(&topic.name, Some(partition)))?;
            cursors.push(Cursor { lane, next, end });
        }
        Ok(Self {
            order: Arc::new(Order { topic_id: topic.id.hex(), topic: topic.name, is_encoded, key: request.key, limit }),
            cursors,
            is_following,
            records_max: (request.max_records > 0).then_some(request.max_records),
            heartbeat,
        })
    }

    /// What the chosen partitions hold now, or held when the call began; as many as fit into a response.
    pub(in crate::rpc) fn ends(&self, engine: &Engine, at_begin: bool) -> Vec<v1::PartitionEnd> {
        let limit = self.order.limit;
        let mut room = if limit.is_hard { limit.bytes.saturating_sub(FRAME_BYTES) } else { usize::MAX };
        let mut ends = Vec::with_capacity(self.cursors.len());
        for cursor in &self.cursors {
            let extent = engine.extent(cursor.lane).unwrap_or_default();
            let end = v1::PartitionEnd {
                topic: self.order.topic.clone(),
                partition: cursor.lane.partition.0,
                head_offset: extent.head.0,
                end_offset: if at_begin { cursor.end.0 } else { extent.end.0 },
            };
            let bytes = end.encoded_len() + FRAME_BYTES;
            if bytes > room {
                break;
            }
            room -= bytes;
            ends.push(end);
        }
        ends
    }
}

/// Starts where a group's cursors are, but for the partitions that the request itself says.
fn at_cursors(
    engine: &Engine,
    group: &str,
    topic: &TopicView,
    resume: &[v1::PartitionOffset],
    starts: BTreeMap<Partition, Start>,
) -> Result<BTreeMap<Partition, Start>, Facts> {
    let row = engine.group(group).map_err(|refusal| of_refusal(&refusal))?;
    let one = |(partition, start): (Partition, Start)| {
        if resume.iter().any(|said| said.partition == partition.0) {
            return Ok((partition, start));
        }
        let lane = Lane { topic: topic.id, partition };
        let cursor = row.cursors.get(&lane).map(|cursor| (partition, Start::Offset(cursor.next)));
        let unread = || Refusal::StartRequired { group: group.to_owned(), topic: topic.name.clone() };
        cursor.ok_or_else(|| of_refusal(&unread()))
    };
    starts.into_iter().map(one).collect()
}

fn is_following(number: i32) -> Result<bool, Facts> {
    match v1::ReadStop::try_from(number) {
        Ok(v1::ReadStop::AtEnd) => Ok(false),
        Ok(v1::ReadStop::Follow) => Ok(true),
        Ok(v1::ReadStop::Unspecified) => {
            Err(required("stop", "say where to stop: READ_STOP_AT_END or READ_STOP_FOLLOW"))
        }
        Err(_) => Err(bad_field("stop", format!("stop is {number}, which this broker does not know"))),
    }
}

pub(in crate::rpc) fn is_encoded(number: i32) -> Result<bool, Facts> {
    match v1::ReadFormat::try_from(number) {
        Ok(v1::ReadFormat::Unspecified | v1::ReadFormat::Records) => Ok(false),
        Ok(v1::ReadFormat::Encoded) => Ok(true),
        Err(_) => Err(bad_field("format", format!("format is {number}, which this broker does not know"))),
    }
}

pub(in crate::rpc) fn limit(asked: u32) -> Result<Limit, Facts> {
    let max = channel::READ_BYTES_MAX;
    match asked {
        0 => Ok(Limit { bytes: limits::RESPONSE_BYTES_DEFAULT as usize, is_hard: false }),
        asked if asked <= max => Ok(Limit { bytes: asked as usize, is_hard: true }),
        asked => {
            let message = format!("max_response_bytes is {asked}, the limit is {max}; ask for less");
            Err(bad_field("max_response_bytes", message).with(key::LIMIT, max).with(key::ACTUAL, asked))
        }
    }
}

fn heartbeat(asked: u32) -> Result<Duration, Facts> {
    let min = HEARTBEAT_MS_MIN;
    if (1..min).contains(&asked) {
        let message = format!("heartbeat_ms is {asked}, at least {min} is allowed; 0 means {HEARTBEAT_MS}");
        return Err(bad_field("heartbeat_ms", message).with(key::LIMIT, min).with(key::ACTUAL, asked));
    }
    let millis = if asked == 0 { HEARTBEAT_MS } else { asked };
    Ok(Duration::from_millis(millis.into()))
}

/// Where each chosen partition starts: as `resume` says, or as `start` does.
fn starts(
    asked: &[u32],
    resume: &[v1::PartitionOffset],
    start: Start,
    topic: &TopicView,
) -> Result<BTreeMap<Partition, Start>, Facts> {
    let count = topic.config.partitions;
    let all: Vec<u32> = (0..count).collect();
    let chosen = if asked.is_empty() { &all } else { asked };
    if let Some(&beyond) = chosen.iter().find(|&&partition| partition >= count) {
        let (topic, partition) = (topic.name.clone(), Partition(beyond));
        return Err(of_refusal(&Refusal::PartitionNotFound { topic, partition, count }));
    }
    let mut starts = BTreeMap::new();
    for (index, &partition) in chosen.iter().enumerate() {
        if starts.insert(Partition(partition), start).is_some() {
            return Err(named_twice(&format!("partitions[{index}]"), partition));
        }
    }
    let mut resumed = BTreeSet::new();
    for (index, at) in resume.iter().enumerate() {
        let field = format!("resume[{index}].partition");
        let Some(start) = starts.get_mut(&Partition(at.partition)) else {
            let message = format!("{field} is {}, which is not among the partitions to read", at.partition);
            return Err(bad_field(&field, message));
        };
        if !resumed.insert(at.partition) {
            return Err(named_twice(&field, at.partition));
        }
        *start = Start::Offset(Offset(at.next_offset));
    }
    Ok(starts)
}

/// Whoever names a partition twice means another one, or expects its records twice.
fn named_twice(field: &str, partition: u32) -> Facts {
    bad_field(field, format!("{field} is {partition} a second time; name each partition once"))
        .with(key::ACTUAL, partition)
}

#[cfg(test)]
mod tests {
    use tillroll_engine::{id::TopicId, request::TopicConfig};
    use tillroll_proto::reason;

    use super::*;

    fn topic(partitions: u32) -> TopicView {
        let config = TopicConfig { partitions, ..TopicConfig::default() };
        TopicView { name: "orders".into(), id: TopicId(1), config, created_us: 0 }
    }

    fn resume(partition: u32, next_offset: u64) -> v1::PartitionOffset {
        v1::PartitionOffset { partition, next_offset }
    }

    #[test]
    fn no_partition_means_all_and_one_beyond_is_refused() {
        let all = starts(&[], &[], Start::Earliest, &topic(3)).expect("all");
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), [Partition(0), Partition(1), Partition(2)]);
        let beyond = starts(&[0, 3], &[], Start::Earliest, &topic(3)).expect_err("there are three");
        assert_eq!(beyond.reason(), reason::PARTITION_NOT_FOUND);
    }

    #[test]
    fn resume_overrides_the_start_of_chosen_partitions_only() {
        let found = starts(&[0, 1], &[resume(1, 7)], Start::Earliest, &topic(3)).expect("both chosen");
        assert_eq!(found[&Partition(0)], Start::Earliest);
        assert_eq!(found[&Partition(1)], Start::Offset(Offset(7)));
        for (chosen, resumed) in [(&[0][..], vec![resume(1, 7)]), (&[0], vec![resume(0, 7), resume(0, 7)])] {
            let refused = starts(chosen, &resumed, Start::Earliest, &topic(3)).expect_err("no place to go on");
            assert_eq!(refused.reason(), reason::FIELD_INVALID);
            assert!(refused.message.contains("resume["), "{}", refused.message);
        }
    }

    #[test]
    fn a_partition_that_is_named_twice_is_refused_by_its_place() {
        let refused = starts(&[2, 0, 2], &[], Start::Earliest, &topic(3)).expect_err("2 is there twice");
        assert_eq!(refused.reason(), reason::FIELD_INVALID);
        assert_eq!(refused.metadata, [(key::FIELD, "partitions[2]".to_owned()), (key::ACTUAL, "2".to_owned())]);
    }

    #[test]
    fn a_heartbeat_below_the_least_is_refused_and_not_raised() {
        assert_eq!(heartbeat(0).expect("the default"), Duration::from_secs(10));
        assert_eq!(heartbeat(100).expect("the least"), Duration::from_millis(100));
        for asked in [1, 99] {
            let refused = heartbeat(asked).expect_err("too often");
            assert_eq!(refused.reason(), reason::FIELD_INVALID);
            let facts = [(key::FIELD, "heartbeat_ms"), (key::LIMIT, "100"), (key::ACTUAL, &asked.to_string())];
            assert_eq!(refused.metadata, facts.map(|(key, value)| (key, value.to_owned())));
        }
    }

    #[test]
    fn a_limit_that_is_named_is_hard_and_bounded() {
        let max = channel::READ_BYTES_MAX;
        assert!(!limit(0).expect("the default").is_hard);
        assert_eq!(limit(max).expect("the largest"), Limit { bytes: max as usize, is_hard: true });
        let refused = limit(max + 1).expect_err("above");
        assert_eq!(refused.reason(), reason::FIELD_INVALID);
        assert!(refused.metadata.contains(&(key::LIMIT, max.to_string())), "{:?}", refused.metadata);
        assert!(refused.metadata.contains(&(key::ACTUAL, (max + 1).to_string())), "{:?}", refused.metadata);
    }

    #[test]
    fn numbers_of_no_known_meaning_are_refused() {
        assert_eq!(is_following(0).expect_err("not set").reason(), reason::FIELD_REQUIRED);
        assert_eq!(is_following(9).expect_err("unknown").reason(), reason::FIELD_INVALID);
        assert_eq!(is_encoded(9).expect_err("unknown").reason(), reason::FIELD_INVALID);
        assert!(!is_encoded(0).expect("records are the default"));
    }
}
