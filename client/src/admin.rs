//! Topics, producers and the server: making, describing, deleting, looking up.

use std::time::Duration;

use tillroll_proto::v1;

use crate::{Client, Compression, Error, Position, ServerInfo, ServerStatus};

/// Topics or producers of one page of a listing.
const PAGE: u32 = 1_000;

/// Makes, describes and deletes topics. Every change is durable when the call
/// returns.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

/// Settings of a new topic. What is not set has the server's default: 8
/// partitions, LZ4, records of at most 1 MiB, segments of 128 MiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicOptions {
    /// How many partitions.
    pub partitions: Option<u32>,
    /// How blocks on disk are compressed.
    pub compression: Option<Compression>,
    /// The largest encoded record, at most 3 MiB.
    pub max_record_bytes: Option<u32>,
    /// The size at which a segment is sealed.
    pub segment_bytes: Option<u32>,
}

impl TopicOptions {
    /// The same with so many partitions.
    #[must_use]
    pub fn partitions(mut self, count: u32) -> Self {
        self.partitions = Some(count);
        self
    }

    /// The same with this compression on disk.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// The same with this limit for one record.
    #[must_use]
    pub fn max_record_bytes(mut self, bytes: u32) -> Self {
        self.max_record_bytes = Some(bytes);
        self
    }

    /// The same with this segment size.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u32) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    fn into_wire(self) -> v1::TopicConfig {
        v1::TopicConfig {
            partitions: self.partitions,
            codec: self.compression.map(|compression| compression.to_wire().into()),
            max_record_bytes: self.max_record_bytes,
            segment_bytes: self.segment_bytes,
        }
    }
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its id, 16 hexadecimal digits, never used again.
    pub topic_id: String,
    /// How many partitions it has.
    pub partition_count: u32,
    /// How its blocks are compressed on disk.
    pub compression: Compression,
    /// The largest encoded record.
    pub max_record_bytes: u32,
    /// The size at which a segment is sealed.
    pub segment_bytes: u32,
    /// When it was made, in microseconds since 1970 UTC.
    pub created_time_us: i64,
    /// Its partitions; empty in a listing.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionInfo {
    /// Its number, from 0.
    pub partition: u32,
    /// The first offset that is still kept.
    pub head_offset: u64,
    /// The published end, exclusive.
    pub end_offset: u64,
    /// Bytes of its segments on disk.
    pub stored_bytes: u64,
    /// Append time of the first kept record, 0 without one.
    pub first_append_time_us: i64,
    /// Append time of the last record, 0 without one.
    pub last_append_time_us: i64,
}

/// A file of a partition's records, offsets `base_offset..next_offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// The first offset in it.
    pub base_offset: u64,
    /// The first offset behind it.
    pub next_offset: u64,
    /// Its size on disk.
    pub stored_bytes: u64,
    /// It will not change any more.
    pub sealed: bool,
    /// Append time of its first record.
    pub first_append_time_us: i64,
    /// Append time of its last record.
    pub last_append_time_us: i64,
}

impl TopicInfo {
    fn from_wire(wire: Option<v1::Topic>) -> Result<Self, Error> {
        let wire = wire.ok_or_else(|| Error::protocol("an answer without its topic"))?;
        let config = wire.config.unwrap_or_default();
        let partition_count = config.partitions.unwrap_or(wire.partitions.len() as u32);
        if partition_count == 0 {
            return Err(Error::protocol("a topic without partitions"));
        }
        Ok(Self {
            name: wire.name,
            topic_id: wire.topic_id,
            partition_count,
            compression: Compression::from_wire(config.codec.unwrap_or_default())?,
            max_record_bytes: config.max_record_bytes.unwrap_or(1 << 20),
            segment_bytes: config.segment_bytes.unwrap_or_default(),
            created_time_us: wire.created_time_us,
            partitions: wire
                .partitions
                .into_iter()
                .map(|partition| PartitionInfo {
                    partition: partition.partition,
                    head_offset: partition.head_offset,
                    end_offset: partition.end_offset,
                    stored_bytes: partition.stored_bytes,
                    first_append_time_us: partition.first_append_time_us,
                    last_append_time_us: partition.last_append_time_us,
                })
                .collect(),
        })
    }
}

