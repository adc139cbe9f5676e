//! What a named load has appended before. It goes on behind that, which is only right when topic and file are the same.

use std::time::Duration;

use tillroll_client::{AppendedBatch, Client, Record};

use crate::cmd::{
    append::Append,
    fail::{Code, Failure},
};

const HINT: &str = "give every file and topic a --producer name of its own";

/// The last record that a producer of this name has appended; none when it is new.
pub(super) async fn last(client: &Client, append: &Append, name: &str) -> Result<Option<Record>, Failure> {
    let past = client.init_producer(Some(name), Duration::ZERO).await?;
    let Some(newest) = past.recent.last() else { return Ok(None) };
    same_topic(client, append, name, &newest.batches).await?;
    let mut last = None;
    for batch in &newest.batches {
        let reader = client.reader(&batch.topic).partitions([batch.partition]);
        let offset = batch.base_offset + u64::from(batch.record_count).saturating_sub(1);
        let mut reader = reader.resume(batch.partition, offset).limit(1).open().await?;
        let found = reader.next().await.transpose()?.map(|received| received.record);
        last = last.into_iter().chain(found).max_by_key(line);
    }
    Ok(last)
}

async fn same_topic(client: &Client, append: &Append, name: &str, past: &[AppendedBatch]) -> Result<(), Failure> {
    let now = &append.topic;
    // A topic that is gone with its files has no name any more.
    let other = past.iter().find(|batch| batch.topic != *now && !batch.topic.is_empty());
    if let Some(AppendedBatch { topic: before, .. }) = other {
        let wrong = format!("producer {name} appended to topic {before} before, not to {now}");
        return Err(Failure::new(Code::Conflict, wrong).hint(HINT));
    }
    let topic_id = client.admin().get_topic(now).await?.topic_id;
    if past.iter().any(|batch| batch.topic_id != topic_id) {
        let wrong = format!("the topic that producer {name} appended to was deleted since");
        return Err(Failure::new(Code::Conflict, wrong).hint(format!("to load it anew, {HINT}")));
    }
    Ok(())
}

/// The number of a record's line: behind the last `#` of its id.
pub(super) fn line(record: &Record) -> Option<u64> {
    record.id.rsplit_once('#').and_then(|(_, line)| line.parse().ok())
}

/// What is left out of an input, since it was appended before.
pub(super) struct Past {
    /// So many records from its beginning.
    pub(super) records: u64,
    /// The last of them, as it was appended; not known without a name.
    pub(super) last: Option<Record>,
    /// They were appended under a name, so the log must have them as they stand in the input.
    pub(super) is_named: bool,
}

impl Past {
    /// The input is called as it was before.
    pub(super) fn is_of(&self, name: &str, source: &str) -> Result<(), Failure> {
        let before = match &self.last {
            Some(last) if last.source != source => &last.source,
            _ => return Ok(()),
        };
        let before = if before.is_empty() { "other records" } else { before };
        Err(Failure::new(Code::Conflict, format!("producer {name} appended {before} before, not {source}")).hint(HINT))
    }

    /// The last record that is left out is the one that was appended last.
    pub(super) fn ends_with(&self, here: &Record, line: u64) -> Result<(), Failure> {
        match &self.last {
            Some(last) if (&last.id, &last.value) != (&here.id, &here.value) => {
                let wrong = format!(
                    "{} is another file than the one before: line {line} is not what was appended",
                    here.source
                );
                Err(Failure::new(Code::Conflict, wrong).hint(HINT))
            }
            _ => Ok(()),
        }
    }
}
