//! The rows: one for each list, text and byte string of each request.

use crate::reason;

/// What one field of a message may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The message.
    pub message: &'static str,
    /// Its field.
    pub field: &'static str,
    /// Entries, of a list.
    pub entries: Option<u64>,
    /// Bytes of one text, byte string or message that is not looked into.
    pub bytes: Option<u64>,
    /// The reason of the refusal.
    pub reason: &'static str,
}

/// A name: one that is longer than a name may be, and shorter than this, is refused as NAME_INVALID or not found.
const NAME: u64 = 256;
/// A topic's id in hex, an etag.
const SHORT: u64 = 64;
/// Words of an operator, kept beside a group.
const WORDS: u64 = 1 << 10;
/// Entries of an append, and of what is like one.
const APPEND: u64 = 1_024;
/// A record set or a compressed batch: all of an append.
const CONTENT: u64 = 8 << 20;
/// Partitions of a topic.
const PARTITIONS: u64 = 1_024;
/// Partitions of a group.
const ASSIGNMENTS: u64 = 16_384;
/// Topics of a group.
const GROUP_TOPICS: u64 = 256;

const fn text(message: &'static str, field: &'static str, bytes: u64) -> Row {
    Row { message, field, entries: None, bytes: Some(bytes), reason: reason::REQUEST_TOO_LARGE }
}

const fn list(message: &'static str, field: &'static str, entries: u64) -> Row {
    Row { message, field, entries: Some(entries), bytes: None, reason: reason::REQUEST_TOO_LARGE }
}

const fn texts(message: &'static str, field: &'static str, entries: u64, bytes: u64) -> Row {
    Row { message, field, entries: Some(entries), bytes: Some(bytes), reason: reason::REQUEST_TOO_LARGE }
}

/// Of an append, or of cursor commits alone.
const fn append(row: Row) -> Row {
    Row { reason: reason::APPEND_TOO_LARGE, ..row }
}

/// All rows, in the order of the contract's files.
pub static ROWS: &[Row] = &[
    text("InitProducerRequest", "producer_id", NAME),
    text("ListProducerAppendsRequest", "producer_id", NAME),
    text("ListProducersRequest", "name_prefix", NAME),
    text("ListProducersRequest", "page_token", NAME),
    text("DeleteProducerRequest", "producer_id", NAME),
    append(list("AppendRequest", "batches", APPEND)),
    append(list("AppendRequest", "commits", APPEND)),
    append(list("AppendRequest", "checks", APPEND)),
    texts("AppendRequest", "needs", SHORT, NAME),
    // Measured when its turn has come, so that a bad one is an outcome and does not end the stream.
    append(text("AppendStreamRequest", "append", CONTENT + (64 << 10))),
    text("AppendBatch", "topic", NAME),
    append(text("AppendBatch", "records", CONTENT)),
    append(text("EncodedBatch", "data", CONTENT)),
    text("AppendBatch", "topic_id", SHORT),
    text("ProducerStamp", "producer_id", NAME),
    text("ExpectedNextOffset", "topic", NAME),
    text("HeldAssignment", "group", NAME),
    text("HeldAssignment", "topic", NAME),
    text("CursorCommit", "group", NAME),
    text("CursorCommit", "topic", NAME),
    append(text("CursorCommit", "metadata", 1 << 10)),
    text("ReadRequest", "topic", NAME),
    list("ReadRequest", "partitions", PARTITIONS),
    list("ReadRequest", "resume", PARTITIONS),
    text("ReadRequest", "key", 1 << 10),
    text("ReadRequest", "topic_id", SHORT),
    text("StartPosition", "group", NAME),
    text("CreateTopicRequest", "name", NAME),
    text("GetTopicRequest", "name", NAME),
    text("ListTopicsRequest", "page_token", NAME),
    text("ListTopicsRequest", "name_prefix", NAME),
    text("UpdateTopicRequest", "name", NAME),
    text("DeleteTopicRequest", "name", NAME),
    text("DeleteTopicRequest", "topic_id", SHORT),
    text("FindOffsetsRequest", "topic", NAME),
    text("ListSegmentsRequest", "topic", NAME),
    text("ListSegmentsRequest", "page_token", SHORT),
    text("CreateGroupRequest", "name", NAME),
    texts("GroupConfig", "topics", GROUP_TOPICS, NAME),
    text("GetGroupRequest", "name", NAME),
    text("ListCursorsRequest", "group", NAME),
    text("ListCursorsRequest", "page_token", SHORT),
    text("ListGroupsRequest", "page_token", NAME),
    text("ListGroupsRequest", "topic", NAME),
    text("UpdateGroupRequest", "name", NAME),
    text("UpdateGroupRequest", "etag", SHORT),
    text("UpdateGroupRequest", "pause_reason", WORDS),
    texts("UpdateGroupRequest", "add_topics", GROUP_TOPICS, NAME),
    text("DeleteGroupRequest", "name", NAME),
    text("SetCursorsRequest", "group", NAME),
    text("SetCursorsRequest", "topic", NAME),
    list("SetCursorsRequest", "partitions", PARTITIONS),
    text("SetCursorsRequest", "reason", WORDS),
    append(list("CommitCursorsRequest", "commits", APPEND)),
    text("ExplainGroupRequest", "group", NAME),
    text("Join", "group", NAME),
    text("Join", "member_id", NAME),
    text("Join", "instance_id", NAME),
    append(list("Commit", "commits", APPEND)),
    list("Release", "assignments", ASSIGNMENTS),
    append(list("Release", "commits", APPEND)),
    list("Hold", "assignments", ASSIGNMENTS),
    text("Assignment", "topic", NAME),
    list("Heartbeat", "ends", ASSIGNMENTS),
    text("PartitionEnd", "topic", NAME),
];