/// A producer that the server keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerInfo {
    /// Its name, or the id that the server gave it.
    pub name: String,
    /// The epoch that counts: every older one is fenced.
    pub epoch: u64,
    /// The sequence that its next append has.
    pub next_sequence: u64,
    /// Records that were ever accepted from it.
    pub accepted_records: u64,
    /// How long it may be idle before it is forgotten; none: it is kept.
    pub idle_expiry: Option<Duration>,
    /// When it was registered or appended last, in microseconds since 1970 UTC.
    pub last_append_time_us: i64,
    /// Answers that are remembered for its retries.
    pub remembered_answers: u64,
}

impl ProducerInfo {
    fn from_wire(wire: v1::Producer) -> Self {
        Self {
            name: wire.producer_id,
            epoch: wire.epoch,
            next_sequence: wire.next_sequence,
            accepted_records: wire.accepted_records,
            idle_expiry: Some(wire.idle_expiry_ms).filter(|ms| *ms > 0).map(Duration::from_millis),
            last_append_time_us: wire.last_append_time_us,
            remembered_answers: wire.remembered_answers,
        }
    }
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Makes a topic, and says whether this call made it. Repeating it with
    /// equal options is OK.
    ///
    /// **Errors**: `Conflict` (`TOPIC_EXISTS`) when it is there with other
    /// settings, `InvalidInput` for a bad name or setting.
    pub async fn create_topic(
        &self,
        name: impl Into<String>,
        options: TopicOptions,
    ) -> Result<(TopicInfo, bool), Error> {
        let name = name.into();
        let context = format!("create topic {name}");
        let request = v1::CreateTopicRequest { name, config: Some(options.into_wire()), dry_run: false };
        let answer = self.client.topics().create_topic(request).await;
        let answer = answer.map_err(|status| Error::from_status(&context, &status))?.into_inner();
        Ok((TopicInfo::from_wire(answer.topic)?, answer.created))
    }

    /// Describes a topic with its partitions.
    ///
    /// **Errors**: `NotFound`.
    pub async fn get_topic(&self, name: &str) -> Result<TopicInfo, Error> {
        let request = v1::GetTopicRequest { name: name.to_owned() };
        let answer = self.client.topics().get_topic(request).await;
        let context = format!("look up topic {name}");
        let answer = answer.map_err(|status| Error::from_status(&context, &status))?;
        TopicInfo::from_wire(answer.into_inner().topic)
    }

