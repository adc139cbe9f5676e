//! Cutting chunks: records out of a set, append times out of runs, small sets into one.

use bytes::{Bytes, BytesMut};
use tillroll_engine::{
    batch::Batch,
    codec::Codec,
    id::Offset,
    record::{RecordSet, RecordView},
    request::{Chunk, TimeRun},
};

/// A chunk that is decoded, for those who look at its records.
pub(super) struct Plain {
    base: Offset,
    end: Offset,
    set: Bytes,
    times: Vec<TimeRun>,
}

/// One record, with what the broker knows of it.
pub(super) struct Numbered {
    pub(super) offset: Offset,
    pub(super) append_time_us: i64,
    /// The encoded `Record`.
    pub(super) message: Bytes,
    /// The record with its tag and length, as it stands in the set.
    pub(super) entry: Bytes,
    pub(super) has_key: bool,
}

/// What a stored chunk cannot be: it was checked when it was appended and again when it was read.
#[derive(Debug)]
pub(super) struct Undecodable;

impl Plain {
    /// Decodes a chunk; nothing is copied when it is not compressed.
    pub(super) fn of(chunk: &Chunk) -> Result<Self, Undecodable> {
        let set = chunk.batch.decode().map_err(|_| Undecodable)?;
        Ok(Self { base: chunk.base, end: chunk.end, set, times: chunk.times.clone() })
    }

    /// Behind its last record.
    pub(super) fn end(&self) -> Offset {
        self.end
    }

    /// Its records from `from` to `until` with the key, when one is asked.
    pub(super) fn records<'a>(
        &'a self,
        from: Offset,
        until: Offset,
        key: Option<&'a [u8]>,
    ) -> impl Iterator<Item = Result<Numbered, Undecodable>> + 'a {
        let times =
            self.times.iter().flat_map(|run| std::iter::repeat_n(run.append_time_us, run.record_count as usize));
        let numbered = RecordSet::new(&self.set).entries().zip(times).enumerate();
        numbered.filter_map(move |(place, (entry, append_time_us))| {
            let offset = self.base.plus(place as u64);
            if offset < from || offset >= until {
                return None;
            }
            let Ok(entry) = entry else { return Some(Err(Undecodable)) };
            let message = self.set.slice(entry.message.clone());
            let has_key = match key {
                None => true,
                Some(key) => match RecordView::parse(&message) {
                    Ok(view) => view.key == Some(key),
                    Err(_) => return Some(Err(Undecodable)),
                },
            };
            Some(Ok(Numbered { offset, append_time_us, message, entry: self.set.slice(entry.whole), has_key }))
        })
    }
}

/// A batch of these records, plain, with their offsets' distances from the first when they are not dense.
pub(super) fn batch_of(records: &[Numbered]) -> Option<(Offset, Vec<u32>, Vec<TimeRun>, Batch)> {
    let first = records.first()?;
    let mut set = BytesMut::with_capacity(records.iter().map(|record| record.entry.len()).sum());
    let mut times: Vec<TimeRun> = Vec::new();
    for record in records {
        set.extend_from_slice(&record.entry);
        match times.last_mut().filter(|run| run.append_time_us == record.append_time_us) {
            Some(run) => run.record_count += 1,
            None => times.push(TimeRun { record_count: 1, append_time_us: record.append_time_us }),
        }
    }
    let distance = |record: &Numbered| u32::try_from(record.offset.since(first.offset)).unwrap_or(u32::MAX);
    let deltas: Vec<u32> = records.iter().map(distance).collect();
    let is_dense = deltas.iter().enumerate().all(|(place, delta)| place as u64 == u64::from(*delta));
    let batch = plain_batch(set.freeze(), u32::try_from(records.len()).unwrap_or(u32::MAX));
    Some((first.offset, if is_dense { Vec::new() } else { deltas }, times, batch))
}

fn plain_batch(set: Bytes, record_count: u32) -> Batch {
    Batch {
        codec: Codec::None,
        record_count,
        decoded_bytes: u32::try_from(set.len()).unwrap_or(u32::MAX),
        crc32: crc32fast::hash(&set),
        data: set,
    }
}

/// Bytes of a run of append times in a response, at most.
pub(super) const RUN_BYTES: usize = 20;

/// Puts small plain chunks that follow each other into one: a set concatenated with another is a set. Reading single
/// appends back would otherwise cost a message each. What is merged stays within `bytes_max`, its times included.
pub(super) fn merge(chunks: Vec<Chunk>, bytes_max: usize) -> Vec<Chunk> {
    let mut merged: Vec<Chunk> = Vec::with_capacity(chunks.len());
    let mut run: Vec<Chunk> = Vec::new();
    let mut run_bytes = 0;
    for chunk in chunks {
        let bytes = chunk.batch.data.len() + chunk.times.len() * RUN_BYTES;
        let is_small = chunk.batch.codec == Codec::None && bytes <= bytes_max / 8;
        if !is_small || run_bytes + bytes > bytes_max {
            merged.extend(join(std::mem::take(&mut run)));
            run_bytes = 0;
        }
        if is_small {
            run_bytes += bytes;
            run.push(chunk);
        } else {
            merged.push(chunk);
        }
    }
    merged.extend(join(run));
    merged
}

fn join(run: Vec<Chunk>) -> Option<Chunk> {
    if run.len() < 2 {
        return run.into_iter().next();
    }
    let mut set = BytesMut::with_capacity(run.iter().map(|chunk| chunk.batch.data.len()).sum());
    for chunk in &run {
        set.extend_from_slice(&chunk.batch.data);
    }
    let record_count = run.iter().map(|chunk| chunk.batch.record_count).sum();
    let (base, end) = (run.first()?.base, run.last()?.end);
    let times = run.into_iter().flat_map(|chunk| chunk.times).collect();
    let kept_bytes = set.len();
    Some(Chunk { base, end, times, batch: plain_batch(set.freeze(), record_count), kept_bytes })
}
