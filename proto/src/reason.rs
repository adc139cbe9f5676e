//! The spelling of every reason and metadata key, shared by server and client.
//!
//! A refusal carries `google.rpc.ErrorInfo` with one of these reasons, the
//! domain [`DOMAIN`], and its facts as metadata under the keys of [`key`]. Both
//! are part of the contract: a client decides by the reason, and by the code of
//! the call only when there is none. `docs/errors.md` says for each what it
//! means and whether to try again.

/// The domain of every `ErrorInfo` that Tillroll sends.
pub const DOMAIN: &str = "tillroll";

/// Declares the reasons once, as constants and as the list of all of them.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = stringify!($name);)+

        /// Every reason, in the order of this file.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

reasons! {
    /// A partition does not end where the append expects. Read again, then
    /// append under the same sequence.
    EXPECTED_OFFSET_MISMATCH;

    /// A newer epoch of this producer exists. Final for this process.
    PRODUCER_FENCED;
    /// The partition is not assigned under this epoch any more.
    ASSIGNMENT_FENCED;
    /// Another process with the same member id took over.
    TAKEN_OVER;
    /// It is no member any more: it was away, or silent, for too long. Join again.
    MEMBERSHIP_ENDED;

    /// The sequence is beyond the next one. Go on from `next`.
    SEQUENCE_GAP;
    /// The append is in the log, but its offsets are no longer remembered.
    SEQUENCE_FORGOTTEN;
    /// The sequence was accepted with other bytes.
    SEQUENCE_REUSED;
    /// The producer is not registered, or has expired.
    PRODUCER_UNKNOWN;

    /// A topic of that name exists with another configuration.
    TOPIC_EXISTS;
    /// The name belongs to another topic than the pinned one.
    TOPIC_RECREATED;
    /// A start is required and was not given.
    START_REQUIRED;
    /// The cursor is already beyond that offset.
    CURSOR_BACKWARDS;
    /// The offset is beyond the published end.
    CURSOR_BEYOND_END;

    /// A group of that name exists with another configuration.
    GROUP_EXISTS;
    /// The group has members, which was not allowed for.
    GROUP_HAS_MEMBERS;
    /// The group has changed since it was looked at.
    GROUP_CHANGED;

    /// The offset is not kept any more. Go on from `head`.
    OFFSET_BELOW_HEAD;
    /// The offset is beyond the published end.
    OFFSET_BEYOND_END;
    /// A record or batch does not fit into the response size asked for.
    RESPONSE_LIMIT;

    /// A record, its key or its headers are larger than allowed.
    RECORD_TOO_LARGE;
    /// A batch is larger than allowed, as sent or decoded.
    BATCH_TOO_LARGE;
    /// The append has too many bytes, records or batches.
    APPEND_TOO_LARGE;
    /// A field of a request other than an append is larger than allowed, or the
    /// request would change more at once than fits.
    REQUEST_TOO_LARGE;
    /// An append or a batch has nothing in it.
    APPEND_EMPTY;
    /// The CRC sent does not fit the bytes sent.
    BAD_CRC;
    /// Bytes that are not what they are said to be: broken protobuf or
    /// compressed data, a wrong count, a record that breaks a rule.
    BAD_ENCODING;
    /// A check without a kind, or of a kind that this server does not know.
    UNKNOWN_CHECK;
    /// A name outside `[a-z0-9][a-z0-9._-]{0,127}`.
    NAME_INVALID;
    /// A required field is not set.
    FIELD_REQUIRED;
    /// A field has a value outside its range, or an unknown enum number.
    FIELD_INVALID;

    /// No topic of that name.
    TOPIC_NOT_FOUND;
    /// The topic has no such partition.
    PARTITION_NOT_FOUND;
    /// No group of that name.
    GROUP_NOT_FOUND;

    /// Too little room on the server's disk. Try again once there is room.
    DISK_FULL;
    /// The journal is full until its frames are flushed. Try again.
    JOURNAL_FULL;
    /// As many unanswered appends or bytes as there may be. Try again.
    TOO_MANY_IN_FLIGHT;
    /// As many producers as there may be.
    PRODUCERS_FULL;
    /// Answers that this producer has not confirmed take as much room as they
    /// may. Confirm some with `answered_below`, and try again.
    ANSWERS_FULL;
    /// As many topics as there may be.
    TOPICS_FULL;
    /// As many partitions, over all topics, as there may be.
    PARTITIONS_FULL;
    /// As many groups, members or cursors as there may be.
    GROUPS_FULL;

    /// Writes are off since a write or a sync failed, until the server is
    /// started again. Nothing of this request was written.
    LOG_POISONED;
    /// A write or sync failed while this append was on its way: it may have been
    /// written. A retry under the same stamp after a restart tells.
    OUTCOME_UNKNOWN;
    /// The server is stopping. Nothing of this request was written.
    SHUTTING_DOWN;

    /// The server's disk failed to give bytes back. Nothing is known to be
    /// damaged. Try again.
    READ_FAILED;
    /// Stored bytes are damaged. They are never served and never skipped.
    DATA_DAMAGED;
    /// The server does not do this.
    UNSUPPORTED_FEATURE;
}

/// Names of the facts in the metadata of an `ErrorInfo`. Numbers are decimal.
pub mod key {
    /// What had to be so.
    pub const EXPECTED: &str = "expected";
    /// What is so.
    pub const ACTUAL: &str = "actual";
    /// The largest that is allowed.
    pub const LIMIT: &str = "limit";
    /// The path of the field in the request.
    pub const FIELD: &str = "field";
    /// The name as asked, where it is a name that is refused.
    pub const NAME: &str = "name";
    /// The batch of the append, from 0.
    pub const BATCH: &str = "batch";
    /// The record of the batch, from 0.
    pub const RECORD: &str = "record";
    /// A topic's name.
    pub const TOPIC: &str = "topic";
    /// A topic's id, 16 hexadecimal digits.
    pub const TOPIC_ID: &str = "topic_id";
    /// A partition, from 0.
    pub const PARTITION: &str = "partition";
    /// How many partitions there are.
    pub const COUNT: &str = "count";
    /// A group's name.
    pub const GROUP: &str = "group";
    /// A producer's id.
    pub const PRODUCER: &str = "producer";
    /// An epoch as sent; with PRODUCER_FENCED the one that counts.
    pub const EPOCH: &str = "epoch";
    /// The epoch that counts.
    pub const CURRENT: &str = "current";
    /// A member of a group.
    pub const MEMBER: &str = "member";
    /// The member that holds the partition.
    pub const HOLDER: &str = "holder";
    /// A sequence as sent.
    pub const SEQUENCE: &str = "sequence";
    /// The sequence that must come next.
    pub const NEXT: &str = "next";
    /// The oldest sequence whose answer is remembered.
    pub const OLDEST: &str = "oldest";
    /// How the configurations differ, in words.
    pub const DIFFERENCES: &str = "differences";
    /// An existing name close to the one asked for.
    pub const SIMILAR: &str = "similar";
    /// The first offset that is still kept.
    pub const HEAD: &str = "head";
    /// The published end, exclusive.
    pub const END: &str = "end";
    /// An offset.
    pub const OFFSET: &str = "offset";
    /// A size in bytes.
    pub const SIZE: &str = "size";
    /// Begin of a range of offsets.
    pub const FROM: &str = "from";
    /// End of a range of offsets, exclusive.
    pub const TO: &str = "to";
    /// A file's name in the data directory.
    pub const FILE: &str = "file";
    /// A feature's name.
    pub const FEATURE: &str = "feature";
}
