//! Every reason that this server sends: its code, whether to try again, its facts. `docs/errors.md` has the same rows,
//! and a test holds the two equal.

use std::time::Duration;

use tillroll_proto::reason::{self, key};
use tonic::Code;

/// What is common to all refusals of one reason.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// The reason in `ErrorInfo`.
    pub reason: &'static str,
    /// The code of the call, for clients that know nothing of Tillroll.
    pub code: Code,
    /// Sent as `RetryInfo`: the same may be tried again after this long.
    pub wait: Option<Duration>,
    /// Whether trying again helps.
    pub retry: &'static str,
    /// What becomes of the producer's sequence.
    pub sequence: &'static str,
    /// The facts that may be in the metadata.
    pub keys: &'static [&'static str],
    /// The next step.
    pub next: &'static str,
}

const NO: &str = "no";
const YES: &str = "yes";
const SAME: &str = "same";
const UNUSED: &str = "unused";
const NONE: &str = "–";

const fn row(
    reason: &'static str,
    code: Code,
    (retry, wait_ms): (&'static str, u64),
    sequence: &'static str,
    keys: &'static [&'static str],
    next: &'static str,
) -> Row {
    let wait = if wait_ms == 0 { None } else { Some(Duration::from_millis(wait_ms)) };
    Row { reason, code, wait, retry, sequence, keys, next }
}

macro_rules! rows {
    ($($name:ident = $reason:expr, $code:ident, $retry:expr, $sequence:expr, [$($key:ident),*], $next:literal;)+) => {
        $(
            #[doc = $next]
            pub static $name: Row = row($reason, Code::$code, $retry, $sequence, &[$(key::$key),*], $next);
        )+

        /// All rows, in the order of `docs/errors.md`.
        pub static ALL: &[&Row] = &[$(&$name),+];
    };
}

