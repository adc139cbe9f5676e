//! Why a read was not answered.

use tillroll_engine::{
    error::ReadFault,
    id::{Offset, Partition},
};
use tillroll_proto::reason::key;

use super::{Facts, table, unsupported};

/// The facts of a read that was not answered. The caller adds the place where it knows it.
pub fn of_fault(fault: &ReadFault) -> Facts {
    match fault {
        ReadFault::TopicNotFound { topic } => {
            let message = format!("the topic with id {} was deleted", topic.hex());
            Facts::new(&table::TOPIC_NOT_FOUND, message).with(key::TOPIC_ID, topic.hex())
        }
        ReadFault::PartitionNotFound { partition, count } => {
            let message = format!("the topic has partitions 0 to {}, not {partition}", count.saturating_sub(1));
            let facts = Facts::new(&table::PARTITION_NOT_FOUND, message);
            facts.with(key::PARTITION, partition).with(key::COUNT, count)
        }
        ReadFault::BelowHead { offset, head } => {
            let message = format!("offset {offset} is no longer kept, the log begins at {head}; read from there");
            Facts::new(&table::OFFSET_BELOW_HEAD, message).with(key::OFFSET, offset).with(key::HEAD, head)
        }
        ReadFault::BeyondEnd { offset, end } => {
            let message = format!("offset {offset} does not exist yet, the log ends at {end}; read from there");
            Facts::new(&table::OFFSET_BEYOND_END, message).with(key::OFFSET, offset).with(key::END, end)
        }
        ReadFault::Damaged { from, to, file, position, fault } => {
            let message =
                format!("offsets {from} to {to} are damaged: {file} at byte {position}: {fault}; read on from {to}");
            let facts = Facts::new(&table::DATA_DAMAGED, message);
            facts.with(key::FROM, from).with(key::TO, to).with(key::FILE, file)
        }
        ReadFault::Poisoned(poisoned) => {
            let message = format!("this range cannot be read since {poisoned}; restart the broker");
            Facts::new(&table::LOG_POISONED, message).with(key::FILE, &poisoned.file)
        }
        ReadFault::Io { file, cause } => {
            let message = format!("reading {file} failed: {cause}; try again, or look after the disk");
            Facts::new(&table::READ_FAILED, message).with(key::FILE, file)
        }
        other => unsupported(&other.to_string()),
    }
}

/// Records that passed their checksum and still do not decode.
pub fn undecodable_range(from: Offset, to: Offset) -> Facts {
    let message = format!("offsets {from} to {to} do not decode, although their checksum holds; read on from {to}");
    Facts::new(&table::DATA_DAMAGED, message).with(key::FROM, from).with(key::TO, to)
}

/// A record (or, encoded, a batch) that does not fit into the message size that the reader named.
pub fn response_limit(topic: &str, partition: Partition, offset: Offset, size: usize, limit: usize) -> Facts {
    let message = format!(
        "offset {offset} of {topic}/{partition} needs a message of {size} bytes, max_response_bytes is {limit}; \
         read from there with at least {size}"
    );
    Facts::new(&table::RESPONSE_LIMIT, message)
        .with(key::TOPIC, topic)
        .with(key::PARTITION, partition)
        .with(key::OFFSET, offset)
        .with(key::SIZE, size)
        .with(key::LIMIT, limit)
}

/// A read that broke off for no reason of the log: nothing is known to be damaged.
pub fn gave_up() -> Facts {
    Facts::new(&table::READ_FAILED, "the read broke off inside the broker; read on from the last next_offset")
}