    /// Every topic whose name begins with `prefix`, by name, without partitions.
    pub async fn list_topics(&self, prefix: &str) -> Result<Vec<TopicInfo>, Error> {
        let mut topics = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListTopicsRequest {
                page_size: PAGE,
                page_token: page_token.clone(),
                name_prefix: prefix.to_owned(),
            };
            let answer = self.client.topics().list_topics(request).await;
            let page = answer.map_err(|status| Error::from_status("list topics", &status))?.into_inner();
            for topic in page.topics {
                topics.push(TopicInfo::from_wire(Some(topic))?);
            }
            page_token = next_page(&page_token, page.next_page_token)?;
            if page_token.is_empty() {
                return Ok(topics);
            }
        }
    }

    /// Deletes the topic of this name with this id, with all its records.
    ///
    /// **Errors**: `NotFound`; `Conflict` (`TOPIC_RECREATED`) when the name
    /// belongs to another topic by now.
    pub async fn delete_topic(&self, name: &str, topic_id: &str) -> Result<(), Error> {
        let request = v1::DeleteTopicRequest { name: name.to_owned(), topic_id: topic_id.to_owned() };
        let answer = self.client.topics().delete_topic(request).await;
        let context = format!("delete topic {name}");
        answer.map(drop).map_err(|status| Error::from_status(&context, &status))
    }

    /// The offset of a position in each partition, as (partition, offset).
    pub async fn find_offsets(&self, topic: &str, position: Position) -> Result<Vec<(u32, u64)>, Error> {
        let request = v1::FindOffsetsRequest { topic: topic.to_owned(), at: Some(position.into_wire()) };
        let answer = self.client.topics().find_offsets(request).await;
        let context = format!("find offsets in {topic}");
        let answer = answer.map_err(|status| Error::from_status(&context, &status))?;
        let offsets = answer.into_inner().offsets;
        Ok(offsets.into_iter().map(|found| (found.partition, found.next_offset)).collect())
    }

    /// The segments of a partition, from the oldest on.
    pub async fn list_segments(&self, topic: &str, partition: u32) -> Result<Vec<Segment>, Error> {
        let context = format!("list segments of {topic}");
        let mut segments = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListSegmentsRequest {
                topic: topic.to_owned(),
                partition,
                page_size: PAGE,
                page_token: page_token.clone(),
            };
            let answer = self.client.topics().list_segments(request).await;
            let page = answer.map_err(|status| Error::from_status(&context, &status))?.into_inner();
            segments.extend(page.segments.into_iter().map(|segment| Segment {
                base_offset: segment.base_offset,
                next_offset: segment.next_offset,
                stored_bytes: segment.stored_bytes,
                sealed: segment.sealed,
                first_append_time_us: segment.first_append_time_us,
                last_append_time_us: segment.last_append_time_us,
            }));
            page_token = next_page(&page_token, page.next_page_token)?;
            if page_token.is_empty() {
                return Ok(segments);
            }
        }
    }

    /// Every producer whose name begins with `prefix`, by name.
    pub async fn list_producers(&self, prefix: &str) -> Result<Vec<ProducerInfo>, Error> {
        let mut producers = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListProducersRequest {
                name_prefix: prefix.to_owned(),
                page_size: PAGE,
                page_token: page_token.clone(),
            };
            let answer = self.client.control().list_producers(request).await;
            let page = answer.map_err(|status| Error::from_status("list producers", &status))?.into_inner();
            producers.extend(page.producers.into_iter().map(ProducerInfo::from_wire));
            page_token = next_page(&page_token, page.next_page_token)?;
            if page_token.is_empty() {
                return Ok(producers);
            }
        }
    }

    /// Deletes a producer: what it still sends is refused, and a retry of an
    /// append that was not answered yet is a new append. With `expected_epoch`
    /// only if nobody has registered it since.
    ///
    /// **Errors**: `NotFound` (`PRODUCER_UNKNOWN`), `Conflict`
    /// (`PRODUCER_FENCED`) when its epoch is another one.
    pub async fn delete_producer(&self, name: &str, expected_epoch: Option<u64>) -> Result<(), Error> {
        let request = v1::DeleteProducerRequest { producer_id: name.to_owned(), expected_epoch };
        let answer = self.client.control().delete_producer(request).await;
        let context = format!("delete producer {name}");
        answer.map(drop).map_err(|status| Error::from_status(&context, &status))
    }

    /// What the server says of itself now.
    pub async fn server_info(&self) -> Result<ServerInfo, Error> {
        let answer = self.client.control().get_server(v1::GetServerRequest {}).await;
        let answer = answer.map_err(|status| Error::from_status("ask the server", &status))?;
        Ok(ServerInfo::from_wire(answer.into_inner()))
    }

    /// Whether the server takes writes, and how much of each limit is in use.
    pub async fn server_status(&self) -> Result<ServerStatus, Error> {
        let answer = self.client.operator().get_status(v1::GetStatusRequest {}).await;
        let answer = answer.map_err(|status| Error::from_status("ask for the status", &status))?;
        Ok(ServerStatus::from_wire(answer.into_inner()))
    }
}

/// A token that does not move would list for ever.
pub(crate) fn next_page(before: &str, next: String) -> Result<String, Error> {
    if !next.is_empty() && next == before {
        return Err(Error::protocol("a listing that does not go on"));
    }
    Ok(next)
}