rows! {
    EXPECTED_OFFSET_MISMATCH = reason::EXPECTED_OFFSET_MISMATCH, Aborted, ("after reading again", 0), SAME,
        [FIELD, GROUP, TOPIC, PARTITION, EXPECTED, ACTUAL, COUNT],
        "read the partition from `expected` on and decide anew; `PreconditionFailure` has each failing check";
    PRODUCER_FENCED = reason::PRODUCER_FENCED, FailedPrecondition, (NO, 0), NONE,
        [PRODUCER, EPOCH, CURRENT],
        "another process took over the producer's name: stop this one";
    SEQUENCE_GAP = reason::SEQUENCE_GAP, FailedPrecondition, ("from `next`", 0), "from `next`",
        [PRODUCER, SEQUENCE, NEXT],
        "send the append of sequence `next` first; behind a refused append on a stream this is expected";
    SEQUENCE_FORGOTTEN = reason::SEQUENCE_FORGOTTEN, AlreadyExists, (NO, 0), NONE,
        [PRODUCER, SEQUENCE, OLDEST],
        "the append is in the log; only its offsets are no longer remembered";
    SEQUENCE_REUSED = reason::SEQUENCE_REUSED, FailedPrecondition, (NO, 0), NONE,
        [PRODUCER, SEQUENCE],
        "a bug of the producer: retries must send the same bytes under the same sequence";
    PRODUCER_UNKNOWN = reason::PRODUCER_UNKNOWN, FailedPrecondition, ("after InitProducer", 0), NONE,
        [PRODUCER],
        "call InitProducer; what was unanswered before may be in the log";
    TOPIC_EXISTS = reason::TOPIC_EXISTS, AlreadyExists, (NO, 0), NONE,
        [TOPIC, DIFFERENCES],
        "take the topic as it is, or another name";
    TOPIC_RECREATED = reason::TOPIC_RECREATED, FailedPrecondition, (NO, 0), UNUSED,
        [TOPIC, TOPIC_ID],
        "the name belongs to the topic `topic_id` now, or to none: begin again with it";
    ASSIGNMENT_FENCED = reason::ASSIGNMENT_FENCED, FailedPrecondition, (NO, 0), SAME,
        [FIELD, GROUP, TOPIC, PARTITION, EPOCH, CURRENT, HOLDER, COUNT],
        "the partition is not this member's any more: drop what was done for it since the last accepted commit";
    TAKEN_OVER = reason::TAKEN_OVER, FailedPrecondition, (NO, 0), NONE,
        [GROUP, MEMBER],
        "another process has the member's id: stop this one, and do not join again";
    MEMBERSHIP_ENDED = reason::MEMBERSHIP_ENDED, Unavailable, (YES, 100), NONE,
        [GROUP, MEMBER],
        "the member was away or silent for too long: join again, its partitions may be others";
    START_REQUIRED = reason::START_REQUIRED, FailedPrecondition, (NO, 0), UNUSED,
        [GROUP, TOPIC],
        "the group does not read the topic that has this name: add it with UpdateGroup";
    CURSOR_BACKWARDS = reason::CURSOR_BACKWARDS, FailedPrecondition, (NO, 0), SAME,
        [FIELD, GROUP, TOPIC, PARTITION, ACTUAL, CURRENT, COUNT],
        "what is before `current` is done; only SetCursors goes back";
    CURSOR_BEYOND_END = reason::CURSOR_BEYOND_END, FailedPrecondition, (NO, 0), SAME,
        [FIELD, GROUP, TOPIC, PARTITION, ACTUAL, END, COUNT],
        "commit what was read: nothing is published from `end` on";
    GROUP_EXISTS = reason::GROUP_EXISTS, AlreadyExists, (NO, 0), NONE,
        [GROUP, DIFFERENCES],
        "take the group as it is, or another name";
    GROUP_HAS_MEMBERS = reason::GROUP_HAS_MEMBERS, FailedPrecondition, (NO, 0), NONE,
        [GROUP, HOLDER, COUNT],
        "stop the members first, or say with_members";
    GROUP_CHANGED = reason::GROUP_CHANGED, Aborted, ("after reading again", 0), NONE,
        [GROUP, EXPECTED, ACTUAL],
        "look at the group again and decide anew";
    OFFSET_BELOW_HEAD = reason::OFFSET_BELOW_HEAD, OutOfRange, ("from `head`", 0), NONE,
        [TOPIC, PARTITION, OFFSET, HEAD],
        "read from `head`; what is before it is no longer kept";
    OFFSET_BEYOND_END = reason::OFFSET_BEYOND_END, OutOfRange, ("from `end`", 0), NONE,
        [TOPIC, PARTITION, OFFSET, END],
        "read from `end`, or find out why more was expected";
    RESPONSE_LIMIT = reason::RESPONSE_LIMIT, OutOfRange, ("from `offset`, with `size`", 0), NONE,
        [TOPIC, PARTITION, OFFSET, SIZE, LIMIT],
        "read from `offset` with max_response_bytes of at least `size`, or not set";
    RECORD_TOO_LARGE = reason::RECORD_TOO_LARGE, InvalidArgument, (NO, 0), UNUSED,
        [FIELD, BATCH, RECORD, LIMIT, ACTUAL],
        "keep large values elsewhere and append where they are";
    BATCH_TOO_LARGE = reason::BATCH_TOO_LARGE, InvalidArgument, (NO, 0), UNUSED,
        [FIELD, BATCH, LIMIT, ACTUAL],
        "split the batch";
    APPEND_TOO_LARGE = reason::APPEND_TOO_LARGE, InvalidArgument, (NO, 0), UNUSED,
        [FIELD, BATCH, LIMIT, ACTUAL],
        "split the append";
    REQUEST_TOO_LARGE = reason::REQUEST_TOO_LARGE, InvalidArgument, (NO, 0), UNUSED,
        [FIELD, LIMIT, ACTUAL],
        "send less in one request";
    APPEND_EMPTY = reason::APPEND_EMPTY, InvalidArgument, (NO, 0), UNUSED,
        [FIELD, BATCH],
        "send at least one record in every batch";
    BAD_CRC = reason::BAD_CRC, InvalidArgument, (NO, 0), UNUSED,
        [FIELD, BATCH, EXPECTED, ACTUAL],
        "the bytes changed on the way, or the CRC is not CRC-32 (IEEE) over `data` as sent";
    BAD_ENCODING = reason::BAD_ENCODING, InvalidArgument, (NO, 0), UNUSED,
        [FIELD, BATCH, RECORD, EXPECTED, ACTUAL],
        "the bytes are not what they are said to be: mend the encoder";
    UNKNOWN_CHECK = reason::UNKNOWN_CHECK, InvalidArgument, (NO, 0), UNUSED,
        [FIELD],
        "set the check's kind; one that this broker does not know is never ignored";
    NAME_INVALID = reason::NAME_INVALID, InvalidArgument, (NO, 0), UNUSED,
        [FIELD, NAME],
        "names are `[a-z0-9][a-z0-9._-]{0,127}`";
    FIELD_REQUIRED = reason::FIELD_REQUIRED, InvalidArgument, (NO, 0), UNUSED,
        [FIELD, BATCH],
        "set the field";
    FIELD_INVALID = reason::FIELD_INVALID, InvalidArgument, (NO, 0), UNUSED,
        [FIELD, BATCH, RECORD, LIMIT, ACTUAL],
        "set the field to a value in its range";
    TOPIC_NOT_FOUND = reason::TOPIC_NOT_FOUND, NotFound, (NO, 0), UNUSED,
        [TOPIC, TOPIC_ID, SIMILAR],
        "create the topic, or mend the name; `similar` is one that exists";
    PARTITION_NOT_FOUND = reason::PARTITION_NOT_FOUND, NotFound, (NO, 0), UNUSED,
        [TOPIC, PARTITION, COUNT],
        "partitions are 0 to `count` - 1";
    GROUP_NOT_FOUND = reason::GROUP_NOT_FOUND, NotFound, (NO, 0), UNUSED,
        [GROUP, SIMILAR],
        "create the group, or mend the name; `similar` is one that exists";
    DISK_FULL = reason::DISK_FULL, ResourceExhausted, (YES, 1_000), SAME,
        [ACTUAL, LIMIT],
        "free space on the broker's disk: `actual` bytes are free, `limit` are needed; reads and deletes go on";
    JOURNAL_FULL = reason::JOURNAL_FULL, ResourceExhausted, (YES, 100), SAME,
        [ACTUAL, LIMIT],
        "wait for the flush; when it lasts, the disk is full or failing";
    TOO_MANY_IN_FLIGHT = reason::TOO_MANY_IN_FLIGHT, ResourceExhausted, (YES, 50), SAME,
        [PRODUCER, LIMIT],
        "wait for an answer before the next append; read what is unread before the next call";
    PRODUCERS_FULL = reason::PRODUCERS_FULL, ResourceExhausted, (YES, 10_000), NONE,
        [LIMIT],
        "delete producers that nobody needs (ListProducers, DeleteProducer) or use names again; nameless ones expire";
    ANSWERS_FULL = reason::ANSWERS_FULL, ResourceExhausted, (YES, 1_000), SAME,
        [PRODUCER, LIMIT, ACTUAL],
        "set `answered_below` in the stamp: answers below it are forgotten; or append to fewer partitions at a time";
    TOPICS_FULL = reason::TOPICS_FULL, ResourceExhausted, (YES, 10_000), NONE,
        [LIMIT],
        "use fewer topics with more partitions";
    PARTITIONS_FULL = reason::PARTITIONS_FULL, ResourceExhausted, (YES, 10_000), NONE,
        [LIMIT, ACTUAL],
        "delete topics that nobody needs, or give new ones fewer partitions";
    GROUPS_FULL = reason::GROUPS_FULL, ResourceExhausted, (YES, 10_000), NONE,
        [GROUP, LIMIT, ACTUAL],
        "delete groups that nobody needs, or use fewer members";
    LOG_POISONED = reason::LOG_POISONED, Unavailable, ("after a restart", 1_000), SAME,
        [TOPIC, PARTITION, FILE],
        "look after the disk, then restart the broker; nothing of this request was written";
    OUTCOME_UNKNOWN = reason::OUTCOME_UNKNOWN, Unavailable, ("after a restart", 1_000), SAME,
        [FILE],
        "it may have been written: retry under the same stamp after the restart and get the first answer";
    SHUTTING_DOWN = reason::SHUTTING_DOWN, Unavailable, (YES, 500), SAME,
        [],
        "connect again";
    READ_FAILED = reason::READ_FAILED, Unavailable, (YES, 1_000), NONE,
        [TOPIC, PARTITION, FILE],
        "try again; when it lasts, look after the disk";
    DATA_DAMAGED = reason::DATA_DAMAGED, DataLoss, (NO, 0), NONE,
        [TOPIC, PARTITION, FROM, TO, FILE],
        "restore the file, or read on from `to`, which leaves out `from` to `to`";
    UNSUPPORTED_FEATURE = reason::UNSUPPORTED_FEATURE, Unimplemented, (NO, 0), UNUSED,
        [FEATURE],
        "use what GetServer lists, or a newer broker";
}
