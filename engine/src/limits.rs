//! Hard limits: part of the contract, the same for every broker of this version. Sizes in bytes unless named otherwise.

/// A record as an encoded `Record` message, unless its topic says otherwise.
pub const RECORD_BYTES_DEFAULT: u32 = 1 << 20;
/// What a topic may raise the record limit to: a generic client receives at most 4 MiB.
pub const RECORD_BYTES_MAX: u32 = 3 << 20;
/// A batch, both as sent and decoded.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// All batches of one append, as sent.
pub const APPEND_BYTES_MAX: usize = 8 << 20;
/// Batches in one append.
pub const APPEND_BATCHES_MAX: usize = 1_024;
/// Cursor commits in one append.
pub const APPEND_COMMITS_MAX: usize = 1_024;
/// Partitions that one append writes to, counted for each of its batches: its answer names each.
pub const APPEND_PARTS_MAX: usize = 4_096;
/// Records in one append.
pub const APPEND_RECORDS_MAX: usize = 65_536;
/// Everything asked of one shard that is no append, between its entry and its answer.
pub const COMMANDS_BYTES_MAX: u64 = 16 << 20;
/// One frame in the journal, header and padding included.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// A record's key.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// Headers of one record.
pub const HEADERS_MAX: usize = 64;
/// Names and values of one record's headers together.
pub const HEADER_BYTES_MAX: usize = 32 << 10;
/// A topic's, group's or producer's name.
pub const NAME_BYTES_MAX: usize = 128;
/// Partitions of one topic.
pub const PARTITIONS_MAX: u32 = 1_024;
/// Partitions of a topic that does not say.
pub const PARTITIONS_DEFAULT: u32 = 8;
/// Partitions of all topics of one shard, tombstones included: each has a directory, files, and some hundred bytes of
/// memory.
pub const PARTITIONS_ALL_MAX: u64 = 65_536;
/// Topics of one shard, tombstones included.
pub const TOPICS_MAX: usize = 10_000;
/// Producers registered on one shard; the next one is refused.
pub const PRODUCERS_MAX: usize = 100_000;
/// Newest appends that a producer's registration answers with, in bytes; older ones come in pages.
pub const RECENT_BYTES_MAX: usize = 1 << 20;
/// Appends of one producer that may be in flight, and unconfirmed answers that are always kept for it.
pub const PRODUCER_WINDOW: usize = 256;
/// The longest idle time that a nameless producer may state.
pub const PRODUCER_IDLE_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Consumer groups of one shard.
pub const GROUPS_MAX: usize = 10_000;
/// Topics of one group.
pub const GROUP_TOPICS_MAX: usize = 256;
/// Partitions of all topics of one group.
pub const GROUP_PARTITIONS_MAX: usize = 16_384;
/// Members of one group.
pub const MEMBERS_MAX: usize = 1_024;
/// Members of all groups of one shard.
pub const MEMBERS_ALL_MAX: u64 = 32_768;
/// Cursors of all groups of one shard: each takes some hundred bytes of memory, and 1 KiB more with metadata.
pub const CURSORS_ALL_MAX: u64 = 131_072;
/// Why a group is paused or its cursors are set, in an operator's words.
pub const REASON_BYTES_MAX: usize = 1 << 10;
/// What a member's client calls itself.
pub const CLIENT_BYTES_MAX: usize = 512;
/// What is kept beside a cursor.
pub const CURSOR_METADATA_BYTES_MAX: usize = 1 << 10;
/// How long a member that is away keeps its partitions, in milliseconds: smallest, unless stated, largest.
pub const SESSION_MS: [u32; 3] = [1_000, 10_000, 600_000];
/// How long a member may take to give a partition back, in milliseconds: smallest, unless stated, largest.
pub const DRAIN_MS: [u32; 3] = [0, 30_000, 3_600_000];
/// Offsets, LSNs and positions stay below this, so that they fit a signed number everywhere.
pub const NUMBER_MAX: u64 = (1 << 63) - 1;
/// A response message to a reader that does not say.
pub const RESPONSE_BYTES_DEFAULT: u32 = 1 << 20;
/// Smallest and largest size at which a topic's segments roll.
pub const SEGMENT_BYTES_MIN: u32 = 64 << 10;
/// See [`SEGMENT_BYTES_MIN`].
pub const SEGMENT_BYTES_MAX: u32 = 2_047 << 20;
/// Segment size of a topic that does not say.
pub const SEGMENT_BYTES_DEFAULT: u32 = 128 << 20;
/// Writers to the disk keep their buffers, lengths and positions at multiples of this.
pub const ALIGN: usize = 4_096;
