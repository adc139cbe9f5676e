//! Reads the log from a broker, up to ends that are read first, and the groups' cursors.

use std::future::Future;

use super::{
    super::payload::{group, topic},
    log::Log,
    quiet::{Cursor, End},
    whole::Whole,
};
use crate::{Client, Error};

/// Room is made at once for at most so many events.
const EVENTS_EXPECTED_MAX: u64 = 1 << 20;

/// What was read.
pub struct Reading {
    /// The log.
    pub log: Log,
    /// The published ends that it was read to.
    pub ends: Vec<End>,
    /// The groups' cursors, read right after the ends.
    pub cursors: Vec<Cursor>,
}

/// Reads all topics of the saga, and asks `cursors` for the cursors of each group.
///
/// While others append, ends of several topics are not of one moment, and an effect could be read without its cause. So
/// the ends are read twice. When they have moved, what is read is cut at the last append time that was seen the first
/// time: append times never fall from frame to frame, so everything before it stood in the log by the second time, and
/// frames are cut as a whole.
///
/// What is not there any more, or was not read, is a finding: nothing can be proved without it.
///
/// **Errors**: `NotFound` when a topic of the saga is not there; what the reader and `cursors` meet.
pub async fn read<Asked>(client: &Client, cursors: impl Fn(&'static str) -> Asked) -> Result<Reading, Error>
where
    Asked: Future<Output = Result<Vec<Cursor>, Error>>,
{
    let (before, last_time_us) = ends(client).await?;
    let (now, _) = ends(client).await?;
    let cut_us = if before == now { i64::MAX } else { last_time_us };
    let mut found = Vec::new();
    for group in group::ALL {
        found.extend(cursors(group).await?);
    }
    // Whatever an end says, memory grows with what is really there.
    let events = now.iter().map(|end| end.end_offset).sum::<u64>().min(EVENTS_EXPECTED_MAX);
    let mut log = Log::with_capacity(events as usize);
    for topic in topic::ALL {
        read_topic(client, topic, &now, cut_us, &mut log).await?;
    }
    Ok(Reading { log, ends: now, cursors: found })
}

/// The published ends of all topics, and the latest append time below them.
async fn ends(client: &Client) -> Result<(Vec<End>, i64), Error> {
    let (mut ends, mut last_time_us) = (Vec::new(), 0);
    for topic in topic::ALL {
        for held in client.admin().get_topic(topic).await?.partitions {
            last_time_us = last_time_us.max(held.last_append_time_us);
            let (partition, end_offset) = (held.partition, held.end_offset);
            ends.push(End { topic: topic.to_owned(), partition, end_offset });
        }
    }
    Ok((ends, last_time_us))
}

async fn read_topic(
    client: &Client,
    topic: &'static str,
    ends: &[End],
    cut_us: i64,
    log: &mut Log,
) -> Result<(), Error> {
    let of_topic = ends.iter().filter(|end| end.topic == topic);
    let mut whole = Whole::new(topic, of_topic.map(|end| (end.partition, end.end_offset)));
    let partitions = whole.partitions();
    if partitions.is_empty() {
        return Ok(());
    }
    let mut reader = client.reader(topic).partitions(partitions).open().await?;
    while let Some(batch) = reader.next_batch().await {
        for received in batch? {
            let received = received?;
            if whole.read(received.partition, received.offset, log) && received.append_time_us < cut_us {
                log.take(&received);
            }
        }
    }
    whole.close(log);
    Ok(())
}
